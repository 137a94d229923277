"""A reload in which one of many files has changed.

The daemon's loop is watched meanwhile. `in force` is from the asking to the new catalog in force, ledger
included; `lag` is the longest time, by the wall clock, that a task of the loop which sleeps for a
millisecond was kept waiting. Both are medians of five reloads. `first` and `first lag` are those of one
before them, for which nothing is kept: all files are parsed. yacron reads all files each time: its figure
is that of its reading alone.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import environments
from benchmarks.harness import Contestant, Figures, Goal, Scope, fresh, left_out, told
from benchmarks.loading import written

if TYPE_CHECKING:
    from collections.abc import Iterator

EDITS = 5
YACRON = ("yacron==0.19.0", "setuptools<81")
SCRIPT = Path(__file__).parent / "peers" / "yacron_config.py"
MOST_OF_YACRON = 1_000
GOALS = [
    Goal("10,000 files", "in force s", most=0.2),
    Goal("10,000 files", "lag ms", most=50),
    Goal("10,000 files", "first lag ms", most=50),
]
SETTINGS = """\
schedules: schedules
ledger: sqlite:///ledger.db
targets:
  default:
    url: http://127.0.0.1:1
    org_id: o
    user_id: u
    access_key: {env: BENCH_KEY}
    secret_key: {env: BENCH_KEY}
"""


def contestants(scope: Scope) -> Iterator[Contestant]:
    for size in scope.sizes(1_000, 10_000, quick=200):
        case = f"{size:,} files"
        for name, tree in scope.trees:
            yield Contestant(case, name, partial(_fresh, size, tree))
        if not scope.quick and size <= MOST_OF_YACRON:
            yield Contestant(case, "yacron, reading alone", partial(_yacron, size), reference=True, rounds=2)
        elif not scope.quick:
            yield left_out(
                case, "yacron", f"it reads {MOST_OF_YACRON:,} files in seconds, and these in minutes"
            )


def _fresh(size: int, tree: Path, folder: Path) -> Figures:
    written(size, size, folder)
    (folder / "flowsched.yaml").write_text(SETTINGS)
    return fresh(ours, str(folder), tree=tree)


def ours(folder: str) -> Figures:
    os.environ["BENCH_KEY"] = "k"
    return asyncio.run(_ours(Path(folder)))


async def _ours(folder: Path) -> Figures:
    from flowsched.cli.run import spare_the_collector  # noqa: PLC0415 - of the tree that is measured
    from flowsched.clock import SystemClock  # noqa: PLC0415
    from flowsched.config import load_settings  # noqa: PLC0415
    from flowsched.daemon import Daemon, read_first  # noqa: PLC0415
    from flowsched.daemon.gateways import gateway_of  # noqa: PLC0415
    from flowsched.daemon.reloads import Reloads  # noqa: PLC0415
    from flowsched.ledger import Ledger  # noqa: PLC0415

    settings, clock = load_settings(folder / "flowsched.yaml"), SystemClock()
    gateways = {name: gateway_of(one, settings, os.environ, clock) for name, one in settings.targets.items()}
    async with await Ledger.open(settings.ledger) as ledger:
        daemon = Daemon(ledger, gateways, clock, settings.max_change)
        reloads = Reloads(daemon, settings, clock)
        catalog, seen = read_first(settings)
        spare_the_collector()  # as `flowsched run` does: before the daemon has it
        await daemon.start(catalog)
        reloads.started(catalog, seen)
        keeping = asyncio.create_task(reloads.keep())
        rounds = [await _round(folder, reloads, number) for number in range(EDITS + 1)]
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await daemon.stop(asyncio.Event())
    for gateway in gateways.values():
        await gateway.aclose()
    first, *later = rounds
    return {
        **{name: statistics.median(each[name] for each in later) for name in first},
        "first s": first["in force s"],
        "first lag ms": first["lag ms"],
        "RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def _round(folder: Path, reloads: object, number: int) -> Figures:
    file = folder / "schedules" / "f00000.yaml"
    file.write_text(file.read_text().replace("description: ", f"description: {number} "))
    await asyncio.sleep(0.2)
    lags: list[float] = []
    watching = asyncio.create_task(_watch(lags))
    wall, cpu = time.perf_counter(), time.process_time()
    reload = await reloads.ask("SIGHUP")  # type: ignore[attr-defined]
    figures = {"in force s": time.perf_counter() - wall, "CPU s": time.process_time() - cpu}
    assert reload.outcome.value == "applied", reload
    await asyncio.sleep(0.01)
    watching.cancel()
    return {**figures, "lag ms": max(lags) * 1000}


async def _watch(lags: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - before - 0.001)


def _yacron(size: int, folder: Path) -> Figures:
    jobs = "".join(
        f"- name: job-{number:05}\n  command: ':'\n  schedule: '{number % 60} 3 * * *'\n"
        for number in range(size)
    )
    (folder / "jobs.yaml").write_text(f"jobs:\n{jobs}")
    return told([str(environments.python(*YACRON)), str(SCRIPT), str(folder / "jobs.yaml")])
