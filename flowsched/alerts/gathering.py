"""Alerts in, messages of one channel out: what goes together, and how many in an hour. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched.model import Message, MessageState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from flowsched.model import Alert, AlertKind, Channel

MOST_LISTED = 20
"""Alerts of a message that it has in full; of the others it has how many there are."""

HOUR = 3600.0


@dataclass(slots=True)
class _Group:
    """What is gathered for the next message."""

    at: datetime
    began: float
    id: int | None = None
    alerts: list[Alert] = field(default_factory=list)
    more: Counter[AlertKind] = field(default_factory=Counter)


class Gathering:
    """What one channel is to be told next. Seconds are those of the monotonic clock.

    A message is closed `wait` seconds after its first alert, or as soon after that as the rate allows;
    until then it takes what comes.
    """

    def __init__(self, channel: Channel, wait: float, rate_per_hour: int) -> None:
        self.channel = channel
        self.is_written = True
        """Whether what is gathered is in the ledger as it stands; for whoever writes it there to set."""
        self._wait = wait
        self._begun: deque[float] = deque(maxlen=rate_per_hour)
        self._group: _Group | None = None

    def remember(self, begun: Iterable[float]) -> None:
        """Take messages into account that a former process began, by when it did."""
        self._begun.extend(sorted(begun))

    def add(self, alert: Alert, now: float) -> bool:
        """Take an alert, where the channel asks for its kind; tell whether it does."""
        if alert.kind not in self.channel.on:
            return False
        group = self._group = self._group or _Group(alert.at, now)
        if len(group.alerts) < MOST_LISTED:
            group.alerts.append(alert)
        else:
            group.more[alert.kind] += 1
        self.is_written = False
        return True

    def closes_at(self) -> float | None:
        """Return when the message is to be closed; None: nothing is gathered."""
        if self._group is None:
            return None
        full = self._begun.maxlen is not None and len(self._begun) >= self._begun.maxlen
        allowed = self._begun[0] + HOUR if full else 0.0
        return max(self._group.began + self._wait, allowed)

    def message(self) -> Message | None:
        """Return what is gathered, as it stands; None: nothing is."""
        group = self._group
        if group is None:
            return None
        return Message(
            id=group.id,
            channel=self.channel.name,
            at=group.at,
            state=MessageState.GATHERING,
            alerts=tuple(group.alerts),
            more=dict(group.more),
            attempts=0,
            next_at=group.at + timedelta(seconds=self._wait),
            done_at=None,
            error=None,
        )

    def has_id(self, id_: int) -> None:
        """Take the number that the ledger has given to what is gathered."""
        if self._group is not None:
            self._group.id = id_

    def close(self, now: float) -> Message | None:
        """Return what is gathered, and begin anew; None: nothing is."""
        message, self._group = self.message(), None
        self.is_written = True
        if message is not None:
            self._begun.append(now)
        return message
