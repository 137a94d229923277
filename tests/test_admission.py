from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.admission import admit
from flowsched.model import CatchUp, Origin, RunState
from tests.builders import T0, a_schedule

NOW = T0 + timedelta(days=1)


def ago(*minutes: float) -> list[datetime]:
    return [NOW - timedelta(minutes=each) for each in minutes]


def decided(catch_up: CatchUp, due: list[datetime], window: float = 60) -> list[str]:
    schedule = a_schedule(catch_up=catch_up, catch_up_window=timedelta(minutes=window))
    return [f"{each.state} {each.origin}" for each in admit(schedule, due, NOW)]


MISSED, ON_TIME, CAUGHT_UP = "missed schedule", "claimed schedule", "claimed catch_up"


@pytest.mark.parametrize("catch_up", CatchUp)
def test_a_fire_up_to_a_minute_late_is_an_ordinary_one(catch_up: CatchUp) -> None:
    assert decided(catch_up, ago(1, 0)) == [ON_TIME, ON_TIME]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp.NONE, [MISSED, MISSED, MISSED, MISSED]),
        (CatchUp.LATEST, [MISSED, MISSED, MISSED, CAUGHT_UP]),
        (CatchUp.ALL, [MISSED, CAUGHT_UP, CAUGHT_UP, CAUGHT_UP]),
    ],
)
def test_after_downtime_the_policy_decides_inside_the_window(catch_up: CatchUp, expected: list[str]) -> None:
    assert decided(catch_up, ago(60.1, 60, 30, 1.1)) == expected


def test_latest_prefers_a_fire_that_is_due_right_now() -> None:
    assert decided(CatchUp.LATEST, ago(30, 0.5)) == [MISSED, ON_TIME]


def test_a_window_of_zero_catches_nothing_up() -> None:
    assert decided(CatchUp.ALL, ago(2, 0), window=0) == [MISSED, ON_TIME]


@pytest.mark.parametrize(
    ("catch_up", "minutes", "reason"),
    [
        (CatchUp.NONE, 5, "5m late, and catch_up is none"),
        (CatchUp.LATEST, 61.5, "1h1m30s late, outside the catch_up_window of 1h"),
        (CatchUp.ALL, 26 * 60, "1d2h late, outside the catch_up_window of 1h"),
    ],
)
def test_a_missed_fire_says_why(catch_up: CatchUp, minutes: float, reason: str) -> None:
    (decision,) = admit(a_schedule(catch_up=catch_up), ago(minutes), NOW)

    assert decision.reason == reason


def test_a_fire_given_up_for_a_later_one_says_so() -> None:
    first, _ = admit(a_schedule(catch_up=CatchUp.LATEST), ago(5, 2), NOW)

    assert first.reason == "5m late, and catch_up: latest starts a later fire instead"


@given(
    catch_up=st.sampled_from(CatchUp),
    late=st.lists(st.integers(0, 100_000), unique=True),
    window=st.integers(0, 10_000),
)
def test_what_comes_out_is_what_went_in(catch_up: CatchUp, late: list[int], window: int) -> None:
    due = sorted(NOW - timedelta(seconds=each) for each in late)
    schedule = a_schedule(catch_up=catch_up, catch_up_window=timedelta(seconds=window))

    decisions = admit(schedule, due, NOW)

    assert [each.fire_time for each in decisions] == due
    for each in decisions:
        assert (each.state is RunState.MISSED) == (each.reason is not None)
        assert each.origin is not Origin.CATCH_UP or each.state is RunState.CLAIMED
