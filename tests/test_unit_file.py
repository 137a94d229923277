"""The units as they ship, judged by systemd's own tools; what it does is tried in tests/systemd."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import click
import pytest

from flowsched.cli import UNUSABLE, group
from flowsched.daemon import DRAIN, pulse

UNIT = Path(__file__).parent.parent / "systemd" / "flowsched.service"
UNITS = sorted(UNIT.parent.iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
PROGRAM = "/opt/flowsched/bin/flowsched"
EXPOSURE = 12
"""Tenths; at most so much."""


def lines(unit: Path = UNIT) -> list[str]:
    return unit.read_text(encoding="utf-8").splitlines()


def directives(unit: Path = UNIT) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if (match := re.fullmatch(r"([A-Za-z]+)=(.*)", line)) is not None:
            found.setdefault(match[1], []).append(match[2])
    return found


def seconds(span: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(min|)", span).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit else 1)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder of the units, with programs that are there in the place of ours, and of Git."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(PROGRAM, "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("/usr/bin/git", "/bin/true"), encoding="utf-8")
    return tmp_path


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: the unit file is not judged")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603


@pytest.mark.parametrize("name", [unit.name for unit in UNITS])
def test_systemd_has_nothing_to_say_about_a_unit(installed: Path, name: str) -> None:
    done = analyzed("verify", str(installed / name))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", [unit.name for unit in SERVICES])
def test_a_service_is_exposed_as_little_as_was_promised(installed: Path, name: str) -> None:
    done = analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", str(installed / name))

    assert done.returncode == 0, done.stdout
    assert re.search(r"Overall exposure level .*: (0\.\d|1\.[0-2]) ", done.stdout)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_each_directive_has_its_reason_in_the_line_above_or_in_the_daemons_unit(unit: Path) -> None:
    head = "\n".join(lines(unit)).split("[Install]", maxsplit=1)[0].splitlines()
    bare = [
        line
        for above, line in pairwise(head)
        if re.match(r"[A-Za-z]+=", line) and not line.startswith("Description=")
        if not above.startswith("# ")
    ]

    assert [line for line in bare if unit == UNIT or line not in lines()] == []
    assert all(len(line) <= 110 for line in lines(unit))


def test_the_nightly_backup_removes_its_own_old_copies_and_no_others(tmp_path: Path) -> None:
    (command_line,) = directives(UNIT.with_name("flowsched-backup.service"))["ExecStartPost"]
    long_ago = time.time() - 20 * 86_400
    (tmp_path / "elsewhere").mkdir()
    names = {
        "old": ["ledger-nightly-2026-01-01T031700Z.db"],
        "kept": ["ledger-before-0.2.0.db", "ledger-by-hand.db", "ledger.db", "elsewhere/ledger-nightly-x.db"],
    }
    for name in [*names["old"], *names["kept"]]:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / "ledger-nightly-of-today.db").touch()

    command = shlex.split(command_line.replace("/var/backups/flowsched", str(tmp_path)))
    subprocess.run(command, check=True)  # noqa: S603 - our own

    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")}
    assert left == {*names["kept"], "ledger-nightly-of-today.db"}


@pytest.mark.parametrize("directive", ["ExecStart", "ExecReload"])
def test_what_the_unit_runs_is_a_command_of_ours(directive: str) -> None:
    (command_line,) = directives()[directive]
    program, *arguments = command_line.split()

    name, config = parsed(arguments)

    assert (program, config) == (PROGRAM, "/etc/flowsched/flowsched.yaml")
    assert name == {"ExecStart": "run", "ExecReload": "reload"}[directive]


def parsed(arguments: list[str]) -> tuple[str | None, str]:
    """Return the command and the settings file that the arguments name, having parsed all of them."""
    with group.make_context("flowsched", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        command.make_context(name, rest, parent=context)
        return name, context.params["config"]


def test_a_misspelt_option_would_be_found() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(["--config", "flowsched.yaml", "run", "--log-levle", "info"])


def test_its_times_fit_those_of_the_daemon() -> None:
    unit = {name: values[-1] for name, values in directives().items()}

    assert seconds(unit["TimeoutStopSec"]) >= DRAIN + 20
    assert seconds(unit["WatchdogSec"]) >= 3 * pulse.LOOK_EVERY + pulse.LOOP_WITHIN
    assert seconds(unit["WatchdogSec"]) > pulse.WOKE_WITHIN
    assert unit["RestartPreventExitStatus"] == str(UNUSABLE)


def test_its_folders_are_those_of_the_settings_that_its_comments_name() -> None:
    text = UNIT.read_text(encoding="utf-8")
    unit = directives()

    assert f"sqlite:////var/lib/{unit['StateDirectory'][0]}/ledger.db" in text
    assert f"socket: /run/{unit['RuntimeDirectory'][0]}/control.sock" in text
    for credential in unit["LoadCredential"]:
        assert f"{{credential: {credential.partition(':')[0]}}}" in text


def test_a_user_who_speaks_to_the_socket_can_be_known_by_name() -> None:
    assert "PrivateUsers" not in directives()


def test_the_only_sockets_are_ip_and_local() -> None:
    assert directives()["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]
    assert not UNIT.with_name("flowsched.socket").exists()
