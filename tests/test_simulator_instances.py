"""Lines of instances, over a table of looks: one of a flow runs, the others wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flowsched.simulator import Instance, Status, instance_id
from flowsched.simulator.instances import Instances

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def instances(minutes: int = 5) -> Instances:
    return Instances(lambda flow: timedelta(minutes=minutes))


def instance(trigger_time: datetime, *, flow: int = 7, created: datetime = NOON) -> Instance:
    return Instance(
        id=instance_id(flow, trigger_time),
        flow=flow,
        task=None,
        trigger_time=trigger_time,
        parameters={},
        ends_as=Status.SUCCESS,
        created=created,
    )


def statuses(book: Instances, now: datetime) -> list[str]:
    return [each.status.name for each in book.every(now)]


def test_a_past_trigger_time_starts_at_once() -> None:
    book = instances()
    late = instance(NOON - timedelta(days=30))

    book.add(late)

    assert statuses(book, NOON) == ["RUNNING"]
    assert late.started == NOON


def test_a_future_trigger_time_waits_for_it() -> None:
    book = instances()
    early = instance(NOON + 3 * MINUTE)

    book.add(early)

    assert statuses(book, NOON + 2 * MINUTE) == ["WAIT"]
    assert statuses(book, NOON + 3 * MINUTE) == ["RUNNING"]
    assert early.started == NOON + 3 * MINUTE


def test_the_second_of_a_flow_waits_until_the_first_has_ended() -> None:
    book = instances()
    first, second = instance(NOON), instance(NOON - MINUTE)

    book.add(first)
    book.add(second)

    assert statuses(book, NOON + 4 * MINUTE) == ["RUNNING", "WAIT"]
    assert statuses(book, NOON + 5 * MINUTE) == ["SUCCESS", "RUNNING"]
    assert second.started == first.ended == NOON + 5 * MINUTE


def test_one_late_look_gives_the_same_lives_as_many_looks() -> None:
    seldom, often = instances(), instances()
    for book in (seldom, often):
        for minute in (0, 1, 2, 30):
            book.add(instance(NOON + minute * MINUTE))

    for minute in range(60):
        often.every(NOON + minute * MINUTE)

    lives = [(each.started, each.ended) for each in seldom.every(NOON + 60 * MINUTE)]
    assert lives == [(each.started, each.ended) for each in often.every(NOON + 60 * MINUTE)]
    assert lives == [(NOON + start * MINUTE, NOON + (start + 5) * MINUTE) for start in (0, 5, 10, 30)]


def test_flows_do_not_wait_for_each_other() -> None:
    book = instances()

    book.add(instance(NOON, flow=7))
    book.add(instance(NOON, flow=8))

    assert statuses(book, NOON) == ["RUNNING", "RUNNING"]


def test_one_that_waits_ahead_of_its_time_lets_a_ready_one_go_first() -> None:
    book = instances()

    book.add(instance(NOON + 9 * MINUTE))
    book.add(instance(NOON))

    assert statuses(book, NOON) == ["WAIT", "RUNNING"]


def test_an_id_is_given_once_and_for_ever() -> None:
    book = instances(minutes=0)
    book.add(instance(NOON))
    book.every(NOON + 60 * MINUTE)

    assert not book.add(instance(NOON + timedelta(seconds=59), created=NOON + 60 * MINUTE))


def test_cancelling_the_running_one_lets_the_next_begin_then() -> None:
    book = instances()
    first, second = instance(NOON), instance(NOON + MINUTE)
    book.add(first)
    book.add(second)

    assert book.cancel(first, NOON + 2 * MINUTE)

    assert statuses(book, NOON + 2 * MINUTE) == ["CANCEL", "RUNNING"]
    assert second.started == NOON + 2 * MINUTE


def test_cancelling_a_waiting_one_takes_it_out_of_the_line() -> None:
    book = instances()
    first, second, third = (instance(NOON + minute * MINUTE) for minute in range(3))
    for each in (first, second, third):
        book.add(each)

    assert book.cancel(second, NOON + MINUTE)

    assert statuses(book, NOON + 5 * MINUTE) == ["SUCCESS", "CANCEL", "RUNNING"]
    assert second.started is None


def test_one_that_has_ended_cannot_be_cancelled() -> None:
    book = instances()
    only = instance(NOON)
    book.add(only)

    assert not book.cancel(only, NOON + 5 * MINUTE)
    assert statuses(book, NOON + 5 * MINUTE) == ["SUCCESS"]
