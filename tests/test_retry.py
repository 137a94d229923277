from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched import retry
from flowsched.model import NextStep, Outcome, RunState, Seen
from flowsched.retry import (
    Doubt,
    backoff,
    judged,
    look_after,
    next_step,
    still_in_doubt,
    taken_up,
    withheld,
)
from tests.builders import RETRY, T0, a_run, absent, an_answer, found, unclear

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flowsched.model import Answer, Run, Sighting

AGAIN = [Outcome.NOT_SENT, Outcome.REFUSED_FOR_NOW]


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Outcome.ACCEPTED, RunState.TRIGGERED, None),
        (Outcome.REFUSED_FOR_GOOD, RunState.FAILED, "because"),
        (Outcome.UNKNOWN, RunState.IN_DOUBT, "because"),
        (Outcome.NOT_CREATED, RunState.IN_DOUBT, "because"),
        (Outcome.NOT_SENT, RunState.WAITING, "because"),
        (Outcome.REFUSED_FOR_NOW, RunState.WAITING, "because"),
    ],
)
def test_the_outcome_decides_the_state(outcome: Outcome, state: RunState, reason: str | None) -> None:
    step = next_step(an_answer(outcome), a_run(), now=T0, draw=0.5)

    assert (step.state, step.reason) == (state, reason)
    assert (step.retry_at is not None) == (state is RunState.WAITING)


NAMES_ANOTHER = an_answer(Outcome.ACCEPTED, instance=None)
"""EnOS says success, with an instance of another flow."""


@pytest.mark.parametrize(
    "answer", [an_answer(Outcome.UNKNOWN), an_answer(Outcome.NOT_CREATED), NAMES_ANOTHER]
)
@pytest.mark.parametrize("attempts", [1, 4, 5, 100])
@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_what_only_a_look_can_tell_is_never_sent_again_without_one(
    answer: Answer, attempts: int, draw: float
) -> None:
    step = next_step(answer, a_run(attempts=attempts), now=T0, draw=draw)

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


LAST = RETRY.max_attempts


def test_what_is_recorded_in_time_is_sent() -> None:
    assert withheld(a_run(attempts=LAST), now=T0 + RETRY.deadline, draining=False) is None


@pytest.mark.parametrize("attempts", [1, LAST])
def test_what_a_drain_withholds_goes_on_after_it_however_many_attempts_are_left(attempts: int) -> None:
    now = T0 + RETRY.deadline

    assert withheld(a_run(attempts=attempts), now=now, draining=True) == (
        an_answer(Outcome.NOT_SENT, "not sent: flowsched is stopping"),
        NextStep(RunState.WAITING, "not sent: flowsched is stopping", now),
    )


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        (1, "the deadline passed before it could be sent; it was never sent"),
        (LAST, "gave up after 4 attempts, as the deadline passed before the next"),
    ],
)
def test_what_was_recorded_too_late_ends_as_what_was_not_recorded_at_all(
    draining: bool,  # noqa: FBT001 - a parameter of the table
    attempts: int,
    reason: str,
) -> None:
    now = T0 + RETRY.deadline + timedelta(seconds=1)

    assert withheld(a_run(attempts=attempts), now=now, draining=draining) == (
        an_answer(Outcome.NOT_SENT, "not sent: the deadline passed while the ledger recorded its start"),
        NextStep(RunState.FAILED, reason),
    )


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


def test_a_run_that_expired_says_what_it_waited_for_where_that_is_known() -> None:
    never = retry.expired(a_run(attempts=0), LIMIT)
    once = retry.expired(a_run(attempts=1, reason="HTTP 429"), LIMIT)

    assert never.reason == (
        "the deadline passed before it could be sent; it was never sent: it waited for " + LIMIT
    )
    assert once.reason == (
        f"gave up after 1 attempt, as the deadline passed before the next, which waited for {LIMIT}: HTTP 429"
    )


LIMIT = "target default, 1 call a minute"
UNKNOWN, NOT_CREATED, NOT_SENT = Outcome.UNKNOWN, Outcome.NOT_CREATED, Outcome.NOT_SENT
DIED = None
LATER = T0 + timedelta(minutes=2)
EXPIRED = T0 + RETRY.deadline + timedelta(seconds=1)


def in_doubt(attempts: int = 1, reason: str = "HTTP 502") -> Run:
    return a_run(state=RunState.IN_DOUBT, attempts=attempts, reason=reason)


def shown(
    outcomes: Sequence[Outcome | None],
    *sightings: Sighting,
    age: float = 120,
    now: datetime = LATER,
    attempts: int | None = None,
) -> NextStep | None:
    """Return what the last of the sightings shows of a run with these attempts."""
    doubt = Doubt(tuple(outcomes))
    for sighting in sightings:
        doubt = doubt.after(sighting)
    run = in_doubt(len(outcomes) if attempts is None else attempts)
    return judged(run, doubt, sightings[-1], age=timedelta(seconds=age), now=now)


MADE_BY_US = [
    (UNKNOWN,),
    (Outcome.ACCEPTED,),  # with an instance of another flow
    (DIED,),
    (UNKNOWN, NOT_CREATED),
    (DIED, NOT_CREATED),
    (NOT_SENT, UNKNOWN),
    (UNKNOWN, NOT_SENT, NOT_CREATED),
    (UNKNOWN, NOT_CREATED, NOT_CREATED),
]
MADE_BY_ANOTHER = [(NOT_CREATED,), (NOT_SENT, NOT_CREATED), (Outcome.REFUSED_FOR_NOW, NOT_CREATED)]


@pytest.mark.parametrize("now", [LATER, EXPIRED])
@pytest.mark.parametrize("age", [0, 120])
@pytest.mark.parametrize("outcomes", MADE_BY_US)
def test_what_is_found_is_ours_where_an_attempt_may_have_made_it(
    outcomes: tuple[Outcome | None, ...], age: float, now: datetime
) -> None:
    step = shown(outcomes, found(), age=age, now=now)

    assert step == NextStep(RunState.TRIGGERED, "found by a look: the instance is going; before: HTTP 502")


@pytest.mark.parametrize("outcomes", MADE_BY_ANOTHER)
def test_what_is_found_is_a_collision_where_no_attempt_can_have_made_it(
    outcomes: tuple[Outcome | None, ...],
) -> None:
    step = shown(outcomes, found())

    assert step == NextStep(
        RunState.FAILED,
        "collision: EnOS has 3377-20260101000000 already, and no attempt of this run can have made it: "
        "somebody else triggered the flow for that minute",
    )


@pytest.mark.parametrize("outcomes", MADE_BY_ANOTHER)
def test_a_clean_refusal_is_for_good_once_a_look_shows_nothing(outcomes: tuple[Outcome | None, ...]) -> None:
    step = shown(outcomes, absent(), age=0)

    assert step == NextStep(
        RunState.FAILED,
        "refused for good: HTTP 502; EnOS has no instance 3377-20260101000000: check flow and task",
    )


@pytest.mark.parametrize("outcomes", [*MADE_BY_US, *MADE_BY_ANOTHER])
def test_what_is_unclear_shows_nothing(outcomes: tuple[Outcome | None, ...]) -> None:
    for now in (LATER, EXPIRED):
        assert shown(outcomes, absent(), absent(), unclear(), now=now) is None


@pytest.mark.parametrize(
    ("sightings", "age", "sent"),
    [
        ([absent()], 120, False),
        ([unclear(), absent()], 120, False),
        ([absent(), unclear(), absent()], 120, True),
        ([absent(), absent()], 59.9, False),
        ([absent(), absent()], 60, True),
        ([absent()] * 7, 59.9, False),
    ],
)
@pytest.mark.parametrize("outcomes", [(UNKNOWN,), (DIED,), (UNKNOWN, UNKNOWN), (UNKNOWN, NOT_CREATED)])
def test_it_is_sent_again_after_two_absences_and_a_minute(
    outcomes: tuple[Outcome | None, ...],
    sightings: list[Sighting],
    age: float,
    sent: bool,  # noqa: FBT001 - a column of the table
) -> None:
    step = shown(outcomes, *sightings, age=age)

    expected = NextStep(RunState.SENDING, "sent again, as EnOS has no such instance")
    assert step == (expected if sent else None)


@pytest.mark.parametrize("now", [LATER, EXPIRED])
@pytest.mark.parametrize("attempts", [2, RETRY.max_attempts])
def test_what_named_an_instance_of_another_flow_is_not_sent_again_by_itself(
    now: datetime, attempts: int
) -> None:
    outcomes = (Outcome.NOT_SENT, Outcome.ACCEPTED)

    assert shown(outcomes, absent(), absent(), absent(), now=now, attempts=attempts) is None
    assert still_in_doubt(in_doubt(), EXPIRED) is not None


def test_of_the_attempts_only_the_latest_tells_that_it_was_accepted() -> None:
    step = shown((Outcome.ACCEPTED, UNKNOWN), absent(), absent())

    assert step == NextStep(RunState.SENDING, "sent again, as EnOS has no such instance")


def test_a_second_refusal_is_for_good() -> None:
    step = shown([UNKNOWN, NOT_CREATED, NOT_CREATED], absent(), absent())

    assert step == NextStep(
        RunState.FAILED,
        "refused for good, twice: HTTP 502; EnOS has no instance 3377-20260101000000: check flow and task",
    )


def test_what_is_absent_after_the_last_attempt_has_failed() -> None:
    step = shown([UNKNOWN], absent(), absent(), attempts=RETRY.max_attempts)

    assert step == NextStep(
        RunState.FAILED, "gave up after 5 attempts; EnOS has no instance 3377-20260101000000"
    )


def test_what_is_absent_after_the_deadline_is_not_sent_any_more() -> None:
    at_it = shown([UNKNOWN], absent(), absent(), now=T0 + RETRY.deadline)
    after_it = shown([UNKNOWN], absent(), absent(), now=EXPIRED)

    assert at_it
    assert at_it.state is RunState.SENDING
    assert after_it == NextStep(
        RunState.FAILED, "the deadline passed, and EnOS has no instance 3377-20260101000000: it did not run"
    )


def seconds_between(*sightings: Sighting, age: float = 120, now: datetime = LATER, draw: float) -> float:
    doubt = Doubt((UNKNOWN,))
    for sighting in sightings:
        doubt = doubt.after(sighting)
    return look_after(in_doubt(), doubt, age=timedelta(seconds=age), now=now, draw=draw).total_seconds()


@pytest.mark.parametrize(
    ("looks", "least", "most"),
    [(0, 3, 3), (1, 6, 6), (2, 6, 12), (3, 12, 24), (4, 24, 48), (5, 30, 60), (500, 30, 60)],
)
def test_looks_come_at_growing_intervals(looks: int, least: float, most: float) -> None:
    assert seconds_between(*[unclear()] * looks, draw=0) == least
    assert seconds_between(*[unclear()] * looks, draw=1) == most


def test_where_only_time_is_wanting_the_next_look_is_when_it_has_passed() -> None:
    assert seconds_between(absent(), absent(), age=12.5, draw=0.3) == 47.5
    assert seconds_between(absent(), age=12.5, draw=0.3) == 6


@pytest.mark.parametrize(("looks", "least", "most"), [(0, 3, 3), (1, 6, 6), (2, 300, 900), (90, 300, 900)])
def test_after_the_deadline_looks_are_rare_once_two_were_made(looks: int, least: float, most: float) -> None:
    assert seconds_between(*[unclear()] * looks, now=EXPIRED, draw=0) == least
    assert seconds_between(*[unclear()] * looks, now=EXPIRED, draw=1) == most


def test_it_is_told_once_that_a_run_is_still_in_doubt_at_its_deadline() -> None:
    run = in_doubt()

    before = still_in_doubt(run, T0 + RETRY.deadline)
    told = still_in_doubt(run, EXPIRED)

    assert before is None
    assert told == NextStep(
        RunState.IN_DOUBT,
        "still in doubt at its deadline, and not sent again: look into EnOS for 3377-20260101000000, "
        "then `flowsched resolve 1 --triggered|--failed --reason TEXT`; HTTP 502",
    )
    assert still_in_doubt(replace(run, reason=told.reason), EXPIRED + timedelta(hours=1)) is None


TROUBLES = st.sampled_from([UNKNOWN, NOT_CREATED, DIED])
SIGHTS = st.sampled_from([found(), absent(), absent(), absent(), unclear()])


@given(
    clean=st.lists(st.sampled_from([NOT_SENT, Outcome.REFUSED_FOR_NOW]), max_size=2),
    troubles=st.lists(TROUBLES, min_size=1, max_size=8),
    sights=st.lists(st.tuples(SIGHTS, st.integers(0, 90)), max_size=40),
    max_attempts=st.integers(1, 5),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_whatever_happens_nothing_is_sent_twice(
    clean: list[Outcome],
    troubles: list[Outcome | None],
    sights: list[tuple[Sighting, int]],
    max_attempts: int,
    draw: float,
) -> None:
    outcomes, troubles = [*clean, troubles[0]], troubles[1:]
    run = replace(in_doubt(len(outcomes)), retry=replace(RETRY, max_attempts=max_attempts))
    doubt, sent_at, now = Doubt(tuple(outcomes)), T0, T0
    for sighting, late in sights:
        now += look_after(run, doubt, age=now - sent_at, now=now, draw=draw) + timedelta(seconds=late)
        doubt = doubt.after(sighting)
        step = judged(run, doubt, sighting, age=now - sent_at, now=now)

        if sighting.seen is Seen.UNCLEAR:
            assert step is None
        if sighting.seen is Seen.FOUND:
            assert step
            assert step.state.final
        if step is None:
            continue
        if step.state is not RunState.SENDING:
            assert step.state in (RunState.TRIGGERED, RunState.FAILED)
            made_it = sighting.seen is Seen.FOUND and doubt.may_have_made_it
            assert (step.state is RunState.TRIGGERED) == made_it
            return
        assert doubt.absences >= 2
        assert now - sent_at >= timedelta(seconds=60)
        assert now <= run.deadline
        assert run.attempts < max_attempts
        assert doubt.may_have_made_it
        assert outcomes.count(NOT_CREATED) < 2
        if not troubles:
            return
        outcomes = [*outcomes, troubles[0]]
        troubles = troubles[1:]
        run = replace(run, attempts=run.attempts + 1)
        doubt, sent_at = Doubt(tuple(outcomes)), now
