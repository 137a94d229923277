"""Whether a soak was passed: from the ledger, from the simulator's own books, and from the log. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from flowsched.model import MANUAL_ORIGINS, RunState
from flowsched.retry import SURELY_NOT_PROCESSED
from flowsched.simulator import Signature, instance_id
from tests.soak.by_hand import (
    answered_is_recorded,
    mistaken,
    once_each,
    paused_as_asked,
    rests,
    told,
    wanted,
)
from tests.soak.clock import START
from tests.soak.evidence import Check, Evidence
from tests.soak.history import stints

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowsched.model import Run
    from flowsched.simulator import Call
    from tests.soak.daemon import Sending

TRIGGERS = frozenset({"flows.trigger", "flows.triggerFromTask"})
TOO_MANY_REQUESTS = 429
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

APART = 58.9
"""Seconds between two sends to one flow, by the daemon's own clock: 60, less the second of grace."""

APART_AT_THE_GATEWAY = 35.0
"""The same as the gateway sees it, where 0.6 s of a busy machine are 24 s of the soak."""

MAY_FAIL = {
    "attempts used up": re.compile(r"gave up after \d+ attempts?(: |; EnOS has no instance )"),
    "ended by hand": re.compile(r"(cancelled|resolved) by hand \(\S+\): errand \d+$"),
    "deadline": re.compile(
        r"gave up after \d+ attempts?, as the (next would begin after the deadline|deadline passed)"
        r"|the deadline passed before it could be sent"
        r"|the deadline passed, and EnOS has no instance"
        r"|never sent: \S+ late, (outside the catch_up_window|and catch_up)"
    ),
}
"""Why a run may have failed, after all that was done to it."""


def judged(evidence: Evidence) -> list[Check]:
    """Return every check."""
    return [
        _audit(evidence),
        _owed(evidence),
        _barrier(evidence),
        _triggered_has_instance(evidence),
        _instance_has_run(evidence),
        _instance_has_one_run(evidence),
        _one_instance_a_minute(evidence),
        _no_send_after_an_instance(evidence),
        _recorded(evidence),
        _apart(evidence),
        _apart_at_the_gateway(evidence),
        _final(evidence),
        _failed(evidence),
        rests(evidence),
        paused_as_asked(evidence),
        wanted(evidence),
        once_each(evidence),
        answered_is_recorded(evidence),
        told(evidence),
        Check("people: complaints", str(len(evidence.stumbles)), evidence.stumbles),
        Check("daemon: complaints", str(len(evidence.complaints)), evidence.complaints),
    ]


def _audit(evidence: Evidence) -> Check:
    figure = f"{evidence.gaps} gaps, {evidence.surplus} surplus"
    return Check("audit", figure, [figure] if evidence.gaps or evidence.surplus else [])


def _owed(evidence: Evidence) -> Check:
    """Each fire time surely inside the time of a schedule has exactly one run that nobody made by hand."""
    runs = Counter((run.schedule_id, run.fire_time) for run in _automatic(evidence))
    wrong, owed = [], 0
    for stint in stints(evidence.versions, evidence.walls):
        for fire_time in stint.owed():
            owed += 1
            found = sum(runs[id_, fire_time] for id_ in stint.ids)
            if found != 1:
                wrong.append(f"{found} runs of {'/'.join(sorted(stint.ids))} at {fire_time:%d %H:%M}")
    return Check("owed by the edits' own record", f"{owed} fire times, each with one run", wrong, "lost")


def _barrier(evidence: Evidence) -> Check:
    """No run is of a fire time outside of what an edit brought into force."""
    allowing = defaultdict(list)
    for stint in stints(evidence.versions, evidence.walls):
        for id_ in stint.ids:
            allowing[id_].append(stint)
    wrong = [
        f"run {run.id} of {run.schedule_id} at {run.fire_time:%d %H:%M}, {run.state}"
        for run in _automatic(evidence)
        if not any(stint.allows(run.fire_time) for stint in allowing[run.schedule_id])
    ]
    return Check("edit barrier", f"{len(evidence.versions)} versions", wrong)


def _triggered_has_instance(evidence: Evidence) -> Check:
    made = {instance.id for instance in evidence.instances}
    triggered = [run for run in evidence.runs if run.state is RunState.TRIGGERED]
    wrong = [
        f"run {run.id} is triggered, and there is no {run.predicted_instance}"
        for run in triggered
        if run.predicted_instance not in made
    ]
    return Check("triggered runs with their instance", str(len(triggered)), wrong, "lost")


def _instance_has_run(evidence: Evidence) -> Check:
    owners = _owners(evidence)
    wrong = [
        f"{instance.id} is there, and no triggered run has it"
        for instance in evidence.instances
        if not owners[instance.id]
    ]
    return Check("instances with their triggered run", str(len(evidence.instances)), wrong, "lost")


def _instance_has_one_run(evidence: Evidence) -> Check:
    shared = {id_: number for id_, number in _owners(evidence).items() if number > 1}
    wrong = [f"{id_} belongs to {number} runs" for id_, number in shared.items()]
    return Check("instances shared by runs", str(len(wrong)), wrong, "double")


def _owners(evidence: Evidence) -> Counter[str]:
    """Return how many runs own each instance; one that a person denied too early is owned all the same."""
    owners = Counter(run.predicted_instance for run in evidence.runs if run.state is RunState.TRIGGERED)
    return Counter(mistaken(evidence)) | owners


def _automatic(evidence: Evidence) -> Iterator[Run]:
    return (run for run in evidence.runs if run.origin not in MANUAL_ORIGINS)


def _one_instance_a_minute(evidence: Evidence) -> Check:
    made = Counter((call.flow, (call.trigger_time or 0) // 60_000) for call in evidence.calls if call.created)
    wrong = [
        f"flow {flow} has {number} instances of one minute"
        for (flow, _), number in made.items()
        if number > 1
    ]
    return Check("instances, one a flow and minute", str(len(made)), wrong, "double")


def _no_send_after_an_instance(evidence: Evidence) -> Check:
    """No trigger is sent that EnOS has an instance for; that it would refuse the second is its merit."""
    made: set[tuple[int | None, int | None]] = set()
    denied = mistaken(evidence)
    wrong = []
    for call in _triggers(evidence.calls):
        key = (call.flow, call.trigger_time)
        if key in made and call.signature is Signature.GOOD and _instance_of(call) not in denied:
            wrong.append(
                f"call {call.number} for flow {call.flow}, of which there is an instance: {call.outcome}"
            )
        if call.created:
            made.add(key)
    return Check("sent once there was an instance", str(len(wrong)), wrong, "double")


def _recorded(evidence: Evidence) -> Check:
    """Nothing is sent that is not recorded: no more calls than attempts, by instance."""
    attempts: Counter[str] = Counter()
    for run in evidence.runs:
        attempts[run.predicted_instance] += len(evidence.attempts[run.id])
    calls = Counter(
        _instance_of(call)
        for call in _triggers(evidence.calls)
        if call.signature is Signature.GOOD and call.flow and call.trigger_time
    )
    wrong = [
        f"{number} calls for {instance}, and {attempts[instance]} attempts on record"
        for instance, number in calls.items()
        if number > attempts[instance]
    ]
    return Check("calls on record", f"{calls.total()} calls, {attempts.total()} attempts", wrong)


def _apart(evidence: Evidence) -> Check:
    """Two sends of one process to one flow keep their distance, by its own monotonic clock."""
    lanes: dict[tuple[int, int], list[Sending]] = defaultdict(list)
    for sending in evidence.sendings:
        lanes[sending.process, sending.flow].append(sending)
    found = [
        (second.ticks - first.ticks, second)
        for lane in lanes.values()
        for first, second in pairwise(sorted(lane, key=lambda each: each.ticks))
        if first.outcome not in SURELY_NOT_PROCESSED
    ]
    wrong = [f"run {second.run}: {seconds:.1f} s" for seconds, second in found if seconds < APART]
    least = min((seconds for seconds, _ in found), default=0.0)
    return Check("least distance of two sends", f"{least:.1f} s of {len(found)}", wrong)


def _apart_at_the_gateway(evidence: Evidence) -> Check:
    """The same as the gateway saw it, over restarts too; a clock set forward over one hides the distance."""
    lanes: dict[int, list[Call]] = defaultdict(list)
    for call in _triggers(evidence.calls):
        if call.flow is not None:
            lanes[call.flow].append(call)
    found = [
        ((second.began_at - first.began_at).total_seconds(), second)
        for lane in lanes.values()
        for first, second in pairwise(lane)
        if first.signature is Signature.GOOD
        and first.status != TOO_MANY_REQUESTS
        and not _hidden(evidence, first, second)
    ]
    wrong = [
        f"call {second.number} for flow {second.flow}: {seconds:.1f} s"
        for seconds, second in found
        if seconds < APART_AT_THE_GATEWAY
    ]
    least = min((seconds for seconds, _ in found), default=0.0)
    return Check("least distance at the gateway", f"{least:.1f} s of {len(found)}", wrong)


def _hidden(evidence: Evidence, earlier: Call, later: Call) -> bool:
    first, last = ((call.began_at - START).total_seconds() for call in (earlier, later))
    restarted = any(first <= at <= last for at in evidence.restarts)
    return restarted and evidence.walls.stepped_forward(first, last)


def _final(evidence: Evidence) -> Check:
    wrong = [
        f"run {run.id} of {run.schedule_id} at {run.fire_time:%d %H:%M} is {run.state}: {run.reason}"
        for run in evidence.runs
        if not run.state.final
    ]
    return Check("runs not final", str(len(wrong)), wrong)


def _failed(evidence: Evidence) -> Check:
    reasons: Counter[str] = Counter()
    wrong = []
    for run in evidence.runs:
        if run.state is RunState.FAILED:
            kind = next((name for name, known in MAY_FAIL.items() if known.match(run.reason or "")), None)
            reasons[kind or "other"] += 1
            if kind is None:
                wrong.append(f"run {run.id} of {run.schedule_id}: {run.reason}")
    figure = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    return Check("failed runs, by reason", figure or "0", wrong)


def _instance_of(call: Call) -> str:
    return instance_id(call.flow or 0, EPOCH + timedelta(milliseconds=call.trigger_time or 0))


def _triggers(calls: Iterable[Call]) -> Iterator[Call]:
    return (call for call in calls if call.operation in TRIGGERS)
