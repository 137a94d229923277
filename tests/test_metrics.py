"""The page of metrics: what is on it, when it counts, and what it takes."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flowsched.admission import ON_TIME
from flowsched.causes import CAUSES
from flowsched.events import AlertDone, FlowMoved, OverdueSeen, Reloaded, RunMoved
from flowsched.ledger import Ledger
from flowsched.model import (
    Catalog,
    FlowState,
    MessageState,
    NextStep,
    Origin,
    Outcome,
    Phase,
    Reload,
    ReloadOutcome,
    RunState,
    Scope,
    Term,
)
from flowsched.ops import successes
from tests.builders import RETRY, T0, a_new_run, a_run, a_schedule, an_answer, closed
from tests.fakes import a_moment, look_ups_that_hang, time_passes
from tests.monitored import STATUS, Monitored, a_pause, a_watch, everything, first_byte, promtool
from tests.test_daemon import Plant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

NIGHT = timedelta(hours=2, minutes=30)
DAY = timedelta(days=1)
PATIENCE = RETRY.deadline + RETRY.attempt_timeout


def a_term(**more: object) -> Term:
    term = Term(
        schedule_id="nightly",
        timing=a_schedule().timing,
        target="default",
        flow=3377,
        task=None,
        from_at=T0 - 9 * DAY,
        cursor_at=T0,
        until_at=None,
        deferred_until=None,
        blackout="",
    )
    return replace(term, **more)  # type: ignore[arg-type]


def a_reload(outcome: ReloadOutcome) -> Reload:
    return Reload(outcome=outcome, at=T0, why="SIGHUP", revision=None, commit=None, problems=("p",))


def test_what_can_be_counted_is_there_from_the_start_as_nought() -> None:
    page = Monitored().page()

    fires = [value for (name, _), value in page.items() if name == "flowsched_fires_total"]
    assert fires == [0] * sum(len(causes) for causes in CAUSES.values())
    attempts = [value for (name, _), value in page.items() if name == "flowsched_attempts_total"]
    assert attempts == [0] * 2 * len(Outcome)
    for name, labels in (
        ("flowsched_flows_total", {"state": "late"}),
        ("flowsched_reloads_total", {"outcome": "refused"}),
        ("flowsched_alerts_total", {"channel": "night", "outcome": "failed"}),
        ("flowsched_lateness_seconds_count", {"origin": "schedule"}),
    ):
        assert page[name, tuple(labels.items())] == 0


def test_a_run_counts_once_it_is_final_by_state_and_cause() -> None:
    seen = Monitored()
    seen.ends(RunState.SENDING)
    seen.ends(RunState.FAILED, "the deadline passed before it could be sent; it was never sent")
    seen.ends(RunState.TRIGGERED)
    seen.ends(RunState.TRIGGERED)

    assert seen.value("flowsched_fires_total", state="failed", cause="deadline") == 1
    assert seen.value("flowsched_fires_total", state="triggered", cause="accepted") == 2
    page = seen.page()
    assert sum(value for (name, _), value in page.items() if name == "flowsched_fires_total") == 3


def test_an_attempt_counts_by_target_and_outcome() -> None:
    seen = Monitored()
    for target in ("on-site", "gone"):
        run = a_run(state=RunState.WAITING, target=target)
        seen.metrics.hear(RunMoved(run, an_answer(Outcome.NOT_SENT)))

    assert seen.value("flowsched_attempts_total", target="on-site", outcome="not_sent") == 1
    assert seen.value("flowsched_attempts_total", target="other", outcome="not_sent") == 1
    assert seen.value("flowsched_attempts_total", target="gone", outcome="not_sent") is None


def test_lateness_is_that_of_the_first_attempt_of_what_was_planned() -> None:
    seen = Monitored()
    for event in (
        first_byte(timedelta(seconds=0.25)),
        first_byte(timedelta(seconds=3)),
        first_byte(timedelta(seconds=-1)),
        first_byte(timedelta(seconds=9), attempts=2),
        first_byte(timedelta(days=9), Origin.BACKFILL),
        first_byte(timedelta(hours=2), Origin.CATCH_UP),
    ):
        seen.metrics.hear(event)

    name = "flowsched_lateness_seconds"
    assert seen.value(f"{name}_count", origin="schedule") == 3
    assert seen.value(f"{name}_sum", origin="schedule") == 3.25
    assert seen.value(f"{name}_bucket", origin="schedule", le="0.1") == 1
    assert seen.value(f"{name}_bucket", origin="schedule", le="0.25") == 2
    assert seen.value(f"{name}_bucket", origin="schedule", le="5.0") == 3
    assert seen.value(f"{name}_bucket", origin="catch_up", le="3600.0") == 0
    assert seen.value(f"{name}_bucket", origin="catch_up", le="+Inf") == 1


def test_flows_reloads_and_alerts_count() -> None:
    seen = Monitored()
    for event in (
        FlowMoved(a_watch(FlowState.FAILED)),
        Reloaded(a_reload(ReloadOutcome.REFUSED)),
        AlertDone("night", MessageState.FAILED),
        AlertDone("gone", MessageState.DROPPED),
        OverdueSeen(T0, {}),
    ):
        seen.metrics.hear(event)

    assert seen.value("flowsched_flows_total", state="failed") == 1
    assert seen.value("flowsched_reloads_total", outcome="refused") == 1
    assert seen.value("flowsched_alerts_total", channel="night", outcome="failed") == 1
    assert seen.value("flowsched_alerts_total", channel="other", outcome="dropped") == 1


def test_how_things_stand_is_asked_at_each_scrape() -> None:
    seen = Monitored(a_schedule())
    assert seen.value("flowsched_phase", phase="running") == 1
    assert seen.value("flowsched_phase", phase="stopping") == 0
    assert seen.value("flowsched_runs", state="in_doubt") == 1
    assert seen.value("flowsched_overdue_schedules") == 0
    assert seen.value("flowsched_oldest_in_doubt_timestamp_seconds") is None
    assert seen.value("flowsched_next_fire_timestamp_seconds") == (T0 + timedelta(hours=2)).timestamp()
    assert seen.value("flowsched_catalog_info", revision="3f2a1c3f2a1c", commit="abcdefabcdef") == 1

    seen.stands(
        phase=Phase.STOPPING, counts={}, overdue={"nightly": T0}, upcoming=(), held="x", in_doubt_since=T0
    )
    assert seen.value("flowsched_phase", phase="running") == 0
    assert seen.value("flowsched_phase", phase="stopping") == 1
    assert seen.value("flowsched_runs", state="in_doubt") == 0
    assert seen.value("flowsched_overdue_schedules") == 1
    assert seen.value("flowsched_oldest_in_doubt_timestamp_seconds") == T0.timestamp()
    assert seen.value("flowsched_next_fire_timestamp_seconds") is None
    assert seen.value("flowsched_catalog_held") == 1


def test_the_latest_reload_is_the_one_that_is_1() -> None:
    seen = Monitored()
    assert seen.value("flowsched_last_reload", outcome="applied") == 0
    seen.stands(reload=a_reload(ReloadOutcome.HELD))

    assert seen.value("flowsched_last_reload", outcome="held") == 1
    assert seen.value("flowsched_last_reload", outcome="applied") == 0
    assert seen.value("flowsched_last_reload_timestamp_seconds") == T0.timestamp()


def test_a_target_tells_what_is_known_of_it() -> None:
    seen = Monitored()

    assert seen.value("flowsched_token_age_seconds", target="default") == 420
    assert seen.value("flowsched_token_age_seconds", target="on-site") is None
    assert seen.value("flowsched_clock_offset_seconds", target="default") == -2
    assert seen.value("flowsched_clock_off", target="on-site") == 1


def test_health_is_told_in_seconds() -> None:
    seen = Monitored()
    assert seen.value("flowsched_loop_lag_seconds") == 0.25
    assert seen.value("flowsched_ledger_latency_seconds") == 0.5
    assert seen.value("flowsched_alive") == 1
    stuck = replace(STATUS.health, alive=False, ledger_latency=None, ledger_error="locked")
    seen.stands(health=stuck)

    assert seen.value("flowsched_ledger_latency_seconds") is None
    assert seen.value("flowsched_ledger_trouble") == 1
    assert seen.value("flowsched_alive") == 0


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({"scope": Scope.ALL, "name": None}, 2),
        ({"scope": Scope.TARGET, "name": "on-site"}, 1),
        ({"scope": Scope.SCHEDULE, "name": "a"}, 1),
        ({"scope": Scope.SCHEDULE, "name": "disabled"}, 0),
        ({"scope": Scope.ALL, "name": None, "from_at": T0 + DAY}, 0),
        ({"scope": Scope.ALL, "name": None, "until_at": T0}, 0),
    ],
)
def test_a_pause_is_drift_by_the_schedules_that_it_covers_now(more: dict[str, object], count: int) -> None:
    schedules = a_schedule("a"), a_schedule("b", target="on-site"), a_schedule("disabled", enabled=False)
    seen = Monitored(*schedules)
    seen.stands(pauses=(a_pause(**more),))

    assert seen.value("flowsched_paused_schedules") == count
    lasts = more.get("from_at") is None and more.get("until_at") is None
    assert seen.value("flowsched_pauses", scope=str(more["scope"])) == lasts
    oldest = seen.value("flowsched_oldest_pause_timestamp_seconds")
    assert oldest == ((T0 - 2 * DAY).timestamp() if lasts else None)


def test_the_success_of_each_schedule_of_the_catalog_is_told_and_of_no_other() -> None:
    seen = Monitored(a_schedule(), a_schedule("new"))
    seen.stands(last_success={"nightly": T0})
    name = "flowsched_schedule_last_success_timestamp_seconds"
    assert seen.value(name, schedule="nightly") == T0.timestamp()
    assert seen.value(name, schedule="new") is None
    assert seen.value("flowsched_schedule_succeeded", schedule="nightly") == 1
    assert seen.value("flowsched_schedule_succeeded", schedule="new") == 0

    seen.stands(last_success={"nightly": T0 + DAY})
    assert seen.value(name, schedule="nightly") == (T0 + DAY).timestamp()
    seen.force(a_schedule("new"))
    seen.stands(last_success={})
    assert seen.value(name, schedule="nightly") is None
    assert seen.value("flowsched_schedule_succeeded", schedule="nightly") is None


async def test_the_next_fire_after_the_last_success_is_expected_with_all_its_time() -> None:
    seen = Monitored(a_schedule(jitter=timedelta(minutes=5)))
    seen.knows(a_term())
    seen.stands(last_success={"nightly": T0 - 3 * DAY + NIGHT})

    due = T0 - 2 * DAY + NIGHT + timedelta(minutes=5) + PATIENCE
    assert await seen.expected() == due.timestamp()
    seen.stands(last_success={"nightly": T0 + NIGHT})
    assert await seen.expected() == (due + 3 * DAY).timestamp()


async def test_what_is_expected_waits_for_no_look_up_of_a_name() -> None:
    seen = Monitored(a_schedule())
    seen.knows(a_term())

    async with look_ups_that_hang():
        assert await seen.expected() is not None


async def test_a_fire_that_failed_or_was_missed_is_still_expected() -> None:
    seen = Monitored(a_schedule())
    seen.knows(a_term())
    seen.stands(last_success={"nightly": T0 - DAY + NIGHT})
    seen.ends(RunState.FAILED, "no", fire_time=T0 + NIGHT)
    seen.ends(RunState.MISSED, "late", fire_time=T0 + NIGHT)

    assert await seen.expected() == (T0 + NIGHT + PATIENCE).timestamp()


async def test_a_fire_that_was_skipped_on_purpose_is_done_with() -> None:
    seen = Monitored(a_schedule())
    seen.knows(a_term())
    seen.ends(RunState.SKIPPED, "paused: x (bob)", fire_time=T0 + NIGHT)

    assert await seen.expected() == (T0 + DAY + NIGHT + PATIENCE).timestamp()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        yield ledger


async def test_a_fire_that_was_skipped_before_the_start_is_done_with(ledger: Ledger) -> None:
    quiet, busy = a_schedule("quiet"), a_schedule("busy")
    await ledger.apply(Catalog({each.id: each for each in (quiet, busy)}, "r1"), T0 - 9 * DAY)
    skipped = [
        a_new_run(schedule_id=id_, fire_time=at + NIGHT, flow=flow, state=RunState.SKIPPED, reason="busy")
        for id_, at, flow in (("quiet", T0 - 2 * DAY, 1), ("quiet", T0 - DAY, 1), ("busy", T0 - 5 * DAY, 2))
    ]
    await ledger.claim(skipped, [])
    (run,) = await ledger.claim([a_new_run(schedule_id="busy", fire_time=T0 - 3 * DAY + NIGHT, flow=3)], [])
    await ledger.begin_attempt(run.id, 1, T0)
    done = NextStep(state=RunState.TRIGGERED, reason=None)
    await ledger.end_attempt(run.id, 1, T0, an_answer(Outcome.ACCEPTED), done)
    seen = Monitored(quiet, busy)
    seen.stands(last_success=await ledger.last_successes(["quiet", "busy"]))

    await seen.metrics.load(ledger)

    assert await seen.expected("quiet") == (T0 + NIGHT + PATIENCE).timestamp()
    assert await seen.expected("busy") == (T0 - 2 * DAY + NIGHT + PATIENCE).timestamp()


async def test_nothing_is_expected_of_what_the_ledger_does_not_keep_any_more(ledger: Ledger) -> None:
    quarterly = a_schedule("quarterly", cron="0 0 1 1,4,7,10 *")
    await ledger.apply(Catalog({"quarterly": quarterly}, "r1"), T0 - 400 * DAY)
    await ledger.forget(T0 - 30 * DAY, 1000)
    seen = Monitored(quarterly)

    await seen.metrics.load(ledger)

    assert await seen.expected("quarterly") == (T0 + PATIENCE).timestamp()


async def test_a_new_schedule_is_to_succeed_from_its_first_fire_on() -> None:
    seen = Monitored(a_schedule())

    assert await seen.expected() == (T0 + NIGHT + PATIENCE).timestamp()


async def test_an_edit_expects_nothing_of_what_has_passed() -> None:
    seen = Monitored(a_schedule())
    seen.knows(a_term())
    seen.stands(last_success={"nightly": T0 - 3 * DAY + NIGHT})
    assert await seen.expected() == (T0 - 2 * DAY + NIGHT + PATIENCE).timestamp()
    seen.force(a_schedule(cron="0 * * * *"))

    hour = timedelta(hours=1)
    assert await seen.expected() == (T0 + hour + PATIENCE).timestamp()
    seen.stands(at=T0 + 5 * hour)
    assert await seen.expected() == (T0 + hour + PATIENCE).timestamp()


async def test_an_edit_while_nobody_looked_expects_nothing_either() -> None:
    seen = Monitored(a_schedule())
    seen.knows(a_term(timing=a_schedule(cron="0 * * * *").timing))
    seen.stands(last_success={"nightly": T0 - 9 * DAY})

    assert await seen.expected() == (T0 + NIGHT + PATIENCE).timestamp()


async def test_under_a_pause_nothing_is_expected_and_after_it_only_what_comes() -> None:
    seen = Monitored(a_schedule())
    seen.knows(a_term())
    pause = a_pause(name="nightly", from_at=T0 - 3 * DAY)
    seen.stands(pauses=(pause,), last_success={"nightly": T0 - 4 * DAY + NIGHT})
    assert await seen.expected() is None
    seen.stands(pauses=(), at=T0 + ON_TIME)

    assert await seen.expected() == (T0 + NIGHT + PATIENCE).timestamp()


async def test_a_pause_counts_though_nothing_else_has_happened() -> None:
    seen = Monitored(a_schedule())
    assert await seen.expected() is not None
    seen.stands(pauses=(a_pause(name="nightly", from_at=T0 - DAY),))

    assert await seen.expected() is None


async def test_a_pause_of_before_the_start_is_remembered() -> None:
    seen = Monitored(a_schedule())
    pause = a_pause(name="nightly", from_at=T0 - 3 * DAY, ended_at=T0 - timedelta(hours=5), ended_by="bob")
    seen.knows(a_term(), pause)
    seen.stands(last_success={"nightly": T0 - 4 * DAY + NIGHT})

    assert await seen.expected() == (T0 + NIGHT + PATIENCE).timestamp()


async def test_a_closed_time_expects_what_goes_out_after_it() -> None:
    blackout = closed((T0, T0 + 2 * DAY))
    seen = Monitored(a_schedule(blackout=blackout))

    assert await seen.expected() == (T0 + 2 * DAY + NIGHT + PATIENCE).timestamp()


async def test_schedules_that_share_a_timing_are_each_expected_by_their_own_rules() -> None:
    jitter = timedelta(minutes=5)
    seen = Monitored(
        a_schedule("a"),
        a_schedule("b"),
        a_schedule("closed", blackout=closed((T0, T0 + 2 * DAY))),
        a_schedule("closed-for-long", blackout=closed((T0, T0 + 3 * DAY))),
        a_schedule("jittery", jitter=jitter),
        a_schedule("ahead"),
    )
    seen.stands(last_success={"ahead": T0 + NIGHT})

    expected = {
        id_: await seen.expected(id_) for id_ in ("a", "b", "closed", "closed-for-long", "jittery", "ahead")
    }

    due = T0 + NIGHT + PATIENCE
    assert expected == {
        "a": due.timestamp(),
        "b": due.timestamp(),
        "closed": (due + 2 * DAY).timestamp(),
        "closed-for-long": (due + 3 * DAY).timestamp(),
        "jittery": (due + jitter).timestamp(),
        "ahead": (due + DAY).timestamp(),
    }


@pytest.mark.parametrize("more", [{"enabled": False}, {"ends_at": T0 + ON_TIME}])
async def test_nothing_is_expected_of_a_schedule_that_fires_no_more(more: dict[str, Any]) -> None:
    seen = Monitored(a_schedule())
    assert await seen.expected() is not None
    seen.force(a_schedule(**more))

    assert await seen.expected() is None
    seen.force()
    assert await seen.expected() is None
    assert seen.metrics._successes._expected == {}


async def test_no_schedule_is_looked_at_again_before_something_has_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Monitored(a_schedule())
    seen.knows(a_term())
    looked_at = 0
    since = successes.Successes._since

    def counted(*arguments: Any) -> Any:
        nonlocal looked_at
        looked_at += 1
        return since(*arguments)

    monkeypatch.setattr(successes.Successes, "_since", counted)
    happenings: list[Callable[[], None]] = [
        lambda: None,
        lambda: seen.stands(last_success={"nightly": T0 - DAY}),
        lambda: seen.ends(RunState.SKIPPED, "paused: x (bob)", fire_time=T0 + NIGHT),
        lambda: seen.force(a_schedule(cron="0 * * * *")),
    ]
    counts = list[int]()
    for happens in happenings:
        happens()
        for _ in range(2):
            await seen.metrics.look()
            counts.append(looked_at)

    assert counts == [1, 1, 2, 2, 3, 3, 4, 4]


async def test_a_look_that_fails_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Monitored(a_schedule())

    async def fails(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(successes, "in_a_thread", fails)
        with pytest.raises(RuntimeError):
            await seen.metrics.look()

    assert await seen.expected() == (T0 + NIGHT + PATIENCE).timestamp()


async def test_it_is_looked_at_again_and_again(tmp_path: Path) -> None:
    seen = Monitored(a_schedule())
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    keeping = asyncio.create_task(seen.metrics.keep(ledger))
    name = "flowsched_schedule_success_expected_timestamp_seconds"
    await time_passes(seen.clock, 1, a_moment)
    seen.stands(last_success={"nightly": T0 + NIGHT})
    await time_passes(seen.clock, 11, a_moment)

    keeping.cancel()
    await ledger.aclose()
    assert seen.value(name, schedule="nightly") == (T0 + DAY + NIGHT + PATIENCE).timestamp()


def test_promtool_finds_nothing_wrong_with_the_page() -> None:
    tool = promtool()
    if tool is None:
        pytest.skip("promtool is not on this machine; it comes with Prometheus")
    page, content_type = everything().metrics.page()

    done = subprocess.run([tool, "check", "metrics"], input=page, capture_output=True, check=False)  # noqa: S603

    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    assert content_type.startswith("text/plain; version=0.0.4")


async def test_a_scrape_of_10_000_schedules_blocks_for_some_ms_and_grows_no_memory() -> None:
    seen = Monitored(*(a_schedule(f"s{number:05}", f"{number % 60} * * * *") for number in range(10_000)))
    seen.stands(last_success=dict.fromkeys(seen.catalog.schedules, T0))
    looking = asyncio.create_task(seen.metrics.look())
    while not looking.done():
        seen.clock.advance(successes.BREATH)
        await asyncio.sleep(0.001)
    page, _ = seen.metrics.page()
    assert page.count(b"flowsched_schedule_") == 3 * 2 + 3 * 10_000

    tracemalloc.start()
    began = time.perf_counter()
    for _ in range(5):
        seen.metrics.page()
    took = (time.perf_counter() - began) / 5
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert took < 0.5  # so much only on a machine that is busy, and measured
    assert grown < 8_000_000


@pytest.mark.e2e
async def test_a_daemon_shows_what_it_did_at_its_address(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        await plant.build()
        settings = tmp_path / "flowsched.yaml"
        settings.write_text(f"{settings.read_text()}listen: 127.0.0.1:{port}\n")
        daemon = await plant.start()
        await daemon.says("run triggered")
        await asyncio.sleep(1)  # what is expected is worked out beside all else
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
        daemon.tell(signal.SIGTERM)
        await daemon.ends()
    finally:
        await plant.leave()

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    assert 'flowsched_fires_total{cause="accepted",state="triggered"} 1.0' in text
    assert 'flowsched_fires_total{cause="catch_up_latest",state="missed"} 1.0' in text
    assert 'flowsched_attempts_total{outcome="accepted",target="default"} 1.0' in text
    assert 'flowsched_lateness_seconds_count{origin="catch_up"} 1.0' in text
    assert 'flowsched_schedule_succeeded{schedule="twice-an-hour"} 1.0' in text
    assert 'flowsched_schedule_success_expected_timestamp_seconds{schedule="twice-an-hour"}' in text
    traced = [call.traceparent for call in plant.simulator.calls if call.operation == "flows.trigger"]
    assert traced
    assert all(each and each.endswith("-00") for each in traced)
