"""A live view of what is due, under way and done: redrawn on a terminal, line by line in a pipe."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import click

from flowsched.cli.output import print_table
from flowsched.model import RunState
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from flowsched.model import Fire, Run


class View(Protocol):
    """Something that shows how things stand."""

    def show(self, now: datetime, upcoming: Sequence[Fire], runs: Sequence[Run]) -> None:
        """Show this instant: the next fires in order, and the runs, latest fire time first."""


def view(title: str) -> AbstractContextManager[View]:
    """Return the view that suits standard output."""
    if sys.stdout.isatty():
        from flowsched.cli.terminal import LiveView  # noqa: PLC0415 - rich is for terminals only

        return LiveView(title)
    return LinesView(title)


class LinesView:
    """Prints a line for each run that entered a state not seen before."""

    def __init__(self, title: str) -> None:
        self._seen: set[tuple[int, RunState, int]] = set()
        click.echo(title)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print no more."""

    def show(self, now: datetime, upcoming: Sequence[Fire], runs: Sequence[Run]) -> None:  # noqa: ARG002
        """Print what is new."""
        for run in reversed(runs):
            key = (run.id, run.state, run.attempts)
            if key not in self._seen and run.state not in (RunState.CLAIMED, RunState.SENDING):
                self._seen.add(key)
                click.echo(f"{stamp(now.replace(microsecond=0))}  {_sentence(run)}")


def print_summary(runs: Sequence[Run]) -> None:
    """Print runs given latest fire time first, the earliest on top, and the sums by state."""
    if not runs:
        click.echo("nothing fired")
        return
    headers = ["fire time (UTC)", "schedule", "flow", "task", "state", "attempts", "instance", "reason"]
    rows = [_summary_row(run) for run in reversed(runs)]
    print_table(headers, rows, spare=("task", "flow", "attempts", "instance"))
    sums = Counter(run.state.value for run in runs)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(sums.items()))
    click.echo(f"{len(runs)} runs: {counted}")


def _summary_row(run: Run) -> list[object]:
    return [
        f"{run.fire_time:%Y-%m-%d %H:%M}",
        run.schedule_id,
        run.flow,
        run.task,
        run.state,
        run.attempts,
        run.instance,
        run.reason,
    ]


def _sentence(run: Run) -> str:
    flow = f"flow {run.flow}" + (f" from task {run.task}" if run.task else "")
    head = f"{run.state.value:<9}  {run.schedule_id}  {flow}  fire time {stamp(run.fire_time)}"
    if run.instance:
        return f"{head}  instance {run.instance}"
    return f"{head}  ({run.reason})" if run.reason else head
