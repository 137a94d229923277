"""`flowsched resolve`: settle by hand a run that nobody else can settle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli import FINE
from flowsched.cli.asking import asked
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json
from flowsched.cli.people import REASON
from flowsched.cli.runs import RUN_NUMBER
from flowsched.control.documents import watch_document
from flowsched.errors import LedgerError, UsageError
from flowsched.ledger import Ledger
from flowsched.model import RunState

if TYPE_CHECKING:
    from flowsched.model import Settings


@click.command(
    "resolve", epilog="Example: flowsched resolve 4711 --triggered --reason 'seen in the EnOS console'"
)
@click.argument("run_id", metavar="RUN", type=RUN_NUMBER)
@click.option("--triggered", is_flag=True, help="EnOS has made the instance.")
@click.option("--failed", is_flag=True, help="EnOS has not made it, and it shall not be sent again.")
@click.option(
    "--reason", type=REASON, required=True, help="How you know: one line, kept with your login name."
)
@format_option
@click.pass_obj
def command(
    config: str | None, *, run_id: int, triggered: bool, failed: bool, reason: str, format_: str
) -> int:
    """Settle a RUN that is in doubt, by the number that `flowsched runs` shows.

    For what flowsched could not find out by asking EnOS. Sends nothing. Works with and without a running
    daemon; exits with 1 where the run is not in doubt.
    """
    if triggered == failed:
        raise UsageError("say what became of the run: exactly one of --triggered and --failed")
    settings = need_settings(config)
    state = RunState.TRIGGERED if triggered else RunState.FAILED
    fields = {"run": run_id, "state": state, "reason": reason}
    run = asyncio.run(asked(settings, "/v1/resolve", fields))
    if format_ == "json":
        print_json(run | {"flow_state": asyncio.run(_flow_state(settings, run_id))})
    else:
        click.echo(_sentence(run))
    return FINE


async def _flow_state(settings: Settings, run_id: int) -> dict[str, Any] | None:
    """Return the watch that the run may have got; None also where the ledger cannot be read from here."""
    try:
        async with await Ledger.open_to_read(settings.ledger) as ledger:
            watch = (await ledger.watches_of([run_id])).get(run_id)
            return None if watch is None else watch_document(watch)
    except LedgerError:
        return None


def _sentence(run: dict[str, Any]) -> str:
    instance = f", instance {run['instance']}" if run["instance"] else ""
    return (
        f"run {run['id']} ({run['schedule_id']}, fire time {run['fire_time']}) was in doubt"
        f" and is now {run['state']}{instance}"
    )
