"""A message by SMTP."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING

from flowsched.alerts.messages import document, mail_subject, text
from flowsched.alerts.posting import ALL_HANG
from flowsched.alerts.tries import Tried
from flowsched.enos.authorities import tls_context, why_unusable
from flowsched.model import Tls
from flowsched.threads import AllHang

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Email, Message
    from flowsched.threads import Threads

STEP_TIMEOUT = 10.0
TIMEOUT = 40.0
"""Real seconds: for each step of a delivery, and for all of it."""

_READY, _PERMANENT = 220, 500


@dataclass(frozen=True, slots=True)
class Login:
    """What a server wants to know first."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(<secret>)"


def mail_of(message: Message, way: Email, host: str, now: datetime) -> EmailMessage:
    """Return the mail; its id is the same each time that it is sent, so that a repetition can be known."""
    mail = EmailMessage()
    mail["Subject"] = mail_subject(message)
    mail["From"] = way.from_
    mail["To"] = ", ".join(way.to)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message.identity}@{way.from_.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Flowsched-Key"] = " ".join(document(message, host)["key"].split())
    # As every server can take it, however long a line is and whatever language a reason is in.
    mail.set_content(text(message, host), cte="quoted-printable")
    return mail


async def deliver(
    mail: EmailMessage, way: Email, login: Login | None, ca_file: str | None, threads: Threads
) -> Tried:
    """Deliver once, within TIMEOUT. Raises nothing."""
    delivery = _Delivery(mail, way, login, ca_file)
    try:
        return await threads.do(delivery.tried, TIMEOUT)
    except TimeoutError:
        return Tried(ok=False, detail=f"no end within {TIMEOUT:.0f} s")
    except AllHang:
        return Tried(ok=False, detail=ALL_HANG)
    finally:
        delivery.cut_off()


class _Delivery:
    """One connection to a mail server."""

    def __init__(self, mail: EmailMessage, way: Email, login: Login | None, ca_file: str | None) -> None:
        self._mail = mail
        self._way = way
        self._login = login
        self._ca_file = ca_file
        self._server: smtplib.SMTP | None = None
        self._step = ""
        """What it is at."""
        self._left_out = 0
        self._is_over = False

    def tried(self) -> Tried:
        """Deliver; blocks. What the server says is left out: it may repeat what it was told."""
        try:
            context = tls_context(self._ca_file)
        except OSError as error:
            return Tried(ok=False, detail=f"cannot use {self._ca_file}: {why_unusable(error)}")
        try:
            self._deliver(context)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            return self._in_vain(error)
        some = f"; {self._left_out} recipients were refused" if self._left_out else ""
        return Tried(ok=True, detail=f"accepted by the mail server{some}")

    def cut_off(self) -> None:
        """End what is under way, from another thread: its next step fails."""
        self._is_over = True
        server, self._server = self._server, None
        sock = getattr(server, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(2)

    def _deliver(self, context: ssl.SSLContext) -> None:
        way = self._way
        self._step = "connect"
        with contextlib.ExitStack() as stack:
            server = (
                smtplib.SMTP_SSL(timeout=STEP_TIMEOUT, context=context)
                if way.tls is Tls.TLS
                else smtplib.SMTP(timeout=STEP_TIMEOUT)
            )
            self._server = server
            stack.callback(server.close)
            # Only the constructor sets it, which would connect before there is anything to cut off.
            server._host = way.host  # type: ignore[attr-defined]  # noqa: SLF001 - the name that TLS is to see
            code, _ = server.connect(way.host, way.port)
            if self._is_over:
                raise ConnectionAbortedError
            if code != _READY:
                raise smtplib.SMTPConnectError(code, "")
            if way.tls is Tls.STARTTLS:
                self._step = "STARTTLS"
                server.starttls(context=context)
            if self._login is not None:
                self._step = "login"
                server.login(self._login.user, self._login.password)
            self._step = "delivery"
            self._left_out = len(server.send_message(self._mail))
            with contextlib.suppress(smtplib.SMTPException, OSError):  # it is delivered
                server.quit()

    def _in_vain(self, error: Exception) -> Tried:
        match error:
            case smtplib.SMTPRecipientsRefused():
                return self._refused(max(code for code, _ in error.recipients.values()), "all recipients")
            case smtplib.SMTPResponseException():
                return self._refused(error.smtp_code, self._step)
            case smtplib.SMTPNotSupportedError():
                return Tried(ok=False, detail=f"the server cannot do {self._step}", final=True)
            case ssl.SSLCertVerificationError():
                return Tried(ok=False, detail="its certificate is not trusted")
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return Tried(ok=False, detail=f"failed at {self._step}: {why}")

    def _refused(self, code: int, what: str) -> Tried:
        # A login may be refused for a moment, also by 5xx; the address book is not wrong for a moment only.
        final = code >= _PERMANENT and self._step == "delivery"
        return Tried(ok=False, detail=f"SMTP {code}: {what} refused", final=final)
