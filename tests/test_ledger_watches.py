"""The flows of triggered runs, watched until they end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.errors import LedgerRefusal
from flowsched.ledger import Ledger
from flowsched.model import FlowState, NextStep, Run, RunState, Seen, Sighting, Watch
from tests.test_ledger import ACCEPTED, LOST, MINUTE, NIGHT, TRIGGERED, claim, plans_of, rows_of, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOURS = timedelta(hours=6)
RUNNING = Sighting(
    seen=Seen.FOUND, detail="running", flow=FlowState.GOING, status=2, started="2026-01-05 10:30:01"
)
DONE = Sighting(
    seen=Seen.FOUND, detail="done", flow=FlowState.SUCCEEDED, status=4, ended="2026-01-05 10:41:00"
)
ENDS = [FlowState.SUCCEEDED, FlowState.FAILED, FlowState.LATE]


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(url_of(tmp_path)) as opened:
        yield opened


async def triggered(ledger: Ledger, at_: int = 0, **changes: Any) -> Run:
    """Claim a run and have it triggered at NIGHT and so many minutes."""
    run = await claim(ledger, **({"watch": HOURS} | changes))
    await ledger.begin_attempt(run.id, 1, NIGHT)
    return await ledger.end_attempt(run.id, 1, NIGHT + at_ * MINUTE, ACCEPTED, TRIGGERED)


async def in_doubt(ledger: Ledger) -> Run:
    run = await claim(ledger, watch=HOURS)
    await ledger.begin_attempt(run.id, 1, NIGHT)
    return await ledger.end_attempt(run.id, 1, NIGHT, LOST, NextStep(RunState.IN_DOUBT, "lost"))


def watch(run: Run, **changes: Any) -> Watch:
    usual: dict[str, Any] = {
        "run_id": run.id,
        "schedule_id": run.schedule_id,
        "target": run.target,
        "flow": run.flow,
        "instance": run.instance,
        "until": run.updated_at + HOURS,
        "state": FlowState.GOING,
        "status": None,
        "started": None,
        "ended": None,
        "updated_at": run.updated_at,
    }
    return Watch(**(usual | changes))


async def test_a_run_that_is_triggered_is_watched_from_then_on(ledger: Ledger) -> None:
    run = await triggered(ledger, 1)

    assert await ledger.watches() == [watch(run, until=NIGHT + MINUTE + HOURS)]
    assert await ledger.watches_of([run.id]) == {run.id: watch(run)}


async def test_a_watch_begins_once_though_the_trigger_is_recorded_twice(ledger: Ledger) -> None:
    run = await triggered(ledger, 1)
    await ledger.record_watch(run.id, NIGHT + 2 * MINUTE, FlowState.GOING, RUNNING)

    again = await ledger.end_attempt(run.id, 1, NIGHT + MINUTE, ACCEPTED, TRIGGERED)

    assert again == run
    assert [one.status for one in await ledger.watches()] == [2]


@pytest.mark.parametrize("way", ["settle", "resolve"])
async def test_a_run_found_to_be_triggered_is_watched_too(ledger: Ledger, way: str) -> None:
    run = await in_doubt(ledger)

    found = [await getattr(ledger, way)(run.id, NIGHT + MINUTE, TRIGGERED) for _ in range(2)]

    assert found[0] == found[1]
    assert await ledger.watches() == [watch(found[0], instance=run.predicted_instance)]


async def test_the_instance_of_an_acceptance_that_names_none_is_the_predicted_one(ledger: Ledger) -> None:
    run = await claim(ledger, watch=HOURS)
    await ledger.begin_attempt(run.id, 1, NIGHT)
    await ledger.end_attempt(run.id, 1, NIGHT, replace(ACCEPTED, instance=None), TRIGGERED)

    assert [one.instance for one in await ledger.watches()] == [run.predicted_instance]


async def test_a_run_without_a_watch_or_without_an_instance_is_not_watched(ledger: Ledger) -> None:
    unwatched = await triggered(ledger, watch=None)
    failed = await claim(ledger, schedule_id="failed", watch=HOURS)
    await ledger.settle(failed.id, NIGHT, NextStep(RunState.FAILED, "given up"))

    assert await ledger.watches() == []
    assert await ledger.watches_of([unwatched.id, failed.id]) == {}


async def test_watches_that_go_on_come_soonest_until_first(ledger: Ledger) -> None:
    late = await triggered(ledger, 2, schedule_id="late")
    soon = await triggered(ledger, 1, schedule_id="soon")
    ended = await triggered(ledger, schedule_id="ended")
    await ledger.record_watch(ended.id, NIGHT, FlowState.SUCCEEDED, DONE)

    assert [one.run_id for one in await ledger.watches()] == [soon.id, late.id]
    assert list(await ledger.watches_of([late.id, ended.id])) == [late.id, ended.id]


async def test_a_watch_takes_what_each_look_shows(ledger: Ledger) -> None:
    run = await triggered(ledger)

    going = await ledger.record_watch(run.id, NIGHT + MINUTE, FlowState.GOING, RUNNING)
    unseen = await ledger.record_watch(run.id, NIGHT + 2 * MINUTE, FlowState.GOING, None)
    done = await ledger.record_watch(run.id, NIGHT + 3 * MINUTE, FlowState.SUCCEEDED, DONE)

    first = watch(run, status=2, started=RUNNING.started, updated_at=NIGHT + MINUTE)
    assert going == first
    assert unseen == replace(first, updated_at=NIGHT + 2 * MINUTE)
    assert done == watch(
        run,
        state=FlowState.SUCCEEDED,
        status=4,
        started=RUNNING.started,
        ended=DONE.ended,
        updated_at=NIGHT + 3 * MINUTE,
    )
    assert await ledger.watches_of([run.id]) == {run.id: done}


@pytest.mark.parametrize("state", ENDS)
async def test_a_flow_that_is_not_going_is_left_as_it_is(ledger: Ledger, state: FlowState) -> None:
    run = await triggered(ledger)
    ended = [await ledger.record_watch(run.id, NIGHT + MINUTE, state, None) for _ in range(2)]

    for other in FlowState:
        with pytest.raises(
            LedgerRefusal, match=f"the flow of run {run.id} is {state}: it cannot become {other}"
        ):
            await ledger.record_watch(run.id, NIGHT + 2 * MINUTE, other, DONE)

    assert ended[0] == ended[1] == (await ledger.watches_of([run.id]))[run.id]


async def test_a_run_that_is_not_watched_is_named(ledger: Ledger) -> None:
    run = await triggered(ledger, watch=None)

    with pytest.raises(LedgerRefusal, match=f"run {run.id} is not watched: .* recorded as failed"):
        await ledger.record_watch(run.id, NIGHT, FlowState.FAILED, None)


async def test_a_trigger_that_is_not_recorded_begins_no_watch(tmp_path: Path, ledger: Ledger) -> None:
    run = await claim(ledger, watch=HOURS)
    await ledger.begin_attempt(run.id, 1, NIGHT)

    with pytest.raises(LedgerRefusal):
        await ledger.end_attempt(run.id, 2, NIGHT, ACCEPTED, TRIGGERED)

    assert rows_of(tmp_path, "SELECT * FROM watches") == []


async def test_no_reading_scans_the_watches(ledger: Ledger) -> None:
    going = await plans_of(ledger, lambda books: books.watches.going())
    some = await plans_of(ledger, lambda books: books.watches.of([1, 2]))

    assert going[0] == "SCAN watches USING INDEX watches_going"  # it holds those that go on, and no others
    assert [step for step in going[1:] + some if "SCAN" in step] == []
