"""Many moves in a few statements: what a burst costs is mostly the number of statements and of rows read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, insert, update

from flowsched.errors import LedgerError
from flowsched.ledger import tables
from flowsched.ledger.moves import Begin, End
from flowsched.ledger.sqlite import as_rows, rows_of, text_of
from flowsched.ledger.tables import microseconds
from flowsched.ledger.watches import Watches
from flowsched.model import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from flowsched.ledger.moves import Moved

_runs = tables.runs.c
_attempts = tables.attempts.c

_CHANGED = ("state", "reason", "retry_at", "attempts", "note", "deadline", "instance", "updated_at")
_THE_SAME = ("state", "attempts", "updated_at", "claimed_at")
"""Each write to a run changes one of these, or writes all that it changes: so it stands as it did."""

_moves = rows_of("id", *(f"to_{name}" for name in _CHANGED), *(f"from_{name}" for name in _THE_SAME))
_MOVE = text_of(
    update(tables.runs)
    .where(
        _runs.id == _moves.c.id,
        and_(*(_runs[name] == _moves.c[f"from_{name}"] for name in _THE_SAME)),
    )
    .values({name: _moves.c[f"to_{name}"] for name in _CHANGED})
)

_begun = rows_of("run_id", "number", "started_at")
_BEGIN = text_of(insert(tables.attempts).from_select(list(_begun.c.keys()), _begun.select()))

_CAME_OF_IT = ("ended_at", "outcome", "http_status", "code", "detail")
_ended = rows_of("run_id", "number", *_CAME_OF_IT)
_END = text_of(
    update(tables.attempts)
    .where(_attempts.run_id == _ended.c.run_id, _attempts.number == _ended.c.number)
    .values({name: _ended.c[name] for name in _CAME_OF_IT})
)


def write(connection: Connection, moved: Sequence[Moved]) -> None:
    """Write the moves of different runs, with their attempts and watches.

    Raises LedgerError where a run does not stand as it did before its move: then nothing written counts.
    """
    written = connection.exec_driver_sql(_MOVE, (as_rows([_move_row(one) for one in moved]),)).rowcount
    if written != len(moved):
        raise LedgerError(f"{len(moved) - written} of {len(moved)} runs do not stand as they did")
    begun = [_begun_row(one.move) for one in moved if isinstance(one.move, Begin)]
    if begun:
        connection.exec_driver_sql(_BEGIN, (as_rows(begun),))
    ended = [_ended_row(one.move) for one in moved if isinstance(one.move, End)]
    if ended:
        connection.exec_driver_sql(_END, (as_rows(ended),))
    Watches(connection).start([one.after for one in moved if one.after.state is RunState.TRIGGERED])


def _move_row(moved: Moved) -> tuple[object, ...]:
    before, after = moved.before, moved.after
    return (
        after.id,
        after.state,
        after.reason,
        None if after.retry_at is None else microseconds(after.retry_at),
        after.attempts,
        after.note,
        microseconds(after.deadline),
        after.instance,
        microseconds(after.updated_at),
        before.state,
        before.attempts,
        microseconds(before.updated_at),
        microseconds(before.claimed_at),
    )


def _begun_row(move: Begin) -> tuple[object, ...]:
    return move.run_id, move.number, microseconds(move.at)


def _ended_row(move: End) -> tuple[object, ...]:
    answer = move.answer
    return (
        move.run_id,
        move.number,
        microseconds(move.at),
        answer.outcome,
        answer.http_status,
        answer.code,
        answer.detail,
    )
