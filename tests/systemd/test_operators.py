"""Who may speak to it: root, itself, and the people of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.systemd.installation import ALICE, MALLORY, OPERATORS, SETTINGS

if TYPE_CHECKING:
    from tests.systemd.installation import Installation

pytestmark = pytest.mark.systemd

SOCKET = "/run/flowsched/control.sock"


@pytest.fixture
def with_operators(installed: Installation) -> Installation:
    """It runs with a group of operators, to which alice belongs."""
    installed.settings(SETTINGS.replace("control:\n", "control:\n  group: flowsched-operators\n"))
    installed.drop_in("operators", "Group=flowsched-operators")
    installed.start()
    return installed


def test_root_and_people_of_the_group_may_ask_and_nobody_else(with_operators: Installation) -> None:
    by_root = with_operators.flowsched("status")
    by_alice = with_operators.flowsched("status", user=ALICE, groups=(OPERATORS,))
    by_mallory = with_operators.flowsched("status", user=MALLORY)

    assert (by_root.code, by_root.err) == (0, "")
    assert (by_alice.code, by_alice.err) == (0, "")
    assert by_mallory.code == 3
    assert SOCKET in by_mallory.err
    assert "Traceback" not in by_mallory.text


def test_what_somebody_does_is_recorded_under_their_name(with_operators: Installation) -> None:
    done = with_operators.flowsched(
        "pause", "new-year", "--reason", "works on the dam", user=ALICE, groups=(OPERATORS,)
    )

    assert done.code == 0, done.text
    assert "alice" in with_operators.flowsched("log").out
    assert "alice" in with_operators.flowsched("status", user=ALICE, groups=(OPERATORS,)).out


def test_the_socket_is_open_to_its_owner_and_its_group_alone(with_operators: Installation) -> None:
    said = with_operators.box.need("stat", "-c", "%a %G", SOCKET).split()

    assert said == ["660", "flowsched-operators"]


def test_without_a_group_the_socket_is_its_owners_alone(installed: Installation) -> None:
    installed.start()

    assert installed.box.need("stat", "-c", "%a", SOCKET).strip() == "600"
    assert installed.flowsched("status").code == 0
    assert installed.flowsched("status", user=ALICE, groups=(OPERATORS,)).code == 3


def test_a_group_that_it_does_not_belong_to_is_a_fault_of_the_configuration(installed: Installation) -> None:
    installed.settings(SETTINGS.replace("control:\n", "control:\n  group: flowsched-operators\n"))

    assert installed.systemctl("start").code != 0
    assert installed.show("ExecMainStatus") == "78"
    assert any("control.group" in line["MESSAGE"] for line in installed.says("flowsched cannot run"))
