"""`flowsched run`: the daemon, its signals and its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import click

from flowsched import config
from flowsched.cli.files import need_settings
from flowsched.clock import SystemClock
from flowsched.daemon import serve
from flowsched.ops import logs


@click.command("run", epilog="Example: flowsched --config /etc/flowsched/flowsched.yaml run")
@click.pass_obj
def command(config_option: str | None) -> None:
    """Load and check the schedules, then fire them until SIGTERM or SIGINT.

    The first signal drains: attempts under way end, nothing new begins. The second ends at once; what
    was cut off is in doubt at the next start. Exits with 78 where the configuration cannot be used.
    """
    clock = SystemClock()
    logs.configure(sys.stderr, clock)
    settings = need_settings(config_option)
    catalog = config.load_catalog(settings.schedules, settings)

    async def main() -> None:
        stop, halt = asyncio.Event(), asyncio.Event()
        watch_signals(stop, halt)
        await serve(settings, catalog, clock=clock, environ=os.environ, stop=stop, halt=halt)

    asyncio.run(main())


def watch_signals(stop: asyncio.Event, halt: asyncio.Event) -> None:
    """Set `stop` at the first SIGTERM or SIGINT, `halt` at the second."""

    def heard() -> None:
        (halt if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)
