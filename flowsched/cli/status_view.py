"""`flowsched status --watch` on a terminal: redrawn in place; this module is imported where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.text import Text

from flowsched.cli.status_words import fitted, heading, sections
from flowsched.cli.terminal import cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from flowsched.cli.status_words import Document, Section

_GAP = 2
"""Cells between two columns."""

_ALARM = "bold white on red"


class StatusView:
    """Shows one status after the other on a screen of its own, which is gone when it ends."""

    def __init__(self) -> None:
        self._live = Live(auto_refresh=False, screen=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, document: Document | None, silence: str | None) -> None:
        """Redraw: the latest status, None before there is any; and why there is no newer one."""
        console = self._live.console
        lines = [] if silence is None else [Text(f"NO ANSWER, trying again: {silence}", style=_ALARM)]
        if document is not None:
            urgent = bool(document["needs"]) or silence is not None
            lines.append(Text(document["sentence"], style="bold red" if urgent else "bold green"))
            lines.append(Text(heading(document), style="dim"))
        used = sum(len(line.wrap(console, console.width)) for line in lines)
        tables = [] if document is None else fitted(sections(document), console.height - used)
        for section in tables:
            lines += _table(section, console.width)
        self._live.update(Group(*lines), refresh=True)


def _table(section: Section, width: int) -> Iterator[Text]:
    """Yield the lines of a section, an empty one first."""
    columns = list(zip(section.headers, *section.rows, strict=True))
    widths = _levelled([max(map(cell_len, column)) for column in columns], width)
    yield Text()
    yield Text(section.title, style="bold red" if section.urgent else "bold")
    yield _line(section.headers, widths, "dim")
    for row in section.rows:
        yield _line(row, widths, "")


def _line(row: Sequence[str], widths: Sequence[int], style: str) -> Text:
    texts = [_sized(cell(text), width) for text, width in zip(row, widths, strict=True)]
    line = Text(" " * _GAP).join(texts)
    line.stylize_before(style)
    line.rstrip()
    return line


def _sized(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


def _levelled(wanted: list[int], width: int) -> list[int]:
    """Return how wide each column may be: the widest ones give until all of them fit."""
    widths = list(wanted)
    room = width - _GAP * (len(widths) - 1)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths
