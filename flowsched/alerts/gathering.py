"""Alerts in, messages of one channel out: what goes together, and how many in an hour. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched.alerts.messages import is_told_apart
from flowsched.model import Message, MessageState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from uuid import UUID

    from flowsched.model import Alert, AlertKind, Channel

MOST_LISTED = 20
"""Alerts of a message that it has in full; of the others it has how many there are."""

MOST_APART = 100
"""Messages that wait where each alert is one of its own; what comes beyond is counted with the last."""

HOUR = 3600.0


@dataclass(slots=True)
class _Group:
    """What is gathered for one message."""

    identity: UUID
    at: datetime
    began: float
    alerts: list[Alert] = field(default_factory=list)
    more: Counter[AlertKind] = field(default_factory=Counter)
    is_written: bool = False
    """Whether it is in the ledger as it stands."""


class Gathering:
    """What one channel is to be told next. Seconds are those of the monotonic clock.

    A message is closed `wait` seconds after its first alert, or as soon after that as the rate allows;
    until then it takes what comes. Where alerts are told apart, a message takes what is about the same, as
    far as a later one says what an earlier one said, and what begins again before its end was told goes on.
    """

    def __init__(
        self, channel: Channel, wait: float, rate_per_hour: int, identity: Callable[[Alert], UUID]
    ) -> None:
        """`identity` gives one for a message that begins with an alert."""
        self.channel = channel
        self._wait = wait
        self._begun: deque[float] = deque(maxlen=rate_per_hour)
        self._identity = identity
        self._groups: list[_Group] = []
        self._is_apart = is_told_apart(channel)
        self._only_counted: set[tuple[AlertKind, str]] = set()
        self._withdrawn: list[Message] = []

    def remember(self, begun: Iterable[float]) -> None:
        """Take messages into account that a former process began, by when it did."""
        self._begun = deque(sorted([*self._begun, *begun]), self._begun.maxlen)

    def resume(self, message: Message, now: float) -> bool:
        """Take a message that a former process has gathered; tell whether this is done."""
        if not self._is_apart or message.state is not MessageState.GATHERING:
            return False
        more = Counter(message.more)
        began = now - self._wait
        self._groups.append(_Group(message.identity, message.at, began, list(message.alerts), more, True))
        self._groups.sort(key=lambda group: group.began)
        return True

    def add(self, alert: Alert, now: float) -> bool:
        """Take an alert, where the channel asks for its kind; tell whether it does."""
        if alert.kind not in self.channel.on:
            return False
        if self._is_apart:
            self._add_apart(alert, now)
        elif self._groups:
            self._put_with(self._groups[0], alert)
        else:
            self._begin(alert, now)
        return True

    def _begin(self, alert: Alert, now: float) -> None:
        self._groups.append(_Group(self._identity(alert), alert.at, now, [alert]))

    def _put_with(self, group: _Group, alert: Alert) -> None:
        if len(group.alerts) < MOST_LISTED:
            group.alerts.append(alert)
        else:
            group.more[alert.kind] += 1
        group.is_written = False

    def _add_apart(self, alert: Alert, now: float) -> None:
        about = (alert.kind, alert.subject)
        waiting = [each for each in self._groups if _about(each) == about]
        if not waiting:
            self._begin_apart(alert, now)
        elif waiting[-1].alerts[0].over is alert.over:
            self._renew(waiting[-1], alert)
        elif len(waiting) == 1:
            self._begin(alert, now)
        else:  # as the first of the two says it: what the second says is over before it was told
            self._withdraw(waiting[1], alert.at)
            self._renew(waiting[0], alert)

    def _begin_apart(self, alert: Alert, now: float) -> None:
        about = (alert.kind, alert.subject)
        last = next((each for each in reversed(self._groups) if not each.alerts[0].over), None)
        if alert.over and about in self._only_counted:
            self._only_counted.discard(about)  # of its beginning nobody was told by name
        elif alert.over or last is None or len(self._groups) < MOST_APART:
            self._only_counted.discard(about)
            self._begin(alert, now)
        else:
            self._only_counted.add(about)
            last.more[alert.kind] += 1
            last.is_written = False

    def _renew(self, group: _Group, alert: Alert) -> None:
        before = alert.before if alert.over else alert.before + group.alerts[0].before + 1
        group.alerts = [replace(alert, before=before)]
        group.is_written = False

    def _withdraw(self, group: _Group, at: datetime) -> None:
        self._groups.remove(group)
        self._withdrawn.append(
            replace(
                self._message(group),
                state=MessageState.DROPPED,
                next_at=None,
                done_at=at,
                error="it was over before it was told",
            )
        )

    def closes_at(self) -> float | None:
        """Return when the next message is to be closed; None: nothing is gathered."""
        if not self._groups:
            return None
        full = self._begun.maxlen is not None and len(self._begun) >= self._begun.maxlen
        allowed = self._begun[0] + HOUR if full else 0.0
        return max(self._groups[0].began + self._wait, allowed)

    def unwritten(self) -> list[Message]:
        """Return what is gathered, as it stands, and was not returned so before."""
        fresh = [group for group in self._groups if not group.is_written]
        for group in fresh:
            group.is_written = True
        withdrawn, self._withdrawn = self._withdrawn, []
        return [*withdrawn, *map(self._message, fresh)]

    def close(self, now: float) -> Message | None:
        """Return the message that is to be closed next, and close it; None: nothing is gathered."""
        if not self._groups:
            return None
        self._begun.append(now)
        return self._message(self._groups.pop(0))

    def left(self, now: float) -> list[Message]:
        """Return what a stop finds: what is told apart is gathered further by the next process."""
        if self._is_apart:
            return [*self._withdrawn, *map(self._message, self._groups)]
        message = self.close(now)
        return [] if message is None else [message]

    def _message(self, group: _Group) -> Message:
        return Message(
            id=None,
            identity=group.identity,
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


def _about(group: _Group) -> tuple[AlertKind, str]:
    return group.alerts[0].kind, group.alerts[0].subject
