"""`flowsched validate`: warnings, collisions, formats and exit codes, as reviewers and pipelines see them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.cli import main
from flowsched.config import schema
from flowsched.errors import Severity
from flowsched.review.rules import RULES
from tests.test_cli import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
WARNINGS = ROOT / "tests" / "data" / "bad" / "warnings"
PAGES = ROOT / "docs" / "warnings"
AT = "2026-11-22T00:00Z"

UNEVEN = """\
defaults: {timezone: UTC, owner: ops}
schedules:
  uneven: {description: a report, cron: "0 */5 * * *", flow: 1}
"""
COLLIDING = """\
defaults: {timezone: UTC, owner: ops}
schedules:
  first: {description: a report, cron: "0 6 * * *", flow: 1}
  second: {description: a report, cron: "0 6 * * *", flow: 1, task: 2}
"""


@pytest.fixture
def validate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Validate a text as `schedules/a.yaml` of an empty folder; exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLOWSCHED_CONFIG", "GITHUB_STEP_SUMMARY", "GITHUB_BASE_REF"):
        monkeypatch.delenv(name, raising=False)

    def run(text: str, *options: str) -> tuple[int, str, str]:
        file = tmp_path / "schedules" / "a.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        code = main(["validate", "schedules", "--at", AT, *options])
        return code, *capsys.readouterr()

    return run


def test_target_names_that_could_not_be_checked_are_said_to_people(
    validate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    named = UNEVEN.replace("flow: 1}", "flow: 1, target: nowhere}")
    said = "flowsched: the target names of 1 schedule were not checked: there is no flowsched.yaml\n"

    code, out, err = validate(named)

    assert (code, out.splitlines()[-1][:3], err.splitlines(keepends=True)[1:]) == (0, "ok:", [said])
    for text, options in ((named, ("--format", "json")), (named, ("--format", "junit")), (UNEVEN, ())):
        assert "not checked" not in validate(text, *options)[2]
    (tmp_path / "flowsched.yaml").write_text(SETTINGS.replace("default:", "nowhere:"))
    assert "not checked" not in validate(named)[2]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_file_that_breaks_a_rule_gets_its_whole_report(
    rule: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(WARNINGS)

    code = main(["validate", f"{rule}.yaml", "--at", AT])

    lines = capsys.readouterr().out.splitlines(keepends=True)
    reported = "".join(line for line in lines if not line.startswith("ok: "))
    assert reported == Path(f"{rule}.expected").read_text(encoding="utf-8")
    assert all(line.endswith(f"[{rule}]\n") for line in reported.splitlines(keepends=True))
    assert code == (RULES[rule].severity is Severity.ERROR)


def test_every_rule_has_a_file_a_page_and_a_line_in_the_index() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")

    assert {path.stem for path in WARNINGS.glob("*.expected")} == set(RULES)
    assert {path.stem for path in PAGES.glob("*.md")} == {*RULES, "README"}
    assert [name for name in RULES if f"]({name}.md)" not in index] == []


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_page_shows_what_the_rule_reports(rule: str) -> None:
    page = (PAGES / f"{rule}.md").read_text(encoding="utf-8")
    reported = (WARNINGS / f"{rule}.expected").read_text(encoding="utf-8")

    assert page.startswith(f"# {rule}\n")
    assert reported.splitlines()[0] in page.splitlines()
    assert ("## How to accept it" in page) is (rule != "unused-acceptance")


def test_every_rule_but_the_one_about_acceptances_can_be_accepted() -> None:
    accept: dict[str, Any] = schema.schema_document("schedules")["definitions"]["accept"]

    assert set(accept["properties"]) == set(RULES) - {"unused-acceptance"}


def test_the_examples_have_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    assert main(["validate", "schedules", "--strict"]) == 0


def test_warnings_leave_the_exit_code_unless_they_are_made_to_count(validate: Any) -> None:
    code, out, err = validate(UNEVEN)
    strict = validate(UNEVEN, "--strict")

    assert code == 0
    assert "[uneven-step]\nok: 1 schedule, 1 warning, revision " in out
    assert err.startswith("docs/warnings has a page for each")
    assert (strict[0], strict[2].splitlines()[-1]) == (1, "1 warning in 1 file")


def test_a_collision_fails_unless_it_is_accepted(validate: Any) -> None:
    accepting = COLLIDING.replace("task: 2", 'task: 2, accept: {collision: {first: "either will do"}}')

    assert validate(COLLIDING)[0] == 1
    assert validate(accepting)[0] == 0


def test_what_fails_stands_last(validate: Any) -> None:
    _, out, _ = validate(COLLIDING + '  third: {description: a report, cron: "0 */5 * * *", flow: 9}\n')

    assert [line.rpartition(" ")[2] for line in out.splitlines()] == ["[uneven-step]", "[collision]"]


def test_many_warnings_alike_are_counted_not_listed(validate: Any) -> None:
    text = "defaults: {timezone: UTC, owner: ops}\nschedules:\n" + "".join(
        f"  s-{hour:02}: {{cron: '0 {hour} * * *', flow: {hour + 1}}}\n" for hour in range(24)
    )

    _, out, _ = validate(text)
    _, everything, _ = validate(text, "--format", "json")

    assert out.count("[missing-description]") == 11
    assert "schedules/a.yaml: warning: 14 more of them [missing-description]\n" in out
    assert json.loads(everything)["warnings"] == 24


def test_the_time_of_the_check_can_be_chosen(validate: Any) -> None:
    text = UNEVEN.replace("*/5", "4").replace("flow: 1", "flow: 1, ends_at: 2027-01-01")

    assert "never-fires" not in validate(text)[1]
    assert "it ended at 2027-01-01T00:00Z" in validate(text, "--at", "2027-06-01T00:00Z")[1]


@pytest.mark.parametrize("at", ["1972-12-31T00:00Z", "9990-01-01T00:00Z", "9999-12-31T23:59Z"])
def test_a_time_without_room_for_a_look_ahead_is_refused(validate: Any, at: str) -> None:
    code, _, err = validate(UNEVEN, "--at", at)

    assert code == 2
    assert "out of range; allowed: years from 1973 to 9989" in err


@pytest.mark.parametrize("at", ["1973-01-01T00:00Z", "9989-12-31T23:59Z"])
def test_any_other_time_can_be_looked_at(validate: Any, at: str) -> None:
    assert validate(UNEVEN, "--at", at)[0] == 0


def test_the_json_document_has_its_keys(validate: Any) -> None:
    document = json.loads(validate(UNEVEN, "--format", "json")[1])

    assert list(document) == ["ok", "schedules", "revision", "errors", "warnings", "checks", "problems"]
    assert (document["ok"], document["schedules"], document["errors"], document["warnings"]) == (
        True,
        1,
        0,
        1,
    )
    assert document["checks"] == [{"name": "schedules/a.yaml", "file": "schedules/a.yaml", "ok": True}]
    assert document["problems"] == [
        {
            "file": "schedules/a.yaml",
            "line": 3,
            "column": 41,
            "path": "schedules.uneven.cron",
            "message": "hour '*/5' is 0, 5, 10, 15, 20: the step after 20 is 4 hours",
            "allowed": "a step that divides the day, such as 4 or 6",
            "rule": "uneven-step",
            "severity": "warning",
        }
    ]


def test_warnings_wait_until_the_files_can_be_used(validate: Any) -> None:
    code, out, _ = validate(UNEVEN.replace("flow: 1", "flow: -1"))

    assert code == 1
    assert len(out.splitlines()) == 1
    assert "uneven-step" not in out


def test_a_warning_points_at_the_value_wherever_it_is_inherited_from(validate: Any) -> None:
    text = (
        "defaults:\n  timezone: UTC\n  owner: ops\n  retry:\n    deadline: 1h\n"
        "schedules:\n  often:\n    description: a report\n    cron: '*/30 * * * *'\n    flow: 1\n"
    )

    assert validate(text)[1].startswith("schedules/a.yaml:5:15: warning: schedules.often.retry.deadline: ")


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S603, S607


def test_problems_of_changed_files_are_annotated_first(
    validate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        path = tmp_path / "schedules" / f"old-{number:02}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(UNEVEN.replace("uneven", f"old-{number}").replace("flow: 1", f"flow: {number + 10}"))
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "before")
    git(tmp_path, "switch", "-q", "-c", "change")
    (tmp_path / "schedules" / "z.yaml").write_text(
        UNEVEN.replace("uneven", "changed").replace("flow: 1", "flow: 2")
    )
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a change")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    code, out, err = validate(UNEVEN, "--format", "github")

    commands = [line for line in out.splitlines() if line.startswith("::")]
    assert (code, err, len(commands)) == (0, "", 10)
    assert [line.split(",")[0] for line in commands[:3]] == [
        "::warning file=schedules/a.yaml",
        "::warning file=schedules/z.yaml",
        "::warning file=schedules/old-00.yaml",
    ]
    assert out.splitlines()[-1].endswith("10 of 14 are annotated, the others are listed")
    assert summary.read_text().count("| uneven-step |") == 14


def test_without_git_the_files_are_annotated_in_their_order(
    validate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    monkeypatch.setenv("PATH", str(tmp_path))

    code, out, err = validate(UNEVEN, "--format", "github")

    assert code == 0
    assert out.startswith("::warning file=schedules/a.yaml,title=uneven-step,line=3,col=41::")
    assert "the files of the change do not come first" in err
