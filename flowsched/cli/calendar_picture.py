"""What `flowsched calendar` shows, in whatever format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowsched.cli.output import clock_words, local
from flowsched.review.clock_changes import clock_changes
from flowsched.review.heat import Heat, busiest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from flowsched.review.clock_changes import ClockChange
    from flowsched.review.load import Crowd, Load
    from flowsched.review.relief import Relief

MOST_BUSIEST = 5
"""Minutes listed of each target."""


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is shown of a stretch of time."""

    start: datetime
    """In UTC, inclusive."""
    end: datetime
    """In UTC, not included."""
    by: str
    """What a cell is: an `hour` of a day, or a `minute` of an hour, of the day with the most."""
    timezone: str
    heat: Heat
    loads: Mapping[str | None, Load]
    crowds: Sequence[Crowd]
    relief: Relief
    nights: Sequence[str]
    """A line about each clock change whose day is marked in the heat map."""

    @property
    def title(self) -> str:
        """Say what is shown."""
        days = f"{local(self.start, self.timezone)} to {local(self.end, self.timezone)} ({self.timezone})"
        what = "Fires an hour" if self.by == "hour" else "Fires a minute, on the day with the most"
        return f"{what}, {days}"


def busiest_rows(picture: Picture) -> list[tuple[datetime, str, str | None, int]]:
    """Return the busiest minutes of each target: when in UTC and on the wall clock, the target, the fires."""
    return [
        (minute, local(minute, picture.timezone), target, count)
        for target, each in picture.loads.items()
        for minute, count in busiest(each.minutes, MOST_BUSIEST)
    ]


def nights(heat: Heat, timezone: str, after: datetime, until: datetime) -> tuple[Heat, list[str]]:
    """Return a heat map of days with a mark at those whose clock is changed, and a line about each of them.

    The changes are those of the zone later than `after`, a whole minute in UTC, and up to `until`.
    """
    changes = clock_changes(timezone, "", after, until)
    marked = {f"{min(_readings(change)):%a %Y-%m-%d}" for change in changes}
    rows = (replace(row, night=row.label in marked) for row in heat.rows)
    return Heat(tuple(rows)), [_night(change) for change in changes]


def _night(change: ClockChange) -> str:
    first, end = sorted(_readings(change))
    what = "is left out" if change.left_out else "is there twice"
    return f"* {first:%a %Y-%m-%d}: {clock_words(change)}, {first:%H:%M} to {end:%H:%M} {what}"


def _readings(change: ClockChange) -> tuple[datetime, datetime]:
    return change.reading_before.replace(tzinfo=None), change.reading_after.replace(tzinfo=None)
