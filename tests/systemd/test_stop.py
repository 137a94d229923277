"""How it stops: what is under way ends first, within the time that systemd gives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from flowsched.simulator import Fault, Order
from tests.systemd.installation import eventually

if TYPE_CHECKING:
    from tests.systemd.installation import Installation

pytestmark = pytest.mark.systemd


def test_what_is_under_way_ends_before_it_stops(installed: Installation) -> None:
    installed.start()
    installed.order(Order(fault=Fault.SLOW, on="flows.trigger", delay=4))
    assert installed.flowsched("trigger", "new-year", "--reason", "a test").code == 0
    eventually(lambda: len(installed.triggers()) == 1)
    began = time.monotonic()

    installed.systemctl("stop", "--no-block")
    eventually(lambda: "stopping" in installed.show("StatusText"))
    assert installed.show("ActiveState") == "deactivating"
    eventually(lambda: installed.show("ActiveState") == "inactive")

    assert 1 < time.monotonic() - began < 20
    assert installed.show("Result") == "success"
    assert "triggered" in installed.flowsched("runs").out
    assert installed.box.run("test", "-e", "/run/flowsched").code != 0


def test_one_that_gets_no_answer_is_cut_off_within_the_time_and_found_again(installed: Installation) -> None:
    installed.start()
    installed.order(Order(fault=Fault.SLOW, on="flows.trigger", delay=600))
    assert installed.flowsched("trigger", "new-year", "--reason", "a test").code == 0
    eventually(lambda: len(installed.triggers()) == 1)
    began = time.monotonic()

    done = installed.systemctl("stop")

    assert done.code == 0
    assert time.monotonic() - began < usec(installed.show("TimeoutStopUSec"))
    assert installed.show("Result") == "success"  # and not timeout: nobody had to be killed
    installed.start()
    eventually(lambda: "triggered" in installed.flowsched("runs").out, within=40)
    assert len(installed.books()["instances"]) == 1
    assert len(installed.triggers()) == 1


def test_a_service_that_ends_well_is_not_restarted(installed: Installation) -> None:
    installed.drop_in("quick", "RestartSec=10ms")
    installed.start()

    installed.systemctl("kill", "--signal=SIGTERM", "--kill-whom=main")
    eventually(lambda: installed.show("ActiveState") == "inactive")
    installed.box.need("sleep", "0.5")

    assert (installed.show("ActiveState"), installed.show("NRestarts")) == ("inactive", "0")


def usec(text: str) -> float:
    """Return the seconds of a span as systemd writes it."""
    units = {"h": 3600, "min": 60, "s": 1}
    seconds = 0.0
    for part in text.split():
        number = part.rstrip("hmins")
        seconds += float(number) * units[part.removeprefix(number)]
    return seconds
