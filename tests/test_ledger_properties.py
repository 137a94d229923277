"""The ledger under any sequence of calls and restarts, against a model in plain dictionaries."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowsched.errors import LedgerError, LedgerRefusal
from flowsched.ledger.moves import Begin, End, Settle
from flowsched.ledger.session import open_to_write
from flowsched.ledger.transitions import ARROWS, INITIAL_STATES, sources
from flowsched.model import (
    FINAL_STATES,
    MANUAL_ORIGINS,
    Answer,
    Cursor,
    FlowState,
    NextStep,
    Origin,
    Outcome,
    Run,
    RunState,
    Term,
    Timing,
)
from flowsched.retry import MADE_BY_ANOTHER, is_unsent
from tests.test_ledger import HOURLY, MINUTE, NIGHT, NIGHTLY, catalog, new_run, schedule, url_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flowsched.ledger.books import Books
    from flowsched.model import NewRun, Schedule

T = TypeVar("T")
Entry: TypeAlias = "tuple[Timing, bool, str | None, int]"
"""Of a schedule: its timing, whether it is enabled, its former id, and its flow."""

IDS = st.sampled_from("abcd")
INSTANTS = st.integers(0, 5).map(lambda minutes: NIGHT + minutes * MINUTE)
TIMINGS = st.sampled_from(
    [
        HOURLY,
        NIGHTLY,
        replace(NIGHTLY, rules="2025a"),
        replace(NIGHTLY, rules="2025b"),
        replace(HOURLY, ends_at=NIGHT),
    ]
)
STATES = st.sampled_from(RunState)
REASONS = st.sampled_from(["as drawn", MADE_BY_ANOTHER])
OFF = st.sampled_from([0, 0, 0, 1, -1])
"""How far the number of an attempt is from the right one."""
NEW_RUNS = st.builds(
    new_run,
    IDS,
    INSTANTS,
    origin=st.sampled_from([Origin.SCHEDULE, Origin.CATCH_UP]),
    state=st.sampled_from(sorted(INITIAL_STATES)),
    flow=st.sampled_from([1, 2]),
    watch=st.sampled_from([None, timedelta(hours=6)]),
)
BY_HAND = st.builds(
    new_run,
    IDS,
    INSTANTS,
    origin=st.sampled_from([Origin.MANUAL, Origin.BACKFILL]),
    flow=st.sampled_from([1, 2]),
)
CURSORS = st.builds(Cursor, IDS, TIMINGS, INSTANTS, st.none() | INSTANTS)
SCHEDULES = st.dictionaries(IDS, st.tuples(TIMINGS, st.booleans(), st.none() | IDS, st.sampled_from([1, 2])))
ANSWER = Answer(outcome=Outcome.UNKNOWN, detail="whatever")
NEVER_SENT = (RunState.MISSED, RunState.SKIPPED)
KEY = ("schedule_id", "fire_time", "origin")
GONE = (*NEVER_SENT, RunState.FAILED)
"""The states of runs that stand in the way of no run by hand."""


def key_of(run: NewRun | Run) -> tuple[str, datetime, str]:
    """Return what is there once; an automatic fire is, whatever its origin."""
    return run.schedule_id, run.fire_time, run.origin if run.origin in MANUAL_ORIGINS else "automatic"


def stands_for_its_minute(run: Run) -> bool:
    """Tell whether a schedule's run of the same flow and minute would be a second one (`Ledger.claim`)."""
    gave_up = run.state is RunState.FAILED and run.origin in MANUAL_ORIGINS
    return run.state not in NEVER_SENT and not (gave_up and run.reason != MADE_BY_ANOTHER)


def step_to(state: RunState, reason: str = "as drawn") -> NextStep:
    return NextStep(state, reason, NIGHT if state is RunState.WAITING else None)


def described(entry: tuple[str, Entry]) -> Schedule:
    id_, (timing, enabled, former, flow) = entry
    return replace(schedule(id_, enabled=enabled), timing=timing, renamed_from=former, flow=flow)


def goes_on(recorded: Timing, wanted: Timing) -> bool:
    rules = {recorded.rules, wanted.rules} - {""}
    return len(rules) < 2 and replace(recorded, rules="") == replace(wanted, rules="")


def begun(one: Schedule, timing: Timing, at: datetime) -> Term:
    return Term(
        schedule_id=one.id,
        timing=timing,
        target=one.target,
        flow=one.flow,
        task=one.task,
        from_at=at,
        cursor_at=at,
        until_at=None,
        deferred_until=None,
        blackout="",
    )


def go_on(line: list[Term], one: Schedule) -> None:
    last = line[-1]
    timing = replace(one.timing, rules=one.timing.rules or last.timing.rules)
    if last.schedule_id == one.id:
        line[-1] = replace(last, timing=timing, flow=one.flow)
    else:
        line[-1] = replace(last, until_at=last.cursor_at)
        line.append(replace(begun(one, timing, last.cursor_at), deferred_until=last.deferred_until))


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._url = url_of(Path(self._folder.name))
        _, self._session = open_to_write(self._url)
        self._runs: dict[tuple[str, datetime, str], Run] = {}
        self._numbers: set[int] = set()
        self._watches: dict[int, FlowState] = {}
        self._lines: list[list[Term]] = []
        """Each line is the terms that one cursor went through, under one id after the other."""
        self._kept_from: datetime | None = None
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
        before = self._runs[key_of(changed)]
        assert changed.state in ARROWS[before.state]
        assert self._do(operation) == changed
        # Repeated word for word, as after a lost answer, it is found done.
        assert self._do(operation) == changed
        self._runs[key_of(changed)] = changed
        if changed.state is RunState.TRIGGERED and changed.watch:
            self._watches[changed.id] = FlowState.GOING

    def _any_run(self, data: st.DataObject, *likely: RunState) -> Run:
        """Draw a run, more often one in a likely state."""
        every = list(self._runs.values())
        some = [run for run in every if run.state in likely]
        return data.draw(st.sampled_from(some or every) | st.sampled_from(every))

    def _lines_in_force(self) -> dict[str, list[Term]]:
        return {line[-1].schedule_id: line for line in self._lines if line and line[-1].until_at is None}

    @initialize(entries=SCHEDULES)
    def begin(self, entries: dict[str, Entry]) -> None:
        """Begin with something to move: a catalog, and a claimed run of each id."""
        self.apply(entries, NIGHT)
        self.claim([new_run(id_, flow=flow, watch=timedelta(hours=6)) for flow, id_ in enumerate("abcd")], [])

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
        again = self._do(write)

        fresh: dict[tuple[str, datetime, str], tuple[Origin, RunState]] = {}
        holders = Counter(
            (run.flow, run.fire_time) for run in self._runs.values() if stands_for_its_minute(run)
        )
        for row in rows:
            if (key := key_of(row)) in self._runs.keys() | fresh.keys():
                continue
            held = row.state is RunState.CLAIMED and holders[row.flow, row.fire_time]
            state = RunState.SKIPPED if held else row.state
            holders[row.flow, row.fire_time] += state is RunState.CLAIMED
            fresh[key] = (row.origin, state)
        assert {key_of(run): (run.origin, run.state) for run in claimed} == fresh
        assert again == [run for run in claimed if run.state is RunState.CLAIMED]
        assert not self._numbers & {run.id for run in claimed}
        self._numbers |= {run.id for run in claimed}
        self._runs |= {key_of(run): run for run in claimed}
        for cursor in cursors:
            line = self._lines_in_force().get(cursor.schedule_id)
            if line and goes_on(line[-1].timing, cursor.timing) and line[-1].cursor_at <= cursor.at:
                line[-1] = replace(line[-1], cursor_at=cursor.at, deferred_until=cursor.deferred_until)

    @rule(data=st.data(), drawn=BY_HAND, again=st.booleans())
    def claim_by_hand(self, data: st.DataObject, drawn: NewRun, again: bool) -> None:  # noqa: FBT001 - drawn
        theirs = [run for run in self._runs.values() if run.origin in MANUAL_ORIGINS]
        if theirs and again:
            one = data.draw(st.sampled_from(theirs))
            drawn = replace(drawn, **{name: getattr(one, name) for name in KEY})
        row = replace(drawn, claimed_at=next(self._instants))
        before = self._runs.get(key_of(row))
        minute = (
            run for run in self._runs.values() if (run.flow, run.fire_time) == (row.flow, row.fire_time)
        )
        in_the_way = any(run.state not in GONE for run in minute)
        if in_the_way or (before and before.state not in GONE):
            with pytest.raises(LedgerRefusal):
                self._do(lambda books: books.by_hand.claim(row))
            return

        first, second = (self._do(lambda books: books.by_hand.claim(row)) for _ in range(2))

        assert first == second
        assert (first.claimed_at, first.updated_at, first.flow) == (row.claimed_at, row.claimed_at, row.flow)
        if before is None:
            assert (first.state, first.attempts, first.retry) == (RunState.CLAIMED, 0, row.retry)
            assert first.id not in self._numbers
        else:
            assert (first.id, first.state, first.attempts) == (before.id, RunState.WAITING, before.attempts)
            assert first.retry.max_attempts == before.attempts + row.retry.max_attempts
            assert is_unsent(first)
        self._numbers.add(first.id)
        self._runs[key_of(first)] = first

    @precondition(lambda self: self._runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run, at = self._any_run(data, RunState.CLAIMED, RunState.WAITING), next(self._instants)
        changed = replace(run, state=RunState.FAILED, reason="not wanted", retry_at=None, updated_at=at)
        goes = run.state in (RunState.CLAIMED, RunState.WAITING)

        self._expect(changed if goes else None, lambda books: books.runs.cancel(run.id, at, "not wanted"))

    @precondition(lambda self: self._runs)
    @rule(data=st.data(), off=OFF, note=st.sampled_from([None, "noted"]), later=st.booleans())
    def begin_attempt(
        self,
        data: st.DataObject,
        off: int,
        note: str | None,
        later: bool,  # noqa: FBT001 - drawn
    ) -> None:
        run = self._any_run(data, *sources(RunState.SENDING))
        number = run.attempts + 1 + off
        begins = RunState.SENDING in ARROWS[run.state] and number == run.attempts + 1
        at = next(self._instants)
        deadline = at + timedelta(hours=1) if later else None
        changed = replace(
            run,
            state=RunState.SENDING,
            deadline=deadline or run.deadline,
            attempts=number,
            reason=None,
            retry_at=None,
            note=note or run.note,
            updated_at=at,
        )

        self._expect(
            changed if begins else None,
            Begin(run.id, number, at, note, deadline, None),
        )

    @precondition(lambda self: self._runs)
    @rule(
        data=st.data(),
        off=OFF,
        state=st.sampled_from(sorted(ARROWS[RunState.SENDING])) | STATES,
        reason=REASONS,
    )
    def end_attempt(self, data: st.DataObject, off: int, state: RunState, reason: str) -> None:
        run = self._any_run(data, RunState.SENDING)
        number = run.attempts + off
        step = step_to(state, reason)
        ends = run.state is RunState.SENDING and run.attempts == number and state in ARROWS[run.state]
        at = next(self._instants)
        changed = replace(run, state=state, reason=step.reason, retry_at=step.retry_at, updated_at=at)

        self._expect(
            changed if ends else None,
            End(run.id, number, at, ANSWER, step),
        )

    @precondition(lambda self: self._runs)
    @rule(data=st.data(), state=STATES, by_hand=st.booleans())
    def settle(self, data: st.DataObject, state: RunState, by_hand: bool) -> None:  # noqa: FBT001 - as drawn
        run = self._any_run(data, RunState.IN_DOUBT)
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
        if by_hand:
            moves = run.state is RunState.IN_DOUBT and state in (RunState.TRIGGERED, RunState.FAILED)
            self._expect(changed if moves else None, lambda books: books.runs.resolve(run.id, at, step))
        else:
            moves = state in ARROWS[run.state] and state is not RunState.SENDING
            self._expect(changed if moves else None, Settle(run.id, at, step, None))

    @precondition(lambda self: self._runs)
    @rule(data=st.data(), state=st.sampled_from(FlowState))
    def record_watch(self, data: st.DataObject, state: FlowState) -> None:
        every = sorted(run.id for run in self._runs.values())
        run_id = data.draw(st.sampled_from(sorted(self._watches) or every) | st.sampled_from(every))
        at = next(self._instants)
        if self._watches.get(run_id) is not FlowState.GOING:
            with pytest.raises(LedgerError):
                self._do(lambda books: books.watches.record(run_id, at, state, None))
            return

        first, again = (
            self._do(lambda books: books.watches.record(run_id, at, state, None)) for _ in range(2)
        )

        assert first == again
        assert (first.state, first.updated_at) == (state, at)
        self._watches[run_id] = state

    @rule(before=INSTANTS, most=st.integers(1, 3))
    def forget(self, before: datetime, most: int) -> None:
        removable = sorted(
            (run.fire_time, run.id, key)
            for key, run in self._runs.items()
            if run.state in FINAL_STATES
            and run.fire_time < before
            and self._watches.get(run.id) is not FlowState.GOING
            and run.id != max(self._numbers)
        )[:most]

        assert self._do(lambda books: books.retention.forget(before, most)) == len(removable)

        for _, run_id, key in removable:
            del self._runs[key]
            self._watches.pop(run_id, None)
        if len(removable) < most:
            self._lines = [
                [term for term in line if term.until_at is None or term.until_at >= before]
                for line in self._lines
            ]
        self._kept_from = max(before, self._kept_from or before)

    @precondition(lambda self: self._lines_in_force())
    @rule(data=st.data(), names=st.sets(IDS, min_size=1), at=INSTANTS)
    def rename(self, data: st.DataObject, names: set[str], at: datetime) -> None:
        """Give one schedule other names; more than one where somebody copied it."""
        entries: dict[str, Entry] = {
            id_: (line[-1].timing, True, None, 1) for id_, line in self._lines_in_force().items()
        }
        former = data.draw(st.sampled_from(sorted(entries)))
        timing, *_ = entries.pop(former)
        self.apply(entries | dict.fromkeys(names, (timing, True, former, 1)), at)

    @rule(entries=SCHEDULES, at=INSTANTS)
    def apply(self, entries: dict[str, Entry], at: datetime) -> None:
        schedules = [described(entry) for entry in sorted(entries.items())]
        edited = catalog(str(entries), *schedules)
        found, again = (self._do(lambda books: books.catalogs.apply(edited, at)) for _ in range(2))

        lines = self._lines_in_force()
        ending = dict(lines)
        wanted = {one.id: one for one in schedules if one.enabled}
        for one in wanted.values():
            former = "" if one.renamed_from in entries else one.renamed_from
            line = lines.get(one.id) or lines.get(former or "")
            if (
                line
                and line[-1].schedule_id != one.id
                and self._was_in_force_after(line[-1].cursor_at, one.id)
            ):
                line = None
            if line and line[-1].schedule_id in ending and goes_on(line[-1].timing, one.timing):
                del ending[line[-1].schedule_id]
                go_on(line, one)
            else:
                self._lines.append([begun(one, one.timing, at)])
        for line in ending.values():
            line[-1] = replace(line[-1], until_at=max(at, line[-1].cursor_at))
        assert found == again
        assert found == {
            id_: Cursor(id_, wanted[id_].timing, line[-1].cursor_at, line[-1].deferred_until)
            for id_, line in self._lines_in_force().items()
        }

    def _was_in_force_after(self, at: datetime, schedule_id: str) -> bool:
        ended = (term for line in self._lines for term in line if term.schedule_id == schedule_id)
        return any(term.until_at is not None and term.until_at > at for term in ended)

    @invariant()
    def the_runs_are_those_of_the_model(self) -> None:
        found = self._do(lambda books: books.history.newest(None, None, 1_000))
        still_open = self._do(lambda books: books.history.open_runs())

        assert {key_of(run): run for run in found} == self._runs
        assert {run.id for run in still_open} == {
            run.id for run in self._runs.values() if run.state not in FINAL_STATES
        }

    @invariant()
    def every_attempt_begun_is_on_record(self) -> None:
        found = self._do(lambda books: books.history.attempts([run.id for run in self._runs.values()]))

        assert {run.id: [one.number for one in found[run.id]] for run in self._runs.values()} == {
            run.id: list(range(1, run.attempts + 1)) for run in self._runs.values()
        }

    @invariant()
    def no_two_runs_for_one_flow_and_minute_are_sent(self) -> None:
        found = self._do(lambda books: books.history.newest(None, None, 1_000))

        sent = Counter((run.target, run.flow, run.fire_time) for run in found if run.state not in GONE)
        assert set(sent.values()) <= {1}

    @invariant()
    def the_watches_are_those_of_the_model(self) -> None:
        found = self._do(lambda books: books.watches.of([run.id for run in self._runs.values()]))
        going = self._do(lambda books: books.watches.going())

        assert {run_id: watch.state for run_id, watch in found.items()} == self._watches
        assert {watch.run_id for watch in going} == {
            run_id for run_id, state in self._watches.items() if state is FlowState.GOING
        }

    @invariant()
    def the_terms_of_one_cursor_follow_each_other(self) -> None:
        found = self._do(lambda books: books.catalogs.terms())

        terms = [term for line in self._lines for term in line]
        assert sorted(found, key=repr) == sorted(terms, key=repr)
        for line in self._lines:
            for earlier, later in pairwise(line):
                assert earlier.cursor_at == earlier.until_at == later.from_at
            for term in line:
                assert term.from_at <= term.cursor_at <= (term.until_at or term.cursor_at)

    @invariant()
    def the_terms_that_stand_are_those_in_force_and_the_last_that_ended(self) -> None:
        found = self._do(lambda books: books.catalogs.standing_terms())
        every = self._do(lambda books: books.catalogs.terms())

        ends: dict[str, datetime] = {}
        for term in every:
            if term.until_at is not None:
                ends[term.schedule_id] = max(term.until_at, ends.get(term.schedule_id, term.until_at))
        standing = [term for term in every if term.until_at in (None, ends.get(term.schedule_id))]
        assert found == standing

    @invariant()
    def what_is_kept_is_known(self) -> None:
        assert self._do(lambda books: books.retention.kept_from()) == self._kept_from


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=40, stateful_step_count=50, database=None)
