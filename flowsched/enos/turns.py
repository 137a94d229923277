"""Who may call next: a bound on calls at once, and on calls begun in any minute."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from flowsched.clock import Clock
    from flowsched.model import Limits

WINDOW = 60.0

AT_ONCE = 1.0
"""Seconds within which whoever is let through has not waited to speak of."""


class Turnstile:
    """Lets through as many as the limits allow, in the order of their coming.

    Of those that are not urgent, one at a time stands in the queue, so that whoever is urgent waits for one
    of them at most: a gateway that is down has many runs looked up, and others are still to be triggered.

    The rate counts calls where they begin (`Place.sent`), and counts a place that has not sent yet as if
    it did so now: whatever happens between being let through and sending, no 60 seconds see more places
    begin to call than allowed, and a place that was never used costs nothing.

    A place that sends again is counted for those who come after, and does not wait itself: it would wait
    for up to a minute, with its turn held. So where tokens are refused, 60 seconds can see more calls than
    allowed, by one for each place that sends again.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.waiting = 0
        """How many have not been let through yet."""
        self._limits = limits
        self.held_last = ""
        """The limit that somebody was held back by last, in words."""
        self._free = asyncio.Semaphore(limits.concurrency)
        self._rate = limits.rate_per_minute
        self._clock = clock
        self._head_of_the_queue = asyncio.Lock()
        self._not_urgent = asyncio.Lock()
        self._unsent = 0
        self._expiries: deque[float] = deque()
        self._changed = asyncio.Event()

    @property
    def held_by(self) -> str | None:
        """The limit that those wait for who have not been let through, in words; None: nobody waits."""
        return self.held_last if self.waiting else None

    def place(self, *, urgent: bool = True) -> Place:
        """Wait for a place and hold it inside of the block. Cancelled while waiting, nothing is held."""
        return Place(self, urgent=urgent)

    def ticks(self) -> float:
        """Return the clock's monotonic time."""
        return self._clock.monotonic()

    def count(self, *, sent: bool) -> None:
        """Take note that a place is no longer unsent: because it has sent, or because it never will."""
        self._unsent -= 1
        if sent:
            self.count_another()
        self._changed.set()

    def count_another(self) -> None:
        """Take note of a call that begins now."""
        if self._rate is not None:
            self._expiries.append(self._clock.monotonic() + WINDOW)

    async def enter(self, *, urgent: bool) -> None:
        """Wait as `place` does; whoever has come in has to `count`, and to `leave`."""
        self.waiting += 1
        try:
            async with nullcontext() if urgent else self._not_urgent, self._head_of_the_queue:
                if self._free.locked():
                    self.held_last = _counted(self._limits.concurrency, "at once")
                await self._free.acquire()
                try:
                    await self._wait_for_the_rate()
                except BaseException:
                    self._free.release()
                    raise
                self._unsent += 1
        finally:
            self.waiting -= 1

    def leave(self) -> None:
        """Make room for another."""
        self._free.release()

    async def _wait_for_the_rate(self) -> None:
        while self._is_spent():
            self.held_last = _counted(self._limits.rate_per_minute or 0, "a minute")
            if (
                self._expiries
            ):  # a place given back meanwhile is noticed only then: rare, and on the safe side
                await self._clock.sleep(self._expiries[0] - self._clock.monotonic())
            else:
                self._changed.clear()
                await self._changed.wait()

    def _is_spent(self) -> bool:
        if self._rate is None:
            return False
        while self._expiries and self._expiries[0] <= self._clock.monotonic():
            self._expiries.popleft()
        return self._unsent + len(self._expiries) >= self._rate


class Place:
    """One of the calls that may be under way, and the wait for it."""

    def __init__(self, turnstile: Turnstile, *, urgent: bool) -> None:
        self.waited = 0.0
        """Seconds from the coming until it was let through."""
        self.held_by: str | None = None
        """The limit that held back it, or those before it, last, in words; None: it was let in at once."""
        self.urgent = urgent
        self._turnstile = turnstile
        self._unsent = True
        self.left_at: float | None = None
        """When a byte of the latest call may have left, by the clock's monotonic time; None: none has."""

    async def __aenter__(self) -> Self:
        came_at = self._turnstile.ticks()
        await self._turnstile.enter(urgent=self.urgent)
        self.waited = self._turnstile.ticks() - came_at
        if self.waited >= AT_ONCE:
            self.held_by = self._turnstile.held_last
        return self

    async def __aexit__(self, *_: object) -> None:
        self._give_back()
        self._turnstile.leave()

    def leaves(self) -> None:
        """Take note that the first byte of a call leaves now; it may have begun long before."""
        self.left_at = self._turnstile.ticks()

    def sent(self) -> None:
        """Count a call that begins now. A further call from one place is counted too, but did not wait."""
        if self._unsent:
            self._unsent = False
            self._turnstile.count(sent=True)
        else:
            self._turnstile.count_another()

    def _give_back(self) -> None:
        # A place from which nothing was sent has cost nothing.
        if self._unsent:
            self._unsent = False
            self._turnstile.count(sent=False)


def _counted(calls: int, how: str) -> str:
    return f"1 call {how}" if calls == 1 else f"{calls:,} calls {how}"
