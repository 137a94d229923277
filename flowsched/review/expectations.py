"""An expectation held against the schedule that it is about."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from flowsched import timeline
from flowsched.errors import Refused

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Expectation, Schedule
    from flowsched.timeline import Stay

MOST_FIRES = 100_000
"""Of one expectation."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A fire time that was expected, or at which a fire goes out, or both."""

    at: datetime
    expected: bool
    """Whether the expectation names it."""
    fires: bool
    until: datetime | None
    """When it goes out after a blackout; None: at its fire time, or not at all."""
    fault: str
    """What is wrong with it, in words; empty where nothing is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an expectation."""

    expectation: Expectation
    moments: tuple[Moment, ...]
    """Ascending."""
    faults: tuple[str, ...]
    """Why it does not hold, in a few words each; empty where it does."""

    @property
    def fires(self) -> list[datetime]:
        """The fire times that go out."""
        return [moment.at for moment in self.moments if moment.fires]

    @property
    def missing(self) -> list[datetime]:
        """Those that were expected and do not."""
        return [moment.at for moment in self.moments if moment.fault and not moment.fires]

    @property
    def unexpected(self) -> list[datetime]:
        """Those that go out, and were not to, or not then."""
        return [moment.at for moment in self.moments if moment.fault and moment.fires]


def verdict(expectation: Expectation, schedule: Schedule) -> Verdict:
    """Hold what is expected of a schedule against its fires, from the same evaluator that fires.

    A fire goes out where no blackout skips it; it is known by its fire time, also where it is deferred. A
    disabled schedule has none. Raises Refused where there are more than MOST_FIRES, and for a calendar that
    fails.
    """
    stays = _stays(expectation, schedule)
    going = {at: stay.until if stay else None for at, stay in stays.items() if not stay or stay.until}
    wanted = {*(expectation.exactly or ()), *expectation.at_least, *expectation.deferred}
    unwanted = _unwanted(expectation, sorted(going))
    moments = []
    for at in sorted(wanted | going.keys()):
        if at not in going:
            fault = _why_missing(stays.get(at))
        else:
            fault = unwanted.get(at) or _why_not_then(expectation, at, going[at])
        moments.append(Moment(at, at in wanted, at in going, going.get(at), fault))
    return Verdict(expectation, tuple(moments), tuple(_faults(expectation, schedule, moments)))


def _stays(expectation: Expectation, schedule: Schedule) -> dict[datetime, Stay | None]:
    """Return what the blackout does with each fire of the time that is looked at."""
    if not schedule.enabled:
        return {}
    times = timeline.fire_times(schedule.timing, expectation.start - timedelta.resolution)
    within = takewhile(lambda at: at < expectation.end, times)
    stays = {at: timeline.stay(schedule, at) for at in islice(within, MOST_FIRES + 1)}
    if len(stays) > MOST_FIRES:
        message = f"{schedule.id} fires more than {MOST_FIRES:,} times between from and until"
        raise Refused(message, "a shorter time")
    return stays


def _unwanted(expectation: Expectation, going: list[datetime]) -> dict[datetime, str]:
    """Return what is wrong with the fire times that must not go out."""
    unwanted = {}
    if expectation.exactly is not None:
        unwanted = {at: "not expected" for at in going if at not in expectation.exactly}
    for span in expectation.never:
        for at in going[bisect_left(going, span.start) : bisect_left(going, span.end)]:
            unwanted[at] = "never expected"
    return unwanted


def _why_missing(stay: Stay | None) -> str:
    return f"missing: skipped, {stay.reason}" if stay else "missing"


def _why_not_then(expectation: Expectation, at: datetime, until: datetime | None) -> str:
    """Say what is wrong with when a fire goes out; nothing where that is well, or nobody asked."""
    if at not in expectation.deferred or expectation.deferred[at] == until:
        return ""
    return "not deferred" if until is None else "deferred to another time"


def _faults(expectation: Expectation, schedule: Schedule, moments: list[Moment]) -> list[str]:
    missing = sum(bool(moment.fault) and not moment.fires for moment in moments)
    unexpected = sum(bool(moment.fault) and moment.fires for moment in moments)
    count = sum(moment.fires for moment in moments)
    faults = []
    if missing:
        faults.append(f"{missing:,} missing")
    if unexpected:
        faults.append(f"{unexpected:,} unexpected")
    if expectation.count not in (None, count):
        faults.append(f"{expectation.count:,} were expected")
    if faults and not schedule.enabled:
        faults.append("it is disabled")
    return faults
