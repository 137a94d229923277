"""Which catalogs were put in force, and how far each timing in force is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, or_, select, tuple_, update

from flowsched import blackouts, cron
from flowsched.admission import inheritors, renames
from flowsched.ledger.actions import Actions
from flowsched.ledger.records import applied_catalog_of, term_of
from flowsched.ledger.sqlite import as_rows, rows_of
from flowsched.ledger.tables import acceptances, catalogs, microseconds, timings
from flowsched.model import Cursor, Term

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from flowsched.admission import Difference
    from flowsched.model import AppliedCatalog, Catalog, Schedule

_ALL = select(timings).order_by(timings.c.from_at, timings.c.id)
_IN_FORCE = select(timings).where(timings.c.until_at.is_(None))
_LATEST_ENDS = (
    select(timings.c.schedule_id, func.max(timings.c.until_at))
    .where(timings.c.until_at.is_not(None))
    .group_by(timings.c.schedule_id)
)
_OF_SOME = timings.c.schedule_id.in_(bindparam("of_schedules", expanding=True))


def _standing(which: Select[Any], latest_ends: Select[Any]) -> Select[Any]:
    last = tuple_(timings.c.schedule_id, timings.c.until_at).in_(latest_ends)
    return which.where(or_(timings.c.until_at.is_(None), last))


_STANDING = _standing(_ALL, _LATEST_ENDS)
_STANDING_OF_SOME = _standing(_ALL.where(_OF_SOME), _LATEST_ENDS.where(_OF_SOME))
_HOW_MANY_IN_FORCE = select(func.count()).select_from(timings).where(timings.c.until_at.is_(None))
_NEWEST = select(catalogs).order_by(catalogs.c.id.desc()).limit(1)
# Since when the newest catalog is in force: it may have been recorded again with another commit.
_LAST_OF_ANOTHER = select(func.max(catalogs.c.id)).where(catalogs.c.revision != bindparam("of_revision"))
_FIRST_AFTER = select(func.min(catalogs.c.id)).where(catalogs.c.id > bindparam("after"))
_OF_SCHEDULE = (timings.c.schedule_id == bindparam("of_schedule"), timings.c.until_at.is_(None))
_END = update(timings).where(*_OF_SCHEDULE).values(until_at=bindparam("at"))
_RENEW = (
    update(timings)
    .where(*_OF_SCHEDULE)
    .values(
        rules=bindparam("new_rules"),
        target=bindparam("new_target"),
        flow=bindparam("new_flow"),
        task=bindparam("new_task"),
        blackout=bindparam("new_blackout"),
    )
)
_stands = rows_of(
    "schedule_id", "cron", "timezone", "starts_at", "ends_at", "rules", "cursor_at", "deferred_until"
)
# A cursor of a timing that is no longer in force moves nothing, and none moves back. Timings are compared
# as `admission.same_timing` does it.
_ADVANCE = (
    update(timings)
    .where(
        timings.c.schedule_id == _stands.c.schedule_id,
        timings.c.until_at.is_(None),
        timings.c.cron == _stands.c.cron,
        timings.c.timezone == _stands.c.timezone,
        timings.c.starts_at.is_not_distinct_from(_stands.c.starts_at),
        timings.c.ends_at.is_not_distinct_from(_stands.c.ends_at),
        or_(timings.c.rules.in_((_stands.c.rules, "")), _stands.c.rules == ""),
        timings.c.cursor_at <= _stands.c.cursor_at,
    )
    .values(cursor_at=_stands.c.cursor_at, deferred_until=_stands.c.deferred_until)
)


class Catalogs:
    """The catalogs applied, and the timings with their cursors."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._actions = Actions(connection)

    def apply(self, catalog: Catalog, at: datetime, since: Difference | None = None) -> dict[str, Cursor]:
        """Put a catalog in force; the contract is that of `Ledger.apply`."""
        if since is not None and not self.stands(since):
            since = None
        among = None if since is None else since.ids
        terms = self.standing_terms(among)
        found = {term.schedule_id: term for term in terms if term.until_at is None}
        heirs = inheritors(terms, catalog.schedules, among)
        kept = {id_ for id_, term in heirs.items() if term.schedule_id == id_}
        inherited = {term.schedule_id for term in heirs.values()}
        present = {
            id_: _present(one, heirs.get(id_), at)
            for id_, one in catalog.schedules.items()
            if one.enabled and (among is None or id_ in among)
        }
        ending = [term for id_, term in found.items() if id_ not in kept]
        self._end([_ending(term, at, inherited=term.schedule_id in inherited) for term in ending])
        self._renew([term for id_, term in present.items() if id_ in kept and term != found[id_]])
        self._start([term for id_, term in present.items() if id_ not in kept])
        self._actions.follow(_followed(catalog, heirs, at))
        self.record(catalog, at)
        others = {} if since is None else {k: v for k, v in since.cursors.items() if k not in since.ids}
        return others | {
            id_: Cursor(id_, catalog.schedules[id_].timing, term.cursor_at, term.deferred_until)
            for id_, term in present.items()
        }

    def stands(self, since: Difference) -> bool:
        """Tell whether the catalog that a difference begins at is the one in force; see `Ledger.stands`."""
        newest = self._connection.execute(_NEWEST).first()
        if newest is None or newest.revision != since.revision:
            return False
        return bool(self._connection.execute(_HOW_MANY_IN_FORCE).scalar() == len(since.cursors))

    def advance(self, cursors: Sequence[Cursor]) -> None:
        """Move each cursor forward to its instant, where its timing is still in force, with what it holds."""
        for some in _each_once(cursors):
            self._connection.execute(_ADVANCE, {"rows": as_rows([_stand(cursor) for cursor in some])})

    def terms(self) -> list[Term]:
        """Return all terms, oldest first."""
        return [term_of(row) for row in self._connection.execute(_ALL)]

    def standing_terms(self, ids: Collection[str] | None = None) -> list[Term]:
        """Return the terms in force, and of each schedule the one that ended last; oldest first.

        Only those of some schedules, where there are `ids`.
        """
        if ids is None:
            rows = self._connection.execute(_STANDING)
        else:
            rows = self._connection.execute(_STANDING_OF_SOME, {"of_schedules": list(ids)})
        return [term_of(row) for row in rows]

    def terms_in_force(self) -> dict[str, Term]:
        """Return the terms in force, by schedule id."""
        return {row.schedule_id: term_of(row) for row in self._connection.execute(_IN_FORCE)}

    def applied(self) -> list[AppliedCatalog]:
        """Return all catalogs on record, oldest first."""
        return [
            applied_catalog_of(row)
            for row in self._connection.execute(select(catalogs).order_by(catalogs.c.id))
        ]

    def accept(self, revision: str, at: datetime, by: str, reason: str | None) -> None:
        """Record that a catalog is accepted whatever it changes."""
        row = {
            "revision": revision,
            "after_catalog": self._in_force_since(),
            "accepted_at": at,
            "accepted_by": by,
            "reason": reason,
        }
        self._connection.execute(insert(acceptances), row)

    def accepted_by(self, revision: str) -> str | None:
        """Return who has accepted a catalog since the newest one was put in force; None: nobody."""
        since = acceptances.c.after_catalog.is_not_distinct_from(self._in_force_since())
        found = select(acceptances).where(since).order_by(acceptances.c.id)
        rows = self._connection.execute(found)
        return next((row.accepted_by for row in rows if revision.startswith(row.revision)), None)

    def _in_force_since(self) -> int | None:
        """Return the number under which the newest catalog was first recorded; None, where there is none."""
        newest = self._connection.execute(_NEWEST).first()
        if newest is None:
            return None
        before = self._connection.execute(_LAST_OF_ANOTHER, {"of_revision": newest.revision}).scalar()
        first: int = self._connection.execute(_FIRST_AFTER, {"after": before or 0}).scalar_one()
        return first

    def _end(self, ends: list[dict[str, Any]]) -> None:
        if ends:
            self._connection.execute(_END, ends)

    def _renew(self, terms: list[Term]) -> None:
        renewed = [{"of_schedule": term.schedule_id, **_changeable(term)} for term in terms]
        if renewed:
            self._connection.execute(_RENEW, renewed)

    def _start(self, terms: list[Term]) -> None:
        if terms:
            self._connection.execute(insert(timings), [_row(term) for term in terms])

    def record(self, catalog: Catalog, at: datetime) -> None:
        """Record that a catalog is in force; the contract is that of `Ledger.record`."""
        commit = catalog.commit
        origin = (catalog.revision, commit and commit.id, commit and int(commit.clean))
        newest = self._connection.execute(_NEWEST).first()
        if newest is not None and origin == (newest.revision, newest.commit_id, newest.clean):
            return
        row = {
            "revision": catalog.revision,
            "applied_at": at,
            "schedules": len(catalog.schedules),
            "enabled": sum(each.enabled for each in catalog.schedules.values()),
            "commit_id": commit and commit.id,
            "author": commit and commit.author,
            "committed_at": commit and commit.at,
            "clean": commit and int(commit.clean),
            "tz_release": cron.tz_release() or None,
        }
        self._connection.execute(insert(catalogs), row)


def _present(schedule: Schedule, heir: Term | None, at: datetime) -> Term:
    """Return the term of a schedule from now on; `heir` is the term in which it goes on, if in any."""
    since = heir.cursor_at if heir else at
    return Term(
        schedule_id=schedule.id,
        # Rules that are known stay known.
        timing=heir.timing if heir and not schedule.timing.rules else schedule.timing,
        target=schedule.target,
        flow=schedule.flow,
        task=schedule.task,
        from_at=heir.from_at if heir and heir.schedule_id == schedule.id else since,
        cursor_at=since,
        until_at=None,
        deferred_until=heir.deferred_until if heir else None,
        blackout=blackouts.digest(schedule.blackout),
    )


def _followed(catalog: Catalog, heirs: Mapping[str, Term], at: datetime) -> dict[str, tuple[str, datetime]]:
    """Return, by its former id, the id of each renamed schedule, and since when its pauses count for it.

    With what is left to fire of the former id goes what covers it; without, a pause is the schedule's still.
    """
    found = {}
    for former, id_ in renames(catalog.schedules).items():
        term = heirs.get(id_)
        since = term.cursor_at if term and term.schedule_id == former else at
        found[former] = id_, min(since, at)
    return found


def _ending(term: Term, at: datetime, *, inherited: bool) -> dict[str, Any]:
    # What is accounted for stays within the term, also where the clock was set back since.
    until = term.cursor_at if inherited else max(at, term.cursor_at)
    return {"of_schedule": term.schedule_id, "at": until}


def _each_once(cursors: Iterable[Cursor]) -> Iterator[Collection[Cursor]]:
    """Cut cursors where a schedule comes again: in between nobody can tell in which order they are moved."""
    some: dict[str, Cursor] = {}
    for cursor in cursors:
        if cursor.schedule_id in some:
            yield some.values()
            some = {}
        some[cursor.schedule_id] = cursor
    if some:
        yield some.values()


def _stand(cursor: Cursor) -> tuple[object, ...]:
    timing = cursor.timing
    return (
        cursor.schedule_id,
        timing.cron,
        timing.timezone,
        timing.starts_at and microseconds(timing.starts_at),
        timing.ends_at and microseconds(timing.ends_at),
        timing.rules,
        microseconds(cursor.at),
        cursor.deferred_until and microseconds(cursor.deferred_until),
    )


def _changeable(term: Term) -> dict[str, Any]:
    return {
        "new_rules": term.timing.rules,
        "new_target": term.target,
        "new_flow": term.flow,
        "new_task": term.task,
        "new_blackout": term.blackout,
    }


def _row(term: Term) -> dict[str, Any]:
    return {
        "schedule_id": term.schedule_id,
        "cron": term.timing.cron,
        "timezone": term.timing.timezone,
        "starts_at": term.timing.starts_at,
        "ends_at": term.timing.ends_at,
        "rules": term.timing.rules,
        "target": term.target,
        "flow": term.flow,
        "task": term.task,
        "from_at": term.from_at,
        "cursor_at": term.cursor_at,
        "deferred_until": term.deferred_until,
        "blackout": term.blackout,
    }
