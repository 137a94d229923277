"""Every pair of schedules that would have two fires for one flow within one UTC minute."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from heapq import nsmallest
from itertools import islice, starmap
from typing import TYPE_CHECKING, TypeVar

from flowsched import cron
from flowsched.cron.blocks import DAY, ones
from flowsched.errors import Problem, printable, quoted
from flowsched.model import DEFAULT_TARGET
from flowsched.review.footprints import Footprints, shared
from flowsched.review.meeting import Meeting, picker
from flowsched.review.stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from flowsched.cron import Block
    from flowsched.model import Acceptance, Schedule
    from flowsched.review.rules import Place

RULE = "collision"
HORIZON = timedelta(days=400)
"""How far ahead is looked for what fires: a year, and a month more for what comes once a year."""
MOST_LISTED = 100
"""Pairs listed of one flow, but for those that are accepted, which all are."""

_CRON = ("cron",)
_SHOWN = 3

Other = TypeVar("Other", bound=Hashable)

Excluding = Callable[[Sequence[Other]], Callable[[Other], int]]
"""Given the other classes of some, what tells which of them are left out beside one: bit n is the n-th."""

Flow = tuple[str | None, int]
"""A target and a flow of it; None is the target of those that name none, where the others do not tell it."""


@dataclass(frozen=True, slots=True)
class Collision:
    """Two schedules that fire for one flow in the same minutes."""

    sent: Schedule
    """The first by id: its fire goes out."""
    skipped: Schedule
    """The other one: its fire is skipped, as EnOS would refuse it."""
    count: int
    """How many fires of the horizon collide; at least one."""
    first: tuple[datetime, ...]
    """The first three of their fire times, ascending, or fewer."""
    accepted: Acceptance | None
    """What either of them says about the other in its `accept`; None: nothing."""


@dataclass(frozen=True, slots=True)
class Collisions:
    """What collides, bounded in size."""

    pairs: tuple[Collision, ...]
    """By the two ids. Those that are not accepted: the first MOST_LISTED of each flow."""
    unlisted: Mapping[Flow, int]
    """How many more pairs collide, accepted by nobody; flows without any are left out."""


def collisions(
    schedules: Iterable[Schedule],
    *,
    after: datetime,
    until: datetime,
    of: Collection[str] | None = None,
) -> Collisions:
    """Return what collides strictly after `after` and up to `until`, inclusive; both aware.

    Only enabled schedules fire. A fire that its blackout skips does not collide; one that it defers does, by
    its fire time, which is what EnOS goes by. With `of`, only pairs with at least one schedule of these ids.
    """
    pairs: list[Collision] = []
    unlisted: dict[Flow, int] = {}
    for flow, found in by_flow(schedules, Footprints(cron.horizon(after, until)), of).items():
        listed = found.listed()
        pairs += listed
        more = found.count() - len(listed)
        if more:
            unlisted[flow] = more
    pairs.sort(key=lambda pair: (pair.sent.id, pair.skipped.id))
    return Collisions(tuple(pairs), unlisted)


def by_flow(
    schedules: Iterable[Schedule], footprints: Footprints, of: Collection[str] | None = None
) -> dict[Flow, OneFlow]:
    """Return what collides within a horizon by flow; those are left out where nothing can."""
    return {
        flow: OneFlow(members, footprints, of) for flow, members in _members_by_flow(schedules, of).items()
    }


def problems(found: Collisions, place: Place) -> list[Problem]:
    """Return an error for each pair that is not accepted, at the `cron` of the one that is skipped.

    `place` tells where a key of a schedule is written. Where not all pairs of a flow are listed, one more
    error says how many.
    """
    reported = [_problem(pair, place) for pair in found.pairs if pair.accepted is None]
    last = {_flow(pair.sent): pair.skipped for pair in found.pairs if pair.accepted is None}
    for flow, count in found.unlisted.items():
        pairs = "pair of schedules collides" if count == 1 else "pairs of schedules collide"
        reported.append(_at(last[flow], f"{count:,} more {pairs} on {_named(flow)}", None, place))
    return reported


class OneFlow:
    """The schedules of one flow, those with the same fires as one class, and which classes collide.

    A pair is wanted where one of the two is asked for.
    """

    def __init__(self, members: list[Schedule], footprints: Footprints, of: Collection[str] | None) -> None:
        self._members = sorted(members, key=lambda member: member.id)
        self._by_id = {member.id: member for member in self._members}
        self._wanted = [member for member in self._members if of is None or member.id in of]
        self._wanted_ids = {member.id for member in self._wanted}
        self._horizon = footprints.horizon
        self.class_of: dict[str, int] = {}
        """By id; what two schedules have in common with others goes by their classes alone."""
        self._classes: list[tuple[Block, ...]] = []
        self._sort_into_classes(footprints)
        self._count_classes()
        self.partners = self._find_partners()
        """Of each class those, and perhaps itself, of which each member collides with each of its own: bit n
        is that of the class n. Those are left out of which no pair of members is wanted."""

    def listed(self) -> list[Collision]:
        """Return the pairs that are accepted, and the first MOST_LISTED of the others."""
        accepted = self.accepted()
        others = (pair for pair in self.pairs() if (pair[0].id, pair[1].id) not in accepted)
        return [
            *starmap(self.collision, accepted.values()),
            *(self.collision(*pair, None) for pair in islice(others, MOST_LISTED)),
        ]

    def without(self, other_class: Callable[[str], Other], excluded: Excluding[Other]) -> OneFlow:
        """Return the same but for the pairs that are excluded, as told by the `other_class` of both ids."""
        found = copy(self)
        numbers: dict[tuple[int, Other], int] = {}
        found.class_of = {
            id_: numbers.setdefault((number, other_class(id_)), len(numbers))
            for id_, number in self.class_of.items()
        }
        former, others = zip(*numbers, strict=True)
        kept = list(map(picker(former), self.partners))
        left_out = cache(excluded(others))
        found._classes = [self._classes[number] for number in former]  # noqa: SLF001 - of its own
        found.partners = [kept[number] & ~left_out(other) for number, other in numbers]
        found._count_classes()  # noqa: SLF001 - of its own
        return found

    def count(self) -> int:
        """Return how many pairs collide, the accepted ones included."""
        return self._pairs_within(self._sizes) - self._pairs_within(self._others)

    def _pairs_within(self, sizes: Mapping[int, int]) -> int:
        """Return how many pairs collide of so many members of each class."""
        of_size: defaultdict[int, int] = defaultdict(int)
        for number, size in sizes.items():
            of_size[size] |= 1 << number
        twice = 0
        for number, size in sizes.items():
            partners = self.partners[number]
            met = sum(each * (partners & classes).bit_count() for each, classes in of_size.items())
            twice += size * (met - 1 if partners >> number & 1 else met)
        return twice // 2

    def _count_classes(self) -> None:
        self._sizes = Counter(self.class_of.values())
        self._others = Counter(self.class_of[id_] for id_ in self.class_of if id_ not in self._wanted_ids)

    def _sort_into_classes(self, footprints: Footprints) -> None:
        """Give each class a number: those with wanted members first, and of both those with most blocks."""
        blocks_of = {member.id: footprints.of(member).blocks for member in self._members}
        wanted = {blocks_of[id_] for id_ in self._wanted_ids}
        self._classes = sorted(
            set(blocks_of.values()), key=lambda blocks: (blocks not in wanted, -len(blocks), blocks)
        )
        numbers = {blocks: number for number, blocks in enumerate(self._classes)}
        self.class_of = {id_: numbers[blocks] for id_, blocks in blocks_of.items()}

    def _find_partners(self) -> list[int]:
        """Return for each class those that share a fire time with it, where a pair of the two is wanted."""
        wanted = len({self.class_of[id_] for id_ in self._wanted_ids})
        wanted_ones, others = Meeting(self._classes[:wanted]), Meeting(self._classes[wanted:])
        partners = [wanted_ones.of(blocks) for blocks in self._classes]
        for number, blocks in enumerate(self._classes[:wanted]):
            partners[number] |= others.of(blocks) << wanted
            if self._sizes[number] == 1:
                partners[number] &= ~(1 << number)
        return partners

    def pairs(self) -> Iterator[tuple[Schedule, Schedule]]:
        """Yield the pairs that collide and are wanted, by the two ids."""
        for sent in self._members:
            partners = self.partners[self.class_of[sent.id]]
            others = self._members if sent.id in self._wanted_ids else self._wanted
            following = bisect_right(others, sent.id, key=lambda member: member.id)
            for skipped in others[following:] if partners else ():
                if partners >> self.class_of[skipped.id] & 1:
                    yield sent, skipped

    def accepted(self) -> dict[tuple[str, str], tuple[Schedule, Schedule, Acceptance]]:
        """Return the pairs that collide, are wanted, and that either of the two accepts, by their ids."""
        found: dict[tuple[str, str], tuple[Schedule, Schedule, Acceptance]] = {}
        for member in self._members:
            for acceptance in member.accept:
                if acceptance.rule == RULE and (pair := self.pair(member.id, acceptance.other or "")):
                    found.setdefault((pair[0].id, pair[1].id), (*pair, acceptance))
        return dict(sorted(found.items()))

    def pair(self, one: str, other: str) -> tuple[Schedule, Schedule] | None:
        """Return the two with these ids, in order; None where they do not collide, or are not wanted."""
        if one == other or not {one, other} <= self.class_of.keys():
            return None
        if self._wanted_ids.isdisjoint((one, other)):
            return None
        if not self.partners[self.class_of[one]] >> self.class_of[other] & 1:
            return None
        sent, skipped = sorted((one, other))
        return self._by_id[sent], self._by_id[skipped]

    def collision(self, sent: Schedule, skipped: Schedule, accepted: Acceptance | None) -> Collision:
        """Return the record of a pair that collides."""
        count, first = self._in_common(self.class_of[sent.id], self.class_of[skipped.id])
        return Collision(sent, skipped, count, first, accepted)

    def _in_common(self, one: int, other: int) -> tuple[int, tuple[datetime, ...]]:
        """Return how many fire times two classes have in common, and the first three."""
        common = list(shared(self._classes[one], self._classes[other]))
        count = sum(minutes.bit_count() * days.bit_count() for minutes, days in common)
        earliest = {
            day * DAY + minute
            for minutes, days in common
            for day in islice(ones(days), _SHOWN)
            for minute in islice(ones(minutes), _SHOWN)
        }
        return count, tuple(self._horizon.instant(number) for number in nsmallest(_SHOWN, earliest))


def _members_by_flow(schedules: Iterable[Schedule], of: Collection[str] | None) -> dict[Flow, list[Schedule]]:
    """Return the enabled schedules of each flow that has at least two, by id, one of them wanted."""
    members: defaultdict[Flow, list[Schedule]] = defaultdict(list)
    for schedule in _with_meant_targets(list(schedules)):
        if schedule.enabled:
            members[_flow(schedule)].append(schedule)
    return {
        flow: each
        for flow, each in members.items()
        if len(each) > 1 and (of is None or any(schedule.id in of for schedule in each))
    }


def _with_meant_targets(schedules: list[Schedule]) -> list[Schedule]:
    """Return the schedules with the target that one without any means, where the others tell it.

    Without settings nobody knows the targets. With settings it is the only one, or else the default.
    """
    named = {schedule.target for schedule in schedules} - {None}
    if not named or (len(named) > 1 and DEFAULT_TARGET not in named):
        return schedules
    meant = DEFAULT_TARGET if DEFAULT_TARGET in named else named.pop()
    return [each if each.target else replace(each, target=meant) for each in schedules]


def _flow(schedule: Schedule) -> Flow:
    return schedule.target, schedule.flow


def _problem(pair: Collision, place: Place) -> Problem:
    sent, skipped = pair.sent, pair.skipped
    file, line, _ = place(sent, _CRON)
    first = ", ".join(map(stamp, pair.first))
    fires = f"fires with {quoted(sent.id)} ({printable(file)}:{line}) at {first}"
    if pair.count > len(pair.first):
        fires += f" and {pair.count - len(pair.first):,} more times"
    refused = f"of two fires for {_named(_flow(sent))} in one minute EnOS refuses the second"
    allowed = f"other minutes, or accept: {{collision: {{{sent.id}: the reason}}}}"
    return _at(skipped, f"{fires}; {refused}", allowed, place)


def _at(schedule: Schedule, message: str, allowed: str | None, place: Place) -> Problem:
    return Problem(*place(schedule, _CRON), f"schedules.{schedule.id}.cron", message, allowed, RULE)


def _named(flow: Flow) -> str:
    target, number = flow
    return f"flow {number}" if target is None else f"flow {number} of target {quoted(target)}"
