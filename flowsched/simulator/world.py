"""What the simulator is told beforehand: who exists, which flows there are, and how it is to behave.

The last is for what the documentation leaves open about EnOS (marked [U] in enos-api).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(IntEnum):
    """The states of an instance (enos-api section 4), and one that is not documented.

    By itself an instance is WAIT, RUNNING, and then SUCCESS or CANCEL; `SimFlow.ends_as` orders the others.
    """

    FAIL = -1
    INIT = 0
    SUCCESS = 1
    RUNNING = 2
    SUSPEND = 3
    INTERNAL_ERROR = 4
    WAIT = 5
    READY = 6
    TIMEOUT = 7
    CANCEL = 8
    RERUN = 9
    SKIP = 10
    UNDOCUMENTED = 42

    @property
    def is_end(self) -> bool:
        """Whether an instance in this state has ended, as section 4 reads it."""
        return self in _ENDS


_ENDS = frozenset(
    {Status.FAIL, Status.SUCCESS, Status.INTERNAL_ERROR, Status.TIMEOUT, Status.CANCEL, Status.SKIP}
)


class AuthFailure(StrEnum):
    """The answer to a bad signature, an unknown or expired token, and a timestamp too far off.

    Which one EnOS gives is unknown (enos-api section 11 item 2); a client must survive all three.
    """

    HTTP_401 = "http401"
    """Status 401 with the gateway's `message`."""
    CODE_1203 = "code1203"
    """Status 200 with 1203 in the envelope."""
    APIM_STATUS = "apim_status"
    """Status 200 with `apim_status` 4011 and no envelope, as the vendor's SDK expects."""


class UnknownInstance(StrEnum):
    """The answer to Get Flow Instance for an id that nobody has, or not yet; [U] in enos-api section 6."""

    CODE_62102 = "code62102"
    NULL_DATA = "null_data"
    """Code 0 with `data` null."""
    EMPTY_LIST = "empty_list"
    """Code 0 with `data` an empty list."""
    HTTP_404 = "http_404"
    """Status 404 with the gateway's `message`, as if there were no such service."""


class DataShape(StrEnum):
    """How Get Flow Instance wraps its record: the manuals differ (enos-api section 3.2)."""

    OBJECT = "object"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Application:
    """The service account that signs calls."""

    access_key: str = "simulated-access-key"
    secret_key: str = field(default="simulated-secret-key", repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """The one user that exists, and the organization it belongs to."""

    id: str = "u15426865866571"
    org: str = "o15612345678901"
    name: str = "simulated.user"
    locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SimFlow:
    """One flow that exists."""

    name: str = ""
    tasks: frozenset[int] | None = None
    """Ids of its task nodes; None: every id is a task of it; empty: it cannot be triggered."""
    owners: frozenset[str] | None = None
    """User names; None: the one user there is."""
    locked: bool = False
    duration: timedelta | None = None
    """How long an instance runs; None: as long as `Behaviour` says."""
    ends_as: Status = Status.SUCCESS
    """What an instance is once its time is over. Where that is no end, as SUSPEND, it has no end time and can
    still be cancelled; the next of the flow begins all the same.
    """
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Its stored global parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the simulator behaves where it could be otherwise."""

    instance_duration: timedelta = timedelta(minutes=5)
    token_lifetime: timedelta = timedelta(hours=2)
    refresh_spares_old_token: bool = False
    """Whether a token stays good after it was refreshed; [U]. False is the harder case for a client."""
    timestamp_tolerance: timedelta = timedelta(minutes=30)
    """How far `apim-timestamp` may be off, either way, inclusive; [U], this is the retired v1 gateway's."""
    auth_failure: AuthFailure = AuthFailure.HTTP_401
    refusal_status: int = 200
    """HTTP status of business errors, 200 to 599; [U]. After 204 and 304 there is no body to read."""
    unknown_instance: UnknownInstance = UnknownInstance.CODE_62102
    late_visibility: timedelta = timedelta(0)
    """How old an instance must be for Get Flow Instance to know it (enos-api section 8 item 6)."""
    wall_clock_minute: bool = False
    """Whether a flow is also refused a trigger within 60 s of the wall clock after its last instance was
    made, whatever its `triggerTime`: the other reading of [U] in enos-api section 5.
    """
    instance_data: DataShape = DataShape.OBJECT
    first_page: int = 1
    """Whether List Flow Instances counts its pages from 1 or from 0; the manuals differ."""
    calls_per_minute: int | None = None
    """Signed calls that pass in each UTC minute, the rest get 429 with `Retry-After`; None: no limit."""
