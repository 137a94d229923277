"""Figures as text, for a terminal and for the page, from what `--json` keeps."""

from __future__ import annotations

import itertools
import statistics
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Program = dict[str, Any]
Row = dict[str, Any]

WIDTH = 80
"""Of a terminal."""
NAME_WIDTH = 28
"""Of names in a terminal's table; longer ones go on in the next line."""
GAP = "  "
"""Between columns."""


def heading(about: dict[str, Any]) -> str:
    """Return the machine and the versions."""
    return f"{about['machine']}; " + ", ".join(f"{name} {each}" for name, each in about["versions"].items())


def program(name: str, measured: Program) -> str:
    """Return a program's tables and goals, for a terminal."""
    if not measured["rows"]:
        return f"\n{name}: nothing to measure with --quick"
    lines = ["", *_wrapped(f"== {measured['heading']}"), f"{name} took {measured['seconds']} s"]
    for cells, left_out in cases(measured):
        for block in blocks(cells):
            lines += ["", *aligned(block)]
        for each in left_out:
            lines += _wrapped(each)
    goals = [goal for goal in measured["goals"] if goal["reached"] is not None or not measured["quick"]]
    if goals:
        lines.append("")
    for goal in goals:
        lines += _wrapped(verdict(goal))
    return "\n".join(lines)


def blocks(cells: list[list[str]]) -> Iterator[list[list[str]]]:
    """Cut a table's columns into as many tables as it takes for each to fit, all with the first column."""
    first, *columns = _columns(cells)
    room = WIDTH - _width(first, whole=True)
    taken, free = [first], room
    for column in columns:
        needed = _width(column) + len(GAP)
        if needed > free and len(taken) > 1:
            yield _columns(taken)
            taken, free = [first], room
        taken.append(column)
        free -= needed
    yield _columns(taken)


def aligned(cells: list[list[str]]) -> Iterator[str]:
    """Yield a table's lines; what is longer than its column goes on below, after a word."""
    widths = [_width(column, whole=place == 0) for place, column in enumerate(_columns(cells))]
    for row in cells:
        texts = [textwrap.wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for name, *rest in itertools.zip_longest(*texts, fillvalue=""):
            padded = [f"{text:>{width}}" for text, width in zip(rest, widths[1:], strict=True)]
            yield GAP.join([f"{name:{widths[0]}}", *padded]).rstrip()


def _columns(cells: list[list[str]]) -> list[list[str]]:
    return [list(each) for each in zip(*cells, strict=True)]


def _width(column: list[str], *, whole: bool = False) -> int:
    """Return how wide a column is: as its longest cell, but not wider than NAME_WIDTH.

    Its heading has no more than its longest word needs, or if `whole`, as much as a cell.
    """
    heading, *cells = column
    return max(min(len(each), NAME_WIDTH) for each in [*cells, *([heading] if whole else heading.split())])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="   ")


def cases(measured: Program) -> Iterator[tuple[list[list[str]], list[str]]]:
    """Yield each case as cells, the heading first, and a line for everybody who was left out."""
    for case, rows in itertools.groupby(measured["rows"], key=lambda row: row["case"]):
        present = list(rows)
        left_out = [
            f"{word}: {row['name']}: {row[each]}"
            for row in present
            for each, word in (("skipped", "left out"), ("failed", "failed"))
            if row[each]
        ]
        yield list(_cells(case, present)), left_out


def _cells(case: str, rows: list[Row]) -> Iterator[list[str]]:
    figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    reference = next((row for row in rows if row["reference"] and row["figures"]), None)
    yield [case, *figures, *(["ratio"] if reference else []), "rounds"]
    for row in rows:
        if not row["figures"]:
            continue
        shown = [_shown(row["figures"].get(name), spread=number == 0) for number, name in enumerate(figures)]
        ratio = [_ratio(row, reference, figures[0])] if reference else []
        rounds = max(map(len, row["figures"].values()))
        yield [row["name"], *shown, *ratio, str(rounds)]


def _shown(values: list[float] | None, *, spread: bool) -> str:
    if not values:
        return "-"
    median = number(statistics.median(values))
    return f"{median} ({number(min(values))}-{number(max(values))})" if spread and len(values) > 1 else median


def _ratio(row: Row, reference: Row, figure: str) -> str:
    ours, theirs = (statistics.median(each["figures"].get(figure) or [0]) for each in (row, reference))
    return number(ours / theirs) if ours and theirs else "-"


def number(value: float) -> str:
    """Return a count as it is, and anything else with three digits that count."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def verdict(found: dict[str, Any]) -> str:
    """Return what has come of a goal, as a line."""
    work, wanted, ours, theirs, word = verdict_cells(found)
    return f"goal {word}: {work}: {ours}{f' ({theirs})' if theirs else ''}; wanted {wanted}"


def verdict_cells(found: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return a goal's work, what is wanted, what flowsched and its best rival have, and the word for it."""
    goal, reached, unit = found["goal"], found["reached"], found["goal"]["figure"].rpartition(" ")[2]
    most = number(goal["most"])
    wanted = f"at most {most} times" if goal["against"] else f"at most {most} {unit}"
    ours = "-" if found["ours"] is None else f"{number(found['ours'])} {unit}"
    theirs = ""
    if found["rival"] is not None and reached is not None:
        case = f", {goal['against_case']}" if goal["against_case"] else ""
        theirs = f"{found['rival']}{case}: {number(found['theirs'])} {unit}; ratio {number(reached)}"
    word = "not measured" if reached is None else "reached" if reached <= goal["most"] else "missed"
    of = "" if goal["of"] == "flowsched" else f", {goal['of']}"
    return f"{goal['case']}{of}, {goal['figure']}", wanted, ours, theirs, word
