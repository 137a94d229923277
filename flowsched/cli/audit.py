"""`flowsched audit`: the proof, from the ledger, that no fire time was lost and none fired twice."""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from flowsched import audit, cron
from flowsched.audit import Tally, Verdict
from flowsched.cli import FINE, FOUND
from flowsched.cli.files import need_settings
from flowsched.cli.instants import INSTANT, in_utc
from flowsched.cli.output import format_option, print_json, print_table
from flowsched.clock import SystemClock
from flowsched.control.words import state_in_words
from flowsched.errors import UsageError
from flowsched.ledger import Ledger
from flowsched.model import RunState
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowsched.audit import Finding
    from flowsched.ledger import LedgerReader
    from flowsched.model import Fired, Term

_PAGE = 10_000
"""Runs read at once; also how many fire times are compared before progress is shown."""

_SHOWN = 100
"""Findings in the text; JSON has them all."""

_TRIES = 3
"""How often it is done at most where the ledger changes meanwhile in a way that looks like a fault."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_REPORT = "report it, with a copy of the ledger"
_WRONG = {
    Verdict.LOST: ("it has no run", f"trigger the flow by hand if it must run; {_REPORT}"),
    Verdict.BEHIND: ("not accounted for yet", "start the daemon, or see in its log why it is behind"),
    Verdict.STRAY: ("no schedule then in force has this fire time", _REPORT),
    Verdict.DOUBLE: ("a second run of this fire time", _REPORT),
}
"""What is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class _Books:
    """What the ledger says should have fired, read before the runs."""

    now: datetime
    terms: list[Term]
    kept_from: datetime | None

    def same_as(self, other: _Books) -> bool:
        """Tell whether nothing was put in force and nothing was removed between the two."""
        return self.kept_from == other.kept_from and _bounds(self.terms) == _bounds(other.terms)


@dataclass(slots=True)
class _Report:
    """What an audit found in [`from_`, `to`)."""

    from_: datetime
    to: datetime
    kept_from: datetime | None
    """Set where the range begins later than was asked, as older runs were removed."""
    apart: int
    """Terms that this machine cannot compute exactly."""
    tally: Tally = field(default_factory=Tally)
    wrong: list[Finding] = field(default_factory=list)
    differing: list[Finding] = field(default_factory=list)
    """The differences under those terms."""
    unsteady: bool = False
    """Whether the ledger was changed under it each time."""

    @property
    def ok(self) -> bool:
        return not self.tally.gaps and not self.tally.surplus


@click.command("audit", epilog="Example: flowsched audit --from 2026-11-01T00:00Z --format json")
@click.option(
    "--from",
    "from_",
    type=INSTANT,
    metavar="T",
    help="Fire times from this instant on. Default: as far back as the ledger knows.",
)
@click.option("--to", type=INSTANT, metavar="T", help="Fire times before this instant. Default: now.")
@format_option
@click.pass_obj
def command(config: str | None, *, from_: datetime | None, to: datetime | None, format_: str) -> int:
    """Prove from the ledger that no fire time was lost and that none has two runs.

    Computes anew every fire time of every schedule for as long as it was in force, and compares it with the
    runs: each must have exactly one, in whatever state, and each run must have its fire time. Prints the sums
    and every gap and surplus; exits with 1 where there is any. Works beside a running daemon.
    """
    settings = need_settings(config)
    asked = (in_utc(from_, "--from") if from_ else None, in_utc(to, "--to") if to else None)
    with asyncio.Runner() as runner:
        ledger = runner.run(Ledger.open_to_read(settings.ledger))
        try:
            report = _audit(runner, ledger, asked, None if format_ == "json" else _SHOWN)
        finally:
            runner.run(ledger.aclose())
    if format_ == "json":
        print_json(_record(report))
    else:
        _print(report)
    return FINE if report.ok else FOUND


def _audit(
    runner: asyncio.Runner,
    ledger: LedgerReader,
    asked: tuple[datetime | None, datetime | None],
    most: int | None,
) -> _Report:
    """Compare until there is nothing wrong, or nothing has changed meanwhile that could look like it."""
    books = runner.run(_read_books(ledger))
    for _ in range(_TRIES):
        report = _new_report(books, asked)
        fired = _fired(runner, ledger, report.from_, report.to)
        _fill(report, books, fired, most)
        before, books = books, runner.run(_read_books(ledger))
        report.unsteady = not report.ok and not books.same_as(before)
        if not report.unsteady:
            break
    return report


async def _read_books(ledger: LedgerReader) -> _Books:
    now = SystemClock().now()
    return _Books(now, await ledger.terms(), await ledger.kept_from())


def _bounds(terms: Iterable[Term]) -> set[tuple[object, ...]]:
    return {(term.schedule_id, term.timing, term.from_at, term.until_at) for term in terms}


def _new_report(books: _Books, asked: tuple[datetime | None, datetime | None]) -> _Report:
    """Return the report to be filled, with its range; raises UsageError where there can be nothing in it."""
    from_ = asked[0] or min((term.from_at for term in books.terms), default=_EPOCH)
    to = asked[1] or books.now
    cut = books.kept_from is not None and from_ < books.kept_from
    if books.kept_from is not None:
        from_ = max(from_, books.kept_from)
    if to < from_:
        raise UsageError(
            f"nothing to audit before {stamp(to)}: the range begins at {stamp(from_)}"
            + (", as older runs were removed" if cut else "")
        )
    apart = sum(
        not audit.exact(term.timing, cron.zone_rules)
        for term in books.terms
        if term.from_at < to and (term.until_at is None or term.until_at >= from_)
    )
    return _Report(from_, to, books.kept_from if cut else None, apart)


def _fired(runner: asyncio.Runner, ledger: LedgerReader, from_: datetime, to: datetime) -> Iterator[Fired]:
    """Yield the automatic runs in order, no more than a page of them in memory."""
    page = runner.run(ledger.automatic_runs(from_, to, None, _PAGE))
    while page:
        yield from page
        last = (page[-1].schedule_id, page[-1].fire_time)
        page = runner.run(ledger.automatic_runs(from_, to, last, _PAGE))


def _fill(report: _Report, books: _Books, fired: Iterator[Fired], most: int | None) -> None:
    """Add up all findings, and keep those that differ, of each kind at most so many; None: all."""
    findings = audit.compare(
        books.terms,
        fired,
        from_=report.from_,
        to=report.to,
        now=books.now,
        rules_of=cron.zone_rules,
    )
    if sys.stderr.isatty():
        findings = _with_progress(findings, sorted({term.schedule_id for term in books.terms}))
    for finding in findings:
        report.tally.add(finding)
        if finding.differs:
            kept = report.wrong if finding.exact else report.differing
            if most is None or len(kept) < most:
                kept.append(finding)


def _with_progress(findings: Iterator[Finding], schedule_ids: list[str]) -> Iterator[Finding]:
    """Draw how far it is, once it takes a while; nothing of it stays on the terminal."""
    from rich.console import Console  # noqa: PLC0415 - rich is for terminals only
    from rich.progress import Progress  # noqa: PLC0415

    progress = Progress(console=Console(stderr=True), transient=True)
    task = progress.add_task("", total=len(schedule_ids))
    try:
        for number, finding in enumerate(findings, start=1):
            if number % _PAGE == 0:
                progress.start()
                done = bisect(schedule_ids, finding.schedule_id)
                progress.update(task, completed=done, description=f"{number:,} fire times")
            yield finding
    finally:
        progress.stop()


def _print(report: _Report) -> None:
    tally = report.tally
    removed = "; older runs were removed, as `keep` in flowsched.yaml has it" if report.kept_from else ""
    click.echo(f"from {stamp(report.from_)} up to {stamp(report.to)}{removed}")
    click.echo(
        f"{_count(tally.fire_times, 'fire time')} of {_count(tally.schedules, 'schedule')}: {_sums(tally)}"
    )
    states = ", ".join(
        f"{number:,} {state_in_words(state)}" for state, number in sorted(tally.states.items())
    )
    click.echo(f"{_count(tally.states.total(), 'run')}{': ' if states else ''}{states}")
    _print_findings(report.wrong, tally.gaps + tally.surplus)
    if report.apart:
        click.echo(
            f"\n{_count(report.apart, 'term')} of other time zone data than this machine has:"
            f" {_count(tally.apart, 'difference')} under it that no verdict rests on"
        )
        _print_findings(report.differing, tally.apart)
    if tally.states[RunState.IN_DOUBT]:
        click.echo("look into the runs in doubt: flowsched runs --state in_doubt")
    if report.unsteady:
        click.echo("the ledger was changed by an edit or a removal of old runs meanwhile: ask again")
    click.echo(_verdict(tally))


def _sums(tally: Tally) -> str:
    parts = [f"{tally.verdicts[Verdict.ALIGNED]:,} with a run"]
    if tally.gaps:
        parts.append(f"{tally.gaps:,} without")
    if due := tally.verdicts[Verdict.DUE_NOW]:
        parts.append(f"{due:,} due just now")
    if deferred := tally.verdicts[Verdict.DEFERRED]:
        parts.append(f"{deferred:,} deferred by a blackout")
    return ", ".join(parts)


def _print_findings(findings: list[Finding], total: int) -> None:
    if not findings:
        return
    click.echo()
    headers = ["schedule", "fire time (UTC)", "run", "what is wrong", "what to do"]
    print_table(headers, [_row(finding) for finding in findings])
    if total > len(findings):
        click.echo(f"... and {total - len(findings):,} more; --format json has them all")
    click.echo()


def _row(finding: Finding) -> list[object]:
    run = finding.run.run_id if finding.run else None
    return [finding.schedule_id, finding.fire_time, run, *_WRONG[finding.verdict]]


def _verdict(tally: Tally) -> str:
    if tally.gaps or tally.surplus:
        return f"{_count(tally.gaps, 'gap')}, {tally.surplus:,} surplus"
    aligned = tally.verdicts[Verdict.ALIGNED]
    text = f"nothing missing, nothing twice: {_count(aligned, 'fire time')}, each with one run"
    unsent = sum(tally.states[state] for state in (RunState.MISSED, RunState.SKIPPED, RunState.FAILED))
    return f"{text}; of these, {unsent:,} started no flow, for the reasons recorded" if unsent else text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _record(report: _Report) -> dict[str, Any]:
    tally = report.tally
    return {
        "ok": report.ok,
        "from": report.from_,
        "to": report.to,
        "kept_from": report.kept_from,
        "schedules": tally.schedules,
        "fire_times": tally.fire_times,
        "aligned": tally.verdicts[Verdict.ALIGNED],
        "due_now": tally.verdicts[Verdict.DUE_NOW],
        "deferred": tally.verdicts[Verdict.DEFERRED],
        "gaps": tally.gaps,
        "surplus": tally.surplus,
        "states": dict(sorted(tally.states.items())),
        "findings": [_finding(each) for each in report.wrong],
        "other_rules": {
            "terms": report.apart,
            "differences": tally.apart,
            "findings": [_finding(each) for each in report.differing],
        },
        "unsteady": report.unsteady,
    }


def _finding(finding: Finding) -> dict[str, object]:
    wrong, to_do = _WRONG[finding.verdict]
    return {
        "schedule": finding.schedule_id,
        "fire_time": finding.fire_time,
        "verdict": finding.verdict,
        "run": finding.run.run_id if finding.run else None,
        "state": finding.run.state if finding.run else None,
        "wrong": wrong,
        "to_do": to_do,
    }
