"""How httpx is set up for a target: verified, unredirected, without cookies, one connection a client."""

from __future__ import annotations

import logging
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from typing import TYPE_CHECKING

import httpx

from flowsched import __version__
from flowsched.enos.authorities import tls_context
from flowsched.errors import ConfigError, Problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from flowsched.model import Target

KEEP_IDLE = 1.0
"""Real seconds that a connection may lie idle between two calls and still be used.

Less than any server in common use waits before it closes one (the shortest is 2 s): to send on a
connection that is being closed turns a call that could safely be repeated into one in doubt.
"""

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json;charset=UTF-8",
    "User-Agent": f"flowsched/{__version__}",
}


def client_builder(target: Target) -> Callable[[], httpx.AsyncClient]:
    """Return what makes a client of one connection to the target.

    The proxies of the environment apply where the target asks for them and is called by TLS, which goes
    through a proxy unread. Plain http goes to this machine and never through a proxy, which would see keys.

    Raises ConfigError where the target can never be called: plain http to anywhere but this machine, a
    `ca_file` that is no file of certificates, proxy variables that apply and name no usable proxy.
    """
    for name in ("httpx", "httpcore"):  # at INFO and DEBUG they log whole URLs and headers
        logging.getLogger(name).setLevel(logging.WARNING)
    url = _checked_url(target)
    build = partial(
        httpx.AsyncClient,
        verify=_tls_context(target),
        headers=_HEADERS,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=None,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_IDLE),
        follow_redirects=False,
        trust_env=target.environment_proxy and url.scheme == "https",
    )
    try:
        build()
    except (httpx.InvalidURL, ImportError, ValueError) as error:
        allowed = "http:// or https:// proxies in HTTPS_PROXY, ALL_PROXY and NO_PROXY"
        raise _problem(target, "environment_proxy", f"unusable proxy variables: {error}", allowed) from None
    return build


def _checked_url(target: Target) -> httpx.URL:
    allowed = "https://HOST[:PORT], or http:// to 127.0.0.0/8, [::1] or localhost"
    try:
        url = httpx.URL(target.url)
    except httpx.InvalidURL as error:
        raise _problem(target, "url", f"not a URL: {error}", allowed) from None
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        raise _problem(target, "url", "secrets would travel unencrypted", allowed)
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_context(target: Target) -> ssl.SSLContext:
    """Return what all connections of the target share."""
    try:
        return tls_context(target.ca_file)
    except OSError as error:
        message = f"cannot use {target.ca_file}: {error.strerror or error}"
        raise _problem(target, "ca_file", message, "a readable PEM file of certificates") from None


def _problem(target: Target, key: str, message: str, allowed: str) -> ConfigError:
    where = target.source
    return ConfigError([Problem(where.file, where.line, 1, f"targets.{target.name}.{key}", message, allowed)])
