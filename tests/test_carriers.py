"""Who carries a run that is claimed again while its old task still ends: one at a time, and never nobody."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.errors import LedgerRefusal
from flowsched.events import RunMoved
from flowsched.ledger import Ledger
from flowsched.model import Action, ActionKind, NextStep, Origin, Outcome, RunState
from flowsched.runner import Runner
from flowsched.runner.carriers import Carriers
from tests.builders import T0, a_run, an_answer
from tests.desk import FIRE, Desk
from tests.fakes import accepted, all_have_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flowsched.events import Event
    from flowsched.model import Run

SECOND = timedelta(seconds=1)
REFUSED = an_answer(Outcome.REFUSED_FOR_GOOD, "no such flow")
BUSY = an_answer(Outcome.REFUSED_FOR_NOW, "busy", retry_after=timedelta(seconds=90))


class Told(Desk):
    """A desk that keeps how its runs have moved, as it is told."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.moves: list[RunState] = []
        self.runner = Runner(self.ledger, self.gateways, self.clock, self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, RunMoved):
            self.moves.append(event.run.state)

    async def by_hand(self) -> Run:
        action = Action(
            at=self.clock.now(), by="kim", kind=ActionKind.TRIGGER, subject="nightly", reason=None, detail=""
        )
        return await self.ledger.claim_by_hand(self.new_run(origin=Origin.MANUAL), action)

    async def started(self) -> Run:
        run = await self.by_hand()
        self.runner.start(run)
        await self.quiet()
        return await self.run(run)

    async def triggered_again(self) -> None:
        """As a person does it who knows that the run has failed."""
        self.clock.advance(SECOND)
        self.runner.start(await self.by_hand())

    async def cancelled(self, run: Run) -> None:
        action = Action(
            at=self.clock.now(), by="lee", kind=ActionKind.CANCEL, subject="run", reason="no", detail=""
        )
        await self.runner.let_go(await self.ledger.cancel(run.id, self.clock.now(), "cancelled", action))

    async def resolved(self, run: Run) -> None:
        step = NextStep(RunState.FAILED, "not there")
        await self.runner.let_go(await self.ledger.resolve(run.id, self.clock.now(), step))

    @asynccontextmanager
    async def one_commit(self) -> AsyncIterator[None]:
        """Have all that is asked of the ledger in the block be done, and answered, at once."""
        gate = threading.Event()
        self.ledger._writer.do(lambda _: gate.wait(30))
        try:
            yield
            await all_have_run()
        finally:
            gate.set()


@pytest.fixture
async def desk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Told]:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Told(ledger)
        yield desk
        await desk.runner.drain(0)
    assert [one.message for one in caplog.records if one.levelno >= logging.CRITICAL] == []


async def test_a_run_claimed_again_in_the_commit_of_its_failure_is_carried(desk: Told) -> None:
    desk.answers(REFUSED, accepted())
    desk.gateway.hold = asyncio.Event()
    run = await desk.started()

    async with desk.one_commit():
        desk.gateway.hold.set()
        await all_have_run()
        again = asyncio.create_task(desk.triggered_again())
    await desk.quiet()
    await again

    assert (await desk.run(run)).state is RunState.TRIGGERED
    assert (len(desk.gateway.requests), desk.runner.under_way) == (2, 0)
    assert desk.moves[-5:] == ["sending", "failed", "waiting", "sending", "triggered"]


async def test_a_run_claimed_again_in_the_commit_of_its_cancellation_is_carried(desk: Told) -> None:
    desk.answers(BUSY, accepted())
    run = await desk.started()

    async with desk.one_commit():
        works = [asyncio.create_task(desk.cancelled(run))]
        await all_have_run()
        works.append(asyncio.create_task(desk.triggered_again()))
    await asyncio.gather(*works)
    await desk.passes(timedelta(minutes=5))

    assert (await desk.run(run)).state is RunState.TRIGGERED
    assert (len(desk.gateway.requests), desk.runner.under_way) == (2, 0)
    assert desk.moves[-5:] == ["waiting", "failed", "waiting", "sending", "triggered"]


async def test_cancelled_and_claimed_again_several_times_at_once_a_run_is_carried_once(desk: Told) -> None:
    desk.answers(BUSY, accepted())
    run = await desk.started()

    async with desk.one_commit():
        works = []
        for _ in range(3):
            works.append(asyncio.create_task(desk.cancelled(run)))
            await all_have_run()
            works.append(asyncio.create_task(desk.triggered_again()))
            await all_have_run()
    await asyncio.gather(*works)
    await desk.passes(timedelta(minutes=5))

    assert (await desk.run(run)).state is RunState.TRIGGERED
    assert (len(desk.gateway.requests), desk.runner.under_way) == (2, 0)


async def test_what_an_old_task_begins_meanwhile_is_not_begun_for_the_new_claim(desk: Told) -> None:
    desk.answers(BUSY, accepted())
    run = await desk.started()

    async with desk.one_commit():
        works = [asyncio.create_task(desk.cancelled(run))]
        await all_have_run()
        works.append(asyncio.create_task(desk.triggered_again()))
        await all_have_run()
        desk.clock.advance(90)  # the old task wakes, and does not know yet
        await all_have_run()
        desk.clock.advance(SECOND)
    await asyncio.gather(*works)
    await desk.passes(timedelta(minutes=5))

    found = await desk.run(run)
    assert (found.state, found.attempts) == (RunState.TRIGGERED, 2)
    assert len(desk.gateway.requests) == 2


async def test_the_end_that_an_old_task_has_found_is_not_that_of_the_new_claim(desk: Told) -> None:
    desk.answers(an_answer(Outcome.UNKNOWN), accepted())
    run = await desk.started()
    assert run.state is RunState.IN_DOUBT

    async with desk.one_commit():
        works = [asyncio.create_task(desk.resolved(run))]
        await all_have_run()
        works.append(asyncio.create_task(desk.triggered_again()))
        await all_have_run()
        ending = NextStep(RunState.FAILED, "gave up")
        late = desk.ledger.settle(run.id, desk.clock.now(), ending, claimed_at=run.claimed_at)
        ended = asyncio.create_task(late)
    await asyncio.gather(*works)
    with pytest.raises(LedgerRefusal, match="it cannot become failed"):
        await ended
    await desk.passes(timedelta(minutes=5))

    assert (await desk.run(run)).state is RunState.TRIGGERED


async def test_one_that_was_cancelled_without_a_word_to_the_runner_is_carried_at_once_again(
    desk: Told,
) -> None:
    desk.answers(BUSY, accepted())
    run = await desk.started()
    action = Action(at=FIRE, by="lee", kind=ActionKind.CANCEL, subject="run", reason="no", detail="")
    await desk.ledger.cancel(run.id, FIRE, "cancelled", action)  # and its answer was lost

    await desk.triggered_again()
    await desk.quiet()

    assert (await desk.run(run)).state is RunState.TRIGGERED


async def test_an_old_task_hands_a_new_claim_on_that_nobody_has_brought(desk: Told) -> None:
    desk.answers(BUSY, accepted())
    run = await desk.started()
    action = Action(at=FIRE, by="lee", kind=ActionKind.CANCEL, subject="run", reason="no", detail="")
    await desk.ledger.cancel(run.id, FIRE, "cancelled", action)
    desk.clock.advance(SECOND)
    await desk.by_hand()  # whose answer is lost, too

    await desk.passes(timedelta(minutes=2))

    assert (await desk.run(run)).state is RunState.TRIGGERED
    assert desk.moves[-3:] == ["waiting", "sending", "triggered"]


async def test_the_same_claim_handed_over_twice_is_carried_once(desk: Told) -> None:
    run = await desk.by_hand()

    desk.runner.start(run)
    desk.runner.start(run)
    await desk.quiet()

    assert desk.moves == ["claimed", "sending", "triggered"]


async def test_a_claim_that_waits_for_an_old_task_is_left_by_a_drain_for_the_next_start(desk: Told) -> None:
    desk.answers(BUSY, accepted())
    run = await desk.started()
    action = Action(at=FIRE, by="lee", kind=ActionKind.CANCEL, subject="run", reason="no", detail="")
    await desk.ledger.cancel(run.id, FIRE, "cancelled", action)
    await desk.triggered_again()

    await desk.runner.drain(0)
    assert ((await desk.run(run)).state, desk.runner.under_way) == (RunState.WAITING, 0)
    await desk.restart()

    assert (await desk.run(run)).state is RunState.TRIGGERED


@pytest.mark.parametrize("old_is_spared", [False, True])
async def test_of_several_claims_at_once_no_two_are_at_work(*, old_is_spared: bool) -> None:
    carriers, log = Carriers(), list[str]()
    may_end = asyncio.Event()

    def work(name: str) -> Callable[[], asyncio.Future[None]]:
        async def at_work() -> None:
            log.append(f"{name} begins")
            try:
                await may_end.wait()
            finally:
                await asyncio.sleep(0)  # to end takes its time
                log.append(f"{name} ends")

        return at_work  # type: ignore[return-value]

    runs = [a_run(claimed_at=T0 + number * SECOND) for number in range(4)]
    for number, run in enumerate(runs):
        spared = carriers.tasks if old_is_spared and number == 1 else ()
        carriers.take(run, work(str(number)), unless=spared)  # type: ignore[arg-type]
        if number == 0:
            await all_have_run()
    await carriers.let_go(runs[2])
    assert carriers.have(runs[3])
    may_end.set()
    await all_have_run()

    assert log == ["0 begins", "0 ends", "3 begins", "3 ends"]
    assert (len(carriers), carriers.tasks) == (0, set())
