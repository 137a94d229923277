"""The control socket and the address for metrics, over real sockets, with clients of all sorts."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
import resource
import shlex
import shutil
import socket
import stat
import tempfile
import threading
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest

from flowsched.control import connections, logins
from flowsched.control.client import Client
from flowsched.control.logins import Logins
from flowsched.control.routes import _ROUTES
from flowsched.control.server import MOST_BYTES, Server
from flowsched.control.sockets import control_socket
from flowsched.errors import (
    ConfigError,
    ControlRefusal,
    FlowschedError,
    LedgerError,
    NoAnswer,
    NoDaemon,
    UsageError,
)
from flowsched.model import Phase, Settings
from tests.builders import a_target
from tests.fakes import all_have_run, eventually, look_ups_that_hang
from tests.wheel import HEALTH, RemarkingWheel, a_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from flowsched.control.server import Page

ME = pwd.getpwuid(os.getuid()).pw_name
STUCK = replace(HEALTH, loop_lag=0, ledger_latency=None, woke_ago=99, alive=False)


def settings_of(
    path: Path | str, group: str | None = None, listen: tuple[str, int] | None = None
) -> Settings:
    return Settings(
        file="flowsched.yaml",
        schedules="/schedules",
        ledger="sqlite:////ledger.db",
        keep=timedelta(days=400),
        clock_tolerance=timedelta(seconds=30),
        targets={"default": a_target()},
        control_socket=str(path),
        control_group=group,
        listen=listen,
    )


class Place:
    """A server on a socket of its own, and ways to speak to it."""

    def __init__(self, folder: Path) -> None:
        self.wheel = RemarkingWheel()
        self.path = folder / "s"
        self.port = 0
        self._stack = AsyncExitStack()

    async def open(self, *, tcp: bool = False, metrics: Page | None = None) -> None:
        self.port = a_free_port() if tcp else 0
        settings = settings_of(self.path, listen=("127.0.0.1", self.port) if tcp else None)
        await self._stack.enter_async_context(Server(settings, self.wheel, metrics))

    async def close(self) -> None:
        await self._stack.aclose()

    def client(self, by: str | None = None) -> Client:
        return Client(str(self.path), by)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path))

    async def says(self, raw: bytes) -> bytes:
        """Send bytes over the control socket, and return all that comes back until it is closed."""
        reader, writer = await self.connect()
        with suppress(ConnectionError):
            writer.write(raw)
            await writer.drain()
        return await until_closed(reader, writer)

    async def get(self, path: str, *, tcp: bool = True) -> tuple[int, Any]:
        way = asyncio.open_connection("127.0.0.1", self.port) if tcp else self.connect()
        reader, writer = await way
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        head, _, body = (await until_closed(reader, writer)).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if b"application/json" in head else body


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while chunk := await asyncio.wait_for(reader.read(65536), 10):
            received += chunk
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return received


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    await place.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_client_gets_what_the_wheel_answers_with_the_name_of_the_user(place: Place) -> None:
    await place.open()

    status = await place.client().ask("GET", "/v1/status")
    pause = await place.client().ask("POST", "/v1/pause", {"scope": "all", "reason": "why"})
    fires = await place.client().ask(
        "GET", "/v1/fires", {"schedule": "a b&c", "from": "2026-01-01T00:00+02:00", "to": "2026-01-02T00:00Z"}
    )

    assert status["sentence"].startswith("128 schedules")
    assert pause["pause"]["by"] == "bob"
    assert len(fires["fires"]) == 2
    assert place.wheel.asked[0][4] == ME
    assert place.wheel.asked[1][1] == "a b&c"


async def test_whoever_acts_for_another_is_named_with_whom_it_is_for(place: Place) -> None:
    await place.open()

    await place.client("Jörg").ask("POST", "/v1/reload")

    assert place.wheel.asked == [("reload", f"{ME} (for Jörg)", True)]


async def test_a_user_without_a_name_is_a_number() -> None:
    assert await Logins().name_of(os.getuid()) == ME
    assert await Logins().name_of(4_000_123) == "4000123"


async def test_a_register_of_users_that_hangs_is_asked_once_and_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answers, me = list[int](), threading.Event(), pwd.getpwuid(os.getuid())

    def hangs(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        answers.wait(20)
        return me

    monkeypatch.setattr(pwd, "getpwuid", hangs)
    monkeypatch.setattr(logins, "LOOK_UP", 0.05)
    known, began = Logins(), time.perf_counter()
    meanwhile = [await known.name_of(7) for _ in range(3)]
    assert time.perf_counter() - began < 0.9
    answers.set()
    await eventually(known._asked[7].name.done)

    assert (meanwhile, asked) == (["7"] * 3, [7])
    assert await known.name_of(7) == ME
    monkeypatch.setattr(logins, "KEPT", 0.0)
    assert await known.name_of(7) == ME
    assert asked == [7, 7]


async def test_users_are_named_though_look_ups_of_names_hang() -> None:
    async with look_ups_that_hang():
        assert await Logins().name_of(os.getuid()) == ME


async def test_only_so_many_users_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "MOST_KEPT", 3)
    known = Logins()
    for uid in range(4_000_000, 4_000_010):
        assert await known.name_of(uid) == str(uid)

    assert len(known._asked) <= 3


async def test_errors_of_the_wheel_reach_the_caller_as_they_were(place: Place) -> None:
    await place.open()
    client = place.client()

    for error in (ControlRefusal("not as things stand"), LedgerError("locked just now")):
        place.wheel.fails = error
        with pytest.raises(type(error), match=str(error)):
            await client.ask("POST", "/v1/reload")
    with pytest.raises(UsageError, match="reason is missing"):
        await client.ask("POST", "/v1/pause", {"scope": "all"})
    with pytest.raises(ControlRefusal, match="there is nothing at '/v1/nothing'"):
        await client.ask("GET", "/v1/nothing")


async def test_an_answer_may_take_long_where_nobody_sets_a_limit(place: Place) -> None:
    await place.open()
    done = asyncio.Event()
    place.wheel.before_the_answer = done.wait

    waiting = asyncio.create_task(place.client().ask("POST", "/v1/reload"))
    await eventually(lambda: place.wheel.asked)
    with pytest.raises(NoAnswer, match=r"has not answered within 0\.1 s; what was asked for may be done$"):
        await place.client().ask("POST", "/v1/reload", within=0.1)
    done.set()

    assert (await waiting)["reload"]["outcome"] == "applied"


async def test_two_hundred_requests_at_once_are_all_answered(place: Place) -> None:
    await place.open()

    asked = [place.client().ask("POST", "/v1/reload") for _ in range(200)]
    answers = await asyncio.gather(*asked)

    assert len(answers) == len(place.wheel.asked) == 200


@pytest.mark.parametrize("path", ["missing/s", "s"])
async def test_that_nobody_listens_is_said_with_the_path(tmp_path: Path, path: str) -> None:
    with pytest.raises(NoDaemon, match=f"there is no socket {tmp_path / path}; is `flowsched run` up"):
        await Client(str(tmp_path / path)).ask("GET", "/v1/status")


async def test_a_socket_that_was_left_over_is_told_from_a_daemon(tmp_path: Path) -> None:
    path = tmp_path / "s"
    leave_a_socket(path)

    with pytest.raises(NoDaemon, match=f"nobody listens on {path}"):
        await Client(str(path)).ask("GET", "/v1/status")


async def test_without_a_socket_in_the_settings_there_is_nobody_to_ask() -> None:
    with pytest.raises(NoDaemon, match=r"names no control\.socket"):
        await Client("").ask("GET", "/v1/status")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may reach and write to, other than pytest's own ones."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


@as_root
async def test_a_user_who_may_not_use_the_socket_is_told_so(place: Place, open_folder: Path) -> None:
    place.path = open_folder / "s"
    await place.open()
    os.seteuid(65534)
    try:
        with pytest.raises(NoDaemon, match=r"is not for this user; .*control\.group"):
            await place.client().ask("GET", "/v1/status")
    finally:
        os.seteuid(0)


async def test_a_daemon_that_ends_before_it_answers_leaves_open_whether_it_was_done(place: Place) -> None:
    await place.open()
    place.wheel.before_the_answer = asyncio.Event().wait

    waiting = asyncio.create_task(place.client().ask("POST", "/v1/reload"))
    await eventually(lambda: place.wheel.asked)
    await place.close()

    with pytest.raises(NoAnswer, match="what was asked for may be done"):
        await waiting


async def test_of_what_changes_nothing_it_is_not_said_that_it_may_be_done(place: Place) -> None:
    await place.open()
    place.wheel.before_the_answer = asyncio.Event().wait

    waiting = asyncio.create_task(place.client().ask("GET", "/v1/runs/1"))
    await eventually(lambda: place.wheel.asked)
    await place.close()

    with pytest.raises(NoAnswer, match=r"has closed the connection before it answered$"):
        await waiting


async def test_something_else_that_answers_is_not_taken_for_a_daemon(tmp_path: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, str(tmp_path / "s")):
        with pytest.raises(FlowschedError, match="is no flowsched"):
            await Client(str(tmp_path / "s")).ask("GET", "/v1/status")


def leave_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def test_the_socket_is_for_its_user_alone_unless_a_group_is_named(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        alone = control_socket(settings_of(tmp_path / "a"))
        group = grp.getgrgid(os.getgid()).gr_name
        shared = control_socket(settings_of(tmp_path / "b", group))
    finally:
        os.umask(before)

    assert mode_of(tmp_path / "a") == 0o600
    assert mode_of(tmp_path / "b") == 0o660
    assert (tmp_path / "b").stat().st_gid == os.getgid()
    for each in (alone, shared):
        each.remove()
        each.socket.close()
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_is_not_there_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"flowsched\.yaml: control\.group: there is no group nosuchgroup"):
        control_socket(settings_of(tmp_path / "s", "nosuchgroup"))

    assert list(tmp_path.iterdir()) == []


@as_root
def test_a_group_of_which_the_daemon_is_no_member_is_a_problem_of_the_settings(open_folder: Path) -> None:
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=r"control\.group: the daemon's user may not give the socket"):
            control_socket(settings_of(open_folder / "s", grp.getgrgid(0).gr_name))
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)

    assert list(open_folder.iterdir()) == []


def test_a_socket_that_was_left_over_is_replaced(tmp_path: Path) -> None:
    leave_a_socket(tmp_path / "s")

    made = control_socket(settings_of(tmp_path / "s"))

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
    made.socket.close()


async def test_a_socket_on_which_somebody_answers_is_left_alone(place: Place) -> None:
    await place.open()

    with pytest.raises(FlowschedError, match=f"another process listens on {place.path}"):
        control_socket(settings_of(place.path))

    assert (await place.client().ask("GET", "/v1/status"))["version"] == "1.2.3"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    leave_a_socket(tmp_path / "other")
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(tmp_path / "other")
    before = path.lstat()

    with pytest.raises(ConfigError, match=r"control\.socket: .* is no socket; it is left alone"):
        control_socket(settings_of(path))

    assert path.lstat().st_ino == before.st_ino


def test_a_folder_that_is_missing_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"control\.socket: .*/missing/s cannot be made: No such file"):
        control_socket(settings_of(tmp_path / "missing" / "s"))


async def test_a_path_that_is_too_long_for_an_address_works_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    wheel = RemarkingWheel()

    async with Server(settings_of(folder / "s"), wheel):
        assert mode_of(folder / "s") == 0o600
        assert (await Client(str(folder / "s")).ask("GET", "/v1/status"))["version"] == "1.2.3"

    assert list(folder.iterdir()) == []
    leave_none = folder / ("y" * 120)
    with pytest.raises(ConfigError, match="File name too long"):
        control_socket(settings_of(leave_none))
    with pytest.raises(NoDaemon, match="File name too long"):
        await Client(str(leave_none)).ask("GET", "/v1/status")


async def test_at_its_end_only_its_own_socket_is_removed(place: Place) -> None:
    await place.open()
    place.path.unlink()
    leave_a_socket(place.path)

    await place.close()

    assert place.path.exists()


async def test_over_tcp_there_are_health_and_metrics_and_nothing_else(place: Place) -> None:
    await place.open(tcp=True, metrics=lambda: (b"flowsched_up 1\n", "text/plain; version=0.0.4"))

    assert await place.get("/metrics") == (200, b"flowsched_up 1\n")
    assert await place.get("/healthz") == (200, {"alive": True, "why": []})
    assert (await place.get("/readyz"))[0] == 200
    for path in ("/v1/status", "/v1/runs/1", "/", "/v1/reload"):
        assert (await place.get(path))[0] == 404
    assert await place.get("/metrics", tcp=False) == (200, b"flowsched_up 1\n")
    assert (await place.get("/v1/status", tcp=False))[0] == 200


async def test_health_says_why_it_is_not_well(place: Place) -> None:
    await place.open(tcp=True)
    place.wheel.now = a_status(health=STUCK)
    status, document = await place.get("/healthz")
    assert (status, document["alive"]) == (503, False)
    assert document["why"][0].endswith("ledger does not answer, alarms last looked at 99 s ago")
    place.wheel.now = a_status(phase=Phase.STOPPING)
    status, document = await place.get("/readyz")
    assert (status, document["why"]) == (503, ["the daemon is stopping"])
    assert (await place.get("/healthz"))[0] == 200
    assert await place.get("/metrics") == (404, {"error": "there are no metrics"})


async def test_a_page_at_fault_is_logged_and_harms_nobody(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.open(tcp=True)
    place.wheel.fails = ZeroDivisionError("private")

    assert await place.get("/healthz") == (500, {"error": "a fault of flowsched; its log says more"})
    assert "private" in caplog.text
    place.wheel.fails = None
    assert (await place.get("/healthz"))[0] == 200


async def test_a_port_that_is_taken_is_said_and_leaves_no_socket_behind(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = settings_of(tmp_path / "s", listen=other.getsockname())

        with pytest.raises(FlowschedError, match=r"cannot listen on 127\.0\.0\.1:.* Address already in use"):
            async with Server(settings, RemarkingWheel()):
                pass

    assert not (tmp_path / "s").exists()


POST = b"POST /v1/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01 garbled\r\n\r\n", 400),
        (POST % (9, b"not JSON!"), 400),
        (POST % (2, b"[]"), 400),
        (POST % (4, b"\xff\xfe\xfd\xfc"), 400),
        (POST % (40_000, b"[" * 40_000), 400),
        (POST % (MOST_BYTES + 1, b" " * (MOST_BYTES + 1)), 413),
        (b"PUT /v1/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 405),
        (b"POST /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", 405),
        (b"GET /v1/status?no=such HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 400),
        (b"GET /v1/%00%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404),
        (b"GET /v1/runs/1%0a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404),
        (POST % (11, b'{"wait": 1}'), 400),
    ],
)  # fmt: skip
async def test_garbled_huge_and_wrong_requests_are_refused_and_harm_nobody(
    place: Place, raw: bytes, status: int
) -> None:
    await place.open()

    received = await place.says(raw)

    assert received.split()[1] == str(status).encode()
    assert place.wheel.asked == []
    assert (await place.client().ask("GET", "/v1/status"))["version"] == "1.2.3"


@pytest.mark.parametrize("host", [b"[", b"", b"a b", b"x#"])
async def test_the_host_of_a_request_changes_nothing(place: Place, host: bytes) -> None:
    await place.open()

    received = await place.says(b"GET /v1/status HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % host)

    assert received.split()[1] == b"200"


@pytest.mark.parametrize("path", [b"/healthz", b"/v1/status"])
async def test_a_body_that_is_no_body_is_refused_without_a_word_in_the_log(
    place: Place, caplog: pytest.LogCaptureFixture, path: bytes
) -> None:
    await place.open()
    raw = b"GET %s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n" % path

    received = await place.says(raw)
    await all_have_run()

    assert received.split()[1] == b"400"
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


HUGE = 600_000 * b"x"


@pytest.mark.parametrize(
    "raw", [b"GET /" + HUGE, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + HUGE + b"\r\n\r\n", HUGE]
)
async def test_a_request_whose_head_is_huge_is_cut_off(place: Place, raw: bytes) -> None:
    await place.open()

    received = await place.says(raw)

    assert received.split()[1:2] in ([b"400"], [])  # who is still sending may not hear why
    assert (await place.client().ask("GET", "/v1/status"))["version"] == "1.2.3"


@pytest.mark.parametrize(
    "begun", [b"", b"GET /v1/sta", POST % (10, b"half"), b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"]
)
async def test_who_does_not_go_on_is_sent_away(
    place: Place, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    monkeypatch.setattr("flowsched.control.server.PATIENCE", 0.2)
    await place.open()
    reader, writer = await place.connect()
    writer.write(begun)

    received = await until_closed(reader, writer)

    assert place.wheel.asked == []
    assert b"HTTP/1.1 5" not in received


async def test_who_does_not_take_what_was_asked_for_is_sent_away(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    await place.open(metrics=lambda: (b"x" * 10_000_000, "text/plain"))
    _, writer = await place.connect()
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")

    await asyncio.wait_for(connection_is_cut(writer), 5)


async def connection_is_cut(writer: asyncio.StreamWriter) -> None:
    """Return once the other end has gone; nothing is read meanwhile."""
    ours = writer.get_extra_info("socket")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    while True:
        try:
            writer.write(b" ")
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(0.02)
        assert ours is not None


async def test_who_comes_when_there_are_too_many_is_sent_away_and_the_others_are_not(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    await place.open()
    kept = [await place.connect() for _ in range(3)]
    await asyncio.sleep(0)

    for method, path in (("GET", "/v1/status"), ("POST", "/v1/reload")):
        with pytest.raises(LedgerError, match="too many connections at once just now; try again"):
            await place.client().ask(method, path)
    assert place.wheel.asked == []
    kept.pop()[1].close()
    await asyncio.sleep(0.05)
    assert (await place.client().ask("GET", "/v1/status"))["version"] == "1.2.3"
    for _, writer in kept:
        writer.close()


async def test_who_fills_up_the_port_locks_nobody_out_of_the_socket(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    monkeypatch.setattr(connections, "MOST_OVER_TCP", 2)
    await place.open(tcp=True)
    kept = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(2)]
    kept += [await place.connect() for _ in range(2)]
    await asyncio.sleep(0)

    assert (await place.get("/healthz"))[0] == 503
    for _ in range(5):
        assert (await place.client().ask("GET", "/v1/status"))["version"] == "1.2.3"
    for _, writer in kept:
        writer.close()


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /v1/sta", POST % (10, b"half"), POST % (0, b""), b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"],
)
async def test_a_client_that_hangs_does_not_hold_up_the_end(
    place: Place, begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await place.open(metrics=lambda: (b"x" * 10_000_000, "text/plain"))
    place.wheel.before_the_answer = asyncio.Event().wait
    _, writer = await place.connect()
    writer.write(begun)
    await asyncio.sleep(0.05)

    async with asyncio.timeout(2):
        await place.close()

    assert not place.path.exists()
    assert caplog.records == []
    writer.close()


async def test_an_answer_under_way_is_given_before_the_end(place: Place) -> None:
    await place.open()
    place.wheel.before_the_answer = lambda: asyncio.sleep(0.1)
    asking = asyncio.create_task(place.client().ask("POST", "/v1/reload"))
    await eventually(lambda: place.wheel.asked)

    await place.close()

    assert (await asking)["reload"]["outcome"] == "applied"


async def test_several_requests_go_over_one_connection(place: Place) -> None:
    await place.open()
    one = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"

    received = await place.says(one + one + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

    assert received.count(b'{"alive":true,"why":[]}') == 3


def curl_lines() -> list[str]:
    page = (Path(__file__).parent.parent / "docs" / "control.md").read_text(encoding="utf-8")
    block = page.partition("```sh\n")[2].partition("```")[0].replace("\\\n", " ")
    return [line for line in block.splitlines() if line]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", curl_lines(), ids=lambda line: line.partition("http://")[2].split()[0])
async def test_the_page_about_control_shows_what_works(place: Place, line: str) -> None:
    await place.open()
    arguments = shlex.split(line.replace("/run/flowsched/control.sock", str(place.path)))

    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 0
    assert json.loads(out)


def test_the_page_about_control_names_every_path() -> None:
    page = (Path(__file__).parent.parent / "docs" / "control.md").read_text(encoding="utf-8")

    for path, (method, known, _) in _ROUTES.items():
        (row,) = (row for row in page.splitlines() if row.startswith(f"| `{method} {path}` |"))
        fields = row.split("|")[2]
        assert all(f"`{name}`" in fields for name in known - {"run"} if path != "/v1/runs/ID")


async def test_whether_it_is_alive_is_told_without_all_that_a_status_costs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.open(tcp=True)
    monkeypatch.setattr(place.wheel, "status", None)

    assert await place.get("/healthz") == (200, {"alive": True, "why": []})


async def test_without_descriptors_to_spare_little_is_said_until_there_are_some(place: Place) -> None:
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    await place.open()
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        for each in waiting:
            each.connect(str(place.path))
        await asyncio.sleep(2.5)  # asyncio tries again every second
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for each in waiting:
        each.close()

    assert 1 <= len(complaints) <= 4
    assert await place.get("/healthz", tcp=False) == (200, ANY)
