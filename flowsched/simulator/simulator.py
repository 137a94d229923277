"""The simulator as a whole."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched.errors import UsageError
from flowsched.simulator.gateway import Gateway
from flowsched.simulator.server import Server
from flowsched.simulator.world import Application, Behaviour, User

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.simulator.books import Call
    from flowsched.simulator.faults import Faults
    from flowsched.simulator.instances import Instance
    from flowsched.simulator.world import SimFlow

LOOPBACK = "127.0.0.1"


class _Ahead:
    """A clock whose time of day is ahead of another's."""

    def __init__(self, clock: Clock, by: timedelta) -> None:
        self._clock = clock
        self._by = by

    def now(self) -> datetime:
        return self._clock.now() + self._by

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def draw(self) -> float:
        return self._clock.draw()


class Simulator:
    """An EnOS of one organization, one user and one application, over real HTTP.

    `clock` decides the life of tokens and instances, the age of timestamps, the quota, the `Date` of every
    reply, and how slow slow is; `clock_offset` is how far the simulator's own time of day is ahead of it, in
    all of that and in the books. `flows` None: every positive flow id exists, with any task. `keep_calls` is
    how many calls, the latest, stay in the books; None: all. `on_call` is given each call when it is decided,
    before its reply is sent; it must not raise.
    """

    def __init__(  # noqa: PLR0913 - a whole world
        self,
        clock: Clock,
        *,
        application: Application | None = None,
        user: User | None = None,
        flows: Mapping[int, SimFlow] | None = None,
        behaviour: Behaviour | None = None,
        on_call: Callable[[Call], None] = lambda _: None,
        clock_offset: timedelta = timedelta(0),
        keep_calls: int | None = None,
    ) -> None:
        self.application = application or Application()
        self.user = user or User()
        self._clock = _Ahead(clock, clock_offset)
        self._gateway = Gateway(self.application, self.user, flows, behaviour or Behaviour(), keep_calls)
        self._server = Server(self._gateway, self._clock, on_call)

    @property
    def faults(self) -> Faults:
        """The faults on order."""
        return self._gateway.faults

    @property
    def calls(self) -> Sequence[Call]:
        """The calls that are kept, in the order in which they were decided."""
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
