"""Rows of the tables to records of the model, and back."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowsched.model import (
    Action,
    ActionKind,
    Alert,
    AlertKind,
    AppliedCatalog,
    Attempt,
    Commit,
    Fired,
    FlowState,
    Message,
    MessageState,
    NewRun,
    Origin,
    Outcome,
    Overlap,
    Pause,
    Run,
    RunState,
    Scope,
    Sent,
    Source,
    Term,
    Timing,
    Watch,
)

if TYPE_CHECKING:
    from sqlalchemy import Row

_GIVEN = tuple(field.name for field in fields(NewRun))
_given = attrgetter(*_GIVEN)
_INSTANTS = ("fire_time", "due_at", "deadline", "claimed_at")


def row_of(new: NewRun) -> dict[str, Any]:
    """Return the values of a row of `runs`, but for its id."""
    return {
        "schedule_id": new.schedule_id,
        "fire_time": new.fire_time,
        "origin": new.origin,
        "state": new.state,
        "reason": new.reason,
        "target": new.target,
        "flow": new.flow,
        "task": new.task,
        "predicted_instance": new.predicted_instance,
        "due_at": new.due_at,
        "retry": new.retry,
        "deadline": new.deadline,
        "overlap": new.overlap,
        "overlap_fallback": new.overlap_fallback,
        "watch": new.watch,
        "note": new.note,
        "attempts": 0,
        "revision": new.revision,
        "source_file": new.source.file,
        "source_line": new.source.line,
        "daemon": new.daemon,
        "claimed_at": new.claimed_at,
        "updated_at": new.claimed_at,
    }


def claimed_run(id_: int, new: NewRun) -> Run:
    """Return the run that a new row has become, as it would be read back."""
    given: dict[str, Any] = dict(zip(_GIVEN, _given(new), strict=True))
    for name in _INSTANTS:
        if given[name].tzinfo is not UTC:
            given[name] = given[name].astimezone(UTC)
    given |= {"instance": None, "retry_at": None, "attempts": 0, "updated_at": given["claimed_at"]}
    return Run(id=id_, **given)


def run_of(row: Row[Any]) -> Run:
    """Return the run that a row of `runs` is."""
    return Run(
        id=row.id,
        schedule_id=row.schedule_id,
        fire_time=row.fire_time,
        origin=Origin(row.origin),
        state=RunState(row.state),
        reason=row.reason,
        target=row.target,
        flow=row.flow,
        task=row.task,
        predicted_instance=row.predicted_instance,
        instance=row.instance,
        due_at=row.due_at,
        retry=row.retry,
        deadline=row.deadline,
        overlap=Overlap(row.overlap),
        overlap_fallback=Overlap(row.overlap_fallback),
        watch=row.watch,
        note=row.note,
        retry_at=row.retry_at,
        attempts=row.attempts,
        revision=row.revision,
        source=Source(row.source_file, row.source_line),
        daemon=row.daemon,
        claimed_at=row.claimed_at,
        updated_at=row.updated_at,
    )


def attempt_of(row: Row[Any]) -> Attempt:
    """Return the attempt that a row of `attempts` is."""
    return Attempt(
        run_id=row.run_id,
        number=row.number,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        http_status=row.http_status,
        code=row.code,
        detail=row.detail,
    )


def sent_of(row: Row[Any]) -> Sent:
    """Return what a row of `attempts`, joined with its run, says of a flow."""
    return Sent(
        target=row.target,
        flow=row.flow,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=None if row.outcome is None else Outcome(row.outcome),
    )


def fired_of(row: Row[Any]) -> Fired:
    """Return the short form of the run that a row of `runs` is."""
    return Fired(
        schedule_id=row.schedule_id,
        fire_time=row.fire_time,
        run_id=row.id,
        origin=Origin(row.origin),
        state=RunState(row.state),
    )


def watch_of(row: Row[Any]) -> Watch:
    """Return the watch that a row of `watches`, joined with its run, is."""
    return Watch(
        run_id=row.run_id,
        schedule_id=row.schedule_id,
        target=row.target,
        flow=row.flow,
        instance=row.instance,
        until=row.until_at,
        state=FlowState(row.state),
        status=row.status,
        started=row.started,
        ended=row.ended,
        updated_at=row.updated_at,
    )


def applied_catalog_of(row: Row[Any]) -> AppliedCatalog:
    """Return the catalog that a row of `catalogs` tells of."""
    commit = None
    if row.commit_id is not None:
        commit = Commit(id=row.commit_id, author=row.author, at=row.committed_at, clean=bool(row.clean))
    return AppliedCatalog(
        revision=row.revision,
        at=row.applied_at,
        schedules=row.schedules,
        enabled=row.enabled,
        commit=commit,
        tz_release=row.tz_release,
    )


def term_of(row: Row[Any]) -> Term:
    """Return the term that a row of `timings` is."""
    return Term(
        schedule_id=row.schedule_id,
        timing=Timing(row.cron, row.timezone, row.starts_at, row.ends_at, row.rules),
        target=row.target,
        flow=row.flow,
        task=row.task,
        from_at=row.from_at,
        cursor_at=row.cursor_at,
        until_at=row.until_at,
        deferred_until=row.deferred_until,
        blackout=row.blackout,
    )


def action_of(row: Row[Any]) -> Action:
    """Return the action that a row of `actions` is."""
    return Action(
        at=row.at,
        by=row.by_whom,
        kind=ActionKind(row.kind),
        subject=row.subject,
        reason=row.reason,
        detail=row.detail,
    )


def pause_of(row: Row[Any]) -> Pause:
    """Return the pause that a row of `pauses` is."""
    return Pause(
        id=row.id,
        scope=Scope(row.scope),
        name=row.name,
        reason=row.reason,
        by=row.by_whom,
        from_at=row.from_at,
        until_at=row.until_at,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
    )


def message_row(message: Message) -> dict[str, Any]:
    """Return the values of a row of `messages`, but for its id."""
    alerts = [asdict(alert) | {"at": alert.at.isoformat()} for alert in message.alerts]
    return {
        "uuid": str(message.identity),
        "channel": message.channel,
        "at": message.at,
        "state": message.state,
        "alerts": json.dumps({"alerts": alerts, "more": dict(message.more)}, separators=(",", ":")),
        "count": message.count,
        "attempts": message.attempts,
        "next_at": message.next_at,
        "done_at": message.done_at,
        "error": message.error,
    }


def message_of(row: Row[Any]) -> Message:
    """Return the message that a row of `messages` is."""
    told = json.loads(row.alerts)
    return Message(
        id=row.id,
        identity=UUID(row.uuid),
        channel=row.channel,
        at=row.at,
        state=MessageState(row.state),
        alerts=tuple(_alert_of(each) for each in told["alerts"]),
        more={AlertKind(kind): count for kind, count in told["more"].items()},
        attempts=row.attempts,
        next_at=row.next_at,
        done_at=row.done_at,
        error=row.error,
    )


def _alert_of(fields_: dict[str, Any]) -> Alert:
    kind, at = AlertKind(fields_["kind"]), datetime.fromisoformat(fields_["at"])
    return Alert(**{**fields_, "kind": kind, "at": at})
