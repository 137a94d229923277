"""docs/pull-requests.md shows what comes of its commands, on the files that it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parent.parent / "docs" / "pull-requests.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = [
    (command, shown)
    for command, _, shown in re.findall(
        r"^```sh\n(flowsched [^\n]*)\n```\n\n(````?)\w+\n(.*?)^\2$", TEXT, re.DOTALL | re.MULTILINE
    )
]

_GIT = {f"GIT_{who}_{what}": f"Ada Example{'' if what == 'NAME' else ' <ada@example.com>'}"
        for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}  # fmt: skip
_DATES = {"GIT_AUTHOR_DATE": "2026-12-01T09:00Z", "GIT_COMMITTER_DATE": "2026-12-01T09:00Z"}


def build(repository: Path) -> None:
    """Make what the page speaks of: `main` with the first file, a branch with the others not committed."""
    before, after, tests = re.findall(r"^```yaml\n(# (\S+)\n.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    _git(repository, "init", "--quiet", "--initial-branch=main")
    _write(repository, *before)
    _git(repository, "add", ".")
    _git(repository, "commit", "--quiet", "--message=Schedules of the wind farms")
    _git(repository, "switch", "--quiet", "--create=later-report")
    _write(repository, *after)
    _write(repository, *tests)


def output(repository: Path, command: str) -> str:
    """Return what a command of the page prints, both streams, as a pipeline would show it."""
    done = subprocess.run(  # noqa: S603 - the page's own commands
        ["/bin/sh", "-c", command.replace("flowsched", f"{sys.executable} -m flowsched", 1)],
        cwd=repository,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    # The revision depends on the release of the time zone data too.
    return re.sub(r"(revision\W+)[0-9a-f]{12,64}", r"\1e1397a4c4eff", done.stdout)


def _write(repository: Path, text: str, name: str) -> None:
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_text(text, encoding="utf-8")


def _git(repository: Path, *arguments: str) -> None:
    environ = {**os.environ, **_GIT, **_DATES, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *arguments], cwd=repository, env=environ, check=True, timeout=20)  # noqa: S603, S607


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("repository")
    build(made)
    return made


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_command_prints_what_the_page_shows(repository: Path, command: str, shown: str) -> None:
    assert output(repository, command) == shown


def test_the_page_shows_every_format() -> None:
    commands = " ".join(command for command, _ in SHOWN)

    assert all(f"--format {each}" in commands for each in ("github", "json", "sarif", "junit", "markdown"))
