"""The flows of triggered runs, watched until they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, literal_column, select, update

from flowsched.errors import LedgerRefusal
from flowsched.ledger import tables
from flowsched.ledger.records import watch_of
from flowsched.ledger.sqlite import pages
from flowsched.model import FlowState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from flowsched.model import Run, Sighting, Watch

_runs = tables.runs.c
_watches = tables.watches.c

# In the statement's text, as the index `watches_going` is for this very condition.
_IS_GOING = _watches.state == literal_column(f"'{FlowState.GOING}'")
# An acceptance need not name the instance; its id is known all the same.
_WATCH = select(
    tables.watches,
    _runs.schedule_id,
    _runs.target,
    _runs.flow,
    func.coalesce(_runs.instance, _runs.predicted_instance).label("instance"),
).join(tables.runs, _runs.id == _watches.run_id)
_GOING = _WATCH.where(_IS_GOING).order_by(_watches.until_at, _watches.run_id)
_RECORD = (
    update(tables.watches)
    .where(_watches.run_id == bindparam("of_run"), _IS_GOING)
    .values(
        {
            name: func.coalesce(bindparam(f"new_{name}", type_=_watches[name].type), _watches[name])
            for name in ("status", "started", "ended")
        }
        | {"state": bindparam("to_state"), "updated_at": bindparam("at")}
    )
)


class Watches:
    """The watches of a ledger. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, runs: Iterable[Run]) -> None:
        """Begin to watch the flows of runs that were triggered just now, where their schedules want that."""
        rows = [
            {
                "run_id": run.id,
                "until_at": run.updated_at + run.watch,
                "state": FlowState.GOING,
                "updated_at": run.updated_at,
            }
            for run in runs
            if run.watch is not None
        ]
        if rows:
            self._connection.execute(insert(tables.watches), rows)

    def record(self, run_id: int, at: datetime, state: FlowState, sighting: Sighting | None) -> Watch:
        """Write what a look at the instance showed."""
        values: dict[str, Any] = {
            "of_run": run_id,
            "at": at,
            "to_state": state,
            "new_status": sighting and sighting.status,
            "new_started": sighting and sighting.started,
            "new_ended": sighting and sighting.ended,
        }
        moved = self._connection.execute(_RECORD, values).rowcount
        found = self.of([run_id]).get(run_id)
        if found is None:
            raise LedgerRefusal(f"run {run_id} is not watched: its flow cannot be recorded as {state}")
        if not moved and (found.state, found.updated_at) != (state, at):
            raise LedgerRefusal(f"the flow of run {run_id} is {found.state}: it cannot become {state}")
        return found

    def going(self) -> list[Watch]:
        """Return the watches that go on, soonest until first."""
        return [watch_of(row) for row in self._connection.execute(_GOING)]

    def of(self, run_ids: Sequence[int]) -> dict[int, Watch]:
        """Return the watches of these runs, by run id; none for a run that is not watched."""
        return {
            row.run_id: watch_of(row)
            for page in pages(run_ids)
            for row in self._connection.execute(_WATCH.where(_watches.run_id.in_(page)))
        }
