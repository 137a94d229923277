"""What is written otherwise in two records of a schedule, key by key."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flowsched.durations import format_duration
from flowsched.errors import printable
from flowsched.model import (
    Days,
    Holidays,
    Ical,
    RetryPolicy,
    Source,
    Span,
    WeeklyWindow,
    YearlyDays,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, time

    from flowsched.model import Acceptance, Blackout, Calendar, Schedule

_NOWHERE = Source("", 0)
PARTS = ("days", "spans", "yearly", "weekly", "holidays", "ical")
"""Of a calendar: what closed times it holds."""
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key that says something else than before, defaults resolved."""

    key: str
    """Dotted, as in the file; beside these `file`, `timezone data`, and `calendar NAME` for what it holds."""
    old: str | None
    """As text; None: nothing. Of a calendar only what is gone of it."""
    new: str | None
    """Likewise; of a calendar only what has come to it."""


def is_same(old: Schedule, new: Schedule) -> bool:
    """Tell whether two records say the same, on whatever line of their file."""
    if old.source.file == new.source.file and old.source.line != new.source.line:
        new = replace(new, source=old.source)
    return old == new or not key_changes(old, new)


def key_changes(old: Schedule, new: Schedule) -> tuple[KeyChange, ...]:
    """Return the keys that differ, the most telling first."""
    before, after = values_of(old), values_of(new)
    if old.timing.timezone != new.timing.timezone or "" in (old.timing.rules, new.timing.rules):
        del before["timezone data"]  # of another zone, or not known
    plain = (KeyChange(key, before[key], after[key]) for key in before if before[key] != after[key])
    return (*plain, *_calendar_changes(old.blackout, new.blackout))


def values_of(schedule: Schedule) -> dict[str, str | None]:
    """Return what each key of a schedule says, by its dotted name; None: nothing."""
    timing, blackout = schedule.timing, schedule.blackout
    retry = {f"retry.{field.name}": getattr(schedule.retry, field.name) for field in fields(RetryPolicy)}
    values = {
        "enabled": schedule.enabled,
        "cron": timing.cron,
        "timezone": timing.timezone,
        "timezone data": timing.rules,
        "starts_at": timing.starts_at,
        "ends_at": timing.ends_at,
        "target": schedule.target,
        "flow": schedule.flow,
        "task": schedule.task,
        "blackout.calendars": _listed(one.name for one in blackout.calendars) if blackout else None,
        "blackout.then": blackout.then if blackout else None,
        "jitter": schedule.jitter,
        "catch_up": schedule.catch_up,
        "catch_up_window": schedule.catch_up_window,
        "overlap": schedule.overlap,
        "overlap_fallback": schedule.overlap_fallback,
        "watch.timeout": schedule.watch,
        "ping": schedule.ping,
        **retry,
        "accept": _listed(map(_acceptance, schedule.accept)),
        "renamed_from": schedule.renamed_from,
        "owner": schedule.owner,
        "description": schedule.description,
        "file": printable(schedule.source.file),
    }
    return {key: _text(value) for key, value in values.items()}


def _acceptance(accepted: Acceptance) -> str:
    what = f"{accepted.rule} with {accepted.other}" if accepted.other else accepted.rule
    return f"{what} ({accepted.reason})"


def _calendar_changes(old: Blackout | None, new: Blackout | None) -> Iterator[KeyChange]:
    """Yield a change for each calendar that both have and that holds something else."""
    if old is None or new is None:
        return
    formers = {calendar.name: calendar for calendar in old.calendars}
    for calendar in new.calendars:
        former = formers.get(calendar.name)
        if former is None or replace(former, source=_NOWHERE) == replace(calendar, source=_NOWHERE):
            continue
        before, after = Counter(_entries(former)), Counter(_entries(calendar))
        if before != after:
            yield KeyChange(f"calendar {calendar.name}", _listed(before - after), _listed(after - before))


def _entries(calendar: Calendar) -> Iterator[str]:
    """Yield what a calendar holds; its description is no part of that."""
    for part in PARTS:
        yield from map(_entry, getattr(calendar, part))
    yield from (f"timezone data {ical.rules}" for ical in calendar.ical if ical.rules)
    if calendar.timezone is not None:
        yield f"timezone {calendar.timezone}"
        yield f"timezone data {calendar.rules}"


def _listed(entries: Iterable[str]) -> str | None:
    return ", ".join(entries) or None


def _text(value: Any) -> str | None:
    """Return the value of a key as a file would have it; a default that is nothing is None."""
    match value:
        case None | "":
            return None
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case timedelta():
            return format_duration(value)
        case datetime():
            return _instant(value)
    return str(value)


def _entry(entry: Days | Span | YearlyDays | WeeklyWindow | Holidays | Ical) -> str:
    """Return an entry of a calendar as a file would have it."""
    match entry:
        case Days() | YearlyDays():
            return _range(_day(entry.first), _day(entry.last))
        case Span():
            return _range(_instant(entry.start), _instant(entry.end))
        case WeeklyWindow():
            return _range(_point(entry.start_day, entry.start), _point(entry.end_day, entry.end))
        case Holidays():
            return f"holidays of {'-'.join(filter(None, (entry.country, entry.subdivision)))}"
        case Ical():
            return f"{printable(entry.file)} ({sha256(entry.content.encode()).hexdigest()[:_DIGITS]})"


def _range(first: str, last: str) -> str:
    return first if first == last else f"{first}..{last}"


def _instant(at: datetime) -> str:
    text = at.replace(tzinfo=None).isoformat(timespec="minutes")
    return text + "Z" if at.tzinfo else text


def _day(day: date | tuple[int, int]) -> str:
    return "{:02}-{:02}".format(*day) if isinstance(day, tuple) else day.isoformat()


def _point(day: int, at: time) -> str:
    return f"{_WEEKDAYS[day]} {at:%H:%M}"
