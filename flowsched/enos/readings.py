"""Who answered a call of the batch service: the first question to every reply, whatever the call was.

The number of the service decides where there is one, whatever the HTTP status; it is called `code` in
v2.1 and `status` in v2.0 (enos-api section 9). Under the other name it shows that the service was
reached, though not what it means. Where the body could not be read, nobody knows whether it held one, so
not even the HTTP status says anything. Wording is never matched, for it differs by version and language
(enos-api section 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from flowsched.enos.replies import envelope, number, said, unread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.enos.replies import Reply

_SERVICE_CODES = range(62000, 63000)
_TOKEN_NUMBERS = frozenset({1001, 1002, 1003, 1004, 1202, 1203, 1204})
_V1_CODES = range(400, 600)
_UNAUTHORIZED = 401


class Voice(Enum):
    """Who it was that answered."""

    SERVICE = auto()
    """The batch service, with 0 for success or a number of enos-api section 6."""
    OTHER_VERSION = auto()
    """The batch service, with such a number in the place of the other version."""
    TOKEN = auto()
    """Whoever checks tokens and signatures turned the call away; the true shape is not documented."""
    GATEWAY = auto()
    """The gateway, or whatever else stands in front of the service."""
    NOBODY_KNOWS = auto()
    """What the reply says could not be read, whatever its HTTP status."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A reply, and who speaks in it."""

    reply: Reply
    voice: Voice
    fields: Mapping[str, Any]
    """The envelope; empty where there is none."""
    number: int | None
    """The number in the envelope that tells, if any does."""
    status: int
    """The HTTP status that counts: a code of the v1 gateway stands for its status in a 2xx reply."""

    @property
    def is_success(self) -> bool:
        """Whether the service itself says so, which the HTTP status may yet deny."""
        return self.voice is Voice.SERVICE and self.number == 0

    def in_words(self, words: str) -> str:
        """Return one line for people: the numbers, what they mean, and what the reply itself says."""
        numbers = f"HTTP {self.reply.http_status}"
        numbers += "" if self.number is None else f", code {self.number}"
        return f"{numbers}: {words}; {said(self.reply)}"


def reading_of(reply: Reply, api_version: str) -> Reading:
    """Tell who speaks in the reply to a call of that version, `v2.1` or `v2.0`."""
    fields = envelope(reply)
    if not fields and unread(reply) is not None:
        return Reading(reply, Voice.NOBODY_KNOWS, fields, None, reply.http_status)
    own, other = ("status", "code") if api_version == "v2.0" else ("code", "status")
    code, misplaced = number(fields, own), number(fields, other)
    status = code if reply.is_2xx and code is not None and code in _V1_CODES else reply.http_status
    if _is_of_the_service(code):
        return Reading(reply, Voice.SERVICE, fields, code, status)
    if _is_of_the_service(misplaced) and reply.http_status != _UNAUTHORIZED:
        return Reading(reply, Voice.OTHER_VERSION, fields, misplaced, status)
    if _token_refused(reply, fields, code, status):
        return Reading(reply, Voice.TOKEN, fields, _any_number(fields), status)
    return Reading(reply, Voice.GATEWAY, fields, code, status)


def is_unread_refusal(reply: Reply) -> bool:
    """Tell whether it is a 401 of which no more could be read: of a token, as far as anybody can tell."""
    return reply.http_status == _UNAUTHORIZED and unread(reply) is not None and not envelope(reply)


def _is_of_the_service(code: int | None) -> bool:
    return code is not None and (code == 0 or code in _SERVICE_CODES)


def _token_refused(reply: Reply, fields: Mapping[str, Any], code: int | None, status: int) -> bool:
    if {number(fields, "code"), number(fields, "status")} & _TOKEN_NUMBERS:
        return True
    if reply.is_2xx and code is None and "apim_status" in fields:
        return True
    return status == _UNAUTHORIZED


def _any_number(fields: Mapping[str, Any]) -> int | None:
    numbers = (number(fields, name) for name in ("code", "status", "apim_status"))
    return next((found for found in numbers if found is not None), None)
