"""A heat map as one SVG file: no script, nothing fetched, light and dark, and readable without colours."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from flowsched.cli.calendar_picture import busiest_rows
from flowsched.cli.reports import counted
from flowsched.ops.logs import stamp
from flowsched.review.heat import LEFT_OUT, LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from flowsched.cli.calendar_picture import Picture

_ROW, _GAP, _EDGE, _TOP, _LINE, _LEGEND = 22, 2, 16, 72, 18, 112
_SIZES = {"hour": (34, 112), "minute": (14, 36)}
"""Width of a cell, and of the labels before them."""
_NUMBERED = 28
"""A cell as wide as this has its number in it."""

_FONTS = (
    "text{font:12px system-ui,sans-serif}.head{font-weight:600}.x{text-anchor:middle}"
    ".n{font-size:11px;text-anchor:middle}"
)
_LIGHT = ("#eef1f4", "#dbeafe", "#bfdbfe", "#93c5fd", "#60a5fa", "#3b82f6", "#2563eb", "#1d4ed8", "#1e3a8a")
_DARK = ("#1c232b", "#172554", "#1e3a8a", "#1d4ed8", "#2563eb", "#3b82f6", "#60a5fa", "#93c5fd", "#dbeafe")
_TURN = 5
"""From this shade on the number in a cell is of the other colour."""


def svg(picture: Picture) -> str:
    """Return the picture as an SVG document."""
    rows = picture.heat.rows
    cell, label = _SIZES[picture.by]
    told = [_told(*row) for row in busiest_rows(picture)]
    lines = [*told, *picture.nights]
    width = 2 * _EDGE + label + len(rows[0].counts) * cell
    under = _TOP + len(rows) * _ROW + _LINE
    height = under + (len(lines) + 3) * _LINE + _EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        f'width="{width}" height="{height}" aria-labelledby="title desc">',
        f'<title id="title">{escape(picture.title)}</title>',
        f'<desc id="desc">{escape(_description(picture, told))}</desc>',
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
        f'<text class="head" x="{_EDGE}" y="{_EDGE + 14}">{escape(picture.title)}</text>',
        *_heads(picture),
        *_cells(picture),
        *_legend(picture, under),
        f'<text class="head" x="{_EDGE}" y="{under + 2 * _LINE}">Busiest minutes</text>',
        *(
            f'<text x="{_EDGE}" y="{under + (number + 3) * _LINE}">{escape(line)}</text>'
            for number, line in enumerate(lines)
        ),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _told(minute: datetime, there: str, target: str | None, count: int) -> str:
    at = f" on {target}" if target else ""
    return f"{stamp(minute)}, {there}: {counted(count, 'fire')}{at}"


def _description(picture: Picture, told: list[str]) -> str:
    most = f"The most in one cell is {picture.heat.most}."
    return f"{most} Busiest minutes: {'; '.join(told)}." if told else "Nothing fires in that time."


def _style() -> str:
    light = f"text{{fill:#1f2933}}.h{{fill:#fff}}.ground{{fill:#fff}}{_shades(_LIGHT)}"
    dark = f"text{{fill:#e6eaee}}.h{{fill:#0b1117}}.ground{{fill:#0b1117}}{_shades(_DARK)}"
    return f"{_FONTS}{light}@media(prefers-color-scheme:dark){{{dark}}}"


def _shades(colours: tuple[str, ...]) -> str:
    return "".join(f".l{level}{{fill:{colour}}}" for level, colour in enumerate(colours))


def _heads(picture: Picture) -> Iterator[str]:
    cell, label = _SIZES[picture.by]
    every = 1 if cell >= _NUMBERED else 5
    for number in range(0, len(picture.heat.rows[0].counts), every):
        x = _EDGE + label + number * cell + (cell - _GAP) // 2
        yield f'<text class="x" x="{x}" y="{_TOP - 8}">{number:02}</text>'


def _cells(picture: Picture) -> Iterator[str]:
    cell, label = _SIZES[picture.by]
    for line, row in enumerate(picture.heat.rows):
        y = _TOP + line * _ROW
        yield f'<text x="{_EDGE}" y="{y + 15}">{escape(row.shown)}</text>'
        for number, count in enumerate(row.counts):
            told = LEFT_OUT if count is None else str(count)
            x, level = _EDGE + label + number * cell, picture.heat.level(count)
            where = f"{row.label} {number:02}:00" if picture.by == "hour" else f"{row.label}{number:02}"
            yield (
                f'<rect class="l{level}" x="{x}" y="{y}" width="{cell - _GAP}" height="{_ROW - _GAP}" rx="2">'
                f"<title>{escape(where)}: {told}</title></rect>"
            )
            if told != "0" and cell >= _NUMBERED:
                kind = "n h" if level >= _TURN else "n"
                yield f'<text class="{kind}" x="{x + (cell - _GAP) // 2}" y="{y + 14}">{told}</text>'


def _legend(picture: Picture, y: int) -> Iterator[str]:
    yield f'<text x="{_EDGE}" y="{y + 12}">Shades: 0 to {picture.heat.most}</text>'
    for level in range(LEVELS + 1):
        x = _EDGE + _LEGEND + level * 20
        yield f'<rect class="l{level}" x="{x}" y="{y}" width="18" height="14" rx="2"/>'
