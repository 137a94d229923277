"""How a daemon stands, as gauges. Nothing here grows with the number of schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from flowsched.admission import is_over
from flowsched.model import FINAL_STATES, SHORT, Phase, ReloadOutcome, RunState, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from prometheus_client import Metric

    from flowsched.model import Pause, Status

_OPEN_STATES = tuple(state for state in RunState if state not in FINAL_STATES)


def families(status: Status, paused: int) -> Iterator[Metric]:
    """Yield how a daemon stands; `paused` is how many enabled schedules a pause covers now.

    What is not known, such as the age of a token that there is not, has no series. So has nothing that is
    not there, such as a next fire.
    """
    yield from _life(status)
    yield from _work(status)
    yield from _catalog(status)
    yield from _pauses(status, paused)
    yield from _targets(status)
    yield from _health(status)


def _life(status: Status) -> Iterator[Metric]:
    yield _labelled("flowsched_info", "The version that runs; always 1.", "version", {status.version: 1})
    yield _labelled(
        "flowsched_phase",
        "Where in its life the daemon is: 1 for that phase, 0 for the others.",
        "phase",
        {phase: phase is status.phase for phase in Phase},
    )


def _work(status: Status) -> Iterator[Metric]:
    yield _labelled(
        "flowsched_runs",
        "Runs that are not final, by state.",
        "state",
        {state: status.counts.get(state, 0) for state in _OPEN_STATES},
    )
    yield GaugeMetricFamily(
        "flowsched_overdue_schedules",
        "Schedules with overdue fires, which should have been claimed by now and were not; an invariant: 0.",
        len(status.overdue),
    )
    yield _optional(
        "flowsched_oldest_in_doubt_timestamp_seconds",
        "Since when the run is in doubt that is so for longest.",
        None if status.in_doubt_since is None else _seconds(status.in_doubt_since),
    )
    yield _optional(
        "flowsched_next_fire_timestamp_seconds",
        "When the next fire of all schedules goes out.",
        min((_seconds(each.out_at) for each in status.upcoming), default=None),
    )


def _catalog(status: Status) -> Iterator[Metric]:
    yield _labelled(
        "flowsched_schedules",
        "Schedules of the catalog in force, by whether they are enabled.",
        "enabled",
        {"true": status.enabled, "false": status.schedules - status.enabled},
    )
    catalog = GaugeMetricFamily(
        "flowsched_catalog_info", "The catalog in force; always 1.", labels=("revision", "commit")
    )
    if status.revision:
        commit = status.commit.id[:SHORT] if status.commit else ""
        catalog.add_metric((status.revision[:SHORT], commit), 1)
    yield catalog
    applied = None if status.applied_at is None else _seconds(status.applied_at)
    yield _optional(
        "flowsched_catalog_applied_timestamp_seconds", "When the catalog was put in force.", applied
    )
    yield GaugeMetricFamily(
        "flowsched_catalog_held",
        "Whether a catalog waits to be accepted, and the one before stays in force.",
        float(status.held is not None),
    )
    reload = status.reload
    yield _labelled(
        "flowsched_last_reload",
        "What came of the latest reading of the schedules: 1 for that outcome, 0 for the others.",
        "outcome",
        {each: reload is not None and each is reload.outcome for each in ReloadOutcome},
    )
    yield _optional(
        "flowsched_last_reload_timestamp_seconds",
        "When the schedules were last read.",
        None if reload is None else _seconds(reload.at),
    )


def _pauses(status: Status, paused: int) -> Iterator[Metric]:
    lasting = pauses_at(status.pauses, status.at)
    yield _labelled(
        "flowsched_pauses",
        "Pauses that last now, by what they are about.",
        "scope",
        {scope: sum(each.scope is scope for each in lasting) for scope in Scope},
    )
    yield GaugeMetricFamily(
        "flowsched_paused_schedules", "Enabled schedules that a pause covers now: drift from Git.", paused
    )
    yield _optional(
        "flowsched_oldest_pause_timestamp_seconds",
        "When the oldest of the pauses that last now began.",
        min((_seconds(each.from_at) for each in lasting), default=None),
    )


def _targets(status: Status) -> Iterator[Metric]:
    ages = {one.name: one.token_age.total_seconds() for one in status.targets if one.token_age is not None}
    yield _labelled(
        "flowsched_token_age_seconds", "How long ago the access token was granted.", "target", ages
    )
    offsets = {
        one.name: one.clock_offset.total_seconds() for one in status.targets if one.clock_offset is not None
    }
    yield _labelled(
        "flowsched_clock_offset_seconds",
        "How far the clock of the gateway is ahead of this machine's.",
        "target",
        offsets,
    )
    yield _labelled(
        "flowsched_clock_off",
        "Whether the two clocks differ by more than is allowed.",
        "target",
        {one.name: one.clock_is_off for one in status.targets},
    )


def _health(status: Status) -> Iterator[Metric]:
    health = status.health
    yield GaugeMetricFamily(
        "flowsched_alive",
        "Whether event loop, ledger and alarms were within their bounds at the latest look.",
        float(health.alive),
    )
    yield GaugeMetricFamily(
        "flowsched_loop_lag_seconds", "By how much the event loop was late.", health.loop_lag
    )
    yield _optional(
        "flowsched_ledger_latency_seconds",
        "How long both threads of the ledger took to answer.",
        health.ledger_latency,
    )
    yield GaugeMetricFamily(
        "flowsched_ledger_trouble",
        "Whether the ledger answered with trouble at the latest look.",
        float(health.ledger_error is not None),
    )
    yield GaugeMetricFamily(
        "flowsched_wake_up_age_seconds", "How long ago the alarms were last looked at.", health.woke_ago
    )


def pauses_at(pauses: Sequence[Pause], at: datetime) -> list[Pause]:
    """Return those of the pauses that last at an instant."""
    return [each for each in pauses if each.from_at <= at and not is_over(each, at)]


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for each, value in values.items():
        family.add_metric((each,), float(value))
    return family


def _optional(name: str, text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, text, labels=()) if value is None else GaugeMetricFamily(name, text, value)


def _seconds(at: datetime) -> float:
    return at.timestamp()
