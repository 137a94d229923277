"""The runs and their attempts: claimed, carried on and settled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, insert, not_, select, update

from flowsched import retry
from flowsched.errors import LedgerRefusal
from flowsched.ledger import tables, together
from flowsched.ledger.records import claimed_run, row_of, run_of
from flowsched.ledger.sqlite import insert_or_nothing
from flowsched.ledger.tables import microseconds, stored
from flowsched.ledger.transitions import ARROWS, BY_HAND, INITIAL_STATES, sources
from flowsched.ledger.watches import Watches
from flowsched.model import MANUAL_ORIGINS, NextStep, Origin, RunState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row, Select
    from sqlalchemy.sql.dml import ReturningUpdate

    from flowsched.ledger.moves import Known, Moved
    from flowsched.model import Answer, NewRun, Run

_runs = tables.runs.c
_attempts = tables.attempts.c
_new, _held, _winner = (tables.runs.alias(name) for name in ("new", "held", "winner"))


def is_in(state: RunState, runs: Any = _runs) -> ColumnElement[bool]:
    """Return the condition that a run is in a state, as a negation, which no index answers."""
    condition: ColumnElement[bool] = runs.state.not_in([other for other in RunState if other is not state])
    return condition


_HAS_NO_INSTANCE_BY_HAND = and_(
    _held.c.origin.in_(sorted(MANUAL_ORIGINS)),
    _held.c.state == RunState.FAILED,
    not_(func.coalesce(_held.c.reason, "").startswith(retry.MADE_BY_ANOTHER)),
)
# Whoever claims holds the write lock: a lower id was there before, and what lies between the ids of a
# claim is of that claim. A run by hand that has failed takes no fire from its schedule; one that may yet
# make the instance, in doubt or waiting, stands for the fire whatever becomes of it: it is the same instance,
# which is wanted once.
_FIRST_OF_MINUTE = (
    select(_held.c.id)
    .where(
        _held.c.target == _new.c.target,
        _held.c.flow == _new.c.flow,
        _held.c.fire_time == _new.c.fire_time,
        _held.c.state.not_in((RunState.MISSED, RunState.SKIPPED)),
        not_(_HAS_NO_INSTANCE_BY_HAND),
    )
    .order_by(_held.c.id)
    .limit(1)
    .correlate(_new)
    .scalar_subquery()
)
_COLLISIONS: Select[Any] = (
    select(_new.c.id, _new.c.flow, _winner.c.id.label("winner"), _winner.c.schedule_id)
    .join_from(_new, _winner, _winner.c.id == _FIRST_OF_MINUTE)
    .where(
        _new.c.id.between(bindparam("first"), bindparam("last")),
        # Else the walk would be along all that are claimed just now, of which there may be thousands.
        is_in(RunState.CLAIMED, _new.c),
        _winner.c.id != _new.c.id,
    )
)
_SKIP = (
    update(tables.runs)
    .where(_runs.id == bindparam("run_id"))
    .values(state=RunState.SKIPPED, reason=bindparam("why"))
)
_IS_OF_THE_CLAIM = _runs.claimed_at == func.coalesce(
    bindparam("of_claim", type_=_runs.claimed_at.type), _runs.claimed_at
)
_BEGIN = (
    update(tables.runs)
    .where(
        _runs.id == bindparam("run_id"),
        _IS_OF_THE_CLAIM,
        _runs.state.in_(sorted(sources(RunState.SENDING))),
        _runs.attempts == bindparam("number") - 1,
    )
    .values(
        state=RunState.SENDING,
        reason=None,
        retry_at=None,
        attempts=bindparam("number"),
        note=func.coalesce(bindparam("said", type_=_runs.note.type), _runs.note),
        deadline=func.coalesce(bindparam("until", type_=_runs.deadline.type), _runs.deadline),
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


def _moving(to: RunState, from_: Iterable[RunState]) -> ReturningUpdate[Any]:
    found = {"instance": _runs.predicted_instance} if to is RunState.TRIGGERED else {}
    return (
        update(tables.runs)
        .where(_runs.id == bindparam("run_id"), _IS_OF_THE_CLAIM, _runs.state.in_(sorted(from_)))
        .values(_ENTER | found)
        .returning(tables.runs)
    )


_OF_WHICHEVER_CLAIM: dict[str, Any] = {"of_claim": None}
_SETTLE = {state: _moving(state, sources(state)) for state in RunState}
_RESOLVE = {state: _moving(state, [RunState.IN_DOUBT]) for state in BY_HAND}
_CANCEL = _moving(RunState.FAILED, [RunState.CLAIMED, RunState.WAITING])
_WHERE_IT_STANDS = select(_runs.state, _runs.attempts).where(_runs.id == bindparam("run_id"))
_UNBEGUN = select(tables.runs).where(
    _runs.schedule_id == bindparam("of_schedule"),
    _runs.fire_time == bindparam("at"),
    _runs.origin.in_((Origin.SCHEDULE, Origin.CATCH_UP)),
    _runs.daemon == bindparam("of_daemon"),
    _runs.state == RunState.CLAIMED,
    _runs.attempts == 0,
)


# The walk is along the runs of the schedule: that of a state may pass millions of others before the first.
_LAST_SUCCESS = (
    select(_runs.fire_time)
    .where(_runs.schedule_id == bindparam("of_schedule"), is_in(RunState.TRIGGERED))
    .order_by(_runs.fire_time.desc())
    .limit(1)
)
_LAST_SKIP = (
    select(_runs.fire_time)
    .where(
        _runs.schedule_id == bindparam("of_schedule"),
        is_in(RunState.SKIPPED),
        _runs.fire_time > bindparam("after"),
    )
    .order_by(_runs.fire_time.desc())
    .limit(1)
)
# Each move of a run writes the instant of the call, to the microsecond.
_DONE_BEFORE = select(tables.runs).where(
    _runs.id == bindparam("run_id"),
    _runs.state == bindparam("to_state"),
    _runs.updated_at == bindparam("at"),
)


class Runs:
    """Writes runs and attempts. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection, known: Known) -> None:
        self._connection = connection
        self._known = known
        self._watches = Watches(connection)

    def claim(self, rows: Sequence[NewRun]) -> list[Run]:
        """Insert or nothing; return the runs that are new, in the order given."""
        for row in rows:
            _require_initial(row)
        if not rows:
            return []
        ids = insert_new(self._connection, rows)
        collisions = self._skip_collisions(ids.values())
        # Popped, so that a key given twice is answered once.
        found = ((row, ids.pop(key_of(row), None)) for row in rows)
        answers = (
            self._unbegun(row) if id_ is None else claimed_run(id_, _entered(row, collisions.get(id_)))
            for row, id_ in found
        )
        claimed = {run.id: run for run in answers if run is not None}
        for run in claimed.values():
            self._known.keep(run)
        return list(claimed.values())

    def move_together(self, moved: Sequence[Moved]) -> None:
        """Write moves of different runs that are known; raises LedgerError where one stands otherwise."""
        together.write(self._connection, moved)
        for one in moved:
            self._known.keep(one.after)

    def _skip_collisions(self, ids: Collection[int]) -> dict[int, str]:
        """Skip each new run whose flow has another in its minute already; return why, by its id."""
        if not ids:
            return {}
        found = self._connection.execute(_COLLISIONS, {"first": min(ids), "last": max(ids)})
        reasons = {row.id: _collision(row) for row in found}
        if reasons:
            skipped = [{"run_id": id_, "why": reason} for id_, reason in reasons.items()]
            self._connection.execute(_SKIP, skipped)
        return reasons

    def _unbegun(self, row: NewRun) -> Run | None:
        """Return the run that has the place of this row, if the same daemon claimed it and sent nothing."""
        values = {"of_schedule": row.schedule_id, "at": row.fire_time, "of_daemon": row.daemon}
        found = self._connection.execute(_UNBEGUN, values).one_or_none()
        return None if found is None else run_of(found)

    def last_successes(self, schedule_ids: Sequence[str]) -> dict[str, datetime]:
        """Return the latest fire time that each schedule has triggered, for those that have any."""
        found = (
            (id_, self._connection.execute(_LAST_SUCCESS, {"of_schedule": id_}).scalar())
            for id_ in schedule_ids
        )
        return {id_: at for id_, at in found if at is not None}

    def last_skips(self, after: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return the latest fire time after the given one that each schedule has skipped, if there is any."""
        found = (
            (id_, self._connection.execute(_LAST_SKIP, {"of_schedule": id_, "after": at}).scalar())
            for id_, at in after.items()
        )
        return {id_: at for id_, at in found if at is not None}

    def begin_attempt(
        self,
        run_id: int,
        number: int,
        at: datetime,
        note: str | None = None,
        deadline: datetime | None = None,
        claimed_at: datetime | None = None,
    ) -> Run:
        """Move the run to sending, and write the attempt's row."""
        values = {"run_id": run_id, "number": number, "at": at, "said": note, "until": deadline}
        values["of_claim"] = claimed_at
        begun = self._connection.execute(_BEGIN, values).one_or_none()
        if begun is None:
            return self._found_done(run_id, RunState.SENDING, at, f"attempt {number} cannot begin", number)
        row = {"run_id": run_id, "number": number, "started_at": at}
        self._connection.execute(insert(tables.attempts), row)
        return self._moved(begun)

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
        return self._moved(moved)

    def settle(self, run_id: int, at: datetime, step: NextStep, claimed_at: datetime | None = None) -> Run:
        """Move the run on without an attempt."""
        wish = f"it cannot become {step.state}"
        if step.state is RunState.SENDING:
            raise self._refusal(run_id, f"{wish} but by beginning an attempt")
        values = _entering(run_id, at, step) | {"of_claim": claimed_at}
        moved = self._connection.execute(_SETTLE[step.state], values).one_or_none()
        if moved is None:
            return self._found_done(run_id, step.state, at, wish)
        return self._moved(moved)

    def cancel(self, run_id: int, at: datetime, reason: str) -> Run:
        """End a run that nothing is being sent for."""
        step = NextStep(RunState.FAILED, reason)
        values = _entering(run_id, at, step) | _OF_WHICHEVER_CLAIM
        moved = self._connection.execute(_CANCEL, values).one_or_none()
        if moved is None:
            return self._found_done(
                run_id, step.state, at, "only a run that is claimed or waiting can be cancelled"
            )
        return self._moved(moved)

    def resolve(self, run_id: int, at: datetime, step: NextStep) -> Run:
        """Settle a run in doubt by hand."""
        wish = f"it cannot be resolved to {step.state}"
        if step.state not in BY_HAND:
            raise self._refusal(run_id, f"{wish}; allowed: {', '.join(sorted(BY_HAND))}")
        values = _entering(run_id, at, step) | _OF_WHICHEVER_CLAIM
        moved = self._connection.execute(_RESOLVE[step.state], values).one_or_none()
        if moved is None:
            return self._found_done(run_id, step.state, at, f"{wish}, which only a run in_doubt can be")
        return self._moved(moved)

    def _moved(self, row: Row[Any]) -> Run:
        run = run_of(row)
        self._known.keep(run)
        if run.state is RunState.TRIGGERED:
            self._watches.start([run])
        return run

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


def insert_new(connection: Connection, rows: Iterable[NewRun]) -> dict[tuple[str, int, str], int]:
    """Insert or nothing; return the ids of those that are new, by `key_of` their rows."""
    values = [row_of(row) for row in rows]
    columns, stored_values = values[0].keys(), [stored(each.values()) for each in values]
    returning = "schedule_id", "fire_time", "origin", "id"
    inserted = insert_or_nothing(connection, tables.runs, columns, stored_values, returning)
    return {(one.schedule_id, one.fire_time, one.origin): one.id for one in inserted}


def key_of(row: NewRun) -> tuple[str, int, str]:
    """Return what there is but one run of."""
    return row.schedule_id, microseconds(row.fire_time), row.origin


def _require_initial(row: NewRun) -> None:
    if row.state not in INITIAL_STATES:
        allowed = ", ".join(sorted(INITIAL_STATES))
        raise LedgerRefusal(
            f"a run of {row.schedule_id} cannot enter the ledger as {row.state}; allowed: {allowed}"
        )


def _entered(row: NewRun, collision: str | None) -> NewRun:
    return row if collision is None else replace(row, state=RunState.SKIPPED, reason=collision)


def _collision(row: Row[Any]) -> str:
    return f"collision: {row.schedule_id} (run {row.winner}) has flow {row.flow} at this minute already"


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
