"""`flowsched resume`: end a pause."""

from __future__ import annotations

import asyncio

import click

from flowsched.cli import FINE
from flowsched.cli.asking import asked
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json
from flowsched.cli.pause import all_option, id_argument, scope_of, target_option
from flowsched.cli.people import REASON
from flowsched.control.words import subject_of
from flowsched.model import Scope


@click.command("resume", epilog="Example: flowsched resume nightly-wind-report")
@id_argument
@target_option
@all_option
@click.option("--reason", type=REASON, help="Why: one line, kept with your login name.")
@format_option
@click.pass_obj
def command(
    config: str | None,
    *,
    schedule_id: str | None,
    target: str | None,
    all_: bool,
    reason: str | None,
    format_: str,
) -> int:
    """End the pause of the schedule with this ID, of a target, or of all.

    A pause is ended by what it was set for: that of a target goes on where a schedule of it is resumed.
    What was skipped meanwhile is not sent; `flowsched backfill` can do that. Exits with 1 where there is no
    such pause.
    """
    fields = scope_of(schedule_id, target, all_=all_)
    if reason is not None:
        fields["reason"] = reason
    done = asyncio.run(asked(need_settings(config), "/v1/resume", fields))
    if format_ == "json":
        print_json(done)
    else:
        for pause in done["pauses"]:
            since = f"paused since {pause['from_at']} by {pause['by']}: {pause['reason']}"
            click.echo(f"resumed: {subject_of(Scope(pause['scope']), pause['name'])} ({since})")
    return FINE
