"""What a reply of the token service means: the table of enos-api section 7.1.

Nothing of a trigger has left while its token is being got, so whatever may pass later is `NOT_SENT`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowsched.enos.replies import NoReply, Reply, envelope, number, retry_after, said, unread
from flowsched.model import Answer, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

REPLAYED = 1001
"""The service has seen this very `encryption`: a new timestamp helps at once."""

NO_REFRESH = frozenset({1203, 1204})
"""This token cannot be refreshed any more; another can be got."""

_STATUS = {
    1001: (Outcome.NOT_SENT, "it has seen this very request before"),
    1002: (Outcome.REFUSED_FOR_GOOD, "the access key does not exist there: check access_key and url"),
    1003: (Outcome.REFUSED_FOR_GOOD, "wrong encryption: check secret_key, and the clock of this machine"),
    1004: (Outcome.REFUSED_FOR_GOOD, "a parameter is invalid: check access_key"),
    1005: (Outcome.NOT_SENT, "it failed inside"),
    1202: (Outcome.REFUSED_FOR_GOOD, "a parameter is empty: check access_key"),
    1203: (Outcome.NOT_SENT, "the token has expired"),
    1204: (Outcome.NOT_SENT, "the token could not be refreshed"),
}
_REFUSED = (Outcome.REFUSED_FOR_GOOD, "the gateway refused the request: check url and access_key")
_UNREAD = (Outcome.NOT_SENT, "what it says could not be read")
_NO_TOKEN = (Outcome.NOT_SENT, "no token came back")
_PASSING_STATUSES = frozenset({408, 429})

_TOKEN = re.compile(r"[!-~]{1,8192}")
_LONGEST_LIFE = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Grant:
    """A token, and the seconds it has to live, counted from the reply at the latest."""

    token: str = field(repr=False)
    life: int
    """From 0, which is no life, to a year."""


@dataclass(frozen=True, slots=True)
class Denial:
    """No token; `answer` is what that means for the trigger that needs one."""

    status: int | None
    """The number in the envelope; None where there was none."""
    answer: Answer


def meaning_of_token(reply: Reply | NoReply, now: datetime) -> Grant | Denial:
    """Say what the reply of the token service means; `now` is for a `Retry-After` that is a date."""
    if isinstance(reply, NoReply):
        return Denial(None, Answer(outcome=Outcome.NOT_SENT, detail=f"no token: {reply.detail}"))
    fields = envelope(reply)
    status = number(fields, "status")
    grant = _grant(fields) if status == 0 and reply.is_2xx else None
    return grant or _denial(reply, status, now)


def _grant(fields: Mapping[str, Any]) -> Grant | None:
    data = fields.get("data")
    if not isinstance(data, dict):
        return None
    token, life = data.get("accessToken"), number(data, "expire")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or life is None:
        return None
    return Grant(token, max(0, min(life, _LONGEST_LIFE)))


def _denial(reply: Reply, status: int | None, now: datetime) -> Denial:
    flaw = None if status else unread(reply)
    outcome, words = _STATUS.get(status or 0) or _by_http(reply, flaw)
    numbers = f"HTTP {reply.http_status}" if status is None else f"HTTP {reply.http_status}, status {status}"
    # What looks like a success may hold a token, cut off or in a shape we do not know: it is not quoted.
    quote = f"; {said(reply)}" if status or not reply.is_2xx else f"; the body is {flaw}" if flaw else ""
    answer = Answer(
        outcome=outcome,
        detail=f"no token: the token service answered {numbers}: {words}{quote}",
        http_status=reply.http_status,
        code=status,
        retry_after=retry_after(reply, now),
    )
    return Denial(status, answer)


def _by_http(reply: Reply, flaw: str | None) -> tuple[Outcome, str]:
    if flaw is not None:  # a status in it would have decided
        return _UNREAD
    refused = reply.http_status // 100 in {3, 4} and reply.http_status not in _PASSING_STATUSES
    return _REFUSED if refused else _NO_TOKEN
