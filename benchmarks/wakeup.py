"""One wake-up with 100 to 100,000 schedules due on up to 500 timings, without HTTP."""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from benchmarks.harness import ROOT, Contestant, Goal, fresh
from flowsched import timeline
from flowsched.clock import FastClock
from flowsched.engine import Engine
from flowsched.ledger import Ledger
from flowsched.model import Catalog, Cursor, Source, Timing
from tests.builders import a_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.harness import Figures, Scope
    from flowsched.model import NewRun, Run, Schedule

MINUTE = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""At which all are due, by the contestants' clocks."""

TIMINGS = 500
QUIET = 0.5
"""Seconds in which nothing is done before the minute."""


def contestants(scope: Scope) -> Iterator[Contestant]:
    for count in scope.sizes(100, 1_000, 10_000, 100_000, quick=1_000):
        case = f"{count:,} schedules"
        for name, tree in scope.trees:
            yield Contestant(case, name, partial(_fresh, alone, count, tree=tree))
        yield Contestant(case, "a heap of plans", partial(_fresh, heap, count))
        yield Contestant(case, "APScheduler, a job each", partial(_fresh, jobs, count), reference=True)
        for name, tree in scope.trees:
            yield Contestant(f"{case}, ledger", name, partial(_fresh, with_ledger, count, tree=tree))


GOALS = [
    Goal("100,000 schedules", "wake-up s", most=1.5 / 16, against=("APScheduler, a job each",)),
    Goal("100,000 schedules", "loop held ms", most=50),
    Goal("100,000 schedules, ledger", "loop held ms", most=50),
]


def _fresh(function: Any, count: int, folder: Path, tree: Path = ROOT) -> Figures:
    return fresh(function, count, str(folder), tree=tree)


@dataclass
class Lags:
    """What a task that wants to run every millisecond sees of the loop."""

    waited: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    """Seconds of the processor that the loop's thread has spent between two of its turns."""

    async def keep(self) -> None:
        while True:
            at, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.waited.append(time.perf_counter() - at - 0.001)
            self.worked.append(time.thread_time() - cpu)

    def figures(self) -> Figures:
        return {"loop held ms": 1e3 * max(self.worked), "loop's lag ms": 1e3 * max(self.waited)}


def alone(count: int, _: str) -> Figures:
    return asyncio.run(_ours(count, None))


def with_ledger(count: int, folder: str) -> Figures:
    return asyncio.run(_ours(count, f"sqlite:///{folder}/ledger.db"))


def heap(count: int, _: str) -> Figures:
    return asyncio.run(_heap(count))


def jobs(count: int, _: str) -> Figures:
    return asyncio.run(_jobs(count))


class StandIn:
    """A ledger that answers at once, and keeps nothing."""

    def __getattr__(self, _: str) -> Any:
        return self._nothing

    async def _nothing(self, *_: object) -> list[Any]:
        return []

    async def terms_in_force(self) -> dict[str, Any]:
        return {}

    async def apply(self, catalog: Catalog, at: datetime, _: object = None) -> dict[str, Cursor]:
        return {id_: Cursor(id_, each.timing, at) for id_, each in catalog.schedules.items()}

    async def claim(self, rows: Sequence[NewRun], _: object) -> Sequence[NewRun]:
        return rows


async def _ours(count: int, url: str | None) -> Figures:
    ledger: Any = await Ledger.open(url) if url else StandIn()
    catalog = Catalog({each.id: each for each in _schedules(count)}, "r1")
    lead = 2 + count / (4_000 if url else 40_000)
    at = time.time() + lead
    all_started, started = asyncio.Event(), itertools.count(1)
    first_at: list[float] = []

    def start(_: Run) -> None:
        if not first_at:
            first_at.append(time.time())
        if next(started) == count:
            all_started.set()

    engine = Engine(ledger, start, FastClock(MINUTE - timedelta(seconds=lead), 1.0), "bench")
    loading = Lags()
    watch = asyncio.create_task(loading.keep())
    await engine.apply(catalog)
    await asyncio.sleep(0.01)
    watch.cancel()
    figures = await _measured(at, all_started, count)
    figures["first s"] = first_at[0] - at
    figures["loop held by apply ms"] = loading.figures()["loop held ms"]
    figures["overdue ms"] = 1e3 * _spent(lambda: engine.overdue(timedelta(0)))
    figures["upcoming ms"] = 1e3 * _spent(lambda: engine.upcoming(3))
    await engine.stop()
    if url:
        await ledger.aclose()
    return figures


async def _heap(count: int) -> Figures:
    """Keep the next fire of each on a heap: it wakes, takes what is due, and puts the next in its place."""
    schedules = _schedules(count)
    lead = 2 + count / 10_000
    at = time.time() + lead
    clock = FastClock(MINUTE - timedelta(seconds=lead), 1.0)
    plans = [
        (next(timeline.fire_times(each.timing, clock.now())), number) for number, each in enumerate(schedules)
    ]
    heapq.heapify(plans)
    rang, started, following = asyncio.Event(), list[str](), dict[Timing, datetime]()

    async def keep() -> None:
        await clock.sleep((plans[0][0] - clock.now()).total_seconds())
        now = clock.now()
        while plans[0][0] <= now:
            number = plans[0][1]
            schedule = schedules[number]
            if schedule.timing not in following:
                following[schedule.timing] = next(timeline.fire_times(schedule.timing, now))
            heapq.heapreplace(plans, (following[schedule.timing], number))
            started.append(schedule.id)
        rang.set()

    keeping = asyncio.create_task(keep())
    figures = await _measured(at, rang, count)
    await keeping
    assert len(started) == count
    return figures


async def _jobs(count: int) -> Figures:
    """With what drops fires switched off, and nothing to do for each but to count it."""
    scheduler = AsyncIOScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None, "max_instances": 9})
    all_rang, rang = asyncio.Event(), itertools.count(1)

    async def ring() -> None:
        if next(rang) == count:
            all_rang.set()

    triggers = [
        CronTrigger(second=0, minute="*", hour=f"*,{number % 24}", timezone=UTC) for number in range(TIMINGS)
    ]
    at = time.time() + 2 + count / 2_000
    for number in range(count):
        scheduler.add_job(ring, triggers[number % TIMINGS], next_run_time=datetime.fromtimestamp(at, UTC))
    scheduler.start()
    figures = await _measured(at, all_rang, count)
    scheduler.shutdown(wait=False)
    return figures


async def _measured(at: float, done: asyncio.Event, count: int) -> Figures:
    gc.collect()
    assert time.time() < at - QUIET, "not ready by the minute"
    await asyncio.sleep(at - QUIET - time.time())
    lags = Lags()
    watch = asyncio.create_task(lags.keep())
    cpu = time.process_time()
    await done.wait()
    ended, cpu = time.time(), time.process_time() - cpu
    await asyncio.sleep(0.01)
    watch.cancel()
    return {"wake-up s": ended - at, "CPU us a fire": 1e6 * cpu / count, **lags.figures()}


def _spent(work: Any) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


def _schedules(count: int) -> list[Schedule]:
    """Return schedules on up to TIMINGS timings, all due at MINUTE."""
    hours = [hour for hour in range(24) if hour != MINUTE.hour]
    times = itertools.islice(((minute, hour) for hour in hours for minute in range(1, 60)), TIMINGS)
    one = a_schedule()
    timings = [Timing(f"0,{minute} {MINUTE.hour},{hour} * * *", "UTC") for minute, hour in times]
    return [
        replace(
            one,
            id=f"fire-{number:06}",
            timing=timings[number % TIMINGS],
            flow=number + 1,
            source=Source("all.yaml", number + 1),
        )
        for number in range(count)
    ]
