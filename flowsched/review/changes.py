"""A plan: what one catalog changes about another, as a reviewer is told it before the merge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from flowsched.model import Catalog
from flowsched.review.collision_changes import collision_changes
from flowsched.review.collisions import HORIZON, Collisions
from flowsched.review.edits import schedule_changes
from flowsched.review.load import crowded, load
from flowsched.review.warnings import look_alike, warnings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime, timedelta

    from flowsched.errors import Problem
    from flowsched.model import Limits, Schedule
    from flowsched.review.collisions import Collision
    from flowsched.review.edits import Change
    from flowsched.review.load import Load
    from flowsched.review.rules import Place

    _Warning = tuple[str | None, str, str]
    """Rule, path and message: by these a warning is known again in the other state."""

_NOT_OF_ONE_SCHEDULE = {"crowded-minute", "unused-acceptance"}
"""Warnings that depend on schedules which are not looked at; a plan has the load instead."""

_TELLS_A_LINE = {"similar-ids"}
"""Warnings whose message depends on where something else stands in its file."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most that a target gets within the horizon."""

    minute: tuple[datetime, int] | None
    """The minute with the most fires, the first of such, and how many; None: there is no fire."""
    hour: tuple[datetime, int] | None
    """Likewise; a UTC hour."""
    crowded: int
    """How many minutes have more fires than its limit lets begin within one; 0 where it has none."""


@dataclass(frozen=True, slots=True)
class LoadChange:
    """What a target gets, before and after."""

    target: str | None
    """None: the one target there is where none is named."""
    rate_per_minute: int | None
    """The limit; None: there is none, or it is not known."""
    before: Peaks
    after: Peaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What merging at an instant changes, up to the end of a horizon."""

    at: datetime
    until: datetime
    changes: tuple[Change, ...]
    """By id."""
    unchanged: int
    """How many schedules stay as they are."""
    collisions: tuple[Collision, ...]
    """Pairs that collide within the 400 days from `at`, and did not; and those that are accepted only now."""
    collisions_unlisted: int
    """How many more pairs do, accepted by nobody, where one flow has too many to list."""
    collisions_resolved: int
    """How many pairs collided, accepted by nobody, and do not any more."""
    warnings: tuple[Problem, ...]
    """Of changed schedules, which there were not; crowded minutes and unused acceptances left out."""
    warnings_resolved: int
    load: tuple[LoadChange, ...]
    """Of each target whose fires change, by name."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.changes


def changes(  # noqa: PLR0913 - what a plan depends on
    old: Catalog,
    new: Catalog,
    *,
    at: datetime,
    horizon: timedelta,
    limits: Mapping[str, Limits],
    fires_a_day: int,
    place: Place | None = None,
) -> Plan:
    """Say what merging `new` in place of `old` at an instant changes.

    `at` is aware, in UTC. `limits` are those of the targets that are known; `fires_a_day` is for the warning
    too-many-fires; `place` tells where the keys of the new schedules stand, where that can be told. Raises
    Refused as `schedule_changes` does.
    """
    until = at + horizon
    edits = schedule_changes(old.schedules, new.schedules, at=at, until=until)
    look = _Look(at, until, limits, fires_a_day)
    names = {each.old.id: each.id for each in edits if each.old and each.new}
    touched = {schedule.id for each in edits for schedule in (each.old, each.new) if schedule}
    before, after = look.warnings(old, touched, names), look.warnings(new, touched, place=place)
    collided = collision_changes(
        old.schedules.values(),
        new.schedules.values(),
        after=at,
        until=at + HORIZON,
        of=touched,
        names=names,
    )
    return Plan(
        at=at,
        until=until,
        changes=tuple(edits),
        unchanged=len(new.schedules) - sum(each.new is not None for each in edits),
        collisions=collided.new,
        collisions_unlisted=collided.unlisted,
        collisions_resolved=collided.resolved,
        warnings=tuple(each for key, each in after.items() if key not in before),
        warnings_resolved=len(before.keys() - after.keys()),
        load=look.load_changes(old, new, edits),
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """How both states are looked at."""

    at: datetime
    until: datetime
    limits: Mapping[str, Limits]
    fires_a_day: int

    def warnings(
        self,
        catalog: Catalog,
        ids: Collection[str],
        names: Mapping[str, str] = MappingProxyType({}),
        place: Place | None = None,
    ) -> dict[_Warning, Problem]:
        """Return the warnings of some schedules of a state.

        `names` has the ids that schedules get, where they are others.
        """
        some = [
            replace(each, id=names[each.id]) if each.id in names else each
            for each in look_alike(catalog.schedules.values(), ids)
        ]
        told = warnings(
            Catalog({each.id: each for each in sorted(some, key=lambda each: each.id)}, catalog.revision),
            now=self.at,
            limits={},
            fires_a_day=self.fires_a_day,
            place=place or _place,
            collisions=Collisions((), {}),  # what they tell is not of one schedule
        )
        return {
            (each.rule, each.path, "" if each.rule in _TELLS_A_LINE else each.message): each
            for each in told
            if each.rule not in _NOT_OF_ONE_SCHEDULE
        }

    def load_changes(self, old: Catalog, new: Catalog, edits: Iterable[Change]) -> tuple[LoadChange, ...]:
        """Return the load of each target that gets other fires, or the same ones at other times."""
        touched = {
            side.target for each in edits for side in (each.old, each.new) if side and _changes_load(each)
        }
        loads = [
            load(
                (each for each in catalog.schedules.values() if each.target in touched),
                after=self.at,
                until=self.until,
            )
            for catalog in (old, new)
        ]
        return tuple(
            LoadChange(target, self._rate(target), *(self._peaks(target, each.get(target)) for each in loads))
            for target in sorted(touched, key=lambda name: name or "")
        )

    def _rate(self, target: str | None) -> int | None:
        limits = self.limits.get(target) if target else None
        return limits.rate_per_minute if limits else None

    def _peaks(self, target: str | None, of_target: Load | None) -> Peaks:
        if of_target is None:
            return Peaks(None, None, 0)
        crowds = crowded({target: of_target}, self.limits)
        return Peaks(
            of_target.busiest_minute, of_target.busiest_hour, sum(len(crowd.minutes) for crowd in crowds)
        )


def _changes_load(change: Change) -> bool:
    keys = {each.key for each in change.keys}
    return any(change.fires) or bool(keys & {"target", "jitter"})


def _place(schedule: Schedule, _: tuple[str, ...]) -> tuple[str, int, int]:
    return schedule.source.file, schedule.source.line, 1
