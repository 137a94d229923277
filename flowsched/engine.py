"""The only room that drives APScheduler: a catalog and its cursors in, claimed runs out.

APScheduler is the alarm clock and nothing else. One job stands for one distinct timing; when it rings,
the fire times between each schedule's cursor and now are computed by `cron`, decided by `admission`
and claimed in the ledger, all that share the timing at once. What the alarm itself believes about
missed times is ignored, so a late, doubled or early alarm does no harm.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from flowsched import cron
from flowsched.admission import ON_TIME, Admitted, admit
from flowsched.enos import milliseconds, predicted_instance
from flowsched.errors import LedgerError
from flowsched.model import Cursor, NewRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from zoneinfo import ZoneInfo

    from flowsched.clock import Clock
    from flowsched.cron import Cron
    from flowsched.ledger import Ledger
    from flowsched.model import Catalog, Run, Schedule, Timing

log = logging.getLogger(__name__)

LOOK_AGAIN = 15.0
"""At the latest after so many seconds the wall clock is looked at again: a step or a suspend is noticed."""

STEP = 2.0
"""Seconds by which the wall clock may stray from the monotonic one between two looks without a word."""

LEDGER_PAUSE = 5.0
"""Seconds until due fires are offered again to a ledger that would not take them."""

FAULT_PAUSE = 60.0
"""Seconds until what a fault of ours has stopped is tried again."""

MOST_ROWS = 1_000
"""About so many rows are claimed at once, so that a long backlog neither stops the loop nor fills it."""


@dataclass(eq=False)
class Alarm:
    """One distinct timing, and the schedules that share it."""

    timing: Timing
    cron: Cron
    zone: ZoneInfo
    schedules: list[Schedule] = field(default_factory=list)
    ringing: bool = False
    """Whether what is due is just being claimed."""

    def due(self, cursor: datetime, now: datetime, most: int) -> list[datetime]:
        """Return the fire times after `cursor` and not after `now`, ascending, at most so many."""
        fires = itertools.takewhile(lambda at: at <= now, self.cron.fires(self.zone, cursor))
        return list(itertools.islice(fires, most))

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly after `after`; None when there are no more."""
        return next(self.cron.fires(self.zone, after), None)


@dataclass(frozen=True, slots=True)
class _Due:
    """What one ring of an alarm has to write: a row for each fire time, and where the cursors then stand."""

    rows: list[NewRun]
    cursors: list[Cursor]


class Engine:
    """Wakes at each fire time, claims what is due, and hands each claimed run to `start`."""

    def __init__(self, ledger: Ledger, start: Callable[[Run], None], clock: Clock, daemon: str) -> None:
        self._ledger = ledger
        self._daemon = daemon
        self._start = start
        self._clock = clock
        self._revision = ""
        self._alarms: dict[Timing, Alarm] = {}
        self._cursors: dict[str, datetime] = {}
        self._executor = _Executor(self._ring)
        self._scheduler = _Scheduler(clock, self._executor)

    def apply(self, catalog: Catalog, cursors: Mapping[str, Cursor]) -> None:
        """Put a catalog in force, and settle at once what came due before it: the cursors say since when.

        Call it in the running event loop.
        """
        self._revision = catalog.revision
        self._cursors = {cursor.schedule_id: cursor.at for cursor in cursors.values()}
        self._warn_of_the_future()
        self._alarms = _alarms(catalog.schedules.values())
        if not self._scheduler.running:
            self._scheduler.start(paused=True)
        self._scheduler.pause()
        self._scheduler.remove_all_jobs()
        for alarm in self._alarms.values():
            self._scheduler.add_alarm(alarm)
            self._executor.ring(alarm)
        self._scheduler.resume()

    def next_fire(self) -> datetime | None:
        """Return the next fire time of all; None when no schedule ever fires again."""
        now = self._clock.now()
        afters = {
            (timing, max(now, self._cursors[schedule.id]))
            for timing, alarm in self._alarms.items()
            for schedule in alarm.schedules
        }
        return min((at for timing, after in afters if (at := self._alarms[timing].next(after))), default=None)

    async def stop(self) -> None:
        """Ring no more, and hand out no further run.

        A claim that is just being written is written all the same, and taken up at the next start.
        """
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
            await self._executor.stop()

    def _warn_of_the_future(self) -> None:
        now = self._clock.now()
        ahead = {id_: at for id_, at in self._cursors.items() if at > now + ON_TIME}
        if ahead:
            log.error(
                "the ledger is ahead of the clock, which was wrong then or is wrong now; "
                "schedules fire again only when the clock has caught up",
                extra={"schedules": len(ahead), "until": max(ahead.values())},
            )

    async def _ring(self, alarm: Alarm) -> None:
        """Claim all that is due, and what becomes due meanwhile, however often the ledger must be asked."""
        if alarm.ringing:
            return
        alarm.ringing = True
        try:
            while await self._claim_or_pause(alarm):
                pass
        finally:
            alarm.ringing = False

    async def _claim_or_pause(self, alarm: Alarm) -> bool:
        """Claim what is due now; False when nothing is."""
        try:
            due = self._due(alarm)
            if due.rows:
                await self._claim(alarm, due)
        except Exception:
            # Nobody else would look at these fires before the alarm rings again, perhaps tomorrow.
            log.critical("claim stopped by a fault of flowsched; trying again", exc_info=True)
            await self._clock.sleep(FAULT_PAUSE)
            return True
        return bool(due.rows)

    async def _claim(self, alarm: Alarm, due: _Due) -> None:
        try:
            runs = await self._ledger.claim(due.rows, due.cursors)
        except LedgerError as error:
            log.error(  # noqa: TRY400 - the text says it all
                "ledger would not take the claims, so nothing is fired; trying again",
                extra={"cron": alarm.timing.cron, "due": len(due.rows), "error": str(error)},
            )
            await self._clock.sleep(LEDGER_PAUSE)
            return
        self._cursors.update((cursor.schedule_id, cursor.at) for cursor in due.cursors)
        for run in runs:
            self._start(run)

    def _due(self, alarm: Alarm) -> _Due:
        now = self._clock.now()
        since: dict[datetime, list[datetime]] = {}
        due = _Due([], [])
        for schedule in alarm.schedules:
            if len(due.rows) >= MOST_ROWS:
                break
            cursor = self._cursors[schedule.id]
            if cursor not in since:
                since[cursor] = alarm.due(cursor, now, MOST_ROWS + 1)
            fire_times, more = since[cursor][:MOST_ROWS], len(since[cursor]) > MOST_ROWS
            if fire_times:
                decisions = admit(schedule, fire_times, now, more=more)
                due.rows.extend(self._row(schedule, decision, now) for decision in decisions)
                due.cursors.append(Cursor(schedule.id, schedule.timing, fire_times[-1]))
        return due

    def _row(self, schedule: Schedule, decision: Admitted, now: datetime) -> NewRun:
        assert schedule.target is not None  # noqa: S101 - a catalog is loaded with settings here
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
            retry=schedule.retry,
            deadline=now + schedule.retry.deadline,
            revision=self._revision,
            source=schedule.source,
            daemon=self._daemon,
            claimed_at=now,
        )


def _alarms(schedules: Iterable[Schedule]) -> dict[Timing, Alarm]:
    alarms: dict[Timing, Alarm] = {}
    for schedule in schedules:
        if schedule.enabled:
            timing = schedule.timing
            if timing not in alarms:
                alarms[timing] = Alarm(timing, cron.parse(timing.cron), cron.zone(timing.timezone))
            alarms[timing].schedules.append(schedule)
    return alarms


class _ClockZone(tzinfo):
    """UTC as our clock tells it: what makes APScheduler read the time from `clock.py`.

    APScheduler asks the time with `datetime.now(zone)`, which ends in `zone.fromutc`. Every other
    conversion to this zone is of an instant that is in it already, and then `fromutc` is not called.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def fromutc(self, _: datetime) -> datetime:
        return self._clock.now().replace(tzinfo=self)

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "UTC"


class _Scheduler(AsyncIOScheduler):  # type: ignore[misc]
    """APScheduler on our clock, with every policy that drops a fire without a record switched off."""

    def __init__(self, clock: Clock, executor: _Executor) -> None:
        self._clock = clock
        self._zone = _ClockZone(clock)
        self._alarm_task: asyncio.Task[None] | None = None
        self._looked_at = (clock.now(), clock.monotonic())
        super().__init__(
            timezone=self._zone,
            executors={"default": executor},
            job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": 1_000_000},
        )

    def add_alarm(self, alarm: Alarm) -> None:
        """Ring for this timing from now on."""
        self.add_job(
            _rung_by_the_executor,
            _Trigger(alarm, self._zone),
            id=f"{alarm.timing.cron} {alarm.timing.timezone}",
        )

    def _start_timer(self, wait_seconds: float | None) -> None:
        """Wait on our clock, not on the loop's, and look again soon in case the wall clock steps."""
        self._stop_timer()
        seconds = LOOK_AGAIN if wait_seconds is None else min(wait_seconds, LOOK_AGAIN)
        self._alarm_task = asyncio.get_running_loop().create_task(self._wake_after(seconds))

    def _stop_timer(self) -> None:
        if self._alarm_task is not None:
            self._alarm_task.cancel()
            self._alarm_task = None

    def _process_jobs(self) -> float | None:
        """Ring what is due; whatever goes wrong in that, go on waking up."""
        self._compare_clocks()
        try:
            wait: float | None = super()._process_jobs()
        except Exception:
            log.critical("wake-up stopped by a fault; waking up again soon", exc_info=True)
            return LOOK_AGAIN
        return wait

    def _compare_clocks(self) -> None:
        """Say when the wall clock was set, or the machine slept, since the last look."""
        (wall, ticks), self._looked_at = self._looked_at, (self._clock.now(), self._clock.monotonic())
        stepped = (self._looked_at[0] - wall).total_seconds() - (self._looked_at[1] - ticks)
        if stepped > STEP:
            way = "forward: what was due meanwhile is caught up or missed"
        elif stepped < -STEP:
            way = "back: what has fired does not fire again"
        else:
            return
        log.warning("the wall clock stepped %s", way, extra={"seconds": round(stepped, 3)})

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm_task = None
        self.wakeup()


async def _rung_by_the_executor() -> None:
    """APScheduler wants a function to call; ours is called by the executor, which knows when."""


class _Trigger(BaseTrigger):  # type: ignore[misc]
    """Sets the alarm to the next fire time after now: what was missed is the cursors' affair."""

    def __init__(self, alarm: Alarm, zone: _ClockZone) -> None:
        self.alarm = alarm
        self._zone = zone

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime | None:
        try:
            fire_time = self.alarm.next(now.replace(tzinfo=UTC))
        except Exception:
            # Raised any further, it would keep every alarm behind this one from ringing.
            log.critical(
                "no next fire time, by a fault of flowsched",
                exc_info=True,
                extra={"cron": self.alarm.timing.cron},
            )
            fire_time = now + timedelta(seconds=LOOK_AGAIN)
        return fire_time and fire_time.replace(tzinfo=self._zone)


class _Executor(BaseExecutor):  # type: ignore[misc]
    """Runs `ring` for each alarm in a task of its own."""

    def __init__(self, ring: Callable[[Alarm], Any]) -> None:
        super().__init__()
        self._ring_alarm = ring
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def ring(self, alarm: Alarm) -> asyncio.Task[None]:
        """Ring now, whatever APScheduler thinks of it."""
        task = asyncio.get_running_loop().create_task(self._ring_alarm(alarm))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Cancel what is being dealt with, wait for it, and ring no more."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _do_submit_job(self, job: Any, _: list[datetime]) -> None:
        # A wake-up that was on its way already comes after the end of a scheduler.
        if self._stopped:
            return
        task = self.ring(job.trigger.alarm)
        task.add_done_callback(lambda _: self._run_job_success(job.id, []))
