"""What the reply to Get Flow Instance shows of the instance: enos-api sections 3.2, 3.3, 4 and 6.

What EnOS answers for an id that nobody has is not documented. So only what can mean nothing else counts as
absent, and whatever says neither "here it is" nor "there is none" is unclear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowsched.enos.meaning import NO_SUCH_USER, USER_LOCKED, TokenRefused, unsuccessful
from flowsched.enos.readings import Voice, reading_of
from flowsched.enos.replies import number
from flowsched.model import FlowState, Outcome, Seen, Sighting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from flowsched.enos.meaning import Ruling
    from flowsched.enos.readings import Reading
    from flowsched.enos.replies import Reply
    from flowsched.model import Answer

LONGEST_TIME = 40
"""Characters of a time as EnOS writes it; those of section 3.3 have 19 or 21."""

_IDS = ("instanceId", "flowInstanceId", "id")
"""Where the instance's own id stands: in the struct, in a trigger's reply, and in the graph (section 3.3)."""

_NAMES = {
    -1: "FAIL",
    0: "INIT",
    1: "SUCCESS",
    2: "RUNNING",
    3: "SUSPEND",
    4: "INTERNAL_ERROR",
    5: "WAIT",
    6: "READY",
    7: "TIMEOUT",
    8: "CANCEL",
    9: "RERUN",
    10: "SKIP",
}
_ENDS = {1: FlowState.SUCCEEDED, **dict.fromkeys((-1, 4, 7, 8, 10), FlowState.FAILED)}
"""The codes of section 4 that are an end; what is not among them, heard of or not, has not ended."""

_NO_INSTANCE = 62102
_CODES: Mapping[int, Ruling] = {
    62101: NO_SUCH_USER,
    # "Instance not found", documented for Get Task Instance Log; there is no other such code (section 6).
    _NO_INSTANCE: (Outcome.REFUSED_FOR_GOOD, "EnOS has no such instance"),
    62103: (Outcome.REFUSED_FOR_GOOD, "the user may not see the instance"),
    62105: USER_LOCKED,
    62109: (Outcome.UNKNOWN, "EnOS failed inside"),
}


def sighting_of(instance: str, reply: Reply, api_version: str, now: datetime) -> Sighting | TokenRefused:
    """Say what the reply to a look at the instance of that id shows.

    Found, it is going unless its status is an end by section 4; a flow that has failed may still have
    tasks at work.
    """
    reading = reading_of(reply, api_version)
    if reading.is_success:
        return _shown(instance, reading)
    meaning = unsuccessful(reading, _CODES, now)
    if isinstance(meaning, TokenRefused):
        return meaning
    if reading.voice is Voice.SERVICE and reading.number == _NO_INSTANCE:
        return Sighting(seen=Seen.ABSENT, detail=meaning.detail)
    return unclear(meaning)


def unclear(answer: Answer) -> Sighting:
    """Return what is seen where a look had no answer but this one."""
    return Sighting(seen=Seen.UNCLEAR, detail=answer.detail)


def _shown(instance: str, reading: Reading) -> Sighting:
    data = reading.fields.get("data")
    if not reading.reply.is_2xx:
        return _unclear(reading, "EnOS says success, but not with a 2xx status")
    if data in (None, [], {}):
        return Sighting(seen=Seen.ABSENT, detail=reading.in_words(f"EnOS shows no instance {instance}"))
    struct = data[0] if isinstance(data, list) and len(data) == 1 else data
    if not isinstance(struct, dict):
        return _unclear(reading, "EnOS shows something that is no instance")
    if _id(struct) != instance:
        return _unclear(reading, "EnOS shows something else than was asked for")
    return _found(instance, struct)


def _unclear(reading: Reading, words: str) -> Sighting:
    return Sighting(seen=Seen.UNCLEAR, detail=reading.in_words(words))


def _id(struct: Mapping[str, Any]) -> str | None:
    ids = (struct.get(name) for name in _IDS)
    return next((id_ for id_ in ids if isinstance(id_, str)), None)


def _found(instance: str, struct: Mapping[str, Any]) -> Sighting:
    status = number(struct, "status")
    return Sighting(
        seen=Seen.FOUND,
        detail=f"instance {instance} {_standing(status)}",
        flow=FlowState.GOING if status is None else _ENDS.get(status, FlowState.GOING),
        status=status,
        started=_time(struct.get("startTime")),
        ended=_time(struct.get("endTime")),
    )


def _standing(status: int | None) -> str:
    if status is None:
        return "is there, without a status that can be read"
    if status not in _NAMES:
        return f"has status {status}, which is not documented"
    return f"is {_NAMES[status]}"


def _time(value: object) -> str | None:
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_TIME:
        return value
    return None
