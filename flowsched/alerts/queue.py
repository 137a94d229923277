"""What waits for its time, the soonest first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from flowsched.clock import Clock

T = TypeVar("T")


class DueQueue(Generic[T]):
    """Things, each with the second of the monotonic clock before which it is not to be taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()

    def put(self, thing: T, due: float) -> None:
        """Add something."""
        heapq.heappush(self._heap, (due, next(self._order), thing))
        self._changed.set()

    async def take(self) -> T:
        """Return what is due first, once it is; to be waited for by one alone."""
        while True:
            self._changed.clear()
            if not self._heap:
                await self._changed.wait()
                continue
            left = self._heap[0][0] - self._clock.monotonic()
            if left <= 0:
                return heapq.heappop(self._heap)[2]
            await first_of(self._changed.wait(), self._clock.sleep(left))


async def first_of(*waits: Awaitable[object]) -> None:
    """Return when the first of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
