"""Fires over the hours of the day, counted for a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

HOURS, MINUTES = 24, 60
LEVELS = 8
"""Shades of a picture, beside the one for nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a picture."""

    label: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heat:
    """A picture: rows of the same length, one cell for each hour of a day or minute of an hour."""

    rows: tuple[Row, ...]

    @property
    def most(self) -> int:
        """The highest count of a cell; 0 where there is none."""
        return max((count for row in self.rows for count in row.counts), default=0)

    def level(self, count: int) -> int:
        """Return the shade of a count: 0 for none, up to LEVELS for the most."""
        return -(-count * LEVELS // self.most) if count else 0


def by_hour(minutes: Mapping[datetime, int], zone: ZoneInfo, days: Iterable[date]) -> Heat:
    """Count the fires of each hour of each of these days on the wall clock of a zone.

    An hour that a clock change repeats counts both times; one that it leaves out has none. `minutes` has
    the fires of each UTC minute.
    """
    counts = {day: [0] * HOURS for day in days}
    for minute, count in minutes.items():
        there = minute.astimezone(zone)
        if there.date() in counts:
            counts[there.date()][there.hour] += count
    return Heat(tuple(Row(f"{day:%a %Y-%m-%d}", tuple(row)) for day, row in counts.items()))


def by_minute(minutes: Mapping[datetime, int], zone: ZoneInfo) -> Heat:
    """Return for each minute of the day, on the wall clock of a zone, the fires of the day with the most.

    One row is an hour of the day. That is what a limit goes by: whole days together would not show it.
    """
    most = [[0] * MINUTES for _ in range(HOURS)]
    for minute, count in minutes.items():
        there = minute.astimezone(zone)
        row = most[there.hour]
        row[there.minute] = max(row[there.minute], count)
    return Heat(tuple(Row(f"{hour:02}:", tuple(row)) for hour, row in enumerate(most)))


def busiest(minutes: Mapping[datetime, int], number: int) -> list[tuple[datetime, int]]:
    """Return the minutes with the most fires, the most first and then by time, up to a number of them."""
    return sorted(minutes.items(), key=lambda each: (-each[1], each[0]))[:number]


def days_of(first: date, number: int) -> list[date]:
    """Return that many days in a row, from the first on."""
    return [first + timedelta(days=ahead) for ahead in range(number)]
