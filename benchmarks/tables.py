"""Figures as text, for a terminal and for the page, from what `--json` keeps."""

from __future__ import annotations

import statistics
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Program = dict[str, Any]
Row = dict[str, Any]


def heading(about: dict[str, Any]) -> str:
    """Return the machine and the versions."""
    return f"{about['machine']}; " + ", ".join(f"{name} {each}" for name, each in about["versions"].items())


def program(measured: Program) -> str:
    """Return a program's tables and goals, for a terminal."""
    lines = [f"\n== {measured['heading']} ({measured['seconds']} s)"]
    for cells, skipped in cases(measured):
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines.append("")
        for first, *rest in cells:
            padded = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
            lines.append("  ".join([f"{first:{widths[0]}}", *padded]))
        lines += skipped
    met = [
        verdict(goal) for goal in measured["goals"] if goal["reached"] is not None or not measured["quick"]
    ]
    return "\n".join([*lines, "", *met] if met else lines)


def cases(measured: Program) -> Iterator[tuple[list[list[str]], list[str]]]:
    """Yield each case as cells, the heading first, and a line for everybody who was skipped."""
    for case, rows in groupby(measured["rows"], key=lambda row: row["case"]):
        present = list(rows)
        left_out = [
            f"{row['name']}: {word}: {row[word]}"
            for row in present
            for word in ("skipped", "failed")
            if row[word]
        ]
        yield list(_cells(case, present)), left_out


def _cells(case: str, rows: list[Row]) -> Iterator[list[str]]:
    figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    reference = next((row for row in rows if row["reference"] and row["figures"]), None)
    yield [case, *figures, *(["ratio"] if reference else [])]
    for row in rows:
        if not row["figures"]:
            continue
        shown = [_shown(row["figures"].get(name), spread=number == 0) for number, name in enumerate(figures)]
        yield [row["name"], *shown, *([_ratio(row, reference, figures[0])] if reference else [])]


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
    return f"{goal['case']}, {goal['figure']}", wanted, ours, theirs, word
