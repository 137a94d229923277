"""What an operation may write in and read from, within its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsched.ledger.catalogs import Catalogs
from flowsched.ledger.runs import Runs

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Books:
    """The catalogs and the runs of a ledger, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self.catalogs = Catalogs(connection)
        self.runs = Runs(connection)
