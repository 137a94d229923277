"""`flowsched runs`: what the ledger holds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flowsched import config as files
from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json, print_table, short
from flowsched.clock import SystemClock
from flowsched.control.client import Client
from flowsched.control.history import RunsWanted, found_documents, look_up
from flowsched.errors import ConfigError, LedgerError, LedgerUnusable, NoAnswer, NoDaemon, UsageError, quoted
from flowsched.ledger import Ledger
from flowsched.model import FlowState, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flowsched.model import Settings

Document = Mapping[str, Any]


class _RunNumber(click.ParamType[int]):
    """The short name of a run, as `flowsched runs` shows it."""

    name = "run"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not _NUMBER.fullmatch(value):
            self.fail(f"{quoted(value)} is no run; allowed: a number that `flowsched runs` shows", param, ctx)
        return int(value)


_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
"""Well within what a ledger can number."""

RUN_NUMBER = _RunNumber()


@click.command("runs", epilog="Example: flowsched runs --state in_doubt --attempts")
@click.option("--run", "run_id", type=RUN_NUMBER, metavar="N", help="Only this run.")
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
def command(  # noqa: PLR0913 - one parameter an option
    config: str | None,
    *,
    run_id: int | None,
    schedule: str | None,
    state: str | None,
    limit: int,
    attempts: bool,
    format_: str,
) -> None:
    """Show the runs that the ledger holds, latest fire time first. Works beside a running daemon.

    Where a run's flow is watched, it is also shown what became of it. Where the ledger cannot be read from
    here, the daemon is asked. Exits with 1 where there is no run N, or where the schedule is neither in the
    ledger nor in the files; that a schedule has no such runs is 0.
    """
    if run_id is not None and (schedule or state):
        raise UsageError(
            "--run names one run, whatever its schedule and state: leave out --schedule and --state"
        )
    wanted = RunsWanted(
        run_id=run_id,
        schedule_id=schedule,
        state=RunState(state) if state else None,
        limit=limit,
        attempts=attempts,
    )
    runs = asyncio.run(_read(need_settings(config), wanted))
    if format_ == "json":
        print_json({"runs": runs})
    elif runs:
        _print(runs)
    else:
        click.echo("no such runs", err=True)


async def _read(settings: Settings, wanted: RunsWanted) -> Sequence[Document]:
    try:
        async with await Ledger.open_to_read(settings.ledger) as ledger:
            return found_documents(await look_up(ledger, wanted, lambda: _in_files(settings)))
    except LedgerUnusable:
        raise
    except LedgerError as error:
        try:
            return await _asked(settings, wanted)
        except (NoDaemon, NoAnswer) as nobody:
            raise LedgerError(f"{error}; and {nobody}") from error


def _in_files(settings: Settings) -> Iterable[str] | None:
    try:
        return files.load_catalog(settings.schedules, settings).schedules
    except ConfigError:
        return None


async def _asked(settings: Settings, wanted: RunsWanted) -> Sequence[Document]:
    """Ask the daemon; it takes no larger `limit` than `routes.MOST_SHOWN_AT_ONCE`, and says so."""
    client, fields = Client(settings.control_socket), {"attempts": "true"} if wanted.attempts else {}
    if wanted.run_id is not None:
        return [await client.ask("GET", f"/v1/runs/{wanted.run_id}", fields)]
    fields["limit"] = str(wanted.limit)
    if wanted.schedule_id is not None:
        fields["schedule"] = wanted.schedule_id
    if wanted.state is not None:
        fields["state"] = wanted.state.value
    runs: Sequence[Document] = (await client.ask("GET", "/v1/runs", fields))["runs"]
    return runs


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


def _print(runs: Sequence[Document]) -> None:
    columns = _columns(runs)
    now = SystemClock().now()
    cells = [[cell(run) for cell in columns.values()] for run in runs]
    # Of a run in doubt the instance is what has to be looked for; else it follows from flow and fire time.
    in_doubt = any(run["state"] == RunState.IN_DOUBT for run in runs)
    print_table(
        list(columns),
        cells,
        spare=("origin", "attempts", "due (UTC)", *([] if in_doubt else ["instance"])),
        shorter=_shorter(list(columns), cells, now),
    )
    if "attempts" in runs[0]:
        click.echo()
        tried = [each for run in runs for each in run["attempts"]]
        rows = [[each[name] for name in _ATTEMPT_COLUMNS.values()] for each in tried]
        headers = list(_ATTEMPT_COLUMNS)
        print_table(headers, rows, shorter=_shorter(headers, rows, now))


def _shorter(headers: Sequence[str], rows: Sequence[Sequence[object]], now: datetime) -> list[list[object]]:
    """Return the rows with their times in short."""
    return [
        [
            short(datetime.fromisoformat(str(cell)), now) if cell and header.endswith("(UTC)") else cell
            for header, cell in zip(headers, row, strict=True)
        ]
        for row in rows
    ]


def _columns(runs: Sequence[Document]) -> dict[str, Callable[[Document], object]]:
    """Return what stands under each header, without the columns in which nothing would."""
    jittered = any(run["due_at"] != run["fire_time"] for run in runs)
    watched = any(run["flow_state"] for run in runs)
    due: dict[str, Callable[[Document], object]] = {"due (UTC)": lambda run: run["due_at"]}
    flow: dict[str, Callable[[Document], object]] = {"flow": lambda run: _flow(run["flow_state"])}
    return {
        "run": lambda run: run["id"],
        "fire time (UTC)": lambda run: run["fire_time"],
        **(due if jittered else {}),
        "schedule": lambda run: run["schedule_id"],
        "state": lambda run: run["state"],
        **(flow if watched else {}),
        "origin": lambda run: run["origin"],
        "attempts": lambda run: run["attempts_begun"],
        "instance": _instance,
        "reason": _reason,
    }


def _instance(run: Document) -> str | None:
    """Return the instance; of a run in doubt the one to look for in EnOS, with a question mark."""
    in_doubt = run["state"] == RunState.IN_DOUBT
    instance: str | None = f"{run['predicted_instance']}?" if in_doubt else run["instance"]
    return instance


def _reason(run: Document) -> str:
    again = f"again at {run['retry_at']}" if run["retry_at"] else None
    return "; ".join(filter(None, (again, run["reason"], run["note"])))


def _flow(flow: Document | None) -> str | None:
    """Return what became of a run's flow; with the number that EnOS gives for it, where it is not well."""
    if flow is None:
        return None
    unwell = flow["state"] in (FlowState.FAILED, FlowState.LATE) and flow["status"] is not None
    return f"{flow['state']} (status {flow['status']})" if unwell else str(flow["state"])
