"""The books: every call seen, and every instance made, for whoever wants to prove something."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.simulator.instances import Instance
    from flowsched.simulator.orders import Fault


class Signature(StrEnum):
    """What was found when a call's credentials were checked."""

    GOOD = "good"
    NOT_NEEDED = "not_needed"
    UNREAD = "unread"
    """The call was cut off before its body was read."""
    ABSENT = "absent"
    """A header of the three is missing or empty."""
    BAD_TOKEN = "bad_token"  # noqa: S105 - the name of a finding
    """Unknown, expired, refreshed or revoked."""
    BAD_TIMESTAMP = "bad_timestamp"
    """Not a number of milliseconds, or too far off."""
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as the simulator saw it. Holds no secret and no token."""

    number: int
    """Counted from 1, in the order in which calls were decided."""
    connection: int
    """Counted from 1."""
    began_at: datetime
    """When its first bytes arrived."""
    complete_at: datetime | None
    """When its last byte had arrived; None where it was cut off before."""
    method: str
    path: str
    operation: str | None
    """Resource and action, as `flows.trigger` or `token.get`; None: no such operation."""
    flow: int | None
    task: int | None
    trigger_time: int | None
    """In milliseconds, as sent."""
    signature: Signature
    outcome: str
    """What came of it, in words: `OK`, a number and its text, an HTTP status, or `not processed`."""
    created: str | None
    """The id of the instance that this call made, whatever its sender got to hear of it."""
    status: int | None
    """HTTP status of the reply; None where no reply was begun."""
    fault: Fault | None
    """The fault that befell it."""
    traceparent: str | None = None
    """The header of that name, as sent: for which trace it was made."""


class Books:
    """The calls so far, in order; only the latest `keep` of them, where that is a number from 0."""

    def __init__(self, keep: int | None = None) -> None:
        self.calls: deque[Call] = deque(maxlen=keep)
        self.next_number = 1
        """The number that the next call will have."""

    def add(self, call: Call) -> None:
        """Note a call, which has the next number."""
        self.calls.append(call)
        self.next_number += 1


def written_call(call: Call) -> dict[str, object]:
    """Return a call as JSON has it; instants as ISO 8601 with `Z`."""
    return {name: _plain(getattr(call, name)) for name in Call.__slots__}


def written_instance(instance: Instance) -> dict[str, object]:
    """Return an instance as JSON has it, with the name of its status."""
    return {
        "id": instance.id,
        "flow": instance.flow,
        "task": instance.task,
        "trigger_time": _plain(instance.trigger_time),
        "status": instance.status.name,
        "created": _plain(instance.created),
        "started": _plain(instance.started),
        "ended": _plain(instance.ended),
    }


def brief_instance(instance: Instance) -> dict[str, object]:
    """Return what a count of instances needs: the id, which holds flow and minute, and how it stands."""
    return {"id": instance.id, "status": instance.status.name, "created": _plain(instance.created)}


def _plain(value: object) -> object:
    isoformat = getattr(value, "isoformat", None)
    return value if isoformat is None else isoformat(timespec="microseconds").replace("+00:00", "Z")
