"""What goes out next, and what should have gone out by now: told to people, never acted on."""

from __future__ import annotations

import heapq
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from flowsched import timeline
from flowsched.admission import paused
from flowsched.engine.alarms import calendars_of
from flowsched.model import Then, Upcoming
from flowsched.review.outgoing import LONGEST_DEFERRED, Outgoing, fire_times_between, sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from flowsched.admission import Pauses
    from flowsched.engine.alarms import Alarm
    from flowsched.model import Cursor, Schedule

_FIRST_LOOK = timedelta(hours=1)
_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


class _Out(NamedTuple):
    out_at: datetime
    schedule_id: str
    fire_time: datetime
    schedule: Schedule


Stand = tuple["datetime", "datetime | None"]
"""Where a cursor stands, and until when it holds the fire that follows."""


class _Alike:
    """Schedules that share timing and blackout, and so all that is to be known here but their cursors."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self.schedules: list[Schedule] = []
        """In the order of their ids."""
        self._known: tuple[datetime, Outgoing | None] | None = None
        """After which instant was asked last, and what goes out first of all that follows."""
        self.nothing_before = _EVER
        """No fire that is still to be claimed goes out before it."""

    def stands(self, cursors: Mapping[str, Cursor]) -> set[Stand]:
        """Return where the cursors stand: few places for many schedules."""
        return {(each.at, each.deferred_until) for each in (cursors[one.id] for one in self.schedules)}

    def is_quiet(self, cursors: Mapping[str, Cursor], before: datetime) -> bool:
        """Tell whether surely nothing should have gone out before an instant.

        What was found holds on: cursors only move forward, and what follows them only goes out later.
        """
        if self.nothing_before < before:
            self.find(self.stands(cursors))
        return self.nothing_before >= before

    def find(self, stands: Iterable[Stand]) -> None:
        """Find before when nothing goes out of what follows the places where the cursors stand."""
        outs = {out for at, until in stands for out in (_first_out_at(self, at), until) if out is not None}
        self.nothing_before = min(outs, default=_NEVER)

    def first(self, after: datetime) -> Outgoing | None:
        """Return what goes out first of the fires with a fire time after an instant; None: nothing does.

        Raises what a calendar or a zone at fault does.
        """
        if self.schedules[0].blackout is None:
            at = self._alarm.fire_time(after)
            return None if at is None else Outgoing(at, at)
        if self._known is not None:
            asked, known = self._known
            if asked <= after and (known is None or after < known.fire_time):
                return known
        found = first_out(self.schedules[0], after)
        self._known = after, found
        return found

    def next_outs(self, cursors: Mapping[str, Cursor], now: datetime, count: int) -> list[_Out]:
        """Return what goes out next of each after `now`, in order; of the first so many."""
        if all(at <= now and (until is None or until <= now) for at, until in self.stands(cursors)):
            return list(islice(self.outs(self.schedules, now), count))
        held: list[_Out] = []
        by_start: dict[datetime, list[Schedule]] = {}
        for schedule in self.schedules:
            cursor = cursors[schedule.id]
            by_start.setdefault(max(now, cursor.at), []).append(schedule)
            if cursor.deferred_until is not None and cursor.deferred_until > now:
                held += _held(schedule, cursor.at, cursor.deferred_until)
        streams = [sorted(held), *(self.outs(some, after) for after, some in by_start.items())]
        return list(islice(_first_of_each(heapq.merge(*streams)), count))

    def outs(self, schedules: list[Schedule], after: datetime) -> Iterator[_Out]:
        """Yield what goes out first of each of some of them, by id; nothing where nothing does."""
        out = _quietly_first(self, after)
        if out is not None:
            for schedule in schedules:
                yield _Out(out.goes_out, schedule.id, out.fire_time, schedule)


class Outlook:
    """All of a catalog's enabled schedules, looked at ahead. To be made anew for another catalog."""

    def __init__(self, alarms: Iterable[Alarm] = (), former: Outlook | None = None) -> None:
        """Look ahead at the schedules of these alarms; what a `former` one knows of the same serves on."""
        known: Mapping[Alarm, list[_Alike]] = {} if former is None else former._of  # noqa: SLF001 - its own class
        self._of: dict[Alarm, list[_Alike]] = {
            alarm: known.get(alarm) or _alike_of(alarm) for alarm in alarms
        }
        self._new = [alike for alarm, some in self._of.items() if alarm not in known for alike in some]
        self._alike = [alike for some in self._of.values() for alike in some]
        self._nothing_before = _EVER
        self._order = self._ordered()

    def look(self, stand_of: Callable[[str], Stand]) -> None:
        """Find what follows the cursors, by id, so that whoever asks first need not wait for it.

        But for what a former one has been asked already, maybe by somebody who asks it just now.
        """
        for alike in self._new:
            alike.find({stand_of(schedule.id) for schedule in alike.schedules})
        self._order = self._ordered()

    def upcoming(
        self, cursors: Mapping[str, Cursor], pauses: Pauses, now: datetime, count: int
    ) -> list[Upcoming]:
        """Return the next fire of each; the contract is that of `Engine.upcoming`.

        Looked at are those that may be among the first, as far as it was found before when they are not.
        """
        first: list[_Out] = []
        looked_at: list[tuple[datetime, int]] = []
        while self._order and (len(first) < count or (first and self._order[0][0] <= first[-1].out_at)):
            before, number = heapq.heappop(self._order)
            alike = self._alike[number]
            alike.find(alike.stands(cursors))
            if alike.nothing_before > before:
                heapq.heappush(self._order, (alike.nothing_before, number))
            else:
                looked_at.append((before, number))
                first = sorted([*first, *alike.next_outs(cursors, now, count)])[:count]
        for each in looked_at:
            heapq.heappush(self._order, each)
        return [_upcoming(one, pauses) for one in first]

    def overdue(self, cursors: Mapping[str, Cursor], before: datetime) -> dict[str, datetime]:
        """Return, by schedule, what should have gone out before an instant; as `Engine.overdue` has it.

        From one call to the next the cursors may only move forward.
        """
        found: dict[str, datetime] = {}
        if self._nothing_before >= before:
            return found
        for alike in self._alike:
            if alike.is_quiet(cursors, before):
                continue
            for schedule in alike.schedules:
                cursor = cursors[schedule.id]
                # Nothing goes out before its fire time.
                if cursor.at < before:
                    out_at = cursor.deferred_until or _first_out_at(alike, cursor.at)
                    if out_at is not None and out_at < before:
                        found[schedule.id] = out_at
        self._nothing_before = min((alike.nothing_before for alike in self._alike), default=_NEVER)
        return found

    def _ordered(self) -> list[tuple[datetime, int]]:
        """Return a heap: before when nothing goes out of those of each number, or still earlier."""
        order = [(alike.nothing_before, number) for number, alike in enumerate(self._alike)]
        heapq.heapify(order)
        return order


def _alike_of(alarm: Alarm) -> list[_Alike]:
    alike: dict[object, _Alike] = {}
    for schedule in alarm.schedules:
        blackout = schedule.blackout and (schedule.blackout.then, calendars_of(schedule.blackout))
        if blackout not in alike:
            alike[blackout] = _Alike(alarm)
        alike[blackout].schedules.append(schedule)
    return list(alike.values())


def _first_of_each(outs: Iterable[_Out]) -> Iterator[_Out]:
    seen: set[str] = set()
    for out in outs:
        if out.schedule_id not in seen:
            seen.add(out.schedule_id)
            yield out


def first_out(schedule: Schedule, after: datetime) -> Outgoing | None:
    """Return what goes out first of the fires with a fire time after an instant; None: nothing does."""
    goes_out = timeline.next_out(schedule, after)
    if goes_out is None:
        return None
    if schedule.blackout is None or schedule.blackout.then is Then.SKIP:
        return Outgoing(goes_out, goes_out)
    before = _latest(schedule, max(after, goes_out - LONGEST_DEFERRED), goes_out - timedelta.resolution)
    going = sent(schedule, before) if before is not None else None
    return going if going is not None and going.goes_out == goes_out else Outgoing(goes_out, goes_out)


def _latest(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """Return the last fire time after an instant and up to another, inclusive."""
    back = _FIRST_LOOK
    while True:
        since = max(after, until - back)
        if times := fire_times_between(schedule.timing, since, until):
            return times[-1]
        if since == after:
            return None
        back *= 4


def _quietly_first(alike: _Alike, after: datetime) -> Outgoing | None:
    try:
        return alike.first(after)
    except Exception:  # noqa: BLE001 - what is at fault says so when it is to fire, and counts as overdue
        return None


def _first_out_at(alike: _Alike, after: datetime) -> datetime | None:
    try:
        first = alike.first(after)
    except Exception:  # noqa: BLE001 - nobody knows when it is to fire; that it does not is told by this
        return after
    return None if first is None else first.goes_out


def _held(schedule: Schedule, cursor: datetime, until: datetime) -> Iterator[_Out]:
    """Yield the fire that has come, and that a blackout defers; none where its time is not known any more."""
    with suppress(Exception):  # as in `_quietly_first`
        for fire_time in islice(timeline.fire_times(schedule.timing, cursor), 1):
            yield _Out(until, schedule.id, fire_time, schedule)


def _upcoming(one: _Out, pauses: Pauses) -> Upcoming:
    return Upcoming(
        schedule_id=one.schedule_id,
        fire_time=one.fire_time,
        out_at=one.out_at,
        paused=paused(one.fire_time, one.out_at, pauses.of(one.schedule)) is not None,
    )
