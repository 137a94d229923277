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
from flowsched.model import Cursor, Schedule
from tests.builders import a_schedule, closed, deferred
from tests.fakes import HandClock
from tests.test_engine import START, Desk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from flowsched.model import NewRun, Run

MINUTE = timedelta(minutes=1)
HOURLY = a_schedule("hourly", "0 * * * *", flow=1)


def at(hour: int, minute: int = 0) -> datetime:
    return START.replace(hour=hour, minute=minute, second=0)


def cursors(*schedules: Schedule, since: datetime = START, **more: Any) -> dict[str, Cursor]:
    return {each.id: Cursor(each.id, each.timing, since, **more) for each in schedules}


def next_of(*schedules: Schedule, count: int = 4, now: datetime = START, **more: Any) -> list[str]:
    outlook = Outlook(alarms_of(schedules).values())
    found = outlook.upcoming(cursors(*schedules, **more), Pauses(), now, count)
    return [f"{one.schedule_id} {one.fire_time:%H:%M} {one.out_at:%H:%M}" for one in found]


def test_the_next_fires_of_all_come_by_time_and_then_by_id() -> None:
    ten = a_schedule("a-ten", "*/10 * * * *")

    assert next_of(HOURLY, replace(HOURLY, id="b"), replace(ten, id="z"), count=8) == [
        *(f"z 12:{minute} 12:{minute}" for minute in (10, 20, 30, 40, 50)),
        "b 13:00 13:00",
        "hourly 13:00 13:00",
        "z 13:00 13:00",
    ]
    assert next_of(replace(HOURLY, enabled=False)) == []
    assert next_of(HOURLY, count=0) == []


def test_what_a_blackout_leaves_out_is_not_next_and_what_it_defers_is_at_its_end() -> None:
    freeze = (at(12, 30), at(15, 30))

    assert next_of(replace(HOURLY, blackout=closed(freeze)), count=1) == ["hourly 16:00 16:00"]
    assert next_of(replace(HOURLY, blackout=deferred(freeze)), count=2) == [
        "hourly 15:00 15:30",
        "hourly 16:00 16:00",
    ]


def test_a_fire_at_the_end_of_a_closed_time_comes_after_the_one_that_is_deferred_to_it() -> None:
    both = [replace(HOURLY, id=id_, blackout=deferred((at(12, 30), at(14)))) for id_ in ("a", "b")]

    assert next_of(*both) == ["a 13:00 14:00", "a 14:00 14:00", "b 13:00 14:00", "b 14:00 14:00"]


def test_what_is_held_just_now_is_next_when_it_goes_out() -> None:
    held = replace(HOURLY, blackout=deferred((at(11, 30), at(12, 30))))

    found = next_of(held, count=2, since=at(11), deferred_until=at(12, 30))

    assert found == ["hourly 12:00 12:30", "hourly 13:00 13:00"]
    # One that is new since that fire's time has nothing to hold.
    assert next_of(held, count=1) == ["hourly 13:00 13:00"]


def test_a_cursor_that_is_ahead_of_the_clock_says_from_when_on_there_is_a_next() -> None:
    assert next_of(HOURLY, count=1, since=at(16)) == ["hourly 17:00 17:00"]


def test_what_cannot_be_known_spoils_nothing_and_is_told_by_being_overdue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    schedules = [HOURLY, a_schedule("faulty", "1 * * * *")]
    real = timeline.next_out

    def fails(schedule: Schedule, after: datetime) -> datetime | None:
        if schedule.id == "faulty":
            raise RuntimeError("a fault of ours")
        return real(schedule, after)

    monkeypatch.setattr(timeline, "next_out", fails)
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
    # What was asked for before does not stand in the way of an answer for another time.
    assert outlook.overdue(cursors(*schedules, since=at(14)), at(14, 30)) == {}
    assert outlook.overdue(known, at(14)) == {"hourly": at(13)}


class RefusingLedger(Ledger):
    refuses = False

    async def claim(self, rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        if self.refuses:
            raise LedgerError("disk on fire")
        return await super().claim(rows, cursors)


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
