"""Files in iCalendar format (RFC 5545): every event is a closed time.

What counts and what does not:

* Events that were cancelled do not close anything. Those that leave their owner free (TRANSP:TRANSPARENT) do:
  public calendars of holidays mark all of theirs so.
* Days, and times without a zone (floating), are read on the wall clock that the calendar is read on. Times
  with a zone follow RFC 5545; its name is one of IANA or of Windows, or the file defines it (VTIMEZONE).
  Where the file names a zone for all of it (X-WR-TIMEZONE), that is the one of its floating times.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from flowsched import cron
from flowsched.blackouts.ical_checks import ALLOWED, YEARS, check_events, check_lines
from flowsched.blackouts.kept import Kept
from flowsched.errors import Refused, shortened
from flowsched.model import Ical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    Point = date | datetime
    """A day, for its first instant; a naive point, read on some wall clock; or an instant."""

MOST_OCCURRENCES = 10_000
"""Of the events of one file, in one year: each takes a fifth of a millisecond to work out."""

_DIGITS = 16


class _File(NamedTuple):
    """A file as the libraries have read it."""

    events: list[Any]
    """As they are written."""
    query: Any
    """Tells when they are."""
    rules: str
    """As in `Ical`."""


def read_ical(file: str, content: bytes) -> Ical:
    """Return a file that can be used, named as in `file`. Raises Refused with what is wrong in it."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"byte {error.start + 1:,} of the file is not UTF-8", f"{ALLOWED}, in UTF-8") from None
    read = _read(text)
    _check_years(read)
    ical = Ical(file, text, read.rules)
    # Kept, and not to be read again: by then the data of zones may be others.
    _FILES.put(ical, read)
    return ical


def events_between(ical: Ical, first: datetime, last: datetime) -> Iterator[tuple[Point, Point]]:
    """Yield every event that touches a span between two naive points, read in the event's own zone.

    The second point of each is not included. Only years in YEARS are looked at. Raises Refused where the
    file cannot be used.
    """
    if first.year in YEARS and last.year in YEARS:
        for event in _occurrences(_FILES.of(ical), first, last):
            if str(event.get("STATUS", "")).upper() != "CANCELLED":
                yield event["DTSTART"].dt, event["DTEND"].dt


def _check_years(read: _File) -> None:
    """Look at the years with the first event and with all that are repeated. Raises Refused."""
    begun = {min(max(event["DTSTART"].dt.year, YEARS[0]), YEARS[-1] - 1) for event in read.events}
    for year in sorted({min(begun), max(begun), max(begun) + 1}):
        first = datetime(year, 1, 1)  # noqa: DTZ001 - on any wall clock
        found = len(_occurrences(read, first, first.replace(month=12, day=31)))
        if found > MOST_OCCURRENCES:
            raise Refused(
                f"the file has {found:,} events in {year}, repeated ones counted",
                f"at most {MOST_OCCURRENCES:,} in one year",
            )


def _occurrences(read: _File, first: datetime, last: datetime) -> list[Any]:
    try:
        return list(read.query.between(first, last))
    except Exception as error:
        raise _unreadable(error) from error


def _read(text: str) -> _File:
    """Return a file as the libraries read it. Raises Refused."""
    import recurring_ical_events  # type: ignore[import-untyped]  # noqa: PLC0415
    from icalendar import Calendar  # noqa: PLC0415 - heavy, and most folders have no such file
    from icalendar.timezone import tzp  # noqa: PLC0415

    try:
        check_lines(text)
        # What a file says of a zone would otherwise be taken for the zone of that name in the next.
        tzp.use_default()
        # Of a text in one line it would ask whether it is the path of a file; of bytes it does not.
        calendar: Any = Calendar.from_ical(text.encode())
        events = calendar.walk("VEVENT")
        check_events(events)
        named = {*calendar.get_used_tzids(), str(calendar.get("X-WR-TIMEZONE", ""))}
        zones = {getattr(tzp.timezone(name), "key", "") for name in named if name}
        return _File(events, recurring_ical_events.of(calendar), _rules(zones - {""}))
    except Refused:
        raise
    except Exception as error:
        raise _unreadable(error) from error


def _rules(zones: set[str]) -> str:
    """Return one digest over the data of some zones; empty for none."""
    if not zones:
        return ""
    known = "\n".join(f"{name} {cron.zone_rules(name)}" for name in sorted(zones))
    return sha256(known.encode()).hexdigest()[:_DIGITS]


def _unreadable(error: Exception) -> Refused:
    said = shortened(" ".join(str(error).split()), 100)
    return Refused(f"the file cannot be read: {said or type(error).__name__}", ALLOWED)


def _file_of(ical: Ical) -> _File:
    return _read(ical.content)


_FILES = Kept(_file_of)
