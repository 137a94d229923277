"""Asks a daemon over its control socket."""

from __future__ import annotations

import errno
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from flowsched.control.routes import unpacked
from flowsched.control.sockets import address_of
from flowsched.control.who import BY, header_of
from flowsched.errors import FlowschedError, NoAnswer, NoDaemon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.control.documents import Document

CONNECT = 5.0
"""Real seconds that a daemon gets to take a connection."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used; without it all authorities of the machine would be read for each question."""

_START = "is `flowsched run` up, and does it use the same flowsched.yaml?"
_WHY = {
    errno.ENOENT: f"there is no socket {{path}}; {_START}",
    errno.ENOTDIR: f"there is no socket {{path}}; {_START}",
    errno.ECONNREFUSED: f"nobody listens on {{path}}; {_START}",
    errno.EACCES: "{path} is not for this user; become root or the daemon's user,"
    " or a member of the group that flowsched.yaml names (control.group)",
    errno.EAGAIN: "{path} is too busy, or the daemon behind it is stuck",
}


class Client:
    """Speaks to the daemon that listens on a socket."""

    def __init__(self, socket: str, by: str | None = None) -> None:
        """Make no connection yet. `by` is who the person at the keyboard is; None: that is not said."""
        self._socket = socket
        self._headers = {} if by is None else {BY: header_of(by)}

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        within: float | None = None,
    ) -> Document:
        """Ask, and return the document of the answer; for a GET the fields go into the query.

        `within` is how many real seconds the daemon may take to answer; None: as long as it wants. Raises
        NoDaemon where nobody took the connection, NoAnswer where somebody did and gave no answer, both with
        the reason, and else what `routes.unpacked` raises.
        """
        import httpx  # noqa: PLC0415 - heavy, and not every command needs it

        if not self._socket:
            raise NoDaemon("a daemon cannot be asked, as flowsched.yaml names no control.socket")
        fields: dict[str, Any] = {} if not body else {"params" if method == "GET" else "json": dict(body)}
        with ExitStack() as stack:
            try:
                address = stack.enter_context(address_of(self._socket))
            except OSError as error:
                raise self._nobody(error) from None
            try:
                async with httpx.AsyncClient(
                    transport=httpx.AsyncHTTPTransport(uds=address, verify=_NO_TLS),
                    base_url="http://flowsched",
                    headers=self._headers,
                    timeout=httpx.Timeout(within, connect=CONNECT),
                    trust_env=False,
                ) as client:
                    response = await client.request(method, path, **fields)
            except (httpx.TransportError, OSError) as error:
                # Only of a connection that was never made it is sure that nothing was asked.
                if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
                    raise self._nobody(error) from None
                late = isinstance(error, httpx.TimeoutException)
                raise self._no_answer(method, within if late else None) from None
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise FlowschedError(f"what answers on {self._socket} is no flowsched")
        return unpacked(response.status_code, document)

    def _nobody(self, error: Exception) -> NoDaemon:
        cause = _os_error(error)
        if cause is None or isinstance(cause, TimeoutError):
            why = _WHY[errno.EAGAIN]
        else:
            why = _WHY.get(cause.errno or 0, f"{{path}} cannot be used: {cause.strerror or cause}")
        return NoDaemon(why.format(path=self._socket))

    def _no_answer(self, method: str, within: float | None) -> NoAnswer:
        how = "has closed the connection before it answered"
        if within is not None:
            how = f"has not answered within {within:g} s"
        done = "" if method == "GET" else "; what was asked for may be done"
        return NoAnswer(f"the daemon on {self._socket} {how}{done}")


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the error of the system that is behind one of the library's; None: there is none."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
