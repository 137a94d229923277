"""How it starts under systemd, and what it has and can reach then."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.simulator import Application
from tests.systemd.installation import ALICE, eventually

if TYPE_CHECKING:
    from tests.systemd.installation import Installation

pytestmark = pytest.mark.systemd

CREDENTIALS = "/run/credentials/flowsched.service"
HELD = "/opt/flowsched/bin/python /opt/flowsched/held.py {} {} --config /etc/flowsched/flowsched.yaml run"
GO = "/opt/flowsched/go"
HERE = Path(__file__).parent


@pytest.mark.parametrize("where", ["ledger", "catalog", "alarms"])
def test_it_is_active_only_when_it_is_ready(installed: Installation, where: str) -> None:
    installed.box.write("/opt/flowsched/held.py", (HERE / "held.py").read_text())
    installed.box.need("rm", "-f", GO)
    installed.drop_in("held", "ExecStart=", f"ExecStart={HELD.format(where, GO)}")
    installed.systemctl("start", "--no-block")
    eventually(lambda: installed.box.run("test", "-e", "/run/flowsched/held").code == 0)

    installed.box.need("sleep", "1")  # who says READY=1 too early has said it by then
    assert installed.show("ActiveState") == "activating"
    assert not installed.says("daemon ready")
    installed.box.write(GO, "")
    eventually(lambda: installed.show("ActiveState") != "activating")

    assert installed.show("ActiveState") == "active"
    assert installed.says("daemon ready")
    assert installed.box.run("test", "-S", "/run/flowsched/control.sock").code == 0


def test_its_status_stands_in_words(installed: Installation) -> None:
    installed.start()

    assert re.fullmatch(
        r"1 schedule, 0 running, next .*00:00 new-year, catalog [0-9a-f]{6,} ok", installed.show("StatusText")
    )
    assert f'Status: "{installed.show("StatusText")}"' in installed.systemctl("status").out


def test_the_keys_are_handed_over_and_nobody_else_can_read_them(installed: Installation) -> None:
    installed.start()

    assert triggered(installed)
    for name in ("enos-access-key", "enos-secret-key"):
        assert installed.box.run("cat", f"{CREDENTIALS}/{name}", user=ALICE).code != 0
        assert installed.box.run("cat", f"/etc/flowsched/{name}", user=ALICE).code != 0
    environ = installed.box.need("cat", f"/proc/{installed.pid}/environ")
    assert "CREDENTIALS_DIRECTORY" in environ
    assert Application().secret_key not in environ + str(installed.journal())


def test_without_a_key_systemd_does_not_start_it_and_says_credentials(installed: Installation) -> None:
    installed.box.need("rm", "/etc/flowsched/enos-secret-key")

    assert installed.systemctl("start").code != 0
    assert any("status=243/CREDENTIALS" in line["MESSAGE"] for line in installed.journal())


def test_the_ledger_lies_where_only_the_service_and_root_reach_it(installed: Installation) -> None:
    installed.start()

    ledger = "/var/lib/private/flowsched/ledger.db"
    assert installed.box.need("stat", "-c", "%a", ledger).strip() == "600"
    assert installed.box.need("readlink", "/var/lib/flowsched").strip() == "private/flowsched"
    assert installed.box.run("cat", "/var/lib/flowsched/ledger.db", user=ALICE).code != 0
    owner = installed.box.need("stat", "-c", "%u", f"/proc/{installed.pid}").strip()
    assert 61184 <= int(owner) <= 65519  # those that systemd gives out


def test_the_sandbox_holds(installed: Installation) -> None:
    installed.box.write("/opt/flowsched/probe.py", (HERE / "probe.py").read_text())
    installed.box.need("touch", "/tmp/of-somebody-else", "/var/tmp/of-somebody-else")  # noqa: S108 - inside the box
    installed.drop_in("probe", "ExecStartPost=/opt/flowsched/bin/python /opt/flowsched/probe.py")
    installed.start()
    found: dict[str, Any] = json.loads(installed.box.read("/var/lib/private/flowsched/probe.json"))

    assert found.pop("modules") in {"EACCES", "ENOENT"}  # not every machine has some
    devices = set(found.pop("devices"))
    assert {"null", "urandom"} <= devices
    assert devices <= {
        "char", "console", "core", "fd", "full", "hugepages", "log", "mqueue", "null", "ptmx", "pts",
        "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    }  # fmt: skip
    assert found == {
        "written": [],
        "own": ["done", "done", "done"],
        "home": "EACCES",
        "homes": "EACCES",
        "processes": [],
        "tmp": [],
        "umask": "0077",
        "capabilities": "0000000000000000",
        "no_new_privileges": "1",
        "seccomp": "2",
        "mount": "EPERM",
        "namespace": "EPERM",
        "personality": "EPERM",
        "hostname": "EPERM",
        "priority": "EPERM",
        "realtime": "EPERM",
        "chown": "EPERM",
        "clock": "EPERM",
        "setuid": "EPERM",
        "executable": "EPERM",
        "packets": "EAFNOSUPPORT",
        "netlink": "EAFNOSUPPORT",
        "internet": "done",
        "child": 0,
        "cgroup": "EROFS",
        "kernel_setting": "EROFS",
        "kernel_log": "ENOENT",
        "core": "0",
        "files": "8192",
    }


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("MemoryMax", str(1024**3)),
        ("MemoryHigh", str(768 * 1024**2)),
        ("TasksMax", "256"),
        ("LimitNOFILE", "8192"),
        ("TimeoutStopUSec", "1min 30s"),
        ("WatchdogUSec", "1min"),
    ],
)
def test_what_it_may_use_has_a_limit(installed: Installation, name: str, limit: str) -> None:
    installed.start()

    assert installed.show(name) == limit


def test_limits_of_memory_and_tasks_are_in_force_where_the_machine_has_controllers(
    installed: Installation,
) -> None:
    installed.start()
    group = f"/sys/fs/cgroup{installed.show('ControlGroup')}"
    for name, file in (("MemoryMax", "memory.max"), ("TasksMax", "pids.max")):
        if installed.box.run("test", "-e", f"{group}/{file}").code != 0:
            pytest.skip(f"no controller for {name} in this machine's cgroup2")
        assert installed.box.read(f"{group}/{file}").strip() == installed.show(name)


def test_a_quiet_start_leaves_no_warning_in_the_journal(installed: Installation) -> None:
    installed.start()

    assert installed.systemctl("is-active").out.strip() == "active"
    assert installed.show("NRestarts") == "0"
    assert [line for line in installed.journal() if int(line["PRIORITY"]) <= 4] == []


def triggered(installed: Installation) -> bool:
    """Have it trigger by hand, and tell whether it came through."""
    done = installed.flowsched("trigger", "new-year", "--reason", "a test", "--wait")
    assert done.code == 0, done.text
    return len(installed.books()["instances"]) == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_nothing_to_say_about_the_unit(installed: Installation) -> None:
    done = installed.box.run("systemd-analyze", "verify", "/etc/systemd/system/flowsched.service")

    assert (done.code, done.text) == (0, "")
