"""The ways between the states of a run, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsched.model import FINAL_STATES, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping

BY_HAND = frozenset({RunState.TRIGGERED, RunState.FAILED})
"""What a person may make of a run in doubt."""

INITIAL_STATES = frozenset({RunState.CLAIMED, RunState.MISSED, RunState.SKIPPED})
"""What a run may be when it enters the ledger."""

ARROWS: Mapping[RunState, frozenset[RunState]] = {
    RunState.CLAIMED: frozenset({RunState.SENDING, RunState.FAILED, RunState.SKIPPED}),
    RunState.SENDING: frozenset({RunState.TRIGGERED, RunState.WAITING, RunState.IN_DOUBT, RunState.FAILED}),
    RunState.WAITING: frozenset({RunState.SENDING, RunState.FAILED}),
    RunState.IN_DOUBT: frozenset({RunState.TRIGGERED, RunState.SENDING, RunState.FAILED, RunState.IN_DOUBT}),
    **dict.fromkeys(FINAL_STATES, frozenset()),
}
"""From each state, the states that a run may enter next; a claimed or waiting run ends without a
further attempt where its deadline passes first, and a claimed one where another instance is in its way.
A run in doubt that stays so has another reason, such as that its deadline has passed."""


def sources(state: RunState) -> frozenset[RunState]:
    """Return the states from which `state` may be entered."""
    return frozenset(source for source, targets in ARROWS.items() if state in targets)
