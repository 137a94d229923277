"""Stand-ins for tests: ordinary typed classes, no mock library."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


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
