"""The engine on a hand-advanced clock and a real ledger."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from flowsched import timeline
from flowsched.engine import Engine, engine
from flowsched.engine.alarms import LOOK_AGAIN, Alarm
from flowsched.engine.engine import FAULT_PAUSE, MOST_ROWS, _Edit
from flowsched.errors import LedgerError
from flowsched.ledger import LEDGER_PAUSE, Ledger
from flowsched.model import Catalog, CatchUp, Origin, Run, RunState, Schedule, Source, Timing
from tests.builders import RETRY, a_schedule
from tests.fakes import HandClock, a_moment, eventually, look_ups_that_hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from flowsched.admission import Difference
    from flowsched.model import Cursor, NewRun

T = TypeVar("T")

START = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)


class NotingLedger:
    """A ledger that notes how many rows it is asked to claim."""

    def __init__(self, ledger: Ledger, asked: list[int]) -> None:
        self._ledger = ledger
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def claim(self, rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        self._asked.append(len(rows))
        return await self._ledger.claim(rows, cursors)


class Desk:
    """An engine, its clock and its ledger, and the runs that were handed out."""

    def __init__(self, ledger: Ledger, clock: HandClock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.runs: list[Run] = []
        self.engine = Engine(ledger, self.runs.append, clock, "host:1")

    async def apply(self, *schedules: Schedule, revision: str = "r1") -> None:
        await self.engine.apply(Catalog({each.id: each for each in schedules}, revision))

    async def restart(self, *schedules: Schedule) -> None:
        """As a new process on the same ledger."""
        await self.engine.stop()
        self.runs.clear()
        self.engine = Engine(self.ledger, self.runs.append, self.clock, "host:2")
        await self.apply(*schedules)

    async def settled(self) -> None:
        """Wait until nothing is left to claim."""
        await eventually(lambda: not self.engine._claims.busy)

    async def minutes(self, count: int) -> None:
        for _ in range(count):
            await self.passes(60)

    async def passes(self, seconds: float) -> None:
        """Let time pass, and all that it brings about be done: the engine sleeps again."""
        self.clock.advance(seconds)
        await eventually(lambda: self.clock.sleeping and not self.busy)

    @property
    def busy(self) -> bool:
        """Whether something is being claimed, and not just paused."""
        return self.engine._claims.busy and len(self.clock.sleeping) < 2

    def fired(self, state: RunState = RunState.CLAIMED) -> list[str]:
        return [f"{run.schedule_id} {run.fire_time:%H:%M}" for run in self.runs if run.state is state]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    desk = Desk(ledger, HandClock(START))
    yield desk
    await desk.engine.stop()
    await ledger.aclose()


async def test_each_fire_time_becomes_one_claimed_run(desk: Desk) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))

    await desk.minutes(3)

    await eventually(lambda: len(desk.runs) >= 3)
    assert desk.fired() == ["minutely 12:01", "minutely 12:02", "minutely 12:03"]
    assert {run.origin for run in desk.runs} == {Origin.SCHEDULE}


async def test_thousands_due_at_once_are_claimed_and_handed_out_bit_by_bit(desk: Desk) -> None:
    """Between the bits the loop's others have their turn; by id the order is that of all of them."""
    count, turns = 2 * MOST_ROWS + 10, [0]
    started: list[tuple[str, int]] = []
    asked: list[int] = []
    desk.engine = Engine(
        NotingLedger(desk.ledger, asked),  # type: ignore[arg-type]
        lambda run: started.append((run.schedule_id, turns[0])),
        desk.clock,
        "host:1",
    )
    ids = [f"s{number:05}" for number in range(count)]
    await desk.apply(*(a_schedule(id_, "* * * * *", flow=1 + number) for number, id_ in enumerate(ids)))

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    going = asyncio.create_task(others())
    desk.clock.advance(30)
    await eventually(lambda: len(started) == count)
    going.cancel()

    assert [id_ for id_, _ in started] == ids
    assert max(asked) <= MOST_ROWS
    assert list(Counter(turn for _, turn in started).values()) == asked, "all of one claim in one go"


async def test_whatever_a_claim_made_final_is_told_whenever_the_engine_is_stopped(desk: Desk) -> None:
    """Nobody would tell of it later: at the next start it is not open any more."""
    count = MOST_ROWS - 10
    schedules = [a_schedule(f"s{number:05}", "0 13 * * *", flow=1 + number) for number in range(count)]
    await desk.apply(*schedules)
    await desk.engine.stop()
    desk.clock.step(START + timedelta(hours=8))
    stops: list[asyncio.Task[None]] = []

    def start(run: Run) -> None:
        if not stops:
            stops.append(asyncio.create_task(desk.engine.stop()))
        desk.runs.append(run)

    desk.engine = Engine(desk.ledger, start, desk.clock, "host:2")
    await desk.apply(*schedules)

    await eventually(lambda: stops)
    await stops[0]

    assert len(desk.fired(RunState.MISSED)) == count


async def test_an_edit_needs_none_of_the_threads_that_look_ups_may_have(desk: Desk) -> None:
    async with look_ups_that_hang():
        await desk.apply(a_schedule("a"))
        await desk.apply(a_schedule("a", "0 13 * * *"), revision="r2")

    assert desk.engine.next_fire() == datetime(2026, 3, 10, 13, tzinfo=UTC)


async def test_an_edit_that_a_fault_of_ours_breaks_off_leaves_all_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.apply(EVERY_TEN)
    desk.clock.step(START + timedelta(minutes=35))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "alarms_of", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await desk.apply(replace(EVERY_TEN, timing=Timing("0 0 * * *", "UTC")), revision="r2")
    told = list(desk.runs)

    await desk.minutes(1)
    await eventually(lambda: len(desk.runs) == 3)

    assert not told, "what is due is not closed"
    assert desk.fired() == ["edited 12:10", "edited 12:20", "edited 12:30"]


async def test_thousands_with_nothing_due_are_looked_through_bit_by_bit(desk: Desk) -> None:
    await desk.apply(*(a_schedule(f"s{number:05}", flow=1 + number) for number in range(9 * MOST_ROWS)))
    await desk.settled()
    turns = 0

    desk.engine._claims.want(a_schedule().timing)
    while desk.engine._claims.busy:
        turns += 1
        await asyncio.sleep(0)

    assert turns >= 9


@pytest.mark.parametrize(
    "timing",
    [
        Timing("*/10 * * * *", "Australia/Lord_Howe"),
        Timing("30 2 * * *", "Europe/Berlin"),
        Timing("0 0 29 2 *", "UTC"),
        Timing("* * * * *", "UTC", ends_at=START + timedelta(days=20)),
        Timing("5 * * * *", "UTC", starts_at=START + timedelta(days=20)),
    ],
)
def test_an_alarm_knows_the_fire_times_of_its_timing_whatever_it_was_asked_before(timing: Timing) -> None:
    dice, alarm, after = random.Random(7), Alarm(timing), START + timedelta(days=15)  # noqa: S311
    for _ in range(300):
        after += timedelta(seconds=dice.choice([-86400, -60, 0, 1, 59.5, 60, 600, 3600, 90000]))
        until = after + timedelta(minutes=dice.choice([0, 1, 10, 300]))
        after = alarm.fire_time(after) or after if dice.random() < 0.3 else after
        expected = list(itertools.islice(timeline.fire_times(timing, after), 5))

        assert alarm.fire_time(after) == next(iter(expected), None)
        assert alarm.came(after, until, 5) == [at for at in expected if at <= until]


async def test_it_fires_at_the_fire_time_and_not_before(desk: Desk) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))

    await desk.passes(29.999999)
    before = desk.fired()
    await desk.passes(0.000001)

    assert (before, desk.fired()) == ([], ["minutely 12:01"])


async def test_a_run_has_all_that_it_needs_from_its_schedule(desk: Desk) -> None:
    schedule = a_schedule(
        "wind",
        "*/5 * * * *",
        flow=3391,
        task=108580,
        target="on-site",
        retry=replace(RETRY, deadline=timedelta(minutes=7)),
        source=Source("schedules/wind.yaml", 12),
    )
    await desk.apply(schedule, revision="c0ffee")

    await desk.passes(5 * 60 - 30)

    (run,) = desk.runs
    assert run == replace(
        run,
        schedule_id="wind",
        fire_time=datetime(2026, 3, 10, 12, 5, tzinfo=UTC),
        origin=Origin.SCHEDULE,
        state=RunState.CLAIMED,
        target="on-site",
        flow=3391,
        task=108580,
        predicted_instance="3391-20260310120500",
        retry=schedule.retry,
        claimed_at=datetime(2026, 3, 10, 12, 5, tzinfo=UTC),
        deadline=datetime(2026, 3, 10, 12, 12, tzinfo=UTC),
        revision="c0ffee",
        source=Source("schedules/wind.yaml", 12),
        daemon="host:1",
    )


async def test_the_deadline_of_a_fire_that_is_caught_up_begins_with_its_claim(desk: Desk) -> None:
    await desk.apply(a_schedule("hourly", "0 * * * *"))

    desk.clock.step(datetime(2026, 3, 10, 13, 40, tzinfo=UTC))
    await desk.passes(LOOK_AGAIN)

    (run,) = desk.runs
    assert run.deadline == run.claimed_at + RETRY.deadline
    assert run.claimed_at >= datetime(2026, 3, 10, 13, 40, tzinfo=UTC)


async def test_the_ledger_knows_how_far_each_schedule_is_accounted_for(desk: Desk) -> None:
    schedule = a_schedule("minutely", "* * * * *")
    await desk.apply(schedule)
    await desk.minutes(2)

    cursors = await desk.ledger.apply(Catalog({schedule.id: schedule}, "r1"), desk.clock.now())

    assert cursors["minutely"].at == datetime(2026, 3, 10, 12, 2, tzinfo=UTC)


async def test_a_long_backlog_is_claimed_in_slices_and_whole(desk: Desk) -> None:
    await desk.apply(
        a_schedule("latest", "* * * * *", catch_up=CatchUp.LATEST, catch_up_window=timedelta(days=30)),
        a_schedule("other", "* * * * *", flow=2430, catch_up=CatchUp.NONE),
    )

    desk.clock.step(START + timedelta(minutes=2 * MOST_ROWS + 300))
    desk.clock.advance(LOOK_AGAIN)

    count = 2 * (2 * MOST_ROWS + 300)
    await eventually(lambda: len(desk.runs) == count, within=20)
    assert [run.schedule_id for run in desk.runs if run.state is RunState.CLAIMED] == ["latest", "other"]
    assert len({(run.schedule_id, run.fire_time) for run in desk.runs}) == count


async def test_a_claim_that_is_found_done_is_handed_out(tmp_path: Path) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    desk = Desk(ledger, HandClock(START))
    await desk.apply(a_schedule("minutely", "* * * * *"))

    (tmp_path / "ledger.db").rename(tmp_path / "away.db")
    await desk.passes(30)
    handed_out_before = list(desk.runs)
    (tmp_path / "away.db").rename(tmp_path / "ledger.db")
    await desk.passes(LEDGER_PAUSE)

    assert handed_out_before == []
    assert desk.fired() == ["minutely 12:01"]
    await desk.engine.stop()
    await ledger.aclose()


async def test_a_ledger_ahead_of_the_clock_is_said_aloud(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = a_schedule("minutely", "* * * * *")
    await desk.apply(schedule)
    desk.clock.step(START + timedelta(days=3))
    await desk.passes(LOOK_AGAIN)

    desk.clock.step(START)
    await desk.restart(schedule)

    assert "the ledger is ahead of the clock" in caplog.text
    assert desk.engine.next_fire() == datetime(2026, 3, 13, 12, 1, tzinfo=UTC)


async def test_a_fault_of_ours_in_one_claim_does_not_lose_its_fires(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))
    monkeypatch.setattr(desk.ledger, "claim", _fails_once(desk.ledger.claim))

    await desk.passes(30)
    await desk.passes(FAULT_PAUSE)

    assert desk.fired() == ["minutely 12:01", "minutely 12:02"]
    assert "claim stopped by a fault of flowsched" in caplog.text


async def test_a_fault_on_handing_out_a_run_leaves_none_of_its_claim_behind(desk: Desk) -> None:
    await desk.apply(*(a_schedule(id_, "*/10 * * * *", flow=flow) for flow, id_ in enumerate("abc", 1)))
    start, faults = desk.engine._start, [MemoryError("once"), MemoryError("twice")]

    def start_after_faults(run: Run) -> None:
        if run.schedule_id == "b" and faults:
            raise faults.pop()
        start(run)

    desk.engine._start = start_after_faults
    await desk.minutes(11)
    at_once = desk.fired()
    await desk.passes(FAULT_PAUSE)
    await desk.passes(FAULT_PAUSE)

    assert at_once == ["a 12:10", "c 12:10"]
    assert desk.fired() == ["a 12:10", "c 12:10", "b 12:10"]


async def test_a_run_that_can_never_be_handed_out_stops_no_other(desk: Desk) -> None:
    await desk.apply(a_schedule("bad", "* * * * *", flow=1), a_schedule("good", "* * * * *", flow=2))
    start = desk.engine._start

    def start_but_for_one(run: Run) -> None:
        if run.schedule_id == "bad":
            raise MemoryError
        start(run)

    desk.engine._start = start_but_for_one
    await desk.minutes(4)

    assert desk.fired() == [f"good 12:0{minute}" for minute in range(1, 5)]


async def test_a_fault_of_ours_in_one_schedule_does_not_hold_up_the_others(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "due_time", _fails_once(timeline.due_time))
    await desk.apply(
        a_schedule("faulty", "* * * * *", jitter=timedelta(seconds=20)),
        a_schedule("sound", "* * * * *", flow=2430),
    )

    desk.clock.advance(30)
    await eventually(desk.fired)
    await desk.settled()
    assert desk.fired() == ["sound 12:01"]
    desk.clock.advance(FAULT_PAUSE)

    await eventually(lambda: len(desk.fired()) == 4)
    assert sorted(desk.fired()) == ["faulty 12:01", "faulty 12:02", "sound 12:01", "sound 12:02"]
    assert "no fires of a schedule, by a fault of flowsched" in caplog.text


async def test_a_fault_of_ours_in_one_timing_does_not_silence_the_others(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.apply(a_schedule("faulty", "* * * * *"), a_schedule("sound", "*/1 * * * *", flow=2430))
    faulty = next(each for each in desk.engine._alarms.values() if each.timing.cron == "* * * * *")
    faulty.next = _fails_once(faulty.next)  # type: ignore[method-assign]

    await desk.minutes(3)

    assert sorted(desk.fired()) == [
        f"{name} 12:0{minute}" for name in ("faulty", "sound") for minute in (1, 2, 3)
    ]
    assert "no next fire time, by a fault of flowsched" in caplog.text


async def test_a_wake_up_that_fails_is_followed_by_another(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))
    await desk.passes(1)
    monkeypatch.setattr(AsyncIOScheduler, "_process_jobs", _fails_once(AsyncIOScheduler._process_jobs))

    for _ in range(3):
        await desk.passes(LOOK_AGAIN)

    assert desk.fired() == ["minutely 12:01"]
    assert "wake-up stopped by a fault" in caplog.text


def _fails_once(method: Callable[..., T]) -> Callable[..., T]:
    failures = [RuntimeError("a fault of ours")]

    def call(*arguments: object) -> T:
        if failures:
            raise failures.pop()
        return method(*arguments)

    return call


async def test_a_wake_up_that_was_on_its_way_when_it_stopped_rings_nothing(desk: Desk) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))
    await desk.passes(20)

    desk.clock.advance(10)
    await asyncio.sleep(0)
    await desk.engine.stop()
    await a_moment()

    assert not desk.runs


async def test_schedules_that_share_a_timing_share_an_alarm(desk: Desk) -> None:
    await desk.apply(*(a_schedule(f"s{number}", "* * * * *") for number in range(50)))

    desk.clock.advance(60)

    await eventually(lambda: len(desk.runs) == 50)
    assert len(desk.engine._scheduler.get_jobs()) == 1


async def test_a_disabled_schedule_never_fires(desk: Desk) -> None:
    await desk.apply(a_schedule("on", "* * * * *"), a_schedule("off", "* * * * *", enabled=False))

    await desk.minutes(2)

    await eventually(lambda: len(desk.runs) >= 2)
    assert desk.fired() == ["on 12:01", "on 12:02"]


async def test_nothing_fires_for_a_time_before_the_schedule_was_applied(desk: Desk) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))

    await a_moment()

    assert not desk.runs


async def test_a_machine_that_slept_catches_up_by_the_policy(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.apply(
        a_schedule("latest", "*/10 * * * *", catch_up=CatchUp.LATEST),
        a_schedule("none", "*/10 * * * *", catch_up=CatchUp.NONE),
    )

    desk.clock.step(START + timedelta(minutes=35))
    desk.clock.advance(LOOK_AGAIN)

    await eventually(lambda: len(desk.runs) == 6)
    assert desk.fired() == ["latest 12:30"]
    assert desk.fired(RunState.MISSED) == [
        "latest 12:10",
        "none 12:10",
        "latest 12:20",
        "none 12:20",
        "none 12:30",
    ]
    (late,) = (record for record in caplog.records if record.message == "fires were late")
    assert (late.__dict__["caught_up"], late.__dict__["missed"]) == (1, 5)


@pytest.mark.parametrize(("seconds", "said"), [(3600, "forward"), (-3600, "back"), (1.5, None), (-1.5, None)])
async def test_a_step_of_the_wall_clock_is_said_aloud_within_fifteen_seconds(
    desk: Desk, caplog: pytest.LogCaptureFixture, seconds: float, said: str | None
) -> None:
    await desk.apply(a_schedule("daily", "0 0 * * *"))
    await desk.passes(LOOK_AGAIN)

    desk.clock.step(desk.clock.now() + timedelta(seconds=seconds))
    await desk.passes(LOOK_AGAIN)

    steps = [record for record in caplog.records if "the wall clock stepped" in record.message]
    assert [record.__dict__["seconds"] for record in steps] == ([seconds] if said else [])
    assert all(f"stepped {said}" in record.message for record in steps)


async def test_a_clock_that_steps_back_fires_nothing_twice(desk: Desk) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))
    await desk.minutes(3)
    await eventually(lambda: len(desk.runs) == 3)

    desk.clock.step(START)
    await desk.minutes(3)
    await a_moment()

    assert len(desk.runs) == 3


async def test_after_a_restart_every_fire_time_since_the_cursor_is_accounted_for(desk: Desk) -> None:
    schedule = a_schedule("hourly", "0 * * * *", catch_up=CatchUp.ALL)
    await desk.apply(schedule)
    await desk.minutes(60)
    await eventually(lambda: len(desk.runs) == 1)

    desk.clock.step(datetime(2026, 3, 10, 16, 30, tzinfo=UTC))
    await desk.restart(schedule)

    await eventually(lambda: len(desk.runs) == 3)
    assert desk.fired(RunState.MISSED) == ["hourly 14:00", "hourly 15:00"]
    assert desk.fired() == ["hourly 16:00"]
    assert {run.origin for run in desk.runs if run.state is RunState.CLAIMED} == {Origin.CATCH_UP}


async def test_a_schedule_whose_timing_changed_owes_no_earlier_fire(desk: Desk) -> None:
    await desk.apply(a_schedule("edited", "0 * * * *", catch_up=CatchUp.ALL))
    await desk.minutes(60)
    await eventually(lambda: len(desk.runs) == 1)

    desk.clock.step(datetime(2026, 3, 10, 16, 30, tzinfo=UTC))
    await desk.restart(a_schedule("edited", "15 * * * *", catch_up=CatchUp.ALL))
    await a_moment()

    assert desk.fired() == []
    assert desk.fired(RunState.MISSED) == ["edited 14:00", "edited 15:00", "edited 16:00"]
    (reason,) = {run.reason for run in desk.runs}
    assert reason is not None
    assert reason.startswith("its schedule got another timing before this could be fired")


class Stubborn(Ledger):
    """A ledger that refuses so many claims before it takes one."""

    refusals = 0

    async def claim(self, rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        if self.refusals:
            self.refusals -= 1
            raise LedgerError("the ledger is locked by another process")
        return await super().claim(rows, cursors)


async def test_a_ledger_that_refuses_is_asked_again_and_nothing_is_lost(tmp_path: Path) -> None:
    ledger = await Stubborn.open(f"sqlite:///{tmp_path}/ledger.db")
    assert isinstance(ledger, Stubborn)
    ledger.refusals = 2
    desk = Desk(ledger, HandClock(START))
    await desk.apply(a_schedule("minutely", "* * * * *"))

    await desk.minutes(1)
    await a_moment()
    handed_out_before = list(desk.runs)
    for _ in range(2):
        await eventually(lambda: min(desk.clock.sleeping) == LEDGER_PAUSE)
        desk.clock.advance(LEDGER_PAUSE)

    await eventually(lambda: len(desk.runs) == 1)
    assert not handed_out_before
    assert desk.fired() == ["minutely 12:01"]
    await desk.engine.stop()
    await ledger.aclose()


async def test_while_the_ledger_refuses_rings_do_not_pile_up(tmp_path: Path) -> None:
    ledger = await Stubborn.open(f"sqlite:///{tmp_path}/ledger.db")
    ledger.refusals = 10**6
    desk = Desk(ledger, HandClock(START))
    await desk.apply(a_schedule("minutely", "* * * * *"))

    await desk.minutes(20)
    waiting = len(desk.engine._claims._tasks)
    ledger.refusals = 0
    desk.clock.advance(LEDGER_PAUSE)

    await eventually(lambda: len(desk.runs) == 20)
    assert waiting == 1
    assert desk.fired() == ["minutely 12:20"]
    await desk.engine.stop()
    await ledger.aclose()


async def test_a_stopped_engine_rings_no_more(desk: Desk) -> None:
    await desk.apply(a_schedule("minutely", "* * * * *"))
    await desk.engine.stop()

    desk.clock.advance(120)
    await a_moment()

    assert not desk.runs


async def test_the_next_fire_is_the_earliest_of_all(desk: Desk) -> None:
    await desk.apply(a_schedule("a", "0 13 * * *"), a_schedule("b", "5 * * * *"))

    assert desk.engine.next_fire() == datetime(2026, 3, 10, 12, 5, tzinfo=UTC)


async def test_an_empty_catalog_waits_without_an_alarm(desk: Desk) -> None:
    await desk.apply()

    await desk.minutes(2)

    assert desk.engine.next_fire() is None
    assert not desk.runs


EVERY_TEN = a_schedule("edited", "*/10 * * * *", catch_up=CatchUp.ALL, catch_up_window=timedelta(days=1))


def retimed(**more: Any) -> Schedule:
    return replace(EVERY_TEN, timing=replace(EVERY_TEN.timing, **more))


EDITS = {
    "another cron": [retimed(cron="*/15 * * * *")],
    "another zone": [retimed(timezone="Europe/Berlin")],
    "a first date": [retimed(starts_at=datetime(2026, 3, 10, 12, 20, tzinfo=UTC))],
    "a last date": [retimed(ends_at=datetime(2026, 3, 11, tzinfo=UTC))],
    "new time zone data": [retimed(rules="2026b")],
    "a new id": [replace(EVERY_TEN, id="new")],
    "a new id and another cron": [replace(retimed(cron="*/15 * * * *"), id="new", renamed_from="edited")],
    "disabled": [replace(EVERY_TEN, enabled=False)],
    "removed": [],
}


@pytest.mark.parametrize("after", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "reloaded"])
async def test_an_edit_of_the_timing_fires_nothing_that_has_passed(
    desk: Desk, after: list[Schedule], *, restarted: bool
) -> None:
    before = replace(EVERY_TEN, timing=replace(EVERY_TEN.timing, rules="2026a"))
    await desk.apply(before)

    desk.clock.step(START + timedelta(minutes=35))
    if restarted:
        await desk.restart(*after)
    else:
        await desk.apply(*after, revision="r2")
    await desk.settled()

    assert desk.fired(RunState.MISSED) == ["edited 12:10", "edited 12:20", "edited 12:30"]
    assert len(desk.runs) == 3
    desk.runs.clear()
    await desk.minutes(5)
    assert {run.fire_time for run in desk.runs} <= {datetime(2026, 3, 10, 12, 40, tzinfo=UTC)}


KEEPS = {
    "another description": [replace(EVERY_TEN, description="new words")],
    "another owner": [replace(EVERY_TEN, owner="somebody else")],
    "another retry": [replace(EVERY_TEN, retry=replace(RETRY, max_attempts=1))],
    "another flow": [replace(EVERY_TEN, flow=2430)],
    "another file": [replace(EVERY_TEN, source=Source("schedules/other.yaml", 77))],
    "renamed": [replace(EVERY_TEN, id="new", renamed_from="edited")],
}


@pytest.mark.parametrize("after", KEEPS.values(), ids=KEEPS)
async def test_what_is_no_edit_of_the_timing_catches_up_as_if_there_had_been_none(
    desk: Desk, after: list[Schedule]
) -> None:
    await desk.apply(EVERY_TEN)

    desk.clock.step(START + timedelta(minutes=35))
    await desk.restart(*after)
    await desk.settled()

    (schedule,) = after
    assert desk.fired() == [f"{schedule.id} 12:{minute}" for minute in (10, 20, 30)]


async def test_disabled_and_enabled_again_owes_nothing_for_the_time_between(desk: Desk) -> None:
    await desk.apply(EVERY_TEN)
    await desk.apply(replace(EVERY_TEN, enabled=False), revision="r2")
    desk.clock.step(START + timedelta(minutes=35))
    await desk.apply(EVERY_TEN, revision="r3")
    await desk.settled()

    await desk.minutes(5)

    assert desk.fired() == ["edited 12:40"]
    assert len(desk.runs) == 1


async def test_a_fire_that_is_due_while_an_edit_is_applied_is_claimed_as_ever(desk: Desk) -> None:
    await desk.apply(EVERY_TEN)

    desk.clock.step(datetime(2026, 3, 10, 12, 10, tzinfo=UTC))
    await desk.apply(retimed(cron="5 0 * * *"), revision="r2")

    assert desk.fired() == ["edited 12:10"]


async def test_dates_bound_the_fire_times(desk: Desk) -> None:
    first, last = datetime(2026, 3, 10, 12, 20, tzinfo=UTC), datetime(2026, 3, 10, 12, 50, tzinfo=UTC)
    await desk.apply(retimed(starts_at=first, ends_at=last))

    await desk.minutes(90)

    assert desk.fired() == ["edited 12:20", "edited 12:30", "edited 12:40"]
    assert desk.engine.next_fire() is None


async def test_of_two_fires_for_one_flow_in_one_minute_the_first_by_id_is_sent(desk: Desk) -> None:
    await desk.apply(
        a_schedule("b-hourly", "0 * * * *"),
        a_schedule("a-daily", "0 13 * * *", "UTC"),
        a_schedule("c-other-target", "0 13 * * *", target="on-site"),
        a_schedule("d-in-berlin", "0 14 * * *", "Europe/Berlin", task=7),
    )

    await desk.minutes(60)

    assert desk.fired() == ["a-daily 13:00", "c-other-target 13:00"]
    skipped = [run for run in desk.runs if run.state is RunState.SKIPPED]
    assert [run.schedule_id for run in skipped] == ["b-hourly", "d-in-berlin"]
    assert all((run.reason or "").startswith("collision: a-daily (run ") for run in skipped)


async def test_jitter_moves_when_a_run_is_due_and_not_what_it_is(desk: Desk) -> None:
    schedule = a_schedule("jittery", "*/10 * * * *", jitter=timedelta(minutes=30))
    await desk.apply(schedule)

    await desk.minutes(20)

    first, second = desk.runs
    assert [run.fire_time.minute for run in (first, second)] == [10, 20]
    for run in (first, second):
        assert run.fire_time < run.due_at < run.fire_time + timedelta(minutes=10)
        assert run.deadline == run.due_at + RETRY.deadline
        assert run.predicted_instance == f"3377-{run.fire_time:%Y%m%d%H%M}00"


async def test_a_fire_whose_jitter_has_not_passed_is_on_time_after_a_restart(desk: Desk) -> None:
    schedule = a_schedule("jittery", "0 * * * *", jitter=timedelta(minutes=59), catch_up=CatchUp.NONE)
    await desk.apply(schedule)

    desk.clock.step(datetime(2026, 3, 10, 13, 2, tzinfo=UTC))
    await desk.restart(schedule)
    await desk.settled()

    (run,) = desk.runs
    assert run.due_at > desk.clock.now()
    assert (run.state, run.origin) == (RunState.CLAIMED, Origin.SCHEDULE)


async def test_fires_that_are_caught_up_together_are_each_due_before_the_next_one(desk: Desk) -> None:
    schedule = replace(EVERY_TEN, jitter=timedelta(hours=1))
    await desk.apply(schedule)

    desk.clock.step(START + timedelta(minutes=35))
    await desk.restart(schedule)
    await desk.settled()

    ten = timedelta(minutes=10)
    expected = [timeline.due_time(schedule, run.fire_time, run.fire_time + ten) for run in desk.runs]
    assert [run.fire_time.minute for run in desk.runs] == [10, 20, 30]
    assert [run.due_at for run in desk.runs] == expected


async def test_each_run_that_is_caught_up_has_the_time_of_those_before_it_as_well(desk: Desk) -> None:
    await desk.apply(EVERY_TEN, replace(EVERY_TEN, id="sibling", flow=2430))

    desk.clock.step(START + timedelta(minutes=35))
    await desk.restart(EVERY_TEN, replace(EVERY_TEN, id="sibling", flow=2430))
    await desk.settled()

    spans = [(run.deadline - run.claimed_at) // RETRY.deadline for run in desk.runs]
    assert spans == [1, 1, 2, 2, 3, 3]
    assert [run.fire_time.minute for run in desk.runs] == [10, 10, 20, 20, 30, 30]


async def test_an_edit_that_the_ledger_refuses_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    await desk.apply(EVERY_TEN)

    (tmp_path / "ledger.db").rename(tmp_path / "away.db")
    with pytest.raises(LedgerError):
        await desk.apply(retimed(cron="0 0 * * *"), revision="r2")
    (tmp_path / "away.db").rename(tmp_path / "ledger.db")
    await desk.minutes(10)

    assert desk.fired() == ["edited 12:10"]


class Forgetful(Ledger):
    """A ledger that puts a catalog in force and then does not say so."""

    lost_answers = 0

    async def apply(
        self, catalog: Catalog, at: datetime, since: Difference | None = None
    ) -> dict[str, Cursor]:
        cursors = await super().apply(catalog, at, since)
        if self.lost_answers:
            self.lost_answers -= 1
            raise LedgerError("the disk said no, and had done it")
        return cursors


async def test_an_edit_whose_answer_is_lost_is_in_force_all_the_same(tmp_path: Path) -> None:
    ledger = await Forgetful.open(f"sqlite:///{tmp_path}/ledger.db")
    assert isinstance(ledger, Forgetful)
    desk = Desk(ledger, HandClock(START))
    await desk.apply(EVERY_TEN)

    ledger.lost_answers = 1
    applying = asyncio.create_task(desk.apply(retimed(cron="15 * * * *"), revision="r2"))
    await eventually(lambda: not ledger.lost_answers)
    await a_moment()
    desk.clock.advance(LEDGER_PAUSE)
    await applying
    await desk.minutes(20)

    assert desk.fired() == ["edited 12:15"]
    await desk.engine.stop()
    await ledger.aclose()


@pytest.mark.parametrize("after", [[retimed(cron="15 * * * *")], []], ids=["retimed", "removed"])
async def test_a_fault_that_is_tried_again_after_an_edit_fires_nothing_of_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, after: list[Schedule]
) -> None:
    fails = _fails_once(timeline.due_time)
    monkeypatch.setattr(timeline, "due_time", fails)
    await desk.apply(replace(EVERY_TEN, jitter=timedelta(seconds=1)))
    await desk.minutes(10)
    assert "no fires of a schedule, by a fault of flowsched" in caplog.text

    desk.clock.advance(45)
    await desk.apply(*after, revision="r2")
    caplog.clear()
    await desk.minutes(20)

    assert desk.fired() == ["edited 12:15"] * len(after)
    assert desk.fired(RunState.MISSED) == ["edited 12:10"]
    assert "fault" not in caplog.text


@pytest.mark.parametrize("timing", [Timing("0 * * * *", "US/Pacific-New"), Timing("61 * * * *", "UTC")])
async def test_a_timing_that_cannot_be_read_any_more_stops_nothing_and_is_said(
    desk: Desk, caplog: pytest.LogCaptureFixture, timing: Timing
) -> None:
    old = replace(EVERY_TEN, timing=timing)
    await desk.ledger.apply(Catalog({old.id: old}, "r1"), START - timedelta(hours=3))

    await desk.apply(EVERY_TEN, revision="r2")
    await desk.minutes(10)

    assert desk.fired() == ["edited 12:10"]
    assert "cannot be read any more" in caplog.text


async def test_a_clock_that_is_set_right_while_it_claims_fires_nothing_of_the_future(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = desk.ledger.claim

    async def claimed_and_set_right(rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        runs = await claim(rows, cursors)
        desk.clock.step(START + timedelta(minutes=1))
        return runs

    await desk.apply(a_schedule("minutely", "* * * * *", catch_up=CatchUp.NONE))
    desk.clock.step(START + timedelta(hours=25))
    monkeypatch.setattr(desk.ledger, "claim", claimed_and_set_right)
    await desk.passes(LOOK_AGAIN)
    await desk.settled()

    assert desk.fired() == []
    assert len(desk.runs) == MOST_ROWS


async def test_a_clock_that_was_ahead_while_the_ledger_refused_silences_nothing(tmp_path: Path) -> None:
    ledger = await Stubborn.open(f"sqlite:///{tmp_path}/ledger.db")
    assert isinstance(ledger, Stubborn)
    desk = Desk(ledger, HandClock(START))
    await desk.apply(
        a_schedule("minutely", "* * * * *"),
        a_schedule("until", "* * * * *", ends_at=START + timedelta(hours=1), flow=2430),
    )
    await desk.passes(1)

    ledger.refusals = 1
    desk.clock.step(desk.clock.now() + timedelta(days=1))
    await desk.passes(LOOK_AGAIN)
    desk.clock.step(START + timedelta(seconds=16))
    for _ in range(20):
        await desk.passes(LOOK_AGAIN)

    assert desk.fired() == [f"{name} 12:0{n}" for n in range(1, 6) for name in ("minutely", "until")]
    await desk.engine.stop()
    await ledger.aclose()


class Mumbling(Ledger):
    """A ledger that makes a claim and then does not say so."""

    lost_answers = 0

    async def claim(self, rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        runs = await super().claim(rows, cursors)
        if self.lost_answers:
            self.lost_answers -= 1
            raise LedgerError("the disk said no, and had done it")
        return runs


@pytest.mark.parametrize("edited", [True, False], ids=["edited", "not edited"])
async def test_a_claim_whose_answer_was_lost_is_carried_though_the_clock_is_set_back(
    tmp_path: Path, *, edited: bool
) -> None:
    ledger = await Mumbling.open(f"sqlite:///{tmp_path}/ledger.db")
    assert isinstance(ledger, Mumbling)
    desk = Desk(ledger, HandClock(START))
    await desk.apply(a_schedule("hourly", "1 * * * *"))

    ledger.lost_answers = 1
    await desk.passes(30)
    assert desk.runs == []
    desk.clock.step(START)
    if edited:
        applying = asyncio.create_task(desk.apply(a_schedule("hourly", "30 * * * *"), revision="r2"))
        await a_moment()
        desk.clock.advance(LEDGER_PAUSE)
        await applying
    else:
        await desk.passes(LEDGER_PAUSE)
    await desk.settled()

    assert desk.fired() == ["hourly 12:01"]
    await desk.engine.stop()
    await ledger.aclose()


async def test_a_term_that_an_old_version_has_recorded_without_its_flow_is_closed_all_the_same(
    desk: Desk, tmp_path: Path
) -> None:
    await desk.apply(EVERY_TEN)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other, other:
        other.execute("UPDATE timings SET flow = NULL, target = NULL")

    desk.clock.step(START + timedelta(minutes=35))
    await desk.restart(retimed(cron="0 0 * * *"))

    assert desk.fired(RunState.MISSED) == ["edited 12:10", "edited 12:20", "edited 12:30"]


async def test_a_rename_onto_an_id_that_was_in_force_later_loses_nothing_silently(desk: Desk) -> None:
    a, b = replace(EVERY_TEN, id="a", flow=1), replace(EVERY_TEN, id="b", flow=2)
    await desk.apply(a, b)
    desk.clock.step(START + timedelta(minutes=35))
    disabled = Catalog({"a": a, "b": replace(b, enabled=False)}, "r2")
    await desk.engine.stop()
    # As a process that is killed as soon as the catalog is in force: what a owes is not claimed.
    terms = await desk.ledger.terms()
    await Engine(desk.ledger, desk.runs.append, desk.clock, "host:2")._close(
        _Edit(disabled, desk.clock.now(), terms, None)
    )
    await desk.ledger.apply(disabled, desk.clock.now())

    await desk.restart(replace(a, id="b", renamed_from="a"))
    await desk.settled()

    assert desk.fired(RunState.MISSED) == ["a 12:10", "a 12:20", "a 12:30"]


async def test_an_edit_can_end_a_schedule_that_a_fault_of_ours_is_about(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> datetime:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(timeline, "due_time", fails)
    await desk.apply(replace(EVERY_TEN, jitter=timedelta(seconds=1)), a_schedule("sound", flow=1))
    await desk.minutes(10)

    await desk.apply(a_schedule("sound", flow=1), revision="r2")

    assert desk.fired(RunState.MISSED) == ["edited 12:10"]
    assert "last fire of a schedule missed by a fault of flowsched" in caplog.text
