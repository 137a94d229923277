"""Keeps the service manager told how the daemon stands: ready, reloading, stopping, in words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flowsched.events import Reloaded, Reloading

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowsched.clock import Clock
    from flowsched.events import Event
    from flowsched.ops.notify import Systemd

log = logging.getLogger(__name__)

AT_MOST_EVERY = 1.0
"""Seconds between two statuses."""

ANEW_EVERY = 10
"""After so many such times it is told again without a cause: time has passed, or a word was lost."""


class Herald:
    """Tells the service manager; `say` returns how the daemon stands, in words."""

    def __init__(self, systemd: Systemd, clock: Clock, say: Callable[[], str]) -> None:
        self._systemd = systemd
        self._clock = clock
        self._say = say
        self._changed = False
        self._ready = False
        self._reloading = False
        self._stopping = False
        self._faulty = False

    def hear(self, event: Event) -> None:
        """Note that something has changed; of a reload it tells at once, at its begin and at its end."""
        self._changed = True
        if not self._ready or self._stopping:
            return
        if isinstance(event, Reloading):
            self._reloading = True
            self._systemd.reloading(self._clock.monotonic())
        elif isinstance(event, Reloaded):
            self._reloading = False
            self._announce()

    def ready(self) -> None:
        """Say that all is in place."""
        self._ready = True
        self._announce()

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._stopping = True
        self._changed = True
        self._systemd.stopping("stopping")

    async def keep(self) -> None:
        """Tell of what changes, at most once a second; never ends."""
        quiet = 0
        while True:
            await self._clock.sleep(AT_MOST_EVERY)
            quiet += 1
            if self._changed or quiet >= ANEW_EVERY:
                quiet = 0
                self._announce()

    def _announce(self) -> None:
        self._changed = False
        if not self._systemd.address:
            return
        if self._stopping:
            self._systemd.stopping(self._words())
        elif self._ready and not self._reloading:
            self._systemd.ready(self._words())
        else:
            self._systemd.status(self._words())

    def _words(self) -> str:
        try:
            words = self._say()
        except Exception:
            if not self._faulty:
                log.critical("not known how to say how it stands, by a fault of flowsched", exc_info=True)
            self._faulty = True
            return "its status cannot be told: see the log"
        self._faulty = False
        return words
