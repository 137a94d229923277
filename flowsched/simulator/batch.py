"""The batch service: what an operation does, once its call passed the gateway (enos-api sections 2, 3, 6).

Every operation answers with its `data`, or raises `Refusal`, or `Unserved` where that was chosen.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flowsched.simulator.instances import Instance, Instances, instance_id
from flowsched.simulator.messages import (
    EPOCH,
    INVALID_BODY,
    Refusal,
    Unserved,
    json_document,
    json_object,
    natural,
    unix_ms,
)
from flowsched.simulator.search import found
from flowsched.simulator.structs import LATEST, TIME_ZONE, flow_struct, instance_struct, listed_struct
from flowsched.simulator.world import DataShape, SimFlow, UnknownInstance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flowsched.simulator.messages import Request
    from flowsched.simulator.routing import Operation
    from flowsched.simulator.world import Behaviour, User

ANY_FLOW = SimFlow()
MINUTE = timedelta(minutes=1)


class Batch:
    """The flows of one organization, and what was made of them."""

    def __init__(self, user: User, flows: Mapping[int, SimFlow] | None, behaviour: Behaviour) -> None:
        self._user = user
        self._flows = flows
        self._behaviour = behaviour
        self._instances = Instances(self._duration)
        self._deleted: set[int] = set()
        self._last_created: dict[int, datetime] = {}

    def perform(self, operation: Operation, request: Request, now: datetime) -> object:
        """Carry out one operation and return its `data`; `Refusal` where the service says no."""
        if operation.names_user:
            self._check_user(request.parameters)
        return operation.act(self, request, now)

    def instances(self, now: datetime) -> Iterable[Instance]:
        """Return every instance there has been, as it stands now, in the order of creation."""
        return self._instances.every(now)

    def trigger(self, request: Request, now: datetime) -> object:
        """Trigger Flow: make an instance of the whole flow."""
        return self._create(_body(request), None, {}, now)

    def trigger_from_task(self, request: Request, now: datetime) -> object:
        """Trigger Flow From Task: make an instance of a task and what is downstream of it."""
        body = _body(request)
        return self._create(body, _number(body, "taskId"), {}, now)

    def update_and_trigger(self, request: Request, now: datetime) -> object:
        """Update And Trigger Flow: override parameters, for this instance only."""
        body = _body(request)
        return self._create(body, None, _overrides(body.get("parameters")), now)

    def get_flow(self, request: Request, _: datetime) -> object:
        """Get Flow."""
        id_, flow = self._flow_in(request.parameters)
        return flow_struct(id_, flow, self._owners(flow), user_locked=self._user.locked)

    def delete_flow(self, request: Request, _: datetime) -> object:
        """Delete Flow, for good, locked or not; the instances made of it live on as they were [U]."""
        id_, flow = self._flow_in(request.parameters)
        self._check_owner(self._owners(flow))
        self._deleted.add(id_)
        return ""

    def get_instance(self, request: Request, now: datetime) -> object:
        """Get Flow Instance."""
        instance = self._instances.get(request.parameters.get("flowInstId", ""), now)
        if instance is None or now - instance.created < self._behaviour.late_visibility:
            return self._unknown_instance()
        struct = instance_struct(instance, *self._flow_and_owners(instance.flow))
        return [struct] if self._behaviour.instance_data is DataShape.LIST else struct

    def _unknown_instance(self) -> object:
        match self._behaviour.unknown_instance:
            case UnknownInstance.NULL_DATA:
                return None
            case UnknownInstance.EMPTY_LIST:
                return []
            case UnknownInstance.HTTP_404:
                raise Unserved(404)
            case UnknownInstance.CODE_62102:
                raise Refusal(62102, "Instance not found")

    def list_instances(self, request: Request, now: datetime) -> object:
        """List Flow Instances: one page of those that match, and how many match in all."""
        everyone = [
            (instance, listed_struct(instance, *self._flow_and_owners(instance.flow)))
            for instance in self._instances.every(now)
        ]
        page, count = found(everyone, _body(request), self._behaviour.first_page)
        return {"flowInsts": page, "count": count}

    def cancel_instance(self, request: Request, now: datetime) -> object:
        """Cancel Flow Instance; one that is unknown or has ended is refused [U]."""
        instance = self._instances.get(str(_body(request).get("flowInstId")), now)
        if instance is None:
            raise Refusal(62102, "Instance not found")
        self._check_may_change(*self._flow_and_owners(instance.flow))
        if not self._instances.cancel(instance, now):
            raise Refusal(62102, "The instance has ended")
        return ""

    def current_time(self, _: Request, now: datetime) -> object:
        """Get Current Time, in milliseconds of the Unix epoch."""
        return unix_ms(now)

    def time_zone(self, _: Request, __: datetime) -> object:
        """Get Time Zone."""
        return {"timezone": TIME_ZONE}

    def _create(
        self, body: Mapping[str, Any], task: int | None, overrides: Mapping[str, str], now: datetime
    ) -> object:
        id_, trigger_time = _number(body, "flowId"), _trigger_time(body)
        flow = self._flow(id_)
        if flow is None:
            raise Refusal(62102)
        self._check_may_change(flow, self._owners(flow))
        _check_task(flow, task)
        instance = Instance(
            id=instance_id(id_, trigger_time),
            flow=id_,
            task=task,
            trigger_time=trigger_time,
            parameters={**flow.parameters, **overrides},
            ends_as=flow.ends_as,
            created=now,
        )
        if self._too_soon(id_, now) or not self._instances.add(instance):
            raise Refusal(62102)
        self._last_created[id_] = now
        return {"flowInstanceId": instance.id}

    def _too_soon(self, flow: int, now: datetime) -> bool:
        last = self._last_created.get(flow)
        # A clock that was set back since is no reason to refuse for longer.
        return self._behaviour.wall_clock_minute and last is not None and abs(now - last) < MINUTE

    def _check_user(self, parameters: Mapping[str, str]) -> None:
        if (parameters.get("userId"), parameters.get("orgId")) != (self._user.id, self._user.org):
            raise Refusal(62101)

    def _check_may_change(self, flow: SimFlow, owners: frozenset[str]) -> None:
        if self._user.locked:
            raise Refusal(62105)
        self._check_owner(owners)
        if flow.locked:
            # The number for a locked workflow is not documented [U].
            raise Refusal(62105, "The workflow has been locked")

    def _check_owner(self, owners: frozenset[str]) -> None:
        if self._user.name not in owners:
            raise Refusal(62103)

    def _flow_in(self, parameters: Mapping[str, str]) -> tuple[int, SimFlow]:
        """Return the flow that a query names; an unknown one gets the code of the triggers [U]."""
        id_ = natural(parameters.get("flowId"))
        flow = None if id_ is None else self._flow(id_)
        if id_ is None or flow is None:
            raise Refusal(62102)
        return id_, flow

    def _flow(self, id_: int) -> SimFlow | None:
        return None if id_ in self._deleted else self._flow_ever(id_)

    def _flow_ever(self, id_: int) -> SimFlow | None:
        """Return a flow, be it deleted since; None: there never was one."""
        if not id_:
            return None
        return ANY_FLOW if self._flows is None else self._flows.get(id_)

    def _owners(self, flow: SimFlow) -> frozenset[str]:
        return frozenset({self._user.name}) if flow.owners is None else flow.owners

    def _flow_and_owners(self, id_: int) -> tuple[SimFlow, frozenset[str]]:
        flow = self._flow_ever(id_) or ANY_FLOW
        return flow, self._owners(flow)

    def _duration(self, id_: int) -> timedelta:
        flow = self._flow_ever(id_) or ANY_FLOW
        return self._behaviour.instance_duration if flow.duration is None else flow.duration


def _body(request: Request) -> dict[str, Any]:
    document = json_object(request.body)
    if document is None:
        raise Refusal(62102, INVALID_BODY)
    return document


def _number(body: Mapping[str, Any], key: str) -> int:
    number = natural(body.get(key))
    if number is None:
        raise Refusal(62102, INVALID_BODY)
    return number


def _trigger_time(body: Mapping[str, Any]) -> datetime:
    """Read `triggerTime`. The latest is our own bound: how far ahead EnOS lets it lie is not known [U]."""
    milliseconds = _number(body, "triggerTime")
    if milliseconds > unix_ms(LATEST):
        raise Refusal(62102, INVALID_BODY)
    return EPOCH + timedelta(milliseconds=milliseconds)


def _overrides(parameters: object) -> dict[str, str]:
    """Accept a list of key/value maps, the same as JSON text, or one map (enos-api section 3.1)."""
    if isinstance(parameters, str):
        parameters = json_document(parameters)
    if isinstance(parameters, dict):
        return {str(key): str(value) for key, value in parameters.items()}
    if not isinstance(parameters, list) or not all(map(_is_pair, parameters)):
        raise Refusal(62102, INVALID_BODY)
    return {str(pair["key"]): str(pair["value"]) for pair in parameters}


def _is_pair(value: object) -> bool:
    return isinstance(value, dict) and {"key", "value"} <= value.keys()


def _check_task(flow: SimFlow, task: int | None) -> None:
    if flow.tasks is not None and not flow.tasks:
        raise Refusal(62104)
    if task is not None and (task == 0 or (flow.tasks is not None and task not in flow.tasks)):
        raise Refusal(62102)
