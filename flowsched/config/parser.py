"""The nodes of a schedule file, checked against the schema, to frozen records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from flowsched import cron
from flowsched.config.values import FAULTY, typed_values
from flowsched.durations import between, format_duration
from flowsched.errors import Refused, quoted
from flowsched.model import CatchUp, Overlap, RetryPolicy, Schedule, Source, Timing
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flowsched.config.findings import Findings, KeyPath
    from flowsched.config.reader import Node
    from flowsched.config.values import Converters
    from flowsched.model import Settings

    Values = dict[KeyPath, Any]

DEFAULT_TARGET = "default"
"""The target of a schedule that names none, where there are several."""

_POINT = re.compile(r"\d{4}-\d\d-\d\d(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::00)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_POINT_ALLOWED = (
    "a date as 2026-12-01, or a date and time of whole minutes as 2026-12-01T18:00, 2026-12-01T18:00Z "
    "or 2026-12-01T18:00+01:00"
)
_YEARS = range(1970, 9999)
"""Far enough from the ends of the calendar for every zone."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_TIMEZONE, _TARGET, _TASK = ("timezone",), ("target",), ("task",)
_STARTS_AT, _ENDS_AT = ("starts_at",), ("ends_at",)
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
class Entry:
    """A schedule as it stands in a file."""

    id: str
    at: tuple[int, int]
    """Line and column of the id."""
    schedule: Schedule | None
    """None where something is wrong with it; what, is among the findings."""


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
        inherited = {**_INHERITED, ("target",): self._known_target}
        self._converters = {**_OWN, **inherited}
        self._defaults = typed_values(node, ("defaults",), inherited, findings)

    def entries(self) -> Iterator[Entry]:
        holder = self._node.get(("schedules",))
        for name, at in holder.keys.items() if holder else ():
            yield Entry(name, at, self._schedule(("schedules", name)))

    def _schedule(self, path: KeyPath) -> Schedule | None:
        if self._findings.is_faulty(path):
            return None
        own = typed_values(self._node, path, self._converters, self._findings)
        values = {**_BUILT_IN, **self._defaults, **own}
        if self._unwatched(path):
            values[_TIMEOUT] = None
        values[_TARGET] = self._target(path, values[_TARGET])
        self._require_timezone(path, values)
        self._settle_bounds(path, values)
        self._refuse_task(path, values)
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
        bounds = [_settled(values[key], zone) for key in (_STARTS_AT, _ENDS_AT)]
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


@lru_cache(maxsize=100_000)
def _timing_expression(text: str) -> str:
    return cron.parse(text).expression


@lru_cache(maxsize=1_000)
def _timezone(name: str) -> str:
    return cron.zone(name).key


def _point(text: str) -> datetime:
    """Read a point in time: in UTC where it has an offset; else naive, as some zone's clock shows it."""
    if not _POINT.fullmatch(text):
        raise Refused(f"{quoted(text)} is not a date, nor a date and time of whole minutes", _POINT_ALLOWED)
    try:
        point = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"{quoted(text)} is not on the calendar", _POINT_ALLOWED) from None
    if point.year not in _YEARS:
        raise Refused(f"{quoted(text)} is out of range", f"years from {_YEARS[0]} to {_YEARS[-1]}")
    return point.astimezone(UTC) if point.tzinfo else point


def _settled(point: Any, zone: str) -> Any:
    """Return the instant of a point; what is none, or is in UTC already, as it is."""
    if not isinstance(point, datetime) or point.tzinfo:
        return point
    return cron.instant(point, cron.zone(zone))


def _span(least: timedelta, most: timedelta) -> Callable[[str], timedelta]:
    return partial(between, least=least, most=most)


_OWN: Converters = {
    ("cron",): _timing_expression,
    ("flow",): int,
    _TASK: int,
    ("description",): str,
    _STARTS_AT: _point,
    _ENDS_AT: _point,
    ("renamed_from",): str,
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
    timing = Timing(plain.pop("cron"), zone, plain.pop("starts_at"), plain.pop("ends_at"), rules)
    return Schedule(id=schedule_id, timing=timing, retry=RetryPolicy(**retry), source=source, **plain)
