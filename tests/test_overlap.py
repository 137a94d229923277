"""What a run does about previous instances of its flow, on a hand-advanced clock and a real ledger."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.enos import Gateway
from flowsched.model import FlowState, Limits, NextStep, Origin, Outcome, Overlap, RunState
from flowsched.runner import overlap as asking
from flowsched.simulator import Behaviour, Simulator
from tests.builders import RETRY, a_target, absent, an_answer, found, unclear
from tests.desk import FIRE, INSTANCE, Desk, a_desk
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from flowsched.model import Run, Sighting

QUEUE, SKIP, CANCEL = Overlap.QUEUE, Overlap.SKIP, Overlap.CANCEL_PREVIOUS
HOUR = timedelta(hours=1)
BEFORE = FIRE - HOUR
PREVIOUS = "3377-20260101013000"
UNCLEAR = f"overlap: it is not known whether {PREVIOUS} is going (HTTP 503)"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


async def was_triggered(desk: Desk, fire_time: datetime = BEFORE, **more: Any) -> Run:
    """Have the ledger know of a run that was triggered about an hour ago."""
    run = await desk.claim(fire_time, **({"schedule_id": "previous"} | more))
    await desk.ledger.begin_attempt(run.id, 1, BEFORE)
    answer = an_answer(Outcome.ACCEPTED, instance=run.predicted_instance)
    return await desk.ledger.end_attempt(run.id, 1, BEFORE, answer, NextStep(RunState.TRIGGERED, None))


@pytest.mark.parametrize(
    ("overlap", "sighting", "fallback", "state", "text"),
    [
        (QUEUE, found(), QUEUE, RunState.TRIGGERED, None),
        (QUEUE, unclear(), SKIP, RunState.TRIGGERED, None),
        (SKIP, found(), QUEUE, RunState.SKIPPED, "overlap: the instance is going"),
        (SKIP, found(FlowState.GOING, 42), QUEUE, RunState.SKIPPED, "overlap: the instance is going"),
        (SKIP, found(FlowState.GOING, None), QUEUE, RunState.SKIPPED, "overlap: the instance is going"),
        (SKIP, found(FlowState.SUCCEEDED, 1), SKIP, RunState.TRIGGERED, None),
        (SKIP, found(FlowState.FAILED, -1), SKIP, RunState.TRIGGERED, None),
        (SKIP, absent(), SKIP, RunState.TRIGGERED, None),
        (SKIP, unclear(), QUEUE, RunState.TRIGGERED, f"{UNCLEAR}; sent, as overlap_fallback is queue"),
        (SKIP, unclear(), SKIP, RunState.SKIPPED, f"{UNCLEAR}, and overlap_fallback is skip"),
        (CANCEL, found(FlowState.SUCCEEDED, 1), SKIP, RunState.TRIGGERED, None),
        (CANCEL, absent(), SKIP, RunState.TRIGGERED, None),
        (CANCEL, unclear(), QUEUE, RunState.TRIGGERED, f"{UNCLEAR}; sent, as overlap_fallback is queue"),
        (CANCEL, unclear(), SKIP, RunState.SKIPPED, f"{UNCLEAR}, and overlap_fallback is skip"),
    ],
)  # fmt: skip
async def test_the_previous_instance_decides(
    desk: Desk, overlap: Overlap, sighting: Sighting, fallback: Overlap, state: RunState, text: str | None
) -> None:
    await was_triggered(desk)
    desk.gateway.sees(sighting, of=PREVIOUS)

    run = await desk.run(await desk.start(overlap=overlap, overlap_fallback=fallback))

    assert (run.state, run.note or run.reason) == (state, text)
    assert (run.note is None) or (state is RunState.TRIGGERED)
    assert [instance for instance, _ in desk.gateway.looks] == ([] if overlap is QUEUE else [PREVIOUS])
    assert len(desk.gateway.requests) == (state is RunState.TRIGGERED)
    assert not desk.gateway.cancelled


async def test_a_previous_instance_is_cancelled_and_its_end_awaited(desk: Desk) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found(), found(), found(), found(FlowState.FAILED, 8), of=PREVIOUS)

    run = await desk.start(overlap=CANCEL)
    before = len(desk.gateway.requests)
    await desk.passes(2 * asking.CANCEL_PAUSE)

    run = await desk.run(run)
    assert desk.gateway.cancelled == [(PREVIOUS, FIRE)]
    assert (before, desk.gateway.asked_at) == (0, [FIRE + timedelta(seconds=6)])
    assert (run.state, run.note) == (RunState.TRIGGERED, f"overlap: cancelled {PREVIOUS}")


async def test_an_end_that_does_not_come_is_not_awaited_for_long(desk: Desk) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found(), of=PREVIOUS)

    run = await desk.start(overlap=CANCEL)
    await desk.passes(asking.CANCEL_BOUND)

    run = await desk.run(run)
    assert run.state is RunState.TRIGGERED
    assert run.note == f"overlap: asked to cancel {PREVIOUS}, which has not been seen to end"


async def test_what_cannot_be_cancelled_is_not_awaited(desk: Desk) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found(), of=PREVIOUS)
    desk.gateway.cancellation = an_answer(Outcome.REFUSED_FOR_GOOD, "62103")

    run = await desk.run(await desk.start(overlap=CANCEL))

    assert run.state is RunState.TRIGGERED
    assert run.note == f"overlap: {PREVIOUS} could not be cancelled (62103)"


async def test_several_are_cancelled_first_and_awaited_together(desk: Desk) -> None:
    for minutes in range(5):
        await was_triggered(desk, BEFORE + timedelta(minutes=minutes))
    desk.gateway.sees(found())

    run = await desk.start(overlap=CANCEL)
    await desk.passes(asking.CANCEL_BOUND)

    assert [at for _, at in desk.gateway.cancelled] == [FIRE] * asking.LATEST
    assert (await desk.run(run)).state is RunState.TRIGGERED


async def test_where_one_is_unclear_and_another_goes_both_are_seen_to(desk: Desk) -> None:
    await was_triggered(desk)
    await was_triggered(desk, BEFORE + timedelta(minutes=1))
    going = "3377-20260101013100"
    desk.gateway.sees(unclear(), of=PREVIOUS)
    desk.gateway.sees(found(), found(), found(FlowState.FAILED, 8), of=going)

    skipped = await desk.run(await desk.start(overlap=CANCEL, overlap_fallback=SKIP))
    run = await desk.run(await desk.start(FIRE - timedelta(minutes=1), overlap=CANCEL))

    assert skipped.state is RunState.SKIPPED
    assert [instance for instance, _ in desk.gateway.cancelled] == [going]
    assert run.note == (f"{UNCLEAR}; sent, as overlap_fallback is queue; overlap: cancelled {going}")


async def test_the_instance_of_a_run_in_doubt_is_asked_about(desk: Desk) -> None:
    desk.answers(an_answer(Outcome.UNKNOWN, "lost"))
    desk.gateway.sees(unclear(), of=PREVIOUS)
    await desk.start(BEFORE, schedule_id="previous")
    desk.gateway.sees(found(), of=PREVIOUS)

    run = await desk.start(overlap=SKIP)
    await desk.passes(60)

    assert (await desk.run(run)).state is RunState.SKIPPED


async def test_an_instance_that_was_seen_to_end_is_not_asked_about(desk: Desk) -> None:
    previous = await was_triggered(desk, watch=HOUR)
    await desk.ledger.record_watch(previous.id, BEFORE, FlowState.SUCCEEDED, None)
    desk.gateway.sees(found())

    run = await desk.run(await desk.start(overlap=SKIP))

    assert (run.state, desk.gateway.looks) == (RunState.TRIGGERED, [])


@pytest.mark.parametrize("other", [{"flow": 2430}, {"target": "other"}])
async def test_the_instances_of_other_flows_and_targets_do_not_count(
    desk: Desk, other: dict[str, Any]
) -> None:
    await was_triggered(desk, **other)
    desk.gateway.sees(found())

    run = await desk.run(await desk.start(overlap=SKIP))

    assert (run.state, desk.gateway.looks) == (RunState.TRIGGERED, [])


async def test_a_run_that_is_sent_again_does_not_ask_again(desk: Desk) -> None:
    await was_triggered(desk)
    desk.answers(an_answer(Outcome.NOT_SENT), an_answer(Outcome.ACCEPTED, instance=INSTANCE))

    run = await desk.start(overlap=SKIP)
    await desk.passes(10)

    assert (await desk.run(run)).state is RunState.TRIGGERED
    assert len(desk.gateway.looks) == 1


FALLBACKS = pytest.mark.parametrize(
    ("fallback", "state", "then"),
    [
        (QUEUE, RunState.TRIGGERED, "; sent, as overlap_fallback is queue"),
        (SKIP, RunState.SKIPPED, ", and overlap_fallback is skip"),
    ],
)


class Rationed(asyncio.Semaphore):
    """Turns that are not given back, as where a rate is spent, until there are more."""

    def release(self) -> None:
        pass

    def more(self, count: int) -> None:
        for _ in range(count):
            super().release()


@FALLBACKS
@pytest.mark.parametrize("overlap", [SKIP, CANCEL])
async def test_a_gateway_that_does_not_answer_is_not_waited_for_without_end(
    desk: Desk, overlap: Overlap, fallback: Overlap, state: RunState, then: str
) -> None:
    await was_triggered(desk)
    desk.gateway.look_hold = asyncio.Event()

    run = await desk.start(overlap=overlap, overlap_fallback=fallback)
    await desk.passes(asking.BOUND - 1)
    meanwhile = await desk.run(run)
    await desk.passes(1)

    run = await desk.run(run)
    assert (meanwhile.state, run.state) == (RunState.CLAIMED, state)
    assert (run.note or run.reason) == (
        f"overlap: it is not known whether {PREVIOUS} is going (no answer was to be had within 180 s){then}"
    )
    assert desk.gateway.looks_under_way == 0


async def test_the_wait_for_a_turn_is_not_taken_for_silence(desk: Desk) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found())
    desk.gateway.places = turns = Rationed(0)

    run = await desk.start(overlap=SKIP)
    await desk.passes(asking.BOUND - 1)
    turns.more(1)
    await desk.quiet()

    run = await desk.run(run)
    assert (run.state, run.reason) == (RunState.SKIPPED, "overlap: the instance is going")


@FALLBACKS
async def test_where_no_turn_is_left_to_cancel_anything_the_fallback_decides(
    desk: Desk, fallback: Overlap, state: RunState, then: str
) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found())
    desk.gateway.places = turns = Rationed(1)

    run = await desk.start(overlap=CANCEL, overlap_fallback=fallback)
    await desk.passes(asking.BOUND)
    turns.more(1)
    await desk.quiet()

    run = await desk.run(run)
    assert run.state is state
    assert (run.note or run.reason) == (
        f"overlap: it is not known whether {PREVIOUS} is going"
        f" (it was, and could not be cancelled within 180 s){then}"
    )
    assert not desk.gateway.cancelled


@pytest.mark.parametrize("fallback", [QUEUE, SKIP])
async def test_a_run_for_which_an_instance_was_cancelled_is_sent_though_the_time_is_over(
    desk: Desk, fallback: Overlap
) -> None:
    for minutes in (0, 1):
        await was_triggered(desk, BEFORE + timedelta(minutes=minutes))
    desk.gateway.sees(found())
    desk.gateway.places = turns = Rationed(3)

    run = await desk.start(overlap=CANCEL, overlap_fallback=fallback)
    await desk.passes(asking.BOUND)
    turns.more(1)
    await desk.quiet()

    later = "3377-20260101013100"
    run = await desk.run(run)
    assert (run.state, [instance for instance, _ in desk.gateway.cancelled]) == (RunState.TRIGGERED, [later])
    assert run.note == (
        f"overlap: asked to cancel {later}, which has not been seen to end; "
        f"overlap: no time was left to cancel {PREVIOUS}"
    )


async def test_a_fault_of_ours_while_it_asks_is_no_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def faulty(*_: object) -> Sighting:
        raise RuntimeError("a fault of ours")

    await was_triggered(desk)
    monkeypatch.setattr(desk.gateway, "look_up", faulty)

    run = await desk.run(await desk.start(overlap=CANCEL))

    assert (run.state, desk.gateway.requests) == (RunState.FAILED, [])
    assert run.reason == "a fault of flowsched (RuntimeError: a fault of ours); it is not sent"


@pytest.mark.parametrize(
    ("overlap", "reason"),
    [
        (CANCEL, f"overlap: a later fire's instance {PREVIOUS} is going"),
        (SKIP, "overlap: the instance is going"),
    ],
)
async def test_a_run_that_is_caught_up_does_not_cancel_what_a_later_fire_made(
    desk: Desk, overlap: Overlap, reason: str
) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found(), of=PREVIOUS)

    run = await desk.start(BEFORE - HOUR, origin=Origin.CATCH_UP, overlap=overlap)

    run = await desk.run(run)
    assert (run.state, run.reason) == (RunState.SKIPPED, reason)
    assert not desk.gateway.cancelled
    assert not desk.gateway.requests


async def test_a_run_whose_deadline_has_passed_neither_asks_nor_cancels(desk: Desk) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found())
    run = await desk.claim(overlap=CANCEL)
    desk.clock.advance(RETRY.deadline + timedelta(seconds=1))

    desk.runner.start(run)
    await desk.quiet()

    assert (await desk.run(run)).state is RunState.FAILED
    assert (desk.gateway.looks, desk.gateway.cancelled) == ([], [])


async def test_a_drain_while_it_asks_leaves_the_run_to_the_next_process(desk: Desk) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found())
    desk.gateway.look_hold = asyncio.Event()
    run = await desk.start(overlap=SKIP)

    await asyncio.wait_for(desk.runner.drain(60), 5)
    left = await desk.run(run)
    desk.gateway.look_hold = None
    await desk.restart()

    assert left.state is RunState.CLAIMED
    assert (await desk.run(run)).state is RunState.SKIPPED


async def test_it_asks_in_turns_of_their_own(desk: Desk) -> None:
    desk.gateway.places = asyncio.Semaphore(1)
    await was_triggered(desk)
    desk.gateway.sees(found(), found(FlowState.FAILED, 8), of=PREVIOUS)

    run = await desk.run(await desk.start(overlap=CANCEL))

    assert run.state is RunState.TRIGGERED


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("overlap", "states"),
    [
        (QUEUE, [RunState.TRIGGERED, RunState.TRIGGERED]),
        (SKIP, [RunState.TRIGGERED, RunState.SKIPPED]),
        (CANCEL, [RunState.TRIGGERED, RunState.TRIGGERED]),
    ],
)
async def test_one_place_at_a_real_gateway_is_enough(
    tmp_path: Path, overlap: Overlap, states: list[RunState]
) -> None:
    async with a_desk(tmp_path) as desk:
        simulator = Simulator(desk.clock, behaviour=Behaviour(instance_duration=HOUR))
        user, keys = simulator.user, simulator.application
        target = a_target(
            url=await simulator.start(),
            user_id=user.id,
            org_id=user.org,
            limits=Limits(concurrency=1, rate_per_minute=None),
        )
        gateway = Gateway(target, keys.access_key, keys.secret_key, desk.clock)
        desk.gateways = {"default": gateway}
        await desk.restart()

        await desk.start(FIRE - timedelta(minutes=1), schedule_id="a", overlap=overlap)
        await eventually(lambda: len(simulator.instances) == 1)
        await desk.quiet()
        desk.clock.advance(60)
        run = await desk.start(schedule_id="b", overlap=overlap)
        async with asyncio.timeout(10):
            while not (await desk.run(run)).state.final:
                await asyncio.sleep(0.01)

        assert await desk.states() == states
        assert [each.cancelled for each in simulator.instances] == {
            QUEUE: [False, False], SKIP: [False], CANCEL: [True, False],
        }[overlap]  # fmt: skip
        await desk.runner.drain(0)
        await gateway.aclose()
        await simulator.stop()


async def test_what_it_has_cancelled_it_replaces_though_its_deadline_passes_meanwhile(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await was_triggered(desk)
    desk.gateway.sees(found(), of=PREVIOUS)

    run = await desk.start(overlap=CANCEL, deadline=FIRE + timedelta(seconds=10))
    await desk.passes(120)

    run = await desk.run(run)
    assert desk.gateway.cancelled == [(PREVIOUS, FIRE)]
    assert run.state is RunState.TRIGGERED
    assert run.note == f"overlap: asked to cancel {PREVIOUS}, which has not been seen to end"
    assert "instance is cancelled for a later fire of its flow" in caplog.text
