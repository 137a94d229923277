"""From 100 to 30,000 due in one minute: the last request, for the plot (with 1,000 and 10,000 from `due`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks import crowd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Contestant, Scope

FORKING = 3_000
"""The most that yacron is done with well before the next minute."""


def contestants(scope: Scope) -> Iterator[Contestant]:
    if scope.quick:  # the same as `due`, but for the sizes
        return
    for count in scope.sizes(100, 300, 3_000, 30_000, quick=100):
        yield crowd.contestant("flowsched", crowd.flowsched(), count, rounds=3)
        for each in crowd.in_node(crowd.LIBRARIES, ["http-100"], count):  # more meet the end of the ports
            yield replace(each, rounds=3)
        yield crowd.contestant(
            "APScheduler + httpx, tuned", crowd.apscheduler("asyncio-tuned"), count, rounds=scope.long_rounds
        )
        if count <= FORKING:
            yield crowd.contestant("yacron", crowd.yacron(), count, rounds=1)
