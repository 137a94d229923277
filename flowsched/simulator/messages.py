"""What comes in, read as leniently as EnOS seems to read it and no more; what goes out, and its envelopes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_TYPE = "application/json;charset=UTF-8"
LONGEST_NUMBER = 18
"""Digits of a Java long that never overflow."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request as it came over the wire."""

    method: str
    path: str
    parameters: Mapping[str, str]
    """The query, decoded."""
    headers: Mapping[str, str]
    """By lower-case name; of a repeated header the last."""
    body: bytes
    """Exactly as sent."""
    connection: int
    """Which connection it came over, counted from 1."""
    began_at: datetime
    """When its first bytes arrived."""
    complete_at: datetime | None
    """When its last byte had arrived; None where it was cut short by us."""


def json_document(text: str | bytes) -> object:
    """Return whatever JSON a text holds; None where it holds none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body; None where there is anything else."""
    document = json_document(body)
    return document if isinstance(document, dict) else None


def natural(value: object) -> int | None:
    """Read a number from 0 that came as an integer or as a string of digits (enos-api section 3.1)."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= LONGEST_NUMBER:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**LONGEST_NUMBER:
        return value
    return None


def flow_named(parameters: Mapping[str, str], body: bytes) -> int | None:
    """Return the flow that a call is about, be it by its id or by that of an instance; None: no flow."""
    named: Mapping[str, Any] = {**parameters, **(json_object(body) or {})}
    direct = natural(named.get("flowId"))
    return direct if direct is not None else natural(str(named.get("flowInstId", "")).partition("-")[0])


def unix_ms(instant: datetime) -> int:
    """Return the whole milliseconds since the Unix epoch, rounded down."""
    return (instant - EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply, as it would go out if nothing went wrong on the way."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one service speaks: where it lives, and how it wraps what it says."""

    prefix: str
    key: str
    """The name of the number that says how it went."""
    success: str
    internal_error: int
    texts: Mapping[int, str]
    """What this service calls a number, where it differs from the common words."""
    business: str | None = None

    def envelope(self, number: int, text: str, data: object) -> dict[str, object]:
        """Wrap an answer; `data` is null on errors."""
        named = {} if self.business is None else {"business": self.business}
        return {self.key: number, "msg": text, **named, "data": data}

    def text(self, number: int) -> str:
        """Return the message that belongs to a number."""
        return self.texts.get(number) or TEXTS.get(number) or f"Simulated error {number}"


CANNOT_CREATE = (
    "Cannot create workflow instance. Please check if the workflow or task exist, "
    "and do not trigger the same workflow repeatedly in 1 minute."
)
INVALID_BODY = "Invalid request body."

TEXTS = {
    1001: "Duplicate encryption",
    1002: "The appKey does not exist",
    1003: "Invalid encryption",
    1004: "Invalid parameter",
    1005: "Internal service exception",
    1202: "Parameter is empty",
    1203: "Access token expired",
    1204: "Failed to refresh the access token",
    62101: "The userId does not exist or does not match the orgId",
    62102: CANNOT_CREATE,
    62103: "User has no privilege.",
    62104: "This workflow has no task. You cannot trigger it.",
    62105: "Your account has been locked",
    62109: "Internal server exception",
}

TOKEN = Dialect("/apim-token-service/v2.0/token/", "status", "SUCCESS", 1005, {}, "apim-token-service")
V2_1 = Dialect("/batch-processing-service/v2.1/", "code", "OK", 62109, {})
V2_0 = Dialect(
    "/dataflow-batch-service/v2.0/", "status", "Success", 62109, {62109: "Server internal exception"}
)

GATEWAY_TEXTS = {
    302: "Found",
    400: "Cannot process request body",
    401: "Invalid authentication credentials",
    403: "Your IP address is not allowed",
    404: "no Route matched with those values",
    405: "Method not allowed",
    413: "Request size limit exceeded",
    429: "API rate limit exceeded",
    500: "An unexpected error occurred",
    502: "An invalid response was received from the upstream server",
    503: "Service unavailable",
    504: "The upstream server is timing out",
}
"""enos-api section 8; where it is silent, the stock texts of Kong, which the gateway probably is."""


class Refusal(Exception):  # noqa: N818 - it is an answer of the service, not an error of ours
    """A service says no: a number of enos-api section 6 or 7.1, and its text if not the usual one."""

    def __init__(self, number: int, text: str | None = None) -> None:
        self.number = number
        self.text = text
        super().__init__(number, text)


class Unserved(Exception):  # noqa: N818 - like Refusal
    """The gateway answers in the place of the service, with this HTTP status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


def json_reply(status: int, document: object, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Return a reply whose body is that document."""
    return Reply(status, json.dumps(document).encode(), headers=headers)


def gateway_reply(status: int, headers: tuple[tuple[str, str], ...] = (), text: str | None = None) -> Reply:
    """Return what the gateway itself says, in front of all services (enos-api section 8)."""
    return json_reply(status, {"message": text or GATEWAY_TEXTS.get(status, f"Simulated {status}")}, headers)
