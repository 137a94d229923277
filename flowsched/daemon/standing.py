"""How the daemon stands, kept in memory: whoever asks gets an answer while the ledger gives none."""

from __future__ import annotations

import heapq
import logging
from asyncio import Event as Flag
from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from flowsched import __version__
from flowsched.admission import is_over
from flowsched.causes import Cause, cause_of
from flowsched.daemon.pulse import OVERDUE_AFTER
from flowsched.errors import LedgerError, LedgerUnusable
from flowsched.events import AlertDone, OverdueSeen, Reloaded, RunMoved
from flowsched.ledger import LEDGER_PAUSE
from flowsched.model import (
    AFTER_THE_OTHERS,
    MOST_SHOWN,
    Late,
    MessageState,
    RunState,
    Status,
    TargetStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from datetime import datetime, timedelta

    from flowsched.clock import Clock
    from flowsched.daemon.daemon import Held
    from flowsched.events import Event
    from flowsched.model import Catalog, Commit, Health, Pause, Phase, Reload, Run, Unsent, Upcoming

log = logging.getLogger(__name__)

NEXT = 10
"""Schedules whose next fire is shown."""

_AT_ONCE = 200
"""Schedules whose last success is asked for at once, so that others get their turn with the ledger."""


class Ahead(Protocol):
    """What is shown of the engine."""

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """The pauses that it knows of; some of them may be over."""

    def upcoming(self, count: int) -> Sequence[Upcoming]:
        """Return the next fire of each schedule, the first so many of them."""


class Carrying(Protocol):
    """What is shown of the runner."""

    def waits_for(self, run: Run) -> str | None:
        """Say what a run that is due waits for; None: not known."""


class Standing(Protocol):
    """What is shown of the daemon; `Daemon` is one."""

    @property
    def name(self) -> str:
        """As its runs have it."""

    @property
    def started_at(self) -> datetime:
        """When it began."""

    @property
    def phase(self) -> Phase:
        """Where in its life it is."""

    @property
    def catalog(self) -> Catalog:
        """The catalog in force."""

    @property
    def applied_at(self) -> datetime | None:
        """When it was put in force."""

    @property
    def commit(self) -> Commit | None:
        """What it is of."""

    @property
    def held(self) -> Held | None:
        """The catalog that waits to be accepted."""

    @property
    def engine(self) -> Ahead:
        """Its engine."""

    @property
    def runner(self) -> Carrying:
        """What carries its runs."""


class Read(Protocol):
    """What is shown of the readings of the schedules; `Reloads` is one."""

    @property
    def latest(self) -> Reload | None:
        """What came of the latest one."""


class Target(Protocol):
    """What is shown of a target; `enos.Gateway` is one."""

    @property
    def token_age(self) -> timedelta | None:
        """How long ago its token was granted."""

    @property
    def clock_offset(self) -> timedelta | None:
        """How far its clock is ahead of ours."""

    @property
    def clock_is_off(self) -> bool:
        """Whether that is too far."""

    @property
    def held_by(self) -> str | None:
        """The limit that calls wait for just now."""

    @property
    def unsent(self) -> Unsent | None:
        """How the latest call came not to be sent."""


class Books(Protocol):
    """What is asked of the ledger, at the start and after a reload; `Ledger` is one."""

    async def open_runs(self) -> Sequence[Run]:
        """Return every run that is not final."""

    async def last_successes(self, schedule_ids: Sequence[str]) -> Mapping[str, datetime]:
        """Return the latest fire time that each schedule has triggered."""


class Board:
    """Hears of all that happens, and says at any time how things stand."""

    def __init__(
        self,
        daemon: Standing,
        reloads: Read,
        health: Callable[[], Health],
        targets: Mapping[str, Target],
        ledger: Books,
        clock: Clock,
    ) -> None:
        self._daemon = daemon
        self._reloads = reloads
        self._health = health
        self._targets = targets
        self._ledger = ledger
        self._clock = clock
        self._open: dict[int, Run] = {}
        self._doubted: dict[int, datetime] = {}
        """Of those that are in doubt, since when."""
        self._recent: deque[Run] = deque(maxlen=MOST_SHOWN)
        self._moved: set[int] | None = set()
        """The runs heard of while the open ones are being read; None afterwards."""
        self._last_success: dict[str, datetime] = {}
        self._handed_out = False
        """Whether a status has them, and so they change in a copy."""
        self._looked_up: set[str] = set()
        """The schedules whose last success is known, or known not to be."""
        self._overdue: Mapping[str, datetime] = {}
        self._failed = 0
        self._broken_channels: dict[str, datetime] = {}
        self._wanted = Flag()
        self._enabled = (daemon.catalog, 0)
        self._successes_of = daemon.catalog

    def hear(self, event: Event) -> None:
        """Note what has happened."""
        match event:
            case RunMoved(run=run):
                self._note(run)
            case OverdueSeen(since=since):
                self._overdue = since
            case AlertDone(channel=channel, outcome=MessageState.PENDING | MessageState.FAILED):
                self._broken_channels.setdefault(channel, self._clock.now())
            case AlertDone(channel=channel, outcome=MessageState.SENT):
                self._broken_channels.pop(channel, None)
            case Reloaded():
                self._wanted.set()
            case _:
                pass

    async def keep(self) -> None:
        """Read what the ledger holds already, and again for schedules that are new; never ends.

        Until it is read, only what was heard since the start is known. Raises LedgerUnusable.
        """
        await self._insist(self._read_open_runs)
        while True:
            await self._insist(self._read_last_successes)
            await self._wanted.wait()
            self._wanted.clear()

    def status(self) -> Status:
        """Return how the daemon stands; asks nobody, and waits for nothing."""
        now, daemon = self._clock.now(), self._daemon
        under_way = tuple(heapq.nsmallest(MOST_SHOWN, self._open.values(), key=_by_fire_time))
        return Status(
            at=now,
            version=__version__,
            daemon=daemon.name,
            started_at=daemon.started_at,
            phase=daemon.phase,
            revision=daemon.catalog.revision,
            commit=daemon.commit,
            applied_at=daemon.applied_at,
            schedules=len(daemon.catalog.schedules),
            enabled=self._enabled_of(daemon.catalog),
            reload=self._reloads.latest,
            held=daemon.held.revision if daemon.held else None,
            upcoming=tuple(daemon.engine.upcoming(NEXT)),
            counts=self._counts(),
            under_way=under_way,
            recent=tuple(self._recent),
            pauses=tuple(each for each in daemon.engine.pauses if not is_over(each, now)),
            overdue=dict(self._overdue),
            last_success=self._successes(daemon.catalog),
            targets=tuple(_target_status(name, target) for name, target in self._targets.items()),
            health=self._health(),
            failed=self._failed,
            broken_channels=dict(self._broken_channels),
            in_doubt_since=min(self._doubted.values(), default=None),
            waits_for={run.id: what for run in under_way if (what := daemon.runner.waits_for(run))},
            late=self._late(now),
        )

    def _note(self, run: Run) -> None:
        if self._moved is not None:
            self._moved.add(run.id)
        self._note_doubt(run)
        if not run.state.final:
            self._open[run.id] = run
            return
        self._open.pop(run.id, None)
        self._recent.appendleft(run)
        if run.state is RunState.FAILED and cause_of(run.state, run.reason) is not Cause.BY_HAND:
            self._failed += 1
        if run.state is RunState.TRIGGERED:
            self._note_success(run.schedule_id, run.fire_time)

    def _note_doubt(self, run: Run) -> None:
        if run.state is not RunState.IN_DOUBT:
            self._doubted.pop(run.id, None)
        else:  # one that stays so with another reason has been so before
            self._doubted.setdefault(run.id, run.updated_at)

    def _note_success(self, schedule_id: str, fire_time: datetime) -> None:
        if schedule_id not in self._daemon.catalog.schedules:
            self._looked_up.discard(schedule_id)  # it may come back
            return
        known = self._last_success.get(schedule_id)
        if self._handed_out:
            self._last_success, self._handed_out = dict(self._last_success), False
        self._last_success[schedule_id] = fire_time if known is None else max(known, fire_time)

    async def _read_open_runs(self) -> None:
        for run in await self._ledger.open_runs():
            if self._moved is not None and run.id not in self._moved:
                self._open[run.id] = run
                self._note_doubt(run)
        self._moved = None

    async def _read_last_successes(self) -> None:
        schedules = self._daemon.catalog.schedules
        gone = self._looked_up - schedules.keys()
        self._looked_up -= gone
        new = sorted(schedules.keys() - self._looked_up)
        for first in range(0, len(new), _AT_ONCE):
            some = new[first : first + _AT_ONCE]
            for id_, fire_time in (await self._ledger.last_successes(some)).items():
                self._note_success(id_, fire_time)
            self._looked_up.update(some)

    async def _insist(self, read: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            try:
                return await read()
            except LedgerUnusable:
                raise
            except LedgerError as error:
                log.warning("ledger would not tell how things stand", extra={"error": str(error)})
            await self._clock.sleep(LEDGER_PAUSE)

    def _counts(self) -> dict[RunState, int]:
        counts = Counter(run.state for run in self._open.values())
        return {state: counts[state] for state in RunState if not state.final}

    def _late(self, now: datetime) -> Late | None:
        bound = now - OVERDUE_AFTER  # asked first: of very many that are due at once none is late
        late = (run for run in self._open.values() if run.due_at < bound and run.state is RunState.CLAIMED)
        found = [run for run in late if run.origin not in AFTER_THE_OTHERS]
        if not found:
            return None
        first = min(found, key=lambda run: (run.due_at, run.id))
        return Late(len(found), first.due_at, self._daemon.runner.waits_for(first))

    def _successes(self, catalog: Catalog) -> Mapping[str, datetime]:
        """Return those of a catalog; they stay as they are then."""
        if self._successes_of is not catalog:
            ids = catalog.schedules.keys() & self._last_success.keys()
            self._last_success = {id_: self._last_success[id_] for id_ in ids}
            self._successes_of = catalog
        self._handed_out = True
        return self._last_success

    def _enabled_of(self, catalog: Catalog) -> int:
        """Return how many schedules are enabled, counted once for each catalog."""
        if self._enabled[0] is not catalog:
            self._enabled = catalog, sum(each.enabled for each in catalog.schedules.values())
        return self._enabled[1]


def _by_fire_time(run: Run) -> tuple[datetime, int]:
    return run.fire_time, run.id


def _target_status(name: str, target: Target) -> TargetStatus:
    return TargetStatus(
        name=name,
        token_age=target.token_age,
        clock_offset=target.clock_offset,
        clock_is_off=target.clock_is_off,
        held_by=target.held_by,
        unsent=target.unsent,
    )
