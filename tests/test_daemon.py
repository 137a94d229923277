"""The daemon as a process of its own, against the simulator over real sockets."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched import daemon as life
from flowsched import timeline
from flowsched.clock import SystemClock
from flowsched.config import load_catalog, load_settings
from flowsched.daemon import reloads
from flowsched.ledger import Ledger
from flowsched.model import Catalog, RunState
from flowsched.simulator import Application, Fault, Order, Simulator
from tests.builders import a_schedule
from tests.fakes import HandClock, ScriptedGateway, a_moment, eventually
from tests.repositories import Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.model import Run

pytestmark = pytest.mark.e2e

APPLICATION = Application("planted-access-key", "planted-secret-key")

SCHEDULES = """\
defaults: {timezone: UTC, catch_up: latest}
schedules:
  twice-an-hour: {cron: "%d,%d * * * *", flow: 3377}
"""


class Daemon:
    """One process of `flowsched run`, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.text = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.text += line.decode()
            if line.startswith(b"{"):
                self.events.append(json.loads(line))

    async def says(self, event: str, times: int = 1) -> None:
        await eventually(lambda: len(self.told(event)) >= times, within=20)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]

    async def ends(self) -> int:
        code = await asyncio.wait_for(self.process.wait(), 20)
        await self._reading
        return code

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Plant:
    """An installation with a simulated EnOS and two missed fires, of which the next start catches up one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.simulator = Simulator(SystemClock(), application=APPLICATION)
        self.daemons: list[Daemon] = []

    async def build(self) -> None:
        url = await self.simulator.start()
        user = self.simulator.user
        (self.folder / "schedules").mkdir()
        now = datetime.now(UTC)
        missed = tuple((now - timedelta(minutes=ago)).minute for ago in (4, 2))
        (self.folder / "schedules" / "a.yaml").write_text(SCHEDULES % missed)
        (self.folder / "flowsched.yaml").write_text(
            "reload: {watch: false}\nschedules: schedules\nledger: sqlite:///ledger.db\n"
            f"targets:\n  default:\n    url: {url}\n"
            f"    org_id: {user.org}\n    user_id: {user.id}\n"
            "    access_key: {env: AK}\n    secret_key: {file: secret}\n"
        )
        (self.folder / "secret").write_text(APPLICATION.secret_key + "\n")
        self.settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open(self.settings.ledger) as ledger:
            catalog = load_catalog(self.settings.schedules, self.settings)
            await ledger.apply(catalog, now - timedelta(minutes=6))

    async def start(self) -> Daemon:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "flowsched",
            "run",
            cwd=self.folder,
            env={**os.environ, "AK": APPLICATION.access_key, "FLOWSCHED_CONFIG": "flowsched.yaml"},
            stderr=asyncio.subprocess.PIPE,
        )
        daemon = Daemon(process)
        self.daemons.append(daemon)
        return daemon

    def schedules(self, hours: int, *, minute: int = 0, name: str = "many.yaml") -> None:
        """Write a file of schedules, one an hour, that do not fire while a test runs."""
        lines = (
            f"  s{hour}: {{cron: '{minute} {hour} 1 1 *', timezone: UTC, flow: {5000 + hour}}}\n"
            for hour in range(hours)
        )
        (self.folder / "schedules" / name).write_text("schedules:\n" + "".join(lines))

    async def flowsched(self, *arguments: str) -> tuple[int | None, str]:
        """Run a command of flowsched; return its exit code and all that it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowsched", *arguments),
            cwd=self.folder,
            env={**os.environ, "FLOWSCHED_CONFIG": "flowsched.yaml"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode, out.decode()

    async def runs(self, *states: RunState) -> list[Run]:
        async with await Ledger.open_to_read(self.settings.ledger) as ledger:
            return [run for run in await ledger.runs() if run.state in states]

    def triggers(self) -> list[int | None]:
        return [call.trigger_time for call in self.simulator.calls if call.operation == "flows.trigger"]

    async def leave(self) -> None:
        for daemon in self.daemons:
            if daemon.process.returncode is None:
                daemon.process.kill()
            await daemon.ends()
        await self.simulator.stop()


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    plant = Plant(tmp_path)
    await plant.build()
    yield plant
    await plant.leave()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_due_is_fired_recorded_and_logged(plant: Plant, end: signal.Signals) -> None:
    daemon = await plant.start()
    await daemon.says("run triggered")
    daemon.tell(end)

    assert await daemon.ends() == 0
    (triggered,) = await plant.runs(RunState.TRIGGERED)
    (missed,) = await plant.runs(RunState.MISSED)
    assert [each.id for each in plant.simulator.instances] == [triggered.instance]
    assert triggered.fire_time == missed.fire_time + timedelta(minutes=2)
    logged = [event["event"] for event in daemon.events if event.get("run") == triggered.id]
    assert logged == ["run claimed", "run sending", "run triggered"]


async def test_no_secret_is_in_what_it_says_or_keeps(plant: Plant) -> None:
    plant.simulator.faults.add(Order(fault=Fault.STATUS, status=429, retry_after=0, on="trigger"))
    daemon = await plant.start()
    await daemon.says("run triggered")
    daemon.tell(signal.SIGTERM)
    await daemon.ends()

    kept = b"".join(path.read_bytes() for path in plant.folder.glob("ledger.db*"))
    for secret in (APPLICATION.access_key, APPLICATION.secret_key):
        assert secret not in daemon.text
        assert secret.encode() not in kept
    assert "apim-" not in daemon.text


async def test_a_drain_lets_the_call_under_way_end(plant: Plant) -> None:
    plant.simulator.faults.add(Order(fault=Fault.SLOW, delay=0.6, on="trigger"))
    daemon = await plant.start()
    await daemon.says("run sending")
    daemon.tell(signal.SIGTERM)

    assert await daemon.ends() == 0
    assert len(await plant.runs(RunState.TRIGGERED)) == 1
    assert daemon.events[-1] == daemon.events[-1] | {"event": "daemon stopped", "attempts_cut_off": 0}


async def test_a_second_signal_ends_at_once_and_leaves_the_run_in_doubt_not_sent_twice(plant: Plant) -> None:
    plant.simulator.faults.add(Order(fault=Fault.SILENCE, processed=True, on="trigger"))
    daemon = await plant.start()
    await eventually(lambda: bool(plant.triggers()), within=20)
    daemon.tell(signal.SIGTERM)
    await daemon.says("daemon stopping")
    daemon.tell(signal.SIGTERM)
    code = await daemon.ends()
    (cut_off,) = await plant.runs(RunState.SENDING)

    again = await plant.start()
    await again.says("run in_doubt")
    await again.says("daemon ready")

    (doubtful,) = await plant.runs(RunState.IN_DOUBT)
    assert (code, doubtful.id) == (0, cut_off.id)
    assert plant.triggers().count(int(doubtful.fire_time.timestamp() * 1000)) == 1


async def test_a_daemon_killed_during_a_call_finds_out_what_came_of_it(plant: Plant) -> None:
    plant.simulator.faults.add(Order(fault=Fault.SILENCE, processed=True, on="trigger"))
    daemon = await plant.start()
    await eventually(lambda: bool(plant.triggers()), within=20)
    daemon.tell(signal.SIGKILL)
    await daemon.ends()

    again = await plant.start()
    await again.says("daemon ready")

    (doubtful,) = await plant.runs(RunState.IN_DOUBT)
    assert doubtful.reason == "flowsched stopped during attempt 1; what EnOS made of it is unknown"
    await again.says("run triggered")
    (triggered,) = await plant.runs(RunState.TRIGGERED)
    assert triggered.instance == plant.simulator.instances[0].id
    assert plant.triggers().count(int(triggered.fire_time.timestamp() * 1000)) == 1


async def test_a_waiting_run_goes_on_at_its_time_after_a_restart(plant: Plant) -> None:
    plant.simulator.faults.add(Order(fault=Fault.STATUS, status=429, retry_after=2, on="trigger"))
    daemon = await plant.start()
    await daemon.says("run waiting")
    daemon.tell(signal.SIGTERM)
    await daemon.ends()
    (waiting,) = await plant.runs(RunState.WAITING)

    again = await plant.start()
    await again.says("run triggered")

    calls = [call for call in plant.simulator.calls if call.operation == "flows.trigger"]
    assert waiting.retry_at
    assert calls[1].began_at >= waiting.retry_at
    assert calls[0].trigger_time == calls[1].trigger_time


async def test_sighup_takes_what_is_valid_and_keeps_what_was_in_force_otherwise(plant: Plant) -> None:
    daemon = await plant.start()
    await daemon.says("run triggered")
    file = plant.folder / "schedules" / "a.yaml"
    sound = file.read_text()

    file.write_text(sound + '  another: {cron: "61 * * * *", flow: 1}\n')
    daemon.tell(signal.SIGHUP)
    await daemon.says("catalog refused; the one before stays in force")
    file.write_text(sound + '  another: {cron: "0 0 1 1 *", flow: 1}\n')
    daemon.tell(signal.SIGHUP)
    await daemon.says("catalog applied")
    daemon.tell(signal.SIGHUP)
    await daemon.says("catalog unchanged")
    daemon.tell(signal.SIGTERM)

    assert await daemon.ends() == 0
    applied = next(event for event in daemon.events if event["event"] == "catalog applied")
    refused = next(event for event in daemon.events if event["event"].startswith("catalog refused"))
    assert applied["schedules"] == 2
    assert "a.yaml:4:" in refused["problem"]
    assert len(plant.triggers()) == 1


HELD = "catalog held until it is accepted, or a restart applies it; the one before stays in force"
REFUSED = "catalog refused; the one before stays in force"


async def terms_in_force(plant: Plant) -> set[str]:
    async with await Ledger.open_to_read(plant.settings.ledger) as ledger:
        return set(await ledger.terms_in_force())


async def accept(plant: Plant, revision: str) -> None:
    async with await Ledger.open(plant.settings.ledger) as ledger:
        await ledger.accept(revision, datetime.now(UTC), "somebody", None)


async def test_a_mass_change_is_held_until_it_is_accepted(plant: Plant) -> None:
    plant.schedules(12)
    daemon = await plant.start()
    await daemon.says("daemon ready")
    before = await terms_in_force(plant)

    plant.schedules(5)
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD)
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD, times=2)
    first, again = daemon.told(HELD)
    meanwhile = await terms_in_force(plant)
    code, said = await plant.flowsched(
        "apply", "--accept", first["revision"][:12], "--reason", "plant closed"
    )
    await daemon.says("catalog applied")
    daemon.tell(signal.SIGTERM)

    assert await daemon.ends() == 0
    assert first == again | {"time": first["time"]}
    assert (first["level"], first["before"], first["removed"]) == ("error", 13, 7)
    assert first["accept"] == f"flowsched apply --accept {first['revision'][:12]}"
    assert meanwhile == before
    assert (code, said.count("\n")) == (0, 1)
    (applied,) = daemon.told("catalog applied")
    assert (applied["revision"], applied["schedules"]) == (first["revision"], 6)
    assert getpass.getuser() in applied["accepted_by"]
    assert len(await terms_in_force(plant)) == 6


async def test_an_acceptance_is_for_that_catalog_only(plant: Plant) -> None:
    plant.schedules(12)
    daemon = await plant.start()
    await daemon.says("daemon ready")
    plant.schedules(5)
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD)
    (held,) = daemon.told(HELD)

    plant.schedules(4)  # nobody has told the daemon of it
    code, said = await plant.flowsched("apply", "--accept", held["revision"])
    await accept(plant, held["revision"])  # as if the files had changed right after
    await daemon.says(HELD, times=2)

    assert code == 1
    assert "nothing is accepted: the schedule files are another catalog now" in said
    assert daemon.told(HELD)[1]["removed"] == 8
    assert daemon.told("catalog applied") == []
    assert len(await terms_in_force(plant)) == 13


async def test_what_is_held_is_let_go_when_the_files_are_put_right(plant: Plant) -> None:
    plant.schedules(12)
    daemon = await plant.start()
    await daemon.says("daemon ready")
    plant.schedules(5)
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD)
    (held,) = daemon.told(HELD)
    plant.schedules(12)
    daemon.tell(signal.SIGHUP)
    await daemon.says("catalog unchanged")

    await accept(plant, held["revision"])
    plant.schedules(11)  # as much as goes without asking
    await asyncio.sleep(reloads.ACCEPTANCE_PAUSE + 1)
    assert daemon.told("catalog applied") == []
    daemon.tell(signal.SIGHUP)
    await daemon.says("catalog applied")

    assert len(daemon.told(HELD)) == 1
    assert "accepted_by" not in daemon.told("catalog applied")[0]


async def test_a_folder_that_was_emptied_is_no_catalog(plant: Plant) -> None:
    daemon = await plant.start()
    await daemon.says("run triggered")
    (plant.folder / "schedules" / "a.yaml").unlink()
    daemon.tell(signal.SIGHUP)
    await daemon.says(REFUSED)

    assert "holds no schedule file" in daemon.told(REFUSED)[0]["problem"]
    assert await terms_in_force(plant) == {"twice-an-hour"}


async def test_the_last_schedule_cannot_be_disabled_unasked(plant: Plant) -> None:
    daemon = await plant.start()
    await daemon.says("run triggered")
    file = plant.folder / "schedules" / "a.yaml"
    file.write_text(file.read_text().replace("flow:", "enabled: false, flow:"))
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD)

    assert daemon.told(HELD)[0]["change"] == "of 1 enabled schedules 1 disabled; none is left enabled"
    assert await terms_in_force(plant) == {"twice-an-hour"}


async def test_a_trailer_of_a_commit_accepts_a_mass_change_of_a_clean_folder(plant: Plant) -> None:
    plant.schedules(12)
    work = Work.made(plant.folder)
    work.write(".gitignore", "ledger.db*\nsecret\n")
    first = work.commit("first\n\nFlowsched-Accept: mass-change")
    daemon = await plant.start()
    await daemon.says("daemon ready")

    plant.schedules(6)
    second = work.commit("second")
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD)
    work.commit("third\n\nFlowsched-Accept: mass-change")
    last = work.commit("fourth")
    (plant.folder / "schedules" / "notes.txt").write_text("not committed\n")
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD, times=2)
    (plant.folder / "schedules" / "notes.txt").unlink()
    daemon.tell(signal.SIGHUP)
    await daemon.says("catalog applied")

    plant.schedules(6, minute=1)
    work.commit("a mass change after it was accepted")
    plant.schedules(12, minute=1)
    work.commit("and another")
    daemon.tell(signal.SIGHUP)
    await daemon.says(HELD, times=3)
    daemon.tell(signal.SIGTERM)

    assert await daemon.ends() == 0
    (applied,) = daemon.told("catalog applied")
    assert applied["accepted_by"] == f"Flowsched-Accept: mass-change up to commit {last[:12]}"
    assert (applied["commit"], applied["clean"]) == (last, True)
    async with await Ledger.open_to_read(plant.settings.ledger) as ledger:
        recorded = [each.commit for each in await ledger.catalogs()]
    assert [each and (each.id, each.clean) for each in recorded[-2:]] == [(first, True), (last, True)]
    assert second not in daemon.text


async def test_a_mass_change_at_a_start_is_put_in_force_and_said(plant: Plant) -> None:
    plant.schedules(12)
    daemon = await plant.start()
    await daemon.says("daemon ready")
    daemon.tell(signal.SIGTERM)
    await daemon.ends()
    plant.schedules(5)

    again = await plant.start()
    await again.says("daemon ready")

    (said,) = [each for each in again.events if each["event"].startswith("catalog changes much")]
    assert (said["level"], said["removed"], said["before"]) == ("error", 7, 13)
    assert len(await terms_in_force(plant)) == 6


async def test_a_hidden_file_that_a_calendar_reads_counts_for_a_clean_folder(plant: Plant) -> None:
    schedules = plant.folder / "schedules"
    (schedules / "b.yaml").write_text(
        "calendars: {works: {ical: [.closed]}}\n"
        "schedules: {b: {cron: '0 1 * * *', timezone: UTC, flow: 1,"
        " blackout: {calendars: [works], then: skip}}}\n"
    )
    work = Work.made(plant.folder)
    work.commit()
    (schedules / ".closed").write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n"
        "DTSTART;VALUE=DATE:20260101\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    (schedules / ".not-read").write_text("")
    untracked = life.read_catalog(plant.settings).commit
    (schedules / ".not-read").unlink()
    head = work.commit()
    (schedules / ".not-read").write_text("")
    committed = life.read_catalog(plant.settings).commit

    assert untracked
    assert committed
    assert (untracked.clean, committed.clean, committed.id) == (False, True, head)


async def test_files_that_are_committed_once_they_are_in_force_are_on_record_as_such(plant: Plant) -> None:
    work = Work.made(plant.folder)
    work.write(".gitignore", "ledger.db*\nsecret\n")
    first = work.commit()
    plant.schedules(2)
    daemon = await plant.start()
    await daemon.says("daemon ready")
    before = await terms_in_force(plant)
    second = work.commit()
    for times in (1, 2):
        daemon.tell(signal.SIGHUP)
        await daemon.says("catalog unchanged", times=times)

    async with await Ledger.open_to_read(plant.settings.ledger) as ledger:
        recorded = [each.commit for each in await ledger.catalogs()][1:]
    assert [each and (each.id, each.clean) for each in recorded] == [(first, False), (second, True)]
    assert await terms_in_force(plant) == before


async def test_git_in_trouble_keeps_no_daemon_from_starting(plant: Plant) -> None:
    (plant.folder / ".git").write_text("gitdir: /nowhere\n")
    daemon = await plant.start()
    await daemon.says("daemon ready")

    assert daemon.told("commit of the schedules is not known")
    await daemon.says("run triggered")


async def test_sighup_while_it_starts_is_heeded_when_it_has(plant: Plant) -> None:
    (plant.folder / "schedules" / "many.yaml").write_text(
        "schedules:\n"
        + "".join(f"  s{n}: {{cron: '0 0 1 1 *', timezone: UTC, flow: 1}}\n" for n in range(3000))
    )
    daemon = await plant.start()
    status = f"/proc/{daemon.process.pid}/status"
    await eventually(lambda: _catches(status, signal.SIGHUP), within=20)
    daemon.tell(signal.SIGHUP)

    await daemon.says("daemon ready")
    await daemon.says("catalog unchanged")
    daemon.tell(signal.SIGTERM)
    assert await daemon.ends() == 0


def _catches(status: str, number: signal.Signals) -> bool:
    with open(status, encoding="ascii") as file:  # noqa: PTH123 - not a file of ours
        (caught,) = (line.split()[1] for line in file if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


async def test_a_second_daemon_on_one_ledger_waits_and_then_ends_with_3(plant: Plant) -> None:
    first = await plant.start()
    await first.says("daemon ready")

    second = await plant.start()

    assert await second.ends() == 3
    (waited,) = second.told("waiting for the ledger")
    (ended,) = second.told("flowsched cannot run")
    assert "is kept by another daemon" in waited["problem"]
    assert f"(process {first.process.pid})" in waited["problem"]
    assert ended["problem"] == waited["problem"]
    assert not second.told("daemon ready")


async def test_a_daemon_that_starts_takes_over_from_one_that_ends(plant: Plant) -> None:
    first = await plant.start()
    await first.says("daemon ready")

    second = await plant.start()
    await second.says("waiting for the ledger")
    first.tell(signal.SIGTERM)

    assert await first.ends() == 0
    await second.says("daemon ready")


async def test_a_stop_is_heard_while_it_waits_for_the_ledger(plant: Plant) -> None:
    async with await Ledger.open_as_daemon(plant.settings.ledger):
        daemon = await plant.start()
        await daemon.says("waiting for the ledger")
        daemon.tell(signal.SIGTERM)

        assert await daemon.ends() == 0


async def test_a_ledger_that_cannot_be_used_just_now_is_worth_another_start(plant: Plant) -> None:
    with closing(sqlite3.connect(plant.folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        daemon = await plant.start()

        assert await daemon.ends() == 3
    assert "is locked by another process" in daemon.text


async def test_a_ledger_that_was_replaced_ends_the_daemon_with_78(plant: Plant) -> None:
    plant.simulator.faults.add(Order(fault=Fault.SLOW, delay=0.5, on="trigger"))
    daemon = await plant.start()
    await daemon.says("run sending")
    ledger = plant.folder / "ledger.db"
    ledger.rename(plant.folder / "old.db")
    shutil.copy(plant.folder / "old.db", ledger)

    assert await daemon.ends() == 78
    assert "was replaced by another file while in use" in daemon.text
    assert len(plant.triggers()) == 1


@pytest.mark.parametrize(("begin", "said"), [(0, "is not a database"), (4096, "is damaged")])
async def test_a_damaged_ledger_ends_the_daemon_with_78(plant: Plant, begin: int, said: str) -> None:
    ledger = plant.folder / "ledger.db"
    with ledger.open("r+b") as file:
        file.seek(begin)
        file.write(b"no database any more" * ((ledger.stat().st_size - begin) // 20))
    daemon = await plant.start()

    assert await daemon.ends() == 78
    assert said in daemon.text
    assert plant.triggers() == []


async def test_a_ledger_of_a_newer_flowsched_ends_the_daemon_with_78_untouched(plant: Plant) -> None:
    with closing(sqlite3.connect(plant.folder / "ledger.db")) as other, other:
        other.execute("UPDATE ledger_version SET version = 99")
    daemon = await plant.start()

    assert await daemon.ends() == 78
    assert "has version 99, made by a newer flowsched" in daemon.text
    assert plant.triggers() == []


async def test_a_stop_is_heard_while_it_starts(plant: Plant) -> None:
    stop, halt = asyncio.Event(), asyncio.Event()
    stop.set()
    catalog = load_catalog(plant.settings.schedules, plant.settings)
    environ = {"AK": APPLICATION.access_key}

    served = life.serve(plant.settings, catalog, clock=SystemClock(), environ=environ, stop=stop, halt=halt)
    await asyncio.wait_for(served, 20)

    assert plant.triggers() == []
    assert await plant.runs(*RunState) == []


async def test_while_it_drains_nothing_new_is_claimed(tmp_path: Path) -> None:
    clock = HandClock(datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC))
    gateway = ScriptedGateway()
    gateway.hold = asyncio.Event()
    schedule = a_schedule("minutely", "* * * * *")
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        daemon = life.Daemon(ledger, {"default": gateway}, clock)
        await daemon.start(Catalog({schedule.id: schedule}, "r1"))
        await eventually(lambda: clock.sleeping)
        clock.advance(30)
        await eventually(lambda: gateway.requests)

        stopping = asyncio.create_task(daemon.stop(asyncio.Event()))
        await a_moment()
        clock.advance(60)
        await a_moment()
        gateway.hold.set()
        await stopping

        assert [run.state for run in await ledger.runs()] == [RunState.TRIGGERED]


async def test_the_demo_shows_accepted_triggers_and_ends_with_a_summary(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowsched", "demo", "--for", "6s", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)

    lines = out.decode().splitlines()
    assert process.returncode == 0
    assert any("triggered" in line and "instance" in line for line in lines)
    assert lines[-1].split(": ")[0].endswith("runs")


async def test_closed_times_are_worked_out_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(timeline, "work_out_blackouts", lambda *_: threads.append(threading.current_thread()))
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        daemon = life.Daemon(ledger, {}, SystemClock())
        await daemon.start(Catalog({}, "r1"))
        await daemon.reload(Catalog({}, "r2"))
        await daemon.stop(asyncio.Event())

    assert len(threads) == 2
    assert threading.main_thread() not in threads
