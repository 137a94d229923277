"""`flowsched log`: from the ledger, and where that cannot be read, from the daemon."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.model import Action, ActionKind
from tests.builders import T0
from tests.commanding import a_site
from tests.test_cli_apply import COMMIT
from tests.test_cli_ledger import HOURLY, Installation, bare, catalog

if TYPE_CHECKING:
    from pathlib import Path

    from flowsched.ledger import Ledger

__all__ = ["bare"]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def logged(bare: Installation) -> Installation:
    async def work(ledger: Ledger) -> None:
        await ledger.apply(replace(catalog(HOURLY), commit=COMMIT), T0)
        for number, kind in ((1, ActionKind.PAUSE), (3, ActionKind.RESUME)):
            await ledger.record_action(
                Action(
                    at=T0 + number * MINUTE,
                    by="ada",
                    kind=kind,
                    subject="hourly",
                    reason="closed" if number == 1 else None,
                    detail=f"detail {number}",
                )
            )
        await ledger.apply(catalog(), T0 + 2 * MINUTE)

    bare.change(work)
    return bare


def test_actions_and_catalogs_are_shown_newest_first(logged: Installation) -> None:
    done = logged("log")

    assert (done.code, done.err) == (0, "")
    assert [line.split("  ")[0] for line in done.out.splitlines()] == [
        "time (UTC)",
        "2026-01-01T00:03:00Z",
        "2026-01-01T00:02:00Z",
        "2026-01-01T00:01:00Z",
        "2026-01-01T00:00:00Z",
    ]
    assert done.out.splitlines()[3].split() == [
        "2026-01-01T00:01:00Z", "ada", "pause", "hourly", "closed", "detail", "1",
    ]  # fmt: skip
    commit = "1 schedule, 1 enabled; commit aaaaaaaaaaaa by Ada <ada@example.com>"
    assert done.out.splitlines()[4].endswith(commit)


def test_the_log_in_json_has_whole_entries(logged: Installation) -> None:
    entries = logged("log", "--limit", "2", "--format", "json").json["log"]

    assert [(each["entry"], each["at"]) for each in entries] == [
        ("action", "2026-01-01T00:03:00Z"),
        ("catalog", "2026-01-01T00:02:00Z"),
    ]
    assert (entries[0]["kind"], entries[0]["by"], entries[1]["revision"]) == ("resume", "ada", "r0")


def test_an_empty_ledger_has_an_empty_log(bare: Installation) -> None:
    async def nothing(_: Ledger) -> None:
        """Make a ledger, and no more."""

    bare.change(nothing)

    assert (bare("log").out, bare("log").err) == ("", "nothing yet\n")
    assert bare("log", "--limit", "0").code == 2


def test_without_ledger_and_daemon_both_are_named(bare: Installation) -> None:
    done = bare("log")

    assert (done.code, done.out) == (3, "")
    assert "ledger.db does not exist" in done.err
    assert "there is no socket" in done.err


@pytest.mark.e2e
async def test_where_the_ledger_cannot_be_read_the_daemon_is_asked(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await site.daemon()
        await site("pause", "nightly", "--reason", "plant closed")
        near = await site("log", "--format", "json")
        settings = site.folder / "flowsched.yaml"
        elsewhere = settings.read_text().replace("ledger.db", "not-there.db")
        settings.write_text(elsewhere + f"control: {{socket: {site.settings.control_socket}}}\n")
        far = await site("log", "--format", "json")

    assert (near.code, far.code) == (0, 0), far
    assert json.loads(near.out) == json.loads(far.out)
    assert [each["entry"] for each in json.loads(far.out)["log"]] == ["action", "catalog"]
