"""Orders of faults: what is to go wrong, with which calls, and how often.

A fault has two sides. `processed` says whether the call takes effect (so whether an instance is created);
the fault itself says what the caller gets to see of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from flowsched.errors import UsageError
from flowsched.simulator.routing import OPERATIONS, TOKEN_OPERATIONS, TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST = 10**9
STATUSES = range(300, 600)
_ALL = (*sorted(TOKEN_OPERATIONS), *OPERATIONS)
NAMES = ("any", "trigger", *dict.fromkeys(name.partition(".")[0] for name in _ALL), *_ALL)
"""What an order can be limited to: all calls, the three triggers, a resource, an operation."""


class Fault(StrEnum):
    """What the caller gets to see."""

    STATUS = "status"
    """The gateway's own answer, with the `status` ordered and a `Retry-After` if ordered."""
    CODE = "code"
    """An envelope with the number ordered as `code`, such as 62109."""
    RESET = "reset"
    """The connection is reset: before the body is read, or once the call was processed."""
    SILENCE = "silence"
    """The call is read and never answered; the connection stays open until the caller closes it."""
    REPLY_LOST = "reply_lost"
    """The connection is closed instead of a reply."""
    HALF_CLOSE = "half_close"
    """The sending side is shut instead of a reply; the connection stays open until the caller closes it.
    Over TLS, which has no such state, it is closed."""
    GARBAGE = "garbage"
    """A status line that is none."""
    DRIP = "drip"
    """A good head, then a blank each `delay` seconds, without end."""
    SLOW = "slow"
    """The right reply, `delay` seconds late."""
    HTML = "html"
    """Status 200 and a page instead of JSON."""
    TRUNCATED_JSON = "truncated_json"
    """A whole reply whose JSON breaks off."""
    TRUNCATED_REPLY = "truncated_reply"
    """The connection is closed in the middle of the body."""
    HUGE = "huge"
    """The right reply, with a mebibyte of blanks behind it."""
    WRONG_KEY = "wrong_key"
    """The right reply in the other version's envelope: `status` for `code`, or `code` for `status`."""
    CLOSE_IDLE = "close_idle"
    """The right reply, after which the connection is closed without having said so."""
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - the name of a fault
    """The current token becomes worthless just before the call is looked at."""


REFUSING = frozenset({Fault.STATUS, Fault.CODE, Fault.RESET, Fault.SILENCE, Fault.GARBAGE})
"""Faults that keep a call from being processed, unless ordered otherwise; the others only spoil the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One fault on order. `UsageError` if the parts do not fit together."""

    fault: Fault
    on: str = "any"
    """`any`; `trigger`, the three triggers; a resource, such as `token` or `flowInstances`; or one operation,
    such as `token.get` or `flows.triggerFromTask`."""
    flow: int | None = None
    """Only calls about this flow; None: about any, or none."""
    times: int | None = 1
    """How many calls it befalls; None: all, until cleared."""
    processed: bool | None = None
    """Whether the call takes effect. None: as is usual for the fault (see `REFUSING`). A call that is not
    processed and whose reply is only spoilt has an internal error for its reply."""
    status: int | None = None
    """For `STATUS`, and only there: 300 to 599."""
    code: int | None = None
    """For `CODE`, and only there."""
    retry_after: int | None = None
    """For `STATUS`: seconds in the header `Retry-After`; None: no such header."""
    retry_after_as_date: bool = False
    """Write `Retry-After` as an HTTP date."""
    delay: float = 0.05
    """Seconds of the simulator's clock, for `SLOW` and `DRIP`."""
    probability: float = 1.0
    """Of befalling a call that matches, 0 to 1."""
    seed: int = 0
    """Which of the matching calls are befallen is a function of this number, hence repeatable."""

    def __post_init__(self) -> None:
        for objection in _objections(self):
            raise UsageError(objection)

    @property
    def takes_effect(self) -> bool:
        """Whether a call that it befalls is processed."""
        return self.fault not in REFUSING if self.processed is None else self.processed

    @property
    def at_head(self) -> bool:
        """Whether it strikes before the body of the call is read."""
        return self.fault is Fault.RESET and not self.takes_effect

    def concerns(self, operation: str, flow: int | None) -> bool:
        """Tell whether a call is one of those it may befall."""
        group = TRIGGERS if self.on == "trigger" else {self.on}
        named = self.on == "any" or operation in group or operation.partition(".")[0] == self.on
        return named and self.flow in (None, flow)


def read_order(document: Mapping[str, Any]) -> Order:
    """Read an order from JSON: the names and defaults of `Order`, `UsageError` for anything else."""
    unknown = document.keys() - _KINDS.keys()
    if unknown:
        raise UsageError(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(_KINDS)}")
    if document.get("fault") not in list(Fault):
        raise UsageError(f"fault is {document.get('fault')!r}; allowed: {', '.join(Fault)}")
    for name, value in document.items():
        if type(value) not in _KINDS[name]:
            allowed = " or ".join(_KIND_NAMES[kind] for kind in _KINDS[name])
            raise UsageError(f"{name} is {value!r}; allowed: {allowed}")
    return Order(**{**document, "fault": Fault(document["fault"])})


_KINDS: Mapping[str, tuple[type, ...]] = {
    "fault": (str,),
    "on": (str,),
    "flow": (int, type(None)),
    "times": (int, type(None)),
    "processed": (bool, type(None)),
    "status": (int, type(None)),
    "code": (int, type(None)),
    "retry_after": (int, type(None)),
    "retry_after_as_date": (bool,),
    "delay": (float, int),
    "probability": (float, int),
    "seed": (int,),
}
_KIND_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def written_order(order: Order) -> dict[str, object]:
    """Return an order as JSON has it."""
    return {each.name: getattr(order, each.name) for each in fields(order)}


def _objections(order: Order) -> Iterator[str]:
    """Yield what is wrong with an order, and what is allowed there."""
    if order.on not in NAMES:
        yield f"on is {order.on!r}; allowed: {', '.join(NAMES)}"
    if order.times is not None and order.times < 1:
        yield f"times is {order.times}; allowed: 1 or more, or null for every call"
    if not 0 < order.delay <= LONGEST:
        yield f"delay is {order.delay}; allowed: seconds, above 0, up to {LONGEST}"
    if not 0 <= order.probability <= 1:
        yield f"probability is {order.probability}; allowed: 0 to 1"
    if order.at_head and order.flow is not None:
        yield "flow is not known before the body is read; allowed: fault reset without flow, or processed"
    yield from _objections_to_reply(order)


def _objections_to_reply(order: Order) -> Iterator[str]:
    if order.fault is Fault.STATUS and order.status not in STATUSES:
        yield f"status is {order.status}; allowed: {STATUSES.start} to {STATUSES.stop - 1}"
    if order.fault is Fault.CODE and not order.code:
        yield f"code is {order.code}; allowed: a number but 0"
    for name, owner in (("status", Fault.STATUS), ("code", Fault.CODE), ("retry_after", Fault.STATUS)):
        if order.fault is not owner and getattr(order, name) is not None:
            yield f"{name} makes no sense with fault {order.fault}; allowed: with fault {owner}"
    if abs(order.retry_after or 0) > LONGEST:
        yield f"retry_after is {order.retry_after}; allowed: seconds, up to {LONGEST}"
