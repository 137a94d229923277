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
    elif not runs:
        click.echo("no such runs", err=True)
    else:
        print_table(
            ["run", "fire time (UTC)", "schedule", "state", "origin", "attempts", "instance", "reason"],
            [row for run in runs for row in _rows(run, tried)],
        )


async def _read(
    url: str, schedule: str | None, state: RunState | None, limit: int, *, attempts: bool
) -> tuple[list[Run], dict[int, list[Attempt]] | None]:
    ledger = await Ledger.open_to_read(url)
    try:
        runs = await ledger.runs(schedule_id=schedule, state=state, limit=limit)
        return runs, await ledger.attempts([run.id for run in runs]) if attempts else None
    finally:
        await ledger.aclose()


def _rows(run: Run, tried: dict[int, list[Attempt]] | None) -> list[list[object]]:
    head: list[object] = [
        run.id,
        run.fire_time,
        run.schedule_id,
        run.state,
        run.origin,
        run.attempts,
        run.instance,
        run.reason,
    ]
    return [head, *map(_attempt_row, (tried or {}).get(run.id, []))]


def _attempt_row(attempt: Attempt) -> list[object]:
    return [None, attempt.started_at, None, attempt.outcome, None, attempt.number, None, attempt.detail]


def _record(run: Run, tried: dict[int, list[Attempt]] | None) -> dict[str, Any]:
    retry = {
        name: value if isinstance(value, int | float) else value.total_seconds()
        for name, value in dataclasses.asdict(run.retry).items()
    }
    record = dataclasses.asdict(run) | {"retry": retry, "source": str(run.source)}
    if tried is not None:
        record["tried"] = [dataclasses.asdict(each) for each in tried.get(run.id, [])]
    return record
