"""What becomes of the runs that a former process left unfinished. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched import retry, timeline
from flowsched.admission import Due, admit
from flowsched.model import MANUAL_ORIGINS, NextStep, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from flowsched.admission import Admitted
    from flowsched.model import Run, Schedule


def taken_up(
    runs: Iterable[Run], schedules: Mapping[str, Schedule], now: datetime
) -> list[tuple[Run, NextStep | None]]:
    """Return each run, in the same order, and the step that it takes at once; None: it goes on as returned.

    A claimed run that nobody has sent before its deadline is caught up, or not, like a fire that nobody has
    claimed, by the schedule that has its id now (`schedules` are those about to be in force, by id). One
    that is caught up gets another deadline: each of its flow before it may take its whole time. One that a
    person has claimed is not: it fails.
    """
    ahead: Counter[tuple[str, int]] = Counter()
    taken: list[tuple[Run, NextStep | None]] = []
    for run in runs:
        decision = _decided_anew(run, schedules.get(run.schedule_id), now)
        if decision is None:
            taken.append((run, retry.taken_up(run, now)))
        elif decision.state is RunState.CLAIMED:
            lane = run.target, run.flow
            deadline = now + (1 + ahead[lane]) * max(run.retry.deadline, retry.APART)
            ahead[lane] += 1
            taken.append((replace(run, deadline=deadline), None))
        else:
            taken.append((run, NextStep(RunState.FAILED, f"never sent: {decision.reason}")))
    return taken


def _decided_anew(run: Run, schedule: Schedule | None, now: datetime) -> Admitted | None:
    """Decide about a run's fire; None: it was sent, is in time, or its schedule has no such fire any more."""
    if run.state is not RunState.CLAIMED or now <= run.deadline or schedule is None or not schedule.enabled:
        return None
    if run.origin in MANUAL_ORIGINS:
        return None  # who wanted it then may not want it now, and can say so again
    if (schedule.target, schedule.flow, schedule.task) != (run.target, run.flow, run.task):
        return None
    since = timeline.fire_times(schedule.timing, run.fire_time - timedelta.resolution)
    if run.fire_time > now or next(since, None) != run.fire_time:
        return None
    more = _goes_out_after(run.fire_time, schedule, now)
    (decision,) = admit(schedule, [Due(run.fire_time, run.due_at)], now, more=more)
    return decision


def _goes_out_after(fire_time: datetime, schedule: Schedule, now: datetime) -> bool:
    """Tell whether a later fire has gone out, or is to, by `now`."""
    try:
        out_at = timeline.next_out(schedule, fire_time)
    except Exception:  # noqa: BLE001 - a calendar that fails holds up its schedule, not the start of a daemon
        return False
    return out_at is not None and out_at <= now
