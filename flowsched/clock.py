"""The one place that reads the time, sleeps and draws random numbers.

All else is given `now`, or a `Clock`. Tests give a clock that is advanced by hand.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the shells of the house need of time and chance."""

    def now(self) -> datetime:
        """Return this instant, aware, in UTC. It may step in either direction."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never steps back."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many of this clock's seconds; at once for zero or less."""

    def draw(self) -> float:
        """Return a random number, 0 inclusive to 1 exclusive."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall clock in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep in real seconds."""
        await asyncio.sleep(max(0.0, seconds))

    def draw(self) -> float:
        """Draw from a generator that the system has seeded: daemons started together must not agree."""
        return random.random()  # noqa: S311 - for waits and names, no secret


class FastClock:
    """A clock that starts at an instant of choice and runs `speed` times as fast as the machine's."""

    def __init__(self, start: datetime, speed: float, began: float | None = None) -> None:
        """Stand at `start` when the machine's monotonic clock stands at `began`; None: now.

        Processes of one machine that are given the same three share one time.
        """
        self._start = start
        self._speed = speed
        self._began = time.monotonic() if began is None else began

    def now(self) -> datetime:
        """Return the start plus all that has passed since, times the speed."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return this clock's seconds since its start."""
        return (time.monotonic() - self._began) * self._speed

    async def sleep(self, seconds: float) -> None:
        """Sleep that many of this clock's seconds."""
        await asyncio.sleep(max(0.0, seconds) / self._speed)

    def draw(self) -> float:
        """Draw as the machine's clock does."""
        return random.random()  # noqa: S311 - as there
