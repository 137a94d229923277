"""Every reason that a run can end with has its cause; the texts come from those who write them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched import retry
from flowsched.admission import OTHER_BLACKOUT, Due, admit, cut_off, overlapping, pause_reason
from flowsched.causes import CAUSES, Cause, cause_of
from flowsched.enos import trigger_request
from flowsched.enos.meaning import TokenRefused, meaning_of
from flowsched.enos.replies import NoReply, Reply
from flowsched.enos.token_meaning import Denial, meaning_of_token
from flowsched.model import (
    FINAL_STATES,
    Answer,
    CatchUp,
    NextStep,
    Outcome,
    Overlap,
    Pause,
    Run,
    RunState,
    Scope,
)
from flowsched.runner import Runner
from flowsched.timeline import stay
from tests.builders import (
    RETRY,
    T0,
    a_run,
    a_schedule,
    a_target,
    absent,
    an_answer,
    closed,
    deferred,
    found,
    unclear,
)
from tests.desk import a_desk

if TYPE_CHECKING:
    from pathlib import Path

    from flowsched.model import Blackout

LATE = T0 + timedelta(hours=3)
PLAYFUL = "deadline passed: HTTP 404: no token: resolved by hand (x): collision: overlap: paused: blackout: "
"""What a person or a server may write."""


def reasons_of_admission(catch_up: CatchUp) -> str:
    schedule = a_schedule(catch_up=catch_up)
    window = timedelta(hours=1) if catch_up is CatchUp.ALL else timedelta(days=1)
    fires = [Due(T0, T0), Due(T0 + timedelta(minutes=1), T0 + timedelta(minutes=1))]
    decision = admit(replace(schedule, catch_up_window=window), fires, LATE)[0]
    assert decision.state is RunState.MISSED
    return str(decision.reason)


def after(answer: Answer, *, attempts: int = 1, deadline: timedelta = timedelta(days=1)) -> NextStep:
    run = a_run(attempts=attempts, deadline=T0 + deadline)
    return retry.next_step(answer, run, now=T0, draw=0.5)


def judged(outcome: Outcome, *outcomes: Outcome, seen: bool = False, **more: Any) -> NextStep:
    run = a_run(**{"state": RunState.IN_DOUBT, "reason": PLAYFUL, "attempts": 1 + len(outcomes), **more})
    doubt = retry.Doubt((outcome, *outcomes), looks=3, absences=3)
    sighting = found() if seen else absent()
    step = retry.judged(run, doubt, sighting, age=timedelta(hours=1), now=T0)
    assert step is not None
    return step


def of_a_reply(status: int, code: int | None = None) -> str:
    body = {"msg": PLAYFUL} if code is None else {"code": code, "msg": PLAYFUL}
    meaning = meaning_of(Reply(status, json.dumps(body).encode()), "v2.1", T0)
    return (meaning.answer if isinstance(meaning, TokenRefused) else meaning).detail


def of_a_token(status: int, number: int | None) -> str:
    body = {"status": number, "msg": PLAYFUL}
    meaning = meaning_of_token(Reply(status, json.dumps(body).encode()), T0)
    assert isinstance(meaning, Denial)
    return meaning.answer.detail


def skipped_for(overlap: Overlap, run: Run) -> str:
    sight = unclear(PLAYFUL) if overlap is Overlap.QUEUE else replace(found(), detail=PLAYFUL)
    run = replace(run, overlap=overlap, overlap_fallback=Overlap.SKIP)
    decision = overlapping(run, {"3377-1": LATE}, {"3377-1": sight})
    assert decision.skip
    return str(decision.text)


def pause() -> Pause:
    return Pause(
        id=1, scope=Scope.ALL, name=None, reason=PLAYFUL, by="bob", from_at=T0,
        until_at=None, ended_at=None, ended_by=None,
    )  # fmt: skip


def shut_out(blackout: Blackout) -> str:
    out = stay(a_schedule(cron="0 * * * *", blackout=blackout), T0)
    assert out is not None
    assert out.until is None
    return out.reason


def refused_by_v2_0() -> str:
    with pytest.raises(ValueError, match="cannot trigger") as caught:
        trigger_request(a_target(api_version="v2.0"), 1, 2, 3)
    return str(caught.value)


CLOSED = (T0, T0 + timedelta(hours=3))
NO_TOKEN = meaning_of_token(NoReply("refused"), T0)
assert isinstance(NO_TOKEN, Denial)
NOT_NOW = an_answer(Outcome.REFUSED_FOR_NOW, PLAYFUL)
TEXTS = {
    (RunState.MISSED, Cause.CATCH_UP_NONE): [reasons_of_admission(CatchUp.NONE)],
    (RunState.MISSED, Cause.CATCH_UP_WINDOW): [reasons_of_admission(CatchUp.ALL)],
    (RunState.MISSED, Cause.CATCH_UP_LATEST): [reasons_of_admission(CatchUp.LATEST)],
    (RunState.MISSED, Cause.EDIT): [
        OTHER_BLACKOUT,
        cut_off("nightly", {}),
        cut_off("nightly", {"nightly": a_schedule(enabled=False)}),
        cut_off("nightly", {"nightly": a_schedule()}, deferred=True),
        cut_off("nightly", {"x": a_schedule("x", renamed_from="nightly", enabled=False)}),
    ],
    (RunState.SKIPPED, Cause.OVERLAP): [skipped_for(each, a_run()) for each in Overlap],
    (RunState.SKIPPED, Cause.BLACKOUT): [shut_out(closed(CLOSED)), shut_out(deferred(CLOSED))],
    (RunState.SKIPPED, Cause.PAUSED): [pause_reason(pause())],
    (RunState.FAILED, Cause.COLLISION): [str(judged(Outcome.NOT_CREATED, seen=True).reason)],
    (RunState.FAILED, Cause.REFUSED): [
        *(of_a_reply(200, code) for code in (62101, 62103, 62104, 62105)),
        *(of_a_reply(status) for status in (400, 403, 404, 405, 498, 501, 302, 418)),
        str(judged(Outcome.NOT_CREATED).reason),
        str(judged(Outcome.NOT_CREATED, Outcome.NOT_CREATED).reason),
    ],
    (RunState.FAILED, Cause.TOKEN): [
        of_a_reply(401),
        of_a_reply(497),
        of_a_token(200, 1002),
        of_a_token(403, None),
        str(after(NO_TOKEN.answer, attempts=5).reason),
        str(after(NO_TOKEN.answer, deadline=timedelta(0)).reason),
        str(retry.expired(a_run(attempts=1, reason=NO_TOKEN.answer.detail), "run 12 of its flow").reason),
    ],
    (RunState.FAILED, Cause.ATTEMPTS): [
        str(after(NOT_NOW, attempts=5).reason),
        str(judged(Outcome.UNKNOWN, retry=replace(RETRY, max_attempts=1)).reason),
    ],
    (RunState.FAILED, Cause.DEADLINE): [
        str(after(NOT_NOW, deadline=timedelta(0)).reason),
        str(judged(Outcome.UNKNOWN, deadline=T0 - timedelta(hours=1)).reason),
        str(retry.expired(a_run(attempts=0)).reason),
        str(retry.expired(a_run(attempts=2, reason=PLAYFUL)).reason),
        str(retry.expired(a_run(attempts=1)).reason),
        str(retry.expired(a_run(attempts=0), "target default, 1 call a minute").reason),
        str(retry.expired(a_run(attempts=1, reason=PLAYFUL), "run 12 of its flow").reason),
    ],
    (RunState.FAILED, Cause.CATCH_UP_NONE): [f"never sent: {reasons_of_admission(CatchUp.NONE)}"],
    (RunState.FAILED, Cause.CATCH_UP_WINDOW): [f"never sent: {reasons_of_admission(CatchUp.ALL)}"],
    (RunState.FAILED, Cause.CATCH_UP_LATEST): [f"never sent: {reasons_of_admission(CatchUp.LATEST)}"],
    (RunState.FAILED, Cause.UNSENDABLE): [refused_by_v2_0()],
    (RunState.FAILED, Cause.BY_HAND): [
        f"resolved by hand (bob): {PLAYFUL}",
        f"cancelled by hand (bob): {PLAYFUL}",
    ],
    (RunState.TRIGGERED, Cause.BY_HAND): [f"resolved by hand (bob): {PLAYFUL}"],
    (RunState.TRIGGERED, Cause.FOUND): [str(judged(Outcome.UNKNOWN, seen=True).reason)],
}
CASES = [(state, cause, text) for (state, cause), texts in TEXTS.items() for text in texts]


@pytest.mark.parametrize(("state", "cause", "text"), CASES)
def test_a_reason_that_flowsched_writes_has_its_cause(state: RunState, cause: Cause, text: str) -> None:
    assert cause_of(state, text) is cause
    assert cause in CAUSES[state]


async def test_a_run_is_triggered_as_accepted_or_found(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        run = await desk.run(await desk.start())

    assert (run.state, cause_of(run.state, run.reason)) == (RunState.TRIGGERED, Cause.ACCEPTED)


async def test_a_run_without_its_target_is_unsendable(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.runner = Runner(desk.ledger, {}, desk.clock)
        run = await desk.run(await desk.start())

    assert (run.state, cause_of(run.state, run.reason)) == (RunState.FAILED, Cause.UNSENDABLE)


async def test_a_fault_is_a_fault(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.gateway.target = None  # type: ignore[assignment]
        run = await desk.run(await desk.start())

    assert (run.state, cause_of(run.state, run.reason)) == (RunState.FAILED, Cause.FAULT)


async def test_two_of_a_flow_and_minute_are_a_collision(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        await desk.claim()
        run = await desk.claim(schedule_id="other")

    assert (run.state, cause_of(run.state, run.reason)) == (RunState.SKIPPED, Cause.COLLISION)


@pytest.mark.parametrize("state", RunState)
@pytest.mark.parametrize("text", [None, "", "something new", f"x {PLAYFUL}", "gave up"])
def test_what_nobody_writes_is_other(state: RunState, text: str | None) -> None:
    accepted = state is RunState.TRIGGERED and text is None

    assert cause_of(state, text) is (Cause.ACCEPTED if accepted else Cause.OTHER)


def test_the_causes_are_of_the_final_states_and_each_is_written_somewhere() -> None:
    elsewhere = {
        (RunState.TRIGGERED, Cause.ACCEPTED),
        (RunState.FAILED, Cause.UNSENDABLE),
        (RunState.FAILED, Cause.FAULT),
        (RunState.SKIPPED, Cause.COLLISION),
    }

    assert set(CAUSES) == FINAL_STATES
    listed = {(state, cause) for state, causes in CAUSES.items() for cause in causes}
    assert {pair for pair in listed if pair[1] is not Cause.OTHER} == set(TEXTS) | elsewhere
