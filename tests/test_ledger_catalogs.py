"""Which catalogs were put in force, where they came from, and who has accepted them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flowsched import cron
from flowsched.admission import Difference
from flowsched.ledger import Ledger
from flowsched.ledger.migrations import MIGRATIONS
from flowsched.model import AppliedCatalog, Commit, Cursor
from tests.test_ledger import LATER, MINUTE, NIGHT, catalog, rows_of, schedule, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

COMMIT = Commit(id="a" * 40, author="Zoë Wind <zoe@example.com>", at=NIGHT - MINUTE, clean=False)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(url_of(tmp_path)) as opened:
        yield opened


def applied(revision: str, commit: Commit | None = None) -> AppliedCatalog:
    return AppliedCatalog(
        revision=revision,
        at=NIGHT,
        schedules=2,
        enabled=1,
        commit=commit,
        tz_release=cron.tz_release() or None,
    )


async def test_a_catalog_is_recorded_with_its_commit_and_zone_data(ledger: Ledger) -> None:
    both = (schedule("a"), schedule("b", enabled=False))
    await ledger.apply(catalog("r1", *both), NIGHT)
    await ledger.apply(replace(catalog("r2", *both), commit=COMMIT), NIGHT)
    await ledger.apply(replace(catalog("r2", *both), commit=COMMIT), LATER)
    await ledger.apply(replace(catalog("r1", *both), commit=replace(COMMIT, clean=True)), NIGHT)

    assert await ledger.catalogs() == [
        applied("r1"),
        applied("r2", COMMIT),
        applied("r1", replace(COMMIT, clean=True)),
    ]


async def test_a_catalog_whose_files_are_committed_later_is_recorded_anew_and_nothing_begins_anew(
    ledger: Ledger,
) -> None:
    one = catalog("r1", schedule("a"), schedule("b", enabled=False))
    clean = replace(COMMIT, clean=True)
    other = replace(clean, id="b" * 40)
    await ledger.apply(replace(one, commit=COMMIT), NIGHT)
    terms = await ledger.terms()
    await ledger.apply(replace(one, commit=clean), NIGHT)
    await ledger.record(replace(one, commit=other), NIGHT)
    await ledger.record(replace(one, commit=other), LATER)

    assert await ledger.catalogs() == [applied("r1", COMMIT), applied("r1", clean), applied("r1", other)]
    assert await ledger.terms() == terms


async def test_an_acceptance_outlives_another_commit_of_the_catalog_in_force(ledger: Ledger) -> None:
    one = catalog("r1", schedule("a"))
    await ledger.apply(catalog("r0", schedule("a")), NIGHT)
    await ledger.apply(one, NIGHT)
    await ledger.accept("r2", NIGHT, "ada", None)
    await ledger.record(replace(one, commit=COMMIT), NIGHT)
    still = await ledger.accepted_by("r2")
    await ledger.accept("r3", NIGHT, "bob", None)
    await ledger.apply(replace(one, commit=replace(COMMIT, clean=True)), LATER)
    both = await ledger.accepted_by("r2"), await ledger.accepted_by("r3")
    await ledger.apply(catalog("r3", schedule("a")), LATER)
    await ledger.apply(one, LATER)

    assert (still, both) == ("ada", ("ada", "bob"))
    assert [await ledger.accepted_by(each) for each in ("r2", "r3")] == [None, None]


async def test_a_ledger_of_the_second_version_keeps_its_catalogs(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch(0o600)
    at = round(NIGHT.timestamp()) * 1_000_000
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other, other:
        for statement in (*MIGRATIONS[0], *MIGRATIONS[1]):
            other.execute(statement)
        other.execute("INSERT INTO ledger_version VALUES (2)")
        other.execute("INSERT INTO catalogs VALUES (1, 'r1', ?, 2, 1)", [at])

    async with await Ledger.open(url_of(tmp_path)) as ledger:
        assert await ledger.catalogs() == [replace(applied("r1"), tz_release=None)]
        assert await ledger.accepted_by("r1") is None


async def test_an_acceptance_is_for_one_digest_or_how_it_begins(ledger: Ledger) -> None:
    await ledger.apply(catalog("0" * 64), NIGHT)
    await ledger.accept("abcdef01", LATER, "ada@host", "plant closed")
    await ledger.accept("b" * 64, LATER, "bob@host", None)

    found = {
        revision: await ledger.accepted_by(revision) for revision in ("abcdef0123", "abcdef0", "b" * 64, "c")
    }

    assert found == {"abcdef0123": "ada@host", "abcdef0": None, "b" * 64: "bob@host", "c": None}


async def test_an_acceptance_counts_until_another_catalog_is_put_in_force(ledger: Ledger) -> None:
    await ledger.accept("r1", LATER, "ada", None)
    before = await ledger.accepted_by("r1")
    await ledger.apply(catalog("r1", schedule("a")), NIGHT)
    used = await ledger.accepted_by("r1")
    # Whatever the clock says meanwhile: it may have been set back.
    await ledger.accept("r2", NIGHT - MINUTE, "ada", None)
    await ledger.apply(catalog("r1", schedule("a")), LATER)
    still = await ledger.accepted_by("r2")
    await ledger.apply(catalog("r3", schedule("a")), LATER)

    assert (before, used, still, await ledger.accepted_by("r2")) == ("ada", None, "ada", None)


async def test_who_has_accepted_what_when_and_why_is_kept(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.accept("abcdef01", NIGHT, "ada@host", "plant closed")

    at = round(NIGHT.timestamp()) * 1_000_000
    query = "SELECT revision, after_catalog, accepted_at, accepted_by, reason FROM acceptances"
    assert rows_of(tmp_path, query) == [("abcdef01", None, at, "ada@host", "plant closed")]


@pytest.mark.parametrize(
    ("revision", "ids", "holds"),
    [("r2", "ab", True), ("r1", "ab", False), ("r2", "abc", False), ("r2", "a", False)],
)
async def test_a_difference_begins_at_the_newest_catalog_with_all_that_is_in_force(
    ledger: Ledger, revision: str, ids: str, *, holds: bool
) -> None:
    await ledger.apply(catalog("r1", schedule("a"), schedule("c")), NIGHT)
    await ledger.apply(catalog("r2", schedule("a"), schedule("b")), NIGHT)
    cursors = {id_: Cursor(id_, schedule(id_).timing, LATER) for id_ in ids}
    since = Difference(revision, cursors, frozenset("b"))

    stands = await ledger.stands(since)
    found = await ledger.apply(catalog("r3", schedule("a"), replace(schedule("b"), flow=2)), LATER, since)

    assert stands is holds
    assert {id_: each.at for id_, each in found.items()} == {"a": LATER if holds else NIGHT, "b": NIGHT}


async def test_a_difference_begins_at_nothing_in_a_ledger_without_a_catalog(ledger: Ledger) -> None:
    assert not await ledger.stands(Difference("", {}, frozenset()))
