"""Works that last as long as the daemon: beside each other, and whatever happens to one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from flowsched.errors import LedgerUnusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowsched.clock import Clock
    from flowsched.ledger import Ledger

log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]
"""Begins something that does not end by itself."""

BEGIN_AGAIN = 5.0
"""Seconds from a fault of a work until it is begun again."""

UNWIND = 2.0
"""Real seconds that a work which is not gone on with gets to end in."""


async def lasting(work: Work, clock: Clock) -> None:
    """Keep a work going: where a fault of ours stops it, it is begun again a little later; never ends.

    Each kind of fault is logged once. Raises LedgerUnusable where the work does.
    """
    told: set[tuple[type[Exception], str, int]] = set()
    while True:
        try:
            await work()
        except LedgerUnusable:
            raise
        except Exception as fault:
            if (kind := _kind_of(fault)) not in told:
                told.add(kind)
                log.critical(
                    "a part of the daemon stopped by a fault of flowsched; it is begun again each time",
                    exc_info=True,
                    extra={"after": BEGIN_AGAIN},
                )
        await clock.sleep(BEGIN_AGAIN)


@asynccontextmanager
async def beside(clock: Clock, *works: Work) -> AsyncIterator[None]:
    """Have works go on inside of the block."""
    tasks = [asyncio.create_task(lasting(work, clock)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kept(ledger: Ledger, clock: Clock, *works: Work) -> None:
    """Have works go on until the ledger cannot be used; then raise why."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_raise_when_unusable(ledger))
            for work in works:
                tasks.create_task(lasting(work, clock))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def done_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, and tell whether it was done before `stop` was set; it is not gone on with after that.

    Then it has ended, unless it takes more than UNWIND for that. Raises what the work raises before `stop`.
    """
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        await working
        return True
    working.add_done_callback(lambda it: it.cancelled() or it.exception())  # nobody looks at it
    working.cancel()
    await asyncio.wait({working}, timeout=UNWIND)
    return False


async def _raise_when_unusable(ledger: Ledger) -> None:
    raise await ledger.unusable()


def _kind_of(fault: Exception) -> tuple[type[Exception], str, int]:
    """Return what tells faults apart: their class, and the line that has raised them."""
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(fault), "", 0
    return type(fault), trace.tb_frame.f_code.co_filename, trace.tb_lineno
