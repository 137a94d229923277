"""Closed times: part by part, and against somebody who watches the clock."""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched import blackouts, cron
from flowsched.blackouts.kept import Kept
from flowsched.blackouts.walls import stretches_on_the_wall
from flowsched.errors import Refused
from flowsched.model import (
    Blackout,
    Calendar,
    Days,
    Holidays,
    Ical,
    Source,
    Span,
    Then,
    WeeklyWindow,
    YearlyDays,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MIDNIGHT = time()
WHOLE_WEEK = WeeklyWindow(0, MIDNIGHT, 0, MIDNIGHT)

STEADY = settings(derandomize=True)
"""The same examples on every machine, and no test that fails for being slow."""


def a_calendar(name: str = "closed", timezone: str | None = None, **parts: Any) -> Calendar:
    return Calendar(name=name, description=None, timezone=timezone, source=Source("a.yaml", 1), **parts)


def a_blackout(*calendars: Calendar, **parts: Any) -> Blackout:
    return Blackout(calendars or (a_calendar(**parts),), Then.SKIP)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall(text: str) -> datetime:
    return datetime.fromisoformat(text)


def until(blackout: Blackout, at: str, zone: str = "UTC") -> str | None:
    """Return when it opens again, as `closure` tells it; "open" where it is."""
    closed = blackouts.closure(blackout, zone, utc(at))
    if closed is None:
        return "open"
    return closed.until.strftime("%Y-%m-%dT%H:%M") if closed.until else None


# One part at a time.


def test_days_are_whole_days_on_the_wall_clock_with_both_ends() -> None:
    blackout = a_blackout(days=(Days(date(2026, 12, 24), date(2026, 12, 25)),))

    assert until(blackout, "2026-12-23T22:59", "Europe/Berlin") == "open"
    assert until(blackout, "2026-12-23T23:00", "Europe/Berlin") == "2026-12-25T23:00"
    assert until(blackout, "2026-12-25T22:59", "Europe/Berlin") == "2026-12-25T23:00"
    assert until(blackout, "2026-12-25T23:00", "Europe/Berlin") == "open"


def test_a_calendar_with_a_zone_keeps_to_it_whatever_that_of_the_schedule_is() -> None:
    days = (Days(date(2026, 12, 24), date(2026, 12, 24)),)

    assert until(a_blackout(timezone="Asia/Tokyo", days=days), "2026-12-23T15:00", "America/New_York") == (
        "2026-12-24T15:00"
    )
    assert until(a_blackout(days=days), "2026-12-23T15:00", "America/New_York") == "open"


def test_spans_are_instants_or_points_on_the_wall_clock() -> None:
    instants = Span(utc("2026-07-01T10:00"), utc("2026-07-01T12:00"))
    points = Span(wall("2026-07-01T10:00"), wall("2026-07-01T12:00"))

    assert until(a_blackout(spans=(instants,)), "2026-07-01T10:00", "Europe/Berlin") == "2026-07-01T12:00"
    assert until(a_blackout(spans=(points,)), "2026-07-01T08:00", "Europe/Berlin") == "2026-07-01T10:00"


def test_yearly_days_go_over_the_new_year_and_into_every_year() -> None:
    blackout = a_blackout(yearly=(YearlyDays((12, 24), (1, 1)),))

    for year in (1971, 2026, 2400):
        assert until(blackout, f"{year}-12-31T12:00") == f"{year + 1}-01-02T00:00"
        assert until(blackout, f"{year + 1}-01-01T12:00") == f"{year + 1}-01-02T00:00"
        assert until(blackout, f"{year + 1}-01-02T00:00") == "open"


def test_the_29_february_is_there_in_leap_years_only() -> None:
    alone, first, last = (
        a_blackout(yearly=(YearlyDays(*days),))
        for days in (((2, 29), (2, 29)), ((2, 29), (3, 1)), ((2, 28), (2, 29)))
    )

    assert until(alone, "2028-02-29T00:00") == "2028-03-01T00:00"
    assert [until(alone, f"2027-{day}T00:00") for day in ("02-28", "03-01")] == ["open", "open"]
    assert until(first, "2028-02-29T00:00") == until(first, "2028-03-01T00:00") == "2028-03-02T00:00"
    assert [until(first, f"2027-{day}T00:00") for day in ("02-28", "03-01")] == ["open", "2027-03-02T00:00"]
    assert until(last, "2028-02-28T00:00") == until(last, "2027-02-28T00:00").replace("2027", "2028")  # type: ignore[union-attr]


def test_weekly_windows_wrap_around_the_end_of_the_week() -> None:
    blackout = a_blackout(weekly=(WeeklyWindow(4, time(22), 0, time(6)),))

    assert until(blackout, "2026-07-03T21:59") == "open"
    assert until(blackout, "2026-07-03T22:00") == until(blackout, "2026-07-06T05:59") == "2026-07-06T06:00"
    assert until(blackout, "2026-07-06T06:00") == "open"


# Edges: what holds the end of a closed time together.


def test_stretches_that_touch_or_overlap_are_one_over_all_calendars_and_the_first_is_named() -> None:
    saturday = a_calendar("saturday", weekly=(WeeklyWindow(5, MIDNIGHT, 6, MIDNIGHT),))
    sunday = a_calendar("sunday", weekly=(WeeklyWindow(6, MIDNIGHT, 0, MIDNIGHT),))
    monday = a_calendar("monday", days=(Days(date(2026, 7, 6), date(2026, 7, 6)),))
    blackout = a_blackout(monday, sunday, saturday)

    closed = blackouts.closure(blackout, "UTC", utc("2026-07-04T00:00"))

    assert closed == blackouts.Closure("saturday", utc("2026-07-07T00:00"))
    assert blackouts.closure(blackout, "UTC", utc("2026-07-06T00:00")) == blackouts.Closure(
        "monday", utc("2026-07-07T00:00")
    )


def test_the_first_calendar_in_the_order_of_the_blackout_is_named() -> None:
    calendars = [a_calendar(name, weekly=(WHOLE_WEEK,)) for name in ("b", "a")]

    closed = blackouts.closure(a_blackout(*calendars), "UTC", utc("2026-07-04T00:00"))

    assert closed
    assert closed.calendar == "b"


def test_what_never_opens_has_no_end_and_what_opens_late_enough_neither() -> None:
    always = a_blackout(weekly=(WHOLE_WEEK,))
    long = a_blackout(spans=(Span(utc("2026-01-01T00:00"), utc("2027-02-05T00:01")),))

    assert until(always, "2026-07-04T00:00") is None
    assert until(long, "2026-01-01T00:00") is None
    assert until(long, "2026-01-01T00:01") == "2027-02-05T00:01"  # MOST_CLOSED later


def test_the_turn_of_the_year_in_utc_is_no_edge() -> None:
    blackout = a_blackout(weekly=(WeeklyWindow(2, MIDNIGHT, 5, MIDNIGHT),))

    assert until(blackout, "2025-12-31T12:00") == until(blackout, "2026-01-01T00:00") == "2026-01-03T00:00"


def test_a_day_of_another_year_than_in_utc_is_found() -> None:
    first = a_blackout(days=(Days(date(2027, 1, 1), date(2027, 1, 1)),))
    last = a_blackout(days=(Days(date(2026, 12, 31), date(2026, 12, 31)),))

    assert until(first, "2026-12-31T10:00", "Pacific/Kiritimati") == "2027-01-01T10:00"
    assert until(last, "2027-01-01T09:59", "Etc/GMT+12") == "2027-01-01T12:00"


def test_closed_times_come_as_a_list_in_which_no_two_touch() -> None:
    days = [a_calendar(weekly=(WeeklyWindow(day, MIDNIGHT, day + 1, MIDNIGHT),)) for day in (3, 2, 0)]

    listed = blackouts.closures(a_blackout(*days), "UTC", utc("2026-12-28T00:00"), utc("2027-01-04T12:00"))

    around = [each for each in listed if utc("2026-12-27T00:00") < each[0] < utc("2027-01-05T00:00")]
    assert around == [
        (utc("2026-12-28T00:00"), utc("2026-12-29T00:00")),
        (utc("2026-12-30T00:00"), utc("2027-01-01T00:00")),
        (utc("2027-01-04T00:00"), utc("2027-01-05T00:00")),
    ]


def test_what_began_before_a_span_of_the_wall_clock_touches_it() -> None:
    weekend = a_calendar(weekly=(WeeklyWindow(4, time(22), 0, time(6)),))
    holidays = a_calendar(yearly=(YearlyDays((12, 24), (1, 1)),))

    monday = list(stretches_on_the_wall(weekend, wall("2026-07-06T05:00"), wall("2026-07-06T07:00")))
    new_year = list(stretches_on_the_wall(holidays, wall("2026-01-01T05:00"), wall("2026-01-01T07:00")))

    assert monday == [(wall("2026-07-03T22:00"), wall("2026-07-06T06:00"))]
    assert new_year == [(wall("2025-12-24T00:00"), wall("2026-01-02T00:00"))]


def test_at_the_ends_of_the_calendar_it_is_open() -> None:
    always = a_blackout(weekly=(WHOLE_WEEK,), yearly=(YearlyDays((12, 31), (1, 1)),))

    assert until(always, "9999-12-31T23:59", "Pacific/Kiritimati") == "open"
    assert until(always, "0001-01-01T00:00", "Pacific/Kiritimati") == "open"


def test_an_instant_may_come_in_any_zone() -> None:
    blackout = a_blackout(days=(Days(date(2026, 12, 24), date(2026, 12, 24)),))
    at = utc("2026-12-23T23:30").astimezone(cron.zone("Asia/Tokyo"))

    closed = blackouts.closure(blackout, "Europe/Berlin", at)

    assert closed == blackouts.Closure("closed", utc("2026-12-24T23:00"))


def test_two_equal_calendars_are_told_alike_and_one_does_not_stand_in_for_another() -> None:
    one = a_blackout(days=(Days(date(2026, 7, 1), date(2026, 7, 1)),))
    same = a_blackout(days=(Days(date(2026, 7, 1), date(2026, 7, 1)),))
    other = a_blackout(days=(Days(date(2026, 7, 2), date(2026, 7, 2)),))

    assert until(one, "2026-07-01T00:00") == until(same, "2026-07-01T00:00") == "2026-07-02T00:00"
    assert until(other, "2026-07-01T00:00") == "open"


def test_what_was_worked_out_of_a_calendar_goes_with_it() -> None:
    kept: Kept[Calendar, str] = Kept(lambda calendar: calendar.name)
    calendar, other = a_calendar("one"), a_calendar("two")
    gone = weakref.ref(calendar)
    assert (kept.of(calendar), kept.of(other), kept.of(calendar)) == ("one", "two", "one")

    del calendar
    gc.collect()

    assert gone() is None
    assert list(kept._values.values()) == ["two"]


def test_a_calendar_does_not_outlive_its_catalog() -> None:
    blackout = a_blackout(days=(Days(date(2026, 7, 1), date(2026, 7, 1)),))
    gone = weakref.ref(blackout.calendars[0])
    blackouts.digest(blackout)
    assert until(blackout, "2026-07-01T00:00") == "2026-07-02T00:00"

    del blackout
    gc.collect()

    assert gone() is None


# The digest.

DAYS = (Days(date(2026, 7, 1), date(2026, 7, 1)), Days(date(2026, 8, 1), date(2026, 8, 2)))
FULL = a_calendar(
    timezone="Europe/Berlin",
    rules="a" * 16,
    days=DAYS,
    spans=(Span(wall("2026-09-01T10:00"), wall("2026-09-01T11:00")),),
    yearly=(YearlyDays((12, 24), (1, 1)),),
    weekly=(WHOLE_WEEK,),
    holidays=(Holidays("DE", None),),
    ical=(Ical("a.ics", "text", "b" * 16),),
)

SAME = {
    "another name": {"name": "other"},
    "another description": {"description": "As agreed"},
    "another place": {"source": Source("b.yaml", 9)},
    "another file of the same content": {"ical": (Ical("b.ics", "text", "b" * 16),)},
    "another order": {"days": DAYS[::-1]},
}
OTHER = {
    "another zone": {"timezone": "Europe/Madrid"},
    "no zone": {"timezone": None},
    "other zone data": {"rules": "c" * 16},
    "fewer days": {"days": DAYS[:1]},
    "a span in UTC": {"spans": (Span(utc("2026-09-01T10:00"), utc("2026-09-01T11:00")),)},
    "no yearly": {"yearly": ()},
    "no weekly": {"weekly": ()},
    "holidays of a part": {"holidays": (Holidays("DE", "BE"),)},
    "another content": {"ical": (Ical("a.ics", "other", "b" * 16),)},
    "other zone data of a file": {"ical": (Ical("a.ics", "text", "c" * 16),)},
}


@pytest.mark.parametrize("parts", SAME.values(), ids=SAME)
def test_the_digest_of_a_blackout_is_the_same_for_what_changes_no_closed_time(parts: dict[str, Any]) -> None:
    assert blackouts.digest(a_blackout(replace(FULL, **parts))) == blackouts.digest(a_blackout(FULL))


@pytest.mark.parametrize("parts", OTHER.values(), ids=OTHER)
def test_the_digest_of_a_blackout_is_another_for_what_may_change_a_closed_time(parts: dict[str, Any]) -> None:
    assert blackouts.digest(a_blackout(replace(FULL, **parts))) != blackouts.digest(a_blackout(FULL))


def test_the_digest_of_a_blackout_is_that_of_all_its_calendars_and_of_what_becomes_of_its_fires() -> None:
    other = a_calendar(days=DAYS)
    both = a_blackout(FULL, other)

    assert blackouts.digest(a_blackout(other, FULL)) == blackouts.digest(both)
    assert len({blackouts.digest(each) for each in (None, a_blackout(FULL), a_blackout(other), both)}) == 4
    assert blackouts.digest(replace(both, then=Then.DEFER)) != blackouts.digest(both)
    assert blackouts.digest(None) == ""


def test_the_digest_of_a_blackout_depends_on_the_version_of_holidays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = blackouts.digest(a_blackout(replace(FULL)))

    monkeypatch.setattr("holidays.__version__", "0.0.1")

    assert blackouts.digest(a_blackout(replace(FULL))) != before


def test_the_digest_of_a_blackout_is_the_same_in_every_version_of_flowsched() -> None:
    days = a_blackout(timezone="UTC", days=DAYS[:1])

    assert blackouts.digest(days) == "bb7e8eb79b28695c"


# Clock changes: against somebody who watches the clock.

PLACES = {
    "Europe/Berlin": ["2026-03-28T00:00", "2026-10-24T00:00"],
    "Australia/Lord_Howe": ["2026-04-03T12:00", "2026-10-02T12:00"],
    "Pacific/Apia": ["2011-12-28T12:00", "2011-09-23T00:00"],
    "Africa/Casablanca": ["2026-02-14T00:00", "2026-03-21T00:00"],
    "America/Havana": ["2026-10-31T00:00", "2026-03-07T00:00"],
    "UTC": ["2026-02-27T00:00"],
}
"""Two days before a change of the clock, in UTC; Apia's left out a whole day, Havana's are at midnight."""


class Watcher:
    """Looks at a wall clock every minute, and has nothing to do with how we reckon."""

    def __init__(self, zone: str, begin: datetime) -> None:
        self.instants = [begin + minutes * MINUTE for minutes in range(-12 * 1440, 17 * 1440)]
        walls = [at.astimezone(cron.zone(zone)).replace(tzinfo=None) for at in self.instants]
        self._latest = list(self._high_water(walls))

    def first(self, wall: datetime) -> datetime:
        """Return the first minute that is at or past a point on the wall clock."""
        low, high = 0, len(self._latest)
        while low < high:
            middle = (low + high) // 2
            if self._latest[middle] < wall:
                low = middle + 1
            else:
                high = middle
        return self.instants[low]

    @staticmethod
    def _high_water(walls: list[datetime]) -> Iterator[datetime]:
        highest = walls[0]
        for wall in walls:
            highest = max(highest, wall)
            yield highest


WATCHERS: dict[tuple[str, str], Watcher] = {}


def watched(zone: str, begin: str) -> Watcher:
    if (zone, begin) not in WATCHERS:
        WATCHERS[zone, begin] = Watcher(zone, utc(begin))
    return WATCHERS[zone, begin]


def in_the_week(window: WeeklyWindow, wall: datetime) -> bool:
    """Tell by the week's minutes alone whether a point on the wall is inside."""
    start, end = (
        day * 1440 + at.hour * 60 + at.minute
        for day, at in ((window.start_day, window.start), (window.end_day, window.end))
    )
    minute = wall.weekday() * 1440 + wall.hour * 60 + wall.minute
    return start <= minute < end if start < end else minute >= start or minute < end


DATES = st.integers(-3, 6)
CLOCKS = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
WINDOWS = st.builds(WeeklyWindow, st.integers(0, 6), CLOCKS, st.integers(0, 6), CLOCKS)


@STEADY
@given(st.data())
def test_closed_time_is_what_somebody_sees_who_watches_the_clock(data: st.DataObject) -> None:
    zone = data.draw(st.sampled_from(sorted(PLACES)))
    begin = data.draw(st.sampled_from(PLACES[zone]))
    watcher, day = watched(zone, begin), utc(begin).date()
    offsets = data.draw(st.lists(st.tuples(DATES, st.integers(0, 2)), max_size=2))
    days = [Days(day + first * DAY, day + (first + more) * DAY) for first, more in offsets]
    spans = [
        Span(start, start + data.draw(st.integers(1, 2000)) * MINUTE)
        for start in data.draw(
            st.lists(st.builds(datetime.combine, DATES.map(lambda n: day + n * DAY), CLOCKS), max_size=2)
        )
    ]
    window = data.draw(WINDOWS.filter(lambda each: (each.start_day, each.start) != (each.end_day, each.end)))
    weekly = data.draw(st.sampled_from([(), (window,)]))
    walls = [
        *(
            (datetime.combine(each.first, MIDNIGHT), datetime.combine(each.last + DAY, MIDNIGHT))
            for each in days
        ),
        *((each.start, each.end) for each in spans),
    ]
    for each in weekly:
        point = datetime.combine(day - 9 * DAY, MIDNIGHT)
        inside = [point + n * 15 * MINUTE for n in range(22 * 96)]
        edges = [wall + off for wall in inside for off in (timedelta(0), 14 * MINUTE)]
        runs = [wall for wall in sorted(edges) if in_the_week(each, wall) != in_the_week(each, wall - MINUTE)]
        if in_the_week(each, inside[0]):
            runs.insert(0, inside[0])
        walls += list(zip(runs[::2], [*runs, inside[-1]][1::2], strict=False))
    closed = [(watcher.first(start), watcher.first(end)) for start, end in walls]

    blackout = a_blackout(days=tuple(days), spans=tuple(spans), weekly=weekly)
    for minutes in data.draw(st.lists(st.integers(0, 5 * 1440), min_size=20, max_size=20)):
        at = utc(begin) + minutes * MINUTE
        expected = at
        while ends := [end for start, end in closed if start <= expected < end]:
            expected = max(ends)
        found = blackouts.closure(blackout, zone, at)
        assert (found is None) == (expected == at)
        if found and expected < utc(begin) + 9 * DAY:
            assert found.until == expected


@pytest.mark.parametrize(
    ("zone", "days", "closed"),
    [
        ("Pacific/Apia", (date(2011, 12, 30), date(2011, 12, 30)), None),  # a day that never was
        ("Pacific/Apia", (date(2011, 12, 29), date(2011, 12, 30)), ("2011-12-29T10:00", "2011-12-30T10:00")),
        ("America/Havana", (date(2026, 3, 8), date(2026, 3, 8)), ("2026-03-08T05:00", "2026-03-09T04:00")),
        ("America/Havana", (date(2026, 11, 1), date(2026, 11, 1)), ("2026-11-01T04:00", "2026-11-02T05:00")),
        ("Europe/Berlin", (date(2026, 10, 25), date(2026, 10, 25)), ("2026-10-24T22:00", "2026-10-25T23:00")),
    ],
)
def test_days_on_which_the_clock_is_changed(
    zone: str, days: tuple[date, date], closed: tuple[str, str] | None
) -> None:
    blackout = a_blackout(days=(Days(*days),))
    if closed is None:
        assert (
            until(blackout, "2011-12-30T09:59", zone) == until(blackout, "2011-12-30T10:00", zone) == "open"
        )
        return
    start, end = closed

    assert until(blackout, start, zone) == end
    assert blackouts.closure(blackout, zone, utc(start) - MINUTE) is None


def test_a_window_within_a_gap_is_none_and_one_in_a_repeated_hour_goes_through_both() -> None:
    gap = a_blackout(spans=(Span(wall("2026-03-29T02:10"), wall("2026-03-29T02:50")),))
    repeat = a_blackout(spans=(Span(wall("2026-10-25T02:30"), wall("2026-10-25T03:00")),))

    assert until(gap, "2026-03-29T01:00", "Europe/Berlin") == "open"
    assert until(repeat, "2026-10-25T00:30", "Europe/Berlin") == "2026-10-25T02:00"


# Public holidays.


def test_holidays_are_whole_days_of_the_country_and_its_part() -> None:
    country = a_blackout(holidays=(Holidays("DE", None),))
    berlin = a_blackout(holidays=(Holidays("DE", "BE"),))

    assert until(country, "2026-10-02T22:00", "Europe/Berlin") == "2026-10-03T22:00"
    assert until(country, "2026-03-08T12:00", "Europe/Berlin") == "open"
    assert until(berlin, "2026-03-08T12:00", "Europe/Berlin") == "2026-03-08T23:00"


@pytest.mark.parametrize(
    ("country", "subdivision", "told"),
    [
        ("XX", None, "there are no holidays of 'XX'"),
        ("de", None, "did you mean 'DE'?"),
        ("HolidayBase", None, "there are no holidays of 'HolidayBase'"),
        ("__class__", None, "there are no holidays of"),
        ("DE", "ZZZ", "DE has no subdivision 'ZZZ'"),
        ("JP", "13", "JP has no subdivision '13'; allowed: no subdivision: the country has none"),
    ],
)
def test_what_the_package_does_not_know_is_refused(country: str, subdivision: str | None, told: str) -> None:
    with pytest.raises(Refused) as caught:
        blackouts.check_holidays(Holidays(country, subdivision))

    assert told in str(caught.value)


def test_without_the_package_holidays_are_refused_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)

    with pytest.raises(Refused, match=r"pip install 'flowsched\[holidays\]'"):
        blackouts.check_holidays(Holidays("DE", None))
