from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from importlib.resources import files
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched import blackouts, cron, timeline
from flowsched.model import Timing
from tests.builders import T0, a_schedule, closed, deferred

if TYPE_CHECKING:
    from pathlib import Path

    from flowsched.model import Blackout, Schedule

MINUTE = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)
DAY = timedelta(days=1)

STEADY = settings(derandomize=True)
"""The same examples on every machine, and no test that fails for being slow."""

INSTANTS = st.integers(-3 * 24 * 60, 3 * 24 * 60).map(
    lambda minutes: datetime(2026, 3, 29, tzinfo=UTC) + minutes * MINUTE
)
BOUNDS = st.none() | INSTANTS
EXPRESSIONS = st.sampled_from(["* * * * *", "*/15 * * * *", "30 2 * * *", "0 */5 * * *", "@weekly"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"])


# Fire times.


def test_the_start_of_a_timing_is_inclusive_and_its_end_exclusive() -> None:
    timing = Timing("0 * * * *", "UTC", T0 + timedelta(hours=2), T0 + timedelta(hours=4))

    times = list(timeline.fire_times(timing, T0))

    assert times == [T0 + timedelta(hours=2), T0 + timedelta(hours=3)]
    assert list(timeline.fire_times(timing, times[0])) == times[1:]
    assert not list(timeline.fire_times(timing, times[1]))


def test_bounds_may_lie_between_two_fire_times_or_leave_none() -> None:
    timing = Timing("0 * * * *", "UTC", T0 + MINUTE, T0 + 61 * MINUTE)
    none = replace(timing, ends_at=T0 + 59 * MINUTE)

    assert list(timeline.fire_times(timing, T0 - DAY)) == [T0 + timedelta(hours=1)]
    assert not list(timeline.fire_times(none, T0 - DAY))


@STEADY
@given(EXPRESSIONS, ZONES, BOUNDS, BOUNDS, INSTANTS)
def test_fire_times_are_those_of_cron_within_the_bounds(
    expression: str, zone: str, starts_at: datetime | None, ends_at: datetime | None, after: datetime
) -> None:
    until = after + 2 * DAY
    timing = Timing(expression, zone, starts_at, ends_at)
    unbounded = cron.parse(expression).fires(cron.zone(zone), after)

    found = list(takewhile(lambda at: at <= until, timeline.fire_times(timing, after)))

    assert found == [
        at
        for at in takewhile(lambda at: at <= until, unbounded)
        if (starts_at is None or at >= starts_at) and (ends_at is None or at < ends_at)
    ]
    assert all(at > after for at in found)
    assert all(earlier < later for earlier, later in pairwise(found))


# Due times.


@st.composite
def fires_with_jitter(draw: st.DrawFn) -> tuple[str, timedelta, datetime, datetime | None]:
    """Return a schedule's id and jitter, a fire time, and the next one."""
    fire_time = draw(INSTANTS)
    gap = draw(st.none() | st.integers(1, 3 * 24 * 60))
    following = None if gap is None else fire_time + gap * MINUTE
    jitter = draw(st.timedeltas(timedelta(seconds=1), DAY) | st.just(DAY))
    return draw(st.text(min_size=1, max_size=20)), jitter, fire_time, following


@STEADY
@given(fires_with_jitter())
def test_a_fire_is_due_before_its_jitter_is_over_and_before_the_next_fire_time(
    fire: tuple[str, timedelta, datetime, datetime | None],
) -> None:
    schedule_id, jitter, fire_time, following = fire
    schedule = a_schedule(schedule_id, jitter=jitter)

    due = timeline.due_time(schedule, fire_time, following)

    assert fire_time <= due < fire_time + jitter
    assert following is None or due < following
    assert not (due - fire_time) % MILLISECOND
    assert timeline.due_time(a_schedule(schedule_id, jitter=jitter, flow=1), fire_time, following) == due


@STEADY
@given(fires_with_jitter())
def test_a_next_fire_time_that_is_further_than_the_jitter_changes_nothing(
    fire: tuple[str, timedelta, datetime, datetime | None],
) -> None:
    schedule_id, jitter, fire_time, _ = fire
    schedule = a_schedule(schedule_id, jitter=jitter)

    assert timeline.due_time(schedule, fire_time, fire_time + jitter) == timeline.due_time(
        schedule, fire_time, None
    )


@pytest.mark.parametrize("following", [None, T0 + MINUTE])
def test_without_jitter_a_fire_is_due_at_its_fire_time(following: datetime | None) -> None:
    assert timeline.due_time(a_schedule(), T0, following) == T0


def test_a_due_time_is_the_same_in_every_version_of_flowsched() -> None:
    # 2026-01-01T00:00Z is 1,767,225,600 seconds after the epoch.
    drawn = int(sha256(b"nightly 1767225600000").hexdigest()[:16], 16)
    schedule = a_schedule("nightly", jitter=timedelta(hours=1))

    due = timeline.due_time(schedule, T0, None)

    assert due == T0 + timedelta(milliseconds=3_600_000 * drawn // 2**64)
    assert due == datetime(2026, 1, 1, 0, 24, 41, 748_000, tzinfo=UTC)


def test_due_times_are_spread_over_the_jitter_by_schedule_and_by_fire_time() -> None:
    jitter = timedelta(minutes=10)
    by_schedule = [timeline.due_time(a_schedule(f"s{n}", jitter=jitter), T0, None) - T0 for n in range(1000)]
    nights = [T0 + n * DAY for n in range(1000)]
    by_fire_time = [timeline.due_time(a_schedule(jitter=jitter), at, None) - at for at in nights]

    for shares in (by_schedule, by_fire_time):
        tenths = [int(share / jitter * 10) for share in shares]
        assert all(70 <= tenths.count(tenth) <= 130 for tenth in range(10))


# Fires.


def test_fires_come_by_time_and_then_by_id() -> None:
    schedules = [
        a_schedule("b", "0 * * * *"),
        a_schedule("a", "0 * * * *"),
        a_schedule("c", "30 0 * * *"),
    ]

    fires = timeline.fires(schedules, after=T0, until=T0 + timedelta(hours=2))

    assert [(f"{fire.fire_time:%H:%M}", fire.schedule.id) for fire in fires] == [
        ("00:30", "c"),
        ("01:00", "a"),
        ("01:00", "b"),
        ("02:00", "a"),
        ("02:00", "b"),
    ]


def test_the_start_is_exclusive_and_the_end_inclusive() -> None:
    schedules = [a_schedule("a", "0 * * * *")]

    fires = timeline.fires(schedules, after=T0, until=T0 + timedelta(hours=1))

    assert [fire.fire_time for fire in fires] == [T0 + timedelta(hours=1)]


def test_a_schedule_does_not_fire_outside_its_bounds() -> None:
    bounded = Timing("30 2 * * *", "UTC", T0 + DAY, T0 + 2 * DAY)
    schedules = [replace(a_schedule("a"), timing=bounded), a_schedule("b")]

    fires = timeline.fires(schedules, after=T0, until=T0 + 3 * DAY)

    assert [(fire.fire_time.day, fire.schedule.id) for fire in fires] == [
        (1, "b"),
        (2, "a"),
        (2, "b"),
        (3, "b"),
    ]


def test_a_disabled_schedule_does_not_fire() -> None:
    assert not list(timeline.fires([a_schedule(enabled=False)], after=T0, until=T0 + timedelta(days=9)))


def test_without_an_end_the_caller_takes_what_it_wants() -> None:
    assert len(list(islice(timeline.fires([a_schedule()], after=T0), 400))) == 400


# What a blackout does with a fire.

FREEZE = (T0 + timedelta(hours=2), T0 + timedelta(hours=5))


def holds(schedule: Schedule, hours: int = 8) -> dict[int, datetime | None]:
    """Return until when the fires of the first hours are held, by hour; None: skipped. The others are not."""
    fires = timeline.fires([schedule], after=T0 - MINUTE, until=T0 + timedelta(hours=hours))
    held = {fire.fire_time.hour: timeline.stay(schedule, fire.fire_time) for fire in fires}
    return {hour: hold.until for hour, hold in held.items() if hold}


def test_without_a_blackout_nothing_is_held() -> None:
    assert timeline.stay(a_schedule(cron="0 * * * *"), FREEZE[0]) is None


def test_a_fire_at_the_start_of_a_closed_time_is_inside_and_one_at_its_end_is_not() -> None:
    assert holds(a_schedule(cron="0 * * * *", blackout=closed(FREEZE))) == {2: None, 3: None, 4: None}


def test_the_last_fire_inside_is_deferred_and_those_before_it_are_skipped() -> None:
    schedule = a_schedule(cron="0 * * * *", blackout=deferred(FREEZE))

    assert holds(schedule) == {2: None, 3: None, 4: FREEZE[1]}
    reasons = [timeline.stay(schedule, T0 + timedelta(hours=hour)) for hour in (3, 4)]
    assert [hold and (hold.calendar, hold.reason) for hold in reasons] == [
        ("freeze", "blackout: freeze, and a later fire goes out at its end instead"),
        ("freeze", "blackout: freeze"),
    ]


def test_a_schedule_that_ends_inside_has_its_last_fire_deferred() -> None:
    schedule = a_schedule(cron="0 * * * *", ends_at=T0 + timedelta(hours=4), blackout=deferred(FREEZE))

    assert holds(schedule) == {2: None, 3: FREEZE[1]}


def test_closed_times_that_touch_defer_to_the_end_of_the_last() -> None:
    after = (FREEZE[1], FREEZE[1] + timedelta(hours=1))

    assert holds(a_schedule(cron="0 * * * *", blackout=deferred(after, FREEZE))) == {
        2: None, 3: None, 4: None, 5: after[1],
    }  # fmt: skip


def test_what_is_closed_without_an_end_in_sight_defers_nothing() -> None:
    schedule = a_schedule(blackout=deferred((T0, T0 + timedelta(days=500))))

    hold = timeline.stay(schedule, T0 + timedelta(days=1))

    assert hold == timeline.Stay("freeze", None, "blackout: freeze has no end in sight")


def test_a_closed_time_is_read_by_the_zone_data_of_the_timing(tmp_path: Path) -> None:
    data = tmp_path / "Europe" / "Berlin"
    data.parent.mkdir()
    (tmp_path / "Etc").mkdir()
    tokyo = files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    for path in (data, tmp_path / "Etc" / "UTC"):
        path.write_bytes(tokyo)
    with cron.zone_data(tmp_path):
        rules = cron.zone_rules("Europe/Berlin")
    noon = datetime.combine(T0.date(), time(12))
    blackout = closed((noon, noon + timedelta(hours=1)))
    moved = Timing("0 * * * *", "Europe/Berlin", rules=rules)

    assert holds(a_schedule(cron="0 * * * *", zone="Europe/Berlin", blackout=blackout), 15) == {11: None}
    assert holds(replace(a_schedule(blackout=blackout), timing=moved), 15) == {3: None}


LONG = (T0 - DAY, T0 + timedelta(days=1_000))
YEAR = timedelta(days=365)


@pytest.mark.parametrize(
    ("schedule", "goes_out"),
    [
        (a_schedule(), T0 + timedelta(hours=2, minutes=30)),
        (a_schedule(blackout=closed(FREEZE)), T0 + timedelta(days=1, hours=2, minutes=30)),
        (a_schedule(blackout=deferred(FREEZE)), FREEZE[1]),
        # A closed time of which no end is seen at first.
        (a_schedule(blackout=closed(LONG)), LONG[1] + timedelta(hours=2, minutes=30)),
        (a_schedule(blackout=deferred(LONG)), LONG[1]),
        (a_schedule(cron="0 0 1 6 *", blackout=deferred(LONG)), LONG[1]),
        (a_schedule(cron="0 0 29 2 *", blackout=deferred(LONG)), LONG[1]),
        # Its last fire inside does not see the end, 411 days later.
        (
            a_schedule(cron="0 0 29 2 *", blackout=deferred((T0, T0 + timedelta(days=1_200)))),
            datetime(2032, 2, 29, tzinfo=UTC),
        ),
        (a_schedule(blackout=closed((T0, T0 + 12 * YEAR))), None),
        (a_schedule(ends_at=T0 + DAY, blackout=closed(FREEZE)), None),
    ],
)  # fmt: skip
def test_what_goes_out_next_is_found_behind_closed_times_however_long(
    schedule: Schedule, goes_out: datetime | None
) -> None:
    assert timeline.next_out(schedule, T0) == goes_out


def test_closed_times_are_worked_out_beforehand_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def closures(blackout: Blackout, zone: str, begin: datetime, end: datetime, rules: str) -> None:
        asked.append((blackout.calendars[0].name, zone, begin.year, end.year, rules))
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(blackouts, "closures", closures)
    first, second = closed(FREEZE, name="first"), closed(FREEZE, name="second")
    timeline.work_out_blackouts(
        [
            a_schedule("a", blackout=first),
            a_schedule("b", cron="0 * * * *", blackout=first),
            a_schedule("c", zone="Europe/Berlin", blackout=first),
            a_schedule("d", blackout=second),
            a_schedule("e", blackout=closed(FREEZE, name="off"), enabled=False),
            a_schedule("f"),
        ],
        T0,
    )

    assert asked == [
        ("first", "UTC", 2026, 2027, ""),
        ("first", "Europe/Berlin", 2026, 2027, ""),
        ("second", "UTC", 2026, 2027, ""),
    ]
