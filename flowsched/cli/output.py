"""How commands print: tables on a terminal, aligned text in a pipe, JSON where it is asked for."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowsched.review.clock_changes import ClockChange

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to print.",
)


def print_json(value: Any) -> None:
    """Print one JSON document; datetimes in it as UTC stamps."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_text(text: str) -> None:
    """Print a line of prose; a terminal folds it between words."""
    if sys.stdout.isatty():
        from flowsched.cli import terminal  # noqa: PLC0415 - rich is for terminals only

        terminal.print_text(text)
    else:
        click.echo(text)


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    spare: Sequence[str] = (),
    shorter: Sequence[Sequence[object]] | None = None,
) -> None:
    """Print rows under headers; None is an empty cell.

    A terminal that is too narrow for all gets the `shorter` rows, if there are any, and then as many of the
    columns that are `spare` are left out as must be, the first of them first.
    """
    if sys.stdout.isatty():
        from flowsched.cli import terminal  # noqa: PLC0415 - rich is for terminals only

        terminal.print_table(headers, _cells(rows), spare, _cells(rows if shorter is None else shorter))
    else:
        _print_plain(headers, _cells(rows))


def short(instant: datetime, now: datetime) -> str:
    """Return an instant as `2026-11-22 12:35`: with seconds where it has any, without the date of today."""
    clock = instant.isoformat(" ", "seconds" if instant.second or instant.microsecond else "minutes")
    day, _, time = clock.partition(" ")
    return f"{'' if instant.date() == now.date() else f'{day} '}{time.removesuffix('+00:00')}"


def local(instant: datetime, zone: str) -> str:
    """Return the instant on the wall clock of `zone`, as `Sun 2026-03-29 03:00 +02:00`."""
    return on_clock(instant, ZoneInfo(zone))


def on_clock(instant: datetime, zone: ZoneInfo) -> str:
    """Return the instant as `local` does, for a zone that is at hand."""
    there = instant.astimezone(zone)
    text = there.isoformat(" ", "minutes")
    return f"{there:%a} {text[:16]} {text[16:]}"


def iso(instant: datetime, zone: ZoneInfo) -> str:
    """Return the instant on the wall clock of `zone` for a script, as `2026-03-29T03:00:00+02:00`."""
    return instant.astimezone(zone).isoformat(timespec="seconds")


def clock_words(change: ClockChange) -> str:
    """Return what becomes of a clock at its change, as `02:00 +01:00 becomes 03:00 +02:00`."""
    before, after = change.reading_before, change.reading_after
    return f"{before:%H:%M} {offset(before)} becomes {after:%H:%M} {offset(after)}"


def offset(reading: datetime) -> str:
    """Return the offset of a reading from UTC, as `+02:00`."""
    return reading.isoformat(timespec="minutes")[16:]


def _cells(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    return [["" if cell is None else str(_plain(cell)) for cell in row] for row in rows]


def _plain(value: object) -> object:
    return stamp(value) if isinstance(value, datetime) else value


def _print_plain(headers: Sequence[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (list(headers), *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
