"""A calendar of closed times in the words of the file that it stands in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Calendar, Holidays, WeeklyWindow

_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_LISTED = 4


def calendar_words(calendar: Calendar) -> str:
    """Return its parts, the first few of each kind, as a schedule file writes them."""
    parts = (
        ("", [_stretch(each.first.isoformat(), each.last.isoformat()) for each in calendar.days]),
        ("", [_stretch(_point(each.start), _point(each.end)) for each in calendar.spans]),
        ("yearly ", [_stretch(_day(each.first), _day(each.last)) for each in calendar.yearly]),
        ("weekly ", [_weekly(each) for each in calendar.weekly]),
        ("holidays of ", [_holidays(each) for each in calendar.holidays]),
        ("", [each.file for each in calendar.ical]),
    )
    zone = f" ({calendar.timezone})" if calendar.timezone else ""
    return "; ".join(before + _few(told) for before, told in parts if told) + zone


def _few(told: list[str]) -> str:
    more = f" and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
    return ", ".join(told[:_LISTED]) + more


def _stretch(first: str, last: str) -> str:
    return first if first == last else f"{first}..{last}"


def _point(point: datetime) -> str:
    text = point.isoformat(timespec="minutes")
    return text.replace("+00:00", "Z")


def _day(day: tuple[int, int]) -> str:
    month, number = day
    return f"{month:02}-{number:02}"


def _weekly(window: WeeklyWindow) -> str:
    start, end = _WEEKDAYS[window.start_day], _WEEKDAYS[window.end_day]
    return f"{start} {window.start:%H:%M}..{end} {window.end:%H:%M}"


def _holidays(holidays: Holidays) -> str:
    return "-".join(filter(None, (holidays.country, holidays.subdivision)))
