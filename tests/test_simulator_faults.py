"""Every fault the simulator can be told to have, as it is seen on the wire."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest
import trustme

from flowsched.errors import UsageError
from flowsched.simulator import Behaviour, Fault, Faults, Order, Signature, Simulator
from tests.fakes import HandClock, eventually
from tests.simulated import NOW, NOW_MS, PREFIXES, Caller, simulated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

T = TypeVar("T")
TRIGGER = {"flowId": 3377, "triggerTime": NOW_MS}
ID = "3377-20260101120000"


async def trigger(caller: Caller, document: object = None, **more: Any) -> httpx.Response:
    query = {"action": "trigger", **caller.user}
    return await caller.send("POST", "flows", query, document or TRIGGER, **more)


def made(simulator: Simulator) -> list[str]:
    return [each.id for each in simulator.instances]


@asynccontextmanager
async def spoken(caller: Caller, document: object = None) -> AsyncIterator[asyncio.StreamReader]:
    """Send a trigger over a socket of its own, and hand out what comes back."""
    request = await caller.signed("POST", "flows", {"action": "trigger", **caller.user}, document or TRIGGER)
    head = [f"POST {request.url.raw_path.decode()} HTTP/1.1"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    reader, writer = await asyncio.open_connection(request.url.host, request.url.port)
    writer.write("\r\n".join([*head, "", ""]).encode() + request.content)
    try:
        yield reader
    finally:
        writer.close()


async def soon(awaitable: Awaitable[T]) -> T:
    """What is awaited, which must come at once in real time."""
    async with asyncio.timeout(5):
        return await awaitable


# What the reply says


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (302, "Found"),
        (400, "Cannot process request body"),
        (401, "Invalid authentication credentials"),
        (403, "Your IP address is not allowed"),
        (413, "Request size limit exceeded"),
        (429, "API rate limit exceeded"),
        (500, "An unexpected error occurred"),
        (502, "An invalid response was received from the upstream server"),
        (503, "Service unavailable"),
        (504, "The upstream server is timing out"),
        (418, "Simulated 418"),
    ],
)
async def test_a_status_on_order_is_the_gateways_answer(status: int, text: str) -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.STATUS, status=status, on="trigger"))
        reply = await trigger(caller)

    assert (reply.status_code, reply.json()) == (status, {"message": text})
    assert "retry-after" not in reply.headers
    assert made(simulator) == []


async def test_a_status_without_a_body_on_order_has_none_and_the_connection_goes_on() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.STATUS, status=304, on="trigger"))
        reply = await trigger(caller)
        await caller.current_time()

    assert (reply.status_code, reply.content) == (304, b"")
    assert {call.connection for call in simulator.calls} == {1}


async def test_a_redirect_leads_elsewhere() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.STATUS, status=302, on="trigger"))
        reply = await trigger(caller)

    assert reply.headers["location"] == "/elsewhere"


@pytest.mark.parametrize(
    ("order", "value"),
    [
        ({"retry_after": 3}, "3"),
        ({"retry_after": -1}, "-1"),
        ({"retry_after": 90, "retry_after_as_date": True}, "Thu, 01 Jan 2026 12:02:00 GMT"),
    ],
)
async def test_retry_after_comes_in_both_forms(order: dict[str, Any], value: str) -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.STATUS, status=429, on="trigger", **order))
        reply = await trigger(caller)

    assert reply.headers["retry-after"] == value


@pytest.mark.parametrize(
    ("code", "version", "document"),
    [
        (62109, "2.1", {"code": 62109, "msg": "Internal server exception", "data": None}),
        (62109, "2.0", {"status": 62109, "msg": "Server internal exception", "data": None}),
        (
            62104,
            "2.1",
            {"code": 62104, "msg": "This workflow has no task. You cannot trigger it.", "data": None},
        ),
        (62199, "2.1", {"code": 62199, "msg": "Simulated error 62199", "data": None}),
    ],
)
async def test_a_code_on_order_comes_in_the_envelope(code: int, version: str, document: object) -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.CODE, code=code, on="trigger"))
        reply = await trigger(caller, prefix=PREFIXES[version])

    assert (reply.status_code, reply.json()) == (200, document)
    assert made(simulator) == []


async def test_a_code_on_order_for_the_token_service_is_its_status() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.CODE, code=1005, on="token"))
        reply = await caller.token_call()

    assert (reply["status"], reply["msg"]) == (1005, "Internal service exception")


@pytest.mark.parametrize(
    "order",
    [
        Order(fault=Fault.CODE, code=62109, processed=True),
        Order(fault=Fault.STATUS, status=503, processed=True),
        Order(fault=Fault.HTML),
        Order(fault=Fault.TRUNCATED_JSON),
        Order(fault=Fault.HUGE),
        Order(fault=Fault.WRONG_KEY),
    ],
    ids=lambda order: order.fault,
)
async def test_a_reply_can_hide_that_the_call_took_effect(order: Order) -> None:
    async with simulated() as (simulator, caller, _):
        await caller.sign_in()
        simulator.faults.add(order)
        await trigger(caller)

    assert made(simulator) == [ID]
    assert (simulator.calls[-1].created, simulator.calls[-1].fault) == (ID, order.fault)


async def test_a_page_can_come_instead_of_json() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.HTML, on="trigger"))
        reply = await trigger(caller)

    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=UTF-8")
    assert reply.text.startswith("<!DOCTYPE html>")


async def test_json_can_break_off_in_a_whole_reply() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.TRUNCATED_JSON, on="trigger"))
        reply = await trigger(caller)

    assert int(reply.headers["content-length"]) == len(reply.content) > 0
    with pytest.raises(json.JSONDecodeError):
        reply.json()


async def test_a_reply_can_be_huge_and_still_be_json() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.HUGE, on="trigger"))
        reply = await trigger(caller)

    assert len(reply.content) > 1 << 20
    assert reply.json()["data"] == {"flowInstanceId": ID}


@pytest.mark.parametrize(("version", "key"), [("2.1", "status"), ("2.0", "code")])
async def test_an_envelope_can_be_that_of_the_other_version(version: str, key: str) -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.WRONG_KEY, on="trigger"))
        reply = await trigger(caller, prefix=PREFIXES[version])

    assert set(reply.json()) == {key, "msg", "data"}


async def test_a_spoilt_reply_to_a_call_without_effect_is_an_internal_error() -> None:
    async with simulated(behaviour=Behaviour(refusal_status=500)) as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.WRONG_KEY, processed=False, on="trigger"))
        reply = await trigger(caller)

    assert (reply.status_code, reply.json()["status"]) == (500, 62109)
    assert made(simulator) == []
    assert simulator.calls[-1].outcome == "not processed"


async def test_a_token_can_be_revoked_before_its_time() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.TOKEN_REVOKED, on="trigger"))
        first = await trigger(caller)
        await caller.sign_in()
        second = await trigger(caller)

    assert (first.status_code, second.status_code) == (401, 200)
    assert [call.signature for call in simulator.calls if call.flow] == [Signature.BAD_TOKEN, Signature.GOOD]


# How it gets there


@pytest.mark.parametrize(("processed", "ids"), [(None, [ID]), (True, [ID]), (False, [])])
async def test_a_reply_can_be_lost_after_or_before_the_call_took_effect(
    processed: bool | None,  # noqa: FBT001 - a row of the table
    ids: list[str],
) -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.REPLY_LOST, on="trigger", processed=processed))
        async with spoken(caller) as reader:
            received = await soon(reader.read())

    assert received == b""
    assert made(simulator) == ids
    assert simulator.calls[-1].status is None


async def test_a_connection_can_be_reset_before_the_body_is_read() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.RESET, on="trigger"))
        async with spoken(caller) as reader:
            with pytest.raises(ConnectionResetError):
                await soon(reader.read())

    call = simulator.calls[-1]
    assert (call.signature, call.complete_at, call.flow) == (Signature.UNREAD, None, None)
    assert made(simulator) == []


async def test_a_connection_can_be_reset_once_the_call_took_effect() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.RESET, on="trigger", processed=True, flow=3377))
        async with spoken(caller) as reader:
            with pytest.raises(ConnectionResetError):
                await soon(reader.read())

    assert made(simulator) == [ID]


@pytest.mark.parametrize(("processed", "ids"), [(None, []), (True, [ID])])
async def test_a_call_can_go_unanswered(
    processed: bool | None,  # noqa: FBT001 - a row of the table
    ids: list[str],
) -> None:
    told = asyncio.Event()
    async with simulated(on_call=lambda call: told.set() if call.flow else None) as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.SILENCE, on="trigger", processed=processed))
        async with spoken(caller) as reader:
            await soon(told.wait())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.05)

    assert made(simulator) == ids


async def test_the_sending_side_can_be_shut_while_the_other_stays_open() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.HALF_CLOSE, on="trigger"))
        async with spoken(caller) as reader:
            received = await soon(reader.read())
            open_ = len(simulator._server._open)

    assert (received, open_) == (b"", 2)
    assert made(simulator) == [ID]


async def test_a_status_line_can_be_garbage() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.GARBAGE, on="trigger"))
        with pytest.raises(httpx.RemoteProtocolError):
            await trigger(caller)

    assert made(simulator) == []


async def test_a_reply_can_drip_without_end() -> None:
    async with simulated() as (simulator, caller, clock):
        simulator.faults.add(Order(fault=Fault.DRIP, on="trigger", delay=7))
        async with spoken(caller) as reader:
            head = await soon(reader.readuntil(b"\r\n\r\n"))
            for _ in range(3):
                drop = await soon(reader.readexactly(6))
                assert drop == b"1\r\n \r\n"
                await eventually(lambda: clock.sleeping)
                clock.advance(7)

    assert head.startswith(b"HTTP/1.1 200 ")
    assert made(simulator) == [ID]


async def test_a_reply_can_be_slow_and_then_right() -> None:
    async with simulated() as (simulator, caller, clock):
        simulator.faults.add(Order(fault=Fault.SLOW, on="trigger", delay=40))
        waiting = asyncio.create_task(trigger(caller))
        await eventually(lambda: clock.sleeping)
        made_by_then, left = made(simulator), clock.sleeping
        clock.advance(40)
        reply = await soon(waiting)

    assert (made_by_then, left) == ([ID], [40])
    assert reply.json()["data"] == {"flowInstanceId": ID}


async def test_a_body_can_break_off_on_the_wire() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.TRUNCATED_REPLY, on="trigger"))
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await trigger(caller)

    assert made(simulator) == [ID]


async def test_a_connection_can_be_closed_right_after_a_reply_that_kept_it() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.CLOSE_IDLE, on="trigger"))
        async with spoken(caller) as reader:
            received = await soon(reader.read())

    assert b"200" in received
    assert b"onnection: close" not in received
    assert received.endswith(json.dumps({"code": 0, "msg": "OK", "data": {"flowInstanceId": ID}}).encode())


@pytest.mark.parametrize(
    "fault",
    [
        Fault.CLOSE_IDLE,
        Fault.DRIP,
        Fault.HTML,
        Fault.HUGE,
        Fault.TRUNCATED_JSON,
        Fault.TRUNCATED_REPLY,
        Fault.WRONG_KEY,
    ],
)
async def test_a_head_has_no_body_whatever_the_fault(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=fault))
        url = caller.http.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = await soon(reader.read())
        writer.close()
    gc.collect()  # what a connection died of is told only then

    assert received.startswith(b"HTTP/1.1 ")
    assert received.endswith(b"\r\n\r\n")
    assert received.count(b"\r\n\r\n") == 1
    assert caplog.messages == []


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.HALF_CLOSE, Fault.TRUNCATED_REPLY, Fault.REPLY_LOST])
async def test_faults_on_the_wire_strike_over_tls_too(fault: Fault) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    clock = HandClock(NOW)
    simulator = Simulator(clock)

    caller = Caller(await simulator.start(ssl_context=context), simulator, clock)
    simulator.faults.add(Order(fault=fault, on="trigger", processed=True))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await soon(trigger(caller))
    await caller.http.aclose()
    await simulator.stop()

    assert made(simulator) == [ID]


async def test_stopping_cuts_whatever_is_under_way() -> None:
    async with simulated() as (simulator, caller, _):
        simulator.faults.add(Order(fault=Fault.SILENCE, on="trigger"))
        async with spoken(caller) as reader:
            await eventually(lambda: len(simulator.calls) == 2)
            await soon(simulator.stop())
            received = await soon(reader.read())

    assert received == b""


# What callers do wrong


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"HELLO\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000, b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1_100_000, b"413"),
    ],
    ids=["no request line", "no host", "tunnel", "endless header", "huge body"],
)
async def test_http_that_is_none_is_refused_and_the_server_lives_on(sent: bytes, status: bytes) -> None:
    async with simulated() as (_, caller, _clock):
        url = caller.http.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(sent)
        line = await soon(reader.readline())
        writer.close()
        after = await caller.current_time()

    assert line.split()[1] == status
    assert after.status_code == 200


async def test_nonsense_behind_a_head_is_refused_with_a_body() -> None:
    async with simulated() as (_, caller, _clock):
        url = caller.http.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nHELLO\r\n\r\n")
        writer.write_eof()
        received = await soon(reader.read())
        writer.close()

    assert received.endswith(b'{"message": "Cannot process request body"}')


async def test_a_caller_may_ask_before_it_sends_its_body() -> None:
    async with simulated() as (_, caller, _clock):
        url = caller.http.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        asked = await soon(reader.readuntil(b"\r\n\r\n"))
        writer.write(b"{}")
        answered = await soon(reader.readline())
        writer.close()

    assert asked.split()[1] == b"100"
    assert answered.split()[1] == b"404"


# Orders


async def test_orders_are_read_added_and_cleared_over_http() -> None:
    async with simulated() as (simulator, caller, _):
        order = {"fault": "status", "status": 429, "retry_after": 3, "on": "trigger", "times": 2}
        posted = await caller.http.post("/_simulator/faults", json=order)
        listed = await caller.http.get("/_simulator/faults")
        replies = [await trigger(caller) for _ in range(2)]
        spent = await caller.http.get("/_simulator/faults")
        await caller.http.post("/_simulator/faults", json={"fault": "silence"})
        cleared = await caller.http.delete("/_simulator/faults")
        after = await trigger(caller)

    assert (posted.status_code, posted.json()) == (201, listed.json()["faults"][0])
    assert order.items() <= posted.json().items()
    assert [reply.headers["retry-after"] for reply in replies] == ["3", "3"]
    assert spent.json() == cleared.json() == {"faults": []}
    assert after.status_code == 200
    assert simulator.faults.standing == []


@pytest.mark.parametrize(
    "fault",
    [{"fault": "status", "status": 503}, {"fault": "reset"}, {"fault": "reply_lost", "processed": False}],
)
async def test_an_order_for_any_call_without_end_is_an_outage_until_it_is_cleared(
    fault: dict[str, object],
) -> None:
    async with simulated() as (simulator, caller, _):
        await caller.sign_in()
        await caller.http.post("/_simulator/faults", json={**fault, "on": "any", "times": None})
        for _ in range(3):
            with suppress(httpx.TransportError):
                assert (await trigger(caller)).status_code == 503
            with suppress(httpx.TransportError):
                assert await caller.token_call() == {"message": "Service unavailable"}
        during = made(simulator)
        await caller.http.delete("/_simulator/faults")
        after = await trigger(caller)

    assert (during, made(simulator)) == ([], [ID])
    assert after.status_code == 200
    assert sum(call.fault is not None for call in simulator.calls) == 6


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the body is no JSON object; allowed: "),
        ({}, "fault is None; allowed: status, code, reset, "),
        ({"fault": ["x"]}, "fault is ['x']; allowed: status, code, "),
        ({"fault": "silence", "time": 1}, "unknown: time; allowed: fault, on, flow, "),
        ({"fault": "silence", "times": "2"}, "times is '2'; allowed: a whole number or null"),
        ({"fault": "silence", "times": True}, "times is True; allowed: a whole number or null"),
        ({"fault": "silence", "times": 0}, "times is 0; allowed: 1 or more, or null for every call"),
        ({"fault": "status"}, "status is None; allowed: 300 to 599"),
        ({"fault": "status", "status": 200}, "status is 200; allowed: 300 to 599"),
        ({"fault": "status", "status": 204}, "status is 204; allowed: 300 to 599"),
        ({"fault": "status", "status": 101}, "status is 101; allowed: 300 to 599"),
        ({"fault": "code", "code": 0}, "code is 0; allowed: a number but 0"),
        ({"fault": "html", "code": 5}, "code makes no sense with fault html; allowed: with fault code"),
        ({"fault": "html", "retry_after": 5}, "retry_after makes no sense with fault html; "),
        ({"fault": "status", "status": 429, "retry_after": 10**10}, "retry_after is 10000000000; allowed: "),
        ({"fault": "slow", "delay": 0}, "delay is 0; allowed: seconds, above 0, "),
        ({"fault": "slow", "probability": 1.5}, "probability is 1.5; allowed: 0 to 1"),
        ({"fault": "reset", "flow": 7}, "flow is not known before the body is read; allowed: "),
        ({"fault": "silence", "on": "tigger"}, "on is 'tigger'; allowed: any, trigger, "),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(document: object, message: str) -> None:
    async with simulated() as (simulator, caller, _):
        reply = await caller.http.post("/_simulator/faults", json=document)

    assert reply.status_code == 400
    assert reply.json()["message"].startswith(message)
    assert simulator.faults.standing == []


def test_an_order_in_code_is_checked_like_one_over_http() -> None:
    with pytest.raises(UsageError, match="status is None; allowed: 300 to 599"):
        Order(fault=Fault.STATUS)


CALLS = [
    "token.get",
    "token.refresh",
    "flows.trigger",
    "flows.triggerFromTask",
    "flows.get",
    "flowInstances.get",
]


@pytest.mark.parametrize(
    ("on", "befallen"),
    [
        ("any", CALLS),
        ("token", CALLS[:2]),
        ("trigger", CALLS[2:4]),
        ("flows", CALLS[2:5]),
        ("flows.trigger", CALLS[2:3]),
        ("flowInstances", CALLS[5:]),
    ],
)
def test_an_order_befalls_the_operations_it_names(on: str, befallen: list[str]) -> None:
    faults = Faults()
    faults.add(Order(fault=Fault.SILENCE, on=on, times=None))

    assert [call for call in CALLS if faults.take(call, None)] == befallen


def test_an_order_for_a_flow_spares_the_others() -> None:
    faults = Faults()
    faults.add(Order(fault=Fault.SILENCE, flow=7, times=None))

    assert [flow for flow in (7, 8, None) if faults.take("flows.trigger", flow)] == [7]


def test_orders_are_used_up_oldest_first() -> None:
    faults = Faults()
    faults.add(Order(fault=Fault.HTML, times=2))
    faults.add(Order(fault=Fault.SLOW))

    taken = [faults.take("flows.trigger", 7) for _ in range(4)]

    assert [order and order.fault for order in taken] == [Fault.HTML, Fault.HTML, Fault.SLOW, None]


def test_chance_is_repeatable_and_about_right() -> None:
    def struck(seed: int) -> list[bool]:
        faults = Faults()
        faults.add(Order(fault=Fault.HTML, times=None, probability=0.3, seed=seed))
        return [faults.take("flows.trigger", 7) is not None for _ in range(1000)]

    assert struck(1) == struck(1) != struck(2)
    assert 250 < sum(struck(1)) < 350


def test_a_call_can_be_befallen_only_so_often_even_by_chance() -> None:
    faults = Faults()
    faults.add(Order(fault=Fault.HTML, times=3, probability=0.1))

    assert sum(faults.take("flows.trigger", 7) is not None for _ in range(100)) == 3
