"""The ledger when it is opened, and when its file is in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import threading
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from sqlalchemy import inspect

from flowsched.errors import LedgerError, LedgerTaken, LedgerUnusable
from flowsched.ledger import Ledger
from flowsched.ledger.migrations import MIGRATIONS
from flowsched.ledger.records import claimed_run
from flowsched.ledger.session import Session, _connection, open_to_write
from flowsched.ledger.sqlite import Access, SqliteFile, require_version
from flowsched.ledger.tables import metadata
from flowsched.model import Cursor, Run, RunState
from tests.test_ledger import MINUTE, NIGHT, NIGHTLY, catalog, claim, new_run, rows_of, schedule, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from flowsched.ledger.books import Books

T = TypeVar("T")

SPAWN = multiprocessing.get_context("spawn")


async def make_ledger(folder: Path) -> None:
    async with await Ledger.open(url_of(folder)) as ledger:
        await claim(ledger)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def overwrite(folder: Path, page: int) -> None:
    with (folder / "ledger.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def run_one(session: Session, operation: Callable[[Books], T]) -> T:
    [result] = session.run([operation])
    if result.error is not None:
        raise result.error
    return cast("T", result.value)


def pragma(books: Books, text: str) -> object:
    result = books.runs._connection.exec_driver_sql(f"PRAGMA {text}")
    return result.scalar() if result.returns_rows else None


def execute(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "ledger.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# Opening


async def test_a_new_ledger_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await claim(ledger)

        modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in names_in(tmp_path)}

    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


async def test_a_closed_ledger_is_one_file(tmp_path: Path) -> None:
    await make_ledger(tmp_path)

    assert names_in(tmp_path) == ["ledger.db"]


async def test_a_ledger_is_durable_and_does_not_let_readers_wait(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        settings = [
            await ledger._writer.do(partial(pragma, text=text))
            for text in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]

    assert settings == ["wal", 2, 1, 5000]


async def test_the_wal_that_a_long_reading_has_made_is_small_again_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowsched.ledger.sqlite._WAL_KEPT", 100_000)
    wal = tmp_path / "ledger.db-wal"
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM runs").fetchone()
            for number in range(10):
                await ledger.claim([new_run(f"s{number}-{flow}", flow=flow) for flow in range(500)], [])
        long = wal.stat().st_size
        # The first one has all of it written to the file itself, the second one begins anew.
        for name in "ab":
            await ledger.claim([new_run(name)], [])

        assert wal.stat().st_size <= 100_000 < long


async def test_the_migrated_tables_are_those_the_statements_know(tmp_path: Path) -> None:
    _, session = open_to_write(url_of(tmp_path))
    columns = run_one(session, lambda books: inspect(books.runs._connection).get_multi_columns())
    session.close()

    found = {
        table: {(one["name"], one["nullable"]) for one in those} for (_, table), those in columns.items()
    }
    assert found == {
        table.name: {(column.name, column.nullable) for column in table.columns}
        for table in metadata.sorted_tables
    }
    assert rows_of(tmp_path, "SELECT version FROM ledger_version") == [(len(MIGRATIONS),)]


def make_first_version(folder: Path, *rows: str) -> None:
    """Make a ledger as the first version of flowsched did, with rows of its own."""
    (folder / "ledger.db").touch(0o600)
    execute(folder, *MIGRATIONS[0], "INSERT INTO ledger_version VALUES (1)", *rows)


OLD_RUN = """
INSERT INTO runs VALUES ({id}, '{schedule}', {fire_time}, 'schedule', '{state}', NULL, 'default', 3377, NULL,
    '3377-20260105023000', NULL, '{{"max_attempts": 5, "initial_backoff": 2000000, "multiplier": 2,
    "max_backoff": 300000000, "deadline": 900000000, "attempt_timeout": 30000000}}',
    {fire_time}, NULL, 0, 'c0ffee', 'nightly.yaml', 7, 'host:1', {fire_time}, {fire_time})
"""


OLD_ATTEMPT = "INSERT INTO attempts VALUES (1, 1, {at}, {at}, 'accepted', 200, 0, 'created')"
OLD_TIMING = """
INSERT INTO timings VALUES ({id}, '{schedule}', '30 2 * * *', 'Europe/Berlin', {start}, {cursor}, {until})
"""


async def test_a_ledger_of_the_first_version_keeps_its_rows(tmp_path: Path) -> None:
    at = round(NIGHT.timestamp()) * 1_000_000
    make_first_version(
        tmp_path,
        OLD_RUN.format(id=1, schedule="a", fire_time=at, state="triggered"),
        OLD_RUN.format(id=2, schedule="b", fire_time=at, state="claimed"),
        OLD_ATTEMPT.format(at=at),
    )

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        runs = {run.schedule_id: run for run in await ledger.runs()}
        begun = await ledger.begin_attempt(2, 1, NIGHT)
        attempts = await ledger.attempts([1, 2])

    expected = claimed_run(2, new_run("b", flow=3377, daemon="host:1", deadline=NIGHT, claimed_at=NIGHT))
    assert runs["b"] == replace(expected, due_at=NIGHT)
    assert runs["a"].state is RunState.TRIGGERED
    assert begun == replace(runs["b"], state=RunState.SENDING, attempts=1)
    assert {id_: len(those) for id_, those in attempts.items()} == {1: 1, 2: 1}
    assert rows_of(tmp_path, "SELECT version FROM ledger_version") == [(len(MIGRATIONS),)]


async def test_a_ledger_of_the_first_version_keeps_its_cursors(tmp_path: Path) -> None:
    at = round(NIGHT.timestamp()) * 1_000_000
    make_first_version(
        tmp_path,
        OLD_TIMING.format(id=1, schedule="a", start=at - 9, cursor=at, until="NULL"),
        OLD_TIMING.format(id=2, schedule="cut off", start=at - 9, cursor=at, until=at + 9),
        OLD_TIMING.format(id=3, schedule="set back", start=at - 9, cursor=at, until=at - 5),
    )
    timing = replace(NIGHTLY, rules="2025b")
    known = replace(schedule("a"), timing=timing)

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        before = {term.schedule_id: term for term in await ledger.terms()}
        cursors = await ledger.apply(catalog("r1", known), NIGHT + MINUTE)
        after = await ledger.terms_in_force()

    assert (before["a"].timing, before["a"].flow, before["a"].until_at) == (NIGHTLY, None, None)
    assert before["cut off"].until_at == before["set back"].until_at == NIGHT
    assert cursors == {"a": Cursor("a", timing, NIGHT)}
    assert (after["a"].timing, after["a"].flow, after["a"].target) == (timing, 3377, "default")


async def test_a_ledger_of_the_second_version_holds_nothing_back(tmp_path: Path) -> None:
    at = round(NIGHT.timestamp()) * 1_000_000
    make_first_version(tmp_path, OLD_TIMING.format(id=1, schedule="a", start=at - 9, cursor=at, until="NULL"))
    execute(tmp_path, *MIGRATIONS[1], "UPDATE ledger_version SET version = 2")

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        (found,) = await ledger.terms()
        await ledger.claim([], [Cursor("a", NIGHTLY, NIGHT, NIGHT + MINUTE)])
        (holding,) = await ledger.terms()

    assert (found.cursor_at, found.deferred_until, found.blackout) == (NIGHT, None, None)
    assert holding.deferred_until == NIGHT + MINUTE


async def test_a_ledger_from_a_newer_flowsched_is_refused_and_left_alone(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    execute(tmp_path, "UPDATE ledger_version SET version = 99")
    before = (tmp_path / "ledger.db").read_bytes()

    for opening in (Ledger.open, Ledger.open_to_read):
        with pytest.raises(
            LedgerUnusable,
            match=rf"ledger\.db has version 99, made by a newer flowsched; .* up to {len(MIGRATIONS)}: ",
        ):
            await opening(url_of(tmp_path))

    assert (tmp_path / "ledger.db").read_bytes() == before


async def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    execute(tmp_path, "CREATE TABLE recipes (name TEXT)")
    before = (tmp_path / "ledger.db").read_bytes()

    with pytest.raises(LedgerUnusable, match=r"database of another program \(its tables: recipes\)"):
        await Ledger.open(url_of(tmp_path))

    assert (tmp_path / "ledger.db").read_bytes() == before


async def test_a_ledger_without_its_version_is_refused(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    execute(tmp_path, "DELETE FROM ledger_version")

    with pytest.raises(LedgerUnusable, match="does not say its version"):
        await Ledger.open(url_of(tmp_path))


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"dear diary\n" * 1_000)

    with pytest.raises(LedgerUnusable, match="is not a database: give the ledger a file of its own"):
        await Ledger.open(url_of(tmp_path))


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()

    with pytest.raises(LedgerUnusable, match=r"ledger\.db is not a file"):
        await Ledger.open(url_of(tmp_path))


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match=f"there is no folder {tmp_path}/nowhere"):
        await Ledger.open(url_of(tmp_path / "nowhere"))


async def test_a_folder_that_is_a_file_is_an_error_of_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LedgerError, match="cannot be made: Not a directory"):
        await Ledger.open(url_of(tmp_path / "file"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "it cannot be read"),
        ("postgresql://user:hunter2@host/db", "there is no ledger on postgresql"),
        ("sqlite://", "it names no file"),
        ("sqlite:///:memory:", "it names no file"),
        ("sqlite:////tmp/x?timeout=soon", "it cannot be read"),
        ("sqlite:////tmp/x?timeout=nan", "its timeout is not from 0 to 600 seconds"),
        ("sqlite:////tmp/x?mode=ro", "it has an unknown option, mode"),
    ],
)
async def test_a_url_that_names_no_ledger_is_refused_without_being_shown(url: str, message: str) -> None:
    with pytest.raises(LedgerUnusable, match=message) as caught:
        await Ledger.open(url)

    assert "hunter2" not in str(caught.value)


async def test_an_odd_path_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1 & more"
    folder.mkdir()

    await make_ledger(folder)

    assert (folder / "ledger.db").is_file()


def test_a_sqlite_without_returning_is_refused() -> None:
    with pytest.raises(LedgerUnusable, match=r"needs SQLite 3\.35\.0 or newer; this Python has 3\.34\.1"):
        require_version((3, 34, 1))


def open_when_all_are_there(url: str, barrier: Barrier) -> None:
    barrier.wait(30)
    open_to_write(url)


async def test_processes_that_open_a_new_ledger_at_once_migrate_it_once(tmp_path: Path) -> None:
    barrier = SPAWN.Barrier(2)

    with processes(*[(open_when_all_are_there, url_of(tmp_path), barrier)] * 2) as started:
        for process in started:
            process.join(30)

    assert [process.exitcode for process in started] == [0, 0]
    assert rows_of(tmp_path, "SELECT version FROM ledger_version") == [(len(MIGRATIONS),)]


# Reading beside a daemon


async def test_a_reader_makes_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.db does not exist"):
        await Ledger.open_to_read(url_of(tmp_path))

    assert names_in(tmp_path) == []


async def test_a_reader_migrates_nothing(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()

    with pytest.raises(LedgerUnusable, match=f"is empty, and this flowsched needs version {len(MIGRATIONS)}"):
        await Ledger.open_to_read(url_of(tmp_path))

    assert (tmp_path / "ledger.db").read_bytes() == b""


async def test_a_reader_sees_what_a_writer_in_a_transaction_had_committed(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    writer = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM runs")

    async with await Ledger.open_to_read(url_of(tmp_path, timeout=0)) as reader:
        runs = await reader.runs()
    writer.close()

    assert [run.schedule_id for run in runs] == ["nightly"]


async def test_a_ledger_that_nobody_has_open_can_be_read(tmp_path: Path) -> None:
    await make_ledger(tmp_path)

    async with await Ledger.open_to_read(url_of(tmp_path)) as reader:
        assert len(await reader.open_runs()) == 1


# Trouble with the file


async def test_a_locked_ledger_is_an_error_and_works_again_when_free(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path, timeout=0.05)) as ledger:
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"locked by another process, and was not free within 0\.05 s"):
            await claim(ledger)
        other.close()

        await claim(ledger)


async def test_a_ledger_that_somebody_reads_without_wal_is_locked_when_opened(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    execute(tmp_path, "PRAGMA journal_mode = DELETE")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM runs").fetchall()

    with pytest.raises(LedgerError, match="locked by another process"):
        await Ledger.open(url_of(tmp_path, timeout=0.05))
    database = SqliteFile.from_url(url_of(tmp_path, timeout=0.05))
    with (
        pytest.raises(LedgerError, match="locked by another process"),
        _connection(database, Access.WRITE) as connection,
    ):
        database.use_wal(connection)
    other.close()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("query_only = ON", "if it is, check owner, mode and mount"),
        ("max_page_count = 20", "has no room to grow: the disk or its quota is full"),
    ],
)
async def test_a_ledger_that_takes_no_more_says_so_and_works_again_later(
    tmp_path: Path, setting: str, message: str
) -> None:
    rows = [new_run(f"s{number}") for number in range(500)]
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await ledger._writer.do(partial(pragma, text=setting))
        with pytest.raises(LedgerError, match=message) as caught:
            await ledger.claim(rows, [])
        assert type(caught.value) is LedgerError
        assert await ledger.runs() == []

        assert len(await ledger.claim(rows, [])) == 500


async def test_a_deleted_ledger_takes_no_more_and_is_not_made_anew(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await claim(ledger)
        empty(tmp_path)

        for _ in range(2):
            with pytest.raises(LedgerError, match="does not exist: put it back"):
                await ledger.claim([new_run("lost")], [])
        with pytest.raises(LedgerError, match="does not exist: put it back"):
            await ledger.runs()

    assert names_in(tmp_path) == []


async def test_a_ledger_that_was_moved_away_works_again_when_it_is_back(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await claim(ledger)
        (tmp_path / "ledger.db").rename(tmp_path / "elsewhere")
        with pytest.raises(LedgerError, match="does not exist"):
            await claim(ledger, schedule_id="lost")
        (tmp_path / "elsewhere").rename(tmp_path / "ledger.db")

        await claim(ledger, schedule_id="next")


async def test_a_ledger_that_replaced_ours_is_never_used(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "backup")
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await claim(ledger, schedule_id="later")
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (tmp_path / name).unlink()
        (tmp_path / "backup").rename(tmp_path / "ledger.db")

        for _ in range(2):
            with pytest.raises(LedgerUnusable, match="was replaced by another file while in use"):
                await claim(ledger, schedule_id="lost")

    assert "lost" not in [row[0] for row in rows_of(tmp_path, "SELECT schedule_id FROM runs")]


async def test_the_wal_of_another_file_is_not_let_into_this_one(tmp_path: Path) -> None:
    ours, theirs = SPAWN.Pipe()
    daemon = SPAWN.Process(target=keep, args=(url_of(tmp_path), theirs))
    daemon.start()
    ours.recv()
    daemon.kill()
    daemon.join()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "backup")
    (tmp_path / "backup").rename(tmp_path / "ledger.db")

    with pytest.raises(LedgerUnusable, match="is not the file that the last daemon had"):
        await Ledger.open_as_daemon(url_of(tmp_path))
    (tmp_path / "ledger.db-wal").unlink()
    (tmp_path / "ledger.db-shm").unlink()

    await (await Ledger.open_as_daemon(url_of(tmp_path))).aclose()


async def test_one_ledger_has_one_daemon_under_all_its_names(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("ledger.db")
    ours, theirs = SPAWN.Pipe()
    other = SPAWN.Process(target=keep, args=(url_of(tmp_path), theirs))
    other.start()
    ours.recv()

    with pytest.raises(LedgerTaken, match="is kept by another daemon"):
        await Ledger.open_as_daemon(url_of(tmp_path).replace("ledger.db", "link.db"))

    other.kill()
    other.join()


async def test_a_damaged_ledger_is_unusable(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    [(root,)] = rows_of(tmp_path, "SELECT rootpage FROM sqlite_schema WHERE name = 'runs'")
    overwrite(tmp_path, root)

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        with pytest.raises(LedgerUnusable, match="is damaged: stop flowsched, keep a copy"):
            await claim(ledger, schedule_id="next")


async def test_a_damage_that_only_reading_meets_is_told_as_well(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    [(root,)] = rows_of(tmp_path, "SELECT rootpage FROM sqlite_schema WHERE name = 'timings'")
    overwrite(tmp_path, root)

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        told = asyncio.create_task(ledger.unusable())
        await claim(ledger, schedule_id="next")
        before = told.done()
        with pytest.raises(LedgerUnusable, match="is damaged"):
            await ledger.terms()

        assert not before
        assert "is damaged" in str(await asyncio.wait_for(told, 5))


async def test_a_damage_that_only_writing_meets_is_told_as_well(tmp_path: Path) -> None:
    await make_ledger(tmp_path)
    [(root,)] = rows_of(tmp_path, "SELECT rootpage FROM sqlite_schema WHERE name = 'attempts'")
    overwrite(tmp_path, root)

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        with pytest.raises(LedgerUnusable, match="is damaged"):
            await ledger.begin_attempt(1, 1, NIGHT)

        assert "is damaged" in str(await asyncio.wait_for(ledger.unusable(), 5))
        assert "is damaged" in str(await asyncio.wait_for(ledger.unusable(), 5))


# Processes


@contextlib.contextmanager
def processes(*calls: tuple[Any, ...]) -> Iterator[list[BaseProcess]]:
    """Start a process for each function with its arguments; kill and reap them at the end."""
    started: list[BaseProcess] = [SPAWN.Process(target=call[0], args=call[1:]) for call in calls]
    for process in started:
        process.start()
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.join()


def claim_row(session: Session, number: int) -> list[Run]:
    row = new_run(f"s{number}", daemon=f"host:{os.getpid()}")
    return run_one(session, lambda books: books.runs.claim([row]))


def claim_all(url: str, barrier: Barrier, out: Connection) -> None:
    _, session = open_to_write(url)
    barrier.wait(30)
    won = [run.schedule_id for number in range(400) for run in claim_row(session, number)]
    session.close()
    out.send(won)


async def test_two_processes_that_claim_the_same_keys_win_each_once(tmp_path: Path) -> None:
    barrier = SPAWN.Barrier(2)
    pipes = [SPAWN.Pipe(duplex=False) for _ in range(2)]

    with processes(*[(claim_all, url_of(tmp_path), barrier, out) for _, out in pipes]):
        first, second = (source.recv() for source, _ in pipes)

    assert sorted(first + second) == sorted(f"s{number}" for number in range(400))
    assert rows_of(tmp_path, "SELECT count(*) FROM runs") == [(400,)]


def claim_and_begin_for_ever(url: str, out: Connection) -> None:
    _, session = open_to_write(url)
    for number in count():
        [run] = claim_row(session, number)
        run_one(session, lambda books, id_=run.id: books.runs.begin_attempt(id_, 1, NIGHT))  # type: ignore[misc]
        out.send(run.id)


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    source, out = SPAWN.Pipe(duplex=False)
    with processes((claim_and_begin_for_ever, url_of(tmp_path), out)) as [process]:
        out.close()
        acknowledged = [source.recv() for _ in range(100)]
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        acknowledged += rest_of(source)

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        runs = {run.id: run for run in await ledger.runs(limit=1_000_000)}

    assert all(runs[id_].state is RunState.SENDING for id_ in acknowledged)
    assert len(runs) - len(acknowledged) in {0, 1}


def rest_of(source: Connection) -> Iterator[int]:
    try:
        while True:
            yield source.recv()
    except EOFError:
        return


def fill_up(url: str, out: Connection) -> None:
    """Claim until the limit on file size is met; then lift it and claim again."""
    _, session = open_to_write(url)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    claimed = 0
    try:
        while True:
            claimed += claim_hundred(session, claimed)
    except LedgerError as error:
        refusal = repr(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    claimed += claim_hundred(session, claimed)
    session.close()
    out.send((refusal, claimed))


def claim_hundred(session: Session, start: int) -> int:
    rows = [new_run(f"s{number}") for number in range(start, start + 100)]
    return len(run_one(session, lambda books: books.runs.claim(rows)))


async def test_a_file_that_may_not_grow_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    source, out = SPAWN.Pipe(duplex=False)

    with processes((fill_up, url_of(tmp_path), out)):
        refusal, claimed = source.recv()

    assert "could not be read or written (SQLITE_IOERR_WRITE): check the disk" in refusal
    assert claimed > 100
    assert rows_of(tmp_path, "SELECT count(*) FROM runs") == [(claimed,)]
    assert rows_of(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def keep(url: str, held: Connection) -> None:
    """A daemon that is alive until it is killed."""

    async def main() -> None:
        ledger = await Ledger.open_as_daemon(url)
        await claim(ledger, schedule_id="kept")
        held.send(os.getpid())
        await asyncio.sleep(60)

    asyncio.run(main())


async def test_a_ledger_has_one_daemon_at_a_time(tmp_path: Path) -> None:
    ours, theirs = SPAWN.Pipe()
    other = SPAWN.Process(target=keep, args=(url_of(tmp_path), theirs))
    other.start()
    holder = ours.recv()

    with pytest.raises(LedgerTaken, match=rf"is kept by another daemon, or by .* \(process {holder}\)"):
        await Ledger.open_as_daemon(url_of(tmp_path))
    async with await Ledger.open(url_of(tmp_path)) as beside:
        claimed = await claim(beside)
    other.kill()
    other.join()

    async with await Ledger.open_as_daemon(url_of(tmp_path)):
        assert claimed.state is RunState.CLAIMED


async def test_a_daemon_that_ends_leaves_its_place(tmp_path: Path) -> None:
    for _ in range(2):
        async with await Ledger.open_as_daemon(url_of(tmp_path)):
            pass


async def test_a_crowd_is_recorded_without_a_descriptor_to_spare(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await claim(ledger)
        rows = [new_run(schedule_id=f"s{number}", flow=number) for number in range(1, 300)]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.open("/dev/null", os.O_RDONLY)
        os.close(lowest_free)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
            runs = await ledger.claim(rows, [])
            begun = await asyncio.gather(*(ledger.begin_attempt(run.id, 1, run.due_at) for run in runs))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert {run.state for run in begun} == {RunState.SENDING}


async def test_a_ping_waits_for_no_lock(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            other.execute("BEGIN IMMEDIATE")

            async with asyncio.timeout(2):  # a writer would wait for five seconds
                await ledger.ping()


async def test_a_ping_is_answered_by_both_threads(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        for thread in (ledger._reader, ledger._writer):
            stuck = threading.Event()
            thread.do(lambda _, stuck=stuck: stuck.wait(10))  # type: ignore[misc]
            ping = asyncio.create_task(ledger.ping())
            await asyncio.sleep(0.1)
            assert not ping.done()
            stuck.set()
            await ping


async def test_a_ping_tells_of_what_cannot_be_written_until_it_can(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path, timeout=0.05)) as ledger:
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerError):
                await claim(ledger)

            for _ in range(2):
                with pytest.raises(LedgerError, match="locked by another process"):
                    await ledger.ping()
            other.rollback()
        with pytest.raises(LedgerError, match="locked by another process"):
            await ledger.ping()  # the latest ping could not write
        await ledger.ping()
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            await ledger.ping()  # all that had to be written was: nothing is locked any more

        assert await ledger.runs() == []


async def test_a_ping_tells_of_what_was_not_written_though_other_things_were_since(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path, timeout=0.05)) as ledger:
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerError):
                await claim(ledger)
            other.rollback()
        await claim(ledger)

        with pytest.raises(LedgerError, match="locked by another process"):
            await ledger.ping()
        await ledger.ping()


async def test_a_ping_tells_of_a_file_that_is_gone(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        (tmp_path / "ledger.db").rename(tmp_path / "away.db")

        with pytest.raises(LedgerError, match="does not exist"):
            await ledger.ping()
