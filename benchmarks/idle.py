"""Daemons that wait: their memory, and their share of a core.

Nothing is due meanwhile. `RSS` is the memory that the process has, `PSS` that without the part that it
shares with others; `CPU` is how much of one core it takes in a minute. One round each, of 80 seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import environments
from benchmarks.harness import ROOT, Contestant, Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Figures, Scope

SECONDS = 60.0
"""For which the processor time of each is counted, after SETTLED."""
SETTLED = 20.0
"""Seconds after the start; by then all that is done but once has been done."""

TICKS = os.sysconf("SC_CLK_TCK")
NOBODY = "http://127.0.0.1:9"
"""Nothing fires meanwhile, so nothing is called."""

APSCHEDULER = """
import asyncio
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

async def fire(): ...

async def main():
    scheduler = AsyncIOScheduler(timezone="Europe/Berlin")
    for number in range(COUNT):
        minute, hour, day = when(number)
        scheduler.add_job(fire, CronTrigger(minute=minute, hour=hour, day=day, timezone="Europe/Berlin"))
    scheduler.start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def contestants(scope: Scope) -> Iterator[Contestant]:
    if scope.quick:  # a daemon has to be watched for minutes
        return
    for count in scope.sizes(10_000, quick=0):
        case = f"{count:,} schedules"
        for name, tree in scope.trees:
            for files in (count, 1):
                told = f"{name}, {files:,} files" if files > 1 else f"{name}, one file"
                yield Contestant(case, told, partial(flowsched, tree, count, files), rounds=1)
        yield Contestant(case, "APScheduler", partial(apscheduler, count), reference=True, rounds=1)
    yield Contestant("1,000 schedules", "yacron", partial(yacron, 1_000), rounds=1)


GOALS = [
    Goal("10,000 schedules", figure, most, of=f"flowsched, {files}")
    for files in ("10,000 files", "one file")
    for figure, most in (("RSS MiB", 120.0), ("CPU %", 0.5))
]


def when(number: int) -> tuple[int, int, int]:
    """Return minute, hour and day of the month: as many timings as a large house has, none of them now."""
    day = time.gmtime(time.time() + 15 * 86_400).tm_mday
    return number % 60, number // 60 % 24, min(day, 28)


def flowsched(tree: Path, count: int, files: int, folder: Path) -> Figures:
    schedules = folder / "schedules"
    schedules.mkdir()
    head = "defaults: {timezone: Europe/Berlin}\nschedules:\n"
    entries = [_entry(number, *when(number)) for number in range(count)]
    each = count // files
    for number in range(files):
        team = schedules / f"team-{number // 200:03}"
        team.mkdir(exist_ok=True)
        (team / f"{number:05}.yaml").write_text(head + "".join(entries[number * each : (number + 1) * each]))
    settings = folder / "flowsched.yaml"
    settings.write_text(
        f"schedules: schedules\nledger: sqlite:///{folder}/ledger.db\ncontrol: {{socket: {folder}/socket}}\n"
        f"targets:\n  default: {{url: {NOBODY!r}, org_id: o1, user_id: u1,"
        " access_key: {env: BENCH_KEY}, secret_key: {env: BENCH_KEY}}\n"
    )
    log = folder / "log"
    command = [sys.executable, "-m", "flowsched", "--config", str(settings), "run"]
    return _watched(
        command, folder, lambda: "daemon ready" in log.read_text(), PYTHONPATH=str(tree), BENCH_KEY="k" * 40
    )


def apscheduler(count: int, folder: Path) -> Figures:
    script = folder / "peer.py"
    body = f"def when(number):\n    return number % 60, number // 60 % 24, {when(0)[2]}\n"
    script.write_text(body + APSCHEDULER.replace("COUNT", str(count)))
    python = environments.python("apscheduler==3.11.3")
    log = folder / "log"
    return _watched([python, str(script)], folder, lambda: "ready" in log.read_text())


def yacron(count: int, folder: Path) -> Figures:
    jobs = [
        f'- name: job{number}\n  command: "true"\n  schedule: "{minute} {hour} {day} * *"\n'
        for number in range(count)
        for minute, hour, day in [when(number)]
    ]
    (folder / "yacron.yaml").write_text("jobs:\n" + "".join(jobs))
    program = Path(environments.python("yacron==0.19.0", "setuptools<81")).parent / "yacron"
    began = time.monotonic()
    return _watched(
        [str(program), "-c", str(folder / "yacron.yaml")], folder, lambda: time.monotonic() - began > 5
    )


def _entry(number: int, minute: int, hour: int, day: int) -> str:
    return f'  idle-{number:05}: {{cron: "{minute} {hour} {day} * *", flow: {number + 1}, owner: data}}\n'


def _watched(command: list[str], folder: Path, ready: Callable[[], bool], **environ: str) -> Figures:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT if "PYTHONPATH" not in environ else folder,
            env=os.environ | environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + 120
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((folder / "log").read_text()[-2_000:])
            time.sleep(0.2)
        time.sleep(SETTLED)
        at, ticks = time.monotonic(), _ticks(process.pid)
        time.sleep(SECONDS)
        share = (_ticks(process.pid) - ticks) / TICKS / (time.monotonic() - at)
        return {
            "RSS MiB": _kilobytes(process.pid, "status", "VmRSS") / 1024,
            "PSS MiB": _kilobytes(process.pid, "smaps_rollup", "Pss") / 1024,
            "CPU %": 100 * share,
        }
    finally:
        process.terminate()
        process.wait(30)


def _ticks(pid: int) -> int:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def _kilobytes(pid: int, file: str, name: str) -> float:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))
