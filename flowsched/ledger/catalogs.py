"""Which catalogs were put in force, and how far each timing in force is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select, update

from flowsched.ledger.tables import catalogs, timings
from flowsched.model import Cursor, Timing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from flowsched.model import Catalog

_IN_FORCE = select(timings).where(timings.c.until_at.is_(None))
_NEWEST_REVISION = select(catalogs.c.revision).order_by(catalogs.c.id.desc()).limit(1)
_END = (
    update(timings)
    .where(timings.c.schedule_id == bindparam("ended"), timings.c.until_at.is_(None))
    .values(until_at=bindparam("at"))
)
# A cursor of a timing that is no longer in force moves nothing, and none moves back.
_ADVANCE = (
    update(timings)
    .where(
        timings.c.schedule_id == bindparam("of_schedule"),
        timings.c.cron == bindparam("of_cron"),
        timings.c.timezone == bindparam("of_timezone"),
        timings.c.until_at.is_(None),
        timings.c.cursor_at < bindparam("at"),
    )
    .values(cursor_at=bindparam("at"))
)


class Catalogs:
    """The catalogs applied, and the timings with their cursors."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def apply(self, catalog: Catalog, at: datetime) -> dict[str, Cursor]:
        """Put a catalog in force; the contract is that of `Ledger.apply`."""
        found = self._cursors()
        wanted = {id_: one.timing for id_, one in catalog.schedules.items() if one.enabled}
        kept = {id_: cursor for id_, cursor in found.items() if wanted.get(id_) == cursor.timing}
        started = {id_: Cursor(id_, timing, at) for id_, timing in wanted.items() if id_ not in kept}
        self._end((id_ for id_ in found if id_ not in kept), at)
        self._start(started.values())
        self._record(catalog, enabled=len(wanted), at=at)
        cursors = kept | started
        return {id_: cursors[id_] for id_ in wanted}

    def advance(self, cursors: Sequence[Cursor]) -> None:
        """Move each cursor forward to its instant, where its timing is still in force."""
        moves = [
            {
                "of_schedule": cursor.schedule_id,
                "of_cron": cursor.timing.cron,
                "of_timezone": cursor.timing.timezone,
                "at": cursor.at,
            }
            for cursor in cursors
        ]
        if moves:
            self._connection.execute(_ADVANCE, moves)

    def _cursors(self) -> dict[str, Cursor]:
        rows = self._connection.execute(_IN_FORCE)
        return {
            row.schedule_id: Cursor(row.schedule_id, Timing(row.cron, row.timezone), row.cursor_at)
            for row in rows
        }

    def _end(self, schedule_ids: Iterable[str], at: datetime) -> None:
        ended = [{"ended": id_, "at": at} for id_ in schedule_ids]
        if ended:
            self._connection.execute(_END, ended)

    def _start(self, cursors: Iterable[Cursor]) -> None:
        started = [
            {
                "schedule_id": cursor.schedule_id,
                "cron": cursor.timing.cron,
                "timezone": cursor.timing.timezone,
                "from_at": cursor.at,
                "cursor_at": cursor.at,
            }
            for cursor in cursors
        ]
        if started:
            self._connection.execute(insert(timings), started)

    def _record(self, catalog: Catalog, *, enabled: int, at: datetime) -> None:
        if self._connection.execute(_NEWEST_REVISION).scalar() == catalog.revision:
            return
        row = {
            "revision": catalog.revision,
            "applied_at": at,
            "schedules": len(catalog.schedules),
            "enabled": enabled,
        }
        self._connection.execute(insert(catalogs), row)
