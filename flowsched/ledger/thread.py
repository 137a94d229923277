"""One thread that runs the ledger's operations in groups, so that many waiters share one commit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flowsched.errors import LedgerError, LedgerUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowsched.ledger.books import Books

T = TypeVar("T")

GROUP_LIMIT = 500
"""Operations in one transaction at most: it bounds how long the first of them waits for the last."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one operation: its value, or the error that it ended with."""

    value: object = None
    error: Exception | None = None


class Session(Protocol):
    """A connection as the thread needs it. All its methods block, and are called by the thread only."""

    def run(self, operations: Sequence[Callable[[Books], object]]) -> list[Result]:
        """Run the operations in one transaction; return one result each, when all is committed.

        Whatever it raises is what came of all of them.
        """

    def close(self) -> None:
        """Close what is open."""


@dataclass(frozen=True, slots=True)
class _Pending:
    operation: Callable[[Books], object] | None
    """None: only an answer is wanted."""
    future: asyncio.Future[Any]


class LedgerThread:
    """Runs operations in the order given. To be made and used in one event loop."""

    def __init__(self, name: str, session: Session) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._gathered: list[_Pending] = []
        """What was asked for in this round of the loop: with the first alone the thread would be off at once,
        and the others would wait for a commit more."""
        self._closed = False
        self._ended = asyncio.Event()
        self.unusable: asyncio.Future[LedgerUnusable] = self._loop.create_future()
        """Resolved once an operation has found the ledger unusable."""
        self.trouble: Exception | None = None
        """Why the latest transaction failed that did so as a whole; whoever has told it sets it to None."""
        # A daemon thread: a process that forgets to close its ledger must still be able to end.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, operation: Callable[[Books], T]) -> asyncio.Future[T]:
        """Have the operation run; the future is resolved after its transaction is committed.

        Cancelling the future does not stop the operation. Raises LedgerError when closed.
        """
        return self._put(operation)

    def answers(self) -> asyncio.Future[None]:
        """Return a future that is resolved when the thread has come so far; it asks the session nothing.

        Raises LedgerError when closed.
        """
        return self._put(None)

    def _put(self, operation: Callable[[Books], object] | None) -> asyncio.Future[Any]:
        if self._closed:
            raise LedgerError("the ledger is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Pending(operation, future))
        return future

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        for pending in gathered:
            self._queue.put(pending)

    async def aclose(self) -> None:
        """Finish what waits, then end the thread. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        # Not for a thread that joins it: all that the loop has may hang, and the ledger would stay locked.
        await self._ended.wait()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._work_until_closed()
        finally:
            self._tell(self._ended.set)

    def _work_until_closed(self) -> None:
        closing = False
        while not closing:
            group = self._take()
            closing = group[-1] is None
            self._run([pending for pending in group if pending is not None])
        self._session.close()

    def _take(self) -> list[_Pending | None]:
        group = [self._queue.get()]
        while len(group) < GROUP_LIMIT and not self._queue.empty():
            group.append(self._queue.get())
        return group

    def _run(self, group: list[_Pending]) -> None:
        results = iter(self._results([each.operation for each in group if each.operation is not None]))
        outcomes = [(each, Result() if each.operation is None else next(results)) for each in group]
        self._tell(partial(self._resolve, outcomes))

    def _tell(self, heard: Callable[[], object]) -> None:
        # A closed loop took its waiters with it: there is nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(heard)

    def _results(self, operations: list[Callable[[Books], object]]) -> list[Result]:
        if not operations:
            return []
        try:
            return self._session.run(operations)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must learn of it
            self.trouble = error
            return [Result(error=error)] * len(operations)

    def _resolve(self, outcomes: list[tuple[_Pending, Result]]) -> None:
        for pending, result in outcomes:
            if isinstance(result.error, LedgerUnusable) and not self.unusable.done():
                self.unusable.set_result(result.error)
            _answer(pending, result)


def _answer(pending: _Pending, result: Result) -> None:
    if not pending.future.done():
        if result.error is None:
            pending.future.set_result(result.value)
        else:
            pending.future.set_exception(result.error)
