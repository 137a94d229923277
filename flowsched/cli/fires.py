"""How fires are shown: when, where, and what a blackout does with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flowsched import timeline
from flowsched.cli.output import iso, local, print_table
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flowsched.model import Fire
    from flowsched.timeline import Stay

_SPARE = ("zone", "task", "flow", "due (UTC)", "local")
"""Columns that a narrow terminal can do without, the least needed first."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A fire with all that is known of it beforehand."""

    fire: Fire
    stay: Stay | None
    """What a blackout does with it."""
    due: datetime | None
    """When it is meant to be sent; None: never, a blackout skips it."""

    @property
    def note(self) -> str | None:
        """What a blackout does with it, in words; None: nothing."""
        if self.stay is None:
            return None
        if self.stay.until is None:
            return f"skipped ({self.stay.reason})"
        there = local(self.stay.until, self.fire.schedule.timing.timezone)
        return f"goes out {there} ({self.stay.reason})"

    def record(self) -> dict[str, object]:
        """Return what a script reads of it."""
        schedule = self.fire.schedule
        return {
            "schedule": schedule.id,
            "utc": stamp(self.fire.fire_time),
            "due_time": stamp(self.due) if self.due else None,
            "local": iso(self.fire.fire_time, ZoneInfo(schedule.timing.timezone)),
            "timezone": schedule.timing.timezone,
            "flow": schedule.flow,
            "task": schedule.task,
            "target": schedule.target,
            "blackout": self.stay.calendar if self.stay else None,
            "note": self.note,
        }


def seen(fire: Fire) -> Seen:
    """Look a fire up in its schedule's blackout and jitter."""
    schedule, at = fire.schedule, fire.fire_time
    stay = timeline.stay(schedule, at)
    if stay is not None and stay.until is None:
        return Seen(fire, stay, None)
    goes_out = stay.until if stay and stay.until else at
    if schedule.jitter:
        following = next(timeline.fire_times(schedule.timing, at), None)
        goes_out = timeline.due_time(schedule, goes_out, following)
    return Seen(fire, stay, goes_out)


def print_fires(fires: Sequence[Seen], *, of_one: bool = False) -> None:
    """Print a table of fires, `of_one` schedule or of several; due times and notes where there are any."""
    columns: dict[str, list[object]] = {"fire time (UTC)": [each.fire.fire_time for each in fires]}
    if any(each.fire.schedule.jitter for each in fires):
        columns["due (UTC)"] = [each.due for each in fires]
    columns["local"] = [local(each.fire.fire_time, each.fire.schedule.timing.timezone) for each in fires]
    columns["zone"] = [each.fire.schedule.timing.timezone for each in fires]
    if not of_one:
        columns["schedule"] = [each.fire.schedule.id for each in fires]
        columns["flow"] = [each.fire.schedule.flow for each in fires]
        columns["task"] = [each.fire.schedule.task for each in fires]
    if any(each.stay for each in fires):
        columns["note"] = [each.note for each in fires]
    print_table(list(columns), list(zip(*columns.values(), strict=True)), spare=_SPARE)
