"""Daemon threads for what blocks: neither the loop nor the end of the process waits for one that hangs.

A look-up of a name, or a read of a file, may hang for minutes, and a thread cannot be stopped. `Aside` is for
the loop's own look-ups; what must not wait for those has threads of its own.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def in_a_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have it done by a thread of its own, and return or raise what comes of it.

    Where the caller is cancelled, it goes on for nobody. Where no thread can be had, the loop waits for it:
    this is for work that takes long, and does not hang.
    """
    try:
        answer = begun("flowsched-beside", partial(work, *args, **kwargs))
    except RuntimeError:
        return work(*args, **kwargs)
    return await answer


def begun(name: str, work: Callable[[], T]) -> asyncio.Future[T]:
    """Have it done by a thread of its own and of that name; return what will come of it.

    Raises RuntimeError where no thread can be had.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def carry_out() -> None:
        deliver = _carried_out(answer, work)
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(_delivered, answer, deliver)

    threading.Thread(target=carry_out, name=name, daemon=True).start()
    return answer


class AllHang(Exception):  # noqa: N818 - it is a state, and reads as one
    """As many threads as there may be have not come back."""


class Threads:
    """Has work done by threads, one for each piece, up to `most` at once; none waits for another."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._places = threading.Semaphore(most)

    async def do(self, work: Callable[[], T], seconds: float | None) -> T:
        """Have it done; whoever is cancelled, or has waited for so many real seconds, leaves it to itself.

        None: it is waited for however long it takes. Raises what `work` raises, TimeoutError, and AllHang
        where no thread is to be had.
        """
        if not self._places.acquire(blocking=False):
            raise AllHang
        try:
            answer = begun(self._name, partial(self._carried_out, work))
        except RuntimeError:  # the machine has none
            self._places.release()
            raise AllHang from None
        async with asyncio.timeout(seconds):
            return await answer

    def _carried_out(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._places.release()


class Aside(ThreadPoolExecutor):
    """As the class above it, but with daemon threads, and with an end that waits for nothing.

    The class above has the interpreter wait for its threads; and asyncio takes no executor of another class.
    """

    def __init__(self, most: int) -> None:
        """Make up to `most` threads, each when it is needed."""
        super().__init__(most)
        self._most = most
        self._works: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._made = 0
        self._guard = threading.Lock()
        self._over = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have it done by a thread. Raises RuntimeError after the end, and where no thread can be had."""
        answer: Future[T] = Future()
        with self._guard:
            if self._over:
                raise RuntimeError("nothing is done any more: the process ends")
            if not self._idle.acquire(blocking=False) and self._made < self._most:
                self._make_one()
            self._works.put(partial(_unless_given_up, answer, partial(fn, *args, **kwargs)))
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the class above has it so
        """Take nothing more; what is being done may go on, and nobody waits for it."""
        with self._guard:
            if not self._over:
                self._over = True
                for _ in range(self._made):
                    self._works.put(None)

    def _make_one(self) -> None:
        name = f"aside-{self._made}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError:
            if not self._made:
                raise
        else:
            self._made += 1

    def _work(self) -> None:
        while (carried_out := self._works.get()) is not None:
            deliver = carried_out()
            # Before that, as whoever waits for it may ask for the next thing at once.
            self._idle.release()
            deliver()
            del carried_out, deliver  # they hold the answer


def _unless_given_up(answer: Future[T], work: Callable[[], T]) -> Callable[[], None]:
    return _carried_out(answer, work) if answer.set_running_or_notify_cancel() else lambda: None


def _carried_out(answer: Future[T] | asyncio.Future[T], work: Callable[[], T]) -> Callable[[], None]:
    """Do the work, and return what delivers its answer."""
    try:
        return partial(answer.set_result, work())
    except StopIteration as fault:  # no future takes it
        return partial(answer.set_exception, RuntimeError(f"StopIteration({fault})"))
    except BaseException as fault:  # noqa: BLE001 - it is raised where it was asked for
        return partial(answer.set_exception, fault)


def _delivered(answer: asyncio.Future[T], deliver: Callable[[], None]) -> None:
    if not answer.done():
        deliver()
