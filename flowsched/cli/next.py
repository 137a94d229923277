"""`flowsched next`: what fires next."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from flowsched import timeline
from flowsched.cli.files import load_catalog, schedules_option
from flowsched.cli.instants import INSTANT, in_utc
from flowsched.cli.output import format_option, local, print_json, print_table
from flowsched.clock import SystemClock
from flowsched.errors import UsageError
from flowsched.near import did_you_mean
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Catalog, Fire, Schedule


@click.command("next", epilog="Example: flowsched next nightly-wind-report --count 3")
@click.argument("ids", nargs=-1, metavar="[ID]...")
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
    """Show the next fires of the schedules with these IDs, or of all, in order."""
    wanted = _wanted(load_catalog(config, schedules), ids)
    after = in_utc(from_, "--from") if from_ else SystemClock().now()
    end = in_utc(until, "--until") if until else None
    fires = list(islice(timeline.fires(wanted, after=after, until=end), count))
    if format_ == "json":
        print_json({"fires": [_record(fire) for fire in fires]})
    elif fires:
        _print_table(fires)
    else:
        click.echo("nothing fires in that time", err=True)


def _wanted(catalog: Catalog, ids: tuple[str, ...]) -> list[Schedule]:
    for schedule_id in ids:
        if schedule_id not in catalog.schedules:
            hint = did_you_mean(schedule_id, catalog.schedules)
            raise UsageError(f"there is no schedule {schedule_id!r}{hint}")
    return [schedule for schedule in catalog.schedules.values() if not ids or schedule.id in ids]


def _print_table(fires: list[Fire]) -> None:
    headers = ["fire time (UTC)", "local", "schedule", "flow", "task"]
    rows = [_row(fire) for fire in fires]
    if any(fire.schedule.jitter for fire in fires):
        headers.insert(1, "due (UTC)")
        for fire, row in zip(fires, rows, strict=True):
            row.insert(1, _due_time(fire))
    print_table(headers, rows)


def _row(fire: Fire) -> list[object]:
    schedule = fire.schedule
    where = f"{local(fire.fire_time, schedule.timing.timezone)} {schedule.timing.timezone}"
    return [fire.fire_time, where, schedule.id, schedule.flow, schedule.task]


def _due_time(fire: Fire) -> datetime:
    schedule = fire.schedule
    if not schedule.jitter:
        return fire.fire_time
    following = next(timeline.fire_times(schedule.timing, fire.fire_time), None)
    return timeline.due_time(schedule, fire.fire_time, following)


def _record(fire: Fire) -> dict[str, object]:
    schedule = fire.schedule
    return {
        "schedule": schedule.id,
        "utc": stamp(fire.fire_time),
        "due_time": stamp(_due_time(fire)),
        "local": local(fire.fire_time, schedule.timing.timezone),
        "timezone": schedule.timing.timezone,
        "flow": schedule.flow,
        "task": schedule.task,
        "target": schedule.target,
    }
