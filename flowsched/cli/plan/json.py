"""A plan for programs: docs/plan.md says what each key means."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

from flowsched.cli.output import print_json
from flowsched.cli.plan.sides import placed, shown
from flowsched.cli.plan.telling import fire_counts
from flowsched.review.edits import Kind

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.cli.plan.sides import Side, State
    from flowsched.cli.plan.telling import Telling
    from flowsched.model import Schedule
    from flowsched.review.changes import Peaks, Plan
    from flowsched.review.collisions import Collision
    from flowsched.review.edits import Change
    from flowsched.review.outgoing import Outgoing

    Record = dict[str, Any]

VERSION = 1


def show(telling: Telling) -> None:
    """Print one JSON document."""
    plan = telling.plan
    print_json(
        {
            "version": VERSION,
            "ok": plan is not None,
            "at": telling.at,
            "until": telling.until,
            "from": _side(telling.old),
            "to": _side(telling.new),
            "problems": [{"side": side, **dataclasses.asdict(problem)} for side, problem in telling.problems],
            **(_plan(plan, telling) if plan else {}),
        }
    )


def _side(side: Side) -> Record:
    return {
        "name": side.state.name,
        "commit": side.state.commit,
        "revision": side.catalog.revision or None,
    }


def _plan(plan: Plan, telling: Telling) -> Record:
    kinds = Counter(change.kind for change in plan.changes)
    return {
        "summary": {
            **{kind.value: kinds[kind] for kind in Kind},
            "unchanged": plan.unchanged,
            "fires": fire_counts(plan),
        },
        "schedules": [_change(change, telling) for change in plan.changes],
        "collisions": {
            "new": [_collision(each, telling.new.state) for each in plan.collisions],
            "unlisted": plan.collisions_unlisted,
            "resolved": plan.collisions_resolved,
        },
        "warnings": {
            "new": [dataclasses.asdict(placed(each, telling.new.state)) for each in plan.warnings],
            "resolved": plan.warnings_resolved,
        },
        "load": [
            {
                "target": each.target,
                "rate_per_minute": each.rate_per_minute,
                "before": _peaks(each.before),
                "after": _peaks(each.after),
            }
            for each in plan.load
        ],
    }


def _change(change: Change, telling: Telling) -> Record:
    fires = change.fires
    side = telling.new if change.new else telling.old
    return {
        "id": change.id,
        "change": change.kind,
        "former_id": change.old.id if change.old else None,
        "detected": change.detected,
        "starts_anew": change.starts_anew,
        "file": shown(change.schedule.source.file, side.state),
        "line": change.schedule.source.line,
        "keys": [dataclasses.asdict(key) for key in change.keys],
        "gained": {"count": len(fires.gained), "first": _first(fires.gained)},
        "lost": {"count": len(fires.lost), "first": _first(fires.lost)},
        "moved": {
            "count": len(fires.moved),
            "first": (
                {"from": _fire(fires.moved[0].old), "to": _fire(fires.moved[0].new)} if fires.moved else None
            ),
        },
        "dropped": ({**_fire(change.dropped.fire), "reason": change.dropped.why} if change.dropped else None),
        "passed": {"count": len(change.passed), "latest": change.passed[-1] if change.passed else None},
        "next": _fire(change.next) if change.next else None,
    }


def _first(fires: tuple[Outgoing, ...]) -> Record | None:
    return _fire(fires[0]) if fires else None


def _fire(fire: Outgoing) -> Record:
    return {"fire_time": fire.fire_time, "goes_out": fire.goes_out}


def _collision(each: Collision, state: State) -> Record:
    return {
        "sent": _party(each.sent, state),
        "skipped": _party(each.skipped, state),
        "target": each.sent.target,
        "flow": each.sent.flow,
        "count": each.count,
        "first": list(each.first),
        "accepted": each.accepted.reason if each.accepted else None,
    }


def _party(schedule: Schedule, state: State) -> Record:
    return {
        "id": schedule.id,
        "file": shown(schedule.source.file, state),
        "line": schedule.source.line,
    }


def _peaks(peaks: Peaks) -> Record:
    return {
        "minute": _peak(peaks.minute),
        "hour": _peak(peaks.hour),
        "crowded_minutes": peaks.crowded,
    }


def _peak(peak: tuple[datetime, int] | None) -> Record | None:
    return {"at": peak[0], "fires": peak[1]} if peak else None
