"""`flowsched status`: what it says at night, and how it follows a daemon."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from flowsched.cli import status_view
from flowsched.cli.status_words import FRAME, Section, fitted, heading, news, sections
from flowsched.control.client import Client
from flowsched.control.documents import status_document
from flowsched.control.server import Server
from flowsched.model import Commit, ReloadOutcome, RunState, Scope, TargetStatus, Unsent
from flowsched.simulator import Fault, Order
from tests.builders import a_run
from tests.fakes import eventually
from tests.test_control_server import settings_of
from tests.test_daemon import Plant
from tests.wheel import HEALTH, NOW, PAUSE, RELOAD, REVISION, RemarkingWheel, a_status, an_upcoming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DOUBTFUL = a_run(
    id=17, state=RunState.IN_DOUBT, fire_time=NOW - timedelta(minutes=30), reason="HTTP 500 after sending"
)
WAITING = a_run(
    id=18, state=RunState.WAITING, fire_time=NOW, retry_at=NOW + timedelta(seconds=30), reason="HTTP 503"
)
ENDED = a_run(id=16, state=RunState.TRIGGERED, instance="3377-1", updated_at=NOW - timedelta(seconds=9))


def rows(title: str, **more: Any) -> list[list[str]]:
    found = [each for each in sections(status_document(a_status(**more))) if each.title == title]
    return [list(row) for section in found for row in section.rows]


def titles(**more: Any) -> list[str]:
    return [each.title for each in sections(status_document(a_status(**more)))]


def test_a_daemon_that_is_well_shows_what_is_next_and_how_it_is() -> None:
    assert titles() == ["Next", "Targets", "Health"]
    assert rows("Next") == [["14:05", "5m", "nightly-wind-report", ""]]
    assert rows("Targets") == [["default", "token 2m old", "not known yet", ""]]
    assert rows("Health") == [["yes", "1.0 ms", "0.4 ms", "3 s ago", ""]]


def test_what_needs_a_person_comes_first() -> None:
    more = {"counts": {RunState.IN_DOUBT: 1}, "under_way": (DOUBTFUL, WAITING), "recent": (ENDED,)}

    assert titles(**more) == [
        "Needs a person", "In doubt", "Under way", "Next", "Ended lately", "Targets", "Health"
    ]  # fmt: skip
    assert rows("In doubt", **more) == [
        ["17", "13:30", "nightly", "default", "3377-20260101000000? HTTP 500 after sending"]
    ]
    assert rows("Under way", **more) == [
        ["18", "14:00", "nightly", "waiting", "1", "again at 14:00:30; HTTP 503"]
    ]
    assert "Ended lately (2 failed since the start)" in titles(**more, failed=2)
    assert rows("Ended lately", **more) == [
        ["13:59:51", "16", "2026-01-01 00:00", "nightly", "triggered", "3377-1"]
    ]


def test_pauses_are_drift_with_who_why_and_until() -> None:
    forever = replace(PAUSE, scope=Scope.ALL, name=None, until_at=None)

    assert rows("Drift from Git", pauses=(PAUSE, forever)) == [
        ["paused: schedule nightly", "14:00", "16:00, in 2h", "bob", "maintenance"],
        ["paused: all schedules", "14:00", "resumed", "bob", "maintenance"],
    ]


def test_what_is_held_or_refused_is_drift_with_each_problem() -> None:
    held = replace(RELOAD, outcome=ReloadOutcome.HELD, why="SIGHUP", problems=("9 of 9 removed",))
    refused = replace(held, outcome=ReloadOutcome.REFUSED, problems=("a.yaml:1:1: bad", "b.yaml:2:2: bad"))

    assert rows("Drift from Git", held=REVISION, reload=held) == [
        ["held: catalog 3f2a1c77b0de", "14:00", "", "SIGHUP", "9 of 9 removed"]
    ]
    assert [row[-1] for row in rows("Drift from Git", reload=refused)] == [
        "a.yaml:1:1: bad",
        "b.yaml:2:2: bad",
    ]


def test_what_is_overdue_deferred_paused_or_astray_says_so() -> None:
    late = an_upcoming(out_at=NOW + timedelta(days=1), paused=True)
    astray = TargetStatus(name="eu", token_age=None, clock_offset=timedelta(seconds=-95), clock_is_off=True)

    assert rows("Overdue", overdue={"a": NOW - timedelta(minutes=3)}) == [["13:57", "3m", "a"]]
    assert rows("Next", upcoming=(late,)) == [
        ["2026-11-22 14:00", "1d", "nightly", "paused; deferred; its fire time is 14:05"]
    ]
    assert rows("Targets", targets=(astray,)) == [["eu", "no token", "-95.0 s, too far", ""]]


@pytest.mark.parametrize(
    ("state", "more", "why"),
    [
        (RunState.CLAIMED, {"due_at": NOW + timedelta(seconds=90)}, "due at 14:01:30"),
        (RunState.CLAIMED, {"due_at": NOW}, "waits for its turn"),
        (RunState.CLAIMED, {"due_at": NOW, "note": "by hand (ada)"}, "waits for its turn; by hand (ada)"),
        (RunState.WAITING, {"retry_at": NOW, "reason": "HTTP 503"}, "waits for its turn; HTTP 503"),
        (RunState.SENDING, {"due_at": NOW}, ""),
    ],
)
def test_a_run_that_is_not_being_sent_says_what_it_waits_for(
    state: RunState, more: dict[str, Any], why: str
) -> None:
    ((*_, shown),) = rows("Under way", under_way=(a_run(state=state, **more),), counts={state: 1})

    assert shown == why


def test_a_run_that_waits_for_a_limit_says_so_and_how_late_it_is() -> None:
    run = a_run(id=4, state=RunState.CLAIMED, due_at=NOW - timedelta(seconds=100))
    soon = a_run(id=5, state=RunState.CLAIMED, due_at=NOW - timedelta(seconds=5))
    again = a_run(id=6, state=RunState.WAITING, due_at=NOW, retry_at=NOW - timedelta(seconds=6))
    more = {"under_way": (run, soon, again), "waits_for": {4: "target eu, 1 call a minute"}}

    assert [row[-1] for row in rows("Under way", **more)] == [
        "waits for target eu, 1 call a minute; late by 1m40s",
        "waits for its turn",
        "waits for its turn; late by 6s",
    ]
    document = status_document(a_status(**more))
    assert [(each["waits_for"], each["late_by"]) for each in document["under_way"]] == [
        ("target eu, 1 call a minute", 100), (None, 5), (None, 6)
    ]  # fmt: skip


def test_a_target_in_trouble_says_what_it_is() -> None:
    eu = TargetStatus(
        name="eu",
        token_age=None,
        clock_offset=None,
        clock_is_off=False,
        held_by="1 call a minute",
        unsent=Unsent(timedelta(minutes=3), "Connection refused, while connecting to eu:443"),
    )

    assert rows("Targets", targets=(eu,))[0][-1] == (
        "a call was not sent 3m ago: Connection refused, while connecting to eu:443;"
        " calls wait for its limit, 1 call a minute"
    )


def test_only_some_of_very_many_runs_are_there_and_it_says_so() -> None:
    more = {"under_way": (WAITING,), "counts": {RunState.WAITING: 300}}

    assert "Under way (the first 1 of 300)" in titles(**more)


def test_the_heading_says_since_when_and_of_which_commit() -> None:
    commit = Commit(id="abcdef0123456789", author="Bob <b@c.d>", at=NOW, clean=False)

    assert heading(status_document(a_status(commit=commit))) == (
        "2026-11-21 14:00:00 UTC; flowsched 1.2.3 up for 3h;"
        " catalog 3f2a1c77b0de of commit abcdef012345 with edits beyond it, in force since 13:00"
    )
    assert heading(status_document(a_status(revision="", applied_at=None))).endswith("; no catalog")


def test_news_are_what_is_said_paused_or_wanted_and_not_that_time_passes() -> None:
    first = status_document(a_status())
    later = status_document(a_status(health=replace(HEALTH, loop_lag=0.5), at=NOW + timedelta(seconds=1)))
    paused = status_document(a_status(pauses=(PAUSE,), counts={RunState.IN_DOUBT: 1}))

    assert news(first) == news(later)
    assert "; paused: schedule nightly (bob): maintenance; needs a person: 1 run in doubt" in news(paused)


def lines(count: int, title: str = "t") -> Section:
    return Section(title, ("a", "b"), [[str(number), "x"] for number in range(count)])


@pytest.mark.parametrize("height", range(60))
def test_sections_take_no_more_lines_than_there_are_and_leave_none_unused(height: int) -> None:
    all_ = [lines(1), lines(30), lines(2), lines(10)]

    wants = [[3], [1] * 30, [2, 1], [1] * 10]

    shown = fitted(all_, height, wants)

    taken = sum(FRAME + sum(heights) for _, heights in shown)
    wanted = sum(FRAME + sum(want) for want in wants)
    assert taken <= height
    assert taken == min(height, wanted) or (len(shown) < len(all_) and height - taken < FRAME + 3)
    assert all(len(section.rows) == len(heights) for section, heights in shown)


def test_a_section_that_is_cut_says_how_much_is_missing() -> None:
    ((section, heights),) = fitted([lines(10)], FRAME + 4, [[5] * 10])

    assert section.rows[-2:] == [["2", "x"], ["", "and 7 more"]]
    assert heights == [1, 1, 1, 1]


def test_what_matters_is_whole_before_others_have_more_than_a_few_rows() -> None:
    first = replace(lines(2, "first"), whole=True)
    shown = fitted([first, lines(9, "a"), lines(9, "b")], 22, [[1, 5], [1] * 9, [1] * 9])

    taken = [(section.title, sum(heights)) for section, heights in shown]
    assert taken == [("first", 6), ("a", 4), ("b", 3)]


def test_each_row_has_a_line_before_one_has_two() -> None:
    ((_, heights),) = fitted([lines(3)], FRAME + 6, [[1, 5, 2]])

    assert heights == [1, 4, 1]


def screen(width: int, height: int, **more: Any) -> list[str]:
    """Return what a terminal of that size shows."""
    view = status_view.StatusView()
    view._live.console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with view._live.console.capture() as captured:
        view.show(status_document(a_status(**more)), None)
        view._live.console.print(view._live.get_renderable())
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (200, 50), (20, 5), (1, 1)])
def test_a_picture_fits_its_terminal(width: int, height: int) -> None:
    name = "a-schedule-with-quite-a-long-name-in-the-northern-region"
    runs = tuple(
        a_run(id=n, schedule_id=name, state=RunState.SENDING, reason="because " * 20) for n in range(40)
    )
    picture = screen(width, height, under_way=runs, recent=runs, pauses=(replace(PAUSE, reason="x" * 300),))

    assert all(len(line.rstrip()) <= width for line in picture)
    if width >= 80:
        assert len(picture) <= height
        assert any("paused: schedule nightly" in line for line in picture)
    if width == 200:
        assert any(name in line for line in picture)


ID = "every-quarter-of-an-hour-sync-of-all-turbines"


def test_what_is_too_wide_is_folded_between_words_where_there_is_height() -> None:
    pause = replace(PAUSE, name=ID, reason="the whole plant is closed until the inspection is over")
    held = replace(RELOAD, outcome=ReloadOutcome.HELD, problems=("of 13 enabled schedules 7 removed",))
    more = {"pauses": (pause,), "held": REVISION, "reload": held, "under_way": (DOUBTFUL,)}

    high, low = screen(80, 60, **more), screen(80, 18, **more)

    words = " ".join(" ".join(high).split())
    for whole in (ID, "flowsched apply --accept 3f2a1c77b0de", "inspection", "the whole plant", "removed"):
        assert whole in words or all(word in words for word in whole.split()), whole
    assert "…" not in "".join(high)
    assert all(len(line.rstrip()) <= 80 for line in high)
    assert "…" in "".join(low)
    assert len(low) <= 18


class Post:
    """A daemon's end of a socket, and the command beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheel = RemarkingWheel()
        self._server: Server | None = None
        self.processes: list[asyncio.subprocess.Process] = []

    async def open(self) -> None:
        self._server = Server(settings_of(self.folder / "s"), self.wheel)
        await self._server.__aenter__()

    async def close(self) -> None:
        if self._server is not None:
            await self._server.__aexit__(None, None, None)
            self._server = None

    async def start(self, *arguments: str, **more: Any) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowsched", "--config", "flowsched.yaml", "status", *arguments),
            cwd=self.folder,
            **({"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | more),
        )
        self.processes.append(process)
        return process

    async def status(self, *arguments: str) -> tuple[int | None, str, str]:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode, out.decode(), err.decode()


SETTINGS = """\
schedules: schedules
ledger: sqlite:///ledger.db
control: {socket: s}
targets:
  default: {url: "http://127.0.0.1:1", org_id: o1, user_id: u1, access_key: {env: AK}, secret_key: {env: SK}}
"""


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    (tmp_path / "flowsched.yaml").write_text(SETTINGS)
    post = Post(tmp_path)
    await post.open()
    yield post
    await post.close()
    for process in post.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_status_prints_the_sentence_first_and_exits_with_0_where_all_is_well(post: Post) -> None:
    code, out, err = await post.status()

    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        "128 schedules, 3 running, next 14:05 nightly-wind-report, catalog 3f2a1c77b0de ok"
    )
    assert "\nNext:\nat     in  schedule\n14:05  5m  nightly-wind-report\n" in out


async def test_status_exits_with_1_where_something_needs_a_person(post: Post) -> None:
    post.wheel.now = a_status(counts={RunState.IN_DOUBT: 1}, under_way=(DOUBTFUL,))

    code, out, _ = await post.status()

    assert code == 1
    assert "\nNeeds a person:\nwhat\n1 run in doubt\n" in out


async def test_status_as_json_is_the_whole_document(post: Post) -> None:
    code, out, _ = await post.status("--format", "json")

    assert code == 0
    assert json.loads(out) == status_document(post.wheel.now, last_success=True)


async def test_status_without_a_daemon_exits_with_3_and_says_what_to_look_at(post: Post) -> None:
    await post.close()

    code, out, err = await post.status()

    assert (code, out) == (3, "")
    assert err.startswith(f"flowsched: there is no socket {post.folder}/s; is `flowsched run` up")


async def test_status_refuses_an_interval_out_of_range_or_without_a_watch(post: Post) -> None:
    code, _, err = await post.status("--watch", "--interval", "0s")

    assert (code, err) == (2, "flowsched: --interval is out of range; allowed: from 1s to 1h\n")
    assert (await post.status("--interval", "5s"))[0] == 2


async def read_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode()


@pytest.mark.e2e
async def test_watch_in_a_pipe_prints_a_line_for_each_change_and_survives_a_restart(post: Post) -> None:
    process = await post.start("--watch")

    assert (await read_line(process)).startswith("2026-11-21T14:00:00Z 128 schedules, 3 running")
    post.wheel.now = a_status(pauses=(PAUSE,))
    assert "paused: schedule nightly (bob): maintenance" in await read_line(process)
    await post.close()
    assert "no answer: there is no socket" in await read_line(process)
    await post.open()
    assert "paused: schedule nightly" in await read_line(process)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.e2e
async def test_watch_as_json_is_a_document_a_line(post: Post) -> None:
    process = await post.start("--watch", "--format", "json")

    assert json.loads(await read_line(process))["phase"] == "running"
    await post.close()
    assert "no socket" in json.loads(await read_line(process))["error"]


@pytest.mark.e2e
async def test_watch_on_a_terminal_redraws_on_a_screen_of_its_own_and_leaves_it(post: Post) -> None:
    ours, theirs = pty.openpty()
    process = await post.start("--watch", stdout=theirs, stderr=theirs, stdin=theirs, start_new_session=True)
    os.close(theirs)
    shown = bytearray()
    asyncio.get_running_loop().add_reader(ours, lambda: take(ours, shown))
    try:
        await eventually(lambda: b"nightly-wind-report" in shown, within=20)
        post.wheel.now = a_status(pauses=(PAUSE,))
        await eventually(lambda: b"Drift from Git" in shown, within=20)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        await eventually(lambda: shown.endswith(b"\x1b[?25h") or b"\x1b[?1049l" in shown)
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1
    assert b"Traceback" not in shown


def take(descriptor: int, into: bytearray) -> None:
    with suppress(OSError):  # the other end is closed
        into += os.read(descriptor, 65536)


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    plant = Plant(tmp_path)
    await plant.build()
    yield plant
    await plant.leave()


@pytest.mark.e2e
async def test_a_real_daemon_is_seen_while_it_runs(plant: Plant) -> None:
    daemon = await plant.start()
    await daemon.says("run triggered")

    code, out = await plant.flowsched("status", "--format", "json")

    document = json.loads(out)
    assert (code, document["phase"], document["needs"]) == (0, "running", [])
    assert [run["state"] for run in document["recent"]] == ["triggered", "missed"]
    assert document["last_success"] == {"twice-an-hour": document["recent"][0]["fire_time"]}
    assert document["targets"][0]["token_age"] < 20
    assert datetime.fromisoformat(document["upcoming"][0]["out_at"]) > datetime.now(UTC) - timedelta(
        minutes=1
    )

    daemon.tell(signal.SIGTERM)
    await daemon.ends()
    again = await plant.start()
    await again.says("daemon ready")
    client = Client(plant.settings.control_socket)
    while not (found := await client.ask("GET", "/v1/status", {"last_success": "true"}))["last_success"]:
        await asyncio.sleep(0.1)
    assert found["last_success"] == document["last_success"]
    assert found["recent"] == []


@pytest.mark.e2e
async def test_a_real_daemon_is_seen_until_its_drain_is_over(plant: Plant) -> None:
    plant.simulator.faults.add(Order(fault=Fault.SLOW, delay=4, on="trigger"))
    daemon = await plant.start()
    await daemon.says("run sending")
    daemon.tell(signal.SIGTERM)
    await daemon.says("daemon stopping")

    _, draining = await plant.flowsched("status")
    assert await daemon.ends() == 0
    code, said = await plant.flowsched("status")

    assert draining.startswith("stopping: 1 run under way\n")
    assert (code, "there is no socket" in said) == (3, True)
    assert not (plant.folder / "ledger.db.control").exists()
