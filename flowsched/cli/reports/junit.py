"""JUnit XML, as GitLab, Jenkins and others read it: one test case for each thing that was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import click

from flowsched.cli.reports import what

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from flowsched.cli.reports import Check, Report
    from flowsched.errors import Problem


def show(report: Report, _touched: Collection[str]) -> None:
    """Print the document; warnings that do not count are the output of their test case."""
    failures = sum(any(map(report.fails, check.problems)) for check in report.checks)
    counts: dict[str, Any] = {"tests": str(len(report.checks)), "failures": str(failures), "errors": "0"}
    name = f"flowsched {report.command}"
    root = ET.Element("testsuites", name=name, **counts)
    suite = ET.SubElement(root, "testsuite", name=name, **counts)
    for check in report.checks:
        _add_case(suite, check, report)
    ET.indent(root)
    # Its declaration would name the encoding of the locale; without one it is UTF-8, as click writes it.
    click.echo(ET.tostring(root, encoding="unicode"))


def _add_case(suite: ET.Element, check: Check, report: Report) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"flowsched.{report.command}",
        name=check.name,
        file=check.file,
    )
    failing = [problem for problem in check.problems if report.fails(problem)]
    if failing:
        first = what(failing[0]).partition("\n")[0]
        message = first if len(failing) == 1 else f"{first} (and {len(failing) - 1:,} more)"
        failure = ET.SubElement(case, "failure", message=message, type=failing[0].rule or "error")
        failure.text = _listed(failing)
    others = [problem for problem in check.problems if not report.fails(problem)]
    if others:
        ET.SubElement(case, "system-out").text = _listed(others)


def _listed(problems: Iterable[Problem]) -> str:
    return "\n".join(map(str, problems))
