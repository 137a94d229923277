"""Schedules due in one minute, each called once by http: the last request after the minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import crowd
from benchmarks.harness import Contestant, Goal, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

FORKING = 1_000
"""How many yacron and cron are given: with ten times as many they are not done within the minute."""

NODE = ("node-cron, fetch", "node-cron, http")
TUNED = "APScheduler + httpx, tuned"
GOALS = [
    Goal("1,000 due", "last s", 0.9, NODE),
    Goal("1,000 due", "p99 s", 0.875, NODE),
    Goal("10,000 due", "last s", 0.1, (TUNED,)),
    Goal("10,000 due", "last s", 13, ("flowsched",), against_case="1,000 due"),
]


def contestants(scope: Scope) -> Iterator[Contestant]:
    for count in scope.sizes(1_000, 10_000, quick=100):
        yield from crowd.ours(scope, count)
        if scope.quick:
            continue
        yield from crowd.in_node(crowd.LIBRARIES, crowd.WAYS, count)
        few = None if count <= FORKING else scope.long_rounds  # long silences to wait for
        yield crowd.contestant("APScheduler + httpx", crowd.apscheduler("asyncio"), count, rounds=few)
        yield crowd.contestant(TUNED, crowd.apscheduler("asyncio-tuned"), count)
        for name, how in (("", "threads"), (", tuned", "threads-tuned")):
            crew = crowd.apscheduler(how)
            yield crowd.contestant(f"APScheduler, threads + httpx{name}", crew, count, rounds=few)
        if count <= FORKING:  # whole minutes to wait for
            yield crowd.contestant("yacron", crowd.yacron(), count, rounds=scope.long_rounds)
            yield crowd.contestant("Debian cron", crowd.cron(), count, rounds=scope.long_rounds)
