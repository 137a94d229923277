"""The listening socket and its connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import h11

from flowsched.simulator.control import PREFIX, control
from flowsched.simulator.effects import act
from flowsched.simulator.messages import gateway_reply
from flowsched.simulator.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from flowsched.clock import Clock
    from flowsched.simulator.books import Call
    from flowsched.simulator.gateway import Gateway
    from flowsched.simulator.messages import Request

BACKLOG = 1024

_TURNS = 3
"""Turns of the loop after which whoever was accepted last is known: asyncio makes a transport, then tells of
it. Where the server is closed before that, it forgets the socket."""


class Server:
    """Serves one gateway on one address."""

    def __init__(self, gateway: Gateway, clock: Clock, on_call: Callable[[Call], None]) -> None:
        self._gateway = gateway
        self._clock = clock
        self._on_call = on_call
        self._server: asyncio.Server | None = None
        self._accepted = 0
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, host: str, port: int, ssl_context: ssl.SSLContext | None) -> int:
        """Listen; return the port, which matters where 0 was asked for. `OSError` if it cannot."""
        self._server = await asyncio.start_server(self._accept, host, port, ssl=ssl_context, backlog=BACKLOG)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close everything, whatever is under way; return when it is closed."""
        if self._server is None:
            return
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self._server.close()
        connections = dict(self._open)
        for task, writer in connections.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for writer in connections.values():
            with suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        task = asyncio.create_task(self._serve(Wire(self._accepted, reader, writer, self._clock), writer))
        self._open[task] = writer
        task.add_done_callback(lambda done: self._open.pop(done, None))

    async def _serve(self, wire: Wire, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(wire) and wire.next_call():
                pass
        except h11.RemoteProtocolError:
            with suppress(OSError):
                await self._turn_away(wire, 400)
        except OSError:
            # The peer went away, which is its right.
            pass
        finally:
            writer.close()

    async def _exchange(self, wire: Wire) -> bool:
        head = await wire.head()
        if head is None or self._cut_off(wire, head):
            return False
        body = await wire.body()
        if body is None:
            await self._turn_away(wire, 413)
            return False
        return await self._answer(wire, replace(head, body=body, complete_at=self._clock.now()))

    async def _turn_away(self, wire: Wire, status: int) -> None:
        if wire.may_reply:
            await wire.send(gateway_reply(status, (("Connection", "close"),)))
            # Closing with bytes unread would reset the connection, and the reply could be lost with it.
            await wire.half_close()

    def _cut_off(self, wire: Wire, head: Request) -> bool:
        call = None if head.path.startswith(PREFIX) else self._gateway.cut_off(head)
        if call is None:
            return False
        self._on_call(call)
        wire.reset()
        return True

    async def _answer(self, wire: Wire, request: Request) -> bool:
        if request.path.startswith(PREFIX):
            await wire.send(control(self._gateway, request, self._clock.now()))
            return True
        exchange = self._gateway.answer(request)
        self._on_call(exchange.call)
        if exchange.order is not None:
            return await act(wire, exchange.reply, exchange.order, self._clock)
        await wire.send(exchange.reply)
        return True
