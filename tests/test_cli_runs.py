"""`flowsched runs` where the ledger cannot be read: the daemon is asked, and says the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commanding import a_site
from tests.test_cli_ledger import bare

if TYPE_CHECKING:
    from pathlib import Path

    from tests.test_cli_ledger import Installation

__all__ = ["bare"]


@pytest.mark.e2e
async def test_where_the_ledger_cannot_be_read_the_daemon_is_asked(tmp_path: Path) -> None:
    questions: list[list[str]] = [
        ["--format", "json", "--attempts"],
        ["--attempts"],
        ["--run", "1", "--attempts", "--format", "json"],
        ["--schedule", "nightly", "--state", "triggered", "--limit", "1"],
        ["--state", "failed"],
        ["--run", "99"],
        ["--schedule", "nightli"],
    ]
    async with a_site(tmp_path) as site:
        await site.daemon()
        await site("trigger", "nightly", "--wait")
        near = [await site("runs", *question) for question in questions]
        settings = site.folder / "flowsched.yaml"
        elsewhere = settings.read_text().replace("ledger.db", "not-there.db")
        settings.write_text(elsewhere + f"control: {{socket: {site.settings.control_socket}}}\n")
        far = [await site("runs", *question) for question in questions]
        too_many = await site("runs", "--limit", "10001")

    assert far == near
    assert [done.code for done in near] == [0, 0, 0, 0, 0, 1, 1]
    (run,) = json.loads(far[0].out)["runs"]
    assert (run["state"], len(run["attempts"]), run["flow_state"]) == ("triggered", 1, None)
    assert "did you mean 'nightly'?" in far[-1].err
    assert (too_many.code, "from 1 to 10000" in too_many.err) == (2, True)


def test_without_ledger_and_daemon_both_are_named(bare: Installation) -> None:
    done = bare("runs")

    assert (done.code, done.out) == (3, "")
    assert "ledger.db does not exist" in done.err
    assert "there is no socket" in done.err
