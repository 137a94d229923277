"""One connection to the gateway, and all that httpx can do to it.

Why a client per slot and not one for all: a pool of httpx that is shared stops working for good once
enough of its requests have been cancelled, and is slow when many wait for it (httpcore issue 1093 and
pull request 1035, both open). A slot's client serves one call at a time, keeps one connection, and is
thrown away with it after anything but a whole reply.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from flowsched.enos.replies import LONGEST_BODY, NoReply, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    import httpx

_CONNECTED = "connect_tcp.complete"
_SENDING = "send_request_headers.started"
_STAGES = {
    "connect_tcp.started": "while connecting",
    "start_tls.started": "in the TLS handshake",
    _SENDING: "while sending",
    "receive_response_headers.started": "while waiting for the reply",
    "receive_response_body.started": "while reading the reply",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it goes out; its headers hold secrets."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    longest_reply: int = field(default=LONGEST_BODY, repr=False)
    """Bytes of body beyond which the reply is not read on."""


class Progress:
    """How far a call has got; kept by the caller, since the call may be cancelled at any point."""

    def __init__(
        self, stage: str = "before connecting", on_sending: Callable[[], None] = lambda: None
    ) -> None:
        self.stage = stage
        self._on_sending = on_sending
        self.sent = False
        """Whether a byte of the request may have left. Set before the first is written to a socket."""
        self.socket: Any = None
        """The connection made for this call, also where httpx has lost sight of it."""

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow httpcore's trace extension, whose events are `<layer>.<step>.<started|complete|failed>`."""
        step = event.partition(".")[2]
        if getattr(info.get("request"), "method", None) == b"CONNECT":
            self.stage = "while asking the proxy for a tunnel"
            return
        if step == _CONNECTED:
            self.socket = info["return_value"]
        self.stage = _STAGES.get(step, self.stage)
        if step == _SENDING:
            self.sent = True
            self._on_sending()


class Slot:
    """Room for one call at a time, on a connection that is kept from call to call while all goes well."""

    def __init__(self, build: Callable[[], httpx.AsyncClient]) -> None:
        self._build = build
        self._client: httpx.AsyncClient | None = None

    async def send(self, call: Call, progress: Progress) -> Reply | NoReply:
        """Send once and read the reply. Raises nothing but CancelledError."""
        whole = False
        try:
            reply = await self._exchange(call, progress)
            whole = reply.flaw is None
        except Exception as error:  # noqa: BLE001 - httpx lets ssl, codec and anyio errors through unmapped
            return NoReply(f"{reason(error)}, {progress.stage}")
        else:
            return reply
        finally:
            if not whole:
                await self.aclose()
                # httpcore forgets a socket whose TLS handshake is cancelled, without closing it.
                await _close(progress.socket)

    async def aclose(self) -> None:
        """Close the connection, if any; the next call makes another."""
        client, self._client = self._client, None
        await _close(client)

    async def _exchange(self, call: Call, progress: Progress) -> Reply:
        if self._client is None:
            self._client = self._build()
        request = self._client.build_request(
            call.method,
            call.url,
            headers=call.headers,
            content=call.body,
            extensions={"trace": progress.note},
        )
        response = await self._client.send(request, stream=True)
        async with aclosing(response):
            body, flaw = await _read(response, call.longest_reply)
        headers = response.headers
        date = None if "age" in headers else headers.get("date")
        return Reply(response.status_code, body, flaw, headers.get("retry-after"), date)


async def _close(closable: Any) -> None:
    """Close a client or a socket, if any; cancelled a second time, it is closed nevertheless."""
    if closable is not None:
        with suppress(Exception):
            await asyncio.shield(closable.aclose())


async def _read(response: httpx.Response, longest: int) -> tuple[bytes, str | None]:
    """Return the body, and why it is not whole; a status line that was read is worth keeping."""
    body = bytearray()
    try:
        async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > longest:
                    return bytes(body), f"longer than {longest // 1024} KiB"
    except Exception as error:  # noqa: BLE001 - as in Slot.send
        return bytes(body), f"cut off ({reason(error)})"
    return bytes(body), None


def reason(error: BaseException) -> str:
    """Return what went wrong at the bottom of a chain of exceptions, in the words of the system."""
    while (cause := _cause(error)) is not None:
        error = cause
    return _words(error) or type(error).__name__


def _words(error: BaseException) -> str:
    if isinstance(error, (ssl.SSLError, socket.gaierror)):  # their numbers are not the system's
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ or error.__context__  # httpcore suppresses contexts that say most
