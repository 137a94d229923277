"""The parts of a calendar that stand on a wall clock, whatever zone it is in."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from flowsched.blackouts.public import holidays_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.model import Calendar, WeeklyWindow, YearlyDays

    WallStretch = tuple[datetime, datetime]
    """From one naive point to another, the second not included."""

_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)
_LEAP_DAY = (2, 29)


def stretches_on_the_wall(calendar: Calendar, first: datetime, last: datetime) -> Iterator[WallStretch]:
    """Yield the stretches that touch a span between two naive points, in any order."""
    for start, stop in _all(calendar, first.date(), last.date()):
        if start < last and first < stop:
            yield start, stop


def whole_days(first: date, last: date) -> WallStretch:
    """Return the stretch of some days, both included."""
    return _midnight(first), _midnight(last + _DAY)


def _all(calendar: Calendar, first: date, last: date) -> Iterator[WallStretch]:
    for days in calendar.days:
        yield whole_days(days.first, days.last)
    for span in calendar.spans:
        if not span.start.tzinfo:
            yield span.start, span.end
    for yearly in calendar.yearly:
        for year in range(first.year - 1, last.year + 1):
            yield _in_year(yearly, year)
    for holidays in calendar.holidays:
        for year in range(first.year, last.year + 1):
            for day in holidays_of(holidays, year):
                yield whole_days(day, day)
    for window in calendar.weekly:
        yield from _weeks(window, first, last)


def _in_year(yearly: YearlyDays, year: int) -> WallStretch:
    """Return the days that begin in a year; an empty stretch for a 29 February that is not there."""
    wraps = yearly.last < yearly.first
    start, _ = _day(year, yearly.first)
    _, stop = _day(year + wraps, yearly.last)
    return start, stop


def _day(year: int, day: tuple[int, int]) -> WallStretch:
    """Return a day of a year; where it has no 29 February, the point between the days that it would part."""
    if day == _LEAP_DAY:
        return _midnight(date(year, 2, 28) + _DAY), _midnight(date(year, 3, 1))
    return whole_days(date(year, *day), date(year, *day))


def _weeks(window: WeeklyWindow, first: date, last: date) -> Iterator[WallStretch]:
    """Yield the window of each week, from the week before the first day on."""
    monday = first - timedelta(days=first.weekday()) - _WEEK
    length = _point(window.end_day, window.end) - _point(window.start_day, window.start)
    while monday <= last:
        start = _midnight(monday) + _point(window.start_day, window.start)
        yield start, start + (length if length > timedelta(0) else length + _WEEK)
        monday += _WEEK


def _point(day: int, at: time) -> timedelta:
    """Return how far into the week a point is, on the wall clock."""
    return timedelta(days=day, hours=at.hour, minutes=at.minute)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())
