"""Plays the script to the daemon, lets it come to rest, and gathers the evidence."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import click

from flowsched.config import load_catalog, load_settings
from flowsched.ledger import Ledger
from flowsched.simulator import Application, Behaviour, Fault, Order, SimFlow, Simulator, Status
from tests.soak.checks import Evidence
from tests.soak.clock import START, Offset, Pace, SoakClock
from tests.soak.daemon import ROOT, Daemon
from tests.soak.garden import FLOWS, Edit, Garden, edited, planted
from tests.soak.history import Version, Walls
from tests.soak.script import Act, Event, outage, script, standing_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from flowsched.model import Attempt, Run

SPEED = 40.0
"""A minute of the soak is a real second and a half."""

REST = 150.0
"""Real seconds in which every run comes to an end once all is well."""

TOLD = 10.0
"""Real seconds between two lines of progress."""

APPLICATION = Application("soak-access-key", "soak-secret-key")

BROKEN_FILE = "schedules:\n  broken: {cron: '61 * * * *', flow: 1, timezone: UTC}\n"

SETTINGS = """\
schedules: schedules
ledger: sqlite:///ledger.db
targets:
  default:
    url: {url}
    org_id: {org}
    user_id: {user}
    access_key: {{env: SOAK_ACCESS_KEY}}
    secret_key: {{file: secret}}
"""


class Conductor:
    """One soak in one folder."""

    def __init__(self, folder: Path, seed: int, seconds: float, broken: str) -> None:
        self.folder = folder
        self.done: Counter[str] = Counter()
        """What was done to the daemon, and how often."""
        self.seconds = seconds
        self._seed = seed
        self._chance = Random(f"garden {seed}")  # noqa: S311 - to be repeated
        self._pace = Pace(time.monotonic(), SPEED)
        self._offset = Offset(folder / "offset")
        self._walls = Walls()
        self._versions: list[Version] = []
        self._garden = planted(self._chance)
        self._simulator = Simulator(
            SoakClock(self._pace),
            application=APPLICATION,
            flows=_flows(self._chance),
            behaviour=Behaviour(late_visibility=timedelta(seconds=15), token_lifetime=timedelta(minutes=40)),
        )
        self._daemon = Daemon(folder, self._pace, broken, APPLICATION.access_key)
        self._url = ""
        self._outage: asyncio.Task[None] | None = None
        self._lock: asyncio.Task[None] | None = None
        self._rules: list[Order] = list(standing_faults(seed))

    async def play(self) -> Evidence:
        """Play it all, and return the evidence; whatever happens, nothing is left running."""
        telling = asyncio.create_task(self._tell())
        try:
            await self._build()
            await self._through_the_script()
            await self._come_to_rest()
            return await self._evidence()
        finally:
            for task in filter(None, (telling, self._outage, self._lock)):
                task.cancel()
            await self._daemon.leave()
            await self._simulator.stop()

    async def _build(self) -> None:
        self._url = await self._simulator.start()
        user = self._simulator.user
        text = SETTINGS.format(url=self._url, org=user.org, user=user.id)
        (self.folder / "flowsched.yaml").write_text(text)
        (self.folder / "secret").write_text(APPLICATION.secret_key)
        self._write(self._garden)
        self._order_standing()
        await self._daemon.spawn()
        await self._ready()

    async def _through_the_script(self) -> None:
        acts: Mapping[Act, Callable[[Event], Awaitable[None]]] = {
            Act.KILL: self._kill,
            Act.TERM: self._term,
            Act.EDIT: self._edit,
            Act.BAD_EDIT: self._bad_edit,
            Act.STEP: self._step,
            Act.GATEWAY: self._gateway_outage,
            Act.LEDGER: self._ledger_outage,
            Act.REVOKE: self._revoke,
        }
        for event in script(self._seed, self.seconds):
            await asyncio.sleep(event.at - self._elapsed)
            await acts[event.act](event)
            self.done[event.act] += 1
        await asyncio.sleep(max(0.0, self.seconds - self._elapsed))

    async def _come_to_rest(self) -> None:
        """Mend all that is broken, let nothing new fire, and wait until nothing is under way."""
        for outage_ in filter(None, (self._outage, self._lock)):
            await outage_
        await self._gateway_anew()
        self._rules = []
        self._order_standing()
        self._write(self._garden.closed())
        await self._accept()
        await self._reload()
        last = time.monotonic() + REST
        while await self._under_way() and time.monotonic() < last:
            await asyncio.sleep(0.5)
        await self._daemon.stop()

    # What is done to it.

    async def _kill(self, event: Event) -> None:
        await self._daemon.kill()
        await asyncio.sleep(event.lasts)
        await self._daemon.spawn()
        if event.twice:
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))
            await self._daemon.kill()
            self.done["kill while it starts"] += 1
            await self._daemon.spawn()
        await self._ready()

    async def _term(self, event: Event) -> None:
        await self._daemon.stop(twice=event.twice)
        await asyncio.sleep(event.lasts)
        await self._daemon.spawn()
        await self._ready()

    async def _edit(self, event: Event) -> None:
        self._garden = edited(self._garden, Edit(event.how), self._chance)
        self.done[f"edit: {event.how}"] += 1
        self._write(self._garden)
        if event.twice:
            self._daemon.tell(signal.SIGHUP)
            await asyncio.sleep(self._chance.uniform(0.0, 0.1))
            await self._daemon.kill()
            self.done["kill during a reload"] += 1
            await self._daemon.spawn()
            await self._ready()
        else:
            await self._reload()

    async def _bad_edit(self, _: Event) -> None:
        """Add a broken file, which must not change anything, and take it away again."""
        refusals = len(self._daemon.refusals)
        broken = self.folder / "schedules" / "broken.yaml"
        broken.write_text(BROKEN_FILE)
        in_force = self._daemon.in_force
        self._daemon.tell(signal.SIGHUP)
        if not await self._daemon.waits(lambda: len(self._daemon.refusals) > refusals):
            self._daemon.complaints.append("a broken file was not refused")
        broken.unlink()
        if self._daemon.in_force != in_force:
            self._daemon.complaints.append("a broken file has changed what is in force")
        await self._reload()

    async def _step(self, event: Event) -> None:
        """Set the daemon's clock, while it runs or while it is down."""
        if event.twice:
            await self._daemon.kill()
        ahead = event.lasts
        way = "forward" if ahead > self._offset.get() else "back"
        self._offset.set(ahead)
        self._walls.steps.append((self._pace.ticks(), ahead))
        self.done[f"step {way}"] += 1
        if event.twice:
            await self._daemon.spawn()
            await self._ready()

    async def _gateway_outage(self, event: Event) -> None:
        """Begin an outage that goes on while other things happen."""
        if self._outage:
            await self._outage
        self._outage = asyncio.create_task(self._gateway_down(event))

    async def _gateway_down(self, event: Event) -> None:
        self.done[f"gateway: {event.how}"] += 1
        if event.how == "closed":
            await self._simulator.stop()
            await asyncio.sleep(event.lasts)
            await self._listen()
            return
        self._simulator.faults.clear()
        self._simulator.faults.add(outage(event.how))
        await asyncio.sleep(event.lasts)
        self._order_standing()
        await self._gateway_anew()

    async def _ledger_outage(self, event: Event) -> None:
        if self._lock:
            await self._lock
        self.done[f"ledger: {event.how}"] += 1
        ledger = self.folder / "ledger.db"
        if event.how == "moved":
            away = ledger.rename(self.folder / "ledger.away")
            await asyncio.sleep(event.lasts)
            away.rename(ledger)
            return
        self._lock = asyncio.create_task(self._ledger_locked(ledger, event.lasts))

    async def _ledger_locked(self, ledger: Path, lasts: float) -> None:
        """Be another process that writes and does not end; other things happen meanwhile."""
        # Not long, as all of the simulator waits as well.
        with closing(sqlite3.connect(ledger, isolation_level=None, timeout=0.1)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                self.done["ledger: could not be locked"] += 1
                return
            await asyncio.sleep(lasts)
            other.execute("ROLLBACK")

    async def _revoke(self, _: Event) -> None:
        """Revoke the token once; each call after it is spared."""
        standing = list(self._simulator.faults.standing)
        self._simulator.faults.clear()
        for order in (Order(fault=Fault.TOKEN_REVOKED), *standing):
            self._simulator.faults.add(order)

    # Files, gateway and process.

    def _write(self, garden: Garden) -> None:
        """Put a garden into the files, and note when."""
        written, schedules = self._pace.ticks(), self.folder / "schedules"
        texts = garden.texts()
        for path in schedules.rglob("*.yaml"):
            if str(path.relative_to(schedules)) not in texts:
                path.unlink()
        for name, text in texts.items():
            (schedules / name).parent.mkdir(parents=True, exist_ok=True)
            (schedules / name).write_text(text)
        settings = load_settings(self.folder / "flowsched.yaml")
        self._versions.append(Version(load_catalog(settings.schedules, settings), written))

    async def _ready(self) -> None:
        await self._daemon.until_ready()
        self._note_in_force()

    async def _reload(self) -> None:
        """Have the files read until they are in force: a ledger may be in the way for a while."""
        wanted = self._versions[-1].catalog.revision
        last = time.monotonic() + REST
        while self._daemon.in_force != wanted and time.monotonic() < last:
            refusals = len(self._daemon.refusals)
            self._daemon.tell(signal.SIGHUP)
            await self._daemon.waits(
                lambda: self._daemon.in_force == wanted or len(self._daemon.refusals) > refusals  # noqa: B023
            )
        self._note_in_force()

    def _note_in_force(self) -> None:
        version = self._versions[-1]
        if self._daemon.in_force != version.catalog.revision:
            self._daemon.complaints.append(f"version {len(self._versions)} of the files is not in force")
        if version.applied is None:
            version.applied = self._pace.ticks()

    async def _gateway_anew(self) -> None:
        """Cut every connection, also those that would stay silent for long."""
        await self._simulator.stop()
        await self._listen()

    async def _listen(self) -> None:
        while True:
            try:
                await self._simulator.start(port=int(self._url.rpartition(":")[2]))
            except Exception as error:  # noqa: BLE001 - another socket has the port for a moment
                click.echo(f"gateway: {error}; trying again", err=True)
                await asyncio.sleep(0.1)
            else:
                return

    def _order_standing(self) -> None:
        self._simulator.faults.clear()
        for order in self._rules:
            self._simulator.faults.add(order)

    # What is seen of it.

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._pace.began

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TOLD)
            triggered, failed = (self._daemon.events[f"run {word}"] for word in ("triggered", "failed"))
            clock = START + timedelta(seconds=self._pace.ticks() + self._offset.get())
            click.echo(
                f"{self._elapsed:6.0f} s  {clock:%d %H:%M}Z  {triggered} triggered, {failed} failed,"
                f" {len(self._daemon.restarts)} starts, {len(self._versions)} versions,"
                f" {len(self._walls.steps) - 1} steps, {self.done[Act.GATEWAY]} gateway"
                f" and {self.done[Act.LEDGER]} ledger outages"
            )

    async def _under_way(self) -> int:
        settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open_to_read(settings.ledger) as ledger:
            return len(await ledger.open_runs())

    async def _evidence(self) -> Evidence:
        settings = load_settings(self.folder / "flowsched.yaml")
        runs, attempts = await _read(settings.ledger)
        audited = await self._audit()
        return Evidence(
            runs=runs,
            attempts=attempts,
            calls=self._simulator.calls,
            instances=self._simulator.instances,
            sendings=self._daemon.sendings,
            versions=self._versions,
            walls=self._walls,
            gaps=audited["gaps"],
            surplus=audited["surplus"],
            complaints=self._daemon.complaints,
            restarts=self._daemon.restarts,
        )

    async def _accept(self) -> None:
        """Accept what was written last with `flowsched apply`, as it leaves nothing enabled."""
        await self._flowsched("apply", "--accept", self._versions[-1].catalog.revision)

    async def _flowsched(self, *arguments: str) -> bytes:
        """Run a command, as anybody would; return what it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowsched", "--config", str(self.folder / "flowsched.yaml"), *arguments),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return out

    async def _audit(self) -> dict[str, int]:
        out = await self._flowsched("audit", "--to", "2100-01-01T00:00Z", "--format", "json")
        (self.folder / "audit.json").write_bytes(out)
        found: dict[str, int] = json.loads(out)
        return found

    def figures(self, evidence: Evidence) -> list[tuple[str, str]]:
        """Return all that was counted, to be printed."""
        events, daemon = self._daemon.events, self._daemon
        first, last = self._walls.between(0.0, self._pace.ticks())
        states = Counter(run.state for run in evidence.runs)
        outcomes = Counter(attempt.outcome for attempts in evidence.attempts.values() for attempt in attempts)
        faults = Counter(call.fault for call in evidence.calls if call.fault)
        return [
            ("seed", str(self._seed)),
            ("real time", f"{self._elapsed:.0f} s, of which {self.seconds:.0f} s of trouble"),
            ("simulated time", f"{first:%Y-%m-%d %H:%M}Z to {last:%Y-%m-%d %H:%M}Z"),
            ("runs", str(len(evidence.runs))),
            ("runs by state", _sums(states)),
            ("runs by origin", _sums(Counter(run.origin for run in evidence.runs))),
            ("attempts by outcome", _sums(outcomes)),
            ("instances", str(len(evidence.instances))),
            ("calls", _sums(Counter(call.operation for call in evidence.calls))),
            ("faults", _sums(faults)),
            ("looks", _sums(_starting(events, "instance "))),
            ("sent again after looks", str(events["run is sent again"])),
            ("watched flows", _sums(_starting(events, "flow "))),
            ("starts", f"{len(daemon.restarts)}, and {daemon.refused_starts} that the ledger refused"),
            ("reloads", f"{events['catalog applied']} applied, {len(daemon.refusals)} refused"),
            ("versions of the files", str(len(evidence.versions))),
            ("done to it", _sums(self.done)),
        ]


async def _read(url: str) -> tuple[list[Run], dict[int, list[Attempt]]]:
    async with await Ledger.open_to_read(url) as ledger:
        runs = await ledger.runs(limit=1 << 40)
        return runs, await ledger.attempts([run.id for run in runs])


def _flows(chance: Random) -> dict[int, SimFlow]:
    """Return flows that take from half a minute to some minutes, and of which some fail."""
    return {
        flow: SimFlow(
            duration=timedelta(seconds=chance.choice((20, 45, 90, 200, 400))),
            ends_as=chance.choice((Status.SUCCESS, Status.SUCCESS, Status.SUCCESS, Status.FAIL)),
        )
        for flow in FLOWS
    }


def _starting(events: Mapping[str, int], prefix: str) -> Counter[str]:
    found = {
        event.removeprefix(prefix): number for event, number in events.items() if event.startswith(prefix)
    }
    return Counter(found)


def _sums(numbers: Mapping[Any, int]) -> str:
    return (
        ", ".join(f"{number} {name or 'open'}" for name, number in sorted(numbers.items(), key=str)) or "none"
    )
