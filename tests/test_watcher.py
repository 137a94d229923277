"""The watch over the flows of triggered runs, on a hand-advanced clock and a real ledger."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flowsched.errors import LedgerError, LedgerUnusable
from flowsched.ledger import LEDGER_PAUSE
from flowsched.model import FlowState, Outcome
from flowsched.runner.watcher import AT_ONCE, LONGEST_PAUSE, SURELY_OVER
from tests.builders import absent, an_answer, found, unclear
from tests.desk import FIRE, INSTANCE, Desk, a_desk
from tests.fakes import ScriptedGateway, accepted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.model import Sighting, Watch

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WAITING, RUNNING = found(FlowState.GOING, 5), found(FlowState.GOING, 2)
SUCCESS = found(FlowState.SUCCEEDED, 1, started="2026-01-01 10:30:01", ended="2026-01-01 10:50:02")
FAIL = found(FlowState.FAILED, -1)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


async def watch_of(desk: Desk) -> Watch:
    (watch,) = (await desk.ledger.watches_of([(await desk.run()).id])).values()
    return watch


def looked_after(desk: Desk) -> list[float]:
    return [(at - FIRE).total_seconds() for _, at in desk.gateway.looks]


def level_of(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.levelname for record in caplog.records if record.getMessage() == text]


@pytest.mark.parametrize(
    ("sighting", "state", "status", "level"),
    [(SUCCESS, FlowState.SUCCEEDED, 1, "INFO"), (FAIL, FlowState.FAILED, -1, "ERROR")],
)
async def test_a_flow_is_looked_at_until_it_ends(
    desk: Desk,
    caplog: pytest.LogCaptureFixture,
    sighting: Sighting,
    state: FlowState,
    status: int,
    level: str,
) -> None:
    caplog.set_level("INFO")
    desk.gateway.sees(WAITING, RUNNING, RUNNING, sighting)
    await desk.start(watch=HOUR)

    await desk.passes(DAY)

    watch = await watch_of(desk)
    assert (watch.state, watch.status) == (state, status)
    assert (watch.started, watch.ended) == (sighting.started, sighting.ended)
    assert level_of(caplog, f"flow {state}") == [level]
    (record,) = (record for record in caplog.records if record.getMessage() == f"flow {state}")
    assert {"run", "schedule", "fire_time", "attempt", "instance", "catalog"} <= set(vars(record))
    assert {instance for instance, _ in desk.gateway.looks} == {INSTANCE}
    assert looked_after(desk) == [10, 25, 47.5, 81.25]
    assert await desk.ledger.watches() == []


async def test_a_flow_that_does_not_end_in_time_is_late_and_looked_at_no_more(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.gateway.sees(RUNNING)
    await desk.start(watch=HOUR)

    await desk.passes(DAY)

    looks = looked_after(desk)
    watch = await watch_of(desk)
    assert (watch.state, watch.status) == (FlowState.LATE, 2)
    assert looks[-2:] == [3600, 3600 + SURELY_OVER]
    assert max(after - before for before, after in pairwise(looks)) == pytest.approx(LONGEST_PAUSE)
    assert level_of(caplog, "flow late") == ["ERROR"]


async def test_a_flow_is_not_late_because_the_wall_clock_was_wrong_for_a_moment(desk: Desk) -> None:
    desk.gateway.sees(RUNNING)
    await desk.start(watch=HOUR)
    await desk.passes(30)

    desk.clock.step(FIRE + DAY)
    await desk.passes(30)
    desk.clock.step(FIRE + timedelta(minutes=1))
    await desk.passes(timedelta(minutes=58))
    meanwhile = await watch_of(desk)
    desk.gateway.sees(SUCCESS)
    await desk.passes(LONGEST_PAUSE)

    assert meanwhile.state is FlowState.GOING
    assert (await watch_of(desk)).state is FlowState.SUCCEEDED


@pytest.mark.parametrize("end", [SUCCESS, FAIL])
async def test_a_flow_that_ends_as_its_time_does_is_not_late(desk: Desk, end: Sighting) -> None:
    desk.gateway.sees(RUNNING)
    await desk.start(watch=HOUR)
    await desk.passes(HOUR)

    desk.gateway.sees(end)
    await desk.passes(SURELY_OVER)

    assert (await watch_of(desk)).state is end.flow


async def test_what_each_look_shows_is_recorded_as_it_comes(desk: Desk) -> None:
    desk.gateway.sees(WAITING, RUNNING)
    await desk.start(watch=HOUR)

    await desk.passes(10)
    first = await watch_of(desk)
    await desk.passes(15)
    second = await watch_of(desk)

    assert [(each.state, each.status) for each in (first, second)] == [
        (FlowState.GOING, 5),
        (FlowState.GOING, 2),
    ]


@pytest.mark.parametrize("nothing", [unclear(), absent()])
async def test_a_look_that_shows_nothing_ends_nothing(desk: Desk, nothing: Sighting) -> None:
    desk.gateway.sees(RUNNING, nothing, nothing, nothing, SUCCESS)
    await desk.start(watch=HOUR)

    await desk.passes(50)
    meanwhile = await watch_of(desk)
    await desk.passes(HOUR)

    assert (meanwhile.state, meanwhile.status) == (FlowState.GOING, 2)
    assert (await watch_of(desk)).state is FlowState.SUCCEEDED


async def test_a_run_whose_schedule_does_not_ask_for_it_is_not_watched(desk: Desk) -> None:
    await desk.start()

    await desk.passes(DAY)

    assert desk.gateway.looks == []


async def test_a_run_that_was_found_after_a_lost_reply_is_watched(desk: Desk) -> None:
    desk.answers(an_answer(Outcome.UNKNOWN, "lost"))
    desk.gateway.sees(RUNNING, SUCCESS)
    await desk.start(watch=HOUR)

    await desk.passes(60)

    assert (await watch_of(desk)).state is FlowState.SUCCEEDED


async def test_a_watch_survives_restarts(desk: Desk) -> None:
    desk.gateway.sees(RUNNING)
    await desk.start(watch=HOUR)
    for _ in range(3):
        await desk.passes(timedelta(minutes=10))
        await desk.restart()

    desk.gateway.sees(SUCCESS)
    await desk.passes(15)

    assert (await watch_of(desk)).state is FlowState.SUCCEEDED


async def test_a_watch_that_is_over_after_a_restart_is_looked_at_all_the_same(desk: Desk) -> None:
    desk.gateway.sees(RUNNING)
    for flow in (1, 2):
        desk.answers(accepted(f"{flow}-20260101023000"))
        await desk.start(schedule_id=f"of-{flow}", flow=flow, watch=HOUR)
    await desk.runner.drain(0)
    desk.clock.advance(DAY)
    desk.gateway.sees(SUCCESS, of="1-20260101023000")
    desk.gateway.looks.clear()

    await desk.restart()
    await desk.passes(SURELY_OVER)

    states = {watch.flow: watch.state for watch in (await desk.ledger.watches_of([1, 2])).values()}
    assert states == {1: FlowState.SUCCEEDED, 2: FlowState.LATE}
    assert [instance[0] for instance, _ in desk.gateway.looks] == ["1", "2", "2"]


async def test_a_flow_that_was_seen_to_end_is_not_watched_after_a_restart(desk: Desk) -> None:
    desk.gateway.sees(SUCCESS)
    await desk.start(watch=HOUR)
    await desk.passes(60)
    looks = len(desk.gateway.looks)

    await desk.restart()
    await desk.passes(DAY)

    assert len(desk.gateway.looks) == looks


async def test_only_so_many_looks_at_a_target_are_under_way_at_once(desk: Desk) -> None:
    other = ScriptedGateway(clock=desk.clock)
    desk.gateways = {"default": desk.gateway, "other": other}
    await desk.restart()
    desk.gateway.look_hold = asyncio.Event()
    desk.gateway.sees(SUCCESS)
    other.sees(SUCCESS)
    for flow in range(20):
        await desk.start(schedule_id=f"s{flow}", flow=flow, watch=HOUR)
    await desk.start(schedule_id="other", target="other", watch=HOUR)

    await desk.passes(20)
    at_once = desk.gateway.looks_under_way
    desk.gateway.look_hold.set()
    await desk.passes(20)

    assert (at_once, desk.gateway.most_looks_at_once, len(desk.gateway.looks)) == (AT_ONCE, AT_ONCE, 20)
    assert len(other.looks) == 1
    assert await desk.ledger.watches() == []


async def test_a_ledger_that_cannot_be_written_is_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = desk.ledger.record_watch
    refusals = [LedgerError("locked"), LedgerError("locked")]

    async def reluctant(*args: object) -> Watch:
        if refusals:
            raise refusals.pop()
        return await write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.ledger, "record_watch", reluctant)
    desk.gateway.sees(SUCCESS)
    await desk.start(watch=HOUR)

    await desk.passes(10 + 2 * LEDGER_PAUSE)

    assert (await watch_of(desk)).state is FlowState.SUCCEEDED


async def test_where_the_ledger_is_unusable_nothing_is_watched_any_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def damaged(*_: object) -> Watch:
        raise LedgerUnusable("the ledger is damaged")

    monkeypatch.setattr(desk.ledger, "record_watch", damaged)
    desk.gateway.sees(SUCCESS)
    await desk.start(watch=HOUR)

    await desk.passes(DAY)

    assert len(desk.gateway.looks) == 1
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


async def test_a_target_that_is_gone_is_said_and_the_watch_stays(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.gateway.sees(RUNNING)
    await desk.start(watch=HOUR)
    gateways = desk.gateways

    desk.gateways = {}
    await desk.restart()
    said = level_of(caplog, "flow cannot be watched: its target is not configured")
    desk.gateways = gateways
    desk.gateway.sees(SUCCESS)
    await desk.restart()
    await desk.passes(15)

    assert said == ["ERROR"]
    assert (await watch_of(desk)).state is FlowState.SUCCEEDED


async def test_a_flow_that_somebody_else_has_settled_is_let_go(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.gateway.sees(RUNNING)
    run = await desk.start(watch=HOUR)

    await desk.ledger.record_watch(run.id, desk.clock.now(), FlowState.FAILED, None)
    await desk.passes(DAY)

    assert level_of(caplog, "flow is watched no more") == ["WARNING"]
    assert len(desk.gateway.looks) == 1


async def test_a_drain_ends_all_looks(desk: Desk) -> None:
    desk.gateway.look_hold = asyncio.Event()
    await desk.start(watch=HOUR)
    await desk.passes(10)

    await asyncio.wait_for(desk.runner.drain(60), 5)

    assert (desk.gateway.looks_under_way, desk.gateway.turns_held) == (0, 0)
    assert (await watch_of(desk)).state is FlowState.GOING
