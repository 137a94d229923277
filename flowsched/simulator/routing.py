"""Which operation a request asks for, by path, method and `action` (enos-api sections 2, 7.1 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.simulator.batch import Batch
from flowsched.simulator.messages import TOKEN, V2_0, V2_1, Dialect, Reply, gateway_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from flowsched.simulator.messages import Request


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the service."""

    method: str
    act: Callable[[Batch, Request, datetime], object]
    names_user: bool = True
    """Whether `userId` and `orgId` are mandatory."""
    in_v2_0: bool = True


OPERATIONS: Mapping[str, Operation] = {
    "flows.trigger": Operation("POST", Batch.trigger),
    "flows.triggerFromTask": Operation("POST", Batch.trigger_from_task, in_v2_0=False),
    "flows.updateAndTrigger": Operation("POST", Batch.update_and_trigger),
    "flows.get": Operation("GET", Batch.get_flow),
    "flows.delete": Operation("GET", Batch.delete_flow),
    "flowInstances.get": Operation("GET", Batch.get_instance),
    "flowInstances.search": Operation("POST", Batch.list_instances),
    "flowInstances.cancel": Operation("POST", Batch.cancel_instance),
    "time.getCurrentTime": Operation("GET", Batch.current_time, names_user=False),
    "time.getTimeZone": Operation("GET", Batch.time_zone, names_user=False),
}
"""By resource and action. Save, import, export, directories and tasks are left out."""
TRIGGERS = frozenset({"flows.trigger", "flows.triggerFromTask", "flows.updateAndTrigger"})
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
