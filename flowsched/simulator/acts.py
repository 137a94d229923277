"""Faults that change how a reply gets to the caller, or whether it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsched.simulator.orders import Fault

if TYPE_CHECKING:
    from flowsched.clock import Clock
    from flowsched.simulator.messages import Reply
    from flowsched.simulator.orders import Order
    from flowsched.simulator.wire import Wire

NO_STATUS_LINE = b"EnOS says hello\r\n\r\n"
ENDING = frozenset(
    {
        Fault.RESET,
        Fault.SILENCE,
        Fault.HALF_CLOSE,
        Fault.GARBAGE,
        Fault.DRIP,
        Fault.TRUNCATED_REPLY,
        Fault.REPLY_LOST,
        Fault.CLOSE_IDLE,
    }
)
"""Faults after which the connection is closed."""


async def act(wire: Wire, reply: Reply, order: Order, clock: Clock) -> bool:
    """Send a reply as ordered; True: the connection goes on, if HTTP lets it."""
    match order.fault:
        case Fault.RESET:
            wire.reset()
        case Fault.SILENCE:
            await wire.until_closed()
        case Fault.HALF_CLOSE:
            await wire.half_close()
        case Fault.GARBAGE:
            await wire.send_raw(NO_STATUS_LINE)
        case Fault.DRIP:
            await wire.drip(reply, order.delay)
        case Fault.TRUNCATED_REPLY:
            await wire.send_part(reply, len(reply.body) // 2)
        case Fault.SLOW:
            await clock.sleep(order.delay)
            await wire.send(reply)
        case Fault.REPLY_LOST:
            pass
        case _:
            await wire.send(reply)
    return order.fault not in ENDING
