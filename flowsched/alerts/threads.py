"""Threads for what may hang: a name server, a file on a disk that is gone.

They are daemon threads of the alerts' own: neither look-ups for EnOS nor the end of the process wait for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class AllHang(Exception):  # noqa: N818 - it is a state, and reads as one
    """As many threads as there may be have not come back."""


class Threads:
    """Has work done by daemon threads, one for each piece, up to `most` at once."""

    def __init__(self, most: int) -> None:
        self._places = threading.Semaphore(most)

    async def do(self, work: Callable[[], T], seconds: float) -> T:
        """Have it done; whoever is cancelled, or has waited for so many real seconds, leaves it to itself.

        Raises what `work` raises, TimeoutError, and AllHang where no thread is to be had.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        if not self._places.acquire(blocking=False):
            raise AllHang
        try:
            args = (loop, done, work)
            threading.Thread(target=self._carry_out, args=args, name="alerts", daemon=True).start()
        except RuntimeError:  # the machine has none
            self._places.release()
            raise AllHang from None
        async with asyncio.timeout(seconds):
            return await done

    def _carry_out(
        self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], work: Callable[[], T]
    ) -> None:
        try:
            tell = partial(done.set_result, work())
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            tell = partial(done.set_exception, error)
        finally:
            self._places.release()
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(_unless_done, done, tell)


def _unless_done(done: asyncio.Future[Any], tell: Callable[[], None]) -> None:
    if not done.done():
        tell()
