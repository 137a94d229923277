"""Calendars and blackouts in schedule files: what they become, and where their problems stand."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zoneinfo
from contextlib import suppress
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched import blackouts, cron
from flowsched.config import load_catalog, loader
from flowsched.errors import ConfigError
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
from tests.test_blackouts import STEADY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.model import Catalog

MIDNIGHT = time()
SUMMER = "calendars: {summer: {yearly: [07-01..08-31]}}\n"
ICAL = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//example//EN\r\n"
    "BEGIN:VEVENT\r\nUID:1\r\nDTSTART:20260701\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def loaded(folder: Path, **files: str) -> Catalog:
    return load_catalog(str(written(folder, **files)), None)


def problems_of(folder: Path, **files: str) -> list[str]:
    """Return what is wrong with some files, without their folder."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, **files)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def a_schedule(name: str, more: str = "") -> str:
    return f'  {name}: {{cron: "@daily", timezone: UTC, flow: 1{more}}}\n'


# What a calendar becomes.


def test_a_calendar_has_all_its_parts(tmp_path: Path) -> None:
    (tmp_path / "a.ics").write_text(ICAL)
    catalog = loaded(
        tmp_path,
        a="""
calendars:
  everything:
    description: All there is
    timezone: Europe/Berlin
    dates:
      - 2026-12-24
      - 2026-12-27..2026-12-31
      - 2026-12-24T18:00..2026-12-25T06:00
      - 2026-01-01T00:00+01:00..2026-01-01T06:00Z
    yearly: [12-25, "12-24..01-01", 02-29]
    weekly: [SUN, SAT..SUN, sun..Mon, FRI 22:00..MON 06:00, MON..SUN]
    holidays: [{country: DE}, {country: DE, subdivision: BE}]
    ical: [a.ics]
""",
    )

    assert catalog.calendars["everything"] == Calendar(
        name="everything",
        description="All there is",
        timezone="Europe/Berlin",
        rules=cron.zone_rules("Europe/Berlin"),
        days=(Days(date(2026, 12, 24), date(2026, 12, 24)), Days(date(2026, 12, 27), date(2026, 12, 31))),
        spans=(
            Span(datetime.fromisoformat("2026-12-24T18:00"), datetime.fromisoformat("2026-12-25T06:00")),
            Span(datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 1, 6, tzinfo=UTC)),
        ),
        yearly=(YearlyDays((12, 25), (12, 25)), YearlyDays((12, 24), (1, 1)), YearlyDays((2, 29), (2, 29))),
        weekly=(
            WeeklyWindow(6, MIDNIGHT, 0, MIDNIGHT),
            WeeklyWindow(5, MIDNIGHT, 0, MIDNIGHT),
            WeeklyWindow(6, MIDNIGHT, 1, MIDNIGHT),
            WeeklyWindow(4, time(22), 0, time(6)),
            WeeklyWindow(0, MIDNIGHT, 0, MIDNIGHT),
        ),
        holidays=(Holidays("DE", None), Holidays("DE", "BE")),
        ical=(Ical(f"{tmp_path}/a.ics", ICAL),),
        source=Source(f"{tmp_path}/a.yaml", 3),
    )


def test_a_folder_may_hold_calendars_only(tmp_path: Path) -> None:
    catalog = loaded(tmp_path, b="calendars: {b: {weekly: [SUN]}, a: {weekly: [SAT]}}", a=SUMMER)

    assert list(catalog.calendars) == ["a", "b", "summer"]
    assert not catalog.schedules


# Who has which blackout.


def test_a_blackout_names_calendars_of_any_file_whichever_is_read_first(tmp_path: Path) -> None:
    schedules = f"schedules:\n{a_schedule('s', ', blackout: {calendars: [summer, sundays], then: defer}')}"
    catalog = loaded(tmp_path, a="calendars: {sundays: {weekly: [SUN]}}", b=schedules, c=SUMMER)

    calendars = catalog.calendars
    assert catalog.schedules["s"].blackout == Blackout(
        (calendars["summer"], calendars["sundays"]), Then.DEFER
    )


def test_a_schedule_has_its_own_blackout_else_that_of_the_defaults_unless_it_says_null(
    tmp_path: Path,
) -> None:
    text = (
        "defaults: {blackout: {calendars: [summer], then: skip}}\n"
        + SUMMER
        + "schedules:\n"
        + a_schedule("own", ", blackout: {calendars: [sundays], then: defer}")
        + a_schedule("shared")
        + a_schedule("none", ", blackout: null")
    )

    schedules = loaded(tmp_path, a=text, b="calendars: {sundays: {weekly: [SUN]}}").schedules

    told = {
        name: each.blackout and (each.blackout.calendars[0].name, each.blackout.then)
        for name, each in schedules.items()
    }
    assert told == {"own": ("sundays", Then.DEFER), "shared": ("summer", Then.SKIP), "none": None}


def test_schedules_that_say_the_same_share_one_record(tmp_path: Path) -> None:
    blackout = ", blackout: {calendars: [summer], then: skip}"
    text = f"{SUMMER}schedules:\n{a_schedule('a', blackout)}{a_schedule('b', blackout)}"

    a, b = loaded(tmp_path, a=text).schedules.values()

    assert a.blackout is b.blackout


def test_a_date_out_of_range_is_told_with_the_range(tmp_path: Path) -> None:
    (told,) = problems_of(tmp_path, a="calendars: {c: {dates: [9999-01-01..9999-01-02]}}")

    assert told.endswith("'9999-01-01' is out of range; allowed: years from 1970 to 9998")


def test_a_name_that_nothing_has_is_told_with_every_other_fault_of_its_schedule(tmp_path: Path) -> None:
    text = (
        f"{SUMMER}schedules:\n  a: {{cron: soon, timezone: UTC, flow: 1, blackout: {{calendars: [sumer]}}}}"
    )

    problems = problems_of(tmp_path, a=text)

    assert [problem.split(": ")[1] for problem in problems] == [
        "schedules.a.cron",
        "schedules.a.blackout.then",
        "schedules.a.blackout.calendars.0",
    ]
    assert "did you mean 'summer'?" in problems[2]


def test_a_calendar_that_is_at_fault_is_no_second_problem_of_who_names_it(tmp_path: Path) -> None:
    text = "calendars: {summer: {yearly: [07-32]}}\nschedules:\n"
    text += a_schedule("a", ", blackout: {calendars: [summer], then: skip}")

    problems = problems_of(tmp_path, a=text)

    assert [problem.split(": ")[1] for problem in problems] == ["calendars.summer.yearly.0"]


def test_a_fault_of_the_defaults_is_told_once(tmp_path: Path) -> None:
    text = "defaults: {blackout: {calendars: [winter], then: skip}}\nschedules:\n"
    text += "".join(map(a_schedule, "abc"))

    (problem,) = problems_of(tmp_path, a=text)

    assert problem.startswith("a.yaml:1:35: defaults.blackout.calendars.0: there is no calendar 'winter'")


def test_a_name_is_that_of_one_calendar_over_all_files(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, a=SUMMER, b=SUMMER)

    assert problem.startswith("b.yaml:1:13: calendars.summer: the name is taken: a.yaml:1 has it already")


def test_holidays_without_their_package_are_a_problem_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)

    (problem,) = problems_of(tmp_path, a="calendars: {h: {holidays: [{country: DE}]}}")

    assert problem.startswith("a.yaml:1:28: calendars.h.holidays.0: holidays need the package holidays")
    assert "pip install 'flowsched[holidays]'" in problem


# Files beside the schedules.


def test_a_path_begins_at_the_folder_of_the_file_that_names_it(tmp_path: Path) -> None:
    for name in ("deep", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "a.ics").write_text(ICAL)
    (tmp_path / "deep" / "a.yaml").write_text("calendars: {c: {ical: [../other/a.ics]}}")

    calendar = load_catalog(str(tmp_path), None).calendars["c"]

    assert [each.file for each in calendar.ical] == [f"{tmp_path}/other/a.ics"]


def test_files_are_looked_for_below_the_base_which_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "a.ics").write_text(ICAL)
    written(tmp_path / "schedules", a="calendars: {c: {ical: [a.ics]}}")

    calendar = load_catalog("schedules", None, base=tmp_path).calendars["c"]

    assert calendar.ical[0].file == "schedules/a.ics"
    assert calendar.source.file == "schedules/a.yaml"


@pytest.mark.parametrize(
    "path",
    ["../out.ics", "deep/../../out.ics", "{folder}/out.ics", "link.ics", "up/out.ics", "..", "../in/b.ics"],
)
def test_a_path_never_leads_out_of_the_folder(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "out.ics").write_text(ICAL)
    (folder / "b.ics").write_text(ICAL)
    (folder / "link.ics").symlink_to("../out.ics")
    (folder / "up").symlink_to("..")
    (folder / "a.yaml").write_text(f"calendars: {{c: {{ical: [{path.format(folder=tmp_path)}]}}}}")

    with pytest.raises(ConfigError, match="leads out of the folder of schedules") as caught:
        load_catalog(str(folder / "a.yaml"), None)

    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("path", ["gone.ics", "fifo", "deep", "large.ics", "'a\\b'", "''", "x" * 300])
def test_what_is_no_such_file_is_a_problem_of_the_one_that_names_it(path: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large.ics").write_bytes(b"x" * (loader.MOST_ICAL_BYTES + 1))

    (problem,) = problems_of(tmp_path, a=f"calendars: {{c: {{ical: [{path}]}}}}")

    assert problem.startswith("a.yaml:1:24: calendars.c.ical.0: ")


def test_a_link_as_kubernetes_mounts_it_is_followed(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.ics").write_text(ICAL)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.ics").symlink_to("..data/a.ics")

    assert loaded(tmp_path, a="calendars: {c: {ical: [a.ics]}}").calendars["c"].ical[0].content == ICAL


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.ics").write_text(ICAL)
    text = "calendars: {c: {ical: [a.ics]}}"
    monkeypatch.setattr(loader, "MOST_BYTES_TOGETHER", len(text) + len(ICAL) - 20)

    assert "is too much together with the files before it" in problems_of(tmp_path, a=text)[0]


# Anything at all.

TEXTS = st.sampled_from(
    ["summer", "2026-07-01", "12-24..01-01", "SUN", "FRI 22:00..MON 06:00", "DE", "..", "a.ics", "defer"]
)
KEYS = st.sampled_from(
    ["dates", "yearly", "weekly", "holidays", "ical", "timezone", "country", "calendars", "then", "x"]
)
VALUES = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@STEADY
@given(VALUES, VALUES, VALUES)
def test_arbitrary_calendars_and_blackouts_are_used_or_refused(
    one: object, two: object, three: object
) -> None:
    schedule = {"cron": "@daily", "timezone": "UTC", "flow": 1, "blackout": three}
    data = {"calendars": {"summer": one}, "defaults": {"blackout": two}, "schedules": {"s": schedule}}
    with tempfile.TemporaryDirectory() as folder, suppress(ConfigError):
        Path(folder, "a.yaml").write_text(json.dumps(data))
        load_catalog(folder, None)


# The revision.


@pytest.fixture
def _nothing_remembered() -> Iterator[None]:
    cron.zone_rules.cache_clear()
    cron.tz_release.cache_clear()
    yield
    cron.zone_rules.cache_clear()
    cron.tz_release.cache_clear()


def test_the_revision_depends_on_what_files_beside_hold(tmp_path: Path) -> None:
    text = "calendars: {c: {ical: [a.ics]}}"
    (tmp_path / "a.ics").write_text(ICAL)
    before = loaded(tmp_path, a=text).revision
    (tmp_path / "b.ics").write_text(ICAL)
    beside = loaded(tmp_path, a=text).revision
    (tmp_path / "a.ics").write_text(ICAL.replace("20260701", "20260702"))
    after = loaded(tmp_path, a=text).revision

    assert before == beside != after


@pytest.mark.usefixtures("_nothing_remembered")
def test_the_revision_depends_on_the_release_of_the_zone_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loaded(tmp_path, a=SUMMER).revision
    again = loaded(tmp_path, a=SUMMER).revision
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones" / "tzdata.zi").write_text("# version 1999z\n")
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(tmp_path / "zones"), *zoneinfo.TZPATH))
    cron.tz_release.cache_clear()

    assert cron.tz_release() == "1999z"
    assert before == again != loaded(tmp_path, a=SUMMER).revision


@pytest.mark.usefixtures("_nothing_remembered")
@pytest.mark.parametrize(
    "text",
    ["schedules:\n" + a_schedule("a"), "calendars: {c: {timezone: UTC, weekly: [SUN]}}\n"],
)
def test_the_revision_depends_on_the_data_of_the_zones_that_are_used(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loaded(tmp_path, a=text).revision
    monkeypatch.setattr(cron, "zone_rules", lambda name: f"changed {name}")

    assert before != loaded(tmp_path, a=text).revision


@pytest.mark.usefixtures("_nothing_remembered")
def test_the_revision_depends_on_the_data_of_the_zones_that_a_file_beside_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = "DTSTART;TZID=Asia/Tokyo:20260701T100000"
    lines = ["BEGIN:VCALENDAR", "BEGIN:VEVENT", event, "DURATION:PT2H", "END:VEVENT", "END:VCALENDAR"]
    (tmp_path / "c.ics").write_text("\n".join(lines), encoding="utf-8")
    before = loaded(tmp_path, a="calendars: {c: {ical: [c.ics]}}").revision
    monkeypatch.setattr(cron, "zone_rules", lambda name: f"changed {name}")

    assert before != loaded(tmp_path, a="calendars: {c: {ical: [c.ics]}}").revision


def test_the_revision_depends_on_the_version_of_holidays_where_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = "calendars: {c: {holidays: [{country: DE}]}}"
    with_them, without = loaded(tmp_path, a=used).revision, loaded(tmp_path, a=SUMMER).revision

    monkeypatch.setattr(holidays, "__version__", "0.0.1")

    assert blackouts.holidays_version() == "0.0.1"
    assert with_them != loaded(tmp_path, a=used).revision
    assert without == loaded(tmp_path, a=SUMMER).revision
