from __future__ import annotations

import asyncio
import errno
import gc
import socket
import ssl
import warnings
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trustme

from flowsched.enos import connections
from flowsched.enos.calls import Call, Progress
from flowsched.enos.connections import LONGEST_HEAD, MOST_INTERIM, MOST_PIECES, connect
from flowsched.enos.messages import request_of
from flowsched.enos.proxies import Proxy
from flowsched.enos.reasons import reason
from flowsched.enos.replies import LONGEST_BODY, NoReply, Reply
from flowsched.enos.slots import Slot
from flowsched.enos.ways import Way
from tests.fakes import eventually
from tests.wire import Farewell, Tunnels, Wire, drips, falls_silent, hangs_up, resets, response, says, writes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.wire import Act

A_CALL = Call("POST", "/x?a=b", {"apim-accesstoken": "tok"}, b'{"flowId":1}')


def a_way(url: str, tls: ssl.SSLContext | None = None, proxy: Proxy | None = None) -> Way:
    parts = urlsplit(url)
    return Way(parts.hostname or "", parts.port or 443, tls, proxy)


@asynccontextmanager
async def a_slot(
    url: str, tls: ssl.SSLContext | None = None, proxy: Proxy | None = None
) -> AsyncIterator[Slot]:
    slot = Slot(a_way(url, tls, proxy))
    yield slot
    slot.close()


@asynccontextmanager
async def a_listener() -> AsyncIterator[tuple[socket.socket, str]]:
    """A server by hand, for what the loop must not have a part in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def served_by(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# --- nothing is sent


async def no_reply(slot: Slot, call: Call = A_CALL) -> tuple[str, Progress]:
    progress = Progress()
    reply = await slot.send(call, progress)
    assert isinstance(reply, NoReply)
    return reply.detail, progress


async def test_a_refused_connection_is_not_sent() -> None:
    async with Wire() as wire:
        url = wire.url

    async with a_slot(url) as slot:
        detail, progress = await no_reply(slot)

    assert detail == f"Connection refused, while connecting to {url.removeprefix('http://')}"
    assert not progress.sent


async def test_a_proxy_that_refuses_is_named_without_its_credentials() -> None:
    async with Wire() as wire:
        port = int(wire.url.rpartition(":")[2])

    proxy = Proxy("127.0.0.1", port, by_tls=False, authorization="Basic dTpw")
    async with a_slot("https://enos.example", ssl.create_default_context(), proxy) as slot:
        detail, _ = await no_reply(slot)

    assert detail == f"Connection refused, while connecting to the proxy 127.0.0.1:{port}"


def test_a_reason_has_no_full_stop_for_the_sentence_goes_on() -> None:
    assert reason(ConnectionError("it is gone.")) == "it is gone"
    assert reason(ConnectionError("...")) == "ConnectionError"


async def test_a_name_that_nobody_has_is_not_sent() -> None:
    async with a_slot("https://no-such-host.invalid") as slot:
        detail, progress = await no_reply(slot)

    assert detail.endswith(", while connecting to no-such-host.invalid:443")
    assert not progress.sent


@pytest.mark.parametrize("speech", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_handshake_that_fails_is_not_sent(authority: trustme.CA, speech: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(speech)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with a_slot(f"https://127.0.0.1:{port}", trusting(authority)) as slot:
            detail, progress = await no_reply(slot)

    assert detail.endswith(f", in the TLS handshake with 127.0.0.1:{port}")
    assert not detail.startswith(",")
    assert not progress.sent


@pytest.mark.parametrize(
    "call",
    [
        Call("POST", "/x", {"apim-accesstoken": "se\r\nX: cret"}, b""),
        Call("POST", "/x", {"apim-accesstoken": "se\ncret"}, b""),
        Call("POST", "/x", {"apim-accesstoken": "se\x00cret"}, b""),
        Call("POST", "/x", {"apim-accesstoken": "secr\u00e9t"}, b""),
        Call("POST", "/se cret", {}, b""),
        Call("POST", "/x\r\nX: secret", {}, b""),
    ],
)
async def test_what_does_not_fit_into_http_is_neither_sent_nor_shown(call: Call) -> None:
    async with Wire() as wire, a_slot(wire.url) as slot:
        detail, progress = await no_reply(slot, call)

    assert detail == "the request does not fit into HTTP"
    assert not progress.sent
    assert (wire.heard, wire.connections) == ([], 0)


async def test_sending_is_noted_before_the_first_byte_leaves() -> None:
    async with a_listener() as (listener, url), a_slot(url) as slot:
        arrived: list[bytes | str] = []

        def look() -> None:
            connection, _ = listener.accept()
            connection.setblocking(False)
            try:
                arrived.append(connection.recv(1))
            except BlockingIOError:
                arrived.append("nothing")
            connection.close()

        progress = Progress(on_sending=look)
        reply = await slot.send(A_CALL, progress)

    assert isinstance(reply, NoReply)
    assert arrived == ["nothing"]
    assert progress.sent


async def test_a_fault_while_that_is_noted_counts_as_sent() -> None:
    def break_() -> None:
        raise ValueError("clock")

    async with Wire() as wire, a_slot(wire.url) as slot:
        progress = Progress(on_sending=break_)
        reply = await slot.send(A_CALL, progress)
        await wire.until_all_are_closed()

    assert reply == NoReply("clock, while sending")
    assert progress.sent


async def test_a_server_that_speaks_before_it_is_asked_is_not_sent_to() -> None:
    async with a_listener() as (listener, url):
        progress = Progress()
        connection = await connect(a_way(url), progress)
        with (await asyncio.get_running_loop().sock_accept(listener))[0] as server:
            server.send(response(200, b"{}"))
            await eventually(connection._socket.is_closing)
            request = request_of(A_CALL, "h")
            assert request is not None
            with pytest.raises(ConnectionError, match="closed before the request"):
                await connection.exchange(request, LONGEST_BODY, progress)

    assert not progress.sent


async def test_a_server_that_speaks_before_tls_is_not_waited_for(authority: trustme.CA) -> None:
    async with a_listener() as (listener, url):
        connection = await connect(a_way(url), Progress())
        with (await asyncio.get_running_loop().sock_accept(listener))[0] as server:
            server.send(b"220 ready\r\n")
            await eventually(connection._socket.is_closing)
            with pytest.raises(ConnectionError, match="closed before the request"):
                async with asyncio.timeout(5):
                    await connection.secured(trusting(authority), "127.0.0.1")


async def test_a_server_that_says_goodbye_with_the_end_of_the_handshake_is_not_sent_to(
    authority: trustme.CA,
) -> None:
    tls = served_by(authority)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones leave the last word of the handshake to us
    async with Farewell(tls) as server, a_slot(server.url, trusting(authority)) as slot:
        detail, progress = await no_reply(slot)

    assert detail == f"{CLOSED}, in the TLS handshake with {server.url.removeprefix('https://')}"
    assert not progress.sent


# --- no reply, or a part of one


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        (hangs_up, "the server closed the connection without a reply, while waiting for the reply"),
        (resets, "Connection reset by peer, while waiting for the reply"),
        (writes(b"rubbish\r\n\r\n", then_close=True), "illegal status line"),
        (writes(b"HTTP/1.1 200 O", then_close=True), "while waiting for the reply"),
        (writes(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"), "illegal header line"),
        (writes(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), "while waiting for the reply"),
        (writes(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000), "while waiting for the reply"),
        (writes(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"), "while waiting for the reply"),
        (writes(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "while waiting for the reply"),
        (
            writes(b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000),
            f"more than {MOST_INTERIM} interim replies, while waiting for the reply",
        ),
        (
            writes((b"HTTP/1.1 103 Early Hints\r\n" + b"a:\r\n" * 9_000 + b"\r\n") * 4),
            "more than 100 KiB of headers, while waiting for the reply",
        ),
        (
            writes(
                b"HTTP/1.1 103 Early Hints\r\nX: %(x)b\r\n\r\nHTTP/1.1 204 None\r\nX: %(x)b\r\n\r\n"
                % {b"x": b"x" * (LONGEST_HEAD // 2)}
            ),
            "more than 100 KiB of headers, while waiting for the reply",
        ),
    ],
)
async def test_a_call_without_a_status_line_was_sent(act: Act, detail: str) -> None:
    async with Wire(act) as wire, a_slot(wire.url) as slot:
        found, progress = await no_reply(slot)
        await wire.until_all_are_closed()

    assert detail in found
    assert progress.sent


@pytest.mark.parametrize(
    ("act", "flaw"),
    [
        (writes(response(200, b"{}" * 20)[:-7], then_close=True), "cut off (peer closed connection"),
        (writes(response(200, b"x" * (LONGEST_BODY + 1))), "longer than 64 KiB"),
        (writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "cut off (illegal chunk"),
        (
            writes(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 2 * LONGEST_HEAD
            ),
            "cut off (",
        ),
        (writes(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LONGEST_BODY + 1)), "longer than 64 KiB"),
        (
            writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 60_000),
            "in more than 10000 pieces",
        ),
    ],
)
async def test_a_status_line_is_kept_though_the_body_is_not_whole(act: Act, flaw: str) -> None:
    async with Wire(act) as wire, a_slot(wire.url) as slot:
        reply = await slot.send(A_CALL, Progress())
        await wire.until_all_are_closed()

    assert isinstance(reply, Reply)
    assert reply.http_status == 200
    assert reply.flaw is not None
    assert reply.flaw.startswith(flaw)


async def test_a_reset_after_the_status_line_is_a_flaw() -> None:
    async def act(writer: asyncio.StreamWriter) -> None:
        await writes(response(200, b"{}" * 20)[:-7])(writer)
        await eventually(lambda: progress.stage == "while reading the reply")
        await resets(writer)

    progress = Progress()
    async with Wire(act) as wire, a_slot(wire.url) as slot:
        reply = await slot.send(A_CALL, progress)

    assert isinstance(reply, Reply)
    assert reply.flaw == "cut off (Connection reset by peer)"


async def test_a_body_of_just_the_longest_size_is_whole() -> None:
    async with Wire(says(200, b"x" * LONGEST_BODY)) as wire, a_slot(wire.url) as slot:
        reply = await slot.send(A_CALL, Progress())

    assert reply == Reply(200, b"x" * LONGEST_BODY)


async def test_a_body_in_just_the_most_pieces_is_whole() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = writes(head + b"1\r\nx\r\n" * MOST_PIECES + b"0\r\n\r\n")
    async with Wire(answer) as wire, a_slot(wire.url) as slot:
        for _ in range(2):
            assert await slot.send(A_CALL, Progress()) == Reply(200, b"x" * MOST_PIECES)

    assert wire.connections == 1


async def test_a_body_in_many_pieces_is_taken_in_several_rounds_of_the_loop() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = writes(head + b"1\r\nx\r\n" * 5_000)
    lengths = set()
    async with Wire(answer) as wire, a_slot(wire.url) as slot:
        connection = await connect(slot._way, Progress())
        call = asyncio.create_task(connection.exchange(b"GET / HTTP/1.1\r\n\r\n", LONGEST_BODY, Progress()))
        await asyncio.sleep(0)
        while connection._heard is not None and len(connection._heard.body) < 5_000:
            lengths.add(len(connection._heard.body))
            await asyncio.sleep(0)
        call.cancel()
        connection.close()

    assert all(later - earlier <= 500 for earlier, later in pairwise(sorted({*lengths, 5_000})))


async def test_a_body_in_many_pieces_is_whole_where_tls_says_goodbye_with_it(authority: trustme.CA) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = head + b"1\r\nx\r\n" * 9_000 + b"0\r\n\r\n"
    async with (
        Farewell(served_by(authority), lambda: answer) as server,
        a_slot(server.url, trusting(authority)) as slot,
    ):
        assert await slot.send(A_CALL, Progress()) == Reply(200, b"x" * 9_000)


@pytest.mark.parametrize(
    ("body", "encoding", "reply"),
    [
        (b"\x1f\x8b", "gzip", Reply(400, b"", "in an encoding that was not asked for")),
        (b"{}", "identity, br", Reply(400, b"", "in an encoding that was not asked for")),
        (b"{}", "Identity", Reply(400, b"{}")),
        (b"", "gzip", Reply(400, b"")),
    ],
)
async def test_a_body_that_is_encoded_cannot_be_read(body: bytes, encoding: str, reply: Reply) -> None:
    async with Wire(says(400, body, Content_Encoding=encoding)) as wire, a_slot(wire.url) as slot:
        assert await slot.send(A_CALL, Progress()) == reply


async def test_a_body_without_end_is_not_read_on() -> None:
    async with Wire(writes(response(200, b"x" * 50_000_000))) as wire, a_slot(wire.url) as slot:
        reply = await slot.send(A_CALL, Progress())
        await wire.until_all_are_closed()

    assert isinstance(reply, Reply)
    assert len(reply.body) < LONGEST_BODY + 300_000  # what comes in one go


async def test_a_server_that_takes_nothing_is_being_sent_to() -> None:
    async with a_listener() as (_, url), a_slot(url) as slot:
        progress = Progress()
        call = asyncio.create_task(slot.send(Call("POST", "/", {}, b"x" * 20_000_000), progress))
        await eventually(lambda: progress.sent)
        call.cancel()
        await asyncio.wait([call])

    assert progress.stage == "while sending"


async def test_a_reply_that_comes_before_the_request_is_whole_counts_and_ends_the_connection() -> None:
    async with a_listener() as (listener, url), a_slot(url) as slot:
        call = asyncio.create_task(slot.send(Call("POST", "/", {}, b"x" * 20_000_000), Progress()))
        server, _ = await asyncio.get_running_loop().sock_accept(listener)
        with server:
            server.send(response(413, b""))
            reply = await call
            assert slot._kept is None

    assert reply == Reply(413, b"")


# --- a connection that is kept, and one that is not


@pytest.mark.parametrize("act", [says(200, {}), writes(b"HTTP/1.1 204 None\r\n\r\n"), says(500, b"")])
async def test_a_connection_is_used_again_after_a_whole_reply(act: Act) -> None:
    async with Wire(act) as wire, a_slot(wire.url) as slot:
        for _ in range(3):
            await slot.send(A_CALL, Progress())

    assert len(wire.heard) == 3
    assert wire.connections == 1


@pytest.mark.parametrize(
    ("act", "reply"),
    [
        (says(200, {}, Connection="close"), Reply(200, b"{}")),
        (writes(response(200, b"{}").replace(b"HTTP/1.1", b"HTTP/1.0")), Reply(200, b"{}")),
        (writes(b"HTTP/1.0 200 OK\r\n\r\n{}", then_close=True), Reply(200, b"{}")),
        (writes(response(200, b"{}") + response(200, b"{ }")), Reply(200, b"{}")),
        (writes(b"HTTP/1.1 204 None\r\n\r\nrest"), Reply(204, b"")),
        (writes(b"HTTP/1.1 304 Same\r\nContent-Length: 4\r\n\r\nrest"), Reply(304, b"")),
    ],
)
async def test_a_whole_reply_after_which_the_connection_is_not_used(act: Act, reply: Reply) -> None:
    async with Wire(act) as wire, a_slot(wire.url) as slot:
        replies = [await slot.send(A_CALL, Progress()) for _ in range(2)]

    assert replies == [reply, reply]
    assert [heard.connection for heard in wire.heard] == [1, 2]


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with Wire(writes(response(200, b"{}"), then_close=True)) as wire, a_slot(wire.url) as slot:
        await slot.send(A_CALL, Progress())
        await wire.until_all_are_closed()
        reply = await slot.send(A_CALL, Progress())

    assert isinstance(reply, Reply)
    assert wire.connections == 2


@pytest.mark.parametrize("last_word", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
async def test_what_arrives_on_a_kept_connection_is_seen_before_the_loop_has_come_round_to_it(
    last_word: bytes,
) -> None:
    loop = asyncio.get_running_loop()
    async with a_listener() as (listener, url), a_slot(url) as slot:
        first = asyncio.create_task(slot.send(A_CALL, Progress()))
        server, _ = await loop.sock_accept(listener)
        await loop.sock_recv(server, 10_000)
        server.send(response(200, b"{}"))
        await first

        if last_word:
            server.send(last_word)
        else:
            server.close()
        second = asyncio.create_task(slot.send(A_CALL, Progress()))
        other, _ = await loop.sock_accept(listener)
        await loop.sock_recv(other, 10_000)
        other.send(response(200, b"[]"))

        assert await second == Reply(200, b"[]")
        server.close()
        other.close()


async def test_a_connection_on_which_tls_said_goodbye_with_the_reply_is_not_kept(
    authority: trustme.CA,
) -> None:
    """The connection beneath is open for some more rounds of the loop."""
    answer = response(200, b"{}")
    async with (
        Farewell(served_by(authority), lambda: answer) as server,
        a_slot(server.url, trusting(authority)) as slot,
    ):
        for _ in range(2):
            assert await slot.send(A_CALL, Progress()) == Reply(200, b"{}")
            assert slot._kept is None

    assert len(server.heard) == 2


async def test_a_kept_connection_that_was_lost_meanwhile_is_not_used() -> None:
    async def act(writer: asyncio.StreamWriter) -> None:
        await says(200, {})(writer)
        await eventually(lambda: slot._kept is not None)
        await resets(writer)

    async with Wire(act, says(200, {})) as wire, a_slot(wire.url) as slot:
        await slot.send(A_CALL, Progress())
        kept = slot._kept
        assert kept is not None
        await eventually(kept._socket.is_closing)

        assert await slot.send(A_CALL, Progress()) == Reply(200, b"{}")


async def test_a_kept_connection_whose_call_was_cancelled_is_not_used() -> None:
    async with Wire(says(200, {}), falls_silent, says(200, {})) as wire, a_slot(wire.url) as slot:
        await slot.send(A_CALL, Progress())
        call = asyncio.create_task(slot.send(A_CALL, Progress()))
        await eventually(lambda: len(wire.heard) == 2)
        call.cancel()
        await asyncio.wait([call])

        assert slot._kept is None
        assert await slot.send(A_CALL, Progress()) == Reply(200, b"{}")

    assert [heard.connection for heard in wire.heard] == [1, 1, 2]


async def test_what_arrives_unasked_closes_a_kept_connection() -> None:
    async def act(writer: asyncio.StreamWriter) -> None:
        await says(200, {})(writer)
        await eventually(lambda: slot._kept is not None)
        await says(200, {"late": 1})(writer)

    async with Wire(act) as wire, a_slot(wire.url) as slot:
        await slot.send(A_CALL, Progress())
        await wire.until_all_are_closed()


async def test_a_connection_that_lay_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Wire() as wire, a_slot(wire.url) as slot:
        await slot.send(A_CALL, Progress())
        monkeypatch.setattr(connections, "KEEP_IDLE", -1.0)
        await slot.send(A_CALL, Progress())

    assert wire.connections == 2


async def test_a_connection_that_dies_under_a_call_is_not_replaced() -> None:
    async with Wire(says(200, {}), hangs_up, says(200, {})) as wire, a_slot(wire.url) as slot:
        await slot.send(A_CALL, Progress())
        _, progress = await no_reply(slot)

        assert len(wire.heard) == 2
    assert progress.sent


@pytest.mark.parametrize(
    "act", [falls_silent, drips(response(200, b"{}")), drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 99, 0)]
)
async def test_a_slot_works_again_after_a_call_was_cancelled(act: Act) -> None:
    async with Wire(act, says(200, {})) as wire, a_slot(wire.url) as slot:
        call = asyncio.create_task(slot.send(A_CALL, Progress()))
        await eventually(lambda: wire.heard)
        call.cancel()
        await asyncio.wait([call])
        reply = await slot.send(A_CALL, Progress())

        await eventually(lambda: wire.open_connections == 1)

    assert call.cancelled()
    assert reply == Reply(200, b"{}")
    assert wire.connections == 2


async def test_closing_waits_for_no_goodbye_of_tls(authority: trustme.CA) -> None:
    """The other side never reads, so never says goodbye either; asyncio would wait half a minute for it."""
    async with Wire(tls=served_by(authority)) as wire, a_slot(wire.url, trusting(authority)) as slot:
        await slot.send(A_CALL, Progress())
        assert slot._kept is not None
        raw = slot._kept._socket.get_extra_info("socket")

        slot.close()
        await asyncio.sleep(0)

        assert raw.fileno() == -1


async def test_a_tls_handshake_that_is_cancelled_leaves_no_socket(authority: trustme.CA) -> None:
    loop = asyncio.get_running_loop()
    async with a_listener() as (listener, url), a_slot(url, trusting(authority)) as slot:
        progress = Progress()
        call = asyncio.create_task(slot.send(A_CALL, progress))
        connection, _ = await loop.sock_accept(listener)
        hello = await loop.sock_recv(connection, 10_000)

        call.cancel()
        await asyncio.wait([call])

        with connection:
            assert hello.startswith(b"\x16")
            assert await loop.sock_recv(connection, 10_000) == b""
    assert progress.stage == f"in the TLS handshake with {url.removeprefix('http://')}"
    assert not progress.sent


@pytest.mark.parametrize("by_tls", [False, True])
async def test_a_call_that_is_cancelled_at_any_step_leaves_no_socket(
    authority: trustme.CA, *, by_tls: bool
) -> None:
    tls = (served_by(authority), trusting(authority)) if by_tls else (None, None)
    async with Wire(tls=tls[0]) as wire, a_slot(wire.url, tls[1]) as slot:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            for steps in range(40):
                call = asyncio.create_task(slot.send(A_CALL, Progress()))
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                slot.close()
            gc.collect()

        await wire.until_all_are_closed()
        assert isinstance(await slot.send(A_CALL, Progress()), Reply)


# --- what is read of a reply


async def test_the_fields_that_count_are_taken_as_sent() -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    async with Wire(says(429, b"", Retry_After="3", Date=date)) as wire, a_slot(wire.url) as slot:
        reply = await slot.send(A_CALL, Progress())

    assert reply == Reply(429, b"", None, "3", date)


async def test_the_date_of_a_reply_out_of_a_cache_does_not_count() -> None:
    async with Wire(says(200, b"", Date="now", Age="0")) as wire, a_slot(wire.url) as slot:
        reply = await slot.send(A_CALL, Progress())

    assert reply == Reply(200, b"")


async def test_a_field_that_is_there_twice_is_a_list() -> None:
    twice = response(429, b"", Retry_After="3").replace(b"\r\n\r\n", b"\r\nretry-after: 4\r\n\r\n")
    async with Wire(writes(twice)) as wire, a_slot(wire.url) as slot:
        reply = await slot.send(A_CALL, Progress())

    assert isinstance(reply, Reply)
    assert reply.retry_after == "3, 4"


async def test_a_call_without_a_body_says_nothing_of_its_length() -> None:
    async with Wire() as wire, a_slot(wire.url) as slot:
        await slot.send(Call("GET", "/x", {}, b""), Progress())

    assert "content-length" not in wire.heard[0].headers


# --- through a proxy


@pytest.mark.parametrize("by_tls", [False, True])
async def test_a_call_goes_through_a_tunnel_and_only_there(authority: trustme.CA, *, by_tls: bool) -> None:
    async with (
        Wire(tls=served_by(authority)) as wire,
        Tunnels(tls=served_by(authority) if by_tls else None) as tunnels,
    ):
        proxy = Proxy("localhost", tunnels.port, by_tls, "Basic dTpw")
        async with a_slot(wire.url, trusting(authority), proxy) as slot:
            replies = [await slot.send(A_CALL, Progress()) for _ in range(2)]
            slot.close()
            await wire.until_all_are_closed()

    assert all(isinstance(reply, Reply) for reply in replies)
    [asked] = tunnels.heard
    authority_of_wire = wire.url.removeprefix("https://")
    assert (asked.method, asked.target) == ("CONNECT", authority_of_wire)
    assert asked.headers == {
        "host": authority_of_wire,
        "accept": "*/*",
        "proxy-authorization": "Basic dTpw",
    }
    assert "proxy-authorization" not in wire.heard[0].headers
    assert wire.connections == 1


CLOSED = "the connection was closed before the request"
ECHO = b"HTTP/1.1 407 Basic dTpw\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        (writes(ECHO), "the proxy answered HTTP 407"),
        (writes(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "the proxy answered HTTP 302"),
        (writes(b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01"), "the proxy sent more than its answer"),
        (writes(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "interim replies"),
        (writes(b"x" * 2 * LONGEST_HEAD), "the proxy's answer is no HTTP"),
        (writes(b"what is Basic dTpw?\r\n\r\n"), "the proxy's answer is no HTTP"),
        (writes(b"HTTP/1.1 200 OK\r\nBasic dTpw\r\n\r\n"), "the proxy's answer is no HTTP"),
        (hangs_up, "the server closed the connection without a reply"),
        (resets, "Connection reset by peer"),
    ],
)
async def test_a_proxy_that_gives_no_tunnel_is_not_the_call(
    authority: trustme.CA, act: Act, detail: str
) -> None:
    async with Wire(act) as wire:
        proxy = Proxy("127.0.0.1", int(wire.url.rpartition(":")[2]), by_tls=False, authorization="Basic dTpw")
        async with a_slot("https://enos.example", trusting(authority), proxy) as slot:
            found, progress = await no_reply(slot)
            await wire.until_all_are_closed()

    assert [heard.method for heard in wire.heard] == ["CONNECT"]
    assert detail in found
    assert found.endswith(f", while asking the proxy 127.0.0.1:{proxy.port} for a tunnel")
    assert "dTpw" not in found
    assert not progress.sent


async def test_a_proxy_whose_tls_says_goodbye_with_the_tunnel_gives_none(authority: trustme.CA) -> None:
    given = b"HTTP/1.1 200 Connection established\r\n\r\n"
    async with Farewell(served_by(authority), lambda: given) as server:
        proxy = Proxy("localhost", server.port, by_tls=True, authorization=None)
        async with a_slot("https://enos.example", trusting(authority), proxy) as slot:
            detail, progress = await no_reply(slot)

    assert detail == f"{CLOSED}, in the TLS handshake with enos.example:443"
    assert not progress.sent


async def test_the_certificate_behind_a_tunnel_is_verified(authority: trustme.CA) -> None:
    async with Wire(tls=served_by(trustme.CA())) as wire, Tunnels() as tunnels:
        proxy = Proxy("127.0.0.1", tunnels.port, by_tls=False, authorization=None)
        async with a_slot(wire.url, trusting(authority), proxy) as slot:
            detail, progress = await no_reply(slot)

    assert "certificate verify failed" in detail
    assert not progress.sent
    assert wire.heard == []


# --- words


def test_the_reason_is_the_deepest_one_in_the_words_of_the_system() -> None:
    error = ConnectionError("All connection attempts failed")
    error.__context__ = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")

    assert reason(error) == "Connection refused"


def test_a_reason_without_words_is_its_kind() -> None:
    assert reason(ConnectionResetError()) == "ConnectionResetError"


def test_the_reason_of_a_group_is_that_of_its_first() -> None:
    assert reason(ExceptionGroup("many", [ValueError("this"), ValueError("that")])) == "this"


def test_a_call_shows_no_header_and_no_body() -> None:
    assert repr(A_CALL) == "Call(method='POST', url='/x?a=b')"


def test_that_tls_waited_for_bytes_is_no_reason() -> None:
    error = ConnectionResetError(errno.ECONNRESET, "words of ssl")
    error.__context__ = ssl.SSLWantReadError(2, "The operation did not complete (read)")

    assert reason(error) == "Connection reset by peer"
