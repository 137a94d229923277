"""The door of the ledger: asynchronous methods in front of the threads that do the work."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from flowsched.ledger.thread import LedgerThread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from flowsched.errors import LedgerUnusable
    from flowsched.ledger.books import Books
    from flowsched.ledger.session import Session
    from flowsched.model import Answer, Attempt, Catalog, Cursor, NewRun, NextStep, Run, RunState


class LedgerReader:
    """The half of the door that only reads; it may be open beside a daemon that writes.

    What a method returns is one consistent state of the ledger, and contains all that was acknowledged
    before it was called. Every method raises LedgerError where the ledger cannot be used just now (the
    next call tries anew), and LedgerUnusable where waiting will not help. All instants are UTC.
    """

    def __init__(self, reader: LedgerThread) -> None:
        self._reader = reader

    async def open_runs(self) -> list[Run]:
        """Return every run that is not final, oldest fire time first."""
        return await self._reader.do(lambda books: books.runs.open_runs())

    async def runs(
        self, *, schedule_id: str | None = None, state: RunState | None = None, limit: int = 50
    ) -> list[Run]:
        """Return at most `limit` runs, newest fire time first; None: of any schedule, in any state."""
        return await self._reader.do(lambda books: books.runs.newest(schedule_id, state, limit))

    async def attempts(self, run_ids: Sequence[int]) -> dict[int, list[Attempt]]:
        """Return the attempts of each run in order; an empty list for a run without any."""
        return await self._reader.do(lambda books: books.runs.attempts(run_ids))

    async def aclose(self) -> None:
        """Close the ledger, after what was asked before is done. Harmless when repeated."""
        await self._reader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Ledger(LedgerReader):
    """The durable record. What a method wrote is on the disk (fsync) when it returns.

    Calls that wait at the same time share one commit. They are carried out in the order in which they
    were made, each as a whole or not at all. A cancelled call is carried out nevertheless.

    A call that raised LedgerError may have been carried out all the same (the answer of a commit can be
    lost). It may be repeated word for word, with the same instant: what is found done is not done again.
    """

    def __init__(self, reader: LedgerThread, writer: LedgerThread) -> None:
        super().__init__(reader)
        self._writer = writer
        self._lock: int | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the ledger at an SQLAlchemy URL; make it, or bring it to our version, where need be.

        `sqlite:////absolute/path`, on a local disk. Raises LedgerError, LedgerUnusable.
        """
        reader, writer = await asyncio.to_thread(_sessions, url)
        return cls(LedgerThread("ledger-reader", reader), LedgerThread("ledger-writer", writer))

    @classmethod
    async def open_as_daemon(cls, url: str) -> Self:
        """Open the ledger as `open` does, and be its one daemon until it is closed or the process ends.

        A daemon takes up what a former process left unfinished, which must not be another that is alive.
        Raises also LedgerUnusable, naming the other process, where there is one.
        """
        lock = await asyncio.to_thread(_hold, url)
        try:
            ledger = await cls.open(url)
        except BaseException:
            os.close(lock)
            raise
        ledger._lock = lock  # noqa: SLF001 - its own class
        return ledger

    @staticmethod
    async def open_to_read(url: str) -> LedgerReader:
        """Open a ledger that exists and is of our version, and change nothing, also while a daemon writes.

        Raises LedgerError where there is none, LedgerUnusable where it is older or newer.
        """
        return LedgerReader(LedgerThread("ledger-reader", await asyncio.to_thread(_reading_session, url)))

    async def unusable(self) -> LedgerUnusable:
        """Return why, once writing to the ledger has shown that waiting will not help; before that, wait."""
        return await asyncio.shield(self._writer.unusable)

    async def apply(self, catalog: Catalog, at: datetime) -> dict[str, Cursor]:
        """Put a catalog in force at `at`, and return the cursors of its enabled schedules, by id.

        This is the edit barrier. A schedule that was in force with the same timing until now keeps its
        cursor; any other (new, its timing changed, enabled again) starts with a cursor at `at`, so that no
        fire time up to and including `at` is ever produced for it. A disabled or absent schedule loses its
        cursor. The catalog is recorded where its revision is not that of the newest one recorded.
        """
        return await self._writer.do(lambda books: books.catalogs.apply(catalog, at))

    async def claim(self, rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        """Insert the runs that are new, move the cursors, and return those runs, in the order given.

        A run whose (schedule, fire time, origin) is taken is left out; so is an automatic one (schedule or
        catch-up) whose (schedule, fire time) has an automatic run already. But where the same daemon has
        claimed that run and sent nothing for it yet, it is returned as it stands: the claim was made before,
        and its answer lost. A cursor never moves back, and not
        at all where its timing is no longer in force. Raises LedgerRefusal for a row that is not claimed,
        missed or skipped, and ValueError for a naive datetime.
        """

        def write(books: Books) -> list[Run]:
            books.catalogs.advance(cursors)
            return books.runs.claim(rows)

        return await self._writer.do(write)

    async def begin_attempt(self, run_id: int, number: int, at: datetime) -> Run:
        """Record that an attempt is about to be sent; return the run, which is then sending.

        Raises LedgerRefusal unless `number` follows the attempts begun, and the run is claimed, waiting or
        in doubt.
        """
        return await self._writer.do(lambda books: books.runs.begin_attempt(run_id, number, at))

    async def end_attempt(
        self, run_id: int, number: int, at: datetime, answer: Answer, next_step: NextStep
    ) -> Run:
        """Record what came of the attempt under way, and move its run on; return the run.

        Raises LedgerRefusal unless the run is sending with that attempt and may enter that state.
        """
        return await self._writer.do(
            lambda books: books.runs.end_attempt(run_id, number, at, answer, next_step)
        )

    async def settle(self, run_id: int, at: datetime, next_step: NextStep) -> Run:
        """Move a run on without an attempt, along the arrows of `transitions`; return the run.

        One that was in doubt and becomes triggered gets the predicted instance as its instance. An attempt
        left open stays without an end. Raises LedgerRefusal where no arrow leads there, and for sending,
        which only `begin_attempt` enters.
        """
        return await self._writer.do(lambda books: books.runs.settle(run_id, at, next_step))

    async def aclose(self) -> None:
        """Close the ledger, after all that was asked before is committed. Harmless when repeated."""
        await super().aclose()
        await self._writer.aclose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sessions(url: str) -> tuple[Session, Session]:
    from flowsched.ledger.session import open_to_write  # noqa: PLC0415 - it imports SQLAlchemy

    return open_to_write(url)


def _hold(url: str) -> int:
    from flowsched.ledger.session import hold  # noqa: PLC0415 - it imports SQLAlchemy

    return hold(url)


def _reading_session(url: str) -> Session:
    from flowsched.ledger.session import open_to_read  # noqa: PLC0415 - it imports SQLAlchemy

    return open_to_read(url)
