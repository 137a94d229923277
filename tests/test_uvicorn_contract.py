"""What the control room relies on in uvicorn; a release that changes one of these fails here, by name."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

LONGEST_HEAD = 2048
"""Bytes; less than what uvicorn allows by itself."""

GET = b"GET /a%20b?c=d HTTP/1.1\r\nhost: x\r\n\r\n"


class Remarking(H11Protocol):
    """A connection that remarks what it is told."""

    def __init__(self, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {"peer": None})
        self.told: list[str] = []

    def now(self) -> Any:
        """Its cycle, whatever its type says."""
        return self.cycle

    def on_response_complete(self) -> None:
        self.told.append("complete")
        super().on_response_complete()

    def pause_writing(self) -> None:
        self.told.append("pause")
        super().pause_writing()

    def resume_writing(self) -> None:
        self.told.append("resume")
        super().resume_writing()


class Bench:
    """Connections of uvicorn's protocol on a port, over an application that tells what it was asked."""

    def __init__(self) -> None:
        self.state = ServerState()
        self.made: list[Remarking] = []
        self.scopes: list[Scope] = []
        self.body = b"done"
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.heard: list[str] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.config = Config(
            cast("Any", self),
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=LONGEST_HEAD,
        )

    async def open(self) -> None:
        self.config.load()
        self._server = await asyncio.get_running_loop().create_server(self._made, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    def _made(self) -> Remarking:
        self.made.append(Remarking(self.config, self.state))
        return self.made[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.heard.append((await receive())["type"])
        if not self.may_answer.is_set():
            await self.may_answer.wait()
            self.heard.append((await receive())["type"])
        length = str(len(self.body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": self.body})

    async def connect(self, asking: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        known = len(self.made)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        writer.write(asking)
        await eventually(lambda: len(self.made) > known and self.made[-1].server is not None)
        return reader, writer

    async def close(self) -> None:
        self._server.close()
        for each in self.made:
            each.transport.abort()
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await eventually(lambda: not self.state.connections)
        for task in list(self.state.tasks):
            task.cancel()
        await eventually(lambda: not self.state.tasks)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.open()
    yield bench
    bench.may_answer.set()
    await bench.close()


async def test_each_connection_is_in_the_state_until_it_is_lost(bench: Bench) -> None:
    _, writer = await bench.connect()
    assert bench.state.connections == {bench.made[0]}
    assert bench.made[0].connections is bench.state.connections
    assert bench.made[0].loop is asyncio.get_running_loop()

    writer.close()

    await eventually(lambda: not bench.state.connections)


async def test_what_app_state_holds_is_in_the_scope_as_it_is_when_the_request_comes(bench: Bench) -> None:
    reader, writer = await bench.connect()
    bench.made[0].app_state = {"peer": 4711}
    writer.write(GET)
    await reader.readuntil(b"done")

    (scope,) = bench.scopes
    assert scope["state"] == {"peer": 4711}
    assert (scope["method"], scope["path"], scope["query_string"]) == ("GET", "/a b", b"c=d")


async def test_there_is_no_cycle_before_a_request_and_it_is_complete_after_the_answer(bench: Bench) -> None:
    reader, writer = await bench.connect()
    connection = bench.made[0]
    assert connection.now() is None
    bench.may_answer.clear()
    writer.write(GET)
    await eventually(lambda: bench.scopes)
    assert connection.now().response_complete is False
    assert len(bench.state.tasks) == 1
    assert connection.told == []

    bench.may_answer.set()
    connection.now().message_event.set()  # so that the application hears something
    await reader.readuntil(b"done")

    await eventually(lambda: connection.told == ["complete"])
    await eventually(lambda: not bench.state.tasks)
    assert connection.now().response_complete is True


async def test_who_does_not_take_an_answer_is_told_of_and_so_is_that_it_is_taken(bench: Bench) -> None:
    bench.body = b"x" * 20_000_000
    reader, writer = await bench.connect()
    bench.made[0].transport.set_write_buffer_limits(high=0)
    writer.write(GET)
    await eventually(lambda: "pause" in bench.made[0].told)
    assert "resume" not in bench.made[0].told

    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(bench.body))

    await eventually(lambda: "resume" in bench.made[0].told)


async def test_shutdown_closes_who_asks_nothing_and_answers_who_does(bench: Bench) -> None:
    idle, _ = await bench.connect()
    bench.may_answer.clear()
    asking, _ = await bench.connect(GET)
    await eventually(lambda: bench.scopes)

    for connection in list(bench.state.connections):
        connection.shutdown()

    assert await asyncio.wait_for(idle.read(), 3) == b""  # it would be closed after 5 s anyway
    bench.may_answer.set()
    bench.made[1].now().message_event.set()
    assert (await asyncio.wait_for(asking.read(), 3)).endswith(b"done")


async def test_the_application_hears_that_the_client_has_gone(bench: Bench) -> None:
    bench.may_answer.clear()
    await bench.connect(GET)
    await eventually(lambda: bench.heard == ["http.request"])

    bench.made[0].transport.abort()
    bench.may_answer.set()

    await eventually(lambda: bench.heard == ["http.request", "http.disconnect"])


async def test_a_head_that_is_too_long_is_refused(bench: Bench) -> None:
    reader, _ = await bench.connect(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"x" * 2 * LONGEST_HEAD)

    assert (await reader.readline()).split()[1] == b"400"
    assert bench.scopes == []


async def test_a_request_for_a_web_socket_is_one_like_any_other(bench: Bench) -> None:
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    reader, _ = await bench.connect(b"GET / HTTP/1.1\r\nhost: x\r\n" + upgrade + b"\r\n")

    assert (await reader.readline()).split()[1] == b"200"
    assert [scope["type"] for scope in bench.scopes] == ["http"]


async def test_it_names_no_server_and_logs_no_request(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        reader, _ = await bench.connect(GET)
        head = await reader.readuntil(b"\r\n\r\n")

    assert b"server:" not in head.lower()
    assert caplog.messages == []


async def test_the_protocol_leaves_the_signals_of_the_process_alone() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    bench = Bench()
    await bench.open()
    await bench.connect(GET)
    await eventually(lambda: bench.scopes)

    assert {number: signal.getsignal(number) for number in before} == before
    await bench.close()


async def test_it_serves_a_local_socket_as_well() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    bench = Bench()
    bench.config.load()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(bench._made, ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    writer.write(GET)

    assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200 ")
    transport.abort()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    await eventually(lambda: not bench.state.connections)
