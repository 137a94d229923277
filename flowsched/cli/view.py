"""A live view of what is due, under way and done: redrawn on a terminal, line by line in a pipe."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import click

from flowsched.cli.output import local, print_table
from flowsched.model import RunState
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from rich.console import RenderableType
    from rich.live import Live

    from flowsched.model import Fire, Run

_COLOURS: dict[str, str] = {
    RunState.TRIGGERED: "green",
    RunState.WAITING: "yellow",
    RunState.MISSED: "yellow",
    RunState.IN_DOUBT: "magenta",
    RunState.FAILED: "red",
}

_ROWS = 8
"""Of each of the three tables: together they fit a terminal of 40 lines."""


class View(AbstractContextManager["View"], Protocol):
    """Something that shows how things stand."""

    def show(self, now: datetime, upcoming: Sequence[Fire], runs: Sequence[Run]) -> None:
        """Show this instant: the next fires in order, and the runs, latest fire time first."""


def view(title: str) -> View:
    """Return the view that suits standard output."""
    return LiveView(title) if sys.stdout.isatty() else LinesView(title)


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
                click.echo(f"{stamp(now)[:19]}Z  {_sentence(run)}")


class LiveView:
    """Redraws three tables in place."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live  # noqa: PLC0415 - only where there is a terminal

        self._live = Live(auto_refresh=False)
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def show(self, now: datetime, upcoming: Sequence[Fire], runs: Sequence[Run]) -> None:
        """Redraw."""
        if self._live is not None:
            self._live.update(self._picture(now, upcoming, runs), refresh=True)

    def _picture(self, now: datetime, upcoming: Sequence[Fire], runs: Sequence[Run]) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415 - only where there is a terminal
        from rich.text import Text  # noqa: PLC0415

        under_way = [run for run in runs if not run.state.final]
        done = [run for run in runs if run.state.final]
        return Group(
            Text(self._title, style="bold"),
            Text(f"{now:%a %Y-%m-%d %H:%M:%S} UTC"),
            _table("Due next", ["fire time (UTC)", "local", "schedule", "flow"], map(_due_row, upcoming)),
            _table("Under way", ["fire time (UTC)", "schedule", "state", "why"], map(_open_row, under_way)),
            _table(
                "Done", ["fire time (UTC)", "schedule", "state", "instance, or why"], map(_done_row, done)
            ),
        )


def print_summary(runs: Sequence[Run]) -> None:
    """Print every run, earliest fire time first, and the sums by state."""
    print_table(
        ["fire time (UTC)", "schedule", "flow", "task", "state", "attempts", "instance", "reason"],
        [
            [
                run.fire_time,
                run.schedule_id,
                run.flow,
                run.task,
                run.state,
                run.attempts,
                run.instance,
                run.reason,
            ]
            for run in reversed(runs)
        ],
    )
    sums = Counter(run.state.value for run in runs)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(sums.items()))
    click.echo(f"{len(runs)} runs: {counted}" if runs else "nothing fired")


def _sentence(run: Run) -> str:
    flow = f"flow {run.flow}" + (f" from task {run.task}" if run.task else "")
    head = f"{run.state.value:<9}  {run.schedule_id}  {flow}  fire time {stamp(run.fire_time)}"
    if run.instance:
        return f"{head}  instance {run.instance}"
    return f"{head}  ({run.reason})" if run.reason else head


def _table(title: str, headers: list[str], rows: map[list[str]]) -> RenderableType:
    from rich import box  # noqa: PLC0415 - only where there is a terminal
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        expand=True,
    )
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="ellipsis")
    shown = list(rows)[:_ROWS]
    for row in shown + [[""] * len(headers)] * (_ROWS - len(shown)):
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    return table


def _due_row(fire: Fire) -> list[str]:
    schedule = fire.schedule
    where = f"{local(fire.fire_time, schedule.timing.timezone)} {schedule.timing.timezone}"
    return [f"{fire.fire_time:%H:%M}", where, schedule.id, str(schedule.flow)]


def _open_row(run: Run) -> list[str]:
    return [f"{run.fire_time:%H:%M}", run.schedule_id, run.state.value, run.reason or ""]


def _done_row(run: Run) -> list[str]:
    return [f"{run.fire_time:%H:%M}", run.schedule_id, run.state.value, run.instance or run.reason or ""]
