"""What a catalog can be used with, and somebody should know all the same: one warning a rule and schedule."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from flowsched import blackouts, timeline
from flowsched.cron import lint
from flowsched.durations import format_duration
from flowsched.errors import Problem, Severity, printable, quoted, shortened
from flowsched.model import Schedule, Then
from flowsched.review.acceptances import Chances
from flowsched.review.clock_changes import AHEAD as TWO_YEARS
from flowsched.review.clock_changes import disturbed, times_of_day
from flowsched.review.collisions import HORIZON
from flowsched.review.load import Tally, crowded
from flowsched.review.stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from flowsched.cron.lint import Doubt
    from flowsched.model import Acceptance, Catalog, Limits, Timing
    from flowsched.review.clock_changes import Touched
    from flowsched.review.collisions import Collisions
    from flowsched.review.load import Crowd
    from flowsched.review.rules import Place

JITTERED_AHEAD = timedelta(days=32)
"""How far ahead fires with jitter are looked for in crowded minutes: each of them takes its time."""

_MOST_CLOSED_TIMES = 2_000
"""That are looked at for a fire that goes out; what closes more often is taken to have one."""
_OF_SETTINGS = {"crowded-minute", "too-many-fires"}
"""Rules that depend on a flowsched.yaml: without one nobody can tell whether an acceptance is of use."""
_LISTED = 4
_LONGEST = 500
"""Characters of a message."""
_CRON = ("cron",)


def warnings(
    catalog: Catalog,
    *,
    now: datetime,
    limits: Mapping[str, Limits],
    fires_a_day: int,
    place: Place,
    collisions: Collisions,
) -> list[Problem]:
    """Return the warnings that nobody has accepted, in the order of the files.

    `limits` are those of the targets that are known; `collisions` those of the whole catalog, which tell the
    acceptances of use from the others. Of a disabled schedule only that is said which will still be so when
    it is enabled. No acceptance is called unused of a schedule that is disabled or has ended, nor one that
    may be of use on another day: see `Chances`.
    """
    review = _Review(now, limits, fires_a_day, place)
    schedules = list(catalog.schedules.values())
    for schedule in schedules:
        review.look_at(schedule)
    review.compare_ids(schedules)
    review.look_for_crowds(schedules)
    pairs = {frozenset({each.sent.id, each.skipped.id}) for each in collisions.pairs}
    review.look_for_unused(schedules, pairs, Chances(catalog.schedules, limits, now))
    return sorted(review.problems)


def look_alike(schedules: Iterable[Schedule], ids: Collection[str]) -> list[Schedule]:
    """Return the schedules of these ids, and those with ids that are easily taken for one of them."""
    folded = {_folded(id_) for id_ in ids}
    return [schedule for schedule in schedules if _folded(schedule.id) in folded]


@dataclass(slots=True)
class _Review:
    now: datetime
    limits: Mapping[str, Limits]
    fires_a_day: int
    place: Place
    problems: list[Problem] = field(default_factory=list)
    _used: set[tuple[str, str]] = field(default_factory=set)
    """Ids and rules of acceptances that accept something."""
    _silent: set[str] = field(default_factory=set)
    """Ids of what has no fires, of which therefore not all is known that may be accepted."""

    def look_at(self, schedule: Schedule) -> None:
        """Note what can be said of a schedule by itself."""
        self._people(schedule)
        self._expression(schedule)
        end = self._end(schedule) if schedule.enabled else None
        if end:
            self._warn(schedule, *end, "never-fires")
        if not schedule.enabled or _first(schedule.timing, self.now) is None:
            self._silent.add(schedule.id)
            return
        self._clock(schedule)
        self._pace(schedule)

    def _people(self, schedule: Schedule) -> None:
        if schedule.owner is None:
            allowed = "who answers for it, here or in defaults"
            self._warn(schedule, ("owner",), "is missing", allowed, "missing-owner")
        if schedule.description is None:
            allowed = "what it is for, in a sentence"
            self._warn(schedule, ("description",), "is missing", allowed, "missing-description")

    def _expression(self, schedule: Schedule) -> None:
        steps, days = _doubts(schedule.timing.cron)
        for doubt in steps:
            self._warn(schedule, _CRON, doubt.message, doubt.allowed, "uneven-step")
        if days:
            self._warn(schedule, _CRON, days.message, days.allowed, "both-day-fields")

    def _end(self, schedule: Schedule) -> tuple[tuple[str, ...], str, str] | None:
        """Return key, message and what is allowed where a schedule does not fire any more."""
        ends_at = schedule.timing.ends_at
        first = _first(schedule.timing, self.now)
        if first is None and ends_at is not None:
            ended = "it ended at" if ends_at <= self.now else "it has no fire time any more before it ends at"
            allowed = "a later ends_at, enabled: false, or no such schedule"
            return ("ends_at",), f"{ended} {stamp(ends_at)}", allowed
        if first is None:
            return _CRON, "has no fire time any more", "an expression that fires"
        if schedule.blackout and (calendars := self._always_closed(schedule, first)):
            message = f"all fires of the next {HORIZON.days} days are skipped: {calendars}"
            return ("blackout",), message, "calendars that leave some fire, or enabled: false"
        return None

    def _always_closed(self, schedule: Schedule, first: datetime) -> str:
        """Return the calendars that skip each fire within HORIZON; empty where one goes out."""
        assert schedule.blackout  # noqa: S101 - asked only of those that have one
        names: list[str] = []
        at: datetime | None = first
        for _ in range(_MOST_CLOSED_TIMES):
            if at is None or at > self.now + HORIZON:
                return ", ".join(dict.fromkeys(names))
            closed = blackouts.closure(schedule.blackout, schedule.timing.timezone, at, schedule.timing.rules)
            if closed is None:
                return ""
            names.append(closed.calendar)
            if closed.until is None:
                return ", ".join(dict.fromkeys(names))
            if schedule.blackout.then is Then.DEFER:
                return ""
            at = next(timeline.fire_times(schedule.timing, closed.until - timedelta.resolution), None)
        return ""

    def _clock(self, schedule: Schedule) -> None:
        touched = [each for each in _touched(schedule.timing, self.now) if _goes_out(schedule, each)]
        if not touched:
            return
        days: defaultdict[str, list[str]] = defaultdict(list)
        for each in touched:
            days[each.words()].append(f"{each.change.reading_before:%Y-%m-%d}")
        message = "; ".join(f"on {_some(dates)} {words}" for words, dates in days.items())
        zone = schedule.timing.timezone
        allowed = f"times that every day has in {zone}, or UTC"
        self._warn(schedule, _CRON, message, allowed, "clock-change")

    def _pace(self, schedule: Schedule) -> None:
        fires, gap = _pace(schedule.timing.cron)
        if fires > self.fires_a_day:
            message = f"fires {fires:,} times a day"
            allowed = f"up to {self.fires_a_day:,} (review.fires_a_day)"
            self._warn(schedule, _CRON, message, allowed, "too-many-fires")
        if schedule.retry.deadline > gap:
            length = format_duration(schedule.retry.deadline)
            message = f"a run may be tried for {length}, and the next fire comes after {format_duration(gap)}"
            allowed = f"up to {format_duration(gap)}"
            self._warn(schedule, ("retry", "deadline"), message, allowed, "deadline-beyond-next-fire")

    def compare_ids(self, schedules: list[Schedule]) -> None:
        """Note ids that people will take for one another; either of the two schedules may accept it."""
        alike: defaultdict[str, list[Schedule]] = defaultdict(list)
        for schedule in schedules:
            alike[_folded(schedule.id)].append(schedule)
        for group in alike.values():
            for other, schedule in pairwise(group):
                accepting = [each.id for each in (other, schedule) if _accepts(each, "similar-ids")]
                self._used.update((id_, "similar-ids") for id_ in accepting)
                if accepting:
                    continue
                message = f"the id is easily taken for {quoted(other.id)} ({other.source})"
                self._warn(schedule, (), message, "ids that differ in letters or digits", "similar-ids")

    def look_for_crowds(self, schedules: Iterable[Schedule]) -> None:
        """Note the schedules that are part of a crowd: in its worst minutes, one for each of the hour."""
        limited = {name for name, limit in self.limits.items() if limit.rate_per_minute is not None}
        counted = [each for each in schedules if each.enabled and each.target in limited]
        tally = Tally(self.now, self.now + HORIZON, self.now + JITTERED_AHEAD)
        for schedule in counted:
            tally.add(schedule)
        for crowd in crowded(tally.loads(), self.limits):
            self._crowd(crowd, tally, [each for each in counted if each.target == crowd.target])

    def _crowd(self, crowd: Crowd, tally: Tally, schedules: Iterable[Schedule]) -> None:
        worst = _worst_minutes(crowd)
        rooms = ", ".join(str(minute) for minute, _ in zip(crowd.room, range(_LISTED), strict=False))
        allowed = f"another minute of the hour{f', such as {rooms}' if rooms else ''}, or jitter"
        for schedule in schedules:
            minute = next((minute for minute in worst if tally.is_due(schedule, minute)), None)
            if minute is not None:
                message = (
                    f"one of {crowd.minutes[minute]:,} fires for target {quoted(crowd.target)} at"
                    f" {stamp(minute)}, of which {crowd.rate_per_minute:,} may be sent within the minute"
                )
                self._warn(schedule, _CRON, message, allowed, "crowded-minute")

    def look_for_unused(
        self, schedules: Iterable[Schedule], colliding: set[frozenset[str]], chances: Chances
    ) -> None:
        """Note acceptances of nothing; one in the defaults of a file where none of its schedules needs it."""
        sharers: defaultdict[tuple[tuple[str, int, int], Acceptance], list[Schedule]] = defaultdict(list)
        for schedule in schedules:
            for accepted in schedule.accept:
                sharers[self.place(schedule, _key(accepted)), accepted].append(schedule)
        for (at, accepted), group in sharers.items():
            if any(self._is_used(schedule, accepted, colliding) for schedule in group):
                continue
            if any(chances.has(schedule, accepted) for schedule in group):
                continue
            shared = len(group) > 1 or at[1] < group[0].source.line
            holder = "defaults" if shared else f"schedules.{group[0].id}"
            message = "accepts nothing: no such warning is left"
            if accepted.other is not None:
                message = "accepts nothing: the two do not collide"
            path = ".".join((holder, *_key(accepted)))
            self._note(at, path, message, "no such entry", "unused-acceptance")

    def _is_used(self, schedule: Schedule, accepted: Acceptance, colliding: set[frozenset[str]]) -> bool:
        if schedule.id in self._silent or (accepted.rule in _OF_SETTINGS and not self.limits):
            return True
        if accepted.other is not None:
            return frozenset({schedule.id, accepted.other}) in colliding
        return (schedule.id, accepted.rule) in self._used

    def _warn(self, schedule: Schedule, key: tuple[str, ...], message: str, allowed: str, rule: str) -> None:
        if _accepts(schedule, rule):
            self._used.add((schedule.id, rule))
            return
        path = ".".join(("schedules", schedule.id, *key))
        self._note(self.place(schedule, key), path, message, allowed, rule)

    def _note(self, at: tuple[str, int, int], path: str, message: str, allowed: str, rule: str) -> None:
        text = printable(shortened(message, _LONGEST))
        self.problems.append(Problem(*at, path, text, allowed, rule, Severity.WARNING))


def _worst_minutes(crowd: Crowd) -> list[datetime]:
    """Return the worst crowded minute of each minute of the hour, the worst of all first."""
    worst: dict[int, datetime] = {}
    for minute, _ in sorted(crowd.minutes.items(), key=lambda item: (-item[1], item[0])):
        worst.setdefault(minute.minute, minute)
    return list(worst.values())


@lru_cache(maxsize=10_000)
def _doubts(expression: str) -> tuple[list[Doubt], Doubt | None]:
    return lint.uneven_steps(expression), lint.both_days(expression)


@lru_cache(maxsize=10_000)
def _pace(expression: str) -> tuple[int, timedelta]:
    """Return how often an expression fires on its days, and the shortest time between two fires."""
    return len(times_of_day(expression)), lint.shortest_gap(expression)


@lru_cache(maxsize=10_000)
def _first(timing: Timing, now: datetime) -> datetime | None:
    return next(timeline.fire_times(timing, now), None)


@lru_cache(maxsize=10_000)
def _touched(timing: Timing, now: datetime) -> tuple[Touched, ...]:
    return tuple(disturbed(timing, after=now, until=now + TWO_YEARS))


def _goes_out(schedule: Schedule, touched_times: Touched) -> bool:
    """Tell whether the blackout leaves any of the times that a clock change touches."""
    at = touched_times.fires or (touched_times.change.at,)
    stays = (timeline.stay(schedule, time) for time in at)
    return any(stay is None or stay.until is not None for stay in stays)


def _accepts(schedule: Schedule, rule: str) -> bool:
    return any(accepted.rule == rule for accepted in schedule.accept)


def _key(accepted: Acceptance) -> tuple[str, ...]:
    other = () if accepted.other is None else (accepted.other,)
    return ("accept", accepted.rule, *other)


def _folded(schedule_id: str) -> str:
    """Return what is left of an id for somebody who reads it in a hurry."""
    return schedule_id.casefold().translate({ord(each): None for each in "-_."})


def _some(dates: list[str]) -> str:
    if len(dates) > _LISTED:
        return f"{', '.join(dates[:_LISTED])} and {len(dates) - _LISTED} more"
    *head, tail = dates
    return f"{', '.join(head)} and {tail}" if head else tail
