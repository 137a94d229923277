"""Pauses: what rests is recorded as skipped, and nothing goes out that should rest."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from flowsched import timeline
from flowsched.admission import Pauses, pause_over, paused
from flowsched.engine.engine import _Pass
from flowsched.errors import LedgerError
from flowsched.ledger import Ledger
from flowsched.model import Action, ActionKind, Catalog, CatchUp, Cursor, Pause, RunState, Schedule, Scope
from tests.builders import T0, a_schedule, closed, deferred
from tests.fakes import HandClock, a_moment, eventually
from tests.test_engine import START, Desk
from tests.test_engine_blackouts import audited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.admission import Difference

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MINUTELY = a_schedule("a", "* * * * *", flow=1, catch_up=CatchUp.ALL, catch_up_window=timedelta(days=31))
OTHER = replace(MINUTELY, id="b", flow=2, target="on-site")
REASON = "paused: stocktaking (kim)"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Desk(ledger, HandClock(START))
        yield desk
        await desk.engine.stop()


def action(at: datetime, kind: ActionKind = ActionKind.PAUSE) -> Action:
    return Action(at=at, by="kim", kind=kind, subject="all", reason="stocktaking", detail="")


async def pause(
    desk: Desk, scope: Scope = Scope.ALL, name: str | None = None, until: datetime | None = None
) -> Pause:
    return await desk.engine.change_pauses(
        lambda: desk.ledger.pause(scope, name, until, action(desk.clock.now()))
    )


async def resume(desk: Desk, scope: Scope = Scope.ALL, name: str | None = None) -> list[Pause]:
    return await desk.engine.change_pauses(
        lambda: desk.ledger.resume(scope, name, action(desk.clock.now(), ActionKind.RESUME))
    )


def a_pause(**more: Any) -> Pause:
    usual: dict[str, Any] = {
        "id": 1, "scope": Scope.ALL, "name": None, "reason": "stocktaking", "by": "kim", "from_at": T0,
        "until_at": None, "ended_at": None, "ended_by": None,
    }  # fmt: skip
    return Pause(**(usual | more))


def at(hour: int, minute: int = 0) -> datetime:
    return START.replace(hour=hour, minute=minute, second=0)


def test_a_pause_lasts_from_its_beginning_up_to_the_first_of_its_ends() -> None:
    one = a_pause(until_at=T0 + 3 * MINUTE, ended_at=T0 + 2 * MINUTE)

    instants = [T0 - MINUTE, T0, T0 + MINUTE, T0 + 2 * MINUTE]
    assert [pause_over(each, [one]) is not None for each in instants] == [False, True, True, False]


def test_a_fire_is_skipped_by_the_pause_over_its_fire_time_or_else_by_one_that_lasts() -> None:
    over = a_pause(until_at=T0 + MINUTE)
    lasting = a_pause(id=2, from_at=T0 + 5 * MINUTE, reason="freeze", by="lee")

    assert paused(T0, T0 + MINUTE, [over]) == REASON
    assert paused(T0 + MINUTE, T0 + 2 * MINUTE, [over]) is None
    assert paused(T0, T0 + 6 * MINUTE, [over, lasting]) == REASON
    assert paused(T0 + 2 * MINUTE, T0 + 6 * MINUTE, [over, lasting]) == "paused: freeze (lee)"


def test_a_pause_that_was_set_before_the_clock_was_set_back_lasts() -> None:
    assert paused(T0 - 9 * MINUTE, T0 - 9 * MINUTE, [a_pause()]) == REASON


def test_pauses_are_found_by_all_that_they_are_about() -> None:
    everything, target, schedule = pauses = (
        a_pause(id=1),
        a_pause(id=2, scope=Scope.TARGET, name="on-site"),
        a_pause(id=3, scope=Scope.SCHEDULE, name="a"),
    )
    book = Pauses(pauses)

    assert book.of(MINUTELY) == (everything, schedule)
    assert book.of(OTHER) == (everything, target)
    assert book.of(replace(OTHER, id="c", target="default")) == (everything,)


@pytest.mark.parametrize(
    ("scope", "name", "resting"),
    [
        (Scope.ALL, None, {"a", "b"}),
        (Scope.TARGET, "on-site", {"b"}),
        (Scope.SCHEDULE, "a", {"a"}),
        (Scope.SCHEDULE, "elsewhere", set()),
    ],
)
async def test_what_rests_is_recorded_as_skipped_with_reason_and_person(
    desk: Desk, scope: Scope, name: str | None, resting: set[str]
) -> None:
    await desk.apply(MINUTELY, OTHER)
    await pause(desk, scope, name)

    await desk.minutes(2)

    assert {run.schedule_id for run in desk.runs if run.state is RunState.SKIPPED} == resting
    assert {run.reason for run in desk.runs if run.state is RunState.SKIPPED} <= {REASON}
    assert len(desk.runs) == 4
    assert await audited(desk) == {"aligned": 4}


async def test_a_pause_ends_by_itself_at_its_end_and_not_before(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, until=at(12, 3))

    await desk.minutes(4)

    assert desk.fired(RunState.SKIPPED) == ["a 12:01", "a 12:02"]
    assert desk.fired() == ["a 12:03", "a 12:04"]


async def test_what_is_resumed_fires_at_its_next_fire_time(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk)
    await desk.minutes(2)

    ended = await resume(desk)
    await desk.minutes(1)

    assert [(one.ended_at, one.ended_by) for one in ended] == [(at(12, 2) + timedelta(seconds=30), "kim")]
    assert desk.fired() == ["a 12:03"]
    assert [one.kind for one in await desk.ledger.actions()] == [ActionKind.RESUME, ActionKind.PAUSE]


async def test_a_pause_survives_a_restart_and_counts_for_the_downtime(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, until=at(12, 5))
    await desk.engine.stop()
    desk.clock.step(at(12, 7))

    await desk.restart(MINUTELY)
    await desk.settled()

    assert desk.fired(RunState.SKIPPED) == ["a 12:01", "a 12:02", "a 12:03", "a 12:04"]
    assert desk.fired() == ["a 12:05", "a 12:06", "a 12:07"]


async def test_nothing_is_caught_up_while_a_pause_lasts(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await desk.engine.stop()
    desk.clock.step(at(12, 3))
    await desk.ledger.pause(Scope.ALL, None, None, action(desk.clock.now()))

    await desk.restart(MINUTELY)
    await desk.settled()

    assert (desk.fired(), len(desk.fired(RunState.SKIPPED))) == ([], 3)


async def test_a_pause_of_longer_ago_than_any_window_still_says_why_nothing_went_out(desk: Desk) -> None:
    daily = a_schedule("daily", "0 6 * * *")
    await desk.apply(daily)
    await pause(desk, until=START + timedelta(days=3))
    await desk.engine.stop()
    desk.clock.step(START + timedelta(days=60))

    await desk.restart(daily)
    await desk.settled()

    assert len(desk.fired(RunState.SKIPPED)) == 3
    assert len(desk.fired(RunState.MISSED)) == 57


@pytest.mark.parametrize("backlog", [timedelta(hours=5), timedelta(hours=30)])
async def test_the_latest_that_no_pause_covers_is_the_one_caught_up(desk: Desk, backlog: timedelta) -> None:
    latest = replace(MINUTELY, catch_up=CatchUp.LATEST)
    await desk.apply(latest)
    await desk.engine.stop()
    desk.clock.step(START + backlog / 2)
    await desk.ledger.pause(Scope.SCHEDULE, "a", START + backlog, action(desk.clock.now()))
    desk.clock.step(START + backlog)

    await desk.restart(latest)
    await desk.settled()

    middle = START + backlog / 2
    assert [run.fire_time for run in desk.runs if run.state is RunState.CLAIMED] == [middle.replace(second=0)]
    assert len(desk.runs) == backlog / MINUTE


async def test_what_a_blackout_defers_into_a_pause_is_skipped_when_it_goes_out(desk: Desk) -> None:
    late = a_schedule("late", "2 12 * * *", blackout=deferred((at(12, 1), at(12, 5))))
    await desk.apply(late)
    await desk.minutes(3)
    await pause(desk)

    await desk.minutes(3)

    (run,) = desk.runs
    assert (run.fire_time, run.state, run.reason) == (at(12, 2), RunState.SKIPPED, REASON)


async def test_what_a_blackout_leaves_out_says_so_also_under_a_pause(desk: Desk) -> None:
    await desk.apply(replace(MINUTELY, blackout=closed((at(12), at(13)))))
    await pause(desk)

    await desk.minutes(1)

    assert [run.reason for run in desk.runs] == ["blackout: freeze"]


async def test_an_edit_of_what_rested_while_nobody_was_there_says_paused_and_not_missed(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, until=at(12, 3))
    await desk.engine.stop()
    desk.clock.step(at(12, 10))

    await desk.restart(a_schedule("a", "30 3 * * *", flow=1))
    await desk.settled()

    assert desk.fired(RunState.SKIPPED) == ["a 12:01", "a 12:02"]
    assert desk.fired(RunState.MISSED) == [f"a 12:{minute:02}" for minute in range(3, 11)]


async def test_an_edit_in_the_minute_of_a_fire_does_not_fire_what_rests(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk)
    await desk.engine._claims.stop()  # nobody comes to claim it before the edit
    desk.clock.step(at(12, 1))

    await desk.apply(a_schedule("a", "30 3 * * *", flow=1), revision="r2")

    assert (desk.fired(), desk.fired(RunState.SKIPPED)) == ([], ["a 12:01"])


RENAMED = replace(MINUTELY, id="b", renamed_from="a")


async def test_a_pause_goes_with_its_schedule_however_often_it_is_renamed(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, Scope.SCHEDULE, "a")

    await desk.apply(RENAMED, revision="r2")
    await desk.minutes(1)
    await desk.apply(replace(MINUTELY, id="c", renamed_from="b"), revision="r3")
    await desk.minutes(1)
    await desk.apply(replace(MINUTELY, id="c"), revision="r4")  # what it was called once is tidied away
    await desk.minutes(1)
    await desk.restart(replace(MINUTELY, id="c"))
    await desk.minutes(1)

    assert [run.reason for run in desk.runs] == [REASON]
    runs = [(run.schedule_id, run.state) for run in await desk.ledger.runs()]
    assert runs == [(id_, RunState.SKIPPED) for id_ in ("c", "c", "c", "b")]
    assert [one.name for one in desk.engine.pauses] == ["c"]
    told = [vars(one) for one in caplog.records if "renamed" in one.message]
    assert [(one["former"], one["schedule"]) for one in told] == [("a", "b"), ("b", "c")]


async def test_the_pause_of_a_renamed_schedule_is_ended_by_its_new_id(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, Scope.SCHEDULE, "a")
    await desk.apply(RENAMED, revision="r2")

    assert await resume(desk, Scope.SCHEDULE, "a") == []
    (ended,) = await resume(desk, Scope.SCHEDULE, "b")
    await desk.minutes(1)

    assert (ended.name, ended.ended_by) == ("b", "kim")
    assert desk.fired() == ["b 12:01"]


@pytest.mark.parametrize(
    "renamed",
    [replace(RENAMED, timing=a_schedule(cron="*/2 * * * *").timing), replace(RENAMED, enabled=False)],
    ids=["another timing", "disabled"],
)
async def test_a_pause_goes_with_a_schedule_that_does_not_go_on_where_it_stood(
    desk: Desk, renamed: Schedule
) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, Scope.SCHEDULE, "a")

    await desk.apply(renamed, revision="r2")
    await desk.apply(replace(renamed, enabled=True), revision="r3")
    await desk.minutes(2)

    assert (desk.fired(), desk.fired(RunState.SKIPPED)[-1]) == ([], "b 12:02")


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("cron", ["* * * * *", "*/2 * * * *"], ids=["the same timing", "another timing"])
async def test_what_a_pause_covered_before_a_rename_is_skipped_by_it_all_the_same(
    desk: Desk, cron: str, *, over: bool
) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, Scope.SCHEDULE, "a", until=at(12, 3) if over else None)
    await desk.engine.stop()
    desk.clock.step(at(12, 4))

    await desk.restart(replace(RENAMED, timing=a_schedule(cron=cron).timing))
    await desk.settled()

    went_on = cron == MINUTELY.timing.cron
    id_ = "b" if went_on else "a"
    skipped = [f"{id_} 12:{minute:02}" for minute in range(1, 3 if over else 5)]
    assert desk.fired(RunState.SKIPPED) == skipped
    assert len(desk.runs) == 4
    assert [one.name for one in await desk.ledger.pauses()] == ["a" if over and not went_on else "b"]


async def test_no_pause_goes_with_an_id_that_there_is_still(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, Scope.SCHEDULE, "a")

    await desk.apply(MINUTELY, replace(RENAMED, flow=2), revision="r2")
    await desk.minutes(1)

    assert (desk.fired(), desk.fired(RunState.SKIPPED)) == (["b 12:01"], ["a 12:01"])


async def test_pauses_of_targets_and_of_all_stay_what_they_are_in_a_rename(desk: Desk) -> None:
    on_site = replace(OTHER, id="on-site")
    await desk.apply(on_site)
    await pause(desk)
    await pause(desk, Scope.TARGET, "on-site")

    await desk.apply(replace(on_site, id="new", renamed_from="on-site"), revision="r2")

    assert [(one.scope, one.name) for one in desk.engine.pauses] == [
        (Scope.ALL, None),
        (Scope.TARGET, "on-site"),
    ]


async def test_a_catalog_that_is_applied_twice_moves_a_pause_once(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk, Scope.SCHEDULE, "a")
    renamed = Catalog({"b": RENAMED}, "r2")

    for _ in range(2):
        await desk.ledger.apply(renamed, START + MINUTE)  # the first answer was lost

    assert [one.name for one in await desk.ledger.pauses()] == ["b"]


async def test_a_step_back_of_the_clock_ends_no_pause_and_keeps_none_from_being_ended(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    await pause(desk)
    desk.clock.step(START - timedelta(hours=1))
    await desk.apply(MINUTELY, replace(MINUTELY, id="new", flow=9), revision="r2")
    await desk.minutes(1)
    assert desk.fired(RunState.SKIPPED) == ["new 11:01"]

    await resume(desk)
    await desk.minutes(1)

    assert desk.fired() == ["new 11:02"]


async def test_one_that_rests_does_not_hold_its_flow(desk: Desk) -> None:
    await desk.apply(MINUTELY, replace(MINUTELY, id="z"))
    await pause(desk, Scope.SCHEDULE, "a")

    await desk.minutes(1)

    assert (desk.fired(), desk.fired(RunState.SKIPPED)) == (["z 12:01"], ["a 12:01"])


async def test_a_pause_that_is_set_again_replaces_the_one_before(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    first = await pause(desk)
    desk.clock.advance(5)

    second = await pause(desk, until=at(12, 2))

    assert [(one.id, one.over_at) for one in desk.engine.pauses] == [
        (first.id, desk.clock.now()),
        (second.id, at(12, 2)),
    ]
    await desk.minutes(2)
    assert desk.fired() == ["a 12:02"]


async def test_calls_whose_answer_was_lost_are_found_done(desk: Desk) -> None:
    set_, ended = action(START), action(START + MINUTE, ActionKind.RESUME)

    pauses = [await desk.ledger.pause(Scope.ALL, None, None, set_) for _ in range(2)]
    resumed = [await desk.ledger.resume(Scope.ALL, None, ended) for _ in range(2)]

    assert pauses[0] == pauses[1]
    assert resumed[0] == resumed[1] != []
    assert len(await desk.ledger.pauses()) == 1
    assert await desk.ledger.actions() == [ended, set_]
    assert await desk.ledger.resume(Scope.ALL, None, action(START + 2 * MINUTE)) == []


class FlakyLedger(Ledger):
    """Writes, and loses answers as it is told."""

    lost_answer = False
    tells_no_pauses = False
    forgets_pauses_after_apply = False

    async def pause(self, *arguments: Any) -> Pause:
        done = await super().pause(*arguments)
        if self.lost_answer:
            raise LedgerError("disk on fire")
        return done

    async def apply(
        self, catalog: Catalog, at: datetime, since: Difference | None = None
    ) -> dict[str, Cursor]:
        self.tells_no_pauses = self.forgets_pauses_after_apply
        return await super().apply(catalog, at, since)

    async def pauses(self, over_after: datetime | None = None) -> list[Pause]:
        if self.tells_no_pauses:
            raise LedgerError("disk on fire")
        return await super().pauses(over_after)


@pytest.fixture
async def flaky(tmp_path: Path) -> AsyncIterator[Desk]:
    async with await FlakyLedger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Desk(ledger, HandClock(START))
        await desk.apply(MINUTELY)
        yield desk
        await desk.engine.stop()


async def test_a_pause_whose_answer_was_lost_counts(flaky: Desk) -> None:
    assert isinstance(flaky.ledger, FlakyLedger)
    flaky.ledger.lost_answer = True

    with pytest.raises(LedgerError):
        await pause(flaky)
    await flaky.minutes(1)

    assert (flaky.fired(), flaky.fired(RunState.SKIPPED)) == ([], ["a 12:01"])


@pytest.mark.parametrize("answer_is_lost", [False, True])
async def test_nothing_is_claimed_before_it_is_known_what_is_paused(
    flaky: Desk, *, answer_is_lost: bool
) -> None:
    assert isinstance(flaky.ledger, FlakyLedger)
    flaky.ledger.lost_answer, flaky.ledger.tells_no_pauses = answer_is_lost, True
    if answer_is_lost:
        with pytest.raises(LedgerError, match="on fire"):
            await pause(flaky)
    else:
        assert (await pause(flaky)).reason == "stocktaking"
    await flaky.minutes(2)
    assert flaky.runs == []

    flaky.ledger.tells_no_pauses = False
    await flaky.passes(5)
    await eventually(lambda: len(flaky.runs) == 2)

    assert flaky.fired(RunState.SKIPPED) == ["a 12:01", "a 12:02"]


async def test_nothing_is_claimed_after_a_rename_before_it_is_known_what_is_paused(flaky: Desk) -> None:
    assert isinstance(flaky.ledger, FlakyLedger)
    await pause(flaky, Scope.SCHEDULE, "a")
    flaky.ledger.forgets_pauses_after_apply = True

    await flaky.apply(RENAMED, revision="r2")
    await flaky.minutes(1)
    assert flaky.runs == []

    flaky.ledger.tells_no_pauses = False
    await flaky.passes(5)
    await eventually(lambda: flaky.runs)
    assert flaky.fired(RunState.SKIPPED) == ["b 12:01"]


async def test_a_pause_is_set_to_its_end_though_who_wanted_it_has_gone(desk: Desk) -> None:
    await desk.apply(MINUTELY)
    may_write = asyncio.Event()

    async def write() -> Pause:
        await may_write.wait()
        return await desk.ledger.pause(Scope.ALL, None, None, action(desk.clock.now()))

    asked = asyncio.create_task(desk.engine.change_pauses(write))
    await a_moment()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    desk.clock.advance(30)
    await a_moment()
    assert desk.runs == []  # claims wait for the answer
    may_write.set()
    await eventually(lambda: desk.runs)

    assert (desk.fired(), desk.fired(RunState.SKIPPED)) == ([], ["a 12:01"])


async def test_upcoming_fires_say_whether_they_rest(desk: Desk) -> None:
    await desk.apply(a_schedule("a", "*/2 * * * *", flow=1), a_schedule("b", "*/4 * * * *", flow=2))
    await pause(desk, until=at(12, 3))

    found = desk.engine.upcoming(3)

    assert [(one.fire_time, one.paused) for one in found] == [(at(12, 2), True), (at(12, 4), False)]


@pytest.mark.parametrize("seed", range(4))
async def test_each_fire_time_has_one_row_and_those_that_rest_are_skipped(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - to be the same each time
    subjects = [(Scope.ALL, None), (Scope.TARGET, "on-site"), (Scope.SCHEDULE, "a"), (Scope.SCHEDULE, "c")]
    schedules = [MINUTELY, OTHER, replace(MINUTELY, id="c", flow=3)]
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Desk(ledger, HandClock(START))
        await desk.apply(*schedules)
        for _ in range(25):
            await desk.passes(1)  # so that nothing is claimed in the instant of a change
            subject, now = chance.choice(subjects), desk.clock.now()
            match chance.randrange(5):
                case 0:
                    until = chance.choice([None, now + chance.randint(1, 40) * MINUTE])
                    await pause(desk, *subject, until=until)
                case 1:
                    await resume(desk, *subject)
                case 2:
                    desk.clock.step(now + chance.randint(1, 90) * MINUTE)
                    await desk.restart(*schedules)
                    await desk.settled()
                case _:
                    await desk.minutes(chance.randint(1, 10))
        await desk.minutes(1)
        await desk.settled()

        runs = await ledger.runs(limit=1_000_000)
        pauses = Pauses(await ledger.pauses())
        assert len(pauses.known) >= 3
        came = list(timeline.fires(schedules, after=START, until=desk.clock.now()))
        found = {(run.schedule_id, run.fire_time): run for run in runs}
        assert len(found) == len(runs) == len(came)
        for fire in came:
            run = found[fire.schedule.id, fire.fire_time]
            covering = pauses.of(fire.schedule)
            rests = any(pause_over(when, covering) for when in (fire.fire_time, run.claimed_at))
            assert (run.state is RunState.SKIPPED) == rests
        await desk.engine.stop()


@pytest.mark.parametrize("blackout", [closed, deferred])
def test_whether_more_is_to_go_out_is_told_at_once_after_a_long_closed_time(blackout: Any) -> None:
    """It is asked on the event loop, for each batch of a backlog."""
    opens, after = T0 + 30 * DAY, T0 + DAY + 9 * MINUTE
    schedule = replace(MINUTELY, blackout=blackout((T0 + DAY, opens)))
    early, late = a_pause(until_at=T0 + MINUTE), a_pause(until_at=opens + 5 * MINUTE)
    began = time.perf_counter()

    assert _Pass(opens + 2 * MINUTE).has_more(schedule, after, [])
    assert _Pass(opens + 2 * MINUTE).has_more(schedule, after, [early])
    assert not _Pass(opens - MINUTE).has_more(schedule, after, [early])
    assert not _Pass(opens + 2 * MINUTE).has_more(schedule, after, [late]), "it lasts"
    assert _Pass(opens + 5 * MINUTE).has_more(schedule, after, [late])
    assert _Pass(opens + 5 * MINUTE).has_more(MINUTELY, after, [late])
    for until_at in (opens + 2.5 * MINUTE, opens - 0.5 * MINUTE):
        none_left = [a_pause(until_at=until_at)]
        assert not _Pass(until_at + 0.25 * MINUTE).has_more(schedule, after, none_left)
    assert time.perf_counter() - began < 1.0  # 0.01 s where it was written
