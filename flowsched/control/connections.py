"""HTTP on listening sockets in our own loop: connections that are bounded in number, size and time.

Only the protocol of uvicorn is used. Its server would take the signals of the process, and end it where a
port is busy.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING, cast

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from flowsched.control.sockets import BACKLOG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

log = logging.getLogger(__name__)

MOST = 512
"""Connections at once over a local socket; who comes then is told so, and sent away."""

MOST_OVER_TCP = 32
"""And over a TCP port: whoever can reach it must not have a share in what the local socket has."""

PATIENCE = 10.0
"""Real seconds that a client gets to say what it wants, and to take what it has asked for."""

GRACE = 1.0
"""Real seconds that answers under way get to be given in, when the server is closed."""

MOST_HEADERS = 16 * 1024
"""Bytes of a request's head."""

_TOO_MANY = b'{"error":"the daemon has too many connections at once just now; try again"}'
_SENT_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
) % (len(_TOO_MANY), _TOO_MANY)

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: process, user, group (unix(7))."""


class Listening:
    """Sockets that are answered on, until they are closed."""

    def __init__(self) -> None:
        self._servers: list[tuple[asyncio.Server, ServerState]] = []

    async def listen(self, listener: socket.socket, app: ASGIApp) -> None:
        """Answer with `app` on a socket that listens; `scope["state"]["peer"]` is who is at the other end.

        That is a user id, and None where the socket does not tell.
        """
        config = Config(
            _Quiet(app),
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MOST_HEADERS,
        )
        config.load()
        # Of its own: who fills up one socket locks nobody out of another.
        state = ServerState()
        most = MOST if listener.family == socket.AF_UNIX else MOST_OVER_TCP
        loop = asyncio.get_running_loop()
        # Its backlog is also how many asyncio takes in one go. Where no descriptor is left it tells of each
        # of them, and tries them all again for each.
        made = await loop.create_server(lambda: _Connection(config, state, most), sock=listener, backlog=1)
        listener.listen(BACKLOG)
        self._servers.append((made, state))

    async def aclose(self) -> None:
        """Take no more connections, give answers under way GRACE seconds to be given in, cut off the rest."""
        for server, _ in self._servers:
            server.close()
        open_ = self._connections()
        for connection in open_:
            connection.shutdown()
        await _over((connection.gone for connection in open_), GRACE)
        for connection in self._connections():
            connection.transport.abort()
        await asyncio.sleep(0)  # the applications are told that they speak to nobody
        tasks = [task for _, state in self._servers for task in state.tasks]
        for task in tasks:
            task.cancel()
        await _over(tasks, GRACE)

    def _connections(self) -> list[_Connection]:
        return [cast("_Connection", each) for _, state in self._servers for each in state.connections]


async def _over(futures: Iterable[asyncio.Future[None]], within: float) -> None:
    if waiting := list(futures):
        await asyncio.wait(waiting, timeout=within)


class _Connection(H11Protocol):
    """A connection that nobody can hold without doing something."""

    def __init__(self, config: Config, state: ServerState, most: int) -> None:
        super().__init__(config, state, {})
        self._most = most
        self.gone: asyncio.Future[None] = self.loop.create_future()
        self._asking: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Send away whoever is too many; else wait for a request."""
        super().connection_made(transport)
        self.app_state = {"peer": _peer(transport)}
        if len(self.connections) > self._most:
            transport.write(_SENT_AWAY)
            transport.close()
            return
        transport.set_write_buffer_limits(high=0)  # so that we hear of whatever is not taken at once
        self._wait_for_a_request()

    def data_received(self, data: bytes) -> None:
        """Go on with the request; the time that it has does not begin anew."""
        super().data_received(data)
        self._wait_for_a_request()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that cannot be read on; whoever is about to answer it has nobody to tell."""
        super().send_400_response(msg)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait_for_a_request()

    def pause_writing(self) -> None:
        """Give the client a while to take what it has asked for."""
        super().pause_writing()
        self._taking = self._taking or self.loop.call_later(PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on answering."""
        super().resume_writing()
        self._see_it_taken()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of all that was waited for."""
        self._hear_of_the_request()
        self._see_it_taken()
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)

    def _wait_for_a_request(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # whatever its type says
        if cycle is not None and not cycle.response_complete:
            self._hear_of_the_request()
        elif self._asking is None and not self.transport.is_closing():
            self._asking = self.loop.call_later(PATIENCE, self.transport.abort)

    def _hear_of_the_request(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _see_it_taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def _peer(transport: asyncio.Transport) -> int | None:
    ours = transport.get_extra_info("socket")
    if ours is None or ours.family != socket.AF_UNIX:
        return None
    try:
        credentials = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


class _Quiet:
    """An application whose end the server does not take for a fault, when it is cut off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            log.debug("an answer was cut off")
