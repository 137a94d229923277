"""A channel as something is told over it: its secrets are read each time, as they may be others by then."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from flowsched.alerts.messages import document, filled, slack_text
from flowsched.alerts.posting import ALL_HANG, Post
from flowsched.alerts.tries import Tried
from flowsched.config import read_secret
from flowsched.errors import SecretError
from flowsched.model import Command, Email, SecretSource, Slack, Webhook
from flowsched.threads import AllHang

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flowsched.clock import Clock
    from flowsched.model import Alerts, Channel, Message
    from flowsched.threads import Threads

log = logging.getLogger(__name__)

TIMEOUT = 60.0
"""Real seconds for an attempt as a whole, with all that it waits for before it begins."""

SECRET_TIMEOUT = 10.0
"""Real seconds for a secret: the disk that it is on may be one of another machine."""


class Line:
    """One channel."""

    def __init__(
        self, channel: Channel, post: Post, ca_file: str | None, environ: Mapping[str, str], host: str
    ) -> None:
        self.channel = channel
        self._post = post
        self._ca_file = ca_file
        self._environ = environ
        self._host = host

    async def tell(self, message: Message, clock: Clock) -> Tried:
        """Tell once. Raises nothing, and returns no word that may be secret."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._tell(message, clock)
        except TimeoutError:
            return Tried(ok=False, detail=f"no end within {TIMEOUT:.0f} s")
        except AllHang:
            return Tried(ok=False, detail=ALL_HANG)
        except SecretError as error:
            return Tried(ok=False, detail=str(error))
        except Exception as error:  # noqa: BLE001 - its text may be secret
            return Tried(ok=False, detail=f"a fault of flowsched: {type(error).__name__}", final=True)

    async def unreadable(self) -> list[str]:
        """Return what is wrong with the secrets of the channel; empty: nothing."""
        wrong = []
        for source in _sources(self.channel):
            try:
                await self._secret(source)
            except SecretError as error:
                wrong.append(str(error))
            except AllHang:
                wrong.append(ALL_HANG)
        return wrong

    async def _tell(self, message: Message, clock: Clock) -> Tried:
        match self.channel.way:
            case Webhook() as way:
                return await self._webhook(way, message)
            case Slack(url=url):
                content = json.dumps({"text": slack_text(message, self._host)}).encode()
                return await self._post(await self._secret(url), content)
            case Email() as way:
                return await self._mail(way, message, clock)
            case Command(argv=argv):
                from flowsched.alerts import commands  # noqa: PLC0415 - as `mail` below

                return await commands.tell(argv, self._document(message), self._environ)

    async def _webhook(self, way: Webhook, message: Message) -> Tried:
        url = way.url if isinstance(way.url, str) else await self._secret(way.url)
        headers = {name: await self._secret(source) for name, source in way.headers.items()}
        content = self._document(message)
        if way.template is not None:
            secrets = {name: await self._secret(source) for name, source in way.secrets.items()}
            content = filled(way.template, message, self._host, secrets).encode()
        return await self._post(url, content, headers)

    async def _mail(self, way: Email, message: Message, clock: Clock) -> Tried:
        from flowsched.alerts import mail  # noqa: PLC0415 - only who sends mail needs what it imports

        login = None
        if way.user is not None and way.password is not None:
            login = mail.Login(await self._secret(way.user), await self._secret(way.password))
        letter = mail.mail_of(message, way, self._host, clock.now())
        return await mail.deliver(letter, way, login, self._ca_file, self._post.threads)

    def _document(self, message: Message) -> bytes:
        return json.dumps(document(message, self._host)).encode()

    async def _secret(self, source: SecretSource) -> str:
        return await secret_of(source, self._environ, self._post.threads)


def lines_of(alerts: Alerts, environ: Mapping[str, str], host: str) -> dict[str, Line]:
    """Return the channels by name, each with threads of its own."""
    return {
        name: Line(
            channel,
            Post(alerts.ca_file, environment_proxy=alerts.environment_proxy),
            alerts.ca_file,
            environ,
            host,
        )
        for name, channel in alerts.channels.items()
    }


async def secret_of(source: SecretSource, environ: Mapping[str, str], threads: Threads) -> str:
    """Read a secret in a thread. Raises SecretError, also where it takes too long, and AllHang."""
    try:
        return (await threads.do(lambda: read_secret(source, environ), SECRET_TIMEOUT)).reveal()
    except TimeoutError:
        raise SecretError(f"{source}: cannot be read within {SECRET_TIMEOUT:.0f} s") from None


def kind_of(channel: Channel) -> str:
    """Return how `flowsched.yaml` calls the way of a channel."""
    return type(channel.way).__name__.lower()


def _sources(channel: Channel) -> Iterator[SecretSource]:
    match channel.way:
        case Webhook() as way:
            yield from (way.url,) if isinstance(way.url, SecretSource) else ()
            yield from (*way.headers.values(), *way.secrets.values())
        case Slack(url=url):
            yield url
        case Email(user=user, password=password):
            yield from (each for each in (user, password) if each is not None)
