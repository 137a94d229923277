"""The server that every contestant calls: on loopback, in a process of its own, by http or https.

It answers at once, as EnOS would, and notes when each request was there whole, by the wall clock. As a
program,

    python receiver.py FOLDER [--tls]

it prints where it is as a line of JSON, and answers each line of its input with what has come since the one
before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 4096

_TOKEN = b'{"status":0,"msg":"success","data":{"accessToken":"%b","expire":7200}}' % (b"t" * 40)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_TOKEN_REPLY = _HEAD % (len(_TOKEN), _TOKEN)


@dataclass(slots=True)
class Received:
    """What has come since the last time somebody asked."""

    arrivals: list[float] = field(default_factory=list)
    """When each request but those for tokens was there whole: seconds of the wall clock, ascending."""
    flows: list[int] = field(default_factory=list)
    """Which flow each of them was for."""
    connections: int = 0
    handshakes: int = 0
    """Of the connections, those that came as far as a TLS handshake that succeeded."""
    resumed: int = 0
    """Of the handshakes, those that went on with a session from before."""

    def add(self, more: Received) -> None:
        """Count in what came later."""
        self.arrivals += more.arrivals
        self.flows += more.flows
        self.connections += more.connections
        self.handshakes += more.handshakes
        self.resumed += more.resumed


class Receiver:
    """The running server, as a contestant's round sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        told = self._line()
        self.url: str = told["url"]
        """Of the server, without a path."""
        self.ca_file: str | None = told["ca_file"]
        """The PEM file of who has signed its certificate; None: it speaks http."""

    def received(self) -> Received:
        """Return what has come since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Received(**self._line())

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def receiver(folder: Path, *, tls: bool = False) -> Iterator[Receiver]:
    """Have the server run inside of the block; `folder` is for its certificate."""
    command = [sys.executable, __file__, str(folder), *(["--tls"] if tls else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Receiver(process)
        finally:
            process.kill()


class _Answering(asyncio.Protocol):
    """One connection: HTTP/1.1 with Content-Length, requests one after the other."""

    received = Received()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._buffer = b""
        self.received.connections += 1
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.received.handshakes += 1
            self.received.resumed += bool(tls.session_reused)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, found, length = head.partition(b"\r\ncontent-length:")
            whole = end + 4 + (int(length.partition(b"\r\n")[0]) if found else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if b"/apim-token-service/" in head:
            self._transport.write(_TOKEN_REPLY)
            return
        self.received.arrivals.append(time.time())
        asked = json.loads(body)
        self.received.flows.append(asked["flowId"])
        self._transport.write(_accepted(asked))
        if b"\r\nconnection: close" in head:
            self._transport.close()


def _accepted(asked: dict[str, int]) -> bytes:
    at = time.gmtime(asked["triggerTime"] / 1000)
    instance = f"{asked['flowId']}-{time.strftime('%Y%m%d%H%M', at)}00".encode()
    reply = b'{"code":0,"msg":"OK","data":{"flowInstanceId":"%b"}}' % instance
    return _HEAD % (len(reply), reply)


def _certified(folder: Path) -> tuple[ssl.SSLContext, str]:
    import trustme  # noqa: PLC0415 - none of http's start

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    ca_file = str(folder / "ca.pem")
    authority.cert_pem.write_to_path(ca_file)
    return context, ca_file


async def _serve(folder: Path, *, tls: bool) -> None:
    context, ca_file = _certified(folder) if tls else (None, None)
    loop = asyncio.get_running_loop()
    patience = 120 if tls else None
    server = await loop.create_server(
        _Answering, "127.0.0.1", 0, ssl=context, backlog=BACKLOG, ssl_handshake_timeout=patience
    )
    port = server.sockets[0].getsockname()[1]
    print(
        json.dumps({"url": f"{'https' if tls else 'http'}://127.0.0.1:{port}", "ca_file": ca_file}),
        flush=True,
    )
    while await loop.run_in_executor(None, sys.stdin.readline):
        told, _Answering.received = _Answering.received, Received()
        print(json.dumps(asdict(told)), flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.folder, tls=options.tls))


if __name__ == "__main__":
    _main()
