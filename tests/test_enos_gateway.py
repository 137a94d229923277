from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from flowsched import __version__
from flowsched.clock import SystemClock
from flowsched.enos import Gateway, connections, trigger_request
from flowsched.enos.connections import KEEP_IDLE
from flowsched.enos.signing import call_signature
from flowsched.enos.tokens import Token
from flowsched.enos.ways import way_to
from flowsched.errors import ConfigError
from flowsched.model import Limits, Outcome, Unsent
from tests.builders import a_target
from tests.fakes import HandClock, eventually
from tests.wire import (
    Farewell,
    Wire,
    accepts,
    after,
    drips,
    falls_silent,
    grants,
    hangs_up,
    resets,
    response,
    says,
    writes,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from flowsched.model import Answer
    from tests.wire import Act

ACCESS, SECRET = "an-access-key-0001", "a-secret-key-0001"
UNLIMITED = 5.0


@asynccontextmanager
async def a_gateway(url: str, concurrency: int = 4, **more: Any) -> AsyncIterator[Gateway]:
    limits = Limits(concurrency=concurrency, rate_per_minute=None)
    gateway = Gateway(a_target(url=url, **{"limits": limits, **more}), ACCESS, SECRET, SystemClock())
    yield gateway
    await gateway.aclose()


async def attempt(gateway: Gateway, timeout: float = UNLIMITED, flow: int = 3377) -> Answer:
    request = trigger_request(gateway.target, flow, None, 1574385824000)
    async with gateway.turn() as turn:
        return await turn.trigger(request, timeout)


async def answer_to(wire: Wire, timeout: float = UNLIMITED, **more: Any) -> Answer:
    async with wire, a_gateway(wire.url, **more) as gateway:
        return await attempt(gateway, timeout)


async def test_a_trigger_goes_out_signed_and_with_the_documented_headers() -> None:
    wire = Wire(accepts(), tokens=(grants("a-token"),))

    answer = await answer_to(wire)

    assert (answer.outcome, answer.instance) == (Outcome.ACCEPTED, "3377-20191122012300")
    [heard] = wire.triggers
    target = a_target()
    query = [("action", "trigger"), ("userId", target.user_id), ("orgId", target.org_id)]
    stamp = heard.headers["apim-timestamp"]
    assert heard.method == "POST"
    assert heard.target == (
        f"/batch-processing-service/v2.1/flows?action=trigger&userId={target.user_id}&orgId={target.org_id}"
    )
    assert heard.body == b'{"flowId":3377,"triggerTime":1574385824000}'
    assert heard.headers == {
        "host": wire.url.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "content-length": str(len(heard.body)),
        "content-type": "application/json;charset=UTF-8",
        "user-agent": f"flowsched/{__version__}",
        "apim-accesstoken": "a-token",
        "apim-signature": call_signature("a-token", query, heard.body, int(stamp), SECRET),
        "apim-timestamp": stamp,
    }


async def test_one_token_serves_many_triggers_and_no_signature_repeats() -> None:
    wire = Wire()

    async with wire, a_gateway(wire.url) as gateway:
        await asyncio.gather(*(attempt(gateway) for _ in range(20)))

    assert wire.token_calls == ["get"]
    assert len({heard.headers["apim-signature"] for heard in wire.triggers}) == 20


EXPIRED = says(200, {"status": 1203, "msg": "access token expired"})


@pytest.mark.parametrize(
    "refusal",
    [
        says(401, {"message": "Invalid authentication credentials"}),
        EXPIRED,
        says(200, {"code": 1203, "msg": "access token expired"}),
        says(200, {"apim_status": 4011, "apim_refreshtoken": "r"}),
        says(200, {"apim_status": 4012}),
    ],
)
async def test_a_refused_token_is_replaced_and_the_trigger_resent_once(refusal: Act) -> None:
    wire = Wire(refusal, accepts(), tokens=(grants("token-one"), grants("token-two")))

    answer = await answer_to(wire)

    assert answer.outcome is Outcome.ACCEPTED
    first, second = wire.triggers
    assert (first.headers["apim-accesstoken"], second.headers["apim-accesstoken"]) == (
        "token-one",
        "token-two",
    )
    assert int(second.headers["apim-timestamp"]) > int(first.headers["apim-timestamp"])
    assert first.body == second.body


async def test_a_token_refused_twice_is_refused_for_good() -> None:
    wire = Wire(says(401, b""), tokens=(grants("token-one"), grants("token-two"), grants("token-three")))

    answer = await answer_to(wire)

    assert answer.outcome is Outcome.REFUSED_FOR_GOOD
    assert "clock" in answer.detail
    assert len(wire.triggers) == 2


async def test_a_revoked_token_is_replaced_once_for_all_who_hold_it() -> None:
    acts = [after(0.02, EXPIRED)] * 4 + [accepts()]
    wire = Wire(*acts, tokens=(grants("token-one"), grants("token-two"), grants("token-three")))

    async with wire, a_gateway(wire.url) as gateway:
        answers = await asyncio.gather(*(attempt(gateway) for _ in range(4)))

    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert wire.token_calls == ["get", "get"]


@pytest.mark.parametrize("trouble", [says(503, b""), hangs_up, says(200, {"status": 1005})])
async def test_no_new_token_after_a_refusal_is_refused_for_now(trouble: Act) -> None:
    wire = Wire(EXPIRED, tokens=(grants("token-one"), trouble))

    assert (await answer_to(wire)).outcome is Outcome.REFUSED_FOR_NOW


async def test_a_deadline_after_a_refusal_is_refused_for_now() -> None:
    wire = Wire(EXPIRED, tokens=(grants("token-one"), falls_silent))

    answer = await answer_to(wire, timeout=0.5)

    assert answer.outcome is Outcome.REFUSED_FOR_NOW
    assert answer.detail == "no whole answer within 0.5 s, while waiting for a token"


async def test_a_lost_answer_after_a_refusal_is_unknown() -> None:
    wire = Wire(EXPIRED, hangs_up, tokens=(grants("token-one"), grants("token-two")))

    assert (await answer_to(wire)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (says(200, {"status": 1002}), Outcome.REFUSED_FOR_GOOD),
        (says(200, {"status": 1005}), Outcome.NOT_SENT),
        (says(500, b""), Outcome.NOT_SENT),
        (hangs_up, Outcome.NOT_SENT),
        (resets, Outcome.NOT_SENT),
    ],
)
async def test_without_a_token_nothing_is_sent(token: Act, expected: Outcome) -> None:
    wire = Wire(tokens=(token,))

    answer = await answer_to(wire)

    assert answer.outcome is expected
    assert wire.triggers == []


async def test_a_deadline_before_there_is_a_token_is_not_sent() -> None:
    wire = Wire(tokens=(falls_silent,))

    answer = await answer_to(wire, timeout=0.5)

    assert answer.outcome is Outcome.NOT_SENT
    assert answer.detail == "no whole answer within 0.5 s, while waiting for a token"
    assert wire.triggers == []


@pytest.mark.parametrize("act", [falls_silent, drips(response(200, b'{"code": 0}'), 0.05)])
async def test_a_deadline_after_sending_is_unknown(act: Act) -> None:
    async with Wire(accepts(), act) as wire, a_gateway(wire.url) as gateway:
        await attempt(gateway)
        answer = await attempt(gateway, timeout=0.5)

    assert answer.outcome is Outcome.UNKNOWN
    assert answer.detail.startswith("no whole answer within 0.5 s, while ")
    assert len(wire.triggers) == 2


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (hangs_up, Outcome.UNKNOWN),
        (resets, Outcome.UNKNOWN),
        (writes(b"rubbish\r\n\r\n", then_close=True), Outcome.UNKNOWN),
        (writes(response(200, b'{"code": 0}')[:-2], then_close=True), Outcome.UNKNOWN),
        (says(200, b"<html>"), Outcome.UNKNOWN),
        (says(200, b"x" * 100_000), Outcome.UNKNOWN),
        (says(503, b"", Retry_After="3"), Outcome.UNKNOWN),
        (says(200, {"code": 62109}), Outcome.UNKNOWN),
        (says(200, {"code": 62102}), Outcome.NOT_CREATED),
        (says(200, {"code": 62104}), Outcome.REFUSED_FOR_GOOD),
        (says(302, b"", Location="http://127.0.0.1:1/"), Outcome.REFUSED_FOR_GOOD),
        (says(404, b"<html>"), Outcome.REFUSED_FOR_GOOD),
        (says(429, {"message": "API rate limit exceeded"}, Retry_After="3"), Outcome.REFUSED_FOR_NOW),
    ],
)
async def test_what_came_of_an_attempt_over_a_real_socket(act: Act, expected: Outcome) -> None:
    answer = await answer_to(Wire(act))

    assert answer.outcome is expected
    assert answer.detail


async def test_the_wait_that_the_gateway_asks_for_is_passed_on() -> None:
    answer = await answer_to(Wire(says(429, b"", Retry_After="3")))

    assert answer.retry_after is not None
    assert answer.retry_after.total_seconds() == 3


async def test_a_refused_connection_is_not_sent() -> None:
    async with Wire() as wire:
        url = wire.url

    async with a_gateway(url) as gateway:
        answer = await attempt(gateway)

    assert answer.outcome is Outcome.NOT_SENT
    where = url.removeprefix("http://")
    assert answer.detail == f"no token: Connection refused, while connecting to {where}"


async def test_the_latest_call_that_reached_nobody_is_told_until_one_does() -> None:
    clock = HandClock()
    async with Wire() as wire:
        url = wire.url
    gateway = Gateway(a_target(url=url), ACCESS, SECRET, clock)
    before = gateway.unsent

    answer = await attempt(gateway)
    clock.advance(90)
    failed = gateway.unsent
    async with Wire() as wire:
        gateway._way = way_to(a_target(url=wire.url))
        await attempt(gateway)
        after = gateway.unsent
        await gateway.aclose()

    assert (before, after) == (None, None)
    assert failed == Unsent(timedelta(seconds=90), answer.detail)


async def test_a_trigger_that_waits_long_for_the_limits_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = HandClock()
    limits = Limits(concurrency=5, rate_per_minute=1)
    async with Wire() as wire:
        gateway = Gateway(a_target(url=wire.url, limits=limits), ACCESS, SECRET, clock)
        await attempt(gateway)
        waiting = [asyncio.create_task(attempt(gateway)) for _ in range(2)]
        await eventually(lambda: clock.sleeping)
        held_by = [gateway.held_by]
        clock.advance(61)
        await waiting[0]
        await eventually(lambda: clock.sleeping)
        clock.advance(30)
        assert len(caplog.records) == 1
        clock.advance(31)
        await waiting[1]
        held_by.append(gateway.held_by)
        await gateway.aclose()

    assert [record.message for record in caplog.records] == [
        "calls wait long for the limits of their target"
    ] * 2
    assert held_by == ["1 call a minute", None]
    said = vars(caplog.records[0])
    assert (said["target"], said["limit"], said["waited"], said["waiting"]) == (
        "default", "1 call a minute", 61, 1
    )  # fmt: skip


async def test_a_name_that_does_not_resolve_is_not_sent() -> None:
    async with a_gateway("https://no-such-host.invalid") as gateway:
        answer = await attempt(gateway)

    assert answer.outcome is Outcome.NOT_SENT


class BrokenClock(SystemClock):
    """Tells the time so many times, and then breaks."""

    def __init__(self, good_for: int) -> None:
        self._good_for = good_for

    def now(self) -> datetime:
        if self._good_for == 0:
            raise ValueError(f"while handling {SECRET}")
        self._good_for -= 1
        return super().now()


@pytest.mark.parametrize(
    ("good_for", "trigger", "expected", "detail"),
    [
        (0, accepts(), Outcome.NOT_SENT, "no token: a fault of flowsched (ValueError)"),
        (2, accepts(), Outcome.NOT_SENT, "a fault of flowsched (ValueError), while waiting for a token"),
        (4, accepts(), Outcome.UNKNOWN, "a fault of flowsched (ValueError), while reading the reply"),
        (5, EXPIRED, Outcome.REFUSED_FOR_NOW, "no token: a fault of flowsched (ValueError)"),
        (7, EXPIRED, Outcome.REFUSED_FOR_NOW, "a fault of flowsched (ValueError), while waiting for a token"),
        (9, EXPIRED, Outcome.UNKNOWN, "a fault of flowsched (ValueError), while reading the reply"),
    ],
)
async def test_a_fault_of_ours_is_an_answer_and_logged_without_secrets(
    good_for: int, trigger: Act, expected: Outcome, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire(trigger, accepts(), tokens=(grants("token-one"), grants("token-two"))) as wire:
        gateway = Gateway(a_target(url=wire.url), ACCESS, SECRET, BrokenClock(good_for))
        answer = await attempt(gateway)
        await gateway.aclose()

    assert (answer.outcome, answer.detail) == (expected, detail)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(record)["error"] == "ValueError"
    assert SECRET not in caplog.text


async def test_a_fault_of_ours_leaves_the_turn_free_for_the_next() -> None:
    async with Wire() as wire:
        limits = Limits(concurrency=1, rate_per_minute=None)
        gateway = Gateway(a_target(url=wire.url, limits=limits), ACCESS, SECRET, BrokenClock(4))

        answers = [await attempt(gateway, timeout=1) for _ in range(2)]

        await wire.until_all_are_closed()
        await gateway.aclose()

    assert [answer.outcome for answer in answers] == [Outcome.UNKNOWN, Outcome.NOT_SENT]


async def test_a_cancelled_attempt_passes_the_cancellation_on_and_leaves_nothing() -> None:
    async with Wire(falls_silent) as wire, a_gateway(wire.url, concurrency=1) as gateway:
        task = asyncio.create_task(attempt(gateway))
        await eventually(lambda: wire.triggers)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

        await wire.until_all_are_closed()


async def test_every_slot_works_after_a_storm_of_cancelled_attempts() -> None:
    storm = [falls_silent, drips(response(200, b"{}"), 0.001), after(0.003, accepts()), accepts(), resets]
    async with Wire(*storm * 40, accepts()) as wire, a_gateway(wire.url, concurrency=5) as gateway:
        await asyncio.gather(*(attempt(gateway, timeout=0.001 * (n % 8)) for n in range(200)))
        wire._triggers = iter([accepts()] * 20)

        answers = await asyncio.gather(*(attempt(gateway) for _ in range(20)))

        assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED] * 20
        await wire.until_all_are_closed()


async def test_turns_are_bounded_and_granted_in_order() -> None:
    wire = Wire(after(0.005, accepts()))
    order: list[int] = []

    async def visit(gateway: Gateway, number: int) -> None:
        async with gateway.turn() as turn:
            order.append(number)
            await turn.trigger(trigger_request(gateway.target, 3377, None, 0), UNLIMITED)

    async with wire, a_gateway(wire.url, concurrency=3) as gateway:
        await asyncio.gather(*(visit(gateway, number) for number in range(12)))

    assert order == list(range(12))
    assert len({heard.connection for heard in wire.triggers}) == 3


async def test_the_rate_waits_on_the_clock_before_the_turn_is_granted() -> None:
    clock = HandClock()
    async with Wire() as wire:
        limits = Limits(concurrency=5, rate_per_minute=1)
        gateway = Gateway(a_target(url=wire.url, limits=limits), ACCESS, SECRET, clock)
        await attempt(gateway)
        second = asyncio.create_task(attempt(gateway))
        await eventually(lambda: clock.sleeping)
        assert len(wire.triggers) == 1

        clock.advance(60)
        await second
        assert len(wire.triggers) == 2
        await gateway.aclose()


async def test_a_trigger_sent_again_with_a_new_token_does_not_wait_for_the_rate_and_is_counted() -> None:
    clock = HandClock()
    async with Wire(EXPIRED, accepts(), tokens=(grants("token-one"), grants("token-two"))) as wire:
        limits = Limits(concurrency=5, rate_per_minute=1)
        gateway = Gateway(a_target(url=wire.url, limits=limits), ACCESS, SECRET, clock)
        clock.advance(100)
        assert (await attempt(gateway)).outcome is Outcome.ACCEPTED
        assert len(wire.triggers) == 2

        second = asyncio.create_task(attempt(gateway))
        await eventually(lambda: clock.sleeping)
        assert clock.sleeping == [60]

        clock.advance(60)
        await second
        await gateway.aclose()


async def test_a_refresh_that_hangs_holds_up_no_trigger() -> None:
    clock = HandClock()
    async with Wire(tokens=(grants("token-one"), falls_silent)) as wire:
        gateway = Gateway(a_target(url=wire.url), ACCESS, SECRET, clock)
        await attempt(gateway)
        clock.advance(7000)

        answers = await asyncio.gather(*(attempt(gateway, timeout=10) for _ in range(20)))

        assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
        assert wire.token_calls == ["get", "refresh"]
        await gateway.aclose()


@pytest.mark.parametrize("late", [0.0, 0.1])
async def test_an_answer_that_comes_twice_is_no_acceptance_of_another_flow(late: float) -> None:
    """Not even where it comes again after the next call has left, and what follows is told truly."""
    made = response(200, b'{"code": 0, "msg": "OK", "data": {"flowInstanceId": "1-20191122012300"}}')

    async def answers_twice(writer: asyncio.StreamWriter) -> None:
        writer.write(made)
        asyncio.get_running_loop().call_later(late, writer.write, made)

    wire = Wire(answers_twice, after(0.3, says(200, {"code": 62104})), accepts("3-20191122012300"))
    async with wire, a_gateway(wire.url, concurrency=1) as gateway:
        first, second, third = await asyncio.gather(*(attempt(gateway, flow=flow) for flow in (1, 2, 3)))

    assert (first.outcome, first.instance) == (Outcome.ACCEPTED, "1-20191122012300")
    assert (second.instance, third.instance) == (None, "3-20191122012300")
    if late:
        assert "names instance 1-20191122012300, which is of another flow" in second.detail
    else:
        assert second.outcome is Outcome.REFUSED_FOR_GOOD


@pytest.mark.parametrize(
    "refusal",
    [
        says(401, b"\x1f\x8b\x08\x00rubbish", Content_Encoding="gzip"),
        writes(b'HTTP/1.1 401 Said\r\nContent-Length: 50\r\n\r\n{"mess', then_close=True),
    ],
)
async def test_a_token_that_was_refused_in_words_that_cannot_be_read_is_replaced(refusal: Act) -> None:
    wire = Wire(refusal, accepts(), tokens=(grants("token-one"), grants("token-two")))
    async with wire, a_gateway(wire.url) as gateway:
        first, second = await attempt(gateway), await attempt(gateway)

    assert (first.outcome, second.outcome) == (Outcome.UNKNOWN, Outcome.ACCEPTED)
    assert [heard.headers["apim-accesstoken"] for heard in wire.triggers] == ["token-one", "token-two"]


async def test_a_refusal_that_is_clear_costs_no_token_whatever_its_status() -> None:
    wire = Wire(says(401, {"code": 62103}))
    async with wire, a_gateway(wire.url) as gateway:
        answers = [await attempt(gateway) for _ in range(3)]

    assert {answer.outcome for answer in answers} == {Outcome.REFUSED_FOR_GOOD}
    assert wire.token_calls == ["get"]


async def test_closing_ends_the_call_for_a_token() -> None:
    async with Wire(tokens=(falls_silent,)) as wire:
        gateway = Gateway(a_target(url=wire.url), ACCESS, SECRET, SystemClock())
        await attempt(gateway, timeout=0.5)
        assert wire.open_connections == 1

        await gateway.aclose()

        await eventually(lambda: wire.open_connections == 0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def served_by(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


async def test_a_burst_makes_one_tls_handshake_a_slot(authority: trustme.CA, ca_file: str) -> None:
    wire = Wire(after(0.002, accepts()), tls=served_by(authority))

    async with wire, a_gateway(wire.url, concurrency=4, ca_file=ca_file) as gateway:
        answers = await asyncio.gather(*(attempt(gateway) for _ in range(60)))

    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert len({heard.connection for heard in wire.triggers}) == 4
    assert wire.connections == 1 + 4


async def test_no_connection_outlives_a_burst() -> None:
    async with Wire(after(0.002, accepts())) as wire, a_gateway(wire.url, concurrency=4) as gateway:
        await asyncio.gather(*(attempt(gateway) for _ in range(13)))

        await wire.until_all_are_closed()


async def test_no_connection_outlives_those_who_wait_for_it() -> None:
    clock = HandClock()
    async with Wire(after(0.02, accepts())) as wire:
        limits = Limits(concurrency=3, rate_per_minute=2)
        gateway = Gateway(a_target(url=wire.url, limits=limits), ACCESS, SECRET, clock)
        both = [asyncio.create_task(attempt(gateway)) for _ in range(2)]
        await eventually(lambda: len(wire.triggers) == 2)
        waiting = [asyncio.create_task(attempt(gateway)) for _ in range(2)]
        await asyncio.gather(*both)
        assert wire.open_connections == 2

        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert wire.open_connections == 2

        waiting[1].cancel()
        await asyncio.wait(waiting)
        await wire.until_all_are_closed()


async def test_a_connection_that_lay_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_IDLE", 0.05)
    clock = HandClock()
    async with Wire() as wire:
        limits = Limits(concurrency=1, rate_per_minute=1)
        gateway = Gateway(a_target(url=wire.url, limits=limits), ACCESS, SECRET, clock)
        first, second = (asyncio.create_task(attempt(gateway)) for _ in range(2))
        await first
        await asyncio.sleep(0.1)
        clock.advance(60)
        await second
        await gateway.aclose()

    used = [heard.connection for heard in wire.triggers]
    assert used[0] != used[1]
    assert KEEP_IDLE == 1


async def test_a_refused_token_is_replaced_though_tls_says_goodbye_with_the_refusal(
    authority: trustme.CA, ca_file: str
) -> None:
    """Another call has got the new token meanwhile, so that nothing is waited for between the two."""

    def hold(value: str) -> None:
        gateway._tokens._held = Token(value, 7200, SystemClock().monotonic() + 7200)

    def refuse() -> bytes:
        hold("token-two")
        return response(401, b"{}")

    def accept() -> bytes:
        return response(200, b'{"code": 0, "msg": "OK", "data": {"flowInstanceId": "3377-20191122012300"}}')

    async with (
        Farewell(served_by(authority), refuse, accept) as server,
        a_gateway(server.url, ca_file=ca_file) as gateway,
    ):
        hold("token-one")
        answer = await attempt(gateway)

    assert answer.outcome is Outcome.ACCEPTED
    assert [token in heard for token, heard in zip((b"token-one", b"token-two"), server.heard, strict=True)]


async def test_a_certificate_of_an_unknown_authority_is_not_sent_to(authority: trustme.CA) -> None:
    wire = Wire(tls=served_by(authority))

    answer = await answer_to(wire)

    assert answer.outcome is Outcome.NOT_SENT
    assert "certificate verify failed" in answer.detail
    assert wire.heard == []


async def test_a_certificate_for_another_name_is_not_sent_to(authority: trustme.CA, ca_file: str) -> None:
    wire = Wire(tls=served_by(authority, "another.example"))

    answer = await answer_to(wire, ca_file=ca_file)

    assert answer.outcome is Outcome.NOT_SENT
    assert "certificate verify failed" in answer.detail
    assert wire.heard == []


async def test_nothing_that_a_server_echoes_gives_a_secret_away() -> None:
    token = "the-token-of-this-test"

    async def echo(writer: asyncio.StreamWriter) -> None:
        heard = wire.heard[-1].headers
        words = f"{heard['apim-accesstoken']} {heard['apim-signature']} {SECRET} {ACCESS}\x07\r\n"
        await says(200, {"code": 62103, "msg": words * 20})(writer)

    wire = Wire(echo, tokens=(grants(token),))

    answer = await answer_to(wire)

    signature = wire.triggers[0].headers["apim-signature"]
    assert "<secret>" in answer.detail
    assert answer.detail.isprintable()
    assert len(answer.detail) <= 300
    assert not any(secret in repr(answer) for secret in (token, signature, SECRET, ACCESS))


@pytest.mark.parametrize(
    ("refusal", "tokens"),
    [
        (
            says(200, {"apim_status": 4011, "apim_refreshtoken": "unknown-token"}),
            [grants("t1"), grants("t2")],
        ),
        (accepts(), [says(500, {"status": 0, "data": {"accessToken": "unknown-token", "expire": 7200}})]),
        (accepts(), [says(200, {"status": 1005, "data": {"accessToken": "unknown-token"}})]),
    ],
)
async def test_no_token_that_we_do_not_know_is_quoted(refusal: Act, tokens: list[Act]) -> None:
    answer = await answer_to(Wire(refusal, tokens=tuple(tokens)))

    assert answer.outcome is not Outcome.ACCEPTED
    assert "unknown-token" not in answer.detail
    assert "it carries no message" in answer.detail


async def test_nothing_is_logged_about_a_good_call_and_nothing_secret_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    await answer_to(Wire(tokens=(grants("a-token-for-logs"),)))

    text = caplog.text
    assert "httpx" not in text
    assert "httpcore" not in text
    assert not any(secret in text for secret in ("a-token-for-logs", SECRET, ACCESS))


async def test_cookies_are_not_kept() -> None:
    acts = [says(200, {"code": 62104}, Set_Cookie="a=b; Path=/")] * 3
    async with Wire(*acts) as wire, a_gateway(wire.url, concurrency=1) as gateway:
        await asyncio.gather(*(attempt(gateway) for _ in range(3)))

    assert not any("cookie" in heard.headers for heard in wire.heard)


async def test_proxies_of_the_environment_apply_only_where_asked_for(
    monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, ca_file: str
) -> None:
    async with Wire(says(407, b"")) as proxy, Wire(tls=served_by(authority)) as wire:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        async with a_gateway(wire.url, ca_file=ca_file) as gateway:
            answer = await attempt(gateway)

    assert answer.outcome is Outcome.ACCEPTED
    assert proxy.heard == []


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_a_call_without_tls_goes_through_no_proxy(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with Wire(says(418, b""), tokens=(says(418, b""),)) as proxy, Wire() as wire:
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.setenv("no_proxy", "")
        async with a_gateway(wire.url, environment_proxy=True) as gateway:
            answer = await attempt(gateway)

    assert answer.outcome is Outcome.ACCEPTED
    assert proxy.heard == []


async def test_a_proxy_that_refuses_the_tunnel_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, ca_file: str
) -> None:
    async with Wire(says(407, b"")) as proxy, Wire(tls=served_by(authority)) as wire:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        async with a_gateway(wire.url, environment_proxy=True, ca_file=ca_file) as gateway:
            answer = await attempt(gateway)

    assert answer.outcome is Outcome.NOT_SENT
    assert proxy.heard[0].method == "CONNECT"


@pytest.mark.parametrize(
    "url", ["http://enos.example", "http://10.0.0.1", "http://0.0.0.0", "ftp://localhost"]
)
def test_plain_http_goes_nowhere_but_to_this_machine(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^flowsched\.yaml:4:1: targets\.default\.url: secrets would travel"
    ):
        Gateway(a_target(url=url), ACCESS, SECRET, SystemClock())


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.9.9.9", "http://[::1]:80", "https://enos.example"]
)
def test_tls_and_loopback_are_allowed(url: str) -> None:
    Gateway(a_target(url=url), ACCESS, SECRET, SystemClock())


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"targets\.default\.ca_file: cannot use .*ca\.pem: .*; allowed: "):
        Gateway(a_target(ca_file=str(path)), ACCESS, SECRET, SystemClock())


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://127.0.0.1:1"])
def test_an_unusable_proxy_variable_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)

    with pytest.raises(ConfigError, match=r"targets\.default\.environment_proxy: unusable proxy variables"):
        Gateway(a_target(url="https://enos.example", environment_proxy=True), ACCESS, SECRET, SystemClock())


def test_a_gateway_shows_its_name_and_no_key() -> None:
    gateway = Gateway(a_target(name="wind"), ACCESS, SECRET, SystemClock())

    assert repr(gateway) == "<Gateway wind>"
