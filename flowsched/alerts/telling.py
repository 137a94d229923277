"""All that is told to people and checks of what happens in one daemon."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from flowsched.alerts.courier import Courier
from flowsched.alerts.lines import lines_of
from flowsched.alerts.pings import Pinger
from flowsched.alerts.trials import tried
from flowsched.events import nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flowsched.alerts.trials import Trial
    from flowsched.clock import Clock
    from flowsched.events import Event, Tell
    from flowsched.ledger import Ledger
    from flowsched.model import Catalog, Schedule, Settings


class Telling:
    """The alerts and pings of the settings, if there are any."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        clock: Clock,
        catalog: Callable[[], Catalog],
        environ: Mapping[str, str],
        tell: Tell = nobody,
    ) -> None:
        """`catalog` gives the one in force; `tell` is told of the messages that are done with."""
        self._settings = settings
        self._clock = clock
        self._environ = environ
        alerts, pings = settings.alerts, settings.pings

        def schedule(id_: str) -> Schedule | None:
            return catalog().schedules.get(id_)

        self._courier = self._pinger = None
        if alerts is not None:
            lines = lines_of(alerts, environ, socket.gethostname())
            self._courier = Courier(alerts, lines, ledger, clock, schedule, tell)
        if pings is not None:
            self._pinger = Pinger(pings, ledger, clock, schedule, environ)

    def hear(self, event: Event) -> None:
        """Take an event; returns at once."""
        for each in (self._courier, self._pinger):
            if each is not None:
                each.hear(event)

    def start(self) -> None:
        """Begin to send, and take up what a former process left."""
        if self._courier is not None:
            self._courier.start()

    async def aclose(self) -> None:
        """Stop, within about two seconds; alerts that are not sent by then are kept for the next start."""
        await asyncio.gather(*(each.aclose() for each in (self._courier, self._pinger) if each is not None))

    async def trial(self, channel: str | None, by: str) -> Sequence[Mapping[str, object]]:
        """Send a test over a channel, None: over each; return what came of it, as plain JSON.

        Raises UsageError for a channel that there is not.
        """
        return [
            each.document()
            for each in await trial_of(self._settings, channel, by, self._environ, self._clock)
        ]


async def trial_of(
    settings: Settings, channel: str | None, by: str, environ: Mapping[str, str], clock: Clock
) -> Sequence[Trial]:
    """Send a test over a channel of the settings, None: over each; return what came of it.

    Raises UsageError for a channel that there is not.
    """
    lines = {} if settings.alerts is None else lines_of(settings.alerts, environ, socket.gethostname())
    return await tried(lines, channel, clock, by)
