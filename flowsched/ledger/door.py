"""The door of the ledger: asynchronous methods in front of the threads that do the work."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from flowsched.ledger.moves import Begin, End, Settle
from flowsched.ledger.thread import LedgerThread
from flowsched.model import Action, ActionKind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from flowsched.admission import Difference
    from flowsched.errors import LedgerUnusable
    from flowsched.ledger.books import Books
    from flowsched.ledger.session import Session
    from flowsched.model import (
        Answer,
        AppliedCatalog,
        Attempt,
        Catalog,
        Cursor,
        Fired,
        FlowState,
        Message,
        NewRun,
        NextStep,
        Pause,
        Run,
        RunState,
        Scope,
        Sent,
        Sighting,
        Term,
        Watch,
    )

LEDGER_PAUSE = 5.0
"""Seconds until the ledger is asked again for what it would not do, or would not tell."""


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
        return await self._reader.do(lambda books: books.history.open_runs())

    async def runs(
        self, *, schedule_id: str | None = None, state: RunState | None = None, limit: int = 50
    ) -> list[Run]:
        """Return at most `limit` runs, newest fire time first; None: of any schedule, in any state."""
        return await self._reader.do(lambda books: books.history.newest(schedule_id, state, limit))

    async def attempts(self, run_ids: Sequence[int]) -> dict[int, list[Attempt]]:
        """Return the attempts of each run in order; an empty list for a run without any."""
        return await self._reader.do(lambda books: books.history.attempts(run_ids))

    async def run(self, run_id: int) -> Run | None:
        """Return the run with this number; None where the ledger has none, or none any more."""
        return await self._reader.do(lambda books: books.history.run(run_id))

    async def runs_at(
        self, schedule_id: str, target: str, flow: int, fire_times: Sequence[datetime]
    ) -> list[Run]:
        """Return the runs of a schedule, and those of its flow and target, with one of these fire times.

        They come by fire time, those of one by their number. To be asked for a few hundred at a time.
        """
        return await self._reader.do(lambda books: books.history.at(schedule_id, target, flow, fire_times))

    async def terms(self) -> list[Term]:
        """Return every term on record, in force or ended, oldest first."""
        return await self._reader.do(lambda books: books.catalogs.terms())

    async def standing_terms(self, ids: Collection[str] | None = None) -> list[Term]:
        """Return the terms in force, and of each schedule the one that ended last; oldest first.

        That is all that says where a schedule of another catalog goes on (`admission.inheritors`), however
        many edits there have been. Only those of some schedules, where there are `ids`; at most 10,000.
        """
        return await self._reader.do(lambda books: books.catalogs.standing_terms(ids))

    async def stands(self, since: Difference) -> bool:
        """Tell whether the catalog that a difference begins at is the one in force.

        That is: the newest record is of its revision, and as many schedules are in force as it has cursors.
        Only for who has put that catalog in force himself, and has been the one daemon ever since.
        """
        return await self._reader.do(lambda books: books.catalogs.stands(since))

    async def terms_in_force(self) -> dict[str, Term]:
        """Return the terms of the catalog in force, by schedule id: one for each enabled schedule."""
        return await self._reader.do(lambda books: books.catalogs.terms_in_force())

    async def catalogs(self) -> list[AppliedCatalog]:
        """Return every catalog that was put in force, oldest first.

        One that was read anew is there again only where its commit is another.
        """
        return await self._reader.do(lambda books: books.catalogs.applied())

    async def accepted_by(self, revision: str) -> str | None:
        """Return who has accepted the catalog of a revision, as `Ledger.accept` has it; None: nobody.

        What was accepted before the newest catalog was put in force does not count any more.
        """
        return await self._reader.do(lambda books: books.catalogs.accepted_by(revision))

    async def watches(self) -> list[Watch]:
        """Return the watches of flows that are still going, the one that is late first first."""
        return await self._reader.do(lambda books: books.watches.going())

    async def watches_of(self, run_ids: Sequence[int]) -> dict[int, Watch]:
        """Return the watches of these runs, by run; a run that is not, and was not, watched has none."""
        return await self._reader.do(lambda books: books.watches.of(run_ids))

    async def actions(self, limit: int = 50) -> list[Action]:
        """Return at most `limit` things that people have done, newest first."""
        return await self._reader.do(lambda books: books.actions.newest(limit))

    async def pauses(self, over_after: datetime | None = None) -> list[Pause]:
        """Return the pauses that were not over at `over_after`, also those that began later; None: all.

        They come in the order in which they were set.
        """
        return await self._reader.do(lambda books: books.actions.pauses(over_after))

    async def messages(self, limit: int = 50) -> list[Message]:
        """Return at most `limit` messages with alerts, newest first."""
        return await self._reader.do(lambda books: books.outbox.newest(limit))

    async def open_messages(self) -> list[Message]:
        """Return the messages that are not done with, oldest first."""
        return await self._reader.do(lambda books: books.outbox.open())

    async def messages_begun_since(self, at: datetime) -> list[tuple[str, datetime]]:
        """Return, by channel, when each message began that did so at or after `at`."""
        return await self._reader.do(lambda books: books.outbox.begun_since(at))

    async def last_successes(self, schedule_ids: Sequence[str]) -> dict[str, datetime]:
        """Return the latest fire time that each of the schedules has triggered, if it has any.

        Takes long for very many: to be asked a few hundred at a time.
        """
        return await self._reader.do(lambda books: books.runs.last_successes(schedule_ids))

    async def ping(self) -> None:
        """Return when the thread that reads has answered; raises LedgerError where it did with trouble."""
        await self._reader.do(lambda books: books.retention.kept_from())

    async def last_skips(self, after: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return, by schedule, the latest fire time that was skipped, if it is after the given one.

        To be asked of a few hundred schedules at a time, as `last_successes`.
        """
        return await self._reader.do(lambda books: books.runs.last_skips(after))

    async def sent_since(self, at: datetime) -> list[Sent]:
        """Return the attempts that began at or after `at`, oldest first."""
        return await self._reader.do(lambda books: books.history.sent_since(at))

    async def previous_instances(
        self, target: str, flow: int, not_of: int, limit: int
    ) -> dict[str, datetime]:
        """Return, by id, the fire times of instances of a flow that may be going when a run is to be sent.

        They are those that runs of that flow and target other than `not_of` have made (triggered) or may have
        made (in doubt, sending), but for those that were seen to end; latest fire time first, which may be
        later than that of the run; at most `limit`, and only of the latest 100 such runs.
        """
        return await self._reader.do(
            lambda books: books.history.previous_instances(target, flow, not_of, limit)
        )

    async def kept_from(self) -> datetime | None:
        """Return the instant before whose fire times runs may have been removed; None: nothing ever was."""
        return await self._reader.do(lambda books: books.retention.kept_from())

    async def automatic_runs(
        self, from_: datetime, to: datetime, after: tuple[str, datetime] | None, limit: int
    ) -> list[Fired]:
        """Return the runs of origin schedule or catch-up with `from_` <= fire time < `to`, a page at a time.

        They come ordered by schedule id and fire time, at most `limit`, and only those that follow `after`:
        None for the first page, then schedule id and fire time of the last one of the page before. Pages are
        not of one state of the ledger together. Schedule ids are ordered by their code points.
        """
        return await self._reader.do(lambda books: books.history.automatic_runs(from_, to, after, limit))

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
        Raises also LedgerTaken, naming the other process, where there is one.
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
        """Return why, once an operation has shown that waiting will not help; before that, wait."""
        either = (self._writer.unusable, self._reader.unusable)
        known, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return known.pop().result()

    async def apply(
        self, catalog: Catalog, at: datetime, since: Difference | None = None
    ) -> dict[str, Cursor]:
        """Put a catalog in force at `at`, and return the cursors of its enabled schedules, by id.

        This is the edit barrier. A schedule that was in force with the same timing until now keeps its
        cursor and its term, which takes its present target, flow and task; one that was renamed and kept its
        timing goes on at the cursor of its former id, in a term of its own (`admission.inheritors` says
        which). Any other (new, its timing changed, enabled again) starts with a cursor at `at`, so that no
        fire time up to and including `at` is ever produced for it. What a cursor holds goes with it. A
        disabled or absent schedule loses its cursor; its term ends at `at`, or where its cursor is already
        beyond that, at the cursor. The catalog is recorded (`record`).

        Pauses of a schedule that is renamed (`admission.renames`), also with another timing, are those of its
        new id from then on, unless they were over before all that is left to fire.

        Where the catalog in force is known, `since` says so, and only what is another in this one is looked
        at; the rest is as it would have been found. Where `stands` does not hold of it, it is left aside.
        """
        return await self._writer.do(lambda books: books.catalogs.apply(catalog, at, since))

    async def record(self, catalog: Catalog, at: datetime) -> None:
        """Record the catalog that is in force, where the newest record has another revision or commit.

        Another commit is also one that was not clean and is now, or the other way round. Terms, cursors and
        acceptances stay as they are.
        """
        await self._writer.do(lambda books: books.catalogs.record(catalog, at))

    async def accept(self, revision: str, at: datetime, by: str, reason: str | None) -> None:
        """Record that a catalog may be put in force however much it changes, until another one is.

        `revision` is the catalog's, or how it begins; `by` is whoever says so, `reason` a line of text. That
        is an action, too, and recorded as such.
        """
        action = Action(
            at=at, by=by, kind=ActionKind.ACCEPT, subject=revision, reason=reason, detail="accepted"
        )

        def write(books: Books) -> None:
            books.catalogs.accept(revision, at, by, reason)
            books.actions.record(action)

        await self._writer.do(write)

    async def claim(self, rows: Sequence[NewRun], cursors: Sequence[Cursor]) -> list[Run]:
        """Insert the runs that are new, move the cursors, and return those runs, in the order given.

        A run whose (schedule, fire time, origin) is taken is left out; so is an automatic one (schedule or
        catch-up) whose (schedule, fire time) has an automatic run already. But where the same daemon has
        claimed that run and sent nothing for it yet, it is returned as it stands: the claim was made before,
        and its answer lost.

        A new claimed row is a collision where another run, in the ledger or earlier among the rows, has its
        target, flow and fire time and is neither missed nor skipped: EnOS would refuse the second. It enters
        skipped instead, with a reason that names the other, and is returned so. A run by hand that has failed
        is no such other, unless the instance is there, made by somebody else; one that is under way, or in
        doubt, is: it is the same instance, wanted once, and what becomes of it is what became of the fire.

        A cursor never moves back, and not at all where its timing is no longer in force; where it stands
        still, what it holds is written. Raises LedgerRefusal for a row that is not claimed, missed or
        skipped, and ValueError for a naive datetime.
        """

        def write(books: Books) -> list[Run]:
            books.catalogs.advance(cursors)
            return books.runs.claim(rows)

        return await self._writer.do(write)

    async def begin_attempt(
        self,
        run_id: int,
        number: int,
        at: datetime,
        note: str | None = None,
        deadline: datetime | None = None,
        *,
        claimed_at: datetime | None = None,
    ) -> Run:
        """Record that an attempt is about to be sent; return the run, which is then sending.

        A note is kept on the run, and a deadline is its deadline from then on; None leaves the one that is
        there. Raises LedgerRefusal unless `number` follows the attempts begun, and the run is claimed,
        waiting or in doubt; and where it was claimed again by hand since `claimed_at`, None: whoever did.
        """
        return await self._writer.do(Begin(run_id, number, at, note, deadline, claimed_at))

    async def end_attempt(
        self, run_id: int, number: int, at: datetime, answer: Answer, next_step: NextStep
    ) -> Run:
        """Record what came of the attempt under way, and move its run on; return the run.

        One that becomes triggered, and whose schedule wants that, is watched from then on for `run.watch`.
        Raises LedgerRefusal unless the run is sending with that attempt and may enter that state.
        """
        return await self._writer.do(End(run_id, number, at, answer, next_step))

    async def settle(
        self, run_id: int, at: datetime, next_step: NextStep, *, claimed_at: datetime | None = None
    ) -> Run:
        """Move a run on without an attempt, along the arrows of `transitions`; return the run.

        One that was in doubt and becomes triggered gets the predicted instance as its instance, and is
        watched like any other. An attempt left open stays without an end. Raises LedgerRefusal where no arrow
        leads there, for sending, which only `begin_attempt` enters, and where the run was claimed again by
        hand since `claimed_at`; None: whoever did.
        """
        return await self._writer.do(Settle(run_id, at, next_step, claimed_at))

    async def claim_by_hand(self, row: NewRun, action: Action) -> Run:
        """Claim a run that a person wants, of origin manual or backfill, and record the action; return it.

        Where a run of the same schedule, fire time and origin has failed, it is gone on with: it becomes
        waiting, to be sent at once (`retry.is_unsent`), with as many attempts more as the row says, and all
        else of the row. Raises LedgerRefusal where a run of this flow, target and fire time has made the
        instance, or may do so, as EnOS would refuse a second one; where a run of the same key was triggered
        for another flow; and for a row that is not claimed, or of an automatic origin. Moves no cursor. What
        comes later and would be a second one of that flow and minute is a collision (`claim`).

        Found done is what the same daemon has claimed at the same instant, however it stands by now.
        """

        def write(books: Books) -> Run:
            run = books.by_hand.claim(row)
            detail = ", ".join(filter(None, (f"run {run.id}", action.detail)))
            books.actions.record(replace(action, detail=detail))
            return run

        return await self._writer.do(write)

    async def resolve(
        self, run_id: int, at: datetime, next_step: NextStep, action: Action | None = None
    ) -> Run:
        """Settle by hand a run that is in doubt, as triggered or failed; return the run, as `settle` does.

        Records the action with it, if there is one. Raises LedgerRefusal, which says how the run stands,
        where it is not in doubt, and for another state.
        """

        def write(books: Books) -> Run:
            run = books.runs.resolve(run_id, at, next_step)
            if action is not None:
                books.actions.record(action)
            return run

        return await self._writer.do(write)

    async def cancel(self, run_id: int, at: datetime, reason: str, action: Action) -> Run:
        """End a run that is claimed or waiting as failed, and record the action; return the run.

        Raises LedgerRefusal, which says how the run stands, for any other.
        """

        def write(books: Books) -> Run:
            run = books.runs.cancel(run_id, at, reason)
            books.actions.record(action)
            return run

        return await self._writer.do(write)

    async def pause(self, scope: Scope, name: str | None, until: datetime | None, action: Action) -> Pause:
        """Set a pause from the instant of the action on, and record the action; return the pause.

        `name` is the schedule's id or the target's name, None exactly for all; `until` is when it ends by
        itself, exclusive, None: never. It replaces those of the same scope and name that are not over.
        Its reason is the action's, which must not be None.
        """
        return await self._writer.do(lambda books: books.actions.pause(scope, name, until, action))

    async def resume(self, scope: Scope, name: str | None, action: Action) -> list[Pause]:
        """End the pauses of a scope and name at the instant of the action, and return them as they are then.

        Also those that began after it, by a clock that was set back since. The action is recorded where there
        were any.
        """
        return await self._writer.do(lambda books: books.actions.resume(scope, name, action))

    async def keep_messages(self, messages: Sequence[Message]) -> list[int]:
        """Write messages as they stand now, new ones and others; return their ids, in the order given."""
        return await self._writer.do(lambda books: books.outbox.keep(messages))

    async def record_action(self, action: Action) -> None:
        """Record what a person has done that changes nothing else in the ledger."""
        await self._writer.do(lambda books: books.actions.record(action))

    async def ping(self) -> None:
        """Return when both threads have answered; raises LedgerError where one did with trouble.

        Also where something could not be written since the last ping, though other things were since: a full
        disk refuses what is big first. Nothing is locked as long as all that had to be written was. After it
        was not, something is written that changes nothing: so the trouble is told until it is over, also
        where nobody else writes.
        """
        trouble, self._writer.trouble = self._writer.trouble, None
        written = self._writer.do(lambda books: books.touch()) if trouble else self._writer.answers()
        answers = await asyncio.gather(super().ping(), written, return_exceptions=True)
        for error in (*answers, trouble):
            if isinstance(error, BaseException):
                raise error

    async def record_watch(
        self, run_id: int, at: datetime, state: FlowState, sighting: Sighting | None
    ) -> Watch:
        """Record what is known of a watched flow at `at`; return the watch. What is not `going` is final.

        Status, start and end of the sighting are written where it has them, and stay as they are otherwise.
        Raises LedgerRefusal for a run that is not watched, and for a flow that is not going any more.
        """
        return await self._writer.do(lambda books: books.watches.record(run_id, at, state, sighting))

    async def forget(self, before: datetime, most: int) -> int:
        """Remove at most `most` final runs with a fire time before `before`, oldest first; return how many.

        Their attempts and watches go with them. A run whose flow is still watched stays, and so does the
        one with the highest number, which would be given again. Where no more are left to remove, the terms
        that ended before `before` are removed too, and so are messages with alerts of that time, and at most
        `most` actions and pauses that were over by then. From then on `kept_from` is `before`, or what it was
        if that is later. To be called again until it returns less than `most`.
        """
        return await self._writer.do(lambda books: books.retention.forget(before, most))

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
