"""`flowsched test`: what schedules must do, held against what they do."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowsched import config
from flowsched.cli import FINE, FOUND
from flowsched.cli.files import default_schedules, find_settings, paths_argument, schedules_option
from flowsched.cli.output import local
from flowsched.cli.reports import Check, Report, counted, format_option, print_report
from flowsched.errors import ConfigError, Problem, Refused, printable
from flowsched.ops.logs import stamp
from flowsched.review.expectations import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flowsched.model import Catalog, Expectation
    from flowsched.review.expectations import Moment, Verdict

MOST_LISTED = 100
"""Instants of one test in the JSON document; their counts are whole."""
MOST_FAULTS = 20
"""Moments at fault that the table of one test shows."""
_MARKS = {(True, False): "-", (False, True): "+", (True, True): "!"}
"""Of a moment at fault: whether it was expected, and whether anything goes out."""
_EDGE = 2
"""Moments that are shown at both ends of a table, whatever they are."""


@click.command("test", epilog="Example: flowsched test schedules/wind.test.yaml --format junit")
@paths_argument
@schedules_option
@format_option
@click.pass_obj
def command(config_option: str | None, *, paths: tuple[str, ...], schedules: str | None, format_: str) -> int:
    """Run the tests of the *.test.yaml files under each PATH, by default those beside the schedules.

    Prints what was expected and what happens for each test that fails, and exits with 1 where there is any.
    docs/schedule-tests.md shows how to write them.
    """
    report = _report(config_option, paths, schedules)
    print_report(report, format_)
    return FINE if report.ok else FOUND


def _report(option: str | None, paths: tuple[str, ...], schedules: str | None) -> Report:
    try:
        settings = find_settings(option)
        folder = schedules or default_schedules(settings)
        catalog = config.load_catalog(folder, settings)
    except ConfigError as error:
        summary = "no test was run: the schedules cannot be used"
        return Report("test", tuple(_by_file(error.problems)), summary, {"tests": [], "schedules": None})
    # A catalog that is one file has no folder in which tests would be looked for.
    places = list(paths) or ([folder] if Path(folder).is_dir() else [])
    expectations, problems = config.load_expectations(places, catalog.schedules, needed=bool(paths))
    verdicts = [(each, _verdict(each, catalog)) for each in expectations]
    checks = [*_by_file(problems), *(_check(each, outcome) for each, outcome in verdicts)]
    facts = {
        "schedules": len(catalog.schedules),
        "revision": catalog.revision,
        "tests": [_record(each, outcome) for each, outcome in verdicts],
    }
    checks.sort(key=lambda check: check.file)
    return Report("test", tuple(checks), _summary(expectations, checks, problems, catalog), facts)


def _by_file(problems: Iterable[Problem]) -> Iterator[Check]:
    for file, group in groupby(problems, key=lambda problem: problem.file):
        yield Check(file, file, tuple(group))


def _verdict(expectation: Expectation, catalog: Catalog) -> Verdict | Refused:
    try:
        return verdict(expectation, catalog.schedules[expectation.schedule_id])
    except Refused as refused:
        return refused


def _check(expectation: Expectation, outcome: Verdict | Refused) -> Check:
    problems: tuple[Problem, ...] = ()
    if isinstance(outcome, Refused):
        problems = (_problem(expectation, outcome.message, outcome.allowed),)
    elif outcome.faults:
        problems = (_problem(expectation, "\n".join(_side_by_side(outcome))),)
    return Check(printable(expectation.name), expectation.source.file, problems)


def _problem(expectation: Expectation, message: str, allowed: str | None = None) -> Problem:
    source, path = expectation.source, printable(expectation.name)
    return Problem(source.file, source.line, expectation.column, path, message, allowed)


def _summary(
    expectations: Sequence[Expectation],
    checks: Iterable[Check],
    problems: Sequence[Problem],
    catalog: Catalog,
) -> str:
    failed = sum(bool(check.problems) for check in checks) - len({problem.file for problem in problems})
    if failed or problems:
        told = [f"{failed} of {counted(len(expectations), 'test')} failed"] if expectations else []
        told += [f"{counted(len(problems), 'problem')} in test files"] if problems else []
        return ", ".join(told)
    if not expectations:
        return "no tests: there is no file named *.test.yaml beside the schedules"
    tested = len({expectation.schedule_id for expectation in expectations})
    of_all = f"{tested} of {counted(len(catalog.schedules), 'schedule')}"
    return f"ok: {counted(len(expectations), 'test')} for {of_all}, revision {catalog.revision[:12]}"


def _side_by_side(verdict: Verdict) -> Iterator[str]:
    """Yield the lines that say what is wrong: expected and actual beside each other, what agrees elided."""
    times = counted(len(verdict.fires), "time")
    yield f"{verdict.expectation.schedule_id} fires {times}: {', '.join(verdict.faults)}"
    moments = verdict.moments
    rows: list[tuple[str, ...]] = [("", "expected", "actual", "fire time (UTC)", "")] if moments else []
    shown = _shown(moments)
    for is_shown, indexes in groupby(range(len(moments)), key=shown.__contains__):
        group = [moments[index] for index in indexes]
        rows += [_row(each, verdict.expectation) for each in group] if is_shown else [_left_out(group)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {line}".rstrip()


def _shown(moments: Sequence[Moment]) -> set[int]:
    """Return which moments a table shows: the first at fault with their neighbours, and both its ends."""
    at_fault = [index for index, moment in enumerate(moments) if moment.fault][:MOST_FAULTS]
    near = {neighbour for index in at_fault for neighbour in (index - 1, index, index + 1)}
    last = len(moments)
    return (near | {*range(_EDGE), *range(last - _EDGE, last)}) & set(range(last))


def _left_out(moments: Sequence[Moment]) -> tuple[str, ...]:
    wrong = sum(bool(moment.fault) for moment in moments)
    return "", f"... {len(moments):,} more", "", "", f"{wrong:,} of them wrong" if wrong else "nothing wrong"


def _row(moment: Moment, expectation: Expectation) -> tuple[str, ...]:
    there = local(moment.at, expectation.timezone)
    mark = _MARKS[moment.expected, moment.fires] if moment.fault else ""
    note = [moment.fault] if moment.fault else []
    if moment.until:
        note.append(f"goes out {local(moment.until, expectation.timezone)}")
    if moment.fault and moment.at in expectation.deferred:
        note.append(f"expected {local(expectation.deferred[moment.at], expectation.timezone)}")
    named, happens = there if moment.expected else "", there if moment.fires else ""
    return mark, named, happens, stamp(moment.at), ", ".join(note)


def _record(expectation: Expectation, outcome: Verdict | Refused) -> dict[str, object]:
    record: dict[str, object] = {
        "name": expectation.name,
        "file": expectation.source.file,
        "line": expectation.source.line,
        "schedule": expectation.schedule_id,
        "timezone": expectation.timezone,
        "from": stamp(expectation.start),
        "until": stamp(expectation.end),
        "ok": False,
    }
    if isinstance(outcome, Refused):
        return record
    record |= {"ok": not outcome.faults, "fires": len(outcome.fires)}
    for key, moments in (("missing", outcome.missing), ("unexpected", outcome.unexpected)):
        record |= {key: [stamp(at) for at in moments[:MOST_LISTED]], f"{key}_count": len(moments)}
    return record
