"""Fires over the hours of the day, counted for a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date
    from zoneinfo import ZoneInfo

HOURS, MINUTES = 24, 60
LEFT_OUT = "-"
"""What stands in a cell that the clock leaves out."""
LEVELS = 8
"""Shades of a picture, beside the one for nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a picture."""

    label: str
    counts: tuple[int | None, ...]
    """None where the clock leaves a cell out altogether."""
    night: bool = False
    """Whether the clock is changed in this row."""

    @property
    def shown(self) -> str:
        """The label, with a mark at a row in which the clock is changed."""
        return f"{self.label}*" if self.night else self.label


@dataclass(frozen=True, slots=True)
class Heat:
    """A picture: rows of the same length, one cell for each hour of a day or minute of an hour."""

    rows: tuple[Row, ...]

    @property
    def most(self) -> int:
        """The highest count of a cell; 0 where there is none."""
        return max((count or 0 for row in self.rows for count in row.counts), default=0)

    def level(self, count: int | None) -> int:
        """Return the shade of a count: 0 for none, up to LEVELS for the most."""
        return -(-count * LEVELS // self.most) if count else 0


def by_hour(minutes: Mapping[datetime, int], zone: ZoneInfo, days: Iterable[date]) -> Heat:
    """Count the fires of each hour of each of these days on the wall clock of a zone.

    An hour that a clock change repeats counts both times; one that it leaves out is None. `minutes` has the
    fires of each UTC minute.
    """
    counts: dict[date, list[int]] = {day: [0] * HOURS for day in days}
    for minute, count in minutes.items():
        there = minute.astimezone(zone)
        if there.date() in counts:
            counts[there.date()][there.hour] += count
    return Heat(
        tuple(
            Row(
                f"{day:%a %Y-%m-%d}",
                tuple(
                    count if count or _is_shown(day, hour, zone) else None for hour, count in enumerate(row)
                ),
            )
            for day, row in counts.items()
        )
    )


def _is_shown(day: date, hour: int, zone: ZoneInfo) -> bool:
    """Tell whether a clock shows the beginning or the end of an hour of a day; no gap lies within one."""
    walls = (datetime.combine(day, time(hour, minute)) for minute in (0, 59))
    return any(
        wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall
        for wall in walls
    )


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
