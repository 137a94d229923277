"""A daemon killed between any two durable steps of a run, whatever then befalls a call: the next one ends
with one run a fire, and one instance."""

from __future__ import annotations

import ast
import asyncio
import inspect
import random
import signal
import textwrap
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flowsched import audit, cron
from flowsched.clock import FastClock
from flowsched.config import load_catalog, load_settings
from flowsched.enos import milliseconds
from flowsched.ledger import Ledger
from flowsched.ledger.transitions import ARROWS, INITIAL_STATES
from flowsched.model import FlowState, RunState
from flowsched.retry import APART, SURELY_NOT_PROCESSED
from flowsched.simulator import Application, Behaviour, Fault, Simulator
from tests.builders import a_new_run
from tests.crash_points import AT_A_STEP, LOST_AFTER, LOST_BEFORE, POINTS, WRITES, Scene
from tests.crashing import SPEED, Life, start
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from pathlib import Path

    from flowsched.ledger import LedgerReader
    from flowsched.model import Attempt, Catalog, NewRun, Run
    from flowsched.simulator import Call, Order
    from tests.crash_points import Point

APPLICATION = Application("planted-access-key", "planted-secret-key")
DAY = datetime(2026, 3, 10, tzinfo=UTC)
BOUND = 20.0
"""Real seconds for what a process is to do."""

ASIDE = {
    *("resolve", "accept", "record", "ping"),
    *("claim_by_hand", "cancel", "pause", "resume", "record_action", "keep_messages"),
}
"""What people write, or what says nothing of a fire."""

SETTINGS = """\
schedules: schedules.yaml
ledger: sqlite:///ledger.db
keep: 31d
targets:
  default: {{url: "{url}", org_id: {org}, user_id: {user}, access_key: {{env: AK}}, secret_key: {{env: SK}}}}
"""
SCHEDULES = """\
defaults: {timezone: UTC, catch_up: all, catch_up_window: 2d, retry: {max_attempts: 60, deadline: 1d}}
schedules:
  %s
"""

WEATHERS = {
    "calm": (),
    "reply-lost-before-creation": (LOST_BEFORE,),
    "reply-lost-after-creation": (LOST_AFTER,),
}
"""What befalls the next trigger call after those that the way to a point has befallen."""

KNOWN_REFUSALS = frozenset({Fault.STATUS, Fault.CODE})
"""After these EnOS has nothing of the call, and has said so."""


class SharedTime(FastClock):
    """The time of all processes; it can be made later, while no daemon lives."""

    def __init__(self) -> None:
        self.start, self.began = DAY + timedelta(hours=12, minutes=5), time.monotonic()
        super().__init__(self.start, SPEED, self.began)

    def pass_by(self, span: timedelta) -> None:
        self.start = self._start = self.start + span


class Site:
    """An installation on which daemons live and die, one after the other, before one simulated EnOS."""

    def __init__(self, folder: Path, scene: Scene, orders: Iterable[Order]) -> None:
        self.folder = folder
        self.scene = scene
        self.clock = SharedTime()
        self.simulator = Simulator(
            self.clock,
            application=APPLICATION,
            behaviour=Behaviour(instance_duration=scene.instances_last),
            on_call=self._kill_at_silence,
        )
        for order in orders:
            self.simulator.faults.add(order)

    async def build(self) -> None:
        url, user = await self.simulator.start(), self.simulator.user
        (self.folder / "flowsched.yaml").write_text(SETTINGS.format(url=url, org=user.org, user=user.id))
        self.settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open(self.settings.ledger) as ledger:
            await ledger.apply(self._catalog(self.scene.before or self.scene.schedules), DAY)
            if self.scene.forgets:
                await ledger.claim([_of_long_ago(days) for days in range(2)], [])
        self._catalog(self.scene.schedules)

    def begin(self, death: Point | None = None) -> None:
        environ = {"AK": APPLICATION.access_key, "SK": APPLICATION.secret_key}
        self.life = Life(self.folder, environ, self.clock.start, self.clock.began, death)
        self.life.log.write_text("")
        self.process = start(self.life)

    async def ends(self) -> int | None:
        await eventually(lambda: self.process.exitcode is not None, within=BOUND)
        return self.process.exitcode

    async def dies(self, point: Point) -> None:
        """Have a daemon live until it is killed at that point, and see that it was there."""
        self.begin(point)
        assert await self.ends() == -signal.SIGKILL
        assert self.life.marker.exists()
        self.life.marker.unlink()

    async def lives(self, ends: Mapping[str, tuple[RunState, ...]]) -> None:
        """Have a daemon live until nothing is left to do."""
        self.begin()
        await eventually(lambda: '"daemon ready"' in self.life.log.read_text(), within=BOUND)
        async with await Ledger.open_to_read(self.settings.ledger) as ledger, asyncio.timeout(BOUND):
            while not await self._nothing_is_left(ledger, sum(map(len, ends.values()))):
                await asyncio.sleep(0.01)
        self.process.terminate()
        assert await self.ends() == 0

    async def leave(self) -> None:
        self.process.kill()
        await self.ends()
        await self.simulator.stop()

    def triggers(self) -> list[Call]:
        return [call for call in self.simulator.calls if call.operation == "flows.trigger"]

    def _catalog(self, schedules: str) -> Catalog:
        (self.folder / "schedules.yaml").write_text(SCHEDULES % schedules)
        return load_catalog(self.settings.schedules, self.settings)

    def _kill_at_silence(self, call: Call) -> None:
        if call.fault is Fault.SILENCE:
            self.life.marker.touch()
            self.process.kill()

    async def _nothing_is_left(self, ledger: LedgerReader, runs: int) -> bool:
        # The last of them may stay.
        old, new = await _runs(ledger)
        left = await ledger.open_runs() or await ledger.watches()
        return not left and len(new) == runs and len(old) < 2


def _of_long_ago(days: int) -> NewRun:
    at = DAY - timedelta(days=90 + days)
    return a_new_run(fire_time=at, state=RunState.MISSED)


async def _runs(ledger: LedgerReader) -> tuple[list[Run], list[Run]]:
    """Return the runs of long ago and those since, oldest fire time first."""
    runs = sorted(await ledger.runs(limit=1000), key=lambda run: (run.fire_time, run.schedule_id))
    return [run for run in runs if run.fire_time < DAY], [run for run in runs if run.fire_time >= DAY]


@asynccontextmanager
async def a_site(folder: Path, scene: Scene, orders: Iterable[Order]) -> AsyncIterator[Site]:
    site = Site(folder, scene, orders)
    await site.build()
    try:
        yield site
    except (AssertionError, TimeoutError) as error:
        error.add_note(f"The log of the last daemon:\n{site.life.log.read_text()}")
        raise
    finally:
        await site.leave()


async def check(site: Site, ends: Mapping[str, tuple[RunState, ...]]) -> None:
    """Check that each fire has one final run, that each triggered one has one instance, and no other is."""
    async with await Ledger.open_to_read(site.settings.ledger) as ledger:
        _, runs = await _runs(ledger)
        watches = await ledger.watches_of([run.id for run in runs])
        attempts = await ledger.attempts([run.id for run in runs])
        findings = list(await _audited(ledger, site.clock.now()))

    found: dict[str, tuple[RunState, ...]] = {}
    for run in runs:
        found[run.schedule_id] = (*found.get(run.schedule_id, ()), run.state)
    assert found == ends, [run.reason for run in runs]
    assert len({(run.schedule_id, run.fire_time) for run in runs}) == len(runs)

    triggered = [run for run in runs if run.state is RunState.TRIGGERED]
    assert sorted(each.id for each in site.simulator.instances) == sorted(
        run.predicted_instance for run in triggered
    )
    assert all(run.instance == run.predicted_instance for run in triggered)
    assert {watch.state for watch in watches.values()} <= {FlowState.SUCCEEDED}
    assert len(watches) == sum(run.watch is not None for run in triggered)
    assert [finding for finding in findings if finding.differs] == []
    _check_calls(site.triggers(), runs)
    for flow in {run.flow for run in runs}:
        _check_distance([attempt for run in runs if run.flow == flow for attempt in attempts[run.id]])


def _check_calls(calls: list[Call], runs: list[Run]) -> None:
    """Check that a call is the same each time, and made again only where that can do no harm."""
    fires = {(run.flow, milliseconds(run.fire_time)): run.task for run in runs}
    assert {(call.flow, call.trigger_time): call.task for call in calls}.items() <= fires.items()
    for flow, trigger_time in fires:
        of_fire = [call for call in calls if (call.flow, call.trigger_time) == (flow, trigger_time)]
        for earlier, later in pairwise(of_fire):
            assert earlier.created is None
            assert earlier.fault in KNOWN_REFUSALS or later.began_at - earlier.began_at >= APART


def _check_distance(attempts: list[Attempt]) -> None:
    """Check that two attempts of one flow are apart, where EnOS may have something of the earlier."""
    for earlier, later in pairwise(sorted(attempts, key=lambda attempt: attempt.started_at)):
        assert earlier.outcome in SURELY_NOT_PROCESSED or later.started_at - earlier.started_at >= APART


async def _audited(ledger: LedgerReader, now: datetime) -> Iterator[audit.Finding]:
    terms = await ledger.terms()
    fired = await ledger.automatic_runs(DAY, now, None, 1000)
    return audit.compare(terms, fired, from_=DAY, to=now, now=now, rules_of=cron.zone_rules)


@pytest.mark.e2e
@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("point", POINTS, ids=str)
async def test_whoever_dies_there_the_next_daemon_finds_one_run_and_one_instance(
    tmp_path: Path, point: Point, weather: str
) -> None:
    step = point.step
    async with a_site(tmp_path, step.scene, (*step.orders, *WEATHERS[weather])) as site:
        if step.former is not None:
            await site.dies(step.former)
            site.clock.pass_by(step.downtime)
        await site.dies(point)
        await site.lives(point.ends)

        await check(site, point.ends)


@pytest.mark.e2e
async def test_killed_at_any_instant_of_a_backlog_nothing_is_lost_and_nothing_done_twice(
    tmp_path: Path,
) -> None:
    chance = random.Random(20260310)  # noqa: S311 - to be the same each time
    flows = range(1, 6)
    schedules = [f'backlog-{flow}: {{cron: "0 7-12 10 3 *", flow: {flow}}}' for flow in flows]
    ends = {f"backlog-{flow}": (RunState.TRIGGERED,) * 6 for flow in flows}
    orders = [
        replace(order, times=None, probability=0.15, seed=number)
        for number, order in enumerate((LOST_BEFORE, LOST_AFTER))
    ]
    async with a_site(tmp_path, Scene(schedules="\n  ".join(schedules), ends=ends), orders) as site:
        for _ in range(15):
            site.begin()
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            site.process.kill()
            assert await site.ends() == -signal.SIGKILL
        await site.lives(ends)

        await check(site, ends)


def test_every_write_of_the_ledger_has_its_points() -> None:
    assert {step.does for step in WRITES} == _writing_methods() - ASIDE
    for step in WRITES:
        assert [point.moment for point in POINTS if point.step is step] == list(AT_A_STEP)


def test_every_way_between_two_states_is_a_step() -> None:
    ways: set[tuple[RunState | None, RunState]] = {(None, state) for state in INITIAL_STATES}
    ways |= {(state, into) for state, nexts in ARROWS.items() for into in nexts}

    arrows = {step.arrow for step in WRITES if step.does not in ("apply", "forget", "record_watch")}
    assert ways == arrows - {(None, None)}


def test_every_point_has_a_name_of_its_own_and_says_what_is_durable() -> None:
    assert len({str(point) for point in POINTS}) == len(POINTS)
    assert all(point.durable for point in POINTS)


def test_clocks_that_began_together_show_one_time() -> None:
    began = time.monotonic() - 1
    first, second = FastClock(DAY, SPEED, began), FastClock(DAY, SPEED, began)

    assert DAY + timedelta(seconds=SPEED) <= first.now() <= second.now()


def _writing_methods() -> set[str]:
    """Return the methods of `Ledger` that ask its writing thread for something."""
    (ledger,) = ast.parse(textwrap.dedent(inspect.getsource(Ledger))).body
    assert isinstance(ledger, ast.ClassDef)
    methods = [each for each in ledger.body if isinstance(each, ast.AsyncFunctionDef)]
    return {method.name for method in methods if "self._writer.do(" in ast.unparse(method)}
