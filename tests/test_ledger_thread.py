"""The thread of a ledger: what it takes at once, and its end, whatever else hangs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from flowsched.errors import LedgerError
from flowsched.ledger.thread import LedgerThread, Result
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowsched.ledger.books import Books


class Gated:
    """A session that carries nothing out before its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.closed = threading.Event()

    def run(self, operations: Sequence[Callable[[Books], object]]) -> list[Result]:
        self.entered.set()
        self.gate.wait(20)
        return [Result("done")] * len(operations)

    def close(self) -> None:
        self.closed.set()


class Unclosable(Gated):
    def close(self) -> None:
        raise OSError("it does not close")


async def test_the_end_waits_for_none_of_the_threads_of_the_loop() -> None:
    session, hung = Gated(), threading.Event()
    with ThreadPoolExecutor(1) as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        hanging = asyncio.get_running_loop().run_in_executor(None, hung.wait, 20)
        thread = LedgerThread("ledger", session)
        asked = thread.do(lambda _: "done")
        session.gate.set()

        await thread.aclose()

        assert not hanging.done()
        assert session.closed.is_set()
        assert await asked == "done"
        hung.set()
        await hanging


async def test_an_end_that_was_given_up_goes_on_and_may_be_waited_for_again() -> None:
    session = Gated()
    thread = LedgerThread("ledger", session)
    asked = thread.do(lambda _: "done")
    ends = [asyncio.create_task(thread.aclose()) for _ in range(2)]
    await eventually(session.entered.is_set)
    ends[0].cancel()
    await asyncio.wait(ends[:1])
    with pytest.raises(LedgerError, match="the ledger is closed"):
        thread.answers()
    assert not session.closed.is_set()
    session.gate.set()

    await ends[1]
    await thread.aclose()

    assert session.closed.is_set()
    assert asked.result() == "done"


async def test_what_is_asked_for_in_one_round_of_the_loop_is_handed_over_together() -> None:
    session = Gated()
    session.gate.set()
    thread = LedgerThread("ledger", session)

    first = thread.do(lambda _: "done")
    began_with_the_first_alone = session.entered.wait(0.1)
    second = thread.do(lambda _: "done")

    assert not began_with_the_first_alone
    assert [await first, await second] == ["done", "done"]
    await thread.aclose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_the_end_comes_though_the_session_does_not_close() -> None:
    await LedgerThread("ledger", Unclosable()).aclose()


def test_a_thread_that_outlives_its_loop_ends_in_silence() -> None:
    session = Gated()

    async def leave() -> None:
        thread = LedgerThread("ledger-left", session)
        thread.do(lambda _: "done")
        end = asyncio.create_task(thread.aclose())
        await eventually(session.entered.is_set)
        end.cancel()

    asyncio.run(leave())
    [left] = [thread for thread in threading.enumerate() if thread.name == "ledger-left"]
    session.gate.set()
    left.join(20)

    assert session.closed.is_set()
