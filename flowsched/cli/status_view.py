"""`flowsched status --watch` on a terminal: redrawn in place; this module is imported where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from flowsched.cli.status_words import fitted, heading, sections
from flowsched.cli.terminal import cell, longest_word, widths_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from flowsched.cli.status_words import Document, Section

_GAP = 2
"""Cells between two columns."""

_CONSOLE = Console()
"""Only to fold texts with; they hold nothing that depends on a terminal."""

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
        all_ = [] if document is None else [_narrowed(each, console.width) for each in sections(document)]
        wanted = [_wanted(section, console.width) for section in all_]
        for section, heights in fitted(all_, console.height - used, wanted):
            lines += _table(section, heights, console.width)
        self._live.update(Group(*lines), refresh=True)


def _narrowed(section: Section, width: int) -> Section:
    """Leave out columns that can be spared for as long as some word would have to be broken."""
    for header in section.spare:
        columns = _columns(section)
        if sum(map(longest_word, columns)) <= width - _GAP * (len(columns) - 1):
            break
        at = section.headers.index(header)
        rows = [[*row[:at], *row[at + 1 :]] for row in section.rows]
        section = replace(section, headers=section.headers[:at] + section.headers[at + 1 :], rows=rows)
    return section


def _columns(section: Section) -> list[tuple[str, ...]]:
    return list(zip(section.headers, *section.rows, strict=True))


def _wanted(section: Section, width: int) -> list[int]:
    """Return how many lines each row takes at a width, whole."""
    widths = _widths(section, width)
    return [
        max(len(_folded(text, columns)) for text, columns in zip(row, widths, strict=True))
        for row in section.rows
    ]


def _table(section: Section, heights: Sequence[int], width: int) -> Iterator[Text]:
    """Yield the lines of a section, an empty one first."""
    widths = _widths(section, width)
    yield Text()
    yield Text(section.title, style="bold red" if section.urgent else "bold")
    yield from _lines(section.headers, widths, 1, "dim")
    for row, height in zip(section.rows, heights, strict=True):
        yield from _lines(row, widths, height, "")


def _lines(row: Sequence[str], widths: Sequence[int], height: int, style: str) -> Iterator[Text]:
    """Yield a row as so many lines; what does not go into them ends in an ellipsis."""
    folded = [_folded(text, width) for text, width in zip(row, widths, strict=True)]
    for number in range(height):
        texts = [
            _sized(parts[number:] if number == height - 1 else parts[number : number + 1], text, width)
            for parts, text, width in zip(folded, row, widths, strict=True)
        ]
        line = Text(" " * _GAP).join(texts)
        line.stylize_before(style)
        line.rstrip()
        yield line


def _folded(text: str, width: int) -> list[str]:
    """Fold a text between words; a word is broken only where it alone is wider."""
    lines = Text(text).wrap(_CONSOLE, width, overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]


def _sized(parts: Sequence[str], of: str, width: int) -> Text:
    text = Text(" ".join(parts), style=cell(of).style)
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


def _widths(section: Section, width: int) -> list[int]:
    columns = _columns(section)
    return widths_within(width - _GAP * (len(columns) - 1), columns)
