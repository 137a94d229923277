"""What becomes of a fire: started, caught up, missed or skipped, with the reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from flowsched.durations import format_duration
from flowsched.model import CatchUp, FlowState, Origin, Overlap, RunState, Scope, Seen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from flowsched.model import Cursor, Pause, Run, Schedule, Sighting, Term, Timing

ON_TIME = timedelta(seconds=60)
"""A fire admitted no later than this after it was due is an ordinary one: no more than the shortest
distance between two fires, and more than a busy loop or a quick restart takes."""


class Due(NamedTuple):
    """A fire time that has come, and when its run is to be sent: at once, deferred, or its jitter later."""

    fire_time: datetime
    due_at: datetime
    skip: str | None = None
    """Why a blackout, or a pause, leaves it out; None: none does."""
    note: str | None = None
    """What is to be noted of its run; set exactly where a blackout has deferred the fire."""


class Admitted(NamedTuple):
    """The decision about one fire time: `claimed`, to be sent, or `missed` or `skipped` with its reason."""

    fire_time: datetime
    due_at: datetime
    origin: Origin
    state: RunState
    reason: str | None
    note: str | None


def admit(schedule: Schedule, due: Sequence[Due], now: datetime, *, more: bool = False) -> list[Admitted]:
    """Decide about every fire time in `due`: those after the cursor and not after `now`, ascending.

    Late is what comes after it was due, jitter included. `more` says that others follow which are to go out
    by `now` as well, so that none of these is the latest. What a blackout or a pause leaves out is skipped
    however late, and never the latest. What comes out is what went in: one decision a fire time, in the same
    order.
    """
    going = [each for each in due if each.skip is None]
    latest = going[-1] if going and not more else None
    return [_decide(schedule, each, now, latest=each is latest) for each in due]


def _decide(schedule: Schedule, due: Due, now: datetime, *, latest: bool) -> Admitted:
    if due.skip is not None:
        return _unsent(due, RunState.SKIPPED, due.skip)
    late = now - due.due_at
    if late <= ON_TIME:
        # Blackouts gather what they defer, also of one flow: it goes one by one, after what is on schedule.
        return _sent(due, Origin.SCHEDULE if due.note is None else Origin.CATCH_UP)
    lateness = f"{format_duration(late)} late"
    if schedule.catch_up is CatchUp.NONE:
        return _missed(due, f"{lateness}, and catch_up is none")
    if late > schedule.catch_up_window:
        window = format_duration(schedule.catch_up_window)
        return _missed(due, f"{lateness}, outside the catch_up_window of {window}")
    if schedule.catch_up is CatchUp.LATEST and not latest:
        return _missed(due, f"{lateness}, and catch_up: latest starts a later fire instead")
    return _sent(due, Origin.CATCH_UP)


def _sent(due: Due, origin: Origin) -> Admitted:
    return Admitted(due.fire_time, due.due_at, origin, RunState.CLAIMED, None, due.note)


def _missed(due: Due, reason: str) -> Admitted:
    return _unsent(due, RunState.MISSED, reason)


def _unsent(due: Due, state: RunState, reason: str) -> Admitted:
    return Admitted(due.fire_time, due.due_at, Origin.SCHEDULE, state, reason, due.note)


OTHER_BLACKOUT = (
    "its blackout was changed before this could be fired, and an edit fires nothing that has passed"
)
"""Why a fire time that had come is not fired, where only the blackout of its schedule is another now."""


def cut_off(schedule_id: str, schedules: Mapping[str, Schedule], *, deferred: bool = False) -> str:
    """Say why a fire time that had come is not fired: its schedule is no longer in force as it was.

    `schedules` are those of the new catalog, by id; `deferred` says that a blackout deferred the fire.
    """
    heir = next((one for one in schedules.values() if one.renamed_from == schedule_id), None)
    schedule = schedules.get(schedule_id) or heir
    if schedule is None:
        change = "was removed"
    elif not schedule.enabled:
        change = "was disabled"
    else:
        change = "got another timing"
    if schedule is not None and schedule.id != schedule_id:
        change = f"was renamed to {schedule.id} and {change}"
    when = "while a blackout deferred this" if deferred else "before this could be fired"
    return f"its schedule {change} {when}, and an edit fires nothing that has passed"


@dataclass(frozen=True, slots=True)
class Overlapping:
    """What is done about previous instances of a flow, just before a run of it is sent."""

    skip: bool
    cancel: tuple[str, ...]
    """The instances to cancel first."""
    text: str | None
    """Why it is skipped, or what is to be noted of the run; None where nothing stands in its way."""


def overlapping(run: Run, made: Mapping[str, datetime], sightings: Mapping[str, Sighting]) -> Overlapping:
    """Decide by what is known of the instances that other runs have made; of the rest, by the fall-back.

    `made` has the fire time of each instance. That of a later fire is not cancelled for an earlier one, which
    is skipped: it was overtaken.
    """
    going = [id_ for id_, one in sightings.items() if one.seen is Seen.FOUND and one.flow is FlowState.GOING]
    unclear = [id_ for id_, one in sightings.items() if one.seen is Seen.UNCLEAR]
    if going and run.overlap is Overlap.SKIP:
        return Overlapping(skip=True, cancel=(), text=f"overlap: {sightings[going[0]].detail}")
    if later := [id_ for id_ in going if made[id_] > run.fire_time]:
        text = f"overlap: a later fire's instance {later[0]} is going"
        return Overlapping(skip=True, cancel=(), text=text)
    if unclear:
        said = f"overlap: it is not known whether {unclear[0]} is going ({sightings[unclear[0]].detail})"
        if run.overlap_fallback is Overlap.SKIP:
            return Overlapping(skip=True, cancel=(), text=f"{said}, and overlap_fallback is skip")
        return Overlapping(
            skip=False, cancel=tuple(going), text=f"{said}; sent, as overlap_fallback is queue"
        )
    return Overlapping(skip=False, cancel=tuple(going), text=None)


class Pauses:
    """The pauses that are known, found by whom they cover."""

    def __init__(self, pauses: Iterable[Pause] = ()) -> None:
        self.known = tuple(pauses)
        """In the order in which they were set."""
        self._by_subject: dict[tuple[Scope, str | None], list[Pause]] = {}
        for pause in self.known:
            self._by_subject.setdefault((pause.scope, pause.name), []).append(pause)

    def of(self, schedule: Schedule) -> tuple[Pause, ...]:
        """Return those that cover a schedule, in the order in which they were set."""
        return self._covering(schedule.target, schedule.id)

    def of_term(self, term: Term) -> tuple[Pause, ...]:
        """Return those that cover the fires of a term, like `of`."""
        return self._covering(term.target, term.schedule_id)

    def _covering(self, target: str | None, schedule_id: str) -> tuple[Pause, ...]:
        if not self._by_subject:
            return ()
        subjects = (Scope.ALL, None), (Scope.TARGET, target), (Scope.SCHEDULE, schedule_id)
        found = [pause for subject in subjects for pause in self._by_subject.get(subject, ())]
        return tuple(sorted(found, key=lambda pause: pause.id))


def pause_over(at: datetime, pauses: Iterable[Pause]) -> Pause | None:
    """Return the first of these pauses in whose stretch an instant lies; None: in none's."""
    return next((each for each in pauses if each.from_at <= at and not is_over(each, at)), None)


def is_over(pause: Pause, now: datetime) -> bool:
    """Tell whether a pause has ended by `now`. One that is to begin later was set before the clock was."""
    return pause.over_at is not None and pause.over_at <= now


def paused(fire_time: datetime, now: datetime, pauses: Sequence[Pause]) -> str | None:
    """Say why a fire that is decided about at `now` is skipped by one of these pauses; None: it is not.

    So is what a pause covers by its fire time, and all that would go out while one lasts.
    """
    pause = pause_over(fire_time, pauses) or next((each for each in pauses if not is_over(each, now)), None)
    return None if pause is None else pause_reason(pause)


def pause_reason(pause: Pause) -> str:
    """Return in words, as the ledger has it, why a pause leaves a fire out."""
    return f"paused: {pause.reason} ({pause.by})"


@dataclass(frozen=True, slots=True)
class Difference:
    """What tells a catalog from the one in force, for whoever knows how that one stands."""

    revision: str
    """Of the catalog in force."""
    cursors: Mapping[str, Cursor]
    """Of its enabled schedules, by id, as they stand."""
    ids: frozenset[str]
    """Of the schedules that only one of the two has, or that they have otherwise."""


def changed(before: Mapping[str, Schedule], after: Mapping[str, Schedule]) -> frozenset[str]:
    """Return the ids of the schedules that only one of two catalogs has, or that they have otherwise."""
    others = {id_ for id_, one in after.items() if (was := before.get(id_)) is not one and was != one}
    return frozenset(others | (before.keys() - after.keys()))


def renames(schedules: Mapping[str, Schedule]) -> dict[str, str]:
    """Return, by its former id, the id of each schedule that is renamed; `schedules` are a catalog's, by id.

    Those whose former id is that of a schedule still are not; of several with one, the first is.
    """
    found: dict[str, str] = {}
    for id_, schedule in schedules.items():
        if schedule.renamed_from is not None and schedule.renamed_from not in schedules:
            found.setdefault(schedule.renamed_from, id_)
    return found


def same_timing(recorded: Timing, wanted: Timing) -> bool:
    """Return whether both yield the same fire times, as far as is known: not all rules were recorded."""
    if recorded is wanted or recorded == wanted:
        return True
    return "" in (recorded.rules, wanted.rules) and replace(recorded, rules=wanted.rules) == wanted


def inheritors(
    terms: Iterable[Term], schedules: Mapping[str, Schedule], among: Collection[str] | None = None
) -> dict[str, Term]:
    """Return, by its id, each enabled schedule that goes on where a term in force stands, and that term.

    `terms` are all in force, and of each schedule at least the one that ended last; `schedules` are those of
    the new catalog by id. A schedule goes on in its own term where the timing is the same; one without a term
    goes on in that of its former id, where the timing is the same and the catalog has that id no more. Not so
    where the new id itself was in force later than the former one is accounted for: its fire times of that
    time have runs already. Of several with one former id, the first does. A term that goes on nowhere ends.

    Where the terms are those of a catalog that is known, only those `changed` since need be looked at: then
    it is `among` them, and `terms` may be theirs alone. The others go on in their own terms.
    """
    in_force: dict[str, Term] = {}
    ended: dict[str, datetime] = {}
    for each in terms:
        if each.until_at is None:
            in_force[each.schedule_id] = each
        else:
            ended[each.schedule_id] = max(each.until_at, ended.get(each.schedule_id, each.until_at))
    heirs: dict[str, Term] = {}
    taken: set[str] = set()
    for id_, schedule in schedules.items():
        if among is not None and id_ not in among:
            continue
        term = in_force.get(id_) or _former(schedule, in_force, ended, schedules)
        if (
            term is not None
            and term.schedule_id not in taken
            and schedule.enabled
            and same_timing(term.timing, schedule.timing)
        ):
            heirs[id_] = term
            taken.add(term.schedule_id)
    return heirs


def _former(
    schedule: Schedule,
    in_force: Mapping[str, Term],
    ended: Mapping[str, datetime],
    schedules: Mapping[str, Schedule],
) -> Term | None:
    if schedule.renamed_from is None or schedule.renamed_from in schedules:
        return None
    term = in_force.get(schedule.renamed_from)
    if term is None or ended.get(schedule.id, term.cursor_at) > term.cursor_at:
        return None
    return term
