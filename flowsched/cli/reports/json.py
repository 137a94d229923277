"""One JSON document, for scripts; docs/formats.md describes it, and its keys stay."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from flowsched.cli.output import print_json
from flowsched.errors import Severity

if TYPE_CHECKING:
    from collections.abc import Collection

    from flowsched.cli.reports import Report


def show(report: Report, _touched: Collection[str]) -> None:
    """Print the report."""
    problems = report.problems
    severities = [problem.severity for problem in problems]
    print_json(
        {
            "ok": report.ok,
            **report.facts,
            "errors": severities.count(Severity.ERROR),
            "warnings": severities.count(Severity.WARNING),
            "checks": [
                {"name": check.name, "file": check.file, "ok": not any(map(report.fails, check.problems))}
                for check in report.checks
            ],
            "problems": [dataclasses.asdict(problem) for problem in problems],
        }
    )
