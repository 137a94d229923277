"""`flowsched status`: how the daemon stands."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import click

from flowsched.cli import FINE, FOUND
from flowsched.cli.durations import DURATION
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json, print_table, print_text
from flowsched.cli.status_words import heading, news, sections
from flowsched.clock import SystemClock
from flowsched.control.client import Client
from flowsched.errors import FlowschedError, UsageError

if TYPE_CHECKING:
    from flowsched.cli.status_words import Document
    from flowsched.clock import Clock

PATIENCE = 10.0
"""Real seconds that a daemon gets to answer; it asks nobody for it."""

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(hours=1)


class View(Protocol):
    """Shows one status after the other."""

    def show(self, document: Document | None, silence: str | None) -> None:
        """Show the latest status, None before there is any; and why there is no newer one, None: it is it."""


@click.command("status", epilog="Example: flowsched status --watch")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=DURATION,
    help="How often with --watch, from 1s to 1h. Default: 1s.",
)
@format_option
@click.pass_obj
def command(config: str | None, *, watch: bool, interval: timedelta | None, format_: str) -> int:
    """Show how the daemon stands: what is next, under way, paused, in doubt.

    Asks the daemon over its control socket. Exits with 1 where something needs a person: a run in doubt, a
    fire overdue, a run late, a catalog held or refused, an alert channel on which nothing gets through, a
    ledger or a clock in trouble; with 3 where no daemon answers. A run that failed is told by its alert, and
    shown, and is no reason for 1. With --watch a pipe gets a line whenever something has changed.
    """
    if interval is not None and not watch:
        raise UsageError("--interval is for --watch; allowed: --watch --interval 5s")
    if interval is None:
        interval = _SHORTEST
    if not _SHORTEST <= interval <= _LONGEST:
        raise UsageError("--interval is out of range; allowed: from 1s to 1h")
    client = Client(need_settings(config).control_socket)
    if watch:
        with _view(format_) as view:
            asyncio.run(_watch(client, view, interval, SystemClock()))
        return FINE
    query = {"last_success": "true"} if format_ == "json" else {}
    document = asyncio.run(client.ask("GET", "/v1/status", query, within=PATIENCE))
    if format_ == "json":
        print_json(document)
    else:
        _print(document)
    return FOUND if document["needs"] else FINE


def _print(document: Document) -> None:
    print_text(document["sentence"])
    print_text(heading(document))
    for section in sections(document):
        click.echo(f"\n{section.title}:")
        print_table(section.headers, section.rows, spare=section.spare)


async def _watch(client: Client, view: View, interval: timedelta, clock: Clock) -> None:
    """Show one status after the other until somebody interrupts."""
    watching = asyncio.create_task(_show_again_and_again(client, view, interval, clock))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
    with suppress(asyncio.CancelledError):
        await watching


async def _show_again_and_again(client: Client, view: View, interval: timedelta, clock: Clock) -> None:
    latest: dict[str, Any] | None = None
    while True:
        silence = None
        try:
            latest = await client.ask("GET", "/v1/status", within=PATIENCE)
        except FlowschedError as error:
            silence = str(error)
        view.show(latest, silence)
        await clock.sleep(interval.total_seconds())


def _view(format_: str) -> AbstractContextManager[View]:
    if format_ == "text" and sys.stdout.isatty():
        from flowsched.cli.status_view import StatusView  # noqa: PLC0415 - rich is for terminals only

        return StatusView()
    return nullcontext(_Lines(as_json=format_ == "json"))


class _Lines:
    """A line whenever something has changed."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._said: str | None = None

    def show(self, document: Document | None, silence: str | None) -> None:
        """Print a line where it says something else than the last one."""
        says = f"no answer: {silence}" if silence is not None else news(document or {})
        if says == self._said:
            return
        self._said = says
        if self._json:
            click.echo(
                json.dumps({"error": silence} if silence is not None else document, ensure_ascii=False)
            )
        else:
            at = "" if silence is not None or document is None else f"{document['at']} "
            click.echo(f"{at}{says}")
