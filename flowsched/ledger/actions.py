"""What people have done, and the pauses that they have set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, or_, select, update

from flowsched.ledger import tables
from flowsched.ledger.records import action_of, pause_of
from flowsched.model import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from flowsched.model import Action, Pause

_actions = tables.actions.c
_pauses = tables.pauses.c

_NEWEST = select(tables.actions).order_by(_actions.id.desc())
_SAME = select(_actions.id).where(
    _actions.at == bindparam("of_at"),
    _actions.by_whom == bindparam("of_by"),
    _actions.kind == bindparam("of_kind"),
    _actions.subject == bindparam("of_subject"),
)
_PAUSES = select(tables.pauses).order_by(_pauses.id)


class Actions:
    """The actions and pauses of a ledger. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, action: Action) -> None:
        """Write an action down, unless that was done before: the answer may have been lost."""
        key = {
            "of_at": action.at,
            "of_by": action.by,
            "of_kind": action.kind,
            "of_subject": action.subject,
        }
        if self._connection.execute(_SAME, key).first() is not None:
            return
        row = {
            "at": action.at,
            "by_whom": action.by,
            "kind": action.kind,
            "subject": action.subject,
            "reason": action.reason,
            "detail": action.detail,
        }
        self._connection.execute(insert(tables.actions), row)

    def newest(self, limit: int) -> list[Action]:
        """Return actions, newest first."""
        return [action_of(row) for row in self._connection.execute(_NEWEST.limit(limit))]

    def pauses(self, over_after: datetime | None) -> list[Pause]:
        """Return pauses in the order in which they were set."""
        return self._pauses_where() if over_after is None else self._pauses_where(_is_over_after(over_after))

    def pause(self, scope: Scope, name: str | None, until: datetime | None, action: Action) -> Pause:
        """Set a pause, and write the action down."""
        by_this_call = _pauses.from_at == action.at, _pauses.by_whom == action.by
        set_before = self._select(scope, name, _pauses.ended_at.is_(None), *by_this_call)
        if set_before:
            return set_before[-1]
        # One that is set again replaces what is there: the new reason and end are what counts.
        self._end(scope, name, action)
        row = {
            "scope": scope,
            "name": name,
            "reason": action.reason,
            "by_whom": action.by,
            "from_at": action.at,
            "until_at": until,
        }
        set_ = self._connection.execute(insert(tables.pauses).returning(tables.pauses), row).one()
        self.record(action)
        return pause_of(set_)

    def resume(self, scope: Scope, name: str | None, action: Action) -> list[Pause]:
        """End the pauses of a scope and name, and write the action down where there were any."""
        self._end(scope, name, action)
        # Also those that this very call has ended before, where only its answer was lost.
        theirs = _pauses.ended_at == action.at, _pauses.ended_by == action.by
        ended = self._select(scope, name, *theirs)
        if ended:
            self.record(action)
        return ended

    def follow(self, renamed: Mapping[str, tuple[str, datetime]]) -> None:
        """Have the pauses of schedules go with them: by former id, the new one, and since when they count.

        What was over by then stays what it was.
        """
        if not renamed:
            return
        # A catalog may have renamed many, and for long; pauses are few.
        earliest = min(since for _, since in renamed.values())
        for pause in self._pauses_where(_pauses.scope == Scope.SCHEDULE, _is_over_after(earliest)):
            id_, since = renamed.get(pause.name or "", (pause.name, earliest))
            if id_ != pause.name and (pause.over_at is None or pause.over_at > since):
                moving = update(tables.pauses).where(_pauses.id == pause.id)
                self._connection.execute(moving.values(name=id_))

    def _select(self, scope: Scope, name: str | None, *which: ColumnElement[bool]) -> list[Pause]:
        return self._pauses_where(*_is_of(scope, name), *which)

    def _pauses_where(self, *which: ColumnElement[bool]) -> list[Pause]:
        return [pause_of(row) for row in self._connection.execute(_PAUSES.where(*which))]

    def _end(self, scope: Scope, name: str | None, action: Action) -> None:
        # Also one that begins later: the clock was set back since, and nobody can wait for it.
        ending = update(tables.pauses).where(*_is_of(scope, name), _is_over_after(action.at))
        self._connection.execute(ending.values(ended_at=action.at, ended_by=action.by))


def _is_of(scope: Scope, name: str | None) -> tuple[ColumnElement[bool], ...]:
    return _pauses.scope == scope, _pauses.name.is_not_distinct_from(name)


def _is_over_after(at: datetime) -> ColumnElement[bool]:
    not_by_itself = or_(_pauses.until_at.is_(None), _pauses.until_at > at)
    return not_by_itself & (_pauses.ended_at.is_(None) | (_pauses.ended_at > at))
