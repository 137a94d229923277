"""Those who are told of alerts: a mail server on loopback, and what an HTTP receiver has heard."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from flowsched.model import (
    TOLD_OF,
    AlertKind,
    Alerts,
    Channel,
    Command,
    Email,
    SecretSource,
    Slack,
    Tls,
    Webhook,
)
from tests.wire import shut

if TYPE_CHECKING:
    import ssl
    from email.message import EmailMessage

    from tests.wire import Heard


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it was delivered."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage


class Silent(asyncio.Protocol):
    """A connection on which nothing is ever said."""

    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


class Mailbox:
    """`async with Mailbox(...) as box:`, then look at what was delivered."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
        says: str = "250 OK",
        silent: bool = False,
    ) -> None:
        self.mails: list[Mail] = []
        self.refused = 0
        self.says = says
        self._silent = silent
        self._tls = tls
        self._starttls = starttls
        self._login = login

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd calls it
        if self.says.startswith("250"):
            message = message_from_bytes(envelope.content, policy=policy.default)
            self.mails.append(Mail(envelope.mail_from, tuple(envelope.rcpt_tos), message))
        else:
            self.refused += 1
        return self.says

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._connections: list[SMTP | Silent] = []
        self._server = await loop.create_server(self._made, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await shut(self._server, ())
        for connection in self._connections:
            if isinstance(connection.transport, asyncio.WriteTransport):
                connection.transport.abort()
        await asyncio.sleep(0)

    def _made(self) -> SMTP | Silent:
        connection = Silent() if self._silent else self._speaker()
        self._connections.append(connection)
        return connection

    def _speaker(self) -> SMTP:
        return SMTP(
            self,
            hostname="mailbox",
            tls_context=self._starttls,
            require_starttls=self._starttls is not None,
            auth_require_tls=self._starttls is not None,
            auth_required=self._login is not None,
            authenticator=self._known,
        )

    def _known(self, _: Any, __: Any, ___: Any, ____: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = (data.login.decode(), data.password.decode())
        return AuthResult(success=given == self._login, handled=False, message=f"535 no: {given}")


def bodies(heard: list[Heard]) -> list[Any]:
    """Return what was posted, as JSON."""
    return [json.loads(each.body) for each in heard]


ENVIRON = {
    "USER_NAME": "planted-user",
    "PASSWORD": "planted-password",
    "HEADER": "Key planted-key",
    "PING_KEY": "planted-ping-key",
}
HOOK = SecretSource("env", "HOOK")


def a_channel(
    way: Webhook | Slack | Email | Command, name: str = "team", on: tuple[AlertKind, ...] = TOLD_OF
) -> Channel:
    return Channel(name=name, on=frozenset(on), way=way)


def a_webhook(url: str | SecretSource = HOOK, **more: Any) -> Webhook:
    return Webhook(**({"url": url, "headers": {}, "template": None, "secrets": {}} | more))


def an_email(port: int, **more: Any) -> Email:
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "tls": Tls.NONE,
        "from_": "flowsched@example.com",
        "to": ("on-call@example.com", "team@example.com"),
        "user": None,
        "password": None,
    }
    return Email(**(usual | more))


def the_alerts(*channels: Channel, **more: Any) -> Alerts:
    usual: dict[str, Any] = {
        "group_wait": timedelta(seconds=30),
        "repeat": timedelta(hours=4),
        "rate_per_hour": 20,
        "ca_file": None,
        "environment_proxy": False,
        "channels": {each.name: each for each in channels},
    }
    return Alerts(**(usual | more))
