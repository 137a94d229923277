"""Records as plain JSON: instants as stamps, spans in seconds, enums as their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from flowsched.control.words import needs, sentence
from flowsched.model import MOST_SHOWN, RunState, Source
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from flowsched.model import Action, AppliedCatalog, Attempt, Commit, Pause, Reload, Run, Status, Watch

_TO_BE_SENT = (RunState.CLAIMED, RunState.WAITING)

Document = dict[str, Any]
"""A JSON object; its keys are the names of the record's fields unless it is said otherwise."""


def run_document(run: Run) -> Document:
    """Return a run with the keys of `flowsched runs --format json`: `attempts_begun` is how many there were.

    What became of its flow, its attempts and its commit are not in it.
    """
    document = _fields(run)
    document["attempts_begun"] = document.pop("attempts")
    return document


def watch_document(watch: Watch) -> Document:
    """Return what became of the flow of a run."""
    return {name: _plain(getattr(watch, name)) for name in ("state", "status", "started", "ended", "until")}


def attempt_document(attempt: Attempt) -> Document:
    """Return one trigger call of a run."""
    return _fields(attempt)


def commit_document(commit: Commit) -> Document:
    """Return a commit."""
    return _fields(commit)


def pause_document(pause: Pause) -> Document:
    """Return a pause, with `over_at`, which is null where nobody knows yet."""
    return _fields(pause) | {"over_at": _plain(pause.over_at)}


def action_document(action: Action) -> Document:
    """Return what somebody has done."""
    return _fields(action)


def catalog_document(catalog: AppliedCatalog) -> Document:
    """Return a catalog that was put in force."""
    return _fields(catalog)


def reload_document(reload: Reload) -> Document:
    """Return what came of a reading of the schedules."""
    return _fields(reload)


def status_document(status: Status, *, last_success: bool = False) -> Document:
    """Return how a daemon stands.

    Beside the fields there is `sentence`, all of it in a line, and `needs`, a line for each thing that needs
    a person. A run under way has `waits_for`, null where nothing is known, and `late_by`, the seconds since
    it should have been sent. Of what is overdue only the first `MOST_SHOWN` are there, and `overdue_count`
    says of how many. `last_success` is there only where it is asked for: it is as long as the catalog.
    """
    document = _fields(status, without=frozenset({"overdue", "last_success", "waits_for"}))
    first = sorted(status.overdue.items(), key=lambda one: (one[1], one[0]))[:MOST_SHOWN]
    document |= {
        "sentence": sentence(status),
        "needs": list(needs(status)),
        "under_way": [_waiting_document(run, status) for run in status.under_way],
        "recent": [run_document(run) for run in status.recent],
        "pauses": [pause_document(pause) for pause in status.pauses],
        "overdue": _plain(dict(first)),
        "overdue_count": len(status.overdue),
    }
    return document | ({"last_success": _plain(status.last_success)} if last_success else {})


def _waiting_document(run: Run, status: Status) -> Document:
    late = status.at - (run.retry_at or run.due_at) if run.state in _TO_BE_SENT else timedelta(0)
    waits = {"waits_for": status.waits_for.get(run.id), "late_by": _plain(max(timedelta(0), late))}
    return run_document(run) | waits


def _fields(record: Any, without: frozenset[str] = frozenset()) -> Document:
    return {
        field.name: _plain(getattr(record, field.name))
        for field in fields(record)
        if field.name not in without
    }


def _plain(value: object) -> Any:  # noqa: PLR0911 - one for each kind of value
    match value:
        case Enum():
            return value.value
        case datetime():
            return stamp(value)
        case timedelta():
            return value.total_seconds()
        case Source():
            return str(value)
        case Mapping():
            return {str(_plain(key)): _plain(each) for key, each in value.items()}
        case str():
            return value
        case Sequence():
            return [_plain(each) for each in value]
    return _fields(value) if is_dataclass(value) else value
