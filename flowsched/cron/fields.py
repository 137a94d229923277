"""Reads the five fields of a cron expression, and says what is wrong with them.

The grammar is that of Debian's crontab(5), with `L` and `#`:

    field  = item {"," item}
    item   = "*" ["/" step] | value ["/" step] | value "-" value ["/" step]
           | "L"                              in day-of-month: the last day
           | value "L" | value "#" nth        in weekday: the last, the nth of the month

`value/step` runs to the end of the field's range. A step longer than the range is legal, as it is to
Debian: it leaves the first value alone, so `*/90` minutes is minute 0 of every hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import NoReturn

from flowsched.errors import CronError

LAST = -1
"""The number of the last one in a month; the others count from 1."""

_FIVE_FIELDS = "five fields: minute hour day-of-month month weekday"
_LONGEST = 500
_MOST_KEPT = 1_000
"""Fields that were read: thousands of expressions share them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one of the five fields may hold; `low` and `high` are inclusive."""

    name: str
    low: int
    high: int
    allowed: str
    names: tuple[str, ...] = ()
    """Names of the values from `low` upwards, in capitals."""


MINUTE = Kind("minute", 0, 59, "0-59")
HOUR = Kind("hour", 0, 23, "0-23")
DAY = Kind("day-of-month", 1, 31, "1-31, or L for the last day")
MONTH = Kind(
    "month",
    1,
    12,
    "1-12 or JAN-DEC",
    ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
)
WEEKDAY = Kind(
    "weekday",
    0,
    7,
    "0-7 or SUN-SAT (0 and 7 are Sunday), 5L for the last Friday, 5#2 for the second Friday",
    ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"),
)

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Span:
    """Every `step`th value from `first` to `last`, both inclusive."""

    first: int
    last: int
    step: int = 1

    @property
    def values(self) -> range:
        """What the span holds, upwards."""
        return range(self.first, self.last + 1, self.step)


@dataclass(frozen=True, slots=True)
class Nth:
    """The `number`th such day of a month, or the `LAST`; of any weekday where `weekday` is None."""

    number: int
    weekday: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field as it was written, read."""

    kind: Kind
    starred: bool
    """Begins with `*`: to Debian's cron a mark of its own, whatever else the field holds."""
    items: tuple[Span | Nth, ...]

    @property
    def spans(self) -> list[Span]:
        """The items that are plain values, ranges and steps."""
        return [item for item in self.items if isinstance(item, Span)]

    @property
    def nths(self) -> list[Nth]:
        """The items that are counted within a month."""
        return [item for item in self.items if isinstance(item, Nth)]

    @property
    def values(self) -> list[int]:
        """All that `spans` hold, upwards and once each; Sunday is 0."""
        values = {value for span in self.spans for value in span.values}
        return sorted({value % 7 for value in values} if self.kind is WEEKDAY else values)

    @property
    def full(self) -> bool:
        """Whether every value of the field is in it."""
        return len(self.values) == (7 if self.kind is WEEKDAY else self.kind.high - self.kind.low + 1)


@dataclass(frozen=True, slots=True)
class Fields:
    """The five fields of an expression."""

    text: str
    """The fields as they were written; for one of the `@names`, what it stands for."""
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def either_day(self) -> bool:
        """Whether one of the two day fields is enough: so where neither begins with `*`, as Debian has it."""
        return not (self.day.starred or self.weekday.starred)

    @property
    def wildcard_time(self) -> bool:
        """Whether minute or hour begins with `*`, so that the times follow the wall clock."""
        return self.minute.starred or self.hour.starred


def read(expression: str) -> Fields:
    """Read five fields parted by blanks, or one of `ALIASES` in any case.

    Raises CronError for the first fault, from left to right.
    """
    if len(expression) > _LONGEST:
        raise CronError(f"the expression has {len(expression)} characters", f"at most {_LONGEST}")
    text = _spell_out(expression)
    fields = text.split()
    _check_count(len(fields))
    kinds = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)
    return Fields(text, *(_field(kind, field) for kind, field in zip(kinds, fields, strict=True)))


def _spell_out(expression: str) -> str:
    if not expression.startswith("@"):
        return expression
    name = expression.lower()
    if name == "@reboot":
        raise CronError("'@reboot' is not a time: a restart triggers no flow", _allowed_names(name))
    if name not in ALIASES:
        raise CronError(f"{expression!r} is not a known name", _allowed_names(name))
    return ALIASES[name]


def _allowed_names(name: str) -> str:
    near = get_close_matches(name, ALIASES, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{', '.join(ALIASES)}{hint}, or {_FIVE_FIELDS}"


def _check_count(count: int) -> None:
    if count == 0:
        raise CronError("the expression is empty", _FIVE_FIELDS)
    if count == 6:  # noqa: PLR2004 - the one number of fields that some other schedulers take
        raise CronError("six fields where cron has five: seconds are not supported", _FIVE_FIELDS)
    if count != 5:  # noqa: PLR2004 - cron has five
        fields = "one field" if count == 1 else f"{count} fields"
        raise CronError(f"{fields} where cron has five", _FIVE_FIELDS)


@lru_cache(maxsize=_MOST_KEPT)
def _field(kind: Kind, text: str) -> Field:
    if "" in text.split(","):
        _refuse(kind, text, "has an empty item in its list")
    return Field(kind, text.startswith("*"), tuple(_item(kind, item) for item in text.split(",")))


def _item(kind: Kind, text: str) -> Span | Nth:
    _refuse_foreign(kind, text)
    if kind is DAY and "L" in text.upper():
        return _last_day(text)
    if kind is WEEKDAY and "#" in text:
        return _nth_weekday(text)
    if kind is WEEKDAY and text.upper().endswith("L"):
        return _last_weekday(text)
    return _span(kind, text)


def _refuse_foreign(kind: Kind, text: str) -> None:
    upper = text.upper()
    if "?" in text:
        _refuse(kind, text, "is not cron: '?' is other schedulers' word for '*'", f"*, or {kind.allowed}")
    if upper.startswith("H"):
        _refuse(kind, text, "is not cron: 'H' is another scheduler's word for any one value")
    if kind is DAY and upper.endswith("W"):
        _refuse(kind, text, "is not supported: 'W' is other schedulers' word for the nearest working day")


def _last_day(text: str) -> Nth:
    if text.upper() != "L":
        _refuse(DAY, text, "is not a day: L stands alone, without number, range or step")
    return Nth(LAST)


def _last_weekday(text: str) -> Nth:
    digits = text[:-1]
    if not _is_number(digits):
        _refuse(WEEKDAY, text, "needs the number of a weekday before the L")
    return Nth(LAST, _value(WEEKDAY, digits, text) % 7)


def _nth_weekday(text: str) -> Nth:
    weekday, _, number = text.partition("#")
    if number not in {"1", "2", "3", "4", "5"}:
        _refuse(WEEKDAY, text, "is in no month", "#1 to #5, or L for the last, as in 5L")
    return Nth(int(number), _value(WEEKDAY, weekday, text) % 7)


def _span(kind: Kind, text: str) -> Span:
    base, slash, step = text.partition("/")
    first, last = _range(kind, base, text)
    if not slash:
        return Span(first, last)
    if "-" in base and first == last:
        # Debian takes the one value, cronsim goes on to the end of the field.
        _refuse(kind, text, "has a step over a single value", f"{first}, or {first}/{step} to go on from it")
    if first == last:
        last = kind.high
    return Span(first, last, _step(kind, text, step))


def _range(kind: Kind, text: str, item: str) -> tuple[int, int]:
    if text == "*":
        return kind.low, kind.high
    lower, dash, upper = text.partition("-")
    first = _value(kind, lower, item)
    last = _value(kind, upper, item) if dash else first
    if last < first:
        _refuse(
            kind, text, "runs backwards", f"a range that goes up, or two: {_unwrapped(kind, lower, upper)}"
        )
    return first, last


def _unwrapped(kind: Kind, lower: str, upper: str) -> str:
    """Return the two ranges that a backward range was meant as, in names where it had them."""
    named = bool(kind.names) and not _is_number(lower)
    highest = 6 if kind is WEEKDAY else kind.high
    top = kind.names[-1] if named else str(highest)
    bottom = kind.names[0] if named else str(kind.low)
    ranges = ((lower, top), (bottom, upper))
    return ",".join(a if a.upper() == b.upper() else f"{a}-{b}" for a, b in ranges)


def _step(kind: Kind, text: str, step: str) -> int:
    if not _is_number(step):
        _refuse(kind, text, f"has {step!r} for a step", "a step of 1 or more")
    if int(step) == 0:
        _refuse(kind, text, "has a step of 0", "a step of 1 or more")
    return int(step)


def _value(kind: Kind, text: str, item: str) -> int:
    if text.upper() in kind.names:
        return kind.low + kind.names.index(text.upper())
    if not _is_number(text):
        _refuse(kind, text or item, "is neither a number nor a name" if kind.names else "is not a number")
    if not kind.low <= int(text) <= kind.high:
        _refuse(kind, text, "is out of range")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _refuse(kind: Kind, text: str, wrong: str, allowed: str | None = None) -> NoReturn:
    raise CronError(f"{kind.name} {text!r} {wrong}", allowed or kind.allowed)
