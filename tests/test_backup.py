"""Copies of the ledger: whole, checked, of one instant, and good for a start."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.cli import FINE, UNEXPECTED, UNUSABLE, USAGE, main
from flowsched.errors import LedgerError, LedgerUnusable, UsageError
from flowsched.ledger import Ledger
from flowsched.ledger.backup import back_up
from flowsched.ledger.migrations import MIGRATIONS
from flowsched.model import RunState
from tests.builders import T0, a_new_run, a_schedule
from tests.fakes import HandClock
from tests.test_daemon import Plant
from tests.test_engine import START, Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SETTINGS = (
    "schedules: schedules\nledger: sqlite:///ledger.db\ntargets:\n  default:\n    url: http://127.0.0.1:1\n"
    "    org_id: o15612345678901\n    user_id: u15426865866571\n"
    "    access_key: {env: AK}\n    secret_key: {env: SK}\n"
)


def quiet(_done: int, _total: int) -> None:
    """Tell nobody."""


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


async def fill(ledger: Ledger, count: int, *, first: int = 0) -> None:
    rows = [
        a_new_run(schedule_id=f"s{number:06}", fire_time=T0, flow=number, reason="x" * 200)
        for number in range(first, first + count)
    ]
    await ledger.claim(rows, [])


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """An installation whose ledger has 300 runs, and is open as a daemon has it."""
    (tmp_path / "flowsched.yaml").write_text(SETTINGS)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    async with await Ledger.open_as_daemon(url_of(tmp_path / "ledger.db")) as ledger:
        await fill(ledger, 300)
        yield tmp_path


def restore(folder: Path) -> None:
    """Put copy.db in the place of the ledger, as the command's help says."""
    (folder / "away").mkdir()
    for each in folder.glob("ledger.db*"):
        each.rename(folder / "away" / each.name)
    shutil.copy(folder / "copy.db", folder / "ledger.db")


def runs_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        return found


async def test_a_copy_is_whole_for_its_owner_alone_and_stands_by_itself(folder: Path) -> None:
    copied = await asyncio.to_thread(back_up, url_of(folder / "ledger.db"), folder / "out" / "copy.db", quiet)

    (copy,) = (folder / "out").iterdir()
    assert (copied.runs, copied.bytes) == (300, copy.stat().st_size)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.read_bytes()[18:20] == b"\1\1"  # not in WAL mode, which would want files beside it
    async with await Ledger.open_to_read(url_of(copy)) as reader:
        assert len(await reader.runs(limit=1_000)) == 300


async def test_a_copy_is_of_one_instant_and_nobody_who_writes_waits_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowsched.ledger.backup._PAGES", 2)
    began, may_go_on = threading.Event(), threading.Event()
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        began.set()
        may_go_on.wait(10)

    async with await Ledger.open(url_of(folder / "ledger.db")) as ledger:
        copying = asyncio.create_task(
            asyncio.to_thread(back_up, url_of(folder / "ledger.db"), folder / "copy.db", tell)
        )
        await asyncio.to_thread(began.wait, 10)
        try:
            async with asyncio.timeout(4):  # less than a writer waits for a lock
                await fill(ledger, 2_000, first=300)
        finally:
            may_go_on.set()
        copied = await copying
        assert len(await ledger.runs(limit=10_000)) == 2_300

    assert (copied.runs, runs_in(folder / "copy.db")) == (300, 300)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]


async def test_a_ledger_of_an_older_version_can_be_copied_before_it_is_brought_to_ours(
    tmp_path: Path,
) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        for statement in (*MIGRATIONS[0], "INSERT INTO ledger_version VALUES (1)"):
            connection.execute(statement)
        connection.commit()

    assert back_up(url_of(tmp_path / "old.db"), tmp_path / "copy.db", quiet).runs == 0

    async with await Ledger.open(url_of(tmp_path / "copy.db")) as ledger:
        assert await ledger.runs() == []


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db.daemon", "out/../ledger.db"])
async def test_a_copy_never_takes_the_place_of_the_ledger_or_what_belongs_to_it(
    folder: Path, name: str
) -> None:
    before = (folder / "ledger.db").stat().st_ino

    with pytest.raises(UsageError, match="belongs to the ledger itself; allowed: a file of another name"):
        back_up(url_of(folder / "ledger.db"), folder / name, quiet)
    os.link(folder / "ledger.db", folder / "linked.db")
    with pytest.raises(UsageError, match="belongs to the ledger itself"):
        back_up(url_of(folder / "ledger.db"), folder / "linked.db", quiet)

    assert (folder / "ledger.db").stat().st_ino == before


async def test_a_damaged_ledger_leaves_the_last_copy_as_it_was(folder: Path) -> None:
    (folder / "out" / "copy.db").write_text("the last good one")
    await asyncio.to_thread(back_up, url_of(folder / "ledger.db"), folder / "whole.db", quiet)
    with (folder / "whole.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 8192)

    with pytest.raises(LedgerUnusable, match=r"whole\.db is damaged"):
        back_up(url_of(folder / "whole.db"), folder / "out" / "copy.db", quiet)

    assert [each.read_text() for each in (folder / "out").iterdir()] == ["the last good one"]


async def test_what_stops_a_copy_half_way_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowsched.ledger.backup._PAGES", 1)
    with pytest.raises(KeyboardInterrupt):
        back_up(url_of(folder / "ledger.db"), folder / "out" / "copy.db", interrupted)

    assert list((folder / "out").iterdir()) == []


async def test_what_is_no_ledger_is_not_copied(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="does not exist"):
        back_up(url_of(tmp_path / "none.db"), tmp_path / "copy.db", quiet)
    (tmp_path / "empty.db").touch()
    with pytest.raises(LedgerUnusable, match="is empty"):
        back_up(url_of(tmp_path / "empty.db"), tmp_path / "copy.db", quiet)

    assert not (tmp_path / "copy.db").exists()


async def test_the_command_says_what_the_copy_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [await asyncio.to_thread(main, ["backup", "copy.db"])]
    text = capsys.readouterr().out
    codes.append(await asyncio.to_thread(main, ["backup", "copy.db", "--force", "--format", "json"]))
    document = json.loads(capsys.readouterr().out)

    assert codes == [FINE, FINE]
    assert text.startswith("copy.db: 300 runs, 0.")
    size = (folder / "copy.db").stat().st_size
    assert document == {"file": str(folder / "copy.db"), "runs": 300, "bytes": size}


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("flowsched.yaml", USAGE, "flowsched.yaml exists; --force replaces it"),
        ("out", USAGE, "out is a folder; allowed: the path of a file"),
        ("nowhere/copy.db", USAGE, "there is no folder nowhere; allowed: a file in a folder that exists"),
        ("link.db", USAGE, "link.db is a link or a device"),
        ("copy.db", FINE, ""),
    ],
)
async def test_a_file_that_cannot_be_the_copy_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, code: int, said: str
) -> None:
    (folder / "link.db").symlink_to("elsewhere")

    assert await asyncio.to_thread(main, ["backup", file]) == code

    assert said in capsys.readouterr().err


async def test_a_ledger_that_cannot_be_used_has_the_exit_code_of_that(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "flowsched.yaml").write_text(SETTINGS.replace("ledger.db", "none.db"))
    gone = await asyncio.to_thread(main, ["backup", "copy.db"])
    (folder / "none.db").write_text("no database at all, " * 100)
    foreign = await asyncio.to_thread(main, ["backup", "copy.db"])

    assert (gone, foreign) == (UNEXPECTED, UNUSABLE)
    assert "Traceback" not in capsys.readouterr().err


async def test_a_restored_copy_goes_on_where_it_was_made(tmp_path: Path) -> None:
    schedule = a_schedule("a", "* * * * *", flow=1, catch_up_window=timedelta(hours=1))
    clock = HandClock(START)
    path = tmp_path / "ledger.db"
    async with await Ledger.open_as_daemon(url_of(path)) as ledger:
        desk = Desk(ledger, clock)
        await desk.apply(schedule)
        await desk.minutes(2)
        await asyncio.to_thread(back_up, url_of(path), tmp_path / "copy.db", quiet)
        await desk.minutes(2)
        await desk.engine.stop()
    restore(tmp_path)

    async with await Ledger.open_as_daemon(url_of(path)) as ledger:
        desk = Desk(ledger, clock)
        await desk.apply(schedule)
        await desk.settled()

        assert [f"{run.fire_time:%H:%M} {run.state}" for run in await ledger.runs()] == [
            "12:04 claimed",
            "12:03 missed",
            "12:02 claimed",
            "12:01 claimed",
        ]
        await desk.engine.stop()


@pytest.mark.e2e
async def test_a_daemon_that_was_killed_is_restored_from_a_copy_made_while_it_ran(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    await plant.build()
    try:
        daemon = await plant.start()
        await daemon.says("run triggered")
        code, said = await plant.flowsched("backup", "copy.db", "--format", "json")
        assert (code, json.loads(said)["runs"]) == (FINE, 2)
        daemon.tell(signal.SIGKILL)
        await daemon.ends()
        assert (tmp_path / "ledger.db-wal").stat().st_size > 0
        restore(tmp_path)

        again = await plant.start()
        await again.says("daemon ready")
        again.tell(signal.SIGTERM)
        assert await again.ends() == 0

        assert len(await plant.runs(RunState.TRIGGERED, RunState.MISSED)) == 2
        assert len(plant.simulator.instances) == 1
    finally:
        await plant.leave()
