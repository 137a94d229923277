"""Reports: each format holds what was found, whatever is written in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched.cli.reports import FORMATS, Check, Report, github, print_report, sarif, tally
from flowsched.errors import Problem, Severity
from flowsched.review.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

SARIF = jsonschema.Draft4Validator(
    json.loads((Path(__file__).parent / "data" / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
)
ERROR = Problem("s/a b.yaml", 5, 11, "schedules.x.flow", "is small", "1, 2")
WARNING = Problem(
    "s/b.yaml", 7, 3, "schedules.y.owner", "is missing", None, "missing-owner", Severity.WARNING
)
WHOLE = Problem("s/c.yaml", 0, 0, "", "is empty")
NASTY = Problem(
    "s/%0A,::é.yaml", 1, 1, "a", "100%\r\n::error::x ##[error]<b>|`]]>&\x00\x1b\ud800￾", None, "a:b,c"
)


def a_report(*problems: Problem, strict: bool = False) -> Report:
    files = dict.fromkeys(problem.file for problem in problems)
    checks = [
        Check(file, file, tuple(problem for problem in problems if problem.file == file)) for file in files
    ]
    return Report(
        "validate", (*checks, Check("good", "s/good.yaml", ())), "what came of it", {"n": 1}, strict
    )


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def shown(report: Report, format_: str, **more: Any) -> str:
        print_report(report, format_, **more)
        return capsys.readouterr().out

    return shown


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_names_every_problem(show: Any, format_: str) -> None:
    shown = show(a_report(ERROR, WARNING, WHOLE), format_)

    for problem in (ERROR, WARNING, WHOLE):
        assert problem.message in shown


def test_what_fails_depends_on_severity_and_on_strictness() -> None:
    assert a_report(WARNING).ok
    assert not a_report(WARNING, strict=True).ok
    assert not a_report(ERROR).ok
    assert tally([ERROR, WHOLE, WARNING]) == "2 errors and 1 warning"


def test_annotations_are_as_workflow_commands_are_written(show: Any) -> None:
    assert show(a_report(ERROR, WARNING, WHOLE), "github").splitlines() == [
        "::error file=s/a b.yaml,title=invalid-file,line=5,col=11::schedules.x.flow: is small; allowed: 1, 2",
        "::error file=s/c.yaml,title=invalid-file::is empty",
        "::warning file=s/b.yaml,title=missing-owner,line=7,col=3::schedules.y.owner: is missing",
        "what came of it",
    ]


def test_what_is_made_to_count_is_annotated_as_an_error_and_named_from_here(show: Any) -> None:
    owner = Problem(
        str(Path.cwd() / "s.yaml"), 7, 3, "", "is missing", None, "missing-owner", Severity.WARNING
    )

    shown = show(a_report(owner, strict=True), "github")

    assert shown.startswith("::error file=s.yaml,title=missing-owner,line=7,col=3::is missing\n")


def test_no_text_is_taken_for_a_workflow_command_or_for_markup(
    show: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    others = [Problem(f"::error::{number}", 1, 1, "", NASTY.message) for number in range(11)]

    shown = show(a_report(NASTY, *others), "github")

    commands = [line for line in shown.splitlines() if line.lstrip().startswith("::")]
    assert len(commands) == 10
    assert commands[0].startswith(
        "::error file=s/%250A%2C%3A%3Aé.yaml,title=a%3Ab%2Cc,line=1,col=1::a: 100%25\\r%0A"
    )
    assert "##[" not in "".join(set(shown.splitlines()) - set(commands))
    rows = [line for line in summary.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}
    assert "<b>" not in summary.read_text(encoding="utf-8")


def test_of_many_problems_those_in_touched_files_are_annotated_first(show: Any) -> None:
    many = [Problem(f"s/{number:02}.yaml", 1, 1, "", "wrong") for number in range(25)]

    shown = show(a_report(*many), "github", touched={"s/20.yaml", "s/24.yaml"})

    commands = [line for line in shown.splitlines() if line.startswith("::")]
    assert [re.findall(r"s/\d\d", line)[0] for line in commands[:3]] == ["s/20", "s/24", "s/00"]
    assert len(commands) == github.SHOWN
    assert len([line for line in shown.splitlines() if line.startswith("s/")]) == 15
    assert shown.endswith("\nwhat came of it; 10 of 25 are annotated, the others are listed\n")


def test_the_job_summary_keeps_its_size(show: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("x" * 1000)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    many = [Problem("s/a.yaml", number, 1, "", "ä" * 200) for number in range(1, 4_000)]

    show(a_report(*many), "github")

    assert github.MOST_BYTES - 1000 < summary.stat().st_size <= github.MOST_BYTES
    assert summary.read_text(encoding="utf-8").endswith("the log of the step has them all.\n")


def test_a_job_summary_that_cannot_be_written_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))

    print_report(a_report(ERROR), "github")

    assert "the job summary could not be written: Is a directory" in capsys.readouterr().err


def checked_sarif(text: str) -> Any:
    document = json.loads(text)
    SARIF.validate(document)
    (run,) = document["runs"]
    return run


def test_sarif_is_as_its_schema_says(show: Any) -> None:
    run = checked_sarif(show(a_report(ERROR, WARNING, WHOLE, NASTY), "sarif"))

    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["invalid-file", *RULES, "a:b,c"]
    error = run["results"][0]
    assert (error["ruleId"], error["level"]) == ("invalid-file", "error")
    assert error["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "s/a%20b.yaml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 5, "startColumn": 11},
    }
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert not [rule["id"] for rule in rules if rule["id"] in RULES and "help" not in rule]


def test_sarif_fingerprints_outlive_a_moved_line_and_tell_problems_apart(show: Any) -> None:
    def fingerprints(*problems: Problem) -> list[str]:
        results = checked_sarif(show(a_report(*problems), "sarif"))["results"]
        return [result["partialFingerprints"]["flowsched/v1"] for result in results]

    moved = Problem(ERROR.file, 50, 1, ERROR.path, "is tiny", ERROR.allowed)

    assert fingerprints(ERROR) == fingerprints(moved)
    assert len(set(fingerprints(ERROR, moved, WARNING, WHOLE))) == 4


@pytest.mark.parametrize("file", ["/etc/x y.yaml", "../up.yaml"])
def test_sarif_names_files_outside_the_source_in_full(show: Any, file: str) -> None:
    run = checked_sarif(show(a_report(Problem(file, 1, 1, "", "wrong")), "sarif"))

    location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location["uri"].startswith("file:///")
    assert " " not in location["uri"]


def test_sarif_names_a_file_below_the_current_folder_from_there(show: Any) -> None:
    run = checked_sarif(show(a_report(Problem(str(Path.cwd() / "s" / "a.yaml"), 1, 1, "", "wrong")), "sarif"))

    location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "s/a.yaml", "uriBaseId": "%SRCROOT%"}


def test_sarif_is_bounded_and_keeps_errors_and_touched_files(
    show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sarif, "MOST_RESULTS", 2)

    run = checked_sarif(show(a_report(WARNING, ERROR, WHOLE), "sarif", touched={"s/c.yaml"}))

    assert [result["message"]["text"] for result in run["results"]] == [
        "is empty",
        "schedules.x.flow: is small; allowed: 1, 2",
    ]
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "2 errors and 1 warning; 2 of them are listed"


def test_junit_has_a_case_for_each_check(show: Any) -> None:
    root = ET.fromstring(show(a_report(ERROR, WARNING, NASTY), "junit"))  # noqa: S314 - our own

    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "4", "2")
    cases = {case.get("file"): case for case in root.iter("testcase")}
    assert cases["s/good.yaml"].find("failure") is None
    failure = cases["s/a b.yaml"].find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("schedules.x.flow: is small; allowed: 1, 2", str(ERROR))
    warned = cases["s/b.yaml"]
    assert (warned.find("failure"), warned.findtext("system-out")) == (None, str(WARNING))


def test_a_failure_may_have_several_lines(show: Any) -> None:
    message = "expected  actual\n02:30     03:00"
    report = a_report(Problem("s/a.test.yaml", 3, 1, "tests.x", message, None, "expectation"))

    root = ET.fromstring(show(report, "junit"))  # noqa: S314 - our own

    (failure,) = root.iter("failure")
    assert failure.get("message") == "tests.x: expected  actual"
    assert "02:30     03:00" in (failure.text or "")
    assert "expected  actual%0A02:30     03:00" in show(report, "github")
    assert message in show(report, "text")


TEXTS = st.text(max_size=40)
NUMBERS = st.integers(0, 99)
FILES = st.text("/.ab %\x1b\ud800", min_size=1)
RULE_NAMES = st.sampled_from(["", *RULES])
SEVERITIES = st.sampled_from(Severity)
PROBLEMS = st.builds(
    Problem, FILES, NUMBERS, NUMBERS, TEXTS, TEXTS, st.none() | TEXTS, RULE_NAMES, SEVERITIES
)


@settings(max_examples=60)
@given(st.lists(PROBLEMS, max_size=15))
def test_no_text_breaks_a_format(show: Any, problems: list[Problem]) -> None:
    report = a_report(*problems)

    assert len(json.loads(show(report, "sarif"))["runs"][0]["results"]) == len(problems)
    root = ET.fromstring(show(report, "junit"))  # noqa: S314 - our own
    assert len(list(root.iter("testcase"))) == len(report.checks)
    assert len(json.loads(show(report, "json"))["problems"]) == len(problems)
    commands = [line for line in show(report, "github").splitlines() if line.startswith("::")]
    assert len(commands) <= 2 * github.SHOWN
    show(report, "text")


@pytest.mark.parametrize("format_", ["github", "sarif"])
def test_files_are_named_from_the_root_of_the_source(
    show: Any, format_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    monkeypatch.chdir(folder)
    report = a_report(ERROR)

    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    assert "deploy/s/a" not in show(report, format_)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert "deploy/s/a" in show(report, format_)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "other"))
    (tmp_path / ".git").mkdir()
    assert "deploy/s/a" in show(report, format_)


def test_a_summary_that_looks_like_a_workflow_command_is_listed(show: Any) -> None:
    report = Report("validate", (), " ::error::x ##[error]")

    assert show(report, "github") == "-  ::error::x # #[error]\n"
