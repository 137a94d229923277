"""Stand-ins for tests: ordinary typed classes, no mock library."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flowsched.model import Answer, Outcome
from tests.builders import a_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flowsched.enos import TriggerRequest
    from flowsched.ledger import Ledger
    from flowsched.model import Run, RunState


class HandClock:
    """A clock that stands still until it is advanced (or set, which may also step back).

    `sleep` returns when the hand has been moved far enough; a step of the wall clock alone wakes nobody,
    as with a real machine's monotonic clock.
    """

    def __init__(self, start: datetime | None = None, *, draws: float = 0.5) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0
        self._draw = draws
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic + seconds, future))
        await future

    def draw(self) -> float:
        return self._draw

    @property
    def sleeping(self) -> list[float]:
        """For how many seconds more each sleeper waits, soonest first."""
        return sorted(until - self._monotonic for until, future in self._sleepers if not future.done())

    def advance(self, by: timedelta | float) -> None:
        """Let time pass: both the wall clock and the monotonic one."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        for until, future in self._sleepers:
            if until <= self._monotonic and not future.done():
                future.set_result(None)
        self._sleepers = [pair for pair in self._sleepers if not pair[1].done()]

    def step(self, to: datetime) -> None:
        """Step the wall clock, forward or back, as somebody setting it would."""
        self._now = to


class ScriptedGateway:
    """Gives the answers it was told to, in order, then the last one again; keeps what it was asked.

    A `hold` makes each call wait until it is released, as a slow gateway would.
    """

    def __init__(self, *answers: Answer, clock: HandClock | None = None) -> None:
        self.target = a_target()
        self.requests: list[TriggerRequest] = []
        self.asked_at: list[datetime] = []
        self.timeouts: list[float] = []
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.turns_held = 0
        self._answers = list(answers) or [accepted()]
        self._clock = clock

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[ScriptedGateway]:
        self.turns_held += 1
        try:
            yield self
        finally:
            self.turns_held -= 1

    async def trigger(self, request: TriggerRequest, timeout: float) -> Answer:
        self.requests.append(request)
        self.timeouts.append(timeout)
        if self._clock:
            self.asked_at.append(self._clock.now())
        if self.fault:
            raise self.fault
        if self.hold:
            await self.hold.wait()
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def accepted(instance: str = "3377-20260101023000") -> Answer:
    return Answer(outcome=Outcome.ACCEPTED, detail="created", http_status=200, code=0, instance=instance)


async def eventually(condition: Callable[[], object], within: float = 10.0) -> None:
    """Let the loop run until the condition holds; fails when it does not within so many real seconds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)


async def reaches(ledger: Ledger, *states: RunState, within: float = 10.0) -> Run:
    """Wait until the one run that the ledger holds is in one of the states; return it."""
    async with asyncio.timeout(within):
        while True:
            (run,) = await ledger.runs()
            if run.state in states:
                return run
            await asyncio.sleep(0.002)


async def a_moment() -> None:
    """Let everything that is ready run, and the ledger's thread too: for what must not happen."""
    await asyncio.sleep(0.05)
