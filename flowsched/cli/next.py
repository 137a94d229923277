"""`flowsched next`: what fires next."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from flowsched import timeline
from flowsched.cli.completion import complete_ids
from flowsched.cli.files import known, load_catalog, schedules_option
from flowsched.cli.fires import print_fires, seen
from flowsched.cli.instants import INSTANT, in_utc
from flowsched.cli.output import format_option, print_json
from flowsched.clock import SystemClock
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Catalog, Schedule


@click.command("next", epilog="Example: flowsched next nightly-wind-report --count 3")
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_ids)
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=10, show_default=True, help="How many fires at most."
)
@click.option(
    "--from", "from_", type=INSTANT, metavar="T", help="Fires strictly after this instant. Default: now."
)
@click.option("--until", type=INSTANT, metavar="T", help="Fires up to this instant, inclusive.")
@schedules_option
@format_option
@click.pass_obj
def command(  # noqa: PLR0913 - one parameter an option
    config: str | None,
    *,
    ids: tuple[str, ...],
    count: int,
    from_: datetime | None,
    until: datetime | None,
    schedules: str | None,
    format_: str,
) -> None:
    """Show the next fires of the schedules with these IDs, or of all, in order.

    A fire that a blackout skips or defers is shown at its fire time, with a note that says so.
    """
    wanted = _wanted(load_catalog(config, schedules), ids)
    after = in_utc(from_, "--from") if from_ else SystemClock().now()
    end = in_utc(until, "--until") if until else None
    if end and end <= after:
        start = f"--from, {stamp(after)}" if from_ else f"now, {stamp(after)}"
        raise click.BadParameter(f"{stamp(end)} is not later than {start}", param_hint="--until")
    fires = [seen(fire) for fire in islice(timeline.fires(wanted, after=after, until=end), count)]
    if format_ == "json":
        print_json({"fires": [each.record() for each in fires]})
    elif fires:
        print_fires(fires)
    else:
        click.echo("nothing fires in that time", err=True)


def _wanted(catalog: Catalog, ids: tuple[str, ...]) -> list[Schedule]:
    for schedule_id in ids:
        known(catalog, schedule_id)
    return [schedule for schedule in catalog.schedules.values() if not ids or schedule.id in ids]
