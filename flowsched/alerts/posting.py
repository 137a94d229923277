"""How httpx is set up for what is not EnOS: verified, unredirected, one client and one thread a call."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import httpx

from flowsched import __version__
from flowsched.alerts.tries import Tried, answered
from flowsched.enos.authorities import tls_context, why_unusable
from flowsched.hosts import is_loopback
from flowsched.threads import AllHang, Threads

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 20.0
"""Real seconds for a call as a whole."""

MOST_HANGING = 4
"""Threads of one channel: one works, the others hang."""

ALL_HANG = "earlier attempts still hang"

_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": f"flowsched/{__version__}",
}
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=0)


class _UnusableError(Exception):
    """What the machine was set up with cannot be used: another attempt may find it mended."""


class Post:
    """Posts something, and says what came of it in words of ours: those of libraries may hold the URL."""

    def __init__(self, ca_file: str | None, *, environment_proxy: bool, most: int = MOST_HANGING) -> None:
        """Trust the usual authorities and those of `ca_file`, a PEM file; None: no others.

        `most` threads are used at once.
        """
        for name in ("httpx", "httpcore"):  # at INFO and DEBUG they log whole URLs and headers
            logging.getLogger(name).setLevel(logging.WARNING)
        self.threads = Threads("flowsched-alerts", most)
        self._ca_file = ca_file
        self._environment_proxy = environment_proxy
        self._context: ssl.SSLContext | None = None

    async def __call__(self, url: str, content: bytes, headers: Mapping[str, str] | None = None) -> Tried:
        """Post once, within TIMEOUT. Raises nothing."""
        refused = _refused(url)
        if refused is not None:
            return refused
        call = _Call()
        try:
            return await self.threads.do(lambda: self._tried(call, url, content, headers or {}), TIMEOUT)
        except TimeoutError:
            return _no_answer()
        except AllHang:
            return Tried(ok=False, detail=ALL_HANG)
        finally:
            call.cut_off()

    def _tried(self, call: _Call, url: str, content: bytes, headers: Mapping[str, str]) -> Tried:
        """Post; blocks."""
        try:
            with self._client(url) as client:
                stream = client.stream(
                    "POST",
                    url,
                    content=content,
                    headers={**_HEADERS, **headers},
                    extensions={"trace": call.note},
                )
                with stream as response:
                    # What it says beside is of no use, and may be without end.
                    return answered(response.status_code, response.headers.get("Retry-After"))
        except _UnusableError as error:
            return Tried(ok=False, detail=str(error))
        except httpx.TimeoutException:
            return _no_answer()
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError, ValueError):
            return Tried(ok=False, detail="its URL or headers cannot be sent", final=True)
        except (httpx.HTTPError, OSError) as error:
            return Tried(ok=False, detail=f"no answer: {_why(error)}")

    def _client(self, url: str) -> httpx.Client:
        if self._context is None:
            try:
                self._context = tls_context(self._ca_file)
            except OSError as error:
                raise _UnusableError(f"cannot use {self._ca_file}: {why_unusable(error)}") from None
        try:
            return httpx.Client(
                verify=self._context,
                timeout=TIMEOUT,  # for each step; whoever waits has the bound for all of them
                limits=_LIMITS,
                follow_redirects=False,
                trust_env=self._environment_proxy and url.startswith("https://"),
            )
        except (httpx.InvalidURL, ImportError, ValueError):
            raise _UnusableError(
                "unusable proxy variables; allowed: http:// or https:// proxies in HTTPS_PROXY and ALL_PROXY"
            ) from None


class _Call:
    """One call, which can be ended from outside of its thread."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._is_over = False

    def note(self, _: str, info: Mapping[str, Any]) -> None:
        """Take what httpcore says of a connection. Raises OSError where nobody waits any more."""
        get_extra_info = getattr(info.get("return_value"), "get_extra_info", None)
        if get_extra_info is not None:
            self._socket = get_extra_info("socket")
        if self._is_over:
            raise ConnectionAbortedError

    def cut_off(self) -> None:
        """End it: its next step fails."""
        self._is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _no_answer() -> Tried:
    return Tried(ok=False, detail=f"no answer within {TIMEOUT:.0f} s")


def _refused(url: str) -> Tried | None:
    """Return why a URL is not called, which nobody can have checked before: it was a secret until now."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return Tried(ok=False, detail="its URL is none", final=True)
    if parsed.scheme == "https" or (parsed.scheme == "http" and is_loopback(parsed.host)):
        return None
    return Tried(ok=False, detail="its URL is not https://, nor http:// to this machine", final=True)


def _why(error: BaseException) -> str:
    """Return what went wrong without repeating a word of it that may be secret."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
        return "its certificate is not trusted"
    if any(isinstance(each, ssl.SSLError) for each in causes):
        return "TLS failed"
    numbers = (each.errno for each in causes if isinstance(each, OSError) and each.errno and each.errno > 0)
    number = next(numbers, None)
    return os.strerror(number) if number else type(error).__name__
