"""The calls of the batch service that flowsched makes, as bytes (enos-api sections 2 and 3.1)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from flowsched.enos.replies import LONGEST_BODY, LONGEST_INSTANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.model import Target

_SERVICES = {
    "v2.1": "/batch-processing-service/v2.1/",
    "v2.0": "/dataflow-batch-service/v2.0/",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encoded = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """One call, not yet signed. A trigger is made once per run: every attempt sends these bytes."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    """Decoded names and values, in the order in which they are sent."""
    body: bytes
    longest_reply: int = LONGEST_BODY
    """Bytes of body beyond which the reply is not read on."""
    flow: int | None = None
    """Which one it triggers; None: it is no trigger."""

    @property
    def url_target(self) -> str:
        """Path and query as they stand in the request line."""
        return _url_target(self.path, self.query)


@lru_cache(maxsize=64)
def _url_target(path: str, query: tuple[tuple[str, str], ...]) -> str:
    """Return path and query encoded, which for all triggers of a target are the same."""
    return f"{path}?{urlencode(query, quote_via=quote, safe='')}"


def milliseconds(instant: datetime) -> int:
    """Return an aware instant as EnOS counts time, floored: milliseconds since the epoch."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def trigger_request(target: Target, flow: int, task: int | None, trigger_time_ms: int) -> TriggerRequest:
    """Return the call that triggers `flow`, or `task` of it and what is downstream.

    `trigger_time_ms` is in milliseconds since the epoch: the fire time, never "now", also when a run is
    tried again. Raises ValueError for a task on a v2.0 target, which has no such call (enos-api section 9).
    """
    if task is not None and target.api_version == "v2.0":
        raise ValueError(f"target {target.name}: v2.0 cannot trigger a flow from a task; allowed: v2.1")
    action = "trigger" if task is None else "triggerFromTask"
    task_id = {} if task is None else {"taskId": task}
    body = {"flowId": flow, **task_id, "triggerTime": trigger_time_ms}
    return _post(target, "flows", action, body, flow)


def look_up_request(target: Target, instance: str) -> TriggerRequest:
    """Return Get Flow Instance for the instance of that id. It changes nothing, and may be repeated."""
    query = (*_query(target, "get"), ("flowInstId", instance))
    path = _path(target, "flowInstances")
    return TriggerRequest(method="GET", path=path, query=query, body=b"", longest_reply=LONGEST_INSTANCE)


def cancel_request(target: Target, instance: str) -> TriggerRequest:
    """Return Cancel Flow Instance for the instance of that id."""
    return _post(target, "flowInstances", "cancel", {"flowInstId": instance})


def predicted_instance(flow: int, trigger_time_ms: int) -> str:
    """Return the id that EnOS will give the instance (enos-api section 5).

    It is the flow and the UTC minute of `trigger_time_ms` (milliseconds since the epoch, floored).
    """
    return f"{flow}-{_minute(trigger_time_ms // 60_000)}00"


@lru_cache(maxsize=64)
def _minute(since_epoch: int) -> str:
    """Return a minute in digits, which for all fires of a crowd is the same."""
    return f"{_EPOCH + timedelta(minutes=since_epoch):%Y%m%d%H%M}"


def _post(
    target: Target, resource: str, action: str, body: Mapping[str, object], flow: int | None = None
) -> TriggerRequest:
    return TriggerRequest(
        method="POST",
        path=_path(target, resource),
        query=_query(target, action),
        body=_encoded(body).encode(),
        flow=flow,
    )


def _path(target: Target, resource: str) -> str:
    return _SERVICES[target.api_version] + resource


def _query(target: Target, action: str) -> tuple[tuple[str, str], ...]:
    return (("action", action), ("userId", target.user_id), ("orgId", target.org_id))
