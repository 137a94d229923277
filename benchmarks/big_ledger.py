"""Fires, and looks at runs, in a ledger with millions of runs.

What they cost is compared with an empty ledger. The big one is made once, by SQL, in the folder for
temporary files (670 bytes a run, 6.7 GB for 10 million), and removed at the end; the rounds add some
thousands of runs to it. It has 10,000 schedules with a run a minute each. `median` is that of 15 times, by
the wall clock; `CPU` is the processor time of each. "Worst claim" is the longest that one claim took in
some seconds, while old runs are removed (`retention`), while an audit reads (`audit`), and with nothing
else going on (`quiet`); `wal` is how large the file beside the ledger has become.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import resource
import shutil
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Contestant, Goal, Scope, Skip, fresh
from flowsched.daemon.daemon import FORGET_AT_ONCE, FORGET_PAUSE
from flowsched.ledger import Ledger, LedgerReader
from flowsched.model import (
    Answer,
    NewRun,
    NextStep,
    Origin,
    Outcome,
    Overlap,
    Run,
    RunState,
    Source,
)
from tests.builders import RETRY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SCHEDULES = 10_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BYTES_A_RUN = 670
BESIDE = 3.0
"""Seconds that each of them is watched."""
PAGE = 1_000
"""Runs that an audit reads at a time, as the daemon has it."""


def contestants(scope: Scope) -> Iterator[Contestant]:
    for rows in scope.sizes(10_000_000, quick=20_000):
        # Not of another checkout: it may not know the version of this one's big ledger.
        for case in CASES:
            big = functools.partial(_round, case, rows)
            yield Contestant(case, f"{rows:,} runs", big)
            yield Contestant(case, "empty", functools.partial(_round, case, 0), reference=True)
        yield Contestant(
            "worst claim beside retention and an audit",
            f"{rows:,} runs",
            functools.partial(_beside_round, rows),
            rounds=1,
        )


def _round(case: str, rows: int, folder: Path) -> dict[str, float]:
    path = big_ledger(rows) if rows else folder / "ledger.db"
    return fresh(measure, str(path), case)


def _beside_round(rows: int, _: Path) -> dict[str, float]:
    return fresh(beside, str(big_ledger(rows)))


@functools.cache
def big_ledger(rows: int) -> Path:
    """Make the ledger, as the present version has it; it is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="big-ledger-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if shutil.disk_usage(folder).free < 3 * rows * BYTES_A_RUN:
        raise Skip(f"{folder.parent} has no room for {rows:,} runs")
    path = folder / "ledger.db"
    asyncio.run(_make(path))
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000"
        )
        connection.execute("BEGIN")
        found = connection.execute(
            "SELECT name, sql FROM sqlite_master"
            " WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('runs', 'attempts')"
        )
        indexes = found.fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute(
            FILL,
            {"rows": rows, "schedules": SCHEDULES, "now": int(NOW.timestamp()) * 10**6, "revision": "r" * 64},
        )
        connection.execute(
            "INSERT INTO attempts"
            " SELECT id, 1, claimed_at, claimed_at, 'accepted', 200, 0, 'created' FROM runs"
        )
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    # Else the first rounds would pay for the writing back of what was made here.
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


FILL = """
    WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < :rows),
    fires AS (
        SELECT i % :schedules AS schedule, i / :schedules AS minute,
            :now - (:rows / :schedules - i / :schedules) * 60000000 AS at,
            CASE i % 100 WHEN 7 THEN 'failed' WHEN 9 THEN 'missed' ELSE 'triggered' END AS state
        FROM numbers
    )
    INSERT INTO runs (
        schedule_id, fire_time, origin, state, target, flow, predicted_instance, instance, retry, deadline,
        attempts, revision, source_file, source_line, daemon, claimed_at, updated_at, due_at, overlap,
        overlap_fallback
    )
    SELECT printf('fire-%05d', schedule), at, 'schedule', state, 'default', schedule + 1,
        printf('%d-20250101%06d', schedule + 1, minute), printf('%d-20250101%06d', schedule + 1, minute),
        '{"max_attempts":5,"initial_backoff":2000000,"multiplier":2,"max_backoff":300000000,'
        || '"deadline":900000000,"attempt_timeout":30000000}',
        at + 900000000, 1, :revision, 'schedules/all.yaml', schedule, 'host-1', at, at, at, 'queue', 'queue'
    FROM fires
"""


async def _make(path: Path) -> None:
    async with await Ledger.open(f"sqlite:///{path}"):
        pass


def measure(path: str, case: str) -> dict[str, float]:
    return asyncio.run(_measured(path, CASES[case]))


async def _measured(path: str, work: Callable[[Ledger, datetime], Awaitable[float]]) -> dict[str, float]:
    async with await Ledger.open(f"sqlite:///{path}") as ledger:
        newest = await ledger.runs(limit=1)
        begin = newest[0].fire_time if newest else NOW
        # The first ones pay for the compiling of statements, and for what of the file is not in memory yet.
        for number in range(1, 4):
            await work(ledger, begin + number * MINUTE)
        busy = _cpu()
        took = [await work(ledger, begin + number * MINUTE) for number in range(4, 19)]
        return {"median ms": statistics.median(took) * 1e3, "CPU ms": (_cpu() - busy) / len(took) * 1e3}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def new_run(number: int, at: datetime) -> NewRun:
    return NewRun(
        schedule_id=f"fire-{number:05}",
        fire_time=at,
        origin=Origin.SCHEDULE,
        state=RunState.CLAIMED,
        reason=None,
        target="default",
        flow=number + 1,
        task=None,
        predicted_instance=f"{number + 1}-{at:%Y%m%d%H%M}00",
        retry=RETRY,
        due_at=at,
        deadline=at + RETRY.deadline,
        overlap=Overlap.QUEUE,
        overlap_fallback=Overlap.QUEUE,
        watch=None,
        note=None,
        revision="r" * 64,
        source=Source("schedules/all.yaml", number),
        daemon="host-1",
        claimed_at=at,
    )


async def claim(ledger: Ledger, at: datetime, count: int) -> list[Run]:
    runs = await ledger.claim([new_run(number, at) for number in range(count)], [])
    assert len(runs) == count
    return runs


async def end(ledger: Ledger, run: Run) -> None:
    answer = Answer(
        outcome=Outcome.ACCEPTED, detail="created", http_status=200, code=0, instance=run.predicted_instance
    )
    await ledger.end_attempt(run.id, 1, run.claimed_at, answer, NextStep(RunState.TRIGGERED, None))


async def claim_one(ledger: Ledger, at: datetime) -> float:
    began = time.perf_counter()
    await claim(ledger, at, 1)
    return time.perf_counter() - began


async def claim_thousand(ledger: Ledger, at: datetime) -> float:
    began = time.perf_counter()
    await claim(ledger, at, 1_000)
    return time.perf_counter() - began


async def carry_thousand(ledger: Ledger, at: datetime) -> float:
    runs = await claim(ledger, at, 1_000)
    began = time.perf_counter()
    await asyncio.gather(*(ledger.begin_attempt(run.id, 1, at, claimed_at=run.claimed_at) for run in runs))
    await asyncio.gather(*(end(ledger, run) for run in runs))
    return time.perf_counter() - began


async def newest(ledger: Ledger, at: datetime) -> float:
    return await _listed(ledger, at)


async def newest_of_schedule(ledger: Ledger, at: datetime) -> float:
    return await _listed(ledger, at, schedule_id="fire-00050")


async def newest_of_state(ledger: Ledger, at: datetime) -> float:
    return await _listed(ledger, at, state=RunState.CLAIMED)


async def _listed(
    ledger: Ledger, at: datetime, *, schedule_id: str | None = None, state: RunState | None = None
) -> float:
    # So that an empty ledger has as many to show, too.
    await ledger.claim([new_run(50, at + number * timedelta(seconds=1)) for number in range(50)], [])
    began = time.perf_counter()
    runs = await ledger.runs(schedule_id=schedule_id, state=state)
    assert len(runs) == 50
    return time.perf_counter() - began


CASES: dict[str, Callable[[Ledger, datetime], Awaitable[float]]] = {
    "claim of 1": claim_one,
    "claim of 1,000": claim_thousand,
    "1,000 begun and ended": carry_thousand,
    "runs, the newest 50": newest,
    "runs of a schedule": newest_of_schedule,
    "runs in a state": newest_of_state,
}


def beside(path: str) -> dict[str, float]:
    return asyncio.run(_beside(path))


async def _beside(path: str) -> dict[str, float]:
    """Claim over and over, for some seconds each: alone, while runs are removed, during an audit."""
    async with (
        await Ledger.open(f"sqlite:///{path}") as ledger,
        await Ledger.open_to_read(f"sqlite:///{path}") as audited,
    ):
        last = (await ledger.runs(limit=1))[0].fire_time
        quiet = await _worst(ledger, last + timedelta(days=1), asyncio.sleep(BESIDE))
        oldest = datetime.fromtimestamp(_oldest(path) / 1e6, UTC)
        forgetting = _forget(ledger, oldest + (last - oldest) / 10)
        retention = await _worst(ledger, last + timedelta(days=2), forgetting)
        audit = await _worst(ledger, last + timedelta(days=3), _audit(audited, last))
        return {"retention ms": retention, "audit ms": audit, "quiet ms": quiet, "wal MiB": _wal(path)}


def _oldest(path: str) -> int:
    with sqlite3.connect(path) as connection:
        found: int = connection.execute("SELECT min(fire_time) FROM runs").fetchone()[0]
    return found


def _wal(path: str) -> float:
    return Path(f"{path}-wal").stat().st_size / 2**20


async def _worst(ledger: Ledger, at: datetime, work: Awaitable[object]) -> float:
    worst, beside = 0.0, asyncio.ensure_future(work)
    while not beside.done():
        at += MINUTE
        worst = max(worst, await claim_one(ledger, at))
        await asyncio.sleep(0.02)
    await beside
    return worst * 1e3


async def _forget(ledger: Ledger, before: datetime) -> None:
    """Remove runs for some seconds, as many at once and as often as the daemon does."""
    gone, until = FORGET_AT_ONCE, time.perf_counter() + BESIDE
    while gone == FORGET_AT_ONCE and time.perf_counter() < until:
        gone = await ledger.forget(before, FORGET_AT_ONCE)
        await asyncio.sleep(FORGET_PAUSE)


async def _audit(ledger: LedgerReader, to: datetime) -> None:
    after: tuple[str, datetime] | None = None
    until = time.perf_counter() + BESIDE
    while time.perf_counter() < until and (
        page := await ledger.automatic_runs(datetime(2000, 1, 1, tzinfo=UTC), to, after, PAGE)
    ):
        after = (page[-1].schedule_id, page[-1].fire_time)


GOALS = [Goal(case, "median ms", most=2, against=("empty",), of="10,000,000 runs") for case in CASES]
