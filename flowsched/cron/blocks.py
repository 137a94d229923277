"""Fire times a year at a time: which minutes of the day, on which days.

The evaluator finds one fire time after the other, as a daemon needs them. Whoever compares thousands of
schedules over a year needs all of them, and has them here a thousand times sooner, as bits: the clock of a
zone keeps its offset for months, so that the same minutes come on every matching day. The fire times are the
evaluator's, which tests hold for every rule that it has. Here too it is fixed times alone that a change of
the clock moves, and wildcard times that follow it.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from flowsched.cron.fields import LAST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

    from flowsched.cron.fields import Fields

DAY = 24 * 60
"""In minutes."""

_ALL_DAY = (1 << DAY) - 1
_MINUTE = timedelta(minutes=1)
_BEFORE = 4
"""Days that are known of before the first: more than any zone's clock is off UTC, and is ever set by."""
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=31)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC) - timedelta(days=31)
_HORIZONS = 4
_ZONES = 1_024


class Block(NamedTuple):
    """Each of some minutes of the day, in UTC, on each of some days: as bits of whole numbers."""

    minutes: int
    """Bit n is the minute n after 00:00."""
    days: int
    """Bit n is the day n after the first of the horizon."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The minutes that are looked at, counted from 00:00 UTC of a first day."""

    first: datetime
    """Midnight, in UTC."""
    days: int
    """From the first on; none of the minutes is after them."""
    begin: int
    """Not less than 0."""
    end: int
    """Itself not included; not less than `begin`."""

    def number(self, instant: datetime) -> int:
        """Return the number of an instant's minute, or of the next one where it is not a whole minute."""
        return -((self.first - instant) // _MINUTE)

    def instant(self, number: int) -> datetime:
        """Return the instant of a minute."""
        return self.first + number * _MINUTE

    def within(self, starts_at: datetime | None, ends_at: datetime | None) -> Horizon:
        """Return what of it is neither before one instant nor at or after another; None: no such bound."""
        begin = self.begin if starts_at is None else max(self.begin, self.number(starts_at))
        end = self.end if ends_at is None else min(self.end, self.number(ends_at))
        return replace(self, begin=begin, end=max(begin, end))


def horizon(after: datetime, until: datetime) -> Horizon:
    """Return the minutes strictly after one instant and up to another, inclusive; both are aware.

    Nothing is looked at in the first and the last month of the calendar.
    """
    after, until = (min(max(at.astimezone(UTC), _EARLIEST), _LATEST) for at in (after, until))
    first = after.replace(hour=0, minute=0, second=0, microsecond=0)
    begin, end = (((at - first) // _MINUTE) + 1 for at in (after, max(after, until)))
    return Horizon(first, -(-end // DAY), begin, end)


def blocks(fields: Fields, zone: ZoneInfo, horizon: Horizon) -> list[Block]:
    """Return the fire times of an expression within a horizon; no two blocks share one.

    For instants since 1973, when the last zone came to be whole minutes off UTC.
    """
    dates = _dates(fields, _calendar(horizon.first, horizon.days))
    times = _times(fields)
    found: list[Block] = []
    for earlier, stretch in pairwise(_stretches(zone, horizon.first, horizon.days)):
        begin, end = max(stretch.begin, horizon.begin), min(stretch.end, horizon.end)
        gap = 0 if fields.wildcard_time else stretch.offset - earlier.offset
        if gap < 0:
            begin = max(begin, stretch.begin - gap)  # what is shown again has fired
        elif begin == stretch.begin and _shown(times, dates, earlier.offset, begin, begin + gap):
            found += minutes_between(begin, min(begin + 1, end))
            begin += 1
        found += _shown(times, dates, stretch.offset, begin, end)
    return found


def minutes_between(begin: int, end: int) -> Iterator[Block]:
    """Yield the minutes from one number to another, itself not included, as at most three blocks."""
    first, last = -(-begin // DAY), end // DAY
    if begin >= end:
        return
    if first > last:
        yield Block(_bits(begin % DAY, end % DAY), 1 << last)
        return
    if begin % DAY:
        yield Block(_bits(begin % DAY, DAY), 1 << (first - 1))
    if first < last:
        yield Block(_ALL_DAY, _bits(first, last))
    if end % DAY:
        yield Block(_bits(0, end % DAY), 1 << last)


def union(parts: Iterable[int]) -> int:
    """Return the bits that are set in any of some numbers."""
    whole = 0
    for part in parts:
        whole |= part
    return whole


def ones(bits: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, upwards."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


class _Stretch(NamedTuple):
    """The minutes through which a zone keeps its offset from UTC."""

    begin: int
    end: int
    offset: int
    """In minutes."""


class _Calendar(NamedTuple):
    """Which days are which, as bits; bit 0 is the day _BEFORE days before the first."""

    months: dict[int, int]
    days: dict[int, int]
    """By day of the month."""
    last: int
    """The last day of each month."""
    weekdays: dict[int, int]
    """Sunday is 0."""
    nths: dict[tuple[int, int], int]
    """By weekday, and which such day of its month it is, counted from 1 or LAST."""


def _shown(times: int, dates: int, offset: int, begin: int, end: int) -> list[Block]:
    """Return when a clock `offset` minutes ahead of UTC shows one of the times on one of the dates."""
    days_ahead, ahead = divmod(offset, DAY)
    today = dates >> (_BEFORE + days_ahead)
    shown = ((times >> ahead, today), ((times << (DAY - ahead)) & _ALL_DAY, today >> 1))
    return [
        Block(minutes & some, days & on)
        for some, on in minutes_between(begin, end)
        for minutes, days in shown
        if minutes & some and days & on
    ]


@lru_cache(maxsize=_ZONES)
def _stretches(zone: ZoneInfo, first: datetime, days: int) -> list[_Stretch]:
    """Return the stretches of a zone, from days before the first on; the first of them comes twice.

    No zone has ever changed its offset twice within two days since 1970.
    """
    begin, end = -_BEFORE * DAY // 2, days * DAY

    def offset(number: int) -> int:
        at = first + number * _MINUTE
        return (at.astimezone(zone).replace(tzinfo=UTC) - at) // _MINUTE

    changes = [begin, begin]
    for low, high in pairwise(range(begin, end + 1, DAY)):
        old = offset(low)
        if offset(high) != old:
            changes.append(low + bisect(range(low, high), x=False, key=lambda number: offset(number) != old))
    return [_Stretch(at, until, offset(at)) for at, until in pairwise([*changes, end])]


def _times(fields: Fields) -> int:
    minutes = union(1 << minute for minute in fields.minute.values)
    return union(minutes << 60 * hour for hour in fields.hour.values)


def _dates(fields: Fields, calendar: _Calendar) -> int:
    days = union(calendar.days[day] for day in fields.day.values)
    if fields.day.nths:
        days |= calendar.last
    weekdays = union(calendar.weekdays[weekday] for weekday in fields.weekday.values)
    weekdays |= union(calendar.nths[nth.weekday or 0, nth.number] for nth in fields.weekday.nths)
    months = union(calendar.months[month] for month in fields.month.values)
    return months & (days | weekdays if fields.either_day else days & weekdays)


@lru_cache(maxsize=_HORIZONS)
def _calendar(first: datetime, count: int) -> _Calendar:
    calendar = _Calendar(
        dict.fromkeys(range(1, 13), 0),
        dict.fromkeys(range(1, 32), 0),
        0,
        dict.fromkeys(range(7), 0),
        {(weekday, number): 0 for weekday in range(7) for number in (LAST, 1, 2, 3, 4, 5)},
    )
    last = 0
    for number in range(count + 2 * _BEFORE):
        day, bit = first + timedelta(days=number - _BEFORE), 1 << number
        weekday = day.isoweekday() % 7
        calendar.months[day.month] |= bit
        calendar.days[day.day] |= bit
        calendar.weekdays[weekday] |= bit
        calendar.nths[weekday, (day.day + 6) // 7] |= bit
        if (day + timedelta(days=1)).month != day.month:
            last |= bit
        if (day + timedelta(days=7)).month != day.month:
            calendar.nths[weekday, LAST] |= bit
    return calendar._replace(last=last)


def _bits(first: int, end: int) -> int:
    return (1 << end) - (1 << first)
