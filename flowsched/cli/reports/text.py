"""One problem a line, for people and for editors that jump to `file:line:column`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import click

from flowsched.errors import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from flowsched.cli.reports import Report
    from flowsched.errors import Problem

_SHOWN_ALIKE = 10
"""Warnings of one rule that are shown of one file; the others are counted."""
_HINT = "docs/warnings has a page for each; what is meant so is accepted in the file: accept: {NAME: reason}"
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def show(report: Report, _touched: Collection[str]) -> None:
    """Print the problems to standard output, and what comes of them: there too where it is well."""
    # What fails stands last, beside the summary.
    problems = sorted(report.problems, key=report.fails)
    for line in lines(problems):
        click.echo(line)
    if any(problem.severity is Severity.WARNING for problem in problems):
        click.echo(click.style(_HINT, dim=True), err=True)
    click.echo(click.style(report.summary, fg="green" if report.ok else "red"), err=not report.ok)


def lines(problems: Iterable[Problem]) -> Iterator[str]:
    """Yield what is printed of the problems, in their order."""
    alike: defaultdict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        same = alike[problem.file, problem.rule]
        same.append(problem)
        if problem.severity is Severity.ERROR or len(same) <= _SHOWN_ALIKE:
            yield _styled(problem)
    for (file, rule), same in alike.items():
        left_out = sum(problem.severity is Severity.WARNING for problem in same) - _SHOWN_ALIKE
        if left_out > 0:
            yield f"{file}: warning: {left_out:,} more of them [{rule}]"


def _styled(problem: Problem) -> str:
    """Return the problem as `str` has it; colours are left out by click where there is no terminal."""
    text, colour = str(problem), _COLOURS[problem.severity]
    where, found, what = text.partition(": ")
    shown = click.style(where, fg=colour, bold=True) + found
    if not problem.rule:
        return shown + what
    rule = f" [{problem.rule}]"
    return shown + what.removesuffix(rule) + click.style(rule, dim=True)
