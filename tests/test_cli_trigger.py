"""`flowsched trigger`, against a daemon and without one."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest

from flowsched.ledger import Ledger
from flowsched.model import RunState
from flowsched.simulator import Fault, Order
from tests.commanding import Site, a_site
from tests.test_cli import Shell, installed, shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["installed", "shell"]

AT = ("--at", "2026-03-09T02:30Z")
RUN = "run 1 (nightly, fire time 2026-03-09T02:30:00Z)"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as site:
        yield site


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'ID'"),
        (["nightly", "--at", "2026-03-09"], "'2026-03-09' has no offset"),
        (["nightly", "--at", "soon"], "'soon' is no instant"),
        (["nightly", "--reason", " "], "one line of 1 to 500 printable characters"),
    ],
)
def test_trigger_says_how_it_is_used(installed: Shell, arguments: list[str], said: str) -> None:
    done = installed("trigger", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (installed.folder / "ledger.db").exists()


def test_without_a_ledger_nothing_is_triggered_and_none_is_made(installed: Shell) -> None:
    done = installed("trigger", "nightly")

    assert (done.code, done.out) == (3, "")
    assert "there is no socket" in done.err
    assert "and without a daemon: the ledger" in done.err
    assert not (installed.folder / "ledger.db").exists()


def test_without_a_daemon_both_keys_that_are_missing_are_told_on_one_line(
    installed: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AK", raising=False)
    monkeypatch.delenv("SK", raising=False)

    async def make_ledger() -> None:
        await (await Ledger.open(f"sqlite:///{installed.folder}/ledger.db")).aclose()

    asyncio.run(make_ledger())
    done = installed("trigger", "nightly")

    said = "this environment variable is not set"
    assert done.err == (
        f"flowsched: flowsched.yaml:8:5: targets.default.access_key: env AK: {said};"
        f" flowsched.yaml:9:5: targets.default.secret_key: env SK: {said}\n"
    )


@pytest.mark.e2e
@pytest.mark.parametrize("alone", [False, True])
async def test_a_run_is_followed_to_its_end(site: Site, *, alone: bool) -> None:
    if not alone:
        await site.daemon()
    site.simulator.faults.add(Order(fault=Fault.STATUS, status=429, retry_after=20, on="trigger"))

    done = await site("trigger", "nightly", *AT, "--reason", "late input", "--wait")
    again = await site("trigger", "nightly", *AT)

    first, *_, last = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert first.startswith(f"{RUN}: claimed, by hand (")
    assert f"{RUN}: waiting, again at 2026-03-10T12:" in done.out
    assert last == f"{RUN}: triggered, instance 3377-20260309023000"
    assert (again.code, again.out) == (1, "")
    assert "run 1 (nightly) has flow 3377 at 2026-03-09T02:30:00Z already: it is triggered" in again.err
    assert site.instances() == ["3377-20260309023000"]


@pytest.mark.e2e
@pytest.mark.parametrize("alone", [False, True])
async def test_a_run_that_fails_is_exit_code_1(site: Site, *, alone: bool) -> None:
    if not alone:
        await site.daemon()
    site.simulator.faults.add(Order(fault=Fault.CODE, code=62103, on="trigger"))

    done = await site("trigger", "nightly", *AT, "--wait", "--format", "json")
    again = await site("trigger", "nightly", *AT, "--wait", "--format", "json")

    assert (done.code, json.loads(done.out)["state"]) == (1, "failed")
    run = json.loads(again.out)
    assert (again.code, run["id"], run["state"], run["attempts_begun"]) == (0, 1, "triggered", 2)


@pytest.mark.e2e
async def test_a_daemon_is_not_waited_for_unasked(site: Site) -> None:
    await site.daemon()
    site.simulator.faults.add(Order(fault=Fault.SLOW, delay=30, on="trigger"))

    done = await site("trigger", "nightly", *AT)

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{RUN}: claimed, by hand (")


@pytest.mark.e2e
@pytest.mark.parametrize("alone", [False, True])
async def test_a_run_that_is_left_in_doubt_is_exit_code_1(site: Site, *, alone: bool) -> None:
    text = "defaults: {timezone: UTC, retry: {deadline: 1m, attempt_timeout: 1s}}\nschedules:\n"
    (site.folder / "schedules" / "a.yaml").write_text(
        f"{text}  nightly: {{cron: '30 2 * * *', flow: 3377}}\n"
    )
    if not alone:
        await site.daemon()
    site.simulator.faults.add(Order(fault=Fault.REPLY_LOST, on="trigger"))
    site.simulator.faults.add(Order(fault=Fault.STATUS, status=503, on="flowInstances", times=None))

    done = await site("trigger", "nightly", *AT, "--wait")

    assert done.code == 1, done
    assert f"{RUN}: in doubt, " in done.out.splitlines()[-1]


@pytest.mark.e2e
@pytest.mark.parametrize("alone", [False, True])
async def test_a_run_in_doubt_is_followed_until_it_is_known(site: Site, *, alone: bool) -> None:
    if not alone:
        await site.daemon()
    site.simulator.faults.add(Order(fault=Fault.REPLY_LOST, on="trigger"))

    done = await site("trigger", "nightly", *AT, "--wait")

    assert done.code == 0, done
    assert f"{RUN}: in doubt, " in done.out
    assert f"{RUN}: triggered, instance 3377-20260309023000, found by a look" in done.out.splitlines()[-1]
    assert len(site.instances()) == 1


@pytest.mark.e2e
async def test_two_clients_at_once_trigger_once(site: Site) -> None:
    await site.daemon()

    done = await asyncio.gather(*(site("trigger", "nightly", *AT, "--wait") for _ in range(4)))

    assert sorted(each.code or 0 for each in done) == [0, 1, 1, 1]
    assert site.instances() == ["3377-20260309023000"]


@pytest.mark.e2e
async def test_two_commands_without_a_daemon_trigger_once(site: Site) -> None:
    done = await asyncio.gather(*(site("trigger", "nightly", *AT, "--wait") for _ in range(3)))

    # Who comes while another has the ledger is told so, and who comes later that it is done.
    assert {each.code for each in done} <= {0, 1, 3}
    assert [each.code for each in done].count(0) == 1
    assert site.instances() == ["3377-20260309023000"]


@pytest.mark.e2e
async def test_a_command_that_is_killed_leaves_its_run_to_the_daemon(site: Site) -> None:
    site.simulator.faults.add(Order(fault=Fault.SILENCE, processed=True, on="trigger"))
    command = await site.begin("trigger", "nightly", *AT)
    await site.has_instances(1)
    await site.kill(command)
    (left,) = await site.runs()
    await site.daemon()
    async with asyncio.timeout(30):
        while (await site.runs())[0].state is not RunState.TRIGGERED:
            await asyncio.sleep(0.05)

    assert left.state is RunState.SENDING
    assert site.instances() == ["3377-20260309023000"]


@pytest.mark.e2e
async def test_a_command_that_is_interrupted_says_what_takes_its_run_up(site: Site) -> None:
    site.simulator.faults.add(Order(fault=Fault.STATUS, status=429, retry_after=600, on="trigger"))
    command = await site.begin("trigger", "nightly", *AT)
    async with asyncio.timeout(30):
        while not (runs := await site.runs()) or runs[0].state is not RunState.WAITING:
            await asyncio.sleep(0.02)
    command.process.send_signal(signal.SIGINT)
    done = await command.ends()

    assert done.code == 130
    assert (
        "run 1 is waiting; a daemon takes it up when it starts: `flowsched runs --run 1` shows it" in done.err
    )
    assert "Traceback" not in done.err
