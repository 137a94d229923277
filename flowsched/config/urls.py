"""Addresses as settings write them: where something may be sent, and where only within this machine."""

from __future__ import annotations

import re

from flowsched.errors import Refused
from flowsched.hosts import address_of, is_loopback

HIGHEST_PORT = 65_535

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
)
_ALLOWED = "https://HOST or https://HOST:PORT; http:// to 127.0.0.1, [::1] and localhost only"
_PLAIN_ALLOWED = "https://HOST, perhaps with :PORT and /PATH; http:// to 127.0.0.1, [::1] and localhost only"
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def gateway(url: str) -> str:
    """Return scheme, host and port of an API gateway, without a slash at the end. Raises Refused.

    The messages do not repeat the URL: it is where people put passwords.
    """
    match = _URL.fullmatch(url)
    if not match or not _is_host(match["host"]) or match["path"] not in (None, "/"):
        wrong = "holds user information" if "@" in url else "is not just a scheme, a host and perhaps a port"
        raise Refused(wrong, _ALLOWED)
    _require_port_and_safety(match, _ALLOWED)
    return url.removesuffix("/").lower()


def plain_url(url: str) -> str:
    """Return a URL that may stand in a file, as it has neither user nor query. Raises Refused, likewise."""
    match = _URL.fullmatch(url)
    if not match or not _is_host(match["host"]):
        wrong = "is not just a scheme, a host and perhaps a port and a path"
        raise Refused("holds what may be a secret" if set("@?") & set(url) else wrong, _PLAIN_ALLOWED)
    _require_port_and_safety(match, _PLAIN_ALLOWED)
    return url


def _require_port_and_safety(match: re.Match[str], allowed: str) -> None:
    if match["port"] and not 1 <= int(match["port"]) <= HIGHEST_PORT:
        raise Refused("has a port out of range", f"a port from 1 to {HIGHEST_PORT}")
    if match["scheme"] == "http" and not is_loopback(match["host"]):
        raise Refused("would send credentials in the clear", allowed)


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return all(_LABEL.fullmatch(label) for label in host.split("."))
    return address_of(host) is not None
