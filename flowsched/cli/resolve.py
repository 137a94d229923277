"""`flowsched resolve`: settle by hand a run that nobody else can settle."""

from __future__ import annotations

import asyncio
import getpass
import os
from typing import TYPE_CHECKING

import click

from flowsched.cli import FINE, FOUND
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json
from flowsched.cli.runs import RUN_NUMBER, record_of
from flowsched.clock import SystemClock
from flowsched.errors import FlowschedError, LedgerRefusal, UsageError, printable
from flowsched.ledger import Ledger
from flowsched.model import NextStep, RunState
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from flowsched.model import Run, Watch

_LONGEST_REASON = 500


class _NotInDoubt(FlowschedError):  # noqa: N818 - it says what the run is
    """There is nothing to settle; the text says why, and what can be done."""


class _Reason(click.ParamType[str]):
    """One line of text that says something."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = value.strip()
        if not text or not text.isprintable() or len(text) > _LONGEST_REASON:
            self.fail(f"allowed: one line of 1 to {_LONGEST_REASON} printable characters", param, ctx)
        return text


REASON = _Reason()


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
    step = NextStep(state, f"resolved by hand ({user()}): {reason}")
    try:
        run, watch = asyncio.run(_resolve(settings.ledger, run_id, step))
    except _NotInDoubt as error:
        click.echo(f"flowsched: {error}", err=True)
        return FOUND
    if format_ == "json":
        print_json(record_of(run, watch))
    else:
        click.echo(_sentence(run))
    return FINE


async def _resolve(url: str, run_id: int, step: NextStep) -> tuple[Run, Watch | None]:
    """Settle the run, and return it with the watch that it may have got; raises _NotInDoubt."""
    # A reader makes no ledger where there is none, and does not bring an older one to our version.
    async with await Ledger.open_to_read(url) as reader:
        _require_in_doubt(run_id, await reader.run(run_id))
        async with await Ledger.open(url) as ledger:
            try:
                run = await ledger.resolve(run_id, SystemClock().now(), step)
            except LedgerRefusal:  # a daemon has found out meanwhile
                _require_in_doubt(run_id, await reader.run(run_id))
                raise
        return run, (await reader.watches_of([run_id])).get(run_id)


def _require_in_doubt(run_id: int, run: Run | None) -> None:
    if run is None:
        raise _NotInDoubt(f"there is no run {run_id} in the ledger; `flowsched runs` shows their numbers")
    if run.state is not RunState.IN_DOUBT:
        raise _NotInDoubt(f"run {run_id} is {run.state}, not in doubt: {_what_then(run.state)}")


def _what_then(state: RunState) -> str:
    if state.final:
        return "that is final, and there is nothing to settle"
    if state is RunState.SENDING:
        return "a daemon has it under way, or will find it in doubt at its next start"
    return "a daemon carries it on by itself, now or at its next start"


def user() -> str:
    """Return the login name of whoever runs this, or the number where there is no name."""
    try:
        return printable(getpass.getuser())
    except (KeyError, OSError, ImportError):  # a user id without a name
        return str(os.getuid())


def _sentence(run: Run) -> str:
    instance = f", instance {run.instance}" if run.instance else ""
    return (
        f"run {run.id} ({run.schedule_id}, fire time {stamp(run.fire_time)}) was {RunState.IN_DOUBT}"
        f" and is now {run.state}{instance}"
    )
