"""What becomes of a run in doubt, on a hand-advanced clock, a real ledger and a scripted gateway."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flowsched.model import FlowState, NextStep, Outcome, RunState
from tests.builders import RETRY, absent, an_answer, found, unclear
from tests.desk import FIRE, INSTANCE, Desk, a_desk
from tests.fakes import accepted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.model import Answer, Sighting

LOST = an_answer(Outcome.UNKNOWN, "the reply was cut off")
NOT_CREATED = an_answer(Outcome.NOT_CREATED, "62102")
DEADLINE = RETRY.deadline
DAY = timedelta(days=1)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


def looked_after(desk: Desk) -> list[float]:
    """Return how many seconds after the fire time each look came."""
    return [(at - FIRE).total_seconds() for _, at in desk.gateway.looks]


def sent_after(desk: Desk) -> list[float]:
    return [(at - FIRE).total_seconds() for at in desk.gateway.asked_at]


def told(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


async def test_what_is_found_is_triggered(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear(), absent(), found())
    await desk.start()

    await desk.passes(60)

    run = await desk.run()
    assert (run.state, run.instance) == (RunState.TRIGGERED, INSTANCE)
    assert run.reason == "found by a look: the instance is going; before: the reply was cut off"
    assert {instance for instance, _ in desk.gateway.looks} == {INSTANCE}
    assert sent_after(desk) == [0]


async def test_what_is_clearly_absent_is_sent_again_a_minute_later_with_the_same_body(desk: Desk) -> None:
    desk.answers(LOST, accepted())
    await desk.start()

    await desk.passes(60)

    first, second = desk.gateway.requests
    assert first.body is second.body
    assert looked_after(desk) == [3, 9, 60]
    assert sent_after(desk) == [0, 60]
    assert (await desk.run()).state is RunState.TRIGGERED
    assert [each.outcome for each in await desk.attempts()] == [Outcome.UNKNOWN, Outcome.ACCEPTED]


async def test_a_refusal_after_a_lost_reply_is_looked_into_in_the_same_way(desk: Desk) -> None:
    desk.answers(LOST, NOT_CREATED)
    desk.gateway.sees(absent(), absent(), absent(), found())
    await desk.start()

    await desk.passes(63)

    assert (await desk.run()).state is RunState.TRIGGERED
    assert sent_after(desk) == [0, 60]


async def test_a_second_refusal_is_for_good(desk: Desk) -> None:
    desk.answers(LOST, NOT_CREATED)
    await desk.start()

    await desk.passes(DEADLINE)

    run = await desk.run()
    assert (run.state, run.attempts) == (RunState.FAILED, 3)
    assert run.reason
    assert run.reason.startswith("refused for good, twice: 62102")
    assert sent_after(desk) == [0, 60, 120]


@pytest.mark.parametrize(
    ("sighting", "reason"),
    [
        (absent(), "refused for good: 62102"),
        (found(), f"collision: EnOS has {INSTANCE} already, and no attempt of this run can have made it"),
    ],
)
async def test_a_clean_refusal_is_decided_by_one_look(desk: Desk, sighting: Sighting, reason: str) -> None:
    desk.answers(NOT_CREATED)
    desk.gateway.sees(sighting)
    await desk.start()

    await desk.passes(3)

    run = await desk.run()
    assert (run.state, len(desk.gateway.looks)) == (RunState.FAILED, 1)
    assert run.reason
    assert run.reason.startswith(reason)


async def test_the_attempts_are_bounded(desk: Desk) -> None:
    desk.answers(LOST)
    await desk.start(retry=replace(RETRY, max_attempts=2))

    await desk.passes(DEADLINE)

    run = await desk.run()
    assert (run.state, sent_after(desk)) == (RunState.FAILED, [0, 60])
    assert run.reason == f"gave up after 2 attempts; EnOS has no instance {INSTANCE}"


async def test_looks_at_a_gateway_that_is_down_come_at_growing_intervals(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    await desk.start()

    await desk.passes(240)

    assert looked_after(desk) == [3, 9, 18, 36, 72, 117, 162, 207]


async def test_a_run_still_in_doubt_at_its_deadline_stays_so_and_is_told_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    await desk.start()

    await desk.passes(DEADLINE + timedelta(hours=3))
    await desk.restart()
    await desk.passes(timedelta(hours=3))

    run = await desk.run()
    assert run.state is RunState.IN_DOUBT
    assert run.reason
    assert run.reason.startswith("still in doubt at its deadline")
    assert sent_after(desk) == [0]
    assert told(caplog, "run in_doubt") == 2  # at the lost reply, and at the deadline


async def test_after_its_deadline_a_run_is_looked_at_slowly_for_a_day(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    await desk.start()
    await desk.passes(DEADLINE + timedelta(hours=1))
    in_the_first_hour = len(desk.gateway.looks)

    await desk.passes(timedelta(hours=23))
    in_the_day = len(desk.gateway.looks)
    await desk.passes(DAY)

    late = [seconds for seconds in looked_after(desk) if seconds > (DEADLINE + timedelta(minutes=2)).seconds]
    assert {after - before for before, after in pairwise(late)} == {600}
    assert in_the_first_hour < in_the_day <= len(desk.gateway.looks) <= in_the_day + 1
    assert (await desk.run()).state is RunState.IN_DOUBT
    assert told(caplog, "run is looked at no more") == 1
    assert desk.runner.under_way == 0


async def test_what_is_found_after_the_deadline_is_triggered(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    await desk.start()
    await desk.passes(DEADLINE + timedelta(hours=1))

    desk.gateway.sees(found())
    await desk.passes(timedelta(minutes=15))

    assert (await desk.run()).state is RunState.TRIGGERED


async def test_what_is_absent_after_the_deadline_has_failed_and_is_not_sent(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    await desk.start()
    await desk.passes(DEADLINE + timedelta(hours=1))

    desk.gateway.sees(absent())
    await desk.passes(timedelta(minutes=30))

    run = await desk.run()
    assert (run.state, sent_after(desk)) == (RunState.FAILED, [0])
    assert run.reason == f"the deadline passed, and EnOS has no instance {INSTANCE}: it did not run"


async def test_after_a_restart_a_run_in_doubt_is_looked_at_anew(desk: Desk) -> None:
    desk.answers(LOST, accepted())
    await desk.start()
    await desk.passes(10)

    await desk.restart()
    await desk.passes(59)
    early = len(desk.gateway.requests)
    await desk.passes(1)

    assert early == 1
    assert sent_after(desk) == [0, 70]
    assert (await desk.run()).state is RunState.TRIGGERED


async def test_no_clock_step_shortens_the_minute(desk: Desk) -> None:
    desk.answers(LOST, accepted())
    await desk.start(deadline=FIRE + timedelta(hours=3))

    desk.clock.step(FIRE + timedelta(hours=1))
    await desk.restart()
    await desk.passes(59)
    early = len(desk.gateway.requests)
    await desk.passes(1)

    assert (early, len(desk.gateway.requests)) == (1, 2)


async def test_long_after_its_deadline_a_new_process_looks_at_it_all_the_same(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    await desk.start()
    await desk.runner.drain(0)
    desk.clock.advance(DEADLINE + 3 * DAY)

    desk.gateway.sees(found())
    await desk.restart()
    await desk.passes(3)

    assert (await desk.run()).state is RunState.TRIGGERED


async def test_a_deadline_that_a_clock_step_takes_back_lets_it_be_sent_after_all(desk: Desk) -> None:
    desk.answers(LOST, LOST, accepted())
    desk.gateway.sees(unclear())
    await desk.start()
    await desk.passes(DEADLINE + timedelta(hours=1))

    desk.clock.step(FIRE)
    desk.gateway.sees(absent())
    await desk.passes(timedelta(minutes=14))

    assert (await desk.run()).state is RunState.TRIGGERED
    assert len(desk.gateway.requests) == 3


@pytest.mark.parametrize("overdue", [False, True])
@pytest.mark.parametrize("state", [RunState.TRIGGERED, RunState.FAILED])
async def test_a_run_that_is_resolved_by_hand_is_let_go_quietly(
    desk: Desk,
    caplog: pytest.LogCaptureFixture,
    state: RunState,
    overdue: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    caplog.set_level("INFO")
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    run = await desk.start()
    await desk.passes(DEADLINE + timedelta(hours=1) if overdue else timedelta(minutes=2))
    looks = len(desk.gateway.looks)

    await desk.ledger.resolve(run.id, desk.clock.now(), NextStep(state, "by hand"))
    await desk.passes(DAY)

    settled = await desk.run()
    assert (settled.state, settled.reason) == (state, "by hand")
    assert (desk.runner.under_way, len(desk.gateway.looks)) == (0, looks)
    assert told(caplog, f"run {state}") == 1
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


async def test_a_run_that_is_resolved_as_failed_while_it_is_looked_at_is_not_sent(desk: Desk) -> None:
    desk.answers(LOST)
    run = await desk.start()
    await desk.passes(59)

    await desk.ledger.resolve(run.id, desk.clock.now(), NextStep(RunState.FAILED, "by hand"))
    await desk.passes(DEADLINE)

    assert sent_after(desk) == [0]


async def test_the_flow_of_a_run_that_is_resolved_as_triggered_is_watched(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    run = await desk.start(watch=timedelta(hours=1))
    await desk.passes(20)

    await desk.ledger.resolve(run.id, desk.clock.now(), NextStep(RunState.TRIGGERED, "by hand"))
    desk.gateway.sees(found(FlowState.SUCCEEDED, 1))
    await desk.passes(timedelta(minutes=5))

    watch = (await desk.ledger.watches_of([run.id]))[run.id]
    assert watch.state is FlowState.SUCCEEDED


@pytest.mark.parametrize(
    ("again", "end"),
    [(accepted(), RunState.TRIGGERED), (NOT_CREATED, RunState.FAILED)],
    ids=["passes", "not"],
)
async def test_a_refusal_shortly_after_another_call_to_the_flow_is_tried_once_more_a_minute_later(
    desk: Desk, again: Answer, end: RunState
) -> None:
    # EnOS may count its minute by the wall clock: then fires a minute apart can be a call too many.
    desk.answers(accepted(), NOT_CREATED, again)
    desk.gateway.sees(absent())
    await desk.start()
    desk.clock.advance(60)
    second = await desk.start(FIRE + timedelta(minutes=1))

    await desk.passes(300)

    assert (await desk.run(second)).state is end
    assert sent_after(desk) == [0, 60, 120]


async def test_a_refusal_long_after_another_call_to_the_flow_is_for_good(desk: Desk) -> None:
    desk.answers(accepted(), NOT_CREATED)
    desk.gateway.sees(absent())
    await desk.start()
    desk.clock.advance(180)
    second = await desk.start(FIRE + timedelta(minutes=3))

    await desk.passes(300)

    assert (await desk.run(second)).state is RunState.FAILED
    assert sent_after(desk) == [0, 180]


async def test_after_a_long_downtime_an_absence_still_comes_to_count(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(unclear())
    await desk.start()
    desk.clock.advance(DEADLINE + 2 * DAY)

    desk.gateway.sees(absent())
    await desk.restart()
    await desk.passes(120)

    run = await desk.run()
    assert run.state is RunState.FAILED
    assert run.reason is not None
    assert run.reason.startswith("the deadline passed, and EnOS has no instance")


async def test_looks_at_what_is_in_doubt_wait_for_triggers(desk: Desk) -> None:
    desk.answers(LOST)
    desk.gateway.sees(found())
    await desk.start()

    await desk.passes(10)

    assert desk.gateway.urgent == [True, False]
