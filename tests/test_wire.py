"""The servers of the tests: they leave nothing behind that a later test would be blamed for."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from typing import TYPE_CHECKING

import pytest

from tests.receivers import Mailbox
from tests.wire import Tunnels, Wire

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("make", [Wire, Tunnels, Mailbox, lambda: Mailbox(silent=True)])
@pytest.mark.parametrize("turns", range(6))
def test_whoever_has_just_been_accepted_is_closed_with_the_server(
    make: Callable[[], Wire | Tunnels | Mailbox], turns: int
) -> None:
    async def comes_last() -> None:
        async with make() as server:
            client = socket.create_connection(("127.0.0.1", server.port))
            for _ in range(turns):
                await asyncio.sleep(0)
        client.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what others have left behind
        gc.collect()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(comes_last())
        gc.collect()

    assert [str(each.message) for each in said] == []
