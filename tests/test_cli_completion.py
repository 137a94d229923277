"""Completion as a shell asks for it, and as somebody at a prompt gets it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flowsched.cli import COMMANDS, main
from flowsched.config import schedule_ids

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

FILE = """\
defaults: {timezone: UTC}
schedules:
  nightly-wind: {cron: "30 2 * * *", flow: 1}
  nightly-solar: {cron: "61 2 * * *", flow: 1}
  "$(touch pwned)": {cron: "30 2 * * *", flow: 1}
"""
SHELLS = ["bash", "zsh", "fish"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "a.yaml").write_text(FILE)
    (tmp_path / "schedules" / "broken.yaml").write_text("schedules: [")
    script = tmp_path / "flowsched"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flowsched "$@"\n')
    script.chmod(0o755)
    return tmp_path


def asked(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """What bash's script asks when Tab is pressed at the end of a line."""
    number = len(line.split()) - (not line.endswith(" "))
    return subprocess.run(
        [sys.executable, "-m", "flowsched"],
        cwd=folder,
        env={
            **os.environ,
            "_FLOWSCHED_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(number),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("flowsched cal", ["plain,calendar"]),
        ("flowsched --conf", ["plain,--config"]),
        ("flowsched show ni", ["plain,nightly-solar", "plain,nightly-wind"]),
        ("flowsched next nightly-wind nightly-s", ["plain,nightly-solar"]),
        ("flowsched next --cou", ["plain,--count"]),
        ("flowsched calendar --by ", ["plain,hour", "plain,minute"]),
        ("flowsched completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
        ("flowsched next --schedules ", ["file,"]),
        ("flowsched validate ", ["file,"]),
        # What cannot be read offers nothing, and says nothing.
        ("flowsched next --schedules /nowhere ni", []),
        ("flowsched --config /nowhere show ni", []),
        ("flowsched nosuch ni", []),
    ],
)
def test_what_is_offered(folder: Path, line: str, offered: list[str]) -> None:
    done = asked(folder, line)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == offered


def test_every_command_is_offered_and_none_is_imported(folder: Path) -> None:
    script = (
        "import os, sys\n"
        "os.environ['_FLOWSCHED_COMPLETE'] = 'bash_complete'\n"
        "os.environ |= {'COMP_WORDS': 'flowsched ', 'COMP_CWORD': '1'}\n"
        "from flowsched.cli import main\n"
        "code = main([])\n"
        "heavy = {'sqlalchemy', 'httpx', 'jsonschema', 'yaml', 'apscheduler', 'rich', 'cronsim'}\n"
        "sys.exit(f'heavy: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else code)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [f"plain,{name}" for name in COMMANDS]


def test_what_no_id_may_look_like_is_not_put_on_a_command_line(folder: Path) -> None:
    assert schedule_ids([str(folder / "schedules")]) == ["nightly-solar", "nightly-wind"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_what_its_shell_can_read(
    folder: Path, shell: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0

    script = capfd.readouterr().out
    assert f"_FLOWSCHED_COMPLETE={shell}_complete" in script
    where = shutil.which(shell)
    if where:
        subprocess.run([where, "-n"], input=script, text=True, check=True)  # noqa: S603 - it runs nothing


def test_bash_completes_an_id_with_it(folder: Path) -> None:
    if not shutil.which("bash"):
        pytest.skip("bash is missing")
    script = (
        "source <(flowsched completion bash)\n"
        "COMP_WORDS=(flowsched show nightly-w); COMP_CWORD=2; _flowsched_completion flowsched\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p flowsched\n"
    )

    done = subprocess.run(  # noqa: S603 - as a shell starts
        ["/bin/bash", "--norc", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "nightly-wind"
    assert "-F _flowsched_completion flowsched" in done.stdout
