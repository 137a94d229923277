"""Test files: paths in, expectations out, and what is wrong with the files."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsched import cron
from flowsched.config.check import check
from flowsched.config.files import content_of, find_files
from flowsched.config.findings import Findings, Unusable
from flowsched.config.points import point, settled
from flowsched.config.reader import read
from flowsched.config.schema import tests_schema
from flowsched.config.values import FAULTY, typed_values
from flowsched.errors import Refused, quoted
from flowsched.model import Expectation, Source, Span
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from flowsched.config.findings import KeyPath
    from flowsched.config.reader import Node, Position
    from flowsched.config.values import Converters
    from flowsched.errors import Problem

MOST_BYTES = 1024**2
"""Of one file."""
LONGEST = timedelta(days=400)
"""Between the two instants of an expectation."""

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_NAME, _SCHEDULE, _TIMEZONE = ("name",), ("schedule",), ("timezone",)
_FROM, _UNTIL = ("from",), ("until",)
_EXACTLY, _AT_LEAST, _NEVER = ("fires", "exactly"), ("fires", "at_least"), ("fires", "never")
_COUNT, _DEFERRED = ("fires", "count"), ("fires", "deferred")
_DEMANDS = (_EXACTLY, _AT_LEAST, _NEVER, _COUNT, _DEFERRED)
_TIME_ALLOWED = (
    "a date and time of whole minutes as 2026-12-01T18:00, 2026-12-01T18:00Z or 2026-12-01T18:00+01:00"
)


def load_expectations(
    paths: Iterable[str], known: Collection[str], *, base: Path = Path(), needed: bool = True
) -> tuple[list[Expectation], list[Problem]]:
    """Return what the test files under some paths expect, in their order, and every problem of every file.

    A folder stands for all `*.test.yaml` and `*.test.yml` below it; one without any is a problem where they
    are `needed`. A file stands for itself. `known` are the ids of all schedules. What has a problem is not
    among the expectations; what stands beside it is.
    """
    found, problems = find_files(paths, base, tests=True, needed=needed)
    expectations: list[Expectation] = []
    for each in found:
        findings = Findings(str(each.path))
        with suppress(Unusable):
            node = read(content_of(each.place, MOST_BYTES, findings), findings)
            check(node, tests_schema(), findings)
            expectations += _File(node, known, findings).expectations()
        problems += findings.problems
    return expectations, sorted(problems)


class _File:
    """One file on its way; its tests share a time zone and their names."""

    def __init__(self, node: Node, known: Collection[str], findings: Findings) -> None:
        self._node = node
        self._known = known
        self._findings = findings
        self._names: dict[str, Position] = {}
        self._converters: Converters = {
            _NAME: str,
            _SCHEDULE: self._known_schedule,
            _TIMEZONE: _timezone,
            _FROM: point,
            _UNTIL: point,
            _COUNT: int,
        }
        self._shared = typed_values(node, (), {_TIMEZONE: _timezone}, findings)

    def expectations(self) -> Iterator[Expectation]:
        """Yield those that have no problem."""
        tests = self._node.get(("tests",))
        for index in tests.children if tests else ():
            path = ("tests", index)
            expectation = None if self._findings.is_faulty(path) else self._expectation(path)
            if expectation:
                yield expectation

    def _expectation(self, path: KeyPath) -> Expectation | None:
        own = typed_values(self._node, path, self._converters, self._findings)
        values = {_COUNT: None, **self._shared, **own}
        self._refuse_second(path, values[_NAME])
        if _TIMEZONE not in values:
            allowed = "an IANA time zone, such as Europe/Berlin, here or at the head of the file"
            self._findings.add(self._node.position(path), path + _TIMEZONE, "is missing", allowed)
            return None
        if FAULTY in (values[_TIMEZONE], values[_FROM], values[_UNTIL]):
            return None
        zone = values[_TIMEZONE]
        window = Span(settled(values[_FROM], zone), settled(values[_UNTIL], zone))
        if not self._is_usable(window, path + _UNTIL):
            return None
        times = partial(_fire_time, zone=zone, window=window)
        values[_EXACTLY] = self._each(path + _EXACTLY, times)
        values[_AT_LEAST] = self._each(path + _AT_LEAST, times)
        values[_NEVER] = self._each(path + _NEVER, partial(_closed, zone=zone, window=window))
        values[_DEFERRED] = self._deferred(path + _DEFERRED, times, partial(_time, zone=zone))
        if FAULTY in values.values() or not any(values[key] not in (None, {}) for key in _DEMANDS):
            return None
        for key, message, allowed in _contradictions(values):
            self._findings.add(self._node.position(path + key), path + key, message, allowed)
        if self._findings.has_faulty(path):
            return None
        return _record(values, window, self._findings.file, self._node.position(path))

    def _known_schedule(self, schedule_id: str) -> str:
        if schedule_id not in self._known:
            hint = did_you_mean(schedule_id, self._known)
            raise Refused(f"there is no schedule {quoted(schedule_id)}{hint}", "the id of a schedule")
        return schedule_id

    def _refuse_second(self, path: KeyPath, name: Any) -> None:
        if name is FAULTY:
            return
        here = self._node.position(path + _NAME)
        first = self._names.setdefault(name, here)
        if first is not here:
            message = f"{quoted(name)} is the name of the test on line {first[0]} already"
            self._findings.add(here, path + _NAME, message, "names that are unique in the file")

    def _is_usable(self, window: Span, path: KeyPath) -> bool:
        """Tell whether two instants are in order and not too far apart; note it if not."""
        node = self._node.get(path)
        assert node is not None  # noqa: S101 - it was read from there
        if window.end <= window.start:
            message = f"{quoted(node.data)} is not later than from"
            self._findings.add(node.at, path, message, "an until that is later than from")
        elif window.end - window.start > LONGEST:
            message = f"{quoted(node.data)} is too long after from"
            self._findings.add(node.at, path, message, f"at most {LONGEST.days} days")
        return not self._findings.is_faulty(path)

    def _each(self, path: KeyPath, convert: Callable[[str], Any]) -> Any:
        """Return what the items of a list stand for; None where there is none, FAULTY where one is wrong."""
        node = self._node.get(path)
        if self._findings.is_faulty(path) or node is None:
            return FAULTY if self._findings.is_faulty(path) else None
        converters: Converters = {(index,): convert for index in node.children}
        items = list(typed_values(self._node, path, converters, self._findings).values())
        self._refuse_repeated(path, items, [child.at for child in node.children.values()])
        return FAULTY if FAULTY in items else items

    def _refuse_repeated(self, path: KeyPath, items: Sequence[Any], places: Sequence[Position]) -> None:
        lines: dict[Any, int] = {}
        for index, (item, at) in enumerate(zip(items, places, strict=True)):
            if item is not FAULTY and lines.setdefault(item, index) != index:
                message = f"is the same as the one on line {places[lines[item]][0]}"
                self._findings.add(at, (*path, str(index)), message, "each time once", usable=True)

    def _deferred(self, path: KeyPath, fire_time: Callable[[str], Any], later: Callable[[str], Any]) -> Any:
        node = self._node.get(path)
        if self._findings.is_faulty(path) or node is None:
            return FAULTY if self._findings.is_faulty(path) else {}
        values = typed_values(self._node, path, {(key,): later for key in node.children}, self._findings)
        deferred: dict[Any, Any] = {}
        for (key,), until in values.items():
            at = self._deferred_from(node, (*path, key), fire_time, deferred)
            if until is not FAULTY and at is not FAULTY and until <= at:
                allowed = "the later time at which it goes out"
                self._findings.add(node.children[key].at, (*path, key), "is not later than its key", allowed)
            deferred[at] = until
        return FAULTY if self._findings.has_faulty(path) else deferred

    def _deferred_from(
        self, node: Node, path: KeyPath, fire_time: Callable[[str], Any], before: Collection[Any]
    ) -> Any:
        """Return the fire time that is the last key of a path; FAULTY where it is none, or was there."""
        key = path[-1]
        try:
            at = fire_time(key)
        except Refused as error:
            self._findings.add(node.keys[key], path, error.message, error.allowed)
            return FAULTY
        if at in before:
            self._findings.add(node.keys[key], path, "is the same time as a key above", "each time once")
            return FAULTY
        return at


def _timezone(name: str) -> str:
    return cron.zone(name).key


def _time(text: str, zone: str) -> datetime:
    """Read a point in time that is a certain minute: with an offset, or shown by the clock exactly once."""
    if "T" not in text:
        raise Refused(f"{quoted(text)} is not a date with a time", _TIME_ALLOWED)
    read = point(text)
    if read.tzinfo:
        return read
    shown = _instants(read, zone)
    if len(shown) == 1:
        return shown[0]
    if shown:
        offsets = " or ".join(_local(instant, zone) for instant in shown)
        raise Refused(f"{quoted(text)} comes twice in {zone}, where clocks go back", offsets)
    after = _local(cron.instant(read, cron.zone(zone)), zone)
    raise Refused(
        f"{quoted(text)} never comes in {zone}, where clocks go forward",
        f"a time that the clock shows, such as {after} at the end of the gap",
    )


def _instants(wall: datetime, zone: str) -> list[datetime]:
    """Return when the clock of a zone shows a time, in UTC: once, twice or never."""
    there = cron.zone(zone)
    readings = {wall.replace(tzinfo=there, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(at for at in readings if at.astimezone(there).replace(tzinfo=None) == wall)


def _local(instant: datetime, zone: str) -> str:
    return instant.astimezone(cron.zone(zone)).isoformat(timespec="minutes")


def _fire_time(text: str, zone: str, window: Span) -> datetime:
    at = _time(text, zone)
    if not window.start <= at < window.end:
        raise Refused(f"{quoted(text)} is not between from and until", "a time that the test looks at")
    return at


def _closed(text: str, zone: str, window: Span) -> Span:
    """Read a minute, or a whole day."""
    if "T" in text:
        at = _fire_time(text, zone, window)
        return Span(at, at + _MINUTE)
    midnight = point(text)
    day = Span(settled(midnight, zone), settled(midnight + _DAY, zone))
    if day.end <= window.start or day.start >= window.end:
        raise Refused(f"{quoted(text)} is not between from and until", "a day that the test looks at")
    return day


def _contradictions(values: Mapping[KeyPath, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield key, message and what is allowed for each demand that can never hold together with the others."""
    exactly, count = values[_EXACTLY], values[_COUNT]
    wanted = {*(exactly or ()), *(values[_AT_LEAST] or ()), *values[_DEFERRED]}
    for index, span in enumerate(values[_NEVER] or ()):
        if any(span.start <= at < span.end for at in wanted):
            allowed = "times at which nothing is expected"
            yield (*_NEVER, str(index)), "holds a time that is expected", allowed
    if exactly is None:
        if count is not None and count < len(wanted):
            yield _COUNT, f"is less than the {len(wanted):,} times named", f"{len(wanted):,} or more"
        return
    for key in (_AT_LEAST, _DEFERRED):
        if not set(values[key] or ()) <= set(exactly):
            yield key, "has a time that exactly leaves out", "times that are in exactly too"
    if count not in (None, len(set(exactly))):
        yield _COUNT, f"is not the {len(set(exactly)):,} of exactly", f"{len(set(exactly)):,}, or no count"


def _record(values: dict[KeyPath, Any], window: Span, file: str, at: Position) -> Expectation:
    line, column = at
    exactly = values[_EXACTLY]
    return Expectation(
        name=values[_NAME],
        schedule_id=values[_SCHEDULE],
        timezone=values[_TIMEZONE],
        start=window.start,
        end=window.end,
        exactly=None if exactly is None else frozenset(exactly),
        at_least=frozenset(values[_AT_LEAST] or ()),
        never=tuple(values[_NEVER] or ()),
        count=values[_COUNT],
        deferred=values[_DEFERRED],
        source=Source(file, line),
        column=column,
    )
