"""Runs inside the box in place of flowsched: the daemon itself, whose start is held until there is a file.

The first argument says where: before the `ledger` is opened, before the `catalog` is put in force, or after
that and before the first of the `alarms` is set. The second is the file.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from flowsched.__main__ import main
from flowsched.ledger import Ledger

open_as_daemon, apply = Ledger.open_as_daemon, Ledger.apply
WHERE, GO = sys.argv[1], Path(sys.argv[2])
HELD = Path("/run/flowsched/held")


async def _held(where: str) -> None:
    if where == WHERE:
        await asyncio.to_thread(HELD.touch)
        while not await asyncio.to_thread(GO.exists):
            await asyncio.sleep(0.05)


async def _open_later(url: str) -> Ledger:
    await _held("ledger")
    return await open_as_daemon(url)


async def _apply_later(self: Ledger, *arguments: Any) -> Any:
    await _held("catalog")
    cursors = await apply(self, *arguments)
    await _held("alarms")
    return cursors


if __name__ == "__main__":
    del sys.argv[1:3]
    Ledger.open_as_daemon = _open_later  # type: ignore[method-assign]
    Ledger.apply = _apply_later  # type: ignore[method-assign, assignment]
    main()
