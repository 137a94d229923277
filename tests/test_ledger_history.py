"""What the ledger tells of the past, and what it forgets of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.ledger import Ledger
from flowsched.model import Fired, FlowState, NextStep, Origin, Outcome, Run, RunState, Sent, Timing
from tests.test_ledger import (
    ACCEPTED,
    BUSY,
    HOURLY,
    LOST,
    MINUTE,
    NIGHT,
    NIGHTLY,
    SECOND,
    catalog,
    claim,
    new_run,
    plans_of,
    rows_of,
    schedule,
    step_to,
    url_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flowsched.ledger.books import Books

HOURS = timedelta(hours=6)
DAY = timedelta(days=1)
LATE = NIGHT + 100 * DAY


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(url_of(tmp_path)) as opened:
        yield opened


async def brought_to(ledger: Ledger, state: RunState, **changes: Any) -> Run:
    """Claim a run, and bring it to a state on real arrows, all at its fire time."""
    run = await claim(ledger, **changes)
    at = run.fire_time
    if state is RunState.CLAIMED:
        return run
    if state in (RunState.FAILED, RunState.SKIPPED):
        return await ledger.settle(run.id, at, step_to(state))
    run = await ledger.begin_attempt(run.id, 1, at)
    if state is RunState.SENDING:
        return run
    answer = {RunState.TRIGGERED: ACCEPTED, RunState.WAITING: BUSY, RunState.IN_DOUBT: LOST}[state]
    named = answer.instance and f"made-{run.id}"
    return await ledger.end_attempt(run.id, 1, at, replace(answer, instance=named), step_to(state))


# One run


async def test_a_run_is_found_by_its_number(ledger: Ledger) -> None:
    run = await claim(ledger)

    assert await ledger.run(run.id) == run
    assert await ledger.run(run.id + 1) is None


# What was sent


async def test_what_was_sent_since_an_instant_is_told_with_its_flow(ledger: Ledger) -> None:
    run = await claim(ledger, flow=7, target="other")
    early = await claim(ledger, schedule_id="early")
    await ledger.begin_attempt(early.id, 1, NIGHT - SECOND)
    await ledger.begin_attempt(run.id, 1, NIGHT)
    await ledger.end_attempt(run.id, 1, NIGHT + SECOND, BUSY, NextStep(RunState.WAITING, "busy", NIGHT))
    await ledger.begin_attempt(run.id, 2, NIGHT + MINUTE)

    assert await ledger.sent_since(NIGHT) == [
        Sent(
            target="other",
            flow=7,
            started_at=NIGHT,
            ended_at=NIGHT + SECOND,
            outcome=Outcome.REFUSED_FOR_NOW,
        ),
        Sent(target="other", flow=7, started_at=NIGHT + MINUTE, ended_at=None, outcome=None),
    ]


# Previous instances


async def previous(ledger: Ledger, not_of: int = 0, limit: int = 10) -> list[str]:
    return list(await ledger.previous_instances("default", 7, not_of, limit))


async def test_previous_instances_are_those_that_may_have_been_made_latest_first(ledger: Ledger) -> None:
    states = [
        RunState.TRIGGERED,
        RunState.IN_DOUBT,
        RunState.SENDING,
        RunState.WAITING,
        RunState.CLAIMED,
        RunState.FAILED,
        RunState.SKIPPED,
    ]
    for number, state in enumerate(states):
        at = NIGHT + number * MINUTE
        await brought_to(ledger, state, fire_time=at, flow=7, predicted_instance=f"7-{number}")

    assert await previous(ledger) == ["7-2", "7-1", "made-1"]
    assert await previous(ledger, limit=2) == ["7-2", "7-1"]
    assert await previous(ledger, not_of=3) == ["7-1", "made-1"]


async def test_previous_instances_come_with_their_fire_times_be_they_later_than_that_of_the_run(
    ledger: Ledger,
) -> None:
    run = await claim(ledger, flow=7)
    for minutes in (-1, 1):
        await brought_to(
            ledger,
            RunState.IN_DOUBT,
            fire_time=NIGHT + minutes * MINUTE,
            flow=7,
            predicted_instance=f"7{minutes:+}",
        )

    found = await ledger.previous_instances("default", 7, run.id, 10)

    assert list(found.items()) == [("7+1", NIGHT + MINUTE), ("7-1", NIGHT - MINUTE)]


async def test_previous_instances_are_of_one_flow_and_target_whatever_the_schedule(ledger: Ledger) -> None:
    await brought_to(ledger, RunState.TRIGGERED, schedule_id="other flow", flow=8)
    await brought_to(ledger, RunState.TRIGGERED, schedule_id="other target", flow=7, target="other")
    ours = await brought_to(ledger, RunState.TRIGGERED, schedule_id="other schedule", flow=7)

    assert await previous(ledger) == [ours.instance]


@pytest.mark.parametrize(
    ("state", "told"),
    [(FlowState.GOING, 1), (FlowState.LATE, 1), (FlowState.SUCCEEDED, 0), (FlowState.FAILED, 0)],
)
async def test_an_instance_that_was_seen_to_end_is_no_previous_one(
    ledger: Ledger, state: FlowState, told: int
) -> None:
    run = await brought_to(ledger, RunState.TRIGGERED, flow=7, watch=HOURS)

    await ledger.record_watch(run.id, NIGHT + MINUTE, state, None)

    assert await previous(ledger) == [run.instance] * told


async def test_the_instances_of_a_flow_are_looked_for_among_the_latest_hundred(ledger: Ledger) -> None:
    oldest = await brought_to(ledger, RunState.TRIGGERED, flow=7)
    for number in range(1, 100):
        at = NIGHT + number * MINUTE
        run = await brought_to(ledger, RunState.TRIGGERED, fire_time=at, flow=7, watch=HOURS)
        await ledger.record_watch(run.id, at, FlowState.SUCCEEDED, None)

    reached = await previous(ledger)
    await brought_to(ledger, RunState.TRIGGERED, fire_time=NIGHT + 100 * MINUTE, flow=7)
    beyond = await previous(ledger)

    assert reached == [oldest.instance]
    assert beyond == ["made-101"]


# For an audit


async def test_automatic_runs_come_in_pages_by_schedule_and_fire_time(ledger: Ledger) -> None:
    rows = [new_run(id_, NIGHT + number * MINUTE) for number in range(4) for id_ in ("b", "a", "c/d")]
    runs = await ledger.claim([replace(row, origin=Origin.CATCH_UP) for row in rows], [])
    expected = sorted(
        (
            Fired(
                schedule_id=run.schedule_id,
                fire_time=run.fire_time,
                run_id=run.id,
                origin=Origin.CATCH_UP,
                state=RunState.CLAIMED,
            )
            for run in runs
            if NIGHT + MINUTE <= run.fire_time < NIGHT + 3 * MINUTE
        ),
        key=lambda fired: (fired.schedule_id, fired.fire_time),
    )

    for limit in (1, 2, 4, 6, 7):
        found: list[Fired] = []
        after = None
        while page := await ledger.automatic_runs(NIGHT + MINUTE, NIGHT + 3 * MINUTE, after, limit):
            assert len(page) <= limit
            found += page
            after = (page[-1].schedule_id, page[-1].fire_time)
        assert found == expected


async def test_automatic_runs_are_all_in_whatever_state(ledger: Ledger) -> None:
    for number, state in enumerate(set(RunState) - {RunState.MISSED}):
        await brought_to(ledger, state, fire_time=NIGHT + number * MINUTE)
    await claim(ledger, fire_time=NIGHT + 9 * MINUTE, state=RunState.MISSED)

    found = await ledger.automatic_runs(NIGHT, NIGHT + DAY, None, 100)

    assert {one.state for one in found} == set(RunState)


# Retention


async def test_forgetting_removes_what_is_final_and_earlier(ledger: Ledger) -> None:
    states = [RunState.TRIGGERED, RunState.FAILED, RunState.SKIPPED]
    for number, state in enumerate(states):
        await brought_to(ledger, state, fire_time=NIGHT + number * MINUTE)
    await claim(ledger, fire_time=NIGHT + 3 * MINUTE, state=RunState.MISSED)
    before = NIGHT + 4 * MINUTE
    kept = [await claim(ledger, fire_time=at, state=RunState.MISSED) for at in (before, LATE)]

    removed = [await ledger.forget(before, most) for most in (1, 10, 10)]

    assert removed == [1, 3, 0]
    assert await ledger.runs() == kept[::-1]


async def test_forgetting_the_oldest_leaves_the_newer(ledger: Ledger) -> None:
    for number in (2, 0, 3, 1):
        await brought_to(ledger, RunState.FAILED, fire_time=NIGHT + number * MINUTE)
    await claim(ledger, fire_time=LATE)

    removed = await ledger.forget(NIGHT + DAY, 2)

    assert removed == 2
    assert [run.fire_time for run in await ledger.runs()] == [LATE, NIGHT + 3 * MINUTE, NIGHT + 2 * MINUTE]


@pytest.mark.parametrize("state", [RunState.CLAIMED, RunState.SENDING, RunState.WAITING, RunState.IN_DOUBT])
async def test_what_is_not_final_is_never_forgotten(ledger: Ledger, state: RunState) -> None:
    run = await brought_to(ledger, state)
    await brought_to(ledger, RunState.FAILED, fire_time=NIGHT + MINUTE)
    await claim(ledger, fire_time=NIGHT + DAY)

    removed = await ledger.forget(NIGHT + HOURS, 10)

    assert removed == 1
    assert await ledger.run(run.id) == run


async def test_a_run_goes_with_its_attempts_and_its_watch_once_that_has_ended(
    tmp_path: Path, ledger: Ledger
) -> None:
    run = await brought_to(ledger, RunState.TRIGGERED, watch=HOURS)
    await claim(ledger, fire_time=LATE)

    watched = await ledger.forget(LATE, 10)
    await ledger.record_watch(run.id, NIGHT + MINUTE, FlowState.LATE, None)
    ended = await ledger.forget(LATE, 10)

    assert (watched, ended) == (0, 1)
    assert rows_of(tmp_path, "SELECT * FROM attempts") == rows_of(tmp_path, "SELECT * FROM watches") == []


async def test_no_number_is_given_twice(ledger: Ledger) -> None:
    last = await brought_to(ledger, RunState.FAILED)

    removed = await ledger.forget(LATE, 10)
    following = await claim(ledger, fire_time=LATE)

    assert removed == 0
    assert following.id == last.id + 1
    assert await ledger.forget(LATE, 10) == 1


async def test_what_is_kept_begins_where_forgetting_ended_and_never_earlier(
    tmp_path: Path, ledger: Ledger
) -> None:
    before = await ledger.kept_from()

    kept: list[object] = []
    for at in (NIGHT, NIGHT - DAY, NIGHT + DAY, NIGHT):
        await ledger.forget(at, 10)
        kept.append(await ledger.kept_from())

    assert before is None
    assert kept == [NIGHT, NIGHT, NIGHT + DAY, NIGHT + DAY]
    assert len(rows_of(tmp_path, "SELECT * FROM retention")) == 1


async def test_terms_that_ended_are_forgotten_after_the_runs(ledger: Ledger) -> None:
    def edited(timing: Timing) -> Any:
        return catalog(timing.cron, schedule("a", timing))

    for number, timing in enumerate((NIGHTLY, HOURLY, NIGHTLY)):
        await ledger.apply(edited(timing), NIGHT + number * DAY)
    for number in range(3):
        await brought_to(ledger, RunState.FAILED, fire_time=NIGHT + number * MINUTE)
    left = []
    for _ in range(2):
        await ledger.forget(NIGHT + 2 * DAY, 2)
        left.append([(one.from_at, one.until_at) for one in await ledger.terms()])

    second, third = (NIGHT + DAY, NIGHT + 2 * DAY), (NIGHT + 2 * DAY, None)
    assert left == [[(NIGHT, NIGHT + DAY), second, third], [second, third]]


# Big ledgers

MANY = """
INSERT INTO runs (schedule_id, fire_time, origin, state, target, flow, predicted_instance, retry, deadline,
                  attempts, revision, source_file, source_line, daemon, claimed_at, updated_at, due_at)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)
SELECT 's' || n % 100, fire_time + n, origin, CASE n % 50 WHEN 0 THEN 'in_doubt' ELSE 'failed' END, target,
       n % 10, predicted_instance, retry, deadline, attempts, revision, source_file, source_line, daemon,
       claimed_at, updated_at, due_at
FROM runs, numbers
"""


async def test_nothing_scans_a_big_ledger(ledger: Ledger) -> None:
    await claim(ledger)
    await ledger._writer.do(lambda books: books.runs._connection.exec_driver_sql(MANY))

    operations: dict[str, Callable[[Books], object]] = {
        "forget": lambda books: books.retention.forget(LATE, 100),
        "sent_since": lambda books: books.history.sent_since(NIGHT),
        "previous_instances": lambda books: books.history.previous_instances("default", 7, 1, 5),
        "run": lambda books: books.history.run(1),
        "automatic_runs": lambda books: books.history.automatic_runs(NIGHT, LATE, None, 100),
    }
    plans = {name: await plans_of(ledger, operation) for name, operation in operations.items()}

    assert {name: plan[0] for name, plan in plans.items()} == {
        "forget": "SEARCH runs USING INDEX runs_newest (fire_time<?)",
        "sent_since": "SEARCH attempts USING INDEX attempts_started (started_at>?)",
        "previous_instances": "CO-ROUTINE made",
        "run": "SEARCH runs USING INTEGER PRIMARY KEY (rowid=?)",
        "automatic_runs": "SEARCH runs USING INDEX sqlite_autoindex_runs_1 ((schedule_id,fire_time)>(?,?))",
    }
    assert plans["previous_instances"][1] == "SEARCH runs USING INDEX runs_made (target=? AND flow=?)"
    # Small as they are: what was made of the latest hundred runs, and a table of one row.
    assert {step for plan in plans.values() for step in plan if "SCAN" in step} <= {
        "SCAN made",
        "SCAN retention",
    }
    assert not [step for name in ("forget", "automatic_runs") for step in plans[name] if "TEMP" in step]
