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
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flowsched.blackouts.ical_checks import ALLOWED, YEARS, check_events, check_lines
from flowsched.errors import Refused, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from flowsched.model import Ical

    Point = date | datetime
    """A day, for its first instant; a naive point, read on some wall clock; or an instant."""

_MOST_FILES = 256
"""That are kept as they were read."""


def decode_ical(content: bytes) -> str:
    """Return the text of a file. Raises Refused where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"byte {error.start + 1:,} of the file is not UTF-8", f"{ALLOWED}, in UTF-8") from None


def check_ical(text: str) -> None:
    """Raise Refused where a file cannot be used, with what is wrong in it."""
    years = {event["DTSTART"].dt.year for event in _read(text)[0]}
    for first in (datetime(year, 1, 1) for year in {min(years), max(years)}):  # noqa: DTZ001 - on any wall clock
        list(_occurrences(text, first, first.replace(month=12)))


def events_between(ical: Ical, first: datetime, last: datetime) -> Iterator[tuple[Point, Point]]:
    """Yield every event that touches a span between two naive points, read in the event's own zone.

    The second point of each is not included. Only years in YEARS are looked at. Raises Refused where the
    file cannot be used.
    """
    if first.year in YEARS and last.year in YEARS:
        yield from _occurrences(ical.content, first, last)


def _occurrences(text: str, first: datetime, last: datetime) -> Iterator[tuple[Point, Point]]:
    _, query = _read(text)
    try:
        found = query.between(first, last)
    except Exception as error:
        raise _unreadable(error) from error
    for event in found:
        if event.get("STATUS") != "CANCELLED":
            yield event["DTSTART"].dt, event["DTEND"].dt


@lru_cache(maxsize=_MOST_FILES)
def _read(text: str) -> tuple[list[Any], Any]:
    """Return the events of a file as they are written, and what tells when they are. Raises Refused."""
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
        return events, recurring_ical_events.of(calendar)
    except Refused:
        raise
    except Exception as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> Refused:
    said = shortened(" ".join(str(error).split()), 100)
    return Refused(f"the file cannot be read: {said or type(error).__name__}", ALLOWED)
