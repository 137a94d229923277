"""A real limit on calls, as the gateway's quotas per API group (enos-api section 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

MINUTE = 60


@dataclass(slots=True)
class Quota:
    """So many calls in each UTC minute; None: as many as come."""

    calls_per_minute: int | None
    _minute: int | None = None
    _spent: int = 0

    def spend(self, now: datetime) -> int | None:
        """Count a call and return None; or the seconds, at least 1, until the next minute if none is left."""
        if self.calls_per_minute is None:
            return None
        minute, second = divmod(int(now.timestamp()), MINUTE)
        if minute != self._minute:
            self._minute, self._spent = minute, 0
        if self._spent >= self.calls_per_minute:
            return MINUTE - second
        self._spent += 1
        return None
