"""The daemon under soak: one process after the other, and what they say."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsched.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.soak.clock import Pace

ROOT = Path(__file__).parent.parent.parent

ANSWER = 60.0
"""Real seconds in which the daemon does what it is told; a drain may take all of them."""

LEDGER_TAKEN = 3
"""What a daemon exits with whose ledger another process has, or which cannot be used just now."""

STARTS = 120.0
"""Real seconds for which it is started again and again."""

IN_FORCE = frozenset({"daemon ready", "catalog applied", "catalog unchanged"})
REFUSED = "catalog refused; the one before stays in force"


@dataclass(slots=True)
class Sending:
    """One attempt that the log tells of."""

    process: int
    run: int
    flow: int
    ticks: float
    """By the daemon's monotonic clock, as the attempt began."""
    outcome: Outcome | None = None
    """None: the log does not tell, as the process was killed."""


class Daemon:
    """Starts, signals and hears one process at a time; never two."""

    def __init__(self, folder: Path, pace: Pace, command: Sequence[str], secret: str) -> None:
        self.sendings: list[Sending] = []
        self.events: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.restarts: list[float] = []
        self.in_force = ""
        """The revision that it was last heard to have in force."""
        self.heard: list[tuple[str, float]] = []
        """Each revision that it said to have in force, with when, in ticks."""
        self.refusals: list[str] = []
        self.refused_starts = 0
        """How often it ended with 3 as the ledger could not be used."""
        self._pace = pace
        self._log = (folder / "daemon.log").open("ab")
        self._environ = {**os.environ, "SOAK_ACCESS_KEY": secret}
        self._command = command
        self._under_way: dict[int, Sending] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = False
        self._stopped = False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def spawn(self) -> None:
        """Begin a process, and do not wait for it to be ready."""
        assert not self.alive
        self._ready = self._stopped = False
        self.restarts.append(self._pace.ticks())
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT, env=self._environ, stderr=asyncio.subprocess.PIPE, limit=1 << 24
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def until_ready(self) -> None:
        """Wait until schedules are in force; start it again where the ledger would not be used."""
        last = time.monotonic() + STARTS
        while not await self.waits(lambda: self._ready or not self.alive) or not self._ready:
            if self.alive or time.monotonic() > last:
                self.complaints.append("the daemon was not ready in time")
                return
            code = await self._end()
            if code != LEDGER_TAKEN:
                self.complaints.append(f"the daemon ended with {code} while it started")
                return
            self.refused_starts += 1
            await asyncio.sleep(0.2)
            await self.spawn()

    async def waits(self, condition: Callable[[], object], within: float = ANSWER) -> bool:
        """Wait for a condition; False: it does not hold in time."""
        last = time.monotonic() + within
        while not condition():
            if time.monotonic() > last:
                return False
            await asyncio.sleep(0.01)
        return True

    async def kill(self) -> None:
        """Have the process end at whatever instruction it is at; one that starts may have given up before."""
        self.tell(signal.SIGKILL)
        await self._expect(-signal.SIGKILL, *([] if self._ready else [LEDGER_TAKEN]))

    async def stop(self, *, twice: bool = False) -> None:
        """Have the process drain and end, at once where it is told so twice."""
        self.tell(signal.SIGTERM)
        if twice:
            await asyncio.sleep(0.05)
            self.tell(signal.SIGTERM)
        # A second signal may come when all is done, and then ends what is left of the process.
        await self._expect(0, *([-signal.SIGTERM] if twice else []))

    def tell(self, number: signal.Signals) -> None:
        if self.alive:
            assert self._process
            self._process.send_signal(number)

    async def leave(self) -> None:
        """End what is left."""
        self.tell(signal.SIGKILL)
        if self._process is not None:
            await self._end()
        self._log.close()

    async def _expect(self, *codes: int) -> None:
        if not await self.waits(lambda: not self.alive, ANSWER + 10):
            self.complaints.append(f"the daemon did not end when told to, with {codes}")
            self.tell(signal.SIGKILL)
        found = await self._end()
        if found not in codes:
            self.complaints.append(f"the daemon ended with {found} instead of {codes}")
        if found == -signal.SIGTERM and not self._stopped:
            self.complaints.append("the daemon did not drain before it ended")

    async def _end(self) -> int:
        assert self._process
        assert self._reading
        code = await self._process.wait()
        await self._reading
        self._under_way.clear()
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr
        async for line in process.stderr:
            self._log.write(line)
            try:
                self._hear(json.loads(line))
            except ValueError:
                if line.endswith(b"\n"):  # else it was cut off by a kill
                    self.complaints.append(f"no event: {line.decode(errors='replace').rstrip()}")

    def _hear(self, event: dict[str, Any]) -> None:
        word = event["event"]
        self.events[word] += 1
        if (event["level"] == "critical" and word != "flowsched cannot run") or "traceback" in event:
            self.complaints.append(json.dumps(event)[:2000])
        if word in IN_FORCE:
            self.in_force = event["revision"]
            self.heard.append((self.in_force, self._pace.ticks()))
            self._ready = True
        elif word == "daemon stopped":
            self._stopped = True
        elif word == REFUSED:
            self.refusals.append(event["problem"])
        elif word == "run sending":
            sending = Sending(len(self.restarts), event["run"], event["flow"], event["ticks"])
            self._under_way[event["run"]] = sending
            self.sendings.append(sending)
        elif "outcome" in event and event["run"] in self._under_way:
            self._under_way.pop(event["run"]).outcome = Outcome(event["outcome"])
