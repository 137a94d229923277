"""Runs that a person wants: claimed beside the automatic ones, never a second of one flow and minute."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.errors import LedgerRefusal
from flowsched.ledger import Ledger
from flowsched.model import Action, ActionKind, CatchUp, NextStep, Origin, Outcome, Overlap, Run, RunState
from flowsched.retry import is_unsent
from tests.builders import RETRY, a_schedule, an_answer, found
from tests.desk import FIRE, Desk, a_desk
from tests.fakes import HandClock, accepted
from tests.test_engine import START
from tests.test_engine import Desk as EngineDesk
from tests.test_engine_blackouts import audited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from datetime import datetime
    from pathlib import Path

MINUTE = timedelta(minutes=1)
REFUSED = an_answer(Outcome.REFUSED_FOR_GOOD, "no such flow")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


def action(at: datetime = FIRE, kind: ActionKind = ActionKind.TRIGGER, **more: Any) -> Action:
    usual: dict[str, Any] = {"by": "kim", "subject": "nightly", "reason": "asked for", "detail": ""}
    return Action(at=at, kind=kind, **(usual | more))


async def by_hand(desk: Desk, fire_time: datetime = FIRE, **more: Any) -> Run:
    row = desk.new_run(fire_time, **({"origin": Origin.MANUAL} | more))
    return await desk.ledger.claim_by_hand(row, action(desk.clock.now()))


async def failed_by_hand(desk: Desk, **more: Any) -> Run:
    desk.answers(REFUSED)
    run = await by_hand(desk, **more)
    desk.runner.start(run)
    await desk.quiet()
    desk.clock.advance(MINUTE)
    return await desk.run(run)


async def test_a_run_by_hand_is_sent_with_its_fire_time_and_the_action_is_kept(desk: Desk) -> None:
    run = await by_hand(desk, FIRE - timedelta(days=3))
    desk.runner.start(run)
    await desk.quiet()

    assert (await desk.run(run)).state is RunState.TRIGGERED
    assert b"1766975400000" in desk.gateway.requests[0].body  # 2025-12-29T02:30:00Z
    assert await desk.ledger.actions() == [action(detail=f"run {run.id}")]


@pytest.mark.parametrize("state", [RunState.SENDING, RunState.IN_DOUBT, RunState.TRIGGERED])
async def test_a_run_by_hand_is_refused_where_another_may_have_made_the_instance(
    desk: Desk, state: RunState
) -> None:
    other = await desk.claim(schedule_id="another")
    await desk.ledger.begin_attempt(other.id, 1, FIRE)
    if state is not RunState.SENDING:
        step = NextStep(state, None)
        await desk.ledger.end_attempt(other.id, 1, FIRE, an_answer(Outcome.UNKNOWN), step)

    with pytest.raises(
        LedgerRefusal,
        match=rf"run {other.id} \(another\) has flow 3377 at this minute already: it is {state}",
    ):
        await by_hand(desk)

    assert await desk.ledger.actions() == []


@pytest.mark.parametrize("state", [RunState.MISSED, RunState.SKIPPED])
async def test_a_fire_that_did_not_go_out_can_be_triggered_by_hand(desk: Desk, state: RunState) -> None:
    await desk.claim(state=state, reason="as it was")

    run = await by_hand(desk)

    assert (run.state, run.origin) == (RunState.CLAIMED, Origin.MANUAL)


async def test_an_automatic_fire_after_a_run_by_hand_is_a_collision(desk: Desk) -> None:
    run = await by_hand(desk)

    automatic = await desk.claim()

    assert automatic.state is RunState.SKIPPED
    assert automatic.reason == f"collision: nightly (run {run.id}) has flow 3377 at this minute already"


async def test_a_run_by_hand_whose_answer_was_lost_is_found_and_claimed_once(desk: Desk) -> None:
    row = desk.new_run(origin=Origin.MANUAL)

    runs = [await desk.ledger.claim_by_hand(row, action()) for _ in range(2)]

    assert runs[0] == runs[1]
    assert (len(await desk.ledger.runs()), len(await desk.ledger.actions())) == (1, 1)


async def test_a_failed_run_that_is_wanted_again_is_gone_on_with(desk: Desk) -> None:
    before = await failed_by_hand(desk)
    desk.answers(accepted())

    again = await by_hand(desk, note="asked again", watch=timedelta(hours=1))
    unsent = is_unsent(again)
    desk.runner.start(again)
    await desk.quiet()

    assert (before.state, again.id, again.state, unsent) == (
        RunState.FAILED,
        before.id,
        RunState.WAITING,
        True,
    )
    assert again.deadline == desk.clock.now() + RETRY.deadline
    assert (again.attempts, again.retry.max_attempts) == (1, 1 + RETRY.max_attempts)
    assert (again.claimed_at, again.note, again.watch) == (
        desk.clock.now(),
        "asked again",
        timedelta(hours=1),
    )
    run = await desk.run(before)
    assert (run.state, run.attempts, is_unsent(run)) == (RunState.TRIGGERED, 2, False)
    assert [one.number for one in await desk.attempts(before)] == [1, 2]
    assert await desk.ledger.watches_of([run.id])


async def test_a_claim_again_whose_answer_was_lost_is_found_done(desk: Desk) -> None:
    await failed_by_hand(desk)
    row = desk.new_run(origin=Origin.MANUAL)

    runs = [await desk.ledger.claim_by_hand(row, action(desk.clock.now())) for _ in range(2)]

    assert runs[0] == runs[1]
    assert runs[0].retry.max_attempts == 1 + RETRY.max_attempts


async def test_a_failed_run_goes_on_with_the_flow_that_its_schedule_has_now(desk: Desk) -> None:
    before = await failed_by_hand(desk)

    again = await by_hand(desk, flow=9, task=5)

    assert (again.id, again.flow, again.task) == (before.id, 9, 5)
    assert again.predicted_instance == "9-20260101023000"


async def test_one_that_was_triggered_for_another_flow_is_not_claimed_again(desk: Desk) -> None:
    run = await by_hand(desk)
    desk.runner.start(run)
    await desk.quiet()
    desk.clock.advance(MINUTE)

    with pytest.raises(LedgerRefusal, match=f"run {run.id} .nightly. has flow 3377 .* it is triggered"):
        await by_hand(desk, flow=9)


async def test_only_a_claim_of_an_origin_by_hand_is_one_by_hand(desk: Desk) -> None:
    for more in ({"origin": Origin.SCHEDULE}, {"state": RunState.MISSED}):
        with pytest.raises(LedgerRefusal, match="allowed: claimed, of origin backfill or manual"):
            await by_hand(desk, **more)


async def test_a_run_again_asks_about_overlap_like_a_first_one(desk: Desk) -> None:
    other = await desk.start(FIRE - MINUTE)
    desk.clock.advance(2 * MINUTE)
    await failed_by_hand(desk)
    assert other.state is not None
    desk.gateway.sees(found())

    again = await by_hand(desk, overlap=Overlap.SKIP)
    desk.runner.start(again)
    await desk.quiet()

    run = await desk.run(again)
    assert run.state is RunState.FAILED
    assert "overlap: " in (run.reason or "")


async def test_a_run_again_that_was_in_doubt_once_finds_what_it_made_then(desk: Desk) -> None:
    desk.answers(an_answer(Outcome.UNKNOWN))
    run = await by_hand(desk)
    desk.runner.start(run)
    await desk.quiet()
    resolved = await desk.ledger.resolve(
        run.id, desk.clock.now(), NextStep(RunState.FAILED, "not there"), action(kind=ActionKind.RESOLVE)
    )
    await desk.runner.let_go(resolved)
    desk.clock.advance(MINUTE)
    desk.answers(an_answer(Outcome.NOT_CREATED))
    desk.gateway.sees(found())

    desk.runner.start(await by_hand(desk))
    await desk.passes(MINUTE)

    assert (await desk.run(run)).state is RunState.TRIGGERED


async def test_backfills_go_one_by_one_with_their_whole_time_each_also_those_again(desk: Desk) -> None:
    desk.answers(REFUSED)
    times = [FIRE - number * timedelta(days=1) for number in range(1, 25)]
    for time in times:
        desk.runner.start(await by_hand(desk, time, origin=Origin.BACKFILL))
    await desk.passes(timedelta(hours=1))
    assert set(await desk.states()) == {RunState.FAILED}
    desk.answers(accepted())

    for time in times:
        desk.runner.start(await by_hand(desk, time, origin=Origin.BACKFILL))
    await desk.passes(timedelta(hours=1))

    assert await desk.states() == [RunState.TRIGGERED] * len(times)
    sent = desk.gateway.asked_at[len(times) :]
    assert all(later - earlier >= MINUTE for earlier, later in pairwise(sent))


async def test_a_run_by_hand_goes_on_after_a_restart_and_fails_past_its_deadline(desk: Desk) -> None:
    in_time = await by_hand(desk)
    late = await by_hand(desk, FIRE - MINUTE, flow=8, deadline=FIRE + MINUTE)
    desk.clock.advance(2 * MINUTE)

    await desk.restart(a_schedule("nightly", "* * * * *", flow=8))

    assert (await desk.run(in_time)).state is RunState.TRIGGERED
    run = await desk.run(late)
    assert (run.state, run.attempts) == (RunState.FAILED, 0)
    assert run.reason == "the deadline passed before it could be sent; it was never sent"


async def test_a_run_again_goes_on_after_a_restart(desk: Desk) -> None:
    before = await failed_by_hand(desk)
    await by_hand(desk)
    desk.answers(accepted())

    await desk.restart()

    assert (await desk.run(before)).state is RunState.TRIGGERED


@pytest.mark.parametrize("state", [RunState.CLAIMED, RunState.WAITING])
async def test_what_is_not_being_sent_can_be_cancelled_once(desk: Desk, state: RunState) -> None:
    run = await desk.claim(due_at=FIRE + timedelta(hours=1))
    if state is RunState.WAITING:
        await desk.ledger.begin_attempt(run.id, 1, FIRE)
        step = NextStep(state, "later", FIRE + timedelta(hours=1))
        run = await desk.ledger.end_attempt(run.id, 1, FIRE, an_answer(Outcome.NOT_SENT), step)
    desk.runner.start(run)
    await desk.quiet()

    wish = action(kind=ActionKind.CANCEL)
    ended = [await desk.ledger.cancel(run.id, FIRE, "cancelled by kim: late", wish) for _ in range(2)]
    await desk.runner.let_go(ended[0])
    await desk.passes(timedelta(hours=2))

    assert ended[0] == ended[1]
    assert (ended[0].state, ended[0].reason) == (RunState.FAILED, "cancelled by kim: late")
    assert (await desk.ledger.actions(), desk.gateway.requests) == ([wish], [])
    assert desk.runner.under_way == 0


async def test_what_is_being_sent_cannot_be_cancelled(desk: Desk) -> None:
    run = await desk.claim()
    await desk.ledger.begin_attempt(run.id, 1, FIRE)

    with pytest.raises(LedgerRefusal, match="only a run that is claimed or waiting can be cancelled"):
        await desk.ledger.cancel(run.id, FIRE, "no", action(kind=ActionKind.CANCEL))

    assert await desk.ledger.actions() == []


async def test_an_audit_leaves_runs_by_hand_aside(tmp_path: Path) -> None:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = EngineDesk(ledger, HandClock(START))
        hands = Desk(ledger, desk.clock)
        await desk.apply(a_schedule("a", "* * * * *", flow=1))
        await desk.minutes(2)
        for origin in (Origin.MANUAL, Origin.BACKFILL):
            row = hands.new_run(START.replace(second=0), schedule_id="a", flow=9 + len(origin), origin=origin)
            await ledger.claim_by_hand(row, action(desk.clock.now()))
        next_minute = desk.runs[-1].fire_time + MINUTE
        row = hands.new_run(next_minute, schedule_id="a", flow=1, origin=Origin.MANUAL)
        await ledger.claim_by_hand(row, action(desk.clock.now()))

        await desk.minutes(1)

        assert [run.state for run in desk.runs[-1:]] == [RunState.SKIPPED]
        assert await audited(desk) == {"aligned": 3}
        await desk.engine.stop()


async def test_what_people_did_long_ago_is_forgotten_a_little_at_a_time(desk: Desk) -> None:
    day = timedelta(days=1)
    for number in range(5):
        await desk.ledger.record_action(action(FIRE + number * day))
        set_ = action(FIRE + number * day, ActionKind.PAUSE, subject=f"s{number}")
        await desk.ledger.pause("schedule", f"s{number}", FIRE + (number + 1) * day, set_)  # type: ignore[arg-type]
    await desk.ledger.pause("all", None, None, action(kind=ActionKind.PAUSE))  # type: ignore[arg-type]

    await desk.ledger.forget(FIRE + 3 * day, 2)
    some = len(await desk.ledger.actions()), len(await desk.ledger.pauses())
    for _ in range(5):
        await desk.ledger.forget(FIRE + 3 * day, 2)

    assert some == (9, 4)
    assert len(await desk.ledger.actions()) == 4
    assert [pause.name for pause in await desk.ledger.pauses()] == ["s2", "s3", "s4", None]


async def test_an_action_is_written_once_however_often_it_is_repeated(desk: Desk) -> None:
    for _ in range(2):
        await desk.ledger.record_action(action())
    await desk.ledger.record_action(replace(action(), subject="another"))

    assert [one.subject for one in await desk.ledger.actions()] == ["another", "nightly"]


# Of a run by hand and the schedule's own fire of the same minute, one makes the instance.


@pytest.mark.parametrize("origin", [Origin.MANUAL, Origin.BACKFILL])
async def test_a_run_by_hand_that_has_failed_takes_no_fire_from_its_schedule(
    desk: Desk, origin: Origin
) -> None:
    run = await failed_by_hand(desk, origin=origin)

    automatic = await desk.claim()

    assert (run.state, automatic.state) == (RunState.FAILED, RunState.CLAIMED)
    with pytest.raises(LedgerRefusal, match=rf"run {automatic.id} \(nightly\) .* it is claimed"):
        await by_hand(desk, origin=origin)
    desk.answers(accepted())
    desk.runner.start(automatic)
    await desk.quiet()
    with pytest.raises(LedgerRefusal, match=rf"run {automatic.id} \(nightly\) .* it is triggered"):
        await by_hand(desk, origin=origin)


async def test_a_failed_run_by_hand_whose_instance_somebody_else_has_made_is_in_the_way(desk: Desk) -> None:
    desk.answers(an_answer(Outcome.NOT_CREATED, "repeatedly in 1 minute"))
    desk.gateway.sees(found())
    run = await by_hand(desk)
    desk.runner.start(run)
    await desk.passes(MINUTE)
    assert (await desk.run(run)).state is RunState.FAILED

    automatic = await desk.claim()

    assert (automatic.state, automatic.reason) == (
        RunState.SKIPPED,
        f"collision: nightly (run {run.id}) has flow 3377 at this minute already",
    )


async def test_a_run_by_hand_in_doubt_stands_for_the_fire_also_when_it_has_made_nothing(desk: Desk) -> None:
    desk.answers(an_answer(Outcome.UNKNOWN))
    run = await by_hand(desk, retry=replace(RETRY, max_attempts=1))
    desk.runner.start(run)
    await desk.quiet()

    automatic = await desk.claim()
    await desk.passes(timedelta(minutes=5))

    assert (await desk.run(run)).state is RunState.FAILED
    assert (automatic.state, (await desk.run(automatic)).state) == (RunState.SKIPPED, RunState.SKIPPED)
    again = await by_hand(desk)  # who is told of the failure can have it again
    assert (again.id, again.state) == (run.id, RunState.WAITING)


async def test_a_failed_run_by_hand_that_is_claimed_again_stands_before_its_schedule_again(
    desk: Desk,
) -> None:
    await failed_by_hand(desk)
    again = await by_hand(desk)

    automatic = await desk.claim()

    assert (again.state, automatic.state) == (RunState.WAITING, RunState.SKIPPED)


async def test_of_two_schedules_that_collide_the_second_is_not_sent_for_the_first_that_failed(
    desk: Desk,
) -> None:
    desk.answers(REFUSED)
    await desk.start()

    assert (await desk.claim(schedule_id="other")).state is RunState.SKIPPED


@pytest.mark.parametrize("failed", [True, False])
async def test_after_a_downtime_a_fire_is_caught_up_unless_a_run_by_hand_has_made_it(
    tmp_path: Path, *, failed: bool
) -> None:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = EngineDesk(ledger, HandClock(START))
        minutely = a_schedule("a", "* * * * *", flow=1, catch_up=CatchUp.ALL)
        await desk.apply(minutely)
        await desk.engine.stop()
        desk.clock.step(START + 3 * MINUTE)
        fire_time = START.replace(second=0) + 2 * MINUTE
        hands = Desk(ledger, desk.clock)
        hands.answers(REFUSED if failed else accepted())
        row = hands.new_run(fire_time, schedule_id="a", flow=1, origin=Origin.MANUAL)
        hands.runner.start(await ledger.claim_by_hand(row, action(desk.clock.now())))
        await hands.quiet()

        await desk.restart(minutely)
        await desk.settled()

        states = {run.fire_time: run.state for run in desk.runs}
        assert list(states) == [START.replace(second=0) + number * MINUTE for number in (1, 2, 3)]
        assert states[fire_time] is (RunState.CLAIMED if failed else RunState.SKIPPED)
        assert await audited(desk) == {"aligned": 3}
        await desk.engine.stop()


@pytest.mark.parametrize("seed", range(6))
async def test_however_claims_and_their_ends_are_mixed_one_run_at_most_makes_the_instance(
    desk: Desk, seed: int
) -> None:
    chance = Random(seed)  # noqa: S311 - to be the same each time
    origins = [Origin.SCHEDULE, Origin.CATCH_UP, Origin.MANUAL, Origin.BACKFILL]
    times = [FIRE + number * MINUTE for number in range(3)]
    for _ in range(40):
        desk.clock.advance(1)
        works: list[Awaitable[object]] = []
        for number in range(chance.randint(1, 8)):
            desk.clock.advance(timedelta(microseconds=1 + number))
            at, origin = chance.choice(times), chance.choice(origins)
            id_ = chance.choice(["nightly", "twin"])
            more = {"origin": origin, "schedule_id": id_, "daemon": f"host:{number}"}
            if origin in (Origin.MANUAL, Origin.BACKFILL):
                works.append(by_hand(desk, at, **more))
            else:
                works.append(desk.ledger.claim([desk.new_run(at, **more)], []))
            works += [_moved_on(desk, run, chance) for run in await desk.ledger.open_runs()]
        chance.shuffle(works)
        done = await asyncio.gather(*works, return_exceptions=True)
        assert all(isinstance(each, LedgerRefusal) for each in done if isinstance(each, BaseException)), done
        for at in times:
            runs = await desk.ledger.runs_at("nightly", "default", 3377, [at])
            may_have_made_it = [
                run for run in runs if run.state not in (RunState.SKIPPED, RunState.MISSED, RunState.FAILED)
            ]
            assert len(may_have_made_it) <= 1, may_have_made_it
    assert RunState.TRIGGERED in await desk.states()


async def _moved_on(desk: Desk, run: Run, chance: Random) -> object:
    """Take a run a step further, mostly to a failure, so that there is much to claim again."""
    now, fails = desk.clock.now(), chance.random() < 0.9
    match run.state:
        case RunState.CLAIMED | RunState.WAITING if fails and chance.random() < 0.5:
            return await desk.ledger.cancel(run.id, now, "no", action(now, ActionKind.CANCEL))
        case RunState.CLAIMED | RunState.WAITING:
            number = run.attempts + 1
            return await desk.ledger.begin_attempt(run.id, number, now, claimed_at=run.claimed_at)
        case _:
            step = NextStep(RunState.FAILED if fails else RunState.TRIGGERED, "as it came")
            answer = REFUSED if fails else accepted()
            return await desk.ledger.end_attempt(run.id, run.attempts, now, answer, step)


@pytest.mark.parametrize("hand_first", [True, False])
async def test_a_run_by_hand_and_the_fire_itself_in_one_commit_are_one_instance(
    desk: Desk, *, hand_first: bool
) -> None:
    automatic = desk.ledger.claim([desk.new_run()], [])
    works = [by_hand(desk), automatic] if hand_first else [automatic, by_hand(desk)]

    done = await asyncio.gather(*works, return_exceptions=True)

    states = {run.origin: run.state for run in await desk.ledger.runs()}
    if hand_first:
        assert states == {Origin.MANUAL: RunState.CLAIMED, Origin.SCHEDULE: RunState.SKIPPED}
    else:
        assert isinstance(done[1], LedgerRefusal)
        assert states == {Origin.SCHEDULE: RunState.CLAIMED}
