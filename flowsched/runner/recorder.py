"""Writes to the ledger however long it takes, and says in the log what has changed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from flowsched.errors import LedgerError, LedgerRefusal, LedgerUnusable
from flowsched.events import RunMoved, nobody
from flowsched.ledger import LEDGER_PAUSE
from flowsched.model import SHORT, RunState
from flowsched.traceparent import trace_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flowsched.clock import Clock
    from flowsched.events import Tell
    from flowsched.ledger import Ledger
    from flowsched.model import Answer, NextStep, Run

log = logging.getLogger(__name__)

T = TypeVar("T")

_EXPECTED = ("blackout: ", "paused: ")
"""How the reasons begin for which somebody wanted a fire to be skipped."""

_LEVELS = {
    RunState.WAITING: logging.WARNING,
    RunState.MISSED: logging.WARNING,
    RunState.SKIPPED: logging.WARNING,
    RunState.IN_DOUBT: logging.ERROR,
    RunState.FAILED: logging.ERROR,
}


class Recorder:
    """The ledger for those who cannot go on before it is written."""

    def __init__(self, ledger: Ledger, clock: Clock, tell: Tell = nobody) -> None:
        self.ledger = ledger
        self.tell = tell
        self._clock = clock

    async def settle(self, run: Run, step: NextStep) -> Run:
        """Move the run on without an attempt."""
        now = self._clock.now()
        settled = await self.insist(
            f"state {step.state}",
            lambda: self.ledger.settle(run.id, now, step, claimed_at=run.claimed_at),
        )
        self.announce(settled)
        return settled

    async def insist(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the ledger until it answers: nothing goes on before that.

        Raises LedgerRefusal: then the run is not where it was left, and must not be carried on. Raises
        LedgerUnusable, for which the daemon ends.
        """
        while True:
            try:
                return await ask()
            except (LedgerRefusal, LedgerUnusable):
                raise
            except LedgerError as error:
                await self.pause(what, error)

    async def pause(self, what: str, error: LedgerError) -> None:
        """Say what the ledger would not do, and give it time."""
        log.error("ledger would not do its part: %s; trying again", what, extra={"error": str(error)})
        await self._clock.sleep(LEDGER_PAUSE)

    def announce(self, run: Run, answer: Answer | None = None) -> None:
        """Log the one event of a change of a run's state, and tell of it."""
        came_of_it: dict[str, object] = {}
        if answer is not None:
            came_of_it = {"outcome": answer.outcome, "http_status": answer.http_status, "code": answer.code}
        log.log(
            _level(run),
            "run %s",
            run.state,
            extra={
                **fields(run),
                "origin": run.origin,
                "target": run.target,
                "flow": run.flow,
                "task": run.task,
                "retry_at": run.retry_at,
                "reason": run.reason,
                "note": run.note,
                "trace": trace_id(run) if run.state is RunState.SENDING else None,
                **came_of_it,
            },
        )
        self.tell(RunMoved(run, answer))


def fields(run: Run) -> dict[str, object]:
    """Return what every event about a run has."""
    return {
        "run": run.id,
        "schedule": run.schedule_id,
        "fire_time": run.fire_time,
        "attempt": run.attempts or None,
        "instance": run.instance,
        "catalog": run.revision[:SHORT],
    }


def _level(run: Run) -> int:
    if run.state is RunState.SKIPPED and (run.reason or "").startswith(_EXPECTED):
        return logging.INFO
    return _LEVELS.get(run.state, logging.INFO)
