"""Looking up and cancelling, over real sockets: against scripted replies, and against the simulator."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.clock import SystemClock
from flowsched.enos import Gateway, trigger_request
from flowsched.enos.signing import call_signature
from flowsched.model import Answer, FlowState, Limits, Outcome, Seen, Sighting
from flowsched.simulator import (
    AuthFailure,
    Behaviour,
    DataShape,
    Fault,
    Order,
    SimFlow,
    Simulator,
    Status,
    UnknownInstance,
)
from tests.builders import a_target
from tests.fakes import HandClock, eventually
from tests.wire import (
    Wire,
    accepts,
    after,
    drips,
    falls_silent,
    grants,
    hangs_up,
    resets,
    response,
    says,
    writes,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.wire import Act

ACCESS, SECRET = "an-access-key-0001", "a-secret-key-0001"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON_MS = 1767268800000
ID = "3377-20260101120000"
LONG = 5.0


@asynccontextmanager
async def a_gateway(url: str, concurrency: int = 4, **more: Any) -> AsyncIterator[Gateway]:
    limits = Limits(concurrency=concurrency, rate_per_minute=more.pop("rate", None))
    clock = more.pop("clock", None) or SystemClock()
    gateway = Gateway(a_target(url=url, limits=limits, **more), ACCESS, SECRET, clock)
    yield gateway
    await gateway.aclose()


async def look(gateway: Gateway, instance: str = ID, timeout: float = LONG) -> Sighting:
    async with gateway.turn() as turn:
        return await turn.look_up(instance, timeout)


async def cancel(gateway: Gateway, instance: str = ID, timeout: float = LONG) -> Answer:
    async with gateway.turn() as turn:
        return await turn.cancel(instance, timeout)


async def trigger(gateway: Gateway, at_ms: int = NOON_MS) -> Answer:
    async with gateway.turn() as turn:
        return await turn.trigger(trigger_request(gateway.target, 3377, None, at_ms), LONG)


def shows(**struct: object) -> Act:
    return says(200, {"code": 0, "msg": "OK", "data": {"instanceId": ID, "status": 2, **struct}})


async def looked_at(*acts: Act, timeout: float = LONG, tokens: tuple[Act, ...] | None = None) -> Sighting:
    wire = Wire(*acts, tokens=tokens or (grants("a-token"),))
    async with wire, a_gateway(wire.url) as gateway:
        return await look(gateway, timeout=timeout)


# Over scripted replies


@pytest.mark.parametrize(
    ("version", "path"),
    [("v2.1", "/batch-processing-service/v2.1/"), ("v2.0", "/dataflow-batch-service/v2.0/")],
)
async def test_a_look_goes_out_signed_and_without_a_body(version: str, path: str) -> None:
    wire = Wire(shows(), tokens=(grants("a-token"),))
    async with wire, a_gateway(wire.url, api_version=version) as gateway:
        await look(gateway)

    [heard] = wire.triggers
    user, org = gateway.target.user_id, gateway.target.org_id
    query = [("action", "get"), ("userId", user), ("orgId", org), ("flowInstId", ID)]
    stamp = heard.headers["apim-timestamp"]
    assert (heard.method, heard.body) == ("GET", b"")
    assert heard.target == f"{path}flowInstances?action=get&userId={user}&orgId={org}&flowInstId={ID}"
    assert heard.headers["apim-signature"] == call_signature("a-token", query, b"", int(stamp), SECRET)


async def test_a_cancellation_goes_out_signed_with_its_body() -> None:
    wire = Wire(says(200, {"code": 0, "data": ""}), tokens=(grants("a-token"),))
    async with wire, a_gateway(wire.url) as gateway:
        answer = await cancel(gateway)

    [heard] = wire.triggers
    user, org = gateway.target.user_id, gateway.target.org_id
    query = [("action", "cancel"), ("userId", user), ("orgId", org)]
    stamp = heard.headers["apim-timestamp"]
    assert answer.outcome is Outcome.ACCEPTED
    assert (heard.method, json.loads(heard.body)) == ("POST", {"flowInstId": ID})
    assert heard.headers["apim-signature"] == call_signature("a-token", query, heard.body, int(stamp), SECRET)


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (shows(), Seen.FOUND),
        (says(200, {"code": 0, "data": None}), Seen.ABSENT),
        (says(200, {"code": 62102}), Seen.ABSENT),
        (hangs_up, Seen.UNCLEAR),
        (resets, Seen.UNCLEAR),
        (writes(b"rubbish\r\n\r\n", then_close=True), Seen.UNCLEAR),
        (writes(response(200, b'{"code": 0, "data": null}')[:-2], then_close=True), Seen.UNCLEAR),
        (says(200, b"<html>"), Seen.UNCLEAR),
        (says(404, {"message": "no Route matched with those values"}), Seen.UNCLEAR),
        (says(429, b"", Retry_After="3"), Seen.UNCLEAR),
        (says(503, b""), Seen.UNCLEAR),
        (says(200, {"code": 62109}), Seen.UNCLEAR),
    ],
)
async def test_what_a_look_shows_over_a_real_socket(act: Act, seen: Seen) -> None:
    sighting = await looked_at(act)

    assert sighting.seen is seen
    assert sighting.detail


@pytest.mark.parametrize("act", [falls_silent, drips(response(200, b'{"code": 0}'), 0.01)])
async def test_a_look_ends_at_its_time(act: Act) -> None:
    sighting = await looked_at(act, timeout=0.2)

    assert sighting.seen is Seen.UNCLEAR
    assert sighting.detail.startswith("no whole answer within 0.2 s, while ")


async def test_a_look_without_a_token_is_unclear_and_sends_nothing() -> None:
    wire = Wire(tokens=(says(200, {"status": 1005}),))
    async with wire, a_gateway(wire.url) as gateway:
        sighting = await look(gateway)

    assert sighting.seen is Seen.UNCLEAR
    assert sighting.detail.startswith("no token: ")
    assert wire.triggers == []


async def test_a_look_at_a_gateway_that_is_not_there_is_unclear() -> None:
    async with Wire() as wire:
        url = wire.url

    async with a_gateway(url) as gateway:
        sighting = await look(gateway)

    detail = f"no token: Connection refused, while connecting to {url.removeprefix('http://')}"
    assert sighting == Sighting(seen=Seen.UNCLEAR, detail=detail)


@pytest.mark.parametrize("call", [look, cancel])
async def test_a_refused_token_is_replaced_once(call: Callable[[Gateway], Awaitable[object]]) -> None:
    wire = Wire(says(401, b""), tokens=(grants("token-one"), grants("token-two"), grants("token-three")))
    async with wire, a_gateway(wire.url) as gateway:
        found = await call(gateway)

    assert [heard.headers["apim-accesstoken"] for heard in wire.triggers] == ["token-one", "token-two"]
    assert "token or signature refused twice" in str(found)


async def test_a_look_with_a_new_token_shows_the_instance() -> None:
    tokens = (grants("token-one"), grants("token-two"))

    sighting = await looked_at(says(401, b""), shows(), tokens=tokens)

    assert sighting.seen is Seen.FOUND


async def test_looks_and_cancellations_count_against_the_limits() -> None:
    clock = HandClock()
    wire = Wire(shows())
    async with wire, a_gateway(wire.url, rate=2, clock=clock) as gateway:
        await look(gateway)
        await cancel(gateway)
        third = asyncio.create_task(trigger(gateway))
        await eventually(lambda: clock.sleeping)
        assert len(wire.triggers) == 2

        clock.advance(60)
        await third
        assert len(wire.triggers) == 3


async def test_one_turn_serves_a_look_and_then_a_trigger_over_one_connection() -> None:
    wire = Wire(says(200, {"code": 62102}), accepts(ID))
    async with wire, a_gateway(wire.url) as gateway, gateway.turn() as turn:
        sighting = await turn.look_up(ID, LONG)
        answer = await turn.trigger(trigger_request(gateway.target, 3377, None, NOON_MS), LONG)

    assert (sighting.seen, answer.outcome) == (Seen.ABSENT, Outcome.ACCEPTED)
    assert len({heard.connection for heard in wire.triggers}) == 1


async def test_an_instance_of_a_flow_with_thousands_of_tasks_is_found() -> None:
    graph = json.dumps([{"taskId": n, "nodeId": f"t_{n}", "taskName": "x" * 100} for n in range(10_000)])

    sighting = await looked_at(shows(graph=graph))

    assert len(graph) > 1024 * 1024
    assert sighting.seen is Seen.FOUND


async def test_an_instance_beyond_all_bounds_is_unclear() -> None:
    sighting = await looked_at(shows(graph="x" * 5 * 1024 * 1024))

    assert sighting.seen is Seen.UNCLEAR
    assert "the body is longer than 4096 KiB" in sighting.detail


async def test_a_cancelled_look_passes_the_cancellation_on_and_leaves_nothing() -> None:
    async with Wire(falls_silent) as wire, a_gateway(wire.url, concurrency=1) as gateway:
        task = asyncio.create_task(look(gateway))
        await eventually(lambda: wire.triggers)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

        await wire.until_all_are_closed()


@pytest.mark.parametrize("call", [look, cancel])
async def test_a_fault_of_ours_is_told_and_logged(
    call: Callable[[Gateway], Awaitable[Sighting | Answer]], caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wire(shows())
    async with wire, a_gateway(wire.url, user_id="\ud800") as gateway:
        found = await call(gateway)

    assert found.detail == "a fault of flowsched (UnicodeEncodeError), while waiting for a token"
    assert getattr(found, "seen", Seen.UNCLEAR) is Seen.UNCLEAR
    assert getattr(found, "outcome", Outcome.NOT_SENT) is Outcome.NOT_SENT
    assert [vars(record)["error"] for record in caplog.records] == ["UnicodeEncodeError"]


@pytest.mark.parametrize("call", [look, cancel])
async def test_nothing_that_a_server_echoes_gives_a_secret_away(
    call: Callable[[Gateway], Awaitable[object]],
) -> None:
    async def echo(writer: asyncio.StreamWriter) -> None:
        heard = wire.heard[-1].headers
        words = f"{heard['apim-accesstoken']} {heard['apim-signature']} {SECRET} {ACCESS}"
        await says(200, {"code": 62103, "msg": words})(writer)

    wire = Wire(echo, tokens=(grants("the-token-of-this-test"),))
    async with wire, a_gateway(wire.url) as gateway:
        found = repr(await call(gateway))

    signature = wire.triggers[0].headers["apim-signature"]
    assert "<secret>" in found
    assert not any(secret in found for secret in ("the-token-of-this-test", signature, SECRET, ACCESS))


async def test_a_secret_in_the_place_of_a_time_is_masked() -> None:
    sighting = await looked_at(shows(startTime="a-token", endTime=f"at {SECRET}"))

    assert (sighting.started, sighting.ended) == ("<secret>", "at <secret>")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (says(200, {"code": 62103}), Outcome.REFUSED_FOR_GOOD),
        (says(429, b"", Retry_After="3"), Outcome.REFUSED_FOR_NOW),
        (hangs_up, Outcome.UNKNOWN),
        (falls_silent, Outcome.UNKNOWN),
    ],
)
async def test_what_came_of_a_cancellation_over_a_real_socket(act: Act, expected: Outcome) -> None:
    wire = Wire(accepts(), act)
    async with wire, a_gateway(wire.url) as gateway:
        await trigger(gateway)
        answer = await cancel(gateway, timeout=0.5)

    assert answer.outcome is expected


async def test_a_cancellation_without_a_token_is_not_sent() -> None:
    wire = Wire(tokens=(hangs_up,))
    async with wire, a_gateway(wire.url) as gateway:
        answer = await cancel(gateway)

    assert (answer.outcome, wire.triggers) == (Outcome.NOT_SENT, [])


# The clocks


def dated(act: Callable[..., Act], at: datetime) -> Act:
    return act(200, {"code": 62102}, Date=format_datetime(at, usegmt=True))


async def test_the_clocks_are_compared_by_every_reply(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock(NOON)
    ahead = dated(says, NOON + timedelta(seconds=90))
    wire = Wire(ahead, says(200, b""), dated(says, NOON), after(0.01, ahead))
    async with wire, a_gateway(wire.url, clock=clock) as gateway:
        offsets = [(gateway.clock_offset, gateway.clock_is_off)]
        for _ in range(4):
            await look(gateway)
            offsets.append((gateway.clock_offset, gateway.clock_is_off))

    off = (timedelta(seconds=90), True)
    assert offsets == [(None, False), off, off, (timedelta(0), False), off]
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING, logging.ERROR]
    assert vars(caplog.records[0])["target"] == gateway.target.name


async def test_the_token_service_tells_its_time_too() -> None:
    date = format_datetime(NOON - timedelta(hours=1), usegmt=True)
    wire = Wire(tokens=(says(200, {"status": 1003}, Date=date),))
    async with wire, a_gateway(wire.url, clock=HandClock(NOON)) as gateway:
        await look(gateway)

        assert (gateway.clock_offset, gateway.clock_is_off) == (timedelta(hours=-1), True)


async def test_a_reply_out_of_a_cache_tells_no_time() -> None:
    date = format_datetime(NOON - timedelta(hours=1), usegmt=True)
    wire = Wire(says(200, {"code": 62102}, Date=date, Age="3600"))
    async with wire, a_gateway(wire.url, clock=HandClock(NOON)) as gateway:
        await look(gateway)

        assert gateway.clock_offset is None


async def test_the_tolerance_can_be_set() -> None:
    wire = Wire(dated(says, NOON + timedelta(seconds=90)))
    async with wire:
        target = a_target(url=wire.url)
        tolerance = timedelta(minutes=2)
        gateway = Gateway(target, ACCESS, SECRET, HandClock(NOON), clock_tolerance=tolerance)
        await look(gateway)
        await gateway.aclose()

    assert (gateway.clock_offset, gateway.clock_is_off) == (timedelta(seconds=90), False)


# Against the simulator


@asynccontextmanager
async def an_enos(
    behaviour: Behaviour | None = None, version: str = "v2.1", **world: Any
) -> AsyncIterator[tuple[Simulator, Gateway, HandClock]]:
    clock = HandClock(NOON)
    simulator = Simulator(clock, behaviour=behaviour, **world)
    url = await simulator.start()
    target = a_target(url=url, user_id=simulator.user.id, org_id=simulator.user.org, api_version=version)
    keys = simulator.application
    gateway = Gateway(target, keys.access_key, keys.secret_key, clock)
    try:
        yield simulator, gateway, clock
    finally:
        await gateway.aclose()
        await simulator.stop()


@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
@pytest.mark.parametrize("shape", DataShape)
async def test_an_instance_is_seen_going_and_ended(version: str, shape: DataShape) -> None:
    async with an_enos(Behaviour(instance_data=shape), version) as (_, gateway, clock):
        await trigger(gateway)
        going = await look(gateway)
        clock.advance(timedelta(minutes=5))
        ended = await look(gateway)

    assert going == Sighting(
        seen=Seen.FOUND,
        detail=f"instance {ID} is RUNNING",
        flow=FlowState.GOING,
        status=2,
        started="2026-01-01 12:00:00",
    )
    assert (ended.flow, ended.status, ended.ended) == (FlowState.SUCCEEDED, 1, "2026-01-01 12:05:00")


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        (UnknownInstance.CODE_62102, Seen.ABSENT),
        (UnknownInstance.NULL_DATA, Seen.ABSENT),
        (UnknownInstance.EMPTY_LIST, Seen.ABSENT),
        (UnknownInstance.HTTP_404, Seen.UNCLEAR),
    ],
)
@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
@pytest.mark.parametrize("refusal_status", [200, 400, 404, 500])
async def test_an_instance_that_is_not_there(
    shape: UnknownInstance, seen: Seen, version: str, refusal_status: int
) -> None:
    behaviour = Behaviour(unknown_instance=shape, refusal_status=refusal_status)
    async with an_enos(behaviour, version) as (_, gateway, _clock):
        assert (await look(gateway)).seen is seen


async def test_an_instance_that_lags_behind_is_absent_at_first() -> None:
    async with an_enos(Behaviour(late_visibility=timedelta(seconds=3))) as (_, gateway, clock):
        await trigger(gateway)
        first = await look(gateway)
        clock.advance(3)
        second = await look(gateway)

    assert (first.seen, second.seen) == (Seen.ABSENT, Seen.FOUND)


@pytest.mark.parametrize("status", Status)
async def test_every_status_is_read_as_section_4_has_it(status: Status) -> None:
    flows = {3377: SimFlow(duration=timedelta(seconds=1), ends_as=status)}
    async with an_enos(flows=flows) as (_, gateway, clock):
        await trigger(gateway)
        clock.advance(1)
        sighting = await look(gateway)

    ended = FlowState.SUCCEEDED if status == 1 else FlowState.FAILED
    assert (sighting.seen, sighting.status) == (Seen.FOUND, int(status))
    assert sighting.flow is (ended if int(status) in {-1, 1, 4, 7, 8, 10} else FlowState.GOING)


@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
async def test_a_cancelled_instance_is_seen_to_have_ended(version: str) -> None:
    async with an_enos(version=version) as (_, gateway, _clock):
        await trigger(gateway)
        first = await cancel(gateway)
        sighting = await look(gateway)
        second = await cancel(gateway)
        unknown = await cancel(gateway, "3377-20260101120100")

    assert first.outcome is Outcome.ACCEPTED
    assert (sighting.flow, sighting.status) == (FlowState.FAILED, 8)
    assert (second.outcome, unknown.outcome) == (Outcome.REFUSED_FOR_GOOD, Outcome.REFUSED_FOR_GOOD)
    assert "there is no such instance, or it has ended" in second.detail


@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
@pytest.mark.parametrize("processed", [True, False])
async def test_a_lost_reply_is_cleared_up_by_a_look(version: str, *, processed: bool) -> None:
    async with an_enos(version=version) as (simulator, gateway, _):
        simulator.faults.add(Order(fault=Fault.REPLY_LOST, on="trigger", processed=processed))
        answer = await trigger(gateway)
        sighting = await look(gateway)

    assert answer.outcome is Outcome.UNKNOWN
    assert sighting.seen is (Seen.FOUND if processed else Seen.ABSENT)


async def test_a_second_trigger_of_the_minute_was_not_created() -> None:
    async with an_enos() as (_, gateway, _clock):
        outcomes = [(await trigger(gateway)).outcome for _ in range(2)]

    assert outcomes == [Outcome.ACCEPTED, Outcome.NOT_CREATED]


@pytest.mark.parametrize("shape", AuthFailure)
async def test_a_revoked_token_does_not_spoil_a_look(shape: AuthFailure) -> None:
    async with an_enos(Behaviour(auth_failure=shape)) as (simulator, gateway, _):
        await trigger(gateway)
        simulator.faults.add(Order(fault=Fault.TOKEN_REVOKED, on="flowInstances.get"))
        sighting = await look(gateway)

    assert sighting.seen is Seen.FOUND


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TOKEN_REVOKED])
async def test_no_fault_makes_an_instance_look_absent(fault: Fault) -> None:
    more: dict[Fault, dict[str, Any]] = {
        Fault.STATUS: {"status": 503},
        Fault.CODE: {"code": 62109},
        Fault.SLOW: {"delay": 60.0},
    }
    async with an_enos() as (simulator, gateway, _):
        await trigger(gateway)
        order: dict[str, Any] = {"fault": fault, "on": "flowInstances.get", **more.get(fault, {})}
        simulator.faults.add(Order(**order))
        sighting = await look(gateway, timeout=0.3)

    harmless = {Fault.HUGE, Fault.CLOSE_IDLE}
    assert sighting.seen is (Seen.FOUND if fault in harmless else Seen.UNCLEAR)


@pytest.mark.parametrize("ahead", [90, -90, 20])
async def test_a_gateway_whose_clock_is_off_is_noticed(ahead: int) -> None:
    async with an_enos(clock_offset=timedelta(seconds=ahead)) as (_, gateway, _clock):
        await look(gateway)

    assert gateway.clock_offset == timedelta(seconds=ahead)
    assert gateway.clock_is_off is (abs(ahead) > 30)
