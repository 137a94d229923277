"""Becoming the one daemon of a ledger, which another process may have just now."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flowsched.daemon.works import done_before
from flowsched.errors import LedgerTaken
from flowsched.ledger import Ledger

if TYPE_CHECKING:
    import asyncio

    from flowsched.clock import Clock
    from flowsched.ops.notify import Systemd

log = logging.getLogger(__name__)

WAIT_AT_MOST = 10.0
"""Seconds for which another process may keep the ledger: most commands without a daemon are done by then."""

ASK_AGAIN = 0.5
"""Seconds between two tries."""


async def ledger_taken(url: str, clock: Clock, stop: asyncio.Event, systemd: Systemd) -> Ledger | None:
    """Open the ledger as its one daemon, and wait for up to `WAIT_AT_MOST` where another process has it.

    None: `stop` was set meanwhile. Raises LedgerTaken where the other process has it still, and what
    `Ledger.open_as_daemon` raises.
    """
    until, said = clock.monotonic() + WAIT_AT_MOST, False
    while True:
        try:
            return await Ledger.open_as_daemon(url)
        except LedgerTaken as taken:
            if clock.monotonic() >= until:
                raise
            if not said:
                said = True
                log.warning("waiting for the ledger", extra={"problem": str(taken), "seconds": WAIT_AT_MOST})
                systemd.status(f"waiting: {taken}")
        if not await done_before(stop, clock.sleep(ASK_AGAIN)):
            return None
