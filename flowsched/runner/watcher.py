"""Looks at the flows of triggered runs until they end, where their schedules ask for it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

from flowsched.enos import calls_for
from flowsched.errors import LedgerRefusal, LedgerUnusable
from flowsched.events import FlowMoved
from flowsched.model import FlowState, Seen
from flowsched.runner.looks import look
from flowsched.runner.recorder import fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flowsched.clock import Clock
    from flowsched.model import Run, Sighting, Watch
    from flowsched.runner.ports import Gateway
    from flowsched.runner.recorder import Recorder

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Looks under way at once, for each target: they take turns that triggers need too."""

FIRST_PAUSE = 10.0
GROWTH = 1.5
LONGEST_PAUSE = 300.0
"""Seconds between two looks: from the first on growing to the longest, each with a quarter of chance."""

SURELY_OVER = 60.0
"""A flow is late once two looks, so many seconds apart, both found its time over: the wall clock may have
been wrong at one of them."""

_LEVELS = {FlowState.SUCCEEDED: logging.INFO, FlowState.FAILED: logging.ERROR, FlowState.LATE: logging.ERROR}


class Watcher:
    """Keeps one task a watch; the ledger knows each from the moment that its run was triggered."""

    def __init__(self, recorder: Recorder, gateways: Mapping[str, Gateway], clock: Clock) -> None:
        self._recorder = recorder
        self._gateways = gateways
        self._clock = clock
        self._places = {target: asyncio.Semaphore(AT_ONCE) for target in gateways}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def take_up(self, watches: Iterable[Watch]) -> None:
        """Watch those that are going."""
        for watch in watches:
            if watch.state is FlowState.GOING:
                self._start(watch)

    async def triggered(self, run: Run) -> None:
        """Watch the flow of a run that was just triggered, if its schedule asks for it."""
        if run.watch is None:
            return
        ledger = self._recorder.ledger
        found = await self._recorder.insist("read its watch", lambda: ledger.watches_of([run.id]))
        self.take_up(found.values())

    async def stop(self) -> None:
        """Look no more; the watches stand in the ledger."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _start(self, watch: Watch) -> None:
        gateway = self._gateways.get(watch.target)
        if gateway is None:
            log.error("flow cannot be watched: its target is not configured", extra=_fields(watch))
        elif watch.run_id not in self._tasks:
            task = asyncio.create_task(self._watch(watch, gateway))
            self._tasks[watch.run_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(watch.run_id, None))

    async def _watch(self, watch: Watch, gateway: Gateway) -> None:
        try:
            ledger = self._recorder.ledger
            run = await self._recorder.insist("read its run", lambda: ledger.run(watch.run_id))
            with nullcontext() if run is None else calls_for(run):
                await self._watch_to_its_end(watch, gateway, fields(run) if run else {})
        except LedgerUnusable:
            return  # the daemon ends, and says why
        except LedgerRefusal as refusal:
            log.warning("flow is watched no more", extra={**_fields(watch), "reason": str(refusal)})
        except Exception:
            log.critical(
                "watch stopped by a fault of flowsched until the next start",
                exc_info=True,
                extra=_fields(watch),
            )

    async def _watch_to_its_end(self, watch: Watch, gateway: Gateway, about: Mapping[str, object]) -> None:
        pause, over = FIRST_PAUSE, False
        while True:
            left = (watch.until - self._clock.now()).total_seconds()
            drawn = pause * (0.75 + self._clock.draw() / 2)
            await self._clock.sleep(SURELY_OVER if over else min(drawn, left))
            pause = min(pause * GROWTH, LONGEST_PAUSE)
            async with self._places[watch.target]:
                sighting = await look(gateway, watch.instance)
            was_over, over = over, self._clock.now() >= watch.until
            state = _judged(sighting, late=was_over and over)
            if state is not FlowState.GOING:
                await self._record(watch, state, sighting, about)
                return
            if sighting.seen is Seen.FOUND and sighting.status != watch.status:
                watch = await self._record(watch, state, sighting, about)

    async def _record(
        self, watch: Watch, state: FlowState, sighting: Sighting, about: Mapping[str, object]
    ) -> Watch:
        now, ledger = self._clock.now(), self._recorder.ledger
        recorded = await self._recorder.insist(
            f"record flow {state}", lambda: ledger.record_watch(watch.run_id, now, state, sighting)
        )
        if state is not FlowState.GOING:
            extra = {**about, **_fields(recorded), "detail": sighting.detail}
            log.log(_LEVELS[state], "flow %s", state, extra=extra)
            self._recorder.tell(FlowMoved(recorded))
        return recorded


def _judged(sighting: Sighting, *, late: bool) -> FlowState:
    if sighting.flow in (FlowState.SUCCEEDED, FlowState.FAILED):
        return sighting.flow
    return FlowState.LATE if late else FlowState.GOING


def _fields(watch: Watch) -> dict[str, object]:
    return {
        "run": watch.run_id,
        "schedule": watch.schedule_id,
        "target": watch.target,
        "flow": watch.flow,
        "instance": watch.instance,
        "until": watch.until,
    }
