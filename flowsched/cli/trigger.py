"""`flowsched trigger`: a run by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli import FINE, FOUND, UNEXPECTED
from flowsched.cli.asking import Followed, asking, followed, sentence, what_then
from flowsched.cli.completion import complete_ids
from flowsched.cli.files import need_settings
from flowsched.cli.instants import INSTANT, in_utc
from flowsched.cli.output import format_option, print_json
from flowsched.cli.people import REASON
from flowsched.control.words import state_in_words
from flowsched.errors import LedgerError, NoAnswer
from flowsched.model import RunState
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from flowsched.cli.asking import Asking
    from flowsched.control.documents import Document
    from flowsched.model import Settings


@click.command(
    "trigger", epilog="Example: flowsched trigger nightly-wind-report --at 2026-11-21T02:30Z --wait"
)
@click.argument("schedule_id", metavar="ID", shell_complete=complete_ids)
@click.option(
    "--at", type=INSTANT, metavar="T", help="Its fire time, a whole minute up to now. Default: this minute."
)
@click.option("--reason", type=REASON, help="Why: one line, kept with your login name.")
@click.option("--wait", is_flag=True, help="Stay until EnOS has made the instance, or will not.")
@format_option
@click.pass_obj
def command(
    config: str | None,
    *,
    schedule_id: str,
    at: datetime | None,
    reason: str | None,
    wait: bool,
    format_: str,
) -> int:
    """Trigger the schedule with this ID once, whatever its cron says, also where it is disabled or paused.

    Each flow has one instance a minute: where one was made for this minute, or may have been, nothing is
    sent. The run has the retries of the schedule. Without a daemon this command sends it itself, and stays
    until that is done. Exits with 1 where it is refused or fails, or is left in doubt.
    """
    fields = {"schedule": schedule_id}
    if at is not None:
        fields["at"] = stamp(in_utc(at, "--at"))
    if reason is not None:
        fields["reason"] = reason
    show = _say if format_ == "text" else _say_nothing
    end = asyncio.run(_triggered(need_settings(config), fields, wait=wait, show=show))
    if format_ == "json":
        print_json(end.run)
    if end.lost is not None:
        was = f"run {end.run['id']} was {state_in_words(end.run['state'])} when last seen"
        click.echo(f"flowsched: {was}; {end.lost}", err=True)
        return UNEXPECTED
    return FOUND if end.run["state"] in (RunState.FAILED, RunState.IN_DOUBT) else FINE


async def _triggered(
    settings: Settings, fields: Mapping[str, str], *, wait: bool, show: Callable[[Mapping[str, Any]], None]
) -> Followed:
    run: Mapping[str, Any] | None = None
    try:
        async with asking(settings) as ask:
            # Named before anybody is asked: whoever does it, and how often it is tried, it is the same fire.
            this_minute = ask.clock.now().replace(second=0, microsecond=0)
            run = await _claimed(ask, {"at": stamp(this_minute), **fields})
            if wait or ask.alone:
                return await followed(ask, run, show)
    except asyncio.CancelledError:
        if run is not None:
            click.echo(f"flowsched: {await what_then(settings, run)}", err=True)
        raise
    show(run)
    return Followed(dict(run))


async def _claimed(ask: Asking, fields: Mapping[str, str]) -> Document:
    try:
        return await ask("POST", "/v1/trigger", fields)
    except (NoAnswer, LedgerError) as error:
        same = f"`flowsched trigger {fields['schedule']} --at {fields['at']}`"
        raise type(error)(f"{error}; {same} asks for the same fire, which is not triggered twice") from error


def _say(run: Mapping[str, Any]) -> None:
    click.echo(sentence(run))


def _say_nothing(_: Mapping[str, Any]) -> None:
    """Say nothing: the run is printed at the end."""
