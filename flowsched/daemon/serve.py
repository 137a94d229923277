"""All that a process is made of, from its settings to its end."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from flowsched.config import read_secret
from flowsched.daemon.daemon import Daemon
from flowsched.daemon.reloads import Reloads
from flowsched.enos import Gateway
from flowsched.errors import LedgerUnusable
from flowsched.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from flowsched.clock import Clock
    from flowsched.events import Event, Tell
    from flowsched.model import Catalog, Settings, Target

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
) -> None:
    """Keep the schedules of `catalog` until `stop` is set, then drain; `halt` cuts the drain short.

    Each time that `reload` is set, the schedules are read anew; where they have problems, these are logged,
    and what was in force stays in force.

    Raises SecretError or LedgerError where it cannot start, and LedgerUnusable at any time: a daemon whose
    ledger will not come back must be seen to have ended. `ready` is set once schedules are in force.
    """
    # Look-ups of names share the loop's threads, of which there are few by default: those of a target whose
    # name server hangs must not hold up the others.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_LOOK_UPS))
    async with AsyncExitStack() as stack:
        gateways = {name: _gateway(each, settings, environ, clock) for name, each in settings.targets.items()}
        for gateway in gateways.values():
            stack.push_async_callback(gateway.aclose)
        ledger = await Ledger.open_as_daemon(settings.ledger)
        stack.push_async_callback(ledger.aclose)
        listeners: list[Tell] = []
        tell = _to_all(listeners)
        daemon = Daemon(ledger, gateways, clock, settings.max_change, tell)
        reloads = Reloads(daemon, settings, clock, tell)
        try:
            if await _done_before(stop, daemon.start(catalog)):
                reloads.started(catalog)
                if ready is not None:
                    ready.set()
                others = gateways.values()
                await _done_before(
                    stop,
                    _kept(
                        ledger,
                        daemon.forget(settings.keep, lambda: any(one.clock_is_off for one in others)),
                        reloads.keep(),
                        reloads.keep_asking_when_accepted(),
                        _ask_when_told(reloads, reload or asyncio.Event()),
                    ),
                )
        except LedgerUnusable:
            halt.set()  # what is under way cannot be recorded any more
            raise
        finally:
            await daemon.stop(halt)


async def _kept(ledger: Ledger, *beside: Coroutine[Any, Any, None]) -> None:
    """Do what is to be done beside firing, until the ledger cannot be used; then raise why."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in (*beside, _raise_when_unusable(ledger)):
                tasks.create_task(work)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


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


def _gateway(target: Target, settings: Settings, environ: Mapping[str, str], clock: Clock) -> Gateway:
    access_key = read_secret(target.access_key, environ)
    secret_key = read_secret(target.secret_key, environ)
    return Gateway(
        target,
        access_key.reveal(),
        secret_key.reveal(),
        clock,
        clock_tolerance=settings.clock_tolerance,
    )


async def _raise_when_unusable(ledger: Ledger) -> None:
    raise await ledger.unusable()


async def _done_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, and tell whether it was done before `stop` was set; it is not gone on with after that.

    Raises what the work raises.
    """
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        await working
        return True
    working.cancel()
    return False
