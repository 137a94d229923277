"""A server on loopback that hears requests and answers as scripted, down to the bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Self

from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

    Act = Callable[[asyncio.StreamWriter], Awaitable[None]]

TOKENS = "/apim-token-service/v2.0/token/"


@dataclass(frozen=True, slots=True)
class Heard:
    """A request as it came off the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    connection: int


def response(status: int, body: bytes, **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says(status: int, body: Any, **headers: str) -> Act:
    """Answer with JSON, or with bytes as they are."""
    return writes(response(status, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers))


def writes(data: bytes, *, then_close: bool = False) -> Act:
    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then_close:
            writer.close()

    return act


def after(seconds: float, act: Act) -> Act:
    async def delayed(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await act(writer)

    return delayed


def drips(data: bytes, every: float = 0.02) -> Act:
    async def act(writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(every)

    return act


async def falls_silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hangs_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resets(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def accepts(instance: str = "3377-20191122012300") -> Act:
    return says(200, {"code": 0, "msg": "OK", "data": {"flowInstanceId": instance}})


def grants(token: str, expire: int = 7200) -> Act:
    data = {"accessToken": token, "expire": expire}
    return says(200, {"status": 0, "msg": "SUCCESS", "business": "apim-token-service", "data": data})


def script(*acts: Act) -> Iterator[Act]:
    """One act a request, the last one for ever."""
    return chain(acts, repeat(acts[-1]))


async def shut(server: asyncio.Server, conversations: Collection[asyncio.Task[None]]) -> None:
    """Shut a server, and end all that it converses in."""
    # Of a connection that asyncio has just accepted it forgets the socket where the server is shut before it
    # is told of: turns of the loop for a transport to be made, told of, and the conversation to begin.
    for _ in range(4):
        await asyncio.sleep(0)
    server.close()
    tasks = tuple(conversations)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()


class Listener:
    """A server on loopback, used as `async with`, at whose end all its connections end."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.connections = 0
        """Those that were made, after the TLS handshake where there is one."""
        self._tls = tls
        self._conversations: dict[asyncio.Task[None], asyncio.StreamReader] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await shut(self._server, self._conversations)

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._conversations[task] = reader
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            del self._conversations[task]
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Wire(Listener):
    """`async with Wire(...) as wire:`, then look at what it heard."""

    def __init__(
        self,
        *triggers: Act,
        tokens: tuple[Act, ...] = (grants("token-number-one"),),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls)
        self.heard: list[Heard] = []
        self._triggers = script(*(triggers or (accepts(),)))
        self._tokens = script(*tokens)

    @property
    def triggers(self) -> list[Heard]:
        return [heard for heard in self.heard if not heard.target.startswith(TOKENS)]

    @property
    def token_calls(self) -> list[str]:
        return [h.target.removeprefix(TOKENS) for h in self.heard if h.target.startswith(TOKENS)]

    @property
    def open_connections(self) -> int:
        """Those that the other side has not closed."""
        return sum(not (reader.at_eof() or reader.exception()) for reader in self._conversations.values())

    async def until_all_are_closed(self) -> None:
        await eventually(lambda: self.open_connections == 0)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections
        while not writer.is_closing():
            heard = await _hear(reader, connection)
            self.heard.append(heard)
            acts = self._tokens if heard.target.startswith(TOKENS) else self._triggers
            await next(acts)(writer)


class Tunnels(Listener):
    """A proxy on loopback that gives tunnels; used as a Wire is."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.heard: list[Heard] = []

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await _hear(reader, self.connections)
        self.heard.append(heard)
        host, _, port = heard.target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.transport.abort()


class Farewell(Listener):
    """A server by TLS that says goodbye in one flight with what it says last, and does not hang up.

    TLS by hand, as no stream of asyncio does so. Used as a Wire is; each connection hears one request.
    """

    def __init__(self, tls: ssl.SSLContext, *speeches: Callable[[], bytes]) -> None:
        """Answer each request with the next speech, the last one for ever; none: after the handshake."""
        super().__init__(None)
        self.heard: list[bytes] = []
        self._layers = tls
        self._speeches = chain(speeches, repeat(speeches[-1])) if speeches else None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._speak(reader, writer)
        while await reader.read(65_536):
            pass

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        layer = self._layers.wrap_bio(incoming, outgoing, server_side=True)

        async def done(step: Callable[[], Any]) -> Any:
            """Return what it returns once enough has come; what it has to say last waits for the flight."""
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    data = await reader.read(65_536)
                    if not data:
                        raise ConnectionError("hung up") from None
                    incoming.write(data)

        await done(layer.do_handshake)
        if self._speeches is not None:
            self.heard.append(await done(lambda: layer.read(65_536)))
            layer.write(next(self._speeches)())
        with suppress(ssl.SSLWantReadError):  # it waits for the goodbye of the other side
            layer.unwrap()
        writer.write(outgoing.read())


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65_536):
            sink.write(data)
    sink.transport.abort()


async def _hear(reader: asyncio.StreamReader, connection: int) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    fields = (line.split(": ", 1) for line in head[1:] if line)
    headers = {name.lower(): value for name, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Heard(method, target, headers, body, connection)
