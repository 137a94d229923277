"""What happens, told to whoever wants to know: metrics, alerts, the view of how things stand.

Whoever tells does not wait, and what a listener raises is its own affair. The log is written apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Answer, MessageState, Reload, Run, Watch


@dataclass(frozen=True, slots=True)
class RunMoved:
    """A run has entered the ledger, or another state; it is written there already."""

    run: Run
    answer: Answer | None = None
    """What came of its attempt, where one has just ended."""


@dataclass(frozen=True, slots=True)
class FirstByte:
    """The first byte of an attempt may have left at that instant."""

    run: Run
    at: datetime


@dataclass(frozen=True, slots=True)
class FlowMoved:
    """The flow of a watched run has ended, or is late."""

    watch: Watch


@dataclass(frozen=True, slots=True)
class Reloading:
    """The schedules are about to be read anew; `Reloaded` follows."""

    why: str
    """As in `model.Reload`."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The schedules were read, at the start or anew."""

    reload: Reload


@dataclass(frozen=True, slots=True)
class PausesChanged:
    """Somebody has paused or resumed something, or has tried to: the ledger may have done it all the same."""


@dataclass(frozen=True, slots=True)
class OverdueSeen:
    """So it stands with fires that should have been claimed by now and were not; told at each look."""

    at: datetime
    since: dict[str, datetime]
    """By schedule, when the first such fire should have gone out; empty: there is none."""


@dataclass(frozen=True, slots=True)
class AlertDone:
    """A message with alerts is done with, or an attempt at it was in vain."""

    channel: str
    outcome: MessageState
    """`sent`, `failed` or `dropped`; `pending` where another attempt comes."""


Event = RunMoved | FirstByte | FlowMoved | Reloading | Reloaded | PausesChanged | OverdueSeen | AlertDone

Tell = Callable[[Event], None]


def nobody(_: Event) -> None:
    """Tell nobody."""
