"""`flowsched show`, `next` and `schema`: what a reviewer sees of one schedule, and of all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flowsched.cli.values import VALUES
from flowsched.config import schema_document
from tests.test_cli import SETTINGS, Shell

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
defaults:
  timezone: Europe/Berlin
  owner: wind-data
  retry: {max_attempts: 7}
  watch: {timeout: 6h}
calendars:
  company-holidays:
    description: The office is closed
    dates: [2026-12-24..2026-12-26]
    yearly: ["01-01"]
schedules:
  nightly:
    description: Every night
    cron: "30 2 * * *"
    flow: 3377
    retry:
      deadline: 20m
    watch: null
    blackout:
      calendars: [company-holidays]
      then: defer
    accept:
      clock-change: 03:00 is fine
  other:
    cron: "30 2 * * SUN"
    flow: 3377
  jittered:
    cron: "0 2 * * *"
    flow: 3388
    jitter: 30m
    ends_at: 2026-12-25
    blackout: {calendars: [company-holidays], then: skip}
    enabled: false
"""

AT = ("--at", "2026-12-23T12:00Z")
FROM = ("--from", "2026-12-23T12:00Z")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWSCHED_CONFIG", raising=False)
    made = Shell(tmp_path, capsys)
    made.write("schedules/a.yaml", FILE)
    return made


def test_each_value_is_shown_with_the_line_that_it_comes_from(shell: Shell) -> None:
    shown = {
        value["key"]: value for value in shell("show", "nightly", "--format", "json", *AT).json["values"]
    }

    def written(key: str) -> tuple[object, object, bool]:
        value = shown[key]
        return value["value"], value["source"] and value["source"]["line"], value["shared"]

    assert list(shown) == [".".join(key) for key in VALUES]
    assert written("cron") == ("30 2 * * *", 14, False)
    assert written("timezone") == ("Europe/Berlin", 2, True)
    assert written("retry.max_attempts") == (7, 4, True)
    assert written("retry.deadline") == ("20m", 17, False)
    assert written("retry.multiplier") == (2, None, False)
    assert written("watch.timeout") == (None, 18, False)  # null there, whatever the defaults say
    assert written("blackout") == ("defer: company-holidays", 19, False)
    assert written("task") == (None, None, False)


def test_the_target_comes_from_flowsched_yaml_where_the_file_names_none(shell: Shell) -> None:
    shell.write("flowsched.yaml", SETTINGS)

    lines = shell("show", "nightly", *AT).out.splitlines()

    (target,) = [line.split() for line in lines if line.startswith("target ")]
    assert target == ["target", "default", "flowsched.yaml:4"]


def test_the_text_tells_when_it_fires_what_the_clock_does_and_what_a_blackout_holds(shell: Shell) -> None:
    text = shell("show", "nightly", *AT).out

    assert text.startswith("nightly  schedules/a.yaml:12\n")
    assert "\nAt 02:30 every day (Europe/Berlin)\n" in text
    assert "company-holidays  2026-12-24..2026-12-26; yearly 01-01  The office is closed" in text
    assert (
        "2026-12-24T01:30:00Z  Thu 2026-12-24 02:30 +01:00  Europe/Berlin  skipped (blackout: company" in text
    )
    assert (
        "Thu 2026-12-24 00:00 +01:00  Sun 2026-12-27 00:00 +01:00  company-holidays\n"
        "Fri 2027-01-01 00:00 +01:00  Sat 2027-01-02 00:00 +01:00  company-holidays\n"
    ) in text
    assert "goes out Sun 2026-12-27 00:00 +01:00 (blackout: company-holidays)" in text
    assert (
        "Sun 2027-03-28  02:00 +01:00 becomes 03:00 +02:00  02:30 does not exist: fires at 03:00\n"
        "Sun 2027-10-31  03:00 +02:00 becomes 02:00 +01:00  02:30 comes twice: fires the first time\n"
    ) in text
    assert "clock-change  03:00 is fine  schedules/a.yaml:23" in text
    assert "\nCollisions in the next 400 days\n" in text
    assert "other  nightly  " in text


def test_the_collisions_of_a_schedule_are_only_its_own(shell: Shell) -> None:
    (collision,) = shell("show", "other", "--format", "json", *AT).json["collisions"]
    none = shell("show", "jittered", "--format", "json", *AT).json["collisions"]

    assert (collision["sent"], collision["skipped"], collision["accepted"]) == ("nightly", "other", None)
    assert len(collision["first"]) == 3
    assert none == []


def test_a_disabled_schedule_says_that_it_does_not_fire(shell: Shell) -> None:
    text = shell("show", "jittered", *AT).out

    assert "none: it is disabled" in text
    assert "until Fri 2026-12-25 00:00 +01:00, not included" in text


def test_an_id_that_nobody_has_is_wrong_usage_with_a_near_one(shell: Shell) -> None:
    done = shell("show", "nighty")

    assert (done.code, done.out) == (2, "")
    assert "there is no schedule 'nighty'; did you mean 'nightly'?" in done.err


def test_next_says_what_a_blackout_does_with_each_fire(shell: Shell) -> None:
    enabled = FILE.replace("enabled: false", "enabled: true")
    shell.write("schedules/a.yaml", enabled)

    text = shell("next", "nightly", "jittered", "--count", "4", *FROM).out
    fires = shell("next", "nightly", "jittered", "--count", "4", "--format", "json", *FROM).json["fires"]

    assert [fire["schedule"] for fire in fires] == ["jittered", "nightly", "nightly", "nightly"]
    assert [fire["blackout"] for fire in fires] == ["company-holidays"] * 4
    skipped, *_, last = fires
    assert (skipped["due_time"], last["utc"], last["due_time"]) == (
        None,
        "2026-12-26T01:30:00Z",
        "2026-12-26T23:00:00Z",
    )
    assert last["note"] == "goes out Sun 2026-12-27 00:00 +01:00 (blackout: company-holidays)"
    assert text.splitlines()[0].split()[-1] == "note"


def test_next_has_no_notes_where_nothing_is_held(shell: Shell) -> None:
    done = shell("next", "nightly", "--from", "2027-02-01T00:00Z", "--count", "1")

    assert "note" not in done.out


@pytest.mark.parametrize("kind", ["schedules", "settings", "tests"])
def test_schema_prints_what_is_shipped(shell: Shell, kind: str) -> None:
    assert json.loads(shell("schema", kind).out) == schema_document(kind)


def test_schema_prints_that_of_schedules_by_default(shell: Shell) -> None:
    assert shell("schema").json == schema_document("schedules")
