from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched.model import Origin, Outcome, RunState
from flowsched.runner.lanes import GRACE, SPACING, Lanes
from tests.builders import RETRY, T0, a_run, absent, an_answer, found, unclear
from tests.desk import FIRE, Desk, a_desk
from tests.fakes import HandClock, accepted, all_have_run, eventually, time_passes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from flowsched.model import Run

MINUTE = timedelta(minutes=1)
CATCH_UP = Origin.CATCH_UP


@dataclass(frozen=True)
class Send:
    """A call that was made; all in seconds by the monotonic clock."""

    run: int
    due: float
    began: float
    ended: float
    processed: bool


class Road:
    """A lane, and what was sent in it."""

    def __init__(self) -> None:
        self.clock = HandClock(T0)
        self.lane = Lanes(self.clock).of("default", 3377)
        self.sends: list[Send] = []
        self.expired: list[int] = []
        self._sending = False

    def goes(self, run: Run, *, takes: float = 0, processed: bool = True) -> asyncio.Task[None]:
        return asyncio.create_task(self._goes(run, takes, processed=processed))

    async def _goes(self, run: Run, takes: float, *, processed: bool) -> None:
        await self.clock.sleep((run.due_at - self.clock.now()).total_seconds())
        async with self.lane.order(run), self.lane.place(run) as admitted:
            if not admitted:
                self.expired.append(run.id)
                return
            assert not self._sending
            self._sending = True
            began = self.clock.monotonic()
            try:
                await self.clock.sleep(takes)
            finally:
                self._sending = False
                if processed:
                    self.lane.sent()
                due = (run.due_at - T0).total_seconds()
                self.sends.append(Send(run.id, due, began, self.clock.monotonic(), processed))

    async def passes(self, by: timedelta | float) -> None:
        await time_passes(self.clock, by, all_have_run)

    @property
    def order(self) -> list[int]:
        return [send.run for send in self.sends]

    @property
    def began(self) -> list[float]:
        return [send.began for send in self.sends]


def due(run_id: int, seconds: float = 0, origin: Origin = Origin.SCHEDULE, patience: float = 86_400) -> Run:
    """A run that is due so many seconds after T0, and has so many more until its deadline."""
    at = T0 + timedelta(seconds=seconds)
    return a_run(id=run_id, due_at=at, fire_time=at, origin=origin, deadline=at + timedelta(seconds=patience))


async def test_what_may_be_processed_keeps_the_next_away_for_a_minute() -> None:
    road = Road()
    for run in (due(1), due(2), due(3)):
        road.goes(run)

    await road.passes(300)

    assert (road.order, road.began) == ([1, 2, 3], [0, 60, 120])


async def test_what_is_surely_not_processed_keeps_nobody_away() -> None:
    road = Road()
    road.goes(due(1), takes=5, processed=False)
    road.goes(due(2), processed=False)
    road.goes(due(3))

    await road.passes(300)

    assert (road.order, road.began) == ([1, 2, 3], [0, 5, 5])


async def test_only_one_at_a_time_is_in_a_lane() -> None:
    road = Road()
    road.goes(due(1), takes=200)
    road.goes(due(2, 61))

    await road.passes(500)

    assert road.began == [0, 260]


async def test_the_lanes_of_other_flows_and_targets_are_free() -> None:
    clock = HandClock(T0)
    lanes = Lanes(clock)
    lanes.of("default", 3377).sent()

    assert lanes.of("default", 3377) is lanes.of("default", 3377)
    for other in (lanes.of("default", 2430), lanes.of("other", 3377)):
        async with other.place(due(1)) as admitted:
            assert admitted
    assert clock.monotonic() == 0


async def test_runs_on_schedule_go_before_those_that_are_caught_up_and_each_by_its_time() -> None:
    road = Road()
    road.lane.sent()
    for run in (due(1, -300, CATCH_UP), due(2, 2), due(3, 1), due(4, 1)):
        road.goes(run)

    await road.passes(600)

    assert road.order == [3, 4, 2, 1]


async def test_what_was_sent_before_a_restart_keeps_its_distance() -> None:
    road = Road()
    road.lane.sent(ago=45)
    road.lane.sent(ago=59)
    road.goes(due(1, -30))

    await road.passes(60)

    assert road.began == [15]


async def test_minutely_fires_do_not_drift() -> None:
    road = Road()
    late = [0.9, 0.1, 0.5, 0.0, 0.8, 0.3]
    for number, delay in enumerate(late):
        road.goes(replace(due(number, number * 60), deadline=T0 + timedelta(hours=1)), takes=delay)

    await road.passes(600)

    assert road.began == [0, 60, 120, 180, 240, 300]


async def test_only_what_was_not_due_before_gets_the_grace() -> None:
    road = Road()
    road.goes(due(1), takes=GRACE)
    road.goes(due(2, SPACING))
    road.goes(due(3, SPACING - GRACE))

    await road.passes(300)

    assert [(send.run, send.began) for send in road.sends] == [(1, 0), (3, 61), (2, 121)]


@pytest.mark.parametrize(("sent", "admitted_after"), [(False, 0), (True, 60)])
async def test_a_wall_clock_that_steps_back_neither_holds_up_nor_lets_through(
    sent: bool,  # noqa: FBT001 - a column of the table
    admitted_after: float,
) -> None:
    road = Road()
    if sent:
        road.lane.sent()
    road.clock.step(T0 - timedelta(hours=1))
    began: list[float] = []

    async def goes() -> None:
        async with road.lane.place(due(1)):
            began.append(road.clock.monotonic())

    going = asyncio.create_task(goes())
    await road.passes(300)

    assert (began, going.done()) == ([admitted_after], True)


@pytest.mark.parametrize("at", [0, 30, 60])
async def test_one_that_is_cancelled_while_it_waits_holds_nobody_up(at: float) -> None:
    road = Road()
    road.lane.sent()
    first = road.goes(due(1))
    road.goes(due(2))
    await road.passes(at)

    first.cancel()
    await road.passes(300)

    assert road.order == ([2] if at < 60 else [1, 2])
    assert road.began[-1] == (60 if at < 60 else 120)


async def test_one_that_is_cancelled_as_it_is_admitted_holds_nobody_up() -> None:
    road = Road()
    holder, first = road.goes(due(1), takes=5, processed=False), road.goes(due(2))
    road.goes(due(3))
    await road.passes(1)

    holder.cancel()  # which lets the next one in, that does not come to know it any more
    await asyncio.sleep(0)
    first.cancel()
    await road.passes(300)

    assert road.order == [1, 3]


async def test_one_that_is_cancelled_in_its_place_holds_nobody_up() -> None:
    road = Road()
    first = road.goes(due(1), takes=1000)
    road.goes(due(2))
    await road.passes(10)

    first.cancel()
    await road.passes(300)

    assert (road.order, road.began) == ([1, 2], [0, 70])


async def test_one_whose_deadline_passes_does_not_wait_any_longer() -> None:
    road = Road()
    road.goes(due(1), takes=500)
    for run in (due(2, 1, patience=30), due(3, 2, CATCH_UP, patience=40), due(4, 3, CATCH_UP)):
        road.goes(run)

    await road.passes(100)
    expired = list(road.expired)
    await road.passes(1000)

    assert expired == [2, 3]
    assert (road.order, road.expired) == ([1, 4], [2, 3])


async def test_nothing_is_left_behind_when_all_are_cancelled() -> None:
    before = asyncio.all_tasks()
    road = Road()
    road.lane.sent()
    tasks = [road.goes(due(number)) for number in range(5)]
    await road.passes(1)

    for task in tasks:
        task.cancel()
    await all_have_run()

    assert asyncio.all_tasks() == before
    assert road.clock.sleeping == []


RUNS = st.lists(
    st.tuples(
        st.integers(-600, 900),  # due
        st.sampled_from(Origin),
        st.integers(0, 45) | st.floats(0, 2),  # takes
        st.booleans(),  # processed
        st.integers(0, 2000) | st.just(90_000),  # patience
        st.none() | st.floats(0, 1500),  # cancelled
    ),
    min_size=1,
    max_size=12,
)


@settings(database=None)
@given(RUNS)
def test_whatever_happens_in_a_lane_the_distance_is_kept_and_nobody_is_forgotten(
    runs: list[tuple[int, Origin, float, bool, int, float | None]],
) -> None:
    async def drive() -> None:
        road = Road()
        cancelled = set()
        tasks = {}
        for number, (seconds, origin, takes, processed, patience, _) in enumerate(runs):
            run = due(number, seconds, origin, patience)
            tasks[number] = road.goes(run, takes=takes, processed=processed)
        for at, number in sorted((run[-1], number) for number, run in enumerate(runs) if run[-1] is not None):
            await road.passes(at - road.clock.monotonic())
            if tasks[number].cancel():
                cancelled.add(number)
        await road.passes(timedelta(hours=2))

        assert all(task.done() for task in tasks.values())
        assert {*road.order, *road.expired, *cancelled} == set(tasks)
        assert len({*road.order}) + len({*road.expired}) == len(road.sends) + len(road.expired)
        _assert_distance(road.sends)

    asyncio.run(drive())


def _assert_distance(sends: Sequence[Send]) -> None:
    last = float("-inf")
    for send in sends:
        on_time = send.due >= last + SPACING - GRACE
        assert send.began >= last + SPACING - (GRACE if on_time else 0) - 1e-6
        last = send.ended if send.processed else last


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


def sent_after(desk: Desk) -> list[float]:
    return [(at - FIRE).total_seconds() for at in desk.gateway.asked_at]


LOST = an_answer(Outcome.UNKNOWN, "lost")


@pytest.mark.parametrize(
    ("outcome", "distance"),
    [
        (Outcome.ACCEPTED, 60),
        (Outcome.UNKNOWN, 60),
        (Outcome.NOT_CREATED, 60),
        (Outcome.REFUSED_FOR_GOOD, 0),
        (Outcome.REFUSED_FOR_NOW, 0),
        (Outcome.NOT_SENT, 0),
    ],
)
async def test_the_outcome_decides_how_far_the_next_run_of_the_flow_stays_away(
    desk: Desk, outcome: Outcome, distance: float
) -> None:
    patient = an_answer(outcome, retry_after=timedelta(minutes=5))
    desk.answers(patient if outcome is Outcome.REFUSED_FOR_NOW else an_answer(outcome), accepted())
    await desk.start(schedule_id="a")
    await desk.start(FIRE - MINUTE, schedule_id="b")

    await desk.passes(distance)

    assert sent_after(desk)[:2] == [0, distance]


async def test_after_a_lost_reply_the_distance_is_counted_from_its_end(desk: Desk) -> None:
    desk.answers(LOST, accepted())
    desk.gateway.sees(unclear())
    desk.gateway.hold = asyncio.Event()
    await desk.start(schedule_id="a")
    await desk.passes(30)
    desk.gateway.hold.set()
    await desk.start(FIRE - MINUTE, schedule_id="b")

    await desk.passes(120)

    assert sent_after(desk) == [0, 90]


async def test_an_acceptance_that_was_slow_counts_from_its_beginning(desk: Desk) -> None:
    desk.gateway.hold = asyncio.Event()
    await desk.start(schedule_id="a")
    await desk.passes(25)
    desk.gateway.hold.set()
    await desk.start(FIRE - MINUTE, schedule_id="b")

    await desk.passes(120)

    assert sent_after(desk) == [0, 60]


async def test_after_a_fault_of_ours_in_the_middle_of_a_call_the_distance_is_kept(desk: Desk) -> None:
    desk.gateway.fault = RuntimeError("a fault of ours")
    desk.gateway.sees(unclear())
    await desk.start(schedule_id="a")
    desk.gateway.fault = None
    await desk.start(FIRE - MINUTE, schedule_id="b")

    await desk.passes(120)

    assert sent_after(desk) == [0, 60]


async def test_the_runs_of_other_flows_do_not_wait(desk: Desk) -> None:
    await desk.start(schedule_id="a", flow=1)
    await desk.start(schedule_id="b", flow=2)

    assert sent_after(desk) == [0, 0]


async def test_what_a_former_process_sent_keeps_the_next_away(desk: Desk) -> None:
    await desk.start(schedule_id="a")
    await desk.passes(20)

    await desk.restart()
    await desk.start(FIRE - MINUTE, schedule_id="b")
    await desk.passes(120)

    assert sent_after(desk) == [0, 60]


async def test_an_attempt_that_a_former_process_died_in_may_have_gone_on_until_then(desk: Desk) -> None:
    desk.gateway.hold = asyncio.Event()
    desk.gateway.sees(unclear())
    await desk.start(schedule_id="a")
    await desk.passes(250)

    await desk.restart()
    desk.gateway.hold = None
    await desk.start(FIRE - MINUTE, schedule_id="b")
    await desk.passes(120)

    assert sent_after(desk) == [0, 310]


async def test_a_long_attempt_of_a_former_process_counts_from_its_end(desk: Desk) -> None:
    desk.answers(LOST, accepted())
    desk.gateway.hold = asyncio.Event()
    desk.gateway.sees(unclear())
    await desk.start(schedule_id="a")
    await desk.passes(250)
    desk.gateway.hold.set()
    await desk.passes(20)

    await desk.restart()
    await desk.start(FIRE - MINUTE, schedule_id="b")
    await desk.passes(120)

    assert sent_after(desk) == [0, 310]


async def _catch_up(desk: Desk, count: int, **more: object) -> list[Run]:
    rows = [
        desk.new_run(FIRE - (count - number) * MINUTE, origin=CATCH_UP, **more) for number in range(count)
    ]
    runs = await desk.ledger.claim(rows, [])
    for run in runs:
        desk.runner.start(run)
    await desk.quiet()
    return runs


async def test_runs_that_are_caught_up_go_one_by_one_in_order(desk: Desk) -> None:
    desk.answers(an_answer(Outcome.REFUSED_FOR_NOW, retry_after=timedelta(seconds=100)), accepted())
    runs = await _catch_up(desk, 3)

    await desk.passes(99)
    waiting = await desk.states()
    await desk.passes(200)

    assert waiting == [RunState.WAITING, RunState.CLAIMED, RunState.CLAIMED]
    assert sent_after(desk) == [0, 100, 160, 220]
    attempts = [(await desk.attempts(run))[-1].started_at for run in runs]
    assert attempts == sorted(attempts)


async def test_a_run_in_doubt_holds_those_behind_it_until_its_deadline_and_no_longer(desk: Desk) -> None:
    desk.answers(LOST, accepted())
    desk.gateway.sees(unclear())
    await _catch_up(desk, 2, deadline=FIRE + 2 * RETRY.deadline)

    await desk.passes(2 * RETRY.deadline - timedelta(seconds=1))
    before = await desk.states()
    await desk.passes(MINUTE)

    assert before == [RunState.IN_DOUBT, RunState.CLAIMED]
    assert await desk.states() == [RunState.IN_DOUBT, RunState.TRIGGERED]


async def test_a_run_on_schedule_overtakes_those_that_are_caught_up(desk: Desk) -> None:
    runs = await _catch_up(desk, 3)
    on_schedule = await desk.start(FIRE, schedule_id="now")

    await desk.passes(240)

    order = sorted([*runs, on_schedule], key=lambda run: run.id)
    starts = [(await desk.attempts(run))[0].started_at - FIRE for run in order]
    assert starts == [0 * MINUTE, 2 * MINUTE, 3 * MINUTE, MINUTE]


async def test_a_backlog_behind_a_flow_that_fires_each_minute_ends_all_the_same(desk: Desk) -> None:
    desk.gateway.sees(found())
    await _catch_up(desk, 3, deadline=FIRE + 3 * MINUTE)

    for number in range(3 * 16):
        await desk.start(FIRE + number * MINUTE, schedule_id="minutely")
        await desk.passes(MINUTE)

    assert all(state.final for state in (await desk.states()))
    on_schedule = await desk.ledger.runs(schedule_id="minutely", limit=100)
    assert {run.state for run in on_schedule} == {RunState.TRIGGERED}
    failed = await desk.ledger.runs(state=RunState.FAILED)
    assert {run.reason for run in failed} == {
        "the deadline passed before it could be sent; it was never sent"
    }
    assert 0 < len(failed) < 3


async def test_many_runs_and_outcomes_on_one_lane(desk: Desk) -> None:
    """A day's trouble in one flow: all end, none is sent twice, and the distance holds throughout."""
    kinds = [Outcome.ACCEPTED, LOST.outcome, Outcome.NOT_SENT, Outcome.ACCEPTED, Outcome.REFUSED_FOR_NOW]
    desk.answers(
        *[accepted() if kind is Outcome.ACCEPTED else an_answer(kind) for kind in kinds * 8], accepted()
    )
    desk.gateway.sees(absent())
    for number in range(12):
        origin = CATCH_UP if number % 3 == 0 else Origin.SCHEDULE
        run = desk.new_run(
            FIRE + number * MINUTE - timedelta(hours=1), origin=origin, deadline=FIRE + timedelta(hours=4)
        )
        (claimed,) = await desk.ledger.claim([run], [])
        desk.runner.start(claimed)

    await desk.passes(timedelta(hours=4))

    assert set(await desk.states()) == {RunState.TRIGGERED}
    by_run = await desk.ledger.attempts([run.id for run in await desk.ledger.runs()])
    attempts = sorted((each for made in by_run.values() for each in made), key=lambda each: each.started_at)
    surely_not = (Outcome.NOT_SENT, Outcome.REFUSED_FOR_NOW)
    processed = [each.started_at for each in attempts if each.outcome not in surely_not]
    assert min(after - before for before, after in pairwise(processed)) >= MINUTE
    await eventually(lambda: desk.runner.under_way == 0)


async def test_runs_that_are_caught_up_wait_for_the_oldest_and_not_for_the_first_that_asked(
    desk: Desk,
) -> None:
    later, older = FIRE - 10 * MINUTE, FIRE - 20 * MINUTE
    rows = [
        desk.new_run(at, schedule_id=name, origin=CATCH_UP, due_at=at)
        for name, at in (("a", later), ("b", older))
    ]
    runs = await desk.ledger.claim(rows, [])
    for run in runs:
        desk.runner.start(run)
    await desk.passes(2 * MINUTE)

    started = [(await desk.attempts(run))[0].started_at - FIRE for run in runs]
    assert started == [MINUTE, 0 * MINUTE]


async def test_what_is_caught_up_has_its_whole_time_from_when_its_turn_comes(desk: Desk) -> None:
    refused = an_answer(Outcome.REFUSED_FOR_NOW, retry_after=14 * MINUTE)
    desk.answers(refused, accepted(), refused, accepted())
    first, second = await _catch_up(desk, 2, deadline=FIRE + RETRY.deadline)

    await desk.passes(40 * MINUTE)

    assert await desk.states() == [RunState.TRIGGERED, RunState.TRIGGERED]
    assert (await desk.run(first)).deadline == FIRE + RETRY.deadline
    assert (await desk.run(second)).deadline >= FIRE + 14 * MINUTE + RETRY.deadline


async def test_the_distance_counts_from_when_the_call_left(desk: Desk) -> None:
    desk.gateway.hold = asyncio.Event()
    await desk.start()
    await desk.passes(20)
    desk.gateway.left_at = desk.clock.monotonic()
    await desk.passes(10)
    desk.gateway.hold.set()
    await desk.passes(1)
    await desk.start(FIRE + MINUTE)

    await desk.passes(120)

    assert [(at - FIRE).total_seconds() for at in desk.gateway.asked_at] == [0, 80]


RATE = "1 call a minute"
LIMIT = f"target default, {RATE}"


async def test_a_run_says_what_it_waits_for_once_it_is_due(desk: Desk) -> None:
    desk.gateway.places, desk.gateway.held_by = asyncio.Semaphore(0), RATE
    first = await desk.start(schedule_id="a", flow=1)
    second = await desk.start(FIRE - MINUTE, schedule_id="b", flow=1)
    other = await desk.start(schedule_id="c", flow=2)
    later = await desk.start(FIRE + MINUTE, schedule_id="d", flow=1)

    waits = [desk.runner.waits_for(run) for run in (first, second, other, later)]
    assert waits == [LIMIT, LIMIT, LIMIT, None]

    desk.gateway.hold = asyncio.Event()
    desk.gateway.places.release()
    await desk.quiet()
    sending = await desk.run(first)
    assert sending.state is RunState.SENDING
    assert [desk.runner.waits_for(run) for run in (sending, second, other)] == [
        None, f"run {first.id} of its flow", LIMIT
    ]  # fmt: skip

    desk.gateway.hold.set()
    await desk.quiet()
    assert desk.runner.waits_for(second) == "a minute to pass since the last call of its flow"

    desk.gateway.places.release()
    await desk.passes(MINUTE)
    assert desk.runner.waits_for(await desk.run(second)) is None


async def test_a_run_whose_deadline_passes_while_it_waits_for_the_limit_says_so(desk: Desk) -> None:
    desk.gateway.places, desk.gateway.held_by = asyncio.Semaphore(0), RATE
    first = await desk.start(schedule_id="a", deadline=FIRE + MINUTE)
    behind = await desk.start(FIRE - MINUTE, schedule_id="b", deadline=FIRE + MINUTE)

    await desk.passes(MINUTE + timedelta(seconds=1))
    desk.gateway.places.release()
    await desk.quiet()

    reasons = {(await desk.run(run)).reason for run in (first, behind)}
    assert reasons == {
        f"the deadline passed before it could be sent; it was never sent: it waited for {LIMIT}"
    }


async def test_a_run_whose_deadline_passes_behind_another_of_its_flow_names_that_one(desk: Desk) -> None:
    desk.gateway.hold, desk.gateway.held_by = asyncio.Event(), None
    first = await desk.start(schedule_id="a")
    behind = await desk.start(FIRE - MINUTE, schedule_id="b", deadline=FIRE + MINUTE)

    await desk.passes(MINUTE)

    assert (await desk.run(behind)).reason == (
        "the deadline passed before it could be sent; it was never sent:"
        f" it waited for run {first.id} of its flow"
    )
