"""A set of schedules and a horizon in, ordered fires out. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING

from flowsched import cron
from flowsched.model import Fire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from flowsched.model import Schedule, Timing


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
    for at in cron.parse(timing.cron).fires(cron.zone(timing.timezone), after):
        for schedule in ordered:
            yield at, schedule.id, schedule
