"""Which pairs of schedules collide in one state of the schedules and do not in another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from flowsched import cron
from flowsched.review.collisions import MOST_LISTED, by_flow
from flowsched.review.footprints import Footprints
from flowsched.review.meeting import picker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from flowsched.model import Schedule
    from flowsched.review.collisions import Collision, Flow, OneFlow

    Class = tuple[Flow, int]
    """Schedules of one state that collide with the same others."""


@dataclass(frozen=True, slots=True)
class CollisionChanges:
    """What collides otherwise than before, bounded in size; the counts are exact."""

    new: tuple[Collision, ...]
    """By the two ids: pairs that collide, accepted by nobody, and did not so before, the first MOST_LISTED of
    each flow; and all that are accepted only now."""
    unlisted: int
    """How many more pairs collide, accepted by nobody, and did not so before."""
    resolved: int
    """How many pairs collided, accepted by nobody, and do not any more."""


def collision_changes(
    old: Iterable[Schedule],
    new: Iterable[Schedule],
    *,
    after: datetime,
    until: datetime,
    of: Collection[str],
    names: Mapping[str, str],
) -> CollisionChanges:
    """Compare what collides strictly after `after` and up to `until`, inclusive; both aware.

    `of` has the ids of all schedules that are not the same in both, the former and the new one of those that
    `names` says are renamed.
    """
    footprints = Footprints(cron.horizon(after, until))
    before, later = (
        _State(by_flow(old, footprints, of), names),
        _State(by_flow(new, footprints, of), {}),
    )
    found: list[Collision] = []
    unlisted = 0
    for flow in later.flows.values():
        listed, more = _new(flow, before)
        found += listed
        unlisted += more
    found.sort(key=lambda pair: (pair.sent.id, pair.skipped.id))
    resolved = sum(_resolved(flow, before, later) for flow in before.flows.values())
    return CollisionChanges(tuple(found), unlisted, resolved)


class _State:
    """What collides in one of the two states, by the new ids."""

    def __init__(self, flows: Mapping[Flow, OneFlow], names: Mapping[str, str]) -> None:
        self.flows = flows
        self._names = names
        self._classes: dict[str, Class] = {
            self.name(id_): (flow, number)
            for flow, one in flows.items()
            for id_, number in one.class_of.items()
        }
        self.accepted = {frozenset(map(self.name, ids)) for flow in flows.values() for ids in flow.accepted()}

    def name(self, id_: str) -> str:
        """Return the new id of a schedule of this state."""
        return self._names.get(id_, id_)

    def class_of(self, id_: str) -> Class | None:
        """Return the class of the schedule with a new id; None: it collides with nothing."""
        return self._classes.get(id_)

    def colliding(self, others: Sequence[Class | None]) -> Callable[[Class | None], int]:
        """Return what tells with which of some classes one collides: bit n is that of the n-th of them."""

        @cache
        def pick(flow: Flow) -> Callable[[int], int]:
            return picker([other[1] if other and other[0] == flow else -1 for other in others])

        def colliding(one: Class | None) -> int:
            return pick(one[0])(self.flows[one[0]].partners[one[1]]) if one else 0

        return colliding


def _new(flow: OneFlow, before: _State) -> tuple[list[Collision], int]:
    """Return the new collisions of a flow, and how many more there are."""
    accepted = flow.accepted()
    fresh = flow.without(before.class_of, before.colliding)
    # What somebody accepted before, and nobody does any more.
    again = [pair for ids in before.accepted if (pair := flow.pair(*ids)) and _ids(pair) not in accepted]
    others = (pair for pair in fresh.pairs() if _ids(pair) not in accepted)
    count = len(again) + fresh.count() - sum(fresh.pair(*ids) is not None for ids in accepted)
    listed = islice(merge(sorted(again, key=_ids), others, key=_ids), min(count, MOST_LISTED))
    found = [flow.collision(*pair, None) for pair in listed]
    only_now = [
        flow.collision(*one) for ids, one in accepted.items() if frozenset(ids) not in before.accepted
    ]
    return only_now + found, count - len(found)


def _resolved(flow: OneFlow, before: _State, later: _State) -> int:
    gone = flow.without(lambda id_: later.class_of(before.name(id_)), later.colliding)
    return gone.count() - sum(gone.pair(*ids) is not None for ids in flow.accepted())


def _ids(pair: tuple[Schedule, Schedule]) -> tuple[str, str]:
    return pair[0].id, pair[1].id
