"""The box itself: of its own, of no harm to the machine, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.systemd.box import Box, subtrees, why_not
from tests.systemd.conftest import cannot
from tests.systemd.installation import ROOT, binds, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.systemd

MAKER = """\
import time
from tests.systemd.box import Box
box = Box({})
print(box.pid, box.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def another() -> Iterator[Box]:
    if (reason := why_not()) is not None:
        cannot(reason)
    box = Box(binds())
    yield box
    box.close()


def test_systemd_is_up_in_it_and_nothing_has_failed(box: Box) -> None:
    assert box.run("systemctl", "is-system-running", "--wait").out.strip() == "running"
    assert box.need("cat", "/proc/1/comm").strip() == "systemd"


def test_its_root_is_nobody_outside_and_cannot_change_the_machine(box: Box) -> None:
    (uids,) = [
        line for line in Path(f"/proc/{box.pid}/status").read_text().splitlines() if line[:4] == "Uid:"
    ]
    assert "0" not in uids.split()
    limit = "/proc/sys/fs/file-max"

    # With what is there already: where it could, it would change nothing.
    assert box.run("sh", "-c", 'x=$(cat "$1") && echo "$x" >"$1"', "-", limit).code != 0
    assert box.run("mount", "-o", "remount,bind,rw", "/usr").code != 0
    assert box.run("touch", "-c", "/usr").code != 0


def test_it_has_no_network_but_its_own_loopback(box: Box) -> None:
    names = box.need("sh", "-c", "ls /sys/class/net").split()

    assert set(names) <= {
        "lo",
        "tunl0",
        "sit0",
        "ip6tnl0",
        "gre0",
        "gretap0",
        "erspan0",
        "ip_vti0",
        "ip6_vti0",
    }
    assert box.run("curl", "-s", "--max-time", "2", "http://192.0.2.1/").code != 0


def test_two_at_once_do_not_know_of_each_other(box: Box, another: Box) -> None:
    box.write("/run/here", "x")

    assert another.run("test", "-e", "/run/here").code != 0
    assert another.read("/etc/machine-id") != box.read("/etc/machine-id")
    assert another.run("systemctl", "is-system-running", "--wait").out.strip() == "running"


def test_nothing_of_it_is_left_when_it_is_closed() -> None:
    if (reason := why_not()) is not None:
        cannot(reason)
    box = Box({})
    box.need("sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &")
    assert [each for each in subtrees() if box.folder.name in each.name]

    box.close()

    assert not Path(f"/proc/{box.pid}").exists()
    assert not box.folder.exists()
    assert [each for each in subtrees() if box.folder.name in each.name] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_maker_and_the_next_one_sweeps_up(number: signal.Signals) -> None:
    if (reason := why_not()) is not None:
        cannot(reason)
    maker = subprocess.Popen([sys.executable, "-c", MAKER], cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603
    with maker:
        assert maker.stdout
        pid, folder = maker.stdout.readline().split()
        os.kill(maker.pid, number)

    eventually(lambda: not Path(f"/proc/{pid}").exists())
    Box({}).close()
    assert not Path(folder).exists()
    assert not Path(tempfile.gettempdir(), f"{folder}.log").exists()
    assert [each for each in subtrees() if Path(folder).name in each.name] == []


def test_where_no_box_can_be_the_group_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWSCHED_SYSTEMD_REQUIRED", raising=False)

    with pytest.raises(pytest.skip.Exception, match="cannot run here: no cgroup2"):
        cannot("no cgroup2")


def test_where_it_is_required_that_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWSCHED_SYSTEMD_REQUIRED", "1")

    with pytest.raises(pytest.fail.Exception, match="cannot run here: no cgroup2"):
        cannot("no cgroup2")


def test_who_is_not_root_is_told_so() -> None:
    if os.geteuid() != 0:
        assert why_not() == "it takes root to boot a systemd in namespaces"
        return
    ask = (
        "import os; os.setuid(65534); from tests.systemd import box; os.environ.clear(); print(box.why_not())"
    )
    said = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", "from tests.systemd import box\n" + ask],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert said.stdout == "it takes root to boot a systemd in namespaces\n"
