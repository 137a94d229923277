"""`flowsched runs`: what the ledger holds."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json, print_table
from flowsched.errors import UsageError, quoted
from flowsched.ledger import Ledger
from flowsched.model import FlowState, RunState
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flowsched.ledger import LedgerReader
    from flowsched.model import AppliedCatalog, Attempt, Commit, Run, Watch


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which runs to show; None: whichever."""

    run_id: int | None
    schedule_id: str | None
    state: RunState | None
    limit: int
    attempts: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """What was read."""

    runs: list[Run]
    watches: Mapping[int, Watch]
    attempts: Mapping[int, list[Attempt]] | None
    """None: not asked for."""
    catalogs: Sequence[AppliedCatalog]
    """Every catalog on record, oldest first."""

    def commit(self, run: Run) -> Commit | None:
        """Return the commit under which a run was made; None where that is not known."""
        under = (
            one
            for one in reversed(self.catalogs)
            if one.revision == run.revision and one.at <= run.claimed_at
        )
        return next((one.commit for one in under), None)


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

    Where a run's flow is watched, it is also shown what became of it.
    """
    if run_id is not None and (schedule or state):
        raise UsageError(
            "--run names one run, whatever its schedule and state: leave out --schedule and --state"
        )
    wanted = _Wanted(
        run_id=run_id,
        schedule_id=schedule,
        state=RunState(state) if state else None,
        limit=limit,
        attempts=attempts,
    )
    shown = asyncio.run(_read(need_settings(config).ledger, wanted))
    if format_ == "json":
        print_json({"runs": [_record(run, shown) for run in shown.runs]})
    elif shown.runs:
        _print(shown)
    else:
        click.echo("no such runs", err=True)


async def _read(url: str, wanted: _Wanted) -> _Shown:
    async with await Ledger.open_to_read(url) as ledger:
        runs = await _runs(ledger, wanted)
        ids = [run.id for run in runs]
        watched = [run.id for run in runs if run.watch is not None]
        watches = await ledger.watches_of(watched) if watched else {}
        attempts = await ledger.attempts(ids) if wanted.attempts else None
        return _Shown(runs, watches, attempts, await ledger.catalogs())


async def _runs(ledger: LedgerReader, wanted: _Wanted) -> list[Run]:
    if wanted.run_id is None:
        return await ledger.runs(schedule_id=wanted.schedule_id, state=wanted.state, limit=wanted.limit)
    run = await ledger.run(wanted.run_id)
    return [] if run is None else [run]


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


def _print(shown: _Shown) -> None:
    columns = _columns(shown)
    print_table(list(columns), [[cell(run) for cell in columns.values()] for run in shown.runs])
    if shown.attempts is not None:
        click.echo()
        tried = [each for run in shown.runs for each in shown.attempts[run.id]]
        rows = [[getattr(each, name) for name in _ATTEMPT_COLUMNS.values()] for each in tried]
        print_table(list(_ATTEMPT_COLUMNS), rows)


def _columns(shown: _Shown) -> dict[str, Callable[[Run], object]]:
    """Return what stands under each header, without the columns in which nothing would."""
    jittered = any(run.due_at != run.fire_time for run in shown.runs)
    due: dict[str, Callable[[Run], object]] = {"due (UTC)": lambda run: run.due_at}
    flow: dict[str, Callable[[Run], object]] = {"flow": lambda run: _flow(shown.watches.get(run.id))}
    return {
        "run": lambda run: run.id,
        "fire time (UTC)": lambda run: run.fire_time,
        **(due if jittered else {}),
        "schedule": lambda run: run.schedule_id,
        "state": lambda run: run.state,
        **(flow if shown.watches else {}),
        "origin": lambda run: run.origin,
        "attempts": lambda run: run.attempts,
        "instance": _instance,
        "reason": _reason,
    }


def _instance(run: Run) -> str | None:
    """Return the instance; of a run in doubt the one to look for in EnOS, with a question mark."""
    return f"{run.predicted_instance}?" if run.state is RunState.IN_DOUBT else run.instance


def _reason(run: Run) -> str:
    again = f"again at {stamp(run.retry_at)}" if run.retry_at else None
    return "; ".join(filter(None, (again, run.reason, run.note)))


def _flow(watch: Watch | None) -> str | None:
    """Return what became of a run's flow; with the number that EnOS gives for it, where it is not well."""
    if watch is None:
        return None
    unwell = watch.state in (FlowState.FAILED, FlowState.LATE) and watch.status is not None
    return f"{watch.state} (status {watch.status})" if unwell else watch.state


def _record(run: Run, shown: _Shown) -> dict[str, Any]:
    tried = None if shown.attempts is None else shown.attempts[run.id]
    commit = shown.commit(run)
    said = {"commit": None if commit is None else dataclasses.asdict(commit)}
    return record_of(run, shown.watches.get(run.id), tried) | said


def record_of(run: Run, watch: Watch | None, attempts: Sequence[Attempt] | None = None) -> dict[str, Any]:
    """Return a run as JSON has it: spans in seconds; `attempts` is there only where they are given."""
    retry = {
        name: value if isinstance(value, int | float) else value.total_seconds()
        for name, value in dataclasses.asdict(run.retry).items()
    }
    record = dataclasses.asdict(run) | {
        "retry": retry,
        "source": str(run.source),
        "watch": None if run.watch is None else run.watch.total_seconds(),
        "flow_state": flow_state(watch),
    }
    record["attempts_begun"] = record.pop("attempts")
    if attempts is not None:
        record["attempts"] = [dataclasses.asdict(each) for each in attempts]
    return record


def flow_state(watch: Watch | None) -> dict[str, Any] | None:
    """Return what became of the flow of a run as JSON has it; None: it is not watched."""
    return None if watch is None else {name: getattr(watch, name) for name in _FLOW_FIELDS}


_FLOW_FIELDS = ("state", "status", "started", "ended", "until")
