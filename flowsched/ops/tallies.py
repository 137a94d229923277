"""What has happened since the start, counted: one number a closed set of labels, from nought on."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from flowsched.causes import CAUSES, cause_of
from flowsched.events import AlertDone, FirstByte, FlowMoved, Reloaded, RunMoved
from flowsched.model import FlowState, MessageState, Origin, Outcome, ReloadOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from flowsched.events import Event

LATENESS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Upper bounds in seconds: a fire on schedule is sent within the first few, one that is caught up later."""

_PLANNED = (Origin.SCHEDULE, Origin.CATCH_UP)
"""How late a run is that a person wants for a fire time of the past says nothing."""

_NOWHERE = "other"
"""The label of a target or channel that the settings do not name."""

_ENDS = (FlowState.SUCCEEDED, FlowState.FAILED, FlowState.LATE)
_TRIES = {
    MessageState.SENT: "sent",
    MessageState.FAILED: "failed",
    MessageState.DROPPED: "dropped",
    MessageState.PENDING: "retried",
}
"""What a message has come to, and the label for it."""


class Tallies:
    """Counts events. Each series is there from the start, so that its first increase is seen."""

    def __init__(self, targets: Iterable[str], channels: Iterable[str]) -> None:
        self._targets = frozenset(targets)
        self._channels = frozenset(channels)
        self._runs = Counter({(state, cause): 0 for state in CAUSES for cause in CAUSES[state]})
        self._attempts = Counter({(name, each): 0 for name in sorted(self._targets) for each in Outcome})
        self._flows = Counter(dict.fromkeys(_ENDS, 0))
        self._reloads = Counter(dict.fromkeys(ReloadOutcome, 0))
        tries = _TRIES.values()
        self._alerts = Counter({(name, each): 0 for name in sorted(self._channels) for each in tries})
        self._late = {origin: [0] * (len(LATENESS) + 1) for origin in _PLANNED}
        self._late_sum = dict.fromkeys(_PLANNED, 0.0)

    def hear(self, event: Event) -> None:
        """Count it, if it is to be counted."""
        match event:
            case RunMoved(run, answer):
                if run.state.final:
                    self._runs[run.state, cause_of(run.state, run.reason)] += 1
                if answer is not None:
                    self._attempts[_known(run.target, self._targets), answer.outcome] += 1
            case FirstByte(run, at):
                if run.attempts == 1 and run.origin in _PLANNED:
                    self._count_lateness(run.origin, (at - run.due_at).total_seconds())
            case FlowMoved(watch):
                self._flows[watch.state] += 1
            case Reloaded(reload):
                self._reloads[reload.outcome] += 1
            case AlertDone(channel, outcome):
                self._alerts[_known(channel, self._channels), _TRIES[outcome]] += 1
            case _:
                pass

    def families(self) -> Iterator[Metric]:
        """Yield all that is counted."""
        fires = CounterMetricFamily(
            "flowsched_fires", "Runs that became final, by state and cause.", labels=("state", "cause")
        )
        attempts = CounterMetricFamily(
            "flowsched_attempts", "Attempts that ended, by outcome.", labels=("target", "outcome")
        )
        alerts = CounterMetricFamily(
            "flowsched_alerts",
            "Messages with alerts, and attempts that were in vain.",
            labels=("channel", "outcome"),
        )
        for family, counts in ((fires, self._runs), (attempts, self._attempts), (alerts, self._alerts)):
            for labels, count in counts.items():
                family.add_metric(labels, count)
            yield family
        flows = CounterMetricFamily(
            "flowsched_flows", "Watched flows that ended, or are late.", labels=("state",)
        )
        reloads = CounterMetricFamily(
            "flowsched_reloads", "Readings of the schedules, that at the start included.", labels=("outcome",)
        )
        for family, by_one in ((flows, self._flows), (reloads, self._reloads)):
            for label, count in by_one.items():
                family.add_metric((label,), count)
            yield family
        yield self._lateness()

    def _count_lateness(self, origin: Origin, seconds: float) -> None:
        # A clock that was set back has a fire sent before it was due; a histogram does not go back.
        late = max(0.0, seconds)
        self._late[origin][bisect_left(LATENESS, late)] += 1
        self._late_sum[origin] += late

    def _lateness(self) -> Metric:
        family = HistogramMetricFamily(
            "flowsched_lateness_seconds",
            "From when a fire was due to the first byte of its first attempt.",
            labels=("origin",),
        )
        bounds = (*(f"{float(bound)}" for bound in LATENESS), "+Inf")
        for origin, counts in self._late.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((origin,), buckets, self._late_sum[origin])
        return family


def _known(name: str, names: frozenset[str]) -> str:
    return name if name in names else _NOWHERE
