"""What the engine relies on in APScheduler; a release that changes one of these fails here, by name."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.engine.alarms import LOOK_AGAIN, Alarm, Executor, Scheduler
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

    def put(self, *expressions: str) -> None:
        self.scheduler.put([Alarm(Timing(expression, "UTC")) for expression in expressions])

    async def pass_minutes(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(60)
            await asyncio.sleep(0.01)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    bench.put()
    yield bench
    bench.scheduler.stop()
    await asyncio.sleep(0)


async def test_it_reads_the_time_from_our_clock_alone(bench: Bench) -> None:
    bench.put("* * * * *")
    await a_moment()
    rang_in_real_time = list(bench.rang)

    await bench.pass_minutes(2)

    await eventually(lambda: len(bench.rang) == 2)
    assert rang_in_real_time == []


async def test_a_fire_time_keeps_our_zone_so_that_it_is_never_converted(bench: Bench) -> None:
    bench.put("0 13 * * *")

    (job,) = bench.scheduler.get_jobs()

    assert job.next_run_time.tzinfo is bench.scheduler.timezone
    assert job.next_run_time == datetime(2026, 3, 10, 13, tzinfo=UTC)


async def test_an_alarm_that_is_a_day_late_still_rings_once(bench: Bench) -> None:
    bench.put("* * * * *")

    bench.clock.step(START + timedelta(days=1))
    bench.clock.advance(LOOK_AGAIN)

    await eventually(lambda: len(bench.rang) == 1)
    await a_moment()
    assert len(bench.rang) == 1


async def test_every_ring_gives_its_place_back(bench: Bench) -> None:
    bench.put("* * * * *")
    await bench.pass_minutes(3)
    await eventually(lambda: len(bench.rang) == 3)

    await eventually(lambda: not bench.executor._instances)


async def test_it_never_waits_longer_than_we_allow(bench: Bench) -> None:
    bench.put("0 0 1 1 *")
    await a_moment()

    assert bench.clock.sleeping
    assert max(bench.clock.sleeping) <= LOOK_AGAIN


async def test_it_goes_on_looking_when_there_is_nothing_to_do(bench: Bench) -> None:
    await a_moment()
    bench.clock.advance(LOOK_AGAIN)
    await a_moment()

    assert bench.clock.sleeping == [LOOK_AGAIN]


async def test_alarms_that_are_put_take_the_place_of_all_others(bench: Bench) -> None:
    bench.put("*/2 * * * *", "* * * * *")
    await bench.pass_minutes(1)

    bench.put("*/3 * * * *")
    await bench.pass_minutes(3)

    await eventually(lambda: len(bench.rang) == 2)
    assert [expression for expression, _ in bench.rang] == ["* * * * *", "*/3 * * * *"]


async def test_all_alarms_of_one_minute_ring_in_one_go(bench: Bench) -> None:
    bench.put("* * * * *", "*/1 * * * *", "0-59 * * * *")
    rang_together: list[int] = []

    def ring(alarm: Alarm) -> None:
        bench._ring(alarm)
        asyncio.get_running_loop().call_soon(lambda: rang_together.append(len(bench.rang)))

    bench.executor.ring = ring

    await bench.pass_minutes(1)

    await eventually(lambda: len(rang_together) == 3)
    assert rang_together == [3, 3, 3]


async def test_a_shutdown_ends_the_timer(bench: Bench) -> None:
    bench.put("* * * * *")

    bench.scheduler.stop()
    await a_moment()

    assert not bench.clock.sleeping
    assert not bench.scheduler.running
