"""What a run does after an attempt, and when: pure, by what the answer means."""

from __future__ import annotations

from datetime import datetime, timedelta

from flowsched.model import Answer, NextStep, Outcome, RetryPolicy, Run, RunState


def next_step(answer: Answer, run: Run, *, now: datetime, draw: float) -> NextStep:
    """Return what `run` does after `answer` to its attempt number `run.attempts`.

    `draw`, 0 inclusive to 1 exclusive, is the chance in the backoff. Only a call that was surely not
    processed is ever repeated; one whose outcome is unknown leaves the run in doubt.
    """
    match answer.outcome:
        case Outcome.ACCEPTED:
            return NextStep(RunState.TRIGGERED, None)
        case Outcome.REFUSED_FOR_GOOD:
            return NextStep(RunState.FAILED, answer.detail)
        case Outcome.UNKNOWN:
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


def withheld(run: Run, *, now: datetime, draining: bool) -> Answer | None:
    """Return the answer of an attempt whose start is recorded, but which must not be sent any more.

    To record it may have taken the ledger long: past the deadline, or into the drain. None: send it.
    """
    if now <= run.deadline and not draining:
        return None
    why = "flowsched is stopping" if draining else "the deadline passed while the ledger recorded its start"
    return Answer(outcome=Outcome.NOT_SENT, detail=f"not sent: {why}", retry_after=timedelta(0))


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


def expired(run: Run) -> NextStep:
    """Return the end of a run whose deadline passed before its next attempt could begin."""
    if run.attempts:
        tried = f"gave up after {_attempts(run.attempts)}, as the deadline passed before the next"
        return NextStep(RunState.FAILED, f"{tried}: {run.reason}" if run.reason else tried)
    return NextStep(RunState.FAILED, "the deadline passed before it could be sent; it was never sent")


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
