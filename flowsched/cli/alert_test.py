"""`flowsched alert-test`: see whether alerts arrive."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli import FINE, FOUND
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json, print_table
from flowsched.cli.people import person
from flowsched.clock import SystemClock
from flowsched.control.client import Client
from flowsched.errors import NoDaemon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowsched.model import Settings

PATIENCE = 90.0
"""Real seconds that a daemon has for it; each channel has a minute."""


@click.command("alert-test", epilog="Example: flowsched alert-test on-call")
@click.argument("channel", required=False)
@format_option
@click.pass_obj
def command(config_option: str | None, *, channel: str | None, format_: str) -> int:
    """Send a test over each alert channel of flowsched.yaml, or over one CHANNEL, right now.

    The daemon sends it, as it has the secrets; where none answers, this command does. A test is sent once,
    whatever the channel asks for, and is not recorded. Nothing is pinged. Exits with 1 where one failed.
    """
    settings = need_settings(config_option)
    sender, trials = asyncio.run(_trials(settings, channel))
    if format_ == "json":
        print_json({"sent_by": sender, "trials": trials})
    elif not trials:
        click.echo(f"There are no channels: {settings.file} has no alerts.")
    else:
        _print(sender, trials)
    return FINE if all(trial["ok"] for trial in trials) else FOUND


async def _trials(settings: Settings, channel: str | None) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """Return who has sent the tests, and what came of each."""
    body = {} if channel is None else {"channel": channel}
    try:
        client = Client(settings.control_socket, person())
        found = await client.ask("POST", "/v1/alert-test", body, within=PATIENCE)
    except NoDaemon:
        from flowsched.alerts.telling import trial_of  # noqa: PLC0415 - only needed without a daemon

        trials = await trial_of(settings, channel, person(), os.environ, SystemClock())
        return "this command", [trial.document() for trial in trials]
    return "daemon", found["trials"]


def _print(sender: str, trials: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            trial["channel"],
            trial["kind"],
            "sent" if trial["ok"] else "failed",
            f"{trial['seconds']:.2f} s",
            trial["detail"],
        )
        for trial in trials
    ]
    print_table(["channel", "kind", "outcome", "took", "detail"], rows)
    click.echo(f"Sent by {'the daemon' if sender == 'daemon' else sender + ', as no daemon answers'}.")
