from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.enos import addresses
from flowsched.enos.addresses import in_turn, opened
from flowsched.enos.reasons import reason
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "enos.example"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["1.1.1.1"], ["1.1.1.1"]),
        (["::1", "::1", "1.1.1.1", "1.1.1.1"], ["::1", "1.1.1.1"]),
        (["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"], ["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]),
        (["1.1.1.1", "1.1.1.2", "::1"], ["1.1.1.1", "::1", "1.1.1.2"]),
    ],
)
def test_the_families_are_tried_in_turn(given: list[str], expected: list[str]) -> None:
    assert in_turn(given) == expected


def resolves_to(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        assert host == HOST
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@contextmanager
def listening(address: str, port: int = 0, backlog: int = 100) -> Iterator[socket.socket]:
    with socket.create_server((address, port), backlog=backlog) as listener:
        listener.setblocking(False)
        yield listener


@contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """Have an address that neither takes nor refuses a connection: its queue is full."""
    with listening(address, port, backlog=0):
        queued = [socket.socket() for _ in range(4)]
        for one in queued:
            one.setblocking(False)
            one.connect_ex((address, port))
        yield
        for one in queued:
            one.close()


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


async def test_the_first_address_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.3") as listener, listening("127.0.0.4", port_of(listener)) as other:
        resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.4")

        transport, _ = await opened(asyncio.Protocol, HOST, port_of(listener))

        assert transport.get_extra_info("peername")[0] == "127.0.0.3"
        with pytest.raises(BlockingIOError):
            other.accept()
        transport.abort()


async def test_an_address_that_is_slow_is_waited_for_where_the_last_one_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "NEXT_ADDRESS", 0.01)
    loop = asyncio.get_running_loop()
    at_once = loop.create_connection

    async def slow_at_first(protocol: Any, address: str, port: int) -> Any:
        await asyncio.sleep(0.1 if address == "127.0.0.2" else 0)
        return await at_once(protocol, address, port)

    monkeypatch.setattr(loop, "create_connection", slow_at_first)
    with listening("127.0.0.2") as listener:
        resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3")

        transport, _ = await opened(asyncio.Protocol, HOST, port_of(listener))

        assert transport.get_extra_info("peername")[0] == "127.0.0.2"
        transport.abort()


async def test_an_address_that_is_silent_holds_up_the_next_only_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "NEXT_ADDRESS", 0.01)
    with listening("127.0.0.3") as listener, silent("127.0.0.2", port_of(listener)):
        resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3")

        transport, _ = await opened(asyncio.Protocol, HOST, port_of(listener))

        assert transport.get_extra_info("peername")[0] == "127.0.0.3"
        await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        transport.abort()


async def test_where_none_answers_it_is_said_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.3") as listener:
        port = port_of(listener)
    resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3")

    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.2"):
        await opened(asyncio.Protocol, HOST, port)


class NameServer:
    """Answers each look-up when it is told to, and notes who was looked up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers: dict[str, asyncio.Future[str]] = {}
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._getaddrinfo)

    def answer(self, host: str) -> asyncio.Future[str]:
        """Return what is to be resolved with the address, or the error, of the next look-up of a name."""
        return self._answers.setdefault(host, asyncio.get_running_loop().create_future())

    async def _getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append((host, port))
        try:
            address = await self.answer(host)
        finally:
            del self._answers[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


async def test_who_wants_a_name_that_is_being_looked_up_shares_the_look_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = NameServer(monkeypatch)
    with listening("127.0.0.3") as listener:
        for _ in range(2):  # what is known is forgotten: an address may change
            attempts = [asyncio.create_task(opened(asyncio.Protocol, HOST, port_of(listener)))]
            await eventually(lambda: names.asked != [])
            attempts.append(asyncio.create_task(opened(asyncio.Protocol, HOST, port_of(listener))))
            await asyncio.sleep(0)
            names.answer(HOST).set_result("127.0.0.3")
            for transport, _protocol in await asyncio.gather(*attempts):
                transport.abort()

            assert names.asked == [(HOST, port_of(listener))]
            names.asked.clear()


async def test_who_gives_up_does_not_end_the_look_up_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    names = NameServer(monkeypatch)
    with listening("127.0.0.3") as listener:
        first, second = (
            asyncio.create_task(opened(asyncio.Protocol, HOST, port_of(listener))) for _ in range(2)
        )
        await eventually(lambda: names.asked != [])
        first.cancel()
        await asyncio.wait([first])
        names.answer(HOST).set_result("127.0.0.3")
        transport, _ = await second
        transport.abort()

    assert first.cancelled()
    assert len(names.asked) == 1


async def test_a_name_that_hangs_is_looked_up_once_however_many_give_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = NameServer(monkeypatch)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await opened(asyncio.Protocol, HOST, 443)
        await asyncio.sleep(0)

    assert names.asked == [(HOST, 443)]


async def test_a_name_that_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    names = NameServer(monkeypatch)
    hanging = asyncio.create_task(opened(asyncio.Protocol, HOST, 443))
    with listening("127.0.0.3") as listener:
        names.answer("another.example").set_result("127.0.0.3")
        transport, _ = await opened(asyncio.Protocol, "another.example", port_of(listener))
        transport.abort()

    assert not hanging.done()
    hanging.cancel()


async def test_what_goes_wrong_is_told_to_all_who_wait_and_then_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = NameServer(monkeypatch)
    with listening("127.0.0.3") as listener:
        attempts = [asyncio.create_task(opened(asyncio.Protocol, HOST, port_of(listener))) for _ in range(2)]
        await eventually(lambda: names.asked != [])
        names.answer(HOST).set_exception(socket.gaierror(socket.EAI_AGAIN, "Try again"))
        await asyncio.wait(attempts)

        assert [reason(attempt.exception() or Exception()) for attempt in attempts] == ["Try again"] * 2
        names.answer(HOST).set_result("127.0.0.3")
        transport, _ = await opened(asyncio.Protocol, HOST, port_of(listener))
        transport.abort()


async def test_nobody_complains_of_a_look_up_that_fails_when_all_have_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, complaints = NameServer(monkeypatch), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    attempt = asyncio.create_task(opened(asyncio.Protocol, HOST, 443))
    await eventually(lambda: names.asked != [])
    attempt.cancel()
    names.answer(HOST).set_exception(socket.gaierror(socket.EAI_AGAIN, "Try again"))
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    del attempt
    gc.collect()

    assert complaints == []


async def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch)
    with listening("127.0.0.3") as listener:
        transport, _ = await opened(asyncio.Protocol, "127.0.0.3", port_of(listener))
        transport.abort()


async def test_no_socket_stays_of_those_that_lost_or_were_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "NEXT_ADDRESS", 0)
    made: list[asyncio.BaseTransport] = []

    class Noted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    with listening("127.0.0.3") as listener, listening("127.0.0.4", port_of(listener)):
        resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.4")
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            for steps in range(25):
                attempt = asyncio.create_task(opened(Noted, HOST, port_of(listener)))
                for _ in range(steps):
                    await asyncio.sleep(0)
                attempt.cancel()
                await asyncio.wait([attempt])
                kept = [] if attempt.cancelled() else [attempt.result()[0]]
                await eventually(lambda kept=kept: all(t.is_closing() for t in made if t not in kept))  # type: ignore[misc]
                for transport in kept:
                    transport.abort()
            await asyncio.sleep(0)
            gc.collect()

    assert made
