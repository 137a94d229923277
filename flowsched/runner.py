"""Carries runs from their claim to a final state, or into doubt."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from flowsched import retry
from flowsched.enos import milliseconds, trigger_request
from flowsched.errors import LedgerError, LedgerRefusal
from flowsched.model import NextStep, RunState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from flowsched.clock import Clock
    from flowsched.enos import TriggerRequest
    from flowsched.ledger import Ledger
    from flowsched.model import Answer, Run, Target

log = logging.getLogger(__name__)

LEDGER_PAUSE = 5.0
"""Seconds between two tries to write what the ledger would not take."""

_LEVELS = {
    RunState.WAITING: logging.WARNING,
    RunState.MISSED: logging.WARNING,
    RunState.IN_DOUBT: logging.ERROR,
    RunState.FAILED: logging.ERROR,
}


class Turn(Protocol):
    """The right to make one trigger call now."""

    async def trigger(self, request: TriggerRequest, timeout: float) -> Answer:
        """Make the call; whatever the remote side does comes back as an answer."""


class Gateway(Protocol):
    """One target: hands out turns inside its limits."""

    @property
    def target(self) -> Target:
        """The target this gateway speaks to."""

    def turn(self) -> AbstractAsyncContextManager[Turn]:
        """Wait for a free place and for the rate."""


class Runner:
    """Carries each run it is given in a task of its own; the ledger is written before each step."""

    def __init__(self, ledger: Ledger, gateways: Mapping[str, Gateway], clock: Clock) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._clock = clock
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def under_way(self) -> int:
        """How many runs are being carried."""
        return len(self._tasks)

    async def take_up(self, runs: Iterable[Run]) -> None:
        """Go on with the runs that a former process left unfinished."""
        ended = []
        for run in runs:
            step = retry.taken_up(run, self._clock.now())
            if step is not None:
                ended.append(self._settle(run, step))
            elif run.state is not RunState.IN_DOUBT:
                self._carry_on(run)
        await asyncio.gather(*ended)

    def start(self, run: Run) -> None:
        """Announce a run that was just written, and carry it if there is anything to send.

        A run that is being carried already is left to it: a claim may be found done.
        """
        if run.id in self._tasks:
            return
        announce(run)
        if not run.state.final:
            self._carry_on(run)

    def _carry_on(self, run: Run) -> None:
        task = asyncio.create_task(self._carry(run))
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run.id, None))

    async def drain(self, timeout: float, halt: asyncio.Event | None = None) -> int:
        """Stop: let the attempts under way end, for `timeout` real seconds or until `halt`; leave the rest.

        What is left stands in the ledger as claimed, waiting, or (cut off) sending, and is taken up at
        the next start. Returns how many attempts were cut off.
        """
        self._draining = True
        for task in set(self._tasks.values()) - self._sending:
            task.cancel()
        halted = asyncio.create_task((halt or asyncio.Event()).wait())
        ends: set[asyncio.Future[Any]] = {halted, asyncio.gather(*self._sending, return_exceptions=True)}
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        cut_off = len(self._sending)
        halted.cancel()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return cut_off

    async def _carry(self, run: Run) -> None:
        try:
            await self._carry_to_an_end(run)
        except Exception as error:
            log.critical("run stopped by a fault of flowsched", exc_info=True, extra={"run": run.id})
            # Where not even that can be written, the next start finds the run as it stands.
            with suppress(LedgerError):
                await self._record_fault(run.id, error)

    async def _carry_to_an_end(self, run: Run) -> None:
        gateway = self._gateways.get(run.target)
        if gateway is None:
            await self._settle(run, NextStep(RunState.FAILED, f"target {run.target} is not configured"))
            return
        try:
            request = trigger_request(gateway.target, run.flow, run.task, milliseconds(run.fire_time))
        except ValueError as error:
            await self._settle(run, NextStep(RunState.FAILED, str(error)))
            return
        while run.state in (RunState.CLAIMED, RunState.WAITING) and not self._draining:
            if run.retry_at is not None:
                await self._clock.sleep((run.retry_at - self._clock.now()).total_seconds())
            run = await self._step(gateway, run, request)

    async def _step(self, gateway: Gateway, run: Run, request: TriggerRequest) -> Run:
        """Make one attempt, in a turn of its own, and record what came of it after the turn is left."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in one
        try:
            async with gateway.turn() as turn:
                self._sending.add(task)
                run = await self._begin(run)
                if run.state is not RunState.SENDING:
                    return run
                withheld = retry.withheld(run, now=self._clock.now(), draining=self._draining)
                answer = withheld or await turn.trigger(request, run.retry.attempt_timeout.total_seconds())
            return await self._conclude(run, answer)
        finally:
            self._sending.discard(task)

    async def _begin(self, run: Run) -> Run:
        """Record the start of the next attempt; or the run's end, where its deadline passes before that."""
        number, at = run.attempts + 1, self._clock.now()
        while self._clock.now() <= run.deadline:
            if self._draining:
                return run
            try:
                begun = await self._ledger.begin_attempt(run.id, number, at)
            except LedgerRefusal:
                raise
            except LedgerError as error:
                await self._pause(f"the start of attempt {number}", error)
            else:
                announce(begun)
                return begun
        return await self._settle(run, retry.expired(run))

    async def _conclude(self, run: Run, answer: Answer) -> Run:
        now = self._clock.now()
        step = retry.next_step(answer, run, now=now, draw=self._clock.draw())
        run = await self._write(
            f"the outcome of attempt {run.attempts}: {answer.outcome}",
            lambda: self._ledger.end_attempt(run.id, run.attempts, now, answer, step),
        )
        announce(run, outcome=answer.outcome, http_status=answer.http_status, code=answer.code)
        return run

    async def _settle(self, run: Run, step: NextStep) -> Run:
        now = self._clock.now()
        settled = await self._write(f"state {step.state}", lambda: self._ledger.settle(run.id, now, step))
        announce(settled)
        return settled

    async def _record_fault(self, run_id: int, error: Exception) -> None:
        """Have the ledger say how a run stands that no one carries any more."""
        for run in await self._ledger.open_runs():
            if run.id == run_id and run.state is not RunState.IN_DOUBT:
                sent = run.state is RunState.SENDING
                state = RunState.IN_DOUBT if sent else RunState.FAILED
                what = "what EnOS made of it is unknown" if sent else "it is not sent"
                reason = f"a fault of flowsched ({type(error).__name__}: {error}); {what}"
                await self._settle(run, NextStep(state, reason))

    async def _write(self, what: str, write: Callable[[], Awaitable[Run]]) -> Run:
        """Write to the ledger, however long it takes: nothing goes on before it is recorded.

        Raises LedgerRefusal: then the run is not where it was left, and must not be carried on.
        """
        while True:
            try:
                return await write()
            except LedgerRefusal:
                raise
            except LedgerError as error:
                await self._pause(what, error)

    async def _pause(self, what: str, error: LedgerError) -> None:
        log.error("ledger would not record %s; trying again", what, extra={"error": str(error)})
        await self._clock.sleep(LEDGER_PAUSE)


def announce(run: Run, **more: object) -> None:
    """Log the one event of a change of a run's state."""
    log.log(
        _LEVELS.get(run.state, logging.INFO),
        "run %s",
        run.state,
        extra={
            "run": run.id,
            "schedule": run.schedule_id,
            "fire_time": run.fire_time,
            "origin": run.origin,
            "target": run.target,
            "flow": run.flow,
            "task": run.task,
            "attempt": run.attempts or None,
            "instance": run.instance,
            "retry_at": run.retry_at,
            "reason": run.reason,
            **more,
        },
    )
