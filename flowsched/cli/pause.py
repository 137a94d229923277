"""`flowsched pause`: let something rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli import FINE
from flowsched.cli.asking import asked
from flowsched.cli.completion import complete_ids
from flowsched.cli.durations import DURATION
from flowsched.cli.files import need_settings
from flowsched.cli.instants import INSTANT, in_utc
from flowsched.cli.output import format_option, print_json
from flowsched.cli.people import REASON
from flowsched.clock import SystemClock
from flowsched.control.words import subject_of
from flowsched.errors import UsageError
from flowsched.model import RunState, Scope
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from datetime import datetime, timedelta

MOST_NAMED = 20
"""Runs that go on are named one by one up to so many."""

id_argument = click.argument("schedule_id", metavar="[ID]", required=False, shell_complete=complete_ids)
target_option = click.option("--target", metavar="NAME", help="All schedules of this target.")
all_option = click.option("--all", "all_", is_flag=True, help="All schedules.")


@click.command(
    "pause", epilog="Example: flowsched pause nightly-wind-report --reason 'plant closed' --for 2h"
)
@id_argument
@target_option
@all_option
@click.option("--reason", type=REASON, required=True, help="Why: one line, kept with your login name.")
@click.option("--for", "for_", type=DURATION, metavar="DURATION", help="Ends by itself after so long, as 2h.")
@click.option("--until", type=INSTANT, metavar="T", help="Ends by itself at this instant.")
@format_option
@click.pass_obj
def command(  # noqa: PLR0913 - one parameter an option
    config: str | None,
    *,
    schedule_id: str | None,
    target: str | None,
    all_: bool,
    reason: str,
    for_: timedelta | None,
    until: datetime | None,
    format_: str,
) -> int:
    """Let the schedule with this ID rest, or all of a target, or all there are.

    Its fires are recorded as skipped until the pause is over, and are not caught up. Runs that were claimed
    before go on. The pause survives restarts; `flowsched status` shows it, `flowsched resume` ends it. One
    that is set again replaces the one before. Exits with 1 where it is refused.
    """
    fields = scope_of(schedule_id, target, all_=all_) | {"reason": reason}
    if for_ is not None and until is not None:
        raise UsageError("--for and --until both say when the pause ends: leave out one of them")
    if for_ is not None:
        fields["until"] = stamp((SystemClock().now() + for_).replace(microsecond=0))
    if until is not None:
        fields["until"] = stamp(in_utc(until, "--until"))
    done = asyncio.run(asked(need_settings(config), "/v1/pause", fields))
    if format_ == "json":
        print_json(done)
    else:
        _say(done)
    return FINE


def scope_of(schedule_id: str | None, target: str | None, *, all_: bool) -> dict[str, str]:
    """Return what a pause is about, as it is asked for; raises UsageError unless it is exactly one thing."""
    if (schedule_id is not None) + (target is not None) + all_ != 1:
        raise UsageError("say what is meant: exactly one of ID, --target NAME and --all")
    if all_:
        return {"scope": Scope.ALL}
    if target is not None:
        return {"scope": Scope.TARGET, "name": target}
    return {"scope": Scope.SCHEDULE, "name": str(schedule_id)}


def _say(done: dict[str, Any]) -> None:
    pause, going = done["pause"], done["going_on"]
    until = f"until {pause['until_at']}" if pause["until_at"] else "until `flowsched resume`"
    subject = subject_of(Scope(pause["scope"]), pause["name"])
    click.echo(f"paused: {subject}, {until} ({pause['by']}: {pause['reason']})")
    if going:
        were = "1 run was" if len(going) == 1 else f"{len(going)} runs were"
        go = "goes" if len(going) == 1 else "go"
        unsent = [run for run in going if run["state"] in (RunState.CLAIMED, RunState.WAITING)]
        end = "; to end what is not sent yet:" if unsent else ", sent already: `flowsched runs` shows them"
        click.echo(f"{were} claimed before and {go} on{end}")
        for run in unsent[:MOST_NAMED]:
            click.echo(
                f"  flowsched cancel {run['id']} --reason TEXT  ({run['schedule_id']}, {run['state']})"
            )
        if len(unsent) > MOST_NAMED:
            click.echo(f"  and {len(unsent) - MOST_NAMED} more: `flowsched runs` shows them")
