"""When: a cron expression read on the wall clock of a time zone.

The expression is read as Debian's cron reads it, the library cronsim finds the wall-clock times that match,
and this module alone decides what becomes of them where a zone's clock is changed:

* A fixed time (neither minute nor hour begins with `*`) in a gap of the wall clock fires once, at the end of
  the gap; several of them there are one fire. In a repeated hour it fires once, the first time.
* Wildcard times follow the wall clock: what it never shows does not fire, what it shows twice fires twice.

That holds for every change of a zone's offset from UTC, of whatever size and cause. cronsim is given naive
times only. In a zone it counts whole hours of real time and so comes out of Lord Howe's half-hour changes at
half past: there `*/15 3 * * *` loses 03:00 and 03:15. In a repeated hour it can also answer with the past.
"""

from __future__ import annotations

from bisect import bisect
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim

from flowsched.cron import words
from flowsched.cron.blocks import blocks
from flowsched.cron.fields import LAST, read
from flowsched.errors import CronError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowsched.cron.blocks import Block, Horizon
    from flowsched.cron.fields import Field, Fields

_MINUTE = timedelta(minutes=1)
_LENGTHS = ((31,), (28, 29), (31,), (30,), (31,), (30,), (31,), (31,), (30,), (31,), (30,), (31,))
"""Of each month, the shortest first."""
_LONGEST_NAME = 100
_MOST_KEPT = 10_000
"""Expressions that were read; each is read again and again."""
_NO_PLACE = {"localtime", "Factory", "posixrules"}
"""Files beside the zones that mean whatever the machine is set to, or nothing."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A five-field cron expression; made by `parse`, equal where it is written the same."""

    expression: str
    """As it was written, but for blanks, which are single."""
    _fields: Fields = field(repr=False, compare=False)

    def fires(self, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
        """Yield the fire times strictly after `after`, strictly increasing, aware, in UTC.

        They do not depend on where between two of them `after` lies. `after` is aware, in any zone; a naive
        one raises ValueError. The times end with the calendar, in the year 9999.
        """
        if after.tzinfo is None:
            raise ValueError("after must be aware")
        return self._fires(zone, after.astimezone(UTC))

    def blocks(self, zone: ZoneInfo, horizon: Horizon) -> list[Block]:
        """Return the same fire times within a horizon, all at once; no two blocks share one.

        For instants since 1973, when the last zone came to be whole minutes off UTC.
        """
        return blocks(self._fields, zone, horizon)

    @property
    def written_out(self) -> str:
        """Its five fields, also where it was written as one of the `@names`."""
        return self._fields.text

    @property
    def follows_clock(self) -> bool:
        """Whether its times are wildcard times, which follow the wall clock through its changes."""
        return self._fields.wildcard_time

    def explain(self) -> str:
        """Say in plain English when the expression fires, on a wall clock that nobody changes."""
        return words.explain(self._fields)

    def _fires(self, zone: ZoneInfo, latest: datetime) -> Iterator[datetime]:
        with suppress(OverflowError):
            walls = CronSim(self._fields.text, _start(latest, zone))
            instants = _as_shown if self._fields.wildcard_time else _once_each
            for instant in instants(walls, zone):
                if instant > latest:
                    yield instant
                    latest = instant


@lru_cache(maxsize=_MOST_KEPT)
def parse(expression: str) -> Cron:
    """Read a five-field expression or one of the `@names`; names of all sorts in any case.

    Day-of-month and weekday are alternatives where both are restricted. They must both match where either
    begins with `*`, as in `0 0 */2 * 1`: Debian's rule. `fields` has the grammar.

    Raises CronError for the first fault, also where the expression is well formed but never fires.
    """
    folded = " ".join(expression.split())
    fields = read(folded)
    if not _ever_fires(fields):
        raise _never_fires(fields)
    return Cron(folded, fields)


def zone(name: str, rules: str = "") -> ZoneInfo:
    """Return the time zone of an IANA name, spelt exactly as IANA does, capitals too.

    It is the same all through a process, even where the machine gets new zone data meanwhile: zoneinfo
    itself forgets a zone that is not used for a while, and reads it again. With `rules`, a digest as
    `zone_rules` makes it, it is the zone of those data where this process has read them, else the usual one.

    Raises CronError, with near names, for any other text: paths and `localtime` included.
    """
    return _known_by_rules.get((name, rules)) or _usual_zone(name)


def know(name: str, rules: str) -> None:
    """Keep the zone of a name as that of `rules`: the digest of the data that it was read from."""
    _known_by_rules.setdefault((name, rules), _usual_zone(name))


def forget_usual_zones() -> None:
    """Have `zone` look for the data of each name anew; what it knows by rules stays."""
    _usual_zone.cache_clear()
    _zone_names.cache_clear()


_known_by_rules: dict[tuple[str, str], ZoneInfo] = {}


@cache
def _usual_zone(name: str) -> ZoneInfo:
    if name not in _zone_names():
        short = name[:_LONGEST_NAME]
        raise CronError(f"time zone {short!r} is unknown", _allowed_zones(short))
    try:
        return ZoneInfo(name)
    except Exception as error:
        # A damaged file makes zoneinfo raise whatever its reading ran into.
        raise CronError(f"time zone {name!r} cannot be read: {error}", "undamaged time zone data") from error


def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return when the clock of a zone shows a time, in UTC; `wall` is naive and a whole minute.

    As for a fixed time of an expression: the end of the gap where it never does, the first of two where it
    does twice.
    """
    return next(_once_each([wall], zone))


def _ever_fires(fields: Fields) -> bool:
    """Tell whether some date matches; each pair of date and weekday comes within 40 years.

    It is reckoned, as cronsim looks at every day of 50 years before it gives up on an expression.
    """
    if fields.either_day:
        return True  # every month has each weekday, and of some February the 29th is its fifth
    return any(
        _numbered_days(fields.day, length) & _weekdays(fields.weekday, length)
        for month in fields.month.values
        for length in _LENGTHS[month - 1]
    )


def _numbered_days(field: Field, length: int) -> set[int]:
    """Return the days that a day-of-month field means in a month of that length, had it them or not."""
    last = {length} if field.nths else set()
    return last.union(field.values)


def _weekdays(field: Field, length: int) -> set[int]:
    """Return the days of a month of that length that a weekday field matches in one year or another."""
    if field.spans:
        return set(range(1, length + 1))
    firsts = (length - 6 if nth.number == LAST else 7 * nth.number - 6 for nth in field.nths)
    return {day for first in firsts for day in range(first, first + 7) if day <= length}


def _never_fires(fields: Fields) -> CronError:
    days, months = fields.day.values, fields.month.values
    longest = max(_LENGTHS[month - 1][-1] for month in months)
    if days and min(days) > longest:
        verb = "has" if len(months) == 1 else "have"
        missing = words.join(map(str, days), "or")
        reason = f"{words.months(fields.month)} {verb} no day {missing}"
        return CronError(f"never fires: {reason}", f"1-{longest}, or L for the last day")
    _, _, day, _, weekday = fields.text.split()
    reason = f"day-of-month {day!r} and weekday {weekday!r} never fall together"
    return CronError(f"never fires: {reason}", "day fields that some date matches both of")


def _start(after: datetime, zone: ZoneInfo) -> datetime:
    """Return a wall-clock time that comes before everything the zone's clock shows after an instant.

    Within a repeated hour that lies before what the clock shows at the instant itself: it will be set back.
    """
    wall = after.astimezone(zone).replace(tzinfo=None)
    first, second = _readings(wall, zone)
    return wall - (second - first)


def _once_each(walls: Iterable[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Yield one instant for each time: the first at which the clock shows it, or the end of its gap."""
    for wall in walls:
        first, second = _readings(wall, zone)
        yield first if first <= second else _change_between(second, first, zone)


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the first whole minute later than `before` at which the zone's new offset holds."""
    old = before.astimezone(zone).utcoffset()

    def changed(minutes: int) -> bool:
        return (before + minutes * _MINUTE).astimezone(zone).utcoffset() != old

    return before + bisect(range((after - before) // _MINUTE), x=False, key=changed) * _MINUTE


def _as_shown(walls: Iterable[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Yield each instant at which the clock shows one of the times: none in a gap, two in a repeated hour.

    The times are without end but for that of the calendar, when no clock is changed.
    """
    repeats: deque[datetime] = deque()
    for wall in walls:
        first, second = _readings(wall, zone)
        if second < first:
            continue
        while repeats and repeats[0] < first:
            yield repeats.popleft()
        yield first
        if first < second:
            repeats.append(second)


def _readings(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the two instants that a wall-clock time may mean (PEP 495).

    They are equal on most days; the second is later in a repeated hour, and earlier in a gap, where neither
    shows that time.
    """
    local = wall.replace(tzinfo=zone, fold=0)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_PLACE)


def _allowed_zones(name: str) -> str:
    near = _near_zones(name)
    hint = f" (did you mean {words.join(near, 'or')}?)" if near else ""
    return f"an IANA name such as Europe/Berlin or UTC{hint}"


def _near_zones(name: str) -> list[str]:
    """Return up to three names: the same place or the same but for case, else those that look alike."""
    wanted = name.lower().replace(" ", "_")
    same = [
        known
        for known in sorted(_zone_names())
        if wanted in {known.lower(), known.lower().rpartition("/")[2]}
    ]
    lower = {known.lower(): known for known in sorted(_zone_names())}
    return same[:3] or [lower[near] for near in get_close_matches(wanted, lower, n=3, cutoff=0.75)]
