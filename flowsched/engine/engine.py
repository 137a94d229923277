"""Decides what has come due, and claims it in the ledger; then it is somebody's to carry.

When an alarm rings, the fire times between each schedule's cursor and now are computed, decided by
`admission` and claimed, all that share a timing at once. Before one that is deferred the cursor stays
until it goes out.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from flowsched import blackouts, timeline
from flowsched.admission import (
    ON_TIME,
    OTHER_BLACKOUT,
    Admitted,
    Difference,
    Due,
    Pauses,
    admit,
    changed,
    cut_off,
    inheritors,
    is_over,
    pause_over,
    pause_reason,
    paused,
)
from flowsched.engine.alarms import Alarm, Executor, Scheduler, alarms_of, calendars_of
from flowsched.engine.outlook import Outlook, first_out
from flowsched.engine.queue import ClaimQueue
from flowsched.enos import milliseconds, predicted_instance
from flowsched.errors import LedgerError, LedgerUnusable
from flowsched.ledger import LEDGER_PAUSE
from flowsched.model import Catalog, Cursor, NewRun, Origin, Overlap, RetryPolicy, RunState, Source
from flowsched.retry import APART
from flowsched.threads import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from flowsched.clock import Clock
    from flowsched.engine.outlook import Stand
    from flowsched.ledger import Ledger
    from flowsched.model import Pause, Run, Schedule, Term, Then, Timing, Upcoming
    from flowsched.timeline import Stay

log = logging.getLogger(__name__)

T = TypeVar("T")

FAULT_PAUSE = 60.0
"""Seconds until what a fault of ours has stopped is tried again."""

MOST_ROWS = 250
"""About so many rows are claimed at once, so that a long backlog neither stops the loop nor fills it, and the
first of thousands are sent while the others are still being claimed."""

MOST_CHANGED = 1_000
"""Where more schedules than that are others in a new catalog, all are looked at anew."""

_NO_RETRY = RetryPolicy(
    max_attempts=0,
    initial_backoff=timedelta(0),
    multiplier=1,
    max_backoff=timedelta(0),
    deadline=timedelta(0),
    attempt_timeout=timedelta(0),
)
"""Of a run that is never sent, and whose schedule is known no more."""


@dataclass(slots=True)
class _Pass:
    """One pass over schedules whose alarms have rung: all that has come by `until`."""

    until: datetime
    alarms: Mapping[Timing, Alarm] = field(default_factory=dict)
    """Those that have worked out fire times around now; a timing may have none."""
    came: dict[tuple[Timing, datetime], list[Due]] = field(default_factory=dict)
    """The fires after a cursor, worked out once for all who share timing and cursor."""
    queued: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many runs of a flow (by target and id) are caught up; they go one by one."""
    late: Counter[RunState] = field(default_factory=Counter)
    """How many fires were not claimed on time: caught up (claimed), or missed."""
    stays: dict[tuple[Timing, tuple[str, ...], Then, datetime], Stay | None] = field(default_factory=dict)
    """What a blackout does with a fire, worked out once for all who share timing and blackout."""

    def came_after(self, timing: Timing, cursor: datetime) -> list[Due]:
        """Return what came after `cursor`, due without jitter; at most one more than is taken at once."""
        came = self.came.get((timing, cursor))
        if came is None:
            alarm = self.alarms.get(timing) or Alarm(timing)
            times = alarm.came(cursor, self.until, MOST_ROWS + 1)
            came = self.came[timing, cursor] = [Due(at, at) for at in times]
        return came

    def under_blackout(self, schedule: Schedule, due: Iterable[Due]) -> tuple[list[Due], datetime | None]:
        """Return what becomes of each up to the first that is deferred, and when that one goes out."""
        going: list[Due] = []
        for each in due:
            stay = self.stay(schedule, each.fire_time)
            if stay is not None and stay.until is not None and stay.until > self.until:
                return going, stay.until
            going.append(_under(stay, schedule, each))
        return going, None

    def has_more(self, schedule: Schedule, after: datetime, pauses: Sequence[Pause]) -> bool:
        """Tell whether a fire later than `after` is to go out by `until`, and no pause leaves it out."""
        if not all(is_over(pause, self.until) for pause in pauses):
            return False
        while (first := first_out(schedule, after)) is not None and first.goes_out <= self.until:
            pause = pause_over(first.fire_time, pauses)
            if pause is None:
                return True
            assert pause.over_at is not None  # noqa: S101 - it is over
            after = pause.over_at - timedelta.resolution
        return False

    def stay(self, schedule: Schedule, fire_time: datetime) -> Stay | None:
        """Return what the blackout of a schedule does with a fire; None: nothing."""
        if schedule.blackout is None:
            return None
        key = (schedule.timing, calendars_of(schedule.blackout), schedule.blackout.then, fire_time)
        if key not in self.stays:
            self.stays[key] = timeline.stay(schedule, fire_time)
        return self.stays[key]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is to be written at once: a row for each fire time, and where the cursors then stand."""

    rows: list[NewRun]
    cursors: list[Cursor]


@dataclass(frozen=True, slots=True)
class _Edit:
    """A catalog on its way to be put in force."""

    catalog: Catalog
    at: datetime
    terms: Sequence[Term]
    """Those in force, and of each schedule the one that ended last, as far as they matter here."""
    since: Difference | None
    """What is another in it than in the catalog in force; None: maybe all."""

    @property
    def among(self) -> frozenset[str] | None:
        """The ids of the schedules that matter; None: all do."""
        return None if self.since is None else self.since.ids

    def heirs(self) -> dict[str, Term]:
        """Return the terms in which schedules that matter go on, by the id of the schedule."""
        return inheritors(self.terms, self.catalog.schedules, self.among)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """The next fires of all, as they were found at an instant."""

    at: datetime
    count: int
    found: list[Upcoming]

    def holds(self, now: datetime, count: int) -> bool:
        """Tell whether the first so many are the same by now, as far as only time has passed."""
        return count <= self.count and bool(self.found) and self.at <= now < self.found[0].out_at


class Engine:
    """Wakes at each fire time, claims what is due, and hands each new run to `start`."""

    def __init__(self, ledger: Ledger, start: Callable[[Run], None], clock: Clock, daemon: str) -> None:
        self._ledger = ledger
        self._daemon = daemon
        self._start = start
        self._clock = clock
        self._catalog = Catalog({}, "")
        self._alarms: dict[Timing, Alarm] = {}
        self._cursors: dict[str, Cursor] = {}
        self._outlook = Outlook()
        self._ahead: _Ahead | None = None
        """The latest look ahead; None where something has moved since."""
        self._pauses = Pauses()
        self._pauses_known = True
        """Whether `_pauses` has what is in the ledger; nothing is claimed while it may not."""
        self._changes: set[asyncio.Task[object]] = set()
        self._unheard = False
        """Whether the latest claim may have been made without an answer."""
        self._claims = ClaimQueue(self._claim_until, clock)
        self._scheduler = Scheduler(clock, Executor(lambda alarm: self._claims.want(alarm.timing)))

    async def apply(self, catalog: Catalog) -> None:
        """Put a catalog in force at this instant, and deal with all that came due before it.

        Where a timing ends, what has come just now is still fired, and what came before and was not fired
        is recorded as missed. So it is where a timing goes on under another blackout than it was under last,
        but for what that one skips, or still defers. The cursors of the timings that go on say since when
        there is something to catch up. Raises LedgerError where the ledger cannot be read or changed just
        now; what was in force stays in force.
        """
        async with self._claims.paused():
            at = self._clock.now()
            await self._start_what_was_claimed_unheard()
            since = await self._difference(catalog)
            terms = await self._ledger.standing_terms(None if since is None else since.ids)
            in_force = (term.cursor_at for term in terms if term.until_at is None)
            known = () if since is None else (cursor.at for cursor in self._cursors.values())
            await self._read_pauses(at, itertools.chain(in_force, known))
            edit = _Edit(catalog, at, terms, since)
            former = self._alarms
            # First, as a fault of ours in there leaves everything as it was.
            alarms, outlook = await in_a_thread(self._alarms_and_outlook, edit)
            await self._close(edit)
            cursors = await self._put_in_force(edit)
            self._catalog = catalog
            self._cursors = cursors
            self._alarms = alarms
            self._outlook, self._ahead = outlook, None
            await self._follow_pauses()
            self._warn_of_the_future()
            await self._scheduler.put(alarms.values())
        for timing, alarm in alarms.items():
            if former.get(timing) is not alarm:
                self._claims.want(timing)

    def next_fire(self) -> datetime | None:
        """Return when the next fire of all goes out; None when no schedule ever fires again."""
        first = self.upcoming(1)
        return first[0].out_at if first else None

    def upcoming(self, count: int) -> list[Upcoming]:
        """Return the next fire after now of each schedule, as they go out, by id where it is at once.

        The first `count` of them; jitter is not in it. What a fault of flowsched, or of a calendar, keeps
        from being known is not among them.
        """
        now = self._clock.now()
        if self._ahead is None or not self._ahead.holds(now, count):
            found = self._outlook.upcoming(self._cursors, self._pauses, now, count)
            self._ahead = _Ahead(now, count, found)
        return self._ahead.found[:count]

    def overdue(self, grace: timedelta) -> dict[str, datetime]:
        """Return the schedules with a fire that should have been claimed more than `grace` ago and was not.

        With each, when the first such fire was to go out; where that cannot be known, up to when all is
        accounted for. Empty as long as all is well, but for the time that it takes to catch up after a start,
        or after a step of the clock.
        """
        return self._outlook.overdue(self._cursors, self._clock.now() - grace)

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """The pauses that count for what is still to be decided, in the order in which they were set."""
        return self._pauses.known

    async def change_pauses(self, write: Callable[[], Awaitable[T]]) -> T:
        """Have `write` change the pauses in the ledger while nothing is claimed; they count from then on.

        `write` is carried out to its end, also where the caller is cancelled. It should read the clock for
        the instant of the change itself: up to when it is called, fires may be claimed. Raises what it
        raises. Whatever comes of it, nothing is claimed before it is known what the ledger has.
        """
        change = asyncio.create_task(self._change_pauses(write))
        self._changes.add(change)
        change.add_done_callback(self._changed)
        await asyncio.wait({change})
        return change.result()

    @property
    def woke_at(self) -> float:
        """When the alarms were last looked at, by the monotonic clock; they are every `alarms.LOOK_AGAIN`."""
        return self._scheduler.woke_at

    async def stop(self) -> None:
        """Ring no more, and hand out no further run.

        A claim that is just being written is written all the same, and taken up at the next start.
        """
        self._scheduler.stop()
        await self._claims.stop()
        await asyncio.gather(*self._changes, return_exceptions=True)

    def _changed(self, change: asyncio.Task[object]) -> None:
        self._changes.discard(change)
        if not change.cancelled():
            change.exception()  # whoever asked may be gone, and then nobody else would look at it

    async def _change_pauses(self, write: Callable[[], Awaitable[T]]) -> T:
        async with self._claims.paused():
            self._pauses_known = False
            try:
                return await write()
            finally:
                await self._ask_for_pauses()

    async def _follow_pauses(self) -> None:
        """Know by which ids pauses go now: those of a schedule that was renamed have gone with it."""
        before = {pause.id: pause.name for pause in self._pauses.known}
        self._pauses_known = False
        await self._ask_for_pauses()
        for pause in self._pauses.known:
            former = before.get(pause.id, pause.name)
            if pause.name != former:
                extra = {"schedule": pause.name, "former": former, "reason": pause.reason, "by": pause.by}
                log.warning("pause goes with its schedule, which was renamed", extra=extra)

    async def _ask_for_pauses(self) -> None:
        """Read the pauses anew; where the ledger does not tell, before anything is claimed."""
        try:
            await self._read_pauses_anew()
        except LedgerError as error:
            log.error(  # noqa: TRY400 - the text says it all
                "ledger would not tell of the pauses, so nothing is fired; trying again",
                extra={"error": str(error)},
            )
            self._claims.look()

    async def _read_pauses_anew(self) -> None:
        await self._read_pauses(self._clock.now(), (cursor.at for cursor in self._cursors.values()))

    async def _read_pauses(self, at: datetime, cursors: Iterable[datetime]) -> None:
        """Read the pauses that may cover a fire that is still to be decided about. Raises LedgerError."""
        self._pauses = Pauses(await self._ledger.pauses(min([at, *cursors])))
        self._pauses_known, self._ahead = True, None

    def _under_pauses(self, schedule: Schedule, due: list[Due], now: datetime) -> list[Due]:
        """Return the fires with why a pause leaves them out, where one does."""
        pauses = self._pauses.of(schedule)
        if not pauses:
            return due
        return [
            each if each.skip else each._replace(skip=paused(each.fire_time, now, pauses)) for each in due
        ]

    def _warn_of_the_future(self) -> None:
        now = self._clock.now()
        ahead = {id_: cursor.at for id_, cursor in self._cursors.items() if cursor.at > now + ON_TIME}
        if ahead:
            log.error(
                "the ledger is ahead of the clock, which was wrong then or is wrong now; "
                "schedules fire again only when the clock has caught up",
                extra={"schedules": len(ahead), "until": max(ahead.values())},
            )

    async def _difference(self, catalog: Catalog) -> Difference | None:
        """Return what is another in a catalog than in the one in force; None: all is to be looked at anew.

        So it is where none is in force here, where much is another, and where the ledger has something else.
        """
        if not self._catalog.revision:
            return None
        ids = await in_a_thread(changed, self._catalog.schedules, catalog.schedules)
        since = Difference(self._catalog.revision, self._cursors, ids)
        return since if len(ids) <= MOST_CHANGED and await self._ledger.stands(since) else None

    def _alarms_and_outlook(self, edit: _Edit) -> tuple[dict[Timing, Alarm], Outlook]:
        """Return the alarms of a catalog, and its outlook, with what follows the cursors as they will be.

        What is no other in it is taken as it is. To be called in a thread: changes nothing.
        """
        before, after, ids = self._catalog.schedules, edit.catalog.schedules, edit.among
        if ids is None:
            alarms, known = alarms_of(after.values()), None
        else:
            gone = [before[id_] for id_ in ids if id_ in before]
            alarms = alarms_of([after[id_] for id_ in ids if id_ in after], self._alarms, gone)
            known = self._outlook
        outlook = Outlook(alarms.values(), known)
        heirs = edit.heirs()

        def stand_of(id_: str) -> Stand:
            if ids is not None and id_ not in ids:
                return self._cursors[id_].at, self._cursors[id_].deferred_until
            return (heirs[id_].cursor_at, heirs[id_].deferred_until) if id_ in heirs else (edit.at, None)

        outlook.look(stand_of)
        return alarms, outlook

    async def _put_in_force(self, edit: _Edit) -> dict[str, Cursor]:
        """Have the ledger apply the catalog; where one is in force, until it is known to have done so.

        A call that failed may have been carried out: then what is in force here would not be what is there.
        """
        while True:
            try:
                return await self._ledger.apply(edit.catalog, edit.at, edit.since)
            except LedgerUnusable:
                raise
            except LedgerError as error:
                if not self._catalog.revision:
                    raise
                log.error(  # noqa: TRY400 - the text says it all
                    "ledger would not take the catalog, so nothing is fired; trying again",
                    extra={"error": str(error)},
                )
                await self._clock.sleep(LEDGER_PAUSE)

    async def _close(self, edit: _Edit) -> None:
        """Deal with what came, up to the edit, under timings that do not go on, and under blackouts."""
        catalog, at = edit.catalog, edit.at
        other_blackouts, ending = await in_a_thread(_to_close, edit)
        for due in self._under_other_blackouts(other_blackouts, catalog, at):
            self._start_all(await self._ledger.claim(due.rows, due.cursors))
        for term in map(partial(_completed, catalog), ending):
            if term.flow is None:
                continue
            if timeline.is_readable(term.timing):
                await self._close_term(term, catalog, at)
            else:
                log.error(
                    "a timing that was in force cannot be read any more; what it had due is not known",
                    extra={
                        "schedule": term.schedule_id,
                        "cron": term.timing.cron,
                        "timezone": term.timing.timezone,
                        "since": term.cursor_at,
                    },
                )

    def _under_other_blackouts(
        self, heirs: Mapping[str, Term], catalog: Catalog, at: datetime
    ) -> Iterator[_Rows]:
        """Yield what came of these heirs' terms under their former blackouts, about MOST_ROWS at once."""
        due, pass_ = _Rows([], []), _Pass(at, self._alarms)
        for id_, term in heirs.items():
            for some in self._under_other_blackout(term, catalog.schedules[id_], catalog, pass_):
                due.rows.extend(some.rows)
                due.cursors.extend(some.cursors)
                if len(due.rows) >= MOST_ROWS:
                    yield due
                    due = _Rows([], [])
        if due.rows:
            yield due

    def _under_other_blackout(
        self, term: Term, schedule: Schedule, catalog: Catalog, pass_: _Pass
    ) -> Iterator[_Rows]:
        """Yield what came of a term up to the pass, as the blackout of the new schedule has it.

        It ends before what that one still defers.
        """
        schedule = replace(schedule, id=term.schedule_id)  # as a rename takes nothing over but what is left
        cursor, more = term.cursor_at, True
        while more:
            came = [each.fire_time for each in pass_.came_after(schedule.timing, cursor)[:MOST_ROWS]]
            try:
                decided = list(self._decided(schedule, came, pass_))
            except Exception:
                # An edit must be able to come into force; these fires stay with their claims.
                log.critical(
                    "not known which fires another blackout leaves out, by a fault of flowsched",
                    exc_info=True,
                    extra={"schedule": term.schedule_id},
                )
                return
            if decided:
                cursor = decided[-1][0]
                rows = [
                    self._row(schedule, decision, pass_.until, Counter(), catalog.revision)
                    if decision
                    else self._cut_off_row(term, fire_time, OTHER_BLACKOUT, catalog)
                    for fire_time, decision in decided
                ]
                yield _Rows(rows, [Cursor(term.schedule_id, term.timing, cursor)])
            more = bool(decided) and len(decided) == len(came)

    async def _close_term(self, term: Term, catalog: Catalog, at: datetime) -> None:
        cursor = term.cursor_at
        deferred = term.deferred_until is not None and term.deferred_until > at
        if term.deferred_until is not None and not Alarm(term.timing).came(cursor, at, 1):
            log.error(
                "a fire was deferred by other time zone data than this machine has; it is not fired",
                extra={"schedule": term.schedule_id, "since": cursor, "until": term.deferred_until},
            )
        while fire_times := Alarm(term.timing).came(cursor, at, MOST_ROWS):
            cursor = fire_times[-1]
            # Looks through the catalog for an heir: not to be asked for each of many terms that owe nothing.
            reason = cut_off(term.schedule_id, catalog.schedules, deferred=deferred)
            rows = self._last_rows(term, fire_times, reason, catalog, at)
            cursors = [Cursor(term.schedule_id, term.timing, cursor)]
            self._start_all(await self._ledger.claim(rows, cursors))

    def _last_rows(
        self, term: Term, fire_times: Sequence[datetime], reason: str, catalog: Catalog, at: datetime
    ) -> list[NewRun]:
        """Return the rows of fire times whose timing ends: fired if it is to go out just now, or missed.

        What a blackout leaves out is skipped.
        """
        schedule = self._catalog.schedules.get(term.schedule_id)
        try:
            decided = {
                each: schedule and self._last_decision(schedule, each, timeline.stay(schedule, each), at)
                for each in fire_times
            }
        except Exception:
            # An edit must be able to end what is at fault.
            log.critical(
                "last fire of a schedule missed by a fault of flowsched",
                exc_info=True,
                extra={"schedule": term.schedule_id, "fire_times": len(fire_times)},
            )
            decided = dict.fromkeys(fire_times)
        return [
            self._row(schedule, decision, at, Counter(), self._catalog.revision)
            if schedule and decision
            else self._cut_off_row(term, fire_time, reason, catalog)
            for fire_time, decision in decided.items()
        ]

    async def _claim_until(self, timings: Iterable[Timing], until: datetime) -> bool:
        """Claim all that has come by `until`, schedule by schedule.

        False, after a pause, where something stood in the way: then it is to be done again, with a new
        `until`, for what has come meanwhile may make all the difference.
        """
        sharers = (self._alarms[timing].schedules for timing in timings if timing in self._alarms)
        by_id = heapq.merge(*sharers, key=attrgetter("id"))
        pass_ = _Pass(until, self._alarms)
        try:
            await self._start_what_was_claimed_unheard()
            if not self._pauses_known:
                await self._read_pauses_anew()
            while batch := list(itertools.islice(by_id, MOST_ROWS)):
                while batch:
                    await asyncio.sleep(0)  # the loop's others do not wait for the whole pass
                    due, batch = self._due(batch, pass_)
                    if due.cursors:
                        if self._clock.now() < until:
                            # Set back meanwhile: what had come by the clock as it was may be yet to come.
                            return False
                        runs = await self._claim(due)
                        pass_.late.update(run.state for run in runs if _is_late(run))
        except LedgerError as error:
            log.error(  # noqa: TRY400 - the text says it all
                "ledger would not take the claims, so nothing is fired; trying again",
                extra={"error": str(error)},
            )
            await self._clock.sleep(LEDGER_PAUSE)
            return False
        except Exception:
            # Nobody else would look at these fires before their alarms ring again, perhaps tomorrow.
            log.critical("claim stopped by a fault of flowsched; trying again", exc_info=True)
            await self._clock.sleep(FAULT_PAUSE)
            return False
        if pass_.late:
            caught_up, missed = pass_.late[RunState.CLAIMED], pass_.late[RunState.MISSED]
            log.warning("fires were late", extra={"caught_up": caught_up, "missed": missed})
        return True

    async def _claim(self, due: _Rows) -> list[Run]:
        """Have the ledger take the rows, start what came of them, and return it. Raises LedgerError."""
        self._unheard = True
        runs = await self._ledger.claim(due.rows, due.cursors)
        self._unheard = False
        for cursor in due.cursors:
            before, self._cursors[cursor.schedule_id] = self._cursors[cursor.schedule_id], cursor
            if before.deferred_until is not None or cursor.deferred_until is not None:
                self._ahead = None  # what is looked at ahead begins after now, unless something is held
            if cursor.deferred_until is not None:
                extra = {"schedule": cursor.schedule_id, "until": cursor.deferred_until}
                log.info("fire deferred by a blackout", extra=extra)
        # The log tells of them in this order, whichever schedule they are of.
        self._start_all(sorted(runs, key=attrgetter("fire_time")))
        return runs

    def _start_all(self, runs: Iterable[Run]) -> None:
        """Hand the runs out in this order, without a pause: whoever is told of one is told of all.

        A stop in between would leave some untold for ever, and a cancellation by hand would be told first.
        One that cannot be handed out, by a fault of ours, holds up no other, and comes again a while later.
        """
        for run in runs:
            try:
                self._start(run)
            except Exception:
                log.critical(
                    "run not handed out, by a fault of flowsched; trying again",
                    exc_info=True,
                    extra={"schedule": run.schedule_id, "run": run.id},
                )
                self._claims.after(FAULT_PAUSE, partial(self._start_all, [run]))

    async def _start_what_was_claimed_unheard(self) -> None:
        """Start what a claim has made whose answer was lost, and go on from where its cursors stand.

        The claim cannot just be repeated: by now other fire times may be due, and the same ones decided
        otherwise. Raises LedgerError.
        """
        if not self._unheard:
            return
        terms = await self._ledger.terms_in_force()
        for id_, cursor in self._cursors.items():
            if id_ in terms:
                at, deferred_until = terms[id_].cursor_at, terms[id_].deferred_until
                self._cursors[id_] = replace(cursor, at=at, deferred_until=deferred_until)
        self._start_all(
            run
            for run in await self._ledger.open_runs()
            if run.daemon == self._daemon and run.state is RunState.CLAIMED and not run.attempts
        )
        self._unheard, self._ahead = False, None

    def _due(self, batch: Sequence[Schedule], pass_: _Pass) -> tuple[_Rows, list[Schedule]]:
        """Return what the batch has due, decided at this instant; about MOST_ROWS of it at most.

        And those of the batch, in their order, that may have more due than that.
        """
        now = self._clock.now()
        due = _Rows([], [])
        left: list[Schedule] = []
        for number, schedule in enumerate(batch):
            if len(due.rows) >= MOST_ROWS:
                return due, [*left, *batch[number:]]
            try:
                if self._add_due(due, schedule, pass_, now):
                    left.append(schedule)
            except Exception:
                # The others of the batch are not to wait for it.
                log.critical(
                    "no fires of a schedule, by a fault of flowsched; trying again",
                    exc_info=True,
                    extra={"schedule": schedule.id},
                )
                self._claims.want_after(FAULT_PAUSE, schedule.timing)
        return due, left

    def _add_due(self, due: _Rows, schedule: Schedule, pass_: _Pass, now: datetime) -> bool:
        """Add what a schedule has due; tell whether it has more than is taken at once."""
        cursor = self._cursors[schedule.id]
        came = pass_.came_after(schedule.timing, cursor.at)
        if not came:
            return False
        going, deferred_until = _with_jitter(schedule, came)[:MOST_ROWS], None
        if schedule.blackout is not None:
            going, deferred_until = pass_.under_blackout(schedule, going)
        # After one that is deferred beyond now, none goes out by now.
        cut = deferred_until is None and len(came) > MOST_ROWS
        more = cut and pass_.has_more(schedule, going[-1].fire_time, self._pauses.of(schedule))
        going = self._under_pauses(schedule, going, now)
        decisions = admit(schedule, going, now, more=more)
        revision = self._catalog.revision
        due.rows.extend([self._row(schedule, each, now, pass_.queued, revision) for each in decisions])
        if going or deferred_until != cursor.deferred_until:
            at = going[-1].fire_time if going else cursor.at
            due.cursors.append(Cursor(schedule.id, schedule.timing, at, deferred_until))
        return cut

    def _row(
        self,
        schedule: Schedule,
        decision: Admitted,
        now: datetime,
        queued: Counter[tuple[str, int]],
        revision: str,
    ) -> NewRun:
        assert schedule.target is not None  # noqa: S101 - a catalog is loaded with settings here
        time_to_send = schedule.retry.deadline
        if decision.origin is Origin.CATCH_UP:
            # Each run of the flow that is caught up before it may take its whole time, and its distance.
            queued[schedule.target, schedule.flow] += 1
            if queued[schedule.target, schedule.flow] > 1:
                time_to_send = queued[schedule.target, schedule.flow] * max(time_to_send, APART)
        return NewRun(
            schedule_id=schedule.id,
            fire_time=decision.fire_time,
            origin=decision.origin,
            state=decision.state,
            reason=decision.reason,
            target=schedule.target,
            flow=schedule.flow,
            task=schedule.task,
            predicted_instance=predicted_instance(schedule.flow, milliseconds(decision.fire_time)),
            due_at=decision.due_at,
            retry=schedule.retry,
            deadline=max(now, decision.due_at) + time_to_send,
            overlap=schedule.overlap,
            overlap_fallback=schedule.overlap_fallback,
            watch=schedule.watch,
            note=decision.note,
            revision=revision,
            source=schedule.source,
            daemon=self._daemon,
            claimed_at=now,
        )

    def _decided(
        self, schedule: Schedule, came: Iterable[datetime], pass_: _Pass
    ) -> Iterator[tuple[datetime, Admitted | None]]:
        """Yield the last decision about each fire time up to the first that is deferred beyond the pass."""
        for fire_time in came:
            stay = pass_.stay(schedule, fire_time)
            if stay is not None and stay.until is not None and stay.until > pass_.until:
                return
            yield fire_time, self._last_decision(schedule, fire_time, stay, pass_.until)

    def _last_decision(
        self, schedule: Schedule, fire_time: datetime, stay: Stay | None, at: datetime
    ) -> Admitted | None:
        """Decide about a fire time that an edit at `at` would cut off; None: it does."""
        out_at = stay.until if stay else fire_time
        covered = pause_over(fire_time, self._pauses.of(schedule)) is not None
        if not covered and out_at is not None and not timedelta(0) <= at - out_at <= ON_TIME:
            return None
        (due,) = _with_jitter(schedule, [Due(fire_time, fire_time)])
        going = self._under_pauses(schedule, [_under(stay, schedule, due)], at)
        (decision,) = admit(schedule, going, at)
        return decision

    def _cut_off_row(self, term: Term, fire_time: datetime, reason: str, catalog: Catalog) -> NewRun:
        """Return the row of a fire time whose schedule is known by its term only."""
        assert term.flow is not None and term.target is not None  # noqa: S101, PT018 - the caller looked
        now = self._clock.now()
        pause = pause_over(fire_time, self._pauses.of_term(term))
        return NewRun(
            schedule_id=term.schedule_id,
            fire_time=fire_time,
            origin=Origin.SCHEDULE,
            state=RunState.MISSED if pause is None else RunState.SKIPPED,
            reason=reason if pause is None else pause_reason(pause),
            target=term.target,
            flow=term.flow,
            task=term.task,
            predicted_instance=predicted_instance(term.flow, milliseconds(fire_time)),
            due_at=fire_time,
            retry=_NO_RETRY,
            deadline=now,
            overlap=Overlap.QUEUE,
            overlap_fallback=Overlap.QUEUE,
            watch=None,
            revision=catalog.revision,
            source=Source("", 0),
            daemon=self._daemon,
            claimed_at=now,
        )


def _to_close(edit: _Edit) -> tuple[dict[str, Term], list[Term]]:
    """Return the terms that go on under another blackout, by the id of their heir, and those that end."""
    heirs, terms, catalog = edit.heirs(), edit.terms, edit.catalog
    kept = {term.schedule_id for term in heirs.values()}
    other_blackouts = {
        id_: term
        for id_, term in heirs.items()
        if term.blackout is not None and term.blackout != blackouts.digest(catalog.schedules[id_].blackout)
    }
    return other_blackouts, [term for term in terms if term.until_at is None and term.schedule_id not in kept]


def _completed(catalog: Catalog, term: Term) -> Term:
    """Return a term that an old version has recorded without its flow with that of the schedule's now."""
    schedule = catalog.schedules.get(term.schedule_id)
    if term.flow is not None or schedule is None:
        return term
    return replace(term, target=schedule.target, flow=schedule.flow, task=schedule.task)


def _is_late(run: Run) -> bool:
    if run.state is RunState.CLAIMED:
        return run.claimed_at - run.due_at > ON_TIME
    return run.state is RunState.MISSED


def _under(stay: Stay | None, schedule: Schedule, due: Due) -> Due:
    """Return what becomes of a fire by what a blackout does with it, once it is not deferred any more."""
    if stay is None:
        return due
    if stay.until is None:
        return due._replace(skip=stay.reason)
    following = next(timeline.fire_times(schedule.timing, due.fire_time), None)
    due_at = timeline.due_time(schedule, stay.until, following)
    return Due(due.fire_time, due_at, note=f"deferred, {stay.reason}")


def _with_jitter(schedule: Schedule, came: list[Due]) -> list[Due]:
    """Return successive fires, each with the instant at which it is due."""
    if not schedule.jitter:
        return came
    times = [each.fire_time for each in came]
    following = [*times[1:], next(timeline.fire_times(schedule.timing, times[-1]), None)]
    return [
        each._replace(due_at=timeline.due_time(schedule, each.fire_time, next_))
        for each, next_ in zip(came, following, strict=True)
    ]
