"""`flowsched backfill`: the fires of a range of the past, one after the other."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import click

from flowsched.cli import FINE, FOUND, UNEXPECTED, exit_code
from flowsched.cli.asking import asking, followed, sentence, what_then
from flowsched.cli.backfill_plan import Step, planned, summary
from flowsched.cli.completion import complete_ids
from flowsched.cli.files import need_settings
from flowsched.cli.instants import INSTANT, in_utc
from flowsched.cli.output import format_option, print_json, print_table
from flowsched.cli.people import REASON
from flowsched.clock import SystemClock
from flowsched.errors import FlowschedError, UsageError
from flowsched.model import Origin
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from flowsched.cli.asking import Asking
    from flowsched.cli.backfill_plan import Fill
    from flowsched.model import Settings

MOST_SHOWN = 40
"""Rows of the table where it is only there to be agreed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What was typed."""

    schedule_id: str
    from_: datetime
    to: datetime
    every: int
    reason: str | None
    dry_run: bool
    yes: bool
    json: bool

    @property
    def query(self) -> dict[str, str]:
        """Which fires are meant, as they are asked for."""
        range_ = {"from": stamp(self.from_), "to": stamp(self.to), "every": str(self.every)}
        return {"schedule": self.schedule_id, **range_}


@dataclass(slots=True)
class _Course:
    """How far a backfill has come."""

    fills: list[Fill] = field(default_factory=list)
    ended: list[dict[str, Any]] = field(default_factory=list)
    """The runs that this command has seen to their end, in order."""
    current: Mapping[str, Any] | None = None
    """The run that is under way now."""
    stopped: str | None = None
    """Why it went no further; None: it has come to its end."""
    code: int = FINE


@click.command(
    "backfill",
    epilog="Example: flowsched backfill nightly-wind-report --from 2026-11-01T00:00Z --to 2026-11-08T00:00Z"
    " --dry-run",
)
@click.argument("schedule_id", metavar="ID", shell_complete=complete_ids)
@click.option("--from", "from_", type=INSTANT, metavar="T", required=True, help="First instant, inclusive.")
@click.option("--to", type=INSTANT, metavar="T", required=True, help="Last instant, exclusive; up to now.")
@click.option(
    "--every",
    type=click.IntRange(1, 1_000_000),
    default=1,
    show_default=True,
    help="Take each Nth fire time.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, all of it, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody sits at a terminal.")
@click.option("--reason", type=REASON, help="Why: one line, kept with your login name.")
@format_option
@click.pass_obj
def command(config: str | None, /, *, from_: datetime, to: datetime, format_: str, **more: Any) -> int:
    """Trigger the fire times of the schedule with this ID in a range of the past, in order, each once.

    Fire times are those of its cron as it is now, without those that a blackout leaves out. One that is
    triggered already is skipped, and so is one that is under way or in doubt; what failed, was missed or was
    skipped is sent. Triggers of one flow are a minute apart, those on schedule go first. It stops at the
    first run that fails or stays in doubt, and exits with 1. The same command goes on where it stopped.
    """
    wanted = _Wanted(from_=in_utc(from_, "--from"), to=in_utc(to, "--to"), json=format_ == "json", **more)
    _require_past(wanted)
    if not (wanted.yes or wanted.dry_run or sys.stdin.isatty()):
        raise UsageError(
            "nobody can be asked, as this is no terminal: give --yes, or --dry-run to look first"
        )
    course = _Course()
    try:
        asyncio.run(_backfilled(need_settings(config), wanted, course))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say_how_to_go_on(course)
        raise
    if wanted.json:
        print_json(_record(wanted, course))
    return course.code


def _require_past(wanted: _Wanted) -> None:
    if wanted.from_ >= wanted.to:
        message = f"{stamp(wanted.to)} is not later than --from, {stamp(wanted.from_)}"
        raise click.BadParameter(message, param_hint="--to")
    now = SystemClock().now()
    if wanted.to > now:
        message = (
            f"{stamp(wanted.to)} is in the future; allowed: up to now, {stamp(now.replace(microsecond=0))}"
        )
        raise click.BadParameter(message, param_hint="--to")


async def _backfilled(settings: Settings, wanted: _Wanted, course: _Course) -> None:
    try:
        async with asking(settings) as ask:
            fires = (await ask("GET", "/v1/fires", wanted.query))["fires"]
            course.fills = planned(fires, alone=ask.alone)
            if not _is_agreed_to(wanted, course.fills):
                return
            with _progress(wanted, course.fills) as picture:
                try:
                    await _filled(ask, wanted, course, picture)
                except FlowschedError as error:  # what is done already is to be told all the same
                    course.stopped, course.code = f"stopped: {error}", exit_code(error)
    except asyncio.CancelledError:
        if course.current is not None:
            click.echo(f"flowsched: {await what_then(settings, course.current)}", err=True)
        raise
    if course.stopped is not None:
        click.echo(f"flowsched: {course.stopped}", err=True)
        _say_how_to_go_on(course)
    elif not wanted.json:
        click.echo(f"done: {_counted(len(course.ended))} triggered")


def _is_agreed_to(wanted: _Wanted, fills: Sequence[Fill]) -> bool:
    """Show what is to be done, and tell whether it shall be."""
    if not wanted.json:
        _print(fills, len(fills) if wanted.dry_run else MOST_SHOWN)
    to_do = any(fill.step in (Step.SEND, Step.FOLLOW) for fill in fills)
    if wanted.dry_run or not to_do:
        return False
    return wanted.yes or click.confirm("Trigger them?", err=True)


def _print(fills: Sequence[Fill], most: int) -> None:
    if fills:
        print_table(
            ["fire time (UTC)", "what is done"], [[fill.fire_time, fill.words] for fill in fills[:most]]
        )
    if len(fills) > most:
        click.echo(f"and {len(fills) - most} more, which --dry-run shows")
    click.echo(summary(fills))


async def _filled(ask: Asking, wanted: _Wanted, course: _Course, picture: Picture) -> None:
    """Trigger, or follow, one after the other until the end or the first that does not succeed."""
    for fill in course.fills:
        if fill.step is Step.FOLLOW:
            course.current = fill.run
        elif fill.step is Step.SEND:
            course.current = await ask("POST", "/v1/trigger", _fields(wanted, fill))
        else:
            continue
        assert course.current is not None  # noqa: S101 - what is followed has a run
        end = await followed(ask, course.current, picture.moved)
        course.current = None
        course.ended.append(end.run)
        if not end.triggered:
            course.stopped = end.lost or f"stopped: {sentence(end.run)}"
            course.code = FOUND if end.lost is None else UNEXPECTED
            return
        picture.ended()


def _fields(wanted: _Wanted, fill: Fill) -> dict[str, str]:
    fields = {"schedule": wanted.schedule_id, "at": fill.fire_time, "origin": Origin.BACKFILL.value}
    return fields | ({} if wanted.reason is None else {"reason": wanted.reason})


def _say_how_to_go_on(course: _Course) -> None:
    if course.fills:
        done = sum(run["state"] == "triggered" for run in course.ended)
        click.echo(f"flowsched: {_counted(done)} triggered; the same command goes on from here", err=True)


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def _record(wanted: _Wanted, course: _Course) -> dict[str, object]:
    return {
        **wanted.query,
        "every": wanted.every,
        "dry_run": wanted.dry_run,
        "fires": [fill.record() for fill in course.fills],
        "runs": course.ended,
        "stopped": course.stopped,
    }


class Picture(Protocol):
    """Something that shows how far a backfill is."""

    def moved(self, run: Mapping[str, Any]) -> None:
        """Show a run that has entered another state."""

    def ended(self) -> None:
        """Show that one more is done."""


class _Lines:
    """Prints a line for each run that has moved."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def moved(self, run: Mapping[str, Any]) -> None:
        """Print how it stands."""
        if not self._quiet:
            click.echo(sentence(run))

    def ended(self) -> None:
        """Print nothing: the line of the run was there."""


@contextmanager
def _progress(wanted: _Wanted, fills: Sequence[Fill]) -> Iterator[Picture]:
    """Return what suits standard output."""
    to_do = sum(fill.step in (Step.SEND, Step.FOLLOW) for fill in fills)
    if sys.stdout.isatty() and not wanted.json:
        from flowsched.cli.progress import Bar  # noqa: PLC0415 - rich is for terminals only

        with Bar(to_do) as bar:
            yield bar
    else:
        yield _Lines(quiet=wanted.json)
