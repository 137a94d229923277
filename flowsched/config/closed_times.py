"""The closed times of a calendar as people write them, item by item."""

from __future__ import annotations

import re
from datetime import date, time
from typing import TYPE_CHECKING, TypeVar

from flowsched.config.points import YEARS_ALLOWED, point
from flowsched.errors import Refused, quoted
from flowsched.model import Days, Span, WeeklyWindow, YearlyDays
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

_End = TypeVar("_End")

DATES_ALLOWED = (
    "a date as 2026-12-24, dates as 2026-12-27..2026-12-31, or times as 2026-12-24T18:00..2026-12-25T06:00"
)
YEARLY_ALLOWED = "a day as 12-25, or days as 12-24..01-01"
WEEKLY_ALLOWED = (
    "weekdays as SUN or SAT..SUN, or times as FRI 22:00..MON 06:00; for hours of each day an entry a weekday"
)

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

_BETWEEN = ".."
_YEARLY = re.compile(r"(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_A_LEAP_YEAR = 2000


def dates(text: str) -> Days | Span:
    """Read days, or a stretch between two points in time. Raises Refused."""
    first, last = _two(text, point, DATES_ALLOWED)
    timed = ["T" in end for end in text.split(_BETWEEN)]
    if len(set(timed)) > 1 or first.tzinfo != last.tzinfo:
        raise Refused(f"the two ends of {quoted(text)} are not written alike", DATES_ALLOWED)
    if timed == [True]:
        raise Refused(f"{quoted(text)} is one point in time", DATES_ALLOWED)
    if not any(timed):
        if last < first:
            raise Refused(f"{quoted(text)} ends before it begins", DATES_ALLOWED)
        return Days(first.date(), last.date())
    if last <= first:
        raise Refused(f"{quoted(text)} does not end later than it begins", DATES_ALLOWED)
    return Span(first, last)


def yearly(text: str) -> YearlyDays:
    """Read days that come every year. Raises Refused."""
    return YearlyDays(*_two(text, _day_of_year, YEARLY_ALLOWED))


def weekly(text: str) -> WeeklyWindow:
    """Read whole weekdays, or a stretch between two points of the week. Raises Refused."""
    (first, start), (last, end) = _two(text, _point_of_week, WEEKLY_ALLOWED)
    if start is None and end is None:
        return WeeklyWindow(first, time(), (last + 1) % len(WEEKDAYS), time())
    if _BETWEEN not in text:
        raise Refused(f"{quoted(text)} is one point in time", WEEKLY_ALLOWED)
    if start is None or end is None:
        raise Refused(f"{quoted(text)} lacks a time", WEEKLY_ALLOWED)
    if (first, start) == (last, end):
        raise Refused(f"{quoted(text)} ends when it begins", f"{WEEKLY_ALLOWED}; MON..SUN for the whole week")
    return WeeklyWindow(first, start, last, end)


def _two(text: str, read: Callable[[str], _End], allowed: str) -> tuple[_End, _End]:
    """Return both ends of a stretch; what has only one is both."""
    first, between, last = text.partition(_BETWEEN)
    if not first or bool(last) != bool(between):
        raise Refused(f"{quoted(text)} lacks an end", allowed)
    try:
        return read(first), read(last if between else first)
    except Refused as refused:
        of_years = refused.allowed == YEARS_ALLOWED
        raise Refused(refused.message, refused.allowed if of_years else allowed) from None


def _day_of_year(text: str) -> tuple[int, int]:
    found = _YEARLY.fullmatch(text)
    if not found:
        raise Refused(f"{quoted(text)} is not a month and a day", YEARLY_ALLOWED)
    month, day = int(found[1]), int(found[2])
    try:
        date(_A_LEAP_YEAR, month, day)
    except ValueError:
        raise Refused(f"{quoted(text)} is not on the calendar", YEARLY_ALLOWED) from None
    return month, day


def _point_of_week(text: str) -> tuple[int, time | None]:
    name, blank, clock = text.partition(" ")
    if name.upper() not in WEEKDAYS:
        hint = did_you_mean(name, WEEKDAYS)
        raise Refused(f"{quoted(name)} is not a weekday{hint}", WEEKLY_ALLOWED)
    found = _TIME.fullmatch(clock)
    if blank and not found:
        raise Refused(f"{quoted(clock)} is not a time of whole minutes", WEEKLY_ALLOWED)
    return WEEKDAYS.index(name.upper()), time(int(found[1]), int(found[2])) if found else None
