"""APScheduler as an alarm clock and nothing else: it rings at the times of each distinct timing.

They are its fire times, and the ends of the closed times to which blackouts defer them.
One job stands for one alarm. What APScheduler believes about times that were missed is ignored: a late,
doubled or early ring does no harm, since the cursors say what is due.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_PAUSED
from apscheduler.triggers.base import BaseTrigger

from flowsched import blackouts, timeline
from flowsched.model import Then

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from apscheduler.job import Job

    from flowsched.clock import Clock
    from flowsched.model import Blackout, Schedule, Timing

log = logging.getLogger(__name__)

LOOK_AGAIN = 15.0
"""At the latest after so many seconds the wall clock is looked at again: a step or a suspend is noticed."""

AT_ONCE = 100
"""So many alarms ring, or are set, before the loop's others get their turn."""

STEP = 2.0
"""Seconds by which the wall clock may stray from the monotonic one between two looks without a word."""


_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(eq=False)
class Alarm:
    """One distinct timing, and the schedules that share it."""

    timing: Timing
    schedules: list[Schedule] = field(default_factory=list)
    """In the order of their ids."""
    deferring: dict[tuple[str, ...], Blackout] = field(default_factory=dict)
    """The blackouts of these schedules that defer, by their calendars."""
    _known: tuple[tuple[datetime, datetime | None], ...] = ()
    """After which instant a fire time was looked for, and which was found, the last two times."""

    @classmethod
    def of(cls, timing: Timing, schedules: Iterable[Schedule], former: Alarm | None = None) -> Alarm:
        """Return the alarm of some schedules; it knows of fire times what a former one of the timing does."""
        alarm = cls(timing, sorted(schedules, key=attrgetter("id")))
        alarm._known = former._known if former else ()  # noqa: SLF001 - its own class
        for schedule in alarm.schedules:
            blackout = schedule.blackout
            if blackout is not None and blackout.then is Then.DEFER:
                alarm.deferring[calendars_of(blackout)] = blackout
        return alarm

    def next(self, after: datetime) -> datetime | None:
        """Return when to ring next, strictly after `after`; None: never again.

        That is the next fire time, or before it the end of a closed time that holds `after`, whether or not
        a fire is deferred until then.
        """
        rings = [self.fire_time(after)]
        for blackout in self.deferring.values():
            closed = blackouts.closure(blackout, self.timing.timezone, after, self.timing.rules)
            rings.append(closed.until if closed else None)
        return min((at for at in rings if at is not None), default=None)

    def rings_like(self, other: Alarm) -> bool:
        """Tell whether it rings whenever the other one does, and never else."""
        return self.timing == other.timing and self.deferring == other.deferring

    def fire_time(self, after: datetime) -> datetime | None:
        """Return the next fire time strictly after an instant; None: there is none.

        Whoever asks around one fire time has it worked out once for all.
        """
        latest = None
        for asked, latest in self._known:
            if asked <= after and (latest is None or after < latest):
                return latest
        # From the one before it, where that is known: then what lies between them is known as well.
        begin = after if latest is None else min(latest, after)
        found = next(timeline.fire_times(self.timing, begin), None)
        if found is not None and found <= after:
            begin, found = after, next(timeline.fire_times(self.timing, after), None)
        self._known = (*self._known[-1:], (begin, found))
        return found

    def came(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """Return the fire times after an instant and not after another, ascending, at most so many."""
        first = self.fire_time(after)
        if first is None or first > until:
            return []
        second = self.fire_time(first)
        if second is None or second > until:
            return [first]
        times = itertools.takewhile(lambda at: at <= until, timeline.fire_times(self.timing, after))
        return list(itertools.islice(times, most))


def calendars_of(blackout: Blackout) -> tuple[str, ...]:
    """Return the names of its calendars: within a catalog, blackouts with the same are closed at the same."""
    return tuple(calendar.name for calendar in blackout.calendars)


def alarms_of(
    schedules: Iterable[Schedule],
    former: Mapping[Timing, Alarm] | None = None,
    gone: Collection[Schedule] = (),
) -> dict[Timing, Alarm]:
    """Return one alarm for each timing of the enabled schedules.

    With `former` ones, theirs that are not `gone` count as well, and alarms of which nothing is new are the
    very same. What stands in the place of a schedule, under its id, is among the `schedules`, and it is gone.
    """
    alarms = dict(former or {})
    new: dict[Timing, list[Schedule]] = {each.timing: [] for each in gone if each.timing in alarms}
    for schedule in schedules:
        if schedule.enabled:
            new.setdefault(schedule.timing, []).append(schedule)
    left = {each.id for each in gone}
    for timing, some in new.items():
        old = alarms.pop(timing, None)
        some += [each for each in (old.schedules if old else ()) if each.id not in left]
        if some:
            alarms[timing] = Alarm.of(timing, some, old)
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


class Scheduler(AsyncIOScheduler):  # type: ignore[misc]
    """APScheduler on our clock, with every policy that drops a fire without a record switched off."""

    def __init__(self, clock: Clock, executor: Executor) -> None:
        self._clock = clock
        self._zone = _ClockZone(clock)
        self._alarm_task: asyncio.Task[None] | None = None
        self._looked_at = (clock.now(), clock.monotonic())
        self._jobs: dict[Timing, Job] = {}
        self._executor = executor
        super().__init__(
            timezone=self._zone,
            jobstores={"default": _Store()},
            executors={"default": executor},
            job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": 1_000_000},
        )

    async def put(self, alarms: Iterable[Alarm]) -> None:
        """Ring for these alarms, one a timing, from now on, and for no others; meanwhile for none.

        Those that ring as one did before are left as they are set.
        """
        if not self.running:
            self.start(paused=True)
        self.pause()
        before, self._jobs = self._jobs, {}
        try:
            for number, alarm in enumerate(alarms, 1):
                self._jobs[alarm.timing] = self._job(alarm, before.pop(alarm.timing, None))
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
                    if not self.running:
                        return
            while before:
                before.popitem()[1].remove()
        finally:
            self._jobs = before | self._jobs  # what is left where this was broken off
            if self.running:
                self.resume()

    def _job(self, alarm: Alarm, former: Job | None) -> Job:
        if former is not None and former.trigger.alarm is alarm:
            return former
        if former is not None and alarm.rings_like(former.trigger.alarm):
            former.trigger.alarm = alarm
            return former
        if former is not None:
            former.remove()
        return self.add_job(_rung_by_the_executor, _Trigger(alarm, self._zone))

    @property
    def woke_at(self) -> float:
        """When it last looked at the clocks, by the monotonic one."""
        return self._looked_at[1]

    def stop(self) -> None:
        """Ring no more. Harmless when repeated, or never started."""
        if self.running:
            self.shutdown(wait=False)

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
        """Ring what is due, or the first of it; whatever goes wrong in that, go on waking up.

        What is due by one instant is passed on together, so that of two fires at once the first by id wins.
        """
        if self.state == STATE_PAUSED:
            return None  # a step of the clock shows when all alarms are put
        try:
            return self._ring()
        except Exception:
            log.critical("wake-up stopped by a fault; waking up again soon", exc_info=True)
            return LOOK_AGAIN

    def _ring(self) -> float | None:
        wait: float | None = LOOK_AGAIN
        try:
            if self._stepped_back():
                self._set_anew()
            wait = super()._process_jobs()
        finally:
            if wait != 0:
                self._executor.pass_on()
        return wait

    def _set_anew(self) -> None:
        """Set every alarm by the clock as it is now: by what it was, they would ring too late or never."""
        now = self._clock.now()
        self.pause()
        try:
            for job in self.get_jobs():
                job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))
                self._executor.rang.append(job.trigger.alarm)
        finally:
            self.resume()

    def _stepped_back(self) -> bool:
        """Say when the wall clock was set, or the machine slept, since the last look; tell if it was back."""
        (wall, ticks), self._looked_at = self._looked_at, (self._clock.now(), self._clock.monotonic())
        stepped = (self._looked_at[0] - wall).total_seconds() - (self._looked_at[1] - ticks)
        if stepped > STEP:
            way = "forward: what was due meanwhile is caught up or missed"
        elif stepped < -STEP:
            way = "back: what has fired does not fire again"
        else:
            return False
        log.warning("the wall clock stepped %s", way, extra={"seconds": round(stepped, 3)})
        return stepped < 0

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm_task = None
        self.wakeup()


class _Store(MemoryJobStore):  # type: ignore[misc]
    """Has not more alarms ring at once than the loop's others can wait for; then it is asked again."""

    def get_due_jobs(self, now: datetime) -> list[Job]:
        due: list[Job] = super().get_due_jobs(now)
        return due[:AT_ONCE]


async def _rung_by_the_executor() -> None:
    """APScheduler wants a function to call; ours is called by the executor, which knows when."""


class _Trigger(BaseTrigger):  # type: ignore[misc]
    """Sets the alarm to the next ring after now: what was missed is the cursors' affair.

    One that never rings again stays with the others, as it may once the clock is set back.
    """

    def __init__(self, alarm: Alarm, zone: _ClockZone) -> None:
        self.alarm = alarm
        self._zone = zone

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
        try:
            fire_time = self.alarm.next(now.replace(tzinfo=UTC)) or _NEVER
        except Exception:
            # Raised any further, it would keep every alarm behind this one from ringing.
            log.critical(
                "no next fire time, by a fault of flowsched",
                exc_info=True,
                extra={"cron": self.alarm.timing.cron},
            )
            fire_time = now + timedelta(seconds=LOOK_AGAIN)
        return fire_time.replace(tzinfo=self._zone)


class Executor(BaseExecutor):  # type: ignore[misc]
    """Passes each ring on; APScheduler's own idea of which times it stands for is left aside."""

    def __init__(self, ring: Callable[[Alarm], None]) -> None:
        super().__init__()
        self.ring = ring
        self.rang: list[Alarm] = []
        """What has rung and is not passed on yet."""

    def pass_on(self) -> None:
        """Pass on all that has rung."""
        rang, self.rang = self.rang, []
        for alarm in rang:
            self.ring(alarm)

    def _do_submit_job(self, job: Any, _: list[datetime]) -> None:
        self.rang.append(job.trigger.alarm)
        # After `submit_job`, which calls this, has counted it.
        asyncio.get_running_loop().call_soon(self._run_job_success, job.id, [])
