"""Says in plain English when the five fields of a cron expression match."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from flowsched.cron.fields import LAST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flowsched.cron.fields import Field, Fields, Span

_LISTED_TIMES = 6
_LISTED_STEPS = 3
_RANGE_OF_ANY_LENGTH = 3

_MONTHS = {
    1: "January",
    2: "February",
    3: "March",
    4: "April",
    5: "May",
    6: "June",
    7: "July",
    8: "August",
    9: "September",
    10: "October",
    11: "November",
    12: "December",
}
_WEEKDAYS = {
    0: "Sunday",
    1: "Monday",
    2: "Tuesday",
    3: "Wednesday",
    4: "Thursday",
    5: "Friday",
    6: "Saturday",
    7: "Sunday",
}
_COUNTED = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_ORDINAL_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


def explain(fields: Fields) -> str:
    """Return one sentence without its full stop, as `At 02:30 every day`, in times of the wall clock."""
    times, dates = _times(fields), _dates(fields)
    if fields.hour.full:
        dates = dates.removeprefix("every day").lstrip()
    listed = ":" in times
    sentence = times + (" " if listed else ", ") + dates if dates else times
    return sentence[0].upper() + sentence[1:]


def months(field: Field) -> str:
    """Return the names of the months in a field, as `March and June to August`."""
    return join(_names(field, _MONTHS))


def join(words: Iterable[str], last: str = "and") -> str:
    """Return `a, b and c`, with another word before the last where one is given; `words` has at least one."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def _times(fields: Fields) -> str:
    minute, hour = fields.minute, fields.hour
    if len(minute.values) * len(hour.values) <= _LISTED_TIMES:
        return f"at {join(f'{h:02}:{m:02}' for h, m in product(hour.values, minute.values))}"
    minutes = _minutes(minute)
    if not hour.full:
        return f"{minutes} of {_numbers(hour)}"
    return minutes if minutes.startswith("every") else f"{minutes} of every hour"


def _minutes(field: Field) -> str:
    if field.full:
        return "every minute"
    step = _even_step(field)
    return f"every {step} minutes" if step else f"at {_numbers(field)}"


def _even_step(field: Field) -> int | None:
    """Return the step that goes round the field's range and on without a break; None where there is none."""
    span, size = field.spans[0], field.kind.high + 1
    even = len(field.items) == 1 and span.values[0] == 0 and span.values[-1] + span.step == size
    return span.step if even and len(span.values) > 1 else None


def _dates(fields: Fields) -> str:
    day, weekday, month = fields.day, fields.weekday, fields.month
    any_day = day.full or weekday.full if fields.either_day else day.full and weekday.full
    if any_day:
        return "every day" if month.full else f"every day in {months(month)}"
    if weekday.full:
        return f"on {_days(day)} of {_of(month)}"
    if day.full:
        return f"on {_weekdays(weekday, month)}"
    days = f"on {_days(day)} of {_of(month)}"
    if fields.either_day:
        return f"{days} and also on {_weekdays(weekday, month)}"
    return f"{days} if it is {join(_weekday_names(weekday), 'or')}"


def _of(month: Field) -> str:
    return "the month" if month.full else months(month)


def _days(field: Field) -> str:
    numbered = [_numbers(field)] if field.spans else []
    return join(numbered + _counted(field))


def _weekdays(field: Field, month: Field) -> str:
    named = join(_weekday_names(field))
    if field.nths:
        return f"{named} of {_of(month)}"
    return named if month.full else f"{named} in {months(month)}"


def _weekday_names(field: Field) -> list[str]:
    return _names(field, _WEEKDAYS) + _counted(field)


def _counted(field: Field) -> list[str]:
    days = ("day" if nth.weekday is None else _WEEKDAYS[nth.weekday] for nth in field.nths)
    return [f"the {_COUNTED[nth.number]} {day}" for nth, day in zip(field.nths, days, strict=True)]


def _names(field: Field, names: dict[int, str]) -> list[str]:
    parts = [part for span in field.spans for part in _unless_range(span, names.__getitem__)]
    return list(dict.fromkeys(parts))


def _numbers(field: Field) -> str:
    """Return `minute 5`, `minutes 5 and 10 to 20`, or `every 7th minute from 0 to 56`."""
    noun = "day" if field.kind.name == "day-of-month" else field.kind.name
    if len(field.spans) == 1 and _long_step(field.spans[0]):
        return _stepped(field.spans[0], f" {noun}")
    parts = [part for span in field.spans for part in _number_parts(span)]
    plural = "s" if len(field.values) > 1 else ""
    return f"{noun}{plural} {join(dict.fromkeys(parts))}"


def _number_parts(span: Span) -> list[str]:
    return [_stepped(span)] if _long_step(span) else _unless_range(span, str)


def _long_step(span: Span) -> bool:
    return span.step > 1 and len(span.values) > _LISTED_STEPS


def _stepped(span: Span, noun: str = "") -> str:
    return f"every {_ordinal(span.step)}{noun} from {span.values[0]} to {span.values[-1]}"


def _unless_range(span: Span, name: Callable[[int], str]) -> list[str]:
    """Return every value by its name, or one `a to b` for a run of three or more."""
    named = [name(value) for value in span.values]
    if span.step == 1 and len(named) >= _RANGE_OF_ANY_LENGTH:
        return [f"{named[0]} to {named[-1]}"]
    return named


def _ordinal(number: int) -> str:
    teen = number % 100 in {11, 12, 13}
    return f"{number}{'th' if teen else _ORDINAL_ENDINGS.get(number % 10, 'th')}"
