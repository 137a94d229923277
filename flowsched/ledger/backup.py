"""A copy of the ledger, whole and of one instant, while a daemon writes."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched.errors import LedgerError, LedgerUnusable, UsageError
from flowsched.ledger.session import snapshot
from flowsched.ledger.sqlite import driver_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PAGES = 1_000
"""Pages, mostly of 4 KiB, that are copied between two words about it."""

_BESIDE = ("", "-wal", "-shm", "-journal", ".daemon")
"""What is added to a ledger's name by files that belong to it."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds."""

    bytes: int
    runs: int


def back_up(url: str, to: Path, tell: Callable[[int, int], None]) -> Copied:
    """Copy the ledger at an SQLAlchemy URL to a file, which is replaced where it exists. Blocks.

    Then the file has all that was acknowledged before the call, checked and on the disk; or it is as it was.
    It is for its owner alone, and needs no other file beside it. `tell` is told how many pages of how many
    are copied. Raises UsageError where the file belongs to the ledger itself, LedgerError where either of the
    two cannot be used, and LedgerUnusable where the ledger is damaged.
    """
    with snapshot(url) as (ledger, connection):
        _require_another(ledger.path, to)
        with _new_file(to) as part:
            try:
                with closing(sqlite3.connect(part)) as copy:
                    # What counts is that all is on the disk at the end.
                    copy.execute("PRAGMA synchronous = OFF")
                    driver_of(connection).backup(copy, pages=_PAGES, progress=partial(_tell, tell))
                return _finished(part, to, ledger.path)
            except LedgerUnusable:
                raise
            except (sqlite3.Error, OSError, LedgerError) as error:
                raise LedgerError(f"the ledger {ledger.path} could not be copied to {to}: {error}") from error


def _tell(tell: Callable[[int, int], None], status: int, left: int, total: int) -> None:
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        # It would be tried again for ever. Nobody can lock what is read here, nor a file that is just made.
        raise LedgerError(f"it is locked, with {left} of {total} pages still to copy")
    tell(total - left, total)


def _finished(part: Path, to: Path, ledger: Path) -> Copied:
    with closing(sqlite3.connect(part)) as copy:
        # Without files of its own beside it: it may be read where nothing can be written.
        copy.execute("PRAGMA journal_mode = DELETE")
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise LedgerUnusable(
                f"the ledger {ledger} is damaged ({found}), and so is each copy of it; none is kept: stop"
                " flowsched, keep the file, and restore it from an older backup"
            )
        runs = copy.execute("SELECT count(*) FROM runs").fetchone()[0]
    _sync(part)
    part.replace(to)
    _sync(to.parent)
    return Copied(to.stat().st_size, runs)


def _require_another(ledger: Path, to: Path) -> None:
    place = to.parent.resolve() / to.name
    theirs = [ledger.with_name(ledger.name + added) for added in _BESIDE]
    if place in theirs or (to.exists() and to.samefile(ledger)):
        raise UsageError(f"{to} belongs to the ledger itself; allowed: a file of another name")


@contextmanager
def _new_file(to: Path) -> Iterator[Path]:
    """Make a file beside another, for its owner alone; it is gone at the end unless it was moved."""
    try:
        descriptor, name = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
    except OSError as error:
        raise LedgerError(f"no file can be made in {to.parent}: {error.strerror}") from error
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
    finally:
        for added in _BESIDE:
            with suppress(OSError):
                part.with_name(part.name + added).unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
