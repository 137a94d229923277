"""`flowsched calendar`: how many fires fall when, and where there are too many at once."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

import click

from flowsched import config, cron
from flowsched.cli.calendar_picture import MOST_BUSIEST, Picture, busiest_rows, nights
from flowsched.cli.files import default_schedules, find_settings, limits_of, schedules_option
from flowsched.cli.instants import INSTANT, to_look_ahead_from
from flowsched.cli.output import print_json, print_table
from flowsched.cli.reports import counted
from flowsched.clock import SystemClock
from flowsched.errors import CronError, UsageError
from flowsched.ops.logs import stamp
from flowsched.review.heat import LEFT_OUT, busiest, by_hour, by_minute, days_of
from flowsched.review.load import crowded, load
from flowsched.review.relief import relief

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from flowsched.model import Catalog, Limits
    from flowsched.review.heat import Heat
    from flowsched.review.load import Crowd
    from flowsched.review.relief import Relief

_LISTED = 6
"""Schedules listed of those that are moved alike."""


@click.command("calendar", epilog="Example: flowsched calendar --days 14 --timezone Europe/Berlin")
@click.option(
    "--from",
    "from_",
    type=INSTANT,
    metavar="T",
    help="From this instant on; without an offset on the clock of --timezone. Default: today's midnight.",
)
@click.option("--days", type=click.IntRange(1, 400), default=7, show_default=True, help="How many days.")
@click.option(
    "--by", type=click.Choice(["hour", "minute"]), default="hour", show_default=True, help="What a cell is."
)
@click.option("--timezone", default="UTC", show_default=True, help="IANA name of the zone of the days.")
@schedules_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "svg", "json"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.pass_obj
def command(  # noqa: PLR0913 - one parameter an option
    config_option: str | None,
    *,
    from_: datetime | None,
    days: int,
    by: str,
    timezone: str,
    schedules: str | None,
    format_: str,
) -> None:
    """Show how many fires fall into each hour or minute, and the busiest minutes of each target.

    Fires count when they are due: after their jitter, and at the end of a blackout that defers them; what a
    blackout skips does not count. For a target with more fires in a minute than its rate_per_minute, it says
    which schedules could move to which minutes.
    """
    try:
        zone = cron.zone(timezone)
    except CronError as error:
        raise UsageError(str(error)) from None
    settings = find_settings(config_option)
    catalog = config.load_catalog(schedules or default_schedules(settings), settings)
    start = to_look_ahead_from(from_, "--from", zone) if from_ else _midnight(SystemClock().now(), zone)
    picture = _picture(catalog, limits_of(settings), start, days, by, timezone)
    if format_ == "json":
        print_json(_document(picture))
    elif format_ == "svg":
        from flowsched.cli.heat_svg import svg  # noqa: PLC0415 - where it is asked for

        click.echo(svg(picture), nl=False)
    else:
        _print_text(picture)


def _midnight(now: datetime, zone: ZoneInfo) -> datetime:
    return cron.instant(datetime.combine(now.astimezone(zone).date(), time()), zone)


def _picture(
    catalog: Catalog, limits: Mapping[str, Limits], start: datetime, days: int, by: str, timezone: str
) -> Picture:
    zone = cron.zone(timezone)
    wall = start.astimezone(zone).replace(tzinfo=None)
    end = cron.instant(wall + timedelta(days=days), zone)
    after, until = start - timedelta.resolution, end - timedelta.resolution
    loads = load(catalog.schedules.values(), after=after, until=until)
    minutes: Counter[datetime] = Counter()
    for each in loads.values():
        minutes.update(each.minutes)
    last = until.astimezone(zone).date()
    dates = days_of(wall.date(), (last - wall.date()).days + 1)
    told: list[str] = []
    if by == "hour":
        minute = start.replace(second=0, microsecond=0)
        heat, told = nights(by_hour(minutes, zone, dates), timezone, minute, until)
    else:
        heat = by_minute(minutes, zone)
    return Picture(
        start,
        end,
        by,
        timezone,
        heat,
        loads,
        crowded(loads, limits),
        relief(catalog.schedules.values(), limits, after=after, until=until),
        told,
    )


def _print_text(picture: Picture) -> None:
    click.echo(picture.title)
    heads = [f"{number:02}" for number in range(len(picture.heat.rows[0].counts))]
    if sys.stdout.isatty():
        from flowsched.cli import terminal  # noqa: PLC0415 - rich is for terminals only

        terminal.print_heat(heads, picture.heat)
    else:
        _print_numbers(heads, picture.heat)
    for line in picture.nights:
        click.echo(line)
    fires = sum(each.fires for each in picture.loads.values())
    if not fires:
        click.echo("nothing fires in that time")
        return
    click.echo()
    click.secho("Busiest minutes", bold=True)
    print_table(["minute (UTC)", "local", "target", "fires"], busiest_rows(picture))
    for crowd in picture.crowds:
        _print_crowd(crowd)
    if picture.crowds:
        _print_relief(picture.relief)


def _print_numbers(heads: Sequence[str], heat: Heat) -> None:
    width = max(2, len(str(heat.most)))
    label = max(len(row.shown) for row in heat.rows)
    click.echo(" ".join([" " * label, *(head.rjust(width) for head in heads)]))
    for row in heat.rows:
        cells = ((LEFT_OUT if count is None else str(count or ".")).rjust(width) for count in row.counts)
        click.echo(" ".join([row.shown.ljust(label), *cells]))


def _print_crowd(crowd: Crowd) -> None:
    minute, count = crowd.worst
    click.echo()
    click.secho(f"Crowded: target {crowd.target}", bold=True)
    click.echo(
        f"{_minutes(crowd)} with more fires than its rate_per_minute, {crowd.rate_per_minute}, lets begin; "
        f"the worst is {stamp(minute)} with {count}"
    )


def _minutes(crowd: Crowd) -> str:
    return counted(len(crowd.minutes), "minute")


def _print_relief(found: Relief) -> None:
    if found.shifts:
        click.echo()
        click.secho("Proposal", bold=True)
        print_table(["target", "cron", "becomes", "schedules"], _shift_rows(found))
    for crowd in found.left:
        minute, count = crowd.worst
        stay = "stays" if len(crowd.minutes) == 1 else "stay"
        click.echo(
            f"target {crowd.target}: {_minutes(crowd)} {stay} crowded, the worst {stamp(minute)} "
            f"with {count}: what is left there finds no free minute in its hour, or does not name its minutes"
        )


def _shift_rows(found: Relief) -> list[tuple[object, ...]]:
    """Return the shifts, those alike together."""
    alike: dict[tuple[str | None, str, str], list[str]] = {}
    for shift in found.shifts:
        schedule = shift.schedule
        alike.setdefault((schedule.target, schedule.timing.cron, shift.cron), []).append(schedule.id)
    return [(*key, _ids(ids)) for key, ids in alike.items()]


def _ids(ids: list[str]) -> str:
    more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
    return ", ".join(ids[:_LISTED]) + more


def _document(picture: Picture) -> dict[str, object]:
    """Return what a script reads."""
    return {
        "from": stamp(picture.start),
        "until": stamp(picture.end),
        "timezone": picture.timezone,
        "by": picture.by,
        "rows": [{"label": row.label, "counts": list(row.counts)} for row in picture.heat.rows],
        "targets": [
            {
                "target": target,
                "fires": each.fires,
                "busiest": [
                    {"minute": stamp(minute), "fires": count}
                    for minute, count in busiest(each.minutes, MOST_BUSIEST)
                ],
            }
            for target, each in picture.loads.items()
        ],
        "crowded": [_crowd_record(crowd) for crowd in picture.crowds],
        "proposal": [
            {
                "schedule": shift.schedule.id,
                "target": shift.schedule.target,
                "cron": shift.schedule.timing.cron,
                "becomes": shift.cron,
            }
            for shift in picture.relief.shifts
        ],
        "crowded_then": [_crowd_record(crowd) for crowd in picture.relief.left],
    }


def _crowd_record(crowd: Crowd) -> dict[str, object]:
    minute, count = crowd.worst
    return {
        "target": crowd.target,
        "rate_per_minute": crowd.rate_per_minute,
        "minutes": len(crowd.minutes),
        "worst": {"minute": stamp(minute), "fires": count},
    }
