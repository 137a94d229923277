"""`flowsched apply`: let a catalog be put in force that the daemon holds."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

import click

from flowsched import config
from flowsched.cli import FINE, FOUND
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json
from flowsched.cli.people import REASON, person
from flowsched.cli.reload import is_in_force, say_reload
from flowsched.clock import SystemClock
from flowsched.control.client import Client
from flowsched.errors import ControlRefusal, NoDaemon, quoted
from flowsched.ledger import Ledger

if TYPE_CHECKING:
    from flowsched.model import Settings


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
@format_option
@click.pass_obj
def command(config_option: str | None, *, digest: str, reason: str | None, format_: str) -> int:
    """Accept a catalog that changes much, so that it is put in force.

    Only what the schedule files are now can be accepted; whatever else is read later is not accepted by this.
    Counts once: until another catalog is put in force. The daemon puts it in force at once, and this says
    what came of it; exits with 1 where it is not in force then. Where no daemon answers, the acceptance is
    written into the ledger, for one that holds the catalog.
    """
    settings = need_settings(config_option)
    fields = {"digest": digest, **({} if reason is None else {"reason": reason})}
    client = Client(settings.control_socket, person())
    try:
        reload = asyncio.run(client.ask("POST", "/v1/accept", fields))["reload"]
    except NoDaemon:
        return _accepted_on_record(settings, digest, reason, format_)
    if format_ == "json":
        print_json({"reload": reload})
    else:
        say_reload(reload)
    return FINE if is_in_force(reload) else FOUND


def _accepted_on_record(settings: Settings, digest: str, reason: str | None, format_: str) -> int:
    revision = config.load_catalog(settings.schedules, settings).revision
    if not revision.startswith(digest):
        raise ControlRefusal(f"nothing is accepted: the schedule files are another catalog now: {revision}")
    by = f"{person()}@{socket.gethostname()}"
    asyncio.run(_accept(settings.ledger, revision, by, reason))
    if format_ == "json":
        print_json({"reload": None, "accepted": revision, "by": by})
    else:
        click.echo(
            f"accepted by {by}: the catalog {digest}; no daemon answers, and one that holds it applies it"
            " within seconds"
        )
    return FINE


async def _accept(url: str, revision: str, by: str, reason: str | None) -> None:
    # A reader makes no ledger where there is none, and does not bring an older one to our version.
    async with await Ledger.open_to_read(url), await Ledger.open(url) as ledger:
        await ledger.accept(revision, SystemClock().now(), by, reason)
