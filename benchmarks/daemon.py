"""flowsched as `flowsched run` has it, on a clock whose next minute begins at an instant of choice.

    python benchmarks/daemon.py SETTINGS AT

AT is that instant, in seconds of the wall clock. Prints `ready` once schedules are in force; ends on
SIGTERM. With BENCH_PROFILE in the environment, cProfile's figures are kept in the file of that name.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta

from flowsched.cli.files import need_settings
from flowsched.cli.run import spare_the_collector
from flowsched.clock import FastClock
from flowsched.config import Kept
from flowsched.daemon import read_first, serve
from flowsched.ops import logs

MINUTE = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""What the clock shows at AT."""


async def main(settings_file: str, at: float) -> None:
    settings = need_settings(settings_file)
    known = Kept()
    catalog, seen = read_first(settings, known)
    spare_the_collector()
    clock = FastClock(MINUTE - timedelta(seconds=at - time.time()), 1.0)
    logs.configure(sys.stderr, clock)
    stop, halt, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    serving = asyncio.create_task(
        serve(
            settings,
            catalog,
            seen=seen,
            known=known,
            clock=clock,
            environ=os.environ,
            stop=stop,
            halt=halt,
            ready=ready,
        )
    )
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        print("ready", flush=True)
    await serving


if __name__ == "__main__":
    profile = os.environ.get("BENCH_PROFILE")
    if profile:
        with cProfile.Profile() as profiler:
            asyncio.run(main(sys.argv[1], float(sys.argv[2])))
        profiler.dump_stats(profile)
    else:
        asyncio.run(main(sys.argv[1], float(sys.argv[2])))
