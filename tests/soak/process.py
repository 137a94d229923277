"""`flowsched run` as it is, but on the clock of a soak, and perhaps broken on purpose.

    python -m tests.soak.process BEGAN SPEED OFFSET_FILE BROKEN CONFIG

BROKEN is `nothing`, or `reconcile`: then a run in doubt is sent again without a look.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched import cli
from flowsched.cli import run
from flowsched.model import NextStep, RunState
from flowsched.runner.reconcile import Reconciliation
from tests.soak.clock import Offset, Pace, SoakClock

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.clock import Clock


def main(began: str, speed: str, offset: str, broken: str, config: str) -> int:
    clock = SoakClock(Pace(float(began), float(speed)), Offset(Path(offset)))
    _replace(run, "SystemClock", lambda: clock)
    _stamp_each_event_with_ticks(clock)
    if broken == "reconcile":
        _replace(Reconciliation, "known_by", _sent_again_without_a_look)
    return cli.main(["--config", config, "run"])


def _replace(owner: object, name: str, new: object) -> None:
    """Put something else in the place of what is there; AttributeError where nothing is."""
    getattr(owner, name)
    setattr(owner, name, new)


def _stamp_each_event_with_ticks(clock: Clock) -> None:
    make = logging.getLogRecordFactory()

    def made(*args: object, **more: object) -> logging.LogRecord:
        record = make(*args, **more)
        record.ticks = clock.monotonic()
        return record

    logging.setLogRecordFactory(made)


async def _sent_again_without_a_look(self: Reconciliation, _: datetime) -> NextStep:
    doubtful = self._run
    if doubtful.attempts >= doubtful.retry.max_attempts:
        return NextStep(RunState.FAILED, f"gave up after {doubtful.attempts} attempts")
    return NextStep(RunState.SENDING, "broken on purpose")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
