"""The life of the process: open, take up, fire, drain. Knows no argv and no signals."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from flowsched import git, timeline
from flowsched.config import load_catalog, read_secret
from flowsched.engine import Engine
from flowsched.enos import Gateway
from flowsched.errors import ConfigError, GitError, LedgerError, LedgerUnusable
from flowsched.ledger import Ledger
from flowsched.model import MAX_CHANGE, Catalog, RunState
from flowsched.review.guard import MassChange, enabled_timings, mass_change
from flowsched.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from datetime import datetime, timedelta

    from flowsched import runner
    from flowsched.clock import Clock
    from flowsched.model import Commit, Settings, Target

log = logging.getLogger(__name__)

_LOOK_UPS = 64
"""Threads for what blocks, made as they are needed."""

DRAIN = 60.0
"""Real seconds that attempts under way get to end in; twice the default attempt timeout."""

FORGET_EVERY = 3600.0
FORGET_AT_ONCE = 500
FORGET_PAUSE = 1.0
"""Seconds between the rounds of forgetting, runs removed at once, and seconds between two such removals."""

FORGET_STEP = 60.0
"""Seconds by which the wall clock may be set within a round of forgetting."""

RELOAD_PAUSE = 5.0
"""Seconds until the schedules are read again that a ledger would not take just now."""


ACCEPTANCE_PAUSE = 5.0
"""Seconds between two looks whether somebody has accepted the catalog that is held."""

_SHORT = 12
"""Characters of a digest or a commit that people are shown."""

MASS_CHANGE = "mass-change"
"""What the trailer of a commit says that accepts whatever its catalog changes."""


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
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._runner = Runner(ledger, gateways, clock)
        self._engine = Engine(ledger, self._runner.start, clock, _name(clock.now()))
        self._max_change = max_change
        self._catalog = Catalog({}, "")
        self._held: Held | None = None

    @property
    def held(self) -> Held | None:
        """The catalog that waits for its acceptance, as of the latest reload; None: there is none."""
        return self._held

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
        await self._runner.take_up(unfinished, catalog.schedules)
        await self._apply(
            catalog,
            "daemon ready",
            taken_up=sum(run.state is not RunState.IN_DOUBT for run in unfinished),
            in_doubt=sum(run.state in (RunState.IN_DOUBT, RunState.SENDING) for run in unfinished),
        )

    async def reload(self, catalog: Catalog, accepted_by: str | None = None) -> None:
        """Put another catalog in force; runs under way finish as they began. Raises LedgerError.

        One that is in force already changes nothing but its commit. One that changes much
        (`guard.mass_change`) is held, and the one before stays in force, unless `accepted_by` or the ledger
        says who wants it all the same.
        """
        if catalog.revision == self._catalog.revision:
            if catalog.commit != self._catalog.commit:
                await self._ledger.record(catalog, self._clock.now())
            log.info("catalog unchanged", extra={"revision": catalog.revision})
            self._catalog, self._held = catalog, None
            return
        change = mass_change(enabled_timings(self._catalog.schedules), catalog.schedules, self._max_change)
        await self._work_out(catalog)
        if change is None:
            await self._apply(catalog, "catalog applied")
        elif by := accepted_by or await self._ledger.accepted_by(catalog.revision):
            await self._apply(catalog, "catalog applied", accepted_by=by)
        else:
            self._hold(Held(catalog.revision, change))

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
        log.info("daemon stopping", extra={"runs_under_way": self._runner.under_way})
        await self._engine.stop()
        cut_off = await self._runner.drain(DRAIN, halt)
        log.info("daemon stopped", extra={"attempts_cut_off": cut_off})

    def _hold(self, held: Held) -> None:
        self._held = held
        log.error(
            "catalog held until it is accepted, or a restart applies it; the one before stays in force",
            extra={
                "change": str(held.change),
                **asdict(held.change),
                "revision": held.revision,
                "accept": f"flowsched apply --accept {held.revision[:_SHORT]}",
            },
        )

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
        await asyncio.to_thread(timeline.work_out_blackouts, schedules, now)

    async def _apply(self, catalog: Catalog, event: str, **more: object) -> None:
        await self._engine.apply(catalog)
        self._catalog, self._held = catalog, None
        log.info(
            event,
            extra={
                "schedules": len(catalog.schedules),
                "enabled": sum(schedule.enabled for schedule in catalog.schedules.values()),
                "revision": catalog.revision,
                **_origin(catalog.commit),
                **more,
                "next_fire": self._engine.next_fire(),
            },
        )

    async def _forget(self, before: datetime) -> None:
        forgotten = 0
        while gone := await self._ledger.forget(before, FORGET_AT_ONCE):
            forgotten += gone
            await self._clock.sleep(FORGET_PAUSE)
        if forgotten:
            log.info("old runs forgotten", extra={"runs": forgotten, "before": before})


async def serve(  # noqa: PLR0913 - the whole of what a process is made of
    settings: Settings,
    catalog: Catalog,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    halt: asyncio.Event,
    reload: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Keep the schedules of `catalog` until `stop` is set, then drain; `halt` cuts the drain short.

    Each time that `reload` is set, the schedules are read anew; where they have problems, these are logged,
    and what was in force stays in force.

    Raises SecretError or LedgerError where it cannot start, and LedgerUnusable at any time: a daemon whose
    ledger will not come back must be seen to have ended. `ready` is set once schedules are in force.
    """
    # Look-ups of names share the loop's threads, of which there are few by default: those of a target whose
    # name server hangs must not hold up the others.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_LOOK_UPS))
    async with AsyncExitStack() as stack:
        gateways = {name: _gateway(each, settings, environ, clock) for name, each in settings.targets.items()}
        for gateway in gateways.values():
            stack.push_async_callback(gateway.aclose)
        ledger = await Ledger.open_as_daemon(settings.ledger)
        stack.push_async_callback(ledger.aclose)
        daemon = Daemon(ledger, gateways, clock, settings.max_change)
        told = reload or asyncio.Event()
        try:
            if await _done_before(stop, daemon.start(catalog)):
                if ready is not None:
                    ready.set()
                others = gateways.values()
                await _done_before(
                    stop,
                    _kept(
                        ledger,
                        daemon.forget(settings.keep, lambda: any(one.clock_is_off for one in others)),
                        _reload_when_told(daemon, settings, told, clock),
                        _reload_when_accepted(daemon, told, clock),
                    ),
                )
        except LedgerUnusable:
            halt.set()  # what is under way cannot be recorded any more
            raise
        finally:
            await daemon.stop(halt)


async def _kept(ledger: Ledger, *beside: Coroutine[Any, Any, None]) -> None:
    """Do what is to be done beside firing, until the ledger cannot be used; then raise why."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in (*beside, _raise_when_unusable(ledger)):
                tasks.create_task(work)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _reload_when_told(daemon: Daemon, settings: Settings, told: asyncio.Event, clock: Clock) -> None:
    while True:
        await told.wait()
        told.clear()
        try:
            catalog = await asyncio.to_thread(read_catalog, settings)
            trailer = await asyncio.to_thread(_trailer, settings.schedules, daemon.commit, catalog.commit)
            await daemon.reload(catalog, trailer)
        except ConfigError as error:
            daemon.let_go()
            for problem in map(str, error.problems):
                log.error("catalog refused; the one before stays in force", extra={"problem": problem})  # noqa: TRY400
        except LedgerError as error:
            log.error(  # noqa: TRY400 - the text says it all
                "ledger would not take the catalog; trying again", extra={"error": str(error)}
            )
            await clock.sleep(RELOAD_PAUSE)
            told.set()
        except Exception:
            daemon.let_go()
            log.critical("reload stopped by a fault of flowsched", exc_info=True)


async def _reload_when_accepted(daemon: Daemon, told: asyncio.Event, clock: Clock) -> None:
    """Have the schedules read anew once what is held is accepted; they may be others by then."""
    while True:
        await clock.sleep(ACCEPTANCE_PAUSE)
        with suppress(LedgerError):  # whoever writes next tells of it
            if await daemon.is_accepted():
                told.set()


def read_catalog(settings: Settings) -> Catalog:
    """Read the schedules, with the commit that they are of where Git knows it; blocks. Raises ConfigError.

    Git in trouble is a line of the log, and nothing more.
    """
    before = _commit_of(settings.schedules)
    catalog = load_catalog(settings.schedules, settings)
    after = _commit_of(settings.schedules, *sorted(_named_beside(catalog)))
    # Another commit may have been checked out meanwhile: then nobody knows of which the files were.
    if before is None or after is None or before.id != after.id:
        return replace(catalog, commit=None)
    return replace(catalog, commit=replace(after, clean=before.clean and after.clean))


def _named_beside(catalog: Catalog) -> set[str]:
    """Return the files that the schedule files name, which may be hidden ones."""
    blackouts = (each.blackout for each in catalog.schedules.values() if each.blackout)
    return {ical.file for blackout in blackouts for calendar in blackout.calendars for ical in calendar.ical}


def _commit_of(schedules: str, *beside: str) -> Commit | None:
    try:
        return git.commit_of(schedules, *beside)
    except GitError as error:
        log.warning("commit of the schedules is not known", extra={"problem": str(error)})
    except Exception:
        log.critical("commit of the schedules is not known, by a fault of flowsched", exc_info=True)
    return None


def _origin(commit: Commit | None) -> dict[str, object]:
    return {} if commit is None else {"commit": commit.id, "clean": commit.clean}


def _trailer(schedules: str, old: Commit | None, new: Commit | None) -> str | None:
    """Return the commits whose trailer accepts whatever they change, as a text; None: there are none.

    Only where the files are those of the commit.
    """
    if new is None or not new.clean:
        return None
    try:
        repository = git.repository_of(schedules)
        if repository and MASS_CHANGE in git.trailers(repository, old.id if old else None, new.id):
            return f"{git.TRAILER}: {MASS_CHANGE} up to commit {new.id[:_SHORT]}"
    except GitError as error:
        log.warning("trailers of the commits are not known", extra={"problem": str(error)})
    return None


def _gateway(target: Target, settings: Settings, environ: Mapping[str, str], clock: Clock) -> Gateway:
    access_key = read_secret(target.access_key, environ)
    secret_key = read_secret(target.secret_key, environ)
    return Gateway(
        target,
        access_key.reveal(),
        secret_key.reveal(),
        clock,
        clock_tolerance=settings.clock_tolerance,
    )


async def _raise_when_unusable(ledger: Ledger) -> None:
    raise await ledger.unusable()


async def _done_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, and tell whether it was done before `stop` was set; it is not gone on with after that.

    Raises what the work raises.
    """
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        await working
        return True
    working.cancel()
    return False


def _name(started: datetime) -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{started:%Y%m%dT%H%M%S.%fZ}"
