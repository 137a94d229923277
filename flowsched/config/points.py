"""Points in time as people write them: dates, and dates with a time of whole minutes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from flowsched import cron
from flowsched.errors import Refused, quoted

POINT_ALLOWED = (
    "a date as 2026-12-01, or a date and time of whole minutes as 2026-12-01T18:00, 2026-12-01T18:00Z "
    "or 2026-12-01T18:00+01:00"
)

_POINT = re.compile(r"\d{4}-\d\d-\d\d(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::00)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_YEARS = range(1970, 9999)
"""Far enough from the ends of the calendar for every zone."""
YEARS_ALLOWED = f"years from {_YEARS[0]} to {_YEARS[-1]}"


def point(text: str) -> datetime:
    """Read a point in time: in UTC where it has an offset; else naive, as some zone's clock shows it.

    A date is its midnight. Raises Refused.
    """
    if not _POINT.fullmatch(text):
        raise Refused(f"{quoted(text)} is not a date, nor a date and time of whole minutes", POINT_ALLOWED)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"{quoted(text)} is not on the calendar", POINT_ALLOWED) from None
    if read.year not in _YEARS:
        raise Refused(f"{quoted(text)} is out of range", YEARS_ALLOWED)
    return read.astimezone(UTC) if read.tzinfo else read


def settled(value: Any, zone: str) -> Any:
    """Return the instant of a point in a zone; what is no point, or is in UTC already, as it is.

    A time that the clock leaves out is the end of its gap, one that it shows twice the first of them.
    """
    if not isinstance(value, datetime) or value.tzinfo:
        return value
    return cron.instant(value, cron.zone(zone))
