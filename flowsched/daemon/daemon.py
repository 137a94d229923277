"""The life of the process: open, take up, fire, drain. Knows no argv and no signals."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flowsched import timeline
from flowsched.engine import Engine
from flowsched.errors import LedgerError
from flowsched.events import nobody
from flowsched.model import MAX_CHANGE, SHORT, Catalog, Phase, ReloadOutcome, RunState
from flowsched.review.guard import MassChange, enabled_timings, mass_change
from flowsched.runner import Runner
from flowsched.threads import in_a_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from flowsched import runner
    from flowsched.clock import Clock
    from flowsched.events import Tell
    from flowsched.ledger import Ledger
    from flowsched.model import Commit

log = logging.getLogger(__name__)

DRAIN = 60.0
"""Real seconds that attempts under way get to end in; twice the default attempt timeout."""

FORGET_EVERY = 3600.0
FORGET_AT_ONCE = 100
FORGET_PAUSE = 0.2
"""Seconds between the rounds of forgetting, runs removed at once, and seconds between two such removals.

So few at once, as a fire that comes meanwhile waits for them; so often, as 10,000 runs a minute may come."""

FORGET_STEP = 60.0
"""Seconds by which the wall clock may be set within a round of forgetting."""


@dataclass(frozen=True, slots=True)
class Held:
    """A catalog that is not put in force: it changes much, and nobody has accepted that."""

    revision: str
    change: MassChange


class Daemon:
    """Keeps one catalog's schedules against one ledger."""

    def __init__(
        self,
        ledger: Ledger,
        gateways: Mapping[str, runner.Gateway],
        clock: Clock,
        max_change: int = MAX_CHANGE,
        tell: Tell = nobody,
    ) -> None:
        self.started_at = clock.now()
        self.name = name_of(self.started_at)
        """As its runs have it."""
        self.phase = Phase.STARTING
        self.runner = Runner(ledger, gateways, clock, tell)
        self.engine = Engine(ledger, self.runner.start, clock, self.name)
        self._ledger = ledger
        self._clock = clock
        self._max_change = max_change
        self._catalog = Catalog({}, "")
        self._applied_at: datetime | None = None
        self._held: Held | None = None

    @property
    def held(self) -> Held | None:
        """The catalog that waits for its acceptance, as of the latest reload; None: there is none."""
        return self._held

    @property
    def catalog(self) -> Catalog:
        """The catalog in force; one without a revision before there is any."""
        return self._catalog

    @property
    def applied_at(self) -> datetime | None:
        """When the catalog in force was put in force; None before there is any."""
        return self._applied_at

    @property
    def commit(self) -> Commit | None:
        """The commit that the catalog in force is of; None where that is not known."""
        return self._catalog.commit

    async def start(self, catalog: Catalog) -> None:
        """Take up what a former process left, then put the catalog in force. Raises LedgerError.

        However much it changes: the one before is not there to be kept. The log says so.
        """
        await self._tell_of_mass_change(catalog)
        await self._work_out(catalog)
        unfinished = await self._ledger.open_runs()
        await self.runner.take_up(unfinished, catalog.schedules)
        await self._apply(
            catalog,
            "daemon ready",
            taken_up=sum(run.state is not RunState.IN_DOUBT for run in unfinished),
            in_doubt=sum(run.state in (RunState.IN_DOUBT, RunState.SENDING) for run in unfinished),
        )
        self.phase = Phase.RUNNING

    async def reload(self, catalog: Catalog, accepted_by: str | None = None) -> ReloadOutcome:
        """Put another catalog in force; runs under way finish as they began. Raises LedgerError.

        One that is in force already changes nothing but its commit. One that changes much
        (`guard.mass_change`) is held, and the one before stays in force, unless `accepted_by` or the ledger
        says who wants it all the same. Returns applied, unchanged or held.
        """
        if catalog.revision == self._catalog.revision:
            if catalog.commit != self._catalog.commit:
                await self._ledger.record(catalog, self._clock.now())
            log.info("catalog unchanged", extra={"revision": catalog.revision})
            self._catalog, self._held = catalog, None
            return ReloadOutcome.UNCHANGED
        change = await in_a_thread(self._mass_change_by, catalog)
        await self._work_out(catalog)
        if change is None:
            await self._apply(catalog, "catalog applied")
        elif by := accepted_by or await self._ledger.accepted_by(catalog.revision):
            await self._apply(catalog, "catalog applied", accepted_by=by)
        else:
            self._hold(Held(catalog.revision, change))
            return ReloadOutcome.HELD
        return ReloadOutcome.APPLIED

    def let_go(self) -> None:
        """Hold nothing any more: what was held is not in the files any more."""
        self._held = None

    async def is_accepted(self) -> bool:
        """Tell whether something is held that somebody has accepted meanwhile. Raises LedgerError."""
        return self._held is not None and await self._ledger.accepted_by(self._held.revision) is not None

    async def forget(self, keep: timedelta, clock_is_off: Callable[[], bool]) -> None:
        """Remove what the ledger has kept long enough, each hour, a little at a time; never ends.

        Not at the start, and not where the clock was set within the hour or `clock_is_off` says that others
        have another time: a clock that is years ahead would have all of the past forgotten.
        """
        while True:
            wall, ticks = self._clock.now(), self._clock.monotonic()
            await self._clock.sleep(FORGET_EVERY)
            now = self._clock.now()
            stepped = (now - wall).total_seconds() - (self._clock.monotonic() - ticks)
            if abs(stepped) > FORGET_STEP or clock_is_off():
                log.warning("old runs are not forgotten this hour, as the clock is in doubt")
                continue
            try:
                await self._forget(now - keep)
            except LedgerError as error:
                log.warning("ledger would not forget old runs", extra={"error": str(error)})

    async def stop(self, halt: asyncio.Event) -> None:
        """Fire no more; let the attempts under way end, for DRAIN seconds or until `halt`; leave the rest."""
        self.phase = Phase.STOPPING
        log.info("daemon stopping", extra={"runs_under_way": self.runner.under_way})
        await self.engine.stop()
        cut_off = await self.runner.drain(DRAIN, halt)
        log.info("daemon stopped", extra={"attempts_cut_off": cut_off})

    def _hold(self, held: Held) -> None:
        self._held = held
        log.error(
            "catalog held until it is accepted, or a restart applies it; the one before stays in force",
            extra={
                "change": str(held.change),
                **asdict(held.change),
                "revision": held.revision,
                "accept": f"flowsched apply --accept {held.revision[:SHORT]}",
            },
        )

    def _mass_change_by(self, catalog: Catalog) -> MassChange | None:
        return mass_change(enabled_timings(self._catalog.schedules), catalog.schedules, self._max_change)

    async def _tell_of_mass_change(self, catalog: Catalog) -> None:
        terms = await self._ledger.terms_in_force()
        before = {id_: term.timing for id_, term in terms.items()}
        change = mass_change(before, catalog.schedules, self._max_change)
        if change is not None and await self._ledger.accepted_by(catalog.revision) is None:
            log.error(
                "catalog changes much since this ledger was last kept; it is put in force all the same,"
                " as the one before is not there any more",
                extra={"change": str(change), **asdict(change), "revision": catalog.revision},
            )

    async def _work_out(self, catalog: Catalog) -> None:
        """Have the closed times worked out beside the loop, where fires wait for nobody."""
        schedules, now = catalog.schedules.values(), self._clock.now()
        await in_a_thread(timeline.work_out_blackouts, schedules, now)

    async def _apply(self, catalog: Catalog, event: str, **more: object) -> None:
        await self.engine.apply(catalog)
        self._catalog, self._held, self._applied_at = catalog, None, self._clock.now()
        log.info(
            event,
            extra={
                "schedules": len(catalog.schedules),
                "enabled": sum(schedule.enabled for schedule in catalog.schedules.values()),
                "revision": catalog.revision,
                **_origin(catalog.commit),
                **more,
                "next_fire": self.engine.next_fire(),
            },
        )

    async def _forget(self, before: datetime) -> None:
        forgotten = 0
        while gone := await self._ledger.forget(before, FORGET_AT_ONCE):
            forgotten += gone
            await self._clock.sleep(FORGET_PAUSE)
        if forgotten:
            log.info("old runs forgotten", extra={"runs": forgotten, "before": before})


def _origin(commit: Commit | None) -> dict[str, object]:
    return {} if commit is None else {"commit": commit.id, "clean": commit.clean}


def name_of(started: datetime) -> str:
    """Return the name of this process as runs have it, unlike that of any other that ever was."""
    return f"{socket.gethostname()}:{os.getpid()}:{started:%Y%m%dT%H%M%S.%fZ}"
