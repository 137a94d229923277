"""What was in force when, as whoever made the edits knows it: independent of what the ledger says. Pure.

A version of the files takes effect somewhere between its writing and the first word of the daemon that it
did, and the daemon's clock may be stepped meanwhile. So each bound is two: one that no fire may cross, and
one inside which every fire is owed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from flowsched import timeline
from tests.soak.clock import START

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from flowsched.model import Catalog, Timing


BLUR = 2.0
"""Seconds by which it is not sure when a step was made."""


@dataclass(slots=True)
class Version:
    """One valid state of the files."""

    catalog: Catalog
    written: float
    """In ticks, just before the first byte was written."""
    applied: float | None = None
    """In ticks, when the daemon was heard to have it in force."""


@dataclass(slots=True)
class Stint:
    """One timing in force, under one id or, after a rename, another."""

    timing: Timing
    ids: set[str]
    never_before: datetime
    """No fire time up to it is fired."""
    owed_after: datetime
    """Each fire time after it has a run."""
    owed_until: datetime | None = None
    never_after: datetime | None = None

    def owed(self) -> Iterator[datetime]:
        """Yield the fire times that must have a run."""
        assert self.owed_until is not None
        until = self.owed_until
        return takewhile(lambda at: at <= until, timeline.fire_times(self.timing, self.owed_after))

    def allows(self, fire_time: datetime) -> bool:
        """Tell whether a run of that fire time may come of it."""
        assert self.never_after is not None
        after = fire_time - timedelta(microseconds=1)
        return (
            self.never_before < fire_time <= self.never_after
            and next(timeline.fire_times(self.timing, after), None) == fire_time
        )


@dataclass(slots=True)
class Walls:
    """The daemon's wall clock over the whole soak: each step with the ticks at which it was made."""

    steps: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])

    def between(self, first: float, last: float) -> tuple[datetime, datetime]:
        """Return the earliest and the latest that it showed between two instants in ticks."""
        shown = []
        ends = [at for at, _ in self.steps[1:]] + [float("inf")]
        for (began, offset), ended in zip(self.steps, ends, strict=True):
            if began <= last and ended >= first:
                shown += [max(began, first) + offset, min(ended, last) + offset]
        return START + timedelta(seconds=min(shown)), START + timedelta(seconds=max(shown))

    def ticks_of(self, shown: datetime) -> tuple[float, float] | None:
        """Return the first and the last instant, in ticks, at which it may have shown this; None: at none.

        It shows the same again where it is set back.
        """
        seconds = (shown - START).total_seconds()
        ends = [at for at, _ in self.steps[1:]] + [float("inf")]
        found = [
            seconds - offset
            for (began, offset), ended in zip(self.steps, ends, strict=True)
            if began - BLUR <= seconds - offset <= ended + BLUR
        ]
        return (min(found), max(found)) if found else None

    def surely_after(self, one: datetime, other: datetime) -> bool:
        """Tell whether the wall clock showed `one` surely later than `other`, whatever was set meanwhile."""
        first, second = self.ticks_of(one), self.ticks_of(other)
        return first is not None and second is not None and first[0] > second[1]

    def stepped_forward(self, first: float, last: float) -> bool:
        """Tell whether it was set forward between two instants in ticks."""
        pairs = zip(self.steps, self.steps[1:], strict=False)
        return any(first <= at <= last and after > before for (_, before), (at, after) in pairs)


def stints(versions: Sequence[Version], walls: Walls) -> list[Stint]:
    """Return every stint, in which the last version is one where nothing is enabled."""
    done: list[Stint] = []
    open_: dict[str, tuple[Stint, float]] = {}
    for version in versions:
        assert version.applied is not None
        earliest, latest = walls.between(version.written, version.applied)
        going_on: dict[str, tuple[Stint, float]] = {}
        for id_, schedule in version.catalog.schedules.items():
            if not schedule.enabled:
                continue
            before = open_.get(id_)
            if before is None and schedule.renamed_from not in (None, *version.catalog.schedules):
                before = open_.get(str(schedule.renamed_from))
            if before is not None and before[0].timing == schedule.timing:
                before[0].ids.add(id_)
                going_on[id_] = before
            else:
                going_on[id_] = (Stint(schedule.timing, {id_}, earliest, latest), version.written)
        kept = {id(stint) for stint, _ in going_on.values()}
        for stint, since in open_.values():
            if id(stint) not in kept:
                stint.owed_until = earliest
                _, stint.never_after = walls.between(since, version.applied)
                done.append(stint)
        open_ = going_on
    assert not open_, "the last version is to end every stint"
    return done
