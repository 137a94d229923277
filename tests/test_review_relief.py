"""A crowd, and what to move so that there is none: applied, it must hold what it promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched.model import Limits
from flowsched.review.collisions import HORIZON, collisions
from flowsched.review.load import crowded, load
from flowsched.review.relief import Relief, moved, relief
from tests.builders import a_schedule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowsched.model import Schedule

AFTER = datetime(2026, 3, 28, tzinfo=UTC) - timedelta.resolution  # over the night when clocks go forward
UNTIL = AFTER + timedelta(days=3)


def limits(rate: int | None) -> dict[str, Limits]:
    return {"default": Limits(concurrency=20, rate_per_minute=rate)}


def relieved(schedules: Iterable[Schedule], rate: int | None) -> Relief:
    return relief(schedules, limits(rate), after=AFTER, until=UNTIL)


def applied(schedules: Iterable[Schedule], found: Relief) -> list[Schedule]:
    new = {shift.schedule.id: moved(shift) for shift in found.shifts}
    return [new.get(schedule.id, schedule) for schedule in schedules]


def told(found: Relief) -> dict[str, str]:
    return {shift.schedule.id: shift.cron for shift in found.shifts}


def a_crowd(*crons: str) -> list[Schedule]:
    return [a_schedule(f"s{number}", cron, flow=number + 1) for number, cron in enumerate(crons)]


def test_as_many_are_moved_as_are_too_many_to_the_nearest_free_minutes() -> None:
    found = relieved(a_crowd(*["0 * * * *"] * 5), 2)

    assert told(found) == {"s0": "1 * * * *", "s1": "1 * * * *", "s2": "2 * * * *"}
    assert found.left == ()


def test_nothing_is_proposed_where_there_is_no_crowd_or_no_limit() -> None:
    schedules = a_crowd(*["0 * * * *"] * 5)

    assert relieved(schedules, 5) == relieved(schedules, None) == Relief((), ())


def test_a_name_is_written_out_and_a_list_moves_as_a_whole() -> None:
    found = relieved(a_crowd("@hourly", "0 * * * *", "0,30 * * * *", "0,30 * * * *"), 1)

    assert told(found) == {
        "s2": "1,31 * * * *",
        "s3": "2,32 * * * *",
        "s0": "3 * * * *",
    }


def test_what_stands_in_nobodys_way_stays_and_so_does_what_has_jitter_or_a_step() -> None:
    stays = a_schedule("jittered", "0 * * * *", flow=90, jitter=timedelta(seconds=20))
    steps = a_schedule("steps", "*/30 * * * *", flow=91)
    alone = a_schedule("alone", "7 3 * * *", flow=92)

    found = relieved([*a_crowd("0 * * * *"), stays, steps, alone], 1)

    assert set(told(found)) == {"s0"}
    (crowd,) = found.left
    assert crowd.worst[1] == 2


def test_a_full_minute_and_a_collision_are_stepped_over() -> None:
    busy = [a_schedule(f"busy{number}", "1 * * * *", flow=50 + number) for number in range(2)]
    same_flow = a_schedule("same", "2 5 * * *", flow=1)

    found = relieved([*a_crowd("0 * * * *", "0 * * * *", "0 * * * *"), *busy, same_flow], 2)

    assert told(found) == {"s0": "3 * * * *"}


def test_what_does_not_help_is_not_proposed() -> None:
    # Each has a minute of its own, but for the night in which all of them fire at the end of the gap.
    schedules = [
        a_schedule(f"s{minute}", f"{minute} 2 * * *", "Europe/Berlin", flow=minute) for minute in (10, 20, 30)
    ]

    found = relieved(schedules, 2)

    assert found.shifts == ()
    (crowd,) = found.left
    assert crowd.worst == (datetime(2026, 3, 29, 1, tzinfo=UTC), 3)


def test_other_targets_are_left_alone() -> None:
    schedules = [*a_crowd("0 * * * *", "0 * * * *"), a_schedule("far", "0 * * * *", flow=9, target="far")]

    assert set(told(relieved(schedules, 1))) == {"s0"}


SCHEDULES = st.lists(
    st.builds(
        a_schedule,
        st.just(""),
        st.sampled_from(
            ["0 * * * *", "@hourly", "0 2 * * *", "@daily", "0,30 * * * *", "58 * * * *", "*/15 * * * *"]
        ),
        st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
        flow=st.integers(1, 6),
        jitter=st.sampled_from([timedelta(0)] * 3 + [timedelta(minutes=3)]),
        enabled=st.sampled_from([True, True, True, False]),
    ),
    max_size=12,
)


def pairs(schedules: Iterable[Schedule]) -> set[tuple[str, str]]:
    found = collisions(schedules, after=AFTER, until=AFTER + HORIZON)
    return {(each.sent.id, each.skipped.id) for each in found.pairs}


@given(SCHEDULES, st.integers(1, 4))
@settings(max_examples=60)
def test_a_proposal_that_is_applied_relieves_and_harms_nothing(made: list[Schedule], rate: int) -> None:
    schedules = [a_schedule(f"s{number}", each.timing.cron, each.timing.timezone, flow=each.flow,
                            jitter=each.jitter, enabled=each.enabled)
                 for number, each in enumerate(made)]  # fmt: skip
    before = load(schedules, after=AFTER, until=UNTIL)

    found = relieved(schedules, rate)

    then = applied(schedules, found)
    after = load(then, after=AFTER, until=UNTIL)
    assert list(found.left) == crowded(after, limits(rate))
    assert pairs(then) <= pairs(schedules)
    for target, loaded in after.items():
        full = {minute: count for minute, count in loaded.minutes.items() if count > rate}
        assert all(count <= before[target].minutes.get(minute, 0) for minute, count in full.items())
    excess = [sum(max(0, count - rate) for each in whole.values() for count in each.minutes.values())
              for whole in (before, after)]  # fmt: skip
    assert excess[1] < excess[0] if found.shifts else excess[1] == excess[0]
