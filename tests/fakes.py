"""Stand-ins for tests: ordinary typed classes, no mock library."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from flowsched.model import Answer, Outcome
from tests.builders import a_target, absent, an_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from flowsched.enos import TriggerRequest
    from flowsched.ledger import Ledger
    from flowsched.model import Run, RunState, Sighting, Target

T = TypeVar("T")


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

    So with sightings, for each instance or for all; nothing told, there is no such instance. Where
    `answering` is set, it decides the answers instead. A `hold` makes each trigger wait until it is released,
    as a slow gateway would. `places` is how many turns there are at once; None: no limit.
    """

    def __init__(
        self, *answers: Answer, clock: HandClock | None = None, target: Target | None = None
    ) -> None:
        self._target = target or a_target()
        self.answers = list(answers) or [accepted()]
        self.answering: Callable[[TriggerRequest], Answer] | None = None
        self.cancellation = an_answer(Outcome.ACCEPTED, "EnOS took the cancellation")
        self.requests: list[TriggerRequest] = []
        self.asked_at: list[datetime] = []
        self.timeouts: list[float] = []
        self.looks: list[tuple[str, datetime]] = []
        self.cancelled: list[tuple[str, datetime]] = []
        self.hold: asyncio.Event | None = None
        self.look_hold: asyncio.Event | None = None
        self.cancel_hold: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.turns_held = 0
        self.left_at: float | None = None
        self.held_by: str | None = None
        self.urgent: list[bool] = []
        self.looks_under_way = 0
        self.most_looks_at_once = 0
        self.places: asyncio.Semaphore | None = None
        self._sights: dict[str | None, list[Sighting]] = {None: [absent()]}
        self._clock = clock or HandClock()

    @property
    def target(self) -> Target:
        return self._target

    @target.setter
    def target(self, target: Target) -> None:
        self._target = target

    def sees(self, *sightings: Sighting, of: str | None = None) -> None:
        """Give these sightings from now on; `of` None: of every instance that has none of its own."""
        self._sights[of] = list(sightings)

    @asynccontextmanager
    async def turn(self, *, urgent: bool = True) -> AsyncIterator[ScriptedGateway]:
        self.urgent.append(urgent)
        async with self.places or nullcontext():
            self.turns_held += 1
            try:
                yield self
            finally:
                self.turns_held -= 1

    async def trigger(self, request: TriggerRequest, timeout: float) -> Answer:
        self.requests.append(request)
        self.timeouts.append(timeout)
        self.asked_at.append(self._clock.now())
        if self.fault:
            raise self.fault
        if self.hold:
            await self.hold.wait()
        return self.answering(request) if self.answering else _next(self.answers)

    async def look_up(self, instance: str, timeout: float) -> Sighting:
        self.looks.append((instance, self._clock.now()))
        self.looks_under_way += 1
        self.most_looks_at_once = max(self.most_looks_at_once, self.looks_under_way)
        try:
            if self.look_hold:
                await self.look_hold.wait()
        finally:
            self.looks_under_way -= 1
        return _next(self._sights.get(instance) or self._sights[None])

    async def cancel(self, instance: str, timeout: float) -> Answer:
        self.cancelled.append((instance, self._clock.now()))
        if self.cancel_hold:
            await self.cancel_hold.wait()
        return self.cancellation


def _next(script: list[T]) -> T:
    return script.pop(0) if len(script) > 1 else script[0]


def accepted(instance: str = "3377-20260101023000") -> Answer:
    return Answer(outcome=Outcome.ACCEPTED, detail="created", http_status=200, code=0, instance=instance)


async def time_passes(clock: HandClock, by: timedelta | float, quiet: Callable[[], Awaitable[None]]) -> None:
    """Advance the clock from one sleeper's end to the next; `quiet` waits for all that follows from it."""
    seconds = by.total_seconds() if isinstance(by, timedelta) else by
    end = clock.monotonic() + seconds
    await quiet()
    while (sleeping := clock.sleeping) and sleeping[0] <= end - clock.monotonic():
        clock.advance(sleeping[0])
        await quiet()
    clock.advance(max(0.0, end - clock.monotonic()))
    await quiet()


@asynccontextmanager
async def look_ups_that_hang() -> AsyncIterator[None]:
    """Have all threads that the loop has for look-ups of names hang; the block fails after 10 s."""
    released = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        pool.submit(released.wait, 30)
        try:
            async with asyncio.timeout(10):
                yield
        finally:
            released.set()


async def all_have_run() -> None:
    """Let everything that is ready run, and what becomes ready by that; not for what a thread does."""
    for _ in range(30):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], object], within: float = 30.0) -> None:
    """Let the loop run until the condition holds; fails when it does not within so many real seconds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)


async def reaches(ledger: Ledger, *states: RunState, within: float = 30.0) -> Run:
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
