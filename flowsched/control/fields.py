"""What a request asks for, read strictly: a field each, with what is wrong and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from flowsched.errors import Refused, quoted
from flowsched.near import did_you_mean

Body = Mapping[str, object]
T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

LONGEST_LINE = 500
"""Characters of a reason, or of a name."""

_NUMBER = re.compile(r"[0-9]{1,18}")
_STAMP_ALLOWED = "ISO 8601 with an offset, as 2026-11-21T02:30:00Z"


def required(body: Body, name: str, read: Callable[[str, object], T]) -> T:
    """Return a field that must be there. Raises Refused."""
    if body.get(name) is None:
        raise Refused(f"{name} is missing", f"a field {name}")
    return read(name, body[name])


def optional(body: Body, name: str, read: Callable[[str, object], T]) -> T | None:
    """Return a field; None where it is absent or null. Raises Refused."""
    return None if body.get(name) is None else read(name, body[name])


def refuse_others(body: Body, known: frozenset[str]) -> None:
    """Raise Refused for a field that nobody reads: whoever wrote it meant something by it."""
    for name in body:
        if name not in known:
            allowed = ", ".join(sorted(known)) or "no field"
            raise Refused(f"{quoted(name)} is no field here{did_you_mean(name, known)}", allowed)


def line(name: str, value: object) -> str:
    """Read one line of text that says something."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isprintable() or len(text) > LONGEST_LINE:
        raise Refused(f"{name} is {_shown(value)}", f"one line of 1 to {LONGEST_LINE} printable characters")
    return text


def instant(name: str, value: object) -> datetime:
    """Read an instant with an offset."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Refused(f"{name} is {_shown(value)}", _STAMP_ALLOWED)


def number(least: int, most: int) -> Callable[[str, object], int]:
    """Return what reads a whole number, also one written in digits, as a query has it."""

    def read(name: str, value: object) -> int:
        found = int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
            raise Refused(f"{name} is {_shown(value)}", f"a whole number from {least} to {most}")
        return found

    return read


def one_of(*members: E) -> Callable[[str, object], E]:
    """Return what reads one of these."""

    def read(name: str, value: object) -> E:
        for member in members:
            if value == member.value:
                return member
        raise Refused(f"{name} is {_shown(value)}", ", ".join(member.value for member in members))

    return read


def yes_or_no(name: str, value: object) -> bool:
    """Read true or false, also as a query has it."""
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise Refused(f"{name} is {_shown(value)}", "true, false")


def _shown(value: object) -> str:
    return quoted(value) if isinstance(value, str) else f"of the type {type(value).__name__}"
