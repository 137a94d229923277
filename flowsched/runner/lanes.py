"""Who may send to a flow, and when: one at a time, and a minute apart where both may be processed."""

from __future__ import annotations

import asyncio
import heapq
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowsched.model import AFTER_THE_OTHERS
from flowsched.retry import APART

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.model import Run

SPACING = APART.total_seconds()

GRACE = 1.0
"""Seconds that a run may follow earlier than SPACING, when it was not due before: fires a minute apart are
never exactly so, and without it each delay of a minutely flow would be handed on to all later fires."""


@dataclass(order=True)
class _Waiter:
    rank: tuple[bool, float, int]
    due: float = field(compare=False)
    """When its run was due, by the monotonic clock."""
    admitted: asyncio.Future[bool] = field(compare=False)
    """False: its deadline has passed before."""


class Lanes:
    """The lanes of all flows; a lane is one flow of one target."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lanes: dict[tuple[str, int], Lane] = {}

    def of(self, target: str, flow: int) -> Lane:
        """Return the one lane of a flow."""
        lane = self._lanes.get((target, flow))
        if lane is None:
            lane = self._lanes[target, flow] = Lane(self._clock)
        return lane


class Lane:
    """The sends to one flow. Those on schedule go first, then those of the past, by their time."""

    def __init__(self, clock: Clock) -> None:
        self.inside: int | None = None
        """The number of the run that has its place; None: none has."""
        self._clock = clock
        self._last = float("-inf")
        self._busy = False
        self._waiting: list[_Waiter] = []
        self._alarm: asyncio.Task[None] | None = None
        self._catching_up = False
        self._to_catch_up: list[tuple[datetime, int, asyncio.Future[None]]] = []

    @property
    def rests(self) -> bool:
        """Whether it only lets the distance between two calls pass, with others waiting for that."""
        return self._alarm is not None

    def order(self, run: Run) -> AbstractAsyncContextManager[None]:
        """Have runs of the past carried one by one, of those that wait the oldest fire first."""
        return self._after_older(run) if run.origin in AFTER_THE_OTHERS else nullcontext()

    @asynccontextmanager
    async def _after_older(self, run: Run) -> AsyncIterator[None]:
        await self._wait_for_older(run)
        try:
            yield
        finally:
            self._catching_up = False
            self._let_the_oldest_catch_up()

    async def _wait_for_older(self, run: Run) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._to_catch_up, (run.fire_time, run.id, turn))
        # Those that were handed over together are all to be there before the first of them goes.
        asyncio.get_running_loop().call_soon(self._let_the_oldest_catch_up)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._catching_up = False
            self._let_the_oldest_catch_up()
            raise

    def _let_the_oldest_catch_up(self) -> None:
        while self._to_catch_up and self._to_catch_up[0][2].cancelled():
            heapq.heappop(self._to_catch_up)
        if not self._catching_up and self._to_catch_up:
            self._catching_up = True
            heapq.heappop(self._to_catch_up)[2].set_result(None)

    def place(self, run: Run) -> Place:
        """Wait until `run` may be sent, and be the only one until the end of the block.

        False: its deadline has passed before that, and it has no place.
        """
        return Place(self, run)

    def sent(self, ago: float = 0.0) -> None:
        """Take note of a call, so many seconds ago, that may be processed: the next keeps its distance."""
        self._last = max(self._last, self._clock.monotonic() - ago)

    async def enter(self, run: Run) -> bool:
        """Wait for a place as `place` does; who is admitted has to leave."""
        now = self._clock.now()
        # Never early, whatever the wall clock says after a step back: else it would pass for well spaced.
        late = max(0.0, (now - run.due_at).total_seconds())
        due = self._clock.monotonic() - late
        if not self._busy and not self._waiting and self._opens(due) <= self._clock.monotonic():
            self._busy = True
            return True
        rank = (run.origin in AFTER_THE_OTHERS, run.due_at.timestamp(), run.id)
        admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, _Waiter(rank, due, admitted))
        self._arrange()
        if admitted.done():
            return admitted.result()
        expiry = asyncio.create_task(self._expire(admitted, (run.deadline - now).total_seconds()))
        try:
            return await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled() and admitted.result():
                self._busy = False
            self._arrange()
            raise
        finally:
            expiry.cancel()

    def leave(self) -> None:
        """Let the next one go."""
        self.inside = None
        self._busy = False
        self._arrange()

    async def _expire(self, admitted: asyncio.Future[bool], seconds: float) -> None:
        """Let go of one whose deadline passes: others may go before it for as long as there are any."""
        await self._clock.sleep(seconds)
        if not admitted.done():
            admitted.set_result(False)
            self._arrange()

    def _arrange(self) -> None:
        """Admit the first in line, or wait until it may be admitted."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._waiting and self._waiting[0].admitted.done():
            heapq.heappop(self._waiting)
        if self._busy or not self._waiting:
            return
        wait = self._opens(self._waiting[0].due) - self._clock.monotonic()
        if wait > 0:
            self._alarm = asyncio.create_task(self._arrange_after(wait))
        else:
            self._busy = True
            heapq.heappop(self._waiting).admitted.set_result(True)

    def _opens(self, due: float) -> float:
        """Return from when on one that was due then may be admitted, both by the monotonic clock."""
        if due >= self._last + SPACING - GRACE:
            return float("-inf")
        return self._last + SPACING

    async def _arrange_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm = None
        self._arrange()


class Place:
    """The wait for a place in a lane, and the place.

    Not made of a generator: each fire takes one, and for an asynchronous one the loop keeps books.
    """

    def __init__(self, lane: Lane, run: Run) -> None:
        self._lane = lane
        self._run = run
        self._admitted = False

    async def __aenter__(self) -> bool:
        self._admitted = await self._lane.enter(self._run)
        if self._admitted:
            self._lane.inside = self._run.id
        return self._admitted

    async def __aexit__(self, *_: object) -> None:
        if self._admitted:
            self._lane.leave()
