"""The runner on a hand-advanced clock, a real ledger and a scripted gateway."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.config import load_catalog
from flowsched.errors import ConfigError, LedgerError, LedgerUnusable
from flowsched.ledger import LEDGER_PAUSE, Ledger
from flowsched.model import CatchUp, NextStep, Origin, Outcome, RunState, Timing
from flowsched.runner.runner import FAULT_PAUSES, LONGEST_ATTEMPT, LOOK_AGAIN
from tests.builders import RETRY, a_schedule, a_target, an_answer, closed, found, unclear
from tests.desk import FIRE, Desk
from tests.fakes import a_moment, accepted, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from flowsched.model import Answer, Run, Schedule


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
    damaged = False
    """Whether neither a run can be read nor an attempt begun."""

    async def run(self, run_id: int) -> Run | None:
        if self.damaged:
            raise LedgerUnusable("the ledger is damaged")
        return await super().run(run_id)

    async def begin_attempt(
        self,
        run_id: int,
        number: int,
        at: datetime,
        note: str | None = None,
        deadline: datetime | None = None,
        *,
        claimed_at: datetime | None = None,
    ) -> Run:
        if self.damaged:
            raise LedgerUnusable("the ledger is damaged")
        if self.begin_refusals:
            self.begin_refusals -= 1
            raise LedgerError("the ledger is locked by another process")
        run = await super().begin_attempt(run_id, number, at, note, deadline, claimed_at=claimed_at)
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


async def test_a_deadline_that_passes_while_the_ledger_takes_no_start_is_not_put_down_to_the_limit(
    desk: StubbornDesk,
) -> None:
    desk.gateway.held_by = "1 call a minute"
    desk.ledger.begin_refusals = 10**6
    desk.runner.start(await desk.claim())
    await eventually(lambda: bool(desk.clock.sleeping))

    desk.clock.advance(RETRY.deadline + timedelta(seconds=1))

    run = await desk.reaches(RunState.FAILED)
    assert run.reason == "the deadline passed before it could be sent; it was never sent"


async def test_an_attempt_that_the_ledger_takes_only_after_the_deadline_is_not_sent(
    desk: StubbornDesk,
) -> None:
    desk.ledger.slow = asyncio.Event()
    desk.runner.start(await desk.claim())
    await eventually(lambda: desk.ledger.slow_calls)

    desk.clock.advance(RETRY.deadline + timedelta(seconds=1))
    desk.ledger.slow.set()

    run = await desk.reaches(RunState.FAILED)
    assert run.reason == "the deadline passed before it could be sent; it was never sent"
    assert [each.outcome for each in await desk.attempts()] == [Outcome.NOT_SENT]
    assert not desk.gateway.requests


async def test_an_attempt_that_the_ledger_takes_only_during_the_drain_is_not_sent(desk: StubbornDesk) -> None:
    desk.ledger.slow = asyncio.Event()
    desk.runner.start(await desk.claim(retry=replace(RETRY, max_attempts=1)))
    await eventually(lambda: desk.ledger.slow_calls)

    draining = asyncio.create_task(desk.runner.drain(60))
    await asyncio.sleep(0.01)
    desk.ledger.slow.set()
    await asyncio.wait_for(draining, 5)
    left, sent = await desk.run(), len(desk.gateway.requests)
    await desk.restart()

    assert (left.state, left.retry_at, sent) == (RunState.WAITING, FIRE, 0)
    assert (await desk.run()).state is RunState.TRIGGERED
    assert len(desk.gateway.requests) == 1


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


async def test_a_run_that_a_fault_of_ours_left_in_doubt_is_found_out_after_a_pause(
    desk: StubbornDesk,
) -> None:
    desk.gateway.fault = RuntimeError("a fault of ours")
    await desk.start()
    desk.gateway.fault = None
    desk.gateway.sees(found())

    await desk.passes(FAULT_PAUSES[0])
    early = len(desk.gateway.looks)
    await desk.passes(5)

    assert (early, len(desk.gateway.looks)) == (0, 1)
    assert (await desk.run()).state is RunState.TRIGGERED
    assert len(desk.gateway.requests) == 1


async def test_a_fault_that_stays_stops_a_run_so_many_times_and_no_more(
    desk: StubbornDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.gateway.fault = RuntimeError("a fault of ours")
    await desk.start(deadline=FIRE + timedelta(days=2), retry=replace(RETRY, max_attempts=1000))

    await desk.passes(timedelta(days=1))

    assert len(desk.gateway.requests) == 1 + len(FAULT_PAUSES)
    assert (await desk.run()).state is RunState.IN_DOUBT
    assert desk.runner.under_way == 0
    assert "run is left as it is until the next start" in caplog.text


async def test_a_run_that_is_resolved_in_the_pause_after_a_fault_is_let_go(desk: StubbornDesk) -> None:
    desk.gateway.fault = RuntimeError("a fault of ours")
    run = await desk.start()

    await desk.ledger.resolve(run.id, desk.clock.now(), NextStep(RunState.FAILED, "by hand"))
    await desk.passes(timedelta(hours=1))

    assert (desk.gateway.looks, desk.runner.under_way) == ([], 0)
    assert (await desk.run()).reason == "by hand"


async def test_a_ledger_that_is_unusable_is_asked_no_more(
    desk: StubbornDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.answers(an_answer(Outcome.UNKNOWN, "lost"))
    await desk.start()

    desk.ledger.damaged = True
    await desk.passes(3)

    assert (desk.runner.under_way, desk.gateway.looks) == (0, [])
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


async def test_nothing_is_sent_where_the_ledger_is_unusable(
    desk: StubbornDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.ledger.damaged = True

    await desk.start()

    assert (desk.runner.under_way, desk.gateway.requests) == (0, [])
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


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
    assert desk.runner.under_way == 0


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.IN_DOUBT])
async def test_a_run_that_is_further_than_it_was_left_is_gone_on_with_after_a_pause(
    desk: StubbornDesk, state: RunState
) -> None:
    run = await desk.claim()
    await desk.ledger.begin_attempt(run.id, 1, FIRE)
    step = NextStep(state, "because", FIRE if state is RunState.WAITING else None)
    await desk.ledger.end_attempt(run.id, 1, FIRE, an_answer(Outcome.UNKNOWN), step)
    desk.gateway.sees(found())
    desk.clock.advance(1)

    desk.runner.start(run)
    await desk.passes(FAULT_PAUSES[0] + 5)

    assert (await desk.run()).state is RunState.TRIGGERED
    assert len(desk.gateway.requests) == (state is RunState.WAITING)


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

    await desk.restart()

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


HOURLY = a_schedule(cron="30 * * * *", catch_up=CatchUp.ALL, catch_up_window=timedelta(hours=5))
LATE = timedelta(hours=3)
NEVER_SENT = "the deadline passed before it could be sent; it was never sent"


async def claimed_and_left(desk: StubbornDesk) -> Run:
    """Have a former process die between the claim and the first attempt, and that be hours ago."""
    run = await desk.claim()
    desk.clock.advance(LATE)
    return run


async def test_a_claimed_run_that_nobody_sent_before_its_deadline_is_caught_up(desk: StubbornDesk) -> None:
    run = await claimed_and_left(desk)
    desk.answers(an_answer(Outcome.NOT_SENT), accepted())

    await desk.restart(HOURLY)
    waiting = await desk.run(run)
    await desk.passes(10)

    assert (waiting.state, waiting.deadline) == (RunState.WAITING, FIRE + LATE + RETRY.deadline)
    assert (await desk.run(run)).state is RunState.TRIGGERED


async def test_the_deadline_of_a_run_that_is_caught_up_outlives_the_process(desk: StubbornDesk) -> None:
    run = await claimed_and_left(desk)
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW, retry_after=timedelta(minutes=5)), accepted())

    await desk.restart(HOURLY)
    await desk.restart()
    await desk.passes(timedelta(minutes=5))

    assert (await desk.run(run)).state is RunState.TRIGGERED
    assert len(desk.gateway.requests) == 2


async def test_each_of_a_flow_that_is_caught_up_has_its_whole_time_after_those_before_it(
    desk: StubbornDesk,
) -> None:
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW, retry_after=timedelta(0)))
    hurried = replace(RETRY, deadline=timedelta(seconds=1), max_attempts=1000)
    hour = timedelta(hours=1)
    await desk.claim(FIRE, retry=hurried, deadline=FIRE)
    await desk.claim(FIRE + hour, retry=hurried, deadline=FIRE)
    await desk.claim(FIRE, retry=hurried, deadline=FIRE, schedule_id="other", flow=7)
    desk.clock.advance(LATE)

    await desk.restart(HOURLY, replace(HOURLY, id="other", flow=7))

    deadlines = {(run.fire_time, run.flow): run.deadline - FIRE - LATE for run in await desk.ledger.runs()}
    minute = timedelta(minutes=1)
    assert deadlines == {(FIRE, 3377): minute, (FIRE + hour, 3377): 2 * minute, (FIRE, 7): minute}


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        (None, NEVER_SENT),
        (replace(HOURLY, enabled=False), NEVER_SENT),
        (replace(HOURLY, flow=2430), NEVER_SENT),
        (replace(HOURLY, task=1), NEVER_SENT),
        (replace(HOURLY, target="other"), NEVER_SENT),
        (replace(HOURLY, id="renamed"), NEVER_SENT),
        (replace(HOURLY, timing=Timing("31 * * * *", "UTC")), NEVER_SENT),
        (replace(HOURLY, timing=replace(HOURLY.timing, starts_at=FIRE + LATE)), NEVER_SENT),
        (replace(HOURLY, catch_up=CatchUp.NONE), "never sent: 3h late, and catch_up is none"),
        (
            replace(HOURLY, catch_up_window=timedelta(hours=2)),
            "never sent: 3h late, outside the catch_up_window of 2h",
        ),
        (
            replace(HOURLY, catch_up=CatchUp.LATEST),
            "never sent: 3h late, and catch_up: latest starts a later fire instead",
        ),
        (replace(HOURLY, catch_up=CatchUp.LATEST, timing=Timing("30 2 * * *", "UTC")), None),
        (replace(HOURLY, catch_up=CatchUp.LATEST, blackout=closed((FIRE + LATE / 9, FIRE + 9 * LATE))), None),
        (
            replace(HOURLY, catch_up=CatchUp.LATEST, blackout=closed((FIRE + LATE / 9, FIRE + LATE / 2))),
            "never sent: 3h late, and catch_up: latest starts a later fire instead",
        ),
        (HOURLY, None),
    ],
)
async def test_whether_a_claimed_run_is_caught_up_is_for_its_schedule_to_say_as_it_is_now(
    desk: StubbornDesk, schedule: Schedule | None, reason: str | None
) -> None:
    run = await claimed_and_left(desk)

    await desk.restart(*filter(None, [schedule]))

    run = await desk.run(run)
    assert (run.state, run.reason) == (RunState.FAILED if reason else RunState.TRIGGERED, reason)
    assert len(desk.gateway.requests) == (reason is None)


async def test_the_latest_of_several_claimed_runs_is_the_one_that_is_caught_up(desk: StubbornDesk) -> None:
    fires = [FIRE + timedelta(hours=number) for number in range(3)]
    for fire in fires:
        await desk.claim(fire, deadline=FIRE, origin=Origin.CATCH_UP)
    desk.clock.advance(timedelta(hours=2, minutes=50))

    await desk.restart(replace(HOURLY, catch_up=CatchUp.LATEST))

    assert await desk.states() == [RunState.FAILED, RunState.FAILED, RunState.TRIGGERED]


async def test_a_claimed_run_that_is_in_time_is_sent_whatever_its_schedule_says_of_late_ones(
    desk: StubbornDesk,
) -> None:
    await desk.claim()
    desk.clock.advance(RETRY.deadline)

    await desk.restart(replace(HOURLY, catch_up=CatchUp.NONE))

    run = await desk.run()
    assert (run.state, run.deadline) == (RunState.TRIGGERED, FIRE + RETRY.deadline)


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.UNKNOWN])
async def test_what_was_tried_before_its_deadline_is_not_caught_up(
    desk: StubbornDesk, outcome: Outcome
) -> None:
    desk.answers(an_answer(outcome, retry_after=timedelta(minutes=1)))
    desk.gateway.sees(unclear())
    run = await desk.start()
    await desk.runner.drain(0)
    desk.clock.advance(LATE)

    await desk.restart(HOURLY)
    await desk.passes(60)

    run = await desk.run(run)
    assert run.state is (RunState.FAILED if outcome is Outcome.NOT_SENT else RunState.IN_DOUBT)
    assert len(desk.gateway.requests) == 1


def test_no_schedule_may_allow_an_attempt_more_than_is_looked_back_for(tmp_path: Path) -> None:
    file = tmp_path / "schedules.yaml"
    text = "schedules: {a: {cron: '@daily', timezone: UTC, flow: 1, retry: {attempt_timeout: %ds}}}"
    longest = int(LONGEST_ATTEMPT.total_seconds())

    file.write_text(text % longest)
    load_catalog(str(file), None)
    file.write_text(text % (longest + 1))
    with pytest.raises(ConfigError, match="attempt_timeout"):
        load_catalog(str(file), None)
