"""What the engine relies on in APScheduler; a release that changes one of these fails here, by name."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from apscheduler.events import EVENT_JOB_SUBMITTED
from apscheduler.job import Job

from flowsched.engine.alarms import AT_ONCE, LOOK_AGAIN, Alarm, Executor, Scheduler
from flowsched.model import Timing
from tests.fakes import HandClock, a_moment, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)


class Bench:
    """Our scheduler and executor, with a ring that only notes when it came."""

    def __init__(self) -> None:
        self.clock = HandClock(START)
        self.rang: list[tuple[str, datetime]] = []
        self.executor = Executor(self._ring)
        self.scheduler = Scheduler(self.clock, self.executor)

    def _ring(self, alarm: Alarm) -> None:
        self.rang.append((alarm.timing.cron, self.clock.now()))

    async def put(self, *expressions: str) -> None:
        await self.scheduler.put([Alarm(Timing(expression, "UTC")) for expression in expressions])

    async def pass_minutes(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(60)
            await asyncio.sleep(0.01)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.put()
    yield bench
    bench.scheduler.stop()
    await asyncio.sleep(0)


async def test_it_reads_the_time_from_our_clock_alone(bench: Bench) -> None:
    await bench.put("* * * * *")
    await a_moment()
    rang_in_real_time = list(bench.rang)

    await bench.pass_minutes(2)

    await eventually(lambda: len(bench.rang) == 2)
    assert rang_in_real_time == []


async def test_a_fire_time_keeps_our_zone_so_that_it_is_never_converted(bench: Bench) -> None:
    await bench.put("0 13 * * *")

    (job,) = bench.scheduler.get_jobs()

    assert job.next_run_time.tzinfo is bench.scheduler.timezone
    assert job.next_run_time == datetime(2026, 3, 10, 13, tzinfo=UTC)


async def test_an_alarm_that_is_a_day_late_still_rings_once(bench: Bench) -> None:
    await bench.put("* * * * *")

    bench.clock.step(START + timedelta(days=1))
    bench.clock.advance(LOOK_AGAIN)

    await eventually(lambda: len(bench.rang) == 1)
    await a_moment()
    assert len(bench.rang) == 1


async def test_every_ring_gives_its_place_back(bench: Bench) -> None:
    await bench.put("* * * * *")
    await bench.pass_minutes(3)
    await eventually(lambda: len(bench.rang) == 3)

    await eventually(lambda: not bench.executor._instances)


async def test_it_never_waits_longer_than_we_allow(bench: Bench) -> None:
    await bench.put("0 0 1 1 *")
    await a_moment()

    assert bench.clock.sleeping
    assert max(bench.clock.sleeping) <= LOOK_AGAIN


async def test_it_goes_on_looking_when_there_is_nothing_to_do(bench: Bench) -> None:
    await a_moment()
    bench.clock.advance(LOOK_AGAIN)
    await a_moment()

    assert bench.clock.sleeping == [LOOK_AGAIN]


async def test_alarms_that_are_put_take_the_place_of_all_others(bench: Bench) -> None:
    await bench.put("*/2 * * * *", "* * * * *")
    await bench.pass_minutes(1)

    await bench.put("*/3 * * * *")
    await bench.pass_minutes(3)

    await eventually(lambda: len(bench.rang) == 2)
    assert [expression for expression, _ in bench.rang] == ["* * * * *", "*/3 * * * *"]


async def test_all_alarms_of_one_minute_ring_in_one_go(bench: Bench) -> None:
    await bench.put("* * * * *", "*/1 * * * *", "0-59 * * * *")
    rang_together: list[int] = []

    def ring(alarm: Alarm) -> None:
        bench._ring(alarm)
        asyncio.get_running_loop().call_soon(lambda: rang_together.append(len(bench.rang)))

    bench.executor.ring = ring

    await bench.pass_minutes(1)

    await eventually(lambda: len(rang_together) == 3)
    assert rang_together == [3, 3, 3]


async def test_more_alarms_than_ring_at_once_are_passed_on_together_while_the_loop_goes_on(
    bench: Bench,
) -> None:
    turns = [0]
    rang: list[tuple[str, int]] = []
    bench.executor.ring = lambda alarm: rang.append((alarm.timing.cron, turns[0]))
    rung: list[int] = []
    bench.scheduler.add_listener(lambda _: rung.append(turns[0]), EVENT_JOB_SUBMITTED)
    expressions = [f"0,{number % 60} {number // 60},13 * * *" for number in range(3 * AT_ONCE)]
    await bench.put(*expressions)

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    going = asyncio.create_task(others())
    bench.clock.advance(59.5 * 60)
    await eventually(lambda: rang)
    going.cancel()

    assert sorted(expression for expression, _ in rang) == sorted(expressions)
    assert len({turn for _, turn in rang}) == 1
    assert max(Counter(rung).values()) <= AT_ONCE


async def test_alarms_that_are_put_again_go_on_as_they_were_set(bench: Bench) -> None:
    await bench.put("* * * * *", "30 12 * * *")
    bench.clock.advance(31)  # due, and not looked at yet
    await bench.put("* * * * *", "45 12 * * *")
    await a_moment()
    await bench.pass_minutes(50)

    await eventually(lambda: len(bench.rang) >= 52)
    assert len(bench.rang) == 52
    assert bench.rang[0] == ("* * * * *", START.replace(minute=1, second=1))
    assert [expression for expression, _ in bench.rang if expression != "* * * * *"] == ["45 12 * * *"]


def jobs_of(bench: Bench) -> list[str]:
    return sorted(job.trigger.alarm.timing.cron for job in bench.scheduler.get_jobs())


async def test_a_put_that_is_broken_off_loses_sight_of_no_alarm(bench: Bench) -> None:
    many = [f"{number % 60} {number // 60} * * *" for number in range(3 * AT_ONCE)]
    await bench.put(*many)

    going = asyncio.create_task(bench.put(*(f"{each[:-1]}1" for each in many)))
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    left = len(jobs_of(bench))
    await bench.put("* * * * *")

    assert left == len(many) + AT_ONCE, "the loop's others had their turn"
    assert jobs_of(bench) == ["* * * * *"]
    await bench.pass_minutes(1)
    await eventually(lambda: bench.rang)


async def test_a_put_during_which_it_is_stopped_just_ends(bench: Bench) -> None:
    await bench.put("* * * * *")
    going = asyncio.create_task(bench.put(*(f"{number % 60} {number // 60} * * *" for number in range(300))))
    await asyncio.sleep(0)

    bench.scheduler.stop()

    await going


async def test_a_step_of_the_clock_while_alarms_are_put_shows_when_all_are(bench: Bench) -> None:
    await bench.put("* * * * *")
    going = asyncio.create_task(bench.put(*(f"{number % 60} {number // 60} * * *" for number in range(300))))
    await asyncio.sleep(0)

    bench.clock.step(START - timedelta(minutes=1))
    bench.scheduler.wakeup()
    for _ in range(2):
        await asyncio.sleep(0)
    rang_before = list(bench.rang)
    await going

    await eventually(lambda: len(bench.rang) == 300)
    assert rang_before == []
    assert "* * * * *" not in dict(bench.rang)


@pytest.mark.parametrize("at_fault", ["_set_anew", "ring"])
async def test_it_goes_on_ringing_after_a_fault_of_ours(
    bench: Bench, at_fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.put("* * * * *")
    with monkeypatch.context() as patch:
        if at_fault == "ring":
            patch.setattr(bench.executor, "ring", lambda _: 1 // 0)
        else:
            patch.setattr(Job, "modify", lambda *_, **__: 1 // 0)
        bench.clock.step(START - timedelta(minutes=1))
        await bench.pass_minutes(2)

    await bench.pass_minutes(2)

    await eventually(lambda: bench.rang)


async def test_an_alarm_that_had_rung_for_good_rings_again_once_the_clock_is_set_back(bench: Bench) -> None:
    ended = Timing("* * * * *", "UTC", ends_at=START)
    await bench.scheduler.put([Alarm(ended)])
    bench.clock.step(START - timedelta(minutes=2))
    bench.clock.advance(LOOK_AGAIN)  # notices the step
    await a_moment()
    before = len(bench.rang)

    await bench.pass_minutes(1)

    await eventually(lambda: len(bench.rang) > before)


async def test_a_shutdown_ends_the_timer(bench: Bench) -> None:
    await bench.put("* * * * *")

    bench.scheduler.stop()
    await a_moment()

    assert not bench.clock.sleeping
    assert not bench.scheduler.running
