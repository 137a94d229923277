"""The remote API: signed calls out, what came of them back.

The only room that calls EnOS, over asyncio and h11. What does so is imported only when `Gateway` is asked
for, and httpx with it, for the authorities that it trusts: the pure half of this door (`trigger_request`,
`predicted_instance`, `calls_for`) needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowsched.enos.caller import calls_for
from flowsched.enos.requests import TriggerRequest, milliseconds, predicted_instance, trigger_request

if TYPE_CHECKING:
    from flowsched.enos.gateway import Gateway, Turn

__all__ = [
    "Gateway",
    "TriggerRequest",
    "Turn",
    "calls_for",
    "milliseconds",
    "predicted_instance",
    "trigger_request",
]


def __getattr__(name: str) -> Any:
    if name in {"Gateway", "Turn"}:
        from flowsched.enos import gateway  # noqa: PLC0415 - TLS, h11 and httpx, for those who call

        return getattr(gateway, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
