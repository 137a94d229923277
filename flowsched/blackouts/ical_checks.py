"""What is refused of a file in iCalendar format before the libraries see it, or after they have read it.

They would follow a rule of each second, or one that never comes true, until the end of the calendar; and they
leave out, or mend, much that a person should hear of: a fire in what was meant as a blackout, for one.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, time, timedelta
from math import prod
from typing import TYPE_CHECKING, Any

from flowsched.errors import Refused, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ALLOWED = "a file in iCalendar format (RFC 5545)"

MOST_RULES = 100
"""Rules by which something repeats, in one file; each time of the day that a rule names counts as one."""
YEARS = range(1900, 2100)
"""In which repeating events may begin, and in which events are looked at."""

_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY")
_TIMES = ("BYHOUR", "BYMINUTE", "BYSECOND")
_EASY_FILTERS = {"BYMONTH", "BYDAY", *_TIMES}
"""Those that let a day pass within a few of them, so that the next is soon found."""
_WEEK = 7
_LONGEST_REPEATED = timedelta(days=366)
_LONGEST = timedelta(days=366_000)
"""With a longer one the libraries leave the calendar; a thousand years are as good as for ever."""
_UNBOUNDED = re.compile(r"(?:^|;)(?:COUNT|UNTIL)=[^;]*", re.IGNORECASE)


def check_lines(text: str) -> None:
    """Look at a file as its lines: at its frame and its rules. Raises Refused, or ValueError."""
    from icalendar.parser import Contentlines  # noqa: PLC0415 - heavy, and most folders have no such file

    read: Any = Contentlines
    lines = [line for line in read.from_ical(text) if line.strip()]
    for which, index, frame in (("first", 0, "BEGIN:VCALENDAR"), ("last", -1, "END:VCALENDAR")):
        if not lines or lines[index].strip().upper() != frame:
            raise Refused(f"the {which} line of the file is not {frame}", ALLOWED)
    _check_rules(lines)


def check_events(events: list[Any]) -> None:
    """Look at the events of a file, as icalendar has read them. Raises Refused."""
    if not events:
        raise Refused("the file has no event", "at least one VEVENT")
    for event in events:
        _check_written(event)
        _check_zones(event)
        _check_ends(event)
        _check_ever(event)
    # Of two with one name, the library would take one and leave the other out.
    keys = ("UID", "RECURRENCE-ID", "SEQUENCE")
    names = Counter(tuple(_written(event.get(key)) for key in keys) for event in events if "UID" in event)
    for (name, *_), times in names.most_common(1):
        if times > 1:
            raise Refused(f"the UID {quoted(name)} is that of {times} events", "a UID of its own for each")


def _check_rules(lines: Iterable[Any]) -> None:
    from icalendar import vRecur  # noqa: PLC0415

    times, inside = 0, ""
    for line in lines:
        name = line.upper()
        if name.startswith("BEGIN:"):
            inside = name.removeprefix("BEGIN:").strip()
        elif name.startswith("EXRULE"):
            raise Refused("the file leaves out times by a rule (EXRULE)", "an EXDATE for each of them")
        elif name.startswith("RRULE"):
            value = line.parts()[2]
            try:
                rule: dict[str, Any] = vRecur.from_ical(value)
            except ValueError as error:
                raise Refused(f"the rule {quoted(value)} cannot be read: {error}", ALLOWED) from None
            _check_rule(rule, value, of_a_zone=inside in ("STANDARD", "DAYLIGHT"))
            times += prod(len(rule.get(key, "1")) for key in _TIMES)
    if times > MOST_RULES:
        raise Refused(f"the file has {times:,} rules by which something repeats", f"at most {MOST_RULES}")


def _check_rule(rule: dict[str, Any], text: str, *, of_a_zone: bool) -> None:
    frequency, interval = rule.get("FREQ", [""])[0], rule.get("INTERVAL", [1])[0]
    filters = {key for key in rule if key.startswith("BY")}
    often = frequency in ("WEEKLY", "DAILY")
    if frequency not in _FREQUENCIES:
        what, allowed = "repeats too often", f"FREQ={', '.join(_FREQUENCIES)}"
    elif interval < 1 or rule.get("COUNT", [1])[0] < 1:
        what, allowed = "counts by less than 1", "an INTERVAL and a COUNT of at least 1"
    elif of_a_zone and (frequency != "YEARLY" or len(rule.get("BYMONTH", ())) != 1):
        what, allowed = (
            "changes a clock not once a year",
            "FREQ=YEARLY with one BYMONTH in a time zone",
        )
    elif often and not filters <= _EASY_FILTERS:
        what, allowed = "may never come true", f"with that FREQ only {', '.join(sorted(_EASY_FILTERS))}"
    elif frequency == "DAILY" and "BYDAY" in filters and interval % _WEEK == 0:
        what, allowed = "may never come true", "FREQ=WEEKLY with that BYDAY"
    else:
        return
    raise Refused(f"the rule {quoted(text)} {what}", allowed)


def _check_written(event: Any) -> None:
    for key, error in event.errors:
        raise _refused(event, f"has a {key} that cannot be read: {shortened(str(error), 100)}", ALLOWED)
    if any(isinstance(event.get(key), list) for key in ("DTSTART", "DTEND", "DURATION")):
        raise _refused(event, "begins or ends twice", "one DTSTART, and one DTEND or DURATION")
    if "DTSTART" not in event:
        raise _refused(event, "has no beginning", "a DTSTART for each event")


def _check_zones(event: Any) -> None:
    for key in ("DTSTART", "DTEND", "RECURRENCE-ID", "RDATE", "EXDATE"):
        for zone in _unknown_zones(event.get(key, [])):
            what = f"has a {key} in an unknown time zone {quoted(zone)}"
            raise _refused(event, what, "zones of IANA, or with a VTIMEZONE")


def _check_ends(event: Any) -> None:
    start, end = event["DTSTART"].dt, event["DTEND"].dt if "DTEND" in event else None
    length = event["DURATION"].dt if "DURATION" in event else timedelta(0)
    if end is not None:
        if _kind(start) != _kind(end):
            allowed = "two days, or two times with or without a zone"
            raise _refused(event, "has a DTSTART and a DTEND of two kinds", allowed)
        length = end - start
    whole_days = not isinstance(start, datetime)
    if length < timedelta(0) or (end is not None and whole_days and not length):
        raise _refused(event, "does not end later than it begins", "an end later than its DTSTART")
    if length > _LONGEST:
        raise _refused(event, "is too long", f"at most {_LONGEST.days:,} days")
    repeats = "RRULE" in event or "RDATE" in event
    if repeats and start.year not in YEARS:
        raise _refused(event, "repeats from too far away", f"a DTSTART from {YEARS[0]} to {YEARS[-1]}")
    if repeats and length > _LONGEST_REPEATED:
        raise _refused(event, "repeats and is too long", f"at most {_LONGEST_REPEATED.days} days")


def _check_ever(event: Any) -> None:
    """Refuse a rule that never comes true: each look at a year would follow it to the end of the calendar."""
    from dateutil.rrule import rrulestr  # type: ignore[import-untyped]  # noqa: PLC0415

    start, rules = event["DTSTART"].dt, event.get("RRULE", [])
    first = datetime.combine(start, start.time() if isinstance(start, datetime) else time())
    for rule in rules if isinstance(rules, list) else [rules]:
        text = rule.to_ical().decode()
        if next(iter(rrulestr(_UNBOUNDED.sub("", text).lstrip(";"), dtstart=first)), None) is None:
            raise _refused(event, f"has the rule {quoted(text)}, which never comes true", ALLOWED)


def _refused(event: Any, what: str, allowed: str) -> Refused:
    name = _written(event.get("SUMMARY")) or _written(event.get("UID"))
    return Refused(f"the event {quoted(name)} {what}", allowed)


def _written(value: Any) -> str:
    """Return a property as the file has it, an instant in one of several ways; empty where it has none."""
    if value is None:
        return ""
    return value.to_ical().decode() if hasattr(value, "to_ical") else str(value)


def _kind(point: Any) -> tuple[bool, bool]:
    timed = isinstance(point, datetime)
    return timed, timed and point.tzinfo is not None


def _unknown_zones(values: Any) -> Iterator[str]:
    """Yield the names of zones that a property names, and that it was not read in."""
    for value in values if isinstance(values, list) else [values]:
        zone = value.params.get("TZID")
        for point in [each.dt for each in getattr(value, "dts", [value])]:
            if zone and _kind(point[0] if isinstance(point, tuple) else point) == (True, False):
                yield zone
