"""Whatever the gateway does, each run ends in the state of the table (docs/enos-api.md, sections 6 and 8).

The real runner, ledger and client against the simulator over a real socket; only the clock is moved by hand.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.enos import Gateway
from flowsched.ledger import Ledger
from flowsched.model import Outcome, Run, RunState
from flowsched.runner import Runner
from flowsched.simulator import AuthFailure, Behaviour, Fault, Order, SimFlow, Simulator
from tests.builders import RETRY, a_new_run, a_target
from tests.fakes import HandClock, reaches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

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

    async def outcomes(self) -> list[Outcome | None]:
        (run,) = await self.ledger.runs()
        return [each.outcome for each in (await self.ledger.attempts([run.id]))[run.id]]

    def triggers(self) -> int:
        return sum(call.operation == "flows.trigger" for call in self.simulator.calls)


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
    "62102": (Order(fault=Fault.CODE, code=62102, on="trigger"), RunState.IN_DOUBT, Outcome.UNKNOWN, 0),
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


@pytest.mark.parametrize(
    "order",
    [order for order, state, *_ in TABLE.values() if state is RunState.IN_DOUBT and order],
    ids=[name for name, (_, state, *_) in TABLE.items() if state is RunState.IN_DOUBT],
)
async def test_what_may_have_been_processed_is_never_sent_again(line: Line, order: Order) -> None:
    await line.fire(order)
    await line.ends()

    for _ in range(3):
        line.clock.advance(timedelta(minutes=5))
        await asyncio.sleep(0.01)

    assert line.triggers() == 1
    assert (await line.ends()).state is RunState.IN_DOUBT


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
