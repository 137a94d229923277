"""When a calendar is closed: its parts, laid side by side on one line of instants.

They are worked out year by year, when somebody asks, and kept: thousands of schedules share a few calendars,
and each of their fires asks.
"""

from __future__ import annotations

from bisect import bisect
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from flowsched import cron
from flowsched.blackouts.ical import events_between
from flowsched.blackouts.kept import Kept
from flowsched.blackouts.walls import stretches_on_the_wall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

    from flowsched.model import Calendar

    Stretch = tuple[datetime, datetime]
    """From an instant to another, the second not included."""
    Stretches = tuple[list[datetime], list[datetime]]
    """The starts and the ends of stretches that do not touch, ascending, in UTC."""

YEARS = range(1970, 9998)
"""In which calendars are looked at: far enough from the ends of all time for every zone."""
_MINUTE = timedelta(minutes=1)
_MARGIN = timedelta(days=2)
"""More than any zone's clock differs from UTC."""


def closed_until(calendar: Calendar, zone: ZoneInfo, at: datetime) -> datetime | None:
    """Return an instant up to which a calendar is closed without a break from `at` on; None: it is open then.

    It may go on being closed after it, which another question tells. `at` is in UTC; `zone` is for a
    calendar without its own. Raises Refused for a calendar that cannot be read.
    """
    starts, ends = _stretches(calendar, _zone(calendar, zone), at.year)
    position = bisect(starts, at) - 1
    return ends[position] if position >= 0 and at < ends[position] else None


def closed_between(
    calendars: Iterable[Calendar], zone: ZoneInfo, begin: datetime, end: datetime
) -> list[Stretch]:
    """Return when any of some calendars is closed, ascending: at least all that touches a span of instants.

    No two of them touch. What goes on after the year of `end` may be cut off there. Else as `closed_until`.
    """
    years = [
        _stretches(calendar, _zone(calendar, zone), year)
        for calendar in calendars
        for year in range(begin.year, end.year + 1)
    ]
    starts, ends = _merged(stretch for year in years for stretch in zip(*year, strict=True))
    return list(zip(starts, ends, strict=True))


def _zone(calendar: Calendar, zone: ZoneInfo) -> ZoneInfo:
    """Return the zone of a calendar; `zone` where it has none of its own."""
    return zone if calendar.timezone is None else cron.zone(calendar.timezone, calendar.rules)


def _stretches(calendar: Calendar, zone: ZoneInfo, year: int) -> Stretches:
    """Return when a calendar is closed in a year of UTC."""
    if year not in YEARS:
        return [], []
    years = _YEARS_OF.of(calendar)
    if (zone, year) not in years:
        begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        found = _closed(calendar, zone, begin, end)
        years[zone, year] = _merged(
            (start, stop) for start, stop in found if begin < stop and start < end and start < stop
        )
    return years[zone, year]


def _closed(calendar: Calendar, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[Stretch]:
    """Yield at least every stretch that touches a span of instants, in any order; some may be empty."""
    for span in calendar.spans:
        if span.start.tzinfo:
            yield span.start, span.end
    first, last = (begin - _MARGIN).replace(tzinfo=None), (end + _MARGIN).replace(tzinfo=None)
    for start, stop in stretches_on_the_wall(calendar, first, last):
        yield cron.instant(start, zone), cron.instant(stop, zone)
    for ical in calendar.ical:
        for beginning, ending in events_between(ical, first, last):
            yield _instant(beginning, zone), _instant(ending, zone)


def _instant(point: date | datetime, zone: ZoneInfo) -> datetime:
    """Return the first whole minute at or after a point of a file, in UTC: fire times are whole minutes."""
    if not isinstance(point, datetime):
        point = datetime.combine(point, time())
    whole = point.replace(second=0, microsecond=0)
    minute = whole if whole == point else whole + _MINUTE
    return minute.astimezone(UTC) if minute.tzinfo else cron.instant(minute, zone)


def _merged(found: Iterable[Stretch]) -> Stretches:
    starts: list[datetime] = []
    ends: list[datetime] = []
    for start, stop in sorted(found):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], stop)
        else:
            starts.append(start)
            ends.append(stop)
    return starts, ends


def _no_years(_: Calendar) -> dict[tuple[ZoneInfo, int], Stretches]:
    return {}


_YEARS_OF = Kept(_no_years)
