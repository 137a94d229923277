"""`flowsched.yaml`: found, read, and made into settings."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsched.config.channels import Ways
from flowsched.config.check import check
from flowsched.config.files import content_of
from flowsched.config.findings import Findings, Unusable
from flowsched.config.reader import read
from flowsched.config.schema import settings_schema
from flowsched.config.urls import HIGHEST_PORT, gateway, plain_url
from flowsched.config.values import typed_values
from flowsched.durations import between
from flowsched.errors import ConfigError, Refused
from flowsched.hosts import address_of
from flowsched.model import FIRES_A_DAY, MAX_CHANGE, Limits, Place, SecretSource, Settings, Source, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.config.findings import KeyPath
    from flowsched.config.reader import Node
    from flowsched.config.values import Converters

FILE_NAME = "flowsched.yaml"
SYSTEM_FILE = Path("/etc/flowsched") / FILE_NAME
MOST_BYTES = 1024**2

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_LIMITS: Converters = {("limits", "concurrency"): int, ("limits", "rate_per_minute"): lambda value: value}
_FIRES_A_DAY = ("review", "fires_a_day")
_MAX_CHANGE = ("apply", "max_change")
_WATCH = ("reload", "watch")
_SOCKET = ("control", "socket")
_GROUP = ("control", "group")
_TRACES = ("traces", "endpoint")
_BUILT_IN_SPANS: Mapping[KeyPath, timedelta] = {("keep",): 400 * _DAY, ("clock_tolerance",): 30 * _SECOND}
_BUILT_IN: Mapping[KeyPath, Any] = {
    ("limits", "concurrency"): 20,
    ("limits", "rate_per_minute"): None,
    ("api_version",): "v2.1",
    ("ca_file",): None,
    ("environment_proxy",): False,
}
_SOURCES = frozenset({"env", "file", "credential"})
_OPEN: frozenset[KeyPath] = frozenset(
    {(), *((key,) for key in ("limits", "review", "apply", "reload", "control", "traces", "alerts", "pings"))}
)
_OF_CHANNELS: frozenset[KeyPath] = frozenset(
    {(), ("webhook",), ("slack",), ("email",), ("email", "to"), ("command",), ("command", "argv"), ("on",)}
)
"""What is below a channel, the channels themselves included, and has keys that may be shown."""
_GROUP_WAIT, _REPEAT = ("alerts", "group_wait"), ("alerts", "repeat")
_SQLITE = "sqlite:///"
_LEDGER_ALLOWED = "sqlite:///PATH, or sqlite:////PATH for an absolute path"
_PERCENTAGE = re.compile(r"(?P<hundredths>100|[1-9]?[0-9])%", re.ASCII)


def find_settings(option: str | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the file of settings to use, None where there is none.

    It is the first of `--config`, FLOWSCHED_CONFIG (empty is as good as none), `flowsched.yaml` in `cwd`, and
    `/etc/flowsched/flowsched.yaml`. Raises ConfigError where one of the first two does not exist.
    """
    for named, origin in ((option, "--config"), (environ.get("FLOWSCHED_CONFIG"), "FLOWSCHED_CONFIG")):
        if named:
            return _existing(cwd / named, named, origin)
    return next((path for path in (cwd / FILE_NAME, SYSTEM_FILE) if os.path.lexists(path)), None)


def _existing(path: Path, named: str, origin: str) -> Path:
    if not os.path.lexists(path):
        findings = Findings(named)
        findings.add((0, 0), (), f"does not exist; {origin} names it", f"the path of a {FILE_NAME}")
        raise ConfigError(findings.problems)
    return path


def load_settings(path: Path) -> Settings:
    """Read a file of settings; relative paths in it begin at its folder.

    Raises ConfigError with every problem of the file.
    """
    findings = Findings(str(path), _shown)
    settings = None
    try:
        node = read(content_of(path, MOST_BYTES, findings), findings)
        check(node, settings_schema(), findings)
        settings = _Reading(node, path, findings).settings()
    except Unusable:
        pass
    if findings.problems or not settings:
        raise ConfigError(findings.problems)
    return settings


def _shown(path: KeyPath) -> KeyPath:
    """Return a path as it may be shown: where somebody may have written a secret, its keys are hidden too."""
    return tuple(
        key if key in _SOURCES or _has_open_keys(path[:depth]) else "<not shown>"
        for depth, key in enumerate(path)
    )


def _has_open_keys(path: KeyPath) -> bool:
    in_target = path[:1] == ("targets",) and path[2:] in {(), ("limits",)}
    in_channel = path[:2] == ("alerts", "channels") and path[3:] in _OF_CHANNELS
    return in_target or in_channel or path in _OPEN


class _Reading:
    """A file of settings on its way to its record."""

    def __init__(self, node: Node, path: Path, findings: Findings) -> None:
        self._node = node
        self._folder = Path(os.path.abspath(path)).parent  # noqa: PTH100 - resolve() would follow links
        self._findings = findings
        self._top: Converters = {
            ("schedules",): self._absolute,
            ("ledger",): self._ledger,
            _FIRES_A_DAY: int,
            _MAX_CHANGE: _percentage,
            _WATCH: bool,
            _SOCKET: self._absolute,
            _GROUP: str,
            ("listen",): _listen,
            _TRACES: _collector,
            **_SPANS,
            **_LIMITS,
        }

    def _of_target(self, path: KeyPath) -> Converters:
        return {
            ("url",): gateway,
            ("api_version",): str,
            ("org_id",): str,
            ("user_id",): str,
            ("access_key",): partial(self._secret_source, (*path, "access_key")),
            ("secret_key",): partial(self._secret_source, (*path, "secret_key")),
            ("ca_file",): self._absolute,
            ("environment_proxy",): bool,
            **_LIMITS,
        }

    def settings(self) -> Settings:
        """Return the record; raises Unusable where there is any problem, after noting them all."""
        top = {**_BUILT_IN_SPANS, **typed_values(self._node, (), self._top, self._findings)}
        holder = self._node.get(("targets",))
        own = {
            path[-1]: typed_values(self._node, path, self._of_target(path), self._findings)
            for path in (("targets", name) for name in (holder.children if holder else ()))
        }
        ways = Ways(self._node, self._findings, self._absolute, self._secret_source)
        alerts, pings = ways.alerts(top.get(_GROUP_WAIT), top.get(_REPEAT)), ways.pings()
        if self._findings.problems:
            raise Unusable
        shared = {**_BUILT_IN, **{key: value for key, value in top.items() if key[0] == "limits"}}
        targets = {name: self._record(name, {**shared, **values}) for name, values in own.items()}
        return Settings(
            file=self._findings.file,
            schedules=top["schedules",],
            schedules_place=self._place(("schedules",)),
            ledger=top["ledger",],
            keep=top["keep",],
            clock_tolerance=top["clock_tolerance",],
            targets=targets,
            max_change=top.get(_MAX_CHANGE, MAX_CHANGE),
            fires_a_day=top.get(_FIRES_A_DAY, FIRES_A_DAY),
            control_socket=top.get(_SOCKET, top["ledger",].removeprefix(_SQLITE) + ".control"),
            control_group=top.get(_GROUP),
            listen=top.get(("listen",)),
            watch_files=top.get(_WATCH, True),
            traces=top.get(_TRACES),
            alerts=alerts,
            pings=pings,
        )

    def _record(self, name: str, values: dict[KeyPath, Any]) -> Target:
        limits = {key[1]: value for key, value in values.items() if key[0] == "limits"}
        plain = {key[0]: value for key, value in values.items() if key[0] != "limits"}
        line, _ = self._node.position(("targets", name))
        source = Source(self._findings.file, line)
        return Target(name=name, limits=Limits(**limits), source=source, **plain)

    def _absolute(self, path: str) -> str:
        return str(self._folder / path)

    def _secret_source(self, path: KeyPath, written: dict[str, str]) -> SecretSource:
        ((kind, name),) = written.items()
        return SecretSource(kind, self._absolute(name) if kind == "file" else name, self._place(path))

    def _place(self, path: KeyPath) -> Place:
        return self._findings.place(self._node.position(path), path)

    def _ledger(self, url: str) -> str:
        if not url.startswith(_SQLITE):
            raise Refused("is not the URL of an SQLite file", _LEDGER_ALLOWED)
        path = url.removeprefix(_SQLITE)
        if not path or path == ":memory:" or path.endswith("/"):
            raise Refused("names no file, and so would keep nothing", _LEDGER_ALLOWED)
        if "?" in self._absolute(path):
            raise Refused('has a "?" in it, which begins options', "a path without options")
        return _SQLITE + self._absolute(path)


def _within(text: str, least: timedelta, most: timedelta) -> timedelta:
    """Read a duration as `between` does, without repeating in a message what may be a secret."""
    try:
        return between(text, least, most)
    except Refused as refused:
        raise Refused("is not such a duration", refused.allowed) from None


def _percentage(text: str) -> int:
    """Read a whole percentage, such as `25%`."""
    match = _PERCENTAGE.fullmatch(text)
    if not match:
        raise Refused("is not such a percentage", "a whole percentage from 0% to 100%")
    return int(match["hundredths"])


def _listen(text: str) -> tuple[str, int]:
    """Read an IP address and a port."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= HIGHEST_PORT:
        raise Refused("has no port that can be used", f"ADDRESS:PORT with a port from 1 to {HIGHEST_PORT}")
    address = address_of(host)
    if address is None or (address.version == 6) is not host.startswith("["):  # noqa: PLR2004 - of IP
        raise Refused("does not begin with an IP address", "such as 127.0.0.1:9464 or [::1]:9464")
    return str(address), int(port)


def _collector(url: str) -> str:
    """Return where a collector takes spans: the URL itself where it has a path, else OTLP's own below it."""
    server = plain_url(url).rstrip("/")
    return server if "/" in server.partition("://")[2] else f"{server}/v1/traces"


_SPANS: Converters = {
    ("keep",): partial(_within, least=31 * _DAY, most=3650 * _DAY),
    ("clock_tolerance",): partial(_within, least=_SECOND, most=timedelta(hours=1)),
    _GROUP_WAIT: partial(_within, least=_SECOND, most=timedelta(minutes=10)),
    _REPEAT: partial(_within, least=timedelta(minutes=1), most=7 * _DAY),
}
