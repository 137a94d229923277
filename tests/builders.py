"""Records for tests: valid ones, with only what a test is about spelled out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from flowsched.model import (
    Answer,
    Blackout,
    Calendar,
    CatchUp,
    FlowState,
    Limits,
    NewRun,
    Origin,
    Outcome,
    Overlap,
    RetryPolicy,
    Run,
    RunState,
    Schedule,
    SecretSource,
    Seen,
    Sighting,
    Source,
    Span,
    Target,
    Then,
    Timing,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)

RETRY = RetryPolicy(
    max_attempts=5,
    initial_backoff=timedelta(seconds=2),
    multiplier=2,
    max_backoff=timedelta(minutes=5),
    deadline=timedelta(minutes=15),
    attempt_timeout=timedelta(seconds=30),
)

_SCHEDULE = Schedule(
    id="nightly",
    timing=Timing("30 2 * * *", "UTC"),
    flow=3377,
    task=None,
    target="default",
    enabled=True,
    retry=RETRY,
    catch_up=CatchUp.LATEST,
    catch_up_window=timedelta(hours=1),
    overlap=Overlap.QUEUE,
    overlap_fallback=Overlap.QUEUE,
    jitter=timedelta(0),
    watch=None,
    renamed_from=None,
    blackout=None,
    accept=(),
    description=None,
    owner=None,
    source=Source("schedules/a.yaml", 3),
)

_NEW_RUN = NewRun(
    schedule_id="nightly",
    fire_time=T0,
    origin=Origin.SCHEDULE,
    state=RunState.CLAIMED,
    reason=None,
    target="default",
    flow=3377,
    task=None,
    predicted_instance="3377-20260101000000",
    retry=RETRY,
    due_at=T0,
    deadline=T0 + RETRY.deadline,
    overlap=Overlap.QUEUE,
    overlap_fallback=Overlap.QUEUE,
    watch=None,
    revision="r1",
    source=Source("schedules/a.yaml", 3),
    daemon="host:1:start",
    claimed_at=T0,
)

_RUN = Run(
    id=1,
    schedule_id="nightly",
    fire_time=T0,
    origin=Origin.SCHEDULE,
    state=RunState.SENDING,
    reason=None,
    target="default",
    flow=3377,
    task=None,
    predicted_instance="3377-20260101000000",
    instance=None,
    retry=RETRY,
    due_at=T0,
    deadline=T0 + RETRY.deadline,
    overlap=Overlap.QUEUE,
    overlap_fallback=Overlap.QUEUE,
    watch=None,
    note=None,
    retry_at=None,
    attempts=1,
    revision="r1",
    source=Source("schedules/a.yaml", 3),
    daemon="host:1:start",
    claimed_at=T0,
    updated_at=T0,
)

_TARGET = Target(
    name="default",
    url="http://127.0.0.1:1",
    api_version="v2.1",
    org_id="o1578468179",
    user_id="u15426865866571",
    access_key=SecretSource("env", "ENOS_ACCESS_KEY"),
    secret_key=SecretSource("env", "ENOS_SECRET_KEY"),
    limits=Limits(concurrency=20, rate_per_minute=None),
    ca_file=None,
    environment_proxy=False,
    source=Source("flowsched.yaml", 4),
)


def a_schedule(id: str = "nightly", cron: str = "30 2 * * *", zone: str = "UTC", **more: Any) -> Schedule:  # noqa: A002
    bounds = {name: more.pop(name, None) for name in ("starts_at", "ends_at")}
    return replace(_SCHEDULE, id=id, timing=Timing(cron, zone, **bounds), **more)


def a_new_run(**more: Any) -> NewRun:
    return replace(_NEW_RUN, **more)


def a_run(**more: Any) -> Run:
    return replace(_RUN, **more)


def a_target(**more: Any) -> Target:
    return replace(_TARGET, **more)


def an_answer(outcome: Outcome, detail: str = "because", **more: Any) -> Answer:
    made = {"instance": "3377-20260101000000"} if outcome is Outcome.ACCEPTED else {}
    return Answer(outcome=outcome, detail=detail, **{**made, **more})


def found(flow: FlowState = FlowState.GOING, status: int | None = 2, **more: Any) -> Sighting:
    return Sighting(seen=Seen.FOUND, detail=f"the instance is {flow}", flow=flow, status=status, **more)


def absent() -> Sighting:
    return Sighting(seen=Seen.ABSENT, detail="EnOS has no such instance")


def unclear(detail: str = "HTTP 503") -> Sighting:
    return Sighting(seen=Seen.UNCLEAR, detail=detail)


def closed(
    *spans: tuple[datetime, datetime], then: Then = Then.SKIP, name: str = "freeze", **more: Any
) -> Blackout:
    calendar = Calendar(
        name=name,
        description=None,
        timezone=None,
        spans=tuple(Span(start, end) for start, end in spans),
        source=Source("schedules/calendars.yaml", 2),
        **more,
    )
    return Blackout((calendar,), then)


def deferred(*spans: tuple[datetime, datetime], **more: Any) -> Blackout:
    return closed(*spans, then=Then.DEFER, **more)
