"""What a message looks like, and what each channel makes of it, over real sockets and processes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trustme

from flowsched.alerts import commands, mail, messages, posting
from flowsched.alerts import lines as lines_room
from flowsched.alerts.lines import Line, lines_of
from flowsched.alerts.tries import ATTEMPTS, PAUSES, Tried, answered, pause_after
from flowsched.config.templates import TEXTS, VALUES, check_template
from flowsched.errors import Refused
from flowsched.model import Alert, AlertKind, Command, Message, MessageState, SecretSource, Slack, Tls
from tests.builders import T0
from tests.fakes import HandClock, eventually
from tests.receivers import ENVIRON, HOOK, Mailbox, a_channel, a_webhook, an_email, bodies, the_alerts
from tests.wire import Wire, drips, falls_silent, hangs_up, resets, response, says

if TYPE_CHECKING:
    from flowsched.model import Email, Webhook

HOST = "plant-7"
FAILED = Alert(
    kind=AlertKind.FAILED,
    subject="nightly",
    summary='nightly failed (run 17): "<a> & b"',
    at=T0,
    before=2,
    details={"schedule": "nightly", "run": 17, "owner": "wind-data", "reason": '"<a> & b"'},
)
OVER = Alert(kind=AlertKind.OVERDUE, subject="hourly", summary="hourly is overdue no more", at=T0, over=True)


def a_message(*alerts: Alert, **more: Any) -> Message:
    usual: dict[str, Any] = {
        "id": 5,
        "identity": UUID(int=5),
        "channel": "team",
        "at": T0,
        "state": MessageState.PENDING,
        "alerts": alerts or (FAILED,),
        "more": {},
        "attempts": 0,
        "next_at": T0,
        "done_at": None,
        "error": None,
    }
    return Message(**(usual | more))


def a_line(way: Webhook | Slack | Email | Command, ca_file: str | None = None, **environ: str) -> Line:
    alerts = the_alerts(a_channel(way), ca_file=ca_file)
    return lines_of(alerts, ENVIRON | environ, HOST)["team"]


async def told(
    way: Webhook | Slack | Email | Command,
    message: Message | None = None,
    ca_file: str | None = None,
    **environ: str,
) -> Tried:
    return await a_line(way, ca_file, **environ).tell(message or a_message(), HandClock(T0))


def test_a_message_reads_so() -> None:
    message = a_message(FAILED, OVER, more={AlertKind.MISSED: 9_980})

    assert messages.headline(message) == (
        'nightly failed (run 17): "<a> & b" (and 2 more since it was last told) (and 9981 more)'
    )
    assert messages.text(message, HOST).splitlines() == [
        'ALERT failed: nightly failed (run 17): "<a> & b" (and 2 more since it was last told)',
        "  owner: wind-data",
        "",
        "OVER overdue: hourly is overdue no more",
        "",
        "And more: 9980 missed.",
        "",
        "flowsched on plant-7, 2026-01-01T00:00:00Z",
    ]


def test_the_document_says_all_and_stays_the_same_when_it_is_sent_again() -> None:
    document = messages.document(a_message(), HOST)

    assert document == messages.document(a_message(attempts=3), HOST)
    assert {key: value for key, value in document.items() if key not in ("text", "summary")} == {
        "version": 1,
        "source": "flowsched",
        "id": document["id"],
        "host": "plant-7",
        "at": "2026-01-01T00:00:00Z",
        "state": "firing",
        "key": "flowsched/plant-7/failed/nightly",
        "count": 1,
        "alerts": [
            {
                "key": "flowsched/plant-7/failed/nightly",
                "kind": "failed",
                "subject": "nightly",
                "state": "firing",
                "at": "2026-01-01T00:00:00Z",
                "summary": 'nightly failed (run 17): "<a> & b" (and 2 more since it was last told)',
                "before": 2,
                "details": dict(FAILED.details),
            }
        ],
        "more": {},
    }
    assert document["id"] != messages.document(a_message(identity=UUID(int=6)), HOST)["id"]


@pytest.mark.parametrize(
    ("alerts", "state", "action"),
    [((FAILED,), "firing", "trigger"), ((OVER,), "over", "resolve"), ((OVER, FAILED), "firing", "trigger")],
)
def test_what_is_over_resolves_only_where_nothing_else_goes_on(
    alerts: tuple[Alert, ...], state: str, action: str
) -> None:
    filled = messages.filled('["$state", "$action"]', a_message(*alerts), HOST, {})

    assert json.loads(filled) == [state, action]


def test_a_message_is_named_after_what_goes_on() -> None:
    ended = Alert(kind=FAILED.kind, subject="nightly", summary="well again", at=T0, over=True)
    both, none = (messages.document(a_message(*alerts), HOST) for alerts in ((OVER, FAILED), (FAILED, ended)))

    assert (both["key"], both["state"]) == ("flowsched/plant-7/failed/nightly", "firing")
    assert both["summary"].startswith("nightly failed")
    assert (none["key"], none["state"]) == ("flowsched/plant-7/failed/nightly", "over")


def test_a_template_is_filled_with_every_placeholder_and_stays_json() -> None:
    template = json.dumps({name: f"<${name}>" for name in (*TEXTS, "routing")}) + (
        f', "values": [{", ".join(f"${name}" for name in VALUES)}]}}'
    )
    template = template.replace("}, ", ", ", 1)
    check_template(template, ["routing"])

    filled = json.loads(messages.filled(template, a_message(), HOST, {"routing": 'a"b\\c'}))

    assert filled["summary"] == f"<{messages.headline(a_message())}>"
    assert filled["text"] == f"<{messages.text(a_message(), HOST)}>"
    assert (filled["routing"], filled["severity"]) == ('<a"b\\c>', "<error>")
    assert filled["values"][0] == 1
    assert filled["values"][2] == messages.document(a_message(), HOST)


@pytest.mark.parametrize("template", ['{"a": $text}', "$summary", '{"a": "$b"}', '{"a": "5 $"}', "{"])
def test_a_template_that_would_not_do_is_refused_without_repeating_it(template: str) -> None:
    with pytest.raises(Refused) as caught:
        check_template(template, ())

    assert '"a"' not in caught.value.message


def test_slack_gets_its_characters_escaped_and_not_more_than_it_takes() -> None:
    long = Alert(kind=AlertKind.FAILED, subject="x", summary="<&>", at=T0, details={"reason": "y" * 9_000})

    text = messages.slack_text(a_message(long), HOST)

    assert text.startswith("ALERT failed: &lt;&amp;&gt;\n")
    assert len(text) <= messages.LONGEST_SLACK + 20


def test_a_subject_is_one_line_whatever_a_summary_holds() -> None:
    evil = Alert(kind=AlertKind.FAILED, subject="x", summary="a\r\nBcc: x@example.com\n" + "y" * 500, at=T0)

    subject = messages.mail_subject(a_message(evil))

    assert "\n" not in subject
    assert "\r" not in subject
    assert len(subject) <= messages.LONGEST_SUBJECT


async def test_a_webhook_gets_the_document() -> None:
    async with Wire(says(202, {})) as wire:
        tried = await told(
            a_webhook(f"{wire.url}/hook", headers={"Authorization": SecretSource("env", "HEADER")})
        )

    (heard,) = wire.triggers
    assert tried == Tried(ok=True, detail="HTTP 202")
    assert (heard.method, heard.target) == ("POST", "/hook")
    assert (heard.headers["authorization"], heard.headers["content-type"]) == (
        "Key planted-key",
        "application/json",
    )
    assert bodies([heard]) == [messages.document(a_message(), HOST)]


async def test_a_webhook_gets_what_its_template_says() -> None:
    template = '{"routing_key": "$routing", "payload": $document, "event_action": "$action"}'
    async with Wire(says(200, {})) as wire:
        way = a_webhook(HOOK, template=template, secrets={"routing": SecretSource("env", "PASSWORD")})
        await told(way, HOOK=f"{wire.url}/?token=planted-token")

    (heard,) = wire.triggers
    assert heard.target == "/?token=planted-token"
    assert bodies([heard]) == [
        {
            "routing_key": "planted-password",
            "payload": messages.document(a_message(), HOST),
            "event_action": "trigger",
        }
    ]


async def test_slack_gets_a_text() -> None:
    async with Wire(says(200, b"ok")) as wire:
        await told(Slack(url=HOOK), HOOK=f"{wire.url}/services/planted")

    assert bodies(wire.triggers) == [{"text": messages.slack_text(a_message(), HOST)}]


@pytest.mark.parametrize(
    ("status", "final"),
    [
        *((status, True) for status in (301, 307, 400, 401, 404)),
        *((status, False) for status in (408, 429, 500, 503)),
    ],
)
async def test_a_refusal_is_final_or_not_by_its_status(status: int, final: bool) -> None:  # noqa: FBT001
    async with Wire(says(status, {"planted": "planted"}, Location="http://127.0.0.1:1/")) as wire:
        tried = await told(a_webhook(wire.url))

    assert len(wire.triggers) == 1, "a redirect is not followed"
    assert (tried.ok, tried.final) == (False, final)
    assert tried.detail.startswith(f"HTTP {status}")
    assert "planted" not in tried.detail


async def test_what_the_receiver_asks_for_is_waited_for() -> None:
    async with Wire(says(429, {}, Retry_After="120")) as wire:
        tried = await told(a_webhook(wire.url))

    assert tried.retry_after == 120
    assert (pause_after(tried, 1), pause_after(tried, 2)) == (120, 240)


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "²", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number_of_seconds_asks_for_nothing(retry_after: str) -> None:
    assert answered(429, retry_after).retry_after is None


def test_five_attempts_are_made_within_about_an_hour() -> None:
    tried = Tried(ok=False, detail="HTTP 500")

    assert [pause_after(tried, n) for n in range(1, ATTEMPTS + 1)] == [*PAUSES, None]
    assert sum(PAUSES) == 3600
    assert pause_after(Tried(ok=False, detail="HTTP 404", final=True), 1) is None
    assert pause_after(Tried(ok=False, detail="HTTP 429", retry_after=1e9), 1) == 3600


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        (falls_silent, "no answer within 0 s"),
        (drips(response(200, b"{}"), every=0.2), "no answer within 0 s"),
        (hangs_up, "no answer: RemoteProtocolError"),
        (resets, "no answer: Connection reset by peer"),
    ],
)
async def test_a_receiver_that_does_not_answer_is_left_after_a_while(
    act: Any, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "TIMEOUT", 0.3)
    async with Wire(act) as wire:
        tried = await told(a_webhook(HOOK), HOOK=f"{wire.url}/planted-secret")

        await wire.until_all_are_closed()

    assert tried == Tried(ok=False, detail=detail)


async def test_a_name_server_that_hangs_keeps_nobody_else_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posting, "TIMEOUT", 0.05)
    freed, asked, hanging = threading.Event(), socket.getaddrinfo, []

    def hangs(host: Any, *more: Any, **named: Any) -> Any:
        if host == "hangs.example":
            hanging.append(host)
            freed.wait(60)
        return asked("127.0.0.1", *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    line = a_line(a_webhook("https://hangs.example/x"))
    try:
        while len(hanging) < posting.MOST_HANGING:
            await line.tell(a_message(), HandClock(T0))
        tries = [await line.tell(a_message(), HandClock(T0)) for _ in range(2)]
        began = time.perf_counter()
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)

        assert time.perf_counter() - began < 1
        assert [each.detail for each in tries] == [posting.ALL_HANG] * 2
        assert len(hanging) == posting.MOST_HANGING
    finally:
        freed.set()


async def test_a_secret_on_a_disk_that_hangs_is_told_by_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_room, "SECRET_TIMEOUT", 0.05)
    freed = threading.Event()
    monkeypatch.setattr(lines_room, "read_secret", lambda *_: freed.wait(60))
    path = tmp_path / "url"

    tried = await told(Slack(url=SecretSource("file", str(path))))
    freed.set()

    assert tried == Tried(ok=False, detail=f"file {path}: cannot be read within 0 s")


HANGING = """
import asyncio, threading, sys
from flowsched.threads import Threads
async def main():
    try:
        await Threads("alerts", 1).do(threading.Event().wait, 0.1)
    except TimeoutError:
        sys.stdout.write("left")
asyncio.run(main())
"""


@pytest.mark.e2e
def test_a_process_ends_though_a_thread_for_alerts_hangs() -> None:
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", HANGING], check=True, timeout=30, capture_output=True, text=True
    )

    assert ended.stdout == "left"


@pytest.mark.parametrize("proxy", ["ftp://planted@proxy.example", "socks9://planted"])
async def test_a_proxy_that_cannot_be_used_is_not_taken_for_a_wrong_url(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    tried = await posting.Post(None, environment_proxy=True)("https://alerts.example/x", b"{}")

    assert (tried.ok, tried.final) == (False, False)
    assert tried.detail.startswith("unusable proxy variables; allowed: ")
    assert "planted" not in tried.detail


async def test_an_answer_without_end_is_not_read() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    async with Wire(endless) as wire:
        assert await told(a_webhook(wire.url)) == Tried(ok=True, detail="HTTP 200")


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("http://planted.example.com/x", "its URL is not https://, nor http:// to this machine"),
        ("ftp://127.0.0.1/planted", "its URL is not https://, nor http:// to this machine"),
        ("planted", "its URL is not https://, nor http:// to this machine"),
        ("https://planted:[1", "its URL is none"),
        ("http://127.0.0.1:1/planted", "no answer: Connection refused"),
    ],
)
async def test_a_url_that_cannot_be_used_is_told_without_being_shown(url: str, detail: str) -> None:
    tried = await told(Slack(url=HOOK), HOOK=url)

    assert (tried.ok, tried.detail) == (False, detail)


async def test_a_header_that_would_begin_another_is_not_sent() -> None:
    async with Wire(says(200, {})) as wire:
        way = a_webhook(wire.url, headers={"Authorization": SecretSource("env", "EVIL")})
        tried = await told(way, EVIL="planted\r\nX-Evil: yes")

    assert (wire.triggers, tried.ok, tried.final) == ([], False, True)
    assert "planted" not in tried.detail


async def test_a_secret_that_is_not_there_is_told_by_where_it_should_be() -> None:
    way = Slack(url=SecretSource("env", "NOT_SET"))

    tried = await told(way)

    assert tried == Tried(ok=False, detail="env NOT_SET: this environment variable is not set")
    assert await a_line(way).unreadable() == [tried.detail]


async def test_a_secret_is_read_each_time(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    async with Wire(says(200, {})) as wire:
        line = a_line(Slack(url=SecretSource("file", str(secret))))
        for path in ("one", "two"):
            secret.write_text(f"{wire.url}/{path}\n")
            await line.tell(a_message(), HandClock(T0))

    assert [heard.target for heard in wire.triggers] == ["/one", "/two"]


async def test_a_fault_of_ours_is_told_by_its_name_only() -> None:
    way = a_webhook("http://127.0.0.1:1", template="$planted")

    assert await told(way) == Tried(ok=False, detail="a fault of flowsched: KeyError", final=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def served_by(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_https_is_verified(authority: trustme.CA, ca_file: str) -> None:
    async with Wire(says(200, {}), tls=served_by(authority)) as wire:
        assert await told(a_webhook(wire.url)) == Tried(
            ok=False, detail="no answer: its certificate is not trusted"
        )
        assert await told(a_webhook(wire.url), ca_file=ca_file) == Tried(ok=True, detail="HTTP 200")


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_of_authorities_that_cannot_be_used_is_told(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    why = "No such file or directory" if content is None else "no certificates are in it"

    posted = await told(a_webhook("https://127.0.0.1:1"), ca_file=str(path))
    mailed = await told(an_email(1, tls=Tls.TLS), ca_file=str(path))

    assert posted == Tried(ok=False, detail=f"cannot use {path}: {why}")
    assert mailed == posted


async def test_a_mail_in_any_language_arrives_as_it_was() -> None:
    alert = Alert(kind=AlertKind.FAILED, subject="x", summary="Größe Δ 風力" + "x" * 2_000, at=T0)
    async with Mailbox() as box:
        await told(an_email(box.port), a_message(alert))

    assert "Größe Δ 風力" in box.mails[0].message["Subject"]
    assert (
        box.mails[0].message.get_content().splitlines() == messages.text(a_message(alert), HOST).splitlines()
    )


async def test_a_mail_has_all_that_a_mail_should_have() -> None:
    async with Mailbox() as box:
        tried = await told(an_email(box.port))

    (got,) = box.mails
    assert tried == Tried(ok=True, detail="accepted by the mail server")
    assert (got.sender, got.recipients) == (
        "flowsched@example.com",
        ("on-call@example.com", "team@example.com"),
    )
    headers = dict(got.message.items())
    assert headers["Subject"].startswith("[flowsched] nightly failed (run 17)")
    assert headers["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    assert headers["Message-ID"] == f"<{UUID(int=5)}@example.com>"
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["To"] == "on-call@example.com, team@example.com"
    assert got.message.get_content().splitlines() == messages.text(a_message(), HOST).splitlines()


LOGIN = {"user": SecretSource("env", "USER_NAME"), "password": SecretSource("env", "PASSWORD")}


async def test_mail_goes_by_starttls_with_a_login(authority: trustme.CA, ca_file: str) -> None:
    box = Mailbox(starttls=served_by(authority), login=("planted-user", "planted-password"))
    async with box:
        way = an_email(box.port, tls=Tls.STARTTLS, **LOGIN)
        assert (await told(way, ca_file=ca_file)).ok

    assert len(box.mails) == 1


async def test_mail_goes_by_tls_from_the_first_byte_on(authority: trustme.CA, ca_file: str) -> None:
    async with Mailbox(tls=served_by(authority)) as box:
        assert (await told(an_email(box.port, tls=Tls.TLS), ca_file=ca_file)).ok

    assert len(box.mails) == 1


async def test_mail_goes_to_nobody_whose_certificate_is_not_trusted(authority: trustme.CA) -> None:
    async with Mailbox(starttls=served_by(authority)) as box:
        tried = await told(an_email(box.port, tls=Tls.STARTTLS))

    assert (box.mails, tried.detail) == ([], "its certificate is not trusted")


async def test_mail_is_not_sent_in_the_clear_where_the_server_knows_no_starttls() -> None:
    async with Mailbox() as box:
        tried = await told(an_email(box.port, tls=Tls.STARTTLS))

    assert box.mails == []
    assert tried == Tried(ok=False, detail="the server cannot do STARTTLS", final=True)


async def test_a_refused_login_is_told_without_what_the_server_repeats(
    authority: trustme.CA, ca_file: str
) -> None:
    box = Mailbox(starttls=served_by(authority), login=("planted-user", "another"))
    async with box:
        tried = await told(an_email(box.port, tls=Tls.STARTTLS, **LOGIN), ca_file=ca_file)

    assert (tried.ok, tried.final, box.mails) == (False, False, [])
    assert "planted" not in tried.detail
    assert "login refused" in tried.detail


@pytest.mark.parametrize(
    ("says_", "detail", "final"),
    [
        ("451 planted", "SMTP 451: delivery refused", False),
        ("554 planted", "SMTP 554: delivery refused", True),
    ],
)
async def test_a_mail_that_is_refused_is_tried_again_or_not_by_its_code(
    says_: str,
    detail: str,
    final: bool,  # noqa: FBT001
) -> None:
    async with Mailbox(says=says_) as box:
        assert await told(an_email(box.port)) == Tried(ok=False, detail=detail, final=final)


async def test_a_mail_server_that_is_silent_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "STEP_TIMEOUT", 30.0)
    monkeypatch.setattr(mail, "TIMEOUT", 0.2)

    async with Mailbox(silent=True) as box:
        tried = await told(an_email(box.port))

    assert tried == Tried(ok=False, detail="no end within 0 s")


async def test_a_mail_server_that_is_not_there_is_told() -> None:
    async with Mailbox() as box:
        port = box.port

    assert await told(an_email(port)) == Tried(ok=False, detail="failed at connect: Connection refused")


def a_program(folder: Path, text: str) -> Command:
    (folder / "program.py").write_text(text)
    return Command(argv=(sys.executable, str(folder / "program.py"), str(folder / "out")))


async def test_a_command_gets_the_document_and_little_else(tmp_path: Path) -> None:
    way = a_program(
        tmp_path,
        "import json, os, sys\n"
        "json.dump([json.load(sys.stdin), sorted(os.environ)], open(sys.argv[1], 'w'))\n",
    )

    assert await told(way) == Tried(ok=True, detail="exit code 0")
    document, names = json.loads((tmp_path / "out").read_text())
    assert document == messages.document(a_message(), HOST)
    assert set(names) <= {"PATH", "LANG", "LC_CTYPE"}


async def test_a_command_that_fails_is_told_by_its_exit_code(tmp_path: Path) -> None:
    tried = await told(a_program(tmp_path, "import sys; sys.exit('planted')"))

    assert tried == Tried(ok=False, detail=f"{sys.executable} ended with exit code 1")


async def test_a_command_that_reads_nothing_does_not_matter(tmp_path: Path) -> None:
    big = Alert(kind=AlertKind.FAILED, subject="x", summary="y" * 1_000_000, at=T0)

    assert (await told(a_program(tmp_path, ""), a_message(big))).ok


async def test_a_command_that_is_not_there_is_told() -> None:
    tried = await told(Command(argv=("/nowhere/page",)))

    assert tried == Tried(ok=False, detail="/nowhere/page cannot be run: No such file or directory")


async def test_a_command_that_does_not_end_is_killed_with_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "TIMEOUT", 1.0)
    way = a_program(
        tmp_path,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(['/bin/sleep', '100'])\n"
        "open(sys.argv[1] + '.new', 'w').write(str(child.pid))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(100)\n",
    )

    tried = await told(way)

    assert tried == Tried(ok=False, detail=f"{sys.executable} did not end within 1 s")
    pid = (tmp_path / "out").read_text()
    await eventually(lambda: is_gone(pid))


def is_gone(pid: str) -> bool:
    """Tell whether a process has ended; one that nobody waits for stays as a zombie."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
