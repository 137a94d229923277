"""What is drawn with rich, on a terminal only: this module is imported where there is one."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flowsched.model import RunState
from flowsched.review.heat import LEFT_OUT, LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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
_ASCII = ".,:;=+x#@"
_SHADES = ("dim", "blue", "blue", "cyan", "green", "yellow", "bright_yellow", "red", "bold red")
"""Of a cell of a heat map, from nothing to the most."""

_FRAME = 17
"""Lines of the live view that are no rows of its three tables."""


_GAP, _EDGES = 3, 2
"""Between two columns of a table, and at both its ends."""
_WHOLE = 27
"""A cell of this width is not folded: as wide as a time with its weekday and offset."""
_FEW = 3
"""Where not all words fit, those are broken that are longer than this part of the width."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ])?\d\d:\d\d(:\d\d(\.\d+)?)?Z?", re.ASCII)


def print_text(text: str) -> None:
    """Print a line, folded between words."""
    Console().print(Text(text))


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    spare: Sequence[str],
    shorter: Sequence[Sequence[str]],
) -> None:
    """Print a table without the columns in which nothing stands.

    Where the terminal is too narrow, it is that of the `shorter` rows, and those that are `spare` are left
    out as far as it still is, and it says so; after that, long texts are folded between words, then short
    ones, too; words are broken only where they do not all fit, the longest ones, and those of a time never.
    """
    console = Console()
    columns = _columns(headers, rows)
    if sum(map(_comfortable, _texts(columns))) > _room(console.width, columns):
        columns = _columns(headers, shorter)
    left_out = []
    for header in spare:
        if sum(map(_comfortable, _texts(columns))) <= _room(console.width, columns):
            break
        if columns.pop(header, None):
            left_out.append(header)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    widths = widths_within(_room(console.width, columns), _texts(columns))
    for header, width in zip(columns, widths, strict=True):
        table.add_column(header, overflow="fold", width=width)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(cell, row))
    console.print(table)
    if left_out:
        console.print(f"not shown for want of room: {', '.join(left_out)}", style="dim", highlight=False)


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return what stands under each header, where anything does."""
    return {
        header: column for header, column in zip(headers, zip(*rows, strict=True), strict=True) if any(column)
    }


def widths_within(room: int, columns: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide each column, its header with it, is to be so that all go into so much room.

    The widest give first. Nothing that is as short as a time with its weekday is folded if that can be, then
    no word is broken, then none but the longest; only then times are folded, before their clock.
    """
    times = [[text for text in column if _TIME.fullmatch(text)] for column in columns]
    whole = [max(map(len, each), default=1) for each in times]
    words = [max(longest_word(column), time) for column, time in zip(columns, whole, strict=True)]
    most = max(1, room // _FEW)
    few = [max(min(word, most), time) for word, time in zip(words, whole, strict=True)]
    folded = [longest_word(each) if each else 1 for each in times]
    bounds = (list(map(_comfortable, columns)), words, few, folded)
    least = next((each for each in bounds if sum(each) <= room), [1] * len(words))
    widths = list(map(_width, columns))
    while sum(widths) > room and (could := [n for n, width in enumerate(widths) if width > least[n]]):
        widths[max(could, key=lambda index: widths[index])] -= 1
    return widths


def _texts(columns: Mapping[str, Sequence[str]]) -> list[Sequence[str]]:
    return [(header, *column) for header, column in columns.items()]


def _room(width: int, columns: Mapping[str, Sequence[str]]) -> int:
    """Return what a terminal of a width leaves for the columns of a table."""
    return width - _GAP * (len(columns) - 1) - _EDGES


def _comfortable(column: Sequence[str]) -> int:
    """Return from which width on only long texts of a column are folded, and those between words."""
    return max(longest_word(column), min(_width(column), max(_WHOLE, cell_len(column[0]))))


def longest_word(column: Sequence[str]) -> int:
    """Return how wide a column must be so that no word of it is broken."""
    return max(cell_len(word) for text in column for word in text.split() or [""])


def _width(column: Sequence[str]) -> int:
    return max(map(cell_len, column))


def print_heat(heads: Sequence[str], heat: Heat) -> None:
    """Print a heat map as high as it has rows: a number a cell, or a block and what it stands for."""
    console = Console()
    blocks = _BLOCKS if console.encoding.startswith("utf") else _ASCII
    label = max(len(row.shown) for row in heat.rows) + 1
    width = len(str(heat.most)) + 1
    numbered = label - 1 + len(heads) * width <= console.width
    cell = width if numbered else 1
    lines = [Text(" " * label + _ruler(heads, cell)[numbered:])]
    for row in heat.rows:
        line = Text(row.shown.ljust(label - numbered))
        for count in row.counts:
            level = heat.level(count)
            shown = str(count or blocks[0]) if numbered else blocks[level]
            line.append((LEFT_OUT if count is None else shown).rjust(cell), style=_SHADES[level])
        lines.append(line)
    for each in lines:
        console.print(each, no_wrap=True, overflow="crop", highlight=False)
    if heat.most and not numbered:
        console.print(_scale(heat, blocks), highlight=False)


def _scale(heat: Heat, blocks: str) -> str:
    """Return what the blocks stand for, each with the highest count that it shows."""
    bounds = [heat.most * level // LEVELS for level in range(LEVELS + 1)]
    shown = [
        f"{blocks[level]} {bounds[level]}"
        for level in range(1, LEVELS + 1)
        if bounds[level] > bounds[level - 1]
    ]
    return f"{blocks[0]} none, then up to {' '.join(shown)}"


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
        table.add_row(*map(cell, row))
    return table


def cell(text: str) -> Text:
    """Return a text as a cell shows it: the states of runs in their colours."""
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
