"""What the clock changes of a zone do to the fires of a schedule."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from datetime import UTC, timedelta, timezone
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING

from flowsched import cron, timeline
from flowsched.cron import lint
from flowsched.cron.blocks import DAY

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from flowsched.model import Timing

AHEAD = timedelta(days=731)
"""For how long clock changes are looked for: two years, a leap day included."""

_STEP = timedelta(hours=6)
"""No zone changes its clock, and changes it back, within so little time."""
_MINUTE = timedelta(minutes=1)
_LISTED = 4


@dataclass(frozen=True, slots=True)
class ClockChange:
    """An instant at which the clock of a zone is set forward or back."""

    at: datetime
    """The first instant of the new offset, in UTC."""
    before: timedelta
    """The offset from UTC until then."""
    after: timedelta
    """The offset from UTC from then on."""

    @property
    def set_by(self) -> timedelta:
        """How far the clock is set forward; back where it is less than nothing."""
        return self.after - self.before

    @property
    def left_out(self) -> bool:
        """Whether the wall clock leaves out the times between its two readings; else it repeats them."""
        return self.after > self.before

    @property
    def reading_before(self) -> datetime:
        """What the clock would show at that instant had it not been changed; in its old offset."""
        return self.at.astimezone(timezone(self.before))

    @property
    def reading_after(self) -> datetime:
        """What it shows instead; in its new offset."""
        return self.at.astimezone(timezone(self.after))


@dataclass(frozen=True, slots=True)
class Touched:
    """The times of a schedule that a clock change leaves out or repeats."""

    change: ClockChange
    walls: tuple[datetime, ...]
    """What the clock would show at them: naive, ascending, at least one."""
    fires: tuple[datetime, ...]
    """What fires in their place, in UTC, ascending; none where they are left out for good."""

    def words(self) -> str:
        """Say what happens, as `02:30 does not exist: fires at 03:00`."""
        one = len(self.walls) == 1
        times = _times([f"{wall:%H:%M}" for wall in self.walls])
        if not self.change.left_out:
            what = "comes twice" if one else "come twice"
            times_fired = "fires both times" if len(self.fires) > len(self.walls) else "fires the first time"
            return f"{times} {what}: {times_fired}"
        what = "does not exist" if one else "do not exist"
        if not self.fires:
            return f"{times} {what}: no fire"
        once = "" if one else "once, "
        return f"{times} {what}: fires {once}at {self.change.reading_after:%H:%M}"


@lru_cache(maxsize=512)
def clock_changes(name: str, rules: str, after: datetime, until: datetime) -> tuple[ClockChange, ...]:
    """Return the changes of a zone's offset from UTC, later than `after` and up to `until`, ascending.

    Both are aware, and `after` a whole minute. Name and rules are those of a timing.
    """
    zone = cron.zone(name, rules)
    found = []
    at, offset = after, after.astimezone(zone).utcoffset()
    while at < until:
        following = at + _STEP
        new = following.astimezone(zone).utcoffset()
        if new != offset and offset is not None and new is not None:
            moment = _first_changed(at, following, zone)
            if moment <= until:
                found.append(ClockChange(moment.astimezone(UTC), offset, new))
        at, offset = following, new
    return tuple(found)


@lru_cache(maxsize=10_000)
def times_of_day(expression: str) -> tuple[int, ...]:
    """Return the minutes of the day at which an expression fires, on any of its days, ascending."""
    return tuple(lint.times_of_day(expression))


def touched(timing: Timing, *, after: datetime, until: datetime) -> list[Touched]:
    """Return what the clock changes in (after, until] do to a timing, those that do nothing to it left out.

    Only such times count as its dates let fire.
    """
    minute = after.replace(second=0, microsecond=0)
    changes = clock_changes(timing.timezone, timing.rules, minute, until)
    every = (_touched(timing, change) for change in changes)
    return [each for each in every if each]


def disturbed(timing: Timing, *, after: datetime, until: datetime) -> list[Touched]:
    """Return the same, those left out after which the fires go on as the time does."""
    minute = after.replace(second=0, microsecond=0)
    changes = clock_changes(timing.timezone, timing.rules, minute, until)
    disturbing = {by for by in {each.set_by for each in changes} if not _goes_on(timing.cron, by)}
    every = (_touched(timing, change) for change in changes if change.set_by in disturbing)
    return [each for each in every if each]


def _touched(timing: Timing, change: ClockChange) -> Touched | None:
    walls = _walls(timing, change)
    if not walls or not _is_in_force(timing, change):
        return None
    if change.left_out:
        return Touched(change, walls, () if cron.parse(timing.cron).follows_clock else (change.at,))
    length = change.before - change.after
    fires = _between(timing, change.at - length, change.at + length)
    return Touched(change, walls, fires) if fires else None


def _walls(timing: Timing, change: ClockChange) -> tuple[datetime, ...]:
    """Return the times of the expression that the wall clock leaves out, or shows twice."""
    first, end = sorted((change.at + change.before, change.at + change.after))
    if not _has_time_between(timing.cron, first, end):
        return ()
    matching = cron.parse(timing.cron).fires(cron.zone("UTC"), first - _MINUTE)
    return tuple(wall.replace(tzinfo=None) for wall in takewhile(lambda wall: wall < end, matching))


def _goes_on(expression: str, set_by: timedelta) -> bool:
    return cron.parse(expression).follows_clock and lint.goes_on(expression, set_by)


def _has_time_between(expression: str, first: datetime, end: datetime) -> bool:
    """Tell whether any time of the day of an expression may lie between two readings; few do."""
    begin, length = 60 * first.hour + first.minute, -((first - end) // _MINUTE)
    return any((time - begin) % DAY < length for time in times_of_day(expression))


def _is_in_force(timing: Timing, change: ClockChange) -> bool:
    """Tell whether the dates of a timing let it fire at the instant of a change, or just before."""
    begun = timing.starts_at is None or timing.starts_at <= change.at
    return begun and (timing.ends_at is None or change.at < timing.ends_at or not change.left_out)


def _between(timing: Timing, first: datetime, end: datetime) -> tuple[datetime, ...]:
    fires = timeline.fire_times(timing, first - timedelta.resolution)
    return tuple(takewhile(lambda at: at < end, fires))


def _first_changed(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """Return the first whole minute after `low` at which the zone's offset is another."""
    old = low.astimezone(zone).utcoffset()

    def changed(minutes: int) -> bool:
        return (low + minutes * _MINUTE).astimezone(zone).utcoffset() != old

    return low + bisect(range((high - low) // _MINUTE), x=False, key=changed) * _MINUTE


def _times(texts: list[str]) -> str:
    """Return times in words, the middle left out where they are many."""
    if len(texts) > _LISTED:
        return f"{len(texts)} times from {texts[0]} to {texts[-1]}"
    *head, tail = texts
    return f"{', '.join(head)} and {tail}" if head else tail
