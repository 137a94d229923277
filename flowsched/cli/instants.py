"""Instants as command line arguments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from flowsched import cron
from flowsched.errors import quoted

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


class _Typed(datetime):
    """An instant that knows how it was typed."""

    typed: str


class _Instant(click.ParamType[datetime]):
    """ISO 8601, as `2026-03-29T01:30Z`; left naive where no offset is given."""

    name = "instant"

    def convert(
        self,
        value: str | datetime,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = _Typed.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no instant; allowed: ISO 8601, as 2026-03-29T01:30Z", param, ctx)
        found.typed = value
        return found


INSTANT = _Instant()

REVIEWED = range(1973, 9990)
"""Years in which a look ahead may begin: since 1973 all zones are whole minutes off UTC; 9999 is the last."""


def in_utc(instant: datetime, option: str, zone: ZoneInfo | None = None) -> datetime:
    """Return the instant in UTC; without an offset it is read on the wall clock of `zone`, or refused.

    A time that this clock leaves out is the end of its gap, as for a fixed time of an expression; of one that
    it shows twice it is the first.
    """
    written = datetime.combine(instant.date(), instant.time(), instant.tzinfo)
    if written.tzinfo is None and zone is None:
        allowed = f"{written.isoformat().removesuffix(':00')}Z for UTC, or an offset as +02:00"
        raise click.BadParameter(f"{_typed(instant)} has no offset; allowed: {allowed}", param_hint=option)
    try:
        return _on_the_clock(written, zone) if zone and written.tzinfo is None else written.astimezone(UTC)
    except OverflowError:
        raise click.BadParameter(f"{_typed(instant)} is out of range", param_hint=option) from None


def _on_the_clock(wall: datetime, zone: ZoneInfo) -> datetime:
    minute = wall.replace(second=0, microsecond=0)
    found = cron.instant(minute, zone)
    left_out = found.astimezone(zone).replace(tzinfo=None) != minute
    return found if left_out else found + (wall - minute)


def _typed(instant: datetime) -> str:
    return quoted(instant.typed) if isinstance(instant, _Typed) else instant.isoformat()


def to_look_ahead_from(instant: datetime, option: str, zone: ZoneInfo | None = None) -> datetime:
    """Return what `in_utc` does; an instant outside of the years of REVIEWED is refused."""
    found = in_utc(instant, option, zone)
    if found.year not in REVIEWED:
        allowed = f"years from {REVIEWED[0]} to {REVIEWED[-1]}"
        raise click.BadParameter(f"{_typed(instant)} is out of range; allowed: {allowed}", param_hint=option)
    return found
