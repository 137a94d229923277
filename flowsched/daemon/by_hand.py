"""What people want done by hand: the row of a run, what stands in its way, what came of it. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched.control.words import no_run, state_in_words, subject_of
from flowsched.enos import milliseconds, predicted_instance
from flowsched.errors import ControlRefusal
from flowsched.model import NewRun, Outcome, Overlap, RunState, Scope
from flowsched.ops.logs import stamp
from flowsched.retry import APART

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from flowsched.model import Answer, Origin, Pause, Run, Schedule

LONGEST_PAUSE = timedelta(days=366)
"""How far ahead a pause may end by itself: what is to rest longer is to be disabled in the files."""

HAS_NO_INSTANCE = frozenset({RunState.FAILED, RunState.MISSED, RunState.SKIPPED})
"""The states of a run that has not made its instance, and will not."""


def fire_time_of(at: datetime | None, now: datetime) -> datetime:
    """Return the fire time of a run by hand: `at`, or the minute that has begun. Raises ControlRefusal."""
    begun = now.replace(second=0, microsecond=0)
    if at is None:
        return begun
    if at.second or at.microsecond:
        minute = stamp(at.replace(second=0, microsecond=0))
        raise ControlRefusal(f"{stamp(at)} is no whole minute; allowed: whole minutes, such as {minute}")
    if at > begun:
        raise ControlRefusal(
            f"{stamp(at)} is in the future; allowed: any minute up to this one, {stamp(begun)}"
        )
    return at


def row_by_hand(
    schedule: Schedule,
    fire_time: datetime,
    origin: Origin,
    *,
    revision: str,
    daemon: str,
    now: datetime,
) -> NewRun:
    """Return the row of a run that a person wants, as its schedule is now; due at once.

    Its deadline counts from when its flow has room: another call may have been made just before.
    """
    assert schedule.target is not None  # noqa: S101 - a catalog is loaded with settings here
    return NewRun(
        schedule_id=schedule.id,
        fire_time=fire_time,
        origin=origin,
        state=RunState.CLAIMED,
        reason=None,
        target=schedule.target,
        flow=schedule.flow,
        task=schedule.task,
        predicted_instance=predicted_instance(schedule.flow, milliseconds(fire_time)),
        due_at=now,
        retry=schedule.retry,
        deadline=now + APART + schedule.retry.deadline,
        overlap=Overlap.QUEUE,
        overlap_fallback=Overlap.QUEUE,
        watch=schedule.watch,
        revision=revision,
        source=schedule.source,
        daemon=daemon,
        claimed_at=now,
    )


def note_of(by: str, reason: str | None, *, enabled: bool, paused: str | None) -> str:
    """Return what is noted of a run by hand: who wanted it, why, and what its schedule was at the time."""
    said = f"by hand ({by}): {reason}" if reason else f"by hand ({by})"
    return "; ".join(filter(None, (said, None if enabled else "its schedule is disabled", paused)))


def in_the_way(target: str, flow: int, runs: Iterable[Run]) -> Run | None:
    """Return the run of a flow that has made the instance of its minute, or may do so; None: none has.

    `runs` have one fire time, in the order of their numbers.
    """
    return next(
        (
            run
            for run in runs
            if (run.target, run.flow) == (target, flow) and run.state not in HAS_NO_INSTANCE
        ),
        None,
    )


def standing_at(schedule: Schedule, runs: Iterable[Run]) -> Run | None:
    """Return the run that a fire of a schedule has: what is in the way, or else its newest; None: none."""
    runs = tuple(runs)
    found = in_the_way(schedule.target or "", schedule.flow, runs)
    return found or next((run for run in reversed(runs) if run.schedule_id == schedule.id), None)


def why_not_again(run: Run) -> str:
    """Say why a flow is not triggered once more for the minute of a run that is in the way."""
    which = f"run {run.id} ({run.schedule_id}) has flow {run.flow} at {stamp(run.fire_time)} already"
    match run.state:
        case RunState.TRIGGERED:
            made = run.instance or run.predicted_instance
            then = f"it is triggered, instance {made}, and EnOS makes one a minute: choose another minute"
        case RunState.IN_DOUBT:
            then = (
                "it is in doubt; once it is known what became of it,"
                f" `flowsched resolve {run.id} --triggered|--failed --reason TEXT`"
            )
        case RunState.SENDING:
            then = "it is being sent at this moment"
        case _:
            ends = f"`flowsched cancel {run.id} --reason TEXT` ends it"
            then = f"it is {run.state}, and is sent when its time has come; {ends}"
    return f"{which}: {then}"


def why_not_cancelled(run: Run) -> str:
    """Say why a run that is not to be sent any more cannot be cancelled, and what can be done."""
    match run.state:
        case RunState.SENDING:
            then = "its attempt is under way; try again when it has ended"
        case RunState.TRIGGERED:
            then = "it was sent meanwhile; ask again, and EnOS is asked to cancel its instance"
        case RunState.IN_DOUBT:
            then = (
                f"look into EnOS for {run.predicted_instance}, then"
                f" `flowsched resolve {run.id} --triggered|--failed --reason TEXT`"
            )
        case _:
            then = "that is final, and nothing of it goes on"
    return f"run {run.id} is {state_in_words(run.state)}: {then}"


def why_not_resolved(run_id: int, run: Run | None) -> str | None:
    """Say why a run cannot be settled by hand; None: it can."""
    if run is None:
        return no_run(run_id)
    if run.state is RunState.IN_DOUBT:
        return None
    if run.state.final:
        then = "that is final, and there is nothing to settle"
    elif run.state is RunState.SENDING:
        then = "a daemon has it under way, or will find it in doubt at its next start"
    else:
        then = "a daemon carries it on by itself, now or at its next start"
    return f"run {run_id} is {state_in_words(run.state)}, not in doubt: {then}"


def came_of_cancelling(instance: str, answer: Answer | None) -> str:
    """Say what came of asking EnOS to cancel an instance; None: the call was broken off."""
    if answer is None:
        return f"not known whether EnOS took the cancellation of {instance}: the call was broken off"
    match answer.outcome:
        case Outcome.ACCEPTED:
            return f"EnOS took the cancellation of {instance}; whether its flow stops is up to EnOS"
        case Outcome.UNKNOWN | Outcome.NOT_CREATED:
            return f"not known whether EnOS took the cancellation of {instance}: {answer.detail}"
        case _:
            return f"EnOS did not take the cancellation of {instance}: {answer.detail}"


def not_accepted(why: str) -> str:
    """Say that nothing is accepted, and what the schedule files are instead."""
    return f"nothing is accepted: the schedule files {why}"


def why_not_until(until: datetime | None, now: datetime) -> str | None:
    """Say why a pause that begins now cannot end at `until`; None: it can."""
    if until is None or now < until <= now + LONGEST_PAUSE:
        return None
    when = "in the past" if until <= now else "too far ahead"
    return (
        f"a pause cannot end at {stamp(until)}, which is {when}; allowed: up to {LONGEST_PAUSE.days} days"
        f" from now, {stamp(now.replace(microsecond=0) + LONGEST_PAUSE)}, or no end"
    )


def nothing_to_resume(scope: Scope, name: str | None, pauses: Iterable[Pause]) -> str:
    """Say that there is no such pause, and which there are."""
    there = sorted({subject_of(pause.scope, pause.name) for pause in pauses})
    are = f"what is paused: {', '.join(there)}" if there else "nothing is"
    return f"there is no pause of {subject_of(scope, name)}; {are}"


def goes_on(run: Run, scope: Scope, name: str | None) -> bool:
    """Tell whether an open run is of what a pause is about: it was claimed before, and goes on."""
    return {
        Scope.ALL: True,
        Scope.TARGET: run.target == name,
        Scope.SCHEDULE: run.schedule_id == name,
    }[scope]
