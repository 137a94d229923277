"""`flowsched apply`, and what else a command tells of where schedules came from."""

from __future__ import annotations

import getpass
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.config import load_catalog, load_settings
from flowsched.model import Commit
from tests.builders import T0
from tests.test_cli_ledger import HOURLY, Installation, bare, catalog, fire

if TYPE_CHECKING:
    from flowsched.ledger import Ledger
    from flowsched.model import Catalog

__all__ = ["bare"]

SCHEDULES = "schedules:\n  nightly: {cron: '30 2 * * *', timezone: UTC, flow: 3377}\n"
COMMIT = Commit(id="a" * 40, author="Ada <ada@example.com>", at=T0, clean=True)


async def nothing(_: Ledger) -> None:
    """Make a ledger, and no more."""


def revision_of(installation: Installation) -> str:
    settings = load_settings(installation.folder / "flowsched.yaml")
    return load_catalog(settings.schedules, settings).revision


def accepted_by(installation: Installation, revision: str) -> str | None:
    async def ask(ledger: Ledger) -> str | None:
        return await ledger.accepted_by(revision)

    found: str | None = installation.change(ask)
    return found


@pytest.mark.parametrize("length", [8, 12, 64])
def test_the_digest_of_the_files_is_accepted(
    bare: Installation, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    bare.write("schedules/a.yaml", SCHEDULES)
    bare.change(nothing)
    revision = revision_of(bare)

    done = bare("apply", "--accept", revision[:length].upper(), "--reason", "plant closed")

    accepted = f"accepted: catalog {revision[:length]}"
    said = f"{accepted}; there is no daemon, and the next one that starts puts it in force\n"
    assert (done.code, done.out, done.err) == (0, said, "")
    assert accepted_by(bare, revision) == getpass.getuser()
    assert bare("apply", "--accept", revision, "--format", "json").json == {"reload": None}


def test_a_digest_that_the_files_do_not_have_is_not_accepted(bare: Installation) -> None:
    bare.write("schedules/a.yaml", SCHEDULES)
    bare.change(nothing)
    revision = revision_of(bare)

    done = bare("apply", "--accept", "00000000")

    said = f"flowsched: nothing is accepted: the schedule files are another catalog now: {revision}\n"
    assert (done.code, done.out, done.err) == (1, "", said)
    assert accepted_by(bare, "0" * 64) is None
    assert accepted_by(bare, revision) is None


def test_what_is_accepted_is_the_whole_digest_however_little_of_it_was_given(bare: Installation) -> None:
    bare.write("schedules/a.yaml", SCHEDULES)
    bare.change(nothing)
    revision = revision_of(bare)

    bare("apply", "--accept", revision[:8])

    assert accepted_by(bare, revision)
    assert accepted_by(bare, revision[:8] + "0" * 56) is None


def test_nothing_is_accepted_of_files_with_problems(bare: Installation) -> None:
    bare.change(nothing)

    done = bare("apply", "--accept", "00000000")

    assert (done.code, done.out) == (1, "")
    assert "nothing is accepted: the schedule files cannot be used:\n" in done.err
    assert "schedules: does not exist" in done.err
    assert accepted_by(bare, "0" * 64) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--accept'"),
        (["--accept", "abcdef0"], "'abcdef0' is no digest; allowed: 8 to 64 hex digits"),
        (["--accept", "a" * 65], "is no digest; allowed: 8 to 64 hex digits"),
        (["--accept", "nothexatall"], "'nothexatall' is no digest"),
        (["--accept", "abcdef01", "--reason", " "], "one line of 1 to 500 printable characters"),
    ],
)
def test_apply_says_how_it_is_used(bare: Installation, arguments: list[str], said: str) -> None:
    done = bare("apply", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (bare.folder / "ledger.db").exists()


def test_a_ledger_that_is_not_there_is_not_made_to_accept_something(bare: Installation) -> None:
    bare.write("schedules/a.yaml", SCHEDULES)

    done = bare("apply", "--accept", revision_of(bare))

    assert (done.code, done.out) == (3, "")
    assert "ledger.db does not exist" in done.err
    assert not (bare.folder / "ledger.db").exists()


def test_a_run_knows_the_commit_it_came_from(bare: Installation) -> None:
    hour = timedelta(hours=1)

    def at(number: int, commit: Commit | None) -> Catalog:
        return replace(catalog(HOURLY), revision=f"r{number}", commit=commit)

    async def work(ledger: Ledger) -> None:
        for hours, number, commit in (
            (0, 1, COMMIT),
            (2, 2, None),
            (4, 1, replace(COMMIT, id="b" * 40, clean=False)),
        ):
            await ledger.apply(at(number, commit), T0 + hours * hour)
            claimed = T0 + (hours + 1) * hour
            await fire(ledger, hours + 1, revision=f"r{number}", claimed_at=claimed)

    bare.change(work)

    last, second, first = bare("runs", "--format", "json").json["runs"]

    assert first["commit"] == {
        "id": "a" * 40,
        "author": "Ada <ada@example.com>",
        "at": "2026-01-01T00:00:00Z",
        "clean": True,
    }
    assert second["commit"] is None
    assert (last["commit"]["id"], last["commit"]["clean"]) == ("b" * 40, False)
    assert (first["revision"], first["source"]) == ("r1", "schedules/a.yaml:3")
