"""`flowsched apply`: let a catalog be put in force that the daemon holds."""

from __future__ import annotations

import asyncio
import re

import click

from flowsched.cli.asking import asked
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option
from flowsched.cli.people import REASON
from flowsched.cli.reload import say_reload
from flowsched.errors import quoted


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
    what came of it; exits with 1 where it is not in force then, or nothing is accepted. Without a daemon the
    acceptance is in the ledger, for the next one that starts.
    """
    fields = {"digest": digest, **({} if reason is None else {"reason": reason})}
    reload = asyncio.run(asked(need_settings(config_option), "/v1/accept", fields))["reload"]
    none = f"accepted: catalog {digest}; there is no daemon, and the next one that starts puts it in force"
    return say_reload(reload, format_, none)
