"""`flowsched pause` and `flowsched resume`."""

from __future__ import annotations

import asyncio
import getpass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.clock import SystemClock
from flowsched.model import Scope
from tests.builders import T0
from tests.commanding import Site, a_site
from tests.test_cli import GOOD
from tests.test_cli_ledger import HOURLY, Installation, bare, catalog, fire

if TYPE_CHECKING:
    from pathlib import Path

    from flowsched.ledger import Ledger
    from flowsched.model import Pause

__all__ = ["bare"]

WHO = getpass.getuser()


@pytest.fixture
def stopped(bare: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """An installation whose daemon has stopped, with a claimed run of a schedule."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    bare.write("schedules/a.yaml", GOOD)

    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        await fire(ledger, 1)

    bare.change(work)
    return bare


def pauses(installation: Installation) -> list[Pause]:
    async def ask(ledger: Ledger) -> list[Pause]:
        return await ledger.pauses(SystemClock().now())

    found: list[Pause] = installation.change(ask)
    return found


def test_a_pause_without_a_daemon_is_in_the_ledger(stopped: Installation) -> None:
    done = stopped("pause", "nightly", "--reason", "plant closed", "--for", "2h")
    (pause,) = pauses(stopped)

    assert pause.until_at
    assert (done.code, done.err) == (0, "")
    until = f"{pause.until_at:%Y-%m-%dT%H:%M:%SZ}"
    assert done.out == f"paused: schedule nightly, until {until} ({WHO}: plant closed)\n"
    assert (pause.scope, pause.name, pause.by) == (Scope.SCHEDULE, "nightly", WHO)
    assert timedelta(hours=1, minutes=59) < pause.until_at - pause.from_at <= timedelta(hours=2)


def test_a_pause_names_the_runs_that_go_on(stopped: Installation) -> None:
    done = stopped("pause", "hourly", "--reason", "plant closed")
    every = stopped("pause", "--all", "--reason", "plant closed", "--format", "json")

    assert done.out.splitlines() == [
        f"paused: schedule hourly, until `flowsched resume` ({WHO}: plant closed)",
        "1 run was claimed before and goes on; to end what is not sent yet:",
        "  flowsched cancel 1 --reason TEXT  (hourly, claimed)",
    ]
    assert every.json["pause"]["scope"] == "all"
    assert [run["id"] for run in every.json["going_on"]] == [1]


def test_a_pause_advises_no_cancel_of_what_is_sent(stopped: Installation) -> None:
    async def send(ledger: Ledger) -> None:
        await ledger.begin_attempt(1, 1, SystemClock().now())

    stopped.change(send)

    done = stopped("pause", "hourly", "--reason", "plant closed")

    assert done.out.splitlines()[1:] == [
        "1 run was claimed before and goes on, sent already: `flowsched runs` shows them"
    ]


def test_what_is_resumed_is_said_with_who_had_paused_it(stopped: Installation) -> None:
    stopped("pause", "--target", "default", "--reason", "plant closed")
    stopped("pause", "nightly", "--reason", "bad input")

    done = stopped("resume", "--target", "default", "--reason", "open again")

    assert done.code == 0
    assert done.out.startswith("resumed: target default (paused since 20")
    assert done.out.endswith(f" by {WHO}: plant closed)\n")
    assert [pause.name for pause in pauses(stopped)] == ["nightly"]


def test_who_became_root_by_sudo_is_named(stopped: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "bob")

    stopped("pause", "--all", "--reason", "plant closed")

    assert [pause.by for pause in pauses(stopped)] == [f"{WHO} (for bob)"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pause", "--reason", "x"], 2, "exactly one of ID, --target NAME and --all"),
        (["pause", "nightly", "--all", "--reason", "x"], 2, "exactly one of ID, --target NAME and --all"),
        (["pause", "nightly"], 2, "Missing option '--reason'"),
        (["pause", "nightly", "--reason", "x", "--for", "2"], 2, "has no unit"),
        (
            ["pause", "nightly", "--reason", "x", "--for", "2h", "--until", "2099-01-01T00:00Z"],
            2,
            "--for and --until both say when the pause ends",
        ),
        (["pause", "nightly", "--reason", "x", "--until", "2020-01-01T00:00Z"], 1, "which is in the past"),
        (["pause", "nightly", "--reason", "x", "--for", "400d"], 1, "which is too far ahead"),
        (["pause", "nihgtly", "--reason", "x"], 1, "did you mean 'nightly'?"),
        (["pause", "--target", "prod", "--reason", "x"], 1, "there is no target 'prod'; there are: default"),
        (["resume", "nightly"], 1, "there is no pause of schedule nightly; nothing is"),
        (["resume"], 2, "exactly one of ID, --target NAME and --all"),
    ],
)
def test_what_cannot_be_paused_or_resumed_changes_nothing(
    stopped: Installation, arguments: list[str], code: int, said: str
) -> None:
    done = stopped(*arguments)

    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert pauses(stopped) == []


@pytest.mark.e2e
async def test_a_pause_holds_for_a_running_daemon_and_over_its_restart(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        (site.folder / "schedules" / "b.yaml").write_text(
            "defaults: {timezone: UTC}\nschedules:\n  minutely: {cron: '* * * * *', flow: 1}\n"
        )
        daemon = await site.daemon()
        paused = await site("pause", "minutely", "--reason", "plant closed")
        await site.kill(daemon)
        await site.daemon()
        await has_skipped(site, 3)
        resumed = await site("resume", "minutely")
        await site.has_instances(len(site.instances()) + 2)
        runs = [run for run in await site.runs() if run.reason and run.reason.startswith("paused")]

    assert (paused.code, resumed.code) == (0, 0)
    assert {run.reason for run in runs} == {f"paused: plant closed ({WHO})"}
    since = datetime.fromisoformat(resumed.out.partition("since ")[2].split()[0])
    assert all(run.fire_time >= since.replace(second=0, microsecond=0) for run in runs)


async def has_skipped(site: Site, count: int) -> None:
    async with asyncio.timeout(30):
        while sum(run.state == "skipped" for run in await site.runs()) < count:
            await asyncio.sleep(0.05)
