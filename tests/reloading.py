"""A daemon with the files of its schedules, which tests change; and readings in whose middle they do so."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from flowsched.config import load_settings
from flowsched.daemon import Daemon
from flowsched.daemon.disk import Disk
from flowsched.daemon.reading import Course, read_first, read_settled
from flowsched.daemon.reloads import Reloads
from flowsched.daemon.watching import Watching
from flowsched.events import Reloaded
from flowsched.ledger import Ledger
from tests.fakes import HandClock, ScriptedGateway, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flowsched.clock import Clock
    from flowsched.daemon.reading import Reading
    from flowsched.events import Event
    from flowsched.model import Reload, Settings


class Meddled(Course):
    """A reading in whose middle somebody does something, each time at the same place."""

    def __init__(self, at: int, act: Callable[[], object], times: int = 1) -> None:
        super().__init__()
        self._at = at
        self._act = act
        self._times = times

    def begin(self) -> None:
        """Note a step; before the file of the number `at`, counted from 1 in each reading, act."""
        super().begin()
        if self.files == self._at and self._times:
            self._times -= 1
            self._act()

    def rest(self, seconds: float) -> None:
        """Wait, and count the files anew."""
        self.files = -1
        super().rest(seconds)


def settings_in(folder: Path, schedules: str = "schedules", **more: object) -> Settings:
    """Settings whose schedules are at a path below the folder."""
    (folder / "flowsched.yaml").write_text(
        f"schedules: {schedules}\nledger: sqlite:///ledger.db\ntargets:\n  default:\n    "
        "url: http://127.0.0.1:1\n    org_id: o1\n    user_id: u1\n"
        "    access_key: {env: AK}\n    secret_key: {env: SK}\n"
    )
    return replace(load_settings(folder / "flowsched.yaml"), **more)  # type: ignore[arg-type]


def a_file(*ids: str, cron: str = "* * * * *") -> str:
    """The text of a file with such schedules; each id has a flow of its own."""
    lines = (f"  {id_}: {{cron: '{cron}', timezone: UTC, flow: {flow_of(id_)}}}\n" for id_ in ids)
    return "schedules:\n" + "".join(lines)


def flow_of(id_: str) -> int:
    return int.from_bytes(id_.encode()[:3], "big")


class House:
    """A daemon on a real ledger and real files."""

    def __init__(self, folder: Path, ledger: Ledger, clock: Clock, settings: Settings) -> None:
        self.folder = folder
        self.ledger = ledger
        self.clock = clock
        self.settings = settings
        self.gateway = ScriptedGateway()
        self.daemon = Daemon(ledger, {"default": self.gateway}, clock, settings.max_change)
        self.disk = Disk(answer_within=20)
        self.reloads = Reloads(self.daemon, settings, clock, self._hear, disk=self.disk, read=self._read)
        self.outcomes: list[Reload] = []
        self.read: Callable[[Settings, Course], Reading] = read_settled
        self.readings = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, watch: bool = False, hurry: bool = False) -> None:
        catalog, look = read_first(self.settings)
        await self.daemon.start(catalog)
        self.reloads.started(catalog, look)
        works = [self.reloads.keep()]
        if watch:
            works.append(Watching(self.settings, self.reloads, self.clock, hurry=hurry).keep())
        self._tasks += map(asyncio.create_task, works)

    async def reload(self, why: str = "SIGHUP") -> Reload:
        async with asyncio.timeout(20):
            return await self.reloads.ask(why)

    async def passes(self, seconds: float) -> None:
        """Let time pass, second by second, with all that it brings about."""
        assert isinstance(self.clock, HandClock)
        for _ in range(round(seconds)):
            await self.quiet()
            self.clock.advance(1)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until nothing is being read or applied, and all has been done that follows from it."""
        for _ in range(10):
            await eventually(lambda: not self._busy)
            await asyncio.sleep(0)

    @property
    def _busy(self) -> bool:
        reading = any(each.name == "flowsched-disk" for each in threading.enumerate())
        return reading or self.reloads.under_way or self.daemon.engine._claims.busy

    @property
    def in_force(self) -> list[str]:
        return sorted(self.daemon.catalog.schedules)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.daemon.stop(asyncio.Event())

    def _hear(self, event: Event) -> None:
        if isinstance(event, Reloaded):
            self.outcomes.append(event.reload)

    def _read(self, settings: Settings, course: Course) -> Reading:
        self.readings += 1
        return self.read(settings, course)


@asynccontextmanager
async def a_house(
    folder: Path,
    *,
    watch: bool = False,
    hurry: bool = False,
    clock: Clock | None = None,
    schedules: str = "schedules",
    max_change: int = 100,
) -> AsyncIterator[House]:
    """A house that has started on what lies below the folder."""
    settings = settings_in(folder, schedules, max_change=max_change)
    async with await Ledger.open(settings.ledger) as ledger:
        house = House(folder, ledger, clock or HandClock(), settings)
        await house.start(watch=watch, hurry=hurry)
        try:
            yield house
        finally:
            await house.stop()
