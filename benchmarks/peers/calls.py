"""POSTs by a shared client: calls.py httpx|aiohttp URL CALLS AT_ONCE CA_FILE; prints its figures as JSON."""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Awaitable, Callable

BODY = b'{"flowId":1,"triggerTime":0}'
HEADERS = {"content-type": "application/json", "accept": "application/json"}
Post = Callable[[], Awaitable[bool]]


async def by_httpx(
    url: str, at_once: int, tls: ssl.SSLContext | None, then: Callable[[Post], Awaitable[None]]
) -> None:
    import httpx  # noqa: PLC0415 - one client only

    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(verify=tls or True, limits=limits, timeout=None) as client:  # noqa: S113 - loopback

        async def post() -> bool:
            reply = await client.post(f"{url}/flows", content=BODY, headers=HEADERS)
            return b"flowInstanceId" in reply.content

        await then(post)


async def by_aiohttp(
    url: str, at_once: int, tls: ssl.SSLContext | None, then: Callable[[Post], Awaitable[None]]
) -> None:
    import aiohttp  # noqa: PLC0415 - one client only

    connector = aiohttp.TCPConnector(limit=at_once, ssl=tls or True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post() -> bool:
            async with session.post(f"{url}/flows", data=BODY, headers=HEADERS) as reply:
                return b"flowInstanceId" in await reply.read()

        await then(post)


async def timed(post: Post, calls: int, at_once: int) -> None:
    """Keep `at_once` under way; a pool slows down with all that wait in it."""

    async def some(count: int) -> None:
        for _ in range(count):
            assert await post()

    async def all_of(count: int) -> None:
        shares = [count // at_once + (number < count % at_once) for number in range(at_once)]
        await asyncio.gather(*map(some, shares))

    await all_of(calls // 10)
    began, before = time.perf_counter(), time.process_time()
    await all_of(calls)
    wall, cpu = time.perf_counter() - began, time.process_time() - before
    print(json.dumps({"CPU us": cpu / calls * 1e6, "wall us": wall / calls * 1e6}))


def main() -> None:
    client, url, calls, at_once, ca_file = sys.argv[1:]
    tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
    way = {"httpx": by_httpx, "aiohttp": by_aiohttp}[client]
    asyncio.run(way(url, int(at_once), tls, lambda post: timed(post, int(calls), int(at_once))))


if __name__ == "__main__":
    main()
