"""Which acceptances can be of use on some day: that of today alone makes none of them useless."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from flowsched import cron, timeline
from flowsched.cron import lint
from flowsched.cron.blocks import DAY
from flowsched.model import Then
from flowsched.review.clock_changes import AHEAD as TWO_YEARS
from flowsched.review.clock_changes import disturbed
from flowsched.review.collisions import HORIZON, collisions
from flowsched.review.load import counts, summed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.model import Acceptance, Limits, Schedule, Timing

_CYCLE = timedelta(days=28 * 365 + 7)
"""In which every date of the year falls on every weekday."""
_LATEST = datetime.max.replace(tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_ALL_DAY = (1 << DAY) - 1


class Chances:
    """What some schedules may be warned of on one day or another."""

    def __init__(
        self, schedules: Mapping[str, Schedule], limits: Mapping[str, Limits], now: datetime
    ) -> None:
        self._schedules = schedules
        self._limits = limits
        self._now = now
        self._crowded: dict[str, int] = {}

    def has(self, schedule: Schedule, accepted: Acceptance) -> bool:
        """Tell whether what is accepted may come up while no file is changed, but for `enabled`.

        Of two schedules of which one is disabled, or has ended, what would be if both fired all the time.
        """
        if accepted.other is not None:
            other = self._schedules.get(accepted.other)
            return other is not None and _may_collide(schedule, other, self._now)
        if accepted.rule == "clock-change":
            return _may_be_disturbed(
                _always(schedule.timing, lint.every_day(schedule.timing.cron)), self._now
            )
        if accepted.rule == "crowded-minute":
            return bool(self._minutes(schedule) & self._crowded_minutes(schedule.target))
        if accepted.rule == "never-fires":
            return schedule.timing.ends_at is not None or schedule.blackout is not None
        return False

    def _crowded_minutes(self, target: str | None) -> int:
        """Return the minutes of the day in which a target has too many fires if all days have them all."""
        limit = self._limits.get(target) if target else None
        if target is None or limit is None or limit.rate_per_minute is None:
            return 0
        if target not in self._crowded:
            weights: Counter[int] = Counter()
            for schedule in self._schedules.values():
                if schedule.target == target:
                    # What is deferred may go out in the minute of another fire.
                    weights[self._minutes(schedule)] += 2 if _defers(schedule) else 1
            found = counts(summed(weights.items()))
            self._crowded[target] = sum(1 << each for each, count in found if count > limit.rate_per_minute)
        return self._crowded[target]

    def _minutes(self, schedule: Schedule) -> int:
        """Return in which minutes of a day, in UTC, a fire may go out, as bits."""
        if _defers(schedule) or schedule.jitter > _MINUTE:
            return _ALL_DAY
        return _minutes_of_day(_always(schedule.timing, lint.every_day(schedule.timing.cron)), self._now)


def _always(timing: Timing, expression: str) -> Timing:
    return replace(timing, cron=expression, starts_at=None, ends_at=None)


def _defers(schedule: Schedule) -> bool:
    return schedule.blackout is not None and schedule.blackout.then is Then.DEFER


def _may_collide(one: Schedule, other: Schedule, now: datetime) -> bool:
    free = [
        replace(each, enabled=True, blackout=None, timing=_always(each.timing, each.timing.cron))
        for each in (one, other)
    ]
    return bool(collisions(free, after=now, until=now + min(_CYCLE, _LATEST - now)).pairs)


@lru_cache(maxsize=10_000)
def _may_be_disturbed(timing: Timing, now: datetime) -> bool:
    return bool(disturbed(timing, after=now, until=now + TWO_YEARS))


@lru_cache(maxsize=10_000)
def _minutes_of_day(timing: Timing, now: datetime) -> int:
    minutes = 0
    for block in timeline.fire_blocks(timing, cron.horizon(now, now + HORIZON)):
        minutes |= block.minutes
    return minutes
