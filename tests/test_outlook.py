"""What is next, and what is overdue, as people are told."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flowsched import timeline
from flowsched.admission import Pauses
from flowsched.engine.alarms import alarms_of
from flowsched.engine.outlook import Outlook
from flowsched.errors import LedgerError
from flowsched.ledger import Ledger
from flowsched.model import Cursor, Schedule, Scope
from tests.builders import a_schedule, closed, deferred
from tests.fakes import HandClock
from tests.test_engine import START, Desk
from tests.test_pauses import pause, resume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pytest

    from flowsched.model import NewRun, Run, Timing

MINUTE = timedelta(minutes=1)
HOURLY = a_schedule("hourly", "0 * * * *", flow=1)
HALF = a_schedule("half", "30 13-23 * * *", flow=2)


def at(hour: int, minute: int = 0) -> datetime:
    return START.replace(hour=hour, minute=minute, second=0)


def cursors(*schedules: Schedule, since: datetime = START, **more: Any) -> dict[str, Cursor]:
    return {each.id: Cursor(each.id, each.timing, since, **more) for each in schedules}


def next_of(*schedules: Schedule, count: int = 4, now: datetime = START, **more: Any) -> list[str]:
    outlook = Outlook(alarms_of(schedules).values())
    found = outlook.upcoming(cursors(*schedules, **more), Pauses(), now, count)
    return [f"{one.schedule_id} {one.fire_time:%H:%M} {one.out_at:%H:%M}" for one in found]


def test_the_next_fire_of_each_comes_by_time_and_then_by_id() -> None:
    ten = a_schedule("z", "*/10 * * * *")
    nightly = a_schedule("a", "30 2 * * *")

    assert next_of(HOURLY, replace(HOURLY, id="b"), ten, nightly) == [
        "z 12:10 12:10",
        "b 13:00 13:00",
        "hourly 13:00 13:00",
        "a 02:30 02:30",
    ]
    assert next_of(HOURLY, ten, nightly, count=2) == ["z 12:10 12:10", "hourly 13:00 13:00"]
    assert next_of(HOURLY, a_schedule("a", "0 13 * * *"), count=1) == ["a 13:00 13:00"]
    assert next_of(HOURLY, count=0) == []
    assert next_of(replace(HOURLY, enabled=False)) == []
    assert next_of(HOURLY, count=0) == []


def test_what_a_blackout_leaves_out_is_not_next_and_what_it_defers_is_at_its_end() -> None:
    freeze = (at(12, 30), at(15, 30))

    assert next_of(replace(HOURLY, blackout=closed(freeze)), count=1) == ["hourly 16:00 16:00"]
    assert next_of(replace(HOURLY, blackout=deferred(freeze))) == ["hourly 15:00 15:30"]


def test_a_fire_that_is_deferred_to_the_time_of_another_comes_before_it() -> None:
    both = [replace(HOURLY, id=id_, blackout=deferred((at(12, 30), at(14)))) for id_ in ("a", "b")]

    assert next_of(*both) == ["a 13:00 14:00", "b 13:00 14:00"]


def test_what_is_held_just_now_is_next_when_it_goes_out() -> None:
    held = replace(HOURLY, blackout=deferred((at(11, 30), at(12, 30))))

    found = next_of(held, since=at(11), deferred_until=at(12, 30))

    assert found == ["hourly 12:00 12:30"]
    # One that is new since that fire's time has nothing to hold.
    assert next_of(held, count=1) == ["hourly 13:00 13:00"]


def test_a_cursor_that_is_ahead_of_the_clock_says_from_when_on_there_is_a_next() -> None:
    assert next_of(HOURLY, count=1, since=at(16)) == ["hourly 17:00 17:00"]


def test_what_cannot_be_known_spoils_nothing_and_is_told_by_being_overdue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    schedules = [HOURLY, a_schedule("faulty", "1 * * * *")]
    real = timeline.fire_times

    def fails(timing: Timing, after: datetime) -> Iterator[datetime]:
        if timing.cron == "1 * * * *":
            raise RuntimeError("a fault of ours")
        return real(timing, after)

    monkeypatch.setattr(timeline, "fire_times", fails)
    outlook = Outlook(alarms_of(schedules).values())

    assert next_of(*schedules, count=1) == ["hourly 13:00 13:00"]
    assert outlook.overdue(cursors(*schedules), START + MINUTE) == {"faulty": START}
    assert outlook.overdue(cursors(*schedules), START) == {}
    assert caplog.text == ""


def test_overdue_is_what_should_have_gone_out_and_not_what_is_yet_to_come() -> None:
    held = replace(HOURLY, id="held", blackout=deferred((at(12, 30), at(15))))
    schedules = [HOURLY, held, a_schedule("later", "0 20 * * *")]
    outlook = Outlook(alarms_of(schedules).values())
    known = cursors(*schedules) | cursors(held, deferred_until=at(15))

    assert outlook.overdue(known, at(13)) == {}
    assert outlook.overdue(known, at(14)) == {"hourly": at(13)}
    assert outlook.overdue(known, at(15, 1)) == {"hourly": at(13), "held": at(15)}
    # What was asked for before does not stand in the way of an answer for a later time.
    claimed = cursors(*schedules, since=at(15))
    assert outlook.overdue(claimed, at(15, 30)) == {}
    assert outlook.overdue(claimed, at(16, 1)) == {"held": at(16), "hourly": at(16)}


class RefusingLedger(Ledger):
    refuses = False

    async def claim(self, rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        if self.refuses:
            raise LedgerError("disk on fire")
        return await super().claim(rows, cursors)


def test_what_was_deferred_is_overdue_by_when_it_was_to_go_out_then_whatever_a_calendar_says_now() -> None:
    held = replace(HOURLY, blackout=deferred((at(11, 30), at(16))))
    outlook = Outlook(alarms_of([held]).values())
    known = cursors(held, since=at(11), deferred_until=at(12, 30))

    assert outlook.overdue(known, at(12, 30)) == {}
    assert outlook.overdue(known, at(12, 31)) == {"hourly": at(12, 30)}


async def test_fires_that_the_ledger_does_not_take_are_overdue_until_it_does(tmp_path: Path) -> None:
    async with await RefusingLedger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Desk(ledger, HandClock(START))
        await desk.apply(a_schedule("a", "* * * * *"), a_schedule("b", "0 3 * * *", flow=9))
        await desk.minutes(3)
        before = desk.engine.overdue(MINUTE)

        ledger.refuses = True
        await desk.minutes(3)
        during = desk.engine.overdue(MINUTE)
        ledger.refuses = False
        await desk.passes(5)
        await desk.settled()

        assert (before, during, desk.engine.overdue(MINUTE)) == ({}, {"a": at(12, 4)}, {})
        await desk.engine.stop()


def test_ten_thousand_schedules_are_looked_at_quickly() -> None:
    schedules = [
        a_schedule(f"s{number:05}", f"{number % 60} {number % 200 // 60} * * *") for number in range(10_000)
    ]
    outlook = Outlook(alarms_of(schedules).values())
    known = cursors(*schedules)
    outlook.upcoming(known, Pauses(), START, 10)

    began = time.perf_counter()
    for _ in range(5):
        assert len(outlook.upcoming(known, Pauses(), START + MINUTE, 10)) == 10
        assert outlook.overdue(known, START + MINUTE) == {}
    assert time.perf_counter() - began < 1.0  # 0.04 s where it was written


async def test_what_is_next_is_looked_for_only_when_something_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, look = list[datetime](), Outlook.upcoming

    def counted(self: Outlook, known: Mapping[str, Cursor], pauses: Pauses, now: datetime, count: int) -> Any:
        looked.append(now)
        return look(self, known, pauses, now, count)

    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Desk(ledger, HandClock(START))
        await desk.apply(HOURLY, HALF)
        monkeypatch.setattr(Outlook, "upcoming", counted)
        for _ in range(50):
            assert [each.fire_time for each in desk.engine.upcoming(2)] == [at(13), at(13, 30)]
            assert desk.engine.next_fire() == at(13)
            await desk.passes(60)
        looks_in_the_hour = len(looked)
        await desk.minutes(20)
        after = desk.engine.upcoming(2)
        desk.clock.step(START)
        set_back = desk.engine.upcoming(2)
        await desk.engine.stop()

    assert looks_in_the_hour == 1
    assert [[each.fire_time for each in found] for found in (after, set_back)] == [[at(13, 30), at(14)]] * 2


async def test_what_is_next_is_as_a_new_look_would_find_it_whatever_moves(tmp_path: Path) -> None:
    held = a_schedule("held", "*/7 * * * *", flow=2, blackout=deferred((at(12, 10), at(12, 40))))
    beside = a_schedule("z", "35,49 * * * *", flow=3)  # it comes just when the other is deferred
    all_of_them, other = (held, HOURLY, beside), replace(held, blackout=deferred((at(12, 10), at(12, 52))))
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Desk(ledger, HandClock(START))
        await desk.apply(*all_of_them)
        for tick in range(240):
            now = desk.clock.now()
            fresh = desk.engine._outlook.upcoming(desk.engine._cursors, desk.engine._pauses, now, 4)
            assert desk.engine.upcoming(4) == fresh, tick
            if tick == 60:
                await pause(desk, Scope.SCHEDULE, "hourly")
            if tick == 90:
                await desk.apply(other, HOURLY, beside, revision="r2")
            if tick == 180:
                await resume(desk, Scope.SCHEDULE, "hourly")
            desk.clock.advance(20)
            desk.engine.upcoming(4)  # what has just come is not claimed yet
            await desk.passes(0)
            await desk.settled()
        await desk.engine.stop()
