"""The fires of a schedule that jitter moves, as `timeline.due_times` takes them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from flowsched import timeline
from flowsched.review import outgoing
from flowsched.review.footprints import minute_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.model import Schedule
    from flowsched.review.footprints import Footprints

MINUTE = 60_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_by_at = attrgetter("at")


class Going(NamedTuple):
    """A fire that jitter moves, in milliseconds since 1970."""

    at: int
    """When it goes out, jitter aside."""
    room: int
    """It is less than this later."""
    seed: bytes
    """`at` in digits, written once for all schedules that share the fire."""


def number(instant: datetime) -> int:
    """Return the last whole millisecond up to an instant, counted from 1970."""
    return (instant - _EPOCH) // _MILLISECOND


def going(schedule: Schedule, begin: datetime, footprints: Footprints) -> list[Going]:
    """Return what goes out of a schedule after `begin`, ascending.

    The horizon of the footprints begins there too, and ends by the jitter after the last that is looked at:
    what comes after it bounds no room.
    """
    return sorted(_going(schedule, begin, footprints))


def within(fires: list[Going], begin: int, end: int) -> list[Going]:
    """Return the fires that go out from one millisecond to another, itself not included; `fires` ascend."""
    return fires[bisect_left(fires, begin, key=_by_at) : bisect_left(fires, end, key=_by_at)]


def _going(schedule: Schedule, begin: datetime, footprints: Footprints) -> Iterator[Going]:
    horizon, footprint = footprints.horizon, footprints.of(schedule)
    first, jitter = number(horizon.first), schedule.jitter // _MILLISECOND
    times = [first + MINUTE * each for each in minute_numbers(timeline.fire_blocks(schedule.timing, horizon))]
    fires = [(at, at) for at in (first + MINUTE * each for each in minute_numbers(footprint.open))]
    fires += [(first + MINUTE * each, number(until)) for each, until in footprint.deferred]
    waiting = outgoing.deferred(schedule, begin)
    if waiting:
        fires.append((number(waiting.fire_time), number(waiting.goes_out)))
    for fire_time, at in fires:
        following = bisect_right(times, fire_time)
        room = min(jitter, times[following] - at) if following < len(times) else jitter
        yield Going(at, room, b"%d" % at)
