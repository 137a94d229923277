"""A ledger that cannot be written for a while: nothing is fired unrecorded, and afterwards it goes on."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched import audit, cron
from flowsched.clock import FastClock
from flowsched.config import load_settings
from flowsched.ledger import Ledger
from flowsched.model import RunState
from flowsched.simulator import Application, Simulator
from tests.crashing import SPEED, Life, start
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.model import Run

pytestmark = pytest.mark.e2e

APPLICATION = Application("planted-access-key", "planted-secret-key")
BOUND = 30.0

SETTINGS = """\
schedules: schedules.yaml
ledger: sqlite:///ledger.db
targets:
  default: {{url: "{url}", org_id: {org}, user_id: {user}, access_key: {{env: AK}}, secret_key: {{env: SK}}}}
"""
SCHEDULES = """\
defaults: {timezone: UTC, catch_up: all, catch_up_window: 30d, retry: {max_attempts: 60, deadline: 1d}}
schedules:
"""
FLOW_IDS = range(1, 9)
FLOWS = len(FLOW_IDS)

LAST_CLAIMS = timedelta(minutes=3)
"""A fraction of a real second: it may end with a fire that has just come."""


class Site:
    """A daemon on a fast clock with a few minutely schedules, and a simulated EnOS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.db"
        self.began = time.monotonic()
        self.start = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)
        self.clock = FastClock(self.start, SPEED, self.began)
        self.simulator = Simulator(self.clock, application=APPLICATION)

    async def build(self) -> None:
        url, user = await self.simulator.start(), self.simulator.user
        (self.folder / "flowsched.yaml").write_text(SETTINGS.format(url=url, org=user.org, user=user.id))
        minutely = "".join(
            f'  s{number}: {{cron: "*/{number + 2} * * * *", flow: {number + 1}}}\n'
            for number in range(FLOWS)
        )
        (self.folder / "schedules.yaml").write_text(SCHEDULES + minutely)
        self.settings = load_settings(self.folder / "flowsched.yaml")
        environ = {"AK": APPLICATION.access_key, "SK": APPLICATION.secret_key}
        self.life = Life(self.folder, environ, self.start, self.began)
        self.life.log.write_text("")
        self.process = start(self.life)
        await self.fires()

    def triggers(self) -> int:
        return sum(call.operation == "flows.trigger" for call in self.simulator.calls)

    async def fires(self) -> None:
        """Wait for further triggers."""
        before = self.triggers()
        await eventually(lambda: self.triggers() > before + FLOWS, within=BOUND)

    async def fires_nothing_for(self, minutes: float) -> None:
        await asyncio.sleep(1.0)  # for what is on its way
        before = self.triggers()
        await asyncio.sleep(minutes * 60 / SPEED)
        assert self.triggers() == before

    async def ends_without_a_gap(self) -> list[Run]:
        """Let it recover, drain it, and hold the ledger against itself and the simulator's books."""
        async with await Ledger.open_to_read(self.settings.ledger) as ledger:
            await self.fires()
            os.kill(self.process.pid or 0, signal.SIGTERM)
            await eventually(lambda: self.process.exitcode is not None, within=BOUND)
            ended_at = self.clock.now()
            judged_to = ended_at - LAST_CLAIMS
            runs = await ledger.runs(limit=100_000)
            terms = await ledger.terms()
            fired = await ledger.automatic_runs(self.start, judged_to, None, 100_000)
        judged = list(
            audit.compare(
                terms, fired, from_=self.start, to=judged_to, now=ended_at, rules_of=cron.zone_rules
            )
        )
        assert self.process.exitcode == 0
        assert len(judged) > FLOWS
        assert [finding for finding in judged if finding.differs] == []
        triggered = [run.instance for run in runs if run.state is RunState.TRIGGERED]
        under_way = {run.predicted_instance for run in runs if not run.state.final}
        made = [instance.id for instance in self.simulator.instances]
        assert set(triggered) <= set(made) <= set(triggered) | under_way
        assert self.triggers() == len(made)
        return runs

    async def says(self, text: str) -> None:
        await eventually(lambda: text in self.life.log.read_text(), within=BOUND)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    await site.build()
    yield site
    site.process.kill()
    site.process.join(BOUND)
    await site.simulator.stop()


async def test_a_disk_that_is_full_stops_the_fires_and_they_go_on_when_there_is_room(site: Site) -> None:
    # The log shall fit in: it is much smaller than the ledger's write-ahead log.
    wal = (site.folder / "ledger.db-wal").stat().st_size
    _, most = resource.prlimit(site.process.pid or 0, resource.RLIMIT_FSIZE)
    resource.prlimit(site.process.pid or 0, resource.RLIMIT_FSIZE, (wal, most))

    await site.says("ledger would not")
    await site.fires_nothing_for(minutes=5)
    resource.prlimit(site.process.pid or 0, resource.RLIMIT_FSIZE, (most, most))

    await site.ends_without_a_gap()
    assert "check the disk, its free space and any limit on file size" in site.life.log.read_text()


async def test_a_ledger_that_is_locked_stops_the_fires_until_it_is_free(site: Site) -> None:
    with closing(sqlite3.connect(site.ledger, isolation_level=None, timeout=BOUND)) as other:
        other.execute("BEGIN IMMEDIATE")
        await site.says("is locked by another process")
        await site.fires_nothing_for(minutes=10)

    await site.ends_without_a_gap()


async def test_a_ledger_that_is_gone_stops_the_fires_until_it_is_back(site: Site) -> None:
    site.ledger.rename(site.folder / "away.db")
    await site.says("does not exist: put it back")
    await site.fires_nothing_for(minutes=10)
    (site.folder / "away.db").rename(site.ledger)

    await site.ends_without_a_gap()
