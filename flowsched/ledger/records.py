"""Rows of the tables to records of the model, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from flowsched.model import Attempt, Origin, Outcome, Run, RunState, Source

if TYPE_CHECKING:
    from sqlalchemy import Row

    from flowsched.model import NewRun


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
        "retry": new.retry,
        "deadline": new.deadline,
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
    given: dict[str, Any] = {field.name: getattr(new, field.name) for field in fields(new)}
    return Run(id=id_, instance=None, retry_at=None, attempts=0, updated_at=new.claimed_at, **given)


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
        retry=row.retry,
        deadline=row.deadline,
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
