"""The runs that a person wants."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from flowsched.errors import LedgerRefusal
from flowsched.ledger import tables
from flowsched.ledger.records import claimed_run, row_of, run_of
from flowsched.ledger.runs import insert_new, key_of
from flowsched.model import MANUAL_ORIGINS, RunState
from flowsched.retry import AGAIN_BY_HAND

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from flowsched.model import NewRun, Run

_runs = tables.runs.c

# One that has made the instance of that flow and minute, or may do so.
_IN_THE_WAY = (
    select(_runs.id, _runs.schedule_id, _runs.flow, _runs.state)
    .where(
        _runs.target == bindparam("of_target"),
        _runs.flow == bindparam("of_flow"),
        _runs.fire_time == bindparam("at"),
        _runs.state.not_in((RunState.MISSED, RunState.SKIPPED, RunState.FAILED)),
    )
    .order_by(_runs.id)
    .limit(1)
)
_OF_THE_SAME_KEY = select(tables.runs).where(
    _runs.schedule_id == bindparam("of_schedule"),
    _runs.fire_time == bindparam("at"),
    _runs.origin == bindparam("of_origin"),
)
_KEPT = frozenset(
    {"schedule_id", "fire_time", "origin", "state", "reason", "attempts", "retry", "updated_at"}
)
"""Of a run that is claimed again, what is not just taken from the new row."""
_AGAIN = (
    update(tables.runs)
    .where(
        _runs.id == bindparam("run_id"),
        _runs.state.in_((RunState.FAILED, RunState.SKIPPED)),
    )
    .returning(tables.runs)
)


class ByHand:
    """Claims runs by hand. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def claim(self, row: NewRun) -> Run:
        """Insert a run that a person wants, or go on with theirs that has failed; return it."""
        _require_by_hand(row)
        key = {"of_schedule": row.schedule_id, "at": row.fire_time, "of_origin": row.origin}
        before = self._connection.execute(_OF_THE_SAME_KEY, key).one_or_none()
        if before is not None and (before.daemon, before.claimed_at) == (row.daemon, row.claimed_at):
            return run_of(before)  # this very call has claimed it, and only its answer was lost
        of = {"of_target": row.target, "of_flow": row.flow, "at": row.fire_time}
        found = self._connection.execute(_IN_THE_WAY, of).one_or_none()
        if found is not None:
            raise _refusal(found)
        if before is not None:
            return self._again(before, row)
        return claimed_run(insert_new(self._connection, [row])[key_of(row)], row)

    def _again(self, before: Row[Any], row: NewRun) -> Run:
        new = {name: value for name, value in row_of(row).items() if name not in _KEPT}
        policy = replace(row.retry, max_attempts=before.attempts + row.retry.max_attempts)
        new |= {"state": RunState.WAITING, "reason": AGAIN_BY_HAND, "retry": policy}
        new |= {"retry_at": row.claimed_at, "updated_at": row.claimed_at, "instance": None}
        moved = self._connection.execute(_AGAIN.values(new), {"run_id": before.id}).one_or_none()
        if moved is None:
            # It is of another flow or target than the schedule has now, or it would be in the way.
            raise _refusal(before)
        return run_of(moved)


def _require_by_hand(row: NewRun) -> None:
    if row.origin not in MANUAL_ORIGINS or row.state is not RunState.CLAIMED:
        allowed = " or ".join(sorted(MANUAL_ORIGINS))
        raise LedgerRefusal(
            f"a run of {row.schedule_id} cannot be claimed by hand as {row.state}, of origin {row.origin};"
            f" allowed: claimed, of origin {allowed}"
        )


def _refusal(row: Any) -> LedgerRefusal:
    return LedgerRefusal(
        f"run {row.id} ({row.schedule_id}) has flow {row.flow} at this minute already: it is {row.state}"
    )
