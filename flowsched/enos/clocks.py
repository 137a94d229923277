"""Compares this machine's clock with a gateway's, and logs when they differ too much."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flowsched.enos.offsets import Offset, Word, offset_by, word_due
from flowsched.enos.replies import date

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from flowsched.clock import Clock
    from flowsched.enos.replies import Reply

log = logging.getLogger(__name__)


class ClockComparison:
    """What the replies of one target tell of its gateway's clock."""

    def __init__(self, target: str, tolerance: timedelta, clock: Clock) -> None:
        self.offset: timedelta | None = None
        """How far the gateway is ahead, by the latest reply that told; None: none has yet."""
        self._target = target
        self._tolerance = tolerance
        self._clock = clock
        self._said_at: float | None = None

    @property
    def apart(self) -> bool:
        """Whether the clocks were last surely seen to differ by more than the tolerance."""
        return self._said_at is not None

    def note(self, reply: Reply, began: datetime) -> None:
        """Take note of a reply that has just been read, to a call that began at that instant."""
        dated = date(reply)
        if dated is None:
            return
        offset = offset_by(dated, began, self._clock.now())
        self.offset = offset.about
        self._say(offset, self._clock.monotonic())

    def _say(self, offset: Offset, now: float) -> None:
        word = word_due(beyond=offset.beyond(self._tolerance), said_at=self._said_at, now=now)
        if word is None:
            return
        facts = {
            "target": self._target,
            "seconds": round(offset.about.total_seconds(), 1),
            "tolerance": self._tolerance.total_seconds(),
        }
        if word is Word.APART:
            self._said_at = now
            log.error("clock of this machine and the gateway's differ by more than allowed", extra=facts)
        else:
            self._said_at = None
            log.warning("clock of this machine and the gateway's agree again", extra=facts)
