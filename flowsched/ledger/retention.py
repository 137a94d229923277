"""How long the ledger keeps what is done with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, exists, func, insert, or_, select, update

from flowsched.ledger import tables
from flowsched.ledger.outbox import Outbox
from flowsched.ledger.sqlite import pages
from flowsched.model import FINAL_STATES, FlowState, RunState

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_runs = tables.runs.c
_watches = tables.watches.c
_pauses = tables.pauses.c
_kept_from = tables.retention.c.kept_from

_IS_WATCHED = exists().where(_watches.run_id == _runs.id, _watches.state == FlowState.GOING)
# All conditions but that on the fire time are negations, which no index answers: so the walk is along the
# fire times, and ends with the last run that is removed. The run with the highest number stays, as SQLite
# would give that number again.
_OLDEST = (
    select(_runs.id)
    .where(
        _runs.fire_time < bindparam("before"),
        _runs.state.not_in([state for state in RunState if state not in FINAL_STATES]),
        ~_IS_WATCHED,
        _runs.id != select(func.max(_runs.id)).scalar_subquery(),
    )
    .order_by(_runs.fire_time, _runs.id)
    .limit(bindparam("most"))
)
_FORGET_TERMS = delete(tables.timings).where(tables.timings.c.until_at < bindparam("before"))
_OLD_ACTIONS = (
    select(tables.actions.c.id)
    .where(tables.actions.c.at < bindparam("before"))
    .order_by(tables.actions.c.at)
    .limit(bindparam("most"))
)
_OLD_PAUSES = (
    select(_pauses.id)
    .where(or_(_pauses.until_at < bindparam("before"), _pauses.ended_at < bindparam("before")))
    .order_by(_pauses.id)
    .limit(bindparam("most"))
)


class Retention:
    """What was removed, and what is to be. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def forget(self, before: datetime, most: int) -> int:
        """Remove old runs, and then what else is old; return how many runs."""
        ids = self._connection.execute(_OLDEST, {"before": before, "most": most}).scalars().all()
        for page in pages(ids):
            self._connection.execute(delete(tables.attempts).where(tables.attempts.c.run_id.in_(page)))
            self._connection.execute(delete(tables.watches).where(_watches.run_id.in_(page)))
            self._connection.execute(delete(tables.runs).where(_runs.id.in_(page)))
        if len(ids) < most:
            self._connection.execute(_FORGET_TERMS, {"before": before})
            self._forget_what_people_did(before, most)
            Outbox(self._connection).forget(before)
        self._raise_kept_from(before)
        return len(ids)

    def _forget_what_people_did(self, before: datetime, most: int) -> None:
        for table, old in ((tables.actions, _OLD_ACTIONS), (tables.pauses, _OLD_PAUSES)):
            ids = self._connection.execute(old, {"before": before, "most": most}).scalars().all()
            for page in pages(ids):
                self._connection.execute(delete(table).where(table.c.id.in_(page)))

    def kept_from(self) -> datetime | None:
        """Return the instant before which runs may have been removed."""
        return self._connection.execute(select(_kept_from)).scalar()

    def _raise_kept_from(self, before: datetime) -> None:
        found = self.kept_from()
        if found is None:
            self._connection.execute(insert(tables.retention), {"kept_from": before})
        elif found < before:
            self._connection.execute(update(tables.retention), {"kept_from": before})
