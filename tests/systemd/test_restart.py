"""What systemd does when it dies, hangs or cannot be configured, and what became of the runs then."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowsched.simulator import Fault, Order
from tests.systemd.installation import SCHEDULES, eventually

if TYPE_CHECKING:
    from tests.systemd.installation import Installation

pytestmark = pytest.mark.systemd

HERE = Path(__file__).parent
ONCE_MORE_AT_ONCE = "RestartSec=100ms"
STUCK = "/opt/flowsched/bin/python /opt/flowsched/stuck.py --config /etc/flowsched/flowsched.yaml run"


def restarted(installed: Installation, within: float = 30) -> None:
    """Wait until it was restarted and is up again."""
    eventually(
        lambda: installed.show("NRestarts") != "0" and installed.show("ActiveState") == "active",
        within=within,
    )


def test_after_sigkill_it_comes_back_and_takes_up_what_was_under_way(installed: Installation) -> None:
    installed.drop_in("quick", ONCE_MORE_AT_ONCE)
    installed.schedules(SCHEDULES + "  hourly: {description: Hourly, cron: '0 * * * *', flow: 3378}\n")
    installed.start()
    # One whose reply does not come before the kill, and one that was refused and waits.
    installed.order(Order(fault=Fault.SLOW, on="flows.trigger", flow=3377, delay=30))
    installed.order(Order(fault=Fault.STATUS, on="flows.trigger", flow=3378, status=429, retry_after=5))
    for name in ("new-year", "hourly"):
        assert installed.flowsched("trigger", name, "--reason", "a test").code == 0
    eventually(lambda: len(installed.triggers()) == 2)

    installed.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main")
    restarted(installed)

    eventually(lambda: len(installed.books()["instances"]) == 2, within=40)
    eventually(
        lambda: installed.flowsched("runs", "--state", "triggered").out.count("manual") == 2, within=40
    )
    made = [(each["flow"], each["trigger_time"]) for each in installed.books()["instances"]]
    assert len(set(made)) == len(made) == 2
    assert installed.flowsched("audit").code == 0
    assert installed.says("daemon ready")[-1]["_PID"] == installed.pid


@pytest.mark.parametrize("how", ["the process is stopped", "the loop hangs", "the ledger hangs"])
def test_the_watchdog_restarts_it_when(installed: Installation, how: str) -> None:
    signal = {
        "the process is stopped": "SIGSTOP",
        "the loop hangs": "SIGUSR2",
        "the ledger hangs": "SIGUSR1",
    }[how]
    installed.box.write("/opt/flowsched/stuck.py", (HERE / "stuck.py").read_text())
    installed.drop_in("stuck", "ExecStart=", f"ExecStart={STUCK}", "WatchdogSec=3", ONCE_MORE_AT_ONCE)
    installed.start()
    before = installed.pid

    installed.box.need("sleep", "5")
    assert installed.pid == before  # it is fed while all is well
    installed.systemctl("kill", f"--signal={signal}", "--kill-whom=main")
    restarted(installed)

    assert installed.pid != before
    assert any("Watchdog timeout" in line["MESSAGE"] for line in installed.journal())
    assert len(installed.says("daemon ready")) == 2


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("targets: {}\n", r"flowsched\.yaml:1:1: schedules: is missing"),
        ("schedules: schedules\nledger: sqlite:////var/lib/flowsched/ledger.db\ntargetz: {}\n", "targetz"),
    ],
)
def test_it_is_not_restarted_where_the_configuration_cannot_be_used(
    installed: Installation, broken: str, text: str
) -> None:
    installed.drop_in("quick", ONCE_MORE_AT_ONCE)
    installed.settings(broken)

    assert installed.systemctl("start").code != 0
    installed.box.need("sleep", "1")  # time for ten restarts

    assert installed.show("ActiveState") == "failed"
    assert installed.show("ExecMainStatus") == "78"
    assert installed.show("NRestarts") == "0"
    assert any(re.search(text, line["MESSAGE"]) for line in installed.says("flowsched cannot run"))


def test_it_is_restarted_after_any_other_failure_for_ever(installed: Installation) -> None:
    installed.drop_in("failing", "ExecStart=", "ExecStart=/bin/sh -c 'exit 3'", "RestartSec=10ms")

    installed.systemctl("start", "--no-block")

    eventually(lambda: int(installed.show("NRestarts")) > 10)
    assert installed.show("ActiveState") != "failed"
