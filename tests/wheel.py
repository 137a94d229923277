"""A wheel for tests that does what it is told, and remarks who asked for what; and a status to show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flowsched.control.history import NotFoundError, RunsFound
from flowsched.control.words import no_run
from flowsched.model import (
    Action,
    ActionKind,
    AppliedCatalog,
    Health,
    Pause,
    Phase,
    Reload,
    ReloadOutcome,
    RunState,
    Scope,
    Status,
    TargetStatus,
    Upcoming,
)
from tests.builders import a_run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from flowsched.control.history import RunsWanted
    from flowsched.model import Origin, Run

NOW = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
REVISION = "3f2a1c77b0de" + 52 * "0"

HEALTH = Health(loop_lag=0.001, ledger_latency=0.0004, ledger_error=None, woke_ago=3.0, alive=True)

RELOAD = Reload(
    outcome=ReloadOutcome.APPLIED, at=NOW, why="start", revision=REVISION, commit=None, problems=()
)

PAUSE = Pause(
    id=1,
    scope=Scope.SCHEDULE,
    name="nightly",
    reason="maintenance",
    by="bob",
    from_at=NOW,
    until_at=NOW + timedelta(hours=2),
    ended_at=None,
    ended_by=None,
)

_NEXT = Upcoming(
    schedule_id="nightly-wind-report",
    fire_time=NOW + timedelta(minutes=5),
    out_at=NOW + timedelta(minutes=5),
    paused=False,
)

_TARGET = TargetStatus(name="default", token_age=timedelta(minutes=2), clock_offset=None, clock_is_off=False)

_STATUS = Status(
    at=NOW,
    version="1.2.3",
    daemon="host:1:start",
    started_at=NOW - timedelta(hours=3),
    phase=Phase.RUNNING,
    revision=REVISION,
    commit=None,
    applied_at=NOW - timedelta(hours=1),
    schedules=128,
    enabled=128,
    reload=RELOAD,
    held=None,
    upcoming=(_NEXT,),
    counts={RunState.SENDING: 3},
    under_way=(),
    recent=(),
    pauses=(),
    overdue={},
    last_success={"nightly": NOW - timedelta(hours=9)},
    targets=(_TARGET,),
    health=HEALTH,
)


def a_status(**more: Any) -> Status:
    return replace(_STATUS, **more)


def an_upcoming(schedule_id: str = "nightly", **more: Any) -> Upcoming:
    return replace(_NEXT, schedule_id=schedule_id, **more)


class RemarkingWheel:
    """Remarks each call as (name, arguments); `fails` is raised instead of an answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.now = a_status()
        self.fails: Exception | None = None
        self.found: Run | None = a_run()
        self.before_the_answer: Callable[[], Awaitable[object]] | None = None

    def status(self) -> Status:
        if self.fails is not None:
            raise self.fails
        return self.now

    def health(self) -> Health:
        if self.fails is not None:
            raise self.fails
        return self.now.health

    async def reload(self, by: str, *, wait: bool = True) -> Reload | None:
        await self._remark("reload", by, wait)
        return RELOAD if wait else None

    async def accept(self, digest: str, by: str, reason: str | None) -> Reload:
        await self._remark("accept", digest, by, reason)
        return RELOAD

    async def trigger(
        self, schedule_id: str, at: datetime | None, origin: Origin, by: str, reason: str | None
    ) -> Run:
        await self._remark("trigger", schedule_id, at, origin, by, reason)
        return a_run()

    async def fires(
        self, schedule_id: str, from_: datetime, to: datetime, every: int
    ) -> Sequence[tuple[datetime, Run | None]]:
        await self._remark("fires", schedule_id, from_, to, every)
        return [(from_, None), (to, a_run())]

    async def pause(
        self, scope: Scope, name: str | None, until: datetime | None, by: str, reason: str
    ) -> tuple[Pause, Sequence[Run]]:
        await self._remark("pause", scope, name, until, by, reason)
        return PAUSE, [a_run()]

    async def resume(self, scope: Scope, name: str | None, by: str, reason: str | None) -> Sequence[Pause]:
        await self._remark("resume", scope, name, by, reason)
        return [PAUSE]

    async def cancel(self, run_id: int, by: str, reason: str) -> tuple[Run, str]:
        await self._remark("cancel", run_id, by, reason)
        return a_run(), "it is not sent"

    async def resolve(self, run_id: int, state: RunState, by: str, reason: str) -> Run:
        await self._remark("resolve", run_id, state, by, reason)
        return a_run()

    async def runs(self, wanted: RunsWanted) -> RunsFound:
        await self._remark("runs", wanted)
        if self.found is None:
            raise NotFoundError(no_run(wanted.run_id or 0))
        return RunsFound([self.found], {}, {self.found.id: []} if wanted.attempts else None, [])

    async def actions(self, limit: int) -> Sequence[Action]:
        await self._remark("actions", limit)
        return [
            Action(at=NOW, by="bob", kind=ActionKind.PAUSE, subject="nightly", reason="why", detail="paused")
        ]

    async def catalogs(self, limit: int) -> Sequence[AppliedCatalog]:
        await self._remark("catalogs", limit)
        return [
            AppliedCatalog(revision=REVISION, at=NOW, schedules=2, enabled=1, commit=None, tz_release=None)
        ]

    async def alert_test(self, channel: str | None, by: str) -> Sequence[Mapping[str, object]]:
        await self._remark("alert_test", channel, by)
        return [{"channel": "mail", "arrived": True}]

    async def _remark(self, *asked: object) -> None:
        self.asked.append(asked)
        if self.before_the_answer is not None:
            await self.before_the_answer()
        if self.fails is not None:
            raise self.fails
