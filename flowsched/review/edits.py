"""What becomes of each schedule, and of its fires, where one catalog takes the place of another."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from flowsched.admission import same_timing
from flowsched.errors import Refused
from flowsched.review.footprints import likeness
from flowsched.review.keys import is_same, key_changes
from flowsched.review.moves import Difference, difference
from flowsched.review.outgoing import deferred, first, sent, stretch

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from datetime import datetime

    from flowsched.model import Schedule, Timing
    from flowsched.review.keys import KeyChange
    from flowsched.review.outgoing import Outgoing, Stretch

    Schedules = Mapping[str, Schedule]

MOST_FIRES = 5_000_000
"""Gained, lost and moved, that one plan tells apart."""

_OF_FIRES = ("blackout.", "calendar ")
"""How the keys begin that say which fires of a timing go out, and when."""

JUST_PASSED = timedelta(hours=24)
"""So long before the edit a fire time is of today, and its author may have thought that it would come."""


class Kind(StrEnum):
    """What becomes of a schedule: the most telling of what does."""

    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"
    """It has another id; it may be retimed or changed as well."""
    RETIMED = "retimed"
    """Another timing, or `enabled`; it may be changed as well."""
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A deferred fire that an edit lets never go out: an edit fires nothing that has passed."""

    fire: Outgoing
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one schedule, and of its fires."""

    kind: Kind
    old: Schedule | None
    """None where it is added."""
    new: Schedule | None
    """None where it is removed."""
    detected: bool = False
    """Whether it is taken for renamed since it fires as before, without `renamed_from`."""
    keys: tuple[KeyChange, ...] = ()
    """None of one that is added or removed."""
    starts_anew: bool
    """Whether it begins anew: what the old one owes is given up, and the new one counts from then."""
    fires: Difference
    dropped: Dropped | None
    passed: tuple[datetime, ...]
    """Fire times of the new one only, within JUST_PASSED up to the edit: it does not fire them."""
    next: Outgoing | None
    """What goes out first of the new one; None where nothing does within the horizon."""

    @property
    def schedule(self) -> Schedule:
        """The new one, else the old one."""
        schedule = self.new or self.old
        assert schedule is not None  # noqa: S101 - there is one of them
        return schedule

    @property
    def id(self) -> str:
        """The id that it has, or had last."""
        return self.schedule.id


def schedule_changes(old: Schedules, new: Schedules, *, at: datetime, until: datetime) -> list[Change]:
    """Return what becomes of each schedule where `new` takes the place of `old` at an instant, by id.

    Those that stay as they are are left out, and not expanded. Fires are those that go out later than `at`
    and up to `until`, inclusive; both aware. Raises Refused where more than MOST_FIRES of them change.
    """
    looked_at = stretch(at, until)
    former, detected = renames(old, new)
    gone = old.keys() - new.keys() - set(former.values())
    pairs: list[tuple[Schedule | None, Schedule | None]] = [(old[id_], None) for id_ in gone]
    for id_, schedule in new.items():
        before = old.get(former.get(id_, id_))
        if before is None or before.id != id_ or not is_same(before, schedule):
            pairs.append((before, schedule))
    found, told = [], 0
    fires_of = _FiresOf(looked_at)
    for pair in pairs:
        found.append(_change(*pair, fires_of, detected))
        told += sum(map(len, found[-1].fires))
        if told > MOST_FIRES:
            raise Refused(f"more than {MOST_FIRES:,} fires would change", "a shorter horizon")
    return sorted(found, key=lambda change: (change.id, change.kind))


def renames(old: Schedules, new: Schedules) -> tuple[dict[str, str], frozenset[str]]:
    """Return the former id of each renamed schedule, by its new one; and the new ids of those only detected.

    Renamed is what says so of an id that was there and is no more, and what alone fires the same task of the
    same flow by the same timing as the only one that is gone.
    """
    former: dict[str, str] = {}
    gone = old.keys() - new.keys()
    for id_, schedule in new.items():
        was = schedule.renamed_from
        if was is not None and was in gone and id_ not in old:
            former[id_] = was
            gone.remove(was)
    come = _by_work(new[id_] for id_ in new.keys() - old.keys() - former.keys())
    left = _by_work(old[id_] for id_ in gone)
    alike = {
        come[work][0].id: left[work][0].id
        for work in come.keys() & left.keys()
        if len(come[work]) == len(left[work]) == 1
    }
    return {**former, **alike}, frozenset(alike)


def _by_work(schedules: Iterable[Schedule]) -> dict[tuple[object, ...], list[Schedule]]:
    groups: defaultdict[tuple[object, ...], list[Schedule]] = defaultdict(list)
    for each in schedules:
        timing = replace(each.timing, rules="")
        groups[timing, each.enabled, each.target, each.flow, each.task].append(each)
    return dict(groups)


def _change(
    old: Schedule | None, new: Schedule | None, fires_of: _FiresOf, detected: frozenset[str]
) -> Change:
    is_detected = new is not None and new.id in detected
    goes_on = _goes_on(old, new) and not is_detected
    keys = _keys(old, new)
    told = fires_of(old, new, keys, goes_on=goes_on)
    return Change(
        kind=_kind(old, new),
        old=old,
        new=new,
        detected=is_detected,
        keys=keys,
        starts_anew=not goes_on,
        fires=told.difference,
        dropped=told.dropped,
        passed=told.passed,
        next=told.next,
    )


class _Fires(NamedTuple):
    difference: Difference
    dropped: Dropped | None
    passed: tuple[datetime, ...]
    next: Outgoing | None


class _FiresOf:
    """What becomes of the fires of schedules; where both timing and blackout are alike, worked out once."""

    def __init__(self, looked_at: Stretch) -> None:
        self._looked_at = looked_at
        self._passed = stretch(looked_at.at - JUST_PASSED, looked_at.at)
        self._known: dict[Hashable, _Fires] = {}

    def __call__(
        self, old: Schedule | None, new: Schedule | None, keys: tuple[KeyChange, ...], *, goes_on: bool
    ) -> _Fires:
        """Return it for a schedule that is another in these keys; `goes_on` as `_goes_on` tells."""
        if new and goes_on and not any(each.key.startswith(_OF_FIRES) for each in keys):
            return _Fires(Difference(), None, (), first(new, self._looked_at.at, self._looked_at.until))
        key = (_fires_like(old), _fires_like(new), goes_on)
        if key not in self._known:
            self._known[key] = self._worked_out(old, new, goes_on=goes_on)
        return self._known[key]

    def _worked_out(self, old: Schedule | None, new: Schedule | None, *, goes_on: bool) -> _Fires:
        before, after, dropped = _sides(old, new, self._looked_at, goes_on=goes_on)
        return _Fires(
            difference(before, after, _timings(old, new), self._looked_at),
            dropped,
            () if goes_on else _just_passed(old, new, self._passed),
            min(after, default=None),
        )


def _fires_like(schedule: Schedule | None) -> Hashable:
    return schedule and (schedule.enabled, likeness(schedule))


def _goes_on(old: Schedule | None, new: Schedule | None) -> bool:
    """Tell whether the new schedule takes over what the old one owes; that a rename says so is left aside."""
    if old is None or new is None:
        return False
    return old.enabled and new.enabled and same_timing(old.timing, new.timing)


def _kind(old: Schedule | None, new: Schedule | None) -> Kind:
    if old is None:
        return Kind.ADDED
    if new is None:
        return Kind.REMOVED
    if old.id != new.id:
        return Kind.RENAMED
    retimed = old.enabled != new.enabled or not same_timing(old.timing, new.timing)
    return Kind.RETIMED if retimed else Kind.CHANGED


def _keys(old: Schedule | None, new: Schedule | None) -> tuple[KeyChange, ...]:
    if old is None or new is None:
        return ()
    found = key_changes(old, new)
    # Where the rename is believed, to say where it is from is the rename.
    return tuple(each for each in found if each.key != "renamed_from" or each.new != old.id)


def _timings(old: Schedule | None, new: Schedule | None) -> tuple[Timing, Timing]:
    before, after = old or new, new or old
    assert before is not None and after is not None  # noqa: S101, PT018 - there is one of them
    return before.timing, after.timing


def _sides(
    old: Schedule | None, new: Schedule | None, looked_at: Stretch, *, goes_on: bool
) -> tuple[list[Outgoing], list[Outgoing], Dropped | None]:
    """Return what would have gone out, what will, and what is deferred at the edit and dropped by it."""
    before = list(looked_at.outgoing(old)) if old else []
    after = list(looked_at.outgoing(new)) if new else []
    waiting = deferred(old, looked_at.at) if old else None
    if waiting is None:
        return before, after, None
    if waiting.goes_out <= looked_at.until:
        before.append(waiting)
    kept = sent(new, waiting.fire_time) if new and goes_on else None
    if kept and kept.goes_out > looked_at.at:
        if kept.goes_out <= looked_at.until:
            after.append(kept)
        return before, after, None
    return before, after, Dropped(waiting, _why_dropped(old, new, goes_on=goes_on, lifted=kept is not None))


def _why_dropped(old: Schedule | None, new: Schedule | None, *, goes_on: bool, lifted: bool) -> str:
    if new is None:
        return "its schedule is removed"
    if not new.enabled:
        return "its schedule is disabled"
    if goes_on:
        return "its blackout is lifted" if lifted else "its blackout skips it now"
    if old and same_timing(old.timing, new.timing):
        return "its schedule is renamed without renamed_from"
    return "its schedule gets another timing"


def _just_passed(old: Schedule | None, new: Schedule | None, passed: Stretch) -> tuple[datetime, ...]:
    """Return what would have fired today, had the edit been made in time."""
    if new is None or not new.enabled:
        return ()
    had: set[datetime] = set()
    if old and old.enabled:
        had = {time for time in passed.fire_times(old.timing) if sent(old, time)}
    return tuple(time for time in passed.fire_times(new.timing) if time not in had and sent(new, time))
