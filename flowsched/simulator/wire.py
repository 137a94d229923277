"""One connection as HTTP/1.1 has it, parsed by h11, with the means to misbehave."""

from __future__ import annotations

import socket
import struct
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from flowsched.simulator.messages import Reply, Request
from flowsched.simulator.signature import decoded

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from flowsched.clock import Clock

LARGEST_BODY = 1 << 20
CHUNK = 1 << 16
BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, with no time to linger: closing sends RST instead of FIN."""


class Wire:
    """Requests in, replies out. `OSError` or h11's `RemoteProtocolError` where the peer misbehaves."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock
    ) -> None:
        self._number = number
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._http = h11.Connection(h11.SERVER)
        self._began_at: datetime | None = None
        self._method: str | None = None

    async def head(self) -> Request | None:
        """Return the next request, its body yet to come; None: the peer is done."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        if event.method == b"CONNECT":
            # There is nowhere to lead a tunnel, and success on order would take h11 out of HTTP.
            raise h11.RemoteProtocolError("no tunnel starts here")
        self._method = event.method.decode("latin-1")
        path, _, query = event.target.decode("latin-1").partition("?")
        return Request(
            method=self._method,
            path=path,
            parameters=decoded(query),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers},
            body=b"",
            connection=self._number,
            began_at=self._began_at or self._clock.now(),
            complete_at=None,
        )

    async def body(self) -> bytes | None:
        """Return the body of the request whose head was read; None: it is larger than `LARGEST_BODY`."""
        if self._http.they_are_waiting_for_100_continue:
            await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        parts: list[bytes] = []
        while isinstance(event := await self._event(), h11.Data):
            parts.append(bytes(event.data))
            if sum(map(len, parts)) > LARGEST_BODY:
                return None
        return b"".join(parts)

    async def send(self, reply: Reply) -> None:
        """Send a whole reply."""
        await self.send_part(reply, len(reply.body))
        await self._write(self._http.send(h11.EndOfMessage()))

    async def send_part(self, reply: Reply, size: int) -> None:
        """Send the head of a reply, that promises the whole body, and so many bytes of it.

        No bytes where HTTP has no body: the head then tells what it would be, as it may.
        """
        await self._send_head(reply, ("Content-Length", str(len(reply.body))))
        if self._has_body(reply):
            await self._write(self._http.send(h11.Data(reply.body[:size])))

    async def drip(self, reply: Reply, seconds: float) -> None:
        """Send the head of a reply and then a blank at a time; ends only by an error or a cancellation.

        Where HTTP has no body, the head is all.
        """
        await self._send_head(reply, ("Transfer-Encoding", "chunked"))
        while self._has_body(reply):
            await self._write(self._http.send(h11.Data(b" ")))
            await self._clock.sleep(seconds)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes that are no HTTP."""
        await self._write(data)

    def next_call(self) -> bool:
        """Make ready for the next request on this connection; False: it is to be closed."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._method = None
        self._began_at = self._clock.now() if self._http.trailing_data[0] else None
        return True

    @property
    def may_reply(self) -> bool:
        """Whether a reply may still be begun."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def half_close(self) -> None:
        """Shut the sending side; over TLS, close."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
            await self.until_closed()

    async def until_closed(self) -> None:
        """Wait for the peer to close, whatever it sends."""
        while await self._reader.read(CHUNK):
            pass

    def reset(self) -> None:
        """Send RST."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._writer.transport.abort()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(CHUNK)
            self._began_at = self._began_at or self._clock.now()
            self._http.receive_data(data)
        return event

    def _has_body(self, reply: Reply) -> bool:
        return self._method != "HEAD" and reply.status not in BODILESS

    async def _send_head(self, reply: Reply, framing: tuple[str, str]) -> None:
        headers = [
            ("Date", format_datetime(self._clock.now(), usegmt=True)),
            ("Content-Type", reply.content_type),
            framing,
            *reply.headers,
        ]
        await self._write(self._http.send(h11.Response(status_code=reply.status, headers=headers)))

    async def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()
