"""Messages with alerts: what is to be told over which channel, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, select, update

from flowsched.ledger import tables
from flowsched.ledger.records import message_of, message_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from flowsched.model import Message

_messages = tables.messages.c

_OPEN = select(tables.messages).where(_messages.next_at.is_not(None)).order_by(_messages.at, _messages.id)
_NEWEST = select(tables.messages).order_by(_messages.at.desc(), _messages.id.desc())
_SINCE = select(_messages.channel, _messages.at).where(_messages.at >= bindparam("from_at"))
_FORGET = delete(tables.messages).where(_messages.at < bindparam("before"), _messages.next_at.is_(None))


class Outbox:
    """The messages of a ledger. Contracts are those of the like-named methods of `Ledger`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def keep(self, messages: Sequence[Message]) -> list[int]:
        """Write messages as they stand now; return their ids."""
        return [self._keep(message) for message in messages]

    def _keep(self, message: Message) -> int:
        """Go by the identity: whoever was not answered in time does not know the id that it was given."""
        row = message_row(message)
        standing = (
            update(tables.messages)
            .where(_messages.uuid == str(message.identity))
            .values(row)
            .returning(_messages.id)
        )
        id_: int | None = self._connection.execute(standing).scalar_one_or_none()
        if id_ is None:
            id_ = self._connection.execute(insert(tables.messages).returning(_messages.id), row).scalar_one()
        return id_

    def open(self) -> list[Message]:
        """Return those that are not done with, oldest first."""
        return [message_of(row) for row in self._connection.execute(_OPEN)]

    def newest(self, limit: int) -> list[Message]:
        """Return messages, newest first."""
        return [message_of(row) for row in self._connection.execute(_NEWEST.limit(limit))]

    def begun_since(self, at: datetime) -> list[tuple[str, datetime]]:
        """Return channel and beginning of those that began then or later."""
        found = self._connection.execute(_SINCE, {"from_at": at})
        return sorted((row.channel, row.at) for row in found)

    def forget(self, before: datetime) -> None:
        """Remove those that began earlier and are done with."""
        self._connection.execute(_FORGET, {"before": before})
