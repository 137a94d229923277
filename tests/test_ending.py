"""The end of the process: soon and for sure, whatever hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.cli.run import CUT_OFF, THREADS_END
from flowsched.config import load_catalog, load_settings
from flowsched.ledger import Ledger
from flowsched.model import RunState
from tests.fakes import eventually
from tests.test_daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

BEGIN = """\
import os, socket, sys, threading, time
%s
from flowsched.__main__ import main
sys.argv = ["flowsched", "run"]
main()
"""

LOOK_UP_HANGS = """
look_up = socket.getaddrinfo
def hangs(host, *more, **others):
    if "enos.example.com" in str(host):
        open("asked", "a").close()
        time.sleep(600)
    return look_up(host, *more, **others)
socket.getaddrinfo = hangs
"""

A_THREAD_IS_LEFT = """
threading.Thread(target=lambda: None).start()
import flowsched.daemon
room = sys.modules["flowsched.daemon.serve"]
begin = room.Daemon.start
async def start(self, catalog):
    await begin(self, catalog)
    threading.Thread(target=time.sleep, args=(600,), name="stuck").start()
room.Daemon.start = start
"""

CLOSING_HANGS = """
import asyncio
import flowsched.daemon
room = sys.modules["flowsched.daemon.serve"]
async def aclose(self):
    await asyncio.sleep(600)
room.Telling.aclose = aclose
"""


class House:
    """An installation whose target is a name; it has a fire to catch up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[Daemon] = []

    async def build(self) -> None:
        due = datetime.now(UTC) - timedelta(minutes=3)
        (self.folder / "schedules").mkdir()
        (self.folder / "schedules" / "a.yaml").write_text(
            "defaults: {timezone: UTC, catch_up: latest}\n"
            f"schedules: {{a: {{cron: '{due.minute} * * * *', flow: 1000}}}}\n"
        )
        (self.folder / "flowsched.yaml").write_text(
            "schedules: schedules\nledger: sqlite:///ledger.db\ncontrol: {socket: control.sock}\n"
            "targets:\n  default:\n    url: https://enos.example.com\n    org_id: o1\n    user_id: u1\n"
            "    access_key: {env: AK}\n    secret_key: {env: SK}\n"
        )
        self.settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open(self.settings.ledger) as ledger:
            catalog = load_catalog(self.settings.schedules, self.settings)
            await ledger.apply(catalog, due - timedelta(minutes=2))

    async def start(self, what_is_wrong: str) -> Daemon:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BEGIN % what_is_wrong),
            cwd=self.folder,
            env={**os.environ, "AK": "a", "SK": "s", "FLOWSCHED_CONFIG": "flowsched.yaml"},
            stderr=asyncio.subprocess.PIPE,
        )
        daemon = Daemon(process)
        self.daemons.append(daemon)
        await daemon.says("daemon ready")
        return daemon

    async def state(self) -> RunState:
        async with await Ledger.open_to_read(self.settings.ledger) as ledger:
            (run,) = await ledger.runs(limit=10)
            return run.state

    async def leave(self) -> None:
        for daemon in self.daemons:
            if daemon.process.returncode is None:
                daemon.process.kill()
            await daemon.ends()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.build()
    yield house
    await house.leave()


async def ends_within(daemon: Daemon, seconds: float) -> int:
    began = time.monotonic()
    code = await daemon.ends()
    assert time.monotonic() - began < seconds
    return code


async def test_the_second_signal_ends_it_at_once_though_a_look_up_hangs(house: House) -> None:
    daemon = await house.start(LOOK_UP_HANGS)
    await eventually((house.folder / "asked").exists, within=20)
    daemon.tell(signal.SIGTERM)
    await daemon.says("daemon stopping")
    daemon.tell(signal.SIGTERM)

    assert await ends_within(daemon, CUT_OFF) == 0
    assert daemon.told("daemon stopped")[0]["attempts_cut_off"] == 1
    assert await house.state() in (RunState.CLAIMED, RunState.SENDING, RunState.WAITING)


async def test_a_thread_that_does_not_end_is_left_when_all_else_has_ended(house: House) -> None:
    daemon = await house.start(LOOK_UP_HANGS + A_THREAD_IS_LEFT)
    daemon.tell(signal.SIGTERM)
    await daemon.says("daemon stopping")
    daemon.tell(signal.SIGTERM)

    assert await ends_within(daemon, CUT_OFF + THREADS_END) == 0
    assert [each["name_of_thread"] for each in daemon.told("a thread did not end, and is left")] == ["stuck"]


async def test_what_hangs_at_the_end_is_cut_off_by_the_second_signal(house: House) -> None:
    daemon = await house.start(LOOK_UP_HANGS + CLOSING_HANGS)
    daemon.tell(signal.SIGTERM)
    await daemon.says("daemon stopping")
    daemon.tell(signal.SIGTERM)

    assert await ends_within(daemon, CUT_OFF + 3) == 3
    assert daemon.told("daemon stopped")
    assert daemon.told("flowsched was cut off, as it did not end")
