"""`flowsched alert-test`, and alerts and pings of a whole daemon, against receivers on loopback."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from flowsched.ledger import Ledger
from flowsched.model import MessageState, RunState
from tests.fakes import eventually
from tests.receivers import Mailbox, bodies
from tests.test_daemon import Plant
from tests.wire import Wire, falls_silent, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    built = Plant(tmp_path)
    await built.build()
    yield built
    await built.leave()


def tell(plant: Plant, text: str, ping: str = "") -> None:
    """Have the settings say who is told."""
    settings = plant.folder / "flowsched.yaml"
    settings.write_text(settings.read_text() + text)
    if ping:
        schedules = plant.folder / "schedules" / "a.yaml"
        schedules.write_text(schedules.read_text().replace("flow: 3377}", f"flow: 3377, ping: {ping}}}"))


def a_hook(url: str, name: str = "hook") -> str:
    return f"    {name}: {{webhook: {{url: '{url}'}}}}\n"


def a_mail(port: int) -> str:
    ends = "from: flowsched@example.com, to: [on-call@example.com]"
    return f"    mail: {{email: {{host: 127.0.0.1, port: {port}, tls: none, {ends}}}}}\n"


HEAD = "alerts:\n  group_wait: 1s\n  channels:\n"


async def test_a_daemon_tells_of_what_was_missed_and_pings_what_it_fires(plant: Plant) -> None:
    async with Wire(says(200, {})) as hook, Mailbox() as box, Wire(says(200, b"OK")) as checks:
        pings = f"pings: {{url: '{checks.url}/ping'}}\n"
        tell(plant, HEAD + a_hook(hook.url) + a_mail(box.port) + pings, "twice-an-hour")
        daemon = await plant.start()
        await eventually(lambda: hook.heard and box.mails and len(checks.heard) >= 3, within=30)
        daemon.process.terminate()
        assert await daemon.ends() == 0

    (told,) = bodies(hook.heard)
    assert [(alert["kind"], alert["subject"]) for alert in told["alerts"]] == [("missed", "twice-an-hour")]
    assert box.mails[0].message["Subject"].startswith("[flowsched] twice-an-hour was missed (run 1, ")
    signals = sorted(heard.target.partition("?")[0] for heard in checks.heard)
    assert signals == ["/ping/twice-an-hour", "/ping/twice-an-hour/fail", "/ping/twice-an-hour/start"]
    async with await Ledger.open_to_read(plant.settings.ledger) as ledger:
        assert {each.state for each in await ledger.messages()} == {MessageState.SENT}


async def test_a_refused_reload_is_told_and_so_is_its_end(plant: Plant) -> None:
    async with Wire(says(200, {})) as hook:
        tell(plant, HEAD + "    hook: {on: [refused], webhook: {url: '" + hook.url + "'}}\n")
        daemon = await plant.start()
        await daemon.says("daemon ready")
        bad = plant.folder / "schedules" / "bad.yaml"
        bad.write_text("schedules: {x: {cron: nonsense}}\n")
        await plant.flowsched("reload")
        await eventually(lambda: len(hook.heard) == 1, within=20)
        bad.unlink()
        await plant.flowsched("reload")
        await eventually(lambda: len(hook.heard) == 2, within=20)

    first, second = bodies(hook.heard)
    assert (first["state"], second["state"], first["key"]) == ("firing", "over", second["key"])
    assert "bad.yaml" in first["summary"]


async def test_a_channel_that_hangs_keeps_no_daemon_from_ending_and_is_told_by_the_next(plant: Plant) -> None:
    async with Wire(falls_silent, says(200, {})) as hook, Mailbox(silent=True) as box:
        tell(plant, HEAD + a_hook(hook.url) + a_mail(box.port))
        daemon = await plant.start()
        await eventually(lambda: hook.heard, within=30)
        began = time.perf_counter()
        daemon.process.terminate()
        assert await daemon.ends() == 0
        took = time.perf_counter() - began
        assert len(await plant.runs(RunState.TRIGGERED)) == 1

        again = await plant.start()
        await eventually(lambda: len(hook.heard) == 2, within=30)
        await again.says("alerts sent")

    first, second = bodies(hook.heard)
    assert first == second
    assert took < 8, "about two seconds for what hangs"


async def test_a_test_goes_over_each_channel_by_the_daemon_or_without_one(plant: Plant) -> None:
    async with Wire(says(200, {})) as hook, Wire(says(500, {})) as broken, Mailbox() as box:
        tell(plant, HEAD + a_hook(hook.url) + a_hook(broken.url, "broken") + a_mail(box.port))

        code, alone = await plant.flowsched("alert-test", "--format", "json")
        one, only = await plant.flowsched("alert-test", "mail")
        daemon = await plant.start()
        await daemon.says("daemon ready")
        asked, by_daemon = await plant.flowsched("alert-test", "--format", "json")
        wrong, unknown = await plant.flowsched("alert-test", "hok")

    for found, sender in ((json.loads(alone), "this command"), (json.loads(by_daemon), "daemon")):
        assert found["sent_by"] == sender
        trials = {each["channel"]: (each["kind"], each["ok"], each["detail"]) for each in found["trials"]}
        assert trials == {
            "hook": ("webhook", True, "HTTP 200"),
            "broken": ("webhook", False, "HTTP 500"),
            "mail": ("email", True, "accepted by the mail server"),
        }
    assert (code, one, asked, wrong) == (1, 0, 1, 2)
    assert only.splitlines()[0].split() == ["channel", "kind", "outcome", "took", "detail"]
    assert only.splitlines()[-1] == "Sent by this command, as no daemon answers."
    assert "there is no channel 'hok'; did you mean 'hook'?" in unknown
    assert len([mail for mail in box.mails if "this is a test" in mail.message["Subject"]]) == 3


async def test_without_channels_a_test_says_so(plant: Plant) -> None:
    assert await plant.flowsched("alert-test") == (
        0,
        "There are no channels: flowsched.yaml has no alerts.\n",
    )
