"""Asks EnOS, just before a run is sent, whether previous instances of its flow are still going."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from flowsched.admission import Overlapping, overlapping
from flowsched.model import FlowState, Outcome, Overlap, Seen, Sighting
from flowsched.runner.ports import look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowsched.clock import Clock
    from flowsched.model import Run
    from flowsched.runner.ports import Gateway
    from flowsched.runner.recorder import Recorder

LATEST = 3
"""So many previous instances are asked about: EnOS runs one of a flow and queues the others."""

BOUND = 30.0
"""Real seconds for all that is asked; a run must not wait long for an answer that does not come."""

CANCEL_BOUND = 30.0
"""Seconds in which what was cancelled may end; after that the new instance queues behind it in EnOS."""

CANCEL_PAUSE = 3.0


async def cleared(run: Run, recorder: Recorder, gateway: Gateway, clock: Clock) -> Overlapping:
    """Say whether a run is to be sent for the first time, having cancelled what it is to cancel."""
    if run.overlap is Overlap.QUEUE:
        return Overlapping(skip=False, cancel=(), text=None)
    ledger = recorder.ledger
    previous = await recorder.insist(
        "read the previous instances",
        lambda: ledger.previous_instances(run.target, run.flow, run.id, LATEST),
    )
    decision = overlapping(run, await _sightings(gateway, previous))
    if not decision.cancel:
        return decision
    notes = await _cancel(decision.cancel, gateway, clock)
    return replace(decision, text="; ".join(filter(None, [decision.text, *notes])))


async def _sightings(gateway: Gateway, instances: Sequence[str]) -> dict[str, Sighting]:
    """Look at each; what is not answered within BOUND in all is unclear."""
    late = Sighting(seen=Seen.UNCLEAR, detail=f"no answer within {BOUND:g} s")
    sightings = dict.fromkeys(instances, late)
    try:
        async with asyncio.timeout(BOUND):
            for instance in instances:
                sightings[instance] = await look(gateway, instance, BOUND)
    except TimeoutError:
        pass
    return sightings


async def _cancel(instances: Sequence[str], gateway: Gateway, clock: Clock) -> list[str]:
    """Cancel instances, and wait for their end for a while; return what came of each in words."""
    notes = []
    going = []
    for instance in instances:
        async with gateway.turn() as turn:
            answer = await turn.cancel(instance, BOUND)
        if answer.outcome is Outcome.ACCEPTED:
            going.append(instance)
        else:
            notes.append(f"overlap: {instance} could not be cancelled ({answer.detail})")
    left = await _not_ended(going, gateway, clock)
    notes += [f"overlap: cancelled {instance}" for instance in going if instance not in left]
    still = f"which has not ended within {CANCEL_BOUND:g} s"
    return notes + [f"overlap: asked to cancel {instance}, {still}" for instance in left]


async def _not_ended(instances: Sequence[str], gateway: Gateway, clock: Clock) -> Sequence[str]:
    """Wait until all have ended, or CANCEL_BOUND is over; return those that have not been seen to end."""
    asked_at = clock.monotonic()
    while instances and clock.monotonic() - asked_at < CANCEL_BOUND:
        sightings = await _sightings(gateway, instances)
        instances = [instance for instance in instances if not _has_ended(sightings[instance])]
        if instances:
            await clock.sleep(CANCEL_PAUSE)
    return instances


def _has_ended(sighting: Sighting) -> bool:
    return sighting.seen is Seen.ABSENT or sighting.flow in (FlowState.SUCCEEDED, FlowState.FAILED)
