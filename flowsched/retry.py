"""What a run does after an attempt or a look at its instance, and when: pure, by what the answer means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from flowsched.model import Answer, NextStep, Outcome, RetryPolicy, Run, RunState, Seen, Sighting

SURELY_NOT_PROCESSED = frozenset({Outcome.NOT_SENT, Outcome.REFUSED_FOR_NOW, Outcome.REFUSED_FOR_GOOD})
"""After these the same call may be made at once: EnOS has nothing of it."""

APART = timedelta(seconds=60)
"""Two calls that may both be processed are this far apart for one flow: EnOS refuses "repeatedly in 1
minute", and whose minute it means is not documented (enos-api sections 5 and 8)."""

ABSENCES = 2
"""So many looks must show that there is no instance, for one may lag behind its creation (section 8)."""

FIRST_LOOK = timedelta(seconds=3)
LONGEST_PAUSE = timedelta(minutes=1)
SLOW_PAUSE = timedelta(minutes=10)
"""Between two looks once the deadline has passed and nothing can be sent any more."""

LOOKED_FOR = timedelta(days=1)
"""After its deadline a run in doubt is looked at for so long."""

AGAIN_BY_HAND = "again by hand"
"""Why a run waits that had failed, and that a person has claimed again: until it is sent anew."""

MADE_BY_ANOTHER = "collision: EnOS has "
"""How the reason begins of a run that has failed since its instance is there, and is somebody else's."""

_STILL = "still in doubt at its deadline"


def next_step(answer: Answer, run: Run, *, now: datetime, draw: float) -> NextStep:
    """Return what `run` does after `answer` to its attempt number `run.attempts`.

    `draw`, 0 inclusive to 1 exclusive, is the chance in the backoff. Only a call that was surely not
    processed is repeated without a look; any other leaves the run in doubt.
    """
    match answer.outcome:
        case Outcome.ACCEPTED if answer.instance is not None:
            return NextStep(RunState.TRIGGERED, None)
        case Outcome.REFUSED_FOR_GOOD:
            return NextStep(RunState.FAILED, answer.detail)
        case Outcome.UNKNOWN | Outcome.NOT_CREATED | Outcome.ACCEPTED:
            return NextStep(RunState.IN_DOUBT, answer.detail)
        case Outcome.NOT_SENT | Outcome.REFUSED_FOR_NOW:
            return _again(answer, run, now, draw)


def _again(answer: Answer, run: Run, now: datetime, draw: float) -> NextStep:
    if run.attempts >= run.retry.max_attempts:
        return NextStep(RunState.FAILED, f"gave up after {_attempts(run.attempts)}: {answer.detail}")
    at = now + max(backoff(run.retry, run.attempts, draw), answer.retry_after or timedelta(0))
    if at > run.deadline:
        return NextStep(
            RunState.FAILED,
            f"gave up after {_attempts(run.attempts)}, "
            f"as the next would begin after the deadline: {answer.detail}",
        )
    return NextStep(RunState.WAITING, answer.detail, at)


def backoff(policy: RetryPolicy, attempts: int, draw: float) -> timedelta:
    """Return the wait after `attempts` attempts: full jitter below an exponentially growing bound.

    The bound is `min(max_backoff, initial_backoff * multiplier ** (attempts - 1))`, the wait `draw` of it.
    """
    try:
        bound = policy.initial_backoff * policy.multiplier ** (attempts - 1)
    except OverflowError:
        bound = policy.max_backoff
    return min(policy.max_backoff, bound) * draw


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is known about a run in doubt, besides its row."""

    outcomes: tuple[Outcome | None, ...]
    """Of its attempts, in order; None: the process ended before it was recorded."""
    looks: int = 0
    absences: int = 0
    """How many of the looks showed that there is no instance."""
    crowded: bool = False
    """Whether the flow was called for another run shortly before: that alone may be why EnOS made none."""

    @property
    def may_have_made_it(self) -> bool:
        """Whether an attempt of the run itself can have made the instance."""
        return any(outcome in (None, Outcome.UNKNOWN, Outcome.ACCEPTED) for outcome in self.outcomes)

    @property
    def was_accepted(self) -> bool:
        """Whether EnOS took the latest attempt, and named an instance of another flow.

        Either the answer was another call's, or ids are not what they seem to be: then no look would find
        the instance, and to send the call again would make a second one.
        """
        return self.outcomes[-1:] == (Outcome.ACCEPTED,)

    def after(self, sighting: Sighting) -> Doubt:
        """Return what is known after one more look."""
        absences = self.absences + (sighting.seen is Seen.ABSENT)
        return replace(self, looks=self.looks + 1, absences=absences)


def judged(run: Run, doubt: Doubt, sighting: Sighting, *, age: timedelta, now: datetime) -> NextStep | None:
    """Return what the latest look has shown of a run in doubt; None: nothing yet, look again.

    `age` is the time since the last attempt may have been processed. A step to `sending` means: the
    instance is clearly absent, send the same call again (the recipe of enos-api section 8).
    """
    match sighting.seen:
        case Seen.FOUND:
            return _found(run, doubt, sighting)
        case Seen.ABSENT if not doubt.was_accepted:
            return _absent(run, doubt, sighting, age, now)
        case _:
            return None


def _found(run: Run, doubt: Doubt, sighting: Sighting) -> NextStep:
    if doubt.may_have_made_it:
        return NextStep(RunState.TRIGGERED, f"found by a look: {sighting.detail}; before: {run.reason}")
    return NextStep(
        RunState.FAILED,
        f"{MADE_BY_ANOTHER}{run.predicted_instance} already, and no attempt of this run can have made it:"
        " somebody else triggered the flow for that minute",
    )


def _absent(run: Run, doubt: Doubt, sighting: Sighting, age: timedelta, now: datetime) -> NextStep | None:
    refusals = doubt.outcomes.count(Outcome.NOT_CREATED)
    none = f"EnOS has no instance {run.predicted_instance}"
    may_pass_later = doubt.may_have_made_it or (doubt.crowded and refusals == 1)
    if refusals and not may_pass_later:
        return NextStep(RunState.FAILED, f"refused for good: {run.reason}; {none}: check flow and task")
    if doubt.absences < ABSENCES or age < APART:
        return None
    if refusals > 1:
        return NextStep(
            RunState.FAILED, f"refused for good, twice: {run.reason}; {none}: check flow and task"
        )
    if run.attempts >= run.retry.max_attempts:
        return NextStep(RunState.FAILED, f"gave up after {_attempts(run.attempts)}; {none}")
    if now > run.deadline:
        return NextStep(RunState.FAILED, f"the deadline passed, and {none}: it did not run")
    return NextStep(RunState.SENDING, f"sent again, as {sighting.detail}")


def wants_looks(doubt: Doubt, age: timedelta) -> bool:
    """Tell whether it is too early to say that nothing is known: an absence may yet come to count."""
    return doubt.looks < ABSENCES or (doubt.absences >= ABSENCES and age < APART)


def look_after(run: Run, doubt: Doubt, *, age: timedelta, now: datetime, draw: float) -> timedelta:
    """Return how long to wait before the next look at the instance of a run in doubt.

    Two looks come within ten seconds, further ones at growing intervals; where only time is wanting
    until the absence counts, the next is then. After the deadline looks are rare.
    """
    if doubt.absences >= ABSENCES and age < APART:
        return APART - age
    # From the third on drawn: many runs come into doubt at once when a gateway goes down.
    chance = 0.5 + draw / 2 if doubt.looks >= ABSENCES else 1.0
    pause = min(FIRST_LOOK * 2 ** min(doubt.looks, 10), LONGEST_PAUSE) * chance
    return pause if now <= run.deadline or doubt.looks < ABSENCES else SLOW_PAUSE * (0.5 + draw)


def still_in_doubt(run: Run, now: datetime) -> NextStep | None:
    """Return what is recorded of a run that is in doubt when its deadline has passed; None: nothing.

    It is recorded, and so told, once: the reason is the mark of that, and nothing but a new attempt takes it
    away. None before the deadline, and where it has been told. Whatever a look shows later settles the run.
    """
    if now <= run.deadline or is_left_in_doubt(run):
        return None
    return NextStep(
        RunState.IN_DOUBT,
        f"{_STILL}, and not sent again: look into EnOS for {run.predicted_instance},"
        f" then `flowsched resolve {run.id} --triggered|--failed --reason TEXT`; {run.reason or ''}",
    )


def is_left_in_doubt(run: Run) -> bool:
    """Tell whether a run is in doubt, and was told to be so at its deadline (`still_in_doubt`)."""
    return run.state is RunState.IN_DOUBT and (run.reason or "").startswith(_STILL)


def is_unsent(run: Run) -> bool:
    """Tell whether a run has not been sent since it was claimed, or was claimed again by hand."""
    return not run.attempts or (run.state is RunState.WAITING and run.reason == AGAIN_BY_HAND)


def withheld(run: Run, *, now: datetime, draining: bool) -> tuple[Answer, NextStep] | None:
    """Return what came of an attempt whose start is recorded, but which must not be sent any more.

    To record it may have taken the ledger long: past the deadline, which ends the run, or into the drain,
    after which the run goes on, however many attempts it has left. None: send it.
    """
    if now > run.deadline:
        detail = "not sent: the deadline passed while the ledger recorded its start"
        # This one was no attempt, as far as EnOS is concerned.
        step = expired(replace(run, attempts=run.attempts - 1))
    elif draining:
        detail = "not sent: flowsched is stopping"
        step = NextStep(RunState.WAITING, detail, now)
    else:
        return None
    return Answer(outcome=Outcome.NOT_SENT, detail=detail), step


def taken_up(run: Run, now: datetime) -> NextStep | None:
    """Return what becomes of a run that a former process left unfinished; None: it goes on as it stands.

    A process that died between the first byte of a trigger and the record of its answer leaves the
    run in `sending`: nobody knows what EnOS made of it, so it is in doubt.
    """
    if run.state is RunState.SENDING:
        return NextStep(
            RunState.IN_DOUBT,
            f"flowsched stopped during attempt {run.attempts}; what EnOS made of it is unknown",
        )
    if run.state is not RunState.IN_DOUBT and now > run.deadline:
        return expired(run)
    return None


def expired(run: Run, waited_for: str | None = None) -> NextStep:
    """Return the end of a run whose deadline passed before its next attempt could begin.

    `waited_for` is what that attempt waited for, such as `target default, 1 call a minute`; None: not known.
    """
    if run.attempts:
        waited = f", which waited for {waited_for}" if waited_for else ""
        tried = f"gave up after {_attempts(run.attempts)}, as the deadline passed before the next{waited}"
        return NextStep(RunState.FAILED, f"{tried}: {run.reason}" if run.reason else tried)
    waited = f": it waited for {waited_for}" if waited_for else ""
    reason = f"the deadline passed before it could be sent; it was never sent{waited}"
    return NextStep(RunState.FAILED, reason)


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
