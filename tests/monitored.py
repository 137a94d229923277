"""A daemon as a page of metrics sees it: a status, a catalog, events, and what the page then says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from flowsched.events import AlertDone, FirstByte, FlowMoved, Reloaded, RunMoved
from flowsched.model import (
    Alerts,
    Catalog,
    Channel,
    Commit,
    FlowState,
    Health,
    MessageState,
    Origin,
    Outcome,
    Pause,
    Phase,
    Reload,
    ReloadOutcome,
    RunState,
    Scope,
    SecretSource,
    Settings,
    Slack,
    Status,
    TargetStatus,
    Upcoming,
    Watch,
)
from flowsched.ops.metrics import Metrics
from tests.builders import T0, a_run, a_schedule, a_target, an_answer
from tests.fakes import HandClock

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Run, Schedule, Term

ROOT = Path(__file__).parents[1]

CHANNEL = Channel(name="night", on=frozenset(), way=Slack(url=SecretSource("env", "SLACK")))

SETTINGS = Settings(
    file="flowsched.yaml",
    schedules="schedules",
    ledger="sqlite:///ledger.db",
    keep=timedelta(days=400),
    clock_tolerance=timedelta(seconds=30),
    targets={name: a_target(name=name) for name in ("default", "on-site")},
    alerts=Alerts(
        group_wait=timedelta(seconds=30),
        repeat=timedelta(hours=4),
        rate_per_hour=20,
        ca_file=None,
        environment_proxy=False,
        channels={"night": CHANNEL},
    ),
)

STATUS = Status(
    at=T0,
    version="0.1.0",
    daemon="host:1:start",
    started_at=T0,
    phase=Phase.RUNNING,
    revision="3f2a1c" * 10,
    commit=Commit(id="abcdef" * 6, author="A <a@b>", at=T0, clean=True),
    applied_at=T0,
    schedules=2,
    enabled=1,
    reload=None,
    held=None,
    upcoming=(Upcoming(schedule_id="nightly", fire_time=T0, out_at=T0 + timedelta(hours=2), paused=False),),
    counts={RunState.IN_DOUBT: 1},
    under_way=(),
    recent=(),
    pauses=(),
    overdue={},
    last_success={},
    targets=(
        TargetStatus(
            name="default",
            token_age=timedelta(minutes=7),
            clock_offset=timedelta(seconds=-2),
            clock_is_off=False,
        ),
        TargetStatus(name="on-site", token_age=None, clock_offset=None, clock_is_off=True),
    ),
    health=Health(loop_lag=0.25, ledger_latency=0.5, ledger_error=None, woke_ago=3, alive=True),
)


class Monitored:
    """Metrics over a status and a catalog that a test sets."""

    def __init__(self, *schedules: Schedule, status: Status = STATUS) -> None:
        self.clock = HandClock(T0)
        self.status = status
        self.metrics = Metrics(SETTINGS, lambda: self.status, lambda: self.catalog, self.clock)
        self.force(*schedules)

    def force(self, *schedules: Schedule) -> None:
        """Put a catalog in force."""
        self.catalog = Catalog({each.id: each for each in schedules}, f"revision of {schedules}")

    def knows(self, term: Term, *pauses: Pause, kept_from: datetime | None = None) -> None:
        """Let it find this in the ledger."""
        self.metrics._successes.load([term], pauses, kept_from)

    def stands(self, **more: Any) -> None:
        self.status = replace(self.status, **more)

    def ends(self, state: RunState, reason: str | None = None, **more: Any) -> None:
        self.metrics.hear(RunMoved(a_run(state=state, reason=reason, **more)))

    async def expected(self, id_: str = "nightly") -> float | None:
        """Return by when the schedule should have succeeded, as the page has it after a look."""
        await self.metrics.look()
        name = "flowsched_schedule_success_expected_timestamp_seconds"
        return self.page().get((name, (("schedule", id_),)))

    def page(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Return each sample by its name and labels."""
        text = self.metrics.page()[0].decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.page().get((name, tuple(sorted(labels.items()))))


def everything() -> Monitored:
    """Return a page on which every family has a sample."""
    seen = Monitored(a_schedule(), a_schedule("other", enabled=False))
    reload = Reload(outcome=ReloadOutcome.APPLIED, at=T0, why="start", revision="x", commit=None, problems=())
    seen.stands(reload=reload, pauses=(a_pause(),), last_success={"nightly": T0}, in_doubt_since=T0)
    for event in (
        RunMoved(a_run(state=RunState.TRIGGERED), an_answer(Outcome.ACCEPTED)),
        FirstByte(a_run(), T0 + timedelta(seconds=3)),
        FlowMoved(a_watch(FlowState.LATE)),
        Reloaded(reload),
        AlertDone("night", MessageState.SENT),
    ):
        seen.metrics.hear(event)
    return seen


def a_pause(**more: Any) -> Pause:
    pause = Pause(
        id=1,
        scope=Scope.SCHEDULE,
        name="other",
        reason="works",
        by="bob",
        from_at=T0 - timedelta(days=2),
        until_at=None,
        ended_at=None,
        ended_by=None,
    )
    return replace(pause, **more)


def a_watch(state: FlowState) -> Watch:
    return Watch(
        run_id=1,
        schedule_id="nightly",
        target="default",
        flow=3377,
        instance="3377-1",
        until=T0,
        state=state,
        status=None,
        started=None,
        ended=None,
        updated_at=T0,
    )


def first_byte(late: timedelta, origin: Origin = Origin.SCHEDULE, **more: Any) -> FirstByte:
    run: Run = a_run(origin=origin, **more)
    return FirstByte(run, run.due_at + late)


def promtool() -> str | None:
    """Return the path of promtool, which comes with Prometheus; None: it is not on this machine."""
    return shutil.which("promtool")
