"""A thousand reloads of good, bad and half-written files, while fires go out: none lost, none double."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from flowsched import audit, cron
from flowsched.daemon import reading
from flowsched.daemon.reading import read_settled
from flowsched.enos import milliseconds
from flowsched.model import ReloadOutcome, RunState
from tests.fakes import HandClock, eventually
from tests.reloading import House, Meddled, a_house

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowsched.daemon.reading import Course, Reading
    from flowsched.model import Settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RELOADS = 1_000
WARM = 200
"""Reloads after which memory has the size that it is to keep."""

MOST_GROWTH = 8 * 1024**2
"""Bytes. SQLite keeps up to 2 MB of the ledger for each of its connections, and the ledger grows by the runs.

Catalogs that were kept by mistake would be more than 500 times some 50 kB.
"""

FILLING = 40
"""Schedules that hardly ever fire, so that a catalog has some size."""

START = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CRONS = ("* * * * *", "*/2 * * * *", "1-59/2 * * * *", "*/3 * * * *", "7,8,9 * * * *")
BAD = (
    "schedules: {steady: {cron: ",
    "schedules: {bad: {cron: '61 * * * *', timezone: UTC, flow: 9}}\n",
    "schedules: {steady: {cron: '* * * * *', timezone: UTC, flow: 9}}\n",
    "schedules: []\n",
    "",
)


class Field:
    """Files of which a half set is valid, too: only that their generations differ tells it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = 0
        self.chance = Random(5)  # noqa: S311 - to be repeated
        folder.mkdir()
        lines = (f"  f{n}: {{cron: '{n} 0 1 1 *', timezone: UTC, flow: {n + 10}}}\n" for n in range(FILLING))
        steady = "schedules:\n  steady: {cron: '* * * * *', timezone: UTC, flow: 1}\n"
        self.put("steady", steady + "".join(lines))
        for _ in self.edit():
            pass

    def put(self, name: str, text: str) -> None:
        beside = self.folder / f".{name}"
        beside.write_text(text)
        beside.rename(self.folder / f"{name}.yaml")

    def edit(self) -> Iterator[None]:
        """Write the next generation, with a stop after each file but the last."""
        self.generation += 1
        now, chance = self.generation, self.chance
        self.put("a", f"schedules: {{a{now}: {{cron: '* * * * *', timezone: UTC, flow: 2}}}}\n")
        yield
        moved = f"moved: {{cron: '{chance.choice(CRONS)}', timezone: UTC, flow: 4}}"
        # In place, half of the times.
        write = self.put if now % 2 else self.write
        write("b", f"schedules:\n  b{now}: {{cron: '*/2 * * * *', timezone: UTC, flow: 3}}\n  {moved}\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.yaml").write_text(text)

    def spoil(self) -> Callable[[], object]:
        """Make the set a bad one; return what mends it."""
        if self.generation % 7 == 0:
            away = self.folder.with_name("away")
            self.folder.rename(away)
            return lambda: away.rename(self.folder)
        self.put("c", self.chance.choice(BAD))
        return (self.folder / "c.yaml").unlink


class Load:
    """One reload after the other, and a minute that passes with each."""

    def __init__(self, house: House, field: Field) -> None:
        self.house = house
        self.field = field
        self.outcomes: Counter[tuple[str, ReloadOutcome]] = Counter()
        self.sent: Counter[tuple[int, int]] = Counter()
        """How often EnOS was asked to trigger a flow for a time, in its milliseconds."""
        self.minutes = 0
        self.nudged = 0

    async def round(self, number: int) -> None:
        kind = ("good", "bad", "half")[number % 3]
        await getattr(self, f"_{kind}")()
        await self._passes()
        self._take_what_was_sent()
        ids = set(self.house.daemon.catalog.schedules)
        generations = {id_[1:] for id_ in ids if id_[0] in "ab"}
        assert len(generations) == 1, ids
        assert len(ids) == 4 + FILLING, ids

    async def _good(self) -> None:
        for _ in self.field.edit():
            pass
        await self._reloaded("good")
        assert f"a{self.field.generation}" in self.house.daemon.catalog.schedules

    async def _bad(self) -> None:
        mend = self.field.spoil()
        await self._reloaded("bad")
        mend()

    async def _half(self) -> None:
        """Have the second file written when the first is being read."""
        edit = self.field.edit()
        next(edit)

        def read(settings: Settings, course: Course) -> Reading:
            return read_settled(settings, Meddled(2, lambda: next(edit, None)))

        self.house.read = read
        await self._reloaded("half")
        self.house.read = read_settled
        assert f"a{self.field.generation}" in self.house.daemon.catalog.schedules

    async def _reloaded(self, kind: str) -> None:
        """Have the files read; meanwhile a minute begins."""
        asked = self.house.reloads.ask(kind)
        for _ in range(number_of_turns(self.minutes)):
            await asyncio.sleep(0.001)
        self.clock.advance(30)
        self.minutes += 1
        self.outcomes[kind, (await asked).outcome] += 1

    async def _passes(self) -> None:
        """Let the minute pass, and all that it has brought about end."""
        await self._quiet()
        now = self.clock.now()
        self.clock.advance(now.replace(second=30, microsecond=0) - now)
        await self._quiet()

    async def _quiet(self) -> None:
        """Wait until all that is due has ended, some of its seconds later where it is not awake by then.

        An alarm that is just being set when the hand jumps would ring a jump too late; no real clock jumps.
        """
        engine, runner = self.house.daemon.engine, self.house.daemon.runner
        for _ in range(25):
            with suppress(TimeoutError):
                return await eventually(
                    lambda: (
                        not (engine.overdue(-timedelta.resolution) or engine._claims.busy or runner.under_way)
                    ),
                    within=1,
                )
            self.clock.advance(1)
            self.nudged += 1
        pytest.fail("what is due is not carried out")

    @property
    def clock(self) -> HandClock:
        assert isinstance(self.house.clock, HandClock)
        return self.house.clock

    def _take_what_was_sent(self) -> None:
        """Count what the gateway was asked for, and let it forget that: it is no memory of the daemon's."""
        gateway = self.house.gateway
        for request in gateway.requests:
            call = json.loads(request.body)
            self.sent[int(call["flowId"]), int(call["triggerTime"])] += 1
        for kept in (gateway.requests, gateway.timeouts, gateway.asked_at, gateway.urgent, gateway.looks):
            kept.clear()
        self.house.outcomes.clear()


def number_of_turns(minute: int) -> int:
    """How far into a reload its minute begins: before it is read, while it is, or when it is applied."""
    return minute * 7 % 20


def resident() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_thousand_reloads_lose_nothing_double_nothing_and_keep_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "SETTLE_PAUSE", 0.01)
    caplog.set_level(logging.CRITICAL, "flowsched")  # pytest keeps each line
    field = Field(tmp_path / "schedules")
    async with a_house(tmp_path, clock=HandClock(START)) as house:
        load = Load(house, field)
        warm = 0
        for number in range(RELOADS):
            if number == WARM:
                warm = resident()
            await load.round(number)
        growth = resident() - warm

        runs = await house.ledger.runs(limit=1_000_000)
        now, to = load.clock.now(), load.clock.now() + timedelta.resolution
        terms, fired = await house.ledger.terms(), await house.ledger.automatic_runs(START, to, None, 100_000)
        verdicts = Counter(
            finding.verdict
            for finding in audit.compare(terms, fired, from_=START, to=to, now=now, rules_of=cron.zone_rules)
        )

    figures = f"{len(runs)} runs, {len(terms)} terms, grown by {growth / 1024**2:.1f} MB"
    assert set(load.outcomes) == {
        ("good", ReloadOutcome.APPLIED),
        ("bad", ReloadOutcome.REFUSED),
        ("half", ReloadOutcome.APPLIED),
    }
    assert verdicts == {audit.Verdict.ALIGNED: len(runs)}
    assert {run.state for run in runs} == {RunState.TRIGGERED}
    assert load.sent == Counter((run.flow, milliseconds(run.fire_time)) for run in runs)
    assert set(load.sent.values()) == {1}
    steady = sorted(run.fire_time for run in runs if run.schedule_id == "steady")
    assert steady == [START + timedelta(seconds=30) + n * MINUTE for n in range(load.minutes)]
    assert growth < MOST_GROWTH, figures
    assert load.nudged <= RELOADS // 20  # none on a machine that is not busy
