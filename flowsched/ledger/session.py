"""One connection to the ledger: made when needed, thrown away after trouble, all work in transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, StatementError

from flowsched.errors import LedgerError, LedgerUnusable
from flowsched.ledger.books import Books
from flowsched.ledger.migrations import migrate, require_newest, version_of
from flowsched.ledger.moves import Known, Move, stretches
from flowsched.ledger.sqlite import Access, SqliteFile, driver_of, require_version
from flowsched.ledger.thread import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from flowsched.ledger.moves import Moved


class Session:
    """Runs operations in groups over a connection to a ledger that is there and of our version."""

    def __init__(self, database: SqliteFile, access: Access) -> None:
        """Raise LedgerError where there is no file; the one that is there is the only one ever used."""
        self._database = database
        self._access = access
        self._connection: Connection | None = None
        self._known = Known()
        self._identity = database.require_file()

    def run(self, operations: Sequence[Callable[[Books], object]]) -> list[Result]:
        """Run the operations in one transaction, and return one result each when it is committed.

        An operation that raises is undone and spoils no other. Raises LedgerError for trouble with the
        file, which fails them all; the next group begins with a new connection.
        """
        try:
            with _plain_errors(self._database):
                return self._committed(operations)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one; what it had not committed is undone."""
        self._known.forget_all()
        connection, self._connection = self._connection, None
        if connection is not None:
            _discard(connection)

    def _committed(self, operations: Sequence[Callable[[Books], object]]) -> list[Result]:
        connection = self._connected()
        books = Books(connection, self._known)
        with connection.begin():
            results = [
                result
                for stretch in stretches(operations)
                for result in self._results(connection, books, stretch)
            ]
        # After the commit: what went into a file that is gone must not be acknowledged.
        self._database.require_unmoved(self._identity)
        return results

    def _connected(self) -> Connection:
        if self._connection is None:
            self._database.require_unmoved(self._identity)
            self._connection = self._database.connect(self._access)
            with self._connection.begin():
                require_newest(self._connection, str(self._database.path))
        return self._connection

    def _results(
        self, connection: Connection, books: Books, stretch: Sequence[Callable[[Books], object]]
    ) -> list[Result]:
        """Carry out operations in any order: together what can be, then one by one what is left."""
        plain = [moved for each in stretch if isinstance(each, Move) and (moved := self._foreseen(each))]
        done = {moved.after.id: moved.after for moved in self._together(connection, books, plain)}
        return [
            Result(done[each.run_id])
            if isinstance(each, Move) and each.run_id in done
            else self._one(connection, books, each)
            for each in stretch
        ]

    def _foreseen(self, move: Move) -> Moved | None:
        """Return what a move makes of its run; None where it has to be carried out by itself."""
        try:
            return self._known.moved(move)
        except Exception:  # noqa: BLE001 - a fault of its own, which it is to tell by itself
            return None

    def _together(self, connection: Connection, books: Books, moved: Sequence[Moved]) -> Sequence[Moved]:
        """Carry out all of the moves or none, and return those that were; nobody learns why it was none."""
        if not moved:
            return []
        written = self._one(connection, books, lambda books: books.runs.move_together(moved))
        if written.error is not None:
            # One of them may stand otherwise: if it is known so any longer, it undoes the next ones as well.
            self._known.forget(one.before.id for one in moved)
            return []
        return moved

    def _one(self, connection: Connection, books: Books, operation: Callable[[Books], object]) -> Result:
        # Not through SQLAlchemy, which takes longer for these words than SQLite does.
        driver = driver_of(connection)
        driver.execute("SAVEPOINT operation")
        self._known.mark()
        try:
            result = Result(operation(books))
        except Exception as error:
            if isinstance(error, DBAPIError) and self._database.trouble(error.orig):
                raise
            driver.execute("ROLLBACK TO operation")
            self._known.undo()
            result = Result(error=_own_error(error))
        driver.execute("RELEASE operation")
        return result


def open_to_write(url: str) -> tuple[Session, Session]:
    """Make the ledger, or bring it to our version; return a session to read and one to write. Blocks.

    Of two processes that do so at once, one does it and the other waits. Raises LedgerError.
    """
    database = _database(url)
    database.create()
    with _connection(database, Access.WRITE) as connection:
        # Before anything is changed: the file may be somebody else's.
        with connection.begin():
            migrate(connection, str(database.path))
        database.use_wal(connection)
    return Session(database, Access.READ), Session(database, Access.WRITE)


def hold(url: str) -> int:
    """Become the one daemon of a ledger; return the descriptor of the lock, which closing it frees. Blocks.

    Raises LedgerError; LedgerTaken where another process is that daemon.
    """
    database = _database(url)
    database.create()
    return database.hold()


def open_to_read(url: str) -> Session:
    """Check that there is a ledger of our version, and return a session to read it. Blocks.

    Raises LedgerError.
    """
    database = _database(url)
    database.require_file()
    with _connection(database, Access.READ) as connection, connection.begin():
        require_newest(connection, str(database.path))
    return Session(database, Access.READ)


def _database(url: str) -> SqliteFile:
    require_version(sqlite3.sqlite_version_info)
    return SqliteFile.from_url(url)


@contextlib.contextmanager
def snapshot(url: str) -> Iterator[tuple[SqliteFile, Connection]]:
    """Open a ledger that exists, of whichever version, to read one state of it in the block. Blocks.

    Whoever writes meanwhile does not wait. Raises LedgerError.
    """
    database = _database(url)
    database.require_file()
    with _connection(database, Access.READ) as connection, connection.begin():
        if not version_of(connection, str(database.path)):
            raise LedgerUnusable(f"the ledger {database.path} is empty: `flowsched run` makes it one")
        yield database, connection


@contextlib.contextmanager
def _connection(database: SqliteFile, access: Access) -> Iterator[Connection]:
    with _plain_errors(database):
        connection = database.connect(access)
        try:
            yield connection
        finally:
            _discard(connection)


@contextlib.contextmanager
def _plain_errors(database: SqliteFile) -> Iterator[None]:
    """Turn whatever the database raises into a LedgerError."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise database.trouble(cause) or LedgerError(f"the ledger {database.path} failed: {cause}") from error


def _own_error(error: Exception) -> Exception:
    if isinstance(error, DBAPIError):
        return LedgerError(f"the ledger refused a row: {error.orig}")
    # SQLAlchemy wraps what a column type raises; the caller shall see the error itself.
    if isinstance(error, StatementError) and isinstance(error.orig, Exception):
        return error.orig
    return error


def _discard(connection: Connection) -> None:
    # After trouble even closing may fail; whoever opens the file next rolls back what is left.
    with contextlib.suppress(DBAPIError):
        connection.invalidate()
    connection.close()
