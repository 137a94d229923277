"""Blocks hold the evaluator's fire times, all of them and no other, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched import cron, timeline
from flowsched.cron.blocks import DAY, minutes_between, ones
from flowsched.errors import CronError
from flowsched.model import Timing
from tests.builders import T0
from tests.test_cron import CHANGES
from tests.test_cron_properties import ANY_EXPRESSION, COUNTED_DAYS, MINUTE, STEADY, ZONES, Drawn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowsched.cron import Block, Horizon

YEAR = timedelta(days=400)
INSTANTS = st.datetimes(datetime(1973, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def instants(blocks: Iterable[Block], horizon: Horizon) -> list[datetime]:
    """All fire times in some blocks, each as often as it is there."""
    return sorted(
        horizon.instant(day * DAY + minute)
        for minutes, days in blocks
        for day in ones(days)
        for minute in ones(minutes)
    )


def assert_as_the_evaluator_has_it(timing: Timing, after: datetime, until: datetime) -> None:
    try:
        expected = list(takewhile(lambda at: at <= until, timeline.fire_times(timing, after)))
    except CronError:
        return
    horizon = cron.horizon(after, until)

    assert instants(timeline.fire_blocks(timing, horizon), horizon) == expected


@pytest.mark.parametrize(("name", "change"), [(zone, instant) for zone, instant, *_ in CHANGES])
@STEADY
@given(drawn=ANY_EXPRESSION, lead=st.integers(0, 2000), length=st.integers(0, 4000))
def test_around_a_change_of_the_clock(name: str, change: str, drawn: Drawn, lead: int, length: int) -> None:
    after = datetime.fromisoformat(change) - lead * MINUTE

    assert_as_the_evaluator_has_it(Timing(drawn.text, name), after, after + length * MINUTE)


@pytest.mark.parametrize("name", sorted({zone for zone, *_ in CHANGES} | {"Asia/Kathmandu"}))
@pytest.mark.parametrize("expression", ["30 2 * * *", "0,59 0-3 * * *", "*/20 2 * * *", "15 23 L * 5"])
def test_over_a_year(name: str, expression: str) -> None:
    assert_as_the_evaluator_has_it(Timing(expression, name), T0 + 17 * MINUTE, T0 + YEAR)


@STEADY
@given(drawn=ANY_EXPRESSION, zone=ZONES, after=INSTANTS, length=st.integers(0, 50_000))
def test_at_any_time(drawn: Drawn, zone: ZoneInfo, after: datetime, length: int) -> None:
    assert_as_the_evaluator_has_it(Timing(drawn.text, zone.key), after, after + length * MINUTE)


@STEADY
@given(days=COUNTED_DAYS, after=INSTANTS)
def test_on_days_counted_within_a_month(days: str, after: datetime) -> None:
    assert_as_the_evaluator_has_it(Timing(f"0 0 {days}", "UTC"), after, after + YEAR)


@STEADY
@given(
    starts=st.none() | st.integers(-200, 5000),
    ends=st.none() | st.integers(-200, 5000),
    seconds=st.integers(0, 59),
)
def test_within_the_bounds_of_a_timing(starts: int | None, ends: int | None, seconds: int) -> None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else T0 + minutes * MINUTE + timedelta(seconds=seconds)

    timing = replace(Timing("*/7 * * * *", "UTC"), starts_at=at(starts), ends_at=at(ends))

    assert_as_the_evaluator_has_it(timing, T0, T0 + 3000 * MINUTE)


def test_an_empty_horizon_and_the_ends_of_the_calendar_have_no_fires() -> None:
    for after, until in [
        (T0, T0 - YEAR),
        (T0, T0),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 9, tzinfo=UTC)),
        (datetime(9999, 12, 30, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
    ]:
        horizon = cron.horizon(after, until)

        assert timeline.fire_blocks(Timing("* * * * *", "Pacific/Apia"), horizon) == []


def test_a_minute_belongs_to_the_horizon_where_it_is_later_than_its_beginning_and_not_than_its_end() -> None:
    second = timedelta(seconds=1)

    for after, until, count in [
        (T0, T0 + MINUTE, 1),
        (T0 - second, T0, 1),
        (T0 + second, T0 + MINUTE - second, 0),
        (T0 - second, T0 + MINUTE + second, 2),
    ]:
        horizon = cron.horizon(after, until)

        assert horizon.end - horizon.begin == count


@STEADY
@given(st.integers(0, 9000), st.integers(-100, 9000))
def test_minutes_between_two_numbers_are_all_there_once(begin: int, length: int) -> None:
    numbers = [
        day * DAY + minute
        for minutes, days in minutes_between(begin, begin + length)
        for day in ones(days)
        for minute in ones(minutes)
    ]

    assert sorted(numbers) == list(range(begin, begin + length))


def test_no_zone_changes_its_offset_twice_within_two_days_and_all_are_whole_minutes_off() -> None:
    """What the search for changes day by day relies on: for every zone, in years that are reviewed."""
    first, days = datetime(2025, 1, 1, tzinfo=UTC), 6 * 365
    for name in available_timezones():
        zone = ZoneInfo(name)
        offsets = [(first + timedelta(days=day)).astimezone(zone).utcoffset() for day in range(days)]
        changed = [day for day, (old, new) in enumerate(pairwise(offsets)) if old != new]

        assert all(later - earlier > 2 for earlier, later in pairwise(changed)), name
        assert all(offset is not None and not offset % MINUTE for offset in offsets), name
