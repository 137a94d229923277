"""Events in, alerts out: who has to know what, and what was told already. Pure: given the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING

from flowsched.causes import Cause, cause_of
from flowsched.errors import printable, shortened
from flowsched.events import FlowMoved, OverdueSeen, Reloaded, RunMoved
from flowsched.model import (
    SHORT,
    Alert,
    AlertKind,
    FlowState,
    MessageState,
    Origin,
    ReloadOutcome,
    RunState,
)
from flowsched.ops.logs import stamp
from flowsched.retry import is_left_in_doubt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from flowsched.events import Event
    from flowsched.model import Message, Reload, Run, Schedule, Watch

CATALOG = "catalog"
"""The subject of what is not about one schedule."""

LONGEST_SUMMARY = 300
LONGEST_DETAIL = 1_000
"""Characters."""

MOST_REMEMBERED = 20_000
"""Of what was told; a kind and a subject each."""

MOST_PROBLEMS = 5
"""Of a refused reload, in an alert."""

_Key = tuple[AlertKind, str]

_OF_RUNS = {RunState.FAILED: AlertKind.FAILED, RunState.MISSED: AlertKind.MISSED}
_OF_FLOWS = {FlowState.FAILED: AlertKind.FLOW_FAILED, FlowState.LATE: AlertKind.FLOW_LATE}
_OF_RELOADS = {
    ReloadOutcome.HELD: AlertKind.HELD,
    ReloadOutcome.REFUSED: AlertKind.REFUSED,
    ReloadOutcome.FAILED: AlertKind.REFUSED,
}


_TELLS = (MessageState.SENT, MessageState.PENDING, MessageState.GATHERING)


def last_told(messages: Iterable[Message]) -> list[Alert]:
    """Return the last alert of each kind and subject that somebody was told of by name, or is about to be.

    `messages` come newest first. Left out is what was over then.
    """
    alerts = [
        alert for message in reversed(list(messages)) if message.state in _TELLS for alert in message.alerts
    ]
    last = {(alert.kind, alert.subject): alert for alert in sorted(alerts, key=lambda alert: alert.at)}
    return [alert for alert in last.values() if not alert.over]


def has_done_well(alert: Alert, successes: Mapping[str, datetime]) -> bool:
    """Tell whether a run of the schedule was triggered for a later fire time than that of an alert.

    `successes` has, by schedule, the latest such fire time. Of a flow it is not known, and so taken to be.
    """
    fire_time = alert.details.get("fire_time")
    if alert.kind in _OF_FLOWS.values():
        return True
    if alert.kind not in _OF_RUNS.values() or not isinstance(fire_time, str):
        return False
    latest = successes.get(alert.subject)
    return latest is not None and latest > datetime.fromisoformat(fire_time)


@dataclass(slots=True)
class _Told:
    """When something was told last, and how often it came since."""

    at: float
    """By the monotonic clock; `-inf` where the schedule has done well since: what comes next is told anew."""
    count: int = 0


class Judge:
    """Tells which events somebody has to know, and keeps the same from being told too often.

    Each call is given the instant, and seconds by the monotonic clock, which measure what is too often.
    """

    def __init__(self, repeat: float, schedule: Callable[[str], Schedule | None]) -> None:
        """`repeat` in seconds; `schedule` gives a schedule of the catalog in force by its id."""
        self._repeat = repeat
        self._schedule = schedule
        self._told: dict[_Key, _Told] = {}
        self._in_doubt: dict[int, str] = {}
        self._catalog: AlertKind | None = None
        self._reload: Reload | None = None
        """The latest one."""
        self._overdue: frozenset[str] = frozenset()
        self._overdue_told: set[str] = set()

    def recall(self, told: Iterable[Alert], runs: Mapping[int, Run], at: datetime, now: float) -> list[Alert]:
        """Take what a former process has told, as `last_told` gives it; return what is over by now.

        `runs` are those that it has told the doubt of, by id. What was judged since the start counts more.
        """
        over: list[Alert] = []
        catalog: Alert | None = None
        for alert in told:
            age = max((at - alert.at).total_seconds(), 0.0)
            if age < self._repeat:
                self._told.setdefault((alert.kind, alert.subject), _Told(now - age))
            match alert.kind:
                case AlertKind.OVERDUE:
                    self._overdue_told.add(alert.subject)
                case AlertKind.HELD | AlertKind.REFUSED:
                    catalog = alert if catalog is None or catalog.at <= alert.at else catalog
                case AlertKind.IN_DOUBT:
                    over += self._recalled_doubt(alert, runs, at)
                case _:
                    pass
        if catalog is not None:
            over += self._recalled_catalog(catalog.kind, at)
        return over

    def _recalled_doubt(self, alert: Alert, runs: Mapping[int, Run], at: datetime) -> Iterator[Alert]:
        run = runs.get(int(alert.details.get("run", 0)))
        if run is not None:
            self._in_doubt[run.id] = run.schedule_id
            if run.state.final:
                yield self._settled(run, at)

    def _recalled_catalog(self, kind: AlertKind, at: datetime) -> Iterator[Alert]:
        if self._reload is None:
            self._catalog = kind
        elif self._catalog is not kind:
            yield self._catalog_over(kind, self._reload, at)

    def judged(self, event: Event, at: datetime, now: float) -> list[Alert]:
        """Return what is to be told of an event, if anything; what was told within `repeat` is counted."""
        match event:
            case RunMoved(run=run):
                return list(self._of_run(run, at, now))
            case FlowMoved(watch=watch):
                return list(self._of_flow(watch, at, now))
            case Reloaded(reload=reload):
                return list(self._of_reload(reload, at, now))
            case OverdueSeen(since=since):
                return list(self._of_overdue(since, at, now))
        return []

    def _of_run(self, run: Run, at: datetime, now: float) -> Iterator[Alert]:
        kind = None if _is_by_hand(run) else _OF_RUNS.get(run.state)
        if run.state.final and run.id in self._in_doubt:
            yield self._settled(run, at)
        if run.state is RunState.TRIGGERED and run.origin is not Origin.BACKFILL:
            self._does_well(run.schedule_id, _OF_RUNS.values())
        if kind is None and is_left_in_doubt(run):
            kind = AlertKind.IN_DOUBT
            self._in_doubt[run.id] = run.schedule_id
        if kind is None:
            return
        before = self._count(kind, run.schedule_id, now)
        if before is not None:
            yield self._alert(kind, run.schedule_id, _run_summary(kind, run), at, before, **_run_details(run))

    def _settled(self, run: Run, at: datetime) -> Alert:
        del self._in_doubt[run.id]
        if run.schedule_id not in self._in_doubt.values():
            self._told.pop((AlertKind.IN_DOUBT, run.schedule_id), None)
        summary = f"{run.schedule_id} is in doubt no more: run {run.id} is {run.state}"
        alert = self._alert(AlertKind.IN_DOUBT, run.schedule_id, summary, at, 0, **_run_details(run))
        return _over(alert)

    def _of_flow(self, watch: Watch, at: datetime, now: float) -> Iterator[Alert]:
        kind = _OF_FLOWS.get(watch.state)
        if watch.state is FlowState.SUCCEEDED:
            self._does_well(watch.schedule_id, _OF_FLOWS.values())
        before = None if kind is None else self._count(kind, watch.schedule_id, now)
        if kind is None or before is None:
            return
        came = "failed" if kind is AlertKind.FLOW_FAILED else f"is late: it had until {stamp(watch.until)}"
        summary = f"the flow of {watch.schedule_id} {came} (run {watch.run_id}, instance {watch.instance})"
        yield self._alert(kind, watch.schedule_id, summary, at, before, **_flow_details(watch))

    def _of_reload(self, reload: Reload, at: datetime, now: float) -> Iterator[Alert]:
        kind = _OF_RELOADS.get(reload.outcome)
        if self._catalog not in (None, kind):
            assert self._catalog is not None  # noqa: S101 - for mypy
            yield self._catalog_over(self._catalog, reload, at)
        self._catalog, self._reload = kind, reload
        before = None if kind is None else self._count(kind, CATALOG, now)
        if kind is not None and before is not None:
            yield self._alert(kind, CATALOG, _reload_summary(reload), at, before, **_reload_details(reload))

    def _catalog_over(self, kind: AlertKind, reload: Reload, at: datetime) -> Alert:
        self._told.pop((kind, CATALOG), None)
        summary = f"the catalog is {_CATALOG_IS[kind]} no more: the reload is {reload.outcome}"
        return _over(self._alert(kind, CATALOG, summary, at, 0, **_reload_details(reload)))

    def _of_overdue(self, since: dict[str, datetime], at: datetime, now: float) -> Iterator[Alert]:
        """Tell of what was so at the look before, too: a single look may fall into the very moment."""
        for subject in sorted(self._overdue_told - since.keys()):
            self._told.pop((AlertKind.OVERDUE, subject), None)
            self._overdue_told.discard(subject)
            yield _over(self._alert(AlertKind.OVERDUE, subject, f"{subject} is overdue no more", at, 0))
        for subject in sorted(self._overdue & since.keys()):
            if self._count(AlertKind.OVERDUE, subject, now) is not None:
                self._overdue_told.add(subject)
                summary = f"{subject} does not fire, though it is due since {stamp(since[subject])}"
                yield self._alert(AlertKind.OVERDUE, subject, summary, at, 0, due_since=stamp(since[subject]))
        self._overdue = frozenset(since)

    def _does_well(self, schedule_id: str, kinds: Iterable[AlertKind]) -> None:
        """Have what comes next of these kinds told at once; what came and was not told still counts."""
        for kind in kinds:
            if told := self._told.get((kind, schedule_id)):
                told.at = -inf

    def _count(self, kind: AlertKind, subject: str, now: float) -> int | None:
        """Return how often it came since it was told last; None: it is only counted now, not told."""
        told = self._told.get((kind, subject))
        if told is not None and now - told.at < self._repeat:
            told.count += 1
            return None
        self._told.pop((kind, subject), None)  # so that the oldest are at the front
        self._told[kind, subject] = _Told(now)
        if len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]
        return told.count if told else 0

    def _alert(
        self, kind: AlertKind, subject: str, summary: str, at: datetime, before: int, **details: object
    ) -> Alert:
        found = self._schedule(subject)
        about = {"owner": found.owner, "description": found.description} if found else {}
        if found and "source" not in details:
            about["source"] = str(found.source)
        return Alert(
            kind=kind,
            subject=subject,
            summary=shortened(printable(summary), LONGEST_SUMMARY),
            at=at,
            before=before,
            details={
                key: value if isinstance(value, int) else shortened(printable(str(value)), LONGEST_DETAIL)
                for key, value in {**details, **about}.items()
                if value is not None
            },
        )


_CATALOG_IS = {AlertKind.HELD: "held", AlertKind.REFUSED: "refused"}

_RUN_IS = {
    AlertKind.FAILED: "failed",
    AlertKind.MISSED: "was missed",
    AlertKind.IN_DOUBT: "is in doubt",
}


def _over(alert: Alert) -> Alert:
    return Alert(
        kind=alert.kind,
        subject=alert.subject,
        summary=alert.summary,
        at=alert.at,
        over=True,
        details=alert.details,
    )


def _is_by_hand(run: Run) -> bool:
    """Tell whether a person has ended it, who knows then."""
    return cause_of(run.state, run.reason) is Cause.BY_HAND


def _run_summary(kind: AlertKind, run: Run) -> str:
    fire = f"{run.schedule_id} {_RUN_IS[kind]} (run {run.id}, fire time {stamp(run.fire_time)})"
    return f"{fire}: {run.reason}" if run.reason else fire


def _run_details(run: Run) -> dict[str, object]:
    return {
        "schedule": run.schedule_id,
        "fire_time": stamp(run.fire_time),
        "origin": run.origin.value,
        "run": run.id,
        "state": run.state.value,
        "attempts": run.attempts,
        "reason": run.reason,
        "target": run.target,
        "flow": run.flow,
        "task": run.task,
        "instance": run.instance or (run.predicted_instance if run.attempts else None),
        "source": str(run.source),
        "catalog": run.revision[:SHORT],
    }


def _flow_details(watch: Watch) -> dict[str, object]:
    return {
        "schedule": watch.schedule_id,
        "run": watch.run_id,
        "state": watch.state.value,
        "status": watch.status,
        "target": watch.target,
        "flow": watch.flow,
        "instance": watch.instance,
        "until": stamp(watch.until),
    }


def _reload_summary(reload: Reload) -> str:
    first = f": {reload.problems[0]}" if reload.problems else ""
    if reload.outcome is ReloadOutcome.HELD:
        digest = (reload.revision or "")[:SHORT]
        return f"the catalog is held until `flowsched apply --accept {digest}`{first}"
    many = len(reload.problems)
    count = f" ({many} problems)" if many > 1 else ""
    return f"the schedules are refused, and those before stay in force{count}{first}"


def _reload_details(reload: Reload) -> dict[str, object]:
    return {
        "outcome": reload.outcome.value,
        "why": reload.why,
        "catalog": reload.revision and reload.revision[:SHORT],
        "commit": reload.commit and reload.commit.id[:SHORT],
        "author": reload.commit and reload.commit.author,
        "problems": " | ".join(reload.problems[:MOST_PROBLEMS]) or None,
    }
