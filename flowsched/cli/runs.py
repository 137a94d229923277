"""`flowsched runs`: what the ledger holds."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json, print_table
from flowsched.ledger import Ledger
from flowsched.model import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowsched.model import Attempt, Run


@click.command("runs", epilog="Example: flowsched runs --state in_doubt --attempts")
@click.option("--schedule", metavar="ID", help="Only the runs of this schedule.")
@click.option(
    "--state", type=click.Choice([state.value for state in RunState]), help="Only runs in this state."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many at most."
)
@click.option("--attempts", is_flag=True, help="Show each run's attempts.")
@format_option
@click.pass_obj
def command(
    config: str | None, *, schedule: str | None, state: str | None, limit: int, attempts: bool, format_: str
) -> None:
    """Show the runs that the ledger holds, latest fire time first. Works beside a running daemon."""
    settings = need_settings(config)
    runs, tried = asyncio.run(
        _read(settings.ledger, schedule, RunState(state) if state else None, limit, attempts=attempts)
    )
    if format_ == "json":
        print_json({"runs": [_record(run, tried) for run in runs]})
    elif runs:
        _print(_RUN_COLUMNS, runs)
        if tried is not None:
            click.echo()
            _print(_ATTEMPT_COLUMNS, (each for run in runs for each in tried[run.id]))
    else:
        click.echo("no such runs", err=True)


async def _read(
    url: str, schedule: str | None, state: RunState | None, limit: int, *, attempts: bool
) -> tuple[list[Run], dict[int, list[Attempt]] | None]:
    async with await Ledger.open_to_read(url) as ledger:
        runs = await ledger.runs(schedule_id=schedule, state=state, limit=limit)
        return runs, await ledger.attempts([run.id for run in runs]) if attempts else None


_RUN_COLUMNS = {
    "run": "id",
    "fire time (UTC)": "fire_time",
    "schedule": "schedule_id",
    "state": "state",
    "origin": "origin",
    "attempts": "attempts",
    "instance": "instance",
    "reason": "reason",
}
_ATTEMPT_COLUMNS = {
    "run": "run_id",
    "attempt": "number",
    "started (UTC)": "started_at",
    "ended (UTC)": "ended_at",
    "outcome": "outcome",
    "HTTP": "http_status",
    "code": "code",
    "detail": "detail",
}
"""The field under each header."""


def _print(columns: dict[str, str], records: Iterable[Run | Attempt]) -> None:
    rows = [[getattr(record, name) for name in columns.values()] for record in records]
    print_table(list(columns), rows)


def _record(run: Run, tried: dict[int, list[Attempt]] | None) -> dict[str, Any]:
    """Return a run as JSON has it: spans in seconds, `attempts` the list of them where it was asked for."""
    retry = {
        name: value if isinstance(value, int | float) else value.total_seconds()
        for name, value in dataclasses.asdict(run.retry).items()
    }
    record = dataclasses.asdict(run) | {"retry": retry, "source": str(run.source)}
    record["attempts_begun"] = record.pop("attempts")
    if tried is not None:
        record["attempts"] = [dataclasses.asdict(each) for each in tried[run.id]]
    return record
