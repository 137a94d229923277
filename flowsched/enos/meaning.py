"""What the reply to a trigger means for the run that asked: the tables of enos-api sections 6 and 8.

The question is never "was it an error" but "may the same call be sent again": a trigger that may have
been processed is `UNKNOWN`, whatever its status. Wording is never matched, for it differs by version
and language (enos-api section 1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowsched.enos.replies import Reply, envelope, number, retry_after, said
from flowsched.model import Answer, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_INSTANCE = re.compile(r"[!-~]{1,128}")

_SERVICE_CODES = range(62000, 63000)
_SERVICE = {
    62101: (Outcome.REFUSED_FOR_GOOD, "no such user in that organization: check user_id and org_id"),
    62102: (
        Outcome.UNKNOWN,
        "no instance made: the flow or task may not exist, or was triggered in that minute already",
    ),
    62103: (Outcome.REFUSED_FOR_GOOD, "the user may not trigger the flow: make it an owner of the flow"),
    62104: (Outcome.REFUSED_FOR_GOOD, "the flow has no task"),
    62105: (Outcome.REFUSED_FOR_GOOD, "the user is locked: an administrator must unlock it"),
    62109: (Outcome.UNKNOWN, "EnOS failed inside, perhaps after it made the instance"),
}
_UNHEARD_OF = (Outcome.UNKNOWN, "EnOS answered with a code that is not documented")
_MISPLACED = (
    Outcome.UNKNOWN,
    "the service answered as another version of the API, perhaps after it took the call: check api_version",
)
_HALF_SUCCESS = (Outcome.UNKNOWN, "EnOS says success, but not with a 2xx status and the id of an instance")

_TOKEN_NUMBERS = frozenset({1001, 1002, 1003, 1004, 1202, 1203, 1204})
_NOT_LET_IN = (
    Outcome.REFUSED_FOR_GOOD,
    "token or signature refused twice: check access_key, secret_key and the clock of this machine",
)

_V1_CODES = range(400, 600)
_UNAUTHORIZED = 401
_HTTP = {
    400: (Outcome.REFUSED_FOR_GOOD, "the gateway could not read the request"),
    403: (
        Outcome.REFUSED_FOR_GOOD,
        "the gateway does not let this machine in: check its IP list and the application's authorization",
    ),
    404: (Outcome.REFUSED_FOR_GOOD, "no such service there: check url and api_version"),
    405: (Outcome.REFUSED_FOR_GOOD, "no such service there: check url and api_version"),
    408: (Outcome.UNKNOWN, "the gateway gave up waiting, perhaps after it passed the call on"),
    429: (Outcome.REFUSED_FOR_NOW, "the call quota of the gateway is used up"),
    497: (
        Outcome.REFUSED_FOR_GOOD,
        "timestamp or signature refused: check secret_key and the clock of this machine",
    ),
    498: (Outcome.REFUSED_FOR_GOOD, "the application has no permission: check its authorization"),
    501: (Outcome.REFUSED_FOR_GOOD, "the gateway does not offer this call: check url and api_version"),
}
_BY_HUNDRED = {
    3: (Outcome.REFUSED_FOR_GOOD, "the address leads elsewhere, and is not followed: check url"),
    4: (Outcome.REFUSED_FOR_GOOD, "the gateway refused the call"),
    5: (Outcome.UNKNOWN, "the gateway or the service failed, perhaps after the call was processed"),
}
_FOREIGN = (Outcome.UNKNOWN, "this is not a reply of the batch service")


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The gateway turned the token or the signature away before it passed anything on.

    So the call may be signed anew and sent once more; `answer` is what it means when that fails as well.
    """

    answer: Answer


def meaning_of(reply: Reply, api_version: str, now: datetime) -> Answer | TokenRefused:
    """Say what the reply to a trigger means.

    The number of the service decides where there is one, whatever the HTTP status; it is called `code` in
    v2.1 and `status` in v2.0 (enos-api section 9). Under the other name it shows that the service was
    reached: such a reply is `UNKNOWN` at best, unless it is a 401. `now` is for a `Retry-After` that is a
    date.
    """
    fields = envelope(reply)
    own, other = ("status", "code") if api_version == "v2.0" else ("code", "status")
    code = number(fields, own)
    if code == 0:
        return _success(reply, fields)
    if code is not None and code in _SERVICE_CODES:
        return _answer(_SERVICE.get(code, _UNHEARD_OF), reply, code)
    misplaced = number(fields, other)
    if _is_of_the_service(misplaced) and reply.http_status != _UNAUTHORIZED:
        return _answer(_MISPLACED, reply, misplaced)
    if _token_refused(reply, fields, code):
        return TokenRefused(_answer(_NOT_LET_IN, reply, _any_number(fields)))
    answer = _answer(_by_status(_status(reply, code)), reply, code)
    return _with_retry_after(answer, reply, now)


def _is_of_the_service(code: int | None) -> bool:
    return code is not None and (code == 0 or code in _SERVICE_CODES)


def _success(reply: Reply, fields: Mapping[str, Any]) -> Answer:
    instance = _instance(fields)
    if instance is None or not reply.is_2xx:
        return _answer(_HALF_SUCCESS, reply, 0)
    return Answer(
        outcome=Outcome.ACCEPTED,
        detail=f"EnOS made instance {instance}",
        http_status=reply.http_status,
        code=0,
        instance=instance,
    )


def _instance(fields: Mapping[str, Any]) -> str | None:
    data = fields.get("data")
    instance = data.get("flowInstanceId") if isinstance(data, dict) else None
    return instance if isinstance(instance, str) and _INSTANCE.fullmatch(instance) else None


def _token_refused(reply: Reply, fields: Mapping[str, Any], code: int | None) -> bool:
    """Tell whether this is any of the shapes of a refused token; the true one is not documented."""
    if {number(fields, "code"), number(fields, "status")} & _TOKEN_NUMBERS:
        return True
    if reply.is_2xx and code is None and "apim_status" in fields:
        return True
    return _status(reply, code) == _UNAUTHORIZED


def _any_number(fields: Mapping[str, Any]) -> int | None:
    numbers = (number(fields, name) for name in ("code", "status", "apim_status"))
    return next((found for found in numbers if found is not None), None)


def _status(reply: Reply, code: int | None) -> int:
    """Return the status that counts: a code of the v1 gateway stands for its status in a 2xx reply."""
    if reply.is_2xx and code is not None and code in _V1_CODES:
        return code
    return reply.http_status


def _by_status(status: int) -> tuple[Outcome, str]:
    return _HTTP.get(status) or _BY_HUNDRED.get(status // 100, _FOREIGN)


def _answer(ruling: tuple[Outcome, str], reply: Reply, code: int | None) -> Answer:
    outcome, words = ruling
    numbers = f"HTTP {reply.http_status}" if code is None else f"HTTP {reply.http_status}, code {code}"
    return Answer(
        outcome=outcome,
        detail=f"{numbers}: {words}; {said(reply)}",
        http_status=reply.http_status,
        code=code,
    )


def _with_retry_after(answer: Answer, reply: Reply, now: datetime) -> Answer:
    if answer.outcome is not Outcome.REFUSED_FOR_NOW:
        return answer
    return replace(answer, retry_after=retry_after(reply, now))
