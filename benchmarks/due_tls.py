"""The same by https: one server certificate, and who signs it handed to each; handshakes counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import crowd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Contestant, Scope


def contestants(scope: Scope) -> Iterator[Contestant]:
    for count in scope.sizes(1_000, quick=50):
        yield from crowd.ours(scope, count, tls=True)
        if scope.quick:
            continue
        yield from crowd.in_node(crowd.LIBRARIES, crowd.WAYS, count, tls=True)
        for name, how in (
            ("APScheduler + httpx", "asyncio"),
            ("APScheduler + httpx, tuned", "asyncio-tuned"),
        ):
            yield crowd.contestant(name, crowd.apscheduler(how), count, tls=True)
