"""The simulator as a whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flowsched.errors import UsageError
from flowsched.simulator.gateway import Gateway
from flowsched.simulator.server import Server
from flowsched.simulator.world import Application, Behaviour, User

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from flowsched.clock import Clock
    from flowsched.simulator.books import Call
    from flowsched.simulator.faults import Faults
    from flowsched.simulator.instances import Instance
    from flowsched.simulator.world import SimFlow

LOOPBACK = "127.0.0.1"


class Simulator:
    """An EnOS of one organization, one user and one application, over real HTTP.

    `clock` decides the life of tokens and instances, the age of timestamps, the quota, the `Date` of every
    reply, and how slow slow is. `flows` None: every positive flow id exists, with any task. `on_call` is
    given each call when it is decided, before its reply is sent; it must not raise.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        application: Application | None = None,
        user: User | None = None,
        flows: Mapping[int, SimFlow] | None = None,
        behaviour: Behaviour | None = None,
        on_call: Callable[[Call], None] = lambda _: None,
    ) -> None:
        self.application = application or Application()
        self.user = user or User()
        self._clock = clock
        self._gateway = Gateway(self.application, self.user, flows, behaviour or Behaviour())
        self._server = Server(self._gateway, clock, on_call)

    @property
    def faults(self) -> Faults:
        """The faults on order."""
        return self._gateway.faults

    @property
    def calls(self) -> Sequence[Call]:
        """Every call so far, in the order in which they were decided."""
        return tuple(self._gateway.books.calls)

    @property
    def instances(self) -> Sequence[Instance]:
        """Every instance so far, as it stands now, in the order of creation."""
        return tuple(self._gateway.batch.instances(self._clock.now()))

    async def start(
        self, host: str = LOOPBACK, port: int = 0, ssl_context: ssl.SSLContext | None = None
    ) -> str:
        """Listen, and return the base URL, without a trailing slash. Port 0: any free one.

        `UsageError` if the address cannot be had.
        """
        try:
            bound = await self._server.start(host, port, ssl_context)
        except OSError as error:
            raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        scheme = "http" if ssl_context is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound}"

    async def stop(self) -> None:
        """Close every connection and the socket. The books stay readable; it may be started again."""
        await self._server.stop()


async def serve(
    simulator: Simulator,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    on_ready: Callable[[str], None],
) -> None:
    """Run a simulator until cancelled. `on_ready` is given the base URL once it listens."""
    url = await simulator.start(host, port, ssl_context)
    try:
        on_ready(url)
        await asyncio.get_running_loop().create_future()
    finally:
        await simulator.stop()
