"""Which ping an event is worth, and what it says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from flowsched.errors import printable, shortened
from flowsched.events import FlowMoved, RunMoved
from flowsched.model import FlowState, Origin, RunState
from flowsched.ops.logs import stamp
from flowsched.retry import is_left_in_doubt

if TYPE_CHECKING:
    from flowsched.events import Event
    from flowsched.model import Run

LONGEST_TEXT = 1_000
"""Characters."""

_ROOM = UUID("4a5f4c0b-57a5-5f0e-8f4b-6d0d8b1a7f2e")


class Signal(Enum):
    """What a check is told; its value follows the slug in the address."""

    START = "/start"
    SUCCESS = ""
    FAIL = "/fail"


@dataclass(frozen=True, slots=True)
class Ping:
    """What one check is to be told."""

    schedule_id: str
    signal: Signal
    text: str
    run_id: int
    run: Run | None
    """None: known by its number only."""


_FLOWS = {
    FlowState.SUCCEEDED: Signal.SUCCESS,
    FlowState.FAILED: Signal.FAIL,
    FlowState.LATE: Signal.FAIL,
}


def ping_of(event: Event) -> Ping | None:
    """Return what is told of an event; None: nothing.

    What a person has sent for the past (backfill) says nothing about how a schedule does now.
    """
    match event:
        case RunMoved(run=run):
            signal = None if run.origin is Origin.BACKFILL else _signal(run)
            return None if signal is None else Ping(run.schedule_id, signal, _run_text(run), run.id, run)
        case FlowMoved(watch=watch) if watch.state in _FLOWS:
            text = f"the flow of run {watch.run_id} {watch.state} (instance {watch.instance})"
            return Ping(watch.schedule_id, _FLOWS[watch.state], text, watch.run_id, None)
    return None


def _signal(run: Run) -> Signal | None:
    match run.state:
        case RunState.SENDING if run.attempts == 1:
            return Signal.START
        case RunState.TRIGGERED if run.watch is None:
            return Signal.SUCCESS
        case RunState.FAILED | RunState.MISSED:
            return Signal.FAIL
        case RunState.IN_DOUBT if is_left_in_doubt(run):
            return Signal.FAIL
    return None


def _run_text(run: Run) -> str:
    text = f"run {run.id}, fire time {stamp(run.fire_time)}, {run.state}"
    return shortened(printable(f"{text}: {run.reason}" if run.reason else text), LONGEST_TEXT)


def run_uuid(run: Run) -> UUID:
    """Return the number by which start and end of a run are put together: made of its identity."""
    return uuid5(_ROOM, f"{run.schedule_id} {stamp(run.fire_time)} {run.origin}")


def address(url: str, key: str | None, slug: str, signal: Signal, rid: UUID) -> str:
    """Return where a ping is sent."""
    return "/".join(part for part in (url, key, slug) if part) + f"{signal.value}?rid={rid}"
