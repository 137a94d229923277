"""The nodes of a schedule file, checked against the schema, to frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from flowsched import cron
from flowsched.config.points import point, settled
from flowsched.config.values import FAULTY, typed_values
from flowsched.durations import between, format_duration
from flowsched.errors import Refused, quoted
from flowsched.model import (
    DEFAULT_TARGET,
    Acceptance,
    CatchUp,
    Overlap,
    RetryPolicy,
    Schedule,
    Source,
    Then,
    Timing,
)
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flowsched.config.findings import Findings, KeyPath
    from flowsched.config.reader import Node
    from flowsched.config.values import Converters
    from flowsched.model import Settings

    Values = dict[KeyPath, Any]

_MOST_SHARED = 10_000
"""Records kept to stand for all that are equal: thousands of schedules have a few timings and policies."""
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_TIMEZONE, _TARGET, _TASK = ("timezone",), ("target",), ("task",)
_PING = ("ping",)
_STARTS_AT, _ENDS_AT = ("starts_at",), ("ends_at",)
_ACCEPT = ("accept",)
_TIMEOUT = ("watch", "timeout")
_INITIAL, _LONGEST = ("retry", "initial_backoff"), ("retry", "max_backoff")
_REQUIRED = {("cron",), ("flow",), _TIMEZONE}

_BUILT_IN: Mapping[KeyPath, Any] = {
    ("description",): None,
    ("owner",): None,
    _TASK: None,
    _STARTS_AT: None,
    _ENDS_AT: None,
    ("renamed_from",): None,
    _PING: None,
    ("blackout",): None,
    _ACCEPT: None,
    _TARGET: None,
    ("enabled",): True,
    ("catch_up",): CatchUp.LATEST,
    ("catch_up_window",): timedelta(hours=1),
    ("overlap",): Overlap.QUEUE,
    ("overlap_fallback",): Overlap.QUEUE,
    ("jitter",): timedelta(0),
    _TIMEOUT: None,
    ("retry", "max_attempts"): 5,
    _INITIAL: timedelta(seconds=2),
    ("retry", "multiplier"): 2.0,
    _LONGEST: timedelta(minutes=5),
    ("retry", "deadline"): timedelta(minutes=15),
    ("retry", "attempt_timeout"): timedelta(seconds=30),
}


@dataclass(frozen=True, slots=True)
class Named:
    """A calendar that a blackout names."""

    calendar: str
    path: KeyPath
    at: tuple[int, int]


@dataclass(frozen=True, slots=True)
class NamedBlackout:
    """A blackout as it stands in a file: its calendars may be in others."""

    calendars: tuple[Named, ...]
    then: Then | None
    """None where something is wrong with it; what, is among the findings."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A schedule as it stands in a file."""

    id: str
    at: tuple[int, int]
    """Line and column of the id."""
    schedule: Schedule | None
    """None where something is wrong with it; what, is among the findings. It has no blackout yet."""
    blackout: NamedBlackout | None = None
    """That of the schedule, or of the defaults; None where it has none."""


def parse(node: Node, settings: Settings | None, findings: Findings) -> list[Entry]:
    """Return the schedules of a file, in its order; what only a look behind the schema shows is noted.

    Without settings, the names of targets are taken as they are.
    """
    return list(_File(node, settings, findings).entries())


class _File:
    """One file on its way; what its schedules share is read once."""

    def __init__(self, node: Node, settings: Settings | None, findings: Findings) -> None:
        self._node = node
        self._findings = findings
        self._targets = settings.targets if settings else None
        self._pings_nothing = settings is not None and settings.pings is None
        inherited = {**_INHERITED, ("target",): self._known_target}
        self._converters = {**_OWN, **inherited}
        self._defaults = typed_values(node, ("defaults",), inherited, findings)
        shared = ("defaults", "blackout")
        self._shared_blackout = _named_blackout(node.get(shared), shared, findings)

    def entries(self) -> Iterator[Entry]:
        holder = self._node.get(("schedules",))
        for name, at in holder.keys.items() if holder else ():
            path = ("schedules", name)
            yield Entry(name, at, self._schedule(path), self._blackout(path))

    def _blackout(self, path: KeyPath) -> NamedBlackout | None:
        """Return the blackout that a schedule has, were it faulty in other ways or not."""
        node = self._node.get((*path, "blackout"))
        return _named_blackout(node, (*path, "blackout"), self._findings) if node else self._shared_blackout

    def _schedule(self, path: KeyPath) -> Schedule | None:
        if self._findings.is_faulty(path):
            return None
        own = typed_values(self._node, path, self._converters, self._findings)
        values = {**_BUILT_IN, **self._defaults, **own}
        if self._unwatched(path):
            values[_TIMEOUT] = None
        values[_ACCEPT] = _merged(self._defaults.get(_ACCEPT), values[_ACCEPT])
        values[_TARGET] = self._target(path, values[_TARGET])
        self._require_timezone(path, values)
        self._settle_bounds(path, values)
        self._refuse_task(path, values)
        self._refuse_ping(path)
        self._compare_backoffs(path, own, values)
        if any(value is FAULTY for value in values.values()) or not values.keys() >= _REQUIRED:
            return None
        line, _ = self._node.position(path)
        return _record(path[-1], values, Source(self._findings.file, line))

    def _require_timezone(self, path: KeyPath, values: Values) -> None:
        if _TIMEZONE not in values:
            allowed = 'an IANA time zone, such as Europe/Berlin, here or in "defaults"'
            self._findings.add(self._node.position(path), path + _TIMEZONE, "is missing", allowed)

    def _unwatched(self, path: KeyPath) -> bool:
        """Tell whether a schedule says `watch: null`, whatever the defaults say."""
        node = self._node.get((*path, "watch"))
        return node is not None and node.data is None

    def _settle_bounds(self, path: KeyPath, values: Values) -> None:
        """Make instants of `starts_at` and `ends_at`, as the zone is known now; note if they are crossed."""
        zone = values.get(_TIMEZONE, FAULTY)
        if zone is FAULTY:
            return
        bounds = [settled(values[key], zone) for key in (_STARTS_AT, _ENDS_AT)]
        values[_STARTS_AT], values[_ENDS_AT] = starts_at, ends_at = bounds
        node = self._node.get(path + _ENDS_AT)
        if node and all(isinstance(bound, datetime) for bound in bounds) and ends_at <= starts_at:
            message = f"{quoted(node.data)} is not later than starts_at"
            self._findings.add(node.at, path + _ENDS_AT, message, "an ends_at that is later than starts_at")

    def _known_target(self, name: str) -> str:
        if self._targets is not None and name not in self._targets:
            hint = did_you_mean(name, self._targets)
            raise Refused(f"there is no target {quoted(name)}{hint}", ", ".join(sorted(self._targets)))
        return name

    def _target(self, path: KeyPath, named: Any) -> Any:
        """Return the target of a schedule that perhaps names none."""
        if named is not None or self._targets is None:
            return named
        if len(self._targets) == 1:
            return next(iter(self._targets))
        if DEFAULT_TARGET in self._targets:
            return DEFAULT_TARGET
        message = f"is missing: there are several targets, and none is named {quoted(DEFAULT_TARGET)}"
        allowed = ", ".join(sorted(self._targets))
        self._findings.add(self._node.position(path), path + _TARGET, message, allowed)
        return FAULTY

    def _refuse_task(self, path: KeyPath, values: Values) -> None:
        """Note a task that the target's API cannot start at (enos-api section 9)."""
        target = (self._targets or {}).get(values[_TARGET])
        node = self._node.get(path + _TASK)
        if target and node and target.api_version == "v2.0":
            message = f"target {quoted(target.name)} speaks v2.0, which cannot trigger a flow from a task"
            self._findings.add(
                node.at, path + _TASK, message, "a whole flow, or a target with api_version v2.1"
            )

    def _refuse_ping(self, path: KeyPath) -> None:
        """Note a slug that nobody could be told of."""
        node = self._node.get(path + _PING)
        if node and self._pings_nothing:
            message = "flowsched.yaml does not say where pings are sent"
            self._findings.add(node.at, path + _PING, message, "a ping only where flowsched.yaml has `pings`")

    def _compare_backoffs(self, path: KeyPath, own: Values, values: Values) -> None:
        initial, longest = values[_INITIAL], values[_LONGEST]
        if FAULTY in (initial, longest) or initial <= longest:
            return
        holders = ((path, own), (("defaults",), self._defaults))
        at_fault = next(holder + key for holder, has in holders for key in (_INITIAL, _LONGEST) if key in has)
        node = self._node.get(at_fault)
        if node:
            first, last = format_duration(initial), format_duration(longest)
            message = f"initial_backoff {first} is longer than max_backoff {last}"
            self._findings.add(node.at, at_fault, message, "an initial_backoff of at most max_backoff")


def _named_blackout(node: Node | None, path: KeyPath, findings: Findings) -> NamedBlackout | None:
    """Return what a blackout says; None where it says nothing, or not what it should."""
    if node is None or node.data is None or findings.is_faulty((*path, "calendars")):
        return None
    names: dict[str, Named] = {}
    holder = node.children["calendars"]
    for index, each in holder.children.items():
        here = (*path, "calendars", index)
        if findings.is_faulty(here):
            continue
        if each.data in names:
            findings.add(each.at, here, f"{quoted(each.data)} is here twice", "each calendar once")
        else:
            names[each.data] = Named(each.data, here, each.at)
    then = None if findings.is_faulty((*path, "then")) else Then(node.children["then"].data)
    return NamedBlackout(tuple(names.values()), then)


@lru_cache(maxsize=100_000)
def _timing_expression(text: str) -> str:
    return cron.parse(text).expression


def _timezone(name: str) -> str:
    return cron.zone(name).key


def _acceptances(accepted: Mapping[str, Any]) -> dict[str, tuple[Acceptance, ...]]:
    """Return what is accepted, by the name of the rule."""
    return {
        rule: (Acceptance(rule, said),)
        if isinstance(said, str)
        else tuple(Acceptance(rule, reason, other) for other, reason in said.items())
        for rule, said in accepted.items()
        if isinstance(said, str | dict)  # else the rule is unknown, and a problem speaks of it
    }


def _merged(general: Any, own: Any) -> Any:
    return FAULTY if FAULTY in (general, own) else {**(general or {}), **(own or {})}


_between = lru_cache(maxsize=_MOST_SHARED)(between)
_timing = lru_cache(maxsize=_MOST_SHARED)(Timing)
_retry_policy = lru_cache(maxsize=_MOST_SHARED)(RetryPolicy)


def _span(least: timedelta, most: timedelta) -> Callable[[str], timedelta]:
    return partial(_between, least=least, most=most)


_OWN: Converters = {
    ("cron",): _timing_expression,
    ("flow",): int,
    _TASK: int,
    ("description",): str,
    _STARTS_AT: point,
    _ENDS_AT: point,
    ("renamed_from",): str,
    _PING: str,
}
_INHERITED: Converters = {
    _TIMEZONE: _timezone,
    ("owner",): str,
    ("enabled",): bool,
    ("catch_up",): CatchUp,
    ("catch_up_window",): _span(timedelta(0), 30 * _DAY),
    ("overlap",): Overlap,
    ("overlap_fallback",): Overlap,
    ("jitter",): _span(timedelta(0), _DAY),
    _ACCEPT: _acceptances,
    _TIMEOUT: _span(timedelta(minutes=1), 30 * _DAY),
    ("retry", "max_attempts"): int,
    _INITIAL: _span(_SECOND, _DAY),
    ("retry", "multiplier"): float,
    _LONGEST: _span(_SECOND, _DAY),
    ("retry", "deadline"): _span(_SECOND, _DAY),
    ("retry", "attempt_timeout"): _span(_SECOND, timedelta(minutes=10)),
}


def _record(schedule_id: str, values: Values, source: Source) -> Schedule:
    retry = {key[1]: value for key, value in values.items() if key[0] == "retry"}
    plain = {key[0]: value for key, value in values.items() if key[0] != "retry"}
    zone = plain.pop("timezone")
    rules = cron.zone_rules(zone)
    accept = tuple(each for rule in plain.pop("accept").values() for each in rule)
    timing = _timing(plain.pop("cron"), zone, plain.pop("starts_at"), plain.pop("ends_at"), rules)
    return Schedule(
        id=schedule_id,
        timing=timing,
        retry=_retry_policy(**retry),
        accept=accept,
        source=source,
        **plain,
    )
