from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from flowsched.enos.replies import LONGEST_BODY, NoReply, Reply
from flowsched.enos.slots import Call, Progress, Slot, reason
from tests.fakes import eventually
from tests.wire import Wire, drips, falls_silent, hangs_up, resets, response, says, writes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Any

    from tests.wire import Act


def a_call(url: str) -> Call:
    return Call("POST", f"{url}/x?a=b", {"apim-accesstoken": "tok"}, b'{"flowId":1}')


@asynccontextmanager
async def a_slot() -> AsyncIterator[Slot]:
    slot = Slot(lambda: httpx.AsyncClient(trust_env=False, timeout=None))  # noqa: S113 - tests bound it
    yield slot
    await slot.aclose()


def exceptions_of_httpx() -> list[type[Exception]]:
    found = [getattr(httpx, name) for name in httpx.__all__]
    return [thing for thing in found if isinstance(thing, type) and issubclass(thing, Exception)]


def made(kind: type[Exception]) -> Exception:
    if kind is httpx.HTTPStatusError:
        return httpx.HTTPStatusError("m", request=httpx.Request("GET", "/"), response=httpx.Response(500))
    if kind in {httpx.StreamConsumed, httpx.ResponseNotRead, httpx.RequestNotRead, httpx.StreamClosed}:
        return kind()
    return kind("m")


class Failing(httpx.AsyncBaseTransport):
    def __init__(self, error: Exception, *, after_event: str | None) -> None:
        self._error = error
        self._event = after_event

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._event is not None:
            await request.extensions["trace"](self._event, {"request": request})
        raise self._error


OTHERS = [OSError("m"), ValueError("m"), RuntimeError("m"), UnicodeError("m")]


def test_the_tree_of_httpx_has_the_size_that_was_looked_at() -> None:
    assert len(exceptions_of_httpx()) == 28


@pytest.mark.parametrize(
    "error", [*map(made, exceptions_of_httpx()), *OTHERS], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize(
    ("event", "sent"),
    [
        (None, False),
        ("connection.connect_tcp.started", False),
        ("connection.start_tls.started", False),
        ("http11.send_request_headers.started", True),
    ],
)
async def test_every_error_is_a_value_and_whether_it_was_sent_is_known(
    error: Exception, event: str | None, *, sent: bool
) -> None:
    slot = Slot(lambda: httpx.AsyncClient(transport=Failing(error, after_event=event)))
    progress = Progress()

    reply = await slot.send(a_call("http://127.0.0.1"), progress)

    assert isinstance(reply, NoReply)
    assert reply.detail
    assert progress.sent is sent


async def test_sending_is_noted_before_the_first_byte_leaves() -> None:
    class Looking(Progress):
        async def note(self, event: str, info: Mapping[str, Any]) -> None:
            before = self.sent
            await super().note(event, info)
            if self.sent and not before:
                await asyncio.sleep(0.02)
                self.heard_before = list(wire.heard)

    async with Wire(says(200, {})) as wire, a_slot() as slot:
        progress = Looking()
        await slot.send(a_call(wire.url), progress)

    assert progress.heard_before == []
    assert len(wire.heard) == 1


async def test_the_request_for_a_proxy_tunnel_is_not_the_call() -> None:
    async with Wire(says(407, b"")) as proxy:
        slot = Slot(lambda: httpx.AsyncClient(proxy=proxy.url, trust_env=False))
        progress = Progress()
        reply = await slot.send(a_call("https://enos.example"), progress)

    assert proxy.heard[0].method == "CONNECT"
    assert isinstance(reply, NoReply)
    assert progress.stage == "while asking the proxy for a tunnel"
    assert not progress.sent


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        (hangs_up, "Server disconnected without sending a response., while waiting for the reply"),
        (resets, "Connection reset by peer, while waiting for the reply"),
        (writes(b"rubbish\r\n\r\n", then_close=True), "illegal status line"),
        (writes(b"HTTP/1.1 200 O", then_close=True), "while waiting for the reply"),
        (writes(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"), "illegal header line"),
        (writes(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), "while waiting for the reply"),
    ],
)
async def test_a_call_without_a_status_line_was_sent(act: Act, detail: str) -> None:
    async with Wire(act) as wire, a_slot() as slot:
        progress = Progress()
        reply = await slot.send(a_call(wire.url), progress)

    assert isinstance(reply, NoReply)
    assert detail in reply.detail
    assert progress.sent


@pytest.mark.parametrize(
    ("act", "flaw"),
    [
        (writes(response(200, b"{}" * 20)[:-7], then_close=True), "cut off (peer closed connection"),
        (writes(response(200, b"x" * (LONGEST_BODY + 1))), "longer than 64 KiB"),
        (writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "cut off (illegal chunk"),
    ],
)
async def test_a_status_line_is_kept_though_the_body_is_not_whole(act: Act, flaw: str) -> None:
    async with Wire(act) as wire, a_slot() as slot:
        reply = await slot.send(a_call(wire.url), Progress())
        await wire.until_all_are_closed()

    assert isinstance(reply, Reply)
    assert reply.http_status == 200
    assert reply.flaw is not None
    assert reply.flaw.startswith(flaw)


async def test_a_body_of_just_the_longest_size_is_whole() -> None:
    async with Wire(says(200, b"x" * LONGEST_BODY)) as wire, a_slot() as slot:
        reply = await slot.send(a_call(wire.url), Progress())

    assert reply == Reply(200, b"x" * LONGEST_BODY)


async def test_a_body_without_end_is_not_read_on() -> None:
    async with Wire(writes(response(200, b"x" * 50_000_000))) as wire, a_slot() as slot:
        reply = await slot.send(a_call(wire.url), Progress())

    assert isinstance(reply, Reply)
    assert len(reply.body) < 3 * LONGEST_BODY


async def test_a_connection_is_used_again_after_a_whole_reply() -> None:
    async with Wire(says(200, {}), says(500, b""), says(200, {})) as wire, a_slot() as slot:
        for _ in range(3):
            await slot.send(a_call(wire.url), Progress())

    assert wire.connections == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with Wire(writes(response(200, b"{}"), then_close=True)) as wire, a_slot() as slot:
        await slot.send(a_call(wire.url), Progress())
        await wire.until_all_are_closed()
        reply = await slot.send(a_call(wire.url), Progress())

    assert isinstance(reply, Reply)
    assert wire.connections == 2


@pytest.mark.parametrize(
    "act", [falls_silent, drips(response(200, b"{}")), drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 99, 0)]
)
async def test_a_slot_works_again_after_a_call_was_cancelled(act: Act) -> None:
    async with Wire(act, says(200, {})) as wire, a_slot() as slot:
        call = asyncio.create_task(slot.send(a_call(wire.url), Progress()))
        await eventually(lambda: wire.heard)
        call.cancel()
        await asyncio.wait([call])
        reply = await slot.send(a_call(wire.url), Progress())

        await eventually(lambda: wire.open_connections == 1)

    assert call.cancelled()
    assert reply == Reply(200, b"{}")
    assert wire.connections == 2


async def test_a_connection_is_closed_though_its_closing_is_cancelled() -> None:
    closing, may_close = asyncio.Event(), asyncio.Event()

    class SlowToClose(httpx.AsyncClient):
        async def aclose(self) -> None:
            closing.set()
            await may_close.wait()
            await super().aclose()

    async with Wire(says(200, {})) as wire:
        slot = Slot(lambda: SlowToClose(trust_env=False, timeout=None))
        await slot.send(a_call(wire.url), Progress())
        close = asyncio.create_task(slot.aclose())
        await closing.wait()
        close.cancel()
        await asyncio.wait([close])
        assert wire.open_connections == 1

        may_close.set()

        await wire.until_all_are_closed()


async def test_a_tls_handshake_that_is_cancelled_leaves_no_socket() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        progress = Progress()
        async with a_slot() as slot:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            call = asyncio.create_task(slot.send(a_call(url), progress))
            connection, _ = await loop.sock_accept(listener)
            hello = await loop.sock_recv(connection, 10_000)

            call.cancel()
            await asyncio.wait([call])

    with connection:
        assert hello.startswith(b"\x16")
        assert await loop.sock_recv(connection, 10_000) == b""
    assert progress.stage == "in the TLS handshake"
    assert not progress.sent


def test_the_reason_is_the_deepest_one_in_the_words_of_the_system() -> None:
    error = httpx.ConnectError("All connection attempts failed")
    error.__context__ = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")

    assert reason(error) == "Connection refused"


def test_a_reason_without_words_is_its_kind() -> None:
    assert reason(httpx.ReadError("")) == "ReadError"


def test_the_reason_of_a_group_is_that_of_its_first() -> None:
    assert reason(ExceptionGroup("many", [ValueError("this"), ValueError("that")])) == "this"


def test_a_call_shows_no_header_and_no_body() -> None:
    assert repr(a_call("http://h")) == "Call(method='POST', url='http://h/x?a=b')"
