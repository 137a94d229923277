"""The same by https.

All have the same server certificate, and are told who signed it. The columns are those of `due`;
`handshakes` counts those that succeeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import crowd
from benchmarks.harness import Goal, left_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Contestant, Scope

NODE = tuple(name for name in crowd.ANY_NODE if name.startswith("node-cron"))
GOALS = [Goal(crowd.case(1_000, tls=True), "last s", 1, NODE)]
LEFT_OUT = {
    "croner": "its calls are the same calls of node as node-cron's",
    "APScheduler + httpx": "it drops most of the calls, as it does by http",
    "APScheduler, threads + httpx; yacron; Debian cron": "`due` has them, and https makes none faster",
}


def contestants(scope: Scope) -> Iterator[Contestant]:
    for count in scope.sizes(1_000, quick=50):
        yield from crowd.ours(scope, count, tls=True)
        if scope.quick:
            continue
        yield from crowd.in_node(["node-cron"], crowd.WAYS, count, tls=True)
        tuned = crowd.apscheduler("asyncio-tuned")
        yield crowd.contestant("APScheduler + httpx, tuned", tuned, count, tls=True)
        for name, why in LEFT_OUT.items():
            yield left_out(crowd.case(count, tls=True), name, why)
