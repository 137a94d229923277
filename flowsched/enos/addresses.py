"""A TCP connection to a host, by whichever of its addresses answers first (RFC 8305, happy eyeballs).

asyncio has the same, which loses the socket of a race that is won while it is cancelled.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import FIRST_COMPLETED
from collections import Counter, deque
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Opened = tuple[asyncio.Transport, "Spoken"]
    Wanted = tuple[asyncio.AbstractEventLoop, str, int]

Spoken = TypeVar("Spoken", bound=asyncio.Protocol)

NEXT_ADDRESS = 0.25
"""Seconds after which the next address is tried beside those that have not answered."""

_under_way: dict[Wanted, asyncio.Task[list[str]]] = {}
"""The look-ups of each loop that have not ended, by host and port.

None can be stopped, and each keeps a thread: a name that hangs and is wanted again and again must not take
them all.
"""


async def opened(protocol: Callable[[], Spoken], host: str, port: int) -> Opened[Spoken]:
    """Return an open connection. Raises OSError: of the first address, where none answers.

    Then, and cancelled, no socket stays.
    """
    addresses = await _addresses(host, port)
    if len(addresses) == 1:
        return await _opened_by(protocol, addresses[0], port)
    return await _first(protocol, addresses, port)


def in_turn(addresses: Iterable[str]) -> list[str]:
    """Return each address once, those of IPv6 and of IPv4 in turn, the first as it was."""
    ranks: Counter[bool] = Counter()
    ranked = []
    for address in dict.fromkeys(addresses):
        is_v6 = ":" in address
        ranked.append((ranks[is_v6], address))
        ranks[is_v6] += 1
    return [address for _, address in sorted(ranked, key=lambda pair: pair[0])]


async def _addresses(host: str, port: int) -> list[str]:
    with suppress(ValueError):
        return [str(ip_address(host))]
    # Not while that error is handled: it would be the cause of what goes wrong here.
    return await _shared_look_up(host, port)


async def _shared_look_up(host: str, port: int) -> list[str]:
    """Look up the name, or wait for who is doing so: what comes of it is told to all who wait by then."""
    wanted = (asyncio.get_running_loop(), host, port)
    look_up = _under_way.get(wanted)
    if look_up is None:
        look_up = _under_way[wanted] = asyncio.create_task(_looked_up(host, port))
        look_up.add_done_callback(partial(_forget, wanted))
    # Not awaited itself: whoever gives up would end it for the others.
    await asyncio.wait((look_up,))
    return look_up.result()


async def _looked_up(host: str, port: int) -> list[str]:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return in_turn(str(address[0]) for *_, address in infos)


def _forget(wanted: Wanted, look_up: asyncio.Task[list[str]]) -> None:
    del _under_way[wanted]
    if not look_up.cancelled():
        look_up.exception()  # asyncio complains of one that nobody has asked for


async def _opened_by(protocol: Callable[[], Spoken], address: str, port: int) -> Opened[Spoken]:
    return await asyncio.get_running_loop().create_connection(protocol, address, port)


async def _first(protocol: Callable[[], Spoken], addresses: list[str], port: int) -> Opened[Spoken]:
    left = deque(addresses)
    tries: list[asyncio.Task[Opened[Spoken]]] = []
    waiting: set[asyncio.Task[Opened[Spoken]]] = set()
    winner = None
    try:
        while left or waiting:
            if left:
                tries.append(asyncio.create_task(_opened_by(protocol, left.popleft(), port)))
                waiting.add(tries[-1])
            within = NEXT_ADDRESS if left else None
            done, waiting = await asyncio.wait(waiting, timeout=within, return_when=FIRST_COMPLETED)
            winner = next((task for task in done if task.exception() is None), None)
            if winner is not None:
                return winner.result()
        return tries[0].result()
    finally:
        for task in tries:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_drop)


def _drop(task: asyncio.Task[Opened[Spoken]]) -> None:
    """Close what a try has opened that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        task.result()[0].abort()
