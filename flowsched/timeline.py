"""A set of schedules and a horizon in, ordered fires out. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import takewhile
from typing import TYPE_CHECKING

from flowsched import blackouts, cron
from flowsched.errors import CronError
from flowsched.model import Fire, Then

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowsched.cron import Block, Horizon
    from flowsched.model import Blackout, Schedule, Timing

MOST_CLOSURES = 1_000
"""So many closed times in a row are looked at for a fire that goes out."""
_LOOKS = 10
"""That are taken at one closed time, each as far as its end is looked for."""

_A_YEAR = timedelta(days=366)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def fire_times(timing: Timing, after: datetime) -> Iterator[datetime]:
    """Yield the fire times strictly after `after`, ascending, in UTC; nothing else makes them of a timing.

    None is before `starts_at`, and none at or after `ends_at`. `after` is aware, in any zone.
    """
    starts_at, ends_at = timing.starts_at, timing.ends_at
    if starts_at is not None and after < starts_at:
        after = starts_at - timedelta.resolution
    times = cron.parse(timing.cron).fires(cron.zone(timing.timezone, timing.rules), after)
    return times if ends_at is None else takewhile(lambda at: at < ends_at, times)


def fire_blocks(timing: Timing, horizon: Horizon) -> list[Block]:
    """Return all fire times within a horizon, as `fire_times`, in blocks of which no two share one."""
    within = horizon.within(timing.starts_at, timing.ends_at)
    return cron.parse(timing.cron).blocks(cron.zone(timing.timezone, timing.rules), within)


def is_readable(timing: Timing) -> bool:
    """Tell whether this machine knows the zone, and this version the expression.

    What the ledger holds may be older than either.
    """
    try:
        cron.zone(timing.timezone)
        cron.parse(timing.cron)
    except CronError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Stay:
    """What a blackout does with a fire."""

    calendar: str
    """The name of the calendar that is closed at the fire time."""
    until: datetime | None
    """When the fire goes out; None: it is skipped."""
    reason: str
    """In words, as the ledger has it."""


def stay(schedule: Schedule, fire_time: datetime) -> Stay | None:
    """Return what the blackout of a schedule does with one of its fires; None: nothing, it is open then.

    Of the fires inside one closed time the last is deferred to its end, if any is; those before it are
    skipped.
    """
    if schedule.blackout is None:
        return None
    timing = schedule.timing
    closed = blackouts.closure(schedule.blackout, timing.timezone, fire_time, timing.rules)
    if closed is None:
        return None
    reason = f"blackout: {closed.calendar}"
    if schedule.blackout.then is Then.SKIP:
        return Stay(closed.calendar, None, reason)
    if closed.until is None:
        return Stay(closed.calendar, None, f"{reason} has no end in sight")
    following = next(fire_times(timing, fire_time), None)
    if following is not None and following < closed.until:
        return Stay(closed.calendar, None, f"{reason}, and a later fire goes out at its end instead")
    return Stay(closed.calendar, closed.until, reason)


def next_out(schedule: Schedule, after: datetime) -> datetime | None:
    """Return when the first fire goes out whose fire time is after `after`; None: none does.

    That is its fire time, or the end of the closed time that it is deferred to. None also where a blackout
    leaves out all of the next MOST_CLOSURES closed times, or is closed for more than ten years.
    """
    timing, blackout = schedule.timing, schedule.blackout
    for _ in range(MOST_CLOSURES):
        fire_time = next(fire_times(timing, after), None)
        if fire_time is None or blackout is None:
            return fire_time
        opens = _opens(blackout, timing, fire_time)
        if opens is None or opens == fire_time:
            return opens
        if blackout.then is Then.DEFER:
            # The last one inside is deferred, if it sees the end.
            since = max(fire_time, opens - blackouts.MOST_CLOSED) - timedelta.resolution
            inside = next(fire_times(timing, since), None)
            if inside is not None and inside < opens:
                return opens
        after = opens - timedelta.resolution
    return None


def work_out_blackouts(schedules: Iterable[Schedule], now: datetime) -> None:
    """Work out when the blackouts of enabled schedules are closed this year and next, which may take long.

    What is asked of them later is known then. What fails is left for who asks, and is told of it.
    """
    enabled = (each for each in schedules if each.enabled)
    different = {
        (id(each.blackout), each.timing.timezone, each.timing.rules): (each.blackout, each.timing)
        for each in enabled
    }
    for blackout, timing in different.values():
        if blackout is not None:
            with suppress(Exception):
                blackouts.closures(blackout, timing.timezone, now, now + _A_YEAR, timing.rules)


def _opens(blackout: Blackout, timing: Timing, at: datetime) -> datetime | None:
    """Return the first instant from `at` on at which it is open; None where that is out of sight."""
    for _ in range(_LOOKS):
        closed = blackouts.closure(blackout, timing.timezone, at, timing.rules)
        if closed is None:
            return at
        if closed.until is not None:
            return closed.until
        at += blackouts.MOST_CLOSED
    return None


def due_time(schedule: Schedule, fire_time: datetime, following: datetime | None) -> datetime:
    """Return when a fire is meant to be sent: its fire time, or whole milliseconds of jitter after it.

    Always the same for one schedule id, fire time and `following`, the schedule's next fire time (None: there
    is none). Before `following`, and less than the jitter after the fire time; without jitter the fire time.
    """
    room = schedule.jitter if following is None else min(schedule.jitter, following - fire_time)
    at = (fire_time - _EPOCH) // _MILLISECOND
    (due,) = due_times(schedule.id, ((at, room // _MILLISECOND, b"%d" % at),))
    return fire_time + (due - at) * _MILLISECOND


def due_times(schedule_id: str, fires: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Return when each of some fires is due, as `due_time`, in milliseconds since 1970.

    Of each fire: when it goes out, jitter aside; how much room jitter has; the first of these in digits.
    """
    start, read = f"{schedule_id} ".encode(), int.from_bytes
    # A share of drawn / 2**64, in whole numbers: as a float the largest would be 1, and all of the room.
    return [at + (room * read(sha256(start + seed).digest()[:8]) >> 64) for at, room, seed in fires]


def fires(schedules: Iterable[Schedule], *, after: datetime, until: datetime | None = None) -> Iterator[Fire]:
    """Yield the fires of the enabled schedules, by time and then by id.

    Strictly after `after` and up to `until`, inclusive; None: for as long as there are any, so that
    the caller takes as many as it wants.
    """
    by_timing: defaultdict[Timing, list[Schedule]] = defaultdict(list)
    for schedule in schedules:
        if schedule.enabled:
            by_timing[schedule.timing].append(schedule)
    streams = [_stream(timing, sharers, after) for timing, sharers in by_timing.items()]
    for at, _, schedule in heapq.merge(*streams):
        if until is not None and at > until:
            return
        yield Fire(schedule, at)


def _stream(
    timing: Timing, sharers: list[Schedule], after: datetime
) -> Iterator[tuple[datetime, str, Schedule]]:
    ordered = sorted(sharers, key=lambda schedule: schedule.id)
    for at in fire_times(timing, after):
        for schedule in ordered:
            yield at, schedule.id, schedule
