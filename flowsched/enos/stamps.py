"""Timestamps for signed calls: no two alike, since EnOS refuses a digest that it has seen (1001)."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MOST_AHEAD = 1_000


class Stamps:
    """Milliseconds since the epoch, strictly increasing while the clock does not step back.

    After a step back they follow the clock instead of running ahead of it, since EnOS refuses calls whose
    timestamp is far from its own. The chance of then meeting a digest again is left to the answer 1001.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self, now: datetime) -> int:
        """Return the stamp of a call made now."""
        stamp = (now - _EPOCH) // _MILLISECOND
        if 0 <= self._last - stamp < _MOST_AHEAD:
            stamp = self._last + 1
        self._last = stamp
        return stamp


_BY_KEY: defaultdict[str, Stamps] = defaultdict(Stamps)


def stamps_of(access_key: str) -> Stamps:
    """Return the stamps of one key: all gateways of the process that use the key share them."""
    return _BY_KEY[access_key]
