"""`flowsched run`, on a clock whose next minute begins at an instant of choice.

    python benchmarks/daemon.py SETTINGS AT

AT is that instant, in seconds of the wall clock. Prints `ready` once schedules are in force; ends on
SIGTERM. With BENCH_PROFILE in the environment, cProfile's figures are kept in the file of that name.
"""

from __future__ import annotations

import cProfile
import logging
import os
import sys
import time
from datetime import UTC, datetime, timedelta

from flowsched.cli import run
from flowsched.clock import FastClock
from flowsched.ops import logs

MINUTE = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""What the clock shows at AT."""


class SaysReady(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "daemon ready":
            print("ready", flush=True)


def main(settings_file: str, at: float) -> None:
    clock = FastClock(MINUTE - timedelta(seconds=at - time.time()), 1.0)
    logs.configure(sys.stderr, clock)
    logging.getLogger("flowsched.daemon.daemon").addHandler(SaysReady())
    run._run(settings_file, clock)  # noqa: SLF001 - the command as it is, but for its clock


if __name__ == "__main__":
    profile = os.environ.get("BENCH_PROFILE")
    if profile:
        with cProfile.Profile() as profiler:
            main(sys.argv[1], float(sys.argv[2]))
        profiler.dump_stats(profile)
    else:
        main(sys.argv[1], float(sys.argv[2]))
