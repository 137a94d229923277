from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from flowsched.ops.notify import Systemd, take_from

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What a service manager listens on, and how it is named in NOTIFY_SOCKET."""
    path = tmp_path / "notify"
    name = str(path) if request.param == "a path" else f"@flowsched-test-{os.getpid()}-{path.parent.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.settimeout(5)
        yield name, listening


def heard(listening: socket.socket) -> list[str]:
    return listening.recv(4096).decode().split("\n")


def test_each_word_goes_out_as_one_datagram(manager: tuple[str, socket.socket]) -> None:
    name, listening = manager
    systemd = Systemd(name, watchdog=30)
    systemd.status("reading the schedules")
    systemd.ready("128 schedules")
    systemd.reloading(12.345678)
    systemd.feed()
    systemd.stopping("stopping: 3 attempts under way")

    assert [heard(listening) for _ in range(5)] == [
        ["STATUS=reading the schedules"],
        ["READY=1", "STATUS=128 schedules"],
        ["RELOADING=1", "MONOTONIC_USEC=12345678"],
        ["WATCHDOG=1"],
        ["STOPPING=1", "STATUS=stopping: 3 attempts under way"],
    ]


def test_a_status_cannot_say_more_than_a_status(manager: tuple[str, socket.socket]) -> None:
    name, listening = manager

    Systemd(name).status("a\nMAINPID=1\x1b[31m" + "b" * 1000)

    (line,) = heard(listening)
    assert line.startswith("STATUS=a\\nMAINPID=1\\x1b[31mbbb")
    assert len(line) < 600


@pytest.mark.parametrize(
    "address", ["", "/nobody/listens/here", "@nobody", "vsock:2:1234", "x" * 200, "/" * 200]
)
def test_nobody_to_tell_harms_nobody(address: str) -> None:
    systemd = Systemd(address, watchdog=1)

    systemd.ready("128 schedules")
    systemd.feed()


def test_a_manager_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        systemd = Systemd(str(tmp_path / "deaf"), watchdog=1)
        backlog = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler, suppress(BlockingIOError):
            filler.setblocking(False)
            filler.connect(str(tmp_path / "deaf"))
            while filler.send(b"x"):
                backlog += 1

        systemd.feed()

        deaf.setblocking(False)
        assert {deaf.recv(10) for _ in range(backlog)} == {b"x"}


def test_a_watchdog_that_is_not_set_is_not_fed(manager: tuple[str, socket.socket]) -> None:
    name, listening = manager
    systemd = Systemd(name)

    systemd.feed()
    systemd.status("next")

    assert heard(listening) == ["STATUS=next"]


@pytest.mark.parametrize(
    ("period", "pid", "watchdog"),
    [
        ("60000000", "our own", 60.0),
        ("500000", "", 0.5),
        ("60000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_what_systemd_has_set_is_read_and_kept_from_children(
    period: str, pid: str, watchdog: float | None
) -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": period,
        "WATCHDOG_PID": pid.replace("our own", str(os.getpid())),
        "PATH": "/bin",
    }

    systemd = take_from(environ)

    assert systemd == Systemd("/run/systemd/notify", watchdog)
    assert environ == {"PATH": "/bin"}


def test_without_a_service_manager_there_is_nobody_to_tell() -> None:
    assert take_from({"PATH": "/bin"}) == Systemd()
