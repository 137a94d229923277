"""SIGTERM while much is under way: all of it ends or is handed on, and nothing is lost or sent twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.clock import SystemClock
from flowsched.config import load_catalog, load_settings
from flowsched.daemon import DRAIN
from flowsched.ledger import Ledger
from flowsched.model import RunState
from flowsched.simulator import Application, Fault, Order, Simulator
from tests.fakes import eventually
from tests.test_daemon import Daemon
from tests.test_unit_file import directives, seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.model import Run

pytestmark = pytest.mark.e2e

MANY = 50
APPLICATION = Application("planted-access-key", "planted-secret-key")
OPEN = (RunState.CLAIMED, RunState.SENDING, RunState.WAITING, RunState.IN_DOUBT)


STARTS_WHEN_IT_MAY = """
import asyncio, pathlib
import flowsched.daemon.daemon as room
from flowsched.__main__ import main

start = room.Daemon.start

async def late(self, catalog):
    pathlib.Path("starts").touch()
    while not pathlib.Path("may").exists():
        await asyncio.sleep(0.01)
    await start(self, catalog)

room.Daemon.start = late
main()
"""
"""A daemon that puts its catalog in force only when it is told to."""


class Notices:
    """What a daemon tells the service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.words: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def _hear(self) -> None:
        self.words.append(self._socket.recv(4096).decode().replace("\n", " "))

    def told(self, beginning: str) -> list[str]:
        return [each for each in self.words if each.startswith(beginning)]

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


class Plant:
    """An installation whose fifty schedules all have a fire to catch up, over a pause of a minute each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.simulator = Simulator(SystemClock(), application=APPLICATION)
        self.notices = Notices(folder / "notify")
        self.daemons: list[Daemon] = []

    async def build(self) -> None:
        url, user, now = await self.simulator.start(), self.simulator.user, datetime.now(UTC)
        due = now - timedelta(minutes=3)
        (self.folder / "schedules").mkdir()
        (self.folder / "schedules" / "a.yaml").write_text(
            "defaults: {timezone: UTC, catch_up: latest}\nschedules:\n"
            + "".join(f"  s{n}: {{cron: '{due.minute} * * * *', flow: {1000 + n}}}\n" for n in range(MANY))
        )
        (self.folder / "flowsched.yaml").write_text(
            "schedules: schedules\nledger: sqlite:///ledger.db\ncontrol: {socket: control.sock}\n"
            f"targets:\n  default:\n    url: {url}\n"
            f"    org_id: {user.org}\n    user_id: {user.id}\n    limits: {{concurrency: {MANY}}}\n"
            "    access_key: {env: AK}\n    secret_key: {env: SK}\n"
        )
        self.settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open(self.settings.ledger) as ledger:
            await ledger.apply(
                load_catalog(self.settings.schedules, self.settings), due - timedelta(minutes=2)
            )

    async def start(self, *program: str) -> Daemon:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *(program or ("-m", "flowsched")), "run"),
            cwd=self.folder,
            env={
                **os.environ,
                "AK": APPLICATION.access_key,
                "SK": APPLICATION.secret_key,
                "FLOWSCHED_CONFIG": "flowsched.yaml",
                "NOTIFY_SOCKET": str(self.notices.path),
                "WATCHDOG_USEC": "6000000",
            },
            stderr=asyncio.subprocess.PIPE,
        )
        daemon = Daemon(process)
        self.daemons.append(daemon)
        return daemon

    async def started_and_sending(self) -> Daemon:
        daemon = await self.start()
        await eventually(lambda: len(self.triggers()) == MANY, within=30)
        return daemon

    def triggers(self) -> list[tuple[int, int | None]]:
        """The calls that have arrived, by flow and fire time."""
        return [
            (call.flow or 0, call.trigger_time)
            for call in self.simulator.calls
            if call.operation == "flows.trigger"
        ]

    async def runs(self, *states: RunState) -> list[Run]:
        async with await Ledger.open_to_read(self.settings.ledger) as ledger:
            return [run for run in await ledger.runs(limit=1000) if run.state in states]

    async def audit(self) -> dict[str, object]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowsched", "audit", "--format", "json"),
            cwd=self.folder,
            env={**os.environ, "FLOWSCHED_CONFIG": "flowsched.yaml"},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, out
        return dict(json.loads(out))

    async def leave(self) -> None:
        for daemon in self.daemons:
            if daemon.process.returncode is None:
                daemon.process.kill()
            await daemon.ends()
        self.notices.close()
        await self.simulator.stop()

    async def nothing_is_lost_or_doubled(self) -> None:
        triggered = await self.runs(RunState.TRIGGERED)
        assert len(triggered) == len(await self.runs(*RunState)) == MANY
        assert sorted(each.id for each in self.simulator.instances) == sorted(
            run.instance or "" for run in triggered
        )
        assert set(Counter(self.triggers()).values()) == {1}
        await self.audit()


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    plant = Plant(tmp_path)
    await plant.build()
    yield plant
    await plant.leave()


def slow(delay: float) -> Order:
    return Order(fault=Fault.SLOW, delay=delay, on="trigger", times=MANY)


async def test_fifty_calls_under_way_all_end_and_the_manager_is_told_how_it_goes(plant: Plant) -> None:
    plant.simulator.faults.add(slow(4))
    daemon = await plant.started_and_sending()
    began = time.monotonic()
    daemon.tell(signal.SIGTERM)

    assert await daemon.ends() == 0
    assert time.monotonic() - began < seconds(directives()["TimeoutStopSec"][0])
    assert daemon.events[-1]["attempts_cut_off"] == 0
    stopping = plant.notices.told("STOPPING=1")
    assert f"STOPPING=1 STATUS=stopping: {MANY} runs under way" in stopping
    assert len(plant.notices.told("WATCHDOG=1")) >= 2
    await plant.nothing_is_lost_or_doubled()


async def test_fifty_calls_that_are_cut_off_are_handed_on_to_the_next_start(plant: Plant) -> None:
    plant.simulator.faults.add(slow(3))
    daemon = await plant.started_and_sending()
    daemon.tell(signal.SIGTERM)
    await daemon.says("daemon stopping")
    began = time.monotonic()
    daemon.tell(signal.SIGTERM)
    code = await daemon.ends()
    took = time.monotonic() - began
    handed_on = await plant.runs(RunState.SENDING)

    again = await plant.start()
    await again.says("run triggered", times=MANY)
    again.tell(signal.SIGTERM)

    assert (code, len(handed_on)) == (0, MANY)
    assert took < 5
    assert daemon.told("daemon stopped")[0]["attempts_cut_off"] == MANY
    assert again.told("daemon ready")[0]["in_doubt"] == MANY
    assert await again.ends() == 0
    await plant.nothing_is_lost_or_doubled()


async def test_what_has_no_turn_yet_is_handed_on_unsent(plant: Plant) -> None:
    text = (plant.folder / "flowsched.yaml").read_text()
    (plant.folder / "flowsched.yaml").write_text(text.replace(f"concurrency: {MANY}", "concurrency: 10"))
    plant.simulator.faults.add(slow(2))
    daemon = await plant.start()
    await eventually(lambda: len(plant.triggers()) == 10, within=30)
    daemon.tell(signal.SIGTERM)
    code = await daemon.ends()
    claimed, triggered = await plant.runs(RunState.CLAIMED), await plant.runs(RunState.TRIGGERED)

    plant.simulator.faults.clear()
    again = await plant.start()
    await again.says("run triggered", times=MANY - 10)
    again.tell(signal.SIGTERM)

    assert (code, len(claimed), len(triggered)) == (0, MANY - 10, 10)
    assert await again.ends() == 0
    await plant.nothing_is_lost_or_doubled()


async def test_a_sigterm_during_a_reload_ends_it_and_the_daemon(plant: Plant) -> None:
    plant.simulator.faults.add(slow(2))
    daemon = await plant.started_and_sending()
    more = "".join(
        f"  more{n}: {{cron: '0 0 1 1 *', timezone: UTC, flow: {5000 + n}}}\n" for n in range(2000)
    )
    (plant.folder / "schedules" / "b.yaml").write_text("schedules:\n" + more)
    daemon.tell(signal.SIGHUP)
    await eventually(lambda: plant.notices.told("RELOADING=1"), within=20)
    daemon.tell(signal.SIGTERM)

    assert await daemon.ends() == 0
    await plant.nothing_is_lost_or_doubled()


@pytest.mark.parametrize("after", [0.0, 0.3, 0.6, 0.9])
async def test_a_sigterm_before_it_is_ready_loses_nothing(plant: Plant, after: float) -> None:
    daemon = await plant.start()
    await asyncio.sleep(after)
    daemon.tell(signal.SIGTERM)
    code = await daemon.ends()
    ready = plant.notices.told("READY=1")

    again = await plant.start()
    await again.says("daemon ready")
    await eventually(lambda: len(plant.simulator.instances) == MANY, within=30)
    again.tell(signal.SIGTERM)

    assert code in (0, -signal.SIGTERM)
    assert "Traceback" not in daemon.text
    assert not ready or code == 0
    assert await again.ends() == 0
    await plant.nothing_is_lost_or_doubled()


async def test_it_is_ready_only_when_all_is_in_place_and_stands_in_words(plant: Plant) -> None:
    daemon = await plant.start("-c", STARTS_WHEN_IT_MAY)
    await eventually((plant.folder / "starts").exists, within=20)
    assert (plant.folder / "control.sock").is_socket()
    await asyncio.sleep(1.5)
    ready_before_the_catalog_was_in_force = plant.notices.told("READY=1")
    (plant.folder / "may").touch()
    await eventually(lambda: plant.notices.told("READY=1"), within=20)
    await daemon.says("daemon ready")
    await daemon.says("run triggered", times=MANY)
    await eventually(
        lambda: any(f"{MANY} schedules, 0 running, next" in each for each in plant.notices.words), within=20
    )
    daemon.tell(signal.SIGTERM)
    await daemon.ends()

    assert ready_before_the_catalog_was_in_force == []
    assert plant.notices.words[:2] == [
        "STATUS=reading the schedules",
        f"STATUS=starting with {MANY} schedules",
    ]
    assert plant.notices.told("STOPPING=1")


def test_the_unit_leaves_time_for_the_drain() -> None:
    assert seconds(directives()["TimeoutStopSec"][0]) > DRAIN
