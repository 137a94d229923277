"""The unit as it ships, judged by systemd's own tools; what it does is tried in tests/systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import click
import pytest

from flowsched.cli import UNUSABLE, group
from flowsched.daemon import DRAIN, pulse

UNIT = Path(__file__).parent.parent / "systemd" / "flowsched.service"
PROGRAM = "/opt/flowsched/bin/flowsched"
EXPOSURE = 12
"""Tenths; at most so much."""


def lines() -> list[str]:
    return UNIT.read_text(encoding="utf-8").splitlines()


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines():
        if (match := re.fullmatch(r"([A-Za-z]+)=(.*)", line)) is not None:
            found.setdefault(match[1], []).append(match[2])
    return found


def seconds(span: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(min|)", span).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit else 1)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, with a program that is there in the place of ours."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(PROGRAM, "/bin/true"), encoding="utf-8")
    return unit


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: the unit file is not judged")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603


def test_systemd_has_nothing_to_say_about_the_unit(installed: Path) -> None:
    done = analyzed("verify", str(installed))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_exposed_as_little_as_was_promised(installed: Path) -> None:
    done = analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", str(installed))

    assert done.returncode == 0, done.stdout
    assert re.search(r"Overall exposure level .*: (0\.\d|1\.[0-2]) ", done.stdout)


def test_each_directive_has_its_reason_in_the_line_above() -> None:
    head = "\n".join(lines()).split("[Install]", maxsplit=1)[0].splitlines()
    bare = [
        line
        for above, line in pairwise(head)
        if re.match(r"[A-Za-z]+=", line) and not line.startswith("Description=")
        if not above.startswith("# ")
    ]

    assert bare == []
    assert all(len(line) <= 110 for line in lines())


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
