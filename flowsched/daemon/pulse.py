"""Looks every few seconds whether the loop, the ledger and the alarms are alive, and feeds the watchdog."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from flowsched.errors import LedgerError
from flowsched.events import OverdueSeen, nobody
from flowsched.model import Health, Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.events import Tell

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds from one look to the next."""

LOOK_SOON = 1.0
"""Seconds to the next look where something was out of its bounds: it may have been no more than a hiccup."""

LOOP_WITHIN = 10.0
"""Seconds by which the loop may be late for a look."""

LEDGER_WITHIN = 30.0
"""Seconds within which the ledger answers, be it with trouble: it waits 5 s for a lock by default."""

TROUBLE_FOR = 15.0
"""Seconds without trouble after which a ledger has none any more: what it would not take it is asked to take
again after some seconds, and what is smaller it may take meanwhile."""

WOKE_WITHIN = 45.0
"""Seconds within which the alarms are looked at; they are every 15 s (`engine.alarms.LOOK_AGAIN`)."""

OVERDUE_AFTER = timedelta(seconds=60)
"""How long after it should have gone out a fire that is not claimed is overdue."""

OVERDUE_FOR = 60.0
"""Seconds for which it must have been so at each look: after a start there may be much to catch up."""

_NAMED = 5
"""Overdue schedules that a log line names."""


class Alarms(Protocol):
    """What is looked at of the engine."""

    @property
    def woke_at(self) -> float:
        """When it last looked at the clocks, by the monotonic one."""

    def overdue(self, grace: timedelta) -> dict[str, datetime]:
        """Return the schedules with a fire that should have been claimed more than `grace` ago."""


class Beating(Protocol):
    """What is looked at of the daemon."""

    @property
    def phase(self) -> Phase:
        """Where in its life it is; the alarms only ring while it is running."""

    @property
    def engine(self) -> Alarms:
        """Its engine."""


class Answering(Protocol):
    """What is looked at of the ledger."""

    async def ping(self) -> None:
        """Return when its threads have answered; raises LedgerError where one did with trouble."""


class Pulse:
    """How the daemon is, look by look.

    How long something has not answered is counted by looks: the seconds in which the process itself was
    halted (a suspend, a stop) count for nothing, as then nobody could have answered.
    """

    def __init__(
        self,
        daemon: Beating,
        ledger: Answering,
        clock: Clock,
        tell: Tell = nobody,
        *,
        feed: Callable[[], None] = lambda: None,
        watchdog: float | None = None,
    ) -> None:
        """Call `feed` at each look at which all is well; with a `watchdog`, thrice in so many seconds."""
        self._health = Health(loop_lag=0, ledger_latency=None, ledger_error=None, woke_ago=0, alive=True)
        self._looked_at: float | None = None
        self._daemon = daemon
        self._clock = clock
        self._tell = tell
        self._feed = feed
        self._every = LOOK_EVERY if watchdog is None else min(LOOK_EVERY, watchdog / 3)
        self._ledger = _Ledger(ledger, clock)
        self._awake = 0.0
        self._woke = (daemon.engine.woke_at, 0.0)
        self._overdue_since: dict[str, float] = {}
        self._overdue: dict[str, datetime] = {}
        self._faulty = False

    @property
    def health(self) -> Health:
        """As of the latest look; where that should have been followed by another one, nothing is alive."""
        if self._looked_at is None:
            return self._health
        late = self._clock.monotonic() - self._looked_at - self._every
        if late <= LOOP_WITHIN:
            return self._health
        return replace(self._health, loop_lag=max(late, self._health.loop_lag), alive=False)

    async def keep(self) -> None:
        """Look, again and again; never ends."""
        lag = 0.0
        try:
            while True:
                self._look(lag)
                wait = self._every if self._health.alive else min(self._every, LOOK_SOON)
                due = self._clock.monotonic() + wait
                await self._clock.sleep(wait)
                lag = max(0.0, self._clock.monotonic() - due)
                self._awake += wait + min(lag, wait)
        finally:
            self._ledger.ask_no_more()

    def _look(self, lag: float) -> None:
        was_alive = self._health.alive
        self._looked_at = self._clock.monotonic()
        silent = self._ledger.silent_for(self._awake)
        unwoken = self._unwoken_for()
        alive = lag <= LOOP_WITHIN and silent <= LEDGER_WITHIN and unwoken <= WOKE_WITHIN
        self._health = Health(
            loop_lag=lag,
            ledger_latency=self._ledger.latency,
            ledger_error=self._ledger.error,
            woke_ago=max(0.0, self._clock.monotonic() - self._daemon.engine.woke_at),
            alive=alive,
        )
        log.debug("looked at loop, ledger and alarms", extra=asdict(self._health))
        self._ledger.ask(self._awake)
        if alive:
            self._feed()
        if alive is not was_alive:
            self._say(lag, silent, unwoken)
        if self._daemon.phase is Phase.RUNNING:
            self._look_for_overdue()

    def _unwoken_for(self) -> float:
        """Return for how long the alarms were not looked at; zero where nobody has to any more."""
        woke_at, seen = self._daemon.engine.woke_at, self._awake
        if self._daemon.phase is Phase.RUNNING and woke_at == self._woke[0]:
            seen = self._woke[1]
        self._woke = woke_at, seen
        return self._awake - seen

    def _say(self, lag: float, silent: float, unwoken: float) -> None:
        facts = {"loop_lag": round(lag, 3), "ledger_silent": round(silent, 3), "unwoken": round(unwoken, 3)}
        if self._health.alive:
            log.warning("loop, ledger and alarms are alive again", extra=facts)
        else:
            log.error("loop, ledger or alarms do not answer in time; the watchdog is not fed", extra=facts)

    def _look_for_overdue(self) -> None:
        try:
            found = self._daemon.engine.overdue(OVERDUE_AFTER)
        except Exception:
            if not self._faulty:
                log.critical("not known which fires are overdue, by a fault of flowsched", exc_info=True)
            self._faulty = True
            return
        self._faulty = False
        self._overdue_since = {id_: self._overdue_since.get(id_, self._awake) for id_ in found}
        lasting = (id_ for id_, since in self._overdue_since.items() if self._awake - since >= OVERDUE_FOR)
        before, self._overdue = self._overdue, {id_: found[id_] for id_ in lasting}
        self._say_overdue(before)
        self._tell(OverdueSeen(self._clock.now(), dict(self._overdue)))

    def _say_overdue(self, before: dict[str, datetime]) -> None:
        if self._overdue and not before:
            named = sorted(self._overdue, key=lambda id_: (self._overdue[id_], id_))
            log.error(
                "fires are overdue: they should have been claimed by now, and were not",
                extra={
                    "schedules": len(named),
                    "first": ", ".join(named[:_NAMED]),
                    "since": self._overdue[named[0]],
                },
            )
        elif before and not self._overdue:
            log.warning("no fire is overdue any more")


class _Ledger:
    """One question to the ledger after the other, and how long it takes to answer."""

    def __init__(self, ledger: Answering, clock: Clock) -> None:
        self.latency: float | None = None
        """Of the latest question; None: it is not answered yet."""
        self.error: str | None = None
        self._troubled_at = 0.0
        self._ledger = ledger
        self._clock = clock
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    def silent_for(self, awake: float) -> float:
        """Return for how long a question waits; zero: none does. `awake` is as `ask` was given it."""
        if self._asking is None:
            return 0.0
        if not self._asking.done():
            self.latency = None
            return awake - self._asked_at
        return 0.0

    def ask(self, awake: float) -> None:
        """Ask, unless a question still waits."""
        if self._asking is None or self._asking.done():
            self._asked_at = awake
            self._asking = asyncio.create_task(self._ask())

    def ask_no_more(self) -> None:
        """Wait for no answer any more."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        began = self._clock.monotonic()
        error: str | None = None
        try:
            await self._ledger.ping()
        except LedgerError as trouble:
            error = str(trouble)
        except Exception as fault:
            error = f"a fault of flowsched: {type(fault).__name__}"
            log.critical("ledger was not asked how it is, by a fault of flowsched", exc_info=True)
        now = self._clock.monotonic()
        self.latency = now - began
        if error is not None:
            self.error, self._troubled_at = error, now
        elif now - self._troubled_at >= TROUBLE_FOR:
            self.error = None
