"""`flowsched reload`, and `flowsched apply` as the daemon does it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commanding import Site, a_site
from tests.test_cli_ledger import Installation, bare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["bare"]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as site:
        yield site


def many(site: Site, count: int) -> None:
    lines = (f"  s{n}: {{cron: '0 {n} 1 1 *', timezone: UTC, flow: {5000 + n}}}\n" for n in range(count))
    (site.folder / "schedules" / "many.yaml").write_text("schedules:\n" + "".join(lines))


def test_without_a_daemon_nothing_is_reloaded(bare: Installation) -> None:
    done = bare("reload")

    assert (done.code, done.out) == (3, "")
    assert "there is no socket" in done.err


@pytest.mark.e2e
async def test_what_came_of_a_reload_is_said_with_all_problems(site: Site) -> None:
    await site.daemon()
    unchanged = await site("reload", "--wait")
    file = site.folder / "schedules" / "b.yaml"
    file.write_text(
        "schedules:\n  one: {cron: '61 * * * *', timezone: UTC, flow: 1}\n"
        "  two: {cron: '* * * * *', flow: x}\n"
    )
    refused = await site("reload", "--wait")
    validated = await site("validate", str(site.folder / "schedules"))
    unwaited = await site("reload")
    file.write_text("schedules:\n  one: {cron: '1 1 1 1 *', timezone: UTC, flow: 1}\n")
    applied = await site("reload", "--wait", "--format", "json")
    log = json.loads((await site("log", "--format", "json")).out)["log"]

    assert unchanged.code == 0
    assert unchanged.out.startswith("unchanged: catalog ")
    assert (refused.code, refused.err) == (1, "")
    *problems, last = refused.out.splitlines()
    assert last == "refused: the catalog before stays in force"
    assert len(problems) >= 2
    assert set(problems) <= set(validated.out.splitlines())
    assert (unwaited.code, unwaited.out.split(":")[0]) == (0, "asked")
    reload = json.loads(applied.out)["reload"]
    assert (applied.code, reload["outcome"], reload["problems"]) == (0, "applied", [])
    details = [each["detail"] for each in log if each["entry"] == "action" and each["kind"] == "reload"]
    assert [detail.split()[0].rstrip(",") for detail in reversed(details)] == [
        "unchanged", "refused", "refused", "applied",
    ]  # fmt: skip


@pytest.mark.e2e
async def test_what_is_held_is_accepted_and_applied_at_once(site: Site) -> None:
    many(site, 12)
    await site.daemon()
    many(site, 5)
    held = await site("reload", "--wait")
    digest = held.out.splitlines()[-1].split()[2]
    other = await site("apply", "--accept", "0" * 8)
    done = await site("apply", "--accept", digest, "--reason", "plant closed")
    again = await site("apply", "--accept", digest, "--format", "json")
    (site.folder / "schedules" / "many.yaml").write_text("nonsense: 1\n")
    refused = await site("apply", "--accept", digest)

    assert held.code == 1
    assert held.out.splitlines()[-1] == (
        f"held: catalog {digest} changes much, and the one before stays in force;"
        f" `flowsched apply --accept {digest}` puts it in force"
    )
    assert (other.code, other.out) == (1, "")
    assert "nothing is accepted: the schedule files are another catalog now" in other.err
    assert (done.code, done.out) == (0, f"applied: catalog {digest} is in force\n")
    assert json.loads(again.out)["reload"]["outcome"] == "unchanged"
    assert (refused.code, refused.out) == (1, "")
    assert "nothing is accepted: the schedule files cannot be used:\n" in refused.err
    assert "many.yaml:1:1: nonsense: " in refused.err
