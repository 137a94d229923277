"""How much a target gets, held against a judge that counts fire by fire."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile

from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched import timeline
from flowsched.model import Blackout, Limits, Schedule, Then
from flowsched.review.load import Crowd, Load, crowded, load
from tests.builders import T0, a_schedule
from tests.test_review_collisions import JANUARY, MINUTE, NEAR_A_CHANGE, catalogs

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def limits(rate: int | None) -> dict[str, Limits]:
    return {"default": Limits(concurrency=20, rate_per_minute=rate)}


# Load.


def test_fires_of_a_minute_are_counted_for_each_target() -> None:
    schedules = [
        a_schedule("a", "0 1,2 * * *"),
        a_schedule("b", "0 2 * * *"),
        a_schedule("c", "1 2 * * *"),
        a_schedule("d", "0 2 * * *", target=None),
        a_schedule("e", "0 2 * * *", enabled=False),
    ]

    found = load(schedules, after=T0, until=T0 + DAY)

    assert found["default"].minutes == {T0 + HOUR: 1, T0 + 2 * HOUR: 2, T0 + 2 * HOUR + MINUTE: 1}
    assert found[None].minutes == {T0 + 2 * HOUR: 1}
    assert found["default"].fires == 4


def test_the_busiest_minute_and_hour_are_the_first_of_their_like() -> None:
    found = load([a_schedule("a", "0,30 1,2 * * *")], after=T0, until=T0 + 3 * DAY)["default"]

    assert found.busiest_minute == (T0 + HOUR, 1)
    assert found.busiest_hour == (T0 + HOUR, 2)
    assert found.hours == {T0 + n * DAY + hour * HOUR: 2 for n in range(3) for hour in (1, 2)}


def test_a_target_without_a_fire_has_an_empty_load() -> None:
    found = load([a_schedule("a", ends_at=T0)], after=T0, until=T0 + DAY)["default"]

    assert found == Load("default", {})
    assert (found.fires, found.busiest_minute, found.busiest_hour) == (0, None, None)


def test_a_skipped_fire_does_not_count_and_a_deferred_one_does_at_the_end() -> None:
    frozen = [
        a_schedule(then, "30 2 * * *", target=then, blackout=Blackout((JANUARY,), then)) for then in Then
    ]

    found = load(frozen, after=T0, until=T0 + 31 * DAY)

    assert found["skip"].minutes == {T0 + 2.5 * HOUR: 1}
    assert found["defer"].minutes == {T0 + 2.5 * HOUR: 1, T0 + 31 * DAY: 1}


def test_a_fire_that_is_held_at_the_beginning_counts_at_the_end_of_its_blackout() -> None:
    held = a_schedule("a", "30 2 * * *", blackout=Blackout((JANUARY,), Then.DEFER))

    found = load([held], after=T0 + 30.9 * DAY, until=T0 + 32 * DAY)["default"]

    assert found.minutes == {T0 + 31 * DAY: 1, T0 + 31 * DAY + 2.5 * HOUR: 1}


def test_jitter_spreads_what_is_due_together() -> None:
    schedules = [a_schedule(f"{n}", "0 * * * *", jitter=timedelta(minutes=30)) for n in range(100)]

    found = load(schedules, after=T0 + 30 * MINUTE, until=T0 + 90 * MINUTE)["default"]

    assert found.fires == 100
    assert len(found.minutes) > 20
    assert all(T0 + HOUR <= at < T0 + 1.5 * HOUR for at in found.minutes)


def test_thousands_in_one_minute_are_counted_exactly() -> None:
    schedules = [
        *(a_schedule(f"a{n}", "* * * * *") for n in range(1000)),
        *(a_schedule(f"b{n}", f"{n % 60} * * * *") for n in range(600)),
    ]

    found = load(schedules, after=T0, until=T0 + DAY)["default"]

    assert set(found.minutes.values()) == {1010}
    assert found.busiest_hour == (T0 + HOUR, 60 * 1010)


# The judge.


def due(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    """When the fires of a schedule are due, worked out one by one from well before `after`."""
    times = takewhile(lambda at: at <= until, timeline.fire_times(schedule.timing, after - 20 * DAY))
    found = []
    for fire_time, following in pairwise([*times, None]):
        assert fire_time is not None
        hold = timeline.stay(schedule, fire_time)
        goes_out = fire_time if hold is None else hold.until
        if following is None:
            following = next(timeline.fire_times(schedule.timing, fire_time), None)  # noqa: PLW2901
        if goes_out is not None:
            found.append(timeline.due_time(schedule, goes_out, following))
    return [at for at in found if after < at <= until]


JITTERS = st.sampled_from([timedelta(0), timedelta(minutes=7), timedelta(hours=30)])


@settings(derandomize=True, max_examples=60)
@given(catalogs(), st.lists(JITTERS, min_size=5, max_size=5), NEAR_A_CHANGE, st.integers(0, 8 * 24 * 60))
def test_the_load_is_what_a_judge_of_every_fire_counts(
    schedules: list[Schedule], jitters: list[timedelta], after: datetime, minutes: int
) -> None:
    until = after + minutes * MINUTE
    jittered = [
        a_schedule(
            each.id,
            each.timing.cron,
            each.timing.timezone,
            starts_at=each.timing.starts_at,
            ends_at=each.timing.ends_at,
            blackout=each.blackout,
            jitter=jitter,
        )
        for each, jitter in zip(schedules, jitters, strict=True)
    ]
    expected = Counter(
        at.replace(second=0, microsecond=0) for each in jittered for at in due(each, after, until)
    )

    found = load(jittered, after=after, until=until)["default"]

    assert found.minutes == expected
    assert list(found.minutes) == sorted(expected)


# Crowds.


def test_a_minute_with_more_fires_than_the_rate_is_crowded() -> None:
    schedules = [
        *(a_schedule(f"a{n}", "0 2 * * *") for n in range(6)),
        *(a_schedule(f"b{n}", "0 3 1 * *") for n in range(5)),
        a_schedule("c", "1-58 * * * *"),
    ]
    loads = load(schedules, after=T0, until=T0 + 2 * DAY)

    (crowd,) = crowded(loads, limits(5))

    first, second = T0 + 2 * HOUR, T0 + DAY + 2 * HOUR
    assert crowd == Crowd("default", 5, {first: 6, second: 6}, crowd.room)
    assert crowd.worst == (first, 6)
    assert crowd.room == {**dict.fromkeys(range(1, 59), 4), 59: 5}


def test_there_is_room_only_where_every_crowded_hour_has_some() -> None:
    schedules = [
        *(a_schedule(f"a{n}", "0 2,3 * * *") for n in range(9)),
        *(a_schedule(f"b{n}", "5-59 2 * * *") for n in range(4)),
        *(a_schedule(f"c{n}", "0-3 3 * * *") for n in range(7)),
    ]
    loads = load(schedules, after=T0, until=T0 + DAY)

    (crowd,) = crowded(loads, limits(5))

    assert crowd.room == {4: 5, **dict.fromkeys(range(5, 60), 1)}


def test_a_target_without_a_known_rate_has_no_crowd() -> None:
    loads = load([a_schedule(f"{n}") for n in range(100)], after=T0, until=T0 + DAY)

    assert crowded(loads, limits(None)) == []
    assert crowded(loads, {}) == []
    assert crowded(loads, limits(100)) == []
    assert crowded({None: Load(None, {datetime(2026, 1, 1, tzinfo=UTC): 9})}, limits(1)) == []
