"""Reading what a server answered, without trusting it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_BODY = 64 * 1024
"""Bytes of a reply that says what came of a call: far more than any needs."""

LONGEST_INSTANCE = 4 * 1024 * 1024
"""Bytes of a reply that shows an instance: it holds the graph of its flow, a few hundred for each task."""

LONGEST_DETAIL = 300
"""Characters: what an operator reads in a line or two."""

LONGEST_QUOTED = 256 * 1024
_LONGEST_MASKED = 8 * 1024
"""Bytes of a body that are looked at for a quote, and characters of a detail that are looked at for secrets.

So far apart, that no form of a secret reaches from the one into what the other has cut off."""

LONGEST_RETRY_AFTER = timedelta(days=31)
"""The longest quota period that EnOS knows is a month (enos-api section 8); beyond it is nonsense."""

LARGEST_NUMBER = 10**18
"""Beyond it a number of a reply is nonsense, and would not fit into the ledger."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")

_OBJECT = re.compile(rb"[^!-~]*\{")
"""How a body begins that is, or was to be, an envelope."""

_JSON = re.compile(r"""[^!-~]*[{\["]""")
"""How a body begins that is, or was to be, JSON of more than a word; before it, marks of an encoding."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, as far as it could be read."""

    http_status: int
    body: bytes
    flaw: str | None = None
    """Why `body` is not the whole body; None where it is."""
    retry_after: str | None = None
    """The header of that name, as sent."""
    date: str | None = None
    """The header of that name, as sent; None also where the reply comes out of a cache."""

    @property
    def is_2xx(self) -> bool:
        """Whether HTTP calls it a success, which the envelope may yet deny."""
        return self.http_status // 100 == 2  # noqa: PLR2004 - the 2 of 2xx


@dataclass(frozen=True, slots=True)
class NoReply:
    """Not even a status line came back. Whether anything was sent is known elsewhere (`Progress`)."""

    detail: str


def envelope(reply: Reply) -> Mapping[str, Any]:
    """Return the JSON object of the body; empty where the body is anything else, or not whole."""
    body = None if reply.flaw is not None else _json(reply.body)
    return body if isinstance(body, dict) else {}


def unread(reply: Reply) -> str | None:
    """Return why nobody knows what the reply says, whatever its status; None: it could be read.

    That is where its body is not whole, or begins as an envelope and is none: it may have held a number.
    """
    if reply.flaw is None and _OBJECT.match(reply.body) and not isinstance(_json(reply.body), dict):
        return "no whole JSON"
    return reply.flaw


def _json(body: bytes) -> object:
    """Return what is there as JSON; None also where it is none."""
    try:
        return cast("object", json.loads(body))
    except (ValueError, RecursionError):
        return None


def number(fields: Mapping[str, Any], name: str) -> int | None:
    """Return an integer field, also where it is sent as digits in a string.

    None where it is no integer, or beyond LARGEST_NUMBER.
    """
    value = fields.get(name)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER:
        return value
    return None


def retry_after(reply: Reply, now: datetime) -> timedelta | None:
    """Return the wait that the reply asks for, zero or longer; None where it asks for none that makes sense.

    Both forms are read, seconds and HTTP date (RFC 9110 section 10.2.3); the latter needs `now`.
    """
    text = (reply.retry_after or "").strip()
    wait = _seconds(text) if _INTEGER.fullmatch(text) else _until(text, now)
    if wait is None or wait > LONGEST_RETRY_AFTER:
        return None
    return max(wait, timedelta())


def date(reply: Reply) -> datetime | None:
    """Return the instant that the reply gives for itself, floored to the second; None: none to be read."""
    return _http_date(reply.date or "")


def said(reply: Reply) -> str:
    """Return in words what the reply itself says: its message where it has one, else its text.

    JSON without a message is not quoted, be it whole or cut off: it may hold a token that we do not know,
    and so could not mask.
    """
    why = unread(reply)
    flaw = f"the body is {why}; " if why else ""
    text = reply.body[:LONGEST_QUOTED].decode(errors="replace")
    if len(reply.body) <= LONGEST_QUOTED:  # else its edge, perhaps half a secret, must stay far off
        text = text.strip()
    message = _message(envelope(reply))
    if not message and _JSON.match(text):
        return f"{flaw}it carries no message"
    return flaw + (f"it says: {message or text}" if text else "it says nothing")


def _message(fields: Mapping[str, Any]) -> str:
    messages = (fields.get(name) for name in ("msg", "message"))
    return next((m.strip() for m in messages if isinstance(m, str) and m.strip()), "")


def presentable(detail: str, secrets: Iterable[str]) -> str:
    """Return `detail` as one bounded line of printable text, without any of the `secrets`.

    Nor are they there in the forms in which a server may echo what it got in a URL, in HTML, JSON or base64.
    Masking comes before cutting, lest half a secret survive at the edge.
    """
    # No form is shorter than its secret: most details have no room for a token.
    fitting = (secret for secret in secrets if 0 < len(secret) <= len(detail))
    forms = {form for secret in fitting for form in _forms(secret)}
    detail = _cut_beside(forms, detail)
    for form in sorted(forms, key=len, reverse=True):
        detail = detail.replace(form, "<secret>")
    if not detail.isprintable():
        detail = "".join(c if c.isprintable() else " " for c in detail)
    line = " ".join(detail.split())
    return line if len(line) <= LONGEST_DETAIL else f"{line[: LONGEST_DETAIL - 3]}..."


def _cut_beside(forms: Iterable[str], detail: str) -> str:
    """Return the beginning of what is too long to be looked at for secrets, cut where none of them lies."""
    end = _LONGEST_MASKED
    if len(detail) <= end:
        return detail
    while across := [at for form in forms if (at := _across(form, detail, end)) >= 0]:
        end = min(across)
    return detail[:end]


def _across(form: str, detail: str, end: int) -> int:
    """Return where a form begins before that end and goes on behind it; -1 where it does not."""
    return detail.find(form, max(0, end - len(form) + 1), end + len(form) - 1)


@lru_cache(maxsize=64)
def _forms(secret: str) -> tuple[str, ...]:
    encoded = b64encode(secret.encode()).decode()
    return (
        secret,
        quote(secret, safe=""),
        quote(secret, safe="/"),
        escape(secret),
        json.dumps(secret)[1:-1],
        encoded,
        encoded.rstrip("="),
    )


def _seconds(text: str) -> timedelta | None:
    try:
        return timedelta(seconds=int(text))
    except OverflowError:
        return None


def _until(text: str, now: datetime) -> timedelta | None:
    at = _http_date(text)
    return None if at is None else at - now


@lru_cache(maxsize=8)
def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
