"""Which schedules to move to which minutes, so that a target has no more fires at once than it may bear."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowsched import cron
from flowsched.review.collisions import HORIZON, collisions
from flowsched.review.load import crowded, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from flowsched.model import Limits, Schedule, Timing
    from flowsched.review.load import Crowd

    Minutes = Mapping[datetime, int]

_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Shift:
    """A schedule, and the cron expression with which it would be out of the crowd."""

    schedule: Schedule
    cron: str


@dataclass(frozen=True, slots=True)
class Relief:
    """What can be done about the crowds of all targets."""

    shifts: tuple[Shift, ...]
    """By target, and then in the order in which they were found."""
    left: tuple[Crowd, ...]
    """What stays crowded all the same."""


def relief(
    schedules: Iterable[Schedule], limits: Mapping[str, Limits], *, after: datetime, until: datetime
) -> Relief:
    """Propose other minutes of the same hour for schedules of crowded targets, the nearest that are free.

    Only such schedules are moved as name their minutes one by one, and have no jitter, which moves them
    already. Taken together the shifts add no fire to a minute that is full or gets full by it, and no
    collision within HORIZON. Those are moved first that share their minutes with most others, as everybody's
    minute 0, and of these the ones that crowd most. `after` and `until` are as `load` has them.
    """
    here = {schedule.id: schedule for schedule in schedules if schedule.enabled}
    crowds = crowded(load(here.values(), after=after, until=until), limits)
    shifts: list[Shift] = []
    for crowd in crowds:
        mates = [schedule for schedule in here.values() if schedule.target == crowd.target]
        for shift in _Crowded(mates, crowd.rate_per_minute, after, until).shifts():
            shifts.append(shift)
            here[shift.schedule.id] = moved(shift)
    left = crowded(load(here.values(), after=after, until=until), limits) if shifts else crowds
    return Relief(tuple(shifts), tuple(left))


def moved(shift: Shift) -> Schedule:
    """Return the schedule as it would be."""
    schedule = shift.schedule
    return replace(schedule, timing=replace(schedule.timing, cron=shift.cron))


class _Crowded:
    """One target, as one schedule after the other is moved."""

    def __init__(self, mates: list[Schedule], rate: int, after: datetime, until: datetime) -> None:
        self._mates = {schedule.id: schedule for schedule in mates}
        self._rate = rate
        self._after = after
        self._until = until
        self._known: dict[tuple[Timing, int], Minutes] = {}
        (whole,) = load(mates, after=after, until=until).values()
        self._counts = Counter(whole.minutes)
        self._full = {minute for minute, count in self._counts.items() if count > rate}

    def shifts(self) -> Iterator[Shift]:
        """Yield shifts until no minute is crowded, or nothing more can be moved."""
        for schedule in self._movable():
            if not self._full:
                return
            if self._full.isdisjoint(self._counted(schedule)):
                continue
            shift = next((each for each in _candidates(schedule) if self._fits(each)), None)
            if shift:
                self._apply(shift)
                yield shift

    def _movable(self) -> list[Schedule]:
        """Return what can be moved, in the order in which it is tried."""
        movable = [each for each in self._mates.values() if not each.jitter and _listed_minutes(each)]
        sharing = Counter(_minute_field(each) for each in movable)
        return sorted(
            movable, key=lambda each: (-sharing[_minute_field(each)], -self._crowding(each), each.id)
        )

    def _crowding(self, schedule: Schedule) -> int:
        """Return how many minutes a schedule helps to crowd."""
        return len(self._full.intersection(self._counted(schedule)))

    def _counted(self, schedule: Schedule) -> Minutes:
        """Return the fires of one schedule; those that share timing and blackout share the work."""
        key = (schedule.timing, id(schedule.blackout))
        if key not in self._known:
            found = load([schedule], after=self._after, until=self._until)
            self._known[key] = found[schedule.target].minutes if found else {}
        return self._known[key]

    def _fits(self, shift: Shift) -> bool:
        """Tell whether a shift relieves a full minute, overfills none, and collides with nothing."""
        old, new = self._counted(shift.schedule), self._counted(moved(shift))
        relieves = any(minute in self._full and count > new.get(minute, 0) for minute, count in old.items())
        more = {minute: count - old.get(minute, 0) for minute, count in new.items()}
        fits = all(self._counts[minute] + count <= self._rate for minute, count in more.items() if count > 0)
        return relieves and fits and not self._collides(moved(shift))

    def _collides(self, schedule: Schedule) -> bool:
        others = [
            each for each in self._mates.values() if each.flow == schedule.flow and each.id != schedule.id
        ]
        if not others:
            return False
        until = self._after + HORIZON
        found = collisions([*others, schedule], after=self._after, until=until, of=[schedule.id])
        return bool(found.pairs or found.unlisted)

    def _apply(self, shift: Shift) -> None:
        old, new = self._counted(shift.schedule), self._counted(moved(shift))
        self._counts.subtract(old)
        self._counts.update(new)
        self._full -= {minute for minute in old if self._counts[minute] <= self._rate}
        self._mates[shift.schedule.id] = moved(shift)


def _candidates(schedule: Schedule) -> Iterator[Shift]:
    """Yield a schedule at other minutes of the same hour, the nearest first."""
    _, _, rest = _written_out(schedule).partition(" ")
    listed = _listed_minutes(schedule)
    for distance in range(1, _MINUTES):
        for by in (distance, -distance):
            if listed[0] + by >= 0 and listed[-1] + by < _MINUTES:
                yield Shift(schedule, f"{','.join(str(minute + by) for minute in listed)} {rest}")


def _listed_minutes(schedule: Schedule) -> list[int]:
    """Return the minutes of an expression that names them one by one, ascending; else nothing."""
    minutes = _minute_field(schedule).split(",")
    return sorted({int(each) for each in minutes}) if all(map(str.isdecimal, minutes)) else []


def _minute_field(schedule: Schedule) -> str:
    return _written_out(schedule).partition(" ")[0]


def _written_out(schedule: Schedule) -> str:
    return cron.parse(schedule.timing.cron).written_out
