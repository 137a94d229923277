"""`flowsched plan`: which two states, in which format, with which exit code; and what it never does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from flowsched import cron
from flowsched.cli import main
from flowsched.cli.plan import markdown
from flowsched.cli.plan.sides import Side, State
from flowsched.cli.plan.telling import Telling
from flowsched.model import Catalog
from flowsched.review import edits
from flowsched.review.changes import changes
from tests.builders import a_schedule

AT = ("--at", "2026-03-20T12:07:00Z")
FILE = """\
defaults: {timezone: Europe/Berlin, owner: wind-data}
schedules:
  nightly-report:
    description: The report of the night
    cron: "30 4 * * *"
    flow: 3377
"""
LATER = FILE.replace("30 4", "45 4")
ADDED = FILE + '  weekly: {description: Weekly, cron: "0 7 * * MON", flow: 3391}\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with FILE as its schedules."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLOWSCHED_CONFIG", "GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"):
        monkeypatch.delenv(name, raising=False)
    write(tmp_path / "schedules", FILE)
    return tmp_path


@pytest.fixture
def repository(here: Path) -> Path:
    """The same, committed on main, with a branch checked out."""
    git(here, "init", "--quiet", "--initial-branch=main")
    commit(here, "one")
    git(here, "checkout", "--quiet", "-b", "change")
    return here


def write(folder: Path, text: str, name: str = "wind.yaml") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["plan", *AT, *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:  # type: ignore[type-arg]
    _, out, _ = plan(capsys, *arguments, "--format", "json")
    return json.loads(out)  # type: ignore[no-any-return]


# --- which two states -------------------------------------------------------------------------------------


def test_without_options_it_compares_the_files_with_where_the_branch_left_main(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = git(repository, "rev-parse", "HEAD")
    write(repository / "schedules", LATER)

    told = document(capsys)

    assert told["from"]["commit"] == base
    assert told["to"]["commit"] is None
    assert [(each["id"], each["change"]) for each in told["schedules"]] == [("nightly-report", "retimed")]
    assert (told["schedules"][0]["file"], told["schedules"][0]["line"]) == ("schedules/wind.yaml", 3)


def test_two_commits_are_compared_without_touching_the_work_tree(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository / "schedules", LATER)
    commit(repository, "two")
    write(repository / "schedules", "not yet: [written")
    before = (git(repository, "status", "--porcelain"), sorted(repository.rglob("*")))

    told = document(capsys, "--from", "main", "--to", "HEAD")

    assert told["ok"]
    assert told["summary"]["fires"] == {"gained": 0, "lost": 0, "moved": 14, "dropped": 0}
    assert (git(repository, "status", "--porcelain"), sorted(repository.rglob("*"))) == before


def test_a_text_with_a_slash_is_a_folder_where_there_is_one_and_else_a_commit(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository / "fix" / "clock", ADDED)
    git(repository, "branch", "fix/other")

    folder, branch = document(capsys, "--to", "fix/clock"), document(capsys, "--to", "fix/other")

    assert folder["to"] == {**folder["to"], "name": "fix/clock", "commit": None}
    assert [each["change"] for each in folder["schedules"]] == ["added"]
    assert branch["to"]["commit"] == git(repository, "rev-parse", "main")


def test_what_is_both_a_folder_and_a_commit_is_refused_and_each_can_be_written(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "update-ref", "refs/remotes/origin/main", "main")
    write(repository / "origin" / "main", ADDED)

    code, out, err = plan(capsys, "--from", "origin/main")
    folder = document(capsys, "--from", "./origin/main")
    branch = document(capsys, "--from", "refs/remotes/origin/main")
    whole = document(capsys, "--from", str(repository / "origin" / "main"))

    assert (code, out) == (2, "")
    assert "--from 'origin/main' is both a folder and a commit; allowed: ./origin/main for the folder" in err
    assert "refs/remotes/origin/main" in err
    assert folder["from"]["commit"] is whole["from"]["commit"] is None
    assert branch["from"]["commit"] == git(repository, "rev-parse", "main")


def test_a_bare_name_is_never_a_folder(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = plan(capsys, "--from", "schedules")

    assert code == 2
    assert "'schedules' is no commit" in err
    assert "the folder of that name is ./schedules" in err


def test_where_the_former_commit_has_no_schedules_all_are_added(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "rm", "-r", "--quiet", "schedules")
    commit(repository, "none")
    write(repository / "schedules", "A page about them.\n", "README.md")
    empty = commit(repository, "a page")
    write(repository / "schedules", ADDED)

    told = document(capsys, "--from", empty)

    assert told["summary"]["added"] == 2
    assert told["from"]["revision"] is None


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("schedules/round", ".", "schedules/round: is a symbolic link to a folder that holds it: a loop"),
        ("schedules/wind.yaml", "wind.yaml", "schedules/wind.yaml: is a symbolic link that leads back to"),
        ("schedules/a.yaml/README", None, "schedules/a.yaml: is a folder, though named like a file"),
        ("schedules", "nowhere", "schedules: is a symbolic link to nothing"),
    ],
)
def test_a_former_folder_with_nothing_but_problems_is_not_taken_for_an_empty_one(
    repository: Path, capsys: pytest.CaptureFixture[str], name: str, target: str | None, said: str
) -> None:
    shutil.rmtree(repository / "schedules")
    path = repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if target is None:
        path.write_text("A page.", encoding="utf-8")
    else:
        path.symlink_to(target)
    broken = commit(repository, "broken")
    if path == repository / "schedules":
        path.unlink()
    write(repository / "schedules", FILE, "later.yaml")

    code, out, _ = plan(capsys, "--from", broken, "schedules")

    assert code == 1
    assert out.startswith(f"from: {said}")


@pytest.mark.parametrize("format_", ["text", "markdown", "json"])
def test_settings_that_cannot_be_used_are_told_like_a_broken_state(
    repository: Path, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    write(repository, "targets: 7", "flowsched.yaml")

    code, out, _ = plan(capsys, "--format", format_)

    assert code == 1
    if format_ == "json":
        told = json.loads(out)
        assert (told["ok"], {each["side"] for each in told["problems"]}) == (False, {"settings"})
        assert told["from"] == told["to"] == {"name": "not read", "commit": None, "revision": None}
    else:
        assert "flowsched.yaml:1:10: targets: is a number" in out
        assert re.search("^(- )?settings: ", out, re.MULTILINE)


def test_where_the_later_state_has_no_schedules_there_is_no_plan(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(repository / "schedules")

    code, out, _ = plan(capsys, "schedules")

    assert code == 1
    assert out == "to: schedules: does not exist\n"


def test_a_single_file_is_compared_with_itself(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(repository / "schedules", LATER)
    write(repository / "schedules", "schedules: broken", "other.yaml")

    told = document(capsys, "schedules/wind.yaml")

    assert [(each["id"], each["file"]) for each in told["schedules"]] == [
        ("nightly-report", "schedules/wind.yaml")
    ]


def test_a_repository_without_commits_or_none_at_all_is_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = plan(capsys)
    git(here, "init", "--quiet")
    unborn = plan(capsys)

    assert outside[0] == unborn[0] == 2
    assert "is in no Git work tree; name what to compare with: --from DIR" in outside[2]
    assert "has no commit yet" in unborn[2]


def test_a_side_that_does_not_load_is_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(repository / "schedules", FILE.replace("30 4", "61 4"))
    commit(repository, "broken")

    code, out, err = plan(capsys, "--from", "HEAD", "--to", "main")
    told = document(capsys, "--to", "HEAD")

    assert code == 1
    assert out.startswith("from: schedules/wind.yaml:5:11: schedules.nightly-report.cron: minute '61'")
    assert err == "no plan: 1 problem\n"
    assert (told["ok"], [each["side"] for each in told["problems"]]) == (False, ["to"])
    assert "schedules" not in told


def test_a_detached_head_and_a_merged_main_have_a_base(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "mv", "schedules/wind.yaml", "schedules/north.yaml")
    commit(repository, "moved")
    git(repository, "checkout", "--quiet", "main")
    write(repository / "schedules", ADDED)
    main_tip = commit(repository, "added")
    git(repository, "checkout", "--quiet", "change")
    git(repository, "merge", "--quiet", "--no-edit", "main")
    git(repository, "checkout", "--quiet", "--detach")

    told = document(capsys)

    assert told["from"]["commit"] == main_tip
    assert [(each["id"], [key["key"] for key in each["keys"]]) for each in told["schedules"]] == [
        ("nightly-report", ["file"]),
        ("weekly", ["file"]),
    ]


def test_a_shallow_clone_without_the_base_says_how_to_get_it(
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = git(repository, "rev-parse", "main")
    write(repository / "schedules", LATER)
    commit(repository, "two")
    clone = tmp_path_factory.mktemp("clone") / "here"
    git(repository, "clone", "--quiet", "--depth=1", f"file://{repository}", str(clone))
    monkeypatch.chdir(clone)

    named = plan(capsys, "--from", base)
    with_main = plan(capsys, "--from", "main")

    assert named[0] == with_main[0] == 2
    assert "git fetch --unshallow" in named[2]
    assert "git fetch --unshallow" in with_main[2]


# --- exit codes and options -------------------------------------------------------------------------------


def test_exit_code_tells_whether_anything_changes_where_it_is_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "later", LATER)
    same, other = (
        ("--from", "./schedules", "--to", "./schedules"),
        ("--from", "./schedules", "--to", "./later"),
    )

    codes = [
        plan(capsys, *each)[0] for each in (same, other, (*same, "--exit-code"), (*other, "--exit-code"))
    ]

    assert codes == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--horizon", "30s"], "a duration from 1m to 400d"),
        (["--horizon", "500d"], "a duration from 1m to 400d"),
        (["--at", "2026-03-20T12:07"], "has no offset"),
        (["--at", "9998-03-20T12:07Z"], "years from 1973 to 9989"),
        (["--to-zoneinfo", "schedules"], "holds no time zones"),
        (["--from-zoneinfo", "nowhere"], "holds no time zones"),
        (["--from", "--output=x"], "is no commit"),
    ],
)
def test_wrong_usage_says_what_is_allowed(
    repository: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = plan(capsys, *arguments)

    assert (code, out) == (2, "")
    assert said in err


def test_the_horizon_bounds_what_is_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "later", LATER)

    told = document(capsys, "--from", "./schedules", "--to", "./later", "--horizon", "3d")

    assert told["summary"]["fires"]["moved"] == 3
    assert told["until"] == "2026-03-23T12:07:00Z"


def test_a_plan_of_too_many_fires_asks_for_a_shorter_horizon(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(edits, "MOST_FIRES", 10)
    write(here / "later", LATER)

    code, _, err = plan(capsys, "--from", "./schedules", "--to", "./later")

    assert code == 2
    assert err == "flowsched: more than 10 fires would change; allowed: a shorter horizon\n"


# --- time zone data ---------------------------------------------------------------------------------------


@pytest.fixture
def zones(tmp_path: Path) -> Path:
    """Zone data in which the clocks of Berlin are those of London; the others are those of `usual`."""
    with as_file(files("tzdata") / "zoneinfo") as whole:
        shutil.copytree(whole, tmp_path / "usual", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(tmp_path / "usual", tmp_path / "zoneinfo")
    shutil.copy(tmp_path / "zoneinfo/Europe/London", tmp_path / "zoneinfo/Europe/Berlin")
    return tmp_path / "zoneinfo"


def test_new_zone_data_move_the_fires_of_the_same_files(
    zones: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = cron.zone_rules("Europe/Berlin")

    told = document(capsys, "--from", "./schedules", "--to", "./schedules", "--to-zoneinfo", str(zones))
    back = document(capsys, "--from", "./schedules", "--to", "./schedules", "--from-zoneinfo", str(zones))

    (change,) = told["schedules"]
    assert (change["change"], [key["key"] for key in change["keys"]]) == ("retimed", ["timezone data"])
    assert change["moved"] == {
        "count": 14,
        "first": {
            "from": {"fire_time": "2026-03-21T03:30:00Z", "goes_out": "2026-03-21T03:30:00Z"},
            "to": {"fire_time": "2026-03-21T04:30:00Z", "goes_out": "2026-03-21T04:30:00Z"},
        },
    }
    first = back["schedules"][0]["moved"]["first"]
    assert (first["from"], first["to"]) == (
        change["moved"]["first"]["to"],
        change["moved"]["first"]["from"],
    )
    assert told["from"]["revision"] != told["to"]["revision"]
    assert cron.zone_rules("Europe/Berlin") == before


def test_new_zone_data_move_the_ends_of_blackouts(
    zones: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calendars = 'calendars:\n  works: {timezone: Europe/Berlin, dates: ["2026-03-24"]}\n'
    blackout = "    timezone: UTC\n    blackout: {calendars: [works], then: defer}\n"
    write(here / "schedules", FILE + blackout + calendars)
    sides = ("--from", "./schedules", "--to", "./schedules")

    told = document(capsys, *sides, "--from-zoneinfo", "usual", "--to-zoneinfo", str(zones))

    (change,) = told["schedules"]
    assert (change["change"], [key["key"] for key in change["keys"]]) == ("changed", ["calendar works"])
    assert change["moved"]["first"]["from"]["goes_out"] == "2026-03-24T23:00:00Z"
    assert change["moved"]["first"]["to"]["goes_out"] == "2026-03-25T00:00:00Z"


def test_damaged_zone_data_are_a_clear_error(zones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (zones / "Europe/Berlin").write_bytes(b"TZif2 and no more")

    code, out, err = plan(capsys, "--from", "./schedules", "--to", "./schedules", "--to-zoneinfo", str(zones))

    assert code == 1
    assert out.startswith(
        "to: schedules/wind.yaml:1:22: defaults.timezone: time zone 'Europe/Berlin' cannot be read"
    )
    assert err == "no plan: 1 problem\n"


# --- markdown ---------------------------------------------------------------------------------------------


def many(hour: int) -> str:
    return "defaults: {timezone: UTC, owner: wind-data}\nschedules:\n" + "".join(
        f"  {'farm-' * 15}{number:04}:\n"
        f"    {{description: '{'x' * 300}', cron: '{number % 60} {hour} * * *', flow: {number // 2 + 1}}}\n"
        for number in range(3_000)
    )


def test_a_plan_of_thousands_fits_into_one_comment_and_says_what_is_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "old", many(3))
    write(here / "new", many(4).replace("x" * 300, "y" * 300).replace("flow: ", "flow: 1"))

    code, out, _ = plan(capsys, "--from", "./old", "--to", "./new", "--format", "markdown", "--horizon", "1d")

    assert code == 0
    assert len(out) <= markdown.MOST
    assert re.search(r"\| \| \.\.\. and 2,\d\d\d more \|", out)
    assert out.startswith(f"{markdown.MARKER}\n\n### flowsched: 3,000 retimed, 0 unchanged;")
    assert out.count("<details>") == out.count("</details>")


def test_each_part_of_a_comment_has_its_bound(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = "".join(
        f"  {'farm-' * 16}{number:04}: {{cron: '*/7 3 * * *', flow: {number // 2 + 1}}}\n"
        for number in range(3_000)
    )
    write(here / "new", f"defaults: {{timezone: Europe/Berlin}}\nschedules:\n{new}")

    _, out, _ = plan(
        capsys, "--from", "./schedules", "--to", "./new", "--format", "markdown", "--horizon", "1h"
    )

    bodies = dict(re.findall(r"\*\*[\d,]+ new (\w+)s?.*?\*\*\n\n(.*?)\n\n", out, re.DOTALL))
    assert {name.rstrip("s") for name in bodies} == {"collision", "warning"}
    for name, body in bodies.items():
        rest = body.splitlines()[-1]
        assert re.fullmatch(r"- \.\.\. and [\d,]+ more", rest)
        assert 2_000 < len(body) - len(rest) <= {"c": 8_000, "w": 6_000}[name[0]]
    assert "**9,000 new warnings**" in out
    assert len(out) <= markdown.MOST


def test_what_files_say_stays_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "`` @team | </details> <!-- [x](http://example.com) ```"
    write(here / "new", FILE.replace("The report of the night", f"'{said}'"))

    _, out, _ = plan(capsys, "--from", "./schedules", "--to", "./new", "--format", "markdown")

    (line,) = [line for line in out.splitlines() if "@team" in line]
    span = re.search(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)$", line.partition("): ")[2])
    assert span
    assert said in span[2]


def test_even_an_id_that_no_file_may_hold_stays_text(capsys: pytest.CaptureFixture[str]) -> None:
    odd = a_schedule("a|b`<c>;#:\nd")
    at = datetime(2026, 3, 20, tzinfo=UTC)
    found = changes(
        Catalog({}, ""),
        Catalog({odd.id: odd}, ""),
        at=at,
        horizon=timedelta(days=1),
        limits={},
        fires_a_day=9,
    )
    side = Side(State("x", Path()), Catalog({}, ""), ())

    markdown.show(Telling(old=side, new=side, plan=found, problems=(), at=at, until=found.until))

    out = capsys.readouterr().out
    assert "\n| ``a\\|b`<c>;#:\\nd`` | added |" in out
    assert "\n    section a_b__c_____d\n" in out


def test_the_diagram_has_no_letter_that_means_something_there(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "new", ADDED.replace("0 7 * * MON", "*/5 * * * *"))

    _, out, _ = plan(capsys, "--from", "./schedules", "--to", "./new", "--format", "markdown")

    (picture,) = re.findall(r"```mermaid\n(.*?)```", out, re.DOTALL)
    lines = picture.splitlines()
    assert lines[0] == "gantt"
    assert "    section weekly and 283 more" in lines
    bars = [line for line in lines if " :" in line]
    assert len(bars) == 5
    assert all(re.fullmatch(r"    [a-z ]+ :[a-z]+, \d{4}-\d\d-\d\d \d\d:\d\d, 15m", bar) for bar in bars)


# --- the page ---------------------------------------------------------------------------------------------


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in keys_of(each)}
    return {key for each in value for key in keys_of(each)} if isinstance(value, list) else set()


def test_every_key_of_the_document_is_on_its_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "plan.md").read_text(encoding="utf-8")
    plans = (Path(__file__).parent / "data" / "plans").glob("*/expected.json")

    keys = {key for path in plans for key in keys_of(json.loads(path.read_text(encoding="utf-8")))}

    assert len(keys) > 50
    assert {key for key in keys if f"`{key}`" not in page} == set()
