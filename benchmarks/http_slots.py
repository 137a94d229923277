"""How many trigger calls a second: the gateway's slots against the other ways to use httpx.

    .venv/bin/python benchmarks/http_slots.py [--calls 1000] [--tls]

A server in another process answers each call after 20 ms. All calls are thrown at the client at once, as
they are when many schedules are due in one minute. Then, for each way, 6 seconds of calls that are
cancelled after 5 to 25 ms, and the question how many of ten ordinary calls still work.
"""

# ruff: noqa: D102, D103, INP001, T201 - a script that prints a table

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import trustme

from flowsched.clock import SystemClock
from flowsched.enos import Gateway, trigger_request
from flowsched.model import Limits, Outcome, SecretSource, Source, Target

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Send = Callable[[float], Awaitable[bool]]
"""One call under a deadline in seconds: did it work?"""

DELAY = 0.02
BODY = json.dumps(
    {
        "status": 0,
        "code": 0,
        "data": {"flowInstanceId": "1-20260101000000", "accessToken": "t" * 40, "expire": 7200},
    }
).encode()
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Answering(asyncio.Protocol):
    """Answers whatever ends like one of our bodies."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what TCP gives
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):
            asyncio.get_running_loop().call_later(DELAY, self.answer)

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(REPLY)


def serve(port: Connection, tls: ssl.SSLContext | None) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0, ssl=tls, backlog=1000)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def a_target(url: str, concurrency: int, ca_file: str) -> Target:
    key = SecretSource("env", "X")
    return Target(
        name="bench",
        url=url,
        api_version="v2.1",
        org_id="o1",
        user_id="u1",
        access_key=key,
        secret_key=key,
        limits=Limits(concurrency=concurrency, rate_per_minute=None),
        ca_file=ca_file,
        environment_proxy=False,
        source=Source("flowsched.yaml", 1),
    )


def slots(stack: AsyncExitStack, target: Target) -> Send:
    gateway = Gateway(target, "access", "secret", SystemClock())
    stack.push_async_callback(gateway.aclose)
    request = trigger_request(target, 1, None, 0)

    async def send(deadline: float) -> bool:
        async with gateway.turn() as turn:
            return (await turn.trigger(request, deadline)).outcome is Outcome.ACCEPTED

    return send


def client_per_attempt(_: AsyncExitStack, target: Target) -> Send:
    tls = ssl.create_default_context(cafile=target.ca_file)
    turns = asyncio.Semaphore(target.limits.concurrency)

    limits = httpx.Limits(max_connections=1, max_keepalive_connections=0)

    async def send(deadline: float) -> bool:
        client = httpx.AsyncClient(verify=tls, trust_env=False, timeout=None, limits=limits)  # noqa: S113 - as below
        async with turns, client:
            return await post(client, target, deadline)

    return send


def shared_pool(stack: AsyncExitStack, target: Target) -> Send:
    most = target.limits.concurrency
    client = httpx.AsyncClient(
        verify=ssl.create_default_context(cafile=target.ca_file),
        trust_env=False,
        timeout=None,  # noqa: S113 - the deadline is around it
        limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
    )
    stack.push_async_callback(client.aclose)

    async def send(deadline: float) -> bool:
        return await post(client, target, deadline)

    return send


WAYS = (slots, client_per_attempt, shared_pool)


async def post(client: httpx.AsyncClient, target: Target, deadline: float) -> bool:
    request = trigger_request(target, 1, None, 0)
    try:
        async with asyncio.timeout(deadline):
            reply = await client.post(target.url + request.url_target, content=request.body)
    except (TimeoutError, httpx.HTTPError):
        return False
    return reply.status_code == httpx.codes.OK


async def burst(send: Send, calls: int) -> tuple[float, float]:
    """Return calls a second, and the seconds after which 99 of 100 were answered."""
    start = time.perf_counter()
    ended: list[float] = []

    async def one() -> None:
        if not await send(600):
            raise SystemExit("a call failed")
        ended.append(time.perf_counter() - start)

    await asyncio.gather(*(one() for _ in range(calls)))
    return calls / max(ended), sorted(ended)[int(len(ended) * 0.99)]


async def survivors(send: Send, concurrency: int, seconds: float = 6) -> int:
    """Return how many of ten calls work after a storm of cancelled ones."""
    end = time.perf_counter() + seconds

    async def storm(number: int) -> None:
        while time.perf_counter() < end:
            await send(0.005 + 0.02 * (number % 10) / 10)

    await asyncio.gather(*(storm(number) for number in range(2 * concurrency)))
    worked = [asyncio.wait_for(send(3), 3) for _ in range(10)]
    return sum(result is True for result in await asyncio.gather(*worked, return_exceptions=True))


async def measure(url: str, ca_file: str, calls: int) -> None:
    print(f"{'':20} {'at once':>8} {'calls/s':>8} {'99 % after s':>13}")
    for way in WAYS:
        for concurrency in (20, 100):
            async with AsyncExitStack() as stack:
                rate, late = await burst(way(stack, a_target(url, concurrency, ca_file)), calls)
            print(f"{way.__name__:20} {concurrency:8} {rate:8.0f} {late:13.2f}")
    for way in WAYS:
        async with AsyncExitStack() as stack:
            left = await survivors(way(stack, a_target(url, 10, ca_file)), 10)
        print(f"{way.__name__:20} after a storm of cancelled calls {left} of 10 work")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if options.tls else None
    if tls is not None:
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(theirs, tls), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        scheme = "https" if options.tls else "http"
        asyncio.run(measure(f"{scheme}://127.0.0.1:{ours.recv()}", str(ca_file), options.calls))
    server.terminate()


if __name__ == "__main__":
    main()
