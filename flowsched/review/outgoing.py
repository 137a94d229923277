"""What goes out, and when: fire times as a blackout leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from flowsched import blackouts, cron, timeline
from flowsched.review.footprints import minute_numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flowsched.model import Schedule, Timing

LONGEST_DEFERRED = blackouts.MOST_CLOSED
"""For so long, at most, a fire is deferred; so far back one is looked for that is."""

_FIRST_LOOK = timedelta(hours=1)
_SHARED_TIMINGS = 2_000


class Outgoing(NamedTuple):
    """One fire that is sent, jitter aside."""

    goes_out: datetime
    """When: at its fire time, or at the end of the closed time that holds it."""
    fire_time: datetime


@dataclass(frozen=True, slots=True)
class Stretch:
    """The time that is looked at: later than `at`, and up to `until`, inclusive."""

    at: datetime
    until: datetime
    fire_times: Callable[[Timing], tuple[datetime, ...]]
    """Those of a timing within it, ascending."""

    def outgoing(self, schedule: Schedule) -> tuple[Outgoing, ...]:
        """Return which of the fire times within it go out within it too; none of a disabled schedule."""
        if not schedule.enabled:
            return ()
        times = self.fire_times(schedule.timing)
        if schedule.blackout is None:
            return tuple(Outgoing(time, time) for time in times)
        going = (sent(schedule, time) for time in times)
        return tuple(sorted(one for one in going if one and one.goes_out <= self.until))


def first(schedule: Schedule, at: datetime, until: datetime) -> Outgoing | None:
    """Return what goes out first later than an instant and up to another; None where nothing does."""
    waiting = deferred(schedule, at)
    if waiting:
        return waiting if waiting.goes_out <= until else None
    if not schedule.enabled:
        return None
    goes_out = timeline.next_out(schedule, at)
    if goes_out is None or goes_out > until:
        return None
    before = schedule.blackout and _latest(schedule.timing, goes_out - timedelta.resolution)
    going = sent(schedule, before) if before and before > at else None
    return going if going and going.goes_out == goes_out else Outgoing(goes_out, goes_out)


def stretch(at: datetime, until: datetime) -> Stretch:
    """Return the time from one instant to another; schedules that share a timing share the work."""
    horizon = cron.horizon(at, until)

    @lru_cache(maxsize=_SHARED_TIMINGS)
    def within(timing: Timing) -> tuple[datetime, ...]:
        return tuple(map(horizon.instant, minute_numbers(timeline.fire_blocks(timing, horizon))))

    return Stretch(at, until, within)


def deferred(schedule: Schedule, at: datetime) -> Outgoing | None:
    """Return the fire that an enabled schedule holds back at an instant; None where it holds none."""
    if not schedule.enabled or schedule.blackout is None:
        return None
    timing = schedule.timing
    if blackouts.closure(schedule.blackout, timing.timezone, at, timing.rules) is None:
        return None
    latest = _latest(timing, at)
    going = latest and sent(schedule, latest)
    return going if going and going.goes_out > at else None


def sent(schedule: Schedule, fire_time: datetime) -> Outgoing | None:
    """Return when one of its fires goes out; None: its blackout skips it."""
    stay = timeline.stay(schedule, fire_time)
    if stay is None:
        return Outgoing(fire_time, fire_time)
    return Outgoing(stay.until, fire_time) if stay.until else None


def fire_times_between(timing: Timing, after: datetime, until: datetime) -> tuple[datetime, ...]:
    """Return the fire times strictly after an instant and up to another, inclusive."""
    return tuple(takewhile(lambda time: time <= until, timeline.fire_times(timing, after)))


def _latest(timing: Timing, at: datetime) -> datetime | None:
    """Return the last fire time up to an instant; None where LONGEST_DEFERRED before it has none."""
    back = _FIRST_LOOK
    while True:
        if times := fire_times_between(timing, at - back, at):
            return times[-1]
        if back >= LONGEST_DEFERRED:
            return None
        back = min(4 * back, LONGEST_DEFERRED)
