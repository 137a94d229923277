"""How far the gateway's clock and ours are apart, by the `Date` of a reply, and when to say so.

The gateway may write the date at any instant between the sending of a call and the end of its reply, and
counts in whole seconds. So a call gives a span, not a number; a slow one a wide span, that may tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

RESOLUTION = timedelta(seconds=1)
"""What a date may be off by, as it is counted in whole seconds; servers differ in how they round."""

AGAIN = 3600.0
"""Seconds after which it is said again that the clocks are apart."""


@dataclass(frozen=True, slots=True)
class Offset:
    """How far the gateway's clock is ahead of ours (below zero: behind), give or take RESOLUTION."""

    low: timedelta
    """At least."""
    high: timedelta
    """At most."""

    @property
    def about(self) -> timedelta:
        """Zero where the clocks may agree; else as if the date was written in the middle of the call."""
        if self.low - RESOLUTION <= timedelta(0) <= self.high + RESOLUTION:
            return timedelta(0)
        return (self.low + self.high) / 2

    def beyond(self, tolerance: timedelta) -> bool | None:
        """Tell whether the clocks differ by more than `tolerance`; None: they may or may not.

        No offset that stays as it is gives True by one call and False by another.
        """
        if self.low - RESOLUTION > tolerance or self.high + RESOLUTION < -tolerance:
            return True
        return False if -tolerance <= self.low and self.high <= tolerance else None


class Word(Enum):
    """What is to be said of the clocks."""

    APART = auto()
    TOGETHER = auto()


def offset_by(date: datetime, began: datetime, ended: datetime) -> Offset:
    """Return what a date tells that was written between two instants of our clock.

    Our clock may have been set back between the two: then they are swapped, and the span is all the wider.
    """
    first, last = sorted((began, ended))
    return Offset(date - last, date - first)


def word_due(*, beyond: bool | None, said_at: float | None, now: float) -> Word | None:
    """Return what is to be said now; None: nothing.

    `said_at` and `now` are monotonic seconds; `said_at` is when APART was last said, None where it was not
    since the clocks last were together.
    """
    if beyond and (said_at is None or now - said_at >= AGAIN):
        return Word.APART
    return Word.TOGETHER if beyond is False and said_at is not None else None
