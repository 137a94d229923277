"""The calendars of a schedule file, checked against the schema, to frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowsched import blackouts, cron
from flowsched.config import closed_times
from flowsched.config.values import FAULTY, typed_values
from flowsched.model import Calendar, Days, Holidays, Source, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flowsched.config.findings import Findings, KeyPath
    from flowsched.config.reader import Node
    from flowsched.config.values import Converters
    from flowsched.model import Ical

_PARTS = ("dates", "yearly", "weekly", "holidays", "ical")
_CLOSED = "a calendar with at least one of " + ", ".join(_PARTS)


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """A calendar as it stands in a file."""

    name: str
    at: tuple[int, int]
    """Line and column of the name."""
    calendar: Calendar | None
    """None where something is wrong with it; what, is among the findings."""


def parse_calendars(node: Node, ical: Callable[[str], Ical], findings: Findings) -> Iterator[CalendarEntry]:
    """Yield the calendars of a file, in its order; what only a look behind the schema shows is noted.

    `ical` returns the file of a path, or raises Refused.
    """
    holder = node.get(("calendars",))
    for name, at in holder.keys.items() if holder else ():
        yield CalendarEntry(name, at, _calendar(node, ("calendars", name), ical, findings))


def _calendar(node: Node, path: KeyPath, ical: Callable[[str], Ical], findings: Findings) -> Calendar | None:
    if findings.is_faulty(path):
        return None
    values = typed_values(node, path, _PLAIN, findings)
    converters = {**_ITEMS, "ical": ical}
    parts = {part: _items(node, (*path, part), converters[part], findings) for part in _PARTS}
    if not any(node.get((*path, part)) or findings.is_faulty((*path, part)) for part in _PARTS):
        findings.add(node.position(path), path, "is never closed", _CLOSED)
        return None
    if FAULTY in values.values() or FAULTY in [item for items in parts.values() for item in items]:
        return None
    return _record(path[-1], values, parts, Source(findings.file, node.position(path)[0]))


def _items(node: Node, path: KeyPath, convert: Callable[[Any], Any], findings: Findings) -> list[Any]:
    """Return the items of a list; FAULTY stands for each that cannot be used, or for all of them."""
    if findings.is_faulty(path):
        return [FAULTY]
    found = node.get(path)
    indices: Converters = {(index,): convert for index in found.children} if found else {}
    return list(typed_values(node, path, indices, findings).values())


def _record(
    name: str, values: Mapping[KeyPath, Any], parts: Mapping[str, list[Any]], source: Source
) -> Calendar:
    timezone = values.get(("timezone",))
    return Calendar(
        name=name,
        description=values.get(("description",)),
        timezone=timezone,
        rules=cron.zone_rules(timezone) if timezone else "",
        days=tuple(item for item in parts["dates"] if isinstance(item, Days)),
        spans=tuple(item for item in parts["dates"] if isinstance(item, Span)),
        yearly=tuple(parts["yearly"]),
        weekly=tuple(parts["weekly"]),
        holidays=tuple(parts["holidays"]),
        ical=tuple(parts["ical"]),
        source=source,
    )


def _holidays(written: Mapping[str, str]) -> Holidays:
    holidays = Holidays(written["country"], written.get("subdivision"))
    blackouts.check_holidays(holidays)
    return holidays


_PLAIN: Converters = {("description",): str, ("timezone",): lambda name: cron.zone(name).key}
_ITEMS: Mapping[str, Callable[[Any], Any]] = {
    "dates": closed_times.dates,
    "yearly": closed_times.yearly,
    "weekly": closed_times.weekly,
    "holidays": _holidays,
}
