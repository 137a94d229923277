"""APScheduler as an alarm clock and nothing else: it rings at the times of each distinct timing.

They are its fire times, and the ends of the closed times to which blackouts defer them.
One job stands for one alarm. What APScheduler believes about times that were missed is ignored: a late,
doubled or early ring does no harm, since the cursors say what is due.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from flowsched import blackouts, timeline
from flowsched.model import Then

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flowsched.clock import Clock
    from flowsched.model import Blackout, Schedule, Timing

log = logging.getLogger(__name__)

LOOK_AGAIN = 15.0
"""At the latest after so many seconds the wall clock is looked at again: a step or a suspend is noticed."""

STEP = 2.0
"""Seconds by which the wall clock may stray from the monotonic one between two looks without a word."""


@dataclass(eq=False)
class Alarm:
    """One distinct timing, and the schedules that share it."""

    timing: Timing
    schedules: list[Schedule] = field(default_factory=list)
    """In the order of their ids."""
    deferring: dict[tuple[str, ...], Blackout] = field(default_factory=dict)
    """The blackouts of these schedules that defer, by their calendars."""

    def add(self, schedule: Schedule) -> None:
        """Have it ring for one more schedule."""
        self.schedules.append(schedule)
        blackout = schedule.blackout
        if blackout is not None and blackout.then is Then.DEFER:
            self.deferring[calendars_of(blackout)] = blackout

    def next(self, after: datetime) -> datetime | None:
        """Return when to ring next, strictly after `after`; None: never again.

        That is the next fire time, or before it the end of a closed time that holds `after`, whether or not
        a fire is deferred until then.
        """
        rings = [next(timeline.fire_times(self.timing, after), None)]
        for blackout in self.deferring.values():
            closed = blackouts.closure(blackout, self.timing.timezone, after, self.timing.rules)
            rings.append(closed.until if closed else None)
        return min((at for at in rings if at is not None), default=None)


def calendars_of(blackout: Blackout) -> tuple[str, ...]:
    """Return the names of its calendars: within a catalog, blackouts with the same are closed at the same."""
    return tuple(calendar.name for calendar in blackout.calendars)


def alarms_of(schedules: Iterable[Schedule]) -> dict[Timing, Alarm]:
    """Return one alarm for each timing of the enabled schedules."""
    alarms: dict[Timing, Alarm] = {}
    for schedule in sorted(schedules, key=lambda schedule: schedule.id):
        if schedule.enabled:
            alarm = alarms.get(schedule.timing)
            if alarm is None:
                alarm = alarms[schedule.timing] = Alarm(schedule.timing)
            alarm.add(schedule)
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
        self._put: list[Alarm] = []
        self._executor = executor
        super().__init__(
            timezone=self._zone,
            executors={"default": executor},
            job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": 1_000_000},
        )

    def put(self, alarms: Iterable[Alarm]) -> None:
        """Ring for these alarms from now on, and for no others. Call it in the running event loop."""
        if not self.running:
            self.start(paused=True)
        self.pause()
        self.remove_all_jobs()
        self._put = list(alarms)
        for alarm in self._put:
            self.add_job(_rung_by_the_executor, _Trigger(alarm, self._zone))
        self.resume()

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
        """Ring what is due; whatever goes wrong in that, go on waking up."""
        try:
            if self._stepped_back():
                self._set_anew()
            wait: float | None = super()._process_jobs()
        except Exception:
            log.critical("wake-up stopped by a fault; waking up again soon", exc_info=True)
            return LOOK_AGAIN
        return wait

    def _set_anew(self) -> None:
        """Set every alarm by the clock as it is now: by what it was, they would ring too late or never."""
        self.put(self._put)
        for alarm in self._put:
            self._executor.ring(alarm)

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


async def _rung_by_the_executor() -> None:
    """APScheduler wants a function to call; ours is called by the executor, which knows when."""


class _Trigger(BaseTrigger):  # type: ignore[misc]
    """Sets the alarm to the next ring after now: what was missed is the cursors' affair."""

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


class Executor(BaseExecutor):  # type: ignore[misc]
    """Passes each ring on; APScheduler's own idea of which times it stands for is left aside."""

    def __init__(self, ring: Callable[[Alarm], None]) -> None:
        super().__init__()
        self.ring = ring

    def _do_submit_job(self, job: Any, _: list[datetime]) -> None:
        self.ring(job.trigger.alarm)
        # After `submit_job`, which calls this, has counted it.
        asyncio.get_running_loop().call_soon(self._run_job_success, job.id, [])
