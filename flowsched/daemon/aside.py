"""Threads for what blocks, which the end of the process waits for no more than it waits for a name server."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Aside(ThreadPoolExecutor):
    """As the class above it, but with daemon threads, and with an end that waits for nothing.

    A look-up of a name, or a read of a secret, may hang for minutes, and a thread cannot be stopped. The
    class above has the interpreter wait for its threads; and asyncio takes no executor of another class.
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
            self._works.put(partial(_carried_out, answer, partial(fn, *args, **kwargs)))
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


def _carried_out(answer: Future[Any], work: Callable[[], Any]) -> Callable[[], None]:
    """Do the work, and return what delivers its answer."""
    if not answer.set_running_or_notify_cancel():
        return lambda: None
    try:
        return partial(answer.set_result, work())
    except BaseException as fault:  # noqa: BLE001 - it is raised where it was asked for
        return partial(answer.set_exception, fault)
