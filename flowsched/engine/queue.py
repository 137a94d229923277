"""Whose turn it is to claim: alarms that have rung, and edits that come between."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.model import Timing


class ClaimQueue:
    """Claims for timings whose alarms rang; in one task, so of two fires at once the first by id wins."""

    def __init__(self, claim: Callable[[Iterable[Timing], datetime], Awaitable[bool]], clock: Clock) -> None:
        self._claim = claim
        self._clock = clock
        self._wanted: set[Timing] = set()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False

    @property
    def busy(self) -> bool:
        """Whether something is wanted, or being claimed."""
        return self._changed.is_set() or self._turn.locked()

    def want(self, timing: Timing) -> None:
        """Have what is due under this timing claimed; to be called in the running event loop."""
        self._wanted.add(timing)
        self.look()

    def look(self) -> None:
        """Have a claim made, if only of nothing; to be called in the running event loop."""
        self._changed.set()
        if not self._started:
            self._started = True
            self._keep(self._claim_what_is_wanted())

    def want_after(self, seconds: float, timing: Timing) -> None:
        """Do so when that many seconds have passed."""
        self.after(seconds, partial(self.want, timing))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Act when that many seconds have passed, unless `stop` comes first."""

        async def later() -> None:
            await self._clock.sleep(seconds)
            act()

        self._keep(later())

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Wait until what is being claimed is, and have nothing claimed inside the block."""
        async with self._turn:
            yield

    async def stop(self) -> None:
        """Cancel what is being claimed, and claim no more, whoever may ask for it later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _claim_what_is_wanted(self) -> None:
        while True:
            await self._changed.wait()
            async with self._turn:
                self._changed.clear()
                timings, self._wanted = self._wanted, set()
                if not await self._claim(timings, self._clock.now()):
                    self._wanted |= timings
                    self._changed.set()
