"""SARIF 2.1.0, the OASIS format that code scanning reads."""

from __future__ import annotations

import os
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flowsched import __version__
from flowsched.cli.output import print_json
from flowsched.cli.reports import INVALID, from_root, tally, what
from flowsched.errors import Severity
from flowsched.review.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Collection

    from flowsched.cli.reports import Report
    from flowsched.errors import Problem

MOST_RESULTS = 5_000
"""Of one document; GitHub shows no more, and refuses documents of 25,000."""
_FINGERPRINT = "flowsched/v1"
_SUMMARIES = {
    INVALID: "A file holds what no such file may hold.",
    **{rule.name: rule.summary for rule in RULES.values()},
}


def show(report: Report, touched: Collection[str]) -> None:
    """Print the document; where there are more than MOST_RESULTS, errors and touched files come first."""
    kept = sorted(
        report.problems, key=lambda each: (each.severity is not Severity.ERROR, each.file not in touched)
    )[:MOST_RESULTS]
    rules = [*_SUMMARIES, *sorted({problem.rule for problem in kept if problem.rule} - _SUMMARIES.keys())]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "flowsched",
                "version": __version__,
                "rules": [_rule(name) for name in rules],
            }
        },
        "invocations": [_invocation(report, len(kept))],
        "columnKind": "unicodeCodePoints",
        "results": _results(kept, rules, report),
    }
    print_json(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [run],
        }
    )


def _rule(name: str) -> dict[str, Any]:
    summary = _SUMMARIES.get(name, name)
    rule: dict[str, Any] = {
        "id": name,
        "shortDescription": {"text": summary},
        "fullDescription": {"text": summary},
    }
    if name in RULES:
        # A helpUri would have to be absolute, and the pages are where the source is.
        page = f"docs/warnings/{name}.md"
        rule["help"] = {"text": f"{summary} See {page} of flowsched.", "markdown": f"{summary} See `{page}`."}
        rule["defaultConfiguration"] = {"level": str(RULES[name].severity)}
    return rule


def _invocation(report: Report, kept: int) -> dict[str, Any]:
    left_out = report.problems[kept:]
    notes = [{"level": "note", "message": {"text": f"{tally(report.problems)}; {kept:,} of them are listed"}}]
    return {"executionSuccessful": True, **({"toolExecutionNotifications": notes} if left_out else {})}


def _results(problems: list[Problem], rules: list[str], report: Report) -> list[dict[str, Any]]:
    seen: Counter[tuple[str, str, str]] = Counter()
    results = []
    for problem in problems:
        rule = problem.rule or INVALID
        same = (rule, problem.file, problem.path)
        seen[same] += 1
        # Neither line nor message: the fault is the same when lines are added above, or dates move on.
        fingerprint = sha256("\0".join((*same, str(seen[same]))).encode())
        results.append(
            {
                "ruleId": rule,
                "ruleIndex": rules.index(rule),
                "level": "error" if report.fails(problem) else "warning",
                "message": {"text": what(problem)},
                "locations": [_location(problem)],
                "partialFingerprints": {_FINGERPRINT: fingerprint.hexdigest()},
            }
        )
    return results


def _location(problem: Problem) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": _artifact(problem.file)}
    if problem.line:
        physical["region"] = {"startLine": problem.line, "startColumn": max(problem.column, 1)}
    return {"physicalLocation": physical}


def _artifact(file: str) -> dict[str, str]:
    """Return where a file is: below the root of the source, or anywhere."""
    below = from_root(file)
    if below is None:
        return {"uri": "file://" + quote(os.path.abspath(file))}  # noqa: PTH100 - resolve() would follow links
    return {"uri": quote(below), "uriBaseId": "%SRCROOT%"}
