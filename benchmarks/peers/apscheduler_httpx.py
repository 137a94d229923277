"""APScheduler with httpx, a job for each schedule: apscheduler_httpx.py HOW URL COUNT AT.

HOW is `asyncio` or `threads`, each also with `-tuned`: then no grace after which a job is dropped in
silence and no limit of instances, and in asyncio there are 20 clients with a connection each, for one of
which each call waits: one client with 20 connections takes more than twice the processor time for a call.
"""

import asyncio
import os
import ssl
import sys
import time
from datetime import UTC, datetime

import httpx
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

AT_ONCE = 20
UNBOUNDED = {"misfire_grace_time": None, "coalesce": False, "max_instances": 1_000}


def body(flow: int, at: int) -> dict[str, int]:
    return {"flowId": flow, "triggerTime": at * 1000}


def trigger(at: int) -> CronTrigger:
    due = datetime.fromtimestamp(at, UTC)
    return CronTrigger(second=due.second, minute=due.minute, hour=due.hour, timezone=UTC)


def limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections)


def verify() -> ssl.SSLContext | bool:
    ca_file = os.environ.get("BENCH_CA_FILE")
    return ssl.create_default_context(cafile=ca_file) if ca_file else True


async def in_asyncio(url: str, count: int, at: int, *, tuned: bool) -> None:
    scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=UNBOUNDED if tuned else {})
    shared, context = httpx.AsyncClient(verify=verify()), verify()
    free: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
    for _ in range(AT_ONCE):
        free.put_nowait(httpx.AsyncClient(verify=context, limits=limits(1), timeout=None))  # noqa: S113 - loopback

    async def post(flow: int) -> None:
        await shared.post(f"{url}/fire", json=body(flow, at))

    async def post_in_turn(flow: int) -> None:
        client = await free.get()
        try:
            await client.post(f"{url}/fire", json=body(flow, at))
        finally:
            free.put_nowait(client)

    for flow in range(1, count + 1):
        scheduler.add_job(post_in_turn if tuned else post, trigger(at), args=[flow])
    scheduler.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


def in_threads(url: str, count: int, at: int, *, tuned: bool) -> None:
    more = {"executors": {"default": ThreadPoolExecutor(AT_ONCE)}, "job_defaults": UNBOUNDED} if tuned else {}
    scheduler = BackgroundScheduler(timezone=UTC, **more)
    client = httpx.Client(verify=verify(), **({"limits": limits(AT_ONCE), "timeout": None} if tuned else {}))

    def post(flow: int) -> None:
        client.post(f"{url}/fire", json=body(flow, at))

    for flow in range(1, count + 1):
        scheduler.add_job(post, trigger(at), args=[flow])
    scheduler.start()
    print("ready", flush=True)
    while True:
        time.sleep(60)


def main() -> None:
    how, url, count, at = sys.argv[1:]
    library, _, tuned = how.partition("-")
    if library == "asyncio":
        asyncio.run(in_asyncio(url, int(count), int(at), tuned=bool(tuned)))
    else:
        in_threads(url, int(count), int(at), tuned=bool(tuned))


if __name__ == "__main__":
    main()
