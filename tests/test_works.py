"""Works that last: none ends for a fault of its own, and only the ledger ends all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from flowsched.clock import SystemClock
from flowsched.daemon import read_catalog
from flowsched.daemon import works as room
from flowsched.daemon.daemon import Daemon
from flowsched.daemon.reloads import Reloads
from flowsched.daemon.works import BEGIN_AGAIN, beside, done_before, kept, lasting
from flowsched.errors import LedgerUnusable
from flowsched.ledger import Ledger
from flowsched.model import Reload, ReloadOutcome
from tests.fakes import HandClock, all_have_run
from tests.reloading import a_file, settings_in

if TYPE_CHECKING:
    from pathlib import Path

    from flowsched.events import Event


class Faulty:
    """Raises its faults one by one, each when it is begun; then it goes on."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.begun = 0

    async def keep(self) -> None:
        self.begun += 1
        if self.faults:
            raise self.faults.pop(0)
        await asyncio.Event().wait()


class Books:
    """A ledger that becomes unusable when it is told to."""

    def __init__(self) -> None:
        self.ends = asyncio.Event()

    async def unusable(self) -> LedgerUnusable:
        await self.ends.wait()
        return LedgerUnusable("the disk is gone")


async def test_a_work_that_fails_is_begun_again_and_each_kind_of_fault_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, clock = Faulty(ValueError("1"), ValueError("2"), RuntimeError("3"), ValueError("4")), HandClock()
    async with beside(clock, work.keep):
        for _ in range(6):
            await all_have_run()
            clock.advance(BEGIN_AGAIN)
        still_begun = work.begun

    assert still_begun == 5
    assert [(each.levelname, each.exc_info and each.exc_info[0]) for each in caplog.records] == [
        ("CRITICAL", ValueError),
        ("CRITICAL", RuntimeError),
    ]


async def test_a_fault_of_one_stops_no_other_and_only_the_ledger_ends_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    books, faulty, sound, clock = Books(), Faulty(ValueError("1")), Faulty(), HandClock()
    keeping = asyncio.create_task(kept(cast("Ledger", books), clock, faulty.keep, sound.keep))
    await all_have_run()
    clock.advance(BEGIN_AGAIN)
    await all_have_run()
    assert (faulty.begun, sound.begun, keeping.done()) == (2, 1, False)

    books.ends.set()
    with pytest.raises(LedgerUnusable, match="the disk is gone"):
        await keeping
    assert len(caplog.records) == 1


async def test_an_unusable_ledger_is_no_fault_to_begin_again_after() -> None:
    work = Faulty(LedgerUnusable("the disk is gone"))
    with pytest.raises(LedgerUnusable):
        await lasting(work.keep, HandClock())

    assert work.begun == 1


async def test_what_is_not_gone_on_with_has_ended_when_that_is_told() -> None:
    stop, said = asyncio.Event(), list[str]()

    async def work() -> None:
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            said.append("ended")

    assert await done_before(stop, work()) is False
    assert said == ["ended"]


async def test_what_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "UNWIND", 0.01)
    stop, ends, said = asyncio.Event(), asyncio.Event(), list[str]()

    async def work() -> None:
        stop.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await ends.wait()
            said.append("ended")

    assert await done_before(stop, work()) is False
    assert said == []
    ends.set()
    await all_have_run()
    assert said == ["ended"]


async def test_what_is_done_in_time_is_and_what_it_raises_is_raised() -> None:
    async def fails() -> None:
        raise LedgerUnusable("the disk is gone")

    assert await done_before(asyncio.Event(), asyncio.sleep(0)) is True
    with pytest.raises(LedgerUnusable):
        await done_before(asyncio.Event(), fails())


async def test_readings_go_on_after_a_fault_between_two_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BEGIN_AGAIN", 0.01)
    settings = settings_in(tmp_path)
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "a.yaml").write_text(a_file("a1", cron="0 0 1 1 *"))
    async with await Ledger.open(settings.ledger) as ledger:
        daemon = Daemon(ledger, {}, SystemClock())
        await daemon.start(read_catalog(settings))
        told, meanwhile = Faulty(ZeroDivisionError()), list[asyncio.Future[Reload]]()

        def tell(_: Event) -> None:
            if told.faults:
                meanwhile.append(reloads.ask("meanwhile"))
                raise told.faults.pop()

        reloads = Reloads(daemon, settings, SystemClock(), tell)
        async with beside(SystemClock(), reloads.keep):
            first = await reloads.ask("first")
            second = await asyncio.wait_for(reloads.ask("second"), 20)
        third = await reloads.ask("third")
        await daemon.stop(asyncio.Event())

    assert (first.outcome, first.problems) == (
        ReloadOutcome.FAILED,
        ("a fault of flowsched; its log says more",),
    )
    assert (await meanwhile[0]).outcome is ReloadOutcome.FAILED
    assert (second.outcome, third.outcome) == (ReloadOutcome.UNCHANGED, ReloadOutcome.REFUSED)
