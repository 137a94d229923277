"""Every point at which a daemon can be killed between two durable steps of a run, in one list.

A step is a write of the ledger, by the state that it leads to; a call is one that is made for a run. Each
comes with the way to get there: the schedules, what befalls the calls, and the death of a former daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from flowsched.model import FlowState, RunState
from flowsched.simulator import Fault, Order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Moment(StrEnum):
    """Where exactly within a step, or a call."""

    BEFORE_COMMIT = "before_commit"
    """All statements are carried out, COMMIT is not."""
    COMMITTED = "committed"
    """It is on the disk, but the ledger's thread has told nobody."""
    KNOWN = "known"
    """Who asked for it has its answer, and has done nothing since."""
    UNSENT = "unsent"
    """The call is made up; no connection is used for it yet."""
    SENT = "sent"
    """EnOS has the whole call, and has done with it what it does; its reply has not left."""
    ANSWERED = "answered"
    """The whole reply is read, and not looked at."""


AT_A_STEP = (Moment.BEFORE_COMMIT, Moment.COMMITTED, Moment.KNOWN)

TRIGGER, LOOK, CANCEL, TOKEN = "trigger", "flowInstances.get", "flowInstances.cancel", "token.get"
"""The calls, by the simulator's names for them."""

IN_TIME = Order(fault=Fault.SLOW, delay=0.1, on=TRIGGER)
"""The right reply."""
LOST_BEFORE = Order(fault=Fault.REPLY_LOST, processed=False, on=TRIGGER)
LOST_AFTER = Order(fault=Fault.REPLY_LOST, processed=True, on=TRIGGER)
BUSY = Order(fault=Fault.STATUS, status=429, on=TRIGGER)
REFUSED = Order(fault=Fault.STATUS, status=400, on=TRIGGER)
NOT_CREATED = Order(fault=Fault.CODE, code=62102, on=TRIGGER)
UNCLEAR = Order(fault=Fault.STATUS, status=503, times=2, on=LOOK)
"""Two looks that say nothing."""


def silence(on: str, *, processed: bool) -> Order:
    return Order(fault=Fault.SILENCE, on=on, processed=processed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The schedules, of which a fire or two have come while no daemon ran, and how they must end."""

    schedules: str
    ends: Mapping[str, tuple[RunState, ...]]
    """By schedule, in the order of their fire times."""
    before: str | None = None
    """The schedules that were in force until now; None: the same."""
    instances_last: timedelta = timedelta(minutes=5)
    forgets: bool = False
    """Whether there are runs from long ago."""


_ONE = '{cron: "0 12 10 3 *", flow: 3377}'
_TWO = '{cron: "0 11,12 10 3 *", flow: 3377'

ONE_FIRE = Scene(schedules=f"noon: {_ONE}", ends={"noon": (RunState.TRIGGERED,)})
WATCHED = Scene(
    schedules='noon: {cron: "0 12 10 3 *", flow: 3377, watch: {timeout: 6h}}',
    ends={"noon": (RunState.TRIGGERED,)},
    instances_last=timedelta(minutes=1),
)
OVERLAP_SKIP = Scene(
    schedules=f"twice: {_TWO}, overlap: skip, overlap_fallback: skip}}",
    ends={"twice": (RunState.TRIGGERED, RunState.SKIPPED)},
    instances_last=timedelta(hours=10),
)
OVERLAP_CANCEL = Scene(
    schedules=f"twice: {_TWO}, overlap: cancel_previous}}",
    ends={"twice": (RunState.TRIGGERED, RunState.TRIGGERED)},
    instances_last=timedelta(hours=10),
)
LATEST = Scene(
    schedules=f"twice: {_TWO}, catch_up: latest}}", ends={"twice": (RunState.MISSED, RunState.TRIGGERED)}
)
COLLISION = Scene(
    schedules=f"first: {_ONE}\n  second: {_ONE}",
    ends={"first": (RunState.TRIGGERED,), "second": (RunState.SKIPPED,)},
)
EDITED = Scene(
    before=f'edited: {{cron: "0 12 10 3 *", flow: 2430}}\n  kept: {_ONE}',
    schedules=f'edited: {{cron: "0 12 11 3 *", flow: 2430}}\n  kept: {_ONE}',
    ends={"edited": (RunState.MISSED,), "kept": (RunState.TRIGGERED,)},
)
_DEFERRED = """noon: {cron: "0 12 10 3 *", flow: 3377, blackout: {calendars: [freeze], then: defer}}
calendars: {freeze: {dates: ["2026-03-10T11:50..2026-03-10T12:%s"]}}"""
DEFERRED = Scene(schedules=_DEFERRED % "04", ends={"noon": (RunState.TRIGGERED,)})
PUT_OFF = Scene(schedules=_DEFERRED % "25", ends={"noon": (RunState.TRIGGERED,)})
OLD = Scene(schedules=f"noon: {_ONE}", ends={"noon": (RunState.TRIGGERED,)}, forgets=True)

FAILED = {"noon": (RunState.FAILED,)}
AFTER_THE_DEADLINE = timedelta(hours=25)
AFTER_THE_WINDOW = timedelta(hours=49)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One write of the ledger, or one call, and the way to it."""

    name: str
    does: str
    """A method of `Ledger`, or a call."""
    arrow: tuple[RunState | None, RunState | FlowState | None] = (None, None)
    """For a write, the state before it (None: there was no run, or its state stays) and that of what it
    wrote (None: not told by a state; a claim of none moves a cursor only)."""
    nth: int = 1
    """At which time in the life of the process that is killed."""
    before: str
    """What is durable before it."""
    after: str = ""
    """What is durable once it is, for a write."""
    scene: Scene = ONE_FIRE
    orders: tuple[Order, ...] = ()
    """What befalls the calls on the way there, in their order."""
    former: Point | None = None
    """Where a former daemon died."""
    downtime: timedelta = timedelta(0)
    """For how long there was none after that."""
    ends: Mapping[str, tuple[RunState, ...]] | None = None
    """How the runs must end; None: as the scene has it."""
    ends_if_undone: Mapping[str, tuple[RunState, ...]] | None = None
    """How they must end where it was not committed; None: the same."""


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of one step: where a daemon dies."""

    step: Step
    moment: Moment

    def __str__(self) -> str:
        return f"{self.step.name}-{self.moment}"

    @property
    def durable(self) -> str:
        """What the next daemon finds."""
        return self.step.after if self.moment in (Moment.COMMITTED, Moment.KNOWN) else self.step.before

    @property
    def ends(self) -> Mapping[str, tuple[RunState, ...]]:
        """How the runs must end, by schedule."""
        ends = self.step.ends or self.step.scene.ends
        return (self.moment is Moment.BEFORE_COMMIT and self.step.ends_if_undone) or ends


_FIRST_GOES = "the second run is claimed, and the instance of the first still goes"
_CLAIMED = "the run is claimed, the cursor at its fire time"
_SENDING = "attempt 1 has begun"
_SENDING_AGAIN = "attempt 2 has begun"

CLAIM = Step(
    name="claim",
    does="claim",
    arrow=(None, RunState.CLAIMED),
    before="the cursor is before the fire time, and there is no run",
    after=_CLAIMED,
)
WAIT = Step(
    name="end-in-waiting",
    does="end_attempt",
    arrow=(RunState.SENDING, RunState.WAITING),
    before=_SENDING,
    after="the run waits for attempt 2",
    orders=(BUSY,),
)
DOUBT_WITHOUT_INSTANCE = Step(
    name="end-in-doubt-without-instance",
    does="end_attempt",
    arrow=(RunState.SENDING, RunState.IN_DOUBT),
    before=_SENDING,
    after="the run is in doubt, and EnOS has nothing",
    orders=(LOST_BEFORE,),
)
DOUBT_WITH_INSTANCE = Step(
    name="end-in-doubt-with-instance",
    does="end_attempt",
    arrow=(RunState.SENDING, RunState.IN_DOUBT),
    before=_SENDING,
    after="the run is in doubt, and EnOS has the instance",
    orders=(LOST_AFTER,),
)
LEFT_WITHOUT_INSTANCE = Step(
    name="call-not-processed", does=TRIGGER, before=_SENDING, orders=(silence(TRIGGER, processed=False),)
)
LEFT_WITH_INSTANCE = Step(
    name="call-processed",
    does=TRIGGER,
    before="attempt 1 has begun, and EnOS has the instance",
    orders=(silence(TRIGGER, processed=True),),
)

WRITES = (
    Step(
        name="apply",
        does="apply",
        before="the fire times that the edit cuts off are missed; the terms and cursors are the old ones",
        after="the new terms, with their cursors",
        scene=EDITED,
    ),
    Step(
        name="claim-cut-off-by-an-edit",
        does="claim",
        arrow=(None, RunState.MISSED),
        before="the cursor of the old timing is before the fire time, and there is no run",
        after="the run is missed, and the cursor of the old timing at its fire time",
        scene=EDITED,
    ),
    CLAIM,
    Step(
        name="claim-missed-and-latest",
        does="claim",
        arrow=(None, RunState.MISSED),
        before="the cursor is before two fire times, and there are no runs",
        after="the first run is missed, the second claimed, the cursor at the second fire time",
        scene=LATEST,
    ),
    Step(
        name="claim-collision",
        does="claim",
        arrow=(None, RunState.SKIPPED),
        before="the cursors of both schedules are before the fire time, and there are no runs",
        after="the first run is claimed, the second skipped",
        scene=COLLISION,
    ),
    Step(
        name="hold",
        does="claim",
        before="the cursor is before the fire time, there is no run, and a blackout is to hold it",
        after="the same, and until when it is deferred",
        scene=PUT_OFF,
    ),
    Step(
        name="claim-deferred",
        does="claim",
        arrow=(None, RunState.CLAIMED),
        before="the cursor is before the fire time, there is no run, and the closed time is over",
        after="the run is claimed, due at the end of the closed time, the cursor at its fire time",
        scene=DEFERRED,
    ),
    Step(
        name="claim-held",
        does="claim",
        arrow=(None, RunState.CLAIMED),
        before="the fire that comes next after the cursor is deferred, and the closed time is over",
        after="the run is claimed, due at the end of the closed time, and nothing is deferred",
        scene=PUT_OFF,
    ),
    Step(
        name="begin",
        does="begin_attempt",
        arrow=(RunState.CLAIMED, RunState.SENDING),
        before=_CLAIMED,
        after=_SENDING,
    ),
    Step(
        name="begin-after-the-deadline",
        does="begin_attempt",
        arrow=(RunState.CLAIMED, RunState.SENDING),
        before="the run is claimed, and its deadline has passed, though not the window of its schedule",
        after="attempt 1 has begun, with another deadline",
        former=Point(CLAIM, Moment.KNOWN),
        downtime=AFTER_THE_DEADLINE,
    ),
    Step(
        name="begin-after-waiting",
        does="begin_attempt",
        arrow=(RunState.WAITING, RunState.SENDING),
        nth=2,
        before=WAIT.after,
        after=_SENDING_AGAIN,
        orders=(BUSY,),
    ),
    Step(
        name="begin-after-doubt",
        does="begin_attempt",
        arrow=(RunState.IN_DOUBT, RunState.SENDING),
        nth=2,
        before=DOUBT_WITHOUT_INSTANCE.after,
        after=_SENDING_AGAIN,
        orders=(LOST_BEFORE,),
    ),
    Step(
        name="end-in-triggered",
        does="end_attempt",
        arrow=(RunState.SENDING, RunState.TRIGGERED),
        before="attempt 1 has begun, and EnOS has the instance",
        after="the run is triggered",
        orders=(IN_TIME,),
    ),
    WAIT,
    DOUBT_WITHOUT_INSTANCE,
    DOUBT_WITH_INSTANCE,
    Step(
        name="end-in-failed",
        does="end_attempt",
        arrow=(RunState.SENDING, RunState.FAILED),
        before=_SENDING,
        after="the run has failed",
        orders=(REFUSED,),
        ends=FAILED,
        ends_if_undone=ONE_FIRE.ends,
    ),
    Step(
        name="settle-doubt-as-triggered",
        does="settle",
        arrow=(RunState.IN_DOUBT, RunState.TRIGGERED),
        before=DOUBT_WITH_INSTANCE.after,
        after="the run is triggered",
        orders=(LOST_AFTER,),
    ),
    Step(
        name="settle-doubt-as-failed",
        does="settle",
        arrow=(RunState.IN_DOUBT, RunState.FAILED),
        before="the run is in doubt: its only attempt made no instance",
        after="the run has failed",
        orders=(NOT_CREATED,),
        ends=FAILED,
    ),
    Step(
        name="settle-doubt-at-the-deadline",
        does="settle",
        arrow=(RunState.IN_DOUBT, RunState.IN_DOUBT),
        before=DOUBT_WITH_INSTANCE.after,
        after="the run is in doubt for another reason: its deadline has passed",
        orders=(LOST_AFTER, UNCLEAR),
        former=Point(DOUBT_WITH_INSTANCE, Moment.KNOWN),
        downtime=AFTER_THE_DEADLINE,
    ),
    Step(
        name="settle-cut-off-call-without-instance",
        does="settle",
        arrow=(RunState.SENDING, RunState.IN_DOUBT),
        before=_SENDING,
        after="the run is in doubt, and EnOS has nothing",
        orders=LEFT_WITHOUT_INSTANCE.orders,
        former=Point(LEFT_WITHOUT_INSTANCE, Moment.SENT),
    ),
    Step(
        name="settle-cut-off-call-with-instance",
        does="settle",
        arrow=(RunState.SENDING, RunState.IN_DOUBT),
        before=LEFT_WITH_INSTANCE.before,
        after="the run is in doubt, and EnOS has the instance",
        orders=LEFT_WITH_INSTANCE.orders,
        former=Point(LEFT_WITH_INSTANCE, Moment.SENT),
    ),
    Step(
        name="settle-claimed-as-expired",
        does="settle",
        arrow=(RunState.CLAIMED, RunState.FAILED),
        before="the run is claimed, and the window of its schedule has passed",
        after="the run has failed: it was too late to catch it up",
        former=Point(CLAIM, Moment.KNOWN),
        downtime=AFTER_THE_WINDOW,
        ends=FAILED,
    ),
    Step(
        name="settle-waiting-as-expired",
        does="settle",
        arrow=(RunState.WAITING, RunState.FAILED),
        before=WAIT.after,
        after="the run has failed: its deadline passed",
        orders=WAIT.orders,
        former=Point(WAIT, Moment.KNOWN),
        downtime=AFTER_THE_DEADLINE,
        ends=FAILED,
    ),
    Step(
        name="settle-claimed-as-overlap",
        does="settle",
        arrow=(RunState.CLAIMED, RunState.SKIPPED),
        before=_FIRST_GOES,
        after="the second run is skipped",
        scene=OVERLAP_SKIP,
    ),
    Step(
        name="watch-going",
        does="record_watch",
        arrow=(None, FlowState.GOING),
        before="the run is triggered, and its flow watched",
        after="the flow is known to go",
        scene=WATCHED,
    ),
    Step(
        name="watch-ended",
        does="record_watch",
        arrow=(None, FlowState.SUCCEEDED),
        before="the run is triggered, and its flow watched",
        after="the flow is known to have ended",
        scene=WATCHED,
    ),
    Step(
        name="forget",
        does="forget",
        before="the runs of long ago",
        after="all but the last of them are gone, and so it is written since when runs are kept",
        scene=OLD,
    ),
)
"""Every write of the ledger that a daemon makes."""


def _calls(
    name: str,
    does: str,
    before: str,
    *,
    orders: tuple[Order, ...] = (),
    nth: int = 1,
    scene: Scene = ONE_FIRE,
) -> Iterator[Point]:
    """Yield the points around one call, which is the `nth` of its kind, after what `orders` brought about."""

    def step(how: str, *more: Order) -> Step:
        return Step(
            name=f"{name}{how}", does=does, nth=nth, before=before, scene=scene, orders=(*orders, *more)
        )

    yield Point(step(""), Moment.UNSENT)
    yield Point(step("-not-processed", silence(does, processed=False)), Moment.SENT)
    yield Point(step("-processed", silence(does, processed=True)), Moment.SENT)
    yield Point(step("", replace(IN_TIME, on=does)), Moment.ANSWERED)


CALLS = (
    *_calls("token", TOKEN, _SENDING),
    *_calls("call", TRIGGER, _SENDING),
    *_calls("call-after-waiting", TRIGGER, _SENDING_AGAIN, orders=(BUSY,), nth=2),
    *_calls("call-after-doubt", TRIGGER, _SENDING_AGAIN, orders=(LOST_BEFORE,), nth=2),
    *_calls("look-without-instance", LOOK, DOUBT_WITHOUT_INSTANCE.after, orders=(LOST_BEFORE,)),
    *_calls("second-look-without-instance", LOOK, DOUBT_WITHOUT_INSTANCE.after, orders=(LOST_BEFORE,), nth=2),
    *_calls("look-with-instance", LOOK, DOUBT_WITH_INSTANCE.after, orders=(LOST_AFTER,)),
    *_calls("cancel", CANCEL, _FIRST_GOES, scene=OVERLAP_CANCEL),
)
"""Every moment of every call that a daemon makes for a run."""

POINTS = (
    *(Point(step, moment) for step in WRITES for moment in AT_A_STEP),
    *CALLS,
)
"""All of them."""
