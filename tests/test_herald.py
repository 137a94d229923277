"""What the service manager is told, and when."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from flowsched.daemon.herald import ANEW_EVERY, Herald
from flowsched.events import OverdueSeen, Reloaded, Reloading
from flowsched.model import Reload, ReloadOutcome
from flowsched.ops.notify import Systemd
from tests.fakes import HandClock, all_have_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

START = datetime(2026, 1, 1, tzinfo=UTC)
CHANGE = OverdueSeen(START, {})
RELOADED = Reloaded(
    Reload(
        outcome=ReloadOutcome.REFUSED, at=START, why="SIGHUP", revision=None, commit=None, problems=("bad",)
    )
)


class Told:
    """A herald, the status that it is to tell, and what has arrived."""

    def __init__(self, path: Path) -> None:
        self.clock = HandClock(START)
        self.status = "128 schedules"
        self.fault: Exception | None = None
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.listening.bind(str(path))
        self.listening.setblocking(False)
        self.herald = Herald(Systemd(str(path)), self.clock, self._say)

    def _say(self) -> str:
        if self.fault:
            raise self.fault
        return self.status

    def heard(self) -> list[str]:
        words = []
        try:
            while True:
                words.append(self.listening.recv(4096).decode().replace("\n", " "))
        except BlockingIOError:
            return words

    async def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            await all_have_run()

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.herald.keep())
        await all_have_run()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    told = Told(tmp_path / "notify")
    async with told.keeping():
        yield told
    told.listening.close()


async def test_nothing_but_a_status_is_told_before_all_is_in_place(told: Told) -> None:
    told.herald.hear(Reloading("SIGHUP"))
    told.herald.hear(RELOADED)
    await told.passes(1)
    before = told.heard()
    told.herald.ready()

    assert before == ["STATUS=128 schedules"]
    assert told.heard() == ["READY=1 STATUS=128 schedules"]


async def test_a_change_is_told_within_a_second_and_many_once(told: Told) -> None:
    told.herald.ready()
    told.heard()

    told.status = "129 schedules"
    for _ in range(1_000):
        told.herald.hear(CHANGE)
    at_once = told.heard()
    await told.passes(1)
    then = told.heard()
    await told.passes(1)

    assert at_once == []
    assert then == ["READY=1 STATUS=129 schedules"]
    assert told.heard() == []


async def test_it_is_told_again_though_nothing_has_changed(told: Told) -> None:
    told.herald.ready()
    told.heard()
    await told.passes(3 * ANEW_EVERY)

    assert told.heard() == ["READY=1 STATUS=128 schedules"] * 3


async def test_a_reload_is_told_of_from_its_begin_to_its_end(told: Told) -> None:
    told.herald.ready()
    told.heard()
    told.clock.advance(2.5)

    told.herald.hear(Reloading("SIGHUP"))
    begun = told.heard()
    await told.passes(2)
    meanwhile = told.heard()
    told.status = "refused: bad"
    told.herald.hear(RELOADED)

    assert begun == ["RELOADING=1 MONOTONIC_USEC=2500000"]
    assert meanwhile == ["STATUS=128 schedules"]
    assert told.heard() == ["READY=1 STATUS=refused: bad"]


async def test_the_end_is_told_of_at_once_and_how_the_drain_goes(told: Told) -> None:
    told.herald.ready()
    told.heard()

    told.herald.stopping()
    at_once = told.heard()
    told.status = "stopping: 3 attempts under way"
    told.herald.hear(Reloading("SIGHUP"))
    told.herald.hear(RELOADED)
    await told.passes(1)

    assert at_once == ["STOPPING=1 STATUS=stopping"]
    assert told.heard() == ["STOPPING=1 STATUS=stopping: 3 attempts under way"]


async def test_a_fault_in_its_words_keeps_nobody_from_being_ready(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.fault = RuntimeError("a fault")
    told.herald.ready()
    await told.passes(3 * ANEW_EVERY)

    assert told.heard() == ["READY=1 STATUS=its status cannot be told: see the log"] * 4
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
