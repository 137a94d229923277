"""A plan as one comment of a pull request.

What comes from files is somebody else's text: it stands in code spans, where it can neither mention, link nor
format anything, and in the diagram only as letters that mean nothing there.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from flowsched.cli.plan.sides import placed
from flowsched.cli.plan.telling import (
    accepted,
    anew_words,
    barrier_words,
    collision_words,
    head_words,
    headline,
    key_words,
    load_words,
    move_words,
    next_words,
    outgoing_words,
    unaccepted,
)
from flowsched.cli.reports import counted
from flowsched.errors import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from flowsched.cli.plan.telling import Telling
    from flowsched.review.changes import Plan
    from flowsched.review.edits import Change

MARKER = "<!-- flowsched plan -->"
"""The first line: by it a pipeline finds its own comment again."""

MOST = 60_000
"""Characters of the whole; GitHub takes 65,536."""

_ROOM = {
    "table": 19_000,
    "keys": 8_000,
    "dropped": 6_000,
    "collisions": 8_000,
    "warnings": 6_000,
    "accepted": 4_000,
    "load": 2_000,
}
"""Characters of each part."""
_MOST_BARS, _MOST_SECTIONS = 60, 12
"""Of the diagram: more cannot be read."""
_LONGEST = 400
_DAY = timedelta(days=1)


def show(telling: Telling) -> None:
    """Print a plan, or the problems that stand in its way."""
    click.echo("\n\n".join(_parts(telling)))


def _parts(telling: Telling) -> Iterator[str]:
    yield MARKER
    plan = telling.plan
    if plan is None:
        yield f"### flowsched: no plan, {counted(len(telling.problems), 'problem')}"
        yield _list((f"{side}: {_code(str(problem))}" for side, problem in telling.problems), _ROOM["table"])
        return
    yield f"### flowsched: {headline(plan)}"
    yield _code(head_words(telling))
    if not plan.changes:
        return
    yield _table(plan)
    if found := unaccepted(plan):
        yield f"**{counted(len(found) + plan.collisions_unlisted, 'new collision')} within 400 days**"
        yield _list(_collisions(telling, plan), _ROOM["collisions"])
    if plan.warnings:
        warned = (_code(str(placed(each, telling.new.state))) for each in plan.warnings)
        yield f"**{counted(len(plan.warnings), 'new warning')}**"
        yield _list(warned, _ROOM["warnings"])
    if plan.collisions_resolved or plan.warnings_resolved:
        counts = {"collision": plan.collisions_resolved, "warning": plan.warnings_resolved}
        resolved = (counted(count, noun) for noun, count in counts.items() if count)
        yield f"Resolved: {' and '.join(resolved)}."
    yield from _folded("What the merge drops", _dropped(plan), "dropped")
    yield from _folded("What is written otherwise", _keys(telling, plan), "keys")
    agreed = (f"{_code(collision_words(each))}: {_code(reason)}" for each, reason in accepted(plan))
    yield from _folded("Accepted collisions", agreed, "accepted")
    load = (
        f"{_code(each.target) if each.target else 'all'}: {load_words(each).replace('->', '→')}"
        for each in plan.load
    )
    yield from _folded("Load", load, "load")
    yield from _diagram(plan)


def _table(plan: Plan) -> str:
    rows = (_row(change) for change in plan.changes)
    head = "| schedule | change | gained | lost | moved | first |\n|---|---|--:|--:|--:|---|\n"
    return head + _fitting(rows, _ROOM["table"], "| | ... and {} more | | | | |")


def _row(change: Change) -> str:
    counts = (len(change.fires.gained), len(change.fires.lost), len(change.fires.moved))
    cells = [
        _code(change.id),
        _kind(change),
        *(f"{count:,}" if count else "" for count in counts),
        _first(change),
    ]
    # In a table a bar ends the cell even within a code span.
    row = " | ".join(cell.replace("|", "\\|") for cell in cells)
    return f"| {row} |"


def _kind(change: Change) -> str:
    if change.old is None or change.old.id == change.id:
        return change.kind
    return f"renamed from {_code(change.old.id)}{' (detected)' if change.detected else ''}"


def _first(change: Change) -> str:
    """Return the first of the fires that change, else what is next."""
    fires = change.fires
    told = []
    if fires.gained and change.new:
        told.append((fires.gained[0].goes_out, "gained", outgoing_words(fires.gained[0], change.new)))
    if fires.lost and change.old:
        told.append((fires.lost[0].goes_out, "lost", outgoing_words(fires.lost[0], change.old)))
    if fires.moved:
        told.append((fires.moved[0].old.goes_out, "moved", move_words(fires.moved[0], change)))
    if not told:
        return f"next {next_words(change)}"
    _, name, words = min(told)
    return f"{name} {words}".replace("->", "→")


def _collisions(telling: Telling, plan: Plan) -> Iterator[str]:
    for each in unaccepted(plan):
        where = f"{telling.where(each.sent)}, {telling.where(each.skipped)}"
        yield f"{_code(collision_words(each))} ({_code(where)})"
    if plan.collisions_unlisted:
        yield f"and {counted(plan.collisions_unlisted, 'pair')} more"


def _dropped(plan: Plan) -> Iterator[str]:
    if words := anew_words(plan):
        yield words
    for change in plan.changes:
        for words in barrier_words(change):
            yield f"{_code(change.id)}: {_code(words)}"


def _keys(telling: Telling, plan: Plan) -> Iterator[str]:
    for change in plan.changes:
        for key in change.keys:
            yield f"{_code(change.id)} ({_code(telling.place(change))}): {_code(key_words(key, '→'))}"


def _folded(title: str, lines: Iterable[str], part: str) -> Iterator[str]:
    """Yield a part that is opened by a click; nothing where it has no lines."""
    body = _list(lines, _ROOM[part])
    if body:
        yield f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _list(lines: Iterable[str], room: int) -> str:
    return _fitting((f"- {line}" for line in lines), room, "- ... and {} more")


def _fitting(lines: Iterable[str], room: int, rest: str) -> str:
    """Return the lines that fit, and say how many do not."""
    kept: list[str] = []
    left_out = 0
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            left_out += 1
        else:
            kept.append(line)
    return "\n".join([*kept, rest.format(f"{left_out:,}")] if left_out else kept)


def _code(text: str) -> str:
    """Return a text as a code span that nothing in it can end."""
    shown = shortened(printable(text), _LONGEST)
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _diagram(plan: Plan) -> Iterator[str]:
    """Yield a Mermaid gantt of what changes within a day, in UTC; nothing where nothing does."""
    sections = [section for change in plan.changes if (section := _section(change, plan.at + _DAY))]
    if not sections:
        return
    shown = sections[:_MOST_SECTIONS]
    lines = [
        "gantt",
        "    title The next 24 hours (UTC)",
        "    dateFormat YYYY-MM-DD HH:mm",
        "    axisFormat %H:%M",
        *(line for section in shown for line in section),
    ]
    more = len(sections) - len(shown)
    note = f"\n\n... and {counted(more, 'schedule')} more" if more else ""
    picture = "\n".join(lines)
    yield (
        f"<details>\n<summary>The next 24 hours</summary>\n\n```mermaid\n{picture}\n```{note}\n\n</details>"
    )


def _section(change: Change, until: datetime) -> list[str]:
    """Return the lines of one schedule: what is lost, gained and moved until then."""
    fires = change.fires
    bars = [(each.goes_out, "gained", "active") for each in fires.gained]
    bars += [(each.goes_out, "lost", "crit") for each in fires.lost]
    bars += [(each.old.goes_out, "moved away", "done") for each in fires.moved]
    bars += [(each.new.goes_out, "moved here", "active") for each in fires.moved]
    soon = sorted(bar for bar in bars if bar[0] <= until)
    most = _MOST_BARS // _MOST_SECTIONS
    lines = [f"    {name} :{tag}, {at:%Y-%m-%d %H:%M}, 15m" for at, name, tag in soon[:most]]
    more = f" and {len(soon) - most:,} more" if len(soon) > most else ""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", change.id)
    return [f"    section {name}{more}", *lines] if lines else []
