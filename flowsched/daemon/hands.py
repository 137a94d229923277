"""What people do by hand, beside what the schedules do; each of it is an action in the ledger."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import groupby, islice, takewhile
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flowsched import timeline
from flowsched.admission import Pauses, is_over, paused
from flowsched.control.history import look_up
from flowsched.control.words import no_run, subject_of
from flowsched.daemon import by_hand
from flowsched.daemon.reading import read_settled
from flowsched.enos import calls_for
from flowsched.errors import (
    ConfigError,
    ControlRefusal,
    FlowschedError,
    LedgerError,
    LedgerRefusal,
    LedgerUnusable,
    NoDaemon,
    quoted,
)
from flowsched.events import PausesChanged, nobody
from flowsched.ledger import LEDGER_PAUSE
from flowsched.model import SHORT, Action, ActionKind, NextStep, Origin, Outcome, Phase, RunState, Scope
from flowsched.near import did_you_mean
from flowsched.ops.logs import stamp
from flowsched.runner.overlap import CANCEL_TIMEOUT
from flowsched.threads import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.control.history import RunsFound, RunsWanted
    from flowsched.daemon.disk import Disk
    from flowsched.events import Tell
    from flowsched.ledger import Ledger
    from flowsched.model import (
        AppliedCatalog,
        Catalog,
        Health,
        NewRun,
        Pause,
        Reload,
        Run,
        Schedule,
        Settings,
        Status,
    )
    from flowsched.runner import Gateway, Runner

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_FIRES = 10_000
"""Of one range: of a flow a minute apart that is a week."""

MOST_LOOKED_AT = 500_000
"""Fire times of one range, those included that are left out: of a schedule that fires each minute a year."""

END_WITHIN = 5.0
"""Real seconds that what is going on gets to end when the hands are closed."""

RECORD_WITHIN = 2.0
"""Real seconds that what was broken off then gets to be recorded."""

_AT_ONE_TIME = timedelta(milliseconds=1)
"""In which no more is triggered than instants differ; further back, the clock was set."""

_AT_ONCE = 500
"""Fire times that the ledger is asked about at once."""

_KINDS = {Origin.MANUAL: ActionKind.TRIGGER, Origin.BACKFILL: ActionKind.BACKFILL}


class Pausing(Protocol):
    """Whatever must know of pauses before they count; `engine.Engine` is one."""

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """The pauses that it knows of; some of them may be over."""

    async def change_pauses(self, write: Callable[[], Awaitable[T]]) -> T:
        """Have `write` change the pauses in the ledger while nothing is claimed."""


class Shift(Protocol):
    """What the hands work on; a `Daemon` is one, and so is what a command has without one."""

    @property
    def name(self) -> str:
        """As the runs that it claims have it."""

    @property
    def phase(self) -> Phase:
        """Where in its life it is."""

    @property
    def catalog(self) -> Catalog:
        """The catalog in force. Raises ConfigError where there is none that can be used."""

    @property
    def runner(self) -> Runner:
        """Carries what is triggered."""

    @property
    def engine(self) -> Pausing:
        """Claims what is due."""


class Readings(Protocol):
    """Reads the schedules anew; `Reloads` is one."""

    def ask(self, why: str) -> asyncio.Future[Reload]:
        """Have them read; the future says what came of it."""


async def revision_on_disk(disk: Disk, settings: Settings) -> str:
    """Return the revision of what the schedule files are now. Raises ConfigError, and Unanswered."""
    reading = await disk.ask(partial(read_settled, settings))
    if reading.catalog is None:
        raise ConfigError(reading.problems)
    return reading.catalog.revision


class Hands:
    """Does what `control.Wheel` names; the contracts are there."""

    def __init__(  # noqa: PLR0913 - all that hands are laid on
        self,
        shift: Shift,
        ledger: Ledger,
        gateways: Mapping[str, Gateway],
        clock: Clock,
        *,
        revision: Callable[[], Awaitable[str]],
        tell: Tell = nobody,
        standing: Callable[[], Status] | None = None,
        health: Callable[[], Health] | None = None,
        readings: Readings | None = None,
        trial: Callable[[str | None, str], Awaitable[Sequence[Mapping[str, object]]]] | None = None,
    ) -> None:
        """Only a daemon gives the last five.

        `revision` returns that of what the schedule files are now, or raises FlowschedError where they cannot
        be used.
        """
        self._shift = shift
        self._ledger = ledger
        self._gateways = gateways
        self._clock = clock
        self._tell = tell
        self._standing = standing
        self._health = health
        self._readings = readings
        self._revision = revision
        self._trial = trial
        self._going_on: set[asyncio.Task[Any]] = set()
        self._latest = clock.now() - timedelta.resolution

    def status(self) -> Status:
        """Return how the daemon stands; raises NoDaemon where there is none."""
        if self._standing is None:
            raise NoDaemon("there is no daemon whose status could be told; `flowsched runs` reads the ledger")
        return self._standing()

    def health(self) -> Health:
        """Return whether the daemon is alive; raises NoDaemon where there is none."""
        return self.status().health if self._health is None else self._health()

    async def reload(self, by: str, *, wait: bool = True) -> Reload | None:
        """Have the schedules read anew. Raises NoDaemon where there is none."""
        reading = self._keep(self._read_anew(by), "reload", by)
        return await asyncio.shield(reading) if wait else None

    async def accept(self, digest: str, by: str, reason: str | None) -> Reload | None:
        """Accept what the files are, if that is what the digest says, and have it put in force."""
        return await asyncio.shield(self._keep(self._accepted(digest, by, reason), f"apply {digest}", by))

    async def trigger(
        self, schedule_id: str, at: datetime | None, origin: Origin, by: str, reason: str | None
    ) -> Run:
        """Claim a run by hand, and have it carried; a client that goes away changes nothing about it."""
        self._require_phase(Phase.RUNNING)
        now = self._instant()
        schedule = self._schedule(schedule_id)
        fire_time = by_hand.fire_time_of(at, now)
        await self._require_on_record(fire_time)
        self._gateway(schedule.target)
        # Those of the ledger, not of the engine: a command without a daemon has none.
        covering = Pauses(await self._ledger.pauses(now)).of(schedule)
        why_paused = paused(now, now, covering)
        row = by_hand.row_by_hand(
            schedule,
            fire_time,
            origin,
            revision=self._shift.catalog.revision,
            daemon=self._shift.name,
            now=now,
        )
        note = by_hand.note_of(by, reason, enabled=schedule.enabled, paused=why_paused)
        action = _action(now, by, _KINDS[origin], schedule_id, reason, f"fire time {stamp(fire_time)}")
        claim = self._claimed(replace(row, note=note), action)
        return await asyncio.shield(self._keep(claim, f"{action.kind} {schedule_id}", by))

    async def fires(
        self, schedule_id: str, from_: datetime, to: datetime, every: int
    ) -> Sequence[tuple[datetime, Run | None]]:
        """Return fire times of the past or the future, with the run that each has."""
        schedule = self._schedule(schedule_id)
        if from_ >= to:
            raise ControlRefusal(f"the range ends at {stamp(to)}, before it begins at {stamp(from_)}")
        # Blackouts may take long to work out, and fires wait for nobody.
        times = await in_a_thread(_fire_times, schedule, from_, to, every)
        if times:
            await self._require_on_record(times[0])
        found: dict[datetime, Run | None] = dict.fromkeys(times)
        for start in range(0, len(times), _AT_ONCE):
            page = times[start : start + _AT_ONCE]
            runs = await self._ledger.runs_at(schedule_id, schedule.target or "", schedule.flow, page)
            for at, of_one in groupby(runs, key=lambda run: run.fire_time):
                found[at] = by_hand.standing_at(schedule, of_one)
        return list(found.items())

    async def pause(
        self, scope: Scope, name: str | None, until: datetime | None, by: str, reason: str
    ) -> tuple[Pause, Sequence[Run]]:
        """Pause a schedule, a target or all, from now on."""
        self._require_phase(Phase.RUNNING, Phase.STOPPING)
        self._require_known(scope, name)
        now = self._clock.now()
        if refused := by_hand.why_not_until(until, now):
            raise ControlRefusal(refused)
        lasts = "until somebody resumes it" if until is None else f"until {stamp(until)}"
        subject = subject_of(scope, name)

        async def write() -> tuple[Pause, list[Run]]:
            # Of the instant from which nothing is claimed: what was due before is not the pause's.
            action = _action(self._clock.now(), by, ActionKind.PAUSE, subject, reason, lasts)
            going = [run for run in await self._ledger.open_runs() if by_hand.goes_on(run, scope, name)]
            return await self._ledger.pause(scope, name, until, action), going

        async def paused_and_said() -> tuple[Pause, list[Run]]:
            pause, going = await self._pauses_changed(write)
            said = {"subject": subject, "by": by, "reason": reason, "until": until, "runs": len(going)}
            log.warning("paused", extra=said)
            return pause, going

        return await asyncio.shield(self._keep(paused_and_said(), f"pause {subject}", by))

    async def resume(self, scope: Scope, name: str | None, by: str, reason: str | None) -> Sequence[Pause]:
        """End the pauses of a scope and name."""
        self._require_phase(Phase.RUNNING, Phase.STOPPING)
        subject = subject_of(scope, name)

        async def write() -> list[Pause]:
            action = _action(self._clock.now(), by, ActionKind.RESUME, subject, reason, "the pause is ended")
            return await self._ledger.resume(scope, name, action)

        async def resumed_and_said() -> list[Pause]:
            ended = await self._pauses_changed(write)
            if not ended:
                now = self._clock.now()
                lasting = [each for each in await self._ledger.pauses(now) if not is_over(each, now)]
                raise ControlRefusal(by_hand.nothing_to_resume(scope, name, lasting))
            log.warning("resumed", extra={"subject": subject, "by": by, "reason": reason})
            return ended

        return await asyncio.shield(self._keep(resumed_and_said(), f"resume {subject}", by))

    async def cancel(self, run_id: int, by: str, reason: str) -> tuple[Run, str]:
        """End a run that is not sent, or have EnOS cancel the instance of one that is."""
        self._require_phase(Phase.RUNNING, Phase.STOPPING)
        run = await self._ledger.run(run_id)
        if run is None:
            raise ControlRefusal(no_run(run_id))
        if run.state is RunState.TRIGGERED:
            cancel = self._instance_cancelled(run, self._gateway(run.target), by, reason)
            return run, await asyncio.shield(self._keep(cancel, f"cancel run {run_id}", by))
        if run.state not in (RunState.CLAIMED, RunState.WAITING):
            raise ControlRefusal(by_hand.why_not_cancelled(run))
        return await asyncio.shield(
            self._keep(self._run_cancelled(run, by, reason), f"cancel run {run_id}", by)
        )

    async def resolve(self, run_id: int, state: RunState, by: str, reason: str) -> Run:
        """Settle a run in doubt."""
        self._require_phase(Phase.RUNNING, Phase.STOPPING)
        if refused := by_hand.why_not_resolved(run_id, await self._ledger.run(run_id)):
            raise ControlRefusal(refused)
        resolve = self._resolved(run_id, state, by, reason)
        return await asyncio.shield(self._keep(resolve, f"resolve run {run_id}", by))

    async def runs(self, wanted: RunsWanted) -> RunsFound:
        """Return runs of the ledger, and what those wait for that are due."""
        found = await look_up(self._ledger, wanted, lambda: self._shift.catalog.schedules)
        waits_for = self._shift.runner.waits_for
        return replace(found, waits_for={run.id: what for run in found.runs if (what := waits_for(run))})

    async def actions(self, limit: int) -> Sequence[Action]:
        """Return what people have done, newest first."""
        return await self._ledger.actions(limit)

    async def catalogs(self, limit: int) -> Sequence[AppliedCatalog]:
        """Return the catalogs that were put in force, newest first."""
        return (await self._ledger.catalogs())[: -limit - 1 : -1]

    async def alert_test(self, channel: str | None, by: str) -> Sequence[Mapping[str, object]]:
        """Send a test over an alert channel, or over each. Raises NoDaemon where there is none."""
        if self._trial is None:
            raise NoDaemon("there is no daemon that could send a test; `flowsched alert-test` does it itself")
        return await self._trial(channel, by)

    async def aclose(self) -> None:
        """Let what is going on end, for END_WITHIN; break off the rest, and have that recorded.

        To be called when nobody can ask any more, and before the ledger closes.
        """
        # What is broken off writes down what may be done, and where the ledger would not, tries once more.
        for seconds in (END_WITHIN, RECORD_WITHIN, RECORD_WITHIN):
            if left := list(self._going_on):
                await asyncio.wait(left, timeout=seconds)
                for task in left:
                    task.cancel()

    def _instant(self) -> datetime:
        """Return now, and never the same twice: by it the ledger tells a claim from one that is repeated."""
        now = self._clock.now()
        at_once = timedelta(0) <= self._latest - now < _AT_ONE_TIME
        self._latest = self._latest + timedelta.resolution if at_once else now
        return self._latest

    def _keep(self, work: Coroutine[Any, Any, T], asked: str, by: str) -> asyncio.Task[T]:
        """Have work done to its end that a client who goes away must not leave half done.

        `asked` and `by` are what the log says where nothing comes of it.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._going_on.add(task)
        task.add_done_callback(lambda done: self._forget(done, asked, by))
        return task

    def _forget(self, task: asyncio.Task[Any], asked: str, by: str) -> None:
        self._going_on.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Whoever waits for it is told; perhaps nobody does.
            fault = None if isinstance(error, FlowschedError) else error
            level = logging.INFO if fault is None else logging.CRITICAL
            fields = {"asked": asked, "by": by, "error": str(error)}
            log.log(level, "not done by hand", exc_info=fault, extra=fields)

    def _require_phase(self, *phases: Phase) -> None:
        """Refuse what is asked too early, while runs are still taken up, or too late."""
        if self._shift.phase not in phases:
            raise ControlRefusal(f"not while the daemon is {self._shift.phase}: ask again when it runs")

    def _schedule(self, schedule_id: str) -> Schedule:
        schedules = self._shift.catalog.schedules
        if schedule_id not in schedules:
            hint = did_you_mean(schedule_id, schedules)
            raise ControlRefusal(f"there is no schedule {quoted(schedule_id)} in force{hint}")
        return schedules[schedule_id]

    def _gateway(self, target: str | None) -> Gateway:
        found = None if target is None else self._gateways.get(target)
        if found is None:
            raise ControlRefusal(f"the target {target} is not configured")
        return found

    def _require_known(self, scope: Scope, name: str | None) -> None:
        if scope is Scope.SCHEDULE:
            self._schedule(name or "")
        elif scope is Scope.TARGET and name not in self._gateways:
            known = ", ".join(sorted(self._gateways))
            raise ControlRefusal(f"there is no target {quoted(name or '')}; there are: {known}")

    async def _require_on_record(self, fire_time: datetime) -> None:
        """Refuse a fire time of which the ledger cannot tell any more whether it was triggered."""
        kept_from = await self._ledger.kept_from()
        if kept_from is not None and fire_time < kept_from:
            raise ControlRefusal(
                f"{stamp(fire_time)} is too long ago: the ledger keeps runs since {stamp(kept_from)} only,"
                " and cannot tell whether this was triggered before"
            )

    async def _claimed(self, row: NewRun, action: Action) -> Run:
        """Claim a run and hand it on; where the answer is lost, as soon as it is found to be claimed."""
        try:
            run = await self._ledger.claim_by_hand(row, action)
        except LedgerRefusal as refusal:
            runs = await self._ledger.runs_at(row.schedule_id, row.target, row.flow, [row.fire_time])
            found = by_hand.in_the_way(row.target, row.flow, runs)
            raise ControlRefusal(by_hand.why_not_again(found) if found else str(refusal)) from refusal
        except LedgerUnusable:
            raise
        except LedgerError:
            self._keep(
                self._start_what_was_claimed_unheard(row), f"{action.kind} {row.schedule_id}", action.by
            )
            raise
        self._shift.runner.start(run)
        return run

    async def _start_what_was_claimed_unheard(self, row: NewRun) -> None:
        while True:
            await self._clock.sleep(LEDGER_PAUSE)
            try:
                runs = await self._ledger.runs_at(row.schedule_id, row.target, row.flow, [row.fire_time])
            except LedgerUnusable:
                return
            except LedgerError:
                continue
            for run in runs:
                if _is_of(row, run) and not run.state.final:
                    self._shift.runner.start(run)
            return

    async def _pauses_changed(self, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await self._shift.engine.change_pauses(write)
        finally:
            self._tell(PausesChanged())

    async def _run_cancelled(self, run: Run, by: str, reason: str) -> tuple[Run, str]:
        now = self._clock.now()
        outcome = "it is not sent" if not run.attempts else "it is not sent again"
        action = _action(now, by, ActionKind.CANCEL, f"run {run.id}", reason, outcome)
        try:
            ended = await self._ledger.cancel(run.id, now, f"cancelled by hand ({by}): {reason}", action)
        except LedgerRefusal as refusal:  # its attempt has begun meanwhile
            found = await self._ledger.run(run.id)
            raise ControlRefusal(by_hand.why_not_cancelled(found) if found else str(refusal)) from refusal
        await self._shift.runner.let_go(ended)
        return ended, outcome

    async def _instance_cancelled(self, run: Run, gateway: Gateway, by: str, reason: str) -> str:
        instance = run.instance or run.predicted_instance
        answer, may_be_asked = None, False
        try:
            async with gateway.turn() as turn:
                may_be_asked = True
                with calls_for(run):
                    answer = await turn.cancel(instance, CANCEL_TIMEOUT)
        finally:
            outcome = by_hand.came_of_cancelling(instance, answer)
            if may_be_asked:
                await self._record(by, ActionKind.CANCEL, f"run {run.id}", reason, outcome)
        if answer.outcome is not Outcome.ACCEPTED:
            raise ControlRefusal(f"run {run.id} is triggered: {outcome}")
        return outcome

    async def _resolved(self, run_id: int, state: RunState, by: str, reason: str) -> Run:
        now = self._clock.now()
        step = NextStep(state, f"resolved by hand ({by}): {reason}")
        action = _action(now, by, ActionKind.RESOLVE, f"run {run_id}", reason, f"settled as {state}")
        try:
            run = await self._ledger.resolve(run_id, now, step, action)
        except LedgerRefusal as refusal:  # somebody has found out meanwhile
            found = await self._ledger.run(run_id)
            raise ControlRefusal(by_hand.why_not_resolved(run_id, found) or str(refusal)) from refusal
        await self._shift.runner.let_go(run)
        return run

    async def _accepted(self, digest: str, by: str, reason: str | None) -> Reload | None:
        try:
            revision = await self._revision()
        except FlowschedError as error:
            raise ControlRefusal(by_hand.not_accepted(f"cannot be used:\n{error}")) from error
        if not revision.startswith(digest):
            raise ControlRefusal(by_hand.not_accepted(f"are another catalog now: {revision}"))
        await self._ledger.accept(revision, self._clock.now(), by, reason)
        return None if self._readings is None else await self._readings.ask(f"accepted by {by}")

    async def _read_anew(self, by: str) -> Reload:
        if self._readings is None:
            raise NoDaemon("there is no daemon that could read the schedules anew; a start reads them")
        reload = await self._readings.ask(by)
        found = f"{reload.outcome} {reload.revision[:SHORT]}" if reload.revision else str(reload.outcome)
        detail = ", ".join(filter(None, (found, *reload.problems[:1])))
        await self._record(by, ActionKind.RELOAD, "schedules", None, detail)
        return reload

    async def _record(self, by: str, kind: ActionKind, subject: str, reason: str | None, detail: str) -> None:
        """Record what is done already; where the ledger would not, go on trying: it is told all the same."""
        action = _action(self._clock.now(), by, kind, subject, reason, detail)
        try:
            await self._ledger.record_action(action)
        except LedgerError as error:
            log.error(  # noqa: TRY400 - the text says it all
                "ledger would not record what was done by hand; trying again", extra=_told(action, error)
            )
            self._keep(self._recorded(action), f"record {kind} {subject}", by)

    async def _recorded(self, action: Action) -> None:
        while True:
            await self._clock.sleep(LEDGER_PAUSE)
            try:
                await self._ledger.record_action(action)
            except LedgerUnusable:
                raise
            except LedgerError:
                continue
            return


def _fire_times(schedule: Schedule, from_: datetime, to: datetime, every: int) -> list[datetime]:
    """Return each `every`th fire time in a range that goes out. Raises ControlRefusal for too many."""
    after = from_ - from_.resolution
    came = takewhile(lambda at: at < to, timeline.fire_times(schedule.timing, after))
    looked_at = list(islice(came, MOST_LOOKED_AT + 1))
    going = [at for at in looked_at if not _left_out(schedule, at)][::every]
    if len(looked_at) > MOST_LOOKED_AT or len(going) > MOST_FIRES:
        raise ControlRefusal(
            f"that are more fires than can be done at once: allowed are {MOST_FIRES:,} of a range,"
            f" and a range with {MOST_LOOKED_AT:,} fire times; choose a shorter one"
        )
    return going


def _left_out(schedule: Schedule, fire_time: datetime) -> bool:
    stay = timeline.stay(schedule, fire_time)
    return stay is not None and stay.until is None


def _is_of(row: NewRun, run: Run) -> bool:
    """Tell whether a run was claimed by this very row."""
    mine = (row.schedule_id, row.fire_time, row.origin, row.daemon, row.claimed_at)
    return mine == (run.schedule_id, run.fire_time, run.origin, run.daemon, run.updated_at)


def _action(at: datetime, by: str, kind: ActionKind, subject: str, reason: str | None, detail: str) -> Action:
    return Action(at=at, by=by, kind=kind, subject=subject, reason=reason, detail=detail)


def _told(action: Action, error: LedgerError) -> dict[str, object]:
    """Return all of an action that the ledger has not, for the log: it may be the only place that has it."""
    return {
        "action": action.kind,
        "subject": action.subject,
        "by": action.by,
        "reason": action.reason,
        "detail": action.detail,
        "error": str(error),
    }
