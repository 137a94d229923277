"""`flowsched backfill`, with and without a daemon, through kills, refusals and interruptions."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.cli.backfill_plan import Step, planned, summary
from flowsched.control.client import Client
from flowsched.model import Origin, RunState
from flowsched.simulator import Fault, Order
from tests.commanding import Site, a_site
from tests.test_cli import Shell, installed, shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["installed", "shell"]

NIGHTS = ("--from", "2026-03-06T00:00Z", "--to", "2026-03-10T00:00Z")
FOUR = [f"3377-202603{day:02}023000" for day in range(6, 10)]


def a_fire(state: RunState | None, origin: Origin = Origin.SCHEDULE) -> dict[str, Any]:
    run = state and {"id": 7, "schedule_id": "nightly", "state": state.value, "origin": origin.value}
    return {"fire_time": "2026-03-06T02:30:00Z", "run": run}


@pytest.mark.parametrize(
    ("state", "origin", "step", "words"),
    [
        (None, Origin.SCHEDULE, Step.SEND, "is sent"),
        (RunState.FAILED, Origin.SCHEDULE, Step.SEND, "is sent; run 7 (nightly) is failed"),
        (RunState.MISSED, Origin.CATCH_UP, Step.SEND, "is sent; run 7 (nightly) is missed"),
        (RunState.SKIPPED, Origin.MANUAL, Step.SEND, "is sent; run 7 (nightly) is skipped"),
        (
            RunState.TRIGGERED,
            Origin.SCHEDULE,
            Step.DONE,
            "skipped: triggered already, run 7 (nightly) is triggered",
        ),
        (RunState.IN_DOUBT, Origin.BACKFILL, Step.LEAVE, "skipped: run 7 (nightly) is in doubt"),
        (RunState.SENDING, Origin.SCHEDULE, Step.LEAVE, "skipped: run 7 (nightly) is sending"),
        (RunState.WAITING, Origin.BACKFILL, Step.FOLLOW, "is waited for: run 7 (nightly) is waiting"),
    ],
)
def test_what_is_done_about_a_fire_time_follows_from_the_run_that_is_there(
    state: RunState | None, origin: Origin, step: Step, words: str
) -> None:
    (fill,) = planned([a_fire(state, origin)], alone=False)

    assert (fill.step, fill.words) == (step, words)


def test_without_a_daemon_nobody_carries_what_is_under_way() -> None:
    (fill,) = planned([a_fire(RunState.WAITING, Origin.BACKFILL)], alone=True)

    assert fill.step is Step.LEAVE


def test_the_sums_say_how_long_it_takes_at_least() -> None:
    states = [None, None, RunState.FAILED, RunState.TRIGGERED, RunState.IN_DOUBT]
    fills = planned([a_fire(state) for state in states], alone=False)

    assert summary(fills) == (
        "5 fire times: 3 to send, 1 triggered already, 1 under way or in doubt; takes at least 2m,"
        " as triggers of a flow are a minute apart"
    )
    assert summary(fills[:1]) == "1 fire time: 1 to send"
    assert summary([]) == "0 fire times: 0 to send"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*NIGHTS], "nobody can be asked, as this is no terminal: give --yes, or --dry-run to look first"),
        (["--from", "2026-03-06T00:00Z", "--to", "2026-03-06T00:00Z", "--yes"], "is not later than --from"),
        (
            ["--from", "2026-03-06T00:00Z", "--to", "9000-01-01T00:00Z", "--yes"],
            "is in the future; allowed: up to",
        ),
        (["--from", "2026-03-06", "--to", "2026-03-07", "--yes"], "'2026-03-06' has no offset"),
        ([*NIGHTS, "--every", "0", "--yes"], "0 is not in the range"),
    ],
)
def test_backfill_says_how_it_is_used(installed: Shell, arguments: list[str], said: str) -> None:
    done = installed("backfill", "nightly", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (installed.folder / "ledger.db").exists()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as site:
        yield site


@pytest.mark.e2e
@pytest.mark.parametrize("alone", [False, True])
async def test_a_range_is_triggered_in_order_and_once(site: Site, *, alone: bool) -> None:
    if not alone:
        await site.daemon()
    dry = await site("backfill", "nightly", *NIGHTS, "--dry-run")
    none_yet = site.instances()
    done = await site("backfill", "nightly", *NIGHTS, "--yes", "--reason", "new input")
    again = await site("backfill", "nightly", *NIGHTS, "--yes", "--format", "json")

    assert (dry.code, dry.err, none_yet) == (0, "", [])
    assert dry.out.splitlines()[1] == "2026-03-06T02:30:00Z  is sent"
    assert dry.out.splitlines()[-1].startswith("4 fire times: 4 to send; takes at least 3m,")
    assert (done.code, done.err, done.out.splitlines()[-1]) == (0, "", "done: 4 runs triggered")
    assert site.instances() == FOUR
    assert again.code == 0
    assert {each["step"] for each in json.loads(again.out)["fires"]} == {"done"}
    runs = await site.runs()
    assert {(run.origin, run.state, run.attempts) for run in runs} == {
        (Origin.BACKFILL, RunState.TRIGGERED, 1)
    }
    assert all(run.note and run.note.endswith(": new input") for run in runs)


@pytest.mark.e2e
async def test_each_second_fire_of_a_range_is_triggered(site: Site) -> None:
    done = await site("backfill", "nightly", *NIGHTS, "--yes", "--every", "2")

    assert (done.code, site.instances()) == (0, FOUR[::2])


@pytest.mark.e2e
@pytest.mark.parametrize("alone", [False, True])
async def test_what_was_killed_in_the_middle_is_gone_on_with_and_each_fire_is_there_once(
    site: Site, *, alone: bool
) -> None:
    killed = [] if alone else [await site.daemon()]
    killed.append(await site.begin("backfill", "nightly", *NIGHTS, "--yes"))
    await site.has_instances(2)
    await site.kill(*killed)
    if not alone:
        await site.daemon()
    done = await site("backfill", "nightly", *NIGHTS, "--yes")
    if alone:  # what was under way when it was killed is the next daemon's
        await site.daemon()
        done = await site("backfill", "nightly", *NIGHTS, "--yes")

    assert done.code == 0, done
    await site.has_instances(4)
    assert sorted(site.instances()) == FOUR
    runs = await site.runs()
    assert [run.predicted_instance for run in runs] == FOUR


@pytest.mark.e2e
async def test_it_stops_at_the_first_that_fails_and_the_same_command_goes_on(site: Site) -> None:
    await site.daemon()
    await site("trigger", "nightly", "--at", "2026-03-06T02:30Z", "--wait")
    site.simulator.faults.add(Order(fault=Fault.CODE, code=62103, on="trigger"))

    stopped = await site("backfill", "nightly", *NIGHTS, "--yes")
    done = await site("backfill", "nightly", *NIGHTS, "--yes")

    assert stopped.code == 1
    assert "stopped: run 2 (nightly, fire time 2026-03-07T02:30:00Z): failed, " in stopped.err
    assert "flowsched: 0 runs triggered; the same command goes on from here" in stopped.err
    assert "2026-03-06T02:30:00Z  skipped: triggered already, run 1 (nightly) is triggered" in stopped.out
    assert "2026-03-07T02:30:00Z  is sent; run 2 (nightly) is failed" in done.out
    assert (done.code, site.instances()) == (0, FOUR)


@pytest.mark.e2e
async def test_what_is_refused_on_the_way_stops_it_and_it_is_said_how_far_it_came(site: Site) -> None:
    await site.daemon()
    filling = await site.begin("backfill", "nightly", *NIGHTS, "--yes", "--format", "json")
    await site.has_instances(1)
    # The last one comes three minutes after the first.
    last = {"schedule": "nightly", "at": "2026-03-09T02:30Z"}
    await Client(site.settings.control_socket).ask("POST", "/v1/trigger", last)
    done = await filling.ends()
    found = json.loads(done.out)

    assert done.code == 1
    assert found["stopped"].startswith("stopped: run ")
    assert "(nightly) has flow 3377 at 2026-03-09T02:30:00Z already" in found["stopped"]
    assert done.err.splitlines() == [
        f"flowsched: {found['stopped']}",
        "flowsched: 3 runs triggered; the same command goes on from here",
    ]
    assert len(found["runs"]) == 3


@pytest.mark.e2e
@pytest.mark.parametrize("alone", [False, True])
async def test_an_interruption_says_who_goes_on_with_what_is_under_way(site: Site, *, alone: bool) -> None:
    text = "defaults: {timezone: UTC, retry: {deadline: 1d}}\nschedules:\n"
    (site.folder / "schedules" / "a.yaml").write_text(
        f"{text}  nightly: {{cron: '30 2 * * *', flow: 3377}}\n"
    )
    if not alone:
        await site.daemon()
    filling = await site.begin("backfill", "nightly", *NIGHTS, "--yes")
    await site.has_instances(1)
    # The second comes a minute after the first. However busy this machine is, it is there for long then.
    site.simulator.faults.add(Order(fault=Fault.STATUS, status=429, retry_after=40_000, on="trigger"))
    async with asyncio.timeout(30):
        while (await site.runs())[-1].state is not RunState.WAITING:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)  # the command is to hear of it as well
    filling.process.send_signal(signal.SIGINT)
    done = await filling.ends()

    assert done.code == 130
    who = "a daemon takes it up when it starts" if alone else "the daemon goes on with it"
    assert done.err.strip().splitlines()[-2:] == [
        f"flowsched: run 2 is waiting; {who}: `flowsched runs --run 2` shows it",
        "flowsched: 1 run triggered; the same command goes on from here",
    ]
