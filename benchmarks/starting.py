"""Commands that somebody waits for, from start to end.

`s` is by the wall clock; both are the mean of three starts. The others do nothing but start: Python itself,
Python with what flowsched stands on, yacron's help, Node.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import environments
from benchmarks.harness import Contestant, Figures, Goal, Scope, Skip, fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = 10
STARTS = 3
"""Of each round, of which the figures are the mean."""
HELP, VALIDATE = "--help", f"validate of {FILES} files"
COMMANDS = {
    HELP: ["--help"],
    VALIDATE: ["validate", "schedules"],
    "next": ["next"],
    "status, no daemon": ["status"],
    "runs, empty ledger": ["runs"],
    "audit, empty ledger": ["audit"],
}
NO_DAEMON = 3
"""The exit code of `flowsched status` where none answers."""
GOALS = [Goal(HELP, "s", most=0.15), Goal(VALIDATE, "s", most=0.7)]


def contestants(scope: Scope) -> Iterator[Contestant]:
    commands = {case: COMMANDS[case] for case in (HELP, VALIDATE)} if scope.quick else COMMANDS
    for case, arguments in commands.items():
        for name, tree in scope.trees:
            yield Contestant(case, name, partial(_in_an_installation, tree, arguments))
    yield Contestant("others", "python", partial(_start, _python), reference=True)
    if not scope.quick:
        yield Contestant("others", "python, APScheduler and httpx", partial(_start, _libraries))
        yield Contestant("others", "yacron --help", partial(_start, _yacron))
        yield Contestant("others", "node -e 0", partial(_start, _node))


def command(tree: Path, folder: Path, *arguments: str) -> Figures:
    """Run a command of the flowsched of `tree` in a folder, to its end."""
    environment = os.environ | {"PYTHONPATH": str(tree), "BENCH_KEY": "k" * 40}
    return timed([sys.executable, "-m", "flowsched", *arguments], folder, environment)


def timed(program: list[str], folder: Path, environment: dict[str, str] | None = None) -> Figures:
    """Run a program to its end; return how long it took, and what it used."""
    start = time.perf_counter()
    process = subprocess.Popen(
        program, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    taken = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already
    if process.returncode not in (0, NO_DAEMON):
        raise RuntimeError(f"{program} exited with {process.returncode}")
    return {"s": taken, "CPU s": used.ru_utime + used.ru_stime}


def made(ledger: str) -> Figures:
    """Make an empty ledger, in a process of its own."""
    from flowsched.ledger import Ledger  # noqa: PLC0415 - that of the tree which is measured

    async def make() -> None:
        await (await Ledger.open(ledger)).aclose()

    asyncio.run(make())
    return {}


def _in_an_installation(tree: Path, arguments: list[str], folder: Path) -> Figures:
    (folder / "schedules").mkdir()
    for number in range(FILES):
        schedule = f"{{cron: '{number} 2 * * *', timezone: UTC, flow: {number + 1}}}"
        text = f"schedules:\n  job-{number}: {schedule}\n"
        (folder / "schedules" / f"{number}.yaml").write_text(text)
    ledger = f"sqlite:///{folder}/ledger.db"
    (folder / "flowsched.yaml").write_text(
        f"schedules: schedules\nledger: {ledger}\ntargets:\n  default:\n    url: http://127.0.0.1:9\n"
        "    org_id: o1\n    user_id: u1\n"
        "    access_key: {env: BENCH_KEY}\n    secret_key: {env: BENCH_KEY}\n"
    )
    fresh(made, ledger, tree=tree)
    return _mean(lambda: command(tree, folder, *arguments))


def _start(program: Callable[[], list[str]], folder: Path) -> Figures:
    words = program()
    return _mean(lambda: timed(words, folder))


def _mean(measure: Callable[[], Figures]) -> Figures:
    rounds = [measure() for _ in range(STARTS)]
    return {name: sum(each[name] for each in rounds) / STARTS for name in rounds[0]}


def _python() -> list[str]:
    return [sys.executable, "-c", "0"]


def _libraries() -> list[str]:
    return [sys.executable, "-c", "import apscheduler.schedulers.asyncio, httpx"]


def _yacron() -> list[str]:
    return [str(Path(environments.python("yacron==0.19")).with_name("yacron")), "--help"]


def _node() -> list[str]:
    node = shutil.which("node")
    if node is None:
        raise Skip("there is no node")
    return [node, "-e", "0"]
