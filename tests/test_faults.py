"""Whatever the gateway does, each run ends in the state of the table (docs/enos-api.md, sections 6 and 8).

The real runner, ledger and client against the simulator over a real socket; only the clock is moved by hand.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.enos import Gateway, milliseconds, trigger_request
from flowsched.ledger import Ledger
from flowsched.model import Outcome, Run, RunState
from flowsched.runner import Runner
from flowsched.simulator import AuthFailure, Behaviour, Fault, Order, SimFlow, Simulator, UnknownInstance
from tests.builders import RETRY, a_new_run, a_target
from tests.fakes import HandClock, reaches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from flowsched.simulator import Call

FIRE = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
INSTANCE = "3377-20260101023000"
PATIENT = replace(RETRY, attempt_timeout=timedelta(seconds=10))
QUICK = replace(RETRY, attempt_timeout=timedelta(seconds=0.2))
"""For the faults that end in a time-out, and in real time."""

pytestmark = pytest.mark.e2e


class Line:
    """A run's whole way out and back: ledger, runner, client, socket, simulator."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock(FIRE)
        self._folder = folder
        self.simulator = Simulator(self.clock)

    async def open(
        self, *, flows: Mapping[int, SimFlow] | None = None, behaviour: Behaviour | None = None
    ) -> None:
        self.simulator = Simulator(self.clock, flows=flows, behaviour=behaviour)
        self.connect(await self.simulator.start())
        self.ledger = await Ledger.open(f"sqlite:///{self._folder}/ledger.db")
        self.runner = Runner(self.ledger, {"default": self.gateway}, self.clock)

    def connect(self, url: str) -> None:
        keys = self.simulator.application
        user = self.simulator.user
        target = a_target(url=url, user_id=user.id, org_id=user.org)
        self.gateway = Gateway(target, keys.access_key, keys.secret_key, self.clock)

    async def close(self) -> None:
        await self.runner.drain(0)
        await self.gateway.aclose()
        await self.ledger.aclose()
        await self.simulator.stop()

    async def fire(self, order: Order | None = None) -> None:
        if order:
            self.simulator.faults.add(order)
        now = self.clock.now()
        row = a_new_run(
            fire_time=FIRE,
            claimed_at=now,
            deadline=now + RETRY.deadline,
            retry=QUICK if order and order.fault in (Fault.SILENCE, Fault.DRIP) else PATIENT,
            predicted_instance=INSTANCE,
        )
        (run,) = await self.ledger.claim([row], [])
        self.runner.start(run)

    async def reaches(self, *states: RunState) -> Run:
        return await reaches(self.ledger, *states, within=20)

    async def ends(self) -> Run:
        return await self.reaches(RunState.TRIGGERED, RunState.FAILED, RunState.WAITING, RunState.IN_DOUBT)

    async def is_known(self) -> Run:
        """Let time pass until the run is final; return it."""
        async with asyncio.timeout(20):
            while not (run := (await self.ledger.runs())[0]).state.final:
                await self.passes(timedelta(seconds=1))
        return run

    async def passes(self, by: timedelta) -> None:
        """Let time pass second by second, with a little real time for the sockets after each."""
        for _ in range(round(by.total_seconds())):
            self.clock.advance(1)
            await asyncio.sleep(0.005)

    async def outcomes(self) -> list[Outcome | None]:
        (run,) = await self.ledger.runs()
        return [each.outcome for each in (await self.ledger.attempts([run.id]))[run.id]]

    def calls(self, operation: str) -> list[Call]:
        return [call for call in self.simulator.calls if call.operation == operation]

    def triggers(self) -> int:
        return len(self.calls("flows.trigger"))


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    line = Line(tmp_path)
    await line.open()
    yield line
    await line.close()


TABLE = {
    "nothing goes wrong": (None, RunState.TRIGGERED, Outcome.ACCEPTED, 1),
    "reply lost after creation": (
        Order(fault=Fault.REPLY_LOST, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 1,
    ),
    "reply lost before creation": (
        Order(fault=Fault.REPLY_LOST, on="trigger", processed=False), RunState.IN_DOUBT, Outcome.UNKNOWN, 0,
    ),
    "reset while sending": (
        Order(fault=Fault.RESET, on="trigger", processed=True), RunState.IN_DOUBT, Outcome.UNKNOWN, 1,
    ),
    "read and never answered": (
        Order(fault=Fault.SILENCE, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0,
    ),
    "429 with Retry-After": (
        Order(fault=Fault.STATUS, status=429, retry_after=3, on="trigger"),
        RunState.WAITING, Outcome.REFUSED_FOR_NOW, 0,
    ),
    "503": (Order(fault=Fault.STATUS, status=503, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0),
    "500": (Order(fault=Fault.STATUS, status=500, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0),
    "502": (Order(fault=Fault.STATUS, status=502, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0),
    "403": (
        Order(fault=Fault.STATUS, status=403, on="trigger"), RunState.FAILED, Outcome.REFUSED_FOR_GOOD, 0,
    ),
    "302": (
        Order(fault=Fault.STATUS, status=302, on="trigger"), RunState.FAILED, Outcome.REFUSED_FOR_GOOD, 0,
    ),
    "62109 with creation": (
        Order(fault=Fault.CODE, code=62109, processed=True, on="trigger"),
        RunState.IN_DOUBT, Outcome.UNKNOWN, 1,
    ),
    "62109 without creation": (
        Order(fault=Fault.CODE, code=62109, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0,
    ),
    "62102": (
        Order(fault=Fault.CODE, code=62102, on="trigger"), RunState.IN_DOUBT, Outcome.NOT_CREATED, 0,
    ),
    "62104": (
        Order(fault=Fault.CODE, code=62104, on="trigger"), RunState.FAILED, Outcome.REFUSED_FOR_GOOD, 0,
    ),
    "HTML instead of JSON": (Order(fault=Fault.HTML, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 1),
    "truncated JSON": (
        Order(fault=Fault.TRUNCATED_JSON, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 1,
    ),
    "truncated reply": (
        Order(fault=Fault.TRUNCATED_REPLY, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 1,
    ),
    "a huge reply": (Order(fault=Fault.HUGE, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 1),
    "no HTTP at all": (Order(fault=Fault.GARBAGE, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0),
    "status instead of code": (
        Order(fault=Fault.WRONG_KEY, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 1,
    ),
    "a number that no table holds": (
        Order(fault=Fault.CODE, code=10**30, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0,
    ),
    "a dripping server": (Order(fault=Fault.DRIP, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 1),
    "the token service is down": (
        Order(fault=Fault.STATUS, status=503, on="token", times=None), RunState.WAITING, Outcome.NOT_SENT, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("order", "state", "outcome", "instances"), TABLE.values(), ids=TABLE.keys())
async def test_each_fault_ends_in_the_state_of_the_table(
    line: Line, order: Order | None, state: RunState, outcome: Outcome, instances: int
) -> None:
    await line.fire(order)
    run = await line.ends()

    assert (run.state, await line.outcomes(), len(line.simulator.instances)) == (state, [outcome], instances)
    assert (run.instance == INSTANCE) == (state is RunState.TRIGGERED)
    assert run.predicted_instance == INSTANCE
    assert (run.reason is None) == (state is RunState.TRIGGERED)


UNKNOWN = {name: row for name, row in TABLE.items() if row[2] is Outcome.UNKNOWN}


@pytest.mark.parametrize(("order", "_", "__", "instances"), UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_what_came_of_a_lost_reply_is_found_out_and_nothing_is_made_twice(
    line: Line, order: Order, _: RunState, __: Outcome, instances: int
) -> None:
    await line.fire(order)
    await line.ends()

    run = await line.is_known()

    assert (run.state, run.instance, len(line.simulator.instances)) == (RunState.TRIGGERED, INSTANCE, 1)
    assert line.triggers() == 2 - instances
    assert [call.created for call in line.calls("flows.trigger") if call.created] == [INSTANCE]
    if not instances:
        first, second = (call.began_at for call in line.calls("flows.trigger"))
        assert second - first >= timedelta(seconds=60)


async def test_62102_is_refused_for_good_where_no_instance_is_found(line: Line) -> None:
    await line.fire(Order(fault=Fault.CODE, code=62102, on="trigger"))

    run = await line.is_known()

    assert (run.state, line.triggers(), len(line.calls("flowInstances.get"))) == (RunState.FAILED, 1, 1)
    assert run.reason
    assert run.reason.startswith("refused for good")


async def test_62102_is_a_collision_where_somebody_else_made_the_instance(line: Line) -> None:
    request = trigger_request(line.gateway.target, 3377, None, milliseconds(FIRE))
    async with line.gateway.turn() as turn:
        await turn.trigger(request, 5)

    await line.fire()
    run = await line.is_known()

    assert (run.state, await line.outcomes()) == (RunState.FAILED, [Outcome.NOT_CREATED])
    assert run.reason
    assert run.reason.startswith(f"collision: EnOS has {INSTANCE} already")


@pytest.mark.parametrize("shape", [each for each in UnknownInstance if each is not UnknownInstance.HTTP_404])
async def test_each_known_way_to_say_that_there_is_none_counts(
    tmp_path: Path, shape: UnknownInstance
) -> None:
    line = Line(tmp_path)
    await line.open(behaviour=Behaviour(unknown_instance=shape, wall_clock_minute=True))

    await line.fire(Order(fault=Fault.REPLY_LOST, on="trigger", processed=False))
    run = await line.is_known()

    assert (run.state, line.triggers(), len(line.simulator.instances)) == (RunState.TRIGGERED, 2, 1)
    await line.close()


async def test_an_answer_that_says_neither_leaves_the_run_in_doubt(tmp_path: Path) -> None:
    line = Line(tmp_path)
    await line.open(behaviour=Behaviour(unknown_instance=UnknownInstance.HTTP_404))

    await line.fire(Order(fault=Fault.REPLY_LOST, on="trigger", processed=False))
    await line.passes(timedelta(minutes=3))

    assert (await line.ends()).state is RunState.IN_DOUBT
    assert line.triggers() == 1
    assert len(line.calls("flowInstances.get")) > 3
    await line.close()


async def test_an_instance_that_shows_late_is_not_made_again(tmp_path: Path) -> None:
    line = Line(tmp_path)
    await line.open(behaviour=Behaviour(late_visibility=timedelta(seconds=30)))

    await line.fire(Order(fault=Fault.REPLY_LOST, on="trigger"))
    run = await line.is_known()

    assert (run.state, line.triggers(), len(line.simulator.instances)) == (RunState.TRIGGERED, 1, 1)
    await line.close()


async def test_retry_after_is_kept_to_the_second(line: Line) -> None:
    line.simulator.faults.add(Order(fault=Fault.STATUS, status=429, retry_after=3, on="trigger"))
    await line.fire()
    waiting = await line.reaches(RunState.WAITING)

    line.clock.advance(2.9)
    await asyncio.sleep(0.02)
    sent_early = line.triggers() - 1
    line.clock.advance(0.1)

    done = await line.reaches(RunState.TRIGGERED)
    assert (waiting.retry_at, sent_early) == (FIRE + timedelta(seconds=3), 0)
    assert await line.outcomes() == [Outcome.REFUSED_FOR_NOW, Outcome.ACCEPTED]
    assert (done.instance, line.triggers()) == (INSTANCE, 2)


async def test_a_refused_connection_is_tried_again_until_somebody_listens(tmp_path: Path) -> None:
    line = Line(tmp_path)
    await line.open()
    url = line.gateway.target.url
    await line.simulator.stop()
    await line.fire()
    await line.reaches(RunState.WAITING)

    await line.simulator.start(port=int(url.rpartition(":")[2]))
    line.clock.advance(1)

    run = await line.reaches(RunState.TRIGGERED)
    assert await line.outcomes() == [Outcome.NOT_SENT, Outcome.ACCEPTED]
    assert (run.instance, line.triggers()) == (INSTANCE, 1)
    await line.close()


@pytest.mark.parametrize("shape", AuthFailure)
async def test_a_revoked_token_is_replaced_inside_the_attempt(tmp_path: Path, shape: AuthFailure) -> None:
    line = Line(tmp_path)
    await line.open(behaviour=Behaviour(auth_failure=shape))
    line.simulator.faults.add(Order(fault=Fault.TOKEN_REVOKED, on="trigger"))

    await line.fire()
    run = await line.reaches(RunState.TRIGGERED)

    assert await line.outcomes() == [Outcome.ACCEPTED]
    assert (run.attempts, line.triggers(), len(line.simulator.instances)) == (1, 2, 1)
    await line.close()


async def test_keys_that_never_pass_end_the_run(line: Line) -> None:
    line.simulator.faults.add(Order(fault=Fault.STATUS, status=401, on="trigger", times=None))

    await line.fire()
    run = await line.reaches(RunState.FAILED)

    assert await line.outcomes() == [Outcome.REFUSED_FOR_GOOD]
    assert line.triggers() == 2
    assert run.reason
    assert "clock" in run.reason


async def test_a_flow_without_tasks_fails_at_once(tmp_path: Path) -> None:
    line = Line(tmp_path)
    await line.open(flows={3377: SimFlow(tasks=frozenset())})

    await line.fire()
    run = await line.reaches(RunState.FAILED)

    assert run.reason
    assert "62104" in run.reason
    await line.close()
