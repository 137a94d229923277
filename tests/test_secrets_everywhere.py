"""Secrets are planted wherever there are some, everybody echoes them, and all that is said is searched.

What is new and says something is added to `Life.said`; what is new and knows a secret, to `SECRETS`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import httpx
import pytest
import trustme

from flowsched.config import load_catalog, load_settings
from flowsched.ledger import Ledger
from tests.fakes import eventually
from tests.receivers import Mailbox
from tests.test_drain import Notices
from tests.wire import Listener

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SECRETS = {
    "AK": "planted+access/key=1",
    "SK": "planted+secret/key=2",
    "TOKEN": "planted+token/of=3",
    "MAIL_USER": "planted-mail-user-4",
    "MAIL_PASSWORD": "planted+mail/password=5",
    "HOOK_PATH": "planted-hook-path-6",
    "HOOK_HEADER": "planted+hook/header=7",
    "HOOK_KEY": "planted+hook/key=8",
    "SLACK_PATH": "planted-slack-path-9",
    "PING_KEY": "planted-ping-key-10",
}
"""By name; all but TOKEN, which the gateway grants, are environment variables of the daemon."""


def echo(path: str) -> str:
    """Return what an answer says of the secrets that whoever is asked there may know, in the usual forms."""
    known: tuple[str, ...] = ("AK", "SK", "TOKEN")
    if SECRETS["HOOK_PATH"] in path:
        known = ("HOOK_PATH", "HOOK_HEADER", "HOOK_KEY")
    elif SECRETS["SLACK_PATH"] in path:
        known = ("SLACK_PATH",)
    elif SECRETS["PING_KEY"] in path:
        known = ("PING_KEY",)
    texts = [SECRETS[name] for name in known]
    encoded = [form for each in texts for form in (quote(each, safe=""), b64encode(each.encode()).decode())]
    return " ".join([*texts, *encoded])


FLOWS = {"succeeds": 1, "is-refused": 2, "is-in-doubt": 3, "is-not-taken": 4, "was-missed": 5}


def forms(secret: str) -> set[bytes]:
    """Return what a text may hold that gives a secret away: as it is, or encoded in a usual way."""
    raw = secret.encode()
    # Of a secret inside a longer text in base64 only the middle is always there, in one of three ways.
    inside = {b64encode(b"x" * shift + raw)[4 if shift else 0 : -4] for shift in range(3)}
    texts = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    return {text.encode() for text in texts} | inside | {raw.hex().encode(), raw.hex().upper().encode()}


def given_away(said: bytes) -> list[str]:
    return sorted(name for name, secret in SECRETS.items() if any(form in said for form in forms(secret)))


class Gossip(Listener):
    """Speaks HTTP on loopback: it is EnOS, who is told of alerts, and who is pinged; it echoes all it can."""

    def __init__(self) -> None:
        super().__init__(None)
        self.bodies: list[bytes] = []
        """Of what it got as somebody who is told of alerts, or pinged."""
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0
        )
        body = await reader.readexactly(length)
        path = head.split()[1]
        self.paths.append(path)
        status, answer = self._answer(path, body, head)
        writer.write(
            f"HTTP/1.1 {status} {echo(path)}\r\nContent-Length: {len(answer.encode())}\r\n"
            f"Connection: close\r\nX-Echo: {echo(path)}\r\n\r\n{answer}".encode()
        )
        writer.close()
        await writer.wait_closed()

    def _answer(self, path: str, body: bytes, head: str) -> tuple[int, str]:
        if "/token/get" in path:
            return 200, json.dumps({"status": 0, "data": {"accessToken": SECRETS["TOKEN"], "expire": 7200}})
        if "action=trigger" in path:
            return self._triggered(json.loads(body), head)
        if "flowInstances" in path:
            return 500, f"<html>{echo(path)} {head}</html>"
        self.bodies.append(body)
        # The first that each is told is refused, so that it is tried again and recorded.
        return (500 if self.paths.count(path) == 1 else 200), f"{echo(path)} {head}"

    def _triggered(self, asked: Mapping[str, int], head: str) -> tuple[int, str]:
        instance = (
            f"{asked['flowId']}-{datetime.fromtimestamp(asked['triggerTime'] / 1000, UTC):%Y%m%d%H%M}00"
        )
        text = echo("") + head
        accepted = {"code": 0, "msg": text, "data": {"flowInstanceId": instance}}
        return {
            FLOWS["succeeds"]: (200, json.dumps(accepted)),
            FLOWS["is-refused"]: (200, json.dumps({"code": 62103, "msg": text})),
            FLOWS["is-in-doubt"]: (503, text),
            FLOWS["is-not-taken"]: (429, text),
        }[asked["flowId"]]


def settings_of(gossip: Gossip, mail_port: int) -> str:
    return f"""\
schedules: schedules
ledger: sqlite:///ledger.db
control: {{socket: control.sock}}
targets:
  default:
    url: {gossip.url}
    org_id: o1
    user_id: u1
    access_key: {{env: AK}}
    secret_key: {{env: SK}}
alerts:
  group_wait: 1s
  ca_file: ca.pem
  channels:
    hook:
      webhook:
        url: {{env: HOOK_URL}}
        headers: {{Authorization: {{env: HOOK_HEADER}}}}
    chat:
      slack: {{url: {{env: SLACK_URL}}}}
    mail:
      email:
        host: 127.0.0.1
        port: {mail_port}
        tls: starttls
        from: flowsched@example.com
        to: [team@example.com]
        user: {{env: MAIL_USER}}
        password: {{env: MAIL_PASSWORD}}
    program:
      command: {{argv: [/bin/sh, -c, "cat; env; echo it failed >&2; exit 1"]}}
pings:
  url: {gossip.url}
  key: {{env: PING_KEY}}
"""


def schedules_at(due: datetime) -> str:
    early = due - timedelta(hours=2)
    lines = [
        f"  {name}: {{cron: '{at.minute} {at.hour} * * *', flow: {flow}, ping: {name}, owner: ops}}\n"
        for name, flow in FLOWS.items()
        for at in [early if name == "was-missed" else due]
    ]
    return "defaults: {timezone: UTC, catch_up: latest}\nschedules:\n" + "".join(lines)


class Life:
    """A daemon with all of these secrets, and all that it and its commands say."""

    def __init__(self, folder: Path, gossip: Gossip, box: Mailbox) -> None:
        self.folder = folder
        self.gossip = gossip
        self.box = box
        self.notices = Notices(folder / "notify")
        self.daemons: list[asyncio.subprocess.Process] = []
        self.said: dict[str, bytes] = {}
        self.environ = {
            **os.environ,
            **{name: secret for name, secret in SECRETS.items() if name != "TOKEN"},
            "HOOK_URL": f"{gossip.url}/{SECRETS['HOOK_PATH']}",
            "SLACK_URL": f"{gossip.url}/{SECRETS['SLACK_PATH']}",
            "FLOWSCHED_CONFIG": "flowsched.yaml",
            "NOTIFY_SOCKET": str(self.notices.path),
        }

    async def build(self) -> None:
        due = datetime.now(UTC) - timedelta(minutes=3)
        (self.folder / "schedules").mkdir()
        (self.folder / "schedules" / "a.yaml").write_text(schedules_at(due))
        (self.folder / "flowsched.yaml").write_text(settings_of(self.gossip, self.box.port))
        settings = load_settings(self.folder / "flowsched.yaml")
        async with await Ledger.open(settings.ledger) as ledger:
            await ledger.apply(load_catalog(settings.schedules, settings), due - timedelta(days=1))

    async def run(self, log: str, *arguments: str) -> asyncio.subprocess.Process:
        """Start the daemon; what it logs goes to a file of that name, which is a journal to it."""
        with (self.folder / log).open("wb") as err:
            found = os.fstat(err.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "flowsched", "run", "--log-level", "debug", *arguments),
                cwd=self.folder,
                env={**self.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
                stdout=err,
                stderr=err,
            )
        self.daemons.append(process)
        return process

    async def stop(self) -> int:
        """Stop the daemon that was started last; return its exit code."""
        self.daemons[-1].send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.daemons[-1].wait(), 30)

    async def leave(self) -> None:
        for process in self.daemons:
            if process.returncode is None:
                process.kill()
            await process.wait()
        self.notices.close()

    async def says(self, log: str, text: str) -> None:
        await eventually(lambda: text in (self.folder / log).read_text(), within=30)

    async def command(self, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowsched", *arguments),
            cwd=self.folder,
            env=self.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 40)
        self.said[" ".join(arguments)] = out
        return out

    async def page(self, path: str) -> bytes:
        way = httpx.AsyncHTTPTransport(uds=str(self.folder / "control.sock"))
        async with httpx.AsyncClient(transport=way, trust_env=False) as client:
            self.said[path] = (await client.get(f"http://flowsched{path}")).content
        return self.said[path]

    def keep_files(self, when: str) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(("ledger.db", "log")):
                self.said[f"{path.name} {when}"] = path.read_bytes()

    def keep_what_others_got(self) -> None:
        self.said["words to systemd"] = "\n".join(self.notices.words).encode()
        self.said["bodies of alerts and pings"] = b"\n".join(self.gossip.bodies)
        self.said["mails"] = b"\n".join(bytes(each.message) for each in self.box.mails)


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    login = (SECRETS["MAIL_USER"], SECRETS["MAIL_PASSWORD"])
    async with Gossip() as gossip, Mailbox(starttls=tls, login=login) as box:
        life = Life(tmp_path, gossip, box)
        await life.build()
        yield life
        await life.leave()


async def test_no_secret_is_in_anything_that_is_said_or_kept(life: Life) -> None:
    await life.run("log-journal")
    await _first_life(life)
    code = await life.stop()
    life.box.says = f"550 {SECRETS['MAIL_USER']} {SECRETS['MAIL_PASSWORD']}"
    await life.run("log-json", "--log-format", "json")
    await life.says("log-json", "daemon ready")
    await life.command("alert-test", "--format", "json")
    await life.stop()
    life.keep_files("at the end")
    life.keep_what_others_got()

    assert {what: names for what, said in life.said.items() if (names := given_away(said))} == {}
    assert code == 0
    _all_of_it_has_happened(life)


async def _first_life(life: Life) -> None:
    for event in ("run triggered", "run failed", "run in_doubt", "run missed", "run waiting"):
        await life.says("log-journal", event)
    good = (life.folder / "schedules" / "a.yaml").read_text()
    (life.folder / "schedules" / "b.yaml").write_text("schedules: {bad: {cron: '61 * * * *'}}\n")
    await life.command("reload", "--wait")
    (life.folder / "schedules" / "b.yaml").unlink()
    (life.folder / "schedules" / "a.yaml").write_text(good.replace("owner: ops", "owner: others"))
    await life.command("reload", "--wait")
    await life.command("pause", "succeeds", "--reason", "the plant is closed")
    await life.command("trigger", "is-refused")
    await life.command("alert-test")
    for path in ("/v1/status", "/metrics", "/healthz", "/readyz", "/v1/actions?limit=100", "/v1/nothing"):
        await life.page(path)
    for arguments in (
        ("status",),
        ("status", "--format", "json"),
        ("runs", "--attempts"),
        ("runs", "--attempts", "--format", "json"),
        ("log", "--format", "json"),
        ("audit", "--format", "json"),
        ("validate", "--format", "json"),
        ("backup", "ledger.db-copy"),
    ):
        await life.command(*arguments)
    await eventually(lambda: life.box.mails and len(life.gossip.bodies) > 5, within=30)
    life.keep_files("while it runs")


def _all_of_it_has_happened(life: Life) -> None:
    """Whoever says nothing gives nothing away."""
    log = life.said["log-journal at the end"]
    assert log.count(b"<secret>") >= 3
    assert b"<7>" in log
    for event in (b"catalog refused", b"catalog applied", b"daemon stopped"):
        assert event in log
    assert b'"failed"' in life.said["/v1/status"] or b"is-refused" in life.said["/v1/status"]
    assert b"flowsched_" in life.said["/metrics"]
    assert b"is-refused" in life.said["mails"]
    assert b"is-refused" in life.said["bodies of alerts and pings"]
    assert any(SECRETS["PING_KEY"] in path for path in life.gossip.paths)
    assert b"READY=1" in life.said["words to systemd"]
    assert b"is-refused" in life.said["runs --attempts"]
    assert b"SQLite format 3" in life.said["ledger.db at the end"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_would_be_found(name: str) -> None:
    secret = SECRETS[name]
    for text in (
        f"a line with {secret} in it",
        f"AUTH {b64encode(f'user:{secret}'.encode()).decode()}",
        f"AUTH {b64encode(secret.encode()).decode()}",
        f"GET /{quote(secret, safe='')}?x",
    ):
        assert name in given_away(text.encode())
    assert given_away(b"a line with <secret> in it") == []
