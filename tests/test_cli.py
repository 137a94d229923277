"""The commands, as a user types them: what they print, where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.cli import COMMANDS, main
from flowsched.ledger import Ledger
from flowsched.model import NextStep, Outcome, RunState
from tests.builders import T0, a_new_run, an_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = """\
defaults: {timezone: Europe/Berlin, owner: ops, accept: {clock-change: a, missing-description: b}}
schedules:
  nightly:
    cron: "30 2 * * *"
    flow: 3377
  hourly:
    cron: "5 * * * *"
    timezone: UTC
    flow: 2430
    task: 108580
"""

SETTINGS = """\
schedules: schedules
ledger: sqlite:///ledger.db
targets:
  default:
    url: http://127.0.0.1:1
    org_id: o1
    user_id: u1
    access_key: {env: AK}
    secret_key: {env: SK}
"""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A folder to stand in, and commands typed there."""

    def __init__(self, folder: Path, captured: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._captured = captured

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def __call__(self, *arguments: str) -> Done:
        code = main(list(arguments))
        out, err = self._captured.readouterr()
        return Done(code, out, err)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWSCHED_CONFIG", raising=False)
    return Shell(tmp_path, capsys)


@pytest.fixture
def installed(shell: Shell) -> Shell:
    shell.write("schedules/a.yaml", GOOD)
    shell.write("flowsched.yaml", SETTINGS)
    return shell


def test_a_folder_of_schedules_that_is_not_there_is_told_with_the_line_that_names_it(
    installed: Shell,
) -> None:
    installed.write("flowsched.yaml", f"# here\n{SETTINGS}".replace(": schedules\n", ": schedule\n"))

    assert installed("validate").out == "schedule: does not exist; flowsched.yaml:2:1 names it\n"
    assert installed("next").err == "flowsched: schedule: does not exist; flowsched.yaml:2:1 names it\n"
    whole = f"{installed.folder}/schedule: does not exist; flowsched.yaml:2:1 names it"
    assert f'"problem": "{whole}"' in installed("run").err
    assert installed("validate", "elsewhere").out == "elsewhere: does not exist\n"


def test_what_is_wrong_with_a_file_is_not_told_with_the_line_that_names_the_folder(installed: Shell) -> None:
    (installed.folder / "schedules" / "b.yaml").symlink_to("nowhere")

    dangling = "schedules/b.yaml: is a symbolic link to nothing: 'nowhere' does not exist\n"
    assert installed("validate").out == dangling


def test_a_daemon_without_keys_names_all_of_them_with_their_places(
    installed: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, default = SETTINGS.partition("  default:\n")
    installed.write("flowsched.yaml", f"{SETTINGS}  other:\n{default}")
    monkeypatch.delenv("AK", raising=False)
    monkeypatch.delenv("SK", raising=False)

    done = installed("run")

    assert done.code == 78
    said = "this environment variable is not set"
    assert [json.loads(line)["problem"] for line in done.err.splitlines()] == [
        f"flowsched.yaml:{line}:5: targets.{target}.{key}_key: env {name}: {said}"
        for line, target, key, name in (
            (8, "default", "access", "AK"),
            (9, "default", "secret", "SK"),
            (14, "other", "access", "AK"),
            (15, "other", "secret", "SK"),
        )
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(shell: Shell, name: str) -> None:
    done = shell(name, "--help")

    assert done.code == 0
    assert f"Usage: flowsched {name}" in done.out
    assert "Example: flowsched " in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["status", "--config", "x.yaml"], "--config stands before the command, as in flowsched --config"),
        (["valdate"], "No such command 'valdate'; did you mean 'validate'?"),
        (["next", "--from", "2027-03-01"], "'2027-03-01' has no offset; allowed: 2027-03-01T00:00Z for UTC"),
        (
            ["next", "--from", "2027-03-02T00:00Z", "--until", "2027-03-01T00:00Z"],
            "2027-03-01T00:00:00Z is not later than --from, 2027-03-02T00:00:00Z",
        ),
        (["next", "--until", "2020-03-01T00:00Z"], "2020-03-01T00:00:00Z is not later than now, 20"),
        (["cron"], "Missing argument 'EXPRESSION'"),
        (["cron", "30", "2", "*", "*", "*"], "put it in quotes, as in flowsched cron '30 2 * * *'"),
        (["cron", "61 * * * *"], "minute '61' is out of range; allowed: 0-59"),
        (["cron", "* * * * *", "--timezone", "Europe/Berln"], "did you mean Europe/Berlin"),
        (["cron", "* * * * *", "--from", "yesterday"], "'yesterday' is no instant; allowed: ISO 8601"),
        (["cron", "* * * * *", "--from", "0001-01-01T00:00+14:00"], "out of range"),
        (
            ["next", "--from", "2026-01-01T00:00"],
            "'2026-01-01T00:00' has no offset; allowed: 2026-01-01T00:00Z for UTC",
        ),
        (["next", "nighty"], "there is no schedule 'nighty'; did you mean 'nightly'?"),
        (["demo", "--for", "20"], "20"),
    ],
)
def test_wrong_usage_says_what_is_right_and_exits_with_2(
    installed: Shell, arguments: list[str], said: str
) -> None:
    done = installed(*arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Undo what `flowsched run` leaves behind in the process that it ends in."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_cron_prints_words_and_times(shell: Shell) -> None:
    done = shell(
        "cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-03-28T00:00", "--count", "3"
    )

    assert done.out.splitlines() == [
        "At 02:30 every day (Europe/Berlin)",
        "fire time (UTC)       local",
        "2026-03-28T01:30:00Z  Sat 2026-03-28 02:30 +01:00",
        "2026-03-29T01:00:00Z  Sun 2026-03-29 03:00 +02:00",
        "2026-03-30T00:30:00Z  Mon 2026-03-30 02:30 +02:00",
    ]


def test_cron_in_json_is_what_scripts_read(shell: Shell) -> None:
    done = shell(
        "cron", "0 0 * * *", "--timezone", "Europe/Berlin", "--from", "2026-10-24T22:00:00Z", "--count", "1",
        "--format", "json",
    )  # fmt: skip

    assert done.json == {
        "expression": "0 0 * * *",
        "timezone": "Europe/Berlin",
        "explanation": "At 00:00 every day",
        "fires": [{"utc": "2026-10-25T23:00:00Z", "local": "2026-10-26T00:00:00+01:00"}],
    }


def test_validate_says_ok_and_exits_with_0(shell: Shell) -> None:
    shell.write("s/a.yaml", GOOD)

    done = shell("validate", "s")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("ok: 2 schedules, revision ")


def test_validate_prints_every_problem_and_exits_with_1(shell: Shell) -> None:
    shell.write("s/a.yaml", GOOD.replace("flow: 3377", "flow: -1"))
    shell.write("s/b.yaml", "schedules: {x: {cron: '0 0 31 2 *', flow: 1, timezone: UTC}}\n")

    done = shell("validate", "s")

    assert done.code == 1
    assert [line.split(": ")[0] for line in done.out.splitlines()] == ["s/a.yaml:5:11", "s/b.yaml:1:23"]
    assert done.err == "2 errors in 2 files\n"


def test_validate_in_json_gives_each_problem_its_place(shell: Shell) -> None:
    shell.write("s/a.yaml", GOOD.replace("flow: 3377", "flow: -1"))

    report = shell("validate", "s", "--format", "json").json

    assert (report["ok"], report["schedules"]) == (False, None)
    (problem,) = report["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == ("s/a.yaml", 5, 11)
    assert problem["path"] == "schedules.nightly.flow"


def test_validate_without_a_flowsched_yaml_does_not_check_targets(shell: Shell) -> None:
    shell.write("s/a.yaml", GOOD.replace("flow: 3377", "flow: 3377\n    target: solar"))

    alone = shell("validate", "s")
    shell.write("flowsched.yaml", SETTINGS)
    beside_settings = shell("validate", "s")

    assert alone.code == 0
    assert beside_settings.code == 1
    assert "solar" in beside_settings.out


def test_validate_without_a_path_takes_what_flowsched_yaml_names(installed: Shell) -> None:
    assert installed("validate").out.startswith("ok: 2 schedules")


def test_validate_of_nothing_says_what_was_looked_for(shell: Shell) -> None:
    done = shell("validate")

    assert done.code == 2
    assert "neither a flowsched.yaml nor a folder ./schedules" in done.err


def test_next_shows_the_fires_in_order(installed: Shell) -> None:
    done = installed("next", "--from", "2026-07-01T00:00Z", "--count", "2")

    assert done.out.splitlines() == [
        "fire time (UTC)       local                        zone           schedule  flow  task",
        "2026-07-01T00:05:00Z  Wed 2026-07-01 00:05 +00:00  UTC            hourly    2430  108580",
        "2026-07-01T00:30:00Z  Wed 2026-07-01 02:30 +02:00  Europe/Berlin  nightly   3377",
    ]


def test_next_takes_ids_and_an_end(installed: Shell) -> None:
    done = installed(
        "next", "nightly", "--from", "2026-07-01T00:00Z", "--until", "2026-07-02T00:30Z", "--format", "json"
    )

    assert [(fire["utc"], fire["local"]) for fire in done.json["fires"]] == [
        ("2026-07-01T00:30:00Z", "2026-07-01T02:30:00+02:00"),
        ("2026-07-02T00:30:00Z", "2026-07-02T02:30:00+02:00"),
    ]


JITTERED = GOOD + "    jitter: 24h\n    starts_at: 2026-07-01T02:00\n    ends_at: 2026-07-01T04:00\n"


def test_next_shows_when_fires_are_due_where_some_schedule_has_jitter(installed: Shell) -> None:
    installed.write("schedules/a.yaml", JITTERED)

    lines = installed("next", "--from", "2026-07-01T00:00Z", "--count", "3").out.splitlines()
    fires = installed("next", "--from", "2026-07-01T00:00Z", "--count", "3", "--format", "json").json["fires"]

    assert lines[0].split()[:5] == ["fire", "time", "(UTC)", "due", "(UTC)"]
    assert [line.split()[:2] for line in lines[1:]] == [[fire["utc"], fire["due_time"]] for fire in fires]
    nightly, *hourly = fires
    assert nightly["due_time"] == nightly["utc"] == "2026-07-01T00:30:00Z"
    assert [fire["utc"] for fire in hourly] == ["2026-07-01T02:05:00Z", "2026-07-01T03:05:00Z"]
    assert hourly[0]["utc"] < hourly[0]["due_time"] < hourly[1]["utc"] < hourly[1]["due_time"]


def test_next_shows_no_due_times_where_no_shown_schedule_has_jitter(installed: Shell) -> None:
    installed.write("schedules/a.yaml", JITTERED)

    assert "due (UTC)" not in installed("next", "nightly", "--count", "1").out


def test_next_shows_nothing_before_a_schedule_starts_or_after_it_ends(installed: Shell) -> None:
    installed.write("schedules/a.yaml", JITTERED)

    done = installed("next", "hourly", "--from", "2026-07-01T00:00Z", "--format", "json")

    assert [fire["utc"] for fire in done.json["fires"]] == ["2026-07-01T02:05:00Z", "2026-07-01T03:05:00Z"]


def test_runs_needs_an_installation(shell: Shell) -> None:
    done = shell("runs")

    assert done.code == 78
    assert "there is none; looked at --config, $FLOWSCHED_CONFIG, ./flowsched.yaml" in done.err


def test_runs_of_a_ledger_that_is_not_there_says_so_and_makes_none(installed: Shell) -> None:
    done = installed("runs")

    assert done.code == 3
    assert "ledger.db does not exist" in done.err
    assert not (installed.folder / "ledger.db").exists()


RUN = {
    "id": 1,
    "schedule_id": "nightly",
    "fire_time": "2026-01-01T00:00:00Z",
    "state": "failed",
    "reason": "gave up after 1 attempt: HTTP 403",
    "attempts_begun": 1,
}


@pytest.fixture
def recorded(installed: Shell) -> Shell:
    """An installation whose ledger holds a failed run of one schedule and two missed ones of another."""

    async def record() -> None:
        async with await Ledger.open(f"sqlite:///{installed.folder}/ledger.db") as ledger:
            missed = [
                a_new_run(
                    schedule_id="hourly",
                    fire_time=T0 - timedelta(hours=ago),
                    due_at=T0 - timedelta(hours=ago),
                    state=RunState.MISSED,
                )
                for ago in (1, 2)
            ]
            failed, *_ = await ledger.claim([a_new_run(), *missed], [])
            await ledger.begin_attempt(failed.id, 1, T0)
            answer = an_answer(Outcome.REFUSED_FOR_GOOD, "HTTP 403", http_status=403)
            step = NextStep(RunState.FAILED, "gave up after 1 attempt: HTTP 403")
            await ledger.end_attempt(failed.id, 1, T0 + timedelta(seconds=1), answer, step)

    asyncio.run(record())
    return installed


def test_runs_shows_the_latest_first(recorded: Shell) -> None:
    lines = recorded("runs").out.splitlines()

    assert [line.split()[1:4] for line in lines[1:]] == [
        ["2026-01-01T00:00:00Z", "nightly", "failed"],
        ["2025-12-31T23:00:00Z", "hourly", "missed"],
        ["2025-12-31T22:00:00Z", "hourly", "missed"],
    ]
    assert lines[1].endswith("gave up after 1 attempt: HTTP 403")


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], [1, 2, 3]),
        (["--schedule", "hourly"], [2, 3]),
        (["--state", "failed"], [1]),
        (["--limit", "2"], [1, 2]),
        (["--schedule", "nightly", "--state", "missed"], []),
    ],
)
def test_runs_are_picked_by_schedule_state_and_number(
    recorded: Shell, options: list[str], ids: list[int]
) -> None:
    done = recorded("runs", "--format", "json", *options)

    assert [run["id"] for run in done.json["runs"]] == ids


def test_runs_in_json_have_their_attempts_on_request(recorded: Shell) -> None:
    (plain,) = recorded("runs", "--state", "failed", "--format", "json").json["runs"]
    (run,) = recorded("runs", "--state", "failed", "--format", "json", "--attempts").json["runs"]

    assert plain | RUN == plain
    assert "attempts" not in plain
    (attempt,) = run["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["http_status"]) == (1, "refused_for_good", 403)
    assert attempt["ended_at"] == "2026-01-01T00:00:01Z"


def test_runs_show_their_attempts_in_a_table_of_their_own(recorded: Shell) -> None:
    lines = recorded("runs", "--state", "failed", "--attempts").out.splitlines()

    assert lines[3].split()[:2] == ["run", "attempt"]
    assert "refused_for_good" in lines[4]


def test_config_names_another_installation(recorded: Shell, tmp_path: Path) -> None:
    recorded.write("elsewhere/flowsched.yaml", SETTINGS)
    recorded.write("elsewhere/schedules/a.yaml", GOOD.replace("nightly", "weekly"))

    done = recorded("--config", "elsewhere/flowsched.yaml", "next", "weekly", "--count", "1")

    assert done.code == 0
    assert "weekly" in done.out


def test_a_flowsched_yaml_in_error_does_not_hide_the_problems_of_the_schedules(shell: Shell) -> None:
    shell.write("s/a.yaml", GOOD.replace("flow: 3377", "flow: -1"))
    shell.write("flowsched.yaml", SETTINGS.replace("org_id", "org"))

    done = shell("validate", "s")

    assert "flowsched.yaml:" in done.out
    assert "s/a.yaml:5:11" in done.out


def test_a_daemon_that_cannot_read_its_schedules_exits_with_78(installed: Shell) -> None:
    installed.write("schedules/b.yaml", "schedules: {x: {cron: '* * * *', flow: 1, timezone: UTC}}\n")

    done = installed("run")

    assert done.code == 78
    assert "schedules/b.yaml:1" in done.err


def test_a_daemon_without_its_keys_exits_with_78_and_names_the_source(installed: Shell) -> None:
    done = installed("run")

    assert done.code == 78
    assert "AK" in done.err


@pytest.mark.e2e
@pytest.mark.parametrize(
    "arguments", [["cron", "* * * * *"], ["next"], ["validate"], ["runs"], ["demo", "--for", "1s"]]
)
def test_a_closed_standard_output_is_no_fault(recorded: Shell, arguments: list[str]) -> None:
    command = shlex.join([sys.executable, "-m", "flowsched", *arguments])

    done = subprocess.run(  # noqa: S602 - a shell is what closes it
        f"{command} >&-", shell=True, cwd=recorded.folder, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_fault_of_our_own_shows_no_traceback(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("flowsched.cli.cron.cron.parse", lambda _: 1 / 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    done = shell("cron", "* * * * *")

    assert done.code == 3
    assert "Traceback" not in done.err
    (report,) = tmp_path.glob("flowsched-fault-*.txt")
    assert str(report) in done.err
    assert "ZeroDivisionError" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["PYTHONIOENCODING", "LC_ALL"])
@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["show", "nightly", "--schedules", "schedules"], "風 → ☃"),
        (["validate", "schedules", "--format", "json"], "風.yaml"),
        (["next", "風"], "there is no schedule '風'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_no_text_is_too_much_for_an_encoding(
    installed: Shell, name: str, arguments: list[str], written: str
) -> None:
    installed.write("schedules/a.yaml", GOOD.replace("  nightly:\n", "  nightly:\n    description: 風 → ☃\n"))
    installed.write("schedules/風.yaml", "")

    # A catalog with a problem is shown by `validate` only.
    if arguments[0] != "validate":
        (installed.folder / "schedules" / "風.yaml").unlink()
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "flowsched", *arguments],
        cwd=installed.folder,
        env={"PATH": os.environ["PATH"], name: "latin-1" if name == "PYTHONIOENCODING" else "C"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert written in done.stdout + done.stderr
    assert "a fault of its own" not in done.stderr


def test_paths_are_shown_from_here_also_where_flowsched_yaml_names_the_folder(installed: Shell) -> None:
    installed.write("schedules/b.yaml", "schedules: {x: {cron: 61}}\n")
    installed.write("schedules/a.test.yaml", "tests: 5\n")

    for arguments in (
        ["validate"],
        ["validate", "--format", "json"],
        ["test"],
        ["test", "--format", "junit"],
    ):
        done = installed(*arguments)
        assert done.code == 1
        assert "schedules/b.yaml" in done.out
        assert str(installed.folder) not in done.out + done.err
    installed.write("flowsched.yaml", "schedules: 5\n")
    assert str(installed.folder) not in installed("validate").out


def test_in_the_root_where_services_run_paths_are_whole(
    installed: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = installed.folder / "flowsched.yaml"
    installed.write("schedules/b.yaml", "schedules: {x: {cron: 61}}\n")
    monkeypatch.chdir("/")

    assert f"\n{installed.folder}/schedules/b.yaml:1:" in installed("--config", str(settings), "validate").out
    installed.write("flowsched.yaml", "schedules: 5\n")
    for command in ("validate", "run"):
        done = installed("--config", str(settings), command)
        assert done.code in (1, 78)
        assert re.search(f'(^|[ "]){settings}:1:', done.out + done.err, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["validate", ""], ["test", ""], ["next", "--schedules", ""]])
def test_an_empty_path_is_not_the_current_folder(installed: Shell, arguments: list[str]) -> None:
    done = installed(*arguments)

    assert done.code == 2
    assert "is empty; allowed: the path of a folder or file" in done.err


def test_a_terminal_of_another_encoding_gets_what_it_can_show(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        GOOD.replace("  nightly:\n", "  nightly:\n    description: 風é\n"), "utf-8"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "flowsched", "show", "nightly", "--schedules", "a.yaml"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONIOENCODING": "latin-1", "COLUMNS": "100"},
        stdout=theirs,
        check=False,
    )
    os.close(theirs)
    written = b""
    with suppress(OSError):
        while chunk := os.read(ours, 65_536):
            written += chunk
    os.close(ours)

    assert done.returncode == 0
    assert b"\\u98a8\xe9" in written
