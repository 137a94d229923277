"""The engine under blackouts: what is skipped, what is held and goes out late, and what an edit does then."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched import audit, blackouts, cron
from flowsched.admission import OTHER_BLACKOUT
from flowsched.audit import Tally
from flowsched.engine.alarms import LOOK_AGAIN
from flowsched.engine.engine import FAULT_PAUSE, MOST_ROWS
from flowsched.errors import LedgerError
from flowsched.ledger import LEDGER_PAUSE, Ledger
from flowsched.model import (
    Blackout,
    CatchUp,
    Cursor,
    Origin,
    RunState,
    Then,
    WeeklyWindow,
)
from tests.builders import RETRY, a_schedule, closed, deferred
from tests.fakes import HandClock, eventually
from tests.test_engine import Desk, Mumbling, Stubborn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.model import Run, Schedule

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SKIPPED, MISSED = RunState.SKIPPED, RunState.MISSED


def at(hour: int, minute: int = 0, day: int = 10) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


START = at(12)


def every(minutes: int, blackout: Blackout | None, id_: str = "held", **more: Any) -> Schedule:
    return a_schedule(id_, f"*/{minutes} * * * *", blackout=blackout, **more)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    desk = Desk(ledger, HandClock(START))
    yield desk
    await desk.engine.stop()
    await ledger.aclose()


async def deferred_until(desk: Desk, schedule_id: str = "held") -> datetime | None:
    return (await desk.ledger.terms_in_force())[schedule_id].deferred_until


async def audited(desk: Desk) -> dict[str, int]:
    """Return how many fire times got each verdict."""
    now = desk.clock.now()
    terms, to = await desk.ledger.terms(), now + timedelta.resolution
    fired = await desk.ledger.automatic_runs(START - DAY, to, None, 100_000)
    tally = Tally()
    for finding in audit.compare(terms, fired, from_=START - DAY, to=to, now=now, rules_of=cron.zone_rules):
        tally.add(finding)
    return {str(verdict): number for verdict, number in tally.verdicts.items()}


async def jump(desk: Desk, to: datetime) -> None:
    """Have the wall clock step, and let the engine notice."""
    desk.clock.step(to - timedelta(seconds=LOOK_AGAIN))
    await desk.passes(LOOK_AGAIN)
    await desk.settled()


async def test_what_a_blackout_skips_is_recorded_with_the_calendars_name(desk: Desk) -> None:
    await desk.apply(every(10, closed((at(12, 15), at(12, 35)))))

    await desk.minutes(40)

    assert desk.fired() == ["held 12:10", "held 12:40"]
    assert desk.fired(SKIPPED) == ["held 12:20", "held 12:30"]
    assert {run.reason for run in desk.runs if run.state is SKIPPED} == {"blackout: freeze"}
    assert await audited(desk) == {"aligned": 4}


async def test_a_skipped_fire_is_recorded_when_its_time_comes(desk: Desk) -> None:
    await desk.apply(every(10, closed((at(12, 5), at(15)))))

    await desk.minutes(10)

    (run,) = desk.runs
    assert (run.state, run.claimed_at, run.origin) == (SKIPPED, at(12, 10), Origin.SCHEDULE)


async def test_a_closed_time_begins_with_its_first_instant_and_ends_before_its_last(desk: Desk) -> None:
    await desk.apply(every(10, closed((at(12, 10), at(12, 30)))))

    await desk.minutes(30)

    assert desk.fired(SKIPPED) == ["held 12:10", "held 12:20"]
    assert desk.fired() == ["held 12:30"]


async def test_of_a_closed_time_the_last_fire_goes_out_at_its_end_with_its_own_fire_time(desk: Desk) -> None:
    await desk.apply(every(10, deferred((at(12, 5), at(12, 35)))))

    await desk.minutes(34)
    before = desk.fired()
    await desk.minutes(7)

    assert before == []
    assert desk.fired(SKIPPED) == ["held 12:10", "held 12:20"]
    assert desk.fired() == ["held 12:30", "held 12:40"]
    first = next(run for run in desk.runs if run.fire_time == at(12, 30))
    assert (first.claimed_at, first.due_at, first.origin) == (at(12, 35), at(12, 35), Origin.CATCH_UP)
    assert (first.note, first.reason) == ("deferred, blackout: freeze", None)
    assert first.deadline == at(12, 35) + RETRY.deadline
    assert first.predicted_instance == "3377-20260310123000"


async def test_a_fire_that_gives_way_to_a_later_one_says_so(desk: Desk) -> None:
    await desk.apply(every(10, deferred((at(12, 5), at(12, 25)))))

    await desk.minutes(25)

    (skipped, _) = desk.runs
    assert skipped.reason == "blackout: freeze, and a later fire goes out at its end instead"


async def test_a_fire_at_the_end_goes_out_beside_the_one_that_was_held(desk: Desk) -> None:
    await desk.apply(every(10, deferred((at(12, 15), at(12, 30))), jitter=5 * MINUTE))

    await desk.minutes(30)

    assert desk.fired() == ["held 12:10", "held 12:20", "held 12:30"]
    held, following = desk.runs[1:]
    assert (held.due_at, held.claimed_at) == (at(12, 30), at(12, 30))
    assert at(12, 30) < following.due_at < at(12, 35)


async def test_a_fire_is_deferred_alone_where_the_next_one_is_days_away(desk: Desk) -> None:
    await desk.apply(a_schedule("held", "0 13 10 * *", blackout=deferred((at(12, 30), at(14, 0)))))

    await desk.minutes(121)

    (run,) = desk.runs
    assert (run.fire_time, run.claimed_at) == (at(13), at(14))


async def test_the_last_fire_of_a_timing_that_ends_is_deferred_all_the_same(desk: Desk) -> None:
    schedule = a_schedule("held", "0 * * * *", ends_at=at(13, 30), blackout=deferred((at(12, 30), at(14, 0))))
    await desk.apply(schedule)

    await desk.minutes(121)

    assert [(run.fire_time, run.claimed_at) for run in desk.runs] == [(at(13), at(14))]


async def test_jitter_is_counted_from_the_end_and_stays_before_the_next_fire(desk: Desk) -> None:
    schedules = [
        every(10, deferred((at(12, 15), at(12, 28))), f"held-{n}", jitter=HOUR, flow=n) for n in range(20)
    ]
    await desk.apply(*schedules)

    await desk.minutes(28)

    due = [run.due_at for run in desk.runs if run.fire_time == at(12, 20)]
    assert len(set(due)) == 20
    assert all(at(12, 28) <= each < at(12, 30) for each in due)


async def test_closed_times_without_a_gap_between_them_are_one(desk: Desk) -> None:
    (first,) = deferred((at(12, 5), at(12, 25)), name="first").calendars
    (second,) = deferred((at(12, 25), at(12, 45)), name="second").calendars
    await desk.apply(every(10, Blackout((first, second), Then.DEFER)))

    await desk.minutes(50)

    assert desk.fired() == ["held 12:40", "held 12:50"]
    assert [run.claimed_at for run in desk.runs if run.fire_time == at(12, 40)] == [at(12, 45)]


async def test_a_blackout_without_an_end_in_sight_skips_what_it_should_defer(desk: Desk) -> None:
    await desk.apply(every(10, deferred((at(12), at(12) + 1000 * DAY))))

    await desk.minutes(20)

    assert desk.fired(SKIPPED) == ["held 12:10", "held 12:20"]
    assert {run.reason for run in desk.runs} == {"blackout: freeze has no end in sight"}


async def test_schedules_of_one_timing_keep_their_own_blackouts(desk: Desk) -> None:
    await desk.apply(
        every(10, None, "a-free", flow=1),
        every(10, closed((at(12, 5), at(12, 25))), "b-skips", flow=2),
        every(10, deferred((at(12, 5), at(12, 15)), name="short"), "c-short", flow=3),
        every(10, deferred((at(12, 5), at(12, 27)), name="long"), "d-long", flow=4),
        every(10, deferred((at(12, 5), at(12, 27)), name="long"), "e-long", flow=5),
        every(10, closed((at(12, 5), at(12, 27)), name="long"), "f-skips-long", flow=6),
    )

    await desk.minutes(30)

    assert len(desk.engine._scheduler.get_jobs()) == 1
    sent = [run for run in desk.runs if run.state is RunState.CLAIMED]
    assert [f"{run.schedule_id} {run.fire_time:%H:%M} at {run.claimed_at:%H:%M}" for run in sent] == [
        "a-free 12:10 at 12:10",
        "c-short 12:10 at 12:15",
        "a-free 12:20 at 12:20",
        "c-short 12:20 at 12:20",
        "d-long 12:20 at 12:27",
        "e-long 12:20 at 12:27",
        "a-free 12:30 at 12:30",
        "b-skips 12:30 at 12:30",
        "c-short 12:30 at 12:30",
        "d-long 12:30 at 12:30",
        "e-long 12:30 at 12:30",
        "f-skips-long 12:30 at 12:30",
    ]  # fmt: skip
    assert desk.fired(SKIPPED) == [
        *(f"{id_} 12:10" for id_ in ("b-skips", "d-long", "e-long", "f-skips-long")),
        *(f"{id_} 12:20" for id_ in ("b-skips", "f-skips-long")),
    ]


async def test_a_skipped_fire_is_in_nobodys_way(desk: Desk) -> None:
    await desk.apply(every(10, closed((at(12), at(13))), "a-skipped"), every(10, None, "b-free"))

    await desk.minutes(10)

    assert (desk.fired(), desk.fired(SKIPPED)) == (["b-free 12:10"], ["a-skipped 12:10"])


async def test_a_deferred_fire_whose_minute_another_schedule_has_is_a_collision(desk: Desk) -> None:
    await desk.apply(every(10, deferred((at(12, 5), at(12, 15))), "a-held"), every(10, None, "b-free"))

    await desk.minutes(15)

    assert desk.fired() == ["b-free 12:10"]
    (late,) = (run for run in desk.runs if run.state is SKIPPED)
    assert (late.schedule_id, late.claimed_at) == ("a-held", at(12, 15))
    assert (late.reason or "").startswith("collision: b-free (run ")


async def test_while_a_fire_is_held_the_ledger_and_the_audit_say_so(desk: Desk) -> None:
    await desk.apply(every(10, deferred((at(12, 15), at(12, 28)))))

    await desk.minutes(25)
    holding, found = await deferred_until(desk), await audited(desk)
    await desk.minutes(5)

    assert (holding, found) == (at(12, 28), {"aligned": 1, "deferred": 1})
    assert await deferred_until(desk) is None
    assert await audited(desk) == {"aligned": 3}


async def test_a_held_fire_is_written_to_the_ledger_once_and_said_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flowsched.engine")
    claims: list[list[Cursor]] = []
    claim = desk.ledger.claim

    async def counted(rows: Any, cursors: Any) -> list[Run]:
        claims.append(cursors)
        return await claim(rows, cursors)

    monkeypatch.setattr(desk.ledger, "claim", counted)
    schedule = every(10, deferred((at(12, 5), at(12, 19))))
    await desk.apply(schedule, every(1, None, "busy", flow=1, jitter=MINUTE / 2))

    await desk.minutes(18)
    await desk.apply(schedule)
    await desk.minutes(1)

    about = [
        cursor.deferred_until for cursors in claims for cursor in cursors if cursor.schedule_id == "held"
    ]
    assert about == [at(12, 19), None]
    (said,) = (record for record in caplog.records if record.message == "fire deferred by a blackout")
    assert (said.__dict__["schedule"], said.__dict__["until"]) == ("held", at(12, 19))


@pytest.mark.parametrize("then", Then)
@pytest.mark.parametrize(
    ("catch_up", "down", "back", "expected"),
    [
        # The closed time is from 12:25 to 13:00, the window 30 minutes, and fires come every 10 minutes.
        (CatchUp.NONE, at(12, 35), at(12, 45), {"defer": "", "skip": ""}),
        (CatchUp.LATEST, at(12, 35), at(12, 45), {"defer": "", "skip": ""}),
        (CatchUp.ALL, at(12, 35), at(13, 0), {"defer": "12:50 13:00", "skip": "13:00"}),
        (CatchUp.NONE, at(12, 35), at(13, 1), {"defer": "12:50 13:00", "skip": "13:00"}),
        (CatchUp.NONE, at(12, 35), at(13, 5), {"defer": "", "skip": ""}),
        (CatchUp.LATEST, at(12, 35), at(13, 5), {"defer": "13:00", "skip": "13:00"}),
        (CatchUp.ALL, at(12, 35), at(13, 5), {"defer": "12:50 13:00", "skip": "13:00"}),
        (CatchUp.ALL, at(12, 35), at(13, 12), {"defer": "12:50 13:00 13:10", "skip": "13:00 13:10"}),
        (CatchUp.ALL, at(12, 35), at(13, 32), {"defer": "13:10 13:20 13:30", "skip": "13:10 13:20 13:30"}),
        (CatchUp.NONE, at(12, 15), at(12, 45), {"defer": "", "skip": ""}),
        (CatchUp.LATEST, at(12, 15), at(12, 45), {"defer": "12:20", "skip": "12:20"}),
        (CatchUp.LATEST, at(12, 15), at(13, 5), {"defer": "13:00", "skip": "13:00"}),
        (CatchUp.ALL, at(12, 15), at(12, 45), {"defer": "12:20", "skip": "12:20"}),
        (CatchUp.ALL, at(12, 15), at(13, 5), {"defer": "12:50 13:00", "skip": "13:00"}),
    ],
)  # fmt: skip
async def test_downtime_over_the_edges_of_a_closed_time(
    desk: Desk, then: Then, catch_up: CatchUp, down: datetime, back: datetime, expected: dict[str, str]
) -> None:
    blackout = closed((at(12, 25), at(13)), then=then)
    schedule = every(10, blackout, catch_up=catch_up, catch_up_window=30 * MINUTE)
    await desk.apply(schedule)
    await desk.minutes((down - START) // MINUTE)

    desk.clock.step(back)
    await desk.restart(schedule)
    await desk.settled()

    sent = [f"{run.fire_time:%H:%M}" for run in desk.runs if run.state is RunState.CLAIMED]
    assert " ".join(sent) == expected[then]
    inside = [run for run in await desk.ledger.runs() if at(12, 25) <= run.fire_time < at(13)]
    last = at(12, 50) if then is Then.DEFER else None
    assert {run.state for run in inside if run.fire_time != last} == {SKIPPED}
    assert set(await audited(desk)) <= {"aligned", "deferred"}


async def test_what_is_caught_up_is_the_latest_that_no_blackout_leaves_out_however_long_the_backlog(
    desk: Desk,
) -> None:
    schedule = a_schedule(
        "held",
        "* * * * *",
        catch_up=CatchUp.LATEST,
        catch_up_window=30 * DAY,
        blackout=closed((at(13), at(13) + 10 * DAY)),
    )
    await desk.apply(schedule)

    desk.clock.step(START + (2 * MOST_ROWS + 300) * MINUTE)
    await desk.restart(schedule)
    await desk.settled()

    assert desk.fired() == ["held 12:59"]
    assert len(desk.fired(MISSED)) == 58
    assert len(desk.runs) == 2 * MOST_ROWS + 300


async def test_after_the_end_a_fire_that_was_held_before_the_daemon_died_is_caught_up(desk: Desk) -> None:
    schedule = every(30, deferred((at(12, 15), at(12, 50))), catch_up=CatchUp.LATEST)
    await desk.apply(schedule)
    await desk.minutes(35)

    desk.clock.step(at(12, 55))
    await desk.restart(schedule)
    await desk.settled()

    (run,) = desk.runs
    assert (run.fire_time, run.due_at, run.origin) == (at(12, 30), at(12, 50), Origin.CATCH_UP)


async def test_a_fire_that_nobody_sent_at_its_end_is_missed_by_how_late_it_is_from_there(desk: Desk) -> None:
    schedule = every(30, deferred((at(12, 15), at(12, 50))), catch_up=CatchUp.NONE)
    await desk.apply(schedule)
    await desk.minutes(35)

    desk.clock.step(at(12, 55))
    await desk.restart(schedule)
    await desk.settled()

    (run,) = desk.runs
    assert (run.state, run.reason) == (MISSED, "5m late, and catch_up is none")
    assert run.note == "deferred, blackout: freeze"


async def test_a_clock_that_steps_back_over_the_end_sends_nothing_twice(desk: Desk) -> None:
    await desk.apply(every(30, deferred((at(12, 15), at(12, 50)))))
    await desk.minutes(51)
    assert desk.fired() == ["held 12:30"]

    desk.clock.step(at(12, 20))
    await desk.minutes(45)

    assert desk.fired() == ["held 12:30", "held 13:00"]
    assert await audited(desk) == {"aligned": 2}


async def test_a_clock_that_steps_back_before_the_end_sends_at_the_end_as_it_is_then(desk: Desk) -> None:
    await desk.apply(every(30, deferred((at(12, 15), at(12, 50)))))
    await desk.minutes(45)

    await jump(desk, at(12, 35))
    await desk.minutes(14)
    before = desk.fired()
    await desk.minutes(1)

    assert (before, desk.fired()) == ([], ["held 12:30"])


async def test_a_machine_that_slept_over_the_end_sends_within_fifteen_seconds(desk: Desk) -> None:
    await desk.apply(every(30, deferred((at(12, 15), at(12, 50)))))
    await desk.minutes(35)

    desk.clock.step(at(12, 50) - timedelta(seconds=5))
    await desk.passes(LOOK_AGAIN)

    assert desk.fired() == ["held 12:30"]


HELD = every(30, deferred((at(12, 15), at(12, 50))), catch_up=CatchUp.ALL, catch_up_window=DAY)
ENDED = deferred((at(12, 15), at(12, 32)))

LIFTS = {
    "lifted": replace(HELD, blackout=None),
    "over by now": replace(HELD, blackout=ENDED),
    "lifted and renamed": replace(HELD, id="new", renamed_from="held", blackout=None),
    "lifted, and another flow": replace(HELD, blackout=None, flow=2430),
    "skips, and over by now": replace(HELD, blackout=closed((at(12, 15), at(12, 29)))),
}


@pytest.mark.parametrize("after", LIFTS.values(), ids=LIFTS)
@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "reloaded"])
async def test_a_blackout_that_is_lifted_fires_nothing_that_has_passed(
    desk: Desk, after: Schedule, *, restarted: bool
) -> None:
    await desk.apply(HELD)
    await desk.minutes(39)
    desk.clock.advance(60)

    if restarted:
        await desk.restart(after)
    else:
        await desk.apply(after, revision="r2")
    await desk.minutes(25)

    assert desk.fired(MISSED) == ["held 12:30"]
    assert [run.reason for run in desk.runs if run.state is MISSED] == [OTHER_BLACKOUT]
    assert desk.fired() == [f"{after.id} 13:00"]
    assert await audited(desk) == {"aligned": 2}


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "reloaded"])
@pytest.mark.parametrize(
    ("end", "goes_out"), [(at(12, 45), at(12, 45)), (at(12, 41), at(12, 41)), (at(12, 59), at(12, 59))]
)
async def test_a_closed_time_that_ends_earlier_or_later_now_is_what_counts(
    desk: Desk, end: datetime, goes_out: datetime, *, restarted: bool
) -> None:
    await desk.apply(HELD)
    await desk.minutes(39)
    desk.clock.advance(60)

    changed = replace(HELD, blackout=deferred((at(12, 15), end)))
    await (desk.restart(changed) if restarted else desk.apply(changed, revision="r2"))
    await desk.settled()
    holding = await deferred_until(desk)
    await desk.minutes(25)

    assert holding == end
    assert [(run.fire_time, run.claimed_at) for run in desk.runs] == [
        (at(12, 30), goes_out),
        (at(13), at(13)),
    ]


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "reloaded"])
@pytest.mark.parametrize(("end", "state"), [(at(12, 40), RunState.CLAIMED), (at(12, 38), MISSED)])
async def test_what_goes_out_just_now_under_another_blackout_is_fired(
    desk: Desk, end: datetime, state: RunState, *, restarted: bool
) -> None:
    await desk.apply(HELD)
    await desk.minutes(39)
    desk.clock.advance(60)

    changed = replace(HELD, blackout=deferred((at(12, 15), end)))
    await (desk.restart(changed) if restarted else desk.apply(changed, revision="r2"))
    await desk.settled()

    (run,) = desk.runs
    assert (run.state, run.fire_time, run.claimed_at) == (state, at(12, 30), at(12, 40))


CLOSED = (at(12, 15), at(12, 50))
ANOTHERS = {
    # Under the first one, from 12:15 to 12:50; down from 12:28 to 12:45.
    "lifted": (None, "missed 12:30, missed 12:40, claimed 12:50"),
    "over by 12:35": (closed((at(12, 15), at(12, 35))), "skipped 12:30, missed 12:40, claimed 12:50"),
    "defers, over by 12:35": (
        deferred((at(12, 15), at(12, 35))),
        "missed 12:30, missed 12:40, claimed 12:50",
    ),
    "over just now": (deferred((at(12, 15), at(12, 45))), "skipped 12:30, claimed 12:40, claimed 12:50"),
    "defers": (deferred(CLOSED), "skipped 12:30, claimed 12:40, claimed 12:50"),
    "the same": (closed(CLOSED), "skipped 12:30, skipped 12:40, claimed 12:50"),
    "begins later": (closed((at(12, 35), at(13))), "missed 12:30, skipped 12:40, skipped 12:50"),
}


@pytest.mark.parametrize(("blackout", "expected"), ANOTHERS.values(), ids=ANOTHERS)
async def test_a_blackout_that_was_changed_while_nobody_kept_the_schedules_fires_nothing_that_has_passed(
    desk: Desk, blackout: Blackout | None, expected: str
) -> None:
    schedule = every(10, closed(CLOSED), catch_up=CatchUp.ALL, catch_up_window=DAY)
    await desk.apply(schedule)
    await desk.minutes(28)

    desk.clock.step(at(12, 45))
    await desk.restart(replace(schedule, blackout=blackout))
    await desk.settled()
    await desk.minutes(7)

    runs = sorted(desk.runs, key=lambda run: run.fire_time)
    found = [f"{run.state} {run.fire_time:%H:%M}" for run in runs if run.fire_time > at(12, 20)]
    assert ", ".join(found) == expected
    assert {run.reason for run in runs if run.state is MISSED} <= {OTHER_BLACKOUT}
    assert not [run for run in runs if run.origin is Origin.CATCH_UP and run.note is None]
    assert await audited(desk) == {"aligned": 5}


async def test_a_blackout_that_is_new_after_downtime_fires_nothing_that_has_passed_either(desk: Desk) -> None:
    schedule = every(10, None, catch_up=CatchUp.ALL, catch_up_window=DAY)
    await desk.apply(schedule)

    desk.clock.step(at(12, 25))
    await desk.restart(replace(schedule, blackout=closed((at(12, 15), at(12, 30)))))
    await desk.settled()

    assert (desk.fired(MISSED), desk.fired(SKIPPED), desk.fired()) == (["held 12:10"], ["held 12:20"], [])


async def test_another_description_is_no_other_blackout(desk: Desk) -> None:
    blackout = closed((at(13), at(14)))
    schedule = every(10, blackout, catch_up=CatchUp.ALL)
    await desk.apply(schedule)
    calendars = tuple(replace(one, description="As agreed") for one in blackout.calendars)

    desk.clock.step(at(12, 25))
    await desk.restart(replace(schedule, blackout=replace(blackout, calendars=calendars)))
    await desk.settled()

    assert desk.fired() == ["held 12:10", "held 12:20"]


async def test_a_long_backlog_under_another_blackout_is_missed_to_its_end(desk: Desk) -> None:
    schedule = a_schedule("held", "* * * * *", catch_up=CatchUp.ALL, blackout=closed((at(13), at(14))))
    await desk.apply(schedule, replace(schedule, id="other", flow=1))

    desk.clock.step(START + (2 * MOST_ROWS + 300) * MINUTE)
    await desk.restart(replace(schedule, blackout=None), replace(schedule, id="other", flow=1, blackout=None))
    await desk.settled()

    # The last two have come within the minute.
    assert desk.fired() == ["held 01:19", "held 01:20", "other 01:19", "other 01:20"]
    assert len(desk.fired(MISSED)) == 2 * (2 * MOST_ROWS + 298)


async def test_a_term_of_an_old_version_is_under_no_other_blackout(desk: Desk, tmp_path: Path) -> None:
    schedule = every(10, closed((at(13), at(14))), catch_up=CatchUp.ALL)
    await desk.apply(schedule)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
        database.execute("UPDATE timings SET blackout = NULL")

    desk.clock.step(at(12, 25))
    await desk.restart(schedule)
    await desk.settled()

    assert desk.fired() == ["held 12:10", "held 12:20"]


async def test_a_closed_time_that_now_holds_a_later_fire_too_sends_that_one_instead(desk: Desk) -> None:
    await desk.apply(HELD)
    await desk.minutes(40)

    await desk.apply(replace(HELD, blackout=deferred((at(12, 15), at(13, 5)))), revision="r2")
    await desk.minutes(35)

    assert desk.fired(SKIPPED) == ["held 12:30"]
    assert [run.claimed_at for run in desk.runs if run.fire_time == at(13)] == [at(13, 5)]


async def test_a_blackout_that_skips_now_skips_what_it_held(desk: Desk) -> None:
    await desk.apply(HELD)
    await desk.minutes(40)

    await desk.apply(replace(HELD, blackout=closed((at(12, 15), at(12, 50)))), revision="r2")
    await desk.settled()

    assert [(run.state, run.reason) for run in desk.runs] == [(SKIPPED, "blackout: freeze")]
    assert await deferred_until(desk) is None


async def test_a_blackout_that_defers_now_does_not_bring_back_what_it_skipped(desk: Desk) -> None:
    await desk.apply(replace(HELD, blackout=closed((at(12, 15), at(12, 50)))))
    await desk.minutes(40)

    await desk.apply(HELD, revision="r2")
    await desk.minutes(25)

    assert (desk.fired(SKIPPED), desk.fired()) == (["held 12:30"], ["held 13:00"])


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "reloaded"])
async def test_a_renamed_schedule_inherits_the_fire_that_is_held(desk: Desk, *, restarted: bool) -> None:
    await desk.apply(HELD)
    await desk.minutes(40)

    renamed = replace(HELD, id="new", renamed_from="held")
    await (desk.restart(renamed) if restarted else desk.apply(renamed, revision="r2"))
    await desk.settled()
    holding, found = await deferred_until(desk, "new"), await audited(desk)
    await desk.minutes(12)

    assert (holding, found) == (at(12, 50), {"deferred": 1})
    assert desk.fired() == ["new 12:30"]
    assert await audited(desk) == {"aligned": 1}


ENDINGS = {
    "removed": ([], "its schedule was removed"),
    "disabled": ([replace(HELD, enabled=False)], "its schedule was disabled"),
    "retimed": (
        [replace(HELD, timing=replace(HELD.timing, cron="15 0 * * *"))],
        "its schedule got another timing",
    ),
}


@pytest.mark.parametrize("edit", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "reloaded"])
async def test_an_edit_that_ends_a_timing_misses_what_is_held(
    desk: Desk, edit: tuple[list[Schedule], str], *, restarted: bool
) -> None:
    after, why = edit
    await desk.apply(HELD)
    await desk.minutes(40)

    await (desk.restart(*after) if restarted else desk.apply(*after, revision="r2"))
    await desk.minutes(20)

    (run,) = desk.runs
    assert (run.state, run.fire_time) == (MISSED, at(12, 30))
    assert run.reason == f"{why} while a blackout deferred this, and an edit fires nothing that has passed"
    assert await audited(desk) == {"aligned": 1}


async def test_a_fire_whose_closed_time_ends_while_an_edit_is_applied_goes_out_as_ever(desk: Desk) -> None:
    await desk.apply(HELD)
    await desk.minutes(40)

    desk.clock.step(at(12, 50))
    await desk.apply(revision="r2")

    assert desk.fired() == ["held 12:30"]
    assert desk.runs[0].note == "deferred, blackout: freeze"


async def test_an_edit_skips_what_has_come_and_is_skipped(desk: Desk, tmp_path: Path) -> None:
    await desk.apply(every(10, closed((at(12), at(13)))))

    desk.clock.step(at(12, 35))
    await desk.apply(revision="r2")

    assert desk.fired(SKIPPED) == ["held 12:10", "held 12:20", "held 12:30"]


async def test_a_ledger_that_refuses_the_miss_of_a_lifted_fire_keeps_it_held(tmp_path: Path) -> None:
    ledger = await Stubborn.open(f"sqlite:///{tmp_path}/ledger.db")
    assert isinstance(ledger, Stubborn)
    desk = Desk(ledger, HandClock(START))
    await desk.apply(HELD)
    await desk.minutes(40)

    ledger.refusals = 1
    with pytest.raises(LedgerError):
        await desk.apply(replace(HELD, blackout=None), revision="r2")
    await desk.minutes(11)

    assert desk.fired() == ["held 12:30"]
    await desk.engine.stop()
    await ledger.aclose()


async def test_a_held_fire_whose_record_was_not_answered_goes_out_once(tmp_path: Path) -> None:
    ledger = await Mumbling.open(f"sqlite:///{tmp_path}/ledger.db")
    assert isinstance(ledger, Mumbling)
    desk = Desk(ledger, HandClock(START))
    await desk.apply(HELD)

    await desk.minutes(29)
    ledger.lost_answers = 1
    await desk.minutes(1)
    await desk.passes(LEDGER_PAUSE)
    ledger.lost_answers = 1
    await desk.minutes(20)
    await desk.passes(LEDGER_PAUSE)

    assert desk.fired() == ["held 12:30"]
    assert await deferred_until(desk) is None
    await desk.engine.stop()
    await ledger.aclose()


async def test_a_calendar_that_fails_holds_up_its_own_schedule_only(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = blackouts.closure

    def fails(blackout: Blackout, *rest: Any) -> Any:
        if blackout.calendars[0].name == "faulty" and desk.clock.now() < at(12, 11):
            raise RuntimeError("a fault of ours")
        return ask(blackout, *rest)

    monkeypatch.setattr(blackouts, "closure", fails)
    await desk.apply(
        every(10, deferred((at(12, 25), at(12, 28)), name="faulty"), "faulty", flow=1),
        every(10, deferred((at(12, 25), at(12, 28)), name="sound"), "sound", flow=2),
        a_schedule("other", "*/10 * * * *", "Etc/UTC", flow=3),
    )
    assert desk.engine.next_fire() == at(12, 10)

    await desk.minutes(9)
    desk.clock.advance(60)
    await eventually(lambda: len(desk.runs) == 2)
    at_once = sorted(desk.fired())
    desk.clock.advance(FAULT_PAUSE)
    await eventually(lambda: len(desk.runs) == 3)

    assert at_once == ["other 12:10", "sound 12:10"]
    assert sorted(desk.fired()) == ["faulty 12:10", "other 12:10", "sound 12:10"]
    assert "by a fault of flowsched" in caplog.text


async def test_an_edit_comes_into_force_though_a_calendar_fails(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.apply(HELD, every(30, None, "other", flow=1))
    await desk.minutes(40)

    def fails(*_: object) -> object:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(blackouts, "closure", fails)
    await desk.apply(replace(HELD, blackout=ENDED), revision="r2")
    assert "not known which fires another blackout leaves out" in caplog.text
    await desk.apply(every(30, None, "other", flow=1), revision="r3")
    await desk.settled()

    assert desk.fired(MISSED) == ["held 12:30"]
    assert "last fire of a schedule missed by a fault of flowsched" in caplog.text


async def test_the_next_fire_is_the_next_that_goes_out(desk: Desk) -> None:
    skips = every(10, closed((at(12), at(12, 40))))
    await desk.apply(skips)
    skipping = desk.engine.next_fire()
    await desk.apply(HELD, revision="r2")
    deferring = desk.engine.next_fire()
    await desk.minutes(35)
    holding = desk.engine.next_fire()
    await desk.minutes(20)

    assert (skipping, deferring, holding) == (at(12, 40), at(12, 50), at(12, 50))
    assert desk.engine.next_fire() == at(13)


async def test_a_schedule_that_is_always_skipped_has_no_next_fire(desk: Desk) -> None:
    always = WeeklyWindow(0, datetime.min.time(), 0, datetime.min.time())
    await desk.apply(every(10, closed(weekly=(always,))))

    assert desk.engine.next_fire() is None


async def test_what_is_deferred_of_one_flow_to_one_end_has_time_to_go_one_by_one(desk: Desk) -> None:
    blackout = deferred((at(12, 5), at(13)))
    bunch = [a_schedule(f"s{n}", f"{10 + n} 12 * * *", flow=1, blackout=blackout) for n in range(3)]
    await desk.apply(*bunch)

    await desk.minutes(60)

    assert desk.fired() == ["s0 12:10", "s1 12:11", "s2 12:12"]
    assert {run.origin for run in desk.runs} == {Origin.CATCH_UP}
    assert [run.deadline for run in desk.runs] == [at(13, 15), at(13, 30), at(13, 45)]


async def test_a_deferred_fire_that_goes_out_at_its_end_is_not_called_late(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.apply(every(30, deferred((at(12, 15), at(12, 50)))))

    await desk.minutes(52)

    assert desk.fired() == ["held 12:30"]
    assert "fires were late" not in caplog.text


async def test_what_a_blackout_left_out_during_downtime_is_not_called_late(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = every(30, closed((at(12, 15), at(12, 50))))
    await desk.apply(schedule)
    await desk.minutes(20)

    desk.clock.step(at(12, 45))
    await desk.restart(schedule)
    await desk.settled()

    assert desk.fired(SKIPPED) == ["held 12:30"]
    assert "fires were late" not in caplog.text


@pytest.mark.parametrize("gone", [950, 1_100])
async def test_before_a_fire_that_is_still_held_the_latest_is_caught_up_however_long_the_backlog(
    desk: Desk, gone: int
) -> None:
    """The batch that ends before the held fire is the last one that has anything to go out by now."""
    begin = START.replace(second=0) + 900 * MINUTE
    blackout = deferred((begin, begin + 1_000 * MINUTE))
    await desk.apply(every(1, blackout, catch_up=CatchUp.LATEST, catch_up_window=3 * DAY))
    desk.clock.step(START + gone * MINUTE)
    await desk.passes(LOOK_AGAIN)
    await desk.settled()

    assert [run.fire_time for run in desk.runs if run.state is RunState.CLAIMED] == [begin - MINUTE]
