"""Which schedules collide, held against a judge that looks at every fire of every pair."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched import timeline
from flowsched.errors import Severity
from flowsched.model import Acceptance, Blackout, Calendar, Days, Schedule, Source, Span, Then, WeeklyWindow
from flowsched.review.collisions import HORIZON, MOST_LISTED, Collisions, collisions, problems
from tests.builders import T0, a_schedule

if TYPE_CHECKING:
    from collections.abc import Collection

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
ACCEPTED = Acceptance("collision", "the second may be left out", "b")


def found_in(*schedules: Schedule, of: Collection[str] | None = None) -> list[tuple[str, str, int]]:
    """The pairs that collide within the horizon, and how often."""
    found = collisions(schedules, after=T0, until=T0 + HORIZON, of=of)
    return [(pair.sent.id, pair.skipped.id, pair.count) for pair in found.pairs]


def place(schedule: Schedule, path: tuple[str, ...]) -> tuple[str, int, int]:
    return schedule.source.file, schedule.source.line + 2, len(path)


# What collides.


def test_two_schedules_with_fires_for_one_flow_in_one_minute_collide() -> None:
    night, hourly = a_schedule("night", "30 2 * * *"), a_schedule("hourly", "*/30 * * * *")

    (pair,) = collisions([night, hourly], after=T0, until=T0 + HORIZON).pairs

    assert (pair.sent, pair.skipped) == (hourly, night)
    assert pair.count == 400
    assert pair.first == tuple(T0 + n * DAY + timedelta(hours=2.5) for n in range(3))
    assert pair.accepted is None


def test_the_task_makes_no_difference_and_flow_and_target_do() -> None:
    assert found_in(a_schedule("a", task=1), a_schedule("b", task=2)) == [("a", "b", 400)]
    assert found_in(a_schedule("a", flow=1), a_schedule("b", flow=2)) == []
    assert found_in(a_schedule("a", target="x"), a_schedule("b", target="y")) == []
    assert found_in(a_schedule("a", target=None), a_schedule("b", target=None)) == [("a", "b", 400)]


@pytest.mark.parametrize(
    ("targets", "colliding"),
    [
        ((None, "plant"), [(0, 1)]),
        ((None, "default", "plant"), [(0, 1)]),
        ((None, "north", "south"), []),
        ((None, None, "default"), [(0, 1), (0, 2), (1, 2)]),
    ],
)
def test_no_target_is_the_only_one_that_is_named_or_the_default(
    targets: tuple[str | None, ...], colliding: list[tuple[int, int]]
) -> None:
    schedules = [a_schedule(str(number), target=target) for number, target in enumerate(targets)]

    found = found_in(*schedules)

    assert found == [(str(one), str(other), 400) for one, other in colliding]


def test_a_disabled_schedule_collides_with_none() -> None:
    assert found_in(a_schedule("a"), a_schedule("b", enabled=False)) == []


def test_two_zones_may_agree_for_part_of_the_year() -> None:
    berlin = a_schedule("berlin", "0 3 * * *", "Europe/Berlin")
    new_york = a_schedule("new-york", "0 22 * * *", "America/New_York")

    (pair,) = collisions([berlin, new_york], after=T0, until=T0 + 365 * DAY).pairs

    # New York changes its clock three weeks before Berlin does in spring, and one week after it in autumn.
    assert pair.first == tuple(datetime(2026, 3, day, 2, tzinfo=UTC) for day in (9, 10, 11))
    assert pair.count == 28


def test_two_zones_may_share_a_minute_of_the_day_and_never_on_one_day() -> None:
    berlin = a_schedule("berlin", "30 3 * * *", "Europe/Berlin")  # 02:30Z in winter, 01:30Z in summer
    london = a_schedule("london", "30 1 * * *", "Europe/London")  # 01:30Z in winter, 00:30Z in summer

    assert found_in(berlin, london) == []


def test_fixed_times_fall_together_at_the_end_of_a_gap_alone() -> None:
    gap = a_schedule("gap", "30 2 * * *", "Europe/Berlin")
    after = a_schedule("after", "0 3 * * *", "Europe/Berlin")

    (pair,) = collisions([gap, after], after=T0, until=T0 + HORIZON).pairs

    assert (pair.count, pair.first) == (1, (datetime(2026, 3, 29, 1, tzinfo=UTC),))


def test_no_fire_before_the_start_of_a_schedule_or_from_its_end_on_collides() -> None:
    early = a_schedule("early", "0 * * * *", ends_at=T0 + DAY)
    late = a_schedule("late", "0 * * * *", starts_at=T0 + DAY)
    between = a_schedule(
        "between", "0 * * * *", starts_at=T0 + 22 * 60 * MINUTE, ends_at=T0 + 25 * 60 * MINUTE
    )

    assert found_in(early, late) == []
    assert found_in(early, late, between) == [("between", "early", 2), ("between", "late", 1)]


def test_the_horizon_begins_exclusively_and_ends_inclusively() -> None:
    pair = [a_schedule("a", "0 * * * *"), a_schedule("b", "0 * * * *")]

    (found,) = collisions(pair, after=T0, until=T0 + timedelta(hours=2)).pairs

    assert found.first == (T0 + timedelta(hours=1), T0 + timedelta(hours=2))
    assert collisions(pair, after=T0, until=T0 + 59 * MINUTE) == Collisions((), {})


# Blackouts.


def a_calendar(**parts: object) -> Calendar:
    return Calendar(name="freeze", description=None, timezone=None, source=Source("a.yaml", 1), **parts)  # type: ignore[arg-type]


JANUARY = a_calendar(days=(Days(date(2026, 1, 2), date(2026, 1, 31)),))


def test_a_fire_that_is_skipped_does_not_collide() -> None:
    free = a_schedule("a", "30 2 * * *")
    frozen = a_schedule("b", "30 2 * * *", blackout=Blackout((JANUARY,), Then.SKIP))

    assert found_in(free, frozen) == [("a", "b", 370)]


def test_a_fire_that_is_deferred_collides_by_its_fire_time() -> None:
    free = a_schedule("a", "30 2 * * *")
    frozen = a_schedule("b", "30 2 * * *", blackout=Blackout((JANUARY,), Then.DEFER))
    at_its_end = a_schedule("c", "0 0 1 2 *")

    (pair, other) = (
        collisions([free, frozen], after=T0, until=T0 + HORIZON).pairs[0],
        found_in(frozen, at_its_end),
    )

    assert pair.count == 371
    assert pair.first[1] == datetime(2026, 1, 31, 2, 30, tzinfo=UTC)
    assert other == []


# The judge.

ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"]
)
EXPRESSIONS = st.sampled_from([
    "0 * * * *", "*/45 * * * *", "30 2 * * *", "0 3 * * *", "0,30 1-3 * * *", "0 0 1 * 1", "15 */5 * * *",
    "30 1 * * 6,0", "0 12 L * *", "45 20 * * *", "*/15 2 * * *",
])  # fmt: skip
NEAR_A_CHANGE = st.integers(-20_000, 20_000).map(lambda n: datetime(2026, 4, 2, tzinfo=UTC) + n * MINUTE)
MIDNIGHT, MORNING = time(0), time(6)
CALENDARS = [
    a_calendar(weekly=(WeeklyWindow(5, time(1, 30), 0, MORNING),)),
    a_calendar(days=(Days(date(2026, 3, 28), date(2026, 4, 6)),)),
    a_calendar(
        spans=(Span(datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC), datetime(2026, 3, 29, 2, tzinfo=UTC)),)
    ),
    a_calendar(weekly=tuple(WeeklyWindow(day, time(23), (day + 1) % 7, time(3)) for day in range(7))),
]
BLACKOUTS = st.builds(
    Blackout, st.lists(st.sampled_from(CALENDARS), min_size=1, max_size=2).map(tuple), st.sampled_from(Then)
)
ACCEPTANCES = st.builds(
    Acceptance, st.sampled_from(["collision", "missing-owner"]), st.just("so"), st.sampled_from("abcde")
)


@st.composite
def catalogs(draw: st.DrawFn) -> list[Schedule]:
    return [
        a_schedule(
            name,
            draw(EXPRESSIONS),
            draw(ZONES),
            starts_at=draw(st.none() | NEAR_A_CHANGE),
            ends_at=draw(st.none() | NEAR_A_CHANGE),
            enabled=draw(st.integers(0, 9)) > 0,
            flow=draw(st.integers(1, 2)),
            blackout=draw(st.none() | BLACKOUTS),
            accept=tuple(draw(st.lists(ACCEPTANCES, max_size=2))),
        )
        for name in draw(st.permutations("abcde"))
    ]


def fires_of(schedule: Schedule, after: datetime, until: datetime) -> set[datetime]:
    """The fires that are sent, by their fire times, one by one."""
    fires = [fire.fire_time for fire in timeline.fires([schedule], after=after, until=until)]
    holds = {at: timeline.stay(schedule, at) for at in fires}
    return {at for at, hold in holds.items() if hold is None or hold.until is not None}


def accepts(one: Schedule, other: Schedule) -> bool:
    return any(each.rule == "collision" and each.other == other.id for each in one.accept)


@settings(derandomize=True, max_examples=300)
@given(catalogs(), NEAR_A_CHANGE, st.integers(0, 30 * 24 * 60), st.none() | st.sets(st.sampled_from("abcde")))
def test_what_collides_is_what_a_judge_of_every_fire_finds(
    schedules: list[Schedule], after: datetime, minutes: int, of: set[str] | None
) -> None:
    until = after + minutes * MINUTE
    fires = {schedule.id: fires_of(schedule, after, until) for schedule in schedules}
    expected = []
    for one, other in combinations(sorted(schedules, key=lambda each: each.id), 2):
        common = sorted(fires[one.id] & fires[other.id])
        if one.flow == other.flow and common and (of is None or {one.id, other.id} & of):
            accepted = accepts(one, other) or accepts(other, one)
            expected.append((one, other, len(common), tuple(common[:3]), accepted))

    found = collisions(schedules, after=after, until=until, of=of)

    assert [(p.sent, p.skipped, p.count, p.first, p.accepted is not None) for p in found.pairs] == expected
    assert found.unlisted == {}


# What is listed.


def test_all_pairs_of_a_crowd_are_counted_and_the_first_are_listed() -> None:
    crowd = [a_schedule(f"{n:04}", "* * * * *") for n in range(1000)]

    found = collisions(crowd, after=T0, until=T0 + HORIZON)

    assert [(pair.sent.id, pair.skipped.id) for pair in found.pairs] == [
        ("0000", f"{n:04}") for n in range(1, MOST_LISTED + 1)
    ]
    assert {pair.count for pair in found.pairs} == {400 * 24 * 60}
    assert found.unlisted == {("default", 3377): 1000 * 999 // 2 - MOST_LISTED}


def test_of_a_crowd_only_the_pairs_with_one_that_is_asked_for_are_counted() -> None:
    crowd = [a_schedule(f"{n:04}", f"0 {n % 3} * * *") for n in range(600)]

    found = collisions(crowd, after=T0, until=T0 + HORIZON, of=["0007", "0010"])

    assert len(found.pairs) + sum(found.unlisted.values()) == 199 + 198
    assert all({pair.sent.id, pair.skipped.id} & {"0007", "0010"} for pair in found.pairs)


def test_what_is_accepted_is_listed_however_many_others_there_are() -> None:
    crowd = [a_schedule(f"{n:04}", "@daily") for n in range(200)]
    last_two = [
        a_schedule("a", "@daily"),
        a_schedule("b", "@daily", accept=(Acceptance("collision", "they may", "a"),)),
    ]

    found = collisions([*last_two, *crowd], after=T0, until=T0 + HORIZON)

    assert [(pair.sent.id, pair.skipped.id) for pair in found.pairs if pair.accepted] == [("a", "b")]
    assert len(found.pairs) == MOST_LISTED + 1
    assert sum(found.unlisted.values()) == 202 * 201 // 2 - MOST_LISTED - 1


@pytest.mark.parametrize("side", ["a", "b"])
def test_either_of_two_may_accept_what_both_do(side: str) -> None:
    other = {"a": "b", "b": "a"}[side]
    accepted = Acceptance("collision", "the second may be left out", other)
    pair = [a_schedule(name, accept=(accepted,) if name == side else ()) for name in "ab"]

    found = collisions(pair, after=T0, until=T0 + HORIZON)

    assert [each.accepted for each in found.pairs] == [accepted]
    assert problems(found, place) == []


def test_to_accept_another_rule_or_another_schedule_accepts_nothing() -> None:
    accept = (
        Acceptance("crowded-minute", "so"),
        Acceptance("collision", "so", "c"),
        Acceptance("collision", "so", "a"),
    )

    found = collisions([a_schedule("a", accept=accept), a_schedule("b")], after=T0, until=T0 + HORIZON)

    assert [pair.accepted for pair in found.pairs] == [None]


# The report.


def test_a_collision_is_an_error_at_the_cron_of_the_one_that_is_skipped() -> None:
    sent = a_schedule("a", source=Source("schedules/a.yaml", 3))
    skipped = a_schedule("b", source=Source("schedules/b.yaml", 7))
    found = collisions([sent, skipped], after=T0, until=T0 + HORIZON)

    (problem,) = problems(found, place)

    assert str(problem) == (
        "schedules/b.yaml:9:1: schedules.b.cron: fires with 'a' (schedules/a.yaml:5) at 2026-01-01T02:30Z, "
        "2026-01-02T02:30Z, 2026-01-03T02:30Z and 397 more times; of two fires for flow 3377 of target "
        "'default' in one minute EnOS refuses the second; allowed: other minutes, or "
        "accept: {collision: {a: the reason}} [collision]"
    )
    assert problem.severity is Severity.ERROR


def test_of_pairs_that_are_not_listed_the_number_is_told() -> None:
    crowd = [a_schedule(f"{n:02}", "0 0 1 1 *", target=None, source=Source("a.yaml", n)) for n in range(20)]
    found = collisions(crowd, after=T0, until=T0 + HORIZON)

    *_, last = problems(found, place)

    assert found.pairs[0].first == (datetime(2027, 1, 1, tzinfo=UTC),)
    assert last.message == "90 more pairs of schedules collide on flow 3377"
    assert len(problems(found, place)) == MOST_LISTED + 1
