"""Trigger calls of one process to a server that answers at once.

What the gateway of flowsched costs with all that it does for a call (token, signature, meaning of the
answer), beside clients that only POST the same body, each with as many connections as there are calls at
once. `CPU` is the processor time of a call, `wall` the time of all calls over their number.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import environments
from benchmarks.harness import Contestant, Figures, Goal, Scope, fresh, told
from benchmarks.receiver import receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.receiver import Receiver

CLIENTS = ("httpx==0.28.1", "aiohttp==3.14.5")
GOALS: list[Goal] = []


def contestants(scope: Scope) -> Iterator[Contestant]:
    calls = scope.sizes(3_000, quick=100)[0]
    for tls in (False, True):
        for at_once in (20, 100):
            case = f"{at_once} at once, {'https' if tls else 'http'}"
            for name, tree in scope.trees:
                yield Contestant(case, name, partial(ours, calls, at_once, tls, tree))
            if scope.quick:
                continue
            for name in ("httpx", "aiohttp"):
                yield Contestant(
                    case, name, partial(theirs, name, calls, at_once, tls), reference=name == "aiohttp"
                )


def ours(calls: int, at_once: int, tls: bool, tree: Path, folder: Path) -> Figures:  # noqa: FBT001 - bound by name above
    with _server(folder, calls, tls=tls) as server:
        return fresh(through_gateway, server.url, server.ca_file, calls, at_once, tree=tree)


def theirs(client: str, calls: int, at_once: int, tls: bool, folder: Path) -> Figures:  # noqa: FBT001 - as above
    python = environments.python(*CLIENTS)
    script = str(environments.PEERS / "calls.py")
    with _server(folder, calls, tls=tls) as server:
        return told([python, script, client, server.url, str(calls), str(at_once), server.ca_file or ""])


@contextmanager
def _server(folder: Path, calls: int, *, tls: bool) -> Iterator[Receiver]:
    with receiver(folder, tls=tls) as server:
        yield server
        assert len(server.received().arrivals) == calls + at_first(calls)


def at_first(calls: int) -> int:
    """Return how many calls are made before time is taken: connections and tokens are there afterwards."""
    return calls // 10


def through_gateway(url: str, ca_file: str | None, calls: int, at_once: int) -> Figures:
    return asyncio.run(_through_gateway(url, ca_file, calls, at_once))


async def _through_gateway(url: str, ca_file: str | None, calls: int, at_once: int) -> Figures:
    from flowsched.clock import SystemClock  # noqa: PLC0415 - of the tree that `fresh` has chosen
    from flowsched.enos import Gateway, trigger_request  # noqa: PLC0415 - as above
    from flowsched.model import Limits, Outcome, SecretSource, Source, Target  # noqa: PLC0415 - as above

    key = SecretSource("env", "X")
    target = Target(
        name="bench",
        url=url,
        api_version="v2.1",
        org_id="o1",
        user_id="u1",
        access_key=key,
        secret_key=key,
        limits=Limits(concurrency=at_once, rate_per_minute=None),
        ca_file=ca_file,
        environment_proxy=False,
        source=Source("flowsched.yaml", 1),
    )
    gateway = Gateway(target, "access", "secret", SystemClock())
    request = trigger_request(target, 1, None, 0)

    async def call() -> None:
        async with gateway.turn() as turn:
            answer = await turn.trigger(request, 60)
        assert answer.outcome is Outcome.ACCEPTED

    async with asyncio.TaskGroup() as group:
        for _ in range(at_first(calls)):
            group.create_task(call())
    began, before = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(calls):
            group.create_task(call())
    wall, cpu = time.perf_counter() - began, time.process_time() - before
    await gateway.aclose()
    return {"CPU us": cpu / calls * 1e6, "wall us": wall / calls * 1e6}
