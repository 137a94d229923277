"""What an operation may write in and read from, within its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import update

from flowsched.ledger.actions import Actions
from flowsched.ledger.by_hand import ByHand
from flowsched.ledger.catalogs import Catalogs
from flowsched.ledger.history import History
from flowsched.ledger.outbox import Outbox
from flowsched.ledger.retention import Retention
from flowsched.ledger.runs import Runs
from flowsched.ledger.tables import ledger_version
from flowsched.ledger.watches import Watches

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flowsched.ledger.moves import Known


class Books:
    """All that is in a ledger, over one connection."""

    def __init__(self, connection: Connection, known: Known) -> None:
        self._connection = connection
        self.actions = Actions(connection)
        self.by_hand = ByHand(connection)
        self.catalogs = Catalogs(connection)
        self.runs = Runs(connection, known)
        self.watches = Watches(connection)
        self.history = History(connection)
        self.outbox = Outbox(connection)
        self.retention = Retention(connection)

    def touch(self) -> None:
        """Write something that changes nothing, to see whether it can be written."""
        self._connection.execute(update(ledger_version).values(version=ledger_version.c.version))
