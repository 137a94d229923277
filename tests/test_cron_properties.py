"""What holds for every expression and zone, and two independent judges of the fire times.

The first judge, `minute_by_minute`, walks real time and looks at the clock on the wall. It knows nothing of
cronsim. The second is cronsim itself, where no clock is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched import cron
from flowsched.errors import CronError
from tests.test_cron import CHANGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)

STEADY = settings(derandomize=True, max_examples=150)
"""The same examples on every machine, and no test that fails for being slow."""


@dataclass(frozen=True)
class Part:
    """A field as text, and the values that it was made from."""

    text: str
    values: frozenset[int]

    @property
    def starred(self) -> bool:
        return self.text.startswith("*")


@dataclass(frozen=True)
class Drawn:
    """An expression, and what it means."""

    minute: Part
    hour: Part
    day: Part
    month: Part
    weekday: Part

    @property
    def text(self) -> str:
        return " ".join(part.text for part in (self.minute, self.hour, self.day, self.month, self.weekday))

    @property
    def wildcard(self) -> bool:
        return self.minute.starred or self.hour.starred

    def matches(self, wall: datetime) -> bool:
        in_days = wall.day in self.day.values
        in_weekdays = wall.isoweekday() % 7 in {value % 7 for value in self.weekday.values}
        both = self.day.starred or self.weekday.starred
        return (
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and wall.month in self.month.values
            and (in_days and in_weekdays if both else in_days or in_weekdays)
        )


def parts(low: int, high: int) -> st.SearchStrategy[Part]:
    """Any field over a range of values, `*` more often than not."""
    everything = frozenset(range(low, high + 1))
    value = st.integers(low, high)
    star = st.just(Part("*", everything))
    steps = st.integers(1, high + 2).map(lambda n: Part(f"*/{n}", frozenset(range(low, high + 1, n))))
    lists = st.lists(value, min_size=1, max_size=3).map(lambda v: Part(",".join(map(str, v)), frozenset(v)))
    ends = st.tuples(value, value).filter(lambda pair: pair[0] < pair[1])
    ranges = ends.map(lambda p: Part(f"{p[0]}-{p[1]}", frozenset(range(p[0], p[1] + 1))))
    stepped = st.tuples(ends, st.integers(1, 9)).map(
        lambda d: Part(f"{d[0][0]}-{d[0][1]}/{d[1]}", frozenset(range(d[0][0], d[0][1] + 1, d[1])))
    )
    return st.one_of(star, steps, lists, ranges, stepped)


def mostly_any(low: int, high: int) -> st.SearchStrategy[Part]:
    star = st.just(Part("*", frozenset(range(low, high + 1))))
    return st.one_of(star, star, star, parts(low, high))


def expressions(months: st.SearchStrategy[Part]) -> st.SearchStrategy[Drawn]:
    return st.builds(Drawn, parts(0, 59), parts(0, 23), mostly_any(1, 31), months, mostly_any(0, 7))


def fires(text: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """The fire times of an expression; none of one that is refused, which is right where it never fires."""
    try:
        return cron.parse(text).fires(zone, after)
    except CronError as error:
        if not error.message.startswith("never fires"):
            raise
        return iter(())


def fires_until(text: str, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """All fire times after one instant, up to another and including it."""
    return list(takewhile(lambda time: time <= until, fires(text, zone, after)))


def minute_by_minute(drawn: Drawn, zone: ZoneInfo, start: datetime, until: datetime) -> list[datetime]:
    """Watch the clock on the wall for every real minute after `start`, up to `until` and including it."""
    found = []
    last = start.astimezone(zone).replace(tzinfo=None)
    shown = {last}
    for count in range(1, (until - start) // MINUTE + 1):
        instant = start + count * MINUTE
        wall = instant.astimezone(zone).replace(tzinfo=None)
        left_out = [last + n * MINUTE for n in range(1, (wall - last) // MINUTE)]
        if drawn.wildcard:
            fire = drawn.matches(wall)
        else:
            fire = any(map(drawn.matches, left_out)) or (wall not in shown and drawn.matches(wall))
        if fire:
            found.append(instant)
        shown.add(wall)
        last = wall
    return found


ANY_EXPRESSION = expressions(mostly_any(1, 12))
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ZONES = st.sampled_from(sorted({zone for zone, *_ in CHANGES} | {"UTC", "Asia/Kathmandu"})).map(cron.zone)


@pytest.mark.parametrize(("name", "instant"), [(zone, instant) for zone, instant, *_ in CHANGES])
@settings(STEADY, max_examples=25)
@given(drawn=ANY_EXPRESSION, lead=st.integers(121, 360))
def test_around_a_change_of_the_clock_fires_are_what_a_watcher_sees(
    name: str, instant: str, drawn: Drawn, lead: int
) -> None:
    zone, change = cron.zone(name), datetime.fromisoformat(instant)
    start, until = change - lead * MINUTE, change + timedelta(hours=5)

    assert fires_until(drawn.text, zone, start, until) == minute_by_minute(drawn, zone, start, until)


@pytest.mark.parametrize(("name", "instant"), [(zone, instant) for zone, instant, *_ in CHANGES])
@settings(STEADY, max_examples=15)
@given(drawn=ANY_EXPRESSION, offset=st.integers(-200, 200))
def test_around_a_change_of_the_clock_it_does_not_matter_when_one_asks(
    name: str, instant: str, drawn: Drawn, offset: int
) -> None:
    zone, change = cron.zone(name), datetime.fromisoformat(instant)
    early, until = change - timedelta(hours=6), change + timedelta(hours=6)
    asked = change + offset * MINUTE

    from_early_on = fires_until(drawn.text, zone, early, until)

    assert fires_until(drawn.text, zone, asked, until) == [time for time in from_early_on if time > asked]


@settings(STEADY)
@given(drawn=ANY_EXPRESSION, zone=ZONES, after=INSTANTS)
def test_fire_times_are_later_than_asked_and_strictly_increase(
    drawn: Drawn, zone: ZoneInfo, after: datetime
) -> None:
    times = [after, *islice(fires(drawn.text, zone, after), 20)]

    assert all(earlier < later for earlier, later in pairwise(times))


@settings(STEADY)
@given(drawn=ANY_EXPRESSION, zone=ZONES, after=INSTANTS, share=st.floats(0, 1, exclude_max=True))
def test_the_next_fire_does_not_depend_on_where_between_two_one_asks(
    drawn: Drawn, zone: ZoneInfo, after: datetime, share: float
) -> None:
    for earlier, later in pairwise(islice(fires(drawn.text, zone, after), 5)):
        between = min(earlier + share * (later - earlier), later - timedelta(microseconds=1))

        assert next(cron.parse(drawn.text).fires(zone, between)) == later


@settings(STEADY)
@given(zone=ZONES, after=INSTANTS)
def test_every_minute_is_every_real_minute(zone: ZoneInfo, after: datetime) -> None:
    first = after.replace(second=0, microsecond=0) + MINUTE

    times = list(islice(cron.parse("* * * * *").fires(zone, after), 200))

    assert times == [first + n * MINUTE for n in range(200)]


@settings(STEADY)
@given(drawn=ANY_EXPRESSION, after=INSTANTS)
def test_in_utc_fires_are_those_of_cronsim(drawn: Drawn, after: datetime) -> None:
    times = list(islice(fires(drawn.text, cron.zone("UTC"), after), 5))

    assert times == list(islice(CronSim(drawn.text, after), len(times)))


@settings(STEADY)
@given(
    drawn=expressions(months=st.just(Part("5-8", frozenset(range(5, 9))))),
    name=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    after=st.datetimes(datetime(2026, 5, 1), datetime(2026, 8, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_while_no_clock_is_changed_fires_are_those_of_cronsim(
    drawn: Drawn, name: str, after: datetime
) -> None:
    zone, until = cron.zone(name), datetime(2026, 8, 31, tzinfo=UTC)

    times = [time for time in islice(fires(drawn.text, zone, after), 5) if time <= until]

    assert times == [
        time.astimezone(UTC) for time in islice(CronSim(drawn.text, after.astimezone(zone)), len(times))
    ]


COUNTED = st.builds("{}{}".format, st.integers(0, 7), st.sampled_from(["#1", "#2", "#3", "#4", "#5", "L"]))
COUNTED_DAYS = st.tuples(
    st.one_of(parts(1, 31).map(lambda part: part.text), st.integers(1, 33).map("*/{},L".format)),
    parts(1, 12).map(lambda part: part.text),
    st.lists(COUNTED, min_size=1, max_size=3).map(",".join),
).map(" ".join)


@settings(STEADY)
@given(days=COUNTED_DAYS)
def test_only_what_cronsim_finds_no_fire_of_in_50_years_never_fires(days: str) -> None:
    try:
        found = next(CronSim(f"0 0 {days}", datetime(2000, 1, 1)), None)  # noqa: DTZ001 - the wall clock's
    except CronSimError:
        found = None

    refused = next(fires(f"0 0 {days}", cron.zone("UTC"), datetime(2000, 1, 1, tzinfo=UTC)), None) is None

    assert refused is (found is None)


@settings(STEADY)
@given(drawn=ANY_EXPRESSION)
def test_whatever_fires_is_explained(drawn: Drawn) -> None:
    try:
        words = cron.parse(drawn.text).explain()
    except CronError:
        return

    assert words.startswith(("At ", "Every "))
    assert "  " not in words


@settings(STEADY, max_examples=300)
@given(
    st.one_of(st.text(max_size=40), st.text("0123456789*/-,#LWH?@ ", max_size=30).map("{} * * * *".format))
)
def test_any_text_is_an_expression_or_a_cron_error(text: str) -> None:
    try:
        parsed = cron.parse(text)
    except CronError:
        return

    after = datetime(2026, 1, 1, tzinfo=UTC)
    assert next(parsed.fires(cron.zone("UTC"), after)) > after
    assert parsed.explain()


@settings(STEADY)
@given(st.text(max_size=30))
def test_any_text_is_a_zone_or_a_cron_error(text: str) -> None:
    try:
        found = cron.zone(text)
    except CronError:
        return

    assert found.key == text
