"""What becomes of the fire times that are due: started, or missed with a reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched.durations import format_duration
from flowsched.model import CatchUp, Origin, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flowsched.model import Schedule

ON_TIME = timedelta(seconds=60)
"""A fire admitted no later than this after its fire time is an ordinary one: no more than the shortest
distance between two fires, and more than a busy loop or a quick restart takes."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The decision about one fire time: `claimed`, to be sent, or `missed` with its reason."""

    fire_time: datetime
    origin: Origin
    state: RunState
    reason: str | None


def admit(
    schedule: Schedule, due: Sequence[datetime], now: datetime, *, more: bool = False
) -> list[Admitted]:
    """Decide about every fire time in `due`: those after the cursor and not after `now`, ascending.

    `more` says that others follow which are due as well, so that none of these is the latest. What comes
    out is what went in: one decision a fire time, in the same order.
    """
    latest = None if more or not due else due[-1]
    return [_decide(schedule, fire_time, now, latest=fire_time == latest) for fire_time in due]


def _decide(schedule: Schedule, fire_time: datetime, now: datetime, *, latest: bool) -> Admitted:
    late = now - fire_time
    if late <= ON_TIME:
        return Admitted(fire_time, Origin.SCHEDULE, RunState.CLAIMED, None)
    lateness = f"{format_duration(late)} late"
    if schedule.catch_up is CatchUp.NONE:
        return _missed(fire_time, f"{lateness}, and catch_up is none")
    if late > schedule.catch_up_window:
        window = format_duration(schedule.catch_up_window)
        return _missed(fire_time, f"{lateness}, outside the catch_up_window of {window}")
    if schedule.catch_up is CatchUp.LATEST and not latest:
        return _missed(fire_time, f"{lateness}, and catch_up: latest starts a later fire instead")
    return Admitted(fire_time, Origin.CATCH_UP, RunState.CLAIMED, None)


def _missed(fire_time: datetime, reason: str) -> Admitted:
    return Admitted(fire_time, Origin.SCHEDULE, RunState.MISSED, reason)
