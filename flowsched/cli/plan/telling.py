"""What all formats of a plan have to tell, and the words for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched import cron
from flowsched.cli.output import on_clock
from flowsched.cli.plan.sides import shown
from flowsched.cli.reports import counted
from flowsched.durations import format_duration
from flowsched.errors import printable, shortened
from flowsched.ops.logs import stamp
from flowsched.review import stamps
from flowsched.review.edits import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from flowsched.cli.plan.sides import Side
    from flowsched.errors import Problem
    from flowsched.model import Schedule, Timing
    from flowsched.review.changes import LoadChange, Plan
    from flowsched.review.collisions import Collision
    from flowsched.review.edits import Change
    from flowsched.review.keys import KeyChange
    from flowsched.review.moves import Move
    from flowsched.review.outgoing import Outgoing

_LONGEST_VALUE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """A plan, or why there is none."""

    old: Side
    new: Side
    plan: Plan | None
    """None where there are problems."""
    problems: Sequence[tuple[str, Problem]]
    """Each with its side, `from` or `to`; or `settings`."""
    at: datetime
    until: datetime

    def where(self, schedule: Schedule, *, former: bool = False) -> str:
        """Return file and line of a schedule of the later state, or the former one, from here."""
        state = (self.old if former else self.new).state
        return f"{shown(schedule.source.file, state)}:{schedule.source.line}"

    def place(self, change: Change) -> str:
        """Return file and line of what is changed, from here."""
        return self.where(change.schedule, former=change.new is None)


def headline(plan: Plan) -> str:
    """Say in a line what changes."""
    kinds = Counter(change.kind for change in plan.changes)
    schedules = [f"{kinds[kind]:,} {kind}" for kind in Kind if kinds[kind]]
    if not schedules:
        return f"nothing changes: {counted(plan.unchanged, 'schedule')} as before"
    fires = [f"{number:,} {name}" for name, number in fire_counts(plan).items() if number]
    parts = [
        ", ".join([*schedules, f"{plan.unchanged:,} unchanged"]),
        f"fires: {', '.join(fires)}" if fires else "no fire changes",
    ]
    colliding = len(unaccepted(plan)) + plan.collisions_unlisted
    if colliding:
        parts.append(counted(colliding, "new collision"))
    if plan.warnings:
        parts.append(counted(len(plan.warnings), "new warning"))
    return "; ".join(parts)


def unaccepted(plan: Plan) -> list[Collision]:
    """Return the new collisions that nobody has accepted."""
    return [each for each in plan.collisions if each.accepted is None]


def accepted(plan: Plan) -> list[tuple[Collision, str]]:
    """Return those that somebody has accepted now, each with the reason."""
    return [(each, value_words(each.accepted.reason)) for each in plan.collisions if each.accepted]


def fire_counts(plan: Plan) -> dict[str, int]:
    """Return how many fires of all schedules are gained, lost, moved, and dropped by the edit."""
    fires = [change.fires for change in plan.changes]
    return {
        "gained": sum(len(each.gained) for each in fires),
        "lost": sum(len(each.lost) for each in fires),
        "moved": sum(len(each.moved) for each in fires),
        "dropped": sum(change.dropped is not None for change in plan.changes),
    }


def kind_words(change: Change) -> str:
    """Say what becomes of a schedule."""
    if change.old is None or change.new is None or change.kind is not Kind.RENAMED:
        return change.kind
    return f"renamed from {change.old.id}{' (detected)' if change.detected else ''}"


def local(instant: datetime, timing: Timing) -> str:
    """Return an instant on the wall clock of a timing, as `Sun 2026-03-29 03:00 +02:00`."""
    return on_clock(instant, cron.zone(timing.timezone, timing.rules))


def outgoing_words(fire: Outgoing, schedule: Schedule) -> str:
    """Say when a fire goes out, on its schedule's wall clock."""
    words = local(fire.goes_out, schedule.timing)
    if fire.goes_out == fire.fire_time:
        return words
    return f"{words}, deferred from {local(fire.fire_time, schedule.timing)}"


def move_words(move: Move, change: Change) -> str:
    """Say how a fire moves."""
    assert change.old is not None and change.new is not None  # noqa: S101, PT018 - what has moved was and is
    return f"{outgoing_words(move.old, change.old)} -> {outgoing_words(move.new, change.new)}"


def next_words(change: Change) -> str:
    """Say what of a schedule goes out first after the edit."""
    if change.new is None:
        return "never again"
    if not change.new.enabled:
        return "disabled"
    return outgoing_words(change.next, change.new) if change.next else "none within the horizon"


def barrier_words(change: Change) -> Iterator[str]:
    """Say what the edit drops, as it fires nothing that has passed."""
    if change.dropped is not None and change.old is not None:
        fire, timing = change.dropped.fire, change.old.timing
        deferred = f"{local(fire.fire_time, timing)}, deferred to {local(fire.goes_out, timing)}"
        yield f"{deferred}, is missed: {change.dropped.why}"
    if change.passed and change.new is not None:
        latest = local(change.passed[-1], change.new.timing)
        count = len(change.passed)
        passed = "has passed" if count == 1 else f"is the last of {count:,} that have passed"
        yield f"{latest} {passed} and will not fire; next: {next_words(change)}"
    if change.detected and change.old is not None:
        yield f"without renamed_from it counts as new: what {change.old.id} still owes is not caught up"


def anew_words(plan: Plan) -> str:
    """Say how many schedules begin anew with the edit; empty where none does."""
    anew = [each for each in plan.changes if each.starts_anew and each.old and each.old.enabled]
    if not anew:
        return ""
    begins, its = ("begins", "its") if len(anew) == 1 else ("begin", "their")
    number = counted(len(anew), "schedule")
    return f"{number} {begins} anew at the merge: what {its} old timing still owes is not caught up"


def key_words(key: KeyChange, arrow: str = "->") -> str:
    """Say how a key changes."""
    return f"{key.key}: {value_words(key.old)} {arrow} {value_words(key.new)}"


def value_words(value: str | None) -> str:
    """Return the value of a key on one line, not too long."""
    return "none" if value is None else printable(shortened(value, _LONGEST_VALUE))


def collision_words(each: Collision) -> str:
    """Say which two schedules collide, and when."""
    first = ", ".join(map(stamps.stamp, each.first))
    more = ", ..." if each.count > len(each.first) else ""
    pair = f"{printable(each.sent.id)} and {printable(each.skipped.id)}"
    return f"{pair}: {counted(each.count, 'fire')} of flow {each.sent.flow}, {first}{more}"


def load_words(each: LoadChange) -> str:
    """Say what a target gets before and after, and how that is to its limit."""
    minute = _peak_words(each.before.minute, each.after.minute)
    hour = _peak_words(each.before.hour, each.after.hour)
    words = f"at most {minute} fires a minute, {hour} an hour"
    if each.rate_per_minute is None:
        return words
    crowded = _count_words(each.before.crowded, each.after.crowded)
    return f"{words}; {crowded} minutes over the limit of {each.rate_per_minute:,}"


def _peak_words(before: tuple[datetime, int] | None, after: tuple[datetime, int] | None) -> str:
    counts = [peak[1] if peak else 0 for peak in (before, after)]
    when = f" ({stamps.stamp(after[0])})" if after and counts[0] != counts[1] else ""
    return f"{_count_words(*counts)}{when}"


def _count_words(before: int, after: int) -> str:
    return f"{after:,}" if before == after else f"{before:,} -> {after:,}"


def head_words(telling: Telling) -> str:
    """Say what is compared, and over which time."""
    horizon = format_duration(telling.until - telling.at)
    return (
        f"from {telling.old.state.name} to {telling.new.state.name},"
        f" merged at {stamp(telling.at)}, over {horizon}"
    )
