"""`flowsched show`: what a schedule resolves to, and what will come of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import click

from flowsched import blackouts, config, cron, timeline
from flowsched.cli.calendar_words import calendar_words
from flowsched.cli.completion import complete_ids
from flowsched.cli.files import default_schedules, find_settings, from_here, known, schedules_option
from flowsched.cli.fires import Seen, print_fires, seen
from flowsched.cli.instants import INSTANT, to_look_ahead_from
from flowsched.cli.output import clock_words, format_option, local, offset, print_json, print_table
from flowsched.cli.values import VALUES
from flowsched.clock import SystemClock
from flowsched.model import Then
from flowsched.ops.logs import stamp
from flowsched.review.clock_changes import AHEAD, touched
from flowsched.review.collisions import HORIZON, collisions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from flowsched.blackouts import Closure
    from flowsched.config.findings import KeyPath
    from flowsched.config.written import Written
    from flowsched.model import Acceptance, Blackout, Catalog, Schedule, Source, Timing
    from flowsched.review.clock_changes import Touched
    from flowsched.review.collisions import Collision

_NEXT = 5
"""Fires shown."""
_CLOSED = _INSIDE = 3
"""Closed times shown, and fires inside them."""
_MOST_LOOKED_AT = 20_000
"""Fires looked at for those, at most."""
_THEN = {Then.SKIP: "fires inside are skipped", Then.DEFER: "the last fire inside goes out at the end"}


@dataclass(frozen=True, slots=True)
class _Shown:
    """All that is shown of a schedule."""

    schedule: Schedule
    written: Mapping[KeyPath, Written]
    fires: list[Seen]
    nights: list[Touched]
    closed: list[tuple[datetime, Closure]]
    """The next closed times of its blackout, each with its beginning in UTC."""
    inside: list[Seen]
    """The next fires inside one."""
    collisions: list[Collision]


@click.command("show", epilog="Example: flowsched show nightly-wind-report")
@click.argument("schedule_id", metavar="ID", shell_complete=complete_ids)
@click.option("--at", type=INSTANT, metavar="T", help="Show as if it were this instant. Default: now.")
@schedules_option
@format_option
@click.pass_obj
def command(
    config_option: str | None,
    *,
    schedule_id: str,
    at: datetime | None,
    schedules: str | None,
    format_: str,
) -> None:
    """Show what the schedule with this ID resolves to, and what will come of it.

    Each value with the file and line that it comes from; its timing in words; its next fires; what the clock
    changes of two years do to it; its blackout; what it accepts, and with what it collides in 400 days.
    """
    settings = find_settings(config_option)
    catalog = config.load_catalog(schedules or default_schedules(settings), settings)
    schedule = known(catalog, schedule_id)
    keys = [*VALUES, *(_key(each) for each in schedule.accept)]
    written = config.where_written(schedule, settings, keys)
    now = to_look_ahead_from(at, "--at") if at else SystemClock().now()
    shown = _shown(catalog, schedule, written, now)
    if format_ == "json":
        print_json(_document(shown))
    else:
        _print_text(shown)


def _shown(catalog: Catalog, schedule: Schedule, written: Mapping[KeyPath, Written], now: datetime) -> _Shown:
    inside = (each for each in islice(_fires(schedule, now, now + HORIZON), _MOST_LOOKED_AT) if each.stay)
    found = collisions(catalog.schedules.values(), after=now, until=now + HORIZON, of=[schedule.id])
    return _Shown(
        schedule,
        written,
        fires=list(islice(_fires(schedule, now, None), _NEXT)),
        nights=touched(schedule.timing, after=now, until=now + AHEAD),
        closed=list(islice(_closed(schedule.blackout, schedule.timing, now), _CLOSED)),
        inside=list(islice(inside, _INSIDE)) if schedule.blackout else [],
        collisions=list(found.pairs),
    )


def _fires(schedule: Schedule, after: datetime, until: datetime | None) -> Iterator[Seen]:
    return (seen(fire) for fire in timeline.fires([schedule], after=after, until=until))


def _closed(blackout: Blackout | None, timing: Timing, now: datetime) -> Iterator[tuple[datetime, Closure]]:
    """Yield the closed times that end later than now, of those that begin within HORIZON."""
    if blackout is None:
        return
    end = now + HORIZON
    latest = now
    for start, _ in blackouts.closures(blackout, timing.timezone, now, end, timing.rules):
        found = blackouts.closure(blackout, timing.timezone, start, timing.rules)
        if found and start <= end and (found.until is None or found.until > latest):
            yield start, found
            latest = found.until or end


def _key(accepted: Acceptance) -> KeyPath:
    path: KeyPath = ("accept", accepted.rule)
    return path if accepted.other is None else (*path, accepted.other)


def _print_text(shown: _Shown) -> None:
    schedule = shown.schedule
    click.secho(schedule.id, bold=True, nl=False)
    click.echo(f"  {_near(schedule.source)}")
    rows = [(".".join(key), _in_yaml(read(schedule)), _from(shown, key)) for key, read in VALUES.items()]
    print_table(["key", "value", "from"], rows)
    _heading("When")
    click.echo(_when(schedule))
    _heading("Next fires")
    if shown.fires:
        print_fires(shown.fires, of_one=True)
    else:
        click.echo("none: it is disabled" if not schedule.enabled else "none: it does not fire any more")
    _print_nights(shown)
    if schedule.blackout:
        _print_blackout(schedule.blackout, shown)
    if schedule.accept:
        _heading("Accepted")
        accepted = [
            (".".join(_key(each)[1:]), each.reason, _from(shown, _key(each))) for each in schedule.accept
        ]
        print_table(["warning", "reason", "from"], accepted)
    if shown.collisions:
        _heading("Collisions in the next 400 days")
        print_table(
            ["with", "sent", "fires", "first (UTC)", "from", "accepted"],
            [_collision_row(schedule, each) for each in shown.collisions],
        )


def _heading(text: str) -> None:
    click.echo()
    click.secho(text, bold=True)


def _in_yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _from(shown: _Shown, key: KeyPath) -> str:
    written = shown.written.get(key)
    if written is None:
        return "built in"
    here = written.source.file == shown.schedule.source.file
    return f"{_near(written.source)} (defaults)" if written.shared and here else _near(written.source)


def _near(source: Source) -> str:
    """Return file and line, from the current folder on where the file is below it."""
    return f"{from_here(source.file)}:{source.line}"


def _when(schedule: Schedule) -> str:
    timing = schedule.timing
    words = f"{cron.parse(timing.cron).explain()} ({timing.timezone})"
    if timing.starts_at:
        words += f", from {local(timing.starts_at, timing.timezone)}"
    if timing.ends_at:
        words += f", until {local(timing.ends_at, timing.timezone)}, not included"
    return words


def _print_nights(shown: _Shown) -> None:
    if not shown.schedule.enabled:
        return
    _heading("Clock changes in two years")
    if not shown.nights:
        click.echo("none touches its fires")
        return
    print_table(
        ["when", "the clock", "its fires"],
        [
            (f"{each.change.reading_before:%a %Y-%m-%d}", clock_words(each.change), each.words())
            for each in shown.nights
        ],
    )


def _print_blackout(blackout: Blackout, shown: _Shown) -> None:
    _heading(f"Blackout: {_THEN[blackout.then]}")
    print_table(
        ["calendar", "closed", "what for", "from"],
        [
            (each.name, calendar_words(each), each.description, _near(each.source))
            for each in blackout.calendars
        ],
    )
    _print_closed(shown)
    if shown.inside:
        _heading("Next fires inside")
        print_fires(shown.inside, of_one=True)
    elif shown.schedule.enabled:
        click.echo("no fire of the next 400 days is inside")


def _print_closed(shown: _Shown) -> None:
    _heading("Next closed times")
    zone = shown.schedule.timing.timezone
    rows = [
        (local(start, zone), local(each.until, zone) if each.until else "no end in sight", each.calendar)
        for start, each in shown.closed
    ]
    if rows:
        print_table(["from", "until", "calendar"], rows)
    else:
        click.echo("none in the next 400 days")


def _collision_row(schedule: Schedule, found: Collision) -> tuple[object, ...]:
    other = found.skipped if found.sent.id == schedule.id else found.sent
    firsts = ", ".join(map(stamp, found.first))
    reason = found.accepted.reason if found.accepted else "no"
    return other.id, found.sent.id, found.count, firsts, _near(other.source), reason


def _document(shown: _Shown) -> dict[str, object]:
    """Return what a script reads."""
    schedule = shown.schedule
    return {
        "id": schedule.id,
        "source": _place(schedule.source.file, schedule.source.line),
        "values": [_value(shown, key) for key in VALUES],
        "explanation": cron.parse(schedule.timing.cron).explain(),
        "fires": [each.record() for each in shown.fires],
        "clock_changes": [
            {
                "at": stamp(each.change.at),
                "before": offset(each.change.reading_before),
                "after": offset(each.change.reading_after),
                "fires": [stamp(at) for at in each.fires],
                "says": each.words(),
            }
            for each in (shown.nights if schedule.enabled else ())
        ],
        "blackout": _blackout_record(schedule.blackout, shown) if schedule.blackout else None,
        "accept": [
            {"rule": each.rule, "other": each.other, "reason": each.reason, **_origin(shown, _key(each))}
            for each in schedule.accept
        ],
        "collisions": [_collision_record(each) for each in shown.collisions],
    }


def _value(shown: _Shown, key: KeyPath) -> dict[str, object]:
    return {"key": ".".join(key), "value": VALUES[key](shown.schedule), **_origin(shown, key)}


def _origin(shown: _Shown, key: KeyPath) -> dict[str, object]:
    """Return where a value is written: null where it is built in."""
    written = shown.written.get(key)
    if written is None:
        return {"source": None, "shared": False}
    return {"source": _place(written.source.file, written.source.line), "shared": written.shared}


def _place(file: str, line: int) -> dict[str, object]:
    return {"file": file, "line": line}


def _blackout_record(blackout: Blackout, shown: _Shown) -> dict[str, object]:
    return {
        "then": blackout.then,
        "calendars": [
            {
                "name": each.name,
                "description": each.description,
                "words": calendar_words(each),
                "source": _place(each.source.file, each.source.line),
            }
            for each in blackout.calendars
        ],
        "closed": [
            {
                "from": stamp(start),
                "until": stamp(each.until) if each.until else None,
                "calendar": each.calendar,
            }
            for start, each in shown.closed
        ],
        "fires_inside": [each.record() for each in shown.inside],
    }


def _collision_record(found: Collision) -> dict[str, object]:
    return {
        "sent": found.sent.id,
        "skipped": found.skipped.id,
        "fires": found.count,
        "first": [stamp(at) for at in found.first],
        "accepted": found.accepted.reason if found.accepted else None,
    }
