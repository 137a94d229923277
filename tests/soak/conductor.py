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
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import click

from flowsched.config import load_settings
from flowsched.ledger import Ledger
from flowsched.model import MessageState
from flowsched.simulator import Application, Behaviour, Fault, Order, SimFlow, Simulator, Status
from tests.soak.clock import START, Offset, Pace, SoakClock
from tests.soak.daemon import ROOT, Daemon
from tests.soak.evidence import Evidence
from tests.soak.files import Files
from tests.soak.garden import FLOWS, Edit, Garden, edited, planted
from tests.soak.history import Walls
from tests.soak.people import People
from tests.soak.receiver import Receiver
from tests.soak.script import ERRANDS, Act, Event, Way, outage, script, standing_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from flowsched.model import Action, Attempt, Pause, Run, Settings

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
alerts:
  group_wait: 10s
  repeat: 10m
  rate_per_hour: 200
  channels:
    team: {{webhook: {{url: "{receiver}/alerts"}}}}
pings:
  url: {receiver}/pings
"""

QUIET = {
    "flowsched_overdue_schedules": "fires are overdue",
    "flowsched_catalog_held": "a catalog is held",
    "flowsched_ledger_trouble": "the ledger is in trouble",
}
"""Metrics that are 0 when all is well, and what is said where they are not."""

LONG = 1.0
"""Real seconds: where the daemon is down for so long, somebody does something without it."""

ALONE = (
    Event(0.0, Act.TRIGGER, "now"),
    Event(0.0, Act.TRIGGER, "missed"),
    Event(0.0, Act.PAUSE, "schedule for a while"),
    Event(0.0, Act.RESUME),
    Event(0.0, Act.CANCEL, "waiting"),
    Event(0.0, Act.RESOLVE),
)


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
        self._files = Files(folder, self._pace, self._chance)
        self._garden = planted(self._chance)
        self._simulator = Simulator(
            SoakClock(self._pace),
            application=APPLICATION,
            flows=_flows(self._chance),
            behaviour=Behaviour(late_visibility=timedelta(seconds=15), token_lifetime=timedelta(minutes=40)),
        )
        command = [
            *(sys.executable, "-m", "tests.soak.process", str(self._pace.began), str(SPEED)),
            *(str(folder / "offset"), broken, str(folder / "flowsched.yaml")),
        ]
        self._daemon = Daemon(folder, self._pace, [*command, "run"], APPLICATION.access_key)
        self._people = People(
            command,
            self._pace,
            APPLICATION.access_key,
            seed,
            wall=self._wall,
            made=lambda: {each.id for each in self._simulator.instances},
        )
        self._receiver = Receiver(seed)
        self._settings: Settings
        self._listened = 0
        self._url = ""
        self._outage: asyncio.Task[None] | None = None
        self._lock: asyncio.Task[None] | None = None
        self._rules: list[Order] = list(standing_faults(seed))

    async def play(self) -> Evidence:
        """Play it all, and return the evidence; whatever happens, nothing is left running."""
        telling = asyncio.create_task(self._tell())
        try:
            async with self._receiver:
                await self._build()
                await self._through_the_script()
                await self._come_to_rest()
                return await self._evidence()
        finally:
            await self._people.leave()
            for task in filter(None, (telling, self._outage, self._lock)):
                task.cancel()
            await self._daemon.leave()
            await self._simulator.stop()

    async def _build(self) -> None:
        self._url = await self._simulator.start()
        user = self._simulator.user
        text = SETTINGS.format(url=self._url, org=user.org, user=user.id, receiver=self._receiver.url)
        (self.folder / "flowsched.yaml").write_text(text)
        (self.folder / "secret").write_text(APPLICATION.secret_key)
        self._settings = self._people.settings = load_settings(self.folder / "flowsched.yaml")
        await self._write(self._garden, Way.SWAP)
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
            if event.act in ERRANDS:
                self._people.send(event)
            else:
                await acts[event.act](event)
            self.done[event.act] += 1
        await asyncio.sleep(max(0.0, self.seconds - self._elapsed))

    async def _come_to_rest(self) -> None:
        """Mend all that is broken, let nothing new fire, and wait until nothing is under way."""
        for outage_ in filter(None, (self._outage, self._lock)):
            await outage_
        await self._gateway_anew()
        await self._people.come_home()
        self._rules = []
        self._order_standing()
        await self._write(self._garden.closed(), Way.SWAP)
        revision = self._files.versions[-1].catalog.revision
        await self._people(Act.EDIT, "apply", "--accept", revision)
        await self._reload(Way.HUP)
        last = time.monotonic() + REST
        while await self._under_way() and time.monotonic() < last:
            await asyncio.sleep(0.5)
        await self._look_whether_all_is_quiet()
        await self._daemon.stop()

    async def _look_whether_all_is_quiet(self) -> None:
        metrics = await self._people.metrics()
        for name, wrong in QUIET.items():
            if metrics.get(name, 1.0):
                self._daemon.complaints.append(f"at rest {wrong}: {name} {metrics.get(name)}")

    # What is done to it.

    async def _kill(self, event: Event) -> None:
        if event.how:
            # So that it ends at some point of a command: before it is asked, while it answers, or later.
            self._people.send(Event(0.0, Act(event.how), "now" if event.how == "trigger" else "schedule"))
            self.done[f"kill during a {event.how}"] += 1
            await asyncio.sleep(self._chance.uniform(0.3, 1.0))
        await self._daemon.kill()
        await self._down_for(event.lasts)
        await self._daemon.spawn()
        if event.twice:
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))
            await self._daemon.kill()
            self.done["kill while it starts"] += 1
            await self._daemon.spawn()
        await self._ready()

    async def _term(self, event: Event) -> None:
        await self._daemon.stop(twice=event.twice)
        await self._down_for(event.lasts)
        await self._daemon.spawn()
        await self._ready()

    async def _down_for(self, seconds: float) -> None:
        """Let the daemon be away; where that is for long, somebody does not wait for it."""
        if seconds >= LONG:
            event = self._chance.choice(ALONE)
            self._people.send(event)
            self.done[f"{event.act} while it is down"] += 1
        await asyncio.sleep(seconds)

    async def _edit(self, event: Event) -> None:
        self._garden = edited(self._garden, Edit(event.how), self._chance)
        self.done[f"edit: {event.how}"] += 1
        self.done[f"edit by: {event.way}"] += 1
        await self._write(self._garden, event.way)
        if event.twice:
            self._daemon.tell(signal.SIGHUP)
            await asyncio.sleep(self._chance.uniform(0.0, 0.1))
            await self._daemon.kill()
            self.done["kill during a reload"] += 1
            await self._daemon.spawn()
            await self._ready()
        else:
            await self._reload(event.way)

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
        await self._reload(Way.HUP)

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

    async def _write(self, garden: Garden, way: Way) -> None:
        """Put a garden into the files."""
        await self._files.put(garden.texts(), way, self._settings)
        self._people.ids = sorted(garden.entries)

    async def _ready(self) -> None:
        await self._daemon.until_ready()
        self._note_in_force()

    async def _reload(self, way: Way) -> None:
        """Have the files read until they are in force: a ledger may be in the way for a while."""
        wanted = self._files.versions[-1].catalog.revision
        last = time.monotonic() + REST
        while self._daemon.in_force != wanted and time.monotonic() < last:
            refusals = len(self._daemon.refusals)
            if way is Way.HUP:
                self._daemon.tell(signal.SIGHUP)
            elif way is Way.COMMAND:
                await self._people(Act.EDIT, "reload", "--wait", "--format", "json")
            await self._daemon.waits(
                lambda: self._daemon.in_force == wanted or len(self._daemon.refusals) > refusals  # noqa: B023
            )
        self._note_in_force()

    def _note_in_force(self) -> None:
        heard, self._listened = self._daemon.heard[self._listened :], len(self._daemon.heard)
        for revision, ticks in heard:
            if not self._files.heard(revision, ticks, self._settings):
                self._daemon.complaints.append(f"{revision} is in force, which nobody has written")
        version = self._files.versions[-1]
        if self._daemon.in_force != version.catalog.revision:
            number = len(self._files.versions)
            self._daemon.complaints.append(f"version {number} of the files is not in force")
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
            click.echo(
                f"{self._elapsed:6.0f} s  {self._wall():%d %H:%M}Z  {triggered} triggered, {failed} failed,"
                f" {len(self._daemon.restarts)} starts, {len(self._files.versions)} versions,"
                f" {len(self._walls.steps) - 1} steps, {self.done[Act.GATEWAY]} gateway"
                f" and {self.done[Act.LEDGER]} ledger outages, {len(self._people.errands)} commands"
            )

    def _wall(self) -> datetime:
        return START + timedelta(seconds=self._pace.ticks() + self._offset.get())

    async def _under_way(self) -> int:
        async with await Ledger.open_to_read(self._settings.ledger) as ledger:
            return len(await ledger.open_runs())

    async def _evidence(self) -> Evidence:
        books = await _read(self._settings.ledger)
        audited = await self._audit()
        people = self._people
        began = (errand.began for errand in people.errands)
        return Evidence(
            runs=books.runs,
            attempts=books.attempts,
            calls=self._simulator.calls,
            instances=self._simulator.instances,
            sendings=self._daemon.sendings,
            versions=self._files.versions,
            walls=self._walls,
            gaps=audited["gaps"],
            surplus=audited["surplus"],
            complaints=self._daemon.complaints,
            restarts=[*self._daemon.restarts, *began],
            pauses=books.pauses,
            actions=books.actions,
            errands=people.errands,
            stumbles=people.complaints,
            sent=books.sent,
            heard=self._receiver.messages,
        )

    async def _audit(self) -> dict[str, int]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowsched", "--config", str(self.folder / "flowsched.yaml")),
            *("audit", "--to", "2100-01-01T00:00Z", "--format", "json"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
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
            ("commands", _sums(Counter(errand.act for errand in self._people.errands))),
            ("commands exited with", _sums(Counter(str(errand.code) for errand in self._people.errands))),
            ("pauses", _sums(Counter(pause.scope for pause in evidence.pauses))),
            ("alerts heard", _sums(self._receiver.kinds)),
            ("receiver", f"{_sums(self._receiver.moods)}; {self._receiver.pings} pings"),
            ("done to it", _sums(self.done)),
        ]


@dataclass(frozen=True, slots=True)
class _Books:
    """What the ledger holds."""

    runs: list[Run]
    attempts: dict[int, list[Attempt]]
    pauses: list[Pause]
    actions: list[Action]
    sent: int


async def _read(url: str) -> _Books:
    async with await Ledger.open_to_read(url) as ledger:
        runs = await ledger.runs(limit=1 << 40)
        messages = await ledger.messages(limit=1 << 40)
        return _Books(
            runs,
            await ledger.attempts([run.id for run in runs]),
            await ledger.pauses(),
            await ledger.actions(limit=1 << 40),
            sum(message.state is MessageState.SENT for message in messages),
        )


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
