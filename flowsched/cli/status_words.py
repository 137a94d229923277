"""What `flowsched status` shows: sections of rows, made of the daemon's own document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from flowsched.cli.output import short
from flowsched.control.words import subject_of
from flowsched.durations import format_duration
from flowsched.model import SHORT, ReloadOutcome, RunState, Scope

Document = Mapping[str, Any]

ENDED = 10
"""Of the runs that have ended as many are shown."""

_FEW_ROWS = 3
"""Rows that a section has at least where it has so many: how many there are says little."""

FRAME = 3
"""Lines that a section takes beside its rows: an empty one, its title and its headers."""

_LATE_TO_SPEAK_OF = timedelta(seconds=5)

_UNDER_WAY = (RunState.CLAIMED, RunState.SENDING, RunState.WAITING)


@dataclass(frozen=True, slots=True)
class Section:
    """A title, and rows under headers; all times in UTC."""

    title: str
    headers: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    urgent: bool = False
    """Whether a person should look at it."""
    whole: bool = False
    """Whether its rows should be read to their end, before others are many."""
    spare: tuple[str, ...] = ()
    """Headers of what can be left out of a narrow terminal, the first of them first."""


def sections(document: Document) -> list[Section]:
    """Return what there is to show, in the order in which it matters; sections without rows are left out."""
    now = _instant(document["at"])
    all_ = (
        Section("Needs a person", ("what",), [[need] for need in document["needs"]], urgent=True, whole=True),
        _drift(document, now),
        _in_doubt(document, now),
        _overdue(document, now),
        _under_way(document, now),
        _next(document, now),
        _ended(document, now),
        _targets(document),
        _health(document),
    )
    return [section for section in all_ if section.rows]


def heading(document: Document) -> str:
    """Return which daemon it is, since when, and of what its catalog is."""
    now = _instant(document["at"])
    commit = document["commit"]
    edits = "" if commit is None or commit["clean"] else " with edits beyond it"
    of = "" if commit is None else f" of commit {commit['id'][:SHORT]}{edits}"
    revision = document["revision"][:SHORT]
    since = f", in force since {_when(document['applied_at'], now)}" if document["applied_at"] else ""
    applied = f"catalog {revision}{of}{since}" if revision else "no catalog"
    running = format_duration(now - _instant(document["started_at"]))
    return f"{now:%Y-%m-%d %H:%M:%S} UTC; flowsched {document['version']} up for {running}; {applied}"


def fitted(
    all_: Sequence[Section], height: int, wanted: Sequence[Sequence[int]]
) -> list[tuple[Section, Sequence[int]]]:
    """Return the sections that a height allows, those that matter first, each with the lines of its rows.

    `wanted` is how many lines each row of each section would take. A section that is shown has a few rows at
    least, and one that is to be whole all its lines, if they are not more than half of what is left. Lines
    that are left then are given to all in turn; a row gets more than one only where all rows of its section
    have one. Where rows are left out, the last one shown says how many.
    """
    granted: list[int] = []
    left = height
    for section, want in zip(all_, wanted, strict=True):
        few = min(len(section.rows), _FEW_ROWS if granted else 1)
        least = max(few, min(sum(want), left // 2 - FRAME)) if section.whole else few
        if FRAME + least > left:
            break
        granted.append(least)
        left -= FRAME + least
    shown = list(zip(all_, wanted, strict=True))[: len(granted)]
    missing = [sum(want) - lines for lines, (_, want) in zip(granted, shown, strict=True)]
    more = _shared(left, missing)
    return [_laid(*each, sum(lines)) for each, *lines in zip(shown, granted, more, strict=True)]


def _shared(lines: int, missing: Sequence[int]) -> list[int]:
    """Share out lines one at a time, in turn, to each that misses some still."""
    shares = [0] * len(missing)
    while lines > 0 and shares != list(missing):
        for index, most in enumerate(missing):
            if lines > 0 and shares[index] < most:
                shares[index] += 1
                lines -= 1
    return shares


def news(document: Document) -> str:
    """Return all that has to differ before a line is worth telling of it."""
    pauses = [f"{_subject(each)} ({each['by']}): {each['reason']}" for each in document["pauses"]]
    paused = f"; paused: {', '.join(pauses)}" if pauses else ""
    needs = f"; needs a person: {', '.join(document['needs'])}" if document["needs"] else ""
    return f"{document['sentence']}{paused}{needs}"


def _laid(section: Section, wanted: Sequence[int], lines: int) -> tuple[Section, Sequence[int]]:
    """Return as much of a section as goes into so many lines, and the lines of each of its rows."""
    count = len(section.rows)
    if lines < count:
        blank = [""] * (len(section.headers) - 1)
        rows = [*section.rows[: lines - 1], [*blank, f"and {count - lines + 1} more"]]
        return replace(section, rows=rows), [1] * lines
    heights, spare = [], lines - count
    for want in wanted:
        more = min(want - 1, spare)
        heights.append(1 + more)
        spare -= more
    return section, heights


def _drift(document: Document, now: datetime) -> Section:
    rows = [_paused(each, now) for each in document["pauses"]]
    reload = document["reload"]
    if document["held"] and reload:
        held = f"held: catalog {document['held'][:SHORT]}"
        rows += [_read(held, reload, problem, now) for problem in reload["problems"] or [""]]
    elif reload and reload["outcome"] in (ReloadOutcome.REFUSED, ReloadOutcome.FAILED):
        rows += [_read(f"{reload['outcome']}: the files", reload, each, now) for each in reload["problems"]]
    headers = ("what", "since", "until", "who", "why")
    urgent = bool(document["held"])
    return Section("Drift from Git", headers, rows, urgent=urgent, whole=True, spare=("since",))


def _paused(pause: Mapping[str, Any], now: datetime) -> list[str]:
    until = pause["over_at"]
    ends = f"{_when(until, now)}, in {_between(now, until)}" if until else "resumed"
    return [f"paused: {_subject(pause)}", _when(pause["from_at"], now), ends, pause["by"], pause["reason"]]


def _subject(pause: Mapping[str, Any]) -> str:
    return subject_of(Scope(pause["scope"]), pause["name"])


def _read(what: str, reload: Mapping[str, Any], problem: str, now: datetime) -> list[str]:
    return [what, _when(reload["at"], now), "", reload["why"], problem]


def _in_doubt(document: Document, now: datetime) -> Section:
    runs = [run for run in document["under_way"] if run["state"] == RunState.IN_DOUBT]
    rows = [
        [*_run(run, now), run["target"], f"{run['predicted_instance']}? {run['reason'] or ''}".strip()]
        for run in runs
    ]
    headers = ("run", "fire time", "schedule", "target", "instance to look for, and why")
    return Section("In doubt", headers, rows, urgent=True, whole=True, spare=("target",))


def _overdue(document: Document, now: datetime) -> Section:
    rows = [[_when(at, now), _between(at, now), id_] for id_, at in document["overdue"].items()]
    return Section("Overdue", ("due", "late by", "schedule"), rows, urgent=True)


def _under_way(document: Document, now: datetime) -> Section:
    rows = []
    for run in document["under_way"]:
        if run["state"] in _UNDER_WAY:
            why = "; ".join(filter(None, (_waits_for(run, now), run["reason"], run["note"])))
            rows.append([*_run(run, now), run["state"], str(run["attempts_begun"]), why])
    headers = ("run", "fire time", "schedule", "state", "attempts", "why")
    return Section(f"Under way{_beyond(document)}", headers, rows, spare=("attempts", "fire time"))


def _waits_for(run: Mapping[str, Any], now: datetime) -> str:
    """Say what a run waits for that is not being sent: its own time, or its turn with its flow and target."""
    if run["state"] == RunState.SENDING:
        return ""
    due = run["retry_at"] or run["due_at"]
    if _instant(due) <= now:
        late = timedelta(seconds=run["late_by"])
        late_by = f"; late by {format_duration(late)}" if late > _LATE_TO_SPEAK_OF else ""
        return f"waits for {run['waits_for'] or 'its turn'}{late_by}"
    return f"{'again' if run['retry_at'] else 'due'} at {_when(due, now)}"


def _beyond(document: Document) -> str:
    """Return how many runs are under way where not all of them are in the document."""
    there, all_ = len(document["under_way"]), sum(document["counts"].values())
    return f" (the first {there} of {all_})" if all_ > there else ""


def _next(document: Document, now: datetime) -> Section:
    rows = []
    for each in document["upcoming"]:
        late = each["out_at"] != each["fire_time"]
        deferred = f"deferred; its fire time is {_when(each['fire_time'], now)}" if late else ""
        notes = filter(None, ("paused" if each["paused"] else "", deferred))
        out = each["out_at"]
        rows.append([_when(out, now), _between(now, out), each["schedule_id"], "; ".join(notes)])
    return Section("Next", ("at", "in", "schedule", ""), rows)


def _ended(document: Document, now: datetime) -> Section:
    rows = [
        [_when(run["updated_at"], now), *_run(run, now), run["state"], run["instance"] or run["reason"] or ""]
        for run in document["recent"][:ENDED]
    ]
    headers = ("ended", "run", "fire time", "schedule", "state", "instance, or why")
    failed = f" ({document['failed']:,} failed since the start)" if document["failed"] else ""
    return Section(f"Ended lately{failed}", headers, rows, spare=("ended", "fire time"))


def _targets(document: Document) -> Section:
    rows = []
    for target in document["targets"]:
        age, offset = target["token_age"], target["clock_offset"]
        token = "no token" if age is None else f"token {format_duration(timedelta(seconds=age))} old"
        clock = "not known yet" if offset is None else f"{offset:+.1f} s"
        clock += ", too far" if target["clock_is_off"] else ""
        rows.append([target["name"], token, clock, _target_trouble(target)])
    return Section("Targets", ("target", "token", "its clock is ahead by", "trouble"), rows)


def _target_trouble(target: Mapping[str, Any]) -> str:
    waits = f"calls wait for its limit, {target['held_by']}" if target["held_by"] else ""
    unsent = target["unsent"]
    if not unsent:
        return waits
    ago = format_duration(timedelta(seconds=unsent["age"]))
    return "; ".join(filter(None, (f"a call was not sent {ago} ago: {unsent['why']}", waits)))


def _health(document: Document) -> Section:
    health = document["health"]
    latency = health["ledger_latency"]
    ledger = "no answer yet" if latency is None else f"{latency * 1000:.1f} ms"
    row = ["yes" if health["alive"] else "NO", f"{health['loop_lag'] * 1000:.1f} ms", ledger]
    row += [f"{health['woke_ago']:.0f} s ago", health["ledger_error"] or ""]
    headers = ("alive", "loop late by", "ledger answers in", "alarms looked at", "trouble")
    return Section("Health", headers, [row], urgent=not health["alive"])


def _run(run: Mapping[str, Any], now: datetime) -> list[str]:
    return [str(run["id"]), _when(run["fire_time"], now), run["schedule_id"]]


def _when(stamp: str, now: datetime) -> str:
    return short(_instant(stamp), now)


def _between(start: str | datetime, end: str | datetime) -> str:
    span = _instant(end) - _instant(start)
    return format_duration(max(timedelta(0), span))


def _instant(stamp: str | datetime) -> datetime:
    return datetime.fromisoformat(stamp) if isinstance(stamp, str) else stamp
