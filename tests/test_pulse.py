"""Whether the daemon is alive, and who is told: the watchdog, the log, the listeners."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.daemon import pulse as room
from flowsched.daemon.pulse import Pulse
from flowsched.engine import Engine, alarms
from flowsched.errors import LedgerError
from flowsched.events import Event, OverdueSeen
from flowsched.ledger import Ledger
from flowsched.model import Catalog, Phase
from tests.builders import a_schedule
from tests.fakes import HandClock, a_moment, all_have_run, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

START = datetime(2026, 1, 1, tzinfo=UTC)


class Alarms:
    """An engine that wakes as long as it is to."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._stuck_at: float | None = None
        self.late: dict[str, datetime] = {}
        self.fault: Exception | None = None

    @property
    def woke_at(self) -> float:
        return self._clock.monotonic() if self._stuck_at is None else self._stuck_at

    def stick(self) -> None:
        self._stuck_at = self._clock.monotonic()

    def overdue(self, grace: timedelta) -> dict[str, datetime]:
        if self.fault:
            raise self.fault
        return dict(self.late)


class Answers:
    """A ledger that answers, with trouble or without, or not."""

    def __init__(self) -> None:
        self.holds: asyncio.Event | None = None
        self.trouble: Exception | None = None
        self.asked = 0

    async def ping(self) -> None:
        self.asked += 1
        if self.holds:
            await self.holds.wait()
        if self.trouble:
            raise self.trouble


class Patient:
    """All that a pulse looks at, and what it does."""

    def __init__(self, watchdog: float | None = 60.0) -> None:
        self.clock = HandClock(START)
        self.engine = Alarms(self.clock)
        self.phase = Phase.RUNNING
        self.ledger = Answers()
        self.fed: list[float] = []
        self.told: list[Event] = []
        self.pulse = Pulse(
            self,
            self.ledger,
            self.clock,
            self.told.append,
            feed=lambda: self.fed.append(self.clock.monotonic()),
            watchdog=watchdog,
        )

    async def lives(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await all_have_run()

    def last_told(self) -> OverdueSeen:
        (*_, last) = self.told
        assert isinstance(last, OverdueSeen)
        return last


@pytest.fixture
async def patient() -> AsyncIterator[Patient]:
    patient = Patient()
    async with keeping(patient.pulse):
        yield patient


@asynccontextmanager
async def keeping(pulse: Pulse) -> AsyncIterator[None]:
    task = asyncio.create_task(pulse.keep())
    await all_have_run()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_daemon_that_is_well_feeds_from_the_start_and_often_enough(patient: Patient) -> None:
    await patient.lives(60)

    gaps = [after - before for before, after in zip(patient.fed, patient.fed[1:], strict=False)]
    assert patient.fed[0] == 0
    assert max(gaps) == room.LOOK_EVERY
    assert patient.pulse.health.alive
    assert patient.pulse.health.ledger_latency == 0


async def test_a_short_watchdog_is_fed_thrice_a_period() -> None:
    patient = Patient(watchdog=3)
    async with keeping(patient.pulse):
        await patient.lives(30)

    gaps = [after - before for before, after in zip(patient.fed, patient.fed[1:], strict=False)]
    assert max(gaps) == 1


async def test_a_ledger_that_does_not_answer_ends_the_feeding_until_it_does(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    await patient.lives(20)
    patient.ledger.holds = asyncio.Event()
    asked = patient.ledger.asked
    await patient.lives(120)
    stuck, fed = patient.pulse.health, patient.fed[-1]
    questions = patient.ledger.asked - asked

    patient.ledger.holds.set()
    patient.ledger.holds = None
    await patient.lives(2)

    assert not stuck.alive
    assert stuck.ledger_latency is None
    assert 20 + room.LEDGER_WITHIN <= fed <= 20 + room.LEDGER_WITHIN + 2 * room.LOOK_EVERY
    assert questions == 1
    assert patient.pulse.health.alive
    assert patient.fed[-1] >= 140
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_a_ledger_that_answers_with_trouble_is_alive(patient: Patient) -> None:
    patient.ledger.trouble = LedgerError("the disk is full")
    await patient.lives(300)
    troubled = patient.pulse.health
    patient.ledger.trouble = None
    await patient.lives(10)
    for_now = patient.pulse.health
    await patient.lives(10)

    assert (troubled.alive, troubled.ledger_error) == (True, "the disk is full")
    assert for_now.ledger_error == "the disk is full"
    assert patient.fed[-1] >= 300
    assert patient.pulse.health.ledger_error is None


async def test_alarms_that_nobody_looks_at_end_the_feeding(patient: Patient) -> None:
    await patient.lives(20)
    patient.engine.stick()
    await patient.lives(100)

    assert not patient.pulse.health.alive
    assert patient.pulse.health.woke_ago == pytest.approx(100, abs=1)
    assert patient.fed[-1] <= 20 + room.WOKE_WITHIN + room.LOOK_EVERY


async def test_the_bound_of_the_alarms_is_well_above_how_often_they_are_looked_at() -> None:
    assert room.WOKE_WITHIN >= 2 * alarms.LOOK_AGAIN + room.LOOK_EVERY


async def test_a_daemon_that_drains_is_fed_though_its_alarms_ring_no_more(patient: Patient) -> None:
    await patient.lives(20)
    patient.engine.stick()
    patient.engine.late = {"nightly": START}
    patient.phase = Phase.STOPPING
    patient.told.clear()
    await patient.lives(100)

    assert patient.pulse.health.alive
    assert patient.fed[-1] >= 115
    assert patient.told == []


@pytest.mark.parametrize("ledger_answers", [True, False])
async def test_an_hour_of_suspend_starves_nobody(patient: Patient, ledger_answers: bool) -> None:  # noqa: FBT001 - a parameter of a test
    await patient.lives(21)
    if not ledger_answers:  # it was asked just before
        patient.ledger.holds = asyncio.Event()
        await patient.lives(5)
    patient.engine.stick()
    patient.clock.advance(timedelta(hours=1))
    await all_have_run()
    woken = patient.pulse.health
    await patient.lives(room.LOOK_SOON)  # nobody has come to answer yet

    assert woken.loop_lag > 3500
    assert patient.pulse.health.alive
    assert patient.fed[-1] == patient.clock.monotonic()


async def test_a_step_of_the_wall_clock_is_nothing_to_the_pulse(patient: Patient) -> None:
    for to in (START + timedelta(days=400), START - timedelta(days=400)):
        patient.clock.step(to)
        await patient.lives(20)

        assert patient.pulse.health.alive
        assert patient.pulse.health.loop_lag == 0


async def test_fires_that_stay_overdue_are_told_of_and_logged_once(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    patient.engine.late = {"b": START, "a": START, "c": START - timedelta(minutes=1)}
    await patient.lives(room.OVERDUE_FOR - 1)
    early = patient.last_told()
    await patient.lives(60)
    lasting = patient.last_told()
    patient.engine.late = {}
    await patient.lives(20)

    assert early.since == {}
    assert lasting.since == {"b": START, "a": START, "c": START - timedelta(minutes=1)}
    assert patient.last_told().since == {}
    error, end = caplog.records
    assert (error.levelno, end.levelno) == (logging.ERROR, logging.WARNING)
    assert vars(error)["first"] == "c, a, b"
    assert patient.pulse.health.alive


async def test_what_is_caught_up_in_time_is_not_overdue(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    for id_ in ("a", "b", "c"):  # each of them late, none for long
        patient.engine.late = {id_: START}
        await patient.lives(room.OVERDUE_FOR - 10)

    assert patient.last_told().since == {}
    assert caplog.records == []


async def test_a_fault_in_the_look_for_overdue_fires_stops_no_feeding_and_is_logged_once(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    patient.engine.fault = RuntimeError("a fault")
    await patient.lives(100)

    assert patient.fed[-1] == 100
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


class Held:
    """A session of the ledger whose thread can be made to hang in it."""

    def __init__(self, ledger: Ledger, thread: str) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        owner = getattr(ledger, thread)
        inner = owner._session
        self.close = inner.close
        self._run = inner.run
        owner._session = self

    def run(self, operations: object) -> object:
        self.go_on.wait(30)
        return self._run(operations)


@pytest.mark.parametrize("thread", ["_reader", "_writer"])
async def test_a_thread_of_the_ledger_that_hangs_ends_the_feeding(tmp_path: Path, thread: str) -> None:
    patient = Patient()
    async with await Ledger.open_as_daemon(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        held = Held(ledger, thread)
        pulse = Pulse(patient, ledger, patient.clock, feed=lambda: patient.fed.append(0))
        async with keeping(pulse):
            await eventually(lambda: _is_asked(pulse))
            held.go_on.clear()
            hanging = getattr(ledger, thread).do(lambda books: None)
            await patient.lives(120)
            fed = len(patient.fed)
            await patient.lives(60)
            stuck = pulse.health, len(patient.fed) - fed
            held.go_on.set()
            await hanging
            await eventually(lambda: _is_asked(pulse))
            await patient.lives(2)

            assert (stuck[0].alive, stuck[1]) == (False, 0)
            assert pulse.health.alive


def _is_asked(pulse: Pulse) -> bool:
    return pulse._ledger._asking is not None and pulse._ledger._asking.done()


async def test_a_backlog_starves_nobody(tmp_path: Path) -> None:
    clock = HandClock(START)
    schedules = {f"s{n:02}": a_schedule(f"s{n:02}", cron="* * * * *", flow=n + 1) for n in range(20)}
    async with await Ledger.open_as_daemon(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        catalog = Catalog(schedules, "revision")
        await ledger.apply(catalog, START - timedelta(days=1))
        engine = Engine(ledger, lambda run: None, clock, "host:1")
        patient = Patient()
        patient.clock = clock
        patient.engine = engine  # type: ignore[assignment]
        pulse = Pulse(patient, ledger, clock, patient.told.append, feed=lambda: patient.fed.append(0))
        async with keeping(pulse):
            await engine.apply(catalog)
            while engine._claims.busy:
                clock.advance(0.2)
                await a_moment()
                assert pulse.health.alive
            runs = await ledger.runs(limit=100_000)
            await engine.stop()

    assert len(runs) == 20 * 24 * 60
    assert patient.last_told().since == {}


async def test_a_pulse_that_is_not_felt_any_more_is_no_sign_of_life() -> None:
    patient = Patient()
    before_the_first_look = patient.pulse.health.alive
    async with keeping(patient.pulse):
        await patient.lives(20)
    patient.clock.advance(room.LOOK_EVERY + room.LOOP_WITHIN)
    still = patient.pulse.health.alive
    patient.clock.advance(1)
    health = patient.pulse.health

    assert (before_the_first_look, still, health.alive) == (True, True, False)
    assert health.loop_lag >= room.LOOP_WITHIN
    async with keeping(patient.pulse):
        assert patient.pulse.health.alive
