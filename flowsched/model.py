"""The records that flow through the house: frozen, typed, and free of I/O.

Every instant in these records is an aware `datetime` in UTC; every span is a `timedelta`.
The words are those of the README's glossary, one word for one idea.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime, time, timedelta
    from uuid import UUID


MAX_CHANGE = 25
"""In a hundred enabled schedules: what a reload may end or retime unless `flowsched.yaml` says otherwise."""

DEFAULT_TARGET = "default"
"""The target of a schedule that names none, where there are several."""

FIRES_A_DAY = 288
"""One in five minutes: what a schedule may have without a warning, unless `flowsched.yaml` says otherwise."""


SHORT = 12
"""Characters of a digest or a commit that people are shown."""


class CatchUp(StrEnum):
    """What is done about the fire times that passed while nobody could fire them."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What is done when a previous instance of the flow is still going."""

    QUEUE = "queue"
    """Trigger all the same: EnOS lets the new instance wait (enos-api section 3.1)."""
    SKIP = "skip"
    CANCEL_PREVIOUS = "cancel_previous"
    """Cancel what is going, then trigger; to cancel is best effort (enos-api section 4)."""


class Then(StrEnum):
    """What becomes of a fire whose fire time is inside a blackout."""

    SKIP = "skip"
    """It is left out, and recorded as skipped."""
    DEFER = "defer"
    """The last one inside goes out at the end, with its own fire time; those before it are skipped."""


class Origin(StrEnum):
    """Why a run exists."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch_up"
    """Sent after its time: caught up, or deferred by a blackout."""
    MANUAL = "manual"
    """A person has triggered it."""
    BACKFILL = "backfill"
    """A person has it sent for a fire time of the past, one of a range."""


MANUAL_ORIGINS = frozenset({Origin.MANUAL, Origin.BACKFILL})
"""The origins of runs that exist because a person wanted them."""

AFTER_THE_OTHERS = frozenset({Origin.CATCH_UP, Origin.BACKFILL})
"""The origins of runs that go one by one for each flow, after those that are on schedule."""


class RunState(StrEnum):
    """Where a run stands; `FINAL_STATES` are left by nobody."""

    CLAIMED = "claimed"
    SENDING = "sending"
    WAITING = "waiting"
    IN_DOUBT = "in_doubt"
    TRIGGERED = "triggered"
    FAILED = "failed"
    MISSED = "missed"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """Whether a run in this state is done with for good."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({RunState.TRIGGERED, RunState.FAILED, RunState.MISSED, RunState.SKIPPED})


class Scope(StrEnum):
    """What a pause is about."""

    ALL = "all"
    TARGET = "target"
    SCHEDULE = "schedule"


class ActionKind(StrEnum):
    """What a person can have the daemon do, or do to its ledger."""

    PAUSE = "pause"
    RESUME = "resume"
    TRIGGER = "trigger"
    BACKFILL = "backfill"
    CANCEL = "cancel"
    RESOLVE = "resolve"
    RELOAD = "reload"
    ACCEPT = "accept"


class ReloadOutcome(StrEnum):
    """What came of reading the schedules anew."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """They are those in force already."""
    HELD = "held"
    """They change much, and nobody has accepted that; those before stay in force."""
    REFUSED = "refused"
    """They have problems, or cannot be read; those before stay in force."""
    FAILED = "failed"
    """A fault of flowsched; those before stay in force."""


class Outcome(StrEnum):
    """What came of one attempt; the only thing that decides whether it may be sent again."""

    ACCEPTED = "accepted"
    """EnOS says that it created the instance."""
    REFUSED_FOR_GOOD = "refused_for_good"
    """Answered, not processed, and the same call would be refused again."""
    REFUSED_FOR_NOW = "refused_for_now"
    """Answered, not processed, and the same call may pass later."""
    NOT_CREATED = "not_created"
    """This call made no instance, perhaps because there is one of that minute: an earlier attempt's, or
    somebody else's. Only a look at the predicted instance tells."""
    NOT_SENT = "not_sent"
    """No byte of the trigger left this machine."""
    UNKNOWN = "unknown"
    """It may have been processed: never to be repeated blindly."""


class Seen(StrEnum):
    """What a look at an instance showed."""

    FOUND = "found"
    ABSENT = "absent"
    """EnOS answered, in a shape that we know, that it has no such instance."""
    UNCLEAR = "unclear"
    """Anything else: no answer, or one that says neither."""


class FlowState(StrEnum):
    """What became of an instance, as far as flowsched has watched it."""

    GOING = "going"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Ended in any other way: failed, timed out, cancelled, skipped."""
    LATE = "late"
    """Not ended within the time that its schedule gives it; not looked at any more."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When: all that decides the fire times of a schedule.

    A five-field cron expression read on the wall clock of an IANA time zone, between two instants. Schedules
    that share a timing share one alarm, so this is also a key; when it changes, earlier fire times are void.
    """

    cron: str
    timezone: str
    starts_at: datetime | None = None
    """No fire time before it; None: no such bound."""
    ends_at: datetime | None = None
    """No fire time at or after it; None: no such bound."""
    rules: str = ""
    """A digest of the zone's data, which a new release may change; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a run goes on trying. The defaults suit a call that must not be repeated blindly."""

    max_attempts: int
    initial_backoff: timedelta
    multiplier: float
    max_backoff: timedelta
    deadline: timedelta
    """Counted from when it is due, or claimed if that is later; an attempt that has begun may end later."""
    attempt_timeout: timedelta
    """For one attempt as a whole: token, connection, request and reply."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where in the files something was written; lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a key stands; line and column count from 1."""

    file: str
    line: int
    column: int
    path: str
    """Dotted, as `targets.default.access_key`, without what may not be shown."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Days:
    """Whole days on the wall clock of some zone, from the first to the last, both included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time between two points, the second not included.

    Each point is an instant in UTC, or naive: then it is read on the wall clock of some zone.
    """

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class YearlyDays:
    """Days that come every year, from the first (month, day) to the last, both included.

    Where the last comes before the first in a year, it is the one of the next year.
    """

    first: tuple[int, int]
    last: tuple[int, int]


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """A stretch of each week on the wall clock of some zone, the end not included.

    Weekdays count from 0, Monday. Where the end is not later in the week than the start, it is in the next.
    """

    start_day: int
    start: time
    end_day: int
    end: time


@dataclass(frozen=True, slots=True)
class Holidays:
    """The public holidays of a country, as the package `holidays` knows them; whole days."""

    country: str
    """ISO 3166-1 alpha-2, such as DE."""
    subdivision: str | None
    """As the package names it, such as BE; None: those of the whole country."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Ical:
    """A file in iCalendar format (RFC 5545); its events are the closed times."""

    file: str
    content: str
    rules: str = ""
    """A digest of the data of the zones that it names; empty where it names none, or they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Calendar:
    """Times at which something is closed, by a name that is unique over all files."""

    name: str
    description: str | None
    timezone: str | None
    """On whose wall clock its days and times are read; None: that of each schedule that it is used for."""
    rules: str = ""
    """A digest of that zone's data, as in a timing; empty where there is no zone, or it is not known."""
    days: tuple[Days, ...] = ()
    spans: tuple[Span, ...] = ()
    yearly: tuple[YearlyDays, ...] = ()
    weekly: tuple[WeeklyWindow, ...] = ()
    holidays: tuple[Holidays, ...] = ()
    ical: tuple[Ical, ...] = ()
    source: Source


@dataclass(frozen=True, slots=True)
class Blackout:
    """When a schedule is not to be sent, and what becomes of the fires of that time."""

    calendars: tuple[Calendar, ...]
    """At least one; it is closed while any of them is."""
    then: Then


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What an author has seen and wants all the same: `rule` is reported no more."""

    rule: str
    reason: str
    other: str | None = None
    """The id of the other schedule, where the rule is about two of them (`collision`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One entry of a schedule file, with all defaults resolved."""

    id: str
    timing: Timing
    flow: int
    task: int | None
    """None: the whole flow; else this task and everything downstream of it."""
    target: str | None
    """None only where no target was named and no `flowsched.yaml` was there to supply one."""
    enabled: bool
    retry: RetryPolicy
    catch_up: CatchUp
    catch_up_window: timedelta
    overlap: Overlap
    overlap_fallback: Overlap
    """`queue` or `skip`: what is done where EnOS cannot say whether a previous instance is going."""
    jitter: timedelta
    """A fire is due less than this after its fire time, and before the next one."""
    watch: timedelta | None
    """How long after the trigger the flow may take to end, as it is watched; None: it is not watched."""
    ping: str | None = None
    """The slug of the check that is told how its runs go; None: none is."""
    renamed_from: str | None
    """The id that this schedule had before."""
    blackout: Blackout | None
    accept: tuple[Acceptance, ...]
    description: str | None
    owner: str | None
    source: Source


@dataclass(frozen=True, slots=True)
class Catalog:
    """The complete, valid set of schedules in force."""

    schedules: Mapping[str, Schedule]
    """By id, in the order of the ids."""
    revision: str
    """Hex SHA-256 over the names and contents of all files read, and over the data that decide with them
    what fires when: of time zones, and of holidays where they are used."""
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    """By name, in the order of the names; those that no schedule uses included."""
    commit: Commit | None = None
    """Where the files come from, as far as Git knows; None where they are in no work tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A Git commit."""

    id: str
    """Hex, in full."""
    author: str
    """As `Name <address>`."""
    at: datetime
    """When it was committed."""
    clean: bool
    """Whether the files are as they are in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedCatalog:
    """A catalog that was put in force, as the ledger has it."""

    revision: str
    at: datetime
    """When."""
    schedules: int
    enabled: int
    """How many of its schedules are enabled."""
    commit: Commit | None
    """Where its files came from; None where that was not known."""
    tz_release: str | None
    """The release of the time zone data that it was read with; None where that was not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a test file says about the fires of a schedule between two instants; all of it must hold."""

    name: str
    schedule_id: str
    timezone: str
    """On whose wall clock its times were written, and are shown."""
    start: datetime
    """Inclusive."""
    end: datetime
    """Exclusive."""
    exactly: frozenset[datetime] | None
    """The fire times that go out, and no others do; None: that is not said."""
    at_least: frozenset[datetime]
    never: tuple[Span, ...]
    """Between instants, as both are settled in the zone: no fire time in them goes out."""
    count: int | None
    """How many go out; None: that is not said."""
    deferred: Mapping[datetime, datetime]
    """By fire time, when it goes out after a blackout."""
    source: Source
    column: int


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire time of one schedule."""

    schedule: Schedule
    fire_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A row about to enter the ledger: claimed, or at once missed or skipped."""

    schedule_id: str
    fire_time: datetime
    origin: Origin
    state: RunState
    reason: str | None
    target: str
    flow: int
    task: int | None
    predicted_instance: str
    """The id that EnOS will give the instance (enos-api section 5), known before the call."""
    due_at: datetime
    """Fire time plus jitter: no attempt begins before it."""
    retry: RetryPolicy
    deadline: datetime
    """No attempt begins after this instant."""
    overlap: Overlap
    overlap_fallback: Overlap
    watch: timedelta | None
    note: str | None = None
    """What is worth knowing of a run that there is nothing to say against, such as that it was deferred."""
    revision: str
    """The catalog under which the run was made."""
    source: Source
    daemon: str
    """Which process claims it, unlike any other that ever did; only a name."""
    claimed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The carrying out of one fire, as the ledger has it.

    Its identity is (schedule id, fire time, origin); `id` is only its short name for people.
    """

    id: int
    schedule_id: str
    fire_time: datetime
    origin: Origin
    state: RunState
    reason: str | None
    """Why the run is missed, skipped, failed, waiting or in doubt; None where there is nothing to say."""
    target: str
    flow: int
    task: int | None
    predicted_instance: str
    instance: str | None
    """The id that EnOS answered; None until triggered."""
    due_at: datetime
    retry: RetryPolicy
    deadline: datetime
    overlap: Overlap
    overlap_fallback: Overlap
    watch: timedelta | None
    note: str | None
    """What was decided on the way and is worth knowing, such as what was cancelled before it was sent."""
    retry_at: datetime | None
    """The earliest next attempt; set only while waiting."""
    attempts: int
    """How many attempts have begun."""
    revision: str
    source: Source
    daemon: str
    claimed_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one trigger call, with all that is known about why. Holds no secret."""

    outcome: Outcome
    detail: str
    """One line for people."""
    http_status: int | None = None
    code: int | None = None
    """The number in the reply's envelope, where there was one."""
    instance: str | None = None
    """The one that an ACCEPTED trigger made; None where EnOS names one of another flow, and in all else."""
    retry_after: timedelta | None = None
    """What the gateway asked for; None where it asked for nothing that could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One trigger call of a run, as the ledger has it."""

    run_id: int
    number: int
    """Counted from 1."""
    started_at: datetime
    """When its start was first given to the ledger; the call leaves as soon as that is recorded."""
    ended_at: datetime | None
    """None while it is under way, or where the process died during it."""
    outcome: Outcome | None
    http_status: int | None
    code: int | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One attempt as its flow has felt it."""

    target: str
    flow: int
    started_at: datetime
    ended_at: datetime | None
    """None while it is under way, or where the process died during it; so with outcome."""
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """An automatic run, with no more of it than an audit compares."""

    schedule_id: str
    fire_time: datetime
    run_id: int
    origin: Origin
    state: RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What one look at an instance showed. Holds no secret."""

    seen: Seen
    detail: str
    """One line for people."""
    flow: FlowState | None = None
    """`going`, `succeeded` or `failed` where it was found, else None."""
    status: int | None = None
    """The number that EnOS gave for its status (enos-api section 4)."""
    started: str | None = None
    """As EnOS wrote it, in a zone that it does not name: never to be computed with."""
    ended: str | None = None
    """As EnOS wrote it, like `started`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The flow of one triggered run, looked at until it ends or its time is over."""

    run_id: int
    schedule_id: str
    target: str
    flow: int
    instance: str
    until: datetime
    """When it counts as late."""
    state: FlowState
    status: int | None
    started: str | None
    ended: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NextStep:
    """What a run does after an attempt: the state it enters, why, and when it tries again."""

    state: RunState
    reason: str | None
    retry_at: datetime | None = None
    """Set exactly where `state` is waiting."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to which instant every fire time of a schedule is accounted for, inclusive.

    It belongs to a timing: when the timing of the schedule changes, a new cursor starts.
    """

    schedule_id: str
    timing: Timing
    at: datetime
    deferred_until: datetime | None = None
    """When the first fire time after it goes out, which has come and is deferred; None: none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One timing of one schedule, for as long as it is or was in force."""

    schedule_id: str
    timing: Timing
    target: str | None
    """None only where an old version of flowsched has recorded it; so with flow."""
    flow: int | None
    task: int | None
    from_at: datetime
    """Fire times after it belong to the term."""
    cursor_at: datetime
    """Up to this instant, inclusive, every fire time of the term is accounted for."""
    until_at: datetime | None
    """Fire times after it do not belong to the term; None while it is in force."""
    deferred_until: datetime | None
    """As in `Cursor`."""
    blackout: str | None
    """A digest of the blackout that its fires are under, empty without one; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A stretch of time in which a person wants no fires; theirs are recorded as skipped."""

    id: int
    scope: Scope
    name: str | None
    """The schedule's id or the target's name; None exactly where the scope is all."""
    reason: str
    by: str
    """Who."""
    from_at: datetime
    """Inclusive."""
    until_at: datetime | None
    """When it ends by itself, exclusive; None: never."""
    ended_at: datetime | None
    """When somebody has ended it, exclusive; None: nobody has."""
    ended_by: str | None

    @property
    def over_at(self) -> datetime | None:
        """When it is over, exclusive; None: that is not known yet."""
        ends = [at for at in (self.until_at, self.ended_at) if at is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a person has done to the daemon or its ledger."""

    at: datetime
    by: str
    kind: ActionKind
    subject: str
    """What it was done to: a schedule's id, `target NAME`, `all`, `run 17`, a digest, a folder."""
    reason: str | None
    detail: str
    """One line: what came of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What came of one reading of the schedules."""

    outcome: ReloadOutcome
    at: datetime
    why: str
    """What had them read: `start`, `SIGHUP`, `the files changed`, `accepted`, or who asked."""
    revision: str | None
    """Of what was read; None where that is not known."""
    commit: Commit | None
    problems: tuple[str, ...]
    """One line each; empty but where it is refused, held or failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a target may be asked to bear."""

    concurrency: int
    """Calls under way at once: triggers, and looks at instances."""
    rate_per_minute: int | None
    """Calls begun in any 60 seconds; None: no limit of ours."""


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret is to be read from; never the secret itself."""

    kind: str
    """`env`, `file` or `credential`."""
    name: str
    """The variable's name, the file's absolute path, or the credential's name."""
    place: Place | None = field(default=None, compare=False)
    """Where this is written; None where no file says it."""

    def __str__(self) -> str:
        named = f"{self.kind} {self.name}"
        return f"{self.place}: {self.place.path}: {named}" if self.place else named


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A configured EnOS organization."""

    name: str
    url: str
    """Scheme, host and port only, without a trailing slash."""
    api_version: str
    """`v2.1` or `v2.0`."""
    org_id: str
    user_id: str
    access_key: SecretSource
    secret_key: SecretSource
    limits: Limits
    ca_file: str | None
    """A PEM file of further authorities to trust; None: the usual ones only."""
    environment_proxy: bool
    """Whether the proxy variables of the environment apply, which they never do to plain http."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`flowsched.yaml`: what belongs to the installation."""

    file: str
    schedules: str
    """Absolute path of the folder, or file, of schedules."""
    schedules_place: Place | None = field(default=None, compare=False)
    """Where that is written; None where no file says it."""
    ledger: str
    """SQLAlchemy URL, with an absolute path where it is SQLite."""
    keep: timedelta
    """How long final runs are kept, counted from their fire time."""
    clock_tolerance: timedelta
    """How far this machine's clock and a gateway's may differ before it is an error."""
    targets: Mapping[str, Target]
    """By name; at least one."""
    max_change: int = MAX_CHANGE
    """How many in a hundred of the enabled schedules a reload may end or retime unasked, from 0 to 100."""
    fires_a_day: int = FIRES_A_DAY
    """A schedule with more than that gets a warning."""
    control_socket: str = ""
    """Absolute path of the socket that the daemon is spoken to over; empty: it has none."""
    control_group: str | None = None
    """The group that may use it beside the daemon's own user and root; None: no group."""
    listen: tuple[str, int] | None = None
    """Address and port for metrics and health over TCP; None: they are on the control socket only."""
    watch_files: bool = True
    """Whether the schedules are read anew when the files change, or only when somebody says so."""
    traces: str | None = None
    """The whole address that spans are sent to, by OTLP over HTTP; None: there are none."""
    alerts: Alerts | None = None
    """None: nobody is told of anything."""
    pings: Pings | None = None
    """None: no schedule pings anything."""


class Phase(StrEnum):
    """Where in its life a daemon is."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    """It fires no more, and lets the attempts under way end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """A fire that is to go out."""

    schedule_id: str
    fire_time: datetime
    out_at: datetime
    """When it goes out: its fire time, or the end of the blackout that defers it; jitter is not in it."""
    paused: bool
    """Whether a pause that lasts now would cover it by then."""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A call that came to nothing before a byte of it had left."""

    age: timedelta
    """How long ago that was."""
    why: str


@dataclass(frozen=True, slots=True)
class Late:
    """The runs that should have been sent by now, and are still claimed."""

    count: int
    since: datetime
    """When the first of them was due."""
    waits_for: str | None
    """What that one waits for, such as `target default, 1 call a minute`; None: it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus:
    """How a daemon stands with a target."""

    name: str
    token_age: timedelta | None
    """How long ago its access token was granted; None: it has none."""
    clock_offset: timedelta | None
    """How far the gateway's clock is ahead of this machine's; None: not known yet."""
    clock_is_off: bool
    """Whether the two differ by more than is allowed."""
    held_by: str | None = None
    """The limit that calls wait for just now, such as `1 call a minute`; None: none waits."""
    unsent: Unsent | None = None
    """How the latest call came not to be sent; None: it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether what a daemon needs to fire answers; all in seconds, by the monotonic clock."""

    loop_lag: float
    """By how much the event loop was late at the latest look."""
    ledger_latency: float | None
    """How long both threads of the ledger took to answer at the latest look; None: they have not."""
    ledger_error: str | None
    """With what trouble the ledger answered at the latest look; None: with none."""
    woke_ago: float
    """How long ago the alarms were last looked at."""
    alive: bool
    """Whether all three were within their bounds at the latest look: what feeds the watchdog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a daemon stands, at one instant."""

    at: datetime
    version: str
    daemon: str
    """Its name, as runs have it."""
    started_at: datetime
    phase: Phase
    revision: str
    """Of the catalog in force; empty: none is yet."""
    commit: Commit | None
    applied_at: datetime | None
    """When the catalog in force was put in force by this daemon."""
    schedules: int
    enabled: int
    reload: Reload | None
    """The latest reading of the schedules, the one at the start included; None: it is still going on."""
    held: str | None
    """The revision of the catalog that waits to be accepted; None: none does."""
    upcoming: tuple[Upcoming, ...]
    """The next fire of each schedule in the order in which they go out; those that come first."""
    counts: Mapping[RunState, int]
    """How many runs are in each state that is not final."""
    under_way: tuple[Run, ...]
    """Runs that are not final, oldest fire time first; at most `MOST_SHOWN` of them."""
    recent: tuple[Run, ...]
    """Runs that became final since the start, the latest first; at most `MOST_SHOWN` of them."""
    pauses: tuple[Pause, ...]
    """Those that last now, or are still to begin."""
    overdue: Mapping[str, datetime]
    """By schedule, when a fire was to go out that should have been claimed by now."""
    last_success: Mapping[str, datetime]
    """By schedule, the latest fire time that was triggered; only for schedules of the catalog."""
    targets: tuple[TargetStatus, ...]
    health: Health
    failed: int = 0
    """Runs that failed since the start, without those that a person has ended."""
    broken_channels: Mapping[str, datetime] = field(default_factory=dict)
    """By alert channel, since when its attempts are in vain; not those whose latest message was sent."""
    in_doubt_since: datetime | None = None
    """Since when the run in doubt for longest is so, as far as is known; None: none is."""
    waits_for: Mapping[int, str] = field(default_factory=dict)
    """By number, what those under way wait for that are due, as far as it is known."""
    late: Late | None = None
    """Those that are late, but for what goes after the others (catch-up, backfill); None: none is."""


MOST_SHOWN = 50
"""Of runs in a status."""


class AlertKind(StrEnum):
    """What somebody is told of."""

    FAILED = "failed"
    """A run failed for good."""
    IN_DOUBT = "in_doubt"
    """A run is in doubt at its deadline: a person has to look."""
    MISSED = "missed"
    """A fire was missed."""
    FLOW_FAILED = "flow_failed"
    """The flow of a run that is watched has failed."""
    FLOW_LATE = "flow_late"
    """It has not ended in the time that it has."""
    HELD = "held"
    """A catalog waits to be accepted."""
    REFUSED = "refused"
    """The files have problems, or a fault of flowsched stopped their reading; those before stay in force."""
    OVERDUE = "overdue"
    """A fire that is due does not go out."""
    TEST = "test"
    """Nothing: somebody wants to see whether it arrives."""


TOLD_OF = tuple(kind for kind in AlertKind if kind is not AlertKind.TEST)
"""The kinds that a channel can ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that somebody is told of. Holds no secret."""

    kind: AlertKind
    subject: str
    """What it is about: a schedule's id, or `catalog`."""
    summary: str
    """One line for people."""
    at: datetime
    """When it was known."""
    over: bool = False
    """Whether it is told that the condition has ended."""
    before: int = 0
    """How many of the same kind and subject came since the one that was told last."""
    details: Mapping[str, str | int] = field(default_factory=dict)
    """What is known beside: `schedule`, `fire_time`, `run`, `reason` and the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """JSON by POST."""

    url: SecretSource | str
    """A text holds no secret."""
    headers: Mapping[str, SecretSource]
    template: str | None
    """What is sent, with placeholders; None: the document of `alerts.messages`."""
    secrets: Mapping[str, SecretSource]
    """Further placeholders of the template, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """An incoming webhook as Slack has it; many others take the same."""

    url: SecretSource


class Tls(StrEnum):
    """How a mail server is spoken to."""

    STARTTLS = "starttls"
    TLS = "tls"
    """From the first byte on."""
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """A mail over SMTP."""

    host: str
    port: int
    tls: Tls
    from_: str
    to: tuple[str, ...]
    user: SecretSource | None
    password: SecretSource | None
    """Set exactly where `user` is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program that gets the message on its standard input."""

    argv: tuple[str, ...]
    """The first is an absolute path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A way on which somebody is told."""

    name: str
    on: frozenset[AlertKind]
    """Of what is told."""
    way: Webhook | Slack | Email | Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Who is told of what, and how often."""

    group_wait: timedelta
    """What comes within it goes in one message."""
    repeat: timedelta
    """The same is not told again within it."""
    rate_per_hour: int
    """Messages of a channel in any hour."""
    ca_file: str | None
    """A PEM file of further authorities to trust; None: the usual ones only."""
    environment_proxy: bool
    """Whether the proxy variables of the environment apply, which they never do to plain http."""
    channels: Mapping[str, Channel]
    """By name; at least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pings:
    """Where is told that schedules run, in the manner of healthchecks.io."""

    url: str
    """Without a slash at the end."""
    key: SecretSource | None
    """A part of the address after the URL; None: the schedules' slugs follow at once."""
    ca_file: str | None
    environment_proxy: bool
    """As in `Alerts`, like `ca_file`."""


class MessageState(StrEnum):
    """Where a message stands."""

    GATHERING = "gathering"
    """More alerts may come to it."""
    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    """Given up."""
    DROPPED = "dropped"
    """Never sent, as it was too old, or its channel was gone, when it could have been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One or more alerts on their way over one channel, as the ledger has it."""

    id: int | None
    """None: it is not in the ledger yet."""
    identity: UUID
    """What tells it from all others: drawn when it begins, and so the same each time that it is sent."""
    channel: str
    at: datetime
    """When the first of its alerts was known."""
    state: MessageState
    alerts: tuple[Alert, ...]
    """The first of them, in full."""
    more: Mapping[AlertKind, int]
    """How many there are beside those, by kind."""
    attempts: int
    """How many have ended."""
    next_at: datetime | None
    """When it is tried next; None: it is done with."""
    done_at: datetime | None
    error: str | None
    """What came of the latest attempt that was in vain. Holds no secret."""

    @property
    def count(self) -> int:
        """How many alerts it tells of."""
        return len(self.alerts) + sum(self.more.values())
