"""Which events somebody has to know, and how often; what goes together in one message."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.alerts import deciding
from flowsched.alerts.deciding import Judge
from flowsched.alerts.gathering import MOST_LISTED, Gathering
from flowsched.events import FlowMoved, OverdueSeen, Reloaded, RunMoved
from flowsched.model import (
    Alert,
    AlertKind,
    FlowState,
    MessageState,
    NextStep,
    Reload,
    ReloadOutcome,
    Run,
    RunState,
    SecretSource,
    Slack,
    Watch,
)
from flowsched.retry import still_in_doubt
from tests.builders import T0, a_run, a_schedule
from tests.receivers import a_channel

if TYPE_CHECKING:
    from flowsched.events import Event

HOUR = 3600.0
REPEAT = 4 * HOUR
KNOWN = {"nightly": a_schedule(owner="wind-data", description="Nightly report")}


class Watchman:
    """A judge, and a clock for it."""

    def __init__(self) -> None:
        self.judge = Judge(REPEAT, KNOWN.get)
        self.now = 0.0

    def hears(self, *events: Event, after: float = 0.0) -> list[Alert]:
        self.now += after
        at = T0 + timedelta(seconds=self.now)
        return [alert for event in events for alert in self.judge.judged(event, at, self.now)]


@pytest.fixture
def watchman() -> Watchman:
    return Watchman()


def moved(state: RunState, **more: Any) -> RunMoved:
    return RunMoved(a_run(state=state, **more))


def left_in_doubt(**more: Any) -> Run:
    run = a_run(state=RunState.IN_DOUBT, reason="the reply was lost", **more)
    step = still_in_doubt(run, run.deadline + timedelta(seconds=1))
    assert isinstance(step, NextStep)
    return replace(run, reason=step.reason)


def flow(state: FlowState) -> FlowMoved:
    return FlowMoved(
        Watch(
            run_id=17,
            schedule_id="nightly",
            target="default",
            flow=3377,
            instance="3377-20260101000000",
            until=T0 + timedelta(hours=6),
            state=state,
            status=5,
            started=None,
            ended=None,
            updated_at=T0,
        )
    )


def reloaded(outcome: ReloadOutcome, *problems: str) -> Reloaded:
    return Reloaded(
        Reload(
            outcome=outcome,
            at=T0,
            why="SIGHUP",
            revision="3f2a1c0ffee0123456",
            commit=None,
            problems=problems,
        )
    )


def overdue(*ids: str) -> OverdueSeen:
    return OverdueSeen(T0, dict.fromkeys(ids, T0))


def said(alerts: list[Alert]) -> list[tuple[AlertKind, str, bool]]:
    return [(alert.kind, alert.subject, alert.over) for alert in alerts]


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        (
            moved(RunState.FAILED, id=17, reason="gave up after 5 attempts: HTTP 500"),
            AlertKind.FAILED,
            "nightly failed (run 17, fire time 2026-01-01T00:00:00Z): gave up after 5 attempts: HTTP 500",
        ),
        (
            moved(RunState.MISSED, id=17, reason="nobody was there"),
            AlertKind.MISSED,
            "nightly was missed (run 17, fire time 2026-01-01T00:00:00Z): nobody was there",
        ),
        (
            flow(FlowState.FAILED),
            AlertKind.FLOW_FAILED,
            "the flow of nightly failed (run 17, instance 3377-20260101000000)",
        ),
        (
            flow(FlowState.LATE),
            AlertKind.FLOW_LATE,
            (
                "the flow of nightly is late: it had until 2026-01-01T06:00:00Z"
                " (run 17, instance 3377-20260101000000)"
            ),
        ),
        (
            reloaded(ReloadOutcome.HELD, "3 of 10 end"),
            AlertKind.HELD,
            "the catalog is held until `flowsched apply --accept 3f2a1c0ffee0`: 3 of 10 end",
        ),
        (
            reloaded(ReloadOutcome.REFUSED, "a.yaml:3:5: unknown key", "b.yaml: is empty"),
            AlertKind.REFUSED,
            "the schedules are refused, and those before stay in force (2 problems): a.yaml:3:5: unknown key",
        ),
        (
            reloaded(ReloadOutcome.FAILED, "a fault of flowsched: KeyError"),
            AlertKind.REFUSED,
            "the schedules are refused, and those before stay in force: a fault of flowsched: KeyError",
        ),
    ],
)
def test_what_somebody_has_to_know_is_told_in_one_line(
    watchman: Watchman, event: Event, kind: AlertKind, words: str
) -> None:
    (alert,) = watchman.hears(event)

    assert (alert.kind, alert.summary, alert.over, alert.before) == (kind, words, False, 0)


@pytest.mark.parametrize(
    "event",
    [
        *(moved(state) for state in RunState if state not in (RunState.FAILED, RunState.MISSED)),
        moved(RunState.IN_DOUBT, reason="the reply was lost"),
        flow(FlowState.SUCCEEDED),
        flow(FlowState.GOING),
        reloaded(ReloadOutcome.APPLIED),
        reloaded(ReloadOutcome.UNCHANGED),
        overdue(),
    ],
)
def test_nothing_is_told_of_what_is_well_or_may_yet_be(watchman: Watchman, event: Event) -> None:
    assert watchman.hears(event) == []


def test_an_alert_says_all_that_is_known(watchman: Watchman) -> None:
    (alert,) = watchman.hears(moved(RunState.FAILED, id=17, attempts=5, reason="HTTP 500"))

    assert alert.details == {
        "schedule": "nightly",
        "fire_time": "2026-01-01T00:00:00Z",
        "origin": "schedule",
        "run": 17,
        "state": "failed",
        "attempts": 5,
        "reason": "HTTP 500",
        "target": "default",
        "flow": 3377,
        "instance": "3377-20260101000000",
        "source": "schedules/a.yaml:3",
        "catalog": "r1",
        "owner": "wind-data",
        "description": "Nightly report",
    }


def test_what_is_long_or_would_garble_a_terminal_is_not_told_so(watchman: Watchman) -> None:
    (alert,) = watchman.hears(moved(RunState.FAILED, reason="\x1b[31m" + "x" * 5_000))

    assert len(alert.summary) <= deciding.LONGEST_SUMMARY
    assert len(str(alert.details["reason"])) <= deciding.LONGEST_DETAIL
    assert "\x1b" not in alert.summary + str(alert.details["reason"])


def test_the_same_is_told_once_in_a_while_and_counted_meanwhile(watchman: Watchman) -> None:
    first = watchman.hears(*[moved(RunState.FAILED)] * 3)
    meanwhile = watchman.hears(*[moved(RunState.FAILED)] * 4, after=REPEAT - 1)
    (again,) = watchman.hears(moved(RunState.FAILED), after=1)
    (later,) = watchman.hears(moved(RunState.FAILED), after=REPEAT)

    assert (len(first), meanwhile, again.before, later.before) == (1, [], 6, 0)


def test_another_kind_or_another_schedule_is_something_else(watchman: Watchman) -> None:
    told = watchman.hears(
        moved(RunState.FAILED), moved(RunState.MISSED), moved(RunState.FAILED, schedule_id="hourly")
    )

    assert said(told) == [
        (AlertKind.FAILED, "nightly", False),
        (AlertKind.MISSED, "nightly", False),
        (AlertKind.FAILED, "hourly", False),
    ]


def test_a_run_in_doubt_is_told_at_its_deadline_and_again_when_it_is_settled(watchman: Watchman) -> None:
    run = left_in_doubt(id=17)

    told = watchman.hears(RunMoved(run))
    settled = watchman.hears(RunMoved(replace(run, state=RunState.TRIGGERED)))

    assert said(told) == [(AlertKind.IN_DOUBT, "nightly", False)]
    assert said(settled) == [(AlertKind.IN_DOUBT, "nightly", True)]
    assert settled[0].summary == "nightly is in doubt no more: run 17 is triggered"
    assert watchman.hears(moved(RunState.TRIGGERED, id=17)) == []


def test_a_doubt_that_ends_in_failure_is_told_as_both(watchman: Watchman) -> None:
    run = left_in_doubt(id=17)
    watchman.hears(RunMoved(run))

    told = watchman.hears(RunMoved(replace(run, state=RunState.FAILED, reason="by hand")))

    assert said(told) == [(AlertKind.IN_DOUBT, "nightly", True), (AlertKind.FAILED, "nightly", False)]


def test_the_next_doubt_after_one_that_is_settled_is_told_at_once(watchman: Watchman) -> None:
    run = left_in_doubt(id=17)
    watchman.hears(RunMoved(run), RunMoved(replace(run, state=RunState.TRIGGERED)))

    assert said(watchman.hears(RunMoved(left_in_doubt(id=18)))) == [(AlertKind.IN_DOUBT, "nightly", False)]


def test_a_good_reload_ends_what_was_refused_and_the_next_bad_one_is_told_at_once(watchman: Watchman) -> None:
    refused = watchman.hears(*[reloaded(ReloadOutcome.REFUSED, "a problem")] * 3)
    good = watchman.hears(reloaded(ReloadOutcome.APPLIED), reloaded(ReloadOutcome.APPLIED))
    bad = watchman.hears(reloaded(ReloadOutcome.REFUSED, "another"))

    assert said(refused) == [(AlertKind.REFUSED, "catalog", False)]
    assert said(good) == [(AlertKind.REFUSED, "catalog", True)]
    assert good[0].summary == "the catalog is refused no more: the reload is applied"
    assert said(bad) == [(AlertKind.REFUSED, "catalog", False)]


def test_what_is_held_instead_of_refused_ends_the_one_and_begins_the_other(watchman: Watchman) -> None:
    watchman.hears(reloaded(ReloadOutcome.REFUSED, "a problem"))

    assert said(watchman.hears(reloaded(ReloadOutcome.HELD))) == [
        (AlertKind.REFUSED, "catalog", True),
        (AlertKind.HELD, "catalog", False),
    ]


def test_what_is_overdue_is_told_at_the_second_look_and_when_it_is_over(watchman: Watchman) -> None:
    first = watchman.hears(overdue("nightly"))
    second = watchman.hears(overdue("nightly", "hourly"), after=60)
    third = watchman.hears(overdue("nightly"), after=60)
    over = watchman.hears(overdue(), overdue(), after=60)

    assert (first, third) == ([], [])
    assert said(second) == [(AlertKind.OVERDUE, "nightly", False)]
    assert said(over) == [(AlertKind.OVERDUE, "nightly", True)]


def test_what_stays_overdue_is_told_again_after_a_while(watchman: Watchman) -> None:
    looks = [alert for _ in range(600) for alert in watchman.hears(overdue("nightly"), after=60)]

    assert [(alert.at - T0).total_seconds() for alert in looks] == [120 + n * REPEAT for n in range(3)]


def test_what_was_told_is_not_remembered_without_bound(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "MOST_REMEMBERED", 10)

    for number in range(100):
        watchman.hears(moved(RunState.FAILED, schedule_id=f"s{number}"))

    assert len(watchman.judge._told) == 10


SLACK = a_channel(Slack(url=SecretSource("env", "X")), on=(AlertKind.FAILED, AlertKind.MISSED))


def an_alert(number: int = 0, kind: AlertKind = AlertKind.FAILED) -> Alert:
    return Alert(kind=kind, subject=f"s{number}", summary=f"s{number} {kind}", at=T0)


def test_what_comes_within_the_wait_goes_in_one_message() -> None:
    gathering = Gathering(SLACK, wait=30, rate_per_hour=20)

    for number in range(3):
        gathering.add(an_alert(number), now=100.0 + 10 * number)

    assert gathering.closes_at() == 130.0
    message = gathering.close(now=130.0)
    assert message is not None
    assert [alert.subject for alert in message.alerts] == ["s0", "s1", "s2"]
    assert (message.state, message.count, message.more) == (MessageState.GATHERING, 3, {})
    assert (gathering.closes_at(), gathering.close(now=131.0)) == (None, None)


def test_a_channel_takes_only_the_kinds_that_it_asks_for() -> None:
    gathering = Gathering(SLACK, wait=30, rate_per_hour=20)

    assert [gathering.add(an_alert(kind=kind), 0) for kind in (AlertKind.HELD, AlertKind.MISSED)] == [
        False,
        True,
    ]


def test_a_message_lists_some_and_counts_the_others() -> None:
    gathering = Gathering(SLACK, wait=30, rate_per_hour=20)

    for number in range(10_000):
        gathering.add(an_alert(number, AlertKind.MISSED if number % 2 else AlertKind.FAILED), 0.0)
    message = gathering.close(30.0)

    assert message is not None
    assert (len(message.alerts), message.count) == (MOST_LISTED, 10_000)
    assert message.more == {AlertKind.FAILED: 4_990, AlertKind.MISSED: 4_990}


def test_a_channel_gets_so_many_messages_in_any_hour_and_no_alert_is_lost() -> None:
    gathering = Gathering(SLACK, wait=30, rate_per_hour=3)
    closed: list[tuple[float, int]] = []

    for now in range(0, 4 * 3600, 10):
        gathering.add(an_alert(now), float(now))
        closes_at = gathering.closes_at()
        if closes_at is not None and closes_at <= now:
            message = gathering.close(float(now))
            assert message is not None
            closed.append((now, message.count))

    assert all(later - sooner >= HOUR for (sooner, _), (later, _) in zip(closed, closed[3:], strict=False))
    assert len(closed) == 12
    left = gathering.close(4 * HOUR)
    assert sum(count for _, count in closed) + (left.count if left else 0) == 4 * 360


def test_messages_of_a_former_process_count_for_the_rate() -> None:
    gathering = Gathering(SLACK, wait=30, rate_per_hour=2)

    gathering.remember([-100.0, -3500.0])
    gathering.add(an_alert(), 0.0)

    assert gathering.closes_at() == 100.0
