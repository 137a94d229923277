"""One wake-up with 100 to 100,000 schedules due, without HTTP.

The schedules have up to 500 timings. `wake-up` is from the minute until each run has been handed on to be
sent; `first`, until the first of them has. In the cases with a ledger the runs are claimed in SQLite
before, else by a stand-in that keeps nothing.

`lag` is the longest time, by the wall clock, that a task of the loop which sleeps for a millisecond was
kept waiting: so long would signals, replies and commands have waited. The next columns explain it. `held`
is the most processor time that the loop's own thread has used between two turns of that task. `collector`
is the longest collection of garbage in any thread; all threads stand still meanwhile. `no core` is how
long, in all of the wake-up, threads of this process were ready to run while other work had the machine's
cores: where it is large, a lag is the machine's. `apply held` is `held` while the schedules are put in
force.

`overdue` and `upcoming` are the processor time of one look at what should have been sent and was not, and
of one at what comes next.

flowsched has the garbage collector leave alone what `flowsched run` has it leave alone: the catalog, not
what the engine makes of it. The others have it leave alone all that they have made before the minute. "A
heap of plans" is the least that a scheduler could do: the next fire of each schedule stands on one heap;
what is due is taken from it and counted, with no run made and nothing claimed. "APScheduler, a job each"
only counts, too.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from benchmarks.harness import ROOT, Contestant, Goal, fresh
from flowsched import timeline
from flowsched.cli.run import spare_the_collector
from flowsched.clock import FastClock
from flowsched.engine import Engine
from flowsched.ledger import Ledger
from flowsched.model import Catalog, Cursor, Source, Timing
from tests.builders import a_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.harness import Figures, Scope
    from flowsched.model import NewRun, Run, Schedule

MINUTE = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""At which all are due, by the contestants' clocks."""

TIMINGS = 500
QUICKLY_ADDED = 10_000
"""Jobs; more of them take APScheduler most of a minute to add."""
QUIET = 0.5
"""Seconds in which nothing is done before the minute."""


def contestants(scope: Scope) -> Iterator[Contestant]:
    for count in scope.sizes(100, 1_000, 10_000, 100_000, quick=1_000):
        case = f"{count:,} schedules"
        for name, tree in scope.trees:
            yield Contestant(case, name, partial(_fresh, alone, count, tree=tree))
        yield Contestant(case, "a heap of plans", partial(_fresh, heap, count))
        few = scope.long_rounds if count > QUICKLY_ADDED else None
        apscheduler = partial(_fresh, jobs, count)
        yield Contestant(case, "APScheduler, a job each", apscheduler, reference=True, rounds=few)
        for name, tree in scope.trees:
            yield Contestant(f"{case}, ledger", name, partial(_fresh, with_ledger, count, tree=tree))


GOALS = [
    Goal("100,000 schedules", "wake-up s", most=1.5 / 16, against=("APScheduler, a job each",)),
    Goal("100,000 schedules", "lag ms", most=50),
    Goal("100,000 schedules, ledger", "lag ms", most=50),
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
        return {"lag ms": 1e3 * max(self.waited), "held ms": 1e3 * max(self.worked)}


class Collections:
    """What the garbage collector takes, in all threads, while the block lasts."""

    def __enter__(self) -> Self:
        self.longest = 0.0
        """Seconds of the wall clock."""
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: object) -> None:
        if phase == "start":
            self._begun = time.perf_counter()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._begun)


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
    spare_the_collector()  # as `flowsched run` does: before the engine has it
    lead = 1 + count / (4_000 if url else 40_000)
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
    figures["apply held ms"] = loading.figures()["held ms"]
    figures["overdue ms"] = 1e3 * _spent(lambda: engine.overdue(timedelta(0)))
    figures["upcoming ms"] = 1e3 * _spent(lambda: engine.upcoming(3))
    await engine.stop()
    if url:
        await ledger.aclose()
    return figures


async def _heap(count: int) -> Figures:
    """Keep the next fire of each on a heap: it wakes, takes what is due, and puts the next in its place."""
    schedules = _schedules(count)
    lead = 1 + count / 20_000
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

    spare_the_collector()
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
    at = time.time() + 1 + count / 2_000
    for number in range(count):
        scheduler.add_job(ring, triggers[number % TIMINGS], next_run_time=datetime.fromtimestamp(at, UTC))
    scheduler.start()
    spare_the_collector()
    figures = await _measured(at, all_rang, count)
    scheduler.shutdown(wait=False)
    return figures


async def _measured(at: float, done: asyncio.Event, count: int) -> Figures:
    gc.collect()
    assert time.time() < at - QUIET, "not ready by the minute"
    await asyncio.sleep(at - QUIET - time.time())
    lags = Lags()
    watch = asyncio.create_task(lags.keep())
    with Collections() as collections:
        cpu, waited = time.process_time(), _without_a_core()
        await done.wait()
        ended, cpu, waited = time.time(), time.process_time() - cpu, _without_a_core() - waited
        await asyncio.sleep(0.01)
    watch.cancel()
    explained = {"collector ms": 1e3 * collections.longest, "no core ms": 1e3 * waited}
    return {"wake-up s": ended - at, "CPU us a fire": 1e6 * cpu / count, **lags.figures(), **explained}


def _without_a_core() -> float:
    """Return the seconds that this process's threads were ready to run and did not, as Linux counts them."""
    threads = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[1]) for each in threads) / 1e9


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
