"""Durations as people write them: `30s`, `15m`, `2h`, `1h30m`, `400d`."""

from __future__ import annotations

import re
from datetime import timedelta

from flowsched.errors import Refused, quoted

ALLOWED = 'whole numbers with the units d, h, m and s, the largest first, such as "30s", "15m" or "1h30m"'

_SHAPE = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read a duration in days, hours, minutes and seconds; a day is 24 hours.

    Raises Refused, a FlowschedError, for anything else. A bare number is refused too: nobody knows its unit.
    """
    match = _SHAPE.fullmatch(text)
    if not text or not match:
        raise Refused(_why(text), ALLOWED)
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def format_duration(span: timedelta) -> str:
    """Write a span of zero or more as `parse_duration` reads it; a part of a second is left out."""
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def between(text: str, least: timedelta, most: timedelta) -> timedelta:
    """Read a duration that lies within two others, both inclusive. Raises Refused."""
    span = parse_duration(text)
    if span < least:
        raise Refused(f"{quoted(text)} is too short", allowed_between(least, most))
    if span > most:
        raise Refused(f"{quoted(text)} is too long", allowed_between(least, most))
    return span


def allowed_between(least: timedelta, most: timedelta) -> str:
    """Say which durations `between` takes."""
    return f"a duration from {format_duration(least)} to {format_duration(most)}"


def _why(text: str) -> str:
    if text.isdecimal():
        return f'{quoted(text)} has no unit; write "{text}s" for seconds'
    return f"{quoted(text)} is not a duration"
