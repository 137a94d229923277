"""`flowsched cancel`: end a run, or its instance."""

from __future__ import annotations

import asyncio

import click

from flowsched.cli import FINE
from flowsched.cli.asking import asked
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json
from flowsched.cli.people import REASON
from flowsched.cli.runs import RUN_NUMBER


@click.command("cancel", epilog="Example: flowsched cancel 4711 --reason 'input was not complete'")
@click.argument("run_id", metavar="RUN", type=RUN_NUMBER)
@click.option("--reason", type=REASON, required=True, help="Why: one line, kept with your login name.")
@format_option
@click.pass_obj
def command(config: str | None, *, run_id: int, reason: str, format_: str) -> int:
    """End a RUN that is not sent yet, or ask EnOS to cancel its instance, by the number of `flowsched runs`.

    A run that is claimed or waiting becomes failed. Of one that is triggered, EnOS is asked to cancel the
    instance: best effort, and the run stays triggered. Exits with 1 where there is nothing to cancel, or a
    call is under way.
    """
    fields = {"run": run_id, "reason": reason}
    done = asyncio.run(asked(need_settings(config), "/v1/cancel", fields))
    if format_ == "json":
        print_json(done)
    else:
        run = done["run"]
        click.echo(f"run {run['id']} ({run['schedule_id']}) is {run['state']}: {done['said']}")
    return FINE
