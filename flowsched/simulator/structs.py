"""The records that the service hands out, in its own spelling (enos-api sections 3.2 to 3.4).

`graph` and `parameters` are JSON text inside a string, and time strings have no zone, as in the samples:
the trigger time is shown in GMT+8 and the other times in UTC, so nobody can rely on them.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.simulator.instances import Instance
    from flowsched.simulator.world import SimFlow

TIME_ZONE = "GMT+8"
_GMT8 = timezone(timedelta(hours=8))
LATEST = datetime.max.replace(tzinfo=_GMT8)
"""The last trigger time that can be shown."""
_MANUAL = 0
_EFFECTIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - the service's own stamps have no zone


def flow_struct(id_: int, flow: SimFlow, owners: frozenset[str], *, user_locked: bool) -> dict[str, object]:
    """Return the Flow struct of Get Flow: a manual workflow, effective since 2026."""
    return {
        **_common(id_, flow, owners),
        "active": 0,
        "creator": min(owners, default=""),
        "createTime": _stamp(_EFFECTIVE),
        "updateUser": min(owners, default=""),
        "updateTime": _stamp(_EFFECTIVE),
        "parameters": _parameters(flow.parameters),
        "visitor": "",
        "alertMode": 0,
        "graph": _graph(id_, flow, owners),
        "entry": 1,
        "type": _MANUAL,
        "syncType": 1,
        "desc": "",
        "startTime": f"{_EFFECTIVE:%Y-%m-%d}",
        "virtual": False,
        "locked": flow.locked,
        "hasEditPri": True,
        "hasReadPri": True,
        "isUserLocked": user_locked,
    }


def instance_struct(instance: Instance, flow: SimFlow, owners: frozenset[str]) -> dict[str, object]:
    """Return the FlowInstance struct of Get Flow Instance."""
    return {
        **_common(instance.flow, flow, owners),
        "instanceId": instance.id,
        "parameters": _parameters(instance.parameters),
        "graph": _graph(instance.flow, flow, owners),
        "status": int(instance.status),
        "statusDesc": instance.status.name,
        "triggerTime": _stamp(instance.trigger_time.astimezone(_GMT8)),
        "startTime": _stamp(instance.started),
        "endTime": _stamp(instance.ended if instance.status.is_end else None),
        "timestamp": f"{_stamp(instance.created)}.0",
        "virtual": False,
        "alertMode": 0,
        "calDt": f"{instance.trigger_time - timedelta(days=1):%Y-%m-%d}",
        "hasEditPri": True,
        "hasReadPri": True,
    }


def listed_struct(instance: Instance, flow: SimFlow, owners: frozenset[str]) -> dict[str, object]:
    """Return the struct as List Flow Instances has it: `isCancelled` more, two fields less."""
    struct = instance_struct(instance, flow, owners)
    del struct["alertMode"], struct["calDt"]
    return {**struct, "isCancelled": instance.cancelled}


def _common(id_: int, flow: SimFlow, owners: frozenset[str]) -> dict[str, object]:
    return {
        "flowId": id_,
        "flowName": flow.name or f"flow_{id_}",
        "freq": "0 0 0 * * ? *",
        "cycle": "D",
        "doAs": "simulated_account",
        "owner": f";{';'.join(sorted(owners))};",
    }


def _graph(id_: int, flow: SimFlow, owners: frozenset[str]) -> str:
    tasks = [
        {"taskName": f"task_{task}", "taskId": task, "nodeId": f"t_{task}", "x": 100, "y": 100 * (row + 1)}
        for row, task in enumerate(sorted(flow.tasks or ()))
    ]
    name = flow.name or f"flow_{id_}"
    return json.dumps(
        {
            "name": name,
            "owners": sorted(owners),
            "type": _MANUAL,
            "tasks": tasks,
            "flows": [],
            "relations": [],
        }
    )


def _parameters(parameters: Mapping[str, str]) -> str:
    return json.dumps([{"key": key, "value": value} for key, value in parameters.items()])


def _stamp(instant: datetime | None) -> str | None:
    return None if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"
