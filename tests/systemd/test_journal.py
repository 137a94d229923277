"""What the journal has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flowsched.simulator import Fault, Order

if TYPE_CHECKING:
    from tests.systemd.installation import Installation

pytestmark = pytest.mark.systemd

INFO, ERROR = "6", "3"


def test_each_line_has_its_priority_and_the_journal_keeps_the_time(installed: Installation) -> None:
    installed.start()
    installed.order(Order(fault=Fault.STATUS, on="flows.trigger", status=403))
    assert installed.flowsched("trigger", "new-year", "--reason", "a test", "--wait").code == 1

    (ready,) = installed.says("daemon ready")
    (failed,) = installed.says("run failed")
    assert (ready["PRIORITY"], failed["PRIORITY"]) == (INFO, ERROR)
    assert ready["MESSAGE"].startswith("daemon ready")  # neither time nor priority in the text
    assert ready["SYSLOG_IDENTIFIER"] == "flowsched"


def test_priority_err_shows_errors_only(installed: Installation) -> None:
    installed.start()
    installed.order(Order(fault=Fault.STATUS, on="flows.trigger", status=403))
    installed.flowsched("trigger", "new-year", "--reason", "a test", "--wait")

    shown = [line["MESSAGE"] for line in installed.journal("-p", "err")]

    assert shown
    assert all("failed" in line for line in shown)
    assert len(shown) < len(installed.journal())


def test_a_problem_with_several_lines_is_an_error_in_each(installed: Installation) -> None:
    installed.settings("schedules: schedules\nledger: 3\ntargets: {}\nretry: 3\n")
    installed.systemctl("start")

    lines = installed.says("flowsched.yaml")

    assert len(lines) >= 3
    assert {line["PRIORITY"] for line in lines} <= {"2", ERROR}
