"""Instances and their turns: one of a flow runs, the others wait (enos-api sections 3.1 and 5).

Nothing happens in the background. A flow's line is brought up to an instant when somebody looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from flowsched.simulator.world import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime, timedelta


def instance_id(flow: int, trigger_time: datetime) -> str:
    """Return the id of an instance made through the API: flow and UTC minute, 14 digits."""
    return f"{flow}-{trigger_time:%Y%m%d%H%M}00"


@dataclass(slots=True, kw_only=True)
class Instance:
    """One instance of a flow. All instants are UTC."""

    id: str
    flow: int
    task: int | None
    """None: the whole flow."""
    trigger_time: datetime
    parameters: Mapping[str, str]
    ends_as: Status
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    cancelled: bool = False

    @property
    def ready(self) -> datetime:
        """The earliest start: a past trigger time starts at once, a future one waits [I]."""
        return max(self.created, self.trigger_time)

    @property
    def status(self) -> Status:
        """Where it stands, as of the instant its line was last brought up to."""
        if self.cancelled:
            return Status.CANCEL
        if self.ended is not None:
            return self.ends_as
        return Status.WAIT if self.started is None else Status.RUNNING


@dataclass(slots=True)
class Line:
    """The instances of one flow, in the order in which they became ready."""

    duration: timedelta
    _waiting: list[tuple[datetime, int, Instance]] = field(default_factory=list)
    _running: Instance | None = None
    _free_from: datetime | None = None
    _joined: int = 0

    def join(self, instance: Instance) -> None:
        """Stand in line."""
        self._joined += 1
        heappush(self._waiting, (instance.ready, self._joined, instance))

    def advance(self, now: datetime) -> None:
        """Let begin and end whatever begins or ends by `now`, inclusive, at the instants it does."""
        while self._end_by(now) or self._begin_by(now):
            pass

    def cancel(self, instance: Instance, now: datetime) -> None:
        """Take an instance that has not ended out of the line, if it still stands there."""
        instance.cancelled = True
        instance.ended = now
        if instance is self._running:
            self._leave(now)

    def _end_by(self, now: datetime) -> bool:
        running = self._running
        if running is None or running.started is None or running.started + self.duration > now:
            return False
        running.ended = running.started + self.duration
        self._leave(running.ended)
        return True

    def _begin_by(self, now: datetime) -> bool:
        while self._waiting and self._waiting[0][2].cancelled:
            heappop(self._waiting)
        if self._running is not None or not self._waiting:
            return False
        first = self._waiting[0][2]
        start = max(first.ready, self._free_from or first.ready)
        if start > now:
            return False
        heappop(self._waiting)
        first.started = start
        self._running = first
        return True

    def _leave(self, at: datetime) -> None:
        self._running = None
        self._free_from = at


class Instances:
    """Every instance there has been, by its id."""

    def __init__(self, duration_of: Callable[[int], timedelta]) -> None:
        self._duration_of = duration_of
        self._by_id: dict[str, Instance] = {}
        self._lines: dict[int, Line] = {}

    def add(self, instance: Instance) -> bool:
        """Put an instance in its flow's line; False: its id is taken (the one-minute rule)."""
        if instance.id in self._by_id:
            return False
        self._by_id[instance.id] = instance
        self._line(instance.flow).join(instance)
        return True

    def get(self, id_: str, now: datetime) -> Instance | None:
        """Return an instance as it stands now; None: nobody has that id."""
        instance = self._by_id.get(id_)
        if instance is not None:
            self._line(instance.flow).advance(now)
        return instance

    def every(self, now: datetime) -> Iterable[Instance]:
        """Return all instances as they stand now, in the order of their creation."""
        for line in self._lines.values():
            line.advance(now)
        return list(self._by_id.values())

    def cancel(self, instance: Instance, now: datetime) -> bool:
        """Cancel an instance; False: it has ended."""
        self._line(instance.flow).advance(now)
        if instance.status.is_end:
            return False
        self._line(instance.flow).cancel(instance, now)
        return True

    def _line(self, flow: int) -> Line:
        if flow not in self._lines:
            self._lines[flow] = Line(self._duration_of(flow))
        return self._lines[flow]
