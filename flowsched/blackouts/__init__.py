"""When something is closed: calendars in, the closed time that holds an instant out."""

from flowsched.blackouts.closures import MOST_CLOSED, Closure, closure, closures
from flowsched.blackouts.digests import digest
from flowsched.blackouts.ical import read_ical
from flowsched.blackouts.public import check_holidays, holidays_version

__all__ = [
    "MOST_CLOSED",
    "Closure",
    "check_holidays",
    "closure",
    "closures",
    "digest",
    "holidays_version",
    "read_ical",
]
