"""Put figures that `./run bench --json` has kept into `docs/performance.md`, and draw its plots anew.

    python -m benchmarks.report FIGURES [PAGE]

What stands between the page's two marks is replaced; the plots are written beside the page.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import plot, tables
from benchmarks.harness import ROOT, docstring

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN, END = "<!-- figures: made by `python -m benchmarks.report` -->", "<!-- end of figures -->"


def between_marks(page: str, text: str) -> str:
    """Return the page with `text` between its marks. Raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no marks; they are {BEGIN} and {END}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def figures(about: dict[str, Any], plots: list[str]) -> str:
    """Return the page's part that is made of figures."""
    goals = _goals(about["programs"].values())
    lines = [f"Measured on {tables.heading(about)}.", "", "### The goals", "", _counted(goals), ""]
    lines += _table(["work", "wanted", "flowsched", "against", ""], goals)
    for name in plots:
        title = next(each.title for each in plot.PLOTS if each.file == name)
        lines += ["", f"![{title}]({name})"]
    for name, measured in about["programs"].items():
        if measured["rows"]:
            heading, text = docstring(name)
            lines += [
                "",
                f"### {heading}",
                "",
                f"`./run bench {name}` took {_duration(measured['seconds'])}.",
            ]
            lines += ["", text] if text else []
        for (columns, *rows), left_out in tables.cases(measured):
            lines += ["", *_table(columns, rows), *(f"\n{_sentence(line)}" for line in left_out)]
    return "\n".join(lines) + "\n"


def _goals(programs: Any) -> list[list[str]]:
    return [list(tables.verdict_cells(each)) for measured in programs for each in measured["goals"]]


def _counted(goals: list[list[str]]) -> str:
    words = Counter(word for *_, word in goals)
    told = [f"{words[word]} {word}" for word in ("reached", "missed", "not measured") if words[word]]
    return f"{len(goals)} goals: {', '.join(told)}."


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


def _duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _table(heading: list[str], body: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|---|{'---:|' * (len(heading) - 1)}"
    for row in body:
        name, *rest = row
        yield f"| {f'**{name}**' if name == 'flowsched' else name} | {' | '.join(rest)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path)
    parser.add_argument("page", type=Path, nargs="?", default=ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    about = json.loads(options.figures.read_text())
    plots = plot.write(about["programs"], options.page.parent)
    options.page.write_text(between_marks(options.page.read_text(), figures(about, plots)))


if __name__ == "__main__":
    main()
