"""People who pause, trigger, cancel, settle and ask, each with a command in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from flowsched.control.sockets import address_of
from flowsched.errors import LedgerError
from flowsched.ledger import Ledger
from flowsched.model import RunState
from flowsched.ops.logs import stamp
from tests.soak.script import Act, Event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from datetime import datetime

    from flowsched.model import Run, Settings
    from tests.soak.clock import Pace

ROOT = Path(__file__).parent.parent.parent

AT_ONCE = 3
"""Commands beside each other; all processes share two cores."""

PATIENCE = 90.0
"""Real seconds in which a command ends that nobody interrupts; it may follow a run to its deadline."""

ANSWER = 30.0
"""Real seconds in which a page is answered, whatever the ledger does."""

CODES = (0, 1, 3)
"""What a command may exit with here: done, refused or failed, nobody there."""

RECENT = 400
"""Runs that are looked at to choose one from."""


@dataclass(slots=True)
class Errand:
    """One command that somebody gave."""

    number: int
    act: Act
    arguments: tuple[str, ...]
    began: float
    """In ticks; so with `ended`."""
    ended: float | None = None
    code: int | None = None
    """None: somebody interrupted it."""

    @property
    def reason(self) -> str:
        """What the ledger has of it, and of no other."""
        return f"errand {self.number}"


class People:
    """All who have their hands on the wheel during a soak."""

    def __init__(
        self,
        command: Sequence[str],
        pace: Pace,
        secret: str,
        seed: int,
        wall: Callable[[], datetime],
        made: Callable[[], Collection[str]],
    ) -> None:
        """`command` begins every command; `made` gives the ids of the instances that there are in truth."""
        self.errands: list[Errand] = []
        self.complaints: list[str] = []
        self.ids: Sequence[str] = ()
        """The schedules that stand in the files."""
        self.settings: Settings | None = None
        self._command = command
        self._pace = pace
        self._environ = {**os.environ, "SOAK_ACCESS_KEY": secret}
        self._chance = Random(f"people {seed}")  # noqa: S311 - to be repeated
        self._wall = wall
        self._made = made
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()
        self._paused: list[str] = []

    def send(self, event: Event) -> None:
        """Have somebody do it, beside all else."""
        task = asyncio.create_task(self._do(event))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def come_home(self) -> None:
        """Wait until nobody does anything any more."""
        for task in list(self._under_way):
            try:
                await task
            except Exception as error:  # noqa: BLE001 - to be told at the end
                self.complaints.append(f"a person stumbled: {error!r}")

    async def leave(self) -> None:
        """End what is left."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def __call__(self, act: Act, *arguments: str, patience: float | None = None) -> int | None:
        """Give a command, and return what it exits with; None: it was interrupted."""
        errand = Errand(len(self.errands) + 1, act, arguments, self._pace.ticks())
        self.errands.append(errand)
        reason = ("--reason", errand.reason) if act in GIVEN_A_REASON else ()
        process = await asyncio.create_subprocess_exec(
            *(*self._command, *arguments, *reason),
            cwd=ROOT,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said = asyncio.create_task(process.communicate())
        try:
            out, err = await asyncio.wait_for(asyncio.shield(said), patience or PATIENCE)
            errand.code = process.returncode
            self._judge(errand, out, err)
        except TimeoutError:
            if patience is None:
                self.complaints.append(f"`{' '.join(arguments)}` did not end")
            await _interrupted(process, self._chance.choice((signal.SIGINT, signal.SIGKILL)), said)
        finally:
            await _interrupted(process, signal.SIGKILL, said)
            errand.ended = self._pace.ticks()
        return errand.code

    def _judge(self, errand: Errand, out: bytes, err: bytes) -> None:
        text = err.decode(errors="replace")
        # What has been may be still to come, once the clock is set back.
        expected = errand.code in CODES or (errand.code == 2 and "is in the future" in text)
        wrong = not expected or "Traceback" in text or "fault of flowsched" in text
        if "json" in errand.arguments and errand.code == 0:
            try:
                json.loads(out)
            except ValueError:
                wrong = True
        if wrong:
            said = f"{text}{out[-300:].decode(errors='replace')}"
            self.complaints.append(f"`{' '.join(errand.arguments)}` exited with {errand.code}: {said}")

    async def _do(self, event: Event) -> None:
        acts: dict[Act, Callable[[Event], Awaitable[object]]] = {
            Act.PAUSE: self._pause,
            Act.RESUME: self._resume,
            Act.TRIGGER: self._trigger,
            Act.BACKFILL: self._backfill,
            Act.CANCEL: self._cancel,
            Act.RESOLVE: self._resolve,
            Act.ASK: self._ask,
        }
        async with self._turns:
            await acts[event.act](event)

    async def _pause(self, event: Event) -> None:
        what, _, how_long = event.how.partition(" ")
        subject = {"schedule": self._any(), "target": "--target=default", "all": "--all"}[what]
        for_ = ("--for", f"{self._chance.randint(60, 240)}s") if how_long else ()
        await self(Act.PAUSE, "pause", subject, *for_)
        if what == "schedule":
            self._paused.append(subject)
        elif not for_:
            # Not for long: the others are to have something to do.
            await asyncio.sleep(self._chance.uniform(2.0, 6.0))
            while await self(Act.RESUME, "resume", subject) not in (0, 1):
                await asyncio.sleep(0.3)

    async def _resume(self, _: Event) -> None:
        subject = self._chance.choice(self._paused) if self._paused else "--target=default"
        await self(Act.RESUME, "resume", subject)

    async def _trigger(self, event: Event) -> None:
        id_, at = self._any(), None
        if event.how == "past":
            at = self._minute(self._chance.randint(0, 15))
        elif event.how in ("failed", "missed"):
            states = (RunState.FAILED,) if event.how == "failed" else (RunState.MISSED, RunState.SKIPPED)
            found = [run for run in await self._runs() if run.state in states]
            run = self._one([run for run in found if run.schedule_id in self.ids])
            id_, at = (run.schedule_id, run.fire_time) if run else (id_, at)
        when = () if at is None else ("--at", stamp(at))
        wait = ("--wait",) if event.twice else ()
        await self(Act.TRIGGER, "trigger", id_, *when, *wait, "--format", "json")

    async def _backfill(self, event: Event) -> None:
        """Begin, be interrupted perhaps, and go on."""
        left_out = [run for run in await self._runs() if run.state in (RunState.MISSED, RunState.SKIPPED)]
        run = self._one([run for run in left_out if run.schedule_id in self.ids])
        id_, to = (run.schedule_id, run.fire_time) if run else (self._any(), self._minute(2))
        from_, to = to - timedelta(minutes=self._chance.randint(4, 9)), to + timedelta(minutes=1)
        every = str(self._chance.randint(1, 2))
        fixed = ("--from", stamp(from_), "--to", stamp(to), "--every", every, "--yes", "--format", "json")
        for patience in (event.lasts, 25.0):
            if await self(Act.BACKFILL, "backfill", id_, *fixed, patience=patience) is not None:
                return

    async def _cancel(self, event: Event) -> None:
        states = (RunState.TRIGGERED,) if event.how == "triggered" else (RunState.CLAIMED, RunState.WAITING)
        if run := self._one([run for run in await self._runs() if run.state in states]):
            await self(Act.CANCEL, "cancel", str(run.id))

    async def _resolve(self, _: Event) -> None:
        """Settle a run in doubt by what is true at this moment."""
        if run := self._one([run for run in await self._runs() if run.state is RunState.IN_DOUBT]):
            truth = "--triggered" if run.predicted_instance in self._made() else "--failed"
            await self(Act.RESOLVE, "resolve", str(run.id), truth)

    async def _ask(self, _: Event) -> None:
        await self(Act.ASK, "status", "--format", "json")
        for path in ("/healthz", "/readyz"):
            await self._page(path, (200, 503))
        await self.metrics()

    async def metrics(self) -> dict[str, float]:
        """Ask for the metrics; return the sum of each, empty where nobody answers."""
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(await self._page("/metrics", (200,))):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    async def _page(self, path: str, codes: Collection[int]) -> str:
        """Return a page of the daemon; empty where none answers, as it may be killed at any time."""
        assert self.settings is not None
        text = ""
        try:
            async with asyncio.timeout(ANSWER):
                with suppress(OSError), address_of(self.settings.control_socket) as address:
                    text = await _get(address, path)
        except TimeoutError:
            self.complaints.append(f"no answer to {path}")
        head, end, body = text.partition("\r\n\r\n")
        if not end or not body:
            return ""
        if int(head.split()[1]) not in codes:
            self.complaints.append(f"{path} was answered with {head.splitlines()[0]}")
        return body

    async def _runs(self) -> list[Run]:
        assert self.settings is not None
        try:
            async with await Ledger.open_to_read(self.settings.ledger) as ledger:
                return await ledger.runs(limit=RECENT)
        except LedgerError:
            return []

    def _one(self, runs: Sequence[Run]) -> Run | None:
        return self._chance.choice(runs) if runs else None

    def _any(self) -> str:
        return self._chance.choice(self.ids)

    def _minute(self, ago: int) -> datetime:
        return self._wall().replace(second=0, microsecond=0) - timedelta(minutes=ago)


GIVEN_A_REASON = frozenset({Act.PAUSE, Act.RESUME, Act.TRIGGER, Act.BACKFILL, Act.CANCEL, Act.RESOLVE})


async def _interrupted(
    process: asyncio.subprocess.Process, number: signal.Signals, said: asyncio.Task[Any]
) -> None:
    """End a process that still runs, and wait for that; one that does not heed a signal is killed."""
    with suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        await asyncio.wait_for(asyncio.shield(said), 20.0)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await said


async def _get(address: str, path: str) -> str:
    reader, writer = await asyncio.open_unix_connection(address)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read(-1)).decode()
    finally:
        writer.close()
