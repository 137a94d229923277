"""What somebody may not have meant by an expression that is well formed: uneven steps, two day fields."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise, product
from typing import TYPE_CHECKING

from flowsched.cron import words
from flowsched.cron.fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, Span, read

if TYPE_CHECKING:
    from flowsched.cron.fields import Field, Fields, Kind

_MINUTE = timedelta(minutes=1)
_MINUTES_A_DAY = 1_440
_LISTED = 12
_SHOWN_OF_MANY = 3
_LENGTHS = (28, 29, 30, 31)
"""Of months."""
_ROUNDS: dict[Kind, tuple[int, str, str]] = {
    MINUTE: (60, "minute", "hour"),
    HOUR: (24, "hour", "day"),
    MONTH: (12, "month", "year"),
    WEEKDAY: (7, "day", "week"),
}
"""How many values there are until a field begins anew, what one is called, and what they make together."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What an expression means, where it may not be what was meant."""

    message: str
    allowed: str


def uneven_steps(expression: str) -> list[Doubt]:
    """Return a doubt for each field whose steps are not all of one length.

    Looked at is a field that is a single stepped item and leaves no room in its range for one more value on
    either side, as `*/7` and `2-59/7`: `9-17/3` hours are a stretch of the day, and `9` to `15` all that they
    can be. And only where the field goes round and on: not minutes of single hours, as in `*/7 2 * * *`.
    """
    fields = read(expression)
    goes_on = {
        MINUTE: _has_neighbours(fields.hour, 24),
        HOUR: _days_follow(fields),
        DAY: _has_neighbours(fields.month, 12),
    }
    written = zip(
        fields.text.split(),
        (fields.minute, fields.hour, fields.day, fields.month, fields.weekday),
        strict=True,
    )
    doubts = (_uneven(text, field) for text, field in written if goes_on.get(field.kind, True))
    return [doubt for doubt in doubts if doubt]


def both_days(expression: str) -> Doubt | None:
    """Return a doubt where day-of-month and weekday are both set: to Debian's cron they are alternatives.

    Unless either begins with `*`: then both must match, which is as easily read otherwise.
    """
    fields = read(expression)
    if any(field.starred and field.full for field in (fields.day, fields.weekday)):
        return None
    _, _, day, _, weekday = fields.text.split()
    how = "a day that matches either is enough" if fields.either_day else "a day must match both"
    message = f"day-of-month {day!r} and weekday {weekday!r} are both set, and {how}: {words.explain(fields)}"
    return Doubt(message, "* for one of the two")


def times_of_day(expression: str) -> list[int]:
    """Return the times of the wall clock at which an expression fires on its days, in minutes, ascending."""
    fields = read(expression)
    return [60 * hour + minute for hour, minute in product(fields.hour.values, fields.minute.values)]


def shortest_gap(expression: str) -> timedelta:
    """Return the shortest time between two fires of an expression, clock changes left aside.

    Where no two days that follow one another have a fire, two days stand for all that is longer.
    """
    times = times_of_day(expression)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    follow = _days_follow(read(expression))
    gaps.append(times[0] - times[-1] + _MINUTES_A_DAY if follow else 2 * _MINUTES_A_DAY)
    return timedelta(minutes=min(gaps))


def goes_on(expression: str, change: timedelta) -> bool:
    """Tell whether the fires of an expression go on as the time does where the clock is set by `change`.

    So they do where every hour of the day is in it, the wall clock is followed, and the same minutes of the
    hour come before and after, as of a whole hour they always do.
    """
    fields = read(expression)
    by = change // _MINUTE
    minutes = fields.minute.values
    return (
        fields.hour.full and fields.wildcard_time and {(each + by) % 60 for each in minutes} == set(minutes)
    )


def every_day(expression: str) -> str:
    """Return the expression with the same times of the day, on every day."""
    minute, hour, *_ = read(expression).text.split()
    return f"{minute} {hour} * * *"


def _uneven(text: str, field: Field) -> Doubt | None:
    (*others, span) = field.items
    if others or not isinstance(span, Span) or span.step == 1 or not _fills_range(span, field.kind):
        return None
    if field.kind is DAY:
        return _uneven_days(text, span)
    size, unit, round_ = _ROUNDS[field.kind]
    values = field.values
    gaps = {value: (following - value - 1) % size + 1 for value, following in _cyclic(values)}
    odd = [(value, gap) for value, gap in gaps.items() if gap != span.step]
    if not odd:
        return None
    allowed = _even_steps(span.step, size, round_)
    if len(values) == 1:
        message = f"{field.kind.name} {text!r} is {values[0]} alone: the step is longer than the {round_}"
        return Doubt(message, allowed)
    value, gap = odd[0]
    length = f"{gap} {unit}" if gap == 1 else f"{gap} {unit}s"
    message = f"{field.kind.name} {text!r} is {_listed(values)}: the step after {value} is {length}"
    return Doubt(message, allowed)


def _uneven_days(text: str, span: Span) -> Doubt:
    """Return the doubt about a step over days, which no step divides in all months."""
    lasts = {length: max(day for day in span.values if day <= length) for length in _LENGTHS}
    gaps = sorted({length - last + span.first for length, last in lasts.items()})
    length = words.join(map(str, gaps), "or") + (" day" if gaps == [1] else " days")
    message = f"{DAY.name} {text!r} is {_listed(list(span.values))}: the step into the next month is {length}"
    return Doubt(message, "the days written out, or a weekday")


def _fills_range(span: Span, kind: Kind) -> bool:
    values = span.values
    return values[0] - span.step < kind.low and values[-1] + span.step > kind.high


def _cyclic(values: list[int]) -> list[tuple[int, int]]:
    return list(zip(values, values[1:] + values[:1], strict=True))


def _even_steps(step: int, size: int, round_: str) -> str:
    divisors = [each for each in range(2, size) if size % each == 0]
    near = [each for each in divisors if each < step][-1:] + [each for each in divisors if each > step][:1]
    if not near:
        return "the values written out"
    return f"a step that divides the {round_}, such as {words.join(map(str, near), 'or')}"


def _listed(values: list[int]) -> str:
    texts = [str(value) for value in values]
    if len(texts) > _LISTED:
        texts = [*texts[:_SHOWN_OF_MANY], "...", *texts[-2:]]
    return ", ".join(texts)


def _days_follow(fields: Fields) -> bool:
    """Tell whether two days that follow one another may both have a fire; not told apart by month."""
    if fields.either_day:
        return True
    return _has_neighbours(fields.day, 31) and _has_neighbours(fields.weekday, 7)


def _has_neighbours(field: Field, size: int) -> bool:
    values = set(field.values).union(nth.weekday for nth in field.nths if nth.weekday is not None)
    if field.kind is DAY:
        ends = {28, 29, 30, 31}
        last = bool(field.nths)
        if (1 in values and (last or values & ends)) or (last and values & {27, 28, 29, 30}):
            return True
    return any((value + 1 - field.kind.low) % size + field.kind.low in values for value in values)
