"""What a backfill does with each fire time of its range, by the run that is there. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from flowsched.control.words import state_in_words
from flowsched.durations import format_duration
from flowsched.model import Origin, RunState
from flowsched.retry import APART

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta


class Step(StrEnum):
    """What is done about one fire time."""

    SEND = "send"
    DONE = "done"
    """It is triggered already."""
    FOLLOW = "follow"
    """A backfill before has claimed it, and the daemon carries it: its end is waited for."""
    LEAVE = "leave"
    """A run is under way, or in doubt, that is no backfill's: it is not waited for."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One fire time of a backfill."""

    fire_time: str
    """As a stamp."""
    run: Mapping[str, Any] | None
    """The run that is there, as a document; None: there is none."""
    step: Step

    @property
    def words(self) -> str:
        """Say what is done, and why."""
        if self.run is None:
            return "is sent"
        there = f"run {self.run['id']} ({self.run['schedule_id']}) is {state_in_words(self.run['state'])}"
        return {
            Step.SEND: f"is sent; {there}",
            Step.DONE: f"skipped: triggered already, {there}",
            Step.FOLLOW: f"is waited for: {there}",
            Step.LEAVE: f"skipped: {there}",
        }[self.step]

    def record(self) -> dict[str, object]:
        """Return what a script reads of it."""
        return {
            "fire_time": self.fire_time,
            "step": self.step.value,
            "run": self.run and self.run["id"],
            "state": self.run and self.run["state"],
        }


def planned(fires: Iterable[Mapping[str, Any]], *, alone: bool) -> list[Fill]:
    """Return what is done about fires, as the daemon tells of them; `alone`: there is nobody else.

    Then nobody carries a run that is under way, and it is left to the next daemon.
    """
    return [Fill(each["fire_time"], each["run"], _step(each["run"], alone=alone)) for each in fires]


def _step(run: Mapping[str, Any] | None, *, alone: bool) -> Step:
    if run is None:
        return Step.SEND
    match RunState(run["state"]):
        case RunState.TRIGGERED:
            return Step.DONE
        case RunState.FAILED | RunState.MISSED | RunState.SKIPPED:
            return Step.SEND
        case RunState.IN_DOUBT:
            return Step.LEAVE
        case _:
            return Step.LEAVE if alone or run["origin"] != Origin.BACKFILL else Step.FOLLOW


def summary(fills: Sequence[Fill]) -> str:
    """Say how many there are of each kind, and how long it takes at least."""
    counts = Counter(fill.step for fill in fills)
    to_do = counts[Step.SEND] + counts[Step.FOLLOW]
    parts = [
        f"{len(fills)} fire time{'' if len(fills) == 1 else 's'}: {counts[Step.SEND]} to send",
        f"{counts[Step.DONE]} triggered already" if counts[Step.DONE] else None,
        f"{counts[Step.FOLLOW]} to wait for" if counts[Step.FOLLOW] else None,
        f"{counts[Step.LEAVE]} under way or in doubt" if counts[Step.LEAVE] else None,
    ]
    said = ", ".join(filter(None, parts))
    if to_do <= 1:
        return said
    least = format_duration(least_time(to_do))
    return f"{said}; takes at least {least}, as triggers of a flow are a minute apart"


def least_time(to_do: int) -> timedelta:
    """Return how long so many triggers of one flow take at least; a target allows more than that a minute."""
    return max(to_do - 1, 0) * APART
