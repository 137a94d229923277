"""`flowsched log`: what people have done, and which catalogs were applied."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json, print_table
from flowsched.control.client import Client
from flowsched.control.documents import action_document, catalog_document
from flowsched.errors import LedgerError, NoAnswer, NoDaemon
from flowsched.ledger import Ledger
from flowsched.model import SHORT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowsched.model import Settings

    Document = Mapping[str, Any]

_MOST = 10_000


@click.command("log", epilog="Example: flowsched log --limit 5")
@click.option(
    "--limit", type=click.IntRange(1, _MOST), default=20, show_default=True, help="How many at most."
)
@format_option
@click.pass_obj
def command(config: str | None, *, limit: int, format_: str) -> None:
    """Show what people did by hand, and which catalogs were put in force, newest first.

    Reads the ledger, also beside a running daemon; where it cannot be read from here, the daemon is asked.
    """
    actions, catalogs = asyncio.run(_read(need_settings(config), limit))
    lines = [("action", each) for each in actions] + [("catalog", each) for each in catalogs]
    lines.sort(key=lambda line: datetime.fromisoformat(line[1]["at"]), reverse=True)
    shown = lines[:limit]
    if format_ == "json":
        print_json({"log": [{"entry": kind, **entry} for kind, entry in shown]})
    elif shown:
        headers = ["time (UTC)", "who", "what", "to", "reason", "came of it"]
        print_table(headers, [_row(kind, entry) for kind, entry in shown], spare=("reason",))
    else:
        click.echo("nothing yet", err=True)


async def _read(settings: Settings, limit: int) -> tuple[Sequence[Document], Sequence[Document]]:
    try:
        async with await Ledger.open_to_read(settings.ledger) as ledger:
            applied = await ledger.catalogs()
            return (
                [action_document(each) for each in await ledger.actions(limit)],
                [catalog_document(each) for each in reversed(applied[-limit:])],
            )
    except LedgerError as error:
        try:
            return await _asked(settings, limit)
        except (NoDaemon, NoAnswer) as nobody:
            raise LedgerError(f"{error}; and {nobody}") from error


async def _asked(settings: Settings, limit: int) -> tuple[Sequence[Document], Sequence[Document]]:
    client, fields = Client(settings.control_socket), {"limit": str(limit)}
    actions = await client.ask("GET", "/v1/actions", fields)
    catalogs = await client.ask("GET", "/v1/catalogs", fields)
    return actions["actions"], catalogs["catalogs"]


def _row(kind: str, entry: Document) -> list[object]:
    if kind == "action":
        return [entry[key] for key in ("at", "by", "kind", "subject", "reason", "detail")]
    commit = entry["commit"]
    if commit is None:
        origin = None
    else:
        dirty = "" if commit["clean"] else ", with changes"
        origin = f"commit {commit['id'][:SHORT]} by {commit['author']}{dirty}"
    subject = f"catalog {entry['revision'][:SHORT]}"
    many = "" if entry["schedules"] == 1 else "s"
    came = f"{entry['schedules']} schedule{many}, {entry['enabled']} enabled"
    return [entry["at"], None, "applied", subject, None, "; ".join(filter(None, (came, origin)))]
