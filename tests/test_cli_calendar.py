"""`flowsched calendar`: a heat map in text, SVG and JSON, and what to do about a crowd."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest

from flowsched.review.heat import Heat, Row, busiest, by_hour, by_minute, days_of
from tests.test_cli import SETTINGS, Shell
from tests.test_terminal import seen

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
defaults: {timezone: Europe/Berlin}
schedules:
  nightly-a: {cron: "30 2 * * *", flow: 1}
  nightly-b: {cron: "30 2 * * *", flow: 2}
  nightly-c: {cron: "30 2 * * *", flow: 3}
  hourly: {cron: "@hourly", flow: 4}
"""
BERLIN = ZoneInfo("Europe/Berlin")
SPRING = ("--from", "2026-03-28T00:00", "--timezone", "Europe/Berlin", "--days", "2")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWSCHED_CONFIG", raising=False)
    made = Shell(tmp_path, capsys)
    made.write("schedules/a.yaml", FILE)
    return made


def limit(shell: Shell, rate: int) -> None:
    shell.write("flowsched.yaml", f"{SETTINGS}limits: {{rate_per_minute: {rate}}}\n")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_repeated_hour_counts_both_times_and_one_that_is_left_out_counts_nothing() -> None:
    hourly = {datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(hours=n): 1 for n in range(25)}

    heat = by_hour(hourly, BERLIN, [date(2026, 10, 25)])

    assert heat.rows == (Row("Sun 2026-10-25", (1, 1, 2, *[1] * 21)),)


def test_fires_of_other_days_are_not_counted() -> None:
    assert by_hour({at("2026-01-02T00:00Z"): 3}, BERLIN, days_of(date(2026, 1, 3), 1)).most == 0


def test_a_minute_shows_the_day_with_the_most() -> None:
    heat = by_minute({at("2026-01-02T00:05Z"): 3, at("2026-01-03T00:05Z"): 5}, ZoneInfo("UTC"))

    assert (heat.rows[0].counts[5], heat.most, len(heat.rows)) == (5, 5, 24)


def test_shades_go_from_nothing_to_the_most() -> None:
    heat = Heat((Row("", (0, 1, 50, 100)),))

    assert [heat.level(count) for count in heat.rows[0].counts] == [0, 1, 4, 8]


def test_the_busiest_come_first_and_of_those_the_earliest() -> None:
    minutes = {at("2026-01-02T00:05Z"): 1, at("2026-01-01T00:05Z"): 1, at("2026-01-03T00:05Z"): 2}

    assert [f"{minute:%d}" for minute, _ in busiest(minutes, 2)] == ["03", "01"]


def test_numbers_in_a_pipe_are_plain(shell: Shell) -> None:
    text = shell("calendar", *SPRING).out

    lines = text.splitlines()
    assert lines[0] == (
        "Fires an hour, Sat 2026-03-28 00:00 +01:00 to Mon 2026-03-30 00:00 +02:00 (Europe/Berlin)"
    )
    assert lines[1].split()[:4] == ["00", "01", "02", "03"]
    assert lines[2].split() == ["Sat", "2026-03-28", "1", "1", "4", *["1"] * 21]
    assert lines[3].split() == ["Sun", "2026-03-29*", "1", "1", "-", "4", *["1"] * 20]  # no 02: in that night
    assert lines[8].split()[-1] == "4"  # at the end of the gap, with the hourly one
    assert text.isascii()


def test_by_minute_has_a_row_for_each_hour(shell: Shell) -> None:
    lines = shell("calendar", "--by", "minute", "--from", "2026-06-01T00:00Z").out.splitlines()

    assert [line.split()[0] for line in lines[2:26]] == [f"{hour:02}:" for hour in range(24)]
    assert lines[2].split()[31] == "3"


def test_a_crowd_is_told_with_what_would_relieve_it(shell: Shell) -> None:
    limit(shell, 2)

    text = shell("calendar", *SPRING).out
    document = shell("calendar", "--format", "json", *SPRING).json

    assert (
        "2 minutes with more fires than its rate_per_minute, 2, lets begin; "
        "the worst is 2026-03-29T01:00:00Z with 4" in text
    )
    (crowd,) = document["crowded"]
    assert (crowd["target"], crowd["minutes"], crowd["worst"]["fires"]) == ("default", 2, 4)
    assert document["proposal"][0] == {
        "schedule": "nightly-a",
        "target": "default",
        "cron": "30 2 * * *",
        "becomes": "31 2 * * *",
    }
    # Wherever a fixed time in the gap goes, it fires at its end: that minute stays crowded.
    (left,) = document["crowded_then"]
    assert left["worst"]["minute"] == "2026-03-29T01:00:00Z"
    assert "target default: 1 minute stays crowded, the worst 2026-03-29T01:00:00Z with 3" in text


def test_json_is_what_scripts_read(shell: Shell) -> None:
    document = shell("calendar", "--format", "json", *SPRING).json

    assert (document["from"], document["until"]) == ("2026-03-27T23:00:00Z", "2026-03-29T22:00:00Z")
    assert (document["timezone"], document["by"]) == ("Europe/Berlin", "hour")
    (target,) = document["targets"]
    assert (target["target"], target["fires"]) == (None, 53)
    assert (document["crowded"], document["proposal"], document["crowded_then"]) == ([], [], [])


@pytest.mark.parametrize("by", ["hour", "minute"])
def test_svg_is_one_file_that_needs_nothing_and_says_in_words_what_it_shows(shell: Shell, by: str) -> None:
    text = shell("calendar", "--format", "svg", "--by", by, *SPRING).out

    root = ET.fromstring(text)  # noqa: S314 - our own
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names == {"svg", "title", "desc", "style", "rect", "text"}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title desc"
    assert "The most in one cell is 4." in text
    assert "prefers-color-scheme:dark" in text
    assert text.count("://") == 1  # the name of SVG itself
    assert "url(" not in text


def test_nothing_that_fires_is_said_and_drawn(shell: Shell) -> None:
    shell.write("schedules/a.yaml", FILE.replace("defaults: {", "defaults: {enabled: false, "))

    assert shell("calendar").out.endswith("nothing fires in that time\n")
    assert "Nothing fires in that time." in shell("calendar", "--format", "svg").out
    assert shell("calendar", "--format", "json").json["targets"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--timezone", "Europe/Berln"], "did you mean Europe/Berlin"),
        (["--days", "0"], "--days"),
        (["--from", "soon"], "'soon' is no instant"),
        (["--from", "9999-12-30T00:00Z"], "is out of range; allowed: years from 1973 to 9989"),
        (["--from", "1800-01-01"], "is out of range; allowed: years from 1973 to 9989"),
    ],
)
def test_wrong_usage_is_said(shell: Shell, arguments: list[str], said: str) -> None:
    done = shell("calendar", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.e2e
@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("by", ["hour", "minute"])
def test_a_terminal_gets_shades_that_fit(columns: int, by: str) -> None:
    text = seen(["calendar", "--schedules", "schedules", "--by", by], columns, 50)

    picture = text.split("\n\n")[0].splitlines()[1:]
    assert max(map(len, picture)) <= columns
    assert ("█" in text) == (columns == 80)


def test_a_time_that_the_clock_leaves_out_is_the_end_of_its_gap(shell: Shell) -> None:
    def begins(text: str) -> object:
        arguments = ("--from", text, "--timezone", "Europe/Berlin", "--format", "json")
        return shell("calendar", *arguments).json["from"]

    assert begins("2026-03-29T02:30") == "2026-03-29T01:00:00Z"
    assert begins("2026-03-29T02:30:15") == "2026-03-29T01:00:00Z"
    assert begins("2026-03-29T03:30:15") == "2026-03-29T01:30:15Z"


@pytest.mark.parametrize(
    ("day", "line"),
    [
        ("2026-03-28", "* Sun 2026-03-29: 02:00 +01:00 becomes 03:00 +02:00, 02:00 to 03:00 is left out"),
        ("2026-10-24", "* Sun 2026-10-25: 03:00 +02:00 becomes 02:00 +01:00, 02:00 to 03:00 is there twice"),
    ],
)
@pytest.mark.parametrize("format_", ["text", "svg"])
def test_the_night_of_a_clock_change_is_marked(shell: Shell, day: str, line: str, format_: str) -> None:
    arguments = ("--from", f"{day}T00:00", "--timezone", "Europe/Berlin", "--days", "2", "--format", format_)

    text = shell("calendar", *arguments).out

    assert line in text
    assert text.count("*") == 2  # at the row, and before the line
    assert "2026*" not in shell("calendar", *arguments[:-1], "json").out


def test_a_day_that_a_zone_left_out_is_left_out() -> None:
    heat = by_hour({}, ZoneInfo("Pacific/Apia"), days_of(date(2011, 12, 29), 3))

    assert [set(row.counts) for row in heat.rows] == [{0}, {None}, {0}]


def test_half_an_hour_that_is_left_out_leaves_a_cell(shell: Shell) -> None:
    heat = by_hour({}, ZoneInfo("Australia/Lord_Howe"), [date(2026, 10, 4)])

    assert set(heat.rows[0].counts) == {0}


@pytest.mark.e2e
def test_on_a_terminal_numbers_are_shown_where_they_fit_and_else_a_scale(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('schedules: {x: {cron: "*/5 * * * *", timezone: UTC, flow: 1}}\n')
    arguments = [
        "calendar",
        "--schedules",
        str(tmp_path / "a.yaml"),
        "--from",
        "2026-06-01T00:00Z",
        "--days",
        "2",
    ]

    narrow, wide = seen(arguments, 85, 24), seen(arguments, 86, 24)

    assert "· none, then up to ▁ 1 ▂ 3 ▃ 4 ▄ 6 ▅ 7 ▆ 9 ▇ 10 █ 12" in narrow
    assert "█" not in wide
    assert wide.splitlines()[2] == "Mon 2026-06-01" + " 12" * 24
