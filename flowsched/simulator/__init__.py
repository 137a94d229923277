"""An EnOS stand-in over real HTTP, for the demo, for tests, and for trying schedules safely.

It keeps what enos-api documents and checks what it gets by its own code:

- the token service: one token until it expires, `expire` counting down, refresh, and its error numbers;
- `apim-signature` over the decoded, sorted query, the raw body and the timestamp;
- the three triggers, with the ids of section 5, one running instance a flow, the others waiting, and one
  instance a flow and UTC minute of `triggerTime`;
- Get Flow, and Delete Flow, which is a GET and really deletes;
- Get, List and Cancel Flow Instance, and the two operations on `time`;
- both versions: v2.1, and v2.0 with its own path, its `status` envelope and no Trigger Flow From Task.

Other operations (save, import, export, directories, tasks) are not there and answer 404; the wrong method
answers 405. Where the documentation is silent, `Behaviour` says what is done, and can be told otherwise. One
bound is our own: a `triggerTime` past the year 9999 in GMT+8 is an invalid body, as it could not be shown.

`GET /_simulator/books` shows every call that is kept and every instance, `GET /_simulator/instances?after=N`
the instances alone and in short, a page at a time, without the first N. `POST /_simulator/faults` orders a
fault (the fields of `Order`), `GET` shows the standing orders, `DELETE` clears them.
"""

from __future__ import annotations

from flowsched.simulator.books import Call, Signature
from flowsched.simulator.faults import Faults
from flowsched.simulator.instances import Instance, instance_id
from flowsched.simulator.orders import Fault, Order
from flowsched.simulator.simulator import Simulator, serve
from flowsched.simulator.world import (
    Application,
    AuthFailure,
    Behaviour,
    DataShape,
    SimFlow,
    Status,
    UnknownInstance,
    User,
)

__all__ = [
    "Application",
    "AuthFailure",
    "Behaviour",
    "Call",
    "DataShape",
    "Fault",
    "Faults",
    "Instance",
    "Order",
    "Signature",
    "SimFlow",
    "Simulator",
    "Status",
    "UnknownInstance",
    "User",
    "instance_id",
    "serve",
]
