from __future__ import annotations

from datetime import timedelta
from itertools import islice

from flowsched import timeline
from tests.builders import T0, a_schedule


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


def test_a_disabled_schedule_does_not_fire() -> None:
    assert not list(timeline.fires([a_schedule(enabled=False)], after=T0, until=T0 + timedelta(days=9)))


def test_without_an_end_the_caller_takes_what_it_wants() -> None:
    assert len(list(islice(timeline.fires([a_schedule()], after=T0), 400))) == 400
