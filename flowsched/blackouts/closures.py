"""The closed time of a blackout, over all its calendars."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from flowsched import cron
from flowsched.blackouts.stretches import closed_between, closed_until

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from flowsched.model import Blackout, Calendar

MOST_CLOSED = timedelta(days=400)
"""How far ahead the end of a closed time is looked for."""


@dataclass(frozen=True, slots=True)
class Closure:
    """An unbroken stretch of closed time."""

    calendar: str
    """The first calendar of the blackout, in its order, that is closed at the instant asked about."""
    until: datetime | None
    """When it is open again, in UTC; None where it does not open within MOST_CLOSED."""


def closure(blackout: Blackout, timezone: str, at: datetime, rules: str = "") -> Closure | None:
    """Return the closed time that holds an instant; None where it is open then.

    Closed is while any of the calendars is, and what follows on without a gap belongs to it. `at` is aware; a
    closed time begins inclusively and ends exclusively. `timezone` and `rules` are those of the schedule's
    timing, for calendars without a zone of their own. Raises Refused where a calendar cannot be read, which
    `check_holidays` and `read_ical` find out beforehand.
    """
    at, zone = at.astimezone(UTC), cron.zone(timezone, rules)
    for calendar in blackout.calendars:
        until = closed_until(calendar, zone, at)
        if until is not None:
            return Closure(calendar.name, _opens(blackout.calendars, zone, until, at + MOST_CLOSED))
    return None


def closures(
    blackout: Blackout, timezone: str, begin: datetime, end: datetime, rules: str = ""
) -> list[tuple[datetime, datetime]]:
    """Return the closed times, from an instant to another, itself not included; ascending, in UTC.

    At least all that touch the span from `begin` to `end`, both in UTC. One that ends after the year of `end`
    may be cut off there: ask `closure`. Else as there.
    """
    return closed_between(blackout.calendars, cron.zone(timezone, rules), begin, end)


def _opens(
    calendars: tuple[Calendar, ...], zone: ZoneInfo, until: datetime, latest: datetime
) -> datetime | None:
    """Return when none of the calendars is closed any more; None where that is later than `latest`."""
    while until <= latest:
        ends = (closed_until(calendar, zone, until) for calendar in calendars)
        later = max((end for end in ends if end is not None), default=None)
        if later is None:
            return until
        until = later
    return None
