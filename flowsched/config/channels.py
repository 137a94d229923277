"""`alerts` and `pings` of `flowsched.yaml`, on their way to their records."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from flowsched.config.templates import TEXTS, VALUES, check_template
from flowsched.config.urls import plain_url
from flowsched.config.values import FAULTY, typed_values
from flowsched.errors import Refused
from flowsched.hosts import is_loopback
from flowsched.model import (
    TOLD_OF,
    AlertKind,
    Alerts,
    Channel,
    Command,
    Email,
    Pings,
    SecretSource,
    Slack,
    Tls,
    Webhook,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowsched.config.findings import Findings, KeyPath
    from flowsched.config.reader import Node
    from flowsched.config.values import Converters

    Values = dict[KeyPath, Any]
    Absolute = Callable[[str], str]
    """Makes a path absolute that begins at the folder of the file."""
    SourceOf = Callable[[KeyPath, dict[str, str]], SecretSource]
    """Makes the source of a secret of what is written under a key."""

GROUP_WAIT = timedelta(seconds=30)
REPEAT = timedelta(hours=4)
RATE_PER_HOUR = 20

_WAYS = ("webhook", "slack", "email", "command")
_PORTS = {Tls.STARTTLS: 587, Tls.TLS: 465, Tls.NONE: 25}
_ADDRESS = re.compile(r"[!-+\--:=?A-~]+@[!-+\--:=?A-~]+")
"""Printable, without what separates addresses from each other and from names: `,`, `;`, `<`, `>`, `@`."""


class Ways:
    """Reads the two keys of one file."""

    def __init__(self, node: Node, findings: Findings, absolute: Absolute, source: SourceOf) -> None:
        self._node = node
        self._findings = findings
        self._source = source
        self._general: Converters = {("ca_file",): absolute, ("environment_proxy",): bool}

    def alerts(self, group_wait: timedelta | None, repeat: timedelta | None) -> Alerts | None:
        """Return who is told of what; None: nobody, or something is wrong with it and noted."""
        if self._node.get(("alerts",)) is None:
            return None
        plain = typed_values(
            self._node, ("alerts",), {("rate_per_hour",): int, **self._general}, self._findings
        )
        holder = self._node.get(("alerts", "channels"))
        names = holder.children if holder else ()
        channels = {name: self._channel(name) for name in names}
        found = {name: channel for name, channel in channels.items() if channel is not None}
        if len(found) < len(channels) or FAULTY in plain.values() or self._findings.is_faulty(("alerts",)):
            return None
        return Alerts(
            group_wait=GROUP_WAIT if group_wait is None else group_wait,
            repeat=REPEAT if repeat is None else repeat,
            rate_per_hour=plain.get(("rate_per_hour",), RATE_PER_HOUR),
            ca_file=plain.get(("ca_file",)),
            environment_proxy=plain.get(("environment_proxy",), False),
            channels=found,
        )

    def pings(self) -> Pings | None:
        """Return where runs are told of; None: nowhere, or something is wrong with it and noted."""
        converters: Converters = {
            ("url",): plain_url,
            ("key",): partial(self._source, ("pings", "key")),
            **self._general,
        }
        if self._node.get(("pings",)) is None:
            return None
        values = typed_values(self._node, ("pings",), converters, self._findings)
        if FAULTY in values.values() or ("url",) not in values:
            return None
        return Pings(
            url=values["url",].rstrip("/"),
            key=values.get(("key",)),
            ca_file=values.get(("ca_file",)),
            environment_proxy=values.get(("environment_proxy",), False),
        )

    def _channel(self, name: str) -> Channel | None:
        path = ("alerts", "channels", name)
        node = self._node.get(path)
        ways = [way for way in _WAYS if node is not None and way in node.children]
        if len(ways) > 1:
            message = f"has {' and '.join(ways)}"
            self._findings.add(self._node.position(path), path, message, f"one of {', '.join(_WAYS)}")
        if self._findings.is_faulty(path) or self._findings.has_faulty(path):
            return None
        if not ways:
            message, allowed = "has no way on which somebody is told", f"one of {', '.join(_WAYS)}"
            self._findings.add(self._node.position(path), path, message, allowed)
            return None
        values = typed_values(self._node, path, {("on",): _kinds}, self._findings)
        way = self._way(ways[0], (*path, ways[0]))
        on = values.get(("on",), frozenset(TOLD_OF))
        return None if way is None else Channel(name=name, on=on, way=way)

    def _way(self, kind: str, path: KeyPath) -> Webhook | Slack | Email | Command | None:
        match kind:
            case "webhook":
                return self._webhook(path)
            case "slack":
                return self._slack(path)
            case "email":
                return self._email(path)
        return self._command(path)

    def _webhook(self, path: KeyPath) -> Webhook | None:
        converters: Converters = {
            ("url",): partial(self._source_or_url, (*path, "url")),
            ("headers",): partial(self._sources, (*path, "headers")),
            ("secrets",): partial(self._own_placeholders, (*path, "secrets")),
        }
        values = typed_values(self._node, path, converters, self._findings)
        if FAULTY in values.values():
            return None
        secrets = values.get(("secrets",), {})
        template = typed_values(self._node, path, {("template",): _template(secrets)}, self._findings)
        if FAULTY in template.values():
            return None
        return Webhook(
            url=values["url",],
            headers=values.get(("headers",), {}),
            template=template.get(("template",)),
            secrets=secrets,
        )

    def _slack(self, path: KeyPath) -> Slack:
        source = partial(self._source, (*path, "url"))
        return Slack(url=typed_values(self._node, path, {("url",): source}, self._findings)["url",])

    def _email(self, path: KeyPath) -> Email | None:
        converters: Converters = {
            ("host",): str,
            ("port",): int,
            ("tls",): Tls,
            ("from",): _address,
            ("to",): lambda written: tuple(map(_address, written)),
            ("user",): partial(self._source, (*path, "user")),
            ("password",): partial(self._source, (*path, "password")),
        }
        values = {"".join(key): value for key, value in self._typed(path, converters).items()}
        tls = values.get("tls", Tls.STARTTLS)
        if FAULTY in values.values() or not self._may_be_sent(path, values, tls):
            return None
        return Email(
            host=values["host"],
            port=values.get("port", _PORTS[tls]),
            tls=tls,
            from_=values["from"],
            to=values["to"],
            user=values.get("user"),
            password=values.get("password"),
        )

    def _may_be_sent(self, path: KeyPath, values: dict[str, Any], tls: Tls) -> bool:
        """Note what cannot be: half of a login, or a login that everybody on the way could read."""
        at = self._node.position(path)
        if ("user" in values) is not ("password" in values):
            missing = "password" if "user" in values else "user"
            self._findings.add(at, (*path, missing), "is missing", "user and password, or neither")
            return False
        if tls is Tls.NONE and "user" in values and not is_loopback(values["host"]):
            key = (*path, "tls")
            self._findings.add(
                self._node.position(key),
                key,
                "would send a password in the clear",
                "starttls or tls; none without user and password, or to this machine",
            )
            return False
        return True

    def _command(self, path: KeyPath) -> Command | None:
        argv = typed_values(self._node, path, {("argv",): _argv}, self._findings)["argv",]
        return None if argv is FAULTY else Command(argv=argv)

    def _typed(self, path: KeyPath, converters: Converters) -> Values:
        return typed_values(self._node, path, converters, self._findings)

    def _sources(self, path: KeyPath, written: dict[str, dict[str, str]]) -> dict[str, SecretSource]:
        return {name: self._source((*path, name), each) for name, each in written.items()}

    def _own_placeholders(self, path: KeyPath, written: dict[str, dict[str, str]]) -> dict[str, SecretSource]:
        taken = (*TEXTS, *VALUES)
        if not written.keys().isdisjoint(taken):
            raise Refused("has a name that has a meaning already", f"names other than {', '.join(taken)}")
        return self._sources(path, written)

    def _source_or_url(self, path: KeyPath, written: str | dict[str, str]) -> SecretSource | str:
        return plain_url(written) if isinstance(written, str) else self._source(path, written)


def _kinds(written: list[str]) -> frozenset[AlertKind]:
    return frozenset(map(AlertKind, written))


def _template(secrets: dict[str, SecretSource]) -> Callable[[str], str]:
    def checked(template: str) -> str:
        check_template(template, secrets)
        return template

    return checked


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise Refused("is not a mail address", "such as flowsched@example.com, without a name")
    return text


def _argv(written: list[str]) -> tuple[str, ...]:
    if not written[0].startswith("/"):
        raise Refused("does not begin with an absolute path", "such as [/usr/local/bin/page, --now]")
    if any("\0" in word for word in written):
        raise Refused("has a NUL character in it", "text that a program can be given")
    return tuple(written)
