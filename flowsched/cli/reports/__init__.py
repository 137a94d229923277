"""What a check has found, in the formats that people and their tools read.

The door of the room: one record for all commands that check, and one file a format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click

from flowsched.errors import Severity, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from flowsched.errors import Problem

FORMATS = ("text", "json", "github", "sarif", "junit")
INVALID = "invalid-file"
"""The rule that a problem breaks which names none."""

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="What to print.",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: a file, or an expectation of a test file."""

    name: str
    """What it is called in a list of them: the path of the file, or the name of the expectation."""
    file: str
    """Where it stands, as the user gave it."""
    problems: tuple[Problem, ...]
    """What is wrong with it; none where it is well. Their messages may have several lines."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a command has looked at, in the order in which it is to be shown."""

    command: str
    """`validate` or `test`."""
    checks: tuple[Check, ...]
    summary: str
    """The last line for people, such as `ok: 12 schedules, 3 warnings, revision 8c2f0d9b41aa`."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What the JSON document says beside its own keys, by its key."""
    strict: bool = False
    """Whether warnings count as errors do."""

    @property
    def problems(self) -> list[Problem]:
        """The problems of all checks, in their order."""
        return [problem for check in self.checks for problem in check.problems]

    @property
    def ok(self) -> bool:
        """Whether nothing fails."""
        return not any(map(self.fails, self.problems))

    def fails(self, problem: Problem) -> bool:
        """Tell whether a problem counts."""
        return self.strict or problem.severity is Severity.ERROR


def print_report(report: Report, format_: str, *, touched: Collection[str] = ()) -> None:
    """Print a report in one of `FORMATS`.

    `touched` are the files that the change under review touches, named as in the problems: where a format
    cannot show all problems, theirs come first. What could garble a terminal or a document is escaped.
    """
    import_module(f"flowsched.cli.reports.{format_}").show(_clean(report), touched)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as `1 error` and `2 errors`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def from_root(file: str) -> str | None:
    """Return the path of a file from the root of the source, as tools want it; None where it is not below it.

    That is the work tree that holds the current folder, else GITHUB_WORKSPACE, else the current folder.
    """
    path = os.path.relpath(file, _root())
    return None if PurePath(path).parts[:1] == (os.pardir,) else path


def _root() -> Path:
    here = Path.cwd()
    tree = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if tree is None and workspace and here.is_relative_to(workspace):
        return Path(workspace)
    return tree or here


def what(problem: Problem) -> str:
    """Return what is wrong and what is allowed, for formats that have a place of their own for the rest."""
    path = f"{problem.path}: " if problem.path else ""
    allowed = f"; allowed: {problem.allowed}" if problem.allowed else ""
    return f"{path}{problem.message}{allowed}"


def tally(problems: Iterable[Problem]) -> str:
    """Return how many problems there are, as `2 errors and 1 warning`."""
    severities = [problem.severity for problem in problems]
    counts = [counted(number, severity) for severity in Severity if (number := severities.count(severity))]
    return " and ".join(counts) or "no problems"


def _clean(report: Report) -> Report:
    """Return the report with everything escaped that does not show; the lines of a message stay."""
    return replace(
        report,
        checks=tuple(
            Check(printable(check.name), printable(check.file), tuple(map(_clean_problem, check.problems)))
            for check in report.checks
        ),
    )


def _clean_problem(problem: Problem) -> Problem:
    return replace(
        problem,
        file=printable(problem.file),
        path=printable(problem.path),
        message="\n".join(map(printable, problem.message.split("\n"))),
        allowed=problem.allowed and printable(problem.allowed),
    )
