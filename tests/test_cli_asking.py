"""What commands do whose question was taken, and not answered: nothing is done twice."""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.cli.asking import Asking, asked, followed, sentence
from flowsched.clock import FastClock
from flowsched.config import load_settings
from flowsched.control.documents import run_document
from flowsched.control.sockets import address_of
from flowsched.model import RunState
from tests.builders import T0, a_run
from tests.commanding import Site, a_site
from tests.test_cli import GOOD, SETTINGS
from tests.test_cli_ledger import HOURLY, Installation, bare, catalog, fire, put_in_doubt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flowsched.control.documents import Document
    from flowsched.ledger import Ledger

__all__ = ["bare"]

BECAUSE = ("--reason", "plant closed")
LIMIT = "target default, 1 call a minute"
LOOK = "; what was asked for may be done: `flowsched log` shows what people have done"


@pytest.fixture
def deaf(bare: Installation) -> Iterator[Installation]:
    """An installation without a daemon, where something takes each question and ends before it answers."""
    bare.write("schedules/a.yaml", GOOD)

    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        waits, doubtful = await fire(ledger, 1, 2)
        await put_in_doubt(ledger, doubtful)
        assert (waits.id, doubtful.id) == (1, 2)

    bare.change(work)
    path = bare.folder / "deaf"
    bare.write("flowsched.yaml", SETTINGS + f"control: {{socket: {path}}}\n")
    with socket.socket(socket.AF_UNIX) as listener:
        with address_of(str(path)) as address:
            listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=take_and_end, args=(listener,))
        thread.start()
        yield bare
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def take_and_end(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # it is closed
            return
        with connection:
            connection.recv(65_536)


def on_record(installation: Installation) -> Any:
    async def ask(ledger: Ledger) -> Any:
        return await ledger.runs(), await ledger.actions(), await ledger.pauses(T0)

    return installation.change(ask)


@pytest.mark.parametrize(
    "arguments",
    [
        ("trigger", "nightly", "--at", "2026-01-01T00:00Z"),
        ("pause", "nightly", *BECAUSE),
        ("resume", "--all"),
        ("cancel", "1", *BECAUSE),
        ("resolve", "2", "--failed", *BECAUSE),
        ("apply", "--accept", "0" * 8),
    ],
)
def test_what_may_be_done_already_is_not_done_once_more(
    deaf: Installation, arguments: tuple[str, ...]
) -> None:
    before = on_record(deaf)

    done = deaf(*arguments)

    assert (done.code, done.out) == (3, "")
    assert f"has closed the connection before it answered{LOOK}" in done.err
    assert on_record(deaf) == before


def test_a_question_that_changes_nothing_is_only_said_to_have_no_answer(deaf: Installation) -> None:
    nights = ("--from", "2026-01-01T00:00Z", "--to", "2026-01-02T00:00Z")

    done = deaf("backfill", "nightly", *nights, "--yes")

    assert (done.code, done.out) == (3, "")
    assert done.err.endswith(
        f"the daemon on {deaf.folder}/deaf has closed the connection before it answered\n"
    )


def test_a_trigger_without_an_answer_names_the_fire_by_which_it_can_be_asked_for_again(
    deaf: Installation,
) -> None:
    done = deaf("trigger", "nightly", "--at", "2026-11-21T02:30Z")

    same = "`flowsched trigger nightly --at 2026-11-21T02:30:00Z` asks for the same fire"
    assert done.err.endswith(f"{LOOK}; {same}, which is not triggered twice\n")
    page = (Path(__file__).parent.parent / "docs" / "operating.md").read_text(encoding="utf-8")
    shown = done.err.replace(f"{deaf.folder}/deaf", "/run/flowsched/control.sock")
    assert shown.replace("trigger nightly", "trigger nightly-wind-report") in page


def test_where_nobody_takes_the_question_the_command_does_it_itself(
    bare: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    bare.change(nothing)

    done = bare("pause", "--all", *BECAUSE)

    (_, (action,), (pause,)) = on_record(bare)
    assert (done.code, action.by, pause.reason) == (0, getpass.getuser(), "plant closed")


async def nothing(_: Ledger) -> None:
    """Make a ledger, and no more."""


async def test_who_interrupts_a_command_is_told_that_it_may_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, done = asyncio.Event(), asyncio.Event()

    async def keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await done.wait()
        writer.close()

    path = tmp_path / "s"
    with address_of(str(path)) as address:
        server = await asyncio.start_unix_server(keep, address)
    (tmp_path / "flowsched.yaml").write_text(SETTINGS + f"control: {{socket: {path}}}\n")
    fields = {"scope": "all", "reason": "plant closed"}
    pausing = asyncio.create_task(asked(load_settings(tmp_path / "flowsched.yaml"), "/v1/pause", fields))
    await taken.wait()
    pausing.cancel()
    await asyncio.gather(pausing, return_exceptions=True)
    done.set()
    server.close()
    await server.wait_closed()

    assert capsys.readouterr().err == f"flowsched: interrupted{LOOK}\n"


class Between:
    """Takes the questions of commands, has the daemon answer them, and keeps the answers to itself."""

    def __init__(self, site: Site) -> None:
        self.questions: list[bytes] = []
        self.answers: list[bytes] = []
        self.before = asyncio.Event()
        """Until it is set, the daemon is not asked."""
        self.lost = asyncio.Event()
        """Once it is set, the command learns that there is no answer."""
        self._real = site.settings.control_socket

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (
            int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")
        )
        self.questions.append(head + await reader.readexactly(length))
        await self.before.wait()
        with address_of(self._real) as address:
            ours, theirs = await asyncio.open_unix_connection(address)
        theirs.write(self.questions[-1])
        self.answers.append(await ours.read(65_536))
        theirs.close()
        await self.lost.wait()
        writer.close()


@pytest.mark.e2e
async def test_one_trigger_is_one_instance_though_its_answer_is_lost_and_the_daemon_with_it(
    tmp_path: Path,
) -> None:
    async with a_site(tmp_path) as site:
        daemon, between = await site.daemon(), Between(site)
        path = tmp_path / "between"
        with address_of(str(path)) as address:
            server = await asyncio.start_unix_server(between.serve, address)
        settings = tmp_path / "flowsched.yaml"
        settings.write_text(settings.read_text() + f"control: {{socket: {path}}}\n")
        command = await site.begin("trigger", "nightly")
        async with asyncio.timeout(30):
            while not between.questions:
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.2)  # more than a minute on the fast clock
        between.before.set()
        await site.has_instances(1)
        await site.kill(daemon)
        await asyncio.sleep(1.2)
        between.lost.set()
        done = await command.ends()
        server.close()
        await server.wait_closed()
        path.unlink()
        at = json.loads(between.questions[0].partition(b"\r\n\r\n")[2])["at"]
        again = await site("trigger", "nightly", "--at", at)

        assert (done.code, done.out) == (3, "")
        assert "what was asked for may be done" in done.err
        assert f"`flowsched trigger nightly --at {at}`" in done.err
        assert again.code == 1, again
        assert "(nightly) has flow 3377 at " in again.err
        assert site.instances() == [f"3377-{at.translate({ord(each): None for each in '-:TZ'})}"]


class Told(Asking):
    """Is told how a run stands, each time that it asks; what it was told last it is told again."""

    def __init__(self, *stands: dict[str, Any]) -> None:
        self.clock = FastClock(T0, 1000.0, time.monotonic())
        self._stands = list(stands)

    async def __call__(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Document:
        return self._stands.pop(0)


async def test_a_run_that_is_followed_says_what_it_waits_for_whenever_that_is_another_thing() -> None:
    claimed = run_document(a_run(state=RunState.CLAIMED, attempts=0, note="by hand (ada)"))
    held, behind = claimed | {"waits_for": LIMIT}, claimed | {"waits_for": "run 2 of its flow"}
    nothing = claimed | {"waits_for": None}
    end = run_document(a_run(state=RunState.FAILED, reason="too late")) | {"waits_for": None}
    said: list[str] = []

    await followed(
        Told(nothing, held, held, nothing, behind, end), claimed, lambda run: said.append(sentence(run))
    )

    assert [each.partition("): ")[2] for each in said] == [
        "claimed, by hand (ada)",
        f"claimed, by hand (ada), waits for {LIMIT}",
        "claimed, by hand (ada), waits for run 2 of its flow",
        "failed, too late",
    ]
