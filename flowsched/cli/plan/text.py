"""A plan for a terminal, or a pipe."""

from __future__ import annotations

from itertools import chain
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
    kind_words,
    load_words,
    move_words,
    next_words,
    outgoing_words,
    unaccepted,
)
from flowsched.cli.reports import counted
from flowsched.errors import printable
from flowsched.review.edits import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.cli.plan.telling import Telling
    from flowsched.review.changes import Plan
    from flowsched.review.edits import Change

_COLOURS = {
    Kind.ADDED: "green",
    Kind.REMOVED: "red",
    Kind.RENAMED: "cyan",
    Kind.RETIMED: "yellow",
    Kind.CHANGED: "blue",
}


def show(telling: Telling) -> None:
    """Print a plan, or the problems that stand in its way; colours only where there is a terminal."""
    if telling.plan is None:
        for side, problem in telling.problems:
            click.echo(f"{side}: {problem}")
        click.echo(f"no plan: {counted(len(telling.problems), 'problem')}", err=True)
        return
    click.echo(f"plan {head_words(telling)}")
    click.secho(headline(telling.plan), bold=True)
    blocks = chain(
        (_schedule(telling, change) for change in telling.plan.changes),
        [
            _anew(telling.plan),
            _collisions(telling, telling.plan),
            _warnings(telling, telling.plan),
            _load(telling.plan),
        ],
    )
    for block in blocks:
        lines = list(block)
        if lines:
            click.echo("\n" + "\n".join(lines))


def _schedule(telling: Telling, change: Change) -> Iterator[str]:
    kind = click.style(kind_words(change), fg=_COLOURS[change.kind])
    yield f"{click.style(printable(change.id), bold=True)}: {kind} ({telling.place(change)})"
    for key in change.keys:
        yield f"    {key_words(key)}"
    yield from (f"    {line}" for line in _fires(change))
    for line in barrier_words(change):
        yield click.style(f"  ! {line}", fg="yellow")


def _fires(change: Change) -> Iterator[str]:
    fires = change.fires
    if fires.gained and change.new:
        yield f"gained {len(fires.gained):,}, first {outgoing_words(fires.gained[0], change.new)}"
    if fires.lost and change.old:
        yield f"lost   {len(fires.lost):,}, first {outgoing_words(fires.lost[0], change.old)}"
    if fires.moved:
        yield f"moved  {len(fires.moved):,}, first {move_words(fires.moved[0], change)}"
    if change.new is not None and not fires.gained and not change.passed:
        yield f"next   {next_words(change)}"


def _anew(plan: Plan) -> Iterator[str]:
    if words := anew_words(plan):
        yield click.style(words, fg="yellow")


def _collisions(telling: Telling, plan: Plan) -> Iterator[str]:
    found = unaccepted(plan)
    if found:
        yield click.style("new collisions within 400 days", fg="red", bold=True)
    for each in found:
        yield f"    {collision_words(each)}"
        yield f"        {telling.where(each.sent)} and {telling.where(each.skipped)}"
    if plan.collisions_unlisted:
        yield f"    and {counted(plan.collisions_unlisted, 'pair')} more"
    for each, reason in accepted(plan):
        yield f"accepted collision: {collision_words(each)}"
        yield f"    {reason}"
    if plan.collisions_resolved:
        yield f"{counted(plan.collisions_resolved, 'collision')} resolved"


def _warnings(telling: Telling, plan: Plan) -> Iterator[str]:
    if plan.warnings:
        yield click.style("new warnings", bold=True)
    for each in plan.warnings:
        yield f"    {placed(each, telling.new.state)}"
    if plan.warnings_resolved:
        yield f"{counted(plan.warnings_resolved, 'warning')} resolved"


def _load(plan: Plan) -> Iterator[str]:
    for each in plan.load:
        name = f"target {printable(each.target)}" if each.target else "load"
        yield f"{name}: {load_words(each)}"
