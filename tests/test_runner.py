"""The runner on a hand-advanced clock, a real ledger and a scripted gateway."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.errors import LedgerError
from flowsched.ledger import Ledger
from flowsched.model import NextStep, Outcome, RunState
from flowsched.runner.recorder import LEDGER_PAUSE
from flowsched.runner.runner import LOOK_AGAIN
from tests.builders import RETRY, a_target, an_answer, found
from tests.desk import FIRE, Desk
from tests.fakes import a_moment, accepted, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from flowsched.model import Answer, Run


class Stubborn(Ledger):
    """A ledger that refuses so many writes before it takes one, or takes one and does not say so."""

    refusals = 0
    """Of an outcome."""
    begin_refusals = 0
    """Of the start of an attempt."""
    lost_answers = 0
    """To the start of an attempt."""
    slow: asyncio.Event | None = None
    """Until it is set, the start of an attempt is recorded but not answered."""
    slow_calls = 0

    async def begin_attempt(self, run_id: int, number: int, at: datetime, note: str | None = None) -> Run:
        if self.begin_refusals:
            self.begin_refusals -= 1
            raise LedgerError("the ledger is locked by another process")
        run = await super().begin_attempt(run_id, number, at, note)
        if self.slow:
            self.slow_calls += 1
            await self.slow.wait()
        if self.lost_answers:
            self.lost_answers -= 1
            raise LedgerError("the disk said no, and had done it")
        return run

    async def end_attempt(
        self, run_id: int, number: int, at: datetime, answer: Answer, next_step: NextStep
    ) -> Run:
        if self.refusals:
            self.refusals -= 1
            raise LedgerError("disk full")
        return await super().end_attempt(run_id, number, at, answer, next_step)


class StubbornDesk(Desk):
    ledger: Stubborn


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[StubbornDesk]:
    async with await Stubborn.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = StubbornDesk(ledger)
        yield desk
        await desk.runner.drain(0)


async def test_an_accepted_trigger_ends_the_run(desk: StubbornDesk) -> None:
    desk.runner.start(await desk.claim())

    run = await desk.reaches(RunState.TRIGGERED)

    assert (run.instance, run.attempts, run.reason) == ("3377-20260101023000", 1, None)
    (attempt,) = await desk.attempts()
    assert (attempt.outcome, attempt.http_status, attempt.code) == (Outcome.ACCEPTED, 200, 0)


async def test_the_trigger_time_is_the_fire_time_however_late_it_is_sent(desk: StubbornDesk) -> None:
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW), accepted())
    desk.clock.advance(timedelta(minutes=3))
    desk.runner.start(await desk.claim())
    await desk.reaches(RunState.WAITING)

    desk.clock.advance(60)

    await desk.reaches(RunState.TRIGGERED)
    first, second = desk.gateway.requests
    assert json.loads(first.body)["triggerTime"] == int(FIRE.timestamp() * 1000)
    assert first.body is second.body


async def test_both_rows_are_written_before_the_call(desk: StubbornDesk) -> None:
    desk.gateway.hold = asyncio.Event()
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.gateway.requests))

    run, attempts = await desk.run(), await desk.attempts()

    assert (run.state, run.attempts) == (RunState.SENDING, 1)
    assert [(each.number, each.outcome, each.ended_at) for each in attempts] == [(1, None, None)]


async def test_a_refusal_for_now_waits_its_backoff_and_tries_again(desk: StubbornDesk) -> None:
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW), an_answer(Outcome.NOT_SENT), accepted())
    desk.runner.start(await desk.claim())

    await desk.reaches(RunState.WAITING)
    desk.clock.advance(1)
    await eventually(lambda: len(desk.gateway.requests) == 2)
    await eventually(lambda: desk.clock.sleeping == [2.0])
    desk.clock.advance(2)

    await desk.reaches(RunState.TRIGGERED)
    assert desk.gateway.asked_at == [FIRE, FIRE + timedelta(seconds=1), FIRE + timedelta(seconds=3)]
    assert [each.outcome for each in await desk.attempts()] == ["refused_for_now", "not_sent", "accepted"]


async def test_a_waiting_run_is_a_row_with_its_time(desk: StubbornDesk) -> None:
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW, retry_after=timedelta(seconds=90)))
    desk.runner.start(await desk.claim())

    run = await desk.reaches(RunState.WAITING)

    assert run.retry_at == FIRE + timedelta(seconds=90)


async def test_what_is_refused_for_good_is_never_sent_again(desk: StubbornDesk) -> None:
    desk.answers(an_answer(Outcome.REFUSED_FOR_GOOD))
    await desk.start()

    await desk.passes(timedelta(days=2))

    run = await desk.run()
    assert (run.state, run.reason) == (RunState.FAILED, "because")
    assert (len(desk.gateway.requests), desk.gateway.looks) == (1, [])


async def test_the_attempts_run_out(desk: StubbornDesk) -> None:
    desk.answers(an_answer(Outcome.NOT_SENT))
    desk.runner.start(await desk.claim())

    for number in range(1, 5):
        await eventually(lambda number=number: len(desk.gateway.requests) == number)  # type: ignore[misc]
        await eventually(lambda: bool(desk.clock.sleeping))
        desk.clock.advance(20)

    run = await desk.reaches(RunState.FAILED)
    assert (run.attempts, run.reason) == (5, "gave up after 5 attempts: because")


async def test_no_attempt_begins_after_the_deadline(desk: StubbornDesk) -> None:
    run = await desk.claim()
    desk.clock.advance(RETRY.deadline + timedelta(seconds=1))

    desk.runner.start(run)

    run = await desk.reaches(RunState.FAILED)
    assert run.reason == "the deadline passed before it could be sent; it was never sent"
    assert not desk.gateway.requests


async def test_an_attempt_that_begins_before_the_deadline_gets_all_its_time(desk: StubbornDesk) -> None:
    run = await desk.claim()
    desk.clock.advance(RETRY.deadline - timedelta(seconds=10))

    desk.runner.start(run)

    await desk.reaches(RunState.TRIGGERED)
    assert desk.gateway.timeouts == [RETRY.attempt_timeout.total_seconds()]


async def test_an_outcome_that_the_ledger_refuses_is_written_in_the_end(desk: StubbornDesk) -> None:
    desk.ledger.refusals = 3
    desk.runner.start(await desk.claim())

    for _ in range(3):
        await eventually(lambda: bool(desk.clock.sleeping))
        desk.clock.advance(LEDGER_PAUSE)

    await desk.reaches(RunState.TRIGGERED)
    assert len(desk.gateway.requests) == 1


async def test_a_run_for_a_target_that_is_gone_fails_and_says_so(desk: StubbornDesk) -> None:
    desk.runner.start(await desk.claim(target="old"))

    run = await desk.reaches(RunState.FAILED)

    assert run.reason == "target old is not configured"


async def test_the_turn_is_left_before_the_outcome_is_written(desk: StubbornDesk) -> None:
    desk.ledger.refusals = 10**6
    desk.runner.start(await desk.claim())

    await eventually(lambda: bool(desk.clock.sleeping))

    assert len(desk.gateway.requests) == 1
    assert desk.gateway.turns_held == 0
    desk.ledger.refusals = 0


async def test_a_run_that_waits_for_its_backoff_holds_no_turn(desk: StubbornDesk) -> None:
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW))
    desk.runner.start(await desk.claim())

    await desk.reaches(RunState.WAITING)
    await eventually(lambda: bool(desk.clock.sleeping))

    assert desk.gateway.turns_held == 0


async def test_nothing_is_sent_after_the_deadline_however_long_the_ledger_takes(desk: StubbornDesk) -> None:
    desk.ledger.begin_refusals = 10**6
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.clock.sleeping))

    desk.clock.advance(RETRY.deadline + timedelta(seconds=1))

    run = await desk.reaches(RunState.FAILED)
    assert run.reason == "the deadline passed before it could be sent; it was never sent"
    assert not desk.gateway.requests


async def test_an_attempt_that_the_ledger_takes_only_after_the_deadline_is_not_sent(
    desk: StubbornDesk,
) -> None:
    desk.ledger.slow = asyncio.Event()
    desk.runner.start(await desk.claim())
    await eventually(lambda: desk.ledger.slow_calls)

    desk.clock.advance(RETRY.deadline + timedelta(seconds=1))
    desk.ledger.slow.set()

    run = await desk.reaches(RunState.FAILED)
    assert run.reason == (
        "gave up after 1 attempt, as the next would begin after the deadline: "
        "not sent: the deadline passed while the ledger recorded its start"
    )
    assert [each.outcome for each in await desk.attempts()] == [Outcome.NOT_SENT]
    assert not desk.gateway.requests


async def test_an_attempt_that_the_ledger_takes_only_during_the_drain_is_not_sent(desk: StubbornDesk) -> None:
    desk.ledger.slow = asyncio.Event()
    desk.runner.start(await desk.claim())
    await eventually(lambda: desk.ledger.slow_calls)

    draining = asyncio.create_task(desk.runner.drain(60))
    await asyncio.sleep(0.01)
    desk.ledger.slow.set()
    await asyncio.wait_for(draining, 5)

    assert (await desk.run()).state is RunState.WAITING
    assert not desk.gateway.requests


async def test_a_start_that_is_found_done_is_gone_on_from(desk: StubbornDesk) -> None:
    desk.ledger.lost_answers = 1
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.clock.sleeping))

    desk.clock.advance(LEDGER_PAUSE)

    run = await desk.reaches(RunState.TRIGGERED)
    assert (run.attempts, len(desk.gateway.requests)) == (1, 1)


async def test_a_fault_of_ours_leaves_the_run_in_doubt_once_it_was_begun(
    desk: StubbornDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.gateway.fault = RuntimeError("a fault of ours")
    desk.runner.start(await desk.claim())

    run = await desk.reaches(RunState.IN_DOUBT)

    assert run.reason == (
        "a fault of flowsched (RuntimeError: a fault of ours); what EnOS made of it is unknown"
    )
    assert "run stopped by a fault of flowsched" in caplog.text


async def test_a_drain_begins_no_further_attempt(desk: StubbornDesk) -> None:
    desk.gateway.hold = asyncio.Event()
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW, retry_after=timedelta(0)))
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.gateway.requests))

    draining = asyncio.create_task(desk.runner.drain(60))
    await asyncio.sleep(0.01)
    desk.gateway.hold.set()
    await asyncio.wait_for(draining, 5)
    desk.clock.advance(60)
    await a_moment()

    assert len(desk.gateway.requests) == 1


async def test_a_drain_sends_nothing_that_the_ledger_has_not_taken_yet(desk: StubbornDesk) -> None:
    desk.ledger.begin_refusals = 1
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.clock.sleeping))

    draining = asyncio.create_task(desk.runner.drain(60))
    await asyncio.sleep(0.01)
    desk.clock.advance(LEDGER_PAUSE)
    await asyncio.wait_for(draining, 5)

    assert not desk.gateway.requests
    assert (await desk.run()).state is RunState.CLAIMED


async def test_a_run_that_is_being_carried_is_not_started_twice(desk: StubbornDesk) -> None:
    desk.gateway.hold = asyncio.Event()
    run = await desk.claim()
    desk.runner.start(run)
    await eventually(lambda: bool(desk.gateway.requests))

    desk.runner.start(run)
    await a_moment()

    assert (desk.runner.under_way, len(desk.gateway.requests)) == (1, 1)


async def test_a_drain_lets_the_attempt_under_way_end_and_leaves_the_rest(desk: StubbornDesk) -> None:
    desk.gateway.hold = asyncio.Event()
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.gateway.requests))
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW))

    draining = asyncio.create_task(desk.runner.drain(60))
    await asyncio.sleep(0.01)
    desk.gateway.hold.set()

    assert await asyncio.wait_for(draining, 5) == 0
    assert (await desk.run()).state is RunState.WAITING


async def test_a_drain_is_cut_short_by_whoever_cannot_wait(desk: StubbornDesk) -> None:
    desk.gateway.hold = asyncio.Event()
    halt = asyncio.Event()
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.gateway.requests))

    draining = asyncio.create_task(desk.runner.drain(60, halt))
    await asyncio.sleep(0.01)
    halt.set()

    assert await asyncio.wait_for(draining, 5) == 1


async def test_a_run_that_somebody_else_has_settled_is_let_go_quietly(
    desk: StubbornDesk, caplog: pytest.LogCaptureFixture
) -> None:
    run = await desk.claim()
    await desk.settle(run, NextStep(RunState.FAILED, "by hand"))

    desk.runner.start(run)
    await desk.quiet()

    assert not desk.runner.under_way
    assert not desk.gateway.requests
    assert (await desk.run()).reason == "by hand"
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


async def test_a_run_that_is_not_where_it_was_left_is_left_alone_and_said_so(
    desk: StubbornDesk, caplog: pytest.LogCaptureFixture
) -> None:
    run = await desk.claim()
    await desk.ledger.begin_attempt(run.id, 1, FIRE)
    desk.clock.advance(1)

    desk.runner.start(run)
    await desk.quiet()

    assert not desk.gateway.requests
    assert "run is not where it was left" in caplog.text


async def test_a_target_that_cannot_do_it_any_more_fails_the_run(desk: StubbornDesk) -> None:
    desk.gateway.target = a_target(api_version="v2.0")

    desk.runner.start(await desk.claim(task=108580))

    run = await desk.reaches(RunState.FAILED)
    assert run.reason == "target default: v2.0 cannot trigger a flow from a task; allowed: v2.1"


async def test_a_drain_that_runs_out_cuts_the_attempt_off_and_it_is_in_doubt_next_time(
    desk: StubbornDesk,
) -> None:
    desk.gateway.hold = asyncio.Event()
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.gateway.requests))

    cut_off = await desk.runner.drain(0.01)
    left = await desk.run()
    await desk.restart()

    assert (cut_off, left.state) == (1, RunState.SENDING)
    run = await desk.run()
    assert run.state is RunState.IN_DOUBT
    assert run.reason == "flowsched stopped during attempt 1; what EnOS made of it is unknown"


async def test_a_new_process_goes_on_with_what_was_claimed_or_waiting(desk: StubbornDesk) -> None:
    await desk.claim()

    await desk.runner.take_up(await desk.ledger.open_runs())

    await desk.reaches(RunState.TRIGGERED)


async def test_a_run_is_not_sent_before_it_is_due(desk: StubbornDesk) -> None:
    await desk.start(due_at=FIRE + timedelta(minutes=7))

    await desk.passes(timedelta(minutes=6, seconds=59))
    early = len(desk.gateway.requests)
    await desk.passes(1)

    assert early == 0
    assert desk.gateway.asked_at == [FIRE + timedelta(minutes=7)]


async def test_a_run_that_waits_notices_that_the_wall_clock_went_on_without_it(desk: StubbornDesk) -> None:
    await desk.start(due_at=FIRE + timedelta(minutes=30), deadline=FIRE + timedelta(hours=2))

    desk.clock.step(FIRE + timedelta(minutes=45))
    await desk.passes(LOOK_AGAIN)

    assert len(desk.gateway.requests) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_run_waits_no_longer_than_was_meant_when_the_wall_clock_steps_back(
    desk: StubbornDesk,
    restarted: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    await desk.start(due_at=FIRE + timedelta(minutes=5))

    desk.clock.step(FIRE - timedelta(hours=3))
    if restarted:
        await desk.restart()
    await desk.passes(timedelta(minutes=5))

    assert len(desk.gateway.requests) == 1


async def test_what_was_left_in_the_middle_of_an_attempt_is_found_out(desk: StubbornDesk) -> None:
    run = await desk.claim()
    await desk.ledger.begin_attempt(run.id, 1, FIRE)
    desk.gateway.sees(found())

    await desk.restart()
    taken_up = await desk.run()
    await desk.passes(10)

    assert taken_up.reason == "flowsched stopped during attempt 1; what EnOS made of it is unknown"
    assert [taken_up.state, *await desk.states()] == [RunState.IN_DOUBT, RunState.TRIGGERED]
    assert not desk.gateway.requests
