"""When something is closed: calendars in, the closed time that holds an instant out."""

from flowsched.blackouts.closures import MOST_CLOSED, Closure, closure, closures
from flowsched.blackouts.ical import check_ical, decode_ical
from flowsched.blackouts.public import check_holidays, holidays_version

__all__ = [
    "MOST_CLOSED",
    "Closure",
    "check_holidays",
    "check_ical",
    "closure",
    "closures",
    "decode_ical",
    "holidays_version",
]
