"""Instants as command line arguments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


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
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no instant; allowed: ISO 8601, as 2026-03-29T01:30Z", param, ctx)


INSTANT = _Instant()

REVIEWED = range(1973, 9990)
"""Years in which a look ahead may begin: since 1973 all zones are whole minutes off UTC; 9999 is the last."""


def in_utc(instant: datetime, option: str, zone: ZoneInfo | None = None) -> datetime:
    """Return the instant in UTC; without an offset it is read on the wall clock of `zone`, or refused."""
    if instant.tzinfo is None:
        if zone is None:
            raise click.BadParameter(
                f"{instant.isoformat()} has no offset; allowed: {instant.isoformat()}Z for UTC, "
                f"or an offset as +02:00",
                param_hint=option,
            )
        instant = instant.replace(tzinfo=zone)
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise click.BadParameter(f"{instant.isoformat()} is out of range", param_hint=option) from None


def to_look_ahead_from(instant: datetime, option: str, zone: ZoneInfo | None = None) -> datetime:
    """Return what `in_utc` does; an instant outside of the years of REVIEWED is refused."""
    found = in_utc(instant, option, zone)
    if found.year not in REVIEWED:
        allowed = f"years from {REVIEWED[0]} to {REVIEWED[-1]}"
        raise click.BadParameter(
            f"{instant.isoformat()} is out of range; allowed: {allowed}", param_hint=option
        )
    return found
