"""Workflow commands of GitHub Actions: they show problems beside the lines of a pull request.

GitHub shows ten errors and ten warnings of a step. Those in touched files come first, the log has all, and so
has the job summary.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowsched.cli.reports import INVALID, from_root, tally, what

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from flowsched.cli.reports import Report
    from flowsched.errors import Problem

SHOWN = 10
"""Annotations of each severity that GitHub shows of a step."""
MOST_BYTES = 1024**2
"""Of the summary of a step, as GitHub takes it."""
_ROOM_FOR_END = 200
_MARKS = {ord(char): f"&#{ord(char)};" for char in "&\\`*_[]<>|~#$@:"}
"""What means something to Markdown, and how it is written otherwise."""


def show(report: Report, touched: Collection[str]) -> None:
    """Print annotations, the problems that have none, and a line that counts; write the job summary.

    The summary goes to the file that GITHUB_STEP_SUMMARY names, if it names one.
    """
    annotated = _first(report, touched)
    for problem in annotated:
        click.echo(_command(problem, "error" if report.fails(problem) else "warning"))
    for problem in report.problems:
        if problem not in annotated:
            click.echo(_plain(str(problem)))
    click.echo(_plain(_counted(report, len(annotated))))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _write_summary(report, Path(summary))


def _first(report: Report, touched: Collection[str]) -> list[Problem]:
    """Return the problems that are annotated: what fails first, and of either kind those in touched files."""
    wanted = sorted(report.problems, key=lambda problem: problem.file not in touched)
    return [
        problem
        for fails in (True, False)
        for problem in islice((each for each in wanted if report.fails(each) is fails), SHOWN)
    ]


def _command(problem: Problem, level: str) -> str:
    properties = {"file": from_root(problem.file) or problem.file, "title": problem.rule or INVALID}
    if problem.line:
        properties |= {"line": str(problem.line), "col": str(problem.column)}
    written = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{level} {written}::{_escaped(what(problem))}"


def _escaped(text: str, more: str = "") -> str:
    """Return a text as workflow commands take it: `%`, line ends, and in properties `:` and `,`."""
    for char in "%\r\n" + more:
        text = text.replace(char, f"%{ord(char):02X}")
    return text


def _plain(text: str) -> str:
    """Return a text that is no workflow command, in neither of their forms, whatever a file is called."""
    lines = (f"- {line}" if line.lstrip().startswith("::") else line for line in text.split("\n"))
    return "\n".join(lines).replace("##[", "# #[")


def _counted(report: Report, annotated: int) -> str:
    total = len(report.problems)
    if total <= annotated:
        return report.summary
    return f"{report.summary}; {annotated} of {total:,} are annotated, the others are listed"


def _write_summary(report: Report, path: Path) -> None:
    try:
        room = MOST_BYTES - (path.stat().st_size if path.exists() else 0)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(_bounded(_markdown(report), room))
    except OSError as error:
        click.echo(f"flowsched: the job summary could not be written: {error.strerror}", err=True)


def _markdown(report: Report) -> Iterator[str]:
    yield f"### flowsched {report.command}\n\n{_cell(report.summary)}\n\n"
    if report.problems:
        yield f"{tally(report.problems)}:\n\n| where | what | rule |\n|---|---|---|\n"
    for problem in report.problems:
        where = f"{problem.file}:{problem.line}" if problem.line else problem.file
        rule = problem.rule or INVALID
        yield f"| {_cell(where)} | {problem.severity}: {_cell(what(problem))} | {_cell(rule)} |\n"


def _cell(text: str) -> str:
    """Return a text that Markdown shows as it is, in one cell of a table."""
    return text.translate(_MARKS).replace("\n", "<br>")


def _bounded(parts: Iterable[str], room: int) -> Iterator[str]:
    """Yield parts as long as they fit, and then that there are more."""
    room -= _ROOM_FOR_END
    for part in parts:
        room -= len(part.encode())
        if room < 0:
            yield "\nThere are more: the log of the step has them all.\n"
            return
        yield part
