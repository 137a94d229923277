"""Commands in processes of their own that share one fast clock, before a simulated EnOS.

`python -m tests.commanding START BEGAN SPEED ARGUMENTS...` is `flowsched ARGUMENTS...` on that clock.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsched.cli import main
from flowsched.clock import FastClock
from flowsched.config import load_settings
from flowsched.ledger import Ledger
from flowsched.simulator import Application, Simulator
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowsched.model import Run

SPEED = 60.0
"""A minute, which two triggers of a flow keep apart, takes a second."""

START = datetime(2026, 3, 10, 12, 0, 5, tzinfo=UTC)
APPLICATION = Application("planted-access-key", "planted-secret-key")
SETTINGS = """\
schedules: schedules
ledger: sqlite:///ledger.db
reload: {{watch: false}}
targets:
  default: {{url: "{url}", org_id: {org}, user_id: {user}, access_key: {{env: AK}}, secret_key: {{env: SK}}}}
"""
SCHEDULES = """\
defaults: {timezone: UTC}
schedules:
  nightly: {cron: "30 2 * * *", flow: 3377}
  weekly: {cron: "30 1 * * 1", flow: 2430}
"""


@dataclass
class Done:
    """What came of a command."""

    code: int | None
    out: str
    err: str


class Command:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._done = asyncio.create_task(process.communicate())

    async def ends(self) -> Done:
        out, err = await asyncio.wait_for(asyncio.shield(self._done), 40)
        return Done(self.process.returncode, out.decode(), err.decode())


class Site:
    """An installation, on which commands are typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.began = time.monotonic()
        self.simulator = Simulator(FastClock(START, SPEED, self.began), application=APPLICATION)
        self.commands: list[Command] = []

    async def build(self) -> None:
        url, user = await self.simulator.start(), self.simulator.user
        (self.folder / "flowsched.yaml").write_text(SETTINGS.format(url=url, org=user.org, user=user.id))
        (self.folder / "schedules").mkdir()
        (self.folder / "schedules" / "a.yaml").write_text(SCHEDULES)
        self.settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open(self.settings.ledger):
            """It is there, and empty."""

    async def begin(self, *arguments: str) -> Command:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.commanding", START.isoformat(), str(self.began), str(SPEED)),
            *("--config", str(self.folder / "flowsched.yaml"), *arguments),
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "AK": APPLICATION.access_key, "SK": APPLICATION.secret_key},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        command = Command(process)
        self.commands.append(command)
        return command

    async def __call__(self, *arguments: str) -> Done:
        return await (await self.begin(*arguments)).ends()

    async def daemon(self) -> Command:
        """Start a daemon; return it when it answers."""
        daemon = await self.begin("run")
        async with asyncio.timeout(30):
            while "running" not in (await self("status", "--format", "json")).out:
                assert daemon.process.returncode is None, await daemon.ends()
        return daemon

    async def kill(self, *commands: Command) -> None:
        for command in commands:
            command.process.kill()
        for command in commands:
            await command.ends()

    def instances(self) -> list[str]:
        """Return the ids of what EnOS has, in the order of their making."""
        return [each.id for each in self.simulator.instances]

    async def has_instances(self, count: int) -> None:
        await eventually(lambda: len(self.instances()) >= count, within=40)

    async def runs(self) -> list[Run]:
        """Return all runs, oldest fire time first."""
        async with await Ledger.open_to_read(self.settings.ledger) as ledger:
            return (await ledger.runs(limit=1000))[::-1]


@asynccontextmanager
async def a_site(folder: Path) -> AsyncIterator[Site]:
    site = Site(folder)
    await site.build()
    try:
        yield site
    finally:
        await site.kill(*(each for each in site.commands if each.process.returncode is None))
        await site.simulator.stop()


def on_a_fast_clock(start: str, began: str, speed: str, *arguments: str) -> int:
    """Be `flowsched` with these arguments."""

    def clock() -> Any:
        return FastClock(datetime.fromisoformat(start), float(speed), float(began))

    for name in ("run", "asking", "backfill", "pause"):
        vars(import_module(f"flowsched.cli.{name}"))["SystemClock"] = clock
    return main(list(arguments))


if __name__ == "__main__":
    # Whoever has begun this may ignore the signal, and that would be handed on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(on_a_fast_clock(*sys.argv[1:]))
