"""A crowded minute: schedules that are all due at one instant, each of which calls the same server once.

A contestant is started with the instant still ahead, and says `ready` once it has nothing to do but wait for
it. The server tells when each request was there; what a contestant has cost is read from `/proc` before the
instant and after the last request.
"""

from __future__ import annotations

import math
import os
import select
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import environments
from benchmarks.harness import ROOT, Contestant, Figures, Scope, Skip
from benchmarks.receiver import Received, Receiver, receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_SECONDS = 55.0
"""Whoever is not done by then is not done within its minute."""
SILENCE_SECONDS = 5.0
"""Whoever has sent nothing for so long, sends no more."""
FIRST_SECONDS = 20.0
"""The same before the first request."""
NODE = ("node-cron@4.6.0", "croner@11.0.1")
LIBRARIES = ("node-cron", "croner")
WAYS = {"fetch": "fetch", "http": "http", "http-100": "http, at most 100"}
ANY_NODE = tuple(f"{library}, {way}" for library in LIBRARIES for way in WAYS.values())
"""All contestants that run in node."""
APSCHEDULER = ("apscheduler==3.11.3", "httpx==0.28.1")
YACRON = ("yacron==0.19.0", "setuptools<81")


@dataclass(frozen=True)
class Round:
    """What a contestant needs to know of the round that it is started for."""

    folder: Path
    server: Receiver
    count: int
    at: float
    """The instant: seconds of the wall clock, a whole one."""

    @property
    def address(self) -> list[str]:
        """The arguments that the small programs of `peers/` have in common."""
        return [self.server.url, str(self.count), str(int(self.at))]


class TooLate(Exception):  # noqa: N818 - no error: the next try has more time
    """The instant came before the contestant was ready."""


@dataclass(frozen=True)
class Crowd:
    """One way to keep that many schedules."""

    command: Callable[[Round], list[str]]
    environ: dict[str, str] | None = None
    minutely: bool = False
    """It knows whole minutes only, and cannot say that it is ready."""
    recorded: Callable[[Path], list[int]] | None = None
    """The flows that its record says were triggered, read from the round's folder once it has ended."""
    seconds_before: float = 2.0
    """How long its start takes at most, about, and ..."""
    each: float = 0.0003
    """... for each schedule."""


def measure(crowd: Crowd, count: int, folder: Path, *, tls: bool = False) -> Figures:
    """Measure one round; a start that took longer than expected is tried again with twice the time."""
    patience = crowd.seconds_before + count * crowd.each
    for attempt in range(3):
        place = folder / str(attempt)
        place.mkdir()
        at = math.ceil(time.time() + patience * 2**attempt)
        if crowd.minutely:
            at = math.ceil(at / 60) * 60
        with receiver(place, tls=tls) as server:
            taken = Round(place, server, count, at)
            try:
                got, cost = _observed(crowd, taken)
                return figures(count, at, got, cost, tls=tls)
            except TooLate:
                continue
    raise Skip(f"not ready in {patience * 4:.0f} s")


def _observed(crowd: Crowd, taken: Round) -> tuple[Received, float]:
    """Return what came, and the seconds of processor time that sending it has cost."""
    environ = os.environ | (crowd.environ or {}) | {"BENCH_CA_FILE": taken.server.ca_file or ""}
    with _running(crowd.command(taken), taken.folder, environ) as process:
        if not crowd.minutely:
            _await_ready(process, taken)
        time.sleep(max(0.0, taken.at - time.time() - 0.1))
        before = _processor_seconds(process.pid)
        got = _all_received(taken)
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode}: {_log(taken.folder)}")
        cost = _processor_seconds(process.pid) - before
        if crowd.recorded is not None:
            process.terminate()  # it ends what it has begun
            process.wait(60)
    if crowd.recorded is not None:
        sent = sorted(got.flows + taken.server.received().flows)
        assert sorted(crowd.recorded(taken.folder)) == sent, "the record is not what was sent"
    return got, cost


@contextmanager
def _running(command: list[str], folder: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own, so what it has forked as well
        process.communicate()


def _await_ready(process: subprocess.Popen[str], taken: Round) -> None:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], max(0.0, taken.at - 0.3 - time.time()))
    if not readable:
        raise TooLate
    said = process.stdout.readline()
    if said != "ready\n":
        raise RuntimeError(f"said {said!r}: {_log(taken.folder)}")
    if time.time() > taken.at - 0.3:
        raise TooLate


def _all_received(taken: Round) -> Received:
    """Return what came; asked for rarely, since the server that answers has one core with all it does."""
    got = Received()
    last = taken.at + FIRST_SECONDS
    time.sleep(taken.at + 1 + taken.count * 0.0001 - time.time())
    while True:
        more = taken.server.received()
        got.add(more)
        now = time.time()
        if more.arrivals:
            last = now + SILENCE_SECONDS
        if len(got.arrivals) >= taken.count or now > last or now > taken.at + MOST_SECONDS:
            break
        time.sleep(1)
    time.sleep(1)  # what is still on its way, and outcomes that are still to be recorded
    got.add(taken.server.received())
    return got


def _processor_seconds(pid: int) -> float:
    """Return what the process has used so far, with those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _log(folder: Path) -> str:
    return (folder / "log").read_text()[-2000:]


def figures(count: int, at: float, got: Received, cost: float, *, tls: bool) -> Figures:
    """Return a round's figures; `cost` is the contestant's processor time, in seconds."""
    late = [arrival - at for arrival in sorted(got.arrivals)]
    assert len(set(got.flows)) == len(got.flows), "a schedule has fired twice"
    told: Figures = {}
    if late:
        told |= {
            "last s": late[-1],
            "first s": late[0],
            "p50 s": statistics.median(late),
            "p99 s": late[math.ceil(len(late) * 0.99) - 1],
            "CPU ms": cost / len(late) * 1000,
        }
    told |= {"unsent": count - len(late), "connections": got.connections}
    return told | ({"handshakes": got.handshakes} if tls else {})


def flowsched(concurrency: int | None = None, tree: Path = ROOT) -> Crowd:
    """Return flowsched with its defaults, or with as many calls at once."""
    return Crowd(
        partial(_flowsched, concurrency),
        {"PYTHONPATH": str(tree), "BENCH_KEY": "k" * 40},
        recorded=_triggered,
        each=0.001,
    )


def _flowsched(concurrency: int | None, taken: Round) -> list[str]:
    folder = taken.folder
    lines = ["defaults: {timezone: UTC}\nschedules:\n"]
    lines += [f'  fire-{n:05}:\n    cron: "* * * * *"\n    flow: {n}\n' for n in range(1, taken.count + 1)]
    (folder / "schedules").mkdir()
    (folder / "schedules" / "all.yaml").write_text("".join(lines))
    limits = f"    limits: {{concurrency: {concurrency}}}\n" if concurrency is not None else ""
    ca_file = f"    ca_file: {taken.server.ca_file}\n" if taken.server.ca_file else ""
    settings = f"""
schedules: schedules
ledger: sqlite:///{folder}/ledger.db
control: {{socket: {folder}/control.sock}}
targets:
  default:
    url: {taken.server.url}
    org_id: o1
    user_id: u1
    access_key: {{env: BENCH_KEY}}
    secret_key: {{env: BENCH_KEY}}
{ca_file}{limits}"""
    (folder / "flowsched.yaml").write_text(settings)
    return [
        sys.executable,
        str(ROOT / "benchmarks" / "daemon.py"),
        str(folder / "flowsched.yaml"),
        repr(taken.at),
    ]


def _triggered(folder: Path) -> list[int]:
    """Return the flows of the runs that the ledger has as triggered, after the daemon has ended."""
    ledger = sqlite3.connect(folder / "ledger.db")
    try:
        found = ledger.execute("SELECT flow FROM runs WHERE state = 'triggered' AND origin = 'schedule'")
        return [flow for (flow,) in found]
    finally:
        ledger.close()


def apscheduler(how: str) -> Crowd:
    """Return APScheduler with httpx: `asyncio`, `asyncio-tuned`, `threads` or `threads-tuned`."""
    return Crowd(partial(_apscheduler, how))


def _apscheduler(how: str, taken: Round) -> list[str]:
    script = environments.PEERS / "apscheduler_httpx.py"
    return [environments.python(*APSCHEDULER), str(script), how, *taken.address]


def node(library: str, how: str) -> Crowd:
    """Return `node-cron` or `croner`, calling by `fetch`, or by `http` with an agent that keeps connections.

    With `http-100` it has no more than 100 of them; by the others each call that waits has one.
    """
    return Crowd(partial(_node, library, how))


def _node(library: str, how: str, taken: Round) -> list[str]:
    script = environments.node(*NODE) / "crowd.mjs"  # beside its node_modules: there modules are looked for
    shutil.copyfile(environments.PEERS / "crowd.mjs", script)
    ca = ["env", f"NODE_EXTRA_CA_CERTS={taken.server.ca_file}"] if taken.server.ca_file else []
    return [*ca, "node", str(script), library, how, *taken.address]


def yacron() -> Crowd:
    """Return yacron, which forks a small C program for each."""
    return Crowd(_yacron, minutely=True, seconds_before=5, each=0.005)


def _yacron(taken: Round) -> list[str]:
    poster = environments.compiled("post.c")
    config = taken.folder / "yacron.yaml"
    jobs = [
        f"  - name: fire-{n:05}\n    command:\n      - {poster}\n      - {_port(taken)}\n      - {n}\n"
        '    schedule: "* * * * *"\n    captureStderr: false\n'
        for n in range(1, taken.count + 1)
    ]
    config.write_text("jobs:\n" + "".join(jobs))
    return [environments.python(*YACRON), "-m", "yacron", "-c", str(config)]


def cron() -> Crowd:
    """Return Debian's cron, which forks a shell that becomes the same small program."""
    return Crowd(_cron, minutely=True, seconds_before=3, each=0.001)


def _cron(taken: Round) -> list[str]:
    program = os.environ.get("BENCH_CRON") or shutil.which("cron", path="/usr/sbin:/usr/bin")
    if program is None:
        raise Skip("no cron here (BENCH_CRON names one)")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise Skip("a spool of its own takes root and unshare")
    poster = environments.compiled("post.c")
    spool = taken.folder / "spool"
    (spool / "crontabs").mkdir(parents=True)
    table = spool / "crontabs" / "root"
    table.write_text("".join(f"* * * * * {poster} {_port(taken)} {n}\n" for n in range(1, taken.count + 1)))
    table.chmod(0o600)
    hide = (
        "if [ -d $each ]; then mount -t tmpfs none $each;"
        " elif [ -e $each ]; then mount --bind /dev/null $each; fi"
    )
    # In a mount namespace of its own it sees this table and none of the machine's.
    steps = (
        "mount --make-rprivate /",
        "mount -t tmpfs none /var/spool",
        "mkdir /var/spool/cron",
        f"mount --bind {spool} /var/spool/cron",
        "mount -t tmpfs none /run",
        f"for each in /etc/cron.d /etc/crontab; do {hide}; done",
        f"exec {program} -f",
    )
    return ["unshare", "--mount", "sh", "-c", " && ".join(steps)]


def _port(taken: Round) -> str:
    return taken.server.url.rpartition(":")[2]


def case(count: int, *, tls: bool = False) -> str:
    """Return what a table of crowds is headed by."""
    return f"{count:,} due by https" if tls else f"{count:,} due"


def contestant(name: str, crowd: Crowd, count: int, *, tls: bool = False, **more: object) -> Contestant:
    """Return a line of a table of crowds."""
    return Contestant(
        case(count, tls=tls),
        name,
        lambda folder: measure(crowd, count, folder, tls=tls),
        **more,  # type: ignore[arg-type]
    )


def in_node(
    libraries: Iterable[str], ways: Iterable[str], count: int, *, tls: bool = False
) -> Iterator[Contestant]:
    """Yield these libraries with these ways to call; ratios are to node-cron, a connection for each call."""
    for library in libraries:
        for way in ways:
            yield contestant(
                f"{library}, {WAYS[way]}",
                node(library, way),
                count,
                tls=tls,
                reference=(library, way) == ("node-cron", "http"),
            )


def ours(scope: Scope, count: int, *, tls: bool = False) -> Iterator[Contestant]:
    """Yield flowsched as it is by default and with more calls at once."""
    for name, tree in scope.trees:
        yield contestant(name, flowsched(tree=tree), count, tls=tls)
        if scope.quick:
            continue
        yield contestant(f"{name}, 100 at once", flowsched(100, tree), count, tls=tls)
