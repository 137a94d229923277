"""Which events somebody has to know, and how often; what goes together in one message."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from flowsched.alerts import deciding
from flowsched.alerts.deciding import Judge
from flowsched.alerts.gathering import MOST_LISTED, Gathering
from flowsched.events import FlowMoved, OverdueSeen, Reloaded, RunMoved
from flowsched.model import (
    Alert,
    AlertKind,
    Channel,
    FlowState,
    Message,
    MessageState,
    NextStep,
    Origin,
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
from tests.receivers import a_channel, a_webhook

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.events import Event

HOUR = 3600.0
REPEAT = 4 * HOUR
SLACK = a_channel(Slack(url=SecretSource("env", "X")), on=(AlertKind.FAILED, AlertKind.MISSED))
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


def a_gathering(rate_per_hour: int = 20, channel: Channel = SLACK) -> Gathering:
    drawn = itertools.count(1)
    return Gathering(channel, 30, rate_per_hour, lambda _: UUID(int=next(drawn)))


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


def test_a_failure_after_a_success_is_told_anew_with_what_was_not_told(watchman: Watchman) -> None:
    watchman.hears(*[moved(RunState.FAILED)] * 3)
    watchman.hears(*[moved(RunState.MISSED)] * 2)
    well = watchman.hears(moved(RunState.TRIGGERED), after=60)
    told = watchman.hears(moved(RunState.FAILED), moved(RunState.MISSED), moved(RunState.FAILED), after=60)

    assert well == []
    assert [(alert.kind, alert.before) for alert in told] == [(AlertKind.FAILED, 2), (AlertKind.MISSED, 1)]


@pytest.mark.parametrize(
    "between",
    [
        moved(RunState.TRIGGERED, schedule_id="hourly"),
        moved(RunState.TRIGGERED, origin=Origin.BACKFILL),
        moved(RunState.SKIPPED),
        flow(FlowState.SUCCEEDED),
    ],
)
def test_what_is_no_success_of_its_runs_changes_nothing_about_failures(
    watchman: Watchman, between: Event
) -> None:
    assert len(watchman.hears(moved(RunState.FAILED), between, moved(RunState.FAILED))) == 1


def test_a_flow_that_fails_after_one_that_succeeded_is_told_anew(watchman: Watchman) -> None:
    both = flow(FlowState.FAILED), flow(FlowState.LATE)

    told = watchman.hears(*both, moved(RunState.TRIGGERED), *both, flow(FlowState.SUCCEEDED), *both)

    assert [(alert.kind, alert.before) for alert in told] == [
        (AlertKind.FLOW_FAILED, 0),
        (AlertKind.FLOW_LATE, 0),
        (AlertKind.FLOW_FAILED, 1),
        (AlertKind.FLOW_LATE, 1),
    ]


def test_what_fails_and_does_well_in_turn_is_bounded_by_the_rate_of_a_channel(watchman: Watchman) -> None:
    gathering, messages = a_gathering(20), 0
    for _ in range(120):
        for alert in watchman.hears(moved(RunState.FAILED), moved(RunState.TRIGGERED), after=60):
            gathering.add(alert, watchman.now)
        if (closes := gathering.closes_at()) is not None and closes <= watchman.now + 30:
            messages += gathering.close(closes) is not None

    assert messages == 40


@pytest.mark.parametrize(
    "reason", ["cancelled by hand (ada): wrong input", "resolved by hand (ada): not there after an hour"]
)
def test_what_a_person_has_ended_is_no_failure_to_tell_of(watchman: Watchman, reason: str) -> None:
    assert watchman.hears(moved(RunState.FAILED, reason=reason)) == []
    (alert,) = watchman.hears(moved(RunState.FAILED, reason="gave up after 5 attempts"))
    assert alert.before == 0


def test_a_doubt_that_a_person_has_settled_as_failed_is_over_and_no_failure(watchman: Watchman) -> None:
    run = left_in_doubt(id=17)
    watchman.hears(RunMoved(run))

    told = watchman.hears(
        RunMoved(replace(run, state=RunState.FAILED, reason="resolved by hand (ada): not there"))
    )

    assert said(told) == [(AlertKind.IN_DOUBT, "nightly", True)]


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

    told = watchman.hears(RunMoved(replace(run, state=RunState.FAILED, reason="gave up after 5 attempts")))

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


def an_alert(number: int = 0, kind: AlertKind = AlertKind.FAILED) -> Alert:
    return Alert(kind=kind, subject=f"s{number}", summary=f"s{number} {kind}", at=T0)


def test_what_comes_within_the_wait_goes_in_one_message() -> None:
    gathering = a_gathering(20)

    for number in range(3):
        gathering.add(an_alert(number), now=100.0 + 10 * number)

    assert gathering.closes_at() == 130.0
    message = gathering.close(now=130.0)
    assert message is not None
    assert [alert.subject for alert in message.alerts] == ["s0", "s1", "s2"]
    assert (message.state, message.count, message.more) == (MessageState.GATHERING, 3, {})
    assert (gathering.closes_at(), gathering.close(now=131.0)) == (None, None)


def test_a_channel_takes_only_the_kinds_that_it_asks_for() -> None:
    gathering = a_gathering(20)

    assert [gathering.add(an_alert(kind=kind), 0) for kind in (AlertKind.HELD, AlertKind.MISSED)] == [
        False,
        True,
    ]


def test_a_message_lists_some_and_counts_the_others() -> None:
    gathering = a_gathering(20)

    for number in range(10_000):
        gathering.add(an_alert(number, AlertKind.MISSED if number % 2 else AlertKind.FAILED), 0.0)
    message = gathering.close(30.0)

    assert message is not None
    assert (len(message.alerts), message.count) == (MOST_LISTED, 10_000)
    assert message.more == {AlertKind.FAILED: 4_990, AlertKind.MISSED: 4_990}


def test_a_channel_gets_so_many_messages_in_any_hour_and_no_alert_is_lost() -> None:
    gathering = a_gathering(3)
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
    gathering = a_gathering(2)

    gathering.remember([-100.0, -3500.0])
    gathering.add(an_alert(), 0.0)

    assert gathering.closes_at() == 100.0


PAGER = a_channel(a_webhook(template='{"action": "$action", "key": "$key"}'))


def looks(*overs: tuple[str, bool], channel: Channel = PAGER) -> tuple[Gathering, list[tuple[str, bool]]]:
    """Have alerts gathered at once; return what is told 30 seconds after, message by message."""
    gathering, told = a_gathering(channel=channel), []
    for subject, over in overs:
        gathering.add(Alert(kind=AlertKind.OVERDUE, subject=subject, summary=subject, at=T0, over=over), 0.0)
    while (closes_at := gathering.closes_at()) is not None and closes_at <= 30:
        message = gathering.close(30.0)
        assert message is not None
        (alert,) = message.alerts
        told.append((alert.subject, alert.over))
    return gathering, told


@pytest.mark.parametrize(
    ("comes", "told"),
    [
        ([("a", False), ("b", False), ("a", True)], [("a", False), ("b", False), ("a", True)]),
        ([("a", True), ("b", False)], [("a", True), ("b", False)]),
        ([("a", True), ("a", False)], [("a", True), ("a", False)]),
        ([("a", False), ("a", True), ("a", False)], [("a", False)]),
        ([("a", True), ("a", False), ("a", True)], [("a", True)]),
        ([("a", False), ("a", False)], [("a", False)]),
    ],
)
def test_where_a_template_has_a_key_each_alert_is_told_apart_and_in_order(
    comes: list[tuple[str, bool]], told: list[tuple[str, bool]]
) -> None:
    assert looks(*comes)[1] == told


def test_what_is_told_apart_keeps_to_the_rate_and_beyond_some_is_counted_only() -> None:
    gathering, told = looks(*[(f"s{number}", False) for number in range(1_000)])

    assert told == [(f"s{number}", False) for number in range(20)]
    left = []
    while (message := gathering.close(0.0)) is not None:
        left.append(message)
    assert (len(left), left[-1].count, sum(each.count for each in left)) == (80, 901, 980)


def test_the_end_of_what_was_counted_only_is_not_told_but_that_of_the_others_is() -> None:
    gathering, _ = looks(*[(f"s{number}", False) for number in range(1_000)])
    for subject in ("s0", "s999"):
        gathering.add(Alert(kind=AlertKind.OVERDUE, subject=subject, summary="", at=T0, over=True), now=60.0)

    ends = [message.alerts[0] for message in gathering.unwritten() if message.alerts[0].over]
    assert [alert.subject for alert in ends] == ["s0"]


def test_what_is_withdrawn_before_it_is_told_is_dropped_in_the_ledger_too() -> None:
    gathering = a_gathering(channel=PAGER)
    for over in (False, True):
        gathering.add(Alert(kind=AlertKind.OVERDUE, subject="a", summary="", at=T0, over=over), 0.0)
    written = gathering.unwritten()
    gathering.add(Alert(kind=AlertKind.OVERDUE, subject="a", summary="", at=T0), 1.0)

    first, second = gathering.unwritten()
    assert (first.identity, first.state, first.next_at) == (written[1].identity, MessageState.DROPPED, None)
    assert (second.identity, second.alerts[0].before) == (written[0].identity, 1)


def told_by(watchman: Watchman, *events: Event) -> Message:
    """Return a message that tells of events."""
    gathering = a_gathering(channel=a_channel(a_webhook()))
    for alert in watchman.hears(*events):
        gathering.add(alert, 0.0)
    message = gathering.close(30.0)
    assert message is not None
    return replace(message, state=MessageState.SENT)


def recalling(*messages: Message, runs: tuple[Run, ...] = ()) -> tuple[Watchman, list[Alert]]:
    """Return a judge of a new process, a minute later, and what is over by then."""
    watchman = Watchman()
    told = deciding.last_told(messages)
    by_id = {run.id: run for run in runs}
    return watchman, watchman.judge.recall(told, by_id, T0 + timedelta(minutes=1), watchman.now)


def test_what_a_former_process_has_told_is_not_told_anew(watchman: Watchman) -> None:
    run = left_in_doubt(id=17)
    begun: list[Event] = [moved(RunState.FAILED), reloaded(ReloadOutcome.HELD), RunMoved(run)]
    message = told_by(watchman, *begun, overdue("hourly"), overdue("hourly"))

    next_one, over = recalling(message, runs=(run,))

    assert over == []
    assert next_one.hears(*begun, overdue("hourly"), overdue("hourly")) == []
    assert next_one.hears(moved(RunState.FAILED), after=REPEAT)[0].before == 1


def test_what_a_former_process_has_told_is_told_to_be_over(watchman: Watchman) -> None:
    run = left_in_doubt(id=17)
    message = told_by(
        watchman, reloaded(ReloadOutcome.REFUSED), RunMoved(run), overdue("hourly"), overdue("hourly")
    )

    next_one, _ = recalling(message, runs=(run,))
    over = next_one.hears(
        reloaded(ReloadOutcome.APPLIED), RunMoved(replace(run, state=RunState.TRIGGERED)), overdue()
    )

    assert said(over) == [
        (AlertKind.REFUSED, "catalog", True),
        (AlertKind.IN_DOUBT, "nightly", True),
        (AlertKind.OVERDUE, "hourly", True),
    ]


def test_what_ended_while_nobody_was_there_is_over_at_once(watchman: Watchman) -> None:
    run = left_in_doubt(id=17)

    _, over = recalling(told_by(watchman, RunMoved(run)), runs=(replace(run, state=RunState.TRIGGERED),))

    assert said(over) == [(AlertKind.IN_DOUBT, "nightly", True)]


def test_what_was_over_or_was_never_told_is_not_told_to_be_over(watchman: Watchman) -> None:
    refused = told_by(watchman, reloaded(ReloadOutcome.REFUSED))
    good = told_by(watchman, reloaded(ReloadOutcome.APPLIED))
    given_up = replace(refused, state=MessageState.FAILED)

    for messages in ([good, refused], [given_up]):
        assert recalling(*messages)[0].hears(reloaded(ReloadOutcome.APPLIED)) == []


def test_a_reload_that_was_heard_before_the_ledger_told_counts_more(watchman: Watchman) -> None:
    message = told_by(watchman, reloaded(ReloadOutcome.HELD))
    next_one = Watchman()
    next_one.hears(reloaded(ReloadOutcome.APPLIED))

    over = next_one.judge.recall(deciding.last_told([message]), {}, T0, 0.0)

    assert said(over) == [(AlertKind.HELD, "catalog", True)]


@pytest.mark.parametrize(("latest", "well"), [(None, False), (T0, False), (T0 + timedelta(hours=1), True)])
def test_a_failure_is_forgotten_where_a_later_run_was_triggered(
    watchman: Watchman, latest: datetime | None, *, well: bool
) -> None:
    (alert,) = watchman.hears(moved(RunState.FAILED))

    assert deciding.has_done_well(alert, {"nightly": latest} if latest else {}) is well
