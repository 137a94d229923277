"""Schedules due in one minute, each called once by http.

`last`, `first`, `p50` and `p99` are when requests were at the server, in seconds after the minute: the last
of all, the first, and the one after which half, or one in a hundred, is still to come. `CPU ms` is the
contestant's processor time for each request. `unsent` counts the schedules whose call never came.
`connections` counts those that the server has accepted. "fetch" and "http" are node's two ways to call,
with a connection for each call that waits; "at most 100" is http with no more connections than that. "100
at once" is flowsched with `limits: {concurrency: 100}` in place of its default, 20.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks import crowd
from benchmarks.harness import Contestant, Goal, Scope, left_out

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = 1_000
"""With more, a round takes from 10 to 30 seconds; yacron and cron would not be done within their minute."""
LONGER_ROUNDS = 3
"""Of those whom the goals are about."""

NODE = ("node-cron, fetch", "node-cron, http")
TUNED = "APScheduler + httpx, tuned"
LEADING = ("flowsched", "flowsched, base", "node-cron, http, at most 100", "croner, http, at most 100", TUNED)
GOALS = [
    Goal("1,000 due", "last s", 0.9, NODE),
    Goal("1,000 due", "p99 s", 0.875, NODE),
    Goal("1,000 due", "last s", 1, crowd.ANY_NODE),
    Goal("10,000 due", "last s", 1, crowd.ANY_NODE),
    Goal("10,000 due", "last s", 0.1, (TUNED,)),
    Goal("10,000 due", "last s", 13, ("flowsched",), against_case="1,000 due"),
]


def contestants(scope: Scope) -> Iterator[Contestant]:
    for count in scope.sizes(1_000, 10_000, quick=100):
        for each in _crowds(scope, count):
            few = None if count <= SHORT else LONGER_ROUNDS if each.name in LEADING else 1
            yield replace(each, rounds=each.rounds or few)


def _crowds(scope: Scope, count: int) -> Iterator[Contestant]:
    yield from crowd.ours(scope, count)
    if scope.quick:
        return
    yield from crowd.in_node(crowd.LIBRARIES, crowd.WAYS, count)
    yield crowd.contestant("APScheduler + httpx", crowd.apscheduler("asyncio"), count)
    yield crowd.contestant(TUNED, crowd.apscheduler("asyncio-tuned"), count)
    for name, how in (("", "threads"), (", tuned", "threads-tuned")):
        yield crowd.contestant(f"APScheduler, threads + httpx{name}", crowd.apscheduler(how), count)
    for name, forking in (("yacron", crowd.yacron()), ("Debian cron", crowd.cron())):
        if count <= SHORT:  # whole minutes to wait for
            yield crowd.contestant(name, forking, count, rounds=scope.long_rounds)
        else:
            yield left_out(crowd.case(count), name, "it forks for each, and is not done within the minute")
