"""One look at an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowsched.model import Sighting
    from flowsched.runner.ports import Gateway

LOOK_TIMEOUT = 30.0
"""Real seconds for one look, with its token and connection, from when its turn has come."""


async def look(gateway: Gateway, instance: str, *, urgent: bool = False) -> Sighting:
    """Look at an instance in a turn of its own; the wait for that turn has no bound.

    Urgent is what a run about to be sent waits for.
    """
    async with gateway.turn(urgent=urgent) as turn:
        return await turn.look_up(instance, LOOK_TIMEOUT)
