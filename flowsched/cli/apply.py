"""`flowsched apply`: let a catalog be put in force that the daemon holds."""

from __future__ import annotations

import asyncio
import re
import socket

import click

from flowsched import config
from flowsched.cli import FINE, FOUND
from flowsched.cli.files import need_settings
from flowsched.cli.resolve import REASON, user
from flowsched.clock import SystemClock
from flowsched.errors import quoted
from flowsched.ledger import Ledger


class _Digest(click.ParamType[str]):
    """The revision of a catalog, or how it begins."""

    name = "digest"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _DIGEST.fullmatch(value):
            self.fail(
                f"{quoted(value)} is no digest; allowed: 8 to 64 hex digits, as the log has them", param, ctx
            )
        return value.lower()


_DIGEST = re.compile(r"[0-9a-fA-F]{8,64}")


@click.command("apply", epilog="Example: flowsched apply --accept 3f2c1ab09d51 --reason 'plant closed'")
@click.option(
    "--accept",
    "digest",
    type=_Digest(),
    metavar="DIGEST",
    required=True,
    help="The digest of the catalog, or its first 8 digits or more, as the log says it.",
)
@click.option("--reason", type=REASON, help="Why: one line, kept with your login name.")
@click.pass_obj
def command(config_option: str | None, digest: str, reason: str | None) -> int:
    """Accept a catalog that changes much, so that it is put in force.

    Only what the schedule files are now can be accepted. A running daemon that holds it applies it within
    seconds, if the files are still the same; whatever else it reads is not accepted by this. Counts once:
    until another catalog is put in force.
    """
    settings = need_settings(config_option)
    revision = config.load_catalog(settings.schedules, settings).revision
    if not revision.startswith(digest):
        click.echo(
            f"flowsched: nothing is accepted: the schedule files are another catalog now: {revision}",
            err=True,
        )
        return FOUND
    by = f"{user()}@{socket.gethostname()}"
    asyncio.run(_accept(settings.ledger, revision, by, reason))
    click.echo(f"accepted by {by}: the catalog {digest}; a daemon that holds it applies it within seconds")
    return FINE


async def _accept(url: str, revision: str, by: str, reason: str | None) -> None:
    # A reader makes no ledger where there is none, and does not bring an older one to our version.
    async with await Ledger.open_to_read(url), await Ledger.open(url) as ledger:
        await ledger.accept(revision, SystemClock().now(), by, reason)
