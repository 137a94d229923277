"""What a clock change does to fires, in words, against the evaluator that fires them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import takewhile
from operator import gt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched import timeline
from flowsched.model import Timing
from flowsched.review.clock_changes import AHEAD, clock_changes, touched

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def told(cron: str, zone: str, **bounds: datetime) -> list[tuple[str, str]]:
    timing = replace(Timing(cron, zone), **bounds)  # type: ignore[arg-type]
    found = touched(timing, after=NOW, until=NOW + timedelta(days=365))
    return [(f"{each.change.reading_before:%m-%d}", each.words()) for each in found]


@pytest.mark.parametrize(
    ("cron", "zone", "expected"),
    [
        ("0 12 * * *", "Europe/Berlin", []),
        ("30 2 * * *", "UTC", []),
        (
            "30 2 * * *",
            "Europe/Berlin",
            [
                ("03-29", "02:30 does not exist: fires at 03:00"),
                ("10-25", "02:30 comes twice: fires the first time"),
            ],
        ),
        (
            "0,30 2,3 * * *",
            "Europe/Berlin",
            [
                ("03-29", "02:00 and 02:30 do not exist: fires once, at 03:00"),
                ("10-25", "02:00 and 02:30 come twice: fires the first time"),
            ],
        ),
        (
            "*/10 * * * *",
            "Europe/Berlin",
            [
                ("03-29", "6 times from 02:00 to 02:50 do not exist: no fire"),
                ("10-25", "6 times from 02:00 to 02:50 come twice: fires both times"),
            ],
        ),
        # Half an hour, and south of the equator.
        ("45 1 * * *", "Australia/Lord_Howe", [("04-05", "01:45 comes twice: fires the first time")]),
        ("15 2 * * *", "Australia/Lord_Howe", [("10-04", "02:15 does not exist: fires at 02:30")]),
        # The gap is at midnight.
        ("15 0 * * *", "America/Santiago", [("09-06", "00:15 does not exist: fires at 01:00")]),
        ("30 2 * * MON", "Europe/Berlin", []),
    ],
)
def test_the_words_of_a_year(cron: str, zone: str, expected: list[tuple[str, str]]) -> None:
    assert told(cron, zone) == expected


def test_only_what_its_dates_let_fire_is_touched() -> None:
    summer = datetime(2026, 6, 1, tzinfo=UTC)

    assert [day for day, _ in told("30 2 * * *", "Europe/Berlin", starts_at=summer)] == ["10-25"]
    assert [day for day, _ in told("30 2 * * *", "Europe/Berlin", ends_at=summer)] == ["03-29"]


def test_every_change_of_two_years_is_found_to_the_minute() -> None:
    changes = clock_changes("Europe/Berlin", "", NOW, NOW + AHEAD)

    assert [f"{each.at:%Y-%m-%dT%H:%M}" for each in changes] == [
        "2026-03-29T01:00", "2026-10-25T01:00", "2027-03-28T01:00", "2027-10-31T01:00",
    ]  # fmt: skip
    assert [each.left_out for each in changes] == [True, False, True, False]


@given(
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "UTC"]),
    st.sampled_from(["*", "30", "15,45", "*/20", "0-59/13"]),
    st.sampled_from(["*", "0", "1", "2", "1-3", "*/2"]),
)
def test_the_times_it_tells_of_are_shown_never_or_twice_and_the_fires_are_the_evaluators(
    zone: str, minute: str, hour: str
) -> None:
    timing = Timing(f"{minute} {hour} * * *", zone)

    for each in touched(timing, after=NOW, until=NOW + AHEAD):
        around = [each.change.at + timedelta(minutes=off) for off in range(-180, 180)]
        shown = Counter(at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in around)
        fires = set(takewhile(partial(gt, around[-1]), timeline.fire_times(timing, around[0])))
        assert {shown[wall] for wall in each.walls} == ({0} if each.change.left_out else {2})
        assert set(each.fires) <= fires
