"""Whether two blackouts do the same."""

from __future__ import annotations

from dataclasses import astuple
from hashlib import sha256
from typing import TYPE_CHECKING

from flowsched.blackouts.kept import Kept
from flowsched.blackouts.public import holidays_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.model import Blackout, Calendar

_DIGITS = 16


def digest(blackout: Blackout | None) -> str:
    """Return 16 hex digits over all that decides when a blackout is closed and what it does; empty for none.

    Names, descriptions and places in files are left out, and so is the order of the calendars. The data of
    zones, and the version of `holidays` where they are used, count; those of the zone of a schedule, for
    calendars without their own, belong to its timing. Raises Refused where that version cannot be had.
    """
    if blackout is None:
        return ""
    return _digest(blackout.then.value, *sorted(map(_OF_CALENDARS.of, blackout.calendars)))


def _of_calendar(calendar: Calendar) -> str:
    return _digest(*_entries(calendar))


def _entries(calendar: Calendar) -> Iterator[str]:
    """Yield what decides when a calendar is closed, in words that differ."""
    yield f"zone {calendar.timezone} {calendar.rules}"
    for part in ("days", "spans", "yearly", "weekly", "holidays"):
        yield from sorted(f"{part} {astuple(entry)}" for entry in getattr(calendar, part))
    yield from sorted(f"ical {ical.rules} {_digest(ical.content)}" for ical in calendar.ical)
    if calendar.holidays:
        yield f"version {holidays_version()}"


def _digest(*words: str) -> str:
    return sha256("\n".join(words).encode()).hexdigest()[:_DIGITS]


_OF_CALENDARS = Kept(_of_calendar)
