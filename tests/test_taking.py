"""How a daemon waits for a ledger that another process has just now."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import pytest

from flowsched.cli import UNEXPECTED, exit_code
from flowsched.daemon.taking import ASK_AGAIN, WAIT_AT_MOST, ledger_taken
from flowsched.errors import LedgerTaken
from flowsched.ledger import Ledger
from flowsched.ops.notify import Systemd
from tests.fakes import HandClock, eventually

if TYPE_CHECKING:
    from pathlib import Path


class Taker:
    """A daemon that is about to start."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/ledger.db"
        self.clock = HandClock()
        self.stop = asyncio.Event()

    def begin(self) -> asyncio.Task[Ledger | None]:
        return asyncio.create_task(ledger_taken(self.url, self.clock, self.stop, Systemd()))

    async def waits(self) -> None:
        await eventually(lambda: len(self.clock.sleeping) == 1)


@pytest.fixture
def taker(tmp_path: Path) -> Taker:
    return Taker(tmp_path)


async def test_a_ledger_that_is_let_go_of_is_taken(taker: Taker, caplog: pytest.LogCaptureFixture) -> None:
    other = await Ledger.open_as_daemon(taker.url)
    taking = taker.begin()
    for _ in range(3):
        await taker.waits()
        taker.clock.advance(ASK_AGAIN)
    await taker.waits()
    await other.aclose()
    taker.clock.advance(ASK_AGAIN)

    ledger = await taking

    assert ledger is not None
    await ledger.aclose()
    (said,) = caplog.records
    assert (said.levelno, said.message) == (logging.WARNING, "waiting for the ledger")
    assert f"(process {os.getpid()})" in vars(said)["problem"]


async def test_a_ledger_that_is_not_let_go_of_is_worth_another_start(taker: Taker) -> None:
    async with await Ledger.open_as_daemon(taker.url):
        taking = taker.begin()
        await taker.waits()
        taker.clock.advance(WAIT_AT_MOST - ASK_AGAIN)
        await taker.waits()
        taker.clock.advance(ASK_AGAIN)

        with pytest.raises(LedgerTaken, match=r"is kept by another daemon.*process \d+") as caught:
            await asyncio.wait_for(taking, 10)

    assert exit_code(caught.value) == UNEXPECTED


async def test_a_stop_ends_the_wait(taker: Taker) -> None:
    async with await Ledger.open_as_daemon(taker.url):
        taking = taker.begin()
        await taker.waits()
        taker.stop.set()

        assert await asyncio.wait_for(taking, 10) is None


async def test_a_ledger_that_is_free_is_taken_at_once(taker: Taker, caplog: pytest.LogCaptureFixture) -> None:
    ledger = await taker.begin()

    assert ledger is not None
    await ledger.aclose()
    assert caplog.records == []
