from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.model import Outcome, RunState
from flowsched.retry import backoff, next_step, taken_up, withheld
from tests.builders import RETRY, T0, a_run, an_answer

AGAIN = [Outcome.NOT_SENT, Outcome.REFUSED_FOR_NOW]


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Outcome.ACCEPTED, RunState.TRIGGERED, None),
        (Outcome.REFUSED_FOR_GOOD, RunState.FAILED, "because"),
        (Outcome.UNKNOWN, RunState.IN_DOUBT, "because"),
        (Outcome.NOT_SENT, RunState.WAITING, "because"),
        (Outcome.REFUSED_FOR_NOW, RunState.WAITING, "because"),
    ],
)
def test_the_outcome_decides_the_state(outcome: Outcome, state: RunState, reason: str | None) -> None:
    step = next_step(an_answer(outcome), a_run(), now=T0, draw=0.5)

    assert (step.state, step.reason) == (state, reason)
    assert (step.retry_at is not None) == (state is RunState.WAITING)


@pytest.mark.parametrize("attempts", [1, 4, 5, 100])
@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_an_unknown_outcome_is_never_sent_again(attempts: int, draw: float) -> None:
    step = next_step(an_answer(Outcome.UNKNOWN), a_run(attempts=attempts), now=T0, draw=draw)

    assert step.state is RunState.IN_DOUBT


@pytest.mark.parametrize(
    ("attempts", "draw", "seconds"),
    [
        (1, 0.0, 0),
        (1, 0.5, 1),
        (1, 1.0, 2),
        (2, 1.0, 4),
        (3, 1.0, 8),
        (8, 1.0, 256),
        (9, 1.0, 300),
        (9, 0.5, 150),
        (5000, 1.0, 300),
    ],
)
def test_the_backoff_is_full_jitter_below_a_growing_bound(attempts: int, draw: float, seconds: int) -> None:
    assert backoff(RETRY, attempts, draw) == timedelta(seconds=seconds)


@given(attempts=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_the_backoff_stays_in_its_bounds(attempts: int, draw: float) -> None:
    assert timedelta(0) <= backoff(RETRY, attempts, draw) <= RETRY.max_backoff


@pytest.mark.parametrize("outcome", AGAIN)
def test_a_run_gives_up_after_its_last_attempt(outcome: Outcome) -> None:
    step = next_step(an_answer(outcome), a_run(attempts=5), now=T0, draw=0)

    assert (step.state, step.reason) == (RunState.FAILED, "gave up after 5 attempts: because")


@pytest.mark.parametrize("outcome", AGAIN)
def test_a_run_gives_up_rather_than_wait_past_its_deadline(outcome: Outcome) -> None:
    now = T0 + RETRY.deadline - timedelta(seconds=1)

    kept = next_step(an_answer(outcome), a_run(), now=now, draw=0.5)
    dropped = next_step(an_answer(outcome), a_run(), now=now, draw=0.6)

    assert (kept.state, kept.retry_at) == (RunState.WAITING, T0 + RETRY.deadline)
    assert (dropped.state, dropped.reason) == (
        RunState.FAILED,
        "gave up after 1 attempt, as the next would begin after the deadline: because",
    )


@pytest.mark.parametrize(("asked", "waited"), [(3, 3), (0, 1), (1, 1)])
def test_retry_after_is_never_undercut_and_never_shortens_the_backoff(asked: int, waited: int) -> None:
    answer = an_answer(Outcome.REFUSED_FOR_NOW, retry_after=timedelta(seconds=asked))

    step = next_step(answer, a_run(), now=T0, draw=0.5)

    assert step.retry_at == T0 + timedelta(seconds=waited)


def test_a_retry_after_beyond_the_deadline_ends_the_run_now() -> None:
    answer = an_answer(Outcome.REFUSED_FOR_NOW, retry_after=timedelta(hours=1))

    step = next_step(answer, a_run(), now=T0, draw=0.5)

    assert step.state is RunState.FAILED


@pytest.mark.parametrize(
    ("late", "draining", "detail"),
    [
        (0, False, None),
        (1, False, "not sent: the deadline passed while the ledger recorded its start"),
        (0, True, "not sent: flowsched is stopping"),
    ],
)
def test_what_was_recorded_too_late_is_not_sent(late: int, draining: bool, detail: str | None) -> None:  # noqa: FBT001
    now = T0 + RETRY.deadline + timedelta(seconds=late)

    answer = withheld(a_run(), now=now, draining=draining)

    assert (answer and answer.detail) == detail
    assert answer is None or answer.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("state", "late", "becomes"),
    [
        (RunState.CLAIMED, 0, None),
        (RunState.CLAIMED, 1, RunState.FAILED),
        (RunState.WAITING, 0, None),
        (RunState.WAITING, 1, RunState.FAILED),
        (RunState.SENDING, 0, RunState.IN_DOUBT),
        (RunState.SENDING, 1, RunState.IN_DOUBT),
        (RunState.IN_DOUBT, 0, None),
        (RunState.IN_DOUBT, 1, None),
    ],
)
def test_what_a_former_process_left_is_taken_up(state: RunState, late: int, becomes: RunState | None) -> None:
    step = taken_up(a_run(state=state), T0 + RETRY.deadline + timedelta(seconds=late))

    assert (step and step.state) == becomes


def test_a_run_that_expired_says_whether_it_was_ever_sent() -> None:
    after = T0 + timedelta(hours=1)

    never = taken_up(a_run(state=RunState.CLAIMED, attempts=0), after)
    once = taken_up(replace(a_run(state=RunState.WAITING), reason="HTTP 429"), after)

    assert never
    assert never.reason == "the deadline passed before it could be sent; it was never sent"
    assert once
    assert once.reason == "gave up after 1 attempt, as the deadline passed before the next: HTTP 429"
