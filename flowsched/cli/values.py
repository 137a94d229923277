"""The values of a schedule as a file would have them, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsched.durations import format_duration
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from flowsched.model import Schedule

    Value = str | int | float | bool | None


def _span(span: timedelta | None) -> str | None:
    return None if span is None else format_duration(span)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def _multiplier(schedule: Schedule) -> Value:
    multiplier = schedule.retry.multiplier
    return int(multiplier) if multiplier.is_integer() else multiplier


def _blackout(schedule: Schedule) -> Value:
    if schedule.blackout is None:
        return None
    return f"{schedule.blackout.then}: {', '.join(each.name for each in schedule.blackout.calendars)}"


VALUES: Mapping[tuple[str, ...], Callable[[Schedule], Value]] = {
    ("description",): lambda schedule: schedule.description,
    ("owner",): lambda schedule: schedule.owner,
    ("flow",): lambda schedule: schedule.flow,
    ("task",): lambda schedule: schedule.task,
    ("target",): lambda schedule: schedule.target,
    ("enabled",): lambda schedule: schedule.enabled,
    ("cron",): lambda schedule: schedule.timing.cron,
    ("timezone",): lambda schedule: schedule.timing.timezone,
    ("starts_at",): lambda schedule: _instant(schedule.timing.starts_at),
    ("ends_at",): lambda schedule: _instant(schedule.timing.ends_at),
    ("blackout",): _blackout,
    ("jitter",): lambda schedule: _span(schedule.jitter),
    ("catch_up",): lambda schedule: schedule.catch_up,
    ("catch_up_window",): lambda schedule: _span(schedule.catch_up_window),
    ("overlap",): lambda schedule: schedule.overlap,
    ("overlap_fallback",): lambda schedule: schedule.overlap_fallback,
    ("retry", "max_attempts"): lambda schedule: schedule.retry.max_attempts,
    ("retry", "initial_backoff"): lambda schedule: _span(schedule.retry.initial_backoff),
    ("retry", "multiplier"): _multiplier,
    ("retry", "max_backoff"): lambda schedule: _span(schedule.retry.max_backoff),
    ("retry", "deadline"): lambda schedule: _span(schedule.retry.deadline),
    ("retry", "attempt_timeout"): lambda schedule: _span(schedule.retry.attempt_timeout),
    ("watch", "timeout"): lambda schedule: _span(schedule.watch),
    ("ping",): lambda schedule: schedule.ping,
    ("renamed_from",): lambda schedule: schedule.renamed_from,
}
"""Every key of a schedule but `accept`, in the order in which they are shown; instants in UTC."""
