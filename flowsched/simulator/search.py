"""List Flow Instances: filters, order and pages (enos-api section 3.4).

`type` must be given, but does not filter: under which one an API-made instance is filed is not known [U].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowsched.simulator.messages import Refusal, natural, unix_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from flowsched.simulator.instances import Instance

    Listed = tuple[Instance, dict[str, object]]

INCORRECT = "Incorrect parameter"
SORTERS_INVALID = "The sorters field parameter is invalid"
SORT_FIELDS = {
    "createTime": "created",
    "create_time": "created",
    "startTime": "started",
    "start_time": "started",
    "triggerTime": "trigger_time",
    "endTime": "ended",
}
"""Both spellings: the manuals differ."""


@dataclass(frozen=True, slots=True)
class _Filter:
    expression: str
    owner: str
    from_ms: int
    to_ms: int
    statuses: frozenset[str]

    def passes(self, instance: Instance, struct: Mapping[str, object]) -> bool:
        return (
            self.from_ms <= unix_ms(instance.trigger_time) < self.to_ms
            and (self.expression in instance.id or self.expression in str(struct["flowName"]))
            and (not self.owner or f";{self.owner};" in str(struct["owner"]))
            and (not self.statuses or str(int(instance.status)) in self.statuses)
        )


def found(
    everyone: Sequence[Listed], body: Mapping[str, Any], first_page: int
) -> tuple[list[dict[str, object]], int]:
    """Return the structs of the page asked for, and the number of matches on all pages.

    Without pagination all matches are one page, in the order of creation.
    """
    wanted = _read_filter(body)
    matches = [(instance, struct) for instance, struct in everyone if wanted.passes(instance, struct)]
    pagination = body.get("pagination")
    if pagination is None:
        return [struct for _, struct in matches], len(matches)
    if not isinstance(pagination, dict):
        raise Refusal(62102, INCORRECT)
    _sort(matches, pagination.get("sorters") or [])
    number, size = natural(pagination.get("pageNo")), natural(pagination.get("pageSize"))
    if number is None or number < first_page or not size:
        raise Refusal(62102, INCORRECT)
    start = (number - first_page) * size
    return [struct for _, struct in matches[start : start + size]], len(matches)


def _read_filter(body: Mapping[str, Any]) -> _Filter:
    from_ms, to_ms = natural(body.get("fromTriggerTime")), natural(body.get("toTriggerTime"))
    owner = body.get("owner")
    if natural(body.get("type")) is None or from_ms is None or to_ms is None or not isinstance(owner, str):
        raise Refusal(62102, INCORRECT)
    status = body.get("status")
    codes = [] if status is None else str(status).replace(" ", "").split(",")
    return _Filter(str(body.get("expression") or ""), owner, from_ms, to_ms, frozenset(filter(None, codes)))


def _sort(matches: list[Listed], sorters: object) -> None:
    if not isinstance(sorters, list) or not all(isinstance(sorter, dict) for sorter in sorters):
        raise Refusal(62102, SORTERS_INVALID)
    for sorter in reversed(sorters):
        attribute = SORT_FIELDS.get(str(sorter.get("field")))
        order = sorter.get("order", "ASC")
        if attribute is None or order not in ("ASC", "DESC"):
            raise Refusal(62102, SORTERS_INVALID)
        matches.sort(key=lambda pair: _sort_key(pair[0], attribute), reverse=order == "DESC")


def _sort_key(instance: Instance, attribute: str) -> tuple[bool, datetime]:
    instant = getattr(instance, attribute)
    return instant is not None, instant or instance.created
