"""All that a process is made of, from its settings to its end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from flowsched.alerts.telling import Telling
from flowsched.control.words import sentence
from flowsched.daemon.daemon import Daemon
from flowsched.daemon.gateways import gateways_of
from flowsched.daemon.hands import Hands, revision_on_disk
from flowsched.daemon.herald import Herald
from flowsched.daemon.pulse import Pulse
from flowsched.daemon.reading import read_settled
from flowsched.daemon.reloads import Reloads
from flowsched.daemon.standing import Board
from flowsched.daemon.taking import ledger_taken
from flowsched.daemon.watching import Watching
from flowsched.daemon.works import beside, done_before, kept
from flowsched.errors import LedgerUnusable
from flowsched.ops.metrics import Metrics
from flowsched.ops.notify import Systemd
from flowsched.ops.traces import Spans
from flowsched.threads import Aside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from flowsched.clock import Clock
    from flowsched.config import Kept
    from flowsched.control.ports import Wheel
    from flowsched.control.server import Page
    from flowsched.daemon.reading import Look
    from flowsched.events import Event, Tell
    from flowsched.model import Catalog, Settings

log = logging.getLogger(__name__)

_LOOK_UPS = 64
"""Threads for what blocks, made as they are needed."""


async def serve(  # noqa: PLR0913 - the whole of what a process is made of
    settings: Settings,
    catalog: Catalog,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    halt: asyncio.Event,
    reload: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
    systemd: Systemd | None = None,
    seen: Look | None = None,
    known: Kept | None = None,
) -> None:
    """Keep the schedules of `catalog` until `stop` is set, then drain; `halt` cuts the drain short.

    Each time that `reload` is set, the schedules are read anew, and so they are when the files change that
    looked as in `seen` when `catalog` was read; what is `known` of them from that reading is not parsed
    again. Where they have problems, these are logged, and what was in force stays in force.

    Raises SecretError or LedgerError where it cannot start, and LedgerUnusable at any time: a daemon whose
    ledger will not come back must be seen to have ended. A ledger that another process keeps is waited for,
    for a few seconds. `ready` is set once schedules are in force.
    """
    systemd = systemd or Systemd()
    # Look-ups of names share the loop's threads, of which there are few by default: those of a target whose
    # name server hangs must not hold up the others.
    asyncio.get_running_loop().set_default_executor(Aside(_LOOK_UPS))
    async with AsyncExitStack() as stack:
        gateways = gateways_of(settings, environ, clock)
        for gateway in gateways.values():
            stack.push_async_callback(gateway.aclose)
        ledger = await ledger_taken(settings.ledger, clock, stop, systemd)
        if ledger is None:
            return
        stack.push_async_callback(ledger.aclose)
        listeners: list[Tell] = []
        tell = _to_all(listeners)
        daemon = Daemon(ledger, gateways, clock, settings.max_change, tell)
        read = None if known is None else partial(read_settled, kept=known)
        reloads = Reloads(daemon, settings, clock, tell, read=read)
        pulse = Pulse(daemon, ledger, clock, tell, feed=systemd.feed, watchdog=systemd.watchdog)
        board = Board(daemon, reloads, lambda: pulse.health, gateways, ledger, clock)
        herald = Herald(systemd, clock, lambda: sentence(board.status()))
        telling = Telling(settings, ledger, clock, lambda: daemon.catalog, environ, tell)
        stack.push_async_callback(telling.aclose)
        listeners += [board.hear, herald.hear, telling.hear]
        metrics = Metrics(settings, board.status, lambda: daemon.catalog, clock)
        listeners.append(metrics.hear)
        if settings.traces is not None:
            spans = Spans(settings, daemon.name, clock)
            stack.push_async_callback(spans.aclose)
            listeners.append(spans.hear)
        hands = Hands(
            daemon,
            ledger,
            gateways,
            clock,
            tell=tell,
            standing=board.status,
            health=lambda: pulse.health,
            readings=reloads,
            trial=telling.trial,
            revision=lambda: revision_on_disk(reloads.disk, settings),
        )
        stack.push_async_callback(hands.aclose)
        telling.start()
        await stack.enter_async_context(beside(clock, board.keep))
        await stack.enter_async_context(_listening(settings, hands, metrics.page))
        try:
            if await done_before(stop, daemon.start(catalog)):
                reloads.started(catalog, seen)
                # Until all is closed, as the drain is to be seen, too.
                await stack.enter_async_context(
                    beside(clock, pulse.keep, herald.keep, partial(metrics.keep, ledger))
                )
                herald.ready()
                if ready is not None:
                    ready.set()
                await done_before(
                    stop,
                    kept(
                        ledger,
                        clock,
                        partial(
                            daemon.forget,
                            settings.keep,
                            lambda: any(one.clock_is_off for one in gateways.values()),
                        ),
                        reloads.keep,
                        reloads.keep_asking_when_accepted,
                        *([Watching(settings, reloads, clock).keep] if settings.watch_files else []),
                        partial(_ask_when_told, reloads, reload or asyncio.Event()),
                    ),
                )
        except LedgerUnusable:
            halt.set()  # what is under way cannot be recorded any more
            raise
        finally:
            herald.stopping()
            await daemon.stop(halt)


def _listening(settings: Settings, wheel: Wheel, metrics: Page) -> AbstractAsyncContextManager[object]:
    """Answer on the sockets of the settings inside of the block, if there are any."""
    if not settings.control_socket and settings.listen is None:
        return nullcontext()
    from flowsched.control.server import Server  # noqa: PLC0415 - heavy, and not always needed

    return Server(settings, wheel, metrics)


async def _ask_when_told(reloads: Reloads, told: asyncio.Event) -> None:
    while True:
        await told.wait()
        told.clear()
        reloads.ask("SIGHUP")


def _to_all(listeners: Sequence[Tell]) -> Tell:
    """Return what tells all of them, also those that are added later; a fault of one stops no other."""

    def tell(event: Event) -> None:
        for hear in listeners:
            try:
                hear(event)
            except Exception:
                log.critical("an event was not heard, by a fault of flowsched", exc_info=True)

    return tell
