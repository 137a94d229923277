"""Files in iCalendar format: what their events close, and files that lie."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowsched import blackouts, cron
from flowsched.errors import Refused
from flowsched.model import Ical
from tests.test_blackouts import STEADY, a_blackout, until, utc

if TYPE_CHECKING:
    from pathlib import Path


def ical(*events: str, before: str = "") -> str:
    """Return a file with some events, each with a name of its own unless it says another."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//example//EN", *before.splitlines()]
    for number, event in enumerate(events):
        name = [] if "UID" in event else [f"UID:{number}"]
        lines += ["BEGIN:VEVENT", *name, *event.splitlines(), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def closed_by(text: str, at: str, zone: str = "Europe/Berlin") -> str | None:
    return until(a_blackout(ical=(blackouts.read_ical("a.ics", text.encode()),)), at, zone)


ODD_ZONE = """BEGIN:VTIMEZONE
TZID:{name}
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:{summer}
TZOFFSETTO:{winter}
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:{winter}
TZOFFSETTO:{summer}
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""


LONG = "DTSTART:20260101T100000\nDURATION:PT2H"
SHORT = "DTSTART:20260101T100000Z\nDURATION:PT1M"


@pytest.mark.parametrize(
    ("event", "at", "opens"),
    [
        ("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227", "2026-12-23T23:00", "2026-12-26T23:00"),
        ("DTSTART;VALUE=DATE:20261224", "2026-12-24T22:59", "2026-12-24T23:00"),
        ("DTSTART;VALUE=DATE:20261224\nDURATION:P2D", "2026-12-24T22:59", "2026-12-25T23:00"),
        ("DTSTART:20261224T100000\nDURATION:PT2H", "2026-12-24T09:00", "2026-12-24T11:00"),
        ("DTSTART:20261224T100000Z\nDTEND:20261224T120000Z", "2026-12-24T10:00", "2026-12-24T12:00"),
        ("DTSTART;TZID=Asia/Tokyo:20261224T100000\nDURATION:PT2H", "2026-12-24T01:00", "2026-12-24T03:00"),
        (
            "DTSTART;TZID=Tokyo Standard Time:20261224T100000\nDURATION:PT2H",
            "2026-12-24T01:00",
            "2026-12-24T03:00",
        ),
        ("DTSTART:20261224T100000Z", "2026-12-24T10:00", "open"),
        ("DTSTART:20261224T100030Z\nDTEND:20261224T235959Z", "2026-12-24T10:00", "open"),
        ("DTSTART:20261224T100030Z\nDTEND:20261224T235959Z", "2026-12-24T10:01", "2026-12-25T00:00"),
        # A rule follows the wall clock of its zone; floating, that of the schedule.
        (f"{LONG}\nRRULE:FREQ=DAILY", "2026-07-01T08:00", "2026-07-01T10:00"),
        (
            "DTSTART;TZID=America/New_York:20260101T100000\nDURATION:PT2H\nRRULE:FREQ=DAILY",
            "2026-07-01T14:00",
            "2026-07-01T16:00",
        ),
        (
            "DTSTART;VALUE=DATE:20200101\nRRULE:FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=25",
            "2030-12-25T12:00",
            "2030-12-25T23:00",
        ),
        (f"{LONG}\nRRULE:FREQ=DAILY;COUNT=2", "2026-01-03T09:00", "open"),
        (f"{LONG}\nRRULE:FREQ=DAILY;UNTIL=20260102T100000", "2026-01-02T09:00", "2026-01-02T11:00"),
        (f"{LONG}\nRRULE:FREQ=DAILY;UNTIL=20260102T095959", "2026-01-02T09:00", "open"),
        (f"{LONG}\nRRULE:FREQ=DAILY\nEXDATE:20260103T100000", "2026-01-03T09:00", "open"),
        (f"{LONG}\nRDATE:20260105T100000", "2026-01-05T09:00", "2026-01-05T11:00"),
        (f"{LONG}\nRDATE;VALUE=PERIOD:20260105T000000/PT5H", "2026-01-05T00:00", "2026-01-05T04:00"),
        (f"{LONG}\nSTATUS:CANCELLED", "2026-01-01T09:00", "open"),
        (f"{LONG}\nSTATUS:Cancelled", "2026-01-01T09:00", "open"),
        (f"{LONG}\nSTATUS:CONFIRMED", "2026-01-01T09:00", "2026-01-01T11:00"),
        (f"{LONG}\nTRANSP:TRANSPARENT", "2026-01-01T09:00", "2026-01-01T11:00"),
        ("DTSTART:19700101T000000Z\nDTEND:20260201T000000Z", "2026-01-31T00:00", "2026-02-01T00:00"),
    ],
)
def test_an_event_is_a_closed_time(event: str, at: str, opens: str) -> None:
    assert closed_by(ical(event), at) == opens


def test_one_of_a_series_may_be_cancelled_or_moved() -> None:
    series = "UID:s\nDTSTART:20260101T100000Z\nDURATION:PT2H\nRRULE:FREQ=DAILY"
    cancelled = (
        "UID:s\nRECURRENCE-ID:20260103T100000Z\nDTSTART:20260103T100000Z\nDURATION:PT2H\nSTATUS:CANCELLED"
    )
    moved = "UID:s\nRECURRENCE-ID:20260104T100000Z\nDTSTART:20260104T200000Z\nDURATION:PT1H"
    text = ical(series, cancelled, moved)

    assert closed_by(text, "2026-01-02T10:00") == "2026-01-02T12:00"
    assert closed_by(text, "2026-01-03T10:00") == "open"
    assert closed_by(text, "2026-01-04T10:00") == "open"
    assert closed_by(text, "2026-01-04T20:00") == "2026-01-04T21:00"


def test_a_zone_that_a_file_defines_is_that_file_s_alone() -> None:
    event = "DTSTART;TZID=Ours:20260701T100000\nDURATION:PT2H"
    near = ical(event, before=ODD_ZONE.format(name="Ours", winter="+0100", summer="+0200"))
    far = ical(event, before=ODD_ZONE.format(name="Ours", winter="+0400", summer="+0500"))

    assert closed_by(near, "2026-07-01T08:00") == "2026-07-01T10:00"
    assert closed_by(far, "2026-07-01T05:00") == "2026-07-01T07:00"
    with pytest.raises(Refused, match="unknown time zone 'Ours'"):
        blackouts.read_ical("a.ics", ical(event).encode())


def test_a_file_may_name_the_zone_of_its_floating_times() -> None:
    text = ical("DTSTART:20260701T100000\nDURATION:PT2H", before="X-WR-TIMEZONE:Asia/Tokyo\n")

    assert closed_by(text, "2026-07-01T01:00") == "2026-07-01T03:00"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the first line of the file is not BEGIN:VCALENDAR"),
        ("/etc/hostname", "the first line of the file is not BEGIN:VCALENDAR"),
        (ical(SHORT)[:-20], "the last line of the file is not END:VCALENDAR"),
        (ical(SHORT) + ical(SHORT), "the file cannot be read"),
        (ical(), "the file has no event"),
        (ical("SUMMARY:Strike"), "the event 'Strike' has no beginning"),
        (ical("DTSTART:2026-01-01"), "has a DTSTART that cannot be read"),
        (ical("DTSTART:20260101T100000Z\nDURATION:1 hour"), "has a DURATION that cannot be read"),
        (ical(f"{SHORT}\nDTSTART:20260102T100000Z"), "begins or ends twice"),
        (ical("DTSTART:20260102T100000Z\nDTEND:20260101T100000Z"), "does not end later than it begins"),
        (ical("DTSTART;VALUE=DATE:20260102\nDTEND;VALUE=DATE:20260102"), "does not end later than it begins"),
        (ical("DTSTART:20260102T100000Z\nDURATION:-PT1H"), "does not end later than it begins"),
        (ical("DTSTART;VALUE=DATE:20260102\nDTEND:20260103T100000Z"), "of two kinds"),
        (ical("DTSTART:20260102T100000\nDTEND:20260103T100000Z"), "of two kinds"),
        (
            ical("DTSTART;TZID=Middle/Earth:20260102T100000\nDURATION:PT1H"),
            "unknown time zone 'Middle/Earth'",
        ),
        (ical(f"{SHORT}\nRDATE;TZID=Middle/Earth:20260102T100000"), "a RDATE in an unknown time zone"),
        (ical(f"UID:a\n{SHORT}", f"UID:a\n{SHORT}"), "the UID 'a' is that of 2 events"),
        (ical(f"{SHORT}\nSEQUENCE:first"), "has a SEQUENCE that cannot be read"),
        (ical("DTSTART:20260101T100000Z\nDURATION:P999999999W"), "cannot be read"),
        (ical("DTSTART:00010101T100000Z\nRRULE:FREQ=DAILY"), "repeats from too far away"),
        (ical("DTSTART:20260101T100000Z\nDURATION:P800D\nRRULE:FREQ=DAILY"), "repeats and is too long"),
        (ical("DTSTART:00010101T000000\nDTEND:99991231T000000"), "is too long"),
        (ical("DTSTART;VALUE=DATE:20260101\nDTEND;VALUE=DATE:99991231"), "is too long"),
        (
            ical(f"{SHORT}\nRRULE:FREQ=YEARLY;UNTIL=20300101T000000Z;BYMONTH=2;BYMONTHDAY=30"),
            "BYMONTHDAY=30;BYMONTH=2', which never comes true",
        ),
        (ical(f"{SHORT}\nRRULE:FREQ=MONTHLY;COUNT=3;BYMONTH=2;BYMONTHDAY=31"), "which never comes true"),
        (
            ical(
                *[f"DTSTART:202611{day:02}T000000Z\nDURATION:PT1M\nRRULE:FREQ=DAILY" for day in range(1, 29)]
            ),
            "the file has 10,192 events in 2027, repeated ones counted",
        ),
        (ical(f"{SHORT}\nRRULE:FREQ=SECONDLY"), "'FREQ=SECONDLY' repeats too often"),
        (ical(f"{SHORT}\nRRULE:FREQ=HOURLY;COUNT=3"), "repeats too often"),
        (ical(f"{SHORT}\nRR\n ULE:FREQ=SECO\n NDLY"), "'FREQ=SECONDLY' repeats too often"),
        (ical(f"{SHORT}\nrrule;x=y:freq=secondly"), "repeats too often"),
        (ical(f"{SHORT}\nRRULE:FREQ=SOMETIMES"), "cannot be read"),
        (ical(f"{SHORT}\nRRULE:INTERVAL=2"), "repeats too often"),
        (ical(f"{SHORT}\nRRULE:FREQ=DAILY;INTERVAL=0"), "counts by less than 1"),
        (ical(f"{SHORT}\nRRULE:FREQ=DAILY;COUNT=0"), "counts by less than 1"),
        (ical(f"{SHORT}\nRRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"), "may never come true"),
        (ical(f"{SHORT}\nRRULE:FREQ=DAILY;BYSETPOS=300"), "may never come true"),
        (ical(f"{SHORT}\nRRULE:FREQ=DAILY;INTERVAL=14;BYDAY=FR"), "may never come true"),
        (ical(f"{SHORT}\nEXRULE:FREQ=DAILY"), "leaves out times by a rule"),
        (
            ical(f"{SHORT}\nRRULE:FREQ=DAILY;BYMINUTE={','.join(map(str, range(60)))};BYHOUR=1,2"),
            "has 120 rules",
        ),
        (ical(*[f"{SHORT}\nRRULE:FREQ=YEARLY"] * 101), "has 101 rules"),
        (
            ical(
                SHORT,
                before=ODD_ZONE.format(name="X", winter="+0100", summer="+0200").replace("YEARLY", "DAILY"),
            ),
            "changes a clock not once a year",
        ),
        ("BEGIN:VCALENDAR\n" + "BEGIN:X\n" * 20_000 + "END:X\n" * 20_000 + "END:VCALENDAR\n", "the file"),
    ],
)
def test_a_file_that_lies_is_refused_when_it_is_read(text: str, told: str) -> None:
    with pytest.raises(Refused) as caught:
        blackouts.read_ical("a.ics", text.encode())

    assert told in str(caught.value)


def test_far_beyond_all_events_it_is_open() -> None:
    rare = ical(f"{SHORT}\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;INTERVAL=3")

    assert closed_by(rare, "2027-01-01T10:00") == "open"
    assert closed_by(rare, "8000-01-01T10:00") == "open"


def test_a_file_keeps_to_the_zone_data_that_it_was_read_with(tmp_path: Path) -> None:
    text = ical("DTSTART;TZID=Europe/Berlin:20260701T100000\nDURATION:PT2H")
    floating = ical("DTSTART:20260701T100000\nDURATION:PT2H", before="X-WR-TIMEZONE:Europe/Berlin")
    tokyo = files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    for folder, name in (("Europe", "Berlin"), ("Etc", "UTC")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(tokyo)

    usual = [blackouts.read_ical("a.ics", each.encode()) for each in (text, floating)]
    with cron.zone_data(tmp_path):
        other = [blackouts.read_ical("a.ics", each.encode()) for each in (text, floating)]

    assert {until(a_blackout(ical=(each,)), "2026-07-01T08:00", "UTC") for each in usual} == {
        "2026-07-01T10:00"
    }
    assert {until(a_blackout(ical=(each,)), "2026-07-01T01:00", "UTC") for each in other} == {
        "2026-07-01T03:00"
    }
    assert len({each.rules for each in usual} | {each.rules for each in other}) == 2
    assert blackouts.read_ical("a.ics", ical(SHORT).encode()).rules == ""


def test_what_fails_only_when_it_is_asked_is_refused_then() -> None:
    blackout = a_blackout(ical=(Ical("a.ics", "no calendar"),))

    with pytest.raises(Refused, match="not BEGIN:VCALENDAR"):
        blackouts.closure(blackout, "UTC", utc("2026-01-01T00:00"))


def test_a_byte_order_mark_is_read_and_other_bytes_are_told() -> None:
    assert blackouts.read_ical("a.ics", b"\xef\xbb\xbf" + ical(SHORT).encode()).content == ical(SHORT)
    with pytest.raises(Refused, match="byte 3 of the file is not UTF-8"):
        blackouts.read_ical("a.ics", b"ab\xff")


LINES = st.sampled_from(
    [
        "BEGIN:VEVENT",
        "END:VEVENT",
        "BEGIN:VTIMEZONE",
        "END:VTIMEZONE",
        "BEGIN:STANDARD",
        "END:STANDARD",
        "UID:1",
        "TZID:X",
        "DTSTART:20260101T100000Z",
        "DTSTART;TZID=X:20260101T100000",
        "DTSTART;VALUE=DATE:20260101",
        "DTEND:20260101T110000",
        "DURATION:PT1H",
        "DURATION:P1W",
        "RRULE:FREQ=DAILY;COUNT=3",
        "RRULE:FREQ=YEARLY",
        "RRULE:FREQ=WEEKLY;BYDAY=MO,2TU",
        "RRULE:FREQ=MONTHLY;BYSETPOS=-1;BYDAY=FR",
        "EXDATE:20260102T100000Z",
        "RDATE:20260109",
        "RECURRENCE-ID:20260102T100000Z",
        "RECURRENCE-ID;RANGE=THISANDFUTURE:20260102",
        "STATUS:CANCELLED",
        "SEQUENCE:2",
        "TZOFFSETFROM:+0100",
        "TZOFFSETTO:+9900",
        "X-WR-TIMEZONE:Nowhere",
        " folded",
    ]
)


@STEADY
@given(st.lists(LINES | st.text(max_size=20), max_size=25))
@example(["BEGIN:VEVENT", "DTSTART:99991231T235959Z", "DURATION:P1D", "END:VEVENT"])
@example(["BEGIN:VEVENT", "DTSTART:00010101T000000", "RDATE:00010101T000000", "END:VEVENT"])
def test_arbitrary_lines_are_used_or_refused(lines: list[str]) -> None:
    text = "\r\n".join(["BEGIN:VCALENDAR", *lines, "END:VCALENDAR"])
    try:
        blackouts.read_ical("a.ics", text.encode())
    except Refused:
        return

    until(a_blackout(ical=(Ical("a.ics", text),)), "2026-01-02T10:00", "Pacific/Apia")
