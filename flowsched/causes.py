"""Why a run ended as it did, as one word of a closed list: for metrics and spans, which bear no free text."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from flowsched.model import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cause(StrEnum):
    """The reason of a final run, without its particulars."""

    ACCEPTED = "accepted"
    """EnOS has said that it made the instance."""
    FOUND = "found"
    """A look has found the instance."""
    BY_HAND = "by_hand"
    """A person has settled or cancelled it."""
    CATCH_UP_NONE = "catch_up_none"
    CATCH_UP_WINDOW = "catch_up_window"
    CATCH_UP_LATEST = "catch_up_latest"
    """Too late, and its schedule does not have it caught up: by its `catch_up`, or by the window of that."""
    EDIT = "edit"
    """Its schedule was changed before it could be fired."""
    OVERLAP = "overlap"
    COLLISION = "collision"
    PAUSED = "paused"
    BLACKOUT = "blackout"
    REFUSED = "refused"
    """EnOS refused it for good."""
    TOKEN = "token"  # noqa: S105 - the name of a cause
    """There was no token to be had, or token or signature were refused."""
    ATTEMPTS = "attempts"
    """All its attempts were used up."""
    DEADLINE = "deadline"
    """Its deadline passed."""
    UNSENDABLE = "unsendable"
    """Its target is not configured, or knows no such call."""
    FAULT = "fault"
    """A fault of flowsched."""
    OTHER = "other"
    """None of these; no text that flowsched writes has it."""


CAUSES: Mapping[RunState, tuple[Cause, ...]] = {
    RunState.TRIGGERED: (Cause.ACCEPTED, Cause.FOUND, Cause.BY_HAND, Cause.OTHER),
    RunState.MISSED: (
        Cause.CATCH_UP_NONE, Cause.CATCH_UP_WINDOW, Cause.CATCH_UP_LATEST, Cause.EDIT, Cause.OTHER,
    ),
    RunState.SKIPPED: (Cause.OVERLAP, Cause.COLLISION, Cause.PAUSED, Cause.BLACKOUT, Cause.OTHER),
    RunState.FAILED: (
        Cause.REFUSED, Cause.TOKEN, Cause.ATTEMPTS, Cause.DEADLINE, Cause.COLLISION,
        Cause.CATCH_UP_NONE, Cause.CATCH_UP_WINDOW, Cause.CATCH_UP_LATEST,
        Cause.UNSENDABLE, Cause.FAULT, Cause.BY_HAND, Cause.OTHER,
    ),
}  # fmt: skip
"""By final state, the causes that a run in it can have."""

_LATE: tuple[tuple[str, Cause], ...] = (
    (r"[0-9a-z ]+ late, and catch_up is none$", Cause.CATCH_UP_NONE),
    (r"[0-9a-z ]+ late, outside the catch_up_window ", Cause.CATCH_UP_WINDOW),
    (r"[0-9a-z ]+ late, and catch_up: latest ", Cause.CATCH_UP_LATEST),
)
_GAVE_UP = r"gave up after [0-9]+ attempts?"
_HTTP = r"HTTP [0-9]+(, (code|status) -?[0-9]+)?: "

# Texts of people and of EnOS stand at the end of a reason only, so each is known by how it begins.
_WORDS: Mapping[RunState, tuple[tuple[str, Cause], ...]] = {
    RunState.TRIGGERED: (("found by a look: ", Cause.FOUND), ("resolved by hand ", Cause.BY_HAND)),
    RunState.MISSED: (
        *_LATE,
        ("its (schedule|blackout) was (removed|disabled|renamed|changed) ", Cause.EDIT),
        ("its schedule got another timing ", Cause.EDIT),
    ),
    RunState.SKIPPED: (
        ("overlap: ", Cause.OVERLAP),
        ("collision: ", Cause.COLLISION),
        ("paused: ", Cause.PAUSED),
        ("blackout: ", Cause.BLACKOUT),
    ),
    RunState.FAILED: (
        ("resolved by hand |cancelled by hand ", Cause.BY_HAND),
        (rf"({_GAVE_UP}[^:;]*: )?no token: ", Cause.TOKEN),
        (rf"{_HTTP}(token|timestamp) or signature refused", Cause.TOKEN),
        (rf"{_GAVE_UP}, as the ", Cause.DEADLINE),
        (rf"{_GAVE_UP}[:;]", Cause.ATTEMPTS),
        ("the deadline passed", Cause.DEADLINE),
        ("collision: ", Cause.COLLISION),
        (rf"refused for good|{_HTTP}", Cause.REFUSED),
        *((f"never sent: {words}", cause) for words, cause in _LATE),
        ("target [^ ]+ is not configured|target [^ ]+: v2.0 cannot ", Cause.UNSENDABLE),
        ("a fault of flowsched", Cause.FAULT),
    ),
}
_KNOWN = {
    state: tuple((re.compile(words), cause) for words, cause in known) for state, known in _WORDS.items()
}


def cause_of(state: RunState, reason: str | None) -> Cause:
    """Return why a run is in a final state, by the reason that the ledger has; for another state `OTHER`."""
    if state is RunState.TRIGGERED and reason is None:
        return Cause.ACCEPTED
    known = _KNOWN.get(state, ())
    return next((cause for words, cause in known if words.match(reason or "")), Cause.OTHER)
