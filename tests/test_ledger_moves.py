"""Moves that come at once are written together, and nobody can tell but by the statements."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from flowsched.errors import LedgerError, LedgerRefusal
from flowsched.ledger import Ledger, tables
from flowsched.ledger.moves import Begin, End, Known, Settle, stretches
from flowsched.ledger.records import row_of
from flowsched.model import Answer, FlowState, NextStep, Outcome, Run, RunState
from tests.builders import a_new_run
from tests.test_ledger import ACCEPTED, BUSY, LOST, MINUTE, NIGHT, SECOND, TRIGGERED, plans_of, trace, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from flowsched.ledger.books import Books

NOW = NIGHT + SECOND
WAIT = NextStep(RunState.WAITING, "busy", NOW + MINUTE)
DOUBT = NextStep(RunState.IN_DOUBT, "lost")


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(url_of(tmp_path)) as opened:
        yield opened


async def claimed(ledger: Ledger, count: int, **changes: Any) -> list[Run]:
    rows = [a_new_run(schedule_id=f"s{number}", flow=number + 1, **changes) for number in range(count)]
    return await ledger.claim(rows, [])


async def begun(ledger: Ledger, count: int, **changes: Any) -> list[Run]:
    runs = await claimed(ledger, count, **changes)
    return list(await asyncio.gather(*(ledger.begin_attempt(run.id, 1, NOW) for run in runs)))


async def as_read(ledger: Ledger, runs: Sequence[Run]) -> list[Run | None]:
    return [await ledger.run(run.id) for run in runs]


async def test_moves_that_come_at_once_are_a_few_statements(ledger: Ledger) -> None:
    runs = await claimed(ledger, 100)
    first, second = (
        await ledger.begin_attempt(runs[0].id, 1, NOW),
        await ledger.begin_attempt(runs[1].id, 1, NOW),
    )
    seen = await trace(ledger)

    await asyncio.gather(
        *(ledger.begin_attempt(run.id, 1, NOW) for run in runs[2:]),
        ledger.end_attempt(first.id, 1, NOW, ACCEPTED, TRIGGERED),
        ledger.end_attempt(second.id, 1, NOW, BUSY, WAIT),
    )

    # The group is cut where the thread was quicker than the loop; a statement for each would be 200.
    assert len([each for each in seen if each.startswith(("UPDATE", "INSERT"))]) < 20


async def test_runs_moved_together_are_as_they_are_read_later(ledger: Ledger) -> None:
    runs = await begun(ledger, 6, watch=timedelta(hours=1))
    assert await as_read(ledger, runs) == runs
    assert {run.state for run in runs} == {RunState.SENDING}

    moved = await asyncio.gather(
        ledger.end_attempt(runs[0].id, 1, NOW, ACCEPTED, TRIGGERED),
        ledger.end_attempt(runs[1].id, 1, NOW, BUSY, WAIT),
        ledger.end_attempt(runs[2].id, 1, NOW, LOST, DOUBT),
        ledger.settle(runs[3].id, NOW, NextStep(RunState.FAILED, "ünsent 'quoted' \"so\" \\u0041")),
        ledger.settle(runs[4].id, NOW, DOUBT),
        ledger.end_attempt(runs[5].id, 1, NOW, replace(BUSY, code=2**63 - 1), WAIT),
    )

    assert await as_read(ledger, moved) == list(moved)
    attempts = await ledger.attempts([run.id for run in moved])
    assert [attempts[run.id][0].outcome for run in moved] == [
        Outcome.ACCEPTED,
        Outcome.REFUSED_FOR_NOW,
        Outcome.UNKNOWN,
        None,
        None,
        Outcome.REFUSED_FOR_NOW,
    ]
    assert attempts[runs[5].id][0].code == 2**63 - 1
    watch = (await ledger.watches_of([runs[0].id]))[runs[0].id]
    assert (watch.state, watch.until) == (FlowState.GOING, NOW + timedelta(hours=1))
    again = await asyncio.gather(
        ledger.begin_attempt(runs[1].id, 2, NOW + MINUTE, "a note", NOW + 9 * MINUTE),
        ledger.settle(runs[2].id, NOW + MINUTE, TRIGGERED),
        ledger.begin_attempt(runs[4].id, 2, NOW + MINUTE),
    )
    assert await as_read(ledger, list(again)) == list(again)
    assert (again[0].note, again[0].deadline, again[1].instance) == (
        "a note",
        NOW + 9 * MINUTE,
        runs[2].predicted_instance,
    )


async def test_one_move_that_is_refused_spoils_no_other(ledger: Ledger) -> None:
    runs = await begun(ledger, 5)
    bad = NextStep(RunState.WAITING, "without a time", None)

    results = await asyncio.gather(
        *(ledger.end_attempt(run.id, 1, NOW, ACCEPTED, TRIGGERED) for run in runs[:3]),
        ledger.end_attempt(runs[3].id, 2, NOW, ACCEPTED, TRIGGERED),
        ledger.end_attempt(runs[4].id, 1, NOW, BUSY, bad),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [Run, Run, Run, LedgerRefusal, LedgerError]
    assert [run and run.state for run in await as_read(ledger, runs)] == [
        *[RunState.TRIGGERED] * 3,
        *[RunState.SENDING] * 2,
    ]


@pytest.mark.parametrize("number", [0, 2])
async def test_an_attempt_of_a_known_run_follows_the_last(ledger: Ledger, number: int) -> None:
    [run] = await claimed(ledger, 1)

    with pytest.raises(LedgerRefusal, match=f"attempt {number} cannot begin"):
        await ledger.begin_attempt(run.id, number, NOW)

    assert await as_read(ledger, [run]) == [run]


async def test_moves_of_one_run_that_come_at_once_are_carried_out_in_their_order(ledger: Ledger) -> None:
    [run] = await claimed(ledger, 1)

    moved = await asyncio.gather(
        ledger.begin_attempt(run.id, 1, NOW),
        ledger.end_attempt(run.id, 1, NOW, BUSY, WAIT),
        ledger.begin_attempt(run.id, 2, NOW),
        ledger.begin_attempt(run.id, 2, NOW),
        ledger.end_attempt(run.id, 2, NOW, ACCEPTED, TRIGGERED),
        ledger.end_attempt(run.id, 2, NOW, ACCEPTED, TRIGGERED),
    )

    assert [each.state for each in moved] == [
        RunState.SENDING,
        RunState.WAITING,
        RunState.SENDING,
        RunState.SENDING,
        RunState.TRIGGERED,
        RunState.TRIGGERED,
    ]


async def test_what_is_known_of_a_run_is_trusted_only_where_the_ledger_has_the_same(ledger: Ledger) -> None:
    runs = await claimed(ledger, 3)
    other = "UPDATE runs SET deadline = deadline + 1, claimed_at = claimed_at + 1 WHERE id = 2"
    await ledger._writer.do(lambda books: books.runs._connection.exec_driver_sql(other))

    moved = await asyncio.gather(*(ledger.begin_attempt(run.id, 1, NOW) for run in runs))

    assert [run.state for run in moved] == [RunState.SENDING] * 3
    assert moved[1].deadline == runs[1].deadline + timedelta(microseconds=1)


async def test_what_was_undone_is_not_known(ledger: Ledger) -> None:
    def claim_and_fail(books: Books) -> None:
        books.runs.claim([a_new_run(schedule_id="undone", deadline=NIGHT)])
        raise LedgerError("on purpose")

    with pytest.raises(LedgerError, match="on purpose"):
        await ledger._writer.do(claim_and_fail)
    other = row_of(a_new_run(schedule_id="other"))
    await ledger._writer.do(lambda books: books.runs._connection.execute(insert(tables.runs), other))

    run = await ledger.begin_attempt(1, 1, NOW)

    assert (run.id, run.schedule_id) == (1, "other")


@pytest.mark.parametrize(
    "answer",
    [
        replace(ACCEPTED, detail="before\x00after"),
        replace(ACCEPTED, instance="before\x00after"),
    ],
)
async def test_a_text_is_kept_whatever_is_in_it(ledger: Ledger, answer: Answer) -> None:
    [run] = await begun(ledger, 1)

    ended = await ledger.end_attempt(run.id, 1, NOW, answer, TRIGGERED)

    assert await as_read(ledger, [ended]) == [ended]
    assert ended.instance == answer.instance
    assert (await ledger.attempts([run.id]))[run.id][0].detail == answer.detail


@pytest.mark.parametrize(
    "answer",
    [replace(ACCEPTED, code=2**63), replace(ACCEPTED, code=-(2**64)), replace(ACCEPTED, detail="\ud800")],
)
async def test_what_no_column_takes_is_refused_and_not_rounded(ledger: Ledger, answer: Answer) -> None:
    [run] = await begun(ledger, 1)

    with pytest.raises((LedgerError, OverflowError, UnicodeEncodeError)):
        await ledger.end_attempt(run.id, 1, NOW, answer, TRIGGERED)

    assert await as_read(ledger, [run]) == [run]


async def test_a_move_comes_back_in_utc_whatever_zone_its_instant_came_in(ledger: Ledger) -> None:
    [run] = await claimed(ledger, 1)

    begun_ = await ledger.begin_attempt(run.id, 1, NOW.astimezone(timezone(timedelta(hours=1))))

    assert begun_.updated_at == NOW
    assert begun_.updated_at.tzinfo is UTC


async def test_a_naive_instant_of_a_move_is_refused(ledger: Ledger) -> None:
    [run] = await claimed(ledger, 1)

    with pytest.raises(ValueError, match="has no zone"):
        await ledger.begin_attempt(run.id, 1, NOW.replace(tzinfo=None))


async def test_moves_find_their_rows_by_key(ledger: Ledger) -> None:
    [first] = await claimed(ledger, 1)

    def both(books: Books) -> None:
        known = Known()
        known.keep(first)
        for move in (Begin(1, 1, NOW, None, None, None), End(1, 1, NOW, ACCEPTED, TRIGGERED)):
            moved = known.moved(move)
            assert moved is not None
            books.runs.move_together([moved])
            known.keep(moved.after)

    plans = await plans_of(ledger, both)

    assert not [step for step in plans if "SCAN" in step and "VIRTUAL TABLE INDEX 1" not in step]
    assert "SEARCH runs USING INTEGER PRIMARY KEY (rowid=?)" in plans


def test_neighbours_are_cut_at_what_is_no_move_and_at_a_run_that_moves_again() -> None:
    def other(_: Books) -> None: ...

    def begin(run_id: int) -> Begin:
        return Begin(run_id, 1, NOW, None, None, None)

    end, settle = End(1, 1, NOW, ACCEPTED, TRIGGERED), Settle(3, NOW, TRIGGERED, None)
    operations: list[Callable[[Books], object]] = [begin(1), begin(2), end, settle, other, other, begin(1)]

    assert list(stretches(operations)) == [[begin(1), begin(2)], [end, settle], [other], [other], [begin(1)]]
    assert list(stretches([])) == []
