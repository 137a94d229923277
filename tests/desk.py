"""A runner with all that it works with: a hand-advanced clock, a real ledger, a scripted gateway."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flowsched.ledger import Ledger
from flowsched.runner import Runner
from tests.builders import RETRY, a_new_run
from tests.fakes import HandClock, ScriptedGateway, reaches, time_passes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import timedelta
    from pathlib import Path

    from flowsched.ledger.thread import LedgerThread
    from flowsched.model import Answer, Attempt, NewRun, NextStep, Run, RunState, Schedule
    from flowsched.runner import Gateway

FIRE = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
INSTANCE = "3377-20260101023000"


class Desk:
    """Runs start from here, and time passes only as it is told to."""

    def __init__(self, ledger: Ledger, clock: HandClock | None = None) -> None:
        self.ledger = ledger
        self.clock = clock or HandClock(FIRE)
        self.gateway = ScriptedGateway(clock=self.clock)
        self.gateways: Mapping[str, Gateway] = {"default": self.gateway}
        self.runner = Runner(ledger, self.gateways, self.clock)
        self._asked: set[asyncio.Future[Any]] = set()
        for thread in (ledger._reader, ledger._writer):
            self._keep_an_eye_on(thread)

    def answers(self, *answers: Answer) -> None:
        self.gateway.answers = list(answers)

    def new_run(self, fire_time: datetime = FIRE, **more: Any) -> NewRun:
        now = self.clock.now()
        row: dict[str, Any] = {
            "fire_time": fire_time,
            "due_at": fire_time,
            "claimed_at": now,
            "deadline": now + RETRY.deadline,
            "predicted_instance": f"{more.get('flow', 3377)}-{fire_time:%Y%m%d%H%M}00",
        }
        return a_new_run(**(row | more))

    async def claim(self, fire_time: datetime = FIRE, **more: Any) -> Run:
        (run,) = await self.ledger.claim([self.new_run(fire_time, **more)], [])
        return run

    async def start(self, fire_time: datetime = FIRE, **more: Any) -> Run:
        """Claim a run, start it, and let it go as far as it gets without time passing."""
        run = await self.claim(fire_time, **more)
        self.runner.start(run)
        await self.quiet()
        return run

    async def restart(self, *schedules: Schedule) -> None:
        """As a new process on the same ledger, which was killed before; these schedules are in force then."""
        await self.runner.drain(0)
        self.runner = Runner(self.ledger, self.gateways, self.clock)
        await self.runner.take_up(await self.ledger.open_runs(), {each.id: each for each in schedules})
        await self.quiet()

    async def settle(self, run: Run, step: NextStep) -> Run:
        return await self.ledger.settle(run.id, self.clock.now(), step)

    async def run(self, run: Run | None = None) -> Run:
        """Return a run as it stands; None: the only one."""
        found = (await self.ledger.runs())[0] if run is None else await self.ledger.run(run.id)
        assert found is not None
        return found

    async def states(self) -> list[RunState]:
        """Return how the runs stand, oldest fire time first."""
        return [run.state for run in reversed(await self.ledger.runs())]

    async def attempts(self, run: Run | None = None) -> list[Attempt]:
        run = await self.run(run)
        return (await self.ledger.attempts([run.id])).get(run.id, [])

    async def reaches(self, state: RunState) -> Run:
        return await reaches(self.ledger, state)

    async def passes(self, by: timedelta | float) -> None:
        """Let time pass, from one sleeper's end to the next, each with all that follows from it."""
        await time_passes(self.clock, by, self.quiet)

    async def quiet(self) -> None:
        """Wait until all have done what they can do without time passing."""
        turns = 0
        async with asyncio.timeout(10):
            while turns < 30:
                await asyncio.sleep(0)
                turns = 0 if self._asked else turns + 1

    def _keep_an_eye_on(self, thread: LedgerThread) -> None:
        do = thread.do

        def seen(operation: Any) -> asyncio.Future[Any]:
            future = do(operation)
            self._asked.add(future)
            future.add_done_callback(self._asked.discard)
            return future

        thread.do = seen  # type: ignore[method-assign]


@asynccontextmanager
async def a_desk(folder: Path, clock: HandClock | None = None) -> AsyncIterator[Desk]:
    """A desk on a new ledger."""
    async with await Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        desk = Desk(ledger, clock)
        yield desk
        await desk.runner.drain(0)
