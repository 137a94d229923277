"""One accelerated time for several processes, and a wall clock that can be stepped from outside."""

from __future__ import annotations

import asyncio
import mmap
import random
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2025, 10, 26, 0, 10, tzinfo=UTC)
"""Fifty minutes before clocks are set back in Berlin: the repeated hour falls into every soak."""

_OFFSET = struct.Struct("d")


@dataclass(frozen=True, slots=True)
class Pace:
    """How the time of a soak runs: for every process the same, as the machine's monotonic clock is."""

    began: float
    """By the machine's monotonic clock."""
    speed: float
    """Seconds of the soak in a real one."""

    def ticks(self) -> float:
        """Seconds of the soak since its beginning; nothing steps them."""
        return (time.monotonic() - self.began) * self.speed


class Offset:
    """By how many seconds a wall clock was stepped in all; kept in a file that processes share."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_OFFSET.pack(0.0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _OFFSET.size)

    def get(self) -> float:
        (seconds,) = _OFFSET.unpack_from(self._shared)
        return float(seconds)

    def set(self, seconds: float) -> None:
        _OFFSET.pack_into(self._shared, 0, seconds)


class SoakClock:
    """The clock of one process of a soak; without an offset its wall clock is never stepped."""

    def __init__(self, pace: Pace, offset: Offset | None = None) -> None:
        self._pace = pace
        self._offset = offset

    def now(self) -> datetime:
        stepped = self._offset.get() if self._offset else 0.0
        return START + timedelta(seconds=self._pace.ticks() + stepped)

    def monotonic(self) -> float:
        return self._pace.ticks()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self._pace.speed)

    def draw(self) -> float:
        return random.SystemRandom().random()
