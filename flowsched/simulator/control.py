"""The simulator's own paths under `/_simulator/`: read the books, order faults.

They need no authentication, are befallen by no fault and stand in no book.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsched.errors import UsageError
from flowsched.simulator.books import brief_instance, written_call, written_instance
from flowsched.simulator.messages import Reply, gateway_reply, json_object, json_reply, natural
from flowsched.simulator.orders import read_order, written_order

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.simulator.gateway import Gateway
    from flowsched.simulator.messages import Request

PREFIX = "/_simulator/"
PAGE = 1000
"""Instances at most in one reply to `GET /_simulator/instances`."""


ALLOWED = f"allowed: GET {PREFIX}books and {PREFIX}instances; GET, POST and DELETE {PREFIX}faults"


def control(gateway: Gateway, request: Request, now: datetime) -> Reply:
    """Answer a request under `PREFIX`."""
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "books":
            return _books(gateway, now)
        case "GET", "instances":
            return _instances(gateway, request, now)
        case "GET", "faults":
            return json_reply(200, {"faults": [written_order(each) for each in gateway.faults.standing]})
        case "POST", "faults":
            return _order(gateway, request.body)
        case "DELETE", "faults":
            gateway.faults.clear()
            return json_reply(200, {"faults": []})
        case _:
            return gateway_reply(404, text=ALLOWED)


def _books(gateway: Gateway, now: datetime) -> Reply:
    calls = [written_call(call) for call in gateway.books.calls]
    instances = [written_instance(instance) for instance in gateway.batch.instances(now)]
    return json_reply(200, {"calls": calls, "instances": instances})


def _instances(gateway: Gateway, request: Request, now: datetime) -> Reply:
    after = natural(request.parameters.get("after", "0"))
    if after is None:
        text = f"after is {request.parameters['after']!r}; allowed: how many instances to pass over, from 0"
        return gateway_reply(400, text=text)
    instances = list(gateway.batch.instances(now))
    page = [brief_instance(each) for each in instances[after : after + PAGE]]
    return json_reply(200, {"instances": page, "total": len(instances)})


def _order(gateway: Gateway, body: bytes) -> Reply:
    document = json_object(body)
    if document is None:
        return gateway_reply(
            400, text='the body is no JSON object; allowed: an order, as {"fault": "silence"}'
        )
    try:
        order = read_order(document)
    except UsageError as error:
        return gateway_reply(400, text=str(error))
    gateway.faults.add(order)
    return json_reply(201, written_order(order))
