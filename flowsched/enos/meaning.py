"""What the reply to a call that changes something means: the tables of enos-api sections 6 and 8.

The question is never "was it an error" but "may the same call be sent again": a trigger that may have
been processed is `UNKNOWN`, whatever its status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowsched.enos.readings import Voice, reading_of
from flowsched.enos.replies import retry_after
from flowsched.model import Answer, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from flowsched.enos.readings import Reading
    from flowsched.enos.replies import Reply

    Ruling = tuple[Outcome, str]

_INSTANCE = re.compile(r"[!-~]{1,128}")
_OF_A_FLOW = re.compile(r"(\d+)-\d+")
"""The shape of section 5, with the flow in front. An id of any other shape tells nothing of its flow."""

NO_SUCH_USER: Ruling = (
    Outcome.REFUSED_FOR_GOOD,
    "no such user in that organization: check user_id and org_id",
)
USER_LOCKED: Ruling = (Outcome.REFUSED_FOR_GOOD, "the user is locked: an administrator must unlock it")
_TRIGGER: Mapping[int, Ruling] = {
    62101: NO_SUCH_USER,
    62102: (
        Outcome.NOT_CREATED,
        "this call made no instance: the flow or task may not exist, or there is one of that minute already",
    ),
    62103: (Outcome.REFUSED_FOR_GOOD, "the user may not trigger the flow: make it an owner of the flow"),
    62104: (Outcome.REFUSED_FOR_GOOD, "the flow has no task"),
    62105: USER_LOCKED,
    62109: (Outcome.UNKNOWN, "EnOS failed inside, perhaps after it made the instance"),
}
_CANCEL: Mapping[int, Ruling] = {
    62101: NO_SUCH_USER,
    # Not documented for this call; of all that are, it is the one for what is not there (section 6).
    62102: (Outcome.REFUSED_FOR_GOOD, "there is no such instance, or it has ended"),
    62103: (Outcome.REFUSED_FOR_GOOD, "the user may not cancel the instance: make it an owner of the flow"),
    62105: USER_LOCKED,
    62109: (Outcome.UNKNOWN, "EnOS failed inside, perhaps after it cancelled the instance"),
}
_UNHEARD_OF = (Outcome.UNKNOWN, "EnOS answered with a code that is not documented")
_MISPLACED = (
    Outcome.UNKNOWN,
    "the service answered as another version of the API, perhaps after it took the call: check api_version",
)
_UNREAD = (Outcome.UNKNOWN, "what it says of the call could not be read")
_HALF_SUCCESS = (Outcome.UNKNOWN, "EnOS says success, but not with a 2xx status and the id of an instance")
_HALF_CANCELLED = (Outcome.UNKNOWN, "EnOS says success, but not with a 2xx status")

_NOT_LET_IN = (
    Outcome.REFUSED_FOR_GOOD,
    "token or signature refused twice: check access_key, secret_key and the clock of this machine",
)

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


def meaning_of(
    reply: Reply, api_version: str, now: datetime, *, flow: int | None = None
) -> Answer | TokenRefused:
    """Say what the reply to a trigger of `flow` means; `now` is for a `Retry-After` that is a date.

    What the service says in the place of the other version is `UNKNOWN`, unless it is a 401; and so is what
    could not be read whole, whatever its status: it may have come from the service. A success that names an
    instance of another flow, which is the answer to another call or a fault of EnOS, is `ACCEPTED` without
    an instance; only the flow is compared, as the rest of an id is inferred, not documented (section 5).
    `flow` None: that is not asked.
    """
    reading = reading_of(reply, api_version)
    return _made(reading, flow) if reading.is_success else unsuccessful(reading, _TRIGGER, now)


def meaning_of_cancel(reply: Reply, api_version: str, now: datetime) -> Answer | TokenRefused:
    """Say what the reply to a cancellation means, like `meaning_of`; `ACCEPTED` where EnOS takes it.

    That is not to say that all work has stopped: it is best effort (enos-api section 4).
    """
    reading = reading_of(reply, api_version)
    return _cancelled(reading) if reading.is_success else unsuccessful(reading, _CANCEL, now)


def unsuccessful(
    reading: Reading, of_the_service: Mapping[int, Ruling], now: datetime
) -> Answer | TokenRefused:
    """Say what a reply means that is no success; `of_the_service` has the codes of section 6 for the call."""
    match reading.voice:
        case Voice.SERVICE:
            return _answer(reading, of_the_service.get(reading.number or 0, _UNHEARD_OF))
        case Voice.OTHER_VERSION:
            return _answer(reading, _MISPLACED)
        case Voice.NOBODY_KNOWS:
            return _answer(reading, _UNREAD)
        case Voice.TOKEN:
            return TokenRefused(_answer(reading, _NOT_LET_IN))
        case Voice.GATEWAY:
            return _answer(reading, _by_status(reading.status), now)


def _made(reading: Reading, flow: int | None) -> Answer:
    instance = _instance(reading.fields)
    if instance is None or not reading.reply.is_2xx:
        return _answer(reading, _HALF_SUCCESS)
    if flow is not None and _is_of_another(instance, flow):
        words = f"EnOS says success, but names instance {instance}, which is of another flow"
        return _answer(reading, (Outcome.ACCEPTED, words))
    return Answer(
        outcome=Outcome.ACCEPTED,
        detail=f"EnOS made instance {instance}",
        http_status=reading.reply.http_status,
        code=0,
        instance=instance,
    )


def _instance(fields: Mapping[str, Any]) -> str | None:
    data = fields.get("data")
    instance = data.get("flowInstanceId") if isinstance(data, dict) else None
    return instance if isinstance(instance, str) and _INSTANCE.fullmatch(instance) else None


def _is_of_another(instance: str, flow: int) -> bool:
    shaped = _OF_A_FLOW.fullmatch(instance)
    return shaped is not None and shaped[1].lstrip("0") != str(flow)


def _cancelled(reading: Reading) -> Answer:
    if not reading.reply.is_2xx:
        return _answer(reading, _HALF_CANCELLED)
    return Answer(
        outcome=Outcome.ACCEPTED,
        detail="EnOS took the cancellation",
        http_status=reading.reply.http_status,
        code=0,
    )


def _by_status(status: int) -> Ruling:
    return _HTTP.get(status) or _BY_HUNDRED.get(status // 100, _FOREIGN)


def _answer(reading: Reading, ruling: Ruling, now: datetime | None = None) -> Answer:
    """Return the answer that a ruling is; `now` where it may carry a wait."""
    outcome, words = ruling
    wait = retry_after(reading.reply, now) if now and outcome is Outcome.REFUSED_FOR_NOW else None
    return Answer(
        outcome=outcome,
        detail=reading.in_words(words),
        http_status=reading.reply.http_status,
        code=reading.number,
        retry_after=wait,
    )
