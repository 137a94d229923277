"""The plots of `docs/performance.md`, drawn from figures that `./run bench --json` has kept.

Each plot is a function of sizes on two logarithmic axes, as SVG text made by hand; the lines carry their
names.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from benchmarks import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

WIDTH, HEIGHT = 900, 480
LEFT, RIGHT, TOP, BOTTOM = 84, 290, 62, 62
"""Margins; names of lines stand in the right one."""
LINE_HEIGHT = 19
OURS = "flowsched"
"""Drawn above the others."""
COLOURS = ("#0b5cad", "#c2410c", "#0f766e", "#7c3aed", "#a16207", "#be185d", "#4b5563", "#15803d")
"""In the order of the lines; dark enough to be read as text on white."""

Series = dict[str, dict[int, float]]
"""For each contestant the value at each size."""


@dataclass(frozen=True)
class Plot:
    """What is drawn where."""

    file: str
    programs: tuple[str, ...]
    """Whose figures; the first figure of each row is the value."""
    case: str
    """The cases of this word after their size."""
    title: str
    size: str
    value: str
    names: tuple[str, ...] = ()
    """Whom to draw; none: everybody who was measured at more than one size."""


PLOTS = (
    Plot(
        "performance-fires.svg",
        ("due", "fires"),
        "due",
        "How late the last of N calls is that are due at one instant",
        "schedules due in the minute",
        "seconds after the minute",
        (
            "flowsched",
            "node-cron, http, at most 100",
            "croner, http, at most 100",
            "APScheduler + httpx, tuned",
            "yacron",
        ),
    ),
    Plot(
        "performance-wakeup.svg",
        ("wakeup",),
        "schedules",
        "How long one wake-up takes with N schedules due, without HTTP",
        "schedules due at once",
        "seconds",
    ),
)


def series(programs: dict[str, Any], plot: Plot) -> Series:
    """Return the medians to draw, by contestant and size."""
    found: Series = {}
    rows: Iterable[dict[str, Any]] = (
        row for name in plot.programs if name in programs for row in programs[name]["rows"]
    )
    for row in rows:
        size, _, what = row["case"].replace(",", "", 1).partition(" ")
        first = next(iter(row["figures"]), None)
        wanted = not plot.names or row["name"] in plot.names
        sent_all = not any(row["figures"].get("unsent", []))  # else the last is not the last of all
        if size.isdecimal() and what == plot.case and first is not None and wanted and sent_all:
            found.setdefault(row["name"], {})[int(size)] = statistics.median(row["figures"][first])
    return {name: dict(sorted(points.items())) for name, points in found.items() if len(points) > 1}


def draw(plot: Plot, lines: Series) -> str:
    """Return the SVG of these lines, of which there is at least one."""
    sizes = sorted({size for points in lines.values() for size in points})
    ticks = _ticks([value for points in lines.values() for value in points.values()])
    x = _axis(sizes[0], sizes[-1], LEFT, WIDTH - RIGHT)
    y = _axis(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    drawn, labels = [], []
    at_edge = {name: y(points[sizes[-1]]) for name, points in lines.items() if sizes[-1] in points}
    heights = _apart(at_edge)
    for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
        size, value = list(points.items())[-1]
        text = f"{name}: {tables.number(value)} s"
        drawn.append(
            _line([(x(size), y(value)) for size, value in points.items()], colour, bold=name == OURS)
        )
        if name in heights:
            place = f'x="{WIDTH - RIGHT + 14}" y="{heights[name] + 5:.1f}"'
        else:  # it ends inside: its name stands above its end
            place = f'x="{x(size) + 6:.1f}" y="{y(value) - 12:.1f}" class="end"'
        weight = ' font-weight="700"' if name == OURS else ""
        labels.append(f'<text {place} fill="{colour}"{weight}>{escape(text)}</text>')
    return _framed(plot, [*_grid(x, y, sizes, ticks), *reversed(drawn), *labels])


def _axis(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    """Return where a value stands between two ends, by its logarithm."""
    return lambda value: begin + math.log(value / low) / math.log(high / low) * (end - begin)


def _ticks(values: list[float]) -> list[float]:
    """Return the powers of ten, and three times those, around the values."""
    ticks = [factor * 10.0**power for power in range(-9, 9) for factor in (1, 3)]
    first = bisect_right(ticks, min(values)) - 1
    return ticks[first : bisect_left(ticks, max(values)) + 1]


def _apart(ends: dict[str, float]) -> dict[str, float]:
    """Return heights near to these for the names of the lines, so that none covers another."""
    placed: dict[str, float] = {}
    below = -math.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        below = max(end, below + LINE_HEIGHT)
        placed[name] = below
    over = max(placed.values()) - (HEIGHT - BOTTOM)
    return {name: height - max(0.0, over) for name, height in placed.items()}


def _grid(
    x: Callable[[float], float], y: Callable[[float], float], sizes: list[int], ticks: list[float]
) -> list[str]:
    parts = []
    for tick in ticks:
        height = f"{y(tick):.1f}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 10}" y="{y(tick) + 4:.1f}" class="tick end">{tick:g}</text>')
    for size in sizes:
        left = f"{x(size):.1f}"
        parts.append(f'<line x1="{left}" x2="{left}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{left}" y="{HEIGHT - BOTTOM + 20}" class="tick middle">{size:,}</text>')
    return parts


def _line(points: list[tuple[float, float]], colour: str, *, bold: bool) -> str:
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
    width, radius = (3.5, 4.5) if bold else (1.8, 3)
    dots = [f'<circle cx="{left:.1f}" cy="{top:.1f}" r="{radius}" fill="{colour}"/>' for left, top in points]
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
    return "\n".join([line, *dots])


def _framed(plot: Plot, parts: list[str]) -> str:
    middle, centre = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    inside = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"
  width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="14"
  role="img" aria-label="{escape(plot.title)}">
<style>
.grid {{ stroke: #e2e5e9 }}
.tick {{ fill: #4b5563; font-size: 13px }}
.middle {{ text-anchor: middle }}
.end {{ text-anchor: end }}
.title {{ fill: #111827; font-size: 17px; font-weight: 600 }}
</style>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="32" class="title">{escape(plot.title)}</text>
{inside}
<text x="{middle}" y="{HEIGHT - 16}" class="tick middle">{escape(plot.size)}</text>
<text transform="translate(22 {centre}) rotate(-90)" class="tick middle">{escape(plot.value)}</text>
</svg>
"""


def write(programs: dict[str, Any], folder: Path) -> list[str]:
    """Write the plots for which there are figures; return the names of their files."""
    written = []
    for plot in PLOTS:
        lines = series(programs, plot)
        if lines:
            (folder / plot.file).write_text(draw(plot, lines))
            written.append(plot.file)
    return written
