"""Which operation a request asks for, by path, method and `action` (enos-api sections 2, 7.1 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.simulator.batch import OPERATIONS
from flowsched.simulator.messages import TOKEN, V2_0, V2_1, Dialect, Reply, gateway_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.simulator.messages import Request

TOKEN_OPERATIONS = frozenset({"token.get", "token.refresh"})


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request leads."""

    operation: str | None
    """Resource and action, as `flows.trigger`; None: nothing of that name is there."""
    dialect: Dialect
    dead_end: Reply | None = None
    """The answer, where it leads nowhere: 404 or 405."""


def route(request: Request) -> Route:
    """Find the operation. What the simulator leaves out is answered as what does not exist: 404."""
    dialect, operation = _named(request.path, request.parameters)
    method = _method(operation, dialect)
    if method is None:
        text = None if operation is None else f"The simulator has no {operation} under {dialect.prefix}"
        return Route(None, dialect, gateway_reply(404, text=text))
    if method != request.method:
        return Route(operation, dialect, gateway_reply(405, (("Allow", method),)))
    return Route(operation, dialect)


def _named(path: str, parameters: Mapping[str, str]) -> tuple[Dialect, str | None]:
    if path.startswith(TOKEN.prefix):
        return TOKEN, f"token.{path.removeprefix(TOKEN.prefix)}"
    for dialect in (V2_1, V2_0):
        if path.startswith(dialect.prefix):
            return dialect, f"{path.removeprefix(dialect.prefix)}.{parameters.get('action', '')}"
    return V2_1, None


def _method(operation: str | None, dialect: Dialect) -> str | None:
    if dialect is TOKEN:
        return "POST" if operation in TOKEN_OPERATIONS else None
    found = OPERATIONS.get(operation or "")
    if found is None or (dialect is V2_0 and not found.in_v2_0):
        return None
    return found.method
