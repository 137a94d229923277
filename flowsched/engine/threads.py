"""Work that takes long, in a thread, so that the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def in_a_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have it done by a thread of its own, and return or raise what comes of it.

    Not by one of the loop's: there are only so many, and look-ups of names that hang may have them all. The
    end of the process does not wait for it. Where the caller is cancelled, it goes on for nobody.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def carry_out() -> None:
        try:
            answer.set_result(work(*args, **kwargs))
        except BaseException as fault:  # noqa: BLE001 - it is raised where it was asked for
            answer.set_exception(fault)

    threading.Thread(target=carry_out, name="engine", daemon=True).start()
    return await asyncio.wrap_future(answer)
