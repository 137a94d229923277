"""What a command has where no daemon answers: the same hands, and the ledger for itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.config import load_catalog, load_settings
from flowsched.daemon import hands as hands_module
from flowsched.daemon.alone import alone
from flowsched.errors import ConfigError, ControlRefusal, LedgerError, LedgerTaken, NoDaemon, SecretError
from flowsched.ledger import Ledger
from flowsched.model import Catalog, Origin, RunState, Scope
from flowsched.simulator import Fault, Order, Simulator
from tests.builders import a_new_run, a_schedule
from tests.commanding import APPLICATION, SCHEDULES, SETTINGS
from tests.fakes import HandClock, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from flowsched.daemon.hands import Hands
    from flowsched.model import Run

NOW = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)
ENVIRON = {"AK": APPLICATION.access_key, "SK": APPLICATION.secret_key}


class House:
    """An installation with a simulated EnOS and a ledger, and no daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock(NOW)
        self.simulator = Simulator(self.clock, application=APPLICATION)

    async def build(self) -> None:
        url, user = await self.simulator.start(), self.simulator.user
        (self.folder / "flowsched.yaml").write_text(SETTINGS.format(url=url, org=user.org, user=user.id))
        (self.folder / "schedules").mkdir()
        (self.folder / "schedules" / "a.yaml").write_text(SCHEDULES)
        self.settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open(self.settings.ledger) as ledger:
            await ledger.apply(Catalog({}, "r1"), NOW - timedelta(days=1))

    def hands(self, environ: dict[str, str] | None = None) -> AbstractAsyncContextManager[Hands]:
        return alone(self.settings, ENVIRON if environ is None else environ, self.clock)

    async def runs(self) -> list[Run]:
        async with await Ledger.open_to_read(self.settings.ledger) as ledger:
            return await ledger.runs()


@asynccontextmanager
async def a_house(folder: Path) -> AsyncIterator[House]:
    house = House(folder)
    await house.build()
    yield house
    await house.simulator.stop()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path) as house:
        yield house


async def trigger(hands: Hands, schedule_id: str = "nightly") -> Run:
    return await hands.trigger(schedule_id, None, Origin.MANUAL, "ada", "because")


async def test_a_run_is_triggered_by_the_same_rules_into_the_same_ledger(house: House) -> None:
    async with house.hands() as hands:
        run = await trigger(hands)
        await eventually(lambda: house.simulator.instances)
        with pytest.raises(ControlRefusal, match="has flow 3377 at 2026-03-10T12:00:00Z already"):
            await trigger(hands)
        await eventually(lambda: not hands._shift.runner.under_way)

    (found,) = await house.runs()
    assert (found.id, found.state, found.origin) == (run.id, RunState.TRIGGERED, Origin.MANUAL)
    assert [each.id for each in house.simulator.instances] == [found.instance]


async def test_an_attempt_that_is_under_way_at_the_end_comes_to_its_end(house: House) -> None:
    async with house.hands() as hands:
        await trigger(hands)
        await eventually(lambda: house.simulator.calls)

    (found,) = await house.runs()
    assert found.state in (RunState.TRIGGERED, RunState.CLAIMED)
    assert (found.state is RunState.TRIGGERED) == bool(house.simulator.instances)


async def test_runs_of_others_are_left_alone(house: House) -> None:
    schedule = a_schedule("nightly", "30 2 * * *")
    async with await Ledger.open(house.settings.ledger) as ledger:
        await ledger.apply(Catalog({schedule.id: schedule}, "r2"), NOW - timedelta(hours=12))
        await ledger.claim([a_new_run(fire_time=NOW - timedelta(hours=10), deadline=NOW)], [])
    async with house.hands() as hands:
        await hands.pause(Scope.ALL, None, None, "ada", "plant closed")
    async with house.hands() as hands:
        assert len(await hands.resume(Scope.ALL, None, "ada", None)) == 1

    (found,) = await house.runs()
    assert (found.state, len(house.simulator.calls)) == (RunState.CLAIMED, 0)


async def test_the_distance_to_what_another_process_has_just_sent_is_kept(house: House) -> None:
    async with house.hands() as hands:
        await trigger(hands)
        await eventually(lambda: house.simulator.instances and not hands._shift.runner.under_way)
    house.clock.advance(20)
    async with house.hands() as hands:
        await hands.trigger("nightly", NOW.replace(second=0) - timedelta(hours=1), Origin.MANUAL, "a", "b")
        await eventually(lambda: house.clock.sleeping)
        assert len(house.simulator.instances) == 1
        house.clock.advance(40)
        await eventually(lambda: len(house.simulator.instances) == 2)
        await eventually(lambda: not hands._shift.runner.under_way)


async def test_what_needs_no_keys_and_no_files_does_without_them(house: House) -> None:
    async with house.hands({}) as hands:
        with pytest.raises(SecretError) as caught:
            await trigger(hands)
        assert len(caught.value.faults) == 2
        await hands.pause(Scope.TARGET, "default", None, "ada", "plant closed")
        (house.folder / "schedules" / "a.yaml").write_text("schedules: {x: {cron: nonsense}}\n")
        await hands.pause(Scope.ALL, None, None, "ada", "plant closed")
    async with house.hands({}) as hands:
        with pytest.raises(ConfigError):
            await hands.pause(Scope.SCHEDULE, "nightly", None, "ada", "plant closed")

    assert await house.runs() == []


async def test_beside_a_daemon_that_lives_nothing_is_done(house: House) -> None:
    async with await Ledger.open_as_daemon(house.settings.ledger):
        with pytest.raises(LedgerTaken, match="is kept by another daemon"):
            async with house.hands():
                pass


async def test_a_ledger_that_is_not_there_is_not_made(house: House) -> None:
    for path in house.folder.glob("ledger.db*"):
        path.unlink()

    with pytest.raises(LedgerError, match="does not exist"):
        async with house.hands():
            pass
    assert not (house.folder / "ledger.db").exists()


async def test_what_the_files_are_is_accepted_for_the_next_daemon(house: House) -> None:
    revision = load_catalog(house.settings.schedules, house.settings).revision
    async with house.hands({}) as hands:
        assert await hands.accept(revision[:8], "ada", "plant closed") is None
        with pytest.raises(ControlRefusal, match="are another catalog now"):
            await hands.accept("0" * 8, "ada", None)

    async with await Ledger.open_to_read(house.settings.ledger) as ledger:
        assert await ledger.accepted_by(revision) == "ada"


async def test_a_cancellation_that_is_cut_short_is_on_record(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands_module, "END_WITHIN", 0.05)
    async with house.hands() as hands:
        run = await trigger(hands)
        await eventually(lambda: house.simulator.instances and not hands._shift.runner.under_way)
        house.simulator.faults.add(Order(fault=Fault.SILENCE, on="flowInstances.cancel"))
        asking = asyncio.create_task(hands.cancel(run.id, "ada", "wrong input"))
        await eventually(lambda: house.simulator.calls[-1].operation == "flowInstances.cancel")
    await asyncio.gather(asking, return_exceptions=True)

    async with await Ledger.open_to_read(house.settings.ledger) as ledger:
        (action, _) = await ledger.actions()
    said = (
        f"not known whether EnOS took the cancellation of {run.predicted_instance}: the call was broken off"
    )
    assert action.detail == said


async def test_there_is_no_status_and_no_reload_without_a_daemon(house: House) -> None:
    async with house.hands() as hands:
        with pytest.raises(NoDaemon):
            hands.status()
        with pytest.raises(NoDaemon):
            await hands.reload("ada")
