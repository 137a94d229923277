"""What is drawn with rich, on a terminal only: this module is imported where there is one."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flowsched.model import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from flowsched.model import Fire, Run
    from flowsched.review.heat import Heat

_COLOURS: dict[str, str] = {
    RunState.TRIGGERED: "green",
    RunState.WAITING: "yellow",
    RunState.MISSED: "yellow",
    RunState.IN_DOUBT: "magenta",
    RunState.FAILED: "red",
}

_BLOCKS = "·▁▂▃▄▅▆▇█"
_SHADES = ("dim", "blue", "blue", "cyan", "green", "yellow", "bright_yellow", "red", "bold red")
"""Of a cell of a heat map, from nothing to the most."""

_FRAME = 17
"""Lines of the live view that are no rows of its three tables."""


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without the columns in which nothing stands."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    told = [index for index in range(len(headers)) if any(row[index] for row in rows)]
    for index in told:
        table.add_column(headers[index], overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[index]) for index in told))
    Console().print(table)


def print_heat(heads: Sequence[str], heat: Heat) -> None:
    """Print a heat map as high as it has rows: a block a cell where numbers do not fit, else both."""
    console = Console()
    label = max(len(row.label) for row in heat.rows)
    width = len(str(heat.most))
    numbered = label + len(heads) * (width + 2) <= console.width
    cell = width + 1 if numbered else 1
    lines = [Text(" " * (label + 1) + _ruler(heads, cell))]
    for row in heat.rows:
        line = Text(row.label.ljust(label + 1))
        for count in row.counts:
            level = heat.level(count)
            shown = (str(count) if count else "·").rjust(cell) if numbered else _BLOCKS[level]
            line.append(shown, style=_SHADES[level])
        lines.append(line)
    for each in lines:
        console.print(each, no_wrap=True, overflow="crop", highlight=False)


def _ruler(heads: Sequence[str], cell: int) -> str:
    """Return the heads over their cells, as many as fit."""
    every = -(-(len(heads[0]) + 1) // cell)
    return "".join(head.rjust(cell).ljust(cell * every) for head in heads[::every])


class LiveView:
    """Redraws three tables in place, as high as the terminal allows."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = Live(auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, now: datetime, upcoming: Sequence[Fire], runs: Sequence[Run]) -> None:
        """Redraw."""
        height = max(2, (self._live.console.height - _FRAME) // 3)
        picture = Group(
            Text(self._title, style="bold"),
            Text(f"{now:%a %Y-%m-%d %H:%M:%S} UTC"),
            _table("Due next", ("local", "flow, zone"), map(_due_row, upcoming), height),
            _table(
                "Under way", ("state", "why"), (_run_row(run) for run in runs if not run.state.final), height
            ),
            _table(
                "Done",
                ("state", "instance, or why"),
                (_run_row(run) for run in runs if run.state.final),
                height,
            ),
        )
        self._live.update(picture, refresh=True)


def _table(title: str, columns: tuple[str, str], rows: Iterable[list[str]], height: int) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        expand=True,
    )
    for header, share in (("UTC", 2), ("schedule", 8), (columns[0], 6), (columns[1], 8)):
        table.add_column(header, no_wrap=True, overflow="ellipsis", ratio=share)
    shown = list(islice(rows, height))
    for row in shown + [[""] * 4] * (height - len(shown)):
        table.add_row(*map(_cell, row))
    return table


def _cell(text: str) -> Text:
    return Text(text, style=_COLOURS.get(text, ""))


def _due_row(fire: Fire) -> list[str]:
    schedule = fire.schedule
    there = fire.fire_time.astimezone(ZoneInfo(schedule.timing.timezone))
    return [
        f"{fire.fire_time:%H:%M}",
        schedule.id,
        f"{there:%a %H:%M}",
        f"{schedule.flow}, {schedule.timing.timezone}",
    ]


def _run_row(run: Run) -> list[str]:
    return [f"{run.fire_time:%H:%M}", run.schedule_id, run.state.value, run.instance or run.reason or ""]
