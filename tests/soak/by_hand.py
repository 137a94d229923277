"""Whether what people wanted was done, once, and nothing else: pauses, runs by hand, settled runs. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from flowsched.admission import renames
from flowsched.model import MANUAL_ORIGINS, Origin, RunState, Scope
from flowsched.ops.logs import stamp
from tests.soak.clock import START
from tests.soak.evidence import Check
from tests.soak.script import Act

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from flowsched.model import Pause, Run
    from tests.soak.evidence import Evidence
    from tests.soak.people import Errand

UNHEARD = 400.0
"""Seconds of the soak in which a daemon may still do what a command asked for that was interrupted."""

MANY = 20
"""Runs that were missed or failed for good: of so many somebody must have been told."""

_ERRAND = re.compile(r"\berrand \d+\b")


def rests(evidence: Evidence) -> Check:
    """What a pause covers is skipped, unless that was decided before; while one lasts, nothing is claimed."""
    wrong, covered = [], 0
    for run in evidence.runs:
        if run.origin in MANUAL_ORIGINS:
            continue
        for pause in evidence.pauses:
            # Of a schedule that was renamed it has the new id, whose fires are held against it from then on.
            if not _covers(pause, run, run.schedule_id):
                continue
            if not evidence.walls.surely_after(run.claimed_at, pause.from_at):
                continue
            inside = _lies_in(pause, run.fire_time)
            covered += inside
            if (inside and run.state is not RunState.SKIPPED) or (
                _lasts(evidence, pause, run.claimed_at)
                and run.state not in (RunState.SKIPPED, RunState.MISSED)
            ):
                wrong.append(f"{_named(run)} is {run.state}, and pause {pause.id} ({pause.reason}) covers it")
    return Check(
        "pauses are heeded", f"{len(evidence.pauses)} pauses, {covered} fires in them", wrong, "double"
    )


def paused_as_asked(evidence: Evidence) -> Check:
    """Each run that is skipped by a pause was covered by it, or would have gone out while it lasted."""
    later_ids = _later_ids(evidence)
    skipped = [
        run
        for run in evidence.runs
        if run.state is RunState.SKIPPED and (run.reason or "").startswith("paused: ")
    ]
    wrong = [
        f"{_named(run)} is skipped, {run.reason}, and no such pause covers it"
        for run in skipped
        if not any(
            pause.reason == _errand_in(run.reason)
            and (
                _lies_in(pause, run.fire_time)
                or pause.over_at is None
                or not evidence.walls.surely_after(run.claimed_at, pause.over_at)
            )
            for pause in evidence.pauses
            if _covers(pause, run, *later_ids(run.schedule_id))
        )
    ]
    return Check("skipped by a pause that there was", str(len(skipped)), wrong, "lost")


def wanted(evidence: Evidence) -> Check:
    """Each run by hand was asked for, as it is."""
    errands = _by_reason(evidence)
    runs = [run for run in evidence.runs if run.origin in MANUAL_ORIGINS]
    wrong = [
        f"{_named(run)}, of origin {run.origin}, is not what was asked for: {run.note}"
        for run in runs
        if not _is_wanted(run, errands.get(_errand_in(run.note)))
    ]
    origins = Counter(run.origin for run in runs)
    figure = f"{origins[Origin.MANUAL]} triggered, {origins[Origin.BACKFILL]} filled in"
    return Check("runs by hand that were asked for", figure, wrong, "double")


def once_each(evidence: Evidence) -> Check:
    """No command was carried out more than once; but a backfill, which is once for each of its fires."""
    errands = _by_reason(evidence)
    done = Counter(action.reason for action in evidence.actions)
    wrong = [
        f"{_told(errand)} was done {done[reason]} times"
        for reason, errand in errands.items()
        if done[reason] > 1 and errand.act is not Act.BACKFILL
    ]
    made = defaultdict(list)
    for run in evidence.runs:
        if run.origin in MANUAL_ORIGINS and (errand := errands.get(_errand_in(run.note))):
            made[errand.reason].append(run)
    wrong += [
        f"{_told(errands[reason])} has made {len(runs)} runs: {', '.join(map(_named, runs))}"
        for reason, runs in made.items()
        if len(runs) > 1 and errands[reason].act is Act.TRIGGER
    ]
    return Check("commands carried out once", f"{len(evidence.errands)} commands", wrong, "double")


def answered_is_recorded(evidence: Evidence) -> Check:
    """What a command said to have done is in the ledger, and has stayed so."""
    actions = Counter(action.reason for action in evidence.actions)
    pauses, later_ids = {pause.reason: pause for pause in evidence.pauses}, _later_ids(evidence)
    done = [errand for errand in evidence.errands if errand.code == 0 and errand.act in RECORDED]
    wrong = [f"{_told(errand)} is no action" for errand in done if not actions[errand.reason]]
    wrong += [
        f"{_told(errand)} is no pause"
        for errand in done
        if errand.act is Act.PAUSE
        and not any(_is_set(pauses.get(errand.reason), subject) for subject in later_ids(errand.arguments[1]))
    ]
    ended = {str(run.id): run for run in evidence.runs if run.origin not in MANUAL_ORIGINS}
    for errand in done:
        run = ended.get(errand.arguments[1])
        if errand.act is Act.RESOLVE and run and _errand_in(run.reason) != errand.reason:
            wrong.append(f"{_told(errand)}, and {_named(run)} is {run.state}: {run.reason}")
    return Check("commands on record", f"{len(done)} done by hand", wrong, "lost")


def told(evidence: Evidence) -> Check:
    """What is recorded as told was heard, and somebody was told where there was something to tell."""
    heard = len(evidence.heard)
    wrong = (
        [f"{evidence.sent} messages are recorded as sent, {heard} were heard"]
        if evidence.sent > heard
        else []
    )
    bad = sum(run.state in (RunState.FAILED, RunState.MISSED) for run in evidence.runs)
    if bad >= MANY and not heard:
        wrong.append(f"{bad} runs failed or were missed, and nobody was told")
    again = sum(evidence.heard.values()) - heard
    return Check("alerts", f"{heard} messages heard, {again} of them again, {evidence.sent} on record", wrong)


def mistaken(evidence: Evidence) -> set[str]:
    """Return the instances that a person denied, and that were there, or on their way, at that moment."""
    errands = _by_reason(evidence)
    created = {call.created: call for call in evidence.calls if call.created}
    found = set()
    for run in evidence.runs:
        errand = errands.get(_errand_in(run.reason))
        call = created.get(run.predicted_instance)
        if run.state is RunState.FAILED and errand and errand.act is Act.RESOLVE and call:
            assert errand.ended is not None
            until = errand.ended + (UNHEARD if errand.code is None else 0.0)
            if (call.began_at - START).total_seconds() <= until:
                found.add(run.predicted_instance)
    return found


RECORDED = frozenset({Act.PAUSE, Act.RESUME, Act.TRIGGER, Act.CANCEL, Act.RESOLVE})


def _covers(pause: Pause, run: Run, *ids: str) -> bool:
    names = {Scope.ALL: (None,), Scope.TARGET: (run.target,)}
    return pause.name in names.get(pause.scope, ids)


def _later_ids(evidence: Evidence) -> Callable[[str], list[str]]:
    """Return what gives the ids of a schedule from one on that it has had; none is ever given again."""
    catalogs = [version.catalog.schedules for version in evidence.versions]
    renamed = {former: id_ for schedules in catalogs for former, id_ in renames(schedules).items()}

    def later_ids(id_: str) -> list[str]:
        ids = [id_]
        while ids[-1] in renamed:
            ids.append(renamed[ids[-1]])
        return ids

    return later_ids


def _lies_in(pause: Pause, at: datetime) -> bool:
    return pause.from_at <= at and (pause.over_at is None or at < pause.over_at)


def _lasts(evidence: Evidence, pause: Pause, at: datetime) -> bool:
    """Tell whether a pause that had begun by then surely lasted still."""
    by_itself = pause.until_at is not None and pause.until_at <= at
    by_hand = pause.ended_at is not None and not evidence.walls.surely_after(pause.ended_at, at)
    return not by_itself and not by_hand


def _is_wanted(run: Run, errand: Errand | None) -> bool:
    if errand is None or errand.arguments[1] != run.schedule_id:
        return False
    options = dict(zip(errand.arguments[2::2], errand.arguments[3::2], strict=False))
    if run.origin is Origin.BACKFILL:
        at = stamp(run.fire_time)
        return errand.act is Act.BACKFILL and options["--from"] <= at < options["--to"]
    return errand.act is Act.TRIGGER and options.get("--at", stamp(run.fire_time)) == stamp(run.fire_time)


def _is_set(pause: Pause | None, subject: str) -> bool:
    if pause is None:
        return False
    subjects = {Scope.ALL: "--all", Scope.TARGET: f"--target={pause.name}", Scope.SCHEDULE: pause.name}
    return subjects[pause.scope] == subject


def _by_reason(evidence: Evidence) -> Mapping[str, Errand]:
    return {errand.reason: errand for errand in evidence.errands}


def _errand_in(text: str | None) -> str:
    found = _ERRAND.search(text or "")
    return found[0] if found else ""


def _named(run: Run) -> str:
    return f"run {run.id} of {run.schedule_id} at {run.fire_time:%d %H:%M}"


def _told(errand: Errand) -> str:
    return f"{errand.reason}, `{' '.join(errand.arguments)}`,"
