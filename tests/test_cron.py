"""Fire times as tables: zone, expression, from when, and what follows in order.

The clocks are changed at these instants, which a test below holds against the zone data in use. A gap of the
wall clock is marked >, a repeated hour <.

    Europe/Berlin        2026-03-29 01:00Z  02:00 > 03:00     2026-10-25 01:00Z  03:00 < 02:00
    Europe/Dublin        2026-03-29 01:00Z  01:00 > 02:00     2026-10-25 01:00Z  02:00 < 01:00
    America/New_York     2026-03-08 07:00Z  02:00 > 03:00     2026-11-01 06:00Z  02:00 < 01:00
    Australia/Lord_Howe  2026-10-03 15:30Z  02:00 > 02:30     2026-04-04 15:00Z  02:00 < 01:30
    America/Santiago     2026-09-06 04:00Z  00:00 > 01:00     2026-04-05 03:00Z  24:00 < 23:00
    Africa/Cairo         2026-04-23 22:00Z  00:00 > 01:00     2026-10-29 21:00Z  24:00 < 23:00
    Asia/Beirut          2026-03-28 22:00Z  00:00 > 01:00     2026-10-24 21:00Z  24:00 < 23:00
    Africa/Casablanca    2026-03-22 02:00Z  02:00 > 03:00     2026-02-15 02:00Z  03:00 < 02:00
    Antarctica/Troll     2026-03-29 01:00Z  01:00 > 03:00     2026-10-25 01:00Z  03:00 < 01:00
    America/Caracas      2016-05-01 07:00Z  02:30 > 03:00     2007-12-09 07:00Z  03:00 < 02:30
    Asia/Pyongyang       2018-05-04 15:00Z  23:30 > 24:00
    Pacific/Apia         2011-12-30 10:00Z  30 December was left out
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice, product

import pytest

from flowsched import cron
from flowsched.errors import CronError

CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00Z", "2026-03-29 01:59", "2026-03-29 03:00"),
    ("Europe/Berlin", "2026-10-25T01:00Z", "2026-10-25 02:59", "2026-10-25 02:00"),
    ("Europe/Dublin", "2026-03-29T01:00Z", "2026-03-29 00:59", "2026-03-29 02:00"),
    ("Europe/Dublin", "2026-10-25T01:00Z", "2026-10-25 01:59", "2026-10-25 01:00"),
    ("America/New_York", "2026-03-08T07:00Z", "2026-03-08 01:59", "2026-03-08 03:00"),
    ("America/New_York", "2026-11-01T06:00Z", "2026-11-01 01:59", "2026-11-01 01:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00Z", "2026-04-05 01:59", "2026-04-05 01:30"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z", "2026-10-04 01:59", "2026-10-04 02:30"),
    ("America/Santiago", "2026-04-05T03:00Z", "2026-04-04 23:59", "2026-04-04 23:00"),
    ("America/Santiago", "2026-09-06T04:00Z", "2026-09-05 23:59", "2026-09-06 01:00"),
    ("Africa/Cairo", "2026-04-23T22:00Z", "2026-04-23 23:59", "2026-04-24 01:00"),
    ("Africa/Cairo", "2026-10-29T21:00Z", "2026-10-29 23:59", "2026-10-29 23:00"),
    ("Asia/Beirut", "2026-03-28T22:00Z", "2026-03-28 23:59", "2026-03-29 01:00"),
    ("Asia/Beirut", "2026-10-24T21:00Z", "2026-10-24 23:59", "2026-10-24 23:00"),
    ("Africa/Casablanca", "2026-02-15T02:00Z", "2026-02-15 02:59", "2026-02-15 02:00"),
    ("Africa/Casablanca", "2026-03-22T02:00Z", "2026-03-22 01:59", "2026-03-22 03:00"),
    ("Antarctica/Troll", "2026-03-29T01:00Z", "2026-03-29 00:59", "2026-03-29 03:00"),
    ("Antarctica/Troll", "2026-10-25T01:00Z", "2026-10-25 02:59", "2026-10-25 01:00"),
    ("America/Caracas", "2007-12-09T07:00Z", "2007-12-09 02:59", "2007-12-09 02:30"),
    ("America/Caracas", "2016-05-01T07:00Z", "2016-05-01 02:29", "2016-05-01 03:00"),
    ("Asia/Pyongyang", "2018-05-04T15:00Z", "2018-05-04 23:29", "2018-05-05 00:00"),
    ("Pacific/Apia", "2011-12-30T10:00Z", "2011-12-29 23:59", "2011-12-31 00:00"),
]
"""Zone, instant, what its clock shows a minute before, and what it shows then."""


def fires(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next fire times as the zone's clock shows them, with the offset."""
    place = cron.zone(zone)
    start = datetime.fromisoformat(after).replace(tzinfo=place)
    times = islice(cron.parse(expression).fires(place, start), count)
    return [time.astimezone(place).isoformat(sep=" ", timespec="minutes") for time in times]


@pytest.mark.parametrize(("zone", "instant", "before", "after"), CHANGES)
def test_the_zone_data_changes_its_clocks_when_the_tables_say(
    zone: str, instant: str, before: str, after: str
) -> None:
    place = cron.zone(zone)
    change = datetime.fromisoformat(instant)

    shown = [moment.astimezone(place) for moment in (change - timedelta(minutes=1), change)]

    assert [f"{moment:%Y-%m-%d %H:%M}" for moment in shown] == [before, after]


# --- On days when nobody touches the clock -------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("* * * * *", "2026-01-01 00:00", ["01-01 00:01", "01-01 00:02", "01-01 00:03"]),
        ("30 2 * * *", "2026-01-01 02:30", ["01-02 02:30", "01-03 02:30"]),
        ("30 2 * * *", "2026-01-01 02:29", ["01-01 02:30", "01-02 02:30"]),
        ("*/20 * * * *", "2026-01-01 00:00", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("*/25 * * * *", "2026-01-01 00:00", ["01-01 00:25", "01-01 00:50", "01-01 01:00"]),
        ("*/90 * * * *", "2026-01-01 00:00", ["01-01 01:00", "01-01 02:00"]),
        ("5/20 * * * *", "2026-01-01 00:00", ["01-01 00:05", "01-01 00:25", "01-01 00:45", "01-01 01:05"]),
        (
            "1-10/4,30 0 * * *",
            "2026-01-01 00:00",
            ["01-01 00:01", "01-01 00:05", "01-01 00:09", "01-01 00:30"],
        ),
        ("0 9-11 * * *", "2026-01-01 00:00", ["01-01 09:00", "01-01 10:00", "01-01 11:00", "01-02 09:00"]),
        ("0 */9 * * *", "2026-01-01 00:00", ["01-01 09:00", "01-01 18:00", "01-02 00:00"]),
        ("0 0 1 */5 *", "2026-01-01 00:00", ["06-01 00:00", "11-01 00:00", "01-01 00:00"]),
        ("0 0 1 feb,Apr *", "2026-01-01 00:00", ["02-01 00:00", "04-01 00:00", "02-01 00:00"]),
        ("59 23 31 12 *", "2026-12-31 23:58", ["12-31 23:59", "12-31 23:59"]),
        ("0 0 * * *", "2026-12-31 23:59", ["01-01 00:00", "01-02 00:00"]),
        ("*/30 * * * *", "2026-12-31 23:15", ["12-31 23:30", "01-01 00:00"]),
    ],
)
def test_fire_times_follow_one_another(expression: str, after: str, expected: list[str]) -> None:
    times = fires(expression, "UTC", after, len(expected))

    assert [time[5:16] for time in times] == expected


@pytest.mark.parametrize(
    ("weekdays", "expected"),
    [
        # 1 January 2026 is a Thursday.
        ("0", ["Sun 04"]),
        ("7", ["Sun 04"]),
        ("SUN", ["Sun 04"]),
        ("1", ["Mon 05"]),
        ("mon", ["Mon 05"]),
        ("4", ["Thu 01"]),
        ("6", ["Sat 03"]),
        ("1-5", ["Thu 01", "Fri 02", "Mon 05", "Tue 06"]),
        ("Mon-Fri", ["Thu 01", "Fri 02", "Mon 05", "Tue 06"]),
        ("5-7", ["Fri 02", "Sat 03", "Sun 04", "Fri 09"]),
        ("0-2", ["Sun 04", "Mon 05", "Tue 06", "Sun 11"]),
        ("6,0", ["Sat 03", "Sun 04", "Sat 10"]),
        ("*/3", ["Sat 03", "Sun 04", "Wed 07", "Sat 10"]),
        ("1-5/2", ["Fri 02", "Mon 05", "Wed 07", "Fri 09"]),
        ("3/2", ["Fri 02", "Sun 04", "Wed 07", "Fri 09"]),
        ("5L", ["Fri 30", "Fri 27"]),
        ("0L", ["Sun 25", "Sun 22"]),
        ("7L", ["Sun 25", "Sun 22"]),
        ("5#1", ["Fri 02", "Fri 06"]),
        ("fri#2", ["Fri 09", "Fri 13"]),
        ("7#1", ["Sun 04", "Sun 01"]),
        ("5#5", ["Fri 30", "Fri 29"]),
        ("1#1,5L", ["Mon 05", "Fri 30", "Mon 02", "Fri 27"]),
    ],
)
def test_weekdays_count_from_sunday_by_number_name_and_place_in_the_month(
    weekdays: str, expected: list[str]
) -> None:
    times = fires(f"0 12 * * {weekdays}", "UTC", "2026-01-01 00:00", len(expected))

    assert [f"{datetime.fromisoformat(time):%a %d}" for time in times] == expected


@pytest.mark.parametrize(
    ("days", "weekdays", "expected"),
    [
        ("13", "5", ["01-02", "01-09", "01-13", "01-16"]),
        ("13", "*", ["01-13", "02-13", "03-13"]),
        ("*", "5", ["01-02", "01-09", "01-16"]),
        ("1-2", "SUN", ["01-02", "01-04", "01-11", "01-18", "01-25", "02-01", "02-02"]),
        ("L", "1#1", ["01-05", "01-31", "02-02", "02-28"]),
        # Either begins with a star: both must match, even where the star leaves something out.
        ("*/2", "1", ["01-05", "01-19", "02-09"]),
        ("13", "*/5", ["02-13", "03-13", "09-13"]),
        ("*", "*", ["01-02", "01-03"]),
        # Full, but without a star: Debian lets either match, so every day does.
        ("1-31", "1", ["01-02", "01-03"]),
        ("13", "0-6", ["01-02", "01-03"]),
    ],
)
def test_either_day_field_is_enough_unless_one_begins_with_a_star(
    days: str, weekdays: str, expected: list[str]
) -> None:
    times = fires(f"0 0 {days} * {weekdays}", "UTC", "2026-01-01 00:00", len(expected))

    assert [time[5:10] for time in times] == expected


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29"]),
        ("0 0 29 2 *", "2096-01-01", ["2096-02-29", "2104-02-29"]),
        ("0 0 29 2 */7", "2080-01-01", ["2088-02-29", "2128-02-29"]),
        ("0 0 L 2 *", "2027-01-01", ["2027-02-28", "2028-02-29", "2029-02-28"]),
        ("0 0 L 2 *", "2099-12-31", ["2100-02-28", "2101-02-28"]),
        ("0 0 L * *", "2026-01-31", ["2026-02-28", "2026-03-31", "2026-04-30"]),
        ("0 0 15,L * *", "2028-02-01", ["2028-02-15", "2028-02-29", "2028-03-15"]),
        ("0 0 31 * *", "2026-01-31", ["2026-03-31", "2026-05-31", "2026-07-31"]),
        ("0 0 31 2 1", "2026-01-31", ["2026-02-02", "2026-02-09"]),
    ],
)
def test_months_end_where_the_calendar_ends_them(expression: str, after: str, expected: list[str]) -> None:
    times = fires(expression, "UTC", f"{after} 00:00", len(expected))

    assert [time[:10] for time in times] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("@hourly", ["2026-05-05 13:00", "2026-05-05 14:00"]),
        ("@daily", ["2026-05-06 00:00", "2026-05-07 00:00"]),
        ("@midnight", ["2026-05-06 00:00", "2026-05-07 00:00"]),
        ("@weekly", ["2026-05-10 00:00", "2026-05-17 00:00"]),
        ("@monthly", ["2026-06-01 00:00", "2026-07-01 00:00"]),
        ("@yearly", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("@annually", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("@Daily", ["2026-05-06 00:00", "2026-05-07 00:00"]),
    ],
)
def test_a_name_stands_for_its_five_fields(name: str, expected: list[str]) -> None:
    times = fires(name, "UTC", "2026-05-05 12:34", 2)

    assert [time[:16] for time in times] == expected


# --- On days when the clock is changed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        # A fixed time in the gap fires at its end.
        ("Europe/Berlin", "30 2 * * *", "2026-03-28 12:00", ["03-29 03:00+02:00", "03-30 02:30+02:00"]),
        ("Europe/Berlin", "0 2 * * *", "2026-03-28 12:00", ["03-29 03:00+02:00", "03-30 02:00+02:00"]),
        ("Europe/Dublin", "30 1 * * *", "2026-03-28 12:00", ["03-29 02:00+01:00", "03-30 01:30+01:00"]),
        ("America/New_York", "30 2 * * *", "2026-03-07 12:00", ["03-08 03:00-04:00", "03-09 02:30-04:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00", ["10-04 02:30+11:00", "10-05 02:15+11:00"]),
        ("America/Santiago", "0 0 * * *", "2026-09-05 12:00", ["09-06 01:00-03:00", "09-07 00:00-03:00"]),
        ("America/Santiago", "@daily", "2026-09-05 12:00", ["09-06 01:00-03:00", "09-07 00:00-03:00"]),
        ("America/Santiago", "15 0 * * 0", "2026-09-05 12:00", ["09-06 01:00-03:00", "09-13 00:15-03:00"]),
        ("Africa/Cairo", "0 0 * * *", "2026-04-23 12:00", ["04-24 01:00+03:00", "04-25 00:00+03:00"]),
        ("Asia/Beirut", "59 0 * * *", "2026-03-28 12:00", ["03-29 01:00+03:00", "03-30 00:59+03:00"]),
        ("Africa/Casablanca", "30 2 * * *", "2026-03-21 12:00", ["03-22 03:00+01:00", "03-23 02:30+01:00"]),
        ("Antarctica/Troll", "5 1 * * *", "2026-03-28 12:00", ["03-29 03:00+02:00", "03-30 01:05+02:00"]),
        ("America/Caracas", "45 2 * * *", "2016-04-30 12:00", ["05-01 03:00-04:00", "05-02 02:45-04:00"]),
        ("Asia/Pyongyang", "45 23 * * *", "2018-05-04 12:00", ["05-05 00:00+09:00", "05-05 23:45+09:00"]),
        # A whole date was left out: its times fire where it would have been.
        (
            "Pacific/Apia",
            "0 9 * * *",
            "2011-12-28 12:00",
            ["12-29 09:00-10:00", "12-31 00:00+14:00", "12-31 09:00+14:00"],
        ),
        ("Pacific/Apia", "0 9 30 12 *", "2011-12-01 00:00", ["12-31 00:00+14:00", "12-30 09:00+14:00"]),
        # All times in one gap are one fire; it is also that of a fixed time at its end.
        ("Europe/Berlin", "0,30 2 * * *", "2026-03-28 12:00", ["03-29 03:00+02:00", "03-30 02:00+02:00"]),
        ("Europe/Berlin", "30 2,3 * * *", "2026-03-28 12:00", ["03-29 03:00+02:00", "03-29 03:30+02:00"]),
        (
            "Europe/Berlin",
            "0 1-4 * * *",
            "2026-03-29 00:00",
            ["03-29 01:00+01:00", "03-29 03:00+02:00", "03-29 04:00+02:00"],
        ),
        # Just outside the gap nothing happens.
        ("Europe/Berlin", "59 1 * * *", "2026-03-28 12:00", ["03-29 01:59+01:00", "03-30 01:59+02:00"]),
        ("Europe/Berlin", "0 3 * * *", "2026-03-28 12:00", ["03-29 03:00+02:00", "03-30 03:00+02:00"]),
    ],
)
def test_a_fixed_time_in_a_gap_fires_once_at_its_end(
    zone: str, expression: str, after: str, expected: list[str]
) -> None:
    times = fires(expression, zone, after, len(expected))

    assert [time[5:] for time in times] == expected


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-10-24 12:00", ["10-25 02:30+02:00", "10-26 02:30+01:00"]),
        ("Europe/Berlin", "0 2 * * *", "2026-10-24 12:00", ["10-25 02:00+02:00", "10-26 02:00+01:00"]),
        ("Europe/Berlin", "0 3 * * *", "2026-10-24 12:00", ["10-25 03:00+01:00", "10-26 03:00+01:00"]),
        ("Europe/Dublin", "30 1 * * *", "2026-10-24 12:00", ["10-25 01:30+01:00", "10-26 01:30+00:00"]),
        ("America/New_York", "30 1 * * *", "2026-10-31 12:00", ["11-01 01:30-04:00", "11-02 01:30-05:00"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 12:00", ["04-05 01:45+11:00", "04-06 01:45+10:30"]),
        ("Australia/Lord_Howe", "0 2 * * *", "2026-04-04 12:00", ["04-05 02:00+10:30", "04-06 02:00+10:30"]),
        ("America/Santiago", "30 23 * * *", "2026-04-04 12:00", ["04-04 23:30-03:00", "04-05 23:30-04:00"]),
        ("America/Santiago", "0 0 * * *", "2026-04-04 12:00", ["04-05 00:00-04:00", "04-06 00:00-04:00"]),
        ("Africa/Cairo", "30 23 * * *", "2026-10-29 12:00", ["10-29 23:30+03:00", "10-30 23:30+02:00"]),
        ("Asia/Beirut", "0 23 * * *", "2026-10-24 12:00", ["10-24 23:00+03:00", "10-25 23:00+02:00"]),
        ("Africa/Casablanca", "30 2 * * *", "2026-02-14 12:00", ["02-15 02:30+01:00", "02-16 02:30+00:00"]),
        ("Antarctica/Troll", "5 1 * * *", "2026-10-24 12:00", ["10-25 01:05+02:00", "10-26 01:05+00:00"]),
        ("America/Caracas", "45 2 * * *", "2007-12-08 12:00", ["12-09 02:45-04:00", "12-10 02:45-04:30"]),
        (
            "Europe/Berlin",
            "30 1-3 * * *",
            "2026-10-25 00:00",
            ["10-25 01:30+02:00", "10-25 02:30+02:00", "10-25 03:30+01:00"],
        ),
    ],
)
def test_a_fixed_time_in_a_repeated_hour_fires_once_the_first_time(
    zone: str, expression: str, after: str, expected: list[str]
) -> None:
    times = fires(expression, zone, after, len(expected))

    assert [time[5:] for time in times] == expected


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        ("Europe/Berlin", "*/15 2 * * *", "2026-03-28 12:00", ["03-30 02:00+02:00", "03-30 02:15+02:00"]),
        ("Europe/Berlin", "0 */2 * * *", "2026-03-29 00:00", ["03-29 04:00+02:00", "03-29 06:00+02:00"]),
        ("Europe/Berlin", "30 * * * *", "2026-03-29 01:00", ["03-29 01:30+01:00", "03-29 03:30+02:00"]),
        ("America/New_York", "*/30 * * * *", "2026-03-08 01:00", ["03-08 01:30-05:00", "03-08 03:00-04:00"]),
        ("America/Santiago", "0 * * * *", "2026-09-05 22:30", ["09-05 23:00-04:00", "09-06 01:00-03:00"]),
        ("Africa/Cairo", "*/30 * * * *", "2026-04-23 23:00", ["04-23 23:30+02:00", "04-24 01:00+03:00"]),
        ("Antarctica/Troll", "0 * * * *", "2026-03-28 23:30", ["03-29 00:00+00:00", "03-29 03:00+02:00"]),
        ("Pacific/Apia", "0 */12 * * *", "2011-12-29 11:00", ["12-29 12:00-10:00", "12-31 00:00+14:00"]),
        # Half an hour is left out: what is shown after it is not disturbed.
        (
            "Australia/Lord_Howe",
            "*/15 * * * *",
            "2026-10-04 01:30",
            ["10-04 01:45+10:30", "10-04 02:30+11:00", "10-04 02:45+11:00", "10-04 03:00+11:00"],
        ),
        (
            "Australia/Lord_Howe",
            "0 * * * *",
            "2026-10-04 00:30",
            ["10-04 01:00+10:30", "10-04 03:00+11:00", "10-04 04:00+11:00"],
        ),
        (
            "Australia/Lord_Howe",
            "0 */3 * * *",
            "2026-10-04 00:00",
            ["10-04 03:00+11:00", "10-04 06:00+11:00"],
        ),
        (
            "Australia/Lord_Howe",
            "*/15 3 * * *",
            "2026-10-03 12:00",
            ["10-04 03:00+11:00", "10-04 03:15+11:00"],
        ),
    ],
)
def test_a_wildcard_time_in_a_gap_does_not_fire(
    zone: str, expression: str, after: str, expected: list[str]
) -> None:
    times = fires(expression, zone, after, len(expected))

    assert [time[5:] for time in times] == expected


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        (
            "Europe/Berlin",
            "30 * * * *",
            "2026-10-25 02:00",
            ["10-25 02:30+02:00", "10-25 02:30+01:00", "10-25 03:30+01:00"],
        ),
        (
            "Europe/Berlin",
            "*/30 2 * * *",
            "2026-10-24 12:00",
            [
                "10-25 02:00+02:00",
                "10-25 02:30+02:00",
                "10-25 02:00+01:00",
                "10-25 02:30+01:00",
                "10-26 02:00+01:00",
            ],
        ),
        (
            "America/New_York",
            "*/20 * * * *",
            "2026-11-01 01:20",
            [
                "11-01 01:40-04:00",
                "11-01 01:00-05:00",
                "11-01 01:20-05:00",
                "11-01 01:40-05:00",
                "11-01 02:00-05:00",
            ],
        ),
        (
            "Australia/Lord_Howe",
            "*/15 * * * *",
            "2026-04-05 01:15",
            [
                "04-05 01:30+11:00",
                "04-05 01:45+11:00",
                "04-05 01:30+10:30",
                "04-05 01:45+10:30",
                "04-05 02:00+10:30",
            ],
        ),
        (
            "Australia/Lord_Howe",
            "45 * * * *",
            "2026-04-05 01:15",
            ["04-05 01:45+11:00", "04-05 01:45+10:30", "04-05 02:45+10:30"],
        ),
        ("Australia/Lord_Howe", "0 * * * *", "2026-04-05 01:15", ["04-05 02:00+10:30", "04-05 03:00+10:30"]),
        (
            "Australia/Lord_Howe",
            "*/15 3 * * *",
            "2026-04-04 12:00",
            ["04-05 03:00+10:30", "04-05 03:15+10:30"],
        ),
        (
            "America/Santiago",
            "30 */1 * * *",
            "2026-04-04 23:00",
            ["04-04 23:30-03:00", "04-04 23:30-04:00", "04-05 00:30-04:00"],
        ),
        (
            "Africa/Cairo",
            "*/30 23 * * *",
            "2026-10-29 23:00",
            ["10-29 23:30+03:00", "10-29 23:00+02:00", "10-29 23:30+02:00", "10-30 23:00+02:00"],
        ),
        (
            "Antarctica/Troll",
            "0 */1 * * *",
            "2026-10-25 01:30",
            ["10-25 02:00+02:00", "10-25 01:00+00:00", "10-25 02:00+00:00", "10-25 03:00+00:00"],
        ),
        ("Africa/Casablanca", "30 * * * *", "2026-02-15 02:15", ["02-15 02:30+01:00", "02-15 02:30+00:00"]),
        ("America/Caracas", "40 * * * *", "2007-12-09 02:35", ["12-09 02:40-04:00", "12-09 02:40-04:30"]),
    ],
)
def test_a_wildcard_time_in_a_repeated_hour_fires_both_times(
    zone: str, expression: str, after: str, expected: list[str]
) -> None:
    times = fires(expression, zone, after, len(expected))

    assert [time[5:] for time in times] == expected


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        ("America/New_York", "30 1 * * *", "2026-11-01T01:10-05:00", "2026-11-02 01:30-05:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:10+01:00", "2026-10-26 02:30+01:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05T01:35+10:30", "2026-04-06 01:45+10:30"),
        ("Europe/Berlin", "*/30 * * * *", "2026-10-25T02:10+01:00", "2026-10-25 02:30+01:00"),
        ("Europe/Berlin", "*/30 * * * *", "2026-10-25T02:30+02:00", "2026-10-25 02:00+01:00"),
        ("Europe/Berlin", "*/30 * * * *", "2026-10-25T02:30+01:00", "2026-10-25 03:00+01:00"),
    ],
)
def test_the_second_pass_of_a_repeated_hour_is_not_mistaken_for_the_first(
    zone: str, expression: str, after: str, expected: str
) -> None:
    place = cron.zone(zone)

    time = next(cron.parse(expression).fires(place, datetime.fromisoformat(after)))

    assert time.astimezone(place).isoformat(sep=" ", timespec="minutes") == expected


def test_fire_times_are_utc_wherever_the_question_comes_from() -> None:
    asked = datetime(2026, 6, 1, 0, 0, 30, 5, tzinfo=cron.zone("Asia/Tokyo"))

    time = next(cron.parse("0 0 * * *").fires(cron.zone("Europe/Berlin"), asked))

    assert time == datetime(2026, 5, 31, 22, 0, tzinfo=UTC)
    assert time.tzinfo is UTC


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        cron.parse("* * * * *").fires(cron.zone("UTC"), datetime(2026, 1, 1))  # noqa: DTZ001 - the case


@pytest.mark.parametrize(
    ("zone", "expression", "last"),
    [
        ("UTC", "0 0 * * *", "9999-12-31T00:00Z"),
        ("UTC", "*/30 * * * *", "9999-12-31T23:30Z"),
        ("Asia/Tokyo", "0 0 * * *", "9999-12-30T15:00Z"),
        ("America/New_York", "0 0 * * *", "9999-12-31T05:00Z"),
    ],
)
def test_fire_times_end_with_the_calendar(zone: str, expression: str, last: str) -> None:
    after = datetime(9999, 12, 30, tzinfo=UTC)

    times = list(cron.parse(expression).fires(cron.zone(zone), after))

    assert times[-1] == datetime.fromisoformat(last)


@pytest.mark.parametrize(
    ("zone", "wall", "expected"),
    [
        ("UTC", "2026-03-29 02:30", "2026-03-29T02:30Z"),
        ("Europe/Berlin", "2026-03-29 01:59", "2026-03-29T00:59Z"),
        ("Europe/Berlin", "2026-03-29 02:00", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-03-29 02:59", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-03-29 03:00", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-10-25 02:00", "2026-10-25T00:00Z"),
        ("Europe/Berlin", "2026-10-25 02:59", "2026-10-25T00:59Z"),
        ("Europe/Berlin", "2026-10-25 03:00", "2026-10-25T02:00Z"),
        ("Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04T14:45Z"),
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03T15:30Z"),
        ("America/Santiago", "2026-09-06 00:00", "2026-09-06T04:00Z"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30T10:00Z"),
    ],
)
def test_an_instant_is_that_of_a_fixed_time(zone: str, wall: str, expected: str) -> None:
    place, shown = cron.zone(zone), datetime.fromisoformat(wall)
    fixed = cron.parse(f"{shown.minute} {shown.hour} {shown.day} {shown.month} *")

    found = cron.instant(shown, place)

    assert (found, found.tzinfo) == (datetime.fromisoformat(expected), UTC)
    assert next(fixed.fires(place, found - timedelta(minutes=1))) == found


# --- Expressions ---------------------------------------------------------------------------------------


def test_an_expression_keeps_its_words_but_not_its_blanks() -> None:
    assert cron.parse("  0 \t 2  *\n* mon ").expression == "0 2 * * mon"
    assert cron.parse(" @daily ").expression == "@daily"


def test_expressions_written_the_same_are_equal() -> None:
    assert cron.parse("0  2 * * 1") == cron.parse("0 2 * * 1")
    assert len({cron.parse("@daily"), cron.parse("@daily"), cron.parse("0 0 * * *")}) == 2


FIVE = "five fields: minute hour day-of-month month weekday"
DAYS = "1-31, or L for the last day"
WEEKDAYS = "0-7 or SUN-SAT (0 and 7 are Sunday), 5L for the last Friday, 5#2 for the second Friday"
NAMES = "@hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually"


@pytest.mark.parametrize(
    ("expression", "message", "allowed"),
    [
        ("", "the expression is empty", FIVE),
        ("5", "one field where cron has five", FIVE),
        ("* * * *", "4 fields where cron has five", FIVE),
        ("0 * * * * *", "six fields where cron has five: seconds are not supported", FIVE),
        ("0 0 * * * * 2026", "7 fields where cron has five", FIVE),
        ("@reboot", "'@reboot' is not a time: a restart triggers no flow", f"{NAMES}, or {FIVE}"),
        ("@dayly", "'@dayly' is not a known name", f"{NAMES} (did you mean @daily?), or {FIVE}"),
        ("@every 5m", "'@every 5m' is not a known name", f"{NAMES}, or {FIVE}"),
        ("61 * * * *", "minute '61' is out of range", "0-59"),
        ("0,61 * * * *", "minute '61' is out of range", "0-59"),
        ("0-61 * * * *", "minute '61' is out of range", "0-59"),
        ("* 24 * * *", "hour '24' is out of range", "0-23"),
        ("* * 0 * *", "day-of-month '0' is out of range", DAYS),
        ("* * * 13 *", "month '13' is out of range", "1-12 or JAN-DEC"),
        ("* * * * 8", "weekday '8' is out of range", WEEKDAYS),
        ("x * * * *", "minute 'x' is not a number", "0-59"),
        ("-1 * * * *", "minute '-1' is not a number", "0-59"),
        ("/5 * * * *", "minute '/5' is not a number", "0-59"),
        ("1-2-3 * * * *", "minute '2-3' is not a number", "0-59"),
        ("² * * * *", "minute '²' is not a number", "0-59"),
        ("* * * foo *", "month 'foo' is neither a number nor a name", "1-12 or JAN-DEC"),
        ("* * * * friday", "weekday 'friday' is neither a number nor a name", WEEKDAYS),
        ("1,,2 * * * *", "minute '1,,2' has an empty item in its list", "0-59"),
        ("*/0 * * * *", "minute '*/0' has a step of 0", "a step of 1 or more"),
        ("*/x * * * *", "minute '*/x' has 'x' for a step", "a step of 1 or more"),
        ("* */ * * *", "hour '*/' has '' for a step", "a step of 1 or more"),
        ("5-5/2 * * * *", "minute '5-5/2' has a step over a single value", "5, or 5/2 to go on from it"),
        ("* 22-2 * * *", "hour '22-2' runs backwards", "a range that goes up, or two: 22-23,0-2"),
        (
            "* * * * FRI-MON",
            "weekday 'FRI-MON' runs backwards",
            "a range that goes up, or two: FRI-SAT,SUN-MON",
        ),
        ("* * * * Sat-Sun", "weekday 'Sat-Sun' runs backwards", "a range that goes up, or two: Sat,SUN"),
        ("* * * * 6-1", "weekday '6-1' runs backwards", "a range that goes up, or two: 6,0-1"),
        ("* * * 11-2 *", "month '11-2' runs backwards", "a range that goes up, or two: 11-12,1-2"),
        ("? * * * *", "minute '?' is not cron: '?' is other schedulers' word for '*'", "*, or 0-59"),
        ("* * ? * *", "day-of-month '?' is not cron: '?' is other schedulers' word for '*'", f"*, or {DAYS}"),
        (
            "* * 15W * *",
            "day-of-month '15W' is not supported: 'W' is other schedulers' word for the nearest working day",
            DAYS,
        ),
        (
            "H/15 * * * *",
            "minute 'H/15' is not cron: 'H' is another scheduler's word for any one value",
            "0-59",
        ),
        (
            "* * L-3 * *",
            "day-of-month 'L-3' is not a day: L stands alone, without number, range or step",
            DAYS,
        ),
        ("* L * * *", "hour 'L' is not a number", "0-23"),
        ("* * * * L", "weekday 'L' needs the number of a weekday before the L", WEEKDAYS),
        ("* * * * FRIL", "weekday 'FRIL' needs the number of a weekday before the L", WEEKDAYS),
        ("* * * * 8L", "weekday '8' is out of range", WEEKDAYS),
        ("* * * * 5#6", "weekday '5#6' is in no month", "#1 to #5, or L for the last, as in 5L"),
        ("* * * * #2", "weekday '#2' is neither a number nor a name", WEEKDAYS),
        ("0 0 31 2 *", "never fires: February has no day 31", "1-29, or L for the last day"),
        ("0 0 30,31 2 *", "never fires: February has no day 30 or 31", "1-29, or L for the last day"),
        ("0 0 31 4,6 *", "never fires: April and June have no day 31", "1-30, or L for the last day"),
        (
            "0 0 */31 * 1#2",
            "never fires: day-of-month '*/31' and weekday '1#2' never fall together",
            "day fields that some date matches both of",
        ),
    ],
)
def test_a_bad_expression_is_refused_with_what_is_allowed(
    expression: str, message: str, allowed: str
) -> None:
    with pytest.raises(CronError) as caught:
        cron.parse(expression)

    assert caught.value.message == message
    assert caught.value.allowed == allowed


FIELDS = ["minute", "hour", "day-of-month", "month", "weekday"]
PATTERNS = ["{}", "{},1", "1,{}", "{}-5", "1-{}", "{}/2", "*/{}", "1-5/{}"]
BAD_VALUES = ["", "a", "-1", "1.5", "100x", "#", "%", "*1", "1*", "\x1b[31m", "1 2", "²"]


@pytest.mark.parametrize("place", range(5))
def test_no_pattern_lets_a_bad_value_through(place: int) -> None:
    for pattern, value in product(PATTERNS, BAD_VALUES):
        fields = ["*"] * 5
        fields[place] = pattern.format(value)

        with pytest.raises(CronError) as caught:
            cron.parse(" ".join(fields))

        assert "\x1b" not in str(caught.value)
        assert value in {"", "1 2"} or caught.value.message.startswith(FIELDS[place])


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 29 2 *",
        "0 0 */29 2 *",
        "0 0 31 */2 *",
        # The nth of a weekday, and the last, fall into one week of the month.
        "0 0 */31 * 1#1",
        "0 0 */7 2 1#5",
        "0 0 */30 * 1#5",
        "0 0 */21 2 1L",
        "0 0 */23 4 1L",
        # The last day of February is the 28th or the 29th.
        "0 0 L 2 */2",
        "0 0 */31,L 2 1#4",
        "0 0 */31,L 2 1#5",
        # Where neither begins with a star, one of the two is enough.
        "0 0 31 2 1#5",
    ],
)
def test_what_fires_seldom_is_an_expression(expression: str) -> None:
    assert fires(expression, "UTC", "2000-01-01", 2)


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 31 2,4,6,9,11 *",
        "0 0 */31 * 1#2,1#3,1#4,3L",
        "0 0 */30 2 1#5,1#2",
        "0 0 */20 2 1L",
        "0 0 */21 4 1L",
        "0 0 */31,L 4 1#4",
    ],
)
def test_what_never_fires_is_no_expression(expression: str) -> None:
    with pytest.raises(CronError, match="never fires"):
        cron.parse(expression)


def test_a_thousand_hopeless_expressions_are_refused_at_once() -> None:
    days, months, weekdays = range(2, 8), range(1, 13), range(7)
    begun = time.process_time()

    for day, month, weekday, nth in product(days, months, weekdays, "23"):
        with pytest.raises(CronError, match="never fall together"):
            cron.parse(f"0 0 */31,{day} {month} {weekday}#{nth}")

    assert time.process_time() - begun < 1


def test_an_expression_has_at_most_500_characters() -> None:
    longest = "0," * 245 + "00 * * * *"

    assert cron.parse(longest).expression == longest
    with pytest.raises(CronError, match="the expression has 501 characters"):
        cron.parse(f"0{longest}")


@pytest.mark.parametrize(
    "expression", ["9" * 100_000, "*," * 100_000 + "* * * * *", "0 " * 100_000, "@" * 100_000]
)
def test_an_endless_expression_is_refused_at_once(expression: str) -> None:
    with pytest.raises(CronError) as caught:
        cron.parse(expression)

    assert len(str(caught.value)) < 200


# --- Zones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "Etc/GMT+5", "America/Argentina/Buenos_Aires"])
def test_a_zone_is_found_by_its_name(name: str) -> None:
    assert cron.zone(name).key == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("EUROPE/BERLIN", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_an_unknown_zone_is_refused_with_near_names(name: str, near: str) -> None:
    with pytest.raises(CronError, match=f"time zone '{name}' is unknown") as caught:
        cron.zone(name)

    assert near in caught.value.allowed


@pytest.mark.parametrize(
    "name",
    [
        "",
        "localtime",
        "posixrules",
        "Factory",
        "Europe",
        "posix/Europe/Berlin",
        "/usr/share/zoneinfo/Europe/Berlin",
        "../../../etc/passwd",
        "Europe/../Europe/Berlin",
        "Europe/Berlin/",
        "Europe\\Berlin",
        "UTC\n",
        "UTC\0",
        "a" * 100_000,
    ],
)
def test_a_name_of_no_place_is_refused(name: str) -> None:
    with pytest.raises(CronError) as caught:
        cron.zone(name)

    assert len(str(caught.value)) < 300
