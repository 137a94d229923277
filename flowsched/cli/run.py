"""`flowsched run`: the daemon, its signals and its exit code."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import click

from flowsched.cli import FINE, UNEXPECTED, exit_code
from flowsched.cli.files import need_settings
from flowsched.clock import SystemClock
from flowsched.config import Kept
from flowsched.daemon import read_first, serve
from flowsched.errors import ConfigError, FlowschedError, SecretError
from flowsched.ops import logs, notify

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flowsched.clock import Clock

log = logging.getLogger(__name__)

CUT_OFF = 5.0
"""Real seconds that all gets to end in after the second signal."""

THREADS_END = 2.0
"""Real seconds that threads get to end in when all else has ended."""

NEW_OBJECTS = 10_000
"""So many more objects have the collector look for unreachable ones among them; Python has 700 to 2,000."""


@click.command("run", epilog="Example: flowsched --config /etc/flowsched/flowsched.yaml run")
@click.option(
    "--log-level",
    type=click.Choice([level.value for level in logs.Level]),
    default=logs.Level.INFO.value,
    show_default=True,
    help="The least that is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice([form.value for form in logs.Form]),
    help="How it is logged. Default: text to a terminal and to systemd's journal, json elsewhere.",
)
@click.pass_obj
def command(config_option: str | None, log_level: str, log_format: str | None) -> int:
    """Load and check the schedules, then fire them until SIGTERM or SIGINT.

    SIGHUP has the schedules read anew: all of them take effect, or where one has a problem, none.
    The first signal drains: attempts under way end, nothing new begins. The second ends at once; what
    was cut off is in doubt at the next start. Exits with 78 where the configuration or the ledger cannot
    be used, and with 3 where it may be worth starting again.
    """
    hurried: list[int] = []
    # Until the loop listens: by default it would end the process.
    signal.signal(signal.SIGHUP, lambda number, _: hurried.append(number))
    # A watchdog ends a process that hangs by SIGABRT: then the log says where it hung.
    with suppress(OSError, ValueError):
        faulthandler.enable(sys.stderr)
    clock = SystemClock()
    logs.configure(
        sys.stderr, clock, level=logs.Level(log_level), form=logs.Form(log_format) if log_format else None
    )
    threads = set(threading.enumerate())
    code = _code_of(config_option, clock, hurried)
    logs.flush()
    _end_without(threads, code)
    return code


def _code_of(config_option: str | None, clock: Clock, hurried: Sequence[int]) -> int:
    try:
        _run(config_option, clock, hurried)
    except FlowschedError as error:
        for cause in _causes(error):
            log.critical("flowsched cannot run", extra=cause)
        return exit_code(error)
    except Exception:
        # Not to a file, as other commands do: a service's private folder for those goes with it.
        log.critical("flowsched stopped by a fault of its own", exc_info=True)
        return UNEXPECTED
    return FINE


def _run(config_option: str | None, clock: Clock, hurried: Sequence[int] = ()) -> None:
    # First of all, so that no child has them.
    systemd = notify.take_from(os.environ)
    settings = need_settings(config_option)
    systemd.status("reading the schedules")
    known = Kept()
    catalog, seen = read_first(settings, known)
    systemd.status(f"starting with {len(catalog.schedules)} schedules")
    spare_the_collector()

    async def main() -> None:
        stop, halt, reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
        watch_signals(stop, halt)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.set)
        if hurried:
            reload.set()
        serving = serve(
            settings,
            catalog,
            seen=seen,
            known=known,
            clock=clock,
            environ=os.environ,
            stop=stop,
            halt=halt,
            reload=reload,
            systemd=systemd,
        )
        try:
            await _ended(asyncio.create_task(serving), halt)
        finally:
            _hear_no_more()

    asyncio.run(main())


def spare_the_collector() -> None:
    """Have the garbage collector leave alone for good what is there now, and look at the rest less often.

    It halts the loop while it looks: with thousands of runs under way, a few times for as long as a hundred
    calls take. What is left alone and given up later, as a catalog by a reload, is freed all the same, unless
    it refers to itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])


async def _ended(serving: asyncio.Task[None], halt: asyncio.Event) -> None:
    """Wait until it has ended; for CUT_OFF once `halt` is set. Raises what it raises."""
    halting = asyncio.create_task(halt.wait())
    await asyncio.wait({serving, halting}, return_when=asyncio.FIRST_COMPLETED)
    halting.cancel()
    await asyncio.wait({serving}, timeout=CUT_OFF)
    if not serving.done():
        serving.cancel()
        await asyncio.wait({serving}, timeout=THREADS_END)
        log.critical("flowsched was cut off, as it did not end", extra={"within": CUT_OFF})
        if not serving.done():
            _end_now(UNEXPECTED)
    if serving.cancelled():
        raise FlowschedError(f"it did not end within {CUT_OFF:g} s, and was cut off")
    await serving


def _end_without(threads: Collection[threading.Thread], code: int) -> None:
    """End the process where threads are left, other than these, that it would wait for in vain."""
    clock = SystemClock()
    until = clock.monotonic() + THREADS_END
    for each in set(threading.enumerate()) - set(threads):
        if not each.daemon:
            each.join(max(0.0, until - clock.monotonic()))
            if each.is_alive():
                log.error("a thread did not end, and is left", extra={"name_of_thread": each.name})
                _end_now(code)


def _end_now(code: int) -> NoReturn:
    logs.flush()
    os._exit(code)


def _hear_no_more() -> None:
    """Let a signal that comes after the drain change nothing: the process ends by itself, and well."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _causes(error: FlowschedError) -> list[dict[str, object]]:
    """Return the fields of one event for each thing that is wrong."""
    if isinstance(error, ConfigError):
        return [{"problem": str(problem)} for problem in error.problems]
    if isinstance(error, SecretError):
        return [{"problem": fault} for fault in error.faults]
    return [{"problem": str(error)}]


def watch_signals(stop: asyncio.Event, halt: asyncio.Event) -> None:
    """Set `stop` at the first SIGTERM or SIGINT, `halt` at the second."""

    def heard() -> None:
        (halt if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)
