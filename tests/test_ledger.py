"""The ledger's door, on real files."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING, Any, cast
from zlib import crc32

import pytest
from sqlalchemy import event

from flowsched.errors import LedgerError, LedgerRefusal
from flowsched.ledger import Ledger
from flowsched.ledger.transitions import ARROWS, INITIAL_STATES, sources
from flowsched.model import (
    FINAL_STATES,
    Answer,
    Attempt,
    Catalog,
    CatchUp,
    Cursor,
    NewRun,
    NextStep,
    Origin,
    Outcome,
    Run,
    RunState,
    Schedule,
    Source,
    Timing,
)
from tests.builders import RETRY, a_new_run, a_schedule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flowsched.ledger.books import Books

NIGHT = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
NIGHTLY = Timing("30 2 * * *", "Europe/Berlin")
HOURLY = Timing("5 * * * *", "UTC")
ACCEPTED = Answer(
    outcome=Outcome.ACCEPTED, detail="created", http_status=200, code=0, instance="3377-20260105023000"
)
BUSY = Answer(outcome=Outcome.REFUSED_FOR_NOW, detail="429 Too Many Requests", http_status=429)
LOST = Answer(outcome=Outcome.UNKNOWN, detail="the reply was lost")
TRIGGERED = NextStep(RunState.TRIGGERED, None)


_DAEMONS = count()
"""Each row is claimed by another daemon, unless a test says otherwise."""


def new_run(schedule_id: str = "nightly", fire_time: datetime = NIGHT, **changes: Any) -> NewRun:
    """Return a row to be claimed; each schedule has a flow of its own, unless a test says otherwise."""
    usual = {
        "schedule_id": schedule_id,
        "fire_time": fire_time,
        "flow": crc32(schedule_id.encode()),
        "deadline": fire_time + RETRY.deadline,
        "predicted_instance": "3377-20260105023000",
        "revision": "c0ffee",
        "source": Source("nightly.yaml", 7),
        "daemon": f"host:{next(_DAEMONS)}",
        "claimed_at": fire_time + timedelta(microseconds=12_345),
    }
    return a_new_run(**(usual | changes))


def schedule(id_: str, timing: Timing = NIGHTLY, *, enabled: bool = True) -> Schedule:
    return a_schedule(id_, timing.cron, timing.timezone, enabled=enabled)


def catalog(revision: str, *schedules: Schedule) -> Catalog:
    return Catalog({one.id: one for one in schedules}, revision)


def url_of(folder: Path, timeout: float = 5) -> str:
    return f"sqlite:///{folder / 'ledger.db'}?timeout={timeout}"


def rows_of(folder: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(folder / "ledger.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def trace(ledger: Ledger) -> list[str]:
    """Return a list that from now on gets every statement that the writer's connection runs."""
    seen: list[str] = []

    def begin(books: Books) -> None:
        driver = books.runs._connection.connection.driver_connection
        cast("sqlite3.Connection", driver).set_trace_callback(seen.append)

    await ledger._writer.do(begin)
    await ledger._writer.do(lambda _: None)  # the commit of the first is now over
    seen.clear()
    return seen


async def plans_of(ledger: Ledger, operation: Callable[[Books], object]) -> list[str]:
    """Run the operation, and return the plans of its statements, made before their values are known."""
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, ___: object, many: bool) -> None:  # noqa: FBT001
        asked.append((statement, parameters[0] if many else parameters))

    def explained(books: Books) -> list[str]:
        connection = books.runs._connection
        event.listen(connection, "before_cursor_execute", note)
        operation(books)
        event.remove(connection, "before_cursor_execute", note)
        return [
            row[3]
            for statement, parameters in asked
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]

    return await ledger._writer.do(explained)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(url_of(tmp_path)) as opened:
        yield opened


async def claim(ledger: Ledger, **changes: Any) -> Run:
    [run] = await ledger.claim([new_run(**changes)], [])
    return run


async def bring_to(ledger: Ledger, state: RunState) -> Run:
    """Claim a run and move it to a state that is not final, or to triggered, on real arrows."""
    run = await claim(ledger)
    if state is RunState.CLAIMED:
        return run
    await ledger.begin_attempt(run.id, 1, NIGHT)
    steps = {
        RunState.WAITING: (BUSY, NextStep(RunState.WAITING, "busy", NIGHT + MINUTE)),
        RunState.IN_DOUBT: (LOST, NextStep(RunState.IN_DOUBT, "lost")),
        RunState.TRIGGERED: (ACCEPTED, TRIGGERED),
    }
    if state in steps:
        answer, step = steps[state]
        return await ledger.end_attempt(run.id, 1, NIGHT, answer, step)
    return run


def step_to(state: RunState) -> NextStep:
    return NextStep(state, "as tested", NIGHT + MINUTE if state is RunState.WAITING else None)


# Claims


async def test_a_claim_gives_back_the_run_as_it_is_read_later(ledger: Ledger) -> None:
    row = new_run(task=108580, reason="because")

    [run] = await ledger.claim([row], [])

    assert await ledger.runs() == [run]
    assert (run.schedule_id, run.fire_time, run.task, run.retry) == ("nightly", NIGHT, 108580, RETRY)
    assert (run.state, run.attempts, run.instance, run.retry_at) == (RunState.CLAIMED, 0, None, None)
    assert run.claimed_at == run.updated_at == NIGHT + timedelta(microseconds=12_345)
    assert run.source == Source("nightly.yaml", 7)


async def test_instants_are_read_back_in_utc_whatever_zone_they_came_in(ledger: Ledger) -> None:
    berlin = timezone(timedelta(hours=1))

    await ledger.claim([new_run(fire_time=NIGHT.astimezone(berlin))], [])

    [run] = await ledger.runs()
    assert run.fire_time == NIGHT
    assert run.fire_time.tzinfo is UTC


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 0, 0, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
async def test_an_instant_keeps_its_last_microsecond(ledger: Ledger, instant: datetime) -> None:
    await claim(ledger, deadline=instant)

    assert [run.deadline for run in await ledger.runs()] == [instant]


@pytest.mark.parametrize("field", ["fire_time", "deadline", "claimed_at"])
async def test_a_naive_datetime_is_refused(ledger: Ledger, field: str) -> None:
    changes: dict[str, Any] = {field: NIGHT.replace(tzinfo=None)}
    naive = new_run(**changes)

    with pytest.raises(ValueError, match="2026-01-05T02:30:00 has no zone"):
        await ledger.claim([naive], [])

    assert await ledger.runs() == []


async def test_a_fire_is_claimed_once(ledger: Ledger) -> None:
    first = await ledger.claim([new_run()], [])
    second = await ledger.claim([new_run(flow=1)], [])

    assert len(first) == 1
    assert second == []
    assert await ledger.runs() == first


@pytest.mark.parametrize("first", [Origin.SCHEDULE, Origin.CATCH_UP])
@pytest.mark.parametrize("second", [Origin.SCHEDULE, Origin.CATCH_UP])
async def test_an_automatic_fire_exists_once_whatever_its_origin(
    ledger: Ledger, first: Origin, second: Origin
) -> None:
    await claim(ledger, origin=first)

    assert await ledger.claim([new_run(origin=second)], []) == []


async def test_claims_come_back_in_the_order_given_without_those_taken(ledger: Ledger) -> None:
    await ledger.claim([new_run("b"), new_run("d")], [])

    claimed = await ledger.claim([new_run(id_) for id_ in ("e", "d", "c", "b", "a", "e")], [])

    assert [run.schedule_id for run in claimed] == ["e", "c", "a"]
    assert {run.id: run for run in claimed}.items() <= {run.id: run for run in await ledger.runs()}.items()


async def test_a_claim_whose_answer_was_lost_is_found_done_by_the_daemon_that_made_it(ledger: Ledger) -> None:
    row = new_run(daemon="host:me")
    (run,) = await ledger.claim([row], [])

    again = await ledger.claim([replace(row, origin=Origin.CATCH_UP, claimed_at=NIGHT + MINUTE)], [])
    other = await ledger.claim([replace(row, daemon="host:other")], [])
    begun = await ledger.begin_attempt(run.id, 1, NIGHT)
    too_late = await ledger.claim([row], [])

    assert again == [run]
    assert (other, too_late) == ([], [])
    assert await ledger.runs() == [begun]


async def test_a_move_whose_answer_was_lost_is_found_done(ledger: Ledger) -> None:
    run = await claim(ledger)
    step = NextStep(RunState.WAITING, "later", NIGHT + MINUTE)

    begun = [await ledger.begin_attempt(run.id, 1, NIGHT) for _ in range(2)]
    ended = [await ledger.end_attempt(run.id, 1, NIGHT + MINUTE, BUSY, step) for _ in range(2)]
    failed = NextStep(RunState.FAILED, "given up")
    settled = [await ledger.settle(run.id, NIGHT + 2 * MINUTE, failed) for _ in range(2)]

    for first, second in (begun, ended, settled):
        assert first == second
    assert len((await ledger.attempts([run.id]))[run.id]) == 1


async def test_the_same_move_made_later_is_another_one_and_refused(ledger: Ledger) -> None:
    run = await claim(ledger)
    await ledger.begin_attempt(run.id, 1, NIGHT)

    with pytest.raises(LedgerRefusal, match="attempt 1 cannot begin"):
        await ledger.begin_attempt(run.id, 1, NIGHT + MINUTE)


async def test_a_thousand_rows_are_claimed_in_one_commit(ledger: Ledger) -> None:
    seen = await trace(ledger)
    rows = [new_run(f"s{number}", flow=number) for number in range(1_000)]

    claimed = await ledger.claim(rows, [])

    assert [run.flow for run in claimed] == list(range(1_000))
    assert seen.count("COMMIT") == 1


@pytest.mark.parametrize("state", sorted(set(RunState) - INITIAL_STATES))
async def test_a_row_enters_only_claimed_missed_or_skipped(ledger: Ledger, state: RunState) -> None:
    with pytest.raises(LedgerError, match=f"nightly cannot enter the ledger as {state}; allowed: claimed"):
        await ledger.claim([new_run(state=state)], [])


async def test_a_missed_row_is_written_with_its_reason(ledger: Ledger) -> None:
    run = await claim(ledger, state=RunState.MISSED, reason="downtime")

    assert (run.state, run.reason) == (RunState.MISSED, "downtime")
    assert await ledger.open_runs() == []


# Collisions


def colliding(schedule_id: str, **changes: Any) -> NewRun:
    return new_run(schedule_id, **({"flow": 3377} | changes))


def states_of(runs: list[Run]) -> dict[str, RunState]:
    return {run.schedule_id: run.state for run in runs}


async def test_of_two_fires_for_one_flow_in_one_minute_the_first_is_sent(ledger: Ledger) -> None:
    first, second = await ledger.claim([colliding("b"), colliding("a")], [])

    assert (first.state, first.reason) == (RunState.CLAIMED, None)
    assert second.state is RunState.SKIPPED
    assert second.reason == f"collision: b (run {first.id}) has flow 3377 at this minute already"
    assert {run.id: run for run in await ledger.runs()} == {first.id: first, second.id: second}
    assert await ledger.open_runs() == [first]


async def test_a_fire_collides_with_one_that_was_claimed_before(ledger: Ledger) -> None:
    first = await claim(ledger, flow=3377)
    await ledger.settle(first.id, NIGHT, NextStep(RunState.FAILED, "given up"))

    [second] = await ledger.claim([colliding("a")], [])

    assert (second.state, second.reason) == (
        RunState.SKIPPED,
        f"collision: nightly (run {first.id}) has flow 3377 at this minute already",
    )


@pytest.mark.parametrize(
    "other",
    [
        {"flow": 3378},
        {"target": "other"},
        {"fire_time": NIGHT + MINUTE},
        {"state": RunState.MISSED, "reason": "downtime"},
        {"state": RunState.SKIPPED, "reason": "paused"},
    ],
    ids=["another flow", "another target", "another minute", "missed", "skipped"],
)
async def test_nothing_else_is_a_collision(ledger: Ledger, other: dict[str, Any]) -> None:
    row = colliding("b", **other)

    before = await ledger.claim([row, colliding("c")], [])
    after = await ledger.claim(
        [colliding("d", fire_time=NIGHT + 9 * MINUTE), replace(row, schedule_id="a")], []
    )

    assert states_of(before) == {"b": row.state, "c": RunState.CLAIMED}
    assert states_of(after)["d"] is RunState.CLAIMED


@pytest.mark.parametrize("state", [RunState.MISSED, RunState.SKIPPED])
async def test_a_row_that_is_not_to_be_sent_collides_with_nothing(ledger: Ledger, state: RunState) -> None:
    await ledger.claim([colliding("a")], [])

    [run] = await ledger.claim([colliding("b", state=state, reason="its own")], [])

    assert (run.state, run.reason) == (state, "its own")


async def test_of_many_fires_for_one_flow_in_one_minute_one_is_sent(ledger: Ledger) -> None:
    rows = [colliding(f"s{number:03}") for number in range(500)]

    claimed = await ledger.claim(rows, [])

    assert [run.state for run in claimed] == [RunState.CLAIMED] + [RunState.SKIPPED] * 499
    assert {run.reason for run in claimed[1:]} == {
        f"collision: s000 (run {claimed[0].id}) has flow 3377 at this minute already"
    }


async def test_claims_that_share_a_commit_collide_with_each_other(ledger: Ledger) -> None:
    claims = await asyncio.gather(*(ledger.claim([colliding(id_)], []) for id_ in "cba"))

    assert [run.state for [run] in claims] == [RunState.CLAIMED, RunState.SKIPPED, RunState.SKIPPED]


async def test_a_claim_with_collisions_that_is_made_again_changes_nothing(ledger: Ledger) -> None:
    rows = [colliding(id_, daemon="host:me") for id_ in "abc"]
    winner, *_ = await ledger.claim(rows, [])
    recorded = await ledger.runs()

    again = await ledger.claim(rows, [])
    last_first = await ledger.claim(rows[::-1], [])

    assert again == last_first == [winner]
    assert await ledger.runs() == recorded


async def test_a_fire_whose_place_is_taken_holds_no_minute(ledger: Ledger) -> None:
    await ledger.claim([colliding("a", state=RunState.MISSED)], [])

    [run] = await ledger.claim([colliding("a"), colliding("b")], [])

    assert (run.schedule_id, run.state) == ("b", RunState.CLAIMED)


async def test_collisions_are_found_by_index(tmp_path: Path, ledger: Ledger) -> None:
    plans = await plans_of(ledger, lambda books: books.runs.claim([colliding("a")]))

    assert [step for step in plans if "SCAN" in step] == []
    assert "SEARCH held USING INDEX runs_by_minute (fire_time=? AND target=? AND flow=?)" in plans
    # Of its own claim only, however many runs are claimed just now.
    assert "SEARCH new USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plans


# Attempts and states


async def test_an_attempt_is_on_record_before_it_ends(ledger: Ledger) -> None:
    run = await claim(ledger)

    await ledger.begin_attempt(run.id, 1, NIGHT)

    [begun] = await ledger.runs()
    assert (begun.state, begun.attempts, begun.updated_at) == (RunState.SENDING, 1, NIGHT)
    assert await ledger.attempts([run.id]) == {
        run.id: [
            Attempt(
                run_id=run.id,
                number=1,
                started_at=NIGHT,
                ended_at=None,
                outcome=None,
                http_status=None,
                code=None,
                detail=None,
            )
        ]
    }


async def test_a_run_goes_from_claim_over_a_retry_to_triggered(ledger: Ledger) -> None:
    run = await claim(ledger)

    await ledger.begin_attempt(run.id, 1, NIGHT)
    waiting = await ledger.end_attempt(
        run.id, 1, NIGHT + SECOND, BUSY, NextStep(RunState.WAITING, "busy", NIGHT + MINUTE)
    )
    await ledger.begin_attempt(run.id, 2, NIGHT + MINUTE)
    done = await ledger.end_attempt(run.id, 2, NIGHT + MINUTE + SECOND, ACCEPTED, TRIGGERED)

    assert (waiting.state, waiting.reason, waiting.retry_at) == (RunState.WAITING, "busy", NIGHT + MINUTE)
    assert (done.state, done.reason, done.retry_at, done.attempts) == (RunState.TRIGGERED, None, None, 2)
    assert done.instance == ACCEPTED.instance
    assert await ledger.runs() == [done]
    first, second = (await ledger.attempts([run.id]))[run.id]
    assert (first.outcome, first.http_status, first.ended_at) == (BUSY.outcome, 429, NIGHT + SECOND)
    assert (second.outcome, second.code, second.detail) == (Outcome.ACCEPTED, 0, "created")


@pytest.mark.parametrize("number", [0, 2])
async def test_an_attempt_that_does_not_follow_the_last_is_refused(ledger: Ledger, number: int) -> None:
    run = await claim(ledger)

    with pytest.raises(LedgerError, match=f"claimed, with 0 attempts begun: attempt {number} cannot begin"):
        await ledger.begin_attempt(run.id, number, NIGHT)

    assert await ledger.attempts([run.id]) == {run.id: []}


async def test_an_attempt_of_a_final_run_is_refused(ledger: Ledger) -> None:
    run = await bring_to(ledger, RunState.TRIGGERED)

    with pytest.raises(LedgerError, match=f"run {run.id} is triggered, which is final"):
        await ledger.begin_attempt(run.id, 2, NIGHT)


async def test_an_attempt_ends_once(ledger: Ledger) -> None:
    run = await bring_to(ledger, RunState.TRIGGERED)

    with pytest.raises(LedgerError, match="is triggered, which is final"):
        await ledger.end_attempt(run.id, 1, NIGHT, LOST, NextStep(RunState.IN_DOUBT, "lost"))

    assert (await ledger.attempts([run.id]))[run.id][0].outcome is Outcome.ACCEPTED


async def test_a_run_that_is_not_there_is_named(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="run 99 is not in the ledger"):
        await ledger.begin_attempt(99, 1, NIGHT)
    with pytest.raises(LedgerError, match="run 99 is not in the ledger"):
        await ledger.settle(99, NIGHT, step_to(RunState.FAILED))


OPEN = [RunState.CLAIMED, RunState.SENDING, RunState.WAITING, RunState.IN_DOUBT]


@pytest.mark.parametrize("target", list(RunState))
@pytest.mark.parametrize("state", [*OPEN, RunState.TRIGGERED])
async def test_a_run_is_settled_along_the_arrows_only(
    ledger: Ledger, state: RunState, target: RunState
) -> None:
    before = await bring_to(ledger, state)
    [before] = await ledger.runs()
    allowed = target in ARROWS[state] and target is not RunState.SENDING

    if allowed:
        settled = await ledger.settle(before.id, NIGHT + MINUTE, step_to(target))
        assert (settled.state, settled.updated_at) == (target, NIGHT + MINUTE)
    else:
        with pytest.raises(LedgerError, match=f"run {before.id} is {state}.*it cannot become {target}"):
            await ledger.settle(before.id, NIGHT + MINUTE, step_to(target))
        assert await ledger.runs() == [before]


@pytest.mark.parametrize("target", list(RunState))
async def test_an_attempt_ends_along_the_arrows_only(ledger: Ledger, target: RunState) -> None:
    run = await bring_to(ledger, RunState.SENDING)

    if target in ARROWS[RunState.SENDING]:
        assert (await ledger.end_attempt(run.id, 1, NIGHT, LOST, step_to(target))).state is target
    else:
        with pytest.raises(LedgerError, match=f"run {run.id} is sending.*cannot end with {target}"):
            await ledger.end_attempt(run.id, 1, NIGHT, LOST, step_to(target))


@pytest.mark.parametrize(
    "step", [NextStep(RunState.WAITING, "no time given"), NextStep(RunState.FAILED, "with a time", NIGHT)]
)
async def test_a_retry_time_goes_with_waiting_and_with_nothing_else(ledger: Ledger, step: NextStep) -> None:
    run = await bring_to(ledger, RunState.SENDING)

    with pytest.raises(LedgerError, match="runs_retry_at"):
        await ledger.end_attempt(run.id, 1, NIGHT, BUSY, step)

    assert (await ledger.attempts([run.id]))[run.id][0].ended_at is None


async def test_a_doubtful_run_that_was_found_gets_the_predicted_instance(ledger: Ledger) -> None:
    run = await bring_to(ledger, RunState.IN_DOUBT)

    settled = await ledger.settle(run.id, NIGHT + MINUTE, NextStep(RunState.TRIGGERED, "found"))

    assert settled.instance == settled.predicted_instance


async def test_a_note_stays_on_the_run_until_there_is_another(ledger: Ledger) -> None:
    run = await claim(ledger)

    begun = await ledger.begin_attempt(run.id, 1, NIGHT, "cancelled 3377-20260105022900")
    again = await ledger.begin_attempt(run.id, 1, NIGHT, "cancelled 3377-20260105022900")
    await ledger.end_attempt(run.id, 1, NIGHT, BUSY, NextStep(RunState.WAITING, "busy", NIGHT))
    second = await ledger.begin_attempt(run.id, 2, NIGHT)
    await ledger.end_attempt(run.id, 2, NIGHT, BUSY, NextStep(RunState.WAITING, "busy", NIGHT))
    third = await ledger.begin_attempt(run.id, 3, NIGHT, "another")

    assert run.note is None
    assert begun == again
    assert begun.note == second.note == "cancelled 3377-20260105022900"
    assert third.note == "another"
    assert await ledger.runs() == [third]


async def test_a_run_in_doubt_may_stay_so_for_another_reason(ledger: Ledger) -> None:
    run = await bring_to(ledger, RunState.IN_DOUBT)
    step = NextStep(RunState.IN_DOUBT, "still unknown at its deadline")

    settled = [await ledger.settle(run.id, NIGHT + MINUTE, step) for _ in range(2)]

    assert settled == [replace(run, reason=step.reason, updated_at=NIGHT + MINUTE)] * 2


@pytest.mark.parametrize("state", [RunState.TRIGGERED, RunState.FAILED])
async def test_a_run_in_doubt_is_resolved_by_hand(ledger: Ledger, state: RunState) -> None:
    run = await bring_to(ledger, RunState.IN_DOUBT)
    step = NextStep(state, "seen in the console")

    resolved = [await ledger.resolve(run.id, NIGHT + MINUTE, step) for _ in range(2)]

    instance = run.predicted_instance if state is RunState.TRIGGERED else None
    expected = replace(run, state=state, reason=step.reason, instance=instance, updated_at=NIGHT + MINUTE)
    assert resolved == [expected] * 2
    assert await ledger.runs() == [expected]


@pytest.mark.parametrize("state", [RunState.CLAIMED, RunState.SENDING, RunState.WAITING, RunState.TRIGGERED])
async def test_only_a_run_in_doubt_is_resolved(ledger: Ledger, state: RunState) -> None:
    before = await bring_to(ledger, state)
    [before] = await ledger.runs()

    with pytest.raises(
        LedgerRefusal,
        match=f"run {before.id} is {state}.*cannot be resolved to failed, which only a run in_doubt can be",
    ):
        await ledger.resolve(before.id, NIGHT + MINUTE, step_to(RunState.FAILED))

    assert await ledger.runs() == [before]


@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.TRIGGERED, RunState.FAILED}))
async def test_a_run_is_resolved_to_triggered_or_failed_only(ledger: Ledger, state: RunState) -> None:
    run = await bring_to(ledger, RunState.IN_DOUBT)

    with pytest.raises(
        LedgerRefusal, match=f"is in_doubt.*cannot be resolved to {state}; allowed: failed, triggered"
    ):
        await ledger.resolve(run.id, NIGHT + MINUTE, step_to(state))


async def test_a_run_is_resolved_once(ledger: Ledger) -> None:
    run = await bring_to(ledger, RunState.IN_DOUBT)
    await ledger.resolve(run.id, NIGHT + MINUTE, step_to(RunState.FAILED))

    with pytest.raises(LedgerRefusal, match="is failed, which is final"):
        await ledger.resolve(run.id, NIGHT + 2 * MINUTE, step_to(RunState.FAILED))
    with pytest.raises(LedgerRefusal, match="run 99 is not in the ledger"):
        await ledger.resolve(99, NIGHT, step_to(RunState.FAILED))


@pytest.mark.parametrize(
    ("state", "targets"),
    [
        (RunState.CLAIMED, "failed sending skipped"),
        (RunState.SENDING, "failed in_doubt triggered waiting"),
        (RunState.WAITING, "failed sending"),
        (RunState.IN_DOUBT, "failed in_doubt sending triggered"),
        (RunState.TRIGGERED, ""),
        (RunState.FAILED, ""),
        (RunState.MISSED, ""),
        (RunState.SKIPPED, ""),
    ],
)
def test_the_arrows_are_these(state: RunState, targets: str) -> None:
    assert sorted(ARROWS[state]) == targets.split()


def test_no_state_is_without_arrows_but_the_final_ones() -> None:
    assert {state for state in RunState if not ARROWS[state]} == FINAL_STATES


def test_sending_is_reached_from_all_that_may_still_send() -> None:
    assert sources(RunState.SENDING) == {RunState.CLAIMED, RunState.WAITING, RunState.IN_DOUBT}


# Reading


async def test_open_runs_are_those_not_final_oldest_first(ledger: Ledger) -> None:
    await ledger.claim(
        [
            new_run("late", NIGHT + MINUTE),
            new_run("early", NIGHT - MINUTE),
            new_run("missed", state=RunState.MISSED),
            new_run("skipped", state=RunState.SKIPPED),
        ],
        [],
    )

    assert [run.schedule_id for run in await ledger.open_runs()] == ["early", "late"]


async def test_runs_are_listed_newest_first_by_schedule_state_and_limit(ledger: Ledger) -> None:
    times = [NIGHT + MINUTE * number for number in (2, 0, 1)]
    await ledger.claim([new_run("a", at) for at in times], [])
    await ledger.claim([new_run("b", NIGHT + MINUTE, state=RunState.MISSED)], [])

    newest = await ledger.runs(limit=2)
    of_a = await ledger.runs(schedule_id="a")
    missed = await ledger.runs(state=RunState.MISSED)
    neither = await ledger.runs(schedule_id="a", state=RunState.MISSED)

    assert [(run.schedule_id, run.fire_time) for run in newest] == [
        ("a", NIGHT + 2 * MINUTE),
        ("b", NIGHT + MINUTE),
    ]
    assert [run.fire_time for run in of_a] == sorted(times, reverse=True)
    assert [run.schedule_id for run in missed] == ["b"]
    assert neither == []


async def test_attempts_of_many_runs_are_read_at_once(ledger: Ledger) -> None:
    runs = await ledger.claim([new_run(f"s{number}") for number in range(1_200)], [])
    await asyncio.gather(*(ledger.begin_attempt(run.id, 1, NIGHT) for run in runs[::2]))

    found = await ledger.attempts([run.id for run in runs])

    assert [len(found[run.id]) for run in runs] == [1, 0] * 600


async def test_no_reading_scans_the_runs(ledger: Ledger) -> None:
    readings: list[Callable[[Books], object]] = [
        lambda books: books.history.open_runs(),
        lambda books: books.history.newest(None, None, 50),
        lambda books: books.history.newest("nightly", None, 50),
        lambda books: books.history.newest(None, RunState.FAILED, 50),
    ]

    plans = [(await plans_of(ledger, reading))[0].split(" (")[0] for reading in readings]

    assert plans == [
        "SEARCH runs USING INDEX runs_by_state",
        "SCAN runs USING INDEX runs_newest",  # in the order of the index, up to the limit
        "SEARCH runs USING INDEX sqlite_autoindex_runs_1",
        "SEARCH runs USING INDEX runs_by_state",
    ]


# Catalogs and cursors: the edit barrier

LATER = NIGHT + timedelta(hours=1)


@pytest.mark.parametrize(
    ("before", "after", "cursors"),
    [
        ([], [schedule("a")], {"a": LATER}),
        ([schedule("a")], [schedule("a")], {"a": NIGHT}),
        (
            [schedule("a")],
            [replace(schedule("a"), flow=1, owner="other", catch_up=CatchUp.ALL)],
            {"a": NIGHT},
        ),
        ([schedule("a")], [schedule("a"), schedule("b")], {"a": NIGHT, "b": LATER}),
        ([schedule("a")], [schedule("a", HOURLY)], {"a": LATER}),
        ([schedule("a")], [schedule("a", Timing(NIGHTLY.cron, "UTC"))], {"a": LATER}),
        ([schedule("a")], [schedule("a", enabled=False)], {}),
        ([schedule("a", enabled=False)], [schedule("a")], {"a": LATER}),
        ([schedule("a")], [], {}),
        ([schedule("a")], [schedule("renamed")], {"renamed": LATER}),
    ],
    ids=[
        "new",
        "unchanged",
        "edited but for its timing",
        "another new",
        "other cron",
        "other zone",
        "disabled",
        "enabled",
        "removed",
        "renamed",
    ],
)
async def test_an_edit_lets_a_cursor_start_anew_unless_its_timing_stays(
    ledger: Ledger, before: list[Schedule], after: list[Schedule], cursors: dict[str, datetime]
) -> None:
    await ledger.apply(catalog("r1", *before), NIGHT)

    found = await ledger.apply(catalog("r2", *after), LATER)

    assert {id_: cursor.at for id_, cursor in found.items()} == cursors
    assert all(cursor.timing == {one.id: one for one in after}[id_].timing for id_, cursor in found.items())


async def test_a_schedule_that_was_away_starts_anew(ledger: Ledger) -> None:
    there, away = catalog("r1", schedule("a")), catalog("r2")
    await ledger.apply(there, NIGHT)
    await ledger.apply(away, NIGHT + MINUTE)

    found = await ledger.apply(there, LATER)

    assert found == {"a": Cursor("a", NIGHTLY, LATER)}


async def test_cursors_come_back_in_the_order_of_the_catalog(ledger: Ledger) -> None:
    await ledger.apply(catalog("r1", schedule("b")), NIGHT)

    found = await ledger.apply(catalog("r2", *map(schedule, "abc")), LATER)

    assert list(found) == ["a", "b", "c"]


async def test_a_claim_moves_the_cursor_and_a_restart_finds_it(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await ledger.apply(catalog("r1", schedule("a")), NIGHT)
        await ledger.claim([new_run("a")], [Cursor("a", NIGHTLY, NIGHT + MINUTE)])

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        found = await ledger.apply(catalog("r1", schedule("a")), LATER)

    assert found["a"].at == NIGHT + MINUTE


async def test_a_cursor_never_moves_back(ledger: Ledger) -> None:
    await ledger.apply(catalog("r1", schedule("a")), NIGHT)

    await ledger.claim([], [Cursor("a", NIGHTLY, NIGHT - MINUTE)])

    assert (await ledger.apply(catalog("r1", schedule("a")), LATER))["a"].at == NIGHT


async def test_a_cursor_that_moves_twice_in_a_claim_stands_where_it_moved_last(ledger: Ledger) -> None:
    await ledger.apply(catalog("r1", *map(schedule, "ab")), NIGHT)

    await ledger.claim(
        [],
        [
            Cursor("a", NIGHTLY, NIGHT + MINUTE, LATER),
            Cursor("b", NIGHTLY, NIGHT + MINUTE),
            Cursor("a", NIGHTLY, NIGHT + 2 * MINUTE),
            Cursor("b", NIGHTLY, NIGHT),
        ],
    )

    terms = await ledger.terms_in_force()
    assert {id_: (term.cursor_at, term.deferred_until) for id_, term in terms.items()} == {
        "a": (NIGHT + 2 * MINUTE, None),
        "b": (NIGHT + MINUTE, None),
    }


async def test_a_claim_may_be_longer_than_a_statement(ledger: Ledger) -> None:
    rows = [new_run(f"s{number:05}", flow=number) for number in range(1, 11_001)]

    claimed = await ledger.claim([*rows, rows[0]], [])

    assert [run.schedule_id for run in claimed] == [row.schedule_id for row in rows]


async def test_claims_of_any_length_are_made_of_a_few_statements(ledger: Ledger) -> None:
    """Each is kept once it was used, with all its parameters: there must not be one for each length."""
    seen = await trace(ledger)
    minutes = count(1)
    for length in (*range(1, 40), 250):
        at = NIGHT + next(minutes) * MINUTE
        rows = [new_run(f"s{number}", at) for number in range(length)]
        assert [run.schedule_id for run in await ledger.claim(rows, [])] == [row.schedule_id for row in rows]

    lengths = {text.count("), (") + 1 for text in seen if text.startswith("INSERT INTO runs")}
    assert lengths == {1, 2, 4, 8, 16, 32, 64, 128}


async def test_a_claim_takes_any_text_of_a_reason(ledger: Ledger) -> None:
    reason = "paused: \\u0000 \x00 'é' %s ? (ann)"

    (claimed,) = await ledger.claim([new_run("a", state=RunState.SKIPPED, reason=reason)], [])

    assert claimed.reason == reason
    assert await ledger.run(claimed.id) == claimed


@pytest.mark.parametrize("old", [replace(HOURLY, cron="6 * * * *"), replace(HOURLY, timezone="Asia/Tokyo")])
async def test_a_cursor_of_an_old_timing_moves_nothing(ledger: Ledger, old: Timing) -> None:
    await ledger.apply(catalog("r1", schedule("a", HOURLY)), NIGHT)

    await ledger.claim([], [Cursor("a", old, NIGHT + MINUTE)])

    assert (await ledger.apply(catalog("r1", schedule("a", HOURLY)), LATER))["a"].at == NIGHT


async def test_a_claim_that_fails_leaves_the_cursor_where_it_was(ledger: Ledger) -> None:
    await ledger.apply(catalog("r1", schedule("a")), NIGHT)

    with pytest.raises(LedgerError):
        await ledger.claim([new_run("a", state=RunState.FAILED)], [Cursor("a", NIGHTLY, LATER)])

    assert (await ledger.apply(catalog("r1", schedule("a")), LATER))["a"].at == NIGHT


async def test_a_catalog_is_recorded_when_its_revision_changes(tmp_path: Path, ledger: Ledger) -> None:
    first, second = catalog("r1", schedule("a"), schedule("b", enabled=False)), catalog("r2", schedule("a"))
    for one in (first, first, second, first):
        await ledger.apply(one, NIGHT)

    assert rows_of(tmp_path, "SELECT revision, schedules, enabled FROM catalogs ORDER BY id") == [
        ("r1", 2, 1),
        ("r2", 1, 1),
        ("r1", 2, 1),
    ]


async def test_the_timings_that_were_in_force_stay_on_record(tmp_path: Path, ledger: Ledger) -> None:
    await ledger.apply(catalog("r1", schedule("a"), schedule("b")), NIGHT)
    await ledger.claim([], [Cursor("a", NIGHTLY, NIGHT + MINUTE)])
    await ledger.apply(catalog("r2", schedule("a", HOURLY), schedule("b")), LATER)

    start, moved, end = (int(at.timestamp()) * 1_000_000 for at in (NIGHT, NIGHT + MINUTE, LATER))
    assert rows_of(
        tmp_path, "SELECT schedule_id, cron, from_at, cursor_at, until_at FROM timings ORDER BY id"
    ) == [
        ("a", NIGHTLY.cron, start, moved, end),
        ("b", NIGHTLY.cron, start, start, None),
        ("a", HOURLY.cron, end, end, None),
    ]


# Group commit


async def test_calls_that_wait_at_once_share_commits(ledger: Ledger) -> None:
    runs = await ledger.claim([new_run(f"s{number}") for number in range(1_000)], [])
    seen = await trace(ledger)

    await asyncio.gather(*(ledger.begin_attempt(run.id, 1, NIGHT) for run in runs))

    assert seen.count("BEGIN IMMEDIATE") == seen.count("COMMIT") <= 50
    assert {run.state for run in await ledger.runs(limit=1_000)} == {RunState.SENDING}


async def test_every_transaction_of_the_writer_takes_the_write_lock_at_once(ledger: Ledger) -> None:
    seen = await trace(ledger)

    await claim(ledger)
    await ledger.apply(catalog("r1"), NIGHT)

    begins = [statement for statement in seen if statement.startswith("BEGIN")]
    assert begins == ["BEGIN IMMEDIATE"] * 2


async def test_one_call_that_fails_spoils_no_other_in_its_group(ledger: Ledger) -> None:
    run = await claim(ledger)

    results = await asyncio.gather(
        ledger.claim([new_run("before")], []),
        ledger.begin_attempt(run.id, 7, NIGHT),
        ledger.claim([new_run("naive", deadline=NIGHT.replace(tzinfo=None))], []),
        ledger.begin_attempt(run.id, 1, NIGHT),
        ledger.claim([new_run("after")], []),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [list, LedgerRefusal, ValueError, Run, list]
    assert {one.schedule_id for one in await ledger.runs()} == {"nightly", "before", "after"}


async def test_a_call_sees_what_the_calls_before_it_wrote(ledger: Ledger) -> None:
    run = await claim(ledger)

    _, ended, settled = await asyncio.gather(
        ledger.begin_attempt(run.id, 1, NIGHT),
        ledger.end_attempt(run.id, 1, NIGHT, LOST, NextStep(RunState.IN_DOUBT, "lost")),
        ledger.settle(run.id, NIGHT + MINUTE, NextStep(RunState.FAILED, "gave up")),
    )

    assert (ended.state, settled.state) == (RunState.IN_DOUBT, RunState.FAILED)


async def test_a_cancelled_call_is_carried_out_nevertheless(ledger: Ledger) -> None:
    gate = threading.Event()
    ledger._writer.do(lambda _: gate.wait(5))
    cancelled = asyncio.create_task(ledger.claim([new_run()], []))
    in_its_group = asyncio.create_task(claim(ledger, schedule_id="next"))
    await asyncio.sleep(0)

    cancelled.cancel()
    gate.set()
    await in_its_group

    assert cancelled.cancelled()
    assert [run.schedule_id for run in await ledger.runs()] == ["next", "nightly"]


async def test_closing_finishes_what_was_asked_before(tmp_path: Path) -> None:
    ledger = await Ledger.open(url_of(tmp_path))
    calls = [asyncio.ensure_future(ledger.claim([new_run(f"s{number}")], [])) for number in range(50)]
    await asyncio.sleep(0)

    await ledger.aclose()
    await ledger.aclose()

    assert [len(claimed) for claimed in await asyncio.gather(*calls)] == [1] * 50
    with pytest.raises(LedgerError, match="the ledger is closed"):
        await ledger.claim([new_run()], [])


def test_importing_the_door_does_not_import_sqlalchemy() -> None:
    program = "import sys, flowsched.ledger; sys.exit('sqlalchemy' in sys.modules)"

    ended = subprocess.run(  # noqa: S603 - this Python, with a text of ours
        [sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=False
    )

    assert ended.returncode == 0
