"""How httpx is set up for what is not EnOS: verified, unredirected, one client a call."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from typing import TYPE_CHECKING

import httpx

from flowsched import __version__
from flowsched.alerts.tries import Tried, answered
from flowsched.config.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 20.0
"""Real seconds for a call as a whole."""

_JSON = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=0)


class _CaFileError(Exception):
    """The file with further authorities cannot be used."""


class Post:
    """Posts something, and says what came of it in words of ours: those of libraries may hold the URL."""

    def __init__(self, ca_file: str | None, *, environment_proxy: bool) -> None:
        """Trust the usual authorities and those of `ca_file`, a PEM file; None: no others."""
        for name in ("httpx", "httpcore"):  # at INFO and DEBUG they log whole URLs and headers
            logging.getLogger(name).setLevel(logging.WARNING)
        self._ca_file = ca_file
        self._environment_proxy = environment_proxy
        self._context: ssl.SSLContext | None = None

    async def __call__(self, url: str, content: bytes, headers: Mapping[str, str] | None = None) -> Tried:
        """Post once, within TIMEOUT. Raises nothing."""
        refused = _refused(url)
        if refused is not None:
            return refused
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._context is None:
                    self._context = await asyncio.to_thread(_context, self._ca_file)
                return await self._post(self._context, url, content, headers or {})
        except _CaFileError as error:
            return Tried(ok=False, detail=str(error))
        except TimeoutError:
            return Tried(ok=False, detail=f"no answer within {TIMEOUT:.0f} s")
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError, ValueError):
            return Tried(ok=False, detail="its URL or headers cannot be sent", final=True)
        except (httpx.HTTPError, OSError) as error:
            return Tried(ok=False, detail=f"no answer: {_why(error)}")

    async def _post(
        self, context: ssl.SSLContext, url: str, content: bytes, headers: Mapping[str, str]
    ) -> Tried:
        agent = {"User-Agent": f"flowsched/{__version__}"}
        async with (
            httpx.AsyncClient(
                verify=context,
                timeout=TIMEOUT,  # for each step; the bound above is for all of them
                limits=_LIMITS,
                follow_redirects=False,
                trust_env=self._environment_proxy and url.startswith("https://"),
            ) as client,
            client.stream("POST", url, content=content, headers={**_JSON, **agent, **headers}) as response,
        ):
            # What it says beside is of no use, and may be without end.
            return answered(response.status_code, response.headers.get("Retry-After"))


def _context(ca_file: str | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            why = "no certificates are in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise _CaFileError(f"cannot use {ca_file}: {why}") from None
    return context


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
