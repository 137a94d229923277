"""The runs and their attempts: claimed, carried on, settled and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, update

from flowsched.errors import LedgerRefusal
from flowsched.ledger import tables
from flowsched.ledger.records import attempt_of, claimed_run, row_of, run_of
from flowsched.ledger.sqlite import insert_or_nothing
from flowsched.ledger.transitions import ARROWS, INITIAL_STATES, sources
from flowsched.model import FINAL_STATES, Origin, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from flowsched.model import Answer, Attempt, NewRun, NextStep, Run

_PAGE = 1_000
"""Ids in one IN list; SQLite takes 32,766 parameters a statement."""

_runs = tables.runs.c
_attempts = tables.attempts.c
_OPEN_STATES = tuple(state for state in RunState if state not in FINAL_STATES)

_CLAIM = insert_or_nothing(tables.runs).returning(_runs.id, _runs.schedule_id, _runs.fire_time, _runs.origin)
_BEGIN = (
    update(tables.runs)
    .where(
        _runs.id == bindparam("run_id"),
        _runs.state.in_(sorted(sources(RunState.SENDING))),
        _runs.attempts == bindparam("number") - 1,
    )
    .values(
        state=RunState.SENDING,
        reason=None,
        retry_at=None,
        attempts=bindparam("number"),
        updated_at=bindparam("at"),
    )
    .returning(tables.runs)
)
_ENTER: dict[str, Any] = {
    "state": bindparam("to_state"),
    "reason": bindparam("why"),
    "retry_at": bindparam("wait_until"),
    "updated_at": bindparam("at"),
}
_END_RUN = (
    update(tables.runs)
    .where(
        _runs.id == bindparam("run_id"),
        _runs.state == RunState.SENDING,
        _runs.attempts == bindparam("number"),
    )
    .values(_ENTER | {"instance": bindparam("answered")})
    .returning(tables.runs)
)
_END_ATTEMPT = (
    update(tables.attempts)
    .where(_attempts.run_id == bindparam("of_run"), _attempts.number == bindparam("of_number"))
    .values(
        ended_at=bindparam("at"),
        outcome=bindparam("came_of_it"),
        http_status=bindparam("status"),
        code=bindparam("envelope"),
        detail=bindparam("why"),
    )
)
_SETTLE = {
    state: update(tables.runs)
    .where(_runs.id == bindparam("run_id"), _runs.state.in_(sorted(sources(state))))
    .values(_ENTER | ({"instance": _runs.predicted_instance} if state is RunState.TRIGGERED else {}))
    .returning(tables.runs)
    for state in RunState
}
_WHERE_IT_STANDS = select(_runs.state, _runs.attempts).where(_runs.id == bindparam("run_id"))
_OPEN = select(tables.runs).where(_runs.state.in_(_OPEN_STATES)).order_by(_runs.fire_time, _runs.id)
_NEWEST = select(tables.runs).order_by(_runs.fire_time.desc(), _runs.id.desc())
_UNBEGUN = select(tables.runs).where(
    _runs.schedule_id == bindparam("of_schedule"),
    _runs.fire_time == bindparam("at"),
    _runs.origin.in_((Origin.SCHEDULE, Origin.CATCH_UP)),
    _runs.daemon == bindparam("of_daemon"),
    _runs.state == RunState.CLAIMED,
    _runs.attempts == 0,
)
# Each move of a run writes the instant of the call, to the microsecond.
_DONE_BEFORE = select(tables.runs).where(
    _runs.id == bindparam("run_id"),
    _runs.state == bindparam("to_state"),
    _runs.updated_at == bindparam("at"),
)


class Runs:
    """The runs and attempts of a ledger. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def claim(self, rows: Sequence[NewRun]) -> list[Run]:
        """Insert or nothing; return the runs that are new, in the order given."""
        for row in rows:
            _require_initial(row)
        if not rows:
            return []
        inserted = self._connection.execute(_CLAIM, [row_of(row) for row in rows])
        ids = {(one.schedule_id, one.fire_time, one.origin): one.id for one in inserted}
        # Popped, so that a key given twice is answered once.
        found = ((row, ids.pop((row.schedule_id, row.fire_time, row.origin), None)) for row in rows)
        answers = (self._unbegun(row) if id_ is None else claimed_run(id_, row) for row, id_ in found)
        return list({run.id: run for run in answers if run is not None}.values())

    def _unbegun(self, row: NewRun) -> Run | None:
        """Return the run that has the place of this row, if the same daemon claimed it and sent nothing."""
        values = {"of_schedule": row.schedule_id, "at": row.fire_time, "of_daemon": row.daemon}
        found = self._connection.execute(_UNBEGUN, values).one_or_none()
        return None if found is None else run_of(found)

    def begin_attempt(self, run_id: int, number: int, at: datetime) -> Run:
        """Move the run to sending, and write the attempt's row."""
        values = {"run_id": run_id, "number": number, "at": at}
        begun = self._connection.execute(_BEGIN, values).one_or_none()
        if begun is None:
            return self._found_done(run_id, RunState.SENDING, at, f"attempt {number} cannot begin", number)
        row = {"run_id": run_id, "number": number, "started_at": at}
        self._connection.execute(insert(tables.attempts), row)
        return run_of(begun)

    def end_attempt(self, run_id: int, number: int, at: datetime, answer: Answer, step: NextStep) -> Run:
        """Close the attempt's row, and move its run on."""
        wish = f"attempt {number} cannot end with {step.state}"
        if step.state not in ARROWS[RunState.SENDING]:
            raise self._refusal(run_id, wish)
        values = _entering(run_id, at, step) | {"number": number, "answered": answer.instance}
        moved = self._connection.execute(_END_RUN, values).one_or_none()
        if moved is None:
            return self._found_done(run_id, step.state, at, wish, number)
        self._connection.execute(_END_ATTEMPT, _ending(run_id, number, at, answer))
        return run_of(moved)

    def settle(self, run_id: int, at: datetime, step: NextStep) -> Run:
        """Move the run on without an attempt."""
        wish = f"it cannot become {step.state}"
        if step.state is RunState.SENDING:
            raise self._refusal(run_id, f"{wish} but by beginning an attempt")
        moved = self._connection.execute(_SETTLE[step.state], _entering(run_id, at, step)).one_or_none()
        if moved is None:
            return self._found_done(run_id, step.state, at, wish)
        return run_of(moved)

    def open_runs(self) -> list[Run]:
        """Return the runs that are not final, oldest fire time first."""
        return [run_of(row) for row in self._connection.execute(_OPEN)]

    def newest(self, schedule_id: str | None, state: RunState | None, limit: int) -> list[Run]:
        """Return runs, newest fire time first."""
        query = _NEWEST.limit(limit)
        if schedule_id is not None:
            query = query.where(_runs.schedule_id == schedule_id)
        if state is not None:
            query = query.where(_runs.state == state)
        return [run_of(row) for row in self._connection.execute(query)]

    def attempts(self, run_ids: Sequence[int]) -> dict[int, list[Attempt]]:
        """Return each run's attempts in order; an empty list for a run without any."""
        found: dict[int, list[Attempt]] = {run_id: [] for run_id in run_ids}
        for page in _pages(list(found)):
            query = select(tables.attempts).where(_attempts.run_id.in_(page))
            for row in self._connection.execute(query.order_by(_attempts.run_id, _attempts.number)):
                found[row.run_id].append(attempt_of(row))
        return found

    def _found_done(
        self, run_id: int, state: RunState, at: datetime, wish: str, number: int | None = None
    ) -> Run:
        """Return the run where this very call has moved it before, and only its answer was lost."""
        values = {"run_id": run_id, "to_state": state, "at": at}
        found = self._connection.execute(_DONE_BEFORE, values).one_or_none()
        if found is None or number not in (None, found.attempts):
            raise self._refusal(run_id, wish)
        return run_of(found)

    def _refusal(self, run_id: int, wish: str) -> LedgerRefusal:
        row = self._connection.execute(_WHERE_IT_STANDS, {"run_id": run_id}).one_or_none()
        if row is None:
            return LedgerRefusal(f"run {run_id} is not in the ledger: {wish}")
        final = ", which is final" if RunState(row.state).final else ""
        return LedgerRefusal(
            f"run {run_id} is {row.state}{final}, with {row.attempts} attempts begun: {wish}"
        )


def _require_initial(row: NewRun) -> None:
    if row.state not in INITIAL_STATES:
        allowed = ", ".join(sorted(INITIAL_STATES))
        raise LedgerRefusal(
            f"a run of {row.schedule_id} cannot enter the ledger as {row.state}; allowed: {allowed}"
        )


def _entering(run_id: int, at: datetime, step: NextStep) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "to_state": step.state,
        "why": step.reason,
        "wait_until": step.retry_at,
        "at": at,
    }


def _ending(run_id: int, number: int, at: datetime, answer: Answer) -> dict[str, Any]:
    return {
        "of_run": run_id,
        "of_number": number,
        "at": at,
        "came_of_it": answer.outcome,
        "status": answer.http_status,
        "envelope": answer.code,
        "why": answer.detail,
    }


def _pages(run_ids: list[int]) -> Iterator[list[int]]:
    return (run_ids[start : start + _PAGE] for start in range(0, len(run_ids), _PAGE))
