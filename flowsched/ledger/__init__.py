"""The ledger: the durable record of what was in force, what fired, and what came of it.

The only room that knows SQL. `Ledger` is its door; all else here is private to the room.
Importing it is cheap: SQLAlchemy is imported when a ledger is opened.
"""

from flowsched.ledger.door import LEDGER_PAUSE, Ledger, LedgerReader

__all__ = ["LEDGER_PAUSE", "Ledger", "LedgerReader"]
