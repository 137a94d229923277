"""All fires of a schedule within a horizon, as its blackout leaves them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched import blackouts, timeline
from flowsched.cron import Block
from flowsched.cron.blocks import DAY, minutes_between, ones
from flowsched.model import Then

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence
    from datetime import datetime

    from flowsched.cron import Horizon
    from flowsched.model import Blackout, Schedule, Timing

    Closed = tuple[datetime, tuple[Block, ...]]
    """When a closed time ends, and its minutes within a horizon."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What fires within a horizon and is not skipped."""

    open: tuple[Block, ...]
    """The fires that go out at their fire time; no two blocks share one."""
    deferred: tuple[tuple[int, datetime], ...] = ()
    """Of the others the number of the minute in the horizon, ascending, and when they go out."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All of them by their fire times, ascending by minutes and days; no two blocks share one."""
        days_of: defaultdict[int, int] = defaultdict(int)
        for number, _ in self.deferred:
            days_of[number % DAY] |= 1 << number // DAY
        deferred = (Block(1 << minute, days) for minute, days in days_of.items())
        return tuple(sorted((*self.open, *deferred)))


def likeness(schedule: Schedule) -> Hashable:
    """Return what schedules have in common that have the same footprint.

    The calendars of a catalog are one record each, which takes less time to tell than to compare.
    """
    blackout = schedule.blackout
    return schedule.timing, blackout and (blackout.then, *map(id, blackout.calendars))


class Footprints:
    """The footprints of schedules within one horizon; what is alike of them is worked out once.

    Calendars are told apart by what they are, not by what they hold, and must live as long as this.
    """

    def __init__(self, horizon: Horizon) -> None:
        self.horizon = horizon
        self._closed: dict[Hashable, tuple[list[Closed], list[Block]]] = {}
        self._known: dict[Hashable, Footprint] = {}

    def of(self, schedule: Schedule) -> Footprint:
        """Return the footprint of a schedule, as if it were enabled."""
        key = likeness(schedule)
        if key not in self._known:
            self._known[key] = self._worked_out(schedule)
        return self._known[key]

    def _worked_out(self, schedule: Schedule) -> Footprint:
        blocks = timeline.fire_blocks(schedule.timing, self.horizon)
        if schedule.blackout is None or not blocks:
            return Footprint(tuple(blocks))
        closed, by_day = self._closed_times(schedule.blackout, schedule.timing)
        left = [Block(minutes & ~shut, days & on) for minutes, days in blocks for shut, on in by_day]
        going = tuple(block for block in left if block.minutes and block.days)
        if schedule.blackout.then is Then.SKIP:
            return Footprint(going)
        return Footprint(going, tuple(self._deferred(schedule, blocks, closed)))

    def _closed_times(self, blackout: Blackout, timing: Timing) -> tuple[list[Closed], list[Block]]:
        """Return the closed times of a blackout, and the same as `_by_day` has them."""
        key = (timing.timezone, timing.rules, *map(id, blackout.calendars))
        if key not in self._closed:
            begin, end = (self.horizon.instant(number) for number in (self.horizon.begin, self.horizon.end))
            stretches = blackouts.closures(blackout, timing.timezone, begin, end, timing.rules)
            closed = [(stop, self._within(start, stop)) for start, stop in stretches]
            self._closed[key] = (closed, self._by_day(closed))
        return self._closed[key]

    def _within(self, start: datetime, stop: datetime) -> tuple[Block, ...]:
        """Return the minutes of the horizon from an instant to another, itself not included."""
        begin, end = map(self.horizon.number, (start, stop))
        return tuple(minutes_between(max(begin, self.horizon.begin), min(end, self.horizon.end)))

    def _by_day(self, closed: list[Closed]) -> list[Block]:
        """Return the minutes of the day that are closed, each with all days of which it is these; 0 too."""
        shut_on: defaultdict[int, int] = defaultdict(int)
        for _, within in closed:
            for minutes, days in within:
                for day in ones(days):
                    shut_on[day] |= minutes
        days_of: defaultdict[int, int] = defaultdict(int)
        for day in range(self.horizon.days):
            days_of[shut_on[day]] |= 1 << day
        return [Block(minutes, days) for minutes, days in days_of.items()]

    def _deferred(
        self, schedule: Schedule, blocks: list[Block], closed: list[Closed]
    ) -> Iterator[tuple[int, datetime]]:
        """Yield the last fire of each closed time, if it is deferred."""
        for stop, within in closed:
            number = _last(shared(blocks, within))
            until = None if number is None else self._goes_out(schedule, number, stop)
            if number is not None and until is not None:
                yield number, until

    def _goes_out(self, schedule: Schedule, number: int, closed_until: datetime) -> datetime | None:
        """Return when the last fire of a closed time within the horizon goes out; None: never."""
        fire_time = self.horizon.instant(number)
        if (
            self.horizon.number(closed_until) <= self.horizon.end
            and closed_until - fire_time <= blackouts.MOST_CLOSED
        ):
            return closed_until
        stay = timeline.stay(schedule, fire_time)  # which knows what comes after the horizon
        return None if stay is None else stay.until


def minute_numbers(blocks: Iterable[Block]) -> list[int]:
    """Return the numbers of all minutes in some blocks, ascending."""
    days = ((day * DAY, block.minutes) for block in blocks for day in ones(block.days))
    return sorted(midnight + minute for midnight, minutes in days for minute in ones(minutes))


def shared(one: Sequence[Block], other: Sequence[Block]) -> Iterator[Block]:
    """Yield the fire times that two footprints have in common, no two blocks with one."""
    for minutes, days in one:
        for some, on in other:
            if minutes & some and days & on:
                yield Block(minutes & some, days & on)


def _last(blocks: Iterable[Block]) -> int | None:
    """Return the number of the last minute of some blocks; None: there is none."""
    return max((_highest(days) * DAY + _highest(minutes) for minutes, days in blocks), default=None)


def _highest(bits: int) -> int:
    return bits.bit_length() - 1
