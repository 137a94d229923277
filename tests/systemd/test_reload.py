"""`systemctl reload`, with good files and with bad ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.systemd.installation import SCHEDULES, eventually

if TYPE_CHECKING:
    from tests.systemd.installation import Installation

pytestmark = pytest.mark.systemd

SECOND = SCHEDULES + "  every-second-january: {description: Rarely, cron: '0 0 2 1 *', flow: 3378}\n"
BROKEN = SCHEDULES.replace("0 0 1 1 *", "61 0 1 1 *")
UNWATCHED = "reload: {watch: false}\n"


@pytest.fixture
def running(installed: Installation) -> Installation:
    """It runs, and reads files only when it is told to."""
    installed.settings(installed.box.read("/etc/flowsched/flowsched.yaml") + UNWATCHED)
    installed.start()
    return installed


def test_a_good_change_is_in_force_when_the_command_returns(running: Installation) -> None:
    before = running.pid
    running.schedules(SECOND)

    done = running.systemctl("reload")

    assert done.code == 0, done.text
    assert '"every-second-january"' in running.flowsched("status", "--format", "json").out
    eventually(lambda: running.show("StatusText").startswith("2 schedules,"))
    assert running.pid == before


def test_a_bad_change_fails_the_command_and_the_last_good_one_stays(running: Installation) -> None:
    running.schedules(BROKEN)

    done = running.systemctl("reload")

    assert done.code != 0
    assert running.show("ActiveState") == "active"
    assert any(
        "minute '61' is out of range; allowed: 0-59" in line["MESSAGE"]
        for line in running.journal("-p", "err")
    )
    eventually(
        lambda: "1 schedule, " in running.show("StatusText") and "refused" in running.show("StatusText")
    )
    assert '"new-year"' in running.flowsched("status", "--format", "json").out

    running.schedules(SECOND)
    assert running.systemctl("reload").code == 0
    eventually(lambda: running.show("StatusText").endswith(" ok"))


def test_sighup_reads_them_too(running: Installation) -> None:
    running.schedules(SECOND)

    running.systemctl("kill", "--signal=SIGHUP", "--kill-whom=main")

    eventually(lambda: running.show("StatusText").startswith("2 schedules,"))


def test_a_change_of_the_files_is_seen_by_itself(installed: Installation) -> None:
    installed.start()

    installed.schedules(SECOND)

    eventually(lambda: installed.show("StatusText").startswith("2 schedules,"), within=30)
