"""From 100 to 30,000 due in one minute, each called once by http.

For the plot, with 1,000 and 10,000 from `due`. The columns are those of `due`. Measured are who sends all,
and each in its quickest way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks import crowd
from benchmarks.harness import left_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Contestant, Scope

FORKING = 3_000
"""The most that yacron is done with well before the next minute."""
SHORT = 3_000
"""With more, a round takes up to a minute."""


def contestants(scope: Scope) -> Iterator[Contestant]:
    if scope.quick:  # the same as `due`, but for the sizes
        return
    for count in scope.sizes(100, 3_000, 30_000, quick=100):
        for each in _crowds(count):
            yield replace(each, rounds=each.rounds or (3 if count <= SHORT else 1))


def _crowds(count: int) -> Iterator[Contestant]:
    yield crowd.contestant("flowsched", crowd.flowsched(), count)
    yield from crowd.in_node(crowd.LIBRARIES, ["http-100"], count)
    yield crowd.contestant("APScheduler + httpx, tuned", crowd.apscheduler("asyncio-tuned"), count)
    if count <= FORKING:
        yield crowd.contestant("yacron", crowd.yacron(), count, rounds=1)
    else:
        yield left_out(crowd.case(count), "yacron", "it forks for each, and is not done within the minute")
        yield left_out(
            crowd.case(count), "node with a connection for each call", "there are 28,000 ports on loopback"
        )
