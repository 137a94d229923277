"""Pings to checks in the manner of healthchecks.io, over a real socket."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.alerts import pings as pings_room
from flowsched.alerts.pinging import Signal, address, ping_of, run_uuid
from flowsched.alerts.pings import Pinger
from flowsched.alerts.tries import Tried
from flowsched.events import FlowMoved, RunMoved
from flowsched.model import FlowState, Origin, Outcome, Pings, Run, RunState, SecretSource, Watch
from flowsched.retry import still_in_doubt
from flowsched.runner import Runner
from tests.builders import a_run, a_schedule, an_answer, found
from tests.desk import FIRE, Desk, a_desk
from tests.fakes import eventually
from tests.receivers import ENVIRON
from tests.wire import Wire, after, falls_silent, resets, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.events import Event
    from flowsched.model import Schedule

SLUGS = {"nightly": a_schedule(ping="nightly-check"), "quiet": a_schedule("quiet")}
KEY = SecretSource("env", "PING_KEY")
HOUR = timedelta(hours=1)


@asynccontextmanager
async def a_pinger(
    folder: Path, url: str, key: SecretSource | None = None, schedules: dict[str, Schedule] = SLUGS
) -> AsyncIterator[tuple[Pinger, Desk]]:
    pings = Pings(url=url, key=key, ca_file=None, environment_proxy=False)
    async with a_desk(folder) as desk:
        pinger = Pinger(pings, desk.ledger, desk.clock, schedules.get, ENVIRON)
        yield pinger, desk
        await pinger.aclose()


def moved(state: RunState, **more: Any) -> RunMoved:
    return RunMoved(a_run(state=state, **more))


def left_in_doubt() -> RunMoved:
    run = a_run(state=RunState.IN_DOUBT, reason="lost")
    step = still_in_doubt(run, run.deadline + HOUR)
    assert step is not None
    return RunMoved(replace(run, reason=step.reason))


@pytest.mark.parametrize(
    ("event", "signal"),
    [
        (moved(RunState.CLAIMED, attempts=0), None),
        (moved(RunState.SENDING, attempts=1), Signal.START),
        (moved(RunState.SENDING, attempts=2), None),
        (moved(RunState.WAITING), None),
        (moved(RunState.IN_DOUBT, reason="lost"), None),
        (left_in_doubt(), Signal.FAIL),
        (moved(RunState.TRIGGERED), Signal.SUCCESS),
        (moved(RunState.TRIGGERED, watch=HOUR), None),
        (moved(RunState.FAILED), Signal.FAIL),
        (moved(RunState.MISSED), Signal.FAIL),
        (moved(RunState.SKIPPED), None),
        (moved(RunState.FAILED, origin=Origin.MANUAL), Signal.FAIL),
        (moved(RunState.FAILED, origin=Origin.BACKFILL), None),
    ],
)
def test_a_check_is_told_when_a_run_starts_and_how_it_ends(event: Event, signal: Signal | None) -> None:
    ping = ping_of(event)

    assert (ping and ping.signal) == signal


def test_a_ping_says_which_run_and_why() -> None:
    ping = ping_of(moved(RunState.FAILED, id=17, reason="gave up\nafter 5"))

    assert ping is not None
    assert ping.text == "run 17, fire time 2026-01-01T00:00:00Z, failed: gave up\\nafter 5"


def test_a_run_has_one_number_for_all_its_pings_and_no_other_has_it() -> None:
    run = a_run()
    others = [a_run(origin=Origin.CATCH_UP), a_run(schedule_id="x"), a_run(fire_time=run.fire_time + HOUR)]

    assert run_uuid(run) == run_uuid(replace(run, id=99, state=RunState.FAILED, attempts=3))
    assert len({run_uuid(each) for each in (run, *others)}) == 4


def test_an_address_has_a_key_only_where_there_is_one() -> None:
    rid = run_uuid(a_run())

    assert address("https://hc", "k", "slug", Signal.START, rid) == f"https://hc/k/slug/start?rid={rid}"
    assert address("https://hc/ping", None, "slug", Signal.SUCCESS, rid) == f"https://hc/ping/slug?rid={rid}"


async def test_start_and_end_arrive_in_order(tmp_path: Path) -> None:
    async with Wire(after(0.05, says(200, b"OK"))) as wire, a_pinger(tmp_path, wire.url, KEY) as (pinger, _):
        pinger.hear(moved(RunState.SENDING))
        pinger.hear(moved(RunState.TRIGGERED))
        pinger.hear(moved(RunState.FAILED, schedule_id="quiet"))
        pinger.hear(moved(RunState.FAILED, schedule_id="unknown"))
        await eventually(lambda: len(wire.triggers) == 2)

    rid = run_uuid(a_run())
    assert [(heard.method, heard.target) for heard in wire.triggers] == [
        ("POST", f"/planted-ping-key/nightly-check/start?rid={rid}"),
        ("POST", f"/planted-ping-key/nightly-check?rid={rid}"),
    ]
    assert wire.triggers[0].body == b"run 1, fire time 2026-01-01T00:00:00Z, sending"


async def test_a_watched_run_succeeds_and_fails_with_its_flow(tmp_path: Path) -> None:
    async with Wire(says(200, b"OK")) as wire, a_pinger(tmp_path, wire.url) as (pinger, desk):
        desk.runner = Runner(desk.ledger, desk.gateways, desk.clock, pinger.hear)
        desk.gateway.sees(found(FlowState.SUCCEEDED, status=4))
        run = await desk.start(watch=HOUR)
        await eventually(lambda: len(wire.triggers) == 1)
        await desk.passes(60)
        await eventually(lambda: len(wire.triggers) == 2)

    rid = run_uuid(run)
    assert [heard.target for heard in wire.triggers] == [
        f"/nightly-check/start?rid={rid}",
        f"/nightly-check?rid={rid}",
    ]
    assert b"the flow of run 1 succeeded" in wire.triggers[1].body


async def test_the_flow_of_a_backfill_pings_nothing(tmp_path: Path) -> None:
    async with Wire(says(200, b"OK")) as wire, a_pinger(tmp_path, wire.url) as (pinger, desk):
        run = await desk.claim(origin=Origin.BACKFILL)
        await desk.ledger.begin_attempt(run.id, 1, desk.clock.now())
        watch = replace(_watch(run), state=FlowState.FAILED)
        pinger.hear(FlowMoved(watch))
        await desk.quiet()

    assert wire.triggers == []


def _watch(run: Run) -> Watch:
    return Watch(
        run_id=run.id,
        schedule_id=run.schedule_id,
        target=run.target,
        flow=run.flow,
        instance=run.predicted_instance,
        until=run.fire_time + HOUR,
        state=FlowState.GOING,
        status=None,
        started=None,
        ended=None,
        updated_at=run.fire_time,
    )


@pytest.mark.parametrize(("acts", "calls"), [((says(500, b""),), 4), ((says(404, b""),), 1), ((resets,), 4)])
async def test_a_ping_in_vain_is_tried_three_times_more_and_then_said_once_in_an_hour(
    acts: Any, calls: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire(*acts) as wire, a_pinger(tmp_path, wire.url, KEY) as (pinger, desk):
        for _ in range(3):
            pinger.hear(moved(RunState.FAILED))
        for _ in range(400):
            if not pinger._tasks:
                break
            await asyncio.sleep(0.01)
            desk.clock.advance(1)

    assert len(wire.triggers) == 3 * calls
    said = [record for record in caplog.records if "ping not sent" in record.getMessage()]
    assert len(said) == 1
    assert "planted" not in str(vars(said[0]))


async def test_a_check_that_hangs_keeps_neither_another_nor_a_fire_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pings_room, "LAST_SECONDS", 0.1)
    schedules = {name: a_schedule(name, ping=name) for name in ("nightly", "hourly")}
    async with (
        Wire(falls_silent, says(200, b"")) as wire,
        a_pinger(tmp_path, wire.url, schedules=schedules) as (pinger, desk),
    ):
        desk.runner = Runner(desk.ledger, desk.gateways, desk.clock, pinger.hear)
        desk.answers(an_answer(Outcome.REFUSED_FOR_GOOD))
        run = await desk.start()
        await eventually(lambda: len(wire.triggers) == 1)
        assert desk.gateway.asked_at == [run.fire_time]
        pinger.hear(moved(RunState.FAILED, schedule_id="hourly"))
        await eventually(lambda: len(wire.triggers) == 2)
        began = time.perf_counter()
        await pinger.aclose()

    assert time.perf_counter() - began < 1
    assert wire.triggers[1].target.startswith("/hourly/fail?")


async def test_pings_do_not_pile_up_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pings_room, "MOST_WAITING", 5)
    monkeypatch.setattr(pings_room, "LAST_SECONDS", 0.1)
    async with Wire(falls_silent) as wire, a_pinger(tmp_path, wire.url) as (pinger, _):
        for _ in range(100):
            pinger.hear(moved(RunState.FAILED))

        assert pinger._count == 5
    assert caplog.text.count("ping not sent") == 1
    assert pinger._count == 0
    assert not pinger._waiting


async def test_a_ping_that_has_waited_for_long_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint takes nothing for an hour; a run a minute goes on meanwhile."""
    ages: list[float] = []
    async with a_pinger(tmp_path, "http://127.0.0.1:1") as (pinger, desk):

        async def post(_: str, content: bytes, __: object) -> Tried:
            if desk.clock.now() < FIRE + HOUR:
                await desk.clock.sleep(20)
                return Tried(ok=False, detail="no answer within 20 s")
            ages.append(desk.clock.monotonic() - float(content.rpartition(b" ")[2]))
            return Tried(ok=True, detail="HTTP 200")

        pinger._post = post  # type: ignore[assignment]
        for _ in range(90):
            for _ in range(2):
                pinger.hear(moved(RunState.FAILED, reason=str(desk.clock.monotonic())))
            await desk.passes(60)

    assert len(ages) >= 30
    assert max(ages) <= pings_room.OLDEST
    said = [record for record in caplog.records if "ping not sent" in record.getMessage()]
    assert {vars(record)["error"] for record in said} == {
        "it has waited for more than 120 s",
        "no answer within 20 s",
    }
    assert all(vars(record)["left_out"] >= 1 for record in said)


async def test_a_key_that_cannot_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with a_pinger(tmp_path, "http://127.0.0.1:1", SecretSource("env", "NOT_SET")) as (pinger, desk):
        pinger.hear(moved(RunState.FAILED))
        for _ in range(200):
            if not pinger._tasks:
                break
            await asyncio.sleep(0.01)
            desk.clock.advance(1)

    (said,) = [record for record in caplog.records if "ping not sent" in record.getMessage()]
    assert vars(said)["error"] == "env NOT_SET: this environment variable is not set"
