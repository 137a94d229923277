"""The rules that a catalog can break without being unusable, by their stable names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.errors import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowsched.model import Schedule

    Place = Callable[[Schedule, tuple[str, ...]], tuple[str, int, int]]
    """Where a key of a schedule is written, or else its id: file, line and column."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `docs/warnings/NAME.md` is its page."""

    name: str
    """Stable: it stands in files, in reports, and in what other tools remember of them."""
    severity: Severity
    summary: str
    """One sentence: what was found."""


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "both-day-fields",
            Severity.WARNING,
            "Both day fields of `cron` are set: days that match either of them count, not those that match"
            " both.",
        ),
        Rule(
            "clock-change",
            Severity.WARNING,
            "A fire time of the next two years falls where a clock change leaves out or repeats an hour.",
        ),
        Rule(
            "collision",
            Severity.ERROR,
            "Fires of two schedules hit the same flow on the same target in the same minute: EnOS refuses the"
            " second.",
        ),
        Rule(
            "crowded-minute",
            Severity.WARNING,
            "More fires in one minute than the target's limits let be sent before the next.",
        ),
        Rule(
            "deadline-beyond-next-fire",
            Severity.WARNING,
            "A run may still be tried when the next fire of its schedule is due.",
        ),
        Rule(
            "missing-description",
            Severity.WARNING,
            "The schedule does not say what it is for.",
        ),
        Rule(
            "missing-owner",
            Severity.WARNING,
            "Nobody answers for the schedule.",
        ),
        Rule(
            "never-fires",
            Severity.WARNING,
            "The schedule is enabled and has no fire any more.",
        ),
        Rule(
            "similar-ids",
            Severity.WARNING,
            "Two ids differ only in case, or in hyphens, underscores and dots.",
        ),
        Rule(
            "too-many-fires",
            Severity.WARNING,
            "More fires a day than `review.fires_a_day` of flowsched.yaml.",
        ),
        Rule(
            "uneven-step",
            Severity.WARNING,
            "The steps of `cron` do not divide the hour, day, month, year or week: one of them has another"
            " length.",
        ),
        Rule(
            "unused-acceptance",
            Severity.WARNING,
            "An `accept` entry accepts nothing that is there.",
        ),
    )
}
"""By name, in the order of the names."""
