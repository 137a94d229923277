"""Every command of the README runs, and what it shows is what comes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowsched.cli import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


TRY_IT, CHECK, SIMULATE, INSTALL, LOOK, HANDS, RESOLVE, AUDIT = blocks("sh")
CRON_OUTPUT, PROBLEM = blocks("text")
(SCHEDULE_FILE,) = blocks("yaml")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the README's reader has before them, with `./run` going straight to this Python."""
    for name in ("schedules", "docs", "systemd"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "flowsched.example.yaml", tmp_path)
    (tmp_path / "run").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flowsched "$@"\n')
    (tmp_path / "run").chmod(0o755)
    return tmp_path


def sh(clone: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the README's own commands
        ["/bin/sh", "-euc", script], cwd=clone, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def running(clone: Path, script: str, until: str) -> Iterator[None]:
    """Have a script run in the background, from when it says `until` to the end of the block."""
    output = clone / f"output-{len(script)}"
    with output.open("w") as stream:
        process = subprocess.Popen(  # noqa: S603 - the README's own commands
            ["/bin/sh", "-euc", script],
            cwd=clone,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            deadline = time.monotonic() + 30
            while until not in output.read_text():
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.05)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_first_command_shows_the_main_job(clone: Path) -> None:
    demo, test = TRY_IT.splitlines()  # the second is what is running now

    done = sh(clone, demo)

    assert (done.returncode, done.stderr, test) == (0, "", "./run test")
    assert re.search(r"triggered  \S+  flow \d+  .* instance \d+-\d{14}\n", done.stdout)


def test_the_checks_run_and_show_what_the_readme_shows(clone: Path) -> None:
    done = sh(clone, CHECK)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(CRON_OUTPUT)


def test_the_schedule_file_is_valid_and_its_problem_is_as_shown(clone: Path) -> None:
    shutil.rmtree(clone / "schedules")
    (clone / "schedules").mkdir()
    file = clone / "schedules" / "wind.yaml"
    file.write_text(SCHEDULE_FILE)
    good = sh(clone, "./run validate schedules")
    file.write_text(SCHEDULE_FILE.replace("30 2", "61 2"))
    bad = sh(clone, "./run validate schedules")

    assert good.returncode == 0
    assert (bad.returncode, bad.stdout) == (1, PROBLEM)


def test_the_daemon_is_tried_as_the_readme_says(clone: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    simulate, install = SIMULATE.replace("8090", port), INSTALL.replace("8090", port)

    with running(clone, simulate, "listens on"), running(clone, install, "daemon ready"):
        looked, steered, resolved, audited = (sh(clone, each) for each in (LOOK, HANDS, RESOLVE, AUDIT))

    assert looked.returncode == 0
    assert '"runs": []' in looked.stdout
    assert (steered.returncode, steered.stderr) == (0, "")
    assert re.search(r"triggered.*3377-\d{14}", steered.stdout)
    assert "being serviced" in steered.stdout
    assert resolved.returncode == 1
    assert "run 17" in resolved.stderr
    assert audited.returncode == 0
    assert "nothing missing, nothing twice" in audited.stdout


def test_every_command_is_in_the_table() -> None:
    assert re.findall(r"^\| `flowsched ([\w-]+)", README, re.MULTILINE) == list(COMMANDS)


def test_every_file_it_points_to_is_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)

    assert linked
    assert [name for name in linked if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_no_page_has_a_line_that_is_too_long_to_review(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if len(line) > 170] == []
