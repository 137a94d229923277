"""The page of metrics: what has happened, how things stand, and what the process takes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from flowsched.admission import Pauses
from flowsched.errors import LedgerError
from flowsched.ops import gauges, successes
from flowsched.ops.successes import Successes
from flowsched.ops.tallies import Tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

    from flowsched.clock import Clock
    from flowsched.events import Event
    from flowsched.ledger import Ledger
    from flowsched.model import Catalog, Settings, Status

log = logging.getLogger(__name__)

LOOK = 10.0
"""Seconds between two looks at what is expected of the schedules."""


class Metrics:
    """Listens to events, and asks for the rest when somebody looks."""

    def __init__(
        self,
        settings: Settings,
        status: Callable[[], Status],
        catalog: Callable[[], Catalog],
        clock: Clock,
    ) -> None:
        """`status` and `catalog` answer from memory; both are asked on the loop, at each scrape."""
        self._status = status
        self._catalog = catalog
        self._clock = clock
        self._tallies = Tallies(settings.targets, settings.alerts.channels if settings.alerts else ())
        self._successes = Successes(clock)
        self._shown: Status | None = None
        self._registry = CollectorRegistry()
        self._registry.register(_Standing(self._families))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def hear(self, event: Event) -> None:
        """Count what happens."""
        self._tallies.hear(event)
        self._successes.hear(event)

    def page(self) -> tuple[bytes, str]:
        """Return all metrics in the text format of Prometheus, and its content type."""
        self._shown = self._status()
        text = self._successes.page(self._catalog(), self._shown.last_success)
        return generate_latest(self._registry) + text.encode(), CONTENT_TYPE_PLAIN_0_0_4

    async def keep(self, ledger: Ledger) -> None:
        """Work out, all the time, by when each schedule should have succeeded; never ends.

        To be begun when a catalog is in force.
        """
        while True:
            try:
                await self.load(ledger)
                while True:
                    await self.look()
                    await self._clock.sleep(LOOK)
            except LedgerError as error:  # where it is unusable the daemon ends, and says why
                log.warning("ledger would not tell what is expected", extra={"error": str(error)})
            except Exception:
                log.critical("it is not known what is expected, by a fault of flowsched", exc_info=True)
            await self._clock.sleep(LOOK)

    async def load(self, ledger: Ledger) -> None:
        """Take up what the ledger knows: terms in force, pauses, what was skipped. Raises LedgerError."""
        terms, kept_from = await ledger.terms_in_force(), await ledger.kept_from()
        since = {id_: term.from_at for id_, term in terms.items() if id_ in self._catalog().schedules}
        ids = list(since)
        for first in range(0, len(ids), successes.AT_ONCE):
            some = ids[first : first + successes.AT_ONCE]
            triggered = await ledger.last_successes(some)
            after = {id_: triggered.get(id_, since[id_]) for id_ in some}
            self._successes.skipped(await ledger.last_skips(after))
        self._successes.load(terms.values(), await ledger.pauses(), kept_from)

    async def look(self) -> None:
        """Work out once what is expected."""
        await self._successes.look(self._catalog(), self._status())

    def _families(self) -> Iterator[Metric]:
        yield from self._tallies.families()
        if self._shown is not None:
            yield from gauges.families(self._shown, self._paused(self._shown))

    def _paused(self, status: Status) -> int:
        lasting = gauges.pauses_at(status.pauses, status.at)
        if not lasting:
            return 0
        pauses, schedules = Pauses(lasting), self._catalog().schedules.values()
        return sum(each.enabled and bool(pauses.of(each)) for each in schedules)


class _Standing:
    """What prometheus-client asks at each scrape."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        """Yield all families of metrics."""
        return self._collect()

    def describe(self) -> list[Metric]:
        """Return nothing: what is asked at a scrape cannot be asked before there is a status."""
        return []
