"""All that is true of SQLite only: the file, its connections, its words, and what its errors mean."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from sqlalchemy import bindparam, column, create_engine, event, func, literal_column, make_url, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from flowsched.errors import LedgerError, LedgerTaken, LedgerUnusable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy import ClauseElement, Connection, Row, Subquery, Table

T = TypeVar("T")

IDENTITY = "INTEGER NOT NULL PRIMARY KEY"
"""The type of a key that the database numbers by itself."""

_TIMEOUT = 5.0
_LONGEST_TIMEOUT = 600.0

_OLDEST = (3, 35, 0)
"""The first SQLite with RETURNING."""

# Not ASCII only: what is no Unicode, and cannot be stored, shall be refused as it is elsewhere.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_WAL_KEPT = 64 * 2**20
"""Bytes that the `-wal` keeps for the next burst, once all that is in it is in the file itself.

It grows beyond that for as long as somebody reads one state of the ledger, as a backup of a big one does."""

_VARIABLES = 32_766
"""Parameters that SQLite takes in a statement."""

_PAGE = 1_000
"""Ids in one IN list."""

_PRIMARY = 0xFF
"""The byte of a result code that is its kind; the others are the variety."""

_WHO_MAY = "run this as root or the daemon's user; if it is, check owner"
"""It is for nobody else, on purpose: no mode is to be widened."""

_MEANINGS: dict[int, tuple[type[LedgerError], str]] = {
    sqlite3.SQLITE_BUSY: (LedgerError, "is locked by another process, and was not free within {timeout:g} s"),
    sqlite3.SQLITE_PROTOCOL: (LedgerError, "is locked by another process, and was not free in time"),
    sqlite3.SQLITE_FULL: (LedgerError, "has no room to grow: the disk or its quota is full"),
    sqlite3.SQLITE_IOERR: (
        LedgerError,
        "could not be read or written ({name}): check the disk, its free space and any limit on file size",
    ),
    sqlite3.SQLITE_READONLY: (
        LedgerError,
        f"cannot be written, which reading needs too: {_WHO_MAY}, mode and mount of the file and its folder",
    ),
    sqlite3.SQLITE_PERM: (LedgerError, f"may not be used: {_WHO_MAY} and mode of the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        LedgerError,
        f"cannot be opened: {_WHO_MAY} and mode of the file and its folder",
    ),
    sqlite3.SQLITE_CORRUPT: (
        LedgerUnusable,
        "is damaged: stop flowsched, keep a copy of the file, and restore it from a backup",
    ),
    sqlite3.SQLITE_NOTADB: (
        LedgerUnusable,
        "is not a database: give the ledger a file of its own, or restore it from a backup",
    ),
}
"""The result codes that mean trouble with the file rather than with a statement."""


def insert_or_nothing(
    connection: Connection,
    table: Table,
    columns: Collection[str],
    rows: Sequence[Sequence[object]],
    returning: Iterable[str],
) -> list[Row[Any]]:
    """Insert rows, but for those whose key is taken, and return so much of the others, in any order.

    The values are as they are stored. One step inserts many, as `rows_of` has it. The text is not
    SQLAlchemy's, which takes longer to look at all the values than SQLite does to store them. So that there
    are but a few texts, of which each is kept with what SQLite makes of it, only powers of two go in a step.
    """
    place = f"({', '.join('?' * len(columns))})"
    inserted: list[Row[Any]] = []
    for page in _in_powers_of_two(rows, _VARIABLES // len(columns)):
        text = (
            f"INSERT INTO {table.name} ({', '.join(columns)})"  # noqa: S608 - names of ours
            f" VALUES {', '.join([place] * len(page))}"
            f" ON CONFLICT DO NOTHING RETURNING {', '.join(returning)}"
        )
        inserted += connection.exec_driver_sql(text, tuple(chain.from_iterable(page))).all()
    return inserted


def rows_of(*names: str) -> Subquery:
    """Return as a table, with columns of these names, what is bound as `rows`: the text of `as_rows`.

    However many rows there are, the statement is the same, and done in one step. A step of its own for each
    would let go of Python's lock and wait for it again each time, which takes long beside a busy loop.
    """
    each = func.json_each(bindparam("rows")).table_valued(column("value"))
    columns = (
        func.json_extract(each.c.value, literal_column(f"'$[{place}]'")).label(name)
        for place, name in enumerate(names)
    )
    return select(*columns).subquery()


def as_rows(rows: Sequence[Sequence[object]]) -> str:
    """Return rows of text, integers of 64 bits and None as one text for `rows_of`.

    Raises ValueError for a text with U+0000, which SQLite ends there.
    """
    text = _encode(rows)
    if "\\u0000" in text:
        raise ValueError("a text with U+0000 is not taken out of JSON as it was")
    return text


def text_of(statement: ClauseElement) -> str:
    """Return a statement whose one parameter is `rows` as its text, for `exec_driver_sql`.

    It is for what a burst executes again and again: each time SQLAlchemy would take longer than SQLite.
    """
    compiled = statement.compile(dialect=sqlite.dialect())
    assert list(compiled.params) == ["rows"]  # noqa: S101 - any other would have to be bound as well
    return str(compiled)


def pages(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut ids into lists that one statement can take."""
    return _cut(ids, _PAGE)


def _in_powers_of_two(rows: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    start = 0
    while start < len(rows):
        length = 1 << (min(len(rows) - start, most).bit_length() - 1)
        yield rows[start : start + length]
        start += length


def _cut(rows: Sequence[T], length: int) -> Iterator[Sequence[T]]:
    return (rows[start : start + length] for start in range(0, len(rows), length))


def require_version(found: tuple[int, int, int]) -> None:
    """Raise LedgerUnusable for a SQLite that lacks what the ledger's statements need."""
    if found < _OLDEST:
        needed, have = (".".join(map(str, version)) for version in (_OLDEST, found))
        raise LedgerUnusable(f"the ledger needs SQLite {needed} or newer; this Python has {have}")


class Access(Enum):
    """What a connection is for, with the statement that begins its transactions.

    A writer takes the write lock at once: one that began by reading would be refused without a wait
    as soon as somebody else had written.
    """

    WRITE = ("rw", "BEGIN IMMEDIATE")
    READ = ("ro", "BEGIN")


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A ledger in one file, with `-wal` and `-shm` beside it while it is open.

    Not for network file systems: WAL needs shared memory, and locks that hold.
    """

    path: Path
    timeout: float = _TIMEOUT
    """Seconds to wait for another process's lock."""

    @classmethod
    def from_url(cls, url: str) -> SqliteFile:
        """Read `sqlite:////absolute/path`, perhaps with `?timeout=SECONDS`; raises LedgerUnusable."""
        try:
            parsed = make_url(url)
            timeout = float(str(parsed.query.get("timeout", _TIMEOUT)))
        except (ArgumentError, ValueError) as error:
            raise _bad_url("it cannot be read") from error
        if parsed.get_backend_name() != "sqlite":
            raise _bad_url(f"there is no ledger on {parsed.get_backend_name()}")
        if parsed.database in {None, "", ":memory:"}:
            raise _bad_url("it names no file, and a ledger must outlive its process")
        if unknown := sorted(set(parsed.query) - {"timeout"}):
            raise _bad_url(f"it has an unknown option, {unknown[0]}")
        if not 0 <= timeout <= _LONGEST_TIMEOUT:
            raise _bad_url(f"its timeout is not from 0 to {_LONGEST_TIMEOUT:g} seconds")
        return cls(Path(str(parsed.database)).resolve(), timeout)

    def create(self) -> None:
        """Make the file, empty and for its owner alone, unless it is there; raises LedgerError."""
        # Only a file that is new may be touched here: closing a file drops every lock that this
        # process holds on it, SQLite's too.
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            self.require_file()
        except FileNotFoundError as error:
            raise self._unusable(f"cannot be made: there is no folder {self.path.parent}") from error
        except OSError as error:
            raise LedgerError(f"the ledger {self.path} cannot be made: {error.strerror}") from error

    def require_file(self) -> tuple[int, int]:
        """Return device and inode of the file; raises LedgerError where there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise LedgerError(
                f"the ledger {self.path} does not exist: put it back if it was moved or deleted;"
                " `flowsched run` begins an empty one when it starts"
            ) from error
        except PermissionError as error:
            raise LedgerError(
                f"the ledger {self.path} is not for this user: run this as root or the daemon's user"
            ) from error
        except OSError as error:
            raise LedgerError(f"the ledger {self.path} cannot be reached: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise self._unusable("is not a file")
        return found.st_dev, found.st_ino

    def hold(self) -> int:
        """Take the lock that only one daemon can hold, and return its descriptor; closing that frees it.

        The lock is on a file of its own, beside the ledger, and ends with the process, however it ends.
        Raises LedgerTaken, naming the holder's process id, where another process has it.
        """
        path = f"{self.path}.daemon"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"the lock {path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 100).decode(errors="replace").partition("\n")[0] or "unknown"
            os.close(lock)
            raise LedgerTaken(
                f"the ledger {self.path} is kept by another daemon, or by a command that works without one"
                f" (process {holder}): wait for its end or stop it, or give this one a ledger of its own"
            ) from error
        try:
            self._require_its_own_wal(os.read(lock, 100).decode(errors="replace").split())
        except LedgerError:
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n{self._name()}\n".encode(), 0)
        return lock

    def _name(self) -> str:
        device, inode = self.require_file()
        return f"{device}:{inode}"

    def _require_its_own_wal(self, last: list[str]) -> None:
        """Raise LedgerUnusable where the `-wal` beside the file is that of another, which would ruin both.

        `last` is what the last daemon wrote into the lock: its process id and the file that it had.
        """
        wal = self.path.with_name(f"{self.path.name}-wal")
        if len(last) > 1 and last[1] != self._name() and wal.exists() and wal.stat().st_size:
            raise self._unusable(
                f"is not the file that the last daemon had, but {wal.name} is still that one's:"
                f" put the old file back, or move {wal.name} and {self.path.name}-shm away; where they do"
                f" belong together, as after a copy to another disk, delete {self.path.name}.daemon"
            )

    def require_unmoved(self, identity: tuple[int, int]) -> None:
        """Raise LedgerError where the file is gone, LedgerUnusable where another has its place."""
        if self.require_file() != identity:
            raise self._unusable(
                "was replaced by another file while in use: stop flowsched, then put the old one back,"
                f" or move {self.path.name}-wal and {self.path.name}-shm, which belong to it, away with it"
            )

    def connect(self, access: Access) -> Connection:
        """Open the file, which must exist; raises LedgerError."""
        mode, begin = access.value
        target = f"file://{quote(bytes(self.path))}?mode={mode}"

        def connect() -> sqlite3.Connection:
            # No isolation level: sqlite3 shall begin no transaction of its own.
            return sqlite3.connect(target, uri=True, isolation_level=None, timeout=self.timeout)

        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
        event.listen(engine, "connect", _set_up)
        if access is Access.WRITE:
            event.listen(engine, "connect", _keep_a_burst)
        event.listen(engine, "begin", lambda connection: driver_of(connection).execute(begin))
        return engine.connect()

    def use_wal(self, connection: Connection) -> None:
        """Have readers and the writer not wait for each other; raises LedgerUnusable where that cannot be."""
        mode = driver_of(connection).execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise self._unusable("is on a file system without shared memory: use a local disk")

    def trouble(self, error: BaseException | None) -> LedgerError | None:
        """Return what an error of the driver says of the file; None where it is about one statement only."""
        code = getattr(error, "sqlite_errorcode", None)
        name = getattr(error, "sqlite_errorname", None)
        if code is None or (kind := code & _PRIMARY) not in _MEANINGS:
            return None
        meaning, text = _MEANINGS[kind]
        return meaning(f"the ledger {self.path} {text.format(timeout=self.timeout, name=name)}")

    def _unusable(self, text: str) -> LedgerUnusable:
        return LedgerUnusable(f"the ledger {self.path} {text}")


def _bad_url(text: str) -> LedgerUnusable:
    # The URL itself is not shown: it has a place for a password.
    return LedgerUnusable(
        f"the ledger's URL: {text};"
        " allowed: sqlite:////absolute/path/to/ledger.db, perhaps with ?timeout=SECONDS after it"
    )


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the connection that SQLAlchemy has wrapped."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _keep_a_burst(connection: sqlite3.Connection, _record: object) -> None:
    # What a thousand fires change of a ledger of years, 16 MiB: else it is logged and read again meanwhile.
    connection.execute("PRAGMA cache_size = -16384")
    # Else what undoes a statement of many rows is a file in /var/tmp; where that is full, or may not be
    # written, or no descriptor is left, the statement would fail.
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    # FULL: a claim that a power cut could undo would let a trigger be sent twice.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
