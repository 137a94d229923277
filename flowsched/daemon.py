"""The life of the process: open, take up, fire, drain. Knows no argv and no signals."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from flowsched.config import read_secret
from flowsched.engine import Engine
from flowsched.enos import Gateway
from flowsched.errors import LedgerUnusable
from flowsched.ledger import Ledger
from flowsched.model import RunState
from flowsched.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from datetime import datetime

    from flowsched import runner
    from flowsched.clock import Clock
    from flowsched.model import Catalog, Settings, Target

log = logging.getLogger(__name__)

_LOOK_UPS = 64
"""Threads for what blocks, made as they are needed."""

DRAIN = 60.0
"""Real seconds that attempts under way get to end in; twice the default attempt timeout."""


class Daemon:
    """Keeps one catalog's schedules against one ledger."""

    def __init__(self, ledger: Ledger, gateways: Mapping[str, runner.Gateway], clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._runner = Runner(ledger, gateways, clock)
        self._engine = Engine(ledger, self._runner.start, clock, _name(clock.now()))

    async def start(self, catalog: Catalog) -> None:
        """Take up what a former process left, then put the catalog in force."""
        unfinished = await self._ledger.open_runs()
        cursors = await self._ledger.apply(catalog, self._clock.now())
        await self._runner.take_up(unfinished)
        self._engine.apply(catalog, cursors)
        log.info(
            "daemon ready",
            extra={
                "schedules": len(catalog.schedules),
                "enabled": len(cursors),
                "revision": catalog.revision,
                "taken_up": sum(run.state is not RunState.IN_DOUBT for run in unfinished),
                "in_doubt": sum(run.state in (RunState.IN_DOUBT, RunState.SENDING) for run in unfinished),
                "next_fire": self._engine.next_fire(),
            },
        )

    async def stop(self, halt: asyncio.Event) -> None:
        """Fire no more; let the attempts under way end, for DRAIN seconds or until `halt`; leave the rest."""
        log.info("daemon stopping", extra={"runs_under_way": self._runner.under_way})
        await self._engine.stop()
        cut_off = await self._runner.drain(DRAIN, halt)
        log.info("daemon stopped", extra={"attempts_cut_off": cut_off})


async def serve(  # noqa: PLR0913 - the whole of what a process is made of
    settings: Settings,
    catalog: Catalog,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    halt: asyncio.Event,
    ready: asyncio.Event | None = None,
) -> None:
    """Keep the schedules of `catalog` until `stop` is set, then drain; `halt` cuts the drain short.

    Raises SecretError or LedgerError where it cannot start, and LedgerUnusable at any time: a daemon whose
    ledger will not come back must be seen to have ended. `ready` is set once schedules are in force.
    """
    # Look-ups of names share the loop's threads, of which there are few by default: those of a target whose
    # name server hangs must not hold up the others.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_LOOK_UPS))
    async with AsyncExitStack() as stack:
        gateways = {name: _gateway(target, environ, clock) for name, target in settings.targets.items()}
        for gateway in gateways.values():
            stack.push_async_callback(gateway.aclose)
        ledger = await Ledger.open_as_daemon(settings.ledger)
        stack.push_async_callback(ledger.aclose)
        daemon = Daemon(ledger, gateways, clock)
        try:
            if await _done_before(stop, daemon.start(catalog)):
                if ready is not None:
                    ready.set()
                await _done_before(stop, _raise_when_unusable(ledger))
        except LedgerUnusable:
            halt.set()  # what is under way cannot be recorded any more
            raise
        finally:
            await daemon.stop(halt)


def _gateway(target: Target, environ: Mapping[str, str], clock: Clock) -> Gateway:
    access_key = read_secret(target.access_key, environ)
    secret_key = read_secret(target.secret_key, environ)
    return Gateway(target, access_key.reveal(), secret_key.reveal(), clock)


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


def _name(started: datetime) -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{started:%Y%m%dT%H%M%S.%fZ}"
