"""Per schedule: when it last succeeded, and by when it should have succeeded again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flowsched import timeline
from flowsched.admission import Pauses, same_timing
from flowsched.events import RunMoved
from flowsched.model import RunState
from flowsched.threads import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.events import Event
    from flowsched.model import Blackout, Catalog, Pause, Schedule, Status, Term, Timing

AT_ONCE = 200
"""Schedules worked out in one go, beside the loop; fires must not wait for it."""

BREATH = 0.05
"""Seconds between two goes."""

LAST = "flowsched_schedule_last_success_timestamp_seconds"
EVER = "flowsched_schedule_succeeded"
EXPECTED = "flowsched_schedule_success_expected_timestamp_seconds"

_TEXTS = {
    LAST: "The latest fire time of the schedule that was triggered.",
    EVER: "Whether any fire of the schedule that the ledger keeps was triggered.",
    EXPECTED: "By when the first fire after those that are done with should have been triggered.",
}


class _Held(NamedTuple):
    """Since when a schedule has the timing and the blackout that it has."""

    timing: Timing
    blackout: Blackout | None
    since: datetime


class _Expected(NamedTuple):
    schedule: Schedule
    after: datetime
    by: datetime | None
    """None: it has no fire any more."""


class Successes:
    """What is known of the success of each schedule of the catalog.

    Fires that were skipped on purpose are done with, as are those that were triggered. Nothing is expected of
    what was before an edit or under a pause, nor of a schedule that is disabled or paused.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._skipped: dict[str, datetime] = {}
        self._terms: dict[str, tuple[Timing, datetime]] = {}
        self._held: dict[str, _Held] = {}
        self._past: tuple[Pause, ...] = ()
        self._resumed: dict[str, datetime] = {}
        self._expected: dict[str, _Expected] = {}
        self._looked_at: tuple[Catalog, Mapping[str, datetime]] | None = None
        """The catalog and its successes of the latest look; None where a look may find something else."""
        self._page: tuple[object, object, str] = (None, None, "")

    def load(self, terms: Iterable[Term], pauses: Iterable[Pause], kept_from: datetime | None = None) -> None:
        """Take up what the ledger knows: the terms in force, and all pauses there have been.

        What came of fires before `kept_from` it may not know any more: nothing is expected of those. None: it
        knows all.
        """
        for term in terms:
            since = term.from_at if kept_from is None else max(term.from_at, kept_from)
            self._terms[term.schedule_id] = term.timing, since
        self._past = tuple(pauses)
        self._looked_at = None

    def skipped(self, latest: Mapping[str, datetime]) -> None:
        """Take up, by schedule, a fire time that was skipped on purpose."""
        for id_, at in latest.items():
            self._skipped[id_] = max(at, self._skipped.get(id_, at))
            self._looked_at = None

    def hear(self, event: Event) -> None:
        """Note a fire that was skipped on purpose."""
        if isinstance(event, RunMoved) and event.run.state is RunState.SKIPPED:
            self.skipped({event.run.schedule_id: event.run.fire_time})

    async def look(self, catalog: Catalog, status: Status) -> None:
        """Work out what is expected of each schedule, where that may have changed."""
        if self._is_as_before(catalog, status):
            return
        for gone in self._expected.keys() - catalog.schedules.keys():
            for known in (self._expected, self._held, self._skipped, self._resumed):
                known.pop(gone, None)
        pauses = Pauses((*self._past, *status.pauses))
        self._looked_at = None if pauses.known else (catalog, status.last_success)
        try:
            await self._look_at_all(tuple(catalog.schedules.values()), pauses, status)
        except BaseException:
            self._looked_at = None
            raise
        self._past = ()  # what they covered is noted, and those that last are in the status

    async def _look_at_all(self, schedules: Sequence[Schedule], pauses: Pauses, status: Status) -> None:
        breath, ahead = 0.0, _Ahead()
        for first in range(0, len(schedules), AT_ONCE):
            some = schedules[first : first + AT_ONCE]
            wanted = [one for one in self._wanted(some, pauses, status) if self._is_news(*one)]
            await self._clock.sleep(breath)
            if wanted:
                self._expected.update(await in_a_thread(ahead.of, wanted))
            breath = BREATH if wanted else 0.0

    def page(self, catalog: Catalog, last_success: Mapping[str, datetime]) -> str:
        """Return the series of all schedules of the catalog in the text format of Prometheus.

        Written here, and kept until something changes: the library takes half a second for 10,000 schedules,
        on the loop that fires. An id needs no escaping.
        """
        expected = {id_: each.by for id_, each in self._expected.items() if id_ in catalog.schedules}
        facts = (catalog, dict(last_success), expected)
        if (self._page[0], self._page[1]) != (catalog.revision, facts[1:]):
            self._page = (catalog.revision, facts[1:], "".join(_written(*facts)))
        return self._page[2]

    def _is_as_before(self, catalog: Catalog, status: Status) -> bool:
        """Tell whether nothing has happened since the latest look; what has a status stays as it is then."""
        if self._looked_at is None or status.pauses:
            return False
        return self._looked_at[0] is catalog and self._looked_at[1] is status.last_success

    def _wanted(
        self, schedules: Iterable[Schedule], pauses: Pauses, status: Status
    ) -> Iterator[tuple[Schedule, datetime]]:
        for schedule in schedules:
            self._note_pauses(schedule, pauses, status)
            if schedule.enabled and self._resumed.get(schedule.id) != status.at:
                yield schedule, self._done_with(schedule, status)
            else:
                self._expected.pop(schedule.id, None)

    def _note_pauses(self, schedule: Schedule, pauses: Pauses, status: Status) -> None:
        """Note up to when a schedule was paused: `status.at` where it is now."""
        for pause in pauses.of(schedule):
            end = min(pause.over_at or status.at, status.at)
            if pause.from_at < end:
                self._resumed[schedule.id] = max(end, self._resumed.get(schedule.id, end))

    def _done_with(self, schedule: Schedule, status: Status) -> datetime:
        """Return up to which fire time, inclusive, nothing is expected any more."""
        id_ = schedule.id
        since = self._since(schedule, status)
        known = (self._skipped.get(id_), self._resumed.get(id_), status.last_success.get(id_))
        return max((at for at in known if at is not None and at > since), default=since)

    def _since(self, schedule: Schedule, status: Status) -> datetime:
        held = self._held.get(schedule.id)
        if held is None:
            timing, since = self._terms.pop(schedule.id, (None, status.at))
            if timing is None or not same_timing(timing, schedule.timing):
                since = status.at
            held = self._held[schedule.id] = _Held(schedule.timing, schedule.blackout, since)
        elif (held.timing, held.blackout) != (schedule.timing, schedule.blackout):
            held = self._held[schedule.id] = _Held(schedule.timing, schedule.blackout, status.at)
        return held.since

    def _is_news(self, schedule: Schedule, after: datetime) -> bool:
        known = self._expected.get(schedule.id)
        if known is None or known.after != after:
            return True
        return known.schedule is not schedule and known.schedule != schedule


class _Ahead:
    """What lies ahead of schedules, as it is worked out once for all that share a timing and a blackout."""

    def __init__(self) -> None:
        self._out_at: dict[tuple[Timing, int, datetime], datetime | None] = {}

    def of(self, wanted: Sequence[tuple[Schedule, datetime]]) -> dict[str, _Expected]:
        """Return, by schedule, what is expected after an instant."""
        return {
            schedule.id: _Expected(schedule, after, self._by(schedule, after)) for schedule, after in wanted
        }

    def _by(self, schedule: Schedule, after: datetime) -> datetime | None:
        """Return when the next fire has had all of its time; None: there is none that can be told."""
        # Blackouts are compared by what they are, not by what they say: that can be thousands of days.
        shared = schedule.timing, id(schedule.blackout), after
        if shared not in self._out_at:
            self._out_at[shared] = _next_out(schedule, after)
        out_at, policy = self._out_at[shared], schedule.retry
        return out_at and out_at + schedule.jitter + policy.deadline + policy.attempt_timeout


def _next_out(schedule: Schedule, after: datetime) -> datetime | None:
    try:
        return timeline.next_out(schedule, after)
    except Exception:  # noqa: BLE001 - a calendar that cannot be read; the engine says so when it is to fire
        return None


def _written(
    catalog: Catalog, last_success: Mapping[str, datetime], expected: Mapping[str, datetime | None]
) -> Iterator[str]:
    yield _head(LAST)
    for id_ in catalog.schedules:
        if (at := last_success.get(id_)) is not None:
            yield f'{LAST}{{schedule="{id_}"}} {at.timestamp():.3f}\n'
    yield _head(EVER)
    for id_ in catalog.schedules:
        yield f'{EVER}{{schedule="{id_}"}} {"1.0" if id_ in last_success else "0.0"}\n'
    yield _head(EXPECTED)
    for id_ in catalog.schedules:
        if (at := expected.get(id_)) is not None:
            yield f'{EXPECTED}{{schedule="{id_}"}} {at.timestamp():.3f}\n'


def _head(name: str) -> str:
    return f"# HELP {name} {_TEXTS[name]}\n# TYPE {name} gauge\n"
