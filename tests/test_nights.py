"""Nights on which clocks change, and the end of a year, through the whole daemon on the hand-advanced clock.

Expected times are written out by hand from the zones' published changes, not computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.daemon import Daemon
from flowsched.enos import Gateway
from flowsched.ledger import Ledger
from flowsched.model import Blackout, Calendar, Catalog, Overlap, RunState, Source, Then, WeeklyWindow
from flowsched.simulator import Simulator
from tests.builders import a_schedule, a_target
from tests.fakes import HandClock, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from flowsched.model import Run


@dataclass(frozen=True)
class Night:
    """From one instant to another (UTC), what each (cron, zone) must fire, and nothing else."""

    begin: str
    end: str
    fires: dict[tuple[str, str], list[str]]
    """UTC, as `29T01:00`; what is not sent then says so: `29T00:30 skipped`, `29T00:30 at 01:00`."""
    blackout: Blackout | None = None
    """Of every schedule."""


def _on_sundays(start: time, end: time, then: Then) -> Blackout:
    """Closed every Sunday on the wall clock of Berlin."""
    window = WeeklyWindow(6, start, 6, end)
    calendar = Calendar(
        name="sundays",
        description=None,
        timezone="Europe/Berlin",
        weekly=(window,),
        source=Source("a.yaml", 2),
    )
    return Blackout((calendar,), then)


NIGHTS = {
    # 2026-03-29 01:00Z: Berlin's clock goes from 02:00 to 03:00.
    "spring in Berlin": Night(
        "2026-03-28T23:00",
        "2026-03-29T03:00",
        {
            ("30 1 * * *", "Europe/Berlin"): ["29T00:30"],
            ("0 2 * * *", "Europe/Berlin"): ["29T01:00"],
            ("30 2 * * *", "Europe/Berlin"): ["29T01:00"],
            ("0 3 * * *", "Europe/Berlin"): ["29T01:00"],
            ("30 3 * * *", "Europe/Berlin"): ["29T01:30"],
            ("0 * * * *", "Europe/Berlin"): ["29T00:00", "29T01:00", "29T02:00", "29T03:00"],
            ("30 0-4 * * *", "UTC"): ["29T00:30", "29T01:30", "29T02:30"],
        },
    ),
    # 2026-10-25 01:00Z: Berlin's clock goes from 03:00 back to 02:00.
    "autumn in Berlin": Night(
        "2026-10-24T23:00",
        "2026-10-25T03:00",
        {
            ("30 2 * * *", "Europe/Berlin"): ["25T00:30"],
            ("0 3 * * *", "Europe/Berlin"): ["25T02:00"],
            ("30 * * * *", "Europe/Berlin"): ["24T23:30", "25T00:30", "25T01:30", "25T02:30"],
            ("59 1 * * *", "Europe/Berlin"): ["24T23:59"],
        },
    ),
    # 2026-11-01 06:00Z: New York's clock goes from 02:00 back to 01:00.
    "autumn in New York": Night(
        "2026-11-01T04:30",
        "2026-11-01T07:30",
        {
            ("30 1 * * *", "America/New_York"): ["01T05:30"],
            ("30 * * * *", "America/New_York"): ["01T05:30", "01T06:30", "01T07:30"],
        },
    ),
    # 2026-10-03 15:30Z: Lord Howe's clock goes from 02:00 to 02:30.
    "spring on Lord Howe": Night(
        "2026-10-03T14:00",
        "2026-10-03T17:00",
        {
            ("15 2 * * *", "Australia/Lord_Howe"): ["03T15:30"],
            ("30 2 * * *", "Australia/Lord_Howe"): ["03T15:30"],
            ("45 2 * * *", "Australia/Lord_Howe"): ["03T15:45"],
        },
    ),
    # 2026-04-04 15:00Z: Lord Howe's clock goes from 02:00 back to 01:30.
    "autumn on Lord Howe": Night(
        "2026-04-04T13:00",
        "2026-04-04T17:00",
        {
            ("45 1 * * *", "Australia/Lord_Howe"): ["04T14:45"],
            ("0 2 * * *", "Australia/Lord_Howe"): ["04T15:30"],
        },
    ),
    # 01:30 on the wall is 00:30Z; the clock never shows 02:30, and goes on after the gap at 01:00Z.
    "closed into the gap of Berlin's spring": Night(
        "2026-03-28T23:50",
        "2026-03-29T01:50",
        {
            ("5-35/30 * * * *", "Europe/Berlin"): ["29T00:05", "29T00:35 at 01:00", "29T01:05", "29T01:35"],
            ("10-50/20 * * * *", "UTC"): [
                *("29T00:10", "29T00:30 skipped", "29T00:50 at 01:00"),
                *("29T01:10", "29T01:30", "29T01:50"),
            ],
            ("30 1 * * *", "Europe/Berlin"): ["29T00:30 at 01:00"],
            ("30 2 * * *", "Europe/Berlin"): ["29T01:00"],
        },
        _on_sundays(time(1, 30), time(2, 30), Then.DEFER),
    ),
    # 02:45 on the wall is 00:45Z and 01:45Z: a closed time begins with the first, and ends with the first.
    "closed in the repeated hour of Berlin's autumn": Night(
        "2026-10-24T23:40",
        "2026-10-25T02:10",
        {
            ("*/30 * * * *", "Europe/Berlin"): [
                *("25T00:00 skipped", "25T00:30 at 00:45"),
                *("25T01:00", "25T01:30", "25T02:00"),
            ],
            ("30 2 * * *", "Europe/Berlin"): ["25T00:30 at 00:45"],
        },
        _on_sundays(time(1, 45), time(2, 45), Then.DEFER),
    ),
    "closed over the whole repeated hour of Berlin's autumn": Night(
        "2026-10-24T23:40",
        "2026-10-25T02:40",
        {
            ("*/30 * * * *", "Europe/Berlin"): [
                *("25T00:00 skipped", "25T00:30 skipped", "25T01:00 skipped", "25T01:30 skipped"),
                *("25T02:00", "25T02:30"),
            ],
        },
        _on_sundays(time(2), time(3), Then.SKIP),
    ),
    "the end of a year": Night(
        "2026-12-31T09:00",
        "2027-01-01T01:00",
        {
            ("0 0 1 1 *", "UTC"): ["01T00:00"],
            ("0 0 1 1 *", "Pacific/Kiritimati"): ["31T10:00"],
            ("0 0 1 1 *", "Pacific/Auckland"): ["31T11:00"],
            ("0 0 1 1 *", "Europe/Berlin"): ["31T23:00"],
            ("59 23 31 12 *", "UTC"): ["31T23:59"],
            ("0 22 L * *", "Europe/Berlin"): ["31T21:00"],
            ("@yearly", "Asia/Kolkata"): ["31T18:30"],
        },
    ),
}


@pytest.mark.parametrize("night", NIGHTS.values(), ids=NIGHTS)
async def test_each_fire_time_of_a_night_is_one_instance(night: Night, tmp_path: Path) -> None:
    begin, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (night.begin, night.end))
    clock = HandClock(begin)
    simulator = Simulator(clock)
    url = await simulator.start()
    target = a_target(url=url, org_id=simulator.user.org, user_id=simulator.user.id)
    keys = simulator.application
    gateway = Gateway(target, keys.access_key, keys.secret_key, clock)
    schedules = [
        a_schedule(
            f"s{number}", cron, zone, flow=1000 + number, overlap=Overlap.SKIP, blackout=night.blackout
        )
        for number, (cron, zone) in enumerate(night.fires)
    ]
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        daemon = Daemon(ledger, {"default": gateway}, clock)
        await daemon.start(Catalog({each.id: each for each in schedules}, "r1"))
        while clock.now() < end:
            clock.advance(timedelta(minutes=1))
            await eventually(lambda: clock.sleeping and not _busy(daemon))
        runs = await ledger.runs(limit=1000)
    await gateway.aclose()
    await simulator.stop()

    fired: dict[str, list[str]] = {each.id: [] for each in schedules}
    for run in reversed(runs):
        fired[run.schedule_id].append(_told(run))
    assert fired == dict(zip(fired, night.fires.values(), strict=True))
    sent = [run for run in runs if run.state is not RunState.SKIPPED]
    assert {run.state for run in sent} == {RunState.TRIGGERED}
    assert sorted(each.id for each in simulator.instances) == sorted(map(_instance, sent))


def _told(run: Run) -> str:
    later = f" at {run.due_at:%H:%M}" if run.due_at != run.fire_time else ""
    return f"{run.fire_time:%dT%H:%M}{' skipped' if run.state is RunState.SKIPPED else later}"


def _instance(run: Run) -> str:
    return f"{run.flow}-{run.fire_time:%Y%m%d%H%M}00"


def _busy(daemon: Daemon) -> bool:
    return daemon.engine._claims.busy or daemon.runner.under_way > 0
