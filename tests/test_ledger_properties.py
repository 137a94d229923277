"""The ledger under any sequence of calls and restarts, against a model in plain dictionaries."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowsched.errors import LedgerError
from flowsched.ledger.session import open_to_write
from flowsched.ledger.transitions import ARROWS, INITIAL_STATES
from flowsched.model import FINAL_STATES, Answer, Cursor, NextStep, Origin, Outcome, Run, RunState, Timing
from tests.test_ledger import HOURLY, MINUTE, NIGHT, NIGHTLY, catalog, new_run, schedule, url_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flowsched.ledger.books import Books
    from flowsched.model import NewRun

T = TypeVar("T")

IDS = st.sampled_from("abc")
INSTANTS = st.integers(0, 5).map(lambda minutes: NIGHT + minutes * MINUTE)
TIMINGS = st.sampled_from([NIGHTLY, HOURLY])
SCHEDULES = st.dictionaries(IDS, st.tuples(TIMINGS, st.booleans()))
STATES = st.sampled_from(RunState)
NEW_RUNS = st.builds(
    new_run,
    IDS,
    INSTANTS,
    origin=st.sampled_from(Origin),
    state=st.sampled_from(sorted(INITIAL_STATES)),
)
CURSORS = st.builds(Cursor, IDS, TIMINGS, INSTANTS)
ANSWER = Answer(outcome=Outcome.UNKNOWN, detail="whatever")


def step_to(state: RunState) -> NextStep:
    return NextStep(state, "as drawn", NIGHT if state is RunState.WAITING else None)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._url = url_of(Path(self._folder.name))
        _, self._session = open_to_write(self._url)
        self._runs: dict[tuple[str, datetime], Run] = {}
        self._cursors: dict[str, Cursor] = {}
        self._instants = (NIGHT + timedelta(microseconds=number) for number in count())

    def teardown(self) -> None:
        self._session.close()
        self._folder.cleanup()

    def _do(self, operation: Callable[[Books], T]) -> T:
        [result] = self._session.run([operation])
        if result.error is not None:
            raise result.error
        return cast("T", result.value)

    def _expect(self, changed: Run | None, operation: Callable[[Books], object]) -> None:
        """Run the operation, which must leave the run as `changed`; None: it must refuse."""
        if changed is None:
            with pytest.raises(LedgerError):
                self._do(operation)
            return
        assert self._do(operation) == changed
        # Repeated word for word, as after a lost answer, it is found done.
        assert self._do(operation) == changed
        self._runs[changed.schedule_id, changed.fire_time] = changed

    @rule()
    def restart(self) -> None:
        self._session.close()
        _, self._session = open_to_write(self._url)

    @rule(rows=st.lists(NEW_RUNS, max_size=4), cursors=st.lists(CURSORS, max_size=2))
    def claim(self, rows: list[NewRun], cursors: list[Cursor]) -> None:
        def write(books: Books) -> list[Run]:
            books.catalogs.advance(cursors)
            return books.runs.claim(rows)

        claimed = self._do(write)

        expected = {(row.schedule_id, row.fire_time): row for row in reversed(rows)}
        fresh = {key: row for key, row in expected.items() if key not in self._runs}
        assert {(run.schedule_id, run.fire_time, run.origin) for run in claimed} == {
            (*key, row.origin) for key, row in fresh.items()
        }
        self._runs |= {(run.schedule_id, run.fire_time): run for run in claimed}
        for cursor in cursors:
            held = self._cursors.get(cursor.schedule_id)
            if held and held.timing == cursor.timing and held.at < cursor.at:
                self._cursors[cursor.schedule_id] = cursor

    @precondition(lambda self: self._runs)
    @rule(data=st.data(), number=st.integers(1, 3))
    def begin_attempt(self, data: st.DataObject, number: int) -> None:
        run = data.draw(st.sampled_from(list(self._runs.values())))
        begins = RunState.SENDING in ARROWS[run.state] and number == run.attempts + 1
        at = next(self._instants)
        changed = replace(
            run, state=RunState.SENDING, attempts=number, reason=None, retry_at=None, updated_at=at
        )

        self._expect(changed if begins else None, lambda books: books.runs.begin_attempt(run.id, number, at))

    @precondition(lambda self: self._runs)
    @rule(data=st.data(), number=st.integers(1, 3), state=STATES)
    def end_attempt(self, data: st.DataObject, number: int, state: RunState) -> None:
        run = data.draw(st.sampled_from(list(self._runs.values())))
        step = step_to(state)
        ends = run.state is RunState.SENDING and run.attempts == number and state in ARROWS[run.state]
        at = next(self._instants)
        changed = replace(run, state=state, reason=step.reason, retry_at=step.retry_at, updated_at=at)

        self._expect(
            changed if ends else None,
            lambda books: books.runs.end_attempt(run.id, number, at, ANSWER, step),
        )

    @precondition(lambda self: self._runs)
    @rule(data=st.data(), state=STATES)
    def settle(self, data: st.DataObject, state: RunState) -> None:
        run = data.draw(st.sampled_from(list(self._runs.values())))
        step = step_to(state)
        at = next(self._instants)
        instance = run.predicted_instance if state is RunState.TRIGGERED else run.instance
        changed = replace(
            run,
            state=state,
            reason=step.reason,
            retry_at=step.retry_at,
            instance=instance,
            updated_at=at,
        )
        moves = state in ARROWS[run.state] and state is not RunState.SENDING

        self._expect(changed if moves else None, lambda books: books.runs.settle(run.id, at, step))

    @rule(entries=SCHEDULES, at=INSTANTS)
    def apply(self, entries: dict[str, tuple[Timing, bool]], at: datetime) -> None:
        schedules = [schedule(id_, timing, enabled=on) for id_, (timing, on) in entries.items()]
        found = self._do(lambda books: books.catalogs.apply(catalog(str(entries), *schedules), at))

        wanted = {id_: timing for id_, (timing, on) in entries.items() if on}
        kept = {id_: held for id_, held in self._cursors.items() if wanted.get(id_) == held.timing}
        self._cursors = {id_: Cursor(id_, timing, at) for id_, timing in wanted.items()} | kept
        assert found == self._cursors

    @invariant()
    def the_runs_are_those_of_the_model(self) -> None:
        found = self._do(lambda books: books.runs.newest(None, None, 1_000))
        still_open = self._do(lambda books: books.runs.open_runs())

        assert {(run.schedule_id, run.fire_time): run for run in found} == self._runs
        assert {run.id for run in still_open} == {
            run.id for run in self._runs.values() if run.state not in FINAL_STATES
        }

    @invariant()
    def every_attempt_begun_is_on_record(self) -> None:
        found = self._do(lambda books: books.runs.attempts([run.id for run in self._runs.values()]))

        assert {run.id: [one.number for one in found[run.id]] for run in self._runs.values()} == {
            run.id: list(range(1, run.attempts + 1)) for run in self._runs.values()
        }


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, database=None)
