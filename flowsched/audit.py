"""The terms that were in force and the runs that there are in; each fire time judged out. Pure.

Every fire time that a term yields must have exactly one automatic run, in whatever state, and every automatic
run must have a term that yields its fire time.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import groupby, takewhile
from typing import TYPE_CHECKING

from flowsched import timeline
from flowsched.admission import ON_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from flowsched.model import Fired, RunState, Term, Timing


class Verdict(StrEnum):
    """What is to be said of a fire time, or of one run too many."""

    ALIGNED = "aligned"
    """It has its run."""
    DUE_NOW = "due_now"
    """It has no run yet, and is not late."""
    DEFERRED = "deferred"
    """It has no run yet, as a blackout defers it, and is not late."""
    LOST = "lost"
    """It has no run, though it counts as accounted for, or nobody will account for it any more."""
    BEHIND = "behind"
    """It has no run yet: no daemon is running, or it is behind."""
    STRAY = "stray"
    """A run of a fire time that no term in force then yields."""
    DOUBLE = "double"
    """A further run of a fire time that has one."""


GAPS = frozenset({Verdict.LOST, Verdict.BEHIND})
SURPLUS = frozenset({Verdict.STRAY, Verdict.DOUBLE})


@dataclass(frozen=True, slots=True)
class Finding:
    """The judgement of one fire time, or of one run."""

    schedule_id: str
    fire_time: datetime
    verdict: Verdict
    run: Fired | None
    """None where there is no run."""
    exact: bool
    """False where this machine cannot compute the term's fire times as they were computed then."""

    @property
    def differs(self) -> bool:
        """Whether it is a gap or a surplus."""
        return self.verdict in GAPS or self.verdict in SURPLUS


@dataclass(slots=True)
class Tally:
    """The sums over findings, added in the order in which `compare` yields them."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    """Without the differences that are not exact."""
    apart: int = 0
    """The differences that are not exact."""
    states: Counter[RunState] = field(default_factory=Counter)
    """Of all runs that were judged."""
    schedules: int = 0
    """How many different ones the findings are about."""
    _latest: str | None = None

    def add(self, finding: Finding) -> None:
        """Count one more."""
        if finding.differs and not finding.exact:
            self.apart += 1
        else:
            self.verdicts[finding.verdict] += 1
        if finding.run is not None:
            self.states[finding.run.state] += 1
        if finding.schedule_id != self._latest:
            self._latest = finding.schedule_id
            self.schedules += 1

    @property
    def fire_times(self) -> int:
        """Those that should have a run, or have one."""
        fine = (Verdict.ALIGNED, Verdict.DUE_NOW, Verdict.DEFERRED)
        return sum(self.verdicts[verdict] for verdict in fine) + self.gaps

    @property
    def gaps(self) -> int:
        """Fire times without a run."""
        return sum(self.verdicts[verdict] for verdict in GAPS)

    @property
    def surplus(self) -> int:
        """Runs too many."""
        return sum(self.verdicts[verdict] for verdict in SURPLUS)


@dataclass(frozen=True, slots=True)
class _Owed:
    """What a term owes: a run for each of its fire times after one instant and up to another, inclusive."""

    term: Term
    last: datetime
    exact: bool
    readable: bool

    def covers(self, at: datetime) -> bool:
        return self.term.from_at < at <= self.last

    def fire_times(self, from_: datetime, to: datetime) -> Iterator[datetime]:
        if not self.readable:
            return iter(())
        after = self.term.from_at if from_ <= self.term.from_at else from_ - timedelta.resolution
        fire_times = timeline.fire_times(self.term.timing, after)
        return takewhile(lambda at: at <= self.last and at < to, fire_times)


_Place = tuple[str, "datetime"]
_Entry = tuple[_Place, "_Owed | None", "Fired | None"]


def compare(
    terms: Iterable[Term],
    fired: Iterable[Fired],
    *,
    from_: datetime,
    to: datetime,
    now: datetime,
    rules_of: Callable[[str], str],
) -> Iterator[Finding]:
    """Judge each fire time in [`from_`, `to`) that should have a run by `now`, and each run that there is.

    `fired` are the automatic runs of that range, by schedule id and then by fire time, and so come the
    findings, the aligned ones too. Of runs, no more than those of one fire time are held. `rules_of` gives
    the digest of a zone's data on this machine, empty where it is not known.

    Beside a daemon that writes, `now` must be read before the terms, and the terms before the runs. Then
    nothing that it does meanwhile is found wrong, but where it puts a catalog in force or removes old runs.
    """
    owed = defaultdict(list)
    for term in terms:
        owed[term.schedule_id].append(_owed(term, now, rules_of))
    recorded: Iterator[_Entry] = (((run.schedule_id, run.fire_time), None, run) for run in fired)
    entries = heapq.merge(_expected(owed, from_, to), recorded, key=_place)
    for (schedule_id, fire_time), group in groupby(entries, key=_place):
        yielding: list[_Owed] = []
        runs: list[Fired] = []
        for _, term_owed, run in group:
            if term_owed is not None:
                yielding.append(term_owed)
            if run is not None:
                runs.append(run)
        if yielding:
            yield from _judge_owed(schedule_id, fire_time, yielding, runs, now)
        else:
            yield from _judge_strays(runs, owed.get(schedule_id, []), now)


def _owed(term: Term, now: datetime, rules_of: Callable[[str], str]) -> _Owed:
    """Return what a term owes by `now`.

    Where the clock was set back, a cursor may stand after `now`, or after the end of its term; up to there
    the runs were made all the same.
    """
    last = max(term.cursor_at, now if term.until_at is None else term.until_at)
    return _Owed(term, last, exact=exact(term.timing, rules_of), readable=timeline.is_readable(term.timing))


def exact(timing: Timing, rules_of: Callable[[str], str]) -> bool:
    """Tell whether this machine computes the fire times of a timing as they were computed then.

    It does not where its data of the zone are known to be others, nor where it cannot read the timing at all.
    """
    here = rules_of(timing.timezone)
    same_rules = not here or not timing.rules or here == timing.rules
    return same_rules and timeline.is_readable(timing)


def _expected(owed: dict[str, list[_Owed]], from_: datetime, to: datetime) -> Iterator[_Entry]:
    """Yield each fire time with each term that yields it, by schedule id and then by fire time."""
    for schedule_id in sorted(owed):
        streams = (_entries(schedule_id, each, from_, to) for each in owed[schedule_id])
        yield from heapq.merge(*streams, key=_place)


def _entries(schedule_id: str, owed: _Owed, from_: datetime, to: datetime) -> Iterator[_Entry]:
    return (((schedule_id, at), owed, None) for at in owed.fire_times(from_, to))


def _place(entry: _Entry) -> _Place:
    return entry[0]


def _judge_owed(
    schedule_id: str, fire_time: datetime, yielding: list[_Owed], runs: list[Fired], now: datetime
) -> Iterator[Finding]:
    exact = any(each.exact for each in yielding)
    if not runs:
        yield Finding(schedule_id, fire_time, _without_a_run(fire_time, yielding, now), None, exact)
    for run in runs[:1]:
        yield Finding(schedule_id, fire_time, Verdict.ALIGNED, run, exact)
    for run in runs[1:]:
        yield Finding(schedule_id, fire_time, Verdict.DOUBLE, run, exact=True)


def _without_a_run(fire_time: datetime, yielding: list[_Owed], now: datetime) -> Verdict:
    terms = [each.term for each in yielding]
    terms = [term for term in terms if term.until_at is None and term.cursor_at < fire_time]
    if not terms:
        return Verdict.LOST
    if any(_defers(term, fire_time, now) for term in terms):
        return Verdict.DEFERRED
    return Verdict.BEHIND if now - fire_time > ON_TIME else Verdict.DUE_NOW


def _defers(term: Term, fire_time: datetime, now: datetime) -> bool:
    """Tell whether a blackout defers the fire, or has deferred it until just now.

    It is the one that comes next after the cursor: any that follows is not before the end of the closed time.
    """
    until = term.deferred_until
    return until is not None and fire_time < until and now - until <= ON_TIME


def _judge_strays(runs: list[Fired], owed: list[_Owed], now: datetime) -> Iterator[Finding]:
    """Judge runs whose fire time no term yields; those later than all that is owed may be of a newer term."""
    judged_up_to = max([now, *(each.last for each in owed)])
    for run in runs:
        if run.fire_time <= judged_up_to:
            exact = all(each.exact for each in owed if each.covers(run.fire_time))
            yield Finding(run.schedule_id, run.fire_time, Verdict.STRAY, run, exact)
