"""Asks EnOS, just before a run is sent, whether previous instances of its flow are still going."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowsched.admission import Overlapping, overlapping
from flowsched.model import FlowState, Outcome, Overlap, Seen, Sighting
from flowsched.runner.looks import look
from flowsched.runner.recorder import fields

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.model import Run
    from flowsched.runner.ports import Gateway
    from flowsched.runner.recorder import Recorder

log = logging.getLogger(__name__)

LATEST = 3
"""So many previous instances are asked about: EnOS runs one of a flow and queues the others."""

BOUND = 180.0
"""Seconds for all that is asked and cancelled, the wait for turns included, which a rate can make a minute
each: a run must not wait long for what does not come."""

CANCEL_TIMEOUT = 30.0
"""Real seconds for one cancellation, from when its turn has come."""

CANCEL_BOUND = 30.0
"""Seconds in which what was cancelled may end; after that the new instance queues behind it in EnOS."""

CANCEL_PAUSE = 3.0


async def cleared(run: Run, recorder: Recorder, gateway: Gateway, clock: Clock) -> Overlapping:
    """Say whether a run is to be sent for the first time, having cancelled what it is to cancel.

    At most BOUND after the ledger has told of previous instances; the fall-back then decides about those of
    which nothing is known. What was cancelled is in the text, which the ledger gets as the run begins to be
    sent: where it does not come to that, as when the process dies before, only the log tells of it.
    """
    if run.overlap is Overlap.QUEUE:
        return Overlapping(skip=False, cancel=(), text=None)
    ledger = recorder.ledger
    made = await recorder.insist(
        "read the previous instances",
        lambda: ledger.previous_instances(run.target, run.flow, run.id, LATEST),
    )
    clearance = _Clearance(run, made, gateway, clock)
    await _within(BOUND, clearance.obtained(), clock)
    return clearance.outcome()


class _Clearance:
    """What is known of the instances in the way of a run, and what was done about them, as far as it came."""

    def __init__(self, run: Run, made: Mapping[str, datetime], gateway: Gateway, clock: Clock) -> None:
        self._run = run
        self._made = made
        self._gateway = gateway
        self._clock = clock
        self._sightings = dict.fromkeys(made, _unclear(f"no answer was to be had within {BOUND:g} s"))
        self._notes: dict[str, str] = {}
        """What came of each cancellation that was asked for."""

    async def obtained(self) -> None:
        """Look at all, cancel what is to be cancelled, and wait for its end for a while."""
        for instance in self._made:
            self._sightings[instance] = await look(self._gateway, instance, urgent=True)
        asked = [instance for instance in self._decision.cancel if await self._takes_cancellation(instance)]
        await self._end_of(asked)

    def outcome(self) -> Overlapping:
        """Return what follows, also where there was not enough time."""
        if not self._notes:
            for instance in self._decision.cancel:
                self._sightings[instance] = _unclear(f"it was, and could not be cancelled within {BOUND:g} s")
            return self._decision
        # To skip the run now would leave its flow with neither instance.
        decision = self._decision
        notes = [self._notes.get(each, f"no time was left to cancel {each}") for each in decision.cancel]
        texts = [decision.text, *(f"overlap: {note}" for note in notes)]
        return replace(decision, text="; ".join(filter(None, texts)))

    @property
    def _decision(self) -> Overlapping:
        return overlapping(self._run, self._made, self._sightings)

    async def _takes_cancellation(self, instance: str) -> bool:
        async with self._gateway.turn() as turn:
            log.warning(
                "previous instance is cancelled for a later fire of its flow",
                extra={**fields(self._run), "instance": instance},
            )
            self._notes[instance] = f"asked to cancel {instance}, without an answer"
            answer = await turn.cancel(instance, CANCEL_TIMEOUT)
        if answer.outcome is Outcome.ACCEPTED:
            self._notes[instance] = f"asked to cancel {instance}, which has not been seen to end"
            return True
        self._notes[instance] = f"{instance} could not be cancelled ({answer.detail})"
        return False

    async def _end_of(self, instances: Sequence[str]) -> None:
        asked_at, going = self._clock.monotonic(), set(instances)
        while going and self._clock.monotonic() - asked_at < CANCEL_BOUND:
            for instance in sorted(going):
                if _has_ended(await look(self._gateway, instance, urgent=True)):
                    self._notes[instance] = f"cancelled {instance}"
                    going.remove(instance)
            if going:
                await self._clock.sleep(CANCEL_PAUSE)


async def _within(seconds: float, work: Coroutine[Any, Any, None], clock: Clock) -> None:
    """Do the work, or as much of it as is done when so many seconds of the clock have passed."""
    working, passing = asyncio.create_task(work), asyncio.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait({working, passing}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        passing.cancel()
        await asyncio.gather(working, passing, return_exceptions=True)


def _unclear(detail: str) -> Sighting:
    return Sighting(seen=Seen.UNCLEAR, detail=detail)


def _has_ended(sighting: Sighting) -> bool:
    return sighting.seen is Seen.ABSENT or sighting.flow in (FlowState.SUCCEEDED, FlowState.FAILED)
