"""Names of the users of this machine, which its register may take long to tell, or never."""

from __future__ import annotations

import asyncio
import pwd
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flowsched.control.who import is_unknown
from flowsched.threads import AllHang, Threads

LOOK_UP = 2.0
"""Real seconds that the register of users gets to name one."""

KEPT = 300.0
"""Real seconds for which a name is not asked for again."""

MOST_AT_ONCE = 8
"""Names that are asked for at once; who comes then is known by his number."""

MOST_KEPT = 1_000
"""Users whose names are kept."""

_OVERFLOW = 65_534
"""What the kernel shows for users of another user namespace, unless it was told otherwise."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question to the register."""

    at: float
    """By the clock of the event loop."""
    name: asyncio.Future[str]


class Logins:
    """Asks for each name once in a while; of one that hangs, only once."""

    def __init__(self) -> None:
        self._asked: dict[int, _Asked] = {}
        # Not the loop's own, which look-ups for EnOS that hang may have all of.
        self._threads = Threads("flowsched-logins", MOST_AT_ONCE)

    async def name_of(self, uid: int) -> str | None:
        """Return the name of a user; None for one of another user namespace.

        The number where there is no name, or the register has not told it within LOOK_UP.
        """
        if is_unknown(uid, int(_kernel("sys/kernel/overflowuid") or _OVERFLOW), _kernel("self/uid_map")):
            return None
        asked = self._question(uid)
        left = asked.at + LOOK_UP - asyncio.get_running_loop().time()
        await asyncio.wait({asked.name}, timeout=max(0.0, left))
        with suppress(KeyError, OSError, AllHang, asyncio.InvalidStateError, asyncio.CancelledError):
            return asked.name.result()
        return str(uid)

    def _question(self, uid: int) -> _Asked:
        """Return the question that counts: it still hangs, or it was answered not long ago."""
        loop = asyncio.get_running_loop()
        asked = self._asked.get(uid)
        if asked is None or (asked.name.done() and loop.time() >= asked.at + KEPT):
            if len(self._asked) >= MOST_KEPT:
                self._asked.clear()
            asked = self._asked[uid] = _Asked(loop.time(), asyncio.ensure_future(self._register(uid)))
        return asked

    async def _register(self, uid: int) -> str:
        return (await self._threads.do(partial(pwd.getpwuid, uid), None)).pw_name


def _kernel(what: str) -> str:
    """Return what a file below /proc says; empty where it cannot be read."""
    try:
        return Path("/proc", what).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
