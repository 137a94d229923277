"""Moves that come at once are written together, and nobody can tell but by the statements."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from flowsched.errors import LedgerError, LedgerRefusal
from flowsched.ledger import Ledger, tables, together
from flowsched.ledger.moves import Begin, End, Known, Move, Settle, stretches
from flowsched.ledger.records import row_of
from flowsched.ledger.session import open_to_write
from flowsched.model import Answer, FlowState, NewRun, NextStep, Origin, Outcome, Run, RunState
from tests.builders import a_new_run
from tests.test_ledger import ACCEPTED, BUSY, LOST, MINUTE, NIGHT, SECOND, TRIGGERED, plans_of, trace, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from flowsched.ledger.books import Books
    from flowsched.ledger.session import Session

NOW = NIGHT + SECOND
ELSEWHERE = timezone(timedelta(hours=1))
BY_ANOTHER = {
    "state": "state = 'waiting', retry_at = 0",
    "attempts": "attempts = 1",
    "updated_at": "updated_at = updated_at + 1",
    "claimed_at": "claimed_at = claimed_at + 1",
}
"""What another could write that tells, by that column alone, that a run no longer stands as it did."""
WAIT = NextStep(RunState.WAITING, "busy", NOW + MINUTE)
DOUBT = NextStep(RunState.IN_DOUBT, "lost")
FAILED = NextStep(RunState.FAILED, "too late")


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(url_of(tmp_path)) as opened:
        yield opened


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Session]:
    """For what the ledger is no door to; of its own, so that it knows nothing."""
    reader, writer = open_to_write(url_of(tmp_path))
    yield writer
    reader.close()
    writer.close()


def claims(*rows: NewRun) -> Callable[[Books], list[Run]]:
    return lambda books: books.runs.claim(rows)


def said(statement: str) -> Callable[[Books], object]:
    return lambda books: books.runs._connection.exec_driver_sql(statement)


async def claimed(ledger: Ledger, count: int, **changes: Any) -> list[Run]:
    rows = [a_new_run(schedule_id=f"s{number}", flow=number + 1, **changes) for number in range(count)]
    return await ledger.claim(rows, [])


async def begun(ledger: Ledger, count: int, **changes: Any) -> list[Run]:
    runs = await claimed(ledger, count, **changes)
    return list(await asyncio.gather(*(ledger.begin_attempt(run.id, 1, NOW) for run in runs)))


async def as_read(ledger: Ledger, runs: Sequence[Run]) -> list[Run | None]:
    return [await ledger.run(run.id) for run in runs]


async def test_no_attempt_begins_while_one_is_under_way(ledger: Ledger) -> None:
    [run] = await begun(ledger, 1)

    with pytest.raises(LedgerRefusal):
        await ledger.begin_attempt(run.id, 2, NOW + SECOND)

    assert await as_read(ledger, [run]) == [run]


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


async def test_runs_that_are_settled_at_once_are_a_few_statements(ledger: Ledger) -> None:
    runs = await begun(ledger, 100)
    seen = await trace(ledger)

    await asyncio.gather(*(ledger.settle(run.id, NOW, DOUBT) for run in runs))

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


def test_all_that_says_how_a_run_stands_is_tried() -> None:
    assert set(together._THE_SAME) == set(BY_ANOTHER)


@pytest.mark.parametrize("column", BY_ANOTHER)
async def test_what_another_writes_to_a_known_run_is_never_written_over(
    ledger: Ledger, writer: Session, column: str
) -> None:
    [run] = await claimed(ledger, 1)
    [written] = writer.run(
        [said(f"UPDATE runs SET note = 'by another', {BY_ANOTHER[column]} WHERE id = {run.id}")]  # noqa: S608
    )
    assert written.error is None

    with suppress(LedgerRefusal):
        await ledger.begin_attempt(run.id, 1, NOW)

    [found] = await as_read(ledger, [run])
    assert found is not None
    assert found.note == "by another"


def test_a_run_that_turned_out_to_stand_otherwise_is_not_known(tmp_path: Path, writer: Session) -> None:
    """Else each move of it would undo, once more, what was to be written together with it."""
    writer.run([claims(a_new_run(schedule_id="s1", flow=1), a_new_run(schedule_id="s2", flow=2))])
    reader, other = open_to_write(url_of(tmp_path))
    other.run([said("UPDATE runs SET state = 'failed' WHERE id = 1")])
    reader.close()
    other.close()

    refused, begun_ = writer.run([Begin(1, 1, NOW, None, None, None), Begin(2, 1, NOW, None, None, None)])

    assert isinstance(refused.error, LedgerRefusal)
    assert list(writer._known._runs.values()) == [begun_.value]


@pytest.mark.parametrize("late", [Begin(1, 2, NOW, None, None, NIGHT), Settle(1, NOW, FAILED, NIGHT)])
def test_a_move_of_a_former_claim_is_refused(writer: Session, late: Move) -> None:
    first = a_new_run(origin=Origin.MANUAL, claimed_at=NIGHT)
    again = replace(first, claimed_at=NIGHT + MINUTE)
    before: list[Callable[[Books], object]] = [
        lambda books: books.by_hand.claim(first),
        Settle(1, NOW, FAILED, NIGHT),
        lambda books: books.by_hand.claim(again),
        Begin(1, 1, again.claimed_at, None, None, again.claimed_at),
        End(1, 1, again.claimed_at, BUSY, WAIT),
    ]
    for operation in before:
        [result] = writer.run([operation])
        assert result.error is None

    [result] = writer.run([late])

    assert isinstance(result.error, LedgerRefusal)


def test_nothing_is_known_of_runs_that_are_over(writer: Session) -> None:
    writer.run([claims(*(a_new_run(schedule_id=f"s{flow}", flow=flow) for flow in (1, 2, 3)))])
    writer.run([Begin(1, 1, NOW, None, None, None), Begin(2, 1, NOW, None, None, None)])
    assert len(writer._known._runs) == 3

    writer.run([End(1, 1, NOW, ACCEPTED, TRIGGERED), Settle(2, NOW, DOUBT, None)])
    writer.run([Settle(2, NOW, FAILED, None), lambda books: books.runs.cancel(3, NOW, "no more")])

    assert writer._known._runs == {}


def test_what_a_commit_undid_is_not_known(tmp_path: Path, writer: Session) -> None:
    def claim_in_vain(books: Books) -> None:
        books.runs.claim([a_new_run(schedule_id="mine", flow=1)])
        said("PRAGMA defer_foreign_keys = ON")(books)
        said("INSERT INTO attempts (run_id, number, started_at) VALUES (999, 1, 0)")(books)

    with pytest.raises(LedgerError, match="FOREIGN KEY"):
        writer.run([claim_in_vain])
    reader, other = open_to_write(url_of(tmp_path))
    other.run([claims(a_new_run(schedule_id="others", flow=2))])
    reader.close()
    other.close()

    [result] = writer.run([Begin(1, 1, NOW, None, None, None)])

    assert isinstance(result.value, Run)
    assert result.value.schedule_id == "others"


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


async def test_one_refusal_costs_the_others_nothing(ledger: Ledger) -> None:
    runs = await claimed(ledger, 100)
    with pytest.raises(LedgerRefusal):
        await ledger.begin_attempt(999, 1, NOW)
    seen = await trace(ledger)

    await asyncio.gather(*(ledger.begin_attempt(run.id, 1, NOW) for run in runs))

    assert len([each for each in seen if each.startswith(("UPDATE", "INSERT"))]) < 20


@pytest.mark.parametrize("code", ["7", object()])
def test_a_move_that_cannot_be_computed_spoils_no_other(writer: Session, code: Any) -> None:
    writer.run([claims(a_new_run(schedule_id="s1", flow=1), a_new_run(schedule_id="s2", flow=2))])
    writer.run([Begin(1, 1, NOW, None, None, None), Begin(2, 1, NOW, None, None, None)])

    first, _ = writer.run(
        [End(1, 1, NOW, ACCEPTED, TRIGGERED), End(2, 1, NOW, replace(ACCEPTED, code=code), TRIGGERED)]
    )

    assert isinstance(first.value, Run)
    assert first.value.state is RunState.TRIGGERED


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

    begun_ = await ledger.begin_attempt(run.id, 1, NOW.astimezone(ELSEWHERE))

    assert begun_.updated_at == NOW
    assert begun_.updated_at.tzinfo is UTC


async def test_what_a_move_sets_for_later_comes_back_in_utc(ledger: Ledger) -> None:
    runs = await claimed(ledger, 2)
    later = NOW + MINUTE
    wait = replace(WAIT, retry_at=later.astimezone(ELSEWHERE))

    begun_, _ = [
        await ledger.begin_attempt(run.id, 1, NOW, None, later.astimezone(ELSEWHERE)) for run in runs
    ]
    ended = await ledger.end_attempt(runs[0].id, 1, NOW, BUSY, wait)
    settled = await ledger.settle(runs[1].id, NOW, wait)

    for instant in (begun_.deadline, ended.retry_at, settled.retry_at):
        assert instant is not None
        assert (instant, instant.tzinfo) == (later, UTC)


async def test_a_run_comes_back_in_utc_whatever_zone_its_instants_came_in(ledger: Ledger) -> None:
    names = ("fire_time", "due_at", "deadline", "claimed_at")
    new = a_new_run()
    local = replace(new, **{name: getattr(new, name).astimezone(ELSEWHERE) for name in names})

    [run] = await ledger.claim([local], [])
    moved = await ledger.begin_attempt(run.id, 1, NOW)

    for each in (run, moved):
        instants = [getattr(each, name) for name in (*names, "updated_at")]
        assert {instant.tzinfo for instant in instants} == {UTC}
        assert instants[:3] == [new.fire_time, new.due_at, new.deadline]
    assert await as_read(ledger, [run]) == [moved]


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
