"""Tells checks, in the manner of healthchecks.io, how the runs of their schedules go: as well as it can.

A ping is a heartbeat: a lost one is not told later, as it would tell of a time that is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.alerts.lines import secret_of
from flowsched.alerts.pinging import address, ping_of, run_uuid
from flowsched.alerts.posting import ALL_HANG, Post
from flowsched.alerts.tries import Tried
from flowsched.errors import LedgerError, SecretError
from flowsched.model import Origin
from flowsched.threads import AllHang

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowsched.alerts.pinging import Ping
    from flowsched.clock import Clock
    from flowsched.events import Event
    from flowsched.ledger import Ledger
    from flowsched.model import Pings, Run, Schedule

log = logging.getLogger(__name__)

AT_ONCE = 10
"""Pings under way at once."""

MOST_HANGING = 2 * AT_ONCE
"""Threads for pings, those that hang among them."""

MOST_WAITING = 20_000
"""Pings that wait; what comes beyond that is left out."""

OLDEST = 120.0
"""Seconds: a ping that has waited for longer is left out, as a check takes it for what is so now."""

PAUSES = (2.0, 5.0, 10.0)
"""Seconds before each further attempt."""

SAY_AGAIN = 3600.0
"""Seconds in which the same trouble is a line of the log only once."""

LAST_SECONDS = 2.0
"""Real seconds that what is under way gets to end in, when the daemon stops."""

_AGENT = {"Content-Type": "text/plain; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A ping, the check that it is for, and since which second of the monotonic clock it waits."""

    slug: str
    ping: Ping
    since: float


class Pinger:
    """Sends the pings of each schedule one after the other, those of different ones at once."""

    def __init__(
        self,
        pings: Pings,
        ledger: Ledger,
        clock: Clock,
        schedule: Callable[[str], Schedule | None],
        environ: Mapping[str, str],
    ) -> None:
        """`schedule` gives a schedule of the catalog in force by its id."""
        self._pings = pings
        self._ledger = ledger
        self._clock = clock
        self._schedule = schedule
        self._environ = environ
        self._post = Post(pings.ca_file, environment_proxy=pings.environment_proxy, most=MOST_HANGING)
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._count = 0
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()
        """How many for each trouble since the log said so."""

    def hear(self, event: Event) -> None:
        """Take an event; returns at once."""
        ping = ping_of(event)
        schedule = self._schedule(ping.schedule_id) if ping else None
        if ping is None or schedule is None or schedule.ping is None:
            return
        if self._count >= MOST_WAITING:
            self._say(f"more than {MOST_WAITING:,} pings wait", ping)
            return
        self._count += 1
        waiting = _Waiting(schedule.ping, ping, self._clock.monotonic())
        if ping.schedule_id in self._waiting:
            self._waiting[ping.schedule_id].append(waiting)
            return
        self._waiting[ping.schedule_id] = deque([waiting])
        task = asyncio.create_task(self._send_all(ping.schedule_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Stop, within about LAST_SECONDS; what is not sent by then is left out."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_all(self, schedule_id: str) -> None:
        waiting = self._waiting[schedule_id]
        try:
            while waiting:
                each = waiting.popleft()
                self._count -= 1
                await self._send(each)
        except Exception:
            log.critical(
                "pings stopped by a fault of flowsched", exc_info=True, extra={"schedule": schedule_id}
            )
        finally:
            self._count -= len(waiting)
            del self._waiting[schedule_id]

    async def _send(self, waiting: _Waiting) -> None:
        ping = waiting.ping
        if self._is_old(waiting):
            self._say(f"it has waited for more than {OLDEST:.0f} s", ping)
            return
        run = ping.run or await self._run(ping)
        if run is None or run.origin is Origin.BACKFILL:
            return
        tried = await self._tried(waiting, run)
        for pause in PAUSES:
            if tried.ok or tried.final:
                break
            await self._clock.sleep(pause)
            if self._is_old(waiting):
                break
            tried = await self._tried(waiting, run)
        if not tried.ok:
            self._say(tried.detail, ping)

    def _is_old(self, waiting: _Waiting) -> bool:
        return self._clock.monotonic() - waiting.since > OLDEST

    async def _tried(self, waiting: _Waiting, run: Run) -> Tried:
        async with self._places:
            if self._is_old(waiting):
                return Tried(ok=False, detail=f"it has waited for more than {OLDEST:.0f} s", final=True)
            try:
                key = await self._key()
            except SecretError as error:
                return Tried(ok=False, detail=str(error))
            except AllHang:
                return Tried(ok=False, detail=ALL_HANG)
            ping = waiting.ping
            url = address(self._pings.url, key, waiting.slug, ping.signal, run_uuid(run))
            return await self._post(url, ping.text.encode(), _AGENT)

    async def _key(self) -> str | None:
        source = self._pings.key
        if source is None:
            return None
        return await secret_of(source, self._environ, self._post.threads)

    async def _run(self, ping: Ping) -> Run | None:
        try:
            return await self._ledger.run(ping.run_id)
        except LedgerError as error:
            self._say(str(error), ping)
            return None

    def _say(self, why: str, ping: Ping) -> None:
        now = self._clock.monotonic()
        self._left_out[why] += 1
        if now - self._said.get(why, -SAY_AGAIN) >= SAY_AGAIN:
            self._said[why] = now
            log.warning(
                "ping not sent; the same is not said again within the hour",
                extra={
                    "schedule": ping.schedule_id,
                    "run": ping.run_id,
                    "error": why,
                    "left_out": self._left_out.pop(why),
                },
            )
