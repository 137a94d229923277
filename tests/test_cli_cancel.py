"""`flowsched cancel`, and `flowsched resolve` while a daemon looks for what became of the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from flowsched.ledger import Ledger
from flowsched.model import ActionKind, RunState
from flowsched.simulator import Fault, Order
from tests.commanding import Site, a_site
from tests.fakes import eventually
from tests.test_cli_ledger import Installation, bare, doubtful

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["bare", "doubtful"]

AT = ("--at", "2026-03-09T02:30Z")
BECAUSE = ("--reason", "wrong input")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as site:
        yield site


async def enters(site: Site, state: RunState) -> None:
    async with asyncio.timeout(30):
        while not (runs := await site.runs()) or runs[-1].state is not state:
            await asyncio.sleep(0.02)


def test_a_run_that_is_not_sent_is_ended_without_a_daemon(doubtful: Installation) -> None:
    done = doubtful("cancel", "3", *BECAUSE)
    again = doubtful("cancel", "3", *BECAUSE)

    assert (done.code, done.out) == (0, "run 3 (hourly) is failed: it is not sent\n")
    assert (again.code, again.out) == (1, "")
    assert again.err == "flowsched: run 3 is failed: that is final, and nothing of it goes on\n"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("1", "run 1 is in doubt: look into EnOS for 3377-20260101000000, then `flowsched resolve 1 "),
        ("2", "run 2 is sending: its attempt is under way; try again when it has ended"),
        ("4", "run 4 is missed: that is final, and nothing of it goes on"),
        ("9", "there is no run 9 in the ledger; `flowsched runs` shows their numbers"),
    ],
)
def test_what_cannot_be_cancelled_says_what_can_be_done(
    doubtful: Installation, number: str, said: str
) -> None:
    done = doubtful("cancel", number, *BECAUSE)

    assert (done.code, done.out) == (1, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["3"], "Missing option '--reason'"),
        (["nightly", *BECAUSE], "'nightly' is no run; allowed: a number that `flowsched runs` shows"),
    ],
)
def test_cancel_says_how_it_is_used(doubtful: Installation, arguments: list[str], said: str) -> None:
    done = doubtful("cancel", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.e2e
async def test_a_run_that_waits_is_ended_in_the_daemon(site: Site) -> None:
    await site.daemon()
    site.simulator.faults.add(Order(fault=Fault.STATUS, status=429, retry_after=300, on="trigger"))
    await site("trigger", "nightly", *AT)
    await enters(site, RunState.WAITING)

    done = await site("cancel", "1", *BECAUSE)
    after = await site("trigger", "nightly", *AT, "--wait")

    assert (done.code, done.out) == (0, "run 1 (nightly) is failed: it is not sent again\n")
    assert (after.code, site.instances()) == (0, ["3377-20260309023000"])


@pytest.mark.e2e
async def test_the_instance_of_a_triggered_run_is_cancelled_in_enos(site: Site) -> None:
    await site.daemon()
    await site("trigger", "nightly", *AT, "--wait")

    done = await site("cancel", "1", *BECAUSE)

    took = "EnOS took the cancellation of 3377-20260309023000; whether its flow stops is up to EnOS"
    assert (done.code, done.out) == (0, f"run 1 (nightly) is triggered: {took}\n")
    assert [call.operation for call in site.simulator.calls][-1] == "flowInstances.cancel"


@pytest.mark.e2e
async def test_a_cancellation_under_way_when_the_daemon_stops_is_on_record(site: Site) -> None:
    daemon = await site.daemon()
    await site("trigger", "nightly", *AT, "--wait")
    site.simulator.faults.add(Order(fault=Fault.SILENCE, on="flowInstances.cancel"))
    command = await site.begin("cancel", "1", *BECAUSE)
    await eventually(lambda: site.simulator.calls[-1].operation == "flowInstances.cancel", within=30)
    daemon.process.terminate()
    stopped, done = await daemon.ends(), await command.ends()
    async with await Ledger.open_to_read(site.settings.ledger) as ledger:
        action = (await ledger.actions())[0]

    assert (stopped.code, done.code, done.out) == (0, 3, "")
    assert "what was asked for may be done: `flowsched log` shows what people have done" in done.err
    said = "not known whether EnOS took the cancellation of 3377-20260309023000: "
    assert (action.kind, action.subject) == (ActionKind.CANCEL, "run 1")
    assert action.detail.startswith(said)


@pytest.mark.e2e
async def test_a_run_that_the_daemon_looks_for_is_settled_and_let_go(site: Site) -> None:
    await site.daemon()
    site.simulator.faults.add(Order(fault=Fault.REPLY_LOST, on="trigger"))
    site.simulator.faults.add(Order(fault=Fault.STATUS, status=503, on="flowInstances", times=None))
    await site("trigger", "nightly", *AT)
    await enters(site, RunState.IN_DOUBT)

    done = await site("resolve", "1", "--triggered", "--reason", "seen in the console")
    again = await site("resolve", "1", "--failed", "--reason", "not so")

    assert (done.code, done.err) == (0, "")
    assert "was in doubt and is now triggered, instance 3377-20260309023000" in done.out
    assert (again.code, again.out) == (1, "")
    assert "run 1 is triggered, not in doubt: that is final" in again.err
