"""One HTTP/1.1 connection: asyncio carries the bytes, h11 says what those that come mean.

A reply is read as it comes and no further than it is wanted, so nothing piles up, however much a server
sends. Closing is never waited for.
"""

from __future__ import annotations

import asyncio
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11

from flowsched.enos.addresses import opened
from flowsched.enos.calls import Progress
from flowsched.enos.messages import reply_of, tunnel_request
from flowsched.enos.reasons import reason

if TYPE_CHECKING:
    import ssl

    from flowsched.enos.proxies import Proxy
    from flowsched.enos.replies import Reply
    from flowsched.enos.ways import Way

KEEP_IDLE = 1.0
"""Real seconds that a connection may lie idle between two calls and still be used.

Less than any server in common use waits before it closes one (the shortest is 2 s): to send on a
connection that is being closed turns a call that could safely be repeated into one in doubt.
"""

LONGEST_HEAD = 100 * 1024
"""Bytes of all headers before the body together, or of trailers, beyond which a reply is given up."""

MOST_INTERIM = 100
"""Interim replies (1xx) beyond which the reply itself is given up."""

MOST_PIECES = 10_000
"""Pieces of a body beyond which it is not read on: each takes the loop some microseconds, however short."""

_AT_ONCE = 500
"""Pieces that are taken in one round of the loop: meanwhile it serves no other target."""

_NO_BODY = -1

_A_REQUEST = h11.Request(method="POST", target="/", headers=[("Host", "")])
_ITS_END = h11.EndOfMessage()
"""What h11 is told of each request. To read the reply it need not know more: none is by HEAD."""


@dataclass(slots=True)
class _Heard:
    """What has come in reply to a request."""

    longest: int
    """Bytes of body beyond which no more is read; _NO_BODY: not even those."""
    progress: Progress
    over: asyncio.Future[h11.Response | Exception]
    """Done when no more is wanted, or to come: the head, or why there was none."""
    head: h11.Response | None = None
    body: bytearray = field(default_factory=bytearray)
    flaw: str | None = None
    """Why `body` is not the whole body; None where it is."""
    pieces: int = 0
    interim: int = 0
    head_bytes: int = 0
    """Of all headers so far, those of interim replies too."""


class Connection(asyncio.Protocol):
    """An open connection, for one exchange at a time. What comes unasked ends it."""

    def __init__(self, transport: asyncio.Transport | None = None) -> None:
        """Wait for `connection_made`; or stand upon the transport of a connection that gets TLS."""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self._loop = asyncio.get_running_loop()
        self._heard: _Heard | None = None
        self._rests_since: float | None = None
        self._socket: Any = transport
        self._transport: Any = transport
        """As `_socket`, or the layer of TLS upon it."""

    async def exchange(self, request: bytes, longest: int, progress: Progress) -> Reply:
        """Send once, and return the reply, whose head there is at least. After a whole one it `rests`.

        Raises OSError or h11's errors where no head came. Where `progress` has not been told by then that
        it is sending, no byte of the request has left.
        """
        self._rests_since = None
        if self._socket.is_closing():
            raise _closed()
        progress.sending()
        head, heard = await self._ask(request, longest, progress)
        if heard.flaw is None and self._is_clean():
            self._http.start_next_cycle()
            self._rests_since = self._loop.time()
        return reply_of(head, bytes(heard.body), heard.flaw)

    @property
    def rests(self) -> bool:
        """Whether nothing is under way, nor left over from the last exchange, so that another may come."""
        return self._rests_since is not None

    def is_fit(self) -> bool:
        """Tell whether another exchange can begin: open, not idle for long, with nothing to be read.

        The system is asked for that, and for an end: the loop may not have come round to what has arrived.
        What is not seen is what TLS has read and keeps to itself: the first part of a record.
        """
        since = self._rests_since
        if since is None or self._loop.time() - since > KEEP_IDLE or self._socket.is_closing():
            return False
        readable = select.poll()
        readable.register(self._socket.get_extra_info("socket"), select.POLLIN)
        return not readable.poll(0)

    def close(self) -> None:
        """Close it at once: no goodbye of TLS is waited for, nor that the last bytes leave."""
        self._rests_since = None
        self._socket.abort()

    async def tunnel(self, authority: str, authorization: str | None) -> None:
        """Have the proxy that this leads to connect it to a server. Raises as `exchange`."""
        try:
            head, _ = await self._ask(tunnel_request(authority, authorization), _NO_BODY, Progress())
        except h11.RemoteProtocolError:
            head = None
        if head is None:  # only here, without the error, which quotes what may echo our credentials
            raise ConnectionError("the proxy's answer is no HTTP")
        if head.status_code // 100 != 2:  # noqa: PLR2004 - the 2 of 2xx
            raise ConnectionError(f"the proxy answered HTTP {head.status_code}")
        if self._http.trailing_data[0]:
            raise ConnectionError("the proxy sent more than its answer")

    async def secured(self, tls: ssl.SSLContext, name: str) -> Connection:
        """Return the connection that goes on by TLS, with the server of that name. Raises OSError."""
        if self._socket.is_closing():
            raise _closed()
        secured = Connection(self._socket)
        transport = await self._loop.start_tls(self._transport, secured, tls, server_hostname=name)
        if transport is None:
            raise _closed()
        secured._transport = transport
        return secured

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Follow asyncio's Protocol."""
        self._socket = self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Follow asyncio's Protocol."""
        if self._heard is None:
            self.close()
            return
        self._http.receive_data(data)
        self._listen(self._heard)

    def eof_received(self) -> None:
        """Follow asyncio's Protocol, which closes afterwards; with TLS, some rounds of the loop later."""
        if self._heard is None:
            self.close()  # at once, lest another exchange begin upon a layer of TLS that sends no more
            return
        if self._http.their_state is h11.SEND_RESPONSE:  # h11 says the same, less plainly
            self._end(_gone())
        else:
            self._http.receive_data(b"")
            self._listen(self._heard, at_once=MOST_PIECES + MOST_INTERIM)  # there may be no other round

    def connection_lost(self, error: Exception | None) -> None:
        """Follow asyncio's Protocol."""
        if self._heard is not None:
            self._end(error or _gone())

    async def _ask(self, request: bytes, longest: int, progress: Progress) -> tuple[h11.Response, _Heard]:
        heard = self._heard = _Heard(longest, progress, self._loop.create_future())
        self._http.send(_A_REQUEST)
        self._http.send(_ITS_END)
        self._transport.write(request)
        if self._is_written():
            progress.stage = "while waiting for the reply"
        head = await heard.over
        if isinstance(head, Exception):  # a value, lest asyncio complain where nobody waits any more
            raise head
        return head, heard

    def _listen(self, heard: _Heard, at_once: int = _AT_ONCE) -> None:
        try:
            for _ in range(at_once):
                if self._heard is not heard or (event := self._http.next_event()) is h11.NEED_DATA:
                    return
                self._take(event, heard)
        except h11.RemoteProtocolError as error:
            self._end(error)
        else:
            self._transport.pause_reading()
            self._loop.call_soon(self._listen_on, heard)

    def _listen_on(self, heard: _Heard) -> None:
        self._transport.resume_reading()
        if self._heard is heard:
            self._listen(heard)

    def _take(self, event: object, heard: _Heard) -> None:
        if isinstance(event, h11.Data):
            self._take_piece(event.data, heard)
        elif isinstance(event, (h11.InformationalResponse, h11.Response)):
            self._take_head(event, heard)
        else:
            self._end()

    def _take_piece(self, data: bytes, heard: _Heard) -> None:
        heard.body += data
        heard.pieces += 1
        if len(heard.body) > heard.longest:
            heard.flaw = f"longer than {heard.longest // 1024} KiB"
            self._end()
        elif heard.pieces > MOST_PIECES:
            heard.flaw = f"in more than {MOST_PIECES} pieces"
            self._end()

    def _take_head(self, event: h11.InformationalResponse | h11.Response, heard: _Heard) -> None:
        heard.head_bytes += sum(len(name) + len(value) + 3 for name, value in event.headers.raw_items())
        if heard.head_bytes > LONGEST_HEAD:
            self._end(ConnectionError(f"more than {LONGEST_HEAD // 1024} KiB of headers"))
        elif isinstance(event, h11.Response):
            heard.head = event
            heard.progress.stage = "while reading the reply"
            if heard.longest == _NO_BODY:
                self._end()
        else:
            heard.interim += 1
            if heard.interim > MOST_INTERIM:
                self._end(ConnectionError(f"more than {MOST_INTERIM} interim replies"))

    def _end(self, error: Exception | None = None) -> None:
        """Read no further; after the head, an error is but a flaw of the reply."""
        heard, self._heard = self._heard, None
        if heard is None or heard.over.done():
            return
        if heard.head is not None and error is not None:
            heard.flaw = f"cut off ({reason(error)})"
        heard.over.set_result(heard.head or error or _gone())

    def _is_clean(self) -> bool:
        """Tell whether both sides are done and leave it open, with nothing left over in either direction."""
        return (
            self._http.our_state is self._http.their_state is h11.DONE
            and not self._http.trailing_data[0]
            and self._is_written()
            and not self._socket.is_closing()
        )

    def _is_written(self) -> bool:
        return bool(self._socket.get_write_buffer_size() == 0)


def _closed() -> ConnectionError:
    return ConnectionError("the connection was closed before the request")


def _gone() -> ConnectionError:
    return ConnectionError("the server closed the connection without a reply")


async def connect(way: Way, progress: Progress) -> Connection:
    """Return a new connection. Raises OSError and h11's errors; then, and cancelled, no socket stays."""
    first = way.proxy or way
    progress.stage = f"while connecting to {first}"
    transport, connection = await opened(Connection, first.host, first.port)
    try:
        if way.proxy is not None:
            connection = await _tunnelled(connection, way, way.proxy, progress)
        if way.tls is not None:
            progress.stage = f"in the TLS handshake with {way}"
            connection = await connection.secured(way.tls, way.host)
    except BaseException:
        transport.abort()
        raise
    return connection


async def _tunnelled(connection: Connection, way: Way, proxy: Proxy, progress: Progress) -> Connection:
    if proxy.by_tls and way.tls is not None:
        progress.stage = f"in the TLS handshake with {proxy}"
        connection = await connection.secured(way.tls, proxy.host)
    progress.stage = f"while asking {proxy} for a tunnel"
    await connection.tunnel(way.authority, proxy.authorization)
    return connection
