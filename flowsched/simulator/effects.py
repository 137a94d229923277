"""What the faults on order do: to what a reply says, and to how it gets to the caller, if it does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

from flowsched.simulator.messages import GATEWAY_TEXTS, Dialect, Reply, gateway_reply, json_reply
from flowsched.simulator.orders import Fault, Order

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.simulator.wire import Wire

HUGE = 1 << 20
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
ELSEWHERE = "/elsewhere"
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


def spoilt(reply: Reply, order: Order, dialect: Dialect, now: datetime) -> Reply:
    """Return what the reply says under the fault; the same reply where the fault leaves its words alone."""
    match order.fault:
        case Fault.STATUS:
            return _status(order, now)
        case Fault.CODE:
            number = order.code or 0
            return json_reply(reply.status, dialect.envelope(number, dialect.text(number), None))
        case Fault.HTML:
            return Reply(200, PAGE, "text/html; charset=UTF-8")
        case _:
            return replace(reply, body=_spoilt_body(reply.body, order.fault))


def _spoilt_body(body: bytes, fault: Fault) -> bytes:
    match fault:
        case Fault.TRUNCATED_JSON:
            return body[: len(body) // 2]
        case Fault.HUGE:
            return body + b" " * HUGE
        case Fault.WRONG_KEY:
            return _other_key(body)
        case _:
            return body


def _status(order: Order, now: datetime) -> Reply:
    status = order.status or 500
    headers = []
    if order.retry_after is not None:
        headers.append(
            ("Retry-After", retry_after(order.retry_after, now, as_date=order.retry_after_as_date))
        )
    if status < 400:  # noqa: PLR2004 - the redirects of HTTP
        headers.append(("Location", ELSEWHERE))
    return gateway_reply(status, tuple(headers), GATEWAY_TEXTS.get(status))


def retry_after(seconds: int, now: datetime, *, as_date: bool = False) -> str:
    """Write the header's value in one of the two forms that HTTP has."""
    return format_datetime(now + timedelta(seconds=seconds), usegmt=True) if as_date else str(seconds)


def _other_key(body: bytes) -> bytes:
    other = {"code": "status", "status": "code"}
    document = json.loads(body)
    return json.dumps({other.get(key, key): value for key, value in document.items()}).encode()


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
