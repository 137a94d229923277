"""What the ledger tells of runs and attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, bindparam, func, not_, or_, select, text, tuple_

from flowsched.ledger import tables
from flowsched.ledger.records import attempt_of, fired_of, run_of, sent_of
from flowsched.ledger.runs import is_in
from flowsched.ledger.sqlite import pages
from flowsched.model import FINAL_STATES, FlowState, Origin, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from flowsched.model import Attempt, Fired, Run, Sent

_LOOK_BACK = 100
"""So many runs of a flow are looked at for previous instances: EnOS carries out those of a flow one after
the other, so that an older one that still goes is not worth a walk through years of runs."""

_runs = tables.runs.c
_attempts = tables.attempts.c
_watches = tables.watches.c

_OPEN_STATES = tuple(state for state in RunState if state not in FINAL_STATES)
_ENDED = (FlowState.SUCCEEDED, FlowState.FAILED)

_RUN = select(tables.runs).where(_runs.id == bindparam("run_id"))
_OPEN = select(tables.runs).where(_runs.state.in_(_OPEN_STATES)).order_by(_runs.fire_time, _runs.id)
_NEWEST = select(tables.runs).order_by(_runs.fire_time.desc(), _runs.id.desc())
_SENT: Select[Any] = (
    select(_runs.target, _runs.flow, _attempts.started_at, _attempts.ended_at, _attempts.outcome)
    .join_from(tables.attempts, tables.runs, _runs.id == _attempts.run_id)
    .where(_attempts.started_at >= bindparam("since"))
    .order_by(_attempts.started_at, _attempts.run_id, _attempts.number)
)
_MADE = (
    # An acceptance need not name the instance; its id is known all the same.
    select(
        _runs.id, _runs.fire_time, func.coalesce(_runs.instance, _runs.predicted_instance).label("instance")
    )
    .where(
        _runs.target == bindparam("of_target"),
        _runs.flow == bindparam("of_flow"),
        # In the statement's text, as the index `runs_made` is for this very condition.
        text("state IN ('sending', 'in_doubt', 'triggered')"),
        _runs.id != bindparam("not_of"),
    )
    .order_by(_runs.fire_time.desc(), _runs.id.desc())
    .limit(_LOOK_BACK)
    .subquery("made")
)
_PREVIOUS = (
    select(_MADE.c.instance, _MADE.c.fire_time)
    .outerjoin(tables.watches, _watches.run_id == _MADE.c.id)
    .where(or_(_watches.state.is_(None), _watches.state.not_in(_ENDED)))
    .order_by(_MADE.c.fire_time.desc(), _MADE.c.id.desc())
    .limit(bindparam("most"))
)
_FIRED: Select[Any] = (
    select(_runs.id, _runs.schedule_id, _runs.fire_time, _runs.origin, _runs.state)
    .where(
        # Neither is for an index: the walk is to be along `runs_identity`, as all runs of these times would
        # have to be sorted for each page.
        _runs.origin.in_((Origin.SCHEDULE, Origin.CATCH_UP)),
        not_(or_(_runs.fire_time < bindparam("first"), _runs.fire_time >= bindparam("end"))),
        tuple_(_runs.schedule_id, _runs.fire_time)
        > tuple_(bindparam("last_schedule", type_=Text), bindparam("last_time", type_=_runs.fire_time.type)),
    )
    .order_by(_runs.schedule_id, _runs.fire_time)
    .limit(bindparam("most"))
)


class History:
    """The runs and attempts of a ledger. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, run_id: int) -> Run | None:
        """Return one run, if it is there."""
        row = self._connection.execute(_RUN, {"run_id": run_id}).one_or_none()
        return None if row is None else run_of(row)

    def at(self, schedule_id: str, target: str, flow: int, fire_times: Sequence[datetime]) -> list[Run]:
        """Return the runs of a schedule, and of its flow, with one of these fire times."""
        query = select(tables.runs).where(
            or_(
                and_(_runs.schedule_id == schedule_id, _runs.fire_time.in_(fire_times)),
                and_(_runs.target == target, _runs.flow == flow, _runs.fire_time.in_(fire_times)),
            )
        )
        return [run_of(row) for row in self._connection.execute(query.order_by(_runs.fire_time, _runs.id))]

    def open_runs(self) -> list[Run]:
        """Return the runs that are not final, oldest fire time first."""
        return [run_of(row) for row in self._connection.execute(_OPEN)]

    def newest(self, schedule_id: str | None, state: RunState | None, limit: int) -> list[Run]:
        """Return runs, newest fire time first."""
        query = _NEWEST.limit(limit)
        if schedule_id is not None:
            query = query.where(_runs.schedule_id == schedule_id)
        if state is not None:
            # Of one schedule, it is not for an index: there are fewer runs of it than of any state.
            query = query.where(_runs.state == state if schedule_id is None else is_in(state))
        return [run_of(row) for row in self._connection.execute(query)]

    def attempts(self, run_ids: Sequence[int]) -> dict[int, list[Attempt]]:
        """Return each run's attempts in order; an empty list for a run without any."""
        found: dict[int, list[Attempt]] = {run_id: [] for run_id in run_ids}
        for page in pages(list(found)):
            query = select(tables.attempts).where(_attempts.run_id.in_(page))
            for row in self._connection.execute(query.order_by(_attempts.run_id, _attempts.number)):
                found[row.run_id].append(attempt_of(row))
        return found

    def sent_since(self, at: datetime) -> list[Sent]:
        """Return the attempts begun since, oldest first."""
        return [sent_of(row) for row in self._connection.execute(_SENT, {"since": at})]

    def previous_instances(self, target: str, flow: int, not_of: int, limit: int) -> dict[str, datetime]:
        """Return the fire times of instances that other runs of a flow may have made, latest first."""
        values = {"of_target": target, "of_flow": flow, "not_of": not_of, "most": limit}
        return {row.instance: row.fire_time for row in self._connection.execute(_PREVIOUS, values)}

    def automatic_runs(
        self, from_: datetime, to: datetime, after: tuple[str, datetime] | None, limit: int
    ) -> list[Fired]:
        """Return a page of the automatic runs."""
        # No id is empty: what comes first comes after that. It keeps the walk on the index in the first
        # page, too, which would otherwise be sorted out of all runs of its time.
        schedule_id, fire_time = after or ("", from_)
        values = {
            "first": from_,
            "end": to,
            "last_schedule": schedule_id,
            "last_time": fire_time,
            "most": limit,
        }
        return [fired_of(row) for row in self._connection.execute(_FIRED, values)]
