"""Whether a catalog changes so much of the one before that somebody should be asked. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.admission import same_timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.model import Schedule, Timing

FEW = 5
"""So many schedules may always be changed at once, whatever share of all they are."""


@dataclass(frozen=True, slots=True)
class MassChange:
    """What a catalog ends or retimes of the schedules that were enabled before it."""

    before: int
    """How many were enabled."""
    after: int
    """How many will be."""
    removed: int
    disabled: int
    retimed: int

    def __str__(self) -> str:
        counts = {"removed": self.removed, "disabled": self.disabled, "retimed": self.retimed}
        parts = [f"{count:,} {what}" for what, count in counts.items() if count]
        none_left = "" if self.after else "; none is left enabled"
        return f"of {self.before:,} enabled schedules {', '.join(parts)}{none_left}"


def enabled_timings(schedules: Mapping[str, Schedule]) -> dict[str, Timing]:
    """Return the timings of the schedules that are enabled, by id."""
    return {id_: one.timing for id_, one in schedules.items() if one.enabled}


def mass_change(
    before: Mapping[str, Timing], schedules: Mapping[str, Schedule], max_change: int
) -> MassChange | None:
    """Return what a catalog changes where that is too much to be done unasked; None where it is not.

    `before` has the timing of each schedule that is enabled so far, `schedules` are those of the new catalog,
    both by id. Too much is more than `max_change` in a hundred of those enabled and more than FEW; and to
    leave none enabled. A new id with the old timing that says `renamed_from` is no change, and neither is
    a blackout, flow or policy. An id that was enabled before is not new, and so stands for itself alone.
    """
    heirs = {
        one.renamed_from: one for id_, one in schedules.items() if one.renamed_from and id_ not in before
    }
    removed = disabled = retimed = 0
    for id_, timing in before.items():
        schedule = schedules.get(id_) or heirs.get(id_)
        if schedule is None:
            removed += 1
        elif not schedule.enabled:
            disabled += 1
        elif not same_timing(timing, schedule.timing):
            retimed += 1
    after = sum(schedule.enabled for schedule in schedules.values())
    changed = removed + disabled + retimed
    much = changed > FEW and changed * 100 > max_change * len(before)
    if much or (before and not after):
        return MassChange(len(before), after, removed, disabled, retimed)
    return None
