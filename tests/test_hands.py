"""What people do by hand, on the real daemon with a hand-advanced clock and a scripted gateway."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.control.history import NotFoundError, RunsWanted, found_documents
from flowsched.daemon import Daemon
from flowsched.daemon import hands as hands_module
from flowsched.daemon.hands import MOST_FIRES, Hands
from flowsched.errors import ConfigError, ControlRefusal, LedgerError, NoDaemon, Problem
from flowsched.events import PausesChanged, RunMoved
from flowsched.ledger import LEDGER_PAUSE, Ledger
from flowsched.model import (
    ActionKind,
    Answer,
    Catalog,
    NextStep,
    Origin,
    Outcome,
    Phase,
    Reload,
    ReloadOutcome,
    RunState,
    Scope,
)
from tests.builders import a_new_run, a_schedule, an_answer, closed
from tests.fakes import HandClock, ScriptedGateway, a_moment, eventually, look_ups_that_hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from flowsched.events import Event
    from flowsched.model import Action, NewRun, Run, Schedule

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
NOON = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)
NIGHTLY = a_schedule("nightly", "30 2 * * *")
HOURLY = a_schedule("hourly", "0 * * * *", flow=2430)
IDLE = a_schedule("idle", "0 0 1 1 *", enabled=False, flow=99)


class Readings:
    """Reads the schedules as a test wants it."""

    def __init__(self) -> None:
        self.whys: list[str] = []
        self.outcome = ReloadOutcome.APPLIED
        self.problems: tuple[str, ...] = ()

    def ask(self, why: str) -> asyncio.Future[Reload]:
        self.whys.append(why)
        future: asyncio.Future[Reload] = asyncio.get_running_loop().create_future()
        future.set_result(
            Reload(
                outcome=self.outcome, at=NOON, why=why, revision="c" * 64, commit=None, problems=self.problems
            )
        )
        return future


class Room:
    """A daemon that runs, and hands beside it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.clock = HandClock(NOON)
        self.gateway = ScriptedGateway(clock=self.clock)
        self.told: list[Event] = []
        self.readings = Readings()
        self.files: str | ConfigError = "c" * 64
        gateways = {"default": self.gateway}
        self.daemon = Daemon(ledger, gateways, self.clock, tell=self.told.append)
        self.hands = Hands(
            self.daemon,
            ledger,
            gateways,
            self.clock,
            tell=self.told.append,
            readings=self.readings,
            revision=self._revision,
        )

    async def _revision(self) -> str:
        if isinstance(self.files, ConfigError):
            raise self.files
        return self.files

    async def trigger(self, schedule_id: str = "nightly", at: datetime | None = None, **more: Any) -> Run:
        wanted = {"origin": Origin.MANUAL, "by": "ada", "reason": "the input was late"} | more
        return await self.hands.trigger(schedule_id, at, **wanted)

    async def ends(self, run: Run, *states: RunState) -> Run:
        """Wait until a run is in one of the states, or final; without time passing."""
        async with asyncio.timeout(10):
            while True:
                found = await self.ledger.run(run.id)
                assert found
                if found.state in states or (not states and found.state.final):
                    return found
                await asyncio.sleep(0.002)

    async def last_action(self) -> tuple[Any, ...]:
        (action,) = await self.ledger.actions(1)
        return action.kind, action.by, action.subject, action.reason, action.detail

    async def refused(self, doing: Awaitable[object]) -> str:
        with pytest.raises(ControlRefusal) as refusal:
            await doing
        return str(refusal.value)


@asynccontextmanager
async def a_room(folder: Path, *schedules: Schedule) -> AsyncIterator[Room]:
    async with await Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        room = Room(ledger)
        await room.daemon.start(Catalog({each.id: each for each in schedules}, "r1"))
        yield room
        await room.daemon.stop(asyncio.Event())


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with a_room(tmp_path, HOURLY, IDLE, NIGHTLY) as room:
        yield room


# Trigger.


async def test_a_run_by_hand_has_the_minute_that_has_begun_and_all_else_of_its_schedule(room: Room) -> None:
    run = await room.trigger()
    done = await room.ends(run)

    assert (run.state, run.origin, run.fire_time) == (RunState.CLAIMED, Origin.MANUAL, NOON.replace(second=0))
    assert (run.flow, run.task, run.target, run.retry) == (3377, None, "default", NIGHTLY.retry)
    assert (run.due_at, run.deadline) == (NOON, NOON + MINUTE + NIGHTLY.retry.deadline)
    assert run.predicted_instance == "3377-20260310120000"
    assert run.note == "by hand (ada): the input was late"
    assert done.state is RunState.TRIGGERED
    assert [b'"triggerTime":1773144000000' in request.body for request in room.gateway.requests] == [True]
    assert await room.last_action() == (
        ActionKind.TRIGGER,
        "ada",
        "nightly",
        "the input was late",
        f"run {run.id}, fire time 2026-03-10T12:00:00Z",
    )


async def test_a_minute_of_the_past_is_triggered_with_its_own_fire_time(room: Room) -> None:
    at = datetime(2026, 3, 10, 2, 30, tzinfo=UTC)

    run = await room.trigger(at=at)

    assert (await room.ends(run)).fire_time == at
    assert b'"triggerTime":1773109800000' in room.gateway.requests[0].body


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (
            NOON,
            "2026-03-10T12:00:30Z is no whole minute; allowed: whole minutes, such as 2026-03-10T12:00:00Z",
        ),
        (
            NOON + timedelta(seconds=30),
            "2026-03-10T12:01:00Z is in the future; allowed: any minute up to this one, 2026-03-10T12:00:00Z",
        ),
    ],
)
async def test_a_fire_time_is_a_whole_minute_that_has_begun(room: Room, at: datetime, said: str) -> None:
    assert await room.refused(room.trigger(at=at)) == said
    assert await room.ledger.runs() == []


async def test_only_a_schedule_in_force_is_triggered(room: Room) -> None:
    said = await room.refused(room.trigger("nihgtly"))

    assert said == "there is no schedule 'nihgtly' in force; did you mean 'nightly'?"


async def test_what_is_disabled_or_paused_is_triggered_and_its_note_says_so(room: Room) -> None:
    await room.hands.pause(Scope.ALL, None, None, "bob", "plant closed")

    run = await room.trigger("idle", reason=None)

    assert run.note == "by hand (ada); its schedule is disabled; paused: plant closed (bob)"
    assert (await room.ends(run)).state is RunState.TRIGGERED


async def test_a_daemon_that_stops_triggers_nothing(room: Room) -> None:
    room.daemon.phase = Phase.STOPPING

    assert await room.refused(room.trigger()) == "not while the daemon is stopping: ask again when it runs"
    room.daemon.phase = Phase.STARTING
    assert "starting" in await room.refused(room.hands.cancel(1, "ada", "because"))
    room.daemon.phase = Phase.RUNNING


async def test_a_minute_that_the_ledger_has_forgotten_is_not_triggered(room: Room) -> None:
    await room.ledger.forget(NOON - DAY, 100)

    said = await room.refused(room.trigger(at=NOON.replace(second=0) - 2 * DAY))

    assert "is too long ago: the ledger keeps runs since 2026-03-09T12:00:30Z only" in said
    assert "is too long ago" in await room.refused(room.hands.fires("hourly", NOON - 2 * DAY, NOON, 1))


async def test_of_two_triggers_at_once_one_is_sent_and_the_other_refused(room: Room) -> None:
    room.gateway.hold = asyncio.Event()

    both = await asyncio.gather(room.trigger(), room.trigger(by="bob"), return_exceptions=True)
    (run,) = (each for each in both if not isinstance(each, BaseException))
    (refusal,) = (each for each in both if isinstance(each, ControlRefusal))
    room.gateway.hold.set()
    await room.ends(run)

    assert str(refusal).startswith(
        f"run {run.id} (nightly) has flow 3377 at 2026-03-10T12:00:00Z already: it is "
    )
    assert len(room.gateway.requests) == 1


async def test_what_is_triggered_already_is_not_triggered_again(room: Room) -> None:
    run = await room.ends(await room.trigger())

    said = await room.refused(room.trigger())

    assert said == (
        f"run {run.id} (nightly) has flow 3377 at 2026-03-10T12:00:00Z already: it is triggered, instance"
        f" {run.instance}, and EnOS makes one a minute: choose another minute"
    )


async def test_what_is_in_doubt_is_not_triggered_again(room: Room) -> None:
    room.gateway.answers = [an_answer(Outcome.UNKNOWN, "reply lost")]
    run = await room.ends(await room.trigger(), RunState.IN_DOUBT)

    said = await room.refused(room.trigger())

    assert "it is in doubt; once it is known what became of it" in said
    assert f"`flowsched resolve {run.id} --triggered|--failed --reason TEXT`" in said
    assert len(room.gateway.requests) == 1


async def test_another_schedule_of_the_flow_stands_in_the_way(tmp_path: Path) -> None:
    async with a_room(tmp_path, NIGHTLY, a_schedule("twin", "0 1 * * *")) as room:
        await room.ends(await room.trigger("twin"))

        assert "(twin) has flow 3377" in await room.refused(room.trigger("nightly"))


async def test_a_run_by_hand_that_failed_is_gone_on_with(room: Room) -> None:
    room.gateway.answers = [an_answer(Outcome.REFUSED_FOR_GOOD, "no privilege"), room.gateway.answers[0]]
    failed = await room.ends(await room.trigger())

    again = await room.trigger(by="bob", reason="the privilege is there")

    assert failed.state is RunState.FAILED
    assert (again.id, (await room.ends(again)).state) == (failed.id, RunState.TRIGGERED)
    assert len(room.gateway.requests) == 2


@pytest.mark.parametrize("hand_first", [True, False])
async def test_a_trigger_that_races_the_schedule_itself_never_sends_twice(
    tmp_path: Path, *, hand_first: bool
) -> None:
    minutely = a_schedule("minutely", "* * * * *")
    async with a_room(tmp_path, minutely) as room:
        room.gateway.hold = asyncio.Event()
        if hand_first:
            async with room.daemon.engine._claims.paused():
                room.clock.advance(30)
                run = await room.trigger("minutely")
        else:
            room.clock.advance(30)
            await eventually(lambda: room.gateway.requests)
            assert "(minutely) has flow 3377" in await room.refused(room.trigger("minutely"))
        await eventually(lambda: room.gateway.requests)
        await a_moment()
        room.gateway.hold.set()
        found = await all_runs(room, 2 if hand_first else 1)

    assert len(room.gateway.requests) == 1
    states = {each.origin: (each.state, each.reason) for each in found}
    if hand_first:
        assert states[Origin.MANUAL][0] is RunState.TRIGGERED
        said = f"collision: minutely (run {run.id}) has flow 3377 at this minute already"
        assert states[Origin.SCHEDULE] == (RunState.SKIPPED, said)
    else:
        assert states[Origin.SCHEDULE][0] is RunState.TRIGGERED


async def all_runs(room: Room, count: int) -> list[Run]:
    async with asyncio.timeout(10):
        while True:
            runs = await room.ledger.runs()
            if len(runs) == count and all(run.state.final for run in runs):
                return runs
            await asyncio.sleep(0.002)


async def test_a_schedule_and_many_hands_at_one_instant_send_once(tmp_path: Path) -> None:
    async with a_room(tmp_path, a_schedule("minutely", "* * * * *")) as room:
        room.clock.advance(30)
        hands = [room.trigger("minutely", by=f"hand {number}") for number in range(10)]
        done = await asyncio.gather(*hands, return_exceptions=True)
        await eventually(lambda: room.gateway.requests)
        await a_moment()

        assert len(room.gateway.requests) == 1
        assert sum(not isinstance(each, ControlRefusal) for each in done) <= 1


async def test_a_claim_whose_answer_is_lost_is_carried_all_the_same(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = room.ledger.claim_by_hand

    async def claim_unheard(*arguments: Any) -> Run:
        await claim(*arguments)
        raise LedgerError("the disk is slow")

    monkeypatch.setattr(room.ledger, "claim_by_hand", claim_unheard)
    with pytest.raises(LedgerError, match="slow"):
        await room.trigger()
    assert room.gateway.requests == []
    await eventually(lambda: room.clock.sleeping)
    room.clock.advance(5)
    await eventually(lambda: room.gateway.requests)

    (run,) = await room.ledger.runs()
    assert (await room.ends(run)).state is RunState.TRIGGERED


async def test_a_client_that_goes_away_leaves_no_claim_behind_that_nobody_carries(room: Room) -> None:
    asking = asyncio.create_task(room.trigger())
    async with asyncio.timeout(10):
        while not room.hands._going_on:
            await asyncio.sleep(0)
    asking.cancel()
    await eventually(lambda: room.gateway.requests)

    (run,) = await room.ledger.runs()
    assert (await room.ends(run)).state is RunState.TRIGGERED


# Fires of a range.


async def test_fires_of_a_range_have_the_run_that_counts(room: Room) -> None:
    at = NOON.replace(second=0)

    async def claim(hours: int, **more: Any) -> Run:
        time = at - hours * 60 * MINUTE
        (run,) = await room.ledger.claim([a_row(time, **more)], [])
        return run

    missed = await claim(4, state=RunState.MISSED, reason="late")
    other = await claim(3, schedule_id="other")
    await claim(2, schedule_id="other", flow=1)
    await claim(2, state=RunState.SKIPPED, reason="overlap")
    newest = await claim(2, state=RunState.MISSED, origin=Origin.MANUAL, reason="late")

    found = await room.hands.fires("hourly", at - 5 * 60 * MINUTE, at - 60 * MINUTE, 1)

    assert [time.hour for time, _ in found] == [7, 8, 9, 10]
    assert [run and run.id for _, run in found] == [None, missed.id, other.id, newest.id]


async def test_fires_of_a_range_wait_for_no_look_up_of_a_name(room: Room) -> None:
    async with look_ups_that_hang():
        found = await room.hands.fires("hourly", NOON, NOON + 60 * MINUTE, 1)

    assert len(found) == 1


def a_row(time: datetime, **more: Any) -> NewRun:
    row: dict[str, Any] = {"schedule_id": "hourly", "fire_time": time, "due_at": time, "flow": 2430}
    return a_new_run(**(row | more))


async def test_each_nth_fire_of_a_range_is_taken_of_those_that_go_out(tmp_path: Path) -> None:
    at = NOON.replace(second=0)
    freeze = closed((at - 120 * MINUTE, at - 60 * MINUTE))
    async with a_room(tmp_path, replace(HOURLY, blackout=freeze)) as room:
        every = [time.hour for time, _ in await room.hands.fires("hourly", at - 300 * MINUTE, at, 1)]
        second = [time.hour for time, _ in await room.hands.fires("hourly", at - 300 * MINUTE, at, 2)]

    assert every == [7, 8, 9, 11]
    assert second == [7, 9]


async def test_a_range_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with a_room(tmp_path, a_schedule("minutely", "* * * * *")) as room:
        longest = NOON - MOST_FIRES * MINUTE
        assert len(await room.hands.fires("minutely", longest, NOON, 1)) == MOST_FIRES
        said = await room.refused(room.hands.fires("minutely", longest - MINUTE, NOON, 1))
        assert await room.refused(room.hands.fires("minutely", NOON, NOON, 1))

    assert "allowed are 10,000 of a range" in said


async def test_the_log_says_who_has_asked_for_what_is_not_done(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await room.ends(await room.trigger())
    await room.refused(room.trigger(by="bob"))

    (said,) = (vars(each) for each in caplog.records if each.message == "not done by hand")
    assert (said["asked"], said["by"], said["levelno"]) == ("trigger nightly", "bob", logging.INFO)
    assert "has flow 3377 at 2026-03-10T12:00:00Z already" in said["error"]


# Pauses.


async def test_a_pause_is_told_with_the_runs_that_go_on(room: Room) -> None:
    room.gateway.hold = asyncio.Event()
    run = await room.ends(await room.trigger(), RunState.SENDING)
    until = NOON + 120 * MINUTE

    pause, going = await room.hands.pause(Scope.SCHEDULE, "nightly", until, "ada", "plant closed")
    _, others = await room.hands.pause(Scope.SCHEDULE, "hourly", None, "ada", "plant closed")
    room.gateway.hold.set()

    assert (pause.by, pause.reason, pause.from_at, pause.until_at) == ("ada", "plant closed", NOON, until)
    assert ([each.id for each in going], list(others)) == ([run.id], [])
    assert room.told.count(PausesChanged()) == 2
    first, second = reversed(await room.ledger.actions(2))
    assert (first.subject, first.detail) == ("schedule nightly", "until 2026-03-10T14:00:30Z")
    assert (second.subject, second.detail) == ("schedule hourly", "until somebody resumes it")


@pytest.mark.parametrize("gone", [False, True])
async def test_it_is_told_that_pauses_may_have_changed_whatever_came_of_it(
    room: Room, monkeypatch: pytest.MonkeyPatch, *, gone: bool
) -> None:
    pause, go_on = room.ledger.pause, asyncio.Event()

    async def pause_unheard(*arguments: Any) -> None:
        await go_on.wait()
        await pause(*arguments)
        raise LedgerError("the disk is slow")

    monkeypatch.setattr(room.ledger, "pause", pause_unheard)
    asking = asyncio.create_task(room.hands.pause(Scope.ALL, None, None, "ada", "plant closed"))
    await eventually(lambda: room.hands._going_on)
    if gone:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    go_on.set()
    await eventually(lambda: not room.hands._going_on)
    if not gone:
        with pytest.raises(LedgerError, match="slow"):
            await asking

    assert len(room.daemon.engine.pauses) == 1
    assert room.told == [PausesChanged()]


async def test_the_log_has_a_pause_that_nobody_waits_for(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    asking = asyncio.create_task(room.hands.pause(Scope.ALL, None, None, "ada", "plant closed"))
    await eventually(lambda: room.hands._going_on)
    asking.cancel()
    await eventually(lambda: not room.hands._going_on)

    assert [each.message for each in caplog.records] == ["paused"]


@pytest.mark.parametrize(
    ("scope", "name"), [(Scope.SCHEDULE, "minutely"), (Scope.TARGET, "default"), (Scope.ALL, None)]
)
async def test_what_is_paused_is_skipped_until_it_is_resumed(
    tmp_path: Path, scope: Scope, name: str | None
) -> None:
    async with a_room(tmp_path, a_schedule("minutely", "* * * * *")) as room:
        await room.hands.pause(scope, name, None, "ada", "plant closed")
        room.clock.advance(30)
        (skipped,) = await all_runs(room, 1)
        await room.hands.resume(scope, name, "bob", None)
        room.clock.advance(60)
        runs = await all_runs(room, 2)

    assert (skipped.state, skipped.reason) == (RunState.SKIPPED, "paused: plant closed (ada)")
    assert runs[0].state is RunState.TRIGGERED


async def test_a_pause_waits_for_what_is_being_claimed_and_that_is_not_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_room(tmp_path, a_schedule("minutely", "* * * * *")) as room:
        claim, go_on = room.ledger.claim, asyncio.Event()

        async def claim_slowly(*arguments: Any) -> list[Run]:
            await go_on.wait()
            return await claim(*arguments)

        monkeypatch.setattr(room.ledger, "claim", claim_slowly)
        room.gateway.hold = asyncio.Event()
        room.clock.advance(30)
        await a_moment()
        pausing = asyncio.create_task(room.hands.pause(Scope.ALL, None, None, "ada", "plant closed"))
        await a_moment()
        assert not pausing.done()
        go_on.set()
        _, going = await pausing
        room.gateway.hold.set()
        (run,) = await all_runs(room, 1)

    assert (run.state, [each.id for each in going]) == (RunState.TRIGGERED, [run.id])


async def test_what_cannot_be_paused_or_resumed_is_refused_with_what_can(room: Room) -> None:
    hands = room.hands
    nothing = await room.refused(hands.resume(Scope.ALL, None, "ada", None))
    await hands.pause(Scope.TARGET, "default", None, "ada", "plant closed")

    said = [
        await room.refused(hands.pause(Scope.SCHEDULE, "nihgtly", None, "ada", "x")),
        await room.refused(hands.pause(Scope.TARGET, "prod", None, "ada", "x")),
        await room.refused(hands.pause(Scope.ALL, None, NOON, "ada", "x")),
        await room.refused(hands.pause(Scope.ALL, None, NOON + 367 * DAY, "ada", "x")),
        await room.refused(hands.resume(Scope.SCHEDULE, "nightly", "ada", None)),
    ]

    assert nothing == "there is no pause of all schedules; nothing is"
    assert said[0] == "there is no schedule 'nihgtly' in force; did you mean 'nightly'?"
    assert said[1] == "there is no target 'prod'; there are: default"
    assert "which is in the past; allowed: up to 366 days from now, 2027-03-11T12:00:30Z" in said[2]
    assert "which is too far ahead" in said[3]
    assert said[4] == "there is no pause of schedule nightly; what is paused: target default"
    assert len(await room.ledger.actions()) == 1


# Cancel and resolve.


async def waiting(room: Room) -> Run:
    room.gateway.answers = [an_answer(Outcome.REFUSED_FOR_NOW, "busy", retry_after=5 * MINUTE)]
    return await room.ends(await room.trigger(), RunState.WAITING)


def moves(room: Room) -> list[RunState]:
    return [event.run.state for event in room.told if isinstance(event, RunMoved)]


async def test_a_run_that_waits_is_cancelled_and_never_sent_again(room: Room) -> None:
    run = await waiting(room)

    cancelled, said = await room.hands.cancel(run.id, "bob", "not needed")
    left = room.daemon.runner.under_way
    room.clock.advance(600)
    await a_moment()

    assert (cancelled.state, cancelled.reason) == (RunState.FAILED, "cancelled by hand (bob): not needed")
    assert said == "it is not sent again"
    assert len(room.gateway.requests) == 1
    assert left == 0
    assert moves(room)[-1] is RunState.FAILED
    assert moves(room).count(RunState.FAILED) == 1
    assert await room.last_action() == (ActionKind.CANCEL, "bob", f"run {run.id}", "not needed", said)


async def test_a_cancellation_and_an_attempt_at_once_leave_one_of_them(room: Room) -> None:
    for number in range(10):
        room.gateway.answers = [an_answer(Outcome.REFUSED_FOR_NOW, "busy", retry_after=timedelta(seconds=9))]
        minute = NOON.replace(second=0) - (number + 1) * MINUTE
        run = await room.ends(await room.trigger(at=minute), RunState.WAITING)
        room.gateway.answers, sent = [an_answer(Outcome.ACCEPTED)], len(room.gateway.requests)
        room.clock.advance(70)
        try:
            await room.hands.cancel(run.id, "bob", "not needed")
        except ControlRefusal as refusal:
            assert f"run {run.id} is sending" in str(refusal) or "sent meanwhile" in str(refusal)  # noqa: PT017
        done = await room.ends(run)
        room.clock.advance(60)
        assert (done.state is RunState.TRIGGERED) == (len(room.gateway.requests) > sent)


async def test_what_is_being_sent_in_doubt_or_final_is_not_cancelled(room: Room) -> None:
    room.gateway.hold = asyncio.Event()
    room.gateway.answers = [an_answer(Outcome.UNKNOWN, "reply lost")]
    run = await room.ends(await room.trigger(), RunState.SENDING)
    sending = await room.refused(room.hands.cancel(run.id, "bob", "x"))
    room.gateway.hold.set()
    await room.ends(run, RunState.IN_DOUBT)
    doubtful = await room.refused(room.hands.cancel(run.id, "bob", "x"))
    await room.hands.resolve(run.id, RunState.FAILED, "bob", "not there")
    failed = await room.refused(room.hands.cancel(run.id, "bob", "x"))

    assert sending == f"run {run.id} is sending: its attempt is under way; try again when it has ended"
    assert doubtful.startswith(f"run {run.id} is in doubt: look into EnOS for 3377-20260310120000, then")
    assert failed == f"run {run.id} is failed: that is final, and nothing of it goes on"
    assert "there is no run 99" in await room.refused(room.hands.cancel(99, "bob", "x"))


async def test_the_instance_of_a_triggered_run_is_cancelled(room: Room) -> None:
    run = await room.ends(await room.trigger())

    same, said = await room.hands.cancel(run.id, "bob", "wrong input")

    assert same.state is RunState.TRIGGERED
    assert [instance for instance, _ in room.gateway.cancelled] == [run.instance]
    assert said == f"EnOS took the cancellation of {run.instance}; whether its flow stops is up to EnOS"
    assert await room.last_action() == (ActionKind.CANCEL, "bob", f"run {run.id}", "wrong input", said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            an_answer(Outcome.UNKNOWN, "no reply"),
            "not known whether EnOS took the cancellation of {}: no reply",
        ),
        (
            an_answer(Outcome.REFUSED_FOR_GOOD, "it has ended"),
            "EnOS did not take the cancellation of {}: it has ended",
        ),
    ],
)
async def test_a_cancellation_that_enos_did_not_take_is_refused_and_recorded(
    room: Room, answer: Answer, said: str
) -> None:
    run = await room.ends(await room.trigger())
    room.gateway.cancellation = answer

    refused = await room.refused(room.hands.cancel(run.id, "bob", "wrong input"))

    assert refused == f"run {run.id} is triggered: {said.format(run.instance)}"
    assert (await room.last_action())[-1] == said.format(run.instance)


async def test_what_came_of_a_cancellation_is_told_though_the_ledger_is_in_trouble(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await room.ends(await room.trigger())
    out_of_order(room, monkeypatch, times=1)

    _, said = await room.hands.cancel(run.id, "bob", "wrong input")

    assert said.startswith("EnOS took the cancellation of ")
    assert (await room.last_action())[0] is ActionKind.TRIGGER
    await eventually(lambda: room.clock.sleeping)
    room.clock.advance(LEDGER_PAUSE)
    await eventually(lambda: not room.hands._going_on)
    assert await room.last_action() == (ActionKind.CANCEL, "bob", f"run {run.id}", "wrong input", said)


async def test_a_cancellation_that_enos_was_never_asked_for_is_not_recorded(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands_module, "END_WITHIN", 0.01)
    run = await room.ends(await room.trigger())
    room.gateway.places = asyncio.Semaphore(0)

    asking = asyncio.create_task(room.hands.cancel(run.id, "bob", "wrong input"))
    await eventually(lambda: len(room.gateway.urgent) == 2)
    await room.hands.aclose()
    room.hands._gateways = {}

    assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], asyncio.CancelledError)
    said = await room.refused(room.hands.cancel(run.id, "bob", "wrong input"))
    assert said == "the target default is not configured"
    assert (room.gateway.cancelled, (await room.last_action())[0]) == ([], ActionKind.TRIGGER)


async def test_a_cancellation_that_enos_may_have_taken_is_on_record_at_the_end(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands_module, "END_WITHIN", 0.01)
    run = await room.ends(await room.trigger())
    room.gateway.cancel_hold = asyncio.Event()

    asking = asyncio.create_task(room.hands.cancel(run.id, "bob", "wrong input"))
    await eventually(lambda: room.gateway.cancelled)
    await room.hands.aclose()

    said = f"not known whether EnOS took the cancellation of {run.instance}: the call was broken off"
    assert await room.last_action() == (ActionKind.CANCEL, "bob", f"run {run.id}", "wrong input", said)
    await asyncio.gather(asking, return_exceptions=True)


async def test_what_is_going_on_at_the_end_comes_to_its_end(room: Room) -> None:
    run = await room.ends(await room.trigger())
    room.gateway.cancel_hold = asyncio.Event()

    asking = asyncio.create_task(room.hands.cancel(run.id, "bob", "wrong input"))
    await eventually(lambda: room.gateway.cancelled)
    ending = asyncio.create_task(room.hands.aclose())
    await a_moment()
    assert not ending.done()
    room.gateway.cancel_hold.set()
    await ending

    assert (await asking)[1].startswith("EnOS took the cancellation of ")
    assert (await room.last_action())[0] is ActionKind.CANCEL


async def test_the_end_is_not_held_up_by_a_ledger_in_trouble(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands_module, "END_WITHIN", 0.01)
    monkeypatch.setattr(hands_module, "RECORD_WITHIN", 0.01)
    out_of_order(room, monkeypatch, times=9)
    run = await room.ends(await room.trigger())
    room.gateway.cancel_hold = asyncio.Event()

    asking = asyncio.create_task(room.hands.cancel(run.id, "bob", "wrong input"))
    await eventually(lambda: room.gateway.cancelled)
    async with asyncio.timeout(5):
        await room.hands.aclose()
    await eventually(lambda: not room.hands._going_on)
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_run_in_doubt_is_settled_and_looked_for_no_more(room: Room) -> None:
    room.gateway.answers = [an_answer(Outcome.UNKNOWN, "reply lost")]
    run = await room.ends(await room.trigger(), RunState.IN_DOUBT)

    resolved = await room.hands.resolve(run.id, RunState.TRIGGERED, "bob", "seen in the console")
    looks, left = len(room.gateway.looks), room.daemon.runner.under_way
    room.clock.advance(600)
    await a_moment()

    assert (resolved.state, resolved.instance) == (RunState.TRIGGERED, run.predicted_instance)
    assert resolved.reason == "resolved by hand (bob): seen in the console"
    assert (len(room.gateway.looks), left) == (looks, 0)
    assert moves(room)[-1] is RunState.TRIGGERED
    assert (await room.last_action())[0] is ActionKind.RESOLVE
    said = await room.refused(room.hands.resolve(run.id, RunState.FAILED, "bob", "no"))
    assert said == f"run {run.id} is triggered, not in doubt: that is final, and there is nothing to settle"
    assert "there is no run 99" in await room.refused(room.hands.resolve(99, RunState.FAILED, "b", "x"))


# Reload and accept.


async def test_a_reload_is_an_action_with_its_outcome_also_where_nobody_waits(room: Room) -> None:
    room.readings.outcome, room.readings.problems = ReloadOutcome.REFUSED, ("a.yaml:1:1: wrong", "and more")

    waited = await room.hands.reload("ada")
    unwaited = await room.hands.reload("bob", wait=False)

    await until(lambda: actions_are(room, 2))
    assert waited
    assert (waited.outcome, unwaited, room.readings.whys) == (ReloadOutcome.REFUSED, None, ["ada", "bob"])
    assert await room.last_action() == (
        ActionKind.RELOAD, "bob", "schedules", None, f"refused {'c' * 12}, a.yaml:1:1: wrong",
    )  # fmt: skip


async def test_what_came_of_a_reload_is_told_and_recorded_later_where_the_ledger_is_in_trouble(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out_of_order(room, monkeypatch, times=2)

    reload = await room.hands.reload("ada")

    assert reload
    assert reload.outcome is ReloadOutcome.APPLIED
    (said,) = (vars(each) for each in caplog.records if each.message.startswith("ledger would not record"))
    assert (said["action"], said["by"], said["detail"]) == ("reload", "ada", f"applied {'c' * 12}")
    for _ in range(2):
        await eventually(lambda: room.clock.sleeping)
        assert await room.ledger.actions() == []
        room.clock.advance(LEDGER_PAUSE)
        await a_moment()
    await eventually(lambda: not room.hands._going_on)
    assert (await room.last_action())[0] is ActionKind.RELOAD


def out_of_order(room: Room, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Have the ledger record nothing that people do, so many times."""
    record, left = room.ledger.record_action, [None] * times

    async def record_at_last(action: Action) -> None:
        if left:
            left.pop()
            raise LedgerError("the disk is full")
        await record(action)

    monkeypatch.setattr(room.ledger, "record_action", record_at_last)


async def actions_are(room: Room, count: int) -> bool:
    return len(await room.ledger.actions()) == count


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.002)


async def test_what_the_files_are_is_accepted_and_nothing_else(room: Room) -> None:
    other = await room.refused(room.hands.accept("d" * 8, "ada", "plant closed"))
    accepted = await room.hands.accept("c" * 8, "ada", "plant closed")
    first = await room.last_action()
    room.files = ConfigError([Problem("a.yaml", 1, 1, "", "wrong")])
    useless = await room.refused(room.hands.accept("c" * 8, "ada", None))

    assert other == f"nothing is accepted: the schedule files are another catalog now: {'c' * 64}"
    assert accepted
    assert accepted.outcome is ReloadOutcome.APPLIED
    assert first == (ActionKind.ACCEPT, "ada", "c" * 64, "plant closed", "accepted")
    assert await room.ledger.accepted_by("c" * 64) == "ada"
    assert useless == "nothing is accepted: the schedule files cannot be used:\na.yaml:1:1: wrong"
    assert room.readings.whys == ["accepted by ada"]


async def test_without_a_daemon_what_is_accepted_is_for_the_next_one(room: Room) -> None:
    hands = Hands(room.daemon, room.ledger, {}, room.clock, revision=room._revision)

    assert await hands.accept("c" * 8, "ada", "plant closed") is None
    assert await room.ledger.accepted_by("c" * 64) == "ada"


async def test_what_only_a_daemon_can_do_says_that_there_is_none(room: Room) -> None:
    hands = Hands(room.daemon, room.ledger, {}, room.clock, revision=room._revision)

    with pytest.raises(NoDaemon, match="there is no daemon"):
        await hands.reload("ada")
    with pytest.raises(NoDaemon, match="there is no daemon"):
        hands.status()
    assert "the target default is not configured" in await room.refused(
        hands.trigger("nightly", None, Origin.MANUAL, "ada", None)
    )


async def test_runs_actions_and_catalogs_are_those_of_the_ledger(room: Room) -> None:
    run = await room.ends(await room.trigger())
    await room.daemon.reload(Catalog({HOURLY.id: HOURLY, NIGHTLY.id: NIGHTLY}, "r2"))

    assert (await room.hands.runs(RunsWanted(run_id=run.id))).runs == [run]
    with pytest.raises(NotFoundError, match="there is no run 99"):
        await room.hands.runs(RunsWanted(run_id=99))
    assert len(await room.hands.actions(5)) == 1
    assert [each.revision for each in await room.hands.catalogs(5)] == ["r2", "r1"]
    assert [each.revision for each in await room.hands.catalogs(1)] == ["r2"]


async def test_a_step_to_a_settled_state_by_somebody_else_meanwhile_is_said(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.gateway.answers = [an_answer(Outcome.UNKNOWN, "reply lost")]
    run = await room.ends(await room.trigger(), RunState.IN_DOUBT)
    found = await room.ledger.run(run.id)
    await room.ledger.resolve(run.id, NOON, NextStep(RunState.FAILED, "somebody else"))
    read, answers = room.ledger.run, [found]

    async def read_before(run_id: int) -> Run | None:
        return answers.pop() if answers else await read(run_id)

    monkeypatch.setattr(room.ledger, "run", read_before)

    said = await room.refused(room.hands.resolve(run.id, RunState.TRIGGERED, "bob", "x"))
    assert said == f"run {run.id} is failed, not in doubt: that is final, and there is nothing to settle"


async def test_a_run_that_waits_says_for_what(room: Room) -> None:
    room.gateway.places, room.gateway.held_by = asyncio.Semaphore(0), "1 call a minute"
    run = await room.trigger()
    await eventually(lambda: room.gateway.urgent)

    found = await room.hands.runs(RunsWanted(run_id=run.id))

    assert found_documents(found)[0]["waits_for"] == "target default, 1 call a minute"
