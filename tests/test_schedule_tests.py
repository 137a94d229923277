"""Test files, and what is held against them: from the text to the verdict and the report."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched import config, timeline
from flowsched.cli import main
from flowsched.errors import Refused
from flowsched.model import Blackout, Calendar, Expectation, Source, Span, Then
from flowsched.review.expectations import MOST_FIRES, verdict
from tests.builders import a_schedule

if TYPE_CHECKING:
    from flowsched.model import Schedule

BAD = Path(__file__).parent / "data" / "bad" / "tests"
ROOT = Path(__file__).parents[1]
KNOWN = {"nightly-wind-report", "hourly-ingest"}

SCHEDULES = """\
defaults: {timezone: Europe/Berlin}
schedules:
  nightly: {cron: "30 2 * * *", flow: 1}
  hourly: {cron: "0 * * * *", flow: 2}
  idle: {cron: "0 * * * *", flow: 3, enabled: false}
  minutely: {cron: "* * * * *", flow: 4}
"""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def an_expectation(
    start: str = "2026-03-28T00:00Z", end: str = "2026-03-31T00:00Z", **more: Any
) -> Expectation:
    values: dict[str, Any] = {
        "exactly": None,
        "at_least": frozenset(),
        "never": (),
        "count": None,
        "deferred": {},
        **more,
    }
    return Expectation(
        name="as agreed",
        schedule_id="nightly",
        timezone="UTC",
        start=utc(start),
        end=utc(end),
        source=Source("schedules/a.test.yaml", 3),
        column=5,
        **values,
    )


def times(*texts: str) -> frozenset[datetime]:
    return frozenset(map(utc, texts))


def closed(then: Then, *spans: tuple[str, str]) -> Blackout:
    stretches = tuple(Span(utc(start), utc(end)) for start, end in spans)
    source = Source("schedules/a.yaml", 2)
    calendar = Calendar(name="works", description=None, timezone="UTC", spans=stretches, source=source)
    return Blackout((calendar,), then)


def faults(expectation: Expectation, schedule: Schedule | None = None) -> tuple[str, ...]:
    return verdict(expectation, schedule or a_schedule()).faults


# What is held against the fires: 02:30 UTC on the 28th, 29th and 30th, unless a schedule says otherwise.

ALL = times("2026-03-28T02:30Z", "2026-03-29T02:30Z", "2026-03-30T02:30Z")
TWO = times("2026-03-28T02:30Z", "2026-03-29T02:30Z")
OTHER = times("2026-03-28T02:31Z")


@pytest.mark.parametrize(
    "holds",
    [
        {"exactly": ALL},
        {"at_least": TWO},
        {"at_least": ALL},
        {"count": 3},
        {"never": (Span(utc("2026-03-28T02:31Z"), utc("2026-03-29T02:30Z")),)},
        {"exactly": ALL, "at_least": TWO, "count": 3},
    ],
)
def test_what_is_as_expected_has_no_fault(holds: dict[str, Any]) -> None:
    assert faults(an_expectation(**holds)) == ()


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ({"exactly": TWO}, ("1 unexpected",)),
        ({"exactly": ALL | OTHER}, ("1 missing",)),
        ({"exactly": TWO | OTHER}, ("1 missing", "1 unexpected")),
        ({"exactly": frozenset()}, ("3 unexpected",)),
        ({"at_least": OTHER}, ("1 missing",)),
        ({"count": 2}, ("2 were expected",)),
        ({"count": 0}, ("0 were expected",)),
        ({"never": (Span(utc("2026-03-29T00:00Z"), utc("2026-03-30T00:00Z")),)}, ("1 unexpected",)),
        ({"never": (Span(utc("2026-03-29T02:30Z"), utc("2026-03-29T02:31Z")),)}, ("1 unexpected",)),
        ({"at_least": OTHER, "count": 3}, ("1 missing",)),
        ({"at_least": TWO, "count": 4}, ("4 were expected",)),
    ],
)
def test_what_is_not_as_expected_is_counted(fails: dict[str, Any], said: tuple[str, ...]) -> None:
    assert faults(an_expectation(**fails)) == said


def test_the_start_is_looked_at_and_the_end_is_not() -> None:
    whole = an_expectation("2026-03-28T02:30Z", "2026-03-29T02:30Z", exactly=times("2026-03-28T02:30Z"))

    assert faults(whole) == ()


def test_the_bounds_of_a_schedule_hold() -> None:
    bounded = a_schedule(starts_at=utc("2026-03-29T02:30Z"), ends_at=utc("2026-03-30T02:30Z"))

    assert faults(an_expectation(exactly=times("2026-03-29T02:30Z")), bounded) == ()


def test_a_disabled_schedule_never_fires_and_the_verdict_says_why() -> None:
    disabled = a_schedule(enabled=False)

    assert faults(an_expectation(exactly=frozenset()), disabled) == ()
    assert faults(an_expectation(at_least=TWO), disabled) == ("2 missing", "it is disabled")


def test_a_fire_that_a_blackout_skips_does_not_count() -> None:
    skipping = a_schedule(blackout=closed(Then.SKIP, ("2026-03-29T00:00Z", "2026-03-30T00:00Z")))
    rest = times("2026-03-28T02:30Z", "2026-03-30T02:30Z")

    assert faults(an_expectation(exactly=rest, count=2), skipping) == ()


def test_a_fire_that_is_missing_since_it_is_skipped_is_told_with_its_calendar() -> None:
    skipping = a_schedule(blackout=closed(Then.SKIP, ("2026-03-29T00:00Z", "2026-03-30T00:00Z")))

    missing = [moment.fault for moment in verdict(an_expectation(exactly=ALL), skipping).moments]

    assert missing == ["", "missing: skipped, blackout: works", ""]


def test_a_deferred_fire_counts_by_its_fire_time() -> None:
    until = utc("2026-03-29T06:00Z")
    deferring = a_schedule(blackout=closed(Then.DEFER, ("2026-03-29T00:00Z", "2026-03-29T06:00Z")))
    fire_time = utc("2026-03-29T02:30Z")

    assert faults(an_expectation(exactly=ALL, count=3, deferred={fire_time: until}), deferring) == ()
    assert faults(an_expectation(never=(Span(until, until + timedelta(minutes=1)),)), deferring) == ()


@pytest.mark.parametrize(
    ("fire_time", "until", "said"),
    [
        ("2026-03-29T02:30Z", "2026-03-29T06:01Z", "deferred to another time"),
        ("2026-03-28T02:30Z", "2026-03-29T06:00Z", "not deferred"),
        ("2026-03-28T02:31Z", "2026-03-29T06:00Z", "missing"),
    ],
)
def test_a_fire_that_is_not_deferred_as_expected_is_told(fire_time: str, until: str, said: str) -> None:
    deferring = a_schedule(blackout=closed(Then.DEFER, ("2026-03-29T00:00Z", "2026-03-29T06:00Z")))

    found = verdict(an_expectation(deferred={utc(fire_time): utc(until)}), deferring)

    assert [moment.fault for moment in found.moments if moment.fault] == [said]
    assert len(found.faults) == 1


def test_more_fires_than_anybody_can_look_at_are_refused() -> None:
    minutely = a_schedule(cron="* * * * *")
    most = timedelta(minutes=MOST_FIRES)
    start = utc("2026-01-01T00:00Z")
    edge = an_expectation(start.isoformat(), (start + most).isoformat(), count=MOST_FIRES)
    beyond = an_expectation(start.isoformat(), (start + most + timedelta(minutes=1)).isoformat(), count=1)

    assert faults(edge, minutely) == ()
    with pytest.raises(Refused, match="more than 100,000 times"):
        verdict(beyond, minutely)


@settings(max_examples=60, derandomize=True)
@given(
    cron=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */3 * * SUN"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    start=st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 1)),  # noqa: DTZ001 - made aware below
    hours=st.integers(1, 100),
    lost=st.integers(0, 3),
    added=st.integers(0, 3),
)
def test_whatever_differs_from_what_fires_is_found(
    cron: str, zone: str, start: datetime, hours: int, lost: int, added: int
) -> None:
    schedule = a_schedule(cron=cron, zone=zone)
    start = start.replace(second=0, microsecond=0, tzinfo=UTC)
    end = start + timedelta(hours=hours)
    until = end - timedelta.resolution
    real = [
        fire.fire_time for fire in timeline.fires([schedule], after=start - timedelta.resolution, until=until)
    ]
    invented = {start + timedelta(minutes=step) for step in range(added)} - set(real)
    expected = frozenset(real[lost:]) | invented

    found = verdict(an_expectation(start.isoformat(), end.isoformat(), exactly=expected), schedule)

    assert found.fires == real
    assert found.missing == sorted(invented)
    assert found.unexpected == real[:lost]
    assert bool(found.faults) == bool(invented or real[:lost])


# The files.


def report_on_tests(name: str) -> str:
    expectations, problems = config.load_expectations([name], KNOWN)
    assert not expectations or problems
    return "".join(f"{problem}\n" for problem in problems)


@pytest.mark.parametrize("name", sorted(path.name for path in BAD.iterdir() if path.suffix == ".yaml"))
def test_a_bad_test_file_gets_its_whole_report(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)

    reported = report_on_tests(name)

    assert reported == Path(name).with_suffix(".expected").read_text(encoding="utf-8")


def load(folder: Path, text: str) -> Expectation:
    """Return what the only test of a file expects."""
    (folder / "a.test.yaml").write_text(text, encoding="utf-8")
    expectations, problems = config.load_expectations([str(folder)], KNOWN)
    assert problems == []
    (expectation,) = expectations
    return expectation


def a_file(
    fires: str, window: str = "from: 2026-10-24, until: 2026-10-27", zone: str = "Europe/Berlin"
) -> str:
    return (
        f"timezone: {zone}\ntests:\n"
        f"  - {{name: as agreed, schedule: nightly-wind-report, {window}, fires: {fires}}}\n"
    )


def test_times_are_read_on_the_wall_clock_of_the_zone(tmp_path: Path) -> None:
    read = load(tmp_path, a_file("{exactly: [2026-10-24T02:30, 2026-10-26T02:30]}"))

    assert read.start == utc("2026-10-23T22:00Z")
    assert read.end == utc("2026-10-26T23:00Z")
    assert read.exactly == times("2026-10-24T00:30Z", "2026-10-26T01:30Z")


def test_an_offset_tells_the_two_of_a_repeated_hour_apart(tmp_path: Path) -> None:
    read = load(tmp_path, a_file("{at_least: [2026-10-25T02:30+02:00, 2026-10-25T02:30+01:00]}"))

    assert read.at_least == times("2026-10-25T00:30Z", "2026-10-25T01:30Z")


def test_a_day_on_which_nothing_may_fire_is_as_long_as_the_day(tmp_path: Path) -> None:
    read = load(tmp_path, a_file("{never: [2026-10-25, 2026-10-26T02:30]}"))

    assert read.never == (
        Span(utc("2026-10-24T22:00Z"), utc("2026-10-25T23:00Z")),
        Span(utc("2026-10-26T01:30Z"), utc("2026-10-26T01:31Z")),
    )


def test_a_test_may_have_a_zone_of_its_own(tmp_path: Path) -> None:
    window = "timezone: UTC, from: 2026-10-24, until: 2026-10-27"
    read = load(tmp_path, a_file("{deferred: {2026-10-25T02:30: 2026-10-26T00:00}}", window))

    assert (read.timezone, read.start) == ("UTC", utc("2026-10-24T00:00Z"))
    assert read.deferred == {utc("2026-10-25T02:30Z"): utc("2026-10-26T00:00Z")}


def test_a_midnight_that_the_clock_leaves_out_is_the_end_of_its_gap(tmp_path: Path) -> None:
    window = "from: 2026-04-24, until: 2026-04-25"
    read = load(tmp_path, a_file("{count: 0}", window, "Africa/Cairo"))

    assert read.start == utc("2026-04-23T22:00Z")


def test_a_broken_test_does_not_hide_those_beside_it(tmp_path: Path) -> None:
    broken = (
        "  - {name: other, schedule: nightly-wind-report, from: 2026-10-24, until: soon, fires: {count: 1}}\n"
    )
    (tmp_path / "a.test.yaml").write_text(a_file("{count: 3}") + broken, encoding="utf-8")

    expectations, problems = config.load_expectations([str(tmp_path)], KNOWN)

    assert [each.name for each in expectations] == ["as agreed"]
    assert [problem.path for problem in problems] == ["tests.1.until"]


def test_a_folder_without_tests_is_a_problem_only_where_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SCHEDULES, encoding="utf-8")

    _, needed = config.load_expectations([str(tmp_path)], KNOWN)
    _, wanted = config.load_expectations([str(tmp_path)], KNOWN, needed=False)

    assert [problem.message for problem in needed] == ["holds no test file"]
    assert wanted == []


# The command.

GOOD_TESTS = """\
timezone: Europe/Berlin
tests:
  - name: once on the night of the change
    schedule: nightly
    from: 2026-03-28
    until: 2026-03-31
    fires: {exactly: [2026-03-28T02:30, 2026-03-29T03:00, 2026-03-30T02:30]}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWSCHED_CONFIG", raising=False)
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "a.yaml").write_text(SCHEDULES, encoding="utf-8")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["test", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_tests_beside_the_schedules_are_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "schedules" / "a.test.yaml").write_text(GOOD_TESTS, encoding="utf-8")

    code, out, _ = run(capsys)

    assert code == 0
    assert "ok: 1 test for 1 of 4 schedules, revision " in out


def test_a_test_that_fails_shows_both_sides_and_where_it_stands(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = GOOD_TESTS.replace("2026-03-29T03:00", "2026-03-29T03:30")
    (here / "schedules" / "a.test.yaml").write_text(wrong, encoding="utf-8")

    code, out, err = run(capsys)

    assert code == 1
    assert "schedules/a.test.yaml:3:5" in out
    assert "nightly fires 3 times: 1 missing, 1 unexpected" in out
    assert (
        "+                               Sun 2026-03-29 03:00 +02:00  2026-03-29T01:00:00Z  not expected"
        in out
    )
    assert "-  Sun 2026-03-29 03:30 +02:00                               2026-03-29T01:30:00Z  missing" in out
    assert "1 of 1 test failed" in out + err


def test_long_lists_are_cut_in_the_middle_and_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD_TESTS.replace("nightly", "hourly").replace("2026-03-29T03:00", "2026-03-29T03:30")
    (here / "schedules" / "a.test.yaml").write_text(text.replace("exactly", "at_least"), encoding="utf-8")

    _, out, _ = run(capsys)

    table = out.splitlines()
    assert "hourly fires 71 times: 3 missing" in out
    assert len(table) < 25
    assert sum("more" in line and "nothing wrong" in line for line in table) == 3


def test_a_report_stays_short_whatever_is_wrong(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD_TESTS.replace("nightly", "minutely")
    (here / "schedules" / "a.test.yaml").write_text(text, encoding="utf-8")

    _, out, _ = run(capsys)

    assert "minutely fires 4,260 times: 4,257 unexpected" in out
    assert "of them wrong" in out
    assert len(out) < 5_000


def test_the_document_for_scripts_names_every_test(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD_TESTS[: GOOD_TESTS.index("fires:")] + "fires: {count: 2}\n"
    (here / "schedules" / "a.test.yaml").write_text(text, encoding="utf-8")

    code, out, _ = run(capsys, "--format", "json")

    document = json.loads(out)
    assert (code, document["ok"], document["schedules"]) == (1, False, 4)
    assert document["tests"] == [
        {
            "name": "once on the night of the change",
            "file": "schedules/a.test.yaml",
            "line": 3,
            "schedule": "nightly",
            "timezone": "Europe/Berlin",
            "from": "2026-03-27T23:00:00Z",
            "until": "2026-03-30T22:00:00Z",
            "ok": False,
            "fires": 3,
            "missing": [],
            "missing_count": 0,
            "unexpected": [],
            "unexpected_count": 0,
        }
    ]


@pytest.mark.parametrize("format_", ["text", "json", "github", "sarif", "junit"])
def test_every_format_of_validate_is_there(
    format_: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = GOOD_TESTS.replace("2026-03-29T03:00", "2026-03-29T03:30")
    (here / "schedules" / "a.test.yaml").write_text(wrong, encoding="utf-8")

    code, out, err = run(capsys, "--format", format_)

    assert (code, "fault of its own" in err) == (1, False)
    assert "once on the night of the change" in out


def test_without_any_test_the_command_says_so_and_is_content(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys)

    assert code == 0
    assert "no tests: there is no file named *.test.yaml beside the schedules" in out + err


def test_a_path_without_tests_is_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "schedules")

    assert code == 1
    assert "schedules: holds no test file" in out


def test_a_path_names_the_tests_and_the_schedules_stay_the_same(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "elsewhere.yaml").write_text(GOOD_TESTS, encoding="utf-8")
    (here / "schedules" / "a.test.yaml").write_text("tests: broken", encoding="utf-8")

    code, out, _ = run(capsys, "elsewhere.yaml")

    assert (code, "ok: 1 test" in out) == (0, True)


def test_schedules_that_cannot_be_used_are_told_instead(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "schedules" / "a.test.yaml").write_text(GOOD_TESTS, encoding="utf-8")
    (here / "schedules" / "b.yaml").write_text("schedules: {x: {cron: nonsense}}", encoding="utf-8")

    code, out, err = run(capsys)

    assert code == 1
    assert "schedules/b.yaml:1:" in out
    assert "no test was run: the schedules cannot be used" in out + err


def test_tests_that_expand_without_end_are_refused_one_by_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD_TESTS.replace("nightly", "minutely").replace("2026-03-31", "2026-12-31")
    (here / "schedules" / "a.test.yaml").write_text(text, encoding="utf-8")

    code, out, _ = run(capsys)

    assert code == 1
    assert "minutely fires more than 100,000 times between from and until; allowed: a shorter time" in out


def test_the_example_tests_pass(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    code, out, _ = run(capsys)

    assert (code, out.split(":")[0]) == (0, "ok")


def test_the_page_shows_what_comes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "schedule-tests.md").read_text(encoding="utf-8")
    file, deferral = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (here / "schedules" / "a.yaml").write_text(SCHEDULES.replace("nightly", "nightly-wind-report"))
    (here / "schedules" / "wind.test.yaml").write_text(file)

    code, out, _ = run(capsys)

    assert (code, out) == (1, shown)
    head, _, _ = file.partition("    fires:")
    (here / "schedules" / "wind.test.yaml").write_text(
        head.replace("2026-03-31", "2026-12-31").replace("2026-03-28", "2026-12-20") + deferral
    )
    _, problems = config.load_expectations(["schedules"], {"nightly-wind-report"})
    assert problems == []
