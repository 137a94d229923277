"""How a daemon stands, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsched.model import SHORT, Phase, ReloadOutcome, RunState, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from flowsched.model import Health, Late, Pause, Status, Upcoming

_UNDER_WAY = (RunState.CLAIMED, RunState.SENDING, RunState.WAITING)


def sentence(status: Status) -> str:
    """Return how a daemon stands in one line, as `STATUS=` and the first line of `flowsched status` say it.

    Such as `128 schedules, 3 running, next 14:05 nightly-wind-report, catalog 3f2a1c77b0de ok`; in UTC.
    """
    if status.phase is Phase.STARTING:
        return "starting"
    running = sum(status.counts.get(state, 0) for state in _UNDER_WAY)
    if status.phase is Phase.STOPPING:
        return f"stopping: {_counted(running, 'run')} under way"
    parts = [_schedules(status), f"{running} running", *_troubles(status), *_paused(status.pauses, status.at)]
    return ", ".join([*parts, _next(status), _catalog(status)])


def needs(status: Status) -> tuple[str, ...]:
    """Return a line for each thing that will not get better unless a person looks at it."""
    return tuple(_needs(status))


def unready(status: Status) -> tuple[str, ...]:
    """Return why a daemon is not one that fires all that it should, a line each; empty: it is."""
    return tuple(_unready(status))


def subject_of(scope: Scope, name: str | None) -> str:
    """Return what a pause is about: `schedule NAME`, `target NAME`, or `all schedules`."""
    return "all schedules" if scope is Scope.ALL else f"{scope} {name}"


def state_in_words(state: str) -> str:
    """Return a state of a run as a sentence has it."""
    return state.replace("_", " ")


def no_run(run_id: int) -> str:
    """Say that the ledger has no run of this number."""
    return f"there is no run {run_id} in the ledger; `flowsched runs` shows their numbers"


def ailments(health: Health) -> tuple[str, ...]:
    """Return why a daemon does not count as alive, a line each; empty: it does."""
    if health.alive:
        return ()
    ledger = "does not answer" if health.ledger_latency is None else f"took {health.ledger_latency:.1f} s"
    alarms = f"alarms last looked at {health.woke_ago:.0f} s ago"
    return (f"not alive: loop late by {health.loop_lag:.1f} s, ledger {ledger}, {alarms}",)


def _unwell(status: Status) -> Iterator[str]:
    yield from ailments(status.health)
    if status.health.ledger_error:
        yield _in_trouble(status.health.ledger_error)
    if status.overdue:
        yield _overdue(status)


def _unready(status: Status) -> Iterator[str]:
    if status.phase is not Phase.RUNNING:
        yield f"the daemon is {status.phase}"
    if not status.revision:
        yield "no catalog is in force"
    yield from _unwell(status)


def _needs(status: Status) -> Iterator[str]:
    yield from _unwell(status)
    if status.late:
        yield _late(status.late, status.at)
    if doubtful := status.counts.get(RunState.IN_DOUBT, 0):
        yield f"{_counted(doubtful, 'run')} in doubt"
    if status.held:
        accept = f"flowsched apply --accept {status.held[:SHORT]}"
        yield f"catalog {status.held[:SHORT]} held until it is accepted: {accept}"
    if (reload := status.reload) and reload.outcome in (ReloadOutcome.REFUSED, ReloadOutcome.FAILED):
        yield f"schedule files {reload.outcome}; the catalog before them stays in force"
    for target in status.targets:
        if target.clock_is_off:
            yield f"clock of target {target.name} and of this machine differ"
    for name, at in status.broken_channels.items():
        since = _when(at, status.at)
        yield f"alert channel {name}: nothing gets through since {since}; try flowsched alert-test {name}"


def _in_trouble(ledger_error: str) -> str:
    return f"ledger in trouble: {ledger_error}"


def _overdue(status: Status) -> str:
    since = min(status.overdue.values())
    return f"{_counted(len(status.overdue), 'schedule')} overdue, since {_when(since, status.at)}"


def _late(late: Late, now: datetime) -> str:
    waits = f", which waits for {late.waits_for}" if late.waits_for else ""
    return f"{_counted(late.count, 'run')} late, the first since {_when(late.since, now)}{waits}"


def _schedules(status: Status) -> str:
    if status.enabled == status.schedules:
        return _counted(status.schedules, "schedule")
    return f"{status.enabled} of {_counted(status.schedules, 'schedule')} enabled"


def _troubles(status: Status) -> Iterator[str]:
    if not status.health.alive:
        yield "NOT ALIVE"
    if status.health.ledger_error:
        yield "LEDGER IN TROUBLE"
    if doubtful := status.counts.get(RunState.IN_DOUBT, 0):
        yield f"{doubtful} in doubt"
    if status.overdue:
        yield f"{len(status.overdue)} overdue"
    if status.late:
        yield f"{status.late.count} late"


def _paused(pauses: tuple[Pause, ...], at: datetime) -> Iterator[str]:
    if now := sum(pause.from_at <= at for pause in pauses):
        yield _counted(now, "pause")


def _next(status: Status) -> str:
    going = [each for each in status.upcoming if not each.paused]
    if not going:
        return "nothing next" if not status.upcoming else "next fires paused"
    return f"next {_fire(going[0], status.at)}"


def _fire(upcoming: Upcoming, now: datetime) -> str:
    return f"{_when(upcoming.out_at, now)} {upcoming.schedule_id}"


def _when(at: datetime, now: datetime) -> str:
    """Return an instant as `14:05`, with its date where that is not today's in UTC."""
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"


def _catalog(status: Status) -> str:
    short = status.revision[:SHORT]
    if status.held:
        return f"catalog {short}, another held"
    if status.reload and status.reload.outcome in (ReloadOutcome.REFUSED, ReloadOutcome.FAILED):
        return f"catalog {short}, another {status.reload.outcome}"
    return f"catalog {short} ok"


def _counted(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
