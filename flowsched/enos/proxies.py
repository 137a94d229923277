"""Which proxy the variables of the environment name for a host."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that is asked for tunnels."""

    host: str
    port: int
    by_tls: bool
    """Whether the proxy itself is spoken to by TLS."""
    authorization: str | None = field(repr=False)
    """The header `Proxy-Authorization`; None: the URL of the proxy has no credentials."""

    def __str__(self) -> str:
        return f"the proxy {authority_of(self.host, self.port)}"


def authority_of(host: str, port: int) -> str:
    """Return host and port as they stand in a URL; the host is a name, or an address without brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def proxy_for(host: str, port: int, variables: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for https to that host and port; None: it is called without one.

    `variables` are those of the environment without their `_PROXY`, in lower case. `NO_PROXY` is a list by
    commas: `*`; a name, which stands for the names below it as well, or, after `.` or `*.`, for those only;
    an address, or a network as ADDRESS/BITS; each but a network perhaps with `:PORT`, and an IPv6 address
    then in brackets. Raises ValueError, which shows nothing of the variable, where it names no usable proxy.
    """
    url = variables.get("https") or variables.get("all")
    if not url or any(_covers(entry.strip(), host, port) for entry in variables.get("no", "").split(",")):
        return None
    return _proxy(url if "://" in url else f"http://{url}")


def _proxy(url: str) -> Proxy:
    unusable = ValueError("the one that applies is no http:// or https:// URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        authorization = _authorization(parts)
    except ValueError:
        raise unusable from None
    beyond = parts.path + parts.query + parts.fragment
    if not host or parts.scheme not in _PORTS or "@" in beyond:  # of credentials that are not encoded
        raise unusable
    return Proxy(host, port or _PORTS[parts.scheme], parts.scheme == "https", authorization)


def _authorization(parts: SplitResult) -> str | None:
    """Return the header. Raises UnicodeEncodeError where the environment held no UTF-8."""
    if not parts.username and not parts.password:
        return None
    credentials = unquote_to_bytes(parts.username or "") + b":" + unquote_to_bytes(parts.password or "")
    return f"Basic {b64encode(credentials).decode()}"


def _covers(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of `NO_PROXY` is about the host and port."""
    if entry == "*" or not entry:
        return entry == "*"
    if (within := _is_within(entry, host)) is not None:
        return within
    scheme, _, authority = (entry[1:] if entry.startswith("*.") else entry).rpartition("://")
    try:
        parts = urlsplit(f"//{authority}")
        name, only = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        return False
    if scheme not in ("", "https", "all") or only not in (None, port):
        return False
    if (within := _is_within(name, host)) is not None:
        return within
    host = host.removesuffix(".")
    below = host.endswith(f".{name.removeprefix('.')}")
    return below if name.startswith(".") else below or host == name


def _is_within(entry: str, host: str) -> bool | None:
    """Tell whether the host is an address of that network; None where the entry is none."""
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        return None
    try:
        return ip_address(host) in network
    except ValueError:
        return False
