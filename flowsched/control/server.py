"""The daemon's end of the sockets: who may ask for what, and how much."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flowsched.control.connections import PATIENCE, Listening
from flowsched.control.logins import Logins
from flowsched.control.routes import answer
from flowsched.control.sockets import control_socket, tcp_socket
from flowsched.control.who import BY, UNKNOWN, name_in, who
from flowsched.control.words import ailments, sentence, unready
from flowsched.errors import FlowschedError, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from flowsched.control.documents import Document
    from flowsched.control.ports import Wheel
    from flowsched.control.sockets import ControlSocket
    from flowsched.model import Settings

    Page = Callable[[], tuple[bytes, str]]

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024
"""Of the body of a request."""


class Server:
    """Listens on the sockets of the settings for as long as its block lasts.

    On the control socket all can be asked for; on the address `listen` only `/metrics`, `/healthz` and
    `/readyz`. Whatever goes wrong with a request concerns nobody else.
    """

    def __init__(self, settings: Settings, wheel: Wheel, metrics: Page | None = None) -> None:
        """Listen on nothing yet. `metrics` returns that page with its content type; None: there is none."""
        self._settings = settings
        self._asked = _Asked(wheel, metrics)
        self._listening = Listening()
        self._control: ControlSocket | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises ConfigError or FlowschedError where that cannot be (`sockets`)."""
        try:
            if self._settings.control_socket:
                self._control = await asyncio.to_thread(control_socket, self._settings)
                await self._listening.listen(self._control.socket, self._asked.over_the_socket())
            if self._settings.listen:
                listener = tcp_socket(*self._settings.listen)
                await self._listening.listen(listener, self._asked.over_tcp())
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._control is not None:
            self._control.remove()
        await self._listening.aclose()
        if self._control is not None:
            self._control.socket.close()


class _Asked:
    """What is asked for over either kind of socket."""

    def __init__(self, wheel: Wheel, metrics: Page | None) -> None:
        self._wheel = wheel
        self._metrics = metrics
        self._logins = Logins()

    def over_the_socket(self) -> Starlette:
        return _application(*self._open_to_all(), Route("/v1/{_:path}", self._v1, methods=_METHODS))

    def over_tcp(self) -> Starlette:
        return _application(*self._open_to_all())

    def _open_to_all(self) -> tuple[Route, ...]:
        return (
            Route("/metrics", self._metrics_page),
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
        )

    async def _metrics_page(self, _: Request) -> Response:
        if self._metrics is None:
            raise HTTPException(404, "there are no metrics")
        body, kind = self._metrics()
        return Response(body, headers={"content-type": kind})

    async def _alive(self, _: Request) -> Response:
        why = ailments(self._wheel.health())
        return JSONResponse({"alive": not why, "why": list(why)}, 503 if why else 200)

    async def _ready(self, _: Request) -> Response:
        status = self._wheel.status()
        why = unready(status)
        document = {"ready": not why, "why": list(why), "sentence": sentence(status)}
        return JSONResponse(document, 503 if why else 200)

    async def _v1(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(PATIENCE):
                body = await _body(request)
        except TimeoutError:
            return _error(408, f"the request was not there within {PATIENCE:g} s")
        except FlowschedError as error:
            return _error(400, str(error))
        by = UNKNOWN if request.method == "GET" else await _who(request, self._logins)
        status, document = await answer(self._wheel, request.method, request.scope["path"], body, by)
        return JSONResponse(document, status)


_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
"""Those that are answered at all; `routes` says which is right."""


def _application(*routes: Route) -> Starlette:
    handlers = {HTTPException: _refused, ClientDisconnect: _left, Exception: _failed}
    return Starlette(routes=list(routes), exception_handlers=handlers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as it was registered
    text = error.detail
    if error.status_code == 404 and text == "Not Found":  # noqa: PLR2004 - starlette's own words
        text = f"there is nothing at {printable(request.scope['path'])} here"
    return _error(error.status_code, text)


async def _left(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as starlette calls it
    return _error(400, "the request has no end")


async def _failed(request: Request, error: Exception) -> Response:
    path = request.scope["path"]
    log.critical("a page failed by a fault of flowsched", exc_info=error, extra={"path": path})
    return _error(500, "a fault of flowsched; its log says more")


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


async def _body(request: Request) -> Document:
    """Return the fields of a request; raises FlowschedError, or HTTPException where there are too many."""
    if request.method == "GET":
        return dict(request.query_params)
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MOST_BYTES:
            raise HTTPException(413, f"the request is too long; allowed: {MOST_BYTES} bytes")
    if not received.strip():
        return {}
    try:
        fields = json.loads(received)
    except (ValueError, RecursionError):
        raise FlowschedError("the request is not JSON; allowed: one object, in UTF-8") from None
    if not isinstance(fields, dict):
        raise FlowschedError("the request is no JSON object; allowed: one object with the fields")
    return fields


async def _who(request: Request, logins: Logins) -> str:
    """Return who asks: the user at the other end of the socket, and who the client says it is."""
    uid = request.scope.get("state", {}).get("peer")
    peer = None if uid is None else await logins.name_of(uid)
    return who(peer, name_in(request.headers.get(BY)))
