"""`flowsched reload`: have the daemon read the schedules anew."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from flowsched.cli import FINE, FOUND
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json
from flowsched.cli.people import person
from flowsched.control.client import Client
from flowsched.model import SHORT, ReloadOutcome

_IN_FORCE = (ReloadOutcome.APPLIED, ReloadOutcome.UNCHANGED)

_WORDS = {
    ReloadOutcome.APPLIED: "applied: catalog {revision} is in force",
    ReloadOutcome.UNCHANGED: "unchanged: catalog {revision} is in force already",
    ReloadOutcome.HELD: "held: catalog {revision} changes much, and the one before stays in force;"
    " `flowsched apply --accept {revision}` puts it in force",
    ReloadOutcome.REFUSED: "refused: the catalog before stays in force",
    ReloadOutcome.FAILED: "failed: the catalog before stays in force",
}


@click.command("reload", epilog="Example: flowsched reload --wait")
@click.option("--wait", is_flag=True, help="Stay until it is over, and say what came of it.")
@format_option
@click.pass_obj
def command(config: str | None, *, wait: bool, format_: str) -> int:
    """Have the daemon read the schedules anew, as SIGHUP does.

    All of them take effect, or where one has a problem, none. With --wait the problems are shown as
    `flowsched validate` shows them, and it exits with 1 where the files are not put in force. Exits with 3
    where no daemon answers.
    """
    client = Client(need_settings(config).control_socket, person())
    reload = asyncio.run(client.ask("POST", "/v1/reload", {"wait": wait}))["reload"]
    none = "asked: the daemon reads the schedules; `flowsched status` shows what came of it"
    return say_reload(reload, format_, none)


def say_reload(reload: dict[str, Any] | None, format_: str, none: str) -> int:
    """Print what came of a reading: each problem, as `validate` does, and a line that sums it up.

    Of None it prints `none`. Returns what to exit with: 1 where what was read is known not to count.
    """
    if format_ == "json":
        print_json({"reload": reload})
    elif reload is None:
        click.echo(none)
    else:
        revision = (reload["revision"] or "")[:SHORT]
        for line in (*reload["problems"], _WORDS[ReloadOutcome(reload["outcome"])].format(revision=revision)):
            click.echo(line)
    return FINE if reload is None or reload["outcome"] in _IN_FORCE else FOUND
