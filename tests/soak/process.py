"""A command of flowsched as it is, but on the clock of a soak, and perhaps broken on purpose.

    python -m tests.soak.process BEGAN SPEED OFFSET_FILE BROKEN CONFIG COMMAND ARGUMENTS...

BROKEN is `nothing`, `reconcile`: then a run in doubt is sent again without a look, or `pauses`: then they
are set, and nothing heeds them.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched import cli
from flowsched.admission import Pauses
from flowsched.model import NextStep, RunState
from flowsched.runner.reconcile import Reconciliation
from tests.soak.clock import Offset, Pace, SoakClock

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.clock import Clock

READ_CLOCK = {"run": ("run",), "pause": ("asking", "pause"), "backfill": ("asking", "backfill")}
"""By command, its modules that read the clock; of every other that does, it is `asking`."""

LOOK_AGAIN = 10.0
"""Seconds of the soak between two looks at a run that is followed; all processes share two cores."""


def main(began: str, speed: str, offset: str, broken: str, *arguments: str) -> int:
    config, command, *more = arguments
    clock = SoakClock(Pace(float(began), float(speed)), Offset(Path(offset)))
    for name in READ_CLOCK.get(command, ("asking",)):
        module = import_module(f"flowsched.cli.{name}")
        _replace(module, "SystemClock", lambda: clock)
        if name == "asking":
            _replace(module, "LOOK_AGAIN", LOOK_AGAIN)
    _stamp_each_event_with_ticks(clock)
    if broken == "reconcile":
        _replace(Reconciliation, "known_by", _sent_again_without_a_look)
    elif broken == "pauses":
        _replace(Pauses, "_covering", lambda *_: ())
    return cli.main(["--config", config, command, *more])


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
