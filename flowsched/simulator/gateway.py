"""The gateway: whether a call may pass, what it gets, and what is noted of it.

No socket and no clock: the instants come with the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched.simulator.batch import Batch
from flowsched.simulator.books import Books, Call, Signature
from flowsched.simulator.effects import retry_after, spoilt
from flowsched.simulator.faults import Faults
from flowsched.simulator.messages import (
    TOKEN,
    Dialect,
    Refusal,
    Reply,
    Unserved,
    flow_named,
    gateway_reply,
    json_object,
    json_reply,
    natural,
    unix_ms,
)
from flowsched.simulator.orders import Fault, Order
from flowsched.simulator.routing import OPERATIONS, TRIGGERS, route
from flowsched.simulator.signature import expected_signature, same
from flowsched.simulator.tokens import Tokens
from flowsched.simulator.world import AuthFailure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from flowsched.simulator.messages import Request
    from flowsched.simulator.routing import Route
    from flowsched.simulator.world import Application, Behaviour, SimFlow, User

UNSEEN = frozenset({Fault.RESET, Fault.SILENCE, Fault.REPLY_LOST, Fault.HALF_CLOSE, Fault.GARBAGE})
"""Faults under which no reply is begun."""
PASSES = frozenset({Signature.GOOD, Signature.NOT_NEEDED})
NOT_PROCESSED = "not processed"
MINUTE = 60


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a call gets: the reply, spoilt in its words where that was ordered, and how to send it."""

    reply: Reply
    order: Order | None
    call: Call


@dataclass(frozen=True, slots=True)
class _Result:
    reply: Reply
    outcome: str
    created: str | None = None


@dataclass(slots=True)
class Quota:
    """So many calls in each UTC minute, as in enos-api section 8; None: as many as come."""

    calls_per_minute: int | None
    _minute: int | None = None
    _spent: int = 0

    def spend(self, now: datetime) -> int | None:
        """Count a call and return None; or the seconds, at least 1, until the next minute if none is left."""
        if self.calls_per_minute is None:
            return None
        minute, second = divmod(int(now.timestamp()), MINUTE)
        if minute != self._minute:
            self._minute, self._spent = minute, 0
        if self._spent >= self.calls_per_minute:
            return MINUTE - second
        self._spent += 1
        return None


class Gateway:
    """Everything behind the socket."""

    def __init__(
        self,
        application: Application,
        user: User,
        flows: Mapping[int, SimFlow] | None,
        behaviour: Behaviour,
        keep_calls: int | None,
    ) -> None:
        self.faults = Faults()
        self.books = Books(keep_calls)
        self.batch = Batch(user, flows, behaviour)
        self._application = application
        self._behaviour = behaviour
        self._tokens = Tokens(application, behaviour)
        self._quota = Quota(behaviour.calls_per_minute)

    def cut_off(self, request: Request) -> Call | None:
        """Note a call whose body is not to be read, as was ordered; None: read on."""
        way = route(request)
        order = self.faults.take(way.operation or "", None, at_head=True)
        if order is None:
            return None
        reply = gateway_reply(500)
        return self._note(request, way, Signature.UNREAD, _Result(reply, NOT_PROCESSED), reply, order)

    def answer(self, request: Request) -> Exchange:
        """Decide what a whole call gets, and note it."""
        now = request.complete_at or request.began_at
        way = route(request)
        order = self.faults.take(way.operation or "", flow_named(request.parameters, request.body))
        if order is not None and order.fault is Fault.TOKEN_REVOKED:
            self._tokens.revoke()
        signature = self._check(request, way, now)
        result = self._result(request, way, signature, order, now)
        reply = result.reply if order is None else spoilt(result.reply, order, way.dialect, now)
        return Exchange(reply, order, self._note(request, way, signature, result, reply, order))

    def _check(self, request: Request, way: Route, now: datetime) -> Signature:
        if way.dialect is TOKEN or way.dead_end is not None:
            return Signature.NOT_NEEDED
        names = ("apim-accesstoken", "apim-timestamp", "apim-signature")
        token, timestamp, signature = (request.headers.get(name, "") for name in names)
        if not (token and timestamp and signature):
            return Signature.ABSENT
        if not self._tokens.good(token, now):
            return Signature.BAD_TOKEN
        if not self._near(timestamp, now):
            return Signature.BAD_TIMESTAMP
        secret = self._application.secret_key
        expected = expected_signature(token, request.parameters, request.body, timestamp, secret)
        return Signature.GOOD if same(signature, expected) else Signature.MISMATCH

    def _near(self, timestamp: str, now: datetime) -> bool:
        milliseconds = natural(timestamp)
        if milliseconds is None:
            return False
        # Compared as numbers: a timestamp may lie beyond the years that a datetime can hold.
        tolerance = self._behaviour.timestamp_tolerance // timedelta(milliseconds=1)
        return abs(unix_ms(now) - milliseconds) <= tolerance

    def _result(
        self, request: Request, way: Route, signature: Signature, order: Order | None, now: datetime
    ) -> _Result:
        if order is not None and not order.takes_effect:
            internal = Refusal(way.dialect.internal_error)
            return _Result(self._refused(internal, way.dialect), NOT_PROCESSED)
        if way.dead_end is not None:
            return _Result(way.dead_end, f"HTTP {way.dead_end.status}")
        if signature not in PASSES:
            return _Result(self._unauthenticated(way.dialect), f"signature: {signature}")
        return self._over_quota(way, now) or self._perform(request, way, now)

    def _over_quota(self, way: Route, now: datetime) -> _Result | None:
        wait = None if way.dialect is TOKEN else self._quota.spend(now)
        if wait is None:
            return None
        return _Result(gateway_reply(429, (("Retry-After", retry_after(wait, now)),)), "HTTP 429")

    def _perform(self, request: Request, way: Route, now: datetime) -> _Result:
        try:
            data = self._data(request, way.operation or "", now)
        except Refusal as refusal:
            text = refusal.text or way.dialect.text(refusal.number)
            return _Result(self._refused(refusal, way.dialect), f"{refusal.number} {text}")
        except Unserved as unserved:
            return _Result(gateway_reply(unserved.status), f"HTTP {unserved.status}")
        created = data["flowInstanceId"] if way.operation in TRIGGERS and isinstance(data, dict) else None
        return _Result(json_reply(200, way.dialect.envelope(0, way.dialect.success, data)), "OK", created)

    def _data(self, request: Request, operation: str, now: datetime) -> object:
        if operation == "token.get":
            return self._tokens.get(request.body, now)
        if operation == "token.refresh":
            return self._tokens.refresh(request.body, now)
        return self.batch.perform(OPERATIONS[operation], request, now)

    def _refused(self, refusal: Refusal, dialect: Dialect) -> Reply:
        text = refusal.text or dialect.text(refusal.number)
        return json_reply(self._behaviour.refusal_status, dialect.envelope(refusal.number, text, None))

    def _unauthenticated(self, dialect: Dialect) -> Reply:
        match self._behaviour.auth_failure:
            case AuthFailure.HTTP_401:
                return gateway_reply(401)
            case AuthFailure.CODE_1203:
                return json_reply(200, dialect.envelope(1203, dialect.text(1203), None))
            case AuthFailure.APIM_STATUS:
                return json_reply(200, {"apim_status": 4011, "apim_refreshtoken": "simulated"})

    def _note(
        self,
        request: Request,
        way: Route,
        signature: Signature,
        result: _Result,
        reply: Reply,
        order: Order | None,
    ) -> Call:
        body = json_object(request.body) or {}
        call = Call(
            number=self.books.next_number,
            connection=request.connection,
            began_at=request.began_at,
            complete_at=request.complete_at,
            method=request.method,
            path=request.path,
            operation=way.operation,
            flow=flow_named(request.parameters, request.body),
            task=natural(body.get("taskId")),
            trigger_time=natural(body.get("triggerTime")),
            signature=signature,
            outcome=result.outcome,
            created=result.created,
            status=None if order is not None and order.fault in UNSEEN else reply.status,
            fault=None if order is None else order.fault,
            traceparent=request.headers.get("traceparent"),
        )
        self.books.add(call)
        return call
