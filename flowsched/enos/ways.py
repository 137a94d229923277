"""The way to a target: its address, its TLS, the proxy before it; checked before any call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment

from flowsched.enos.authorities import tls_context
from flowsched.enos.proxies import authority_of, proxy_for
from flowsched.errors import ConfigError, Problem
from flowsched.hosts import is_loopback

if TYPE_CHECKING:
    import ssl

    from flowsched.enos.proxies import Proxy
    from flowsched.model import Target

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is reached."""

    host: str
    """A name, or an address without brackets."""
    port: int
    tls: ssl.SSLContext | None = None
    """What verifies it; None: it is spoken to in the clear."""
    proxy: Proxy | None = None

    def __str__(self) -> str:
        return self.authority

    @property
    def authority(self) -> str:
        """Return host and port as they stand in a request for a tunnel."""
        return authority_of(self.host, self.port)

    @property
    def host_field(self) -> str:
        """Return the header `Host`, which leaves out the port that is usual."""
        is_usual = self.port == _PORTS["https" if self.tls else "http"]
        return self.authority.removesuffix(f":{self.port}") if is_usual else self.authority


def way_to(target: Target) -> Way:
    """Return the way to the target.

    The proxies of the environment apply where the target asks for them and is called by TLS, which goes
    through a proxy unread. Plain http goes to this machine and never through a proxy, which would see keys.

    Raises ConfigError where the target can never be called: plain http to anywhere but this machine, a
    `ca_file` that is no file of certificates, proxy variables that apply and name no usable proxy.
    """
    url = _checked_url(target)
    tls = _tls_context(target)
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    return Way(host, port, tls, _proxy(target, host, port)) if url.scheme == "https" else Way(host, port)


def _checked_url(target: Target) -> SplitResult:
    allowed = "https://HOST[:PORT], or http:// to 127.0.0.0/8, [::1] or localhost"
    try:
        url = urlsplit(target.url)
        host, _ = url.hostname or "", url.port
    except ValueError as error:
        raise _problem(target, "url", f"not a URL: {error}", allowed) from None
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise _problem(target, "url", "secrets would travel unencrypted", allowed)
    return url


def _tls_context(target: Target) -> ssl.SSLContext:
    """Return what all connections of the target share."""
    try:
        context = tls_context(target.ca_file)
    except OSError as error:
        message = f"cannot use {target.ca_file}: {error.strerror or error}"
        raise _problem(target, "ca_file", message, "a readable PEM file of certificates") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy(target: Target, host: str, port: int) -> Proxy | None:
    if not target.environment_proxy:
        return None
    try:
        return proxy_for(host, port, getproxies_environment())
    except ValueError as error:
        allowed = "http:// or https:// proxies in HTTPS_PROXY, ALL_PROXY and NO_PROXY"
        raise _problem(target, "environment_proxy", f"unusable proxy variables: {error}", allowed) from None


def _problem(target: Target, key: str, message: str, allowed: str) -> ConfigError:
    where = target.source
    return ConfigError([Problem(where.file, where.line, 1, f"targets.{target.name}.{key}", message, allowed)])
