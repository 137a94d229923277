from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.enos import tokens as tokens_module
from flowsched.enos.replies import NoReply, Reply
from flowsched.enos.signing import token_encryption
from flowsched.enos.token_meaning import Grant, meaning_of_token
from flowsched.enos.tokens import BOUND, FRESH, PAUSE, TokenKeeper
from flowsched.model import Answer, Outcome
from tests.fakes import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable

    Saying = Reply | NoReply | Callable[[], Any]

ACCESS, SECRET = "access-key-1", "secret-key-1"


def granted(token: str, expire: object = 7200, http_status: int = 200) -> Reply:
    return says({"status": 0, "data": {"accessToken": token, "expire": expire}}, http_status)


def says(body: Any, http_status: int = 200, **more: Any) -> Reply:
    return Reply(http_status, json.dumps(body).encode(), **more)


class TokenService:
    """Says what it is told to, call after call; each may first wait for `gate`."""

    def __init__(self, *sayings: Reply | NoReply) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._sayings = list(sayings)

    @property
    def names(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _ in self.calls]

    async def __call__(self, path: str, body: bytes) -> Reply | NoReply:
        self.calls.append((path, json.loads(body)))
        await self.gate.wait()
        return self._sayings.pop(0)


def a_keeper(service: TokenService, clock: HandClock | None = None) -> TokenKeeper:
    return TokenKeeper(ACCESS, SECRET, service, clock or HandClock())


def outcome(got: str | Answer) -> Outcome:
    assert isinstance(got, Answer)
    return got.outcome


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def soon_after(keeper: TokenKeeper) -> str | Answer:
    """Get a token, let what this has begun come to its end, and return what is then handed out."""
    await keeper.get()
    await settle()
    return await keeper.get()


async def test_a_token_is_got_as_the_reference_says() -> None:
    service = TokenService(granted("t1"))

    token = await a_keeper(service).get()

    assert token == "t1"
    [(path, body)] = service.calls
    assert path == "/apim-token-service/v2.0/token/get"
    assert body == {
        "appKey": ACCESS,
        "encryption": token_encryption(ACCESS, body["timestamp"], SECRET),
        "timestamp": body["timestamp"],
    }
    assert isinstance(body["timestamp"], int)


async def test_a_token_is_kept_while_it_has_ten_minutes_to_live() -> None:
    clock, service = HandClock(), TokenService(granted("t1"))
    keeper = a_keeper(service, clock)
    await keeper.get()

    clock.advance(7200 - FRESH)

    assert await soon_after(keeper) == "t1"
    assert service.names == ["get"]


async def test_a_token_near_its_end_is_refreshed() -> None:
    clock, service = HandClock(), TokenService(granted("t1"), granted("t2"))
    keeper = a_keeper(service, clock)
    await keeper.get()

    clock.advance(7200 - FRESH + 1)

    assert await keeper.get() == "t1"
    await settle()
    assert await keeper.get() == "t2"
    assert service.names == ["get", "refresh"]
    assert service.calls[1][1]["accessToken"] == "t1"


async def test_a_token_past_its_end_is_not_refreshed_but_got_anew() -> None:
    clock, service = HandClock(), TokenService(granted("t1"), granted("t2"))
    keeper = a_keeper(service, clock)
    await keeper.get()

    clock.advance(7200)

    assert await keeper.get() == "t2"
    assert service.names == ["get", "get"]


async def test_nobody_waits_for_a_refresh_while_a_token_serves() -> None:
    clock, service = HandClock(), TokenService(granted("t1"), granted("t2"))
    keeper = a_keeper(service, clock)
    await keeper.get()
    clock.advance(7200 - FRESH + 1)
    service.gate.clear()

    async with asyncio.timeout(5):
        tokens = [await keeper.get() for _ in range(50)]

    assert tokens == ["t1"] * 50
    await settle()
    assert service.names == ["get", "refresh"]
    await keeper.aclose()


async def test_when_a_token_ends_during_its_refresh_the_wait_is_for_that() -> None:
    clock, service = HandClock(), TokenService(granted("t1"), granted("t2"))
    keeper = a_keeper(service, clock)
    await keeper.get()
    clock.advance(7000)
    service.gate.clear()
    assert await soon_after(keeper) == "t1"
    clock.advance(200)

    waiter = asyncio.create_task(keeper.get())
    await settle()
    service.gate.set()

    assert await waiter == "t2"
    assert service.names == ["get", "refresh"]


@pytest.mark.parametrize("life", [2, 300, 1000])
async def test_a_token_of_a_short_life_is_refreshed_when_half_of_it_is_over(life: int) -> None:
    clock, service = HandClock(), TokenService(granted("t1", life), granted("t2", life))
    keeper = a_keeper(service, clock)
    for elapsed in (0, life / 2):
        clock.advance(elapsed)
        assert [await keeper.get() for _ in range(9)] == ["t1"] * 9
        await settle()
    assert service.names == ["get"]

    clock.advance(0.5)
    await keeper.get()
    await settle()

    assert await keeper.get() == "t2"
    assert service.names == ["get", "refresh"]


async def test_life_counts_from_before_the_call() -> None:
    clock, service = HandClock(), TokenService(granted("t1", 100), granted("t2"))
    service.gate.clear()
    keeper = a_keeper(service, clock)
    first = asyncio.create_task(keeper.get())
    await settle()

    clock.advance(100)
    service.gate.set()

    assert await first == "t2"


async def test_all_who_wait_share_one_fetch() -> None:
    service = TokenService(granted("t1"))
    keeper = a_keeper(service)

    assert await asyncio.gather(*(keeper.get() for _ in range(50))) == ["t1"] * 50
    assert service.names == ["get"]


async def test_one_who_is_cancelled_does_not_end_the_fetch_of_the_others() -> None:
    service = TokenService(granted("t1"))
    service.gate.clear()
    keeper = a_keeper(service)
    first, second = (asyncio.create_task(keeper.get()) for _ in range(2))
    await settle()

    first.cancel()
    await settle()
    service.gate.set()

    assert await second == "t1"
    assert first.cancelled()
    assert service.names == ["get"]


async def test_the_old_token_serves_on_while_a_refresh_fails() -> None:
    clock = HandClock()
    service = TokenService(granted("t1"), NoReply("refused"), says({"status": 1002}), granted("t2"))
    keeper = a_keeper(service, clock)
    await keeper.get()
    clock.advance(7200 - FRESH + 1)

    assert [await soon_after(keeper), await soon_after(keeper)] == ["t1", "t1"]
    assert service.names == ["get", "refresh"]

    clock.advance(PAUSE - 1)
    assert await soon_after(keeper) == "t1"
    assert service.names == ["get", "refresh"]

    clock.advance(1)
    assert await soon_after(keeper) == "t1"
    assert service.names == ["get", "refresh", "refresh"]
    clock.advance(PAUSE)
    assert await soon_after(keeper) == "t2"


@pytest.mark.parametrize("status", [1203, 1204])
async def test_where_a_refresh_is_refused_the_token_is_got(status: int) -> None:
    clock = HandClock()
    service = TokenService(granted("t1"), says({"status": status}), granted("t2"))
    keeper = a_keeper(service, clock)
    await keeper.get()
    clock.advance(7000)

    assert await soon_after(keeper) == "t2"
    assert service.names == ["get", "refresh", "get"]


async def test_a_refused_token_is_replaced() -> None:
    service = TokenService(granted("t1"), granted("t2"))
    keeper = a_keeper(service)
    await keeper.get()

    keeper.refuse("t1")

    assert await keeper.get() == "t2"
    assert service.names == ["get", "get"]


async def test_a_refused_token_that_is_got_again_is_refreshed() -> None:
    service = TokenService(granted("t1"), granted("t1"), granted("t2"))
    keeper = a_keeper(service)
    await keeper.get()

    keeper.refuse("t1")

    assert await keeper.get() == "t2"
    assert service.names == ["get", "get", "refresh"]


async def test_a_refused_token_is_not_handed_out_though_there_is_no_other() -> None:
    service = TokenService(granted("t1"), granted("t1"), says({"status": 1204}), granted("t1"))
    keeper = a_keeper(service)
    await keeper.get()

    keeper.refuse("t1")

    assert outcome(await keeper.get()) is Outcome.NOT_SENT


async def test_no_token_that_was_refused_is_forgotten_for_another() -> None:
    service = TokenService(granted("t1"), granted("t2"), granted("t1"), granted("t3"))
    keeper = a_keeper(service)
    for refused in ("t1", "t2"):
        assert await keeper.get() == refused
        keeper.refuse(refused)

    assert await keeper.get() == "t3"
    assert service.names == ["get", "get", "get", "refresh"]


async def test_a_late_refusal_of_the_old_token_leaves_the_new_one() -> None:
    service = TokenService(granted("t1"), granted("t2"))
    keeper = a_keeper(service)
    await keeper.get()
    keeper.refuse("t1")
    await keeper.get()

    keeper.refuse("t1")

    assert await keeper.get() == "t2"
    assert service.names == ["get", "get"]


async def test_a_replay_is_asked_again_at_once_with_another_timestamp() -> None:
    service = TokenService(says({"status": 1001}), says({"status": 1001}), granted("t1"))

    assert await a_keeper(service).get() == "t1"
    assert len({body["timestamp"] for _, body in service.calls}) == 3
    assert len({body["encryption"] for _, body in service.calls}) == 3


async def test_replays_without_end_are_given_up() -> None:
    service = TokenService(*[says({"status": 1001})] * 9)

    assert outcome(await a_keeper(service).get()) is Outcome.NOT_SENT
    assert len(service.calls) == 5


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (says({"status": 1002}), Outcome.REFUSED_FOR_GOOD),
        (says({"status": 1003}), Outcome.REFUSED_FOR_GOOD),
        (says({"status": 1004}), Outcome.REFUSED_FOR_GOOD),
        (says({"status": 1202}, 400), Outcome.REFUSED_FOR_GOOD),
        (says({"status": 1003}, 500), Outcome.REFUSED_FOR_GOOD),
        (says({"status": 1005}), Outcome.NOT_SENT),
        (says({"status": 1005}, 400), Outcome.NOT_SENT),
        (says({"status": 1999}), Outcome.NOT_SENT),
        (NoReply("Connection refused"), Outcome.NOT_SENT),
        (says({"message": "words"}, 400), Outcome.REFUSED_FOR_GOOD),
        (says({"message": "words"}, 401), Outcome.REFUSED_FOR_GOOD),
        (says({"message": "words"}, 403), Outcome.REFUSED_FOR_GOOD),
        (says({"status": 404, "error": "Not Found"}, 404), Outcome.REFUSED_FOR_GOOD),
        (Reply(302, b""), Outcome.REFUSED_FOR_GOOD),
        (Reply(408, b""), Outcome.NOT_SENT),
        (Reply(429, b""), Outcome.NOT_SENT),
        (Reply(500, b""), Outcome.NOT_SENT),
        (Reply(503, b"<html>"), Outcome.NOT_SENT),
        (Reply(200, b"<html>"), Outcome.NOT_SENT),
        (Reply(200, b'{"status": 0, "data"', flaw="cut off"), Outcome.NOT_SENT),
        (Reply(400, b'{"status": 1005, "msg', flaw="cut off"), Outcome.NOT_SENT),
        (Reply(400, b'{"status": 1005, "msg'), Outcome.NOT_SENT),
        (Reply(403, b"", flaw="in an encoding that was not asked for"), Outcome.NOT_SENT),
        (granted("t", http_status=500), Outcome.NOT_SENT),
        (granted(""), Outcome.NOT_SENT),
        (granted("two words"), Outcome.NOT_SENT),
        (granted("t\r\nX-Evil: 1"), Outcome.NOT_SENT),
        (granted("ünïcode"), Outcome.NOT_SENT),
        (granted("t", expire=None), Outcome.NOT_SENT),
        (granted("t", expire="soon"), Outcome.NOT_SENT),
        (says({"status": 0, "data": None}), Outcome.NOT_SENT),
        (says({"code": 0, "data": {"accessToken": "t", "expire": 7200}}), Outcome.NOT_SENT),
    ],
)
async def test_no_token_is_for_good_only_where_asking_again_cannot_help(
    reply: Reply | NoReply, expected: Outcome
) -> None:
    assert outcome(await a_keeper(TokenService(reply)).get()) is expected


@pytest.mark.parametrize("http_status", [200, 400])
async def test_a_reply_that_could_not_be_read_is_told_with_its_status(http_status: int) -> None:
    got = await a_keeper(TokenService(Reply(http_status, b'{"status": 1005', flaw="cut off"))).get()

    assert isinstance(got, Answer)
    assert f"HTTP {http_status}: what it says could not be read; the body is cut off" in got.detail


async def test_expire_may_be_digits() -> None:
    assert await a_keeper(TokenService(granted("t1", expire="7200"))).get() == "t1"


YEAR = 366 * 24 * 3600


@pytest.mark.parametrize(
    ("expire", "life"),
    [(7200, 7200), (0, 0), (-1, 0), (-(10**18), 0), (YEAR, YEAR), (YEAR + 1, YEAR), (10**18, YEAR)],
)
def test_a_life_is_from_none_to_a_year(expire: int, life: int) -> None:
    assert meaning_of_token(granted("t", expire), HandClock().now()) == Grant("t", life)


async def test_a_life_beyond_all_numbers_grants_nothing() -> None:
    service = TokenService(granted("t", expire=-(10**400)))

    assert outcome(await a_keeper(service).get()) is Outcome.NOT_SENT


async def test_a_wait_that_the_token_service_asks_for_is_passed_on() -> None:
    got = await a_keeper(TokenService(Reply(429, b"", retry_after="7"))).get()

    assert isinstance(got, Answer)
    assert got.retry_after is not None
    assert got.retry_after.total_seconds() == 7


async def test_what_the_token_service_echoes_is_masked() -> None:
    class Echo(TokenService):
        async def __call__(self, path: str, body: bytes) -> Reply | NoReply:
            self.calls.append((path, json.loads(body)))
            return Reply(
                400, b'{"status": 1003, "msg": ' + json.dumps(body.decode() + SECRET).encode() + b"}"
            )

    service = Echo()

    got = await a_keeper(service).get()

    assert isinstance(got, Answer)
    assert "status 1003" in got.detail
    assert "check secret_key" in got.detail
    for secret in (ACCESS, SECRET, service.calls[0][1]["encryption"]):
        assert secret not in got.detail


@pytest.mark.parametrize(
    "reply",
    [
        says({"status": 0, "data": {"token": "live-token"}}),
        Reply(200, b'{"status": 0, "data": {"accessToken": "live-token', flaw="cut off"),
        Reply(200, b"accessToken=live-token"),
        granted("live-token", http_status=500),
        says({"status": 1005, "data": {"accessToken": "live-token", "expire": 7200}}),
        says({"status": 1005, "msg": "", "data": {"accessToken": "live-token", "expire": 7200}}),
        Reply(500, b'{"status": 0, "data": {"accessToken": "live-token', flaw="cut off"),
    ],
)
async def test_a_reply_that_may_hold_a_token_is_not_quoted(reply: Reply) -> None:
    got = await a_keeper(TokenService(reply)).get()

    assert isinstance(got, Answer)
    assert "live-token" not in got.detail


async def test_a_token_service_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "BOUND", 0.02)
    service = TokenService(granted("t1"), granted("t2"))
    service.gate.clear()
    keeper = a_keeper(service)

    got = await keeper.get()

    assert isinstance(got, Answer)
    assert got.outcome is Outcome.NOT_SENT
    assert got.detail == "no token: the token service gave no answer within 0.02 s"
    assert BOUND == 10


class Broken(TokenService):
    """Breaks from the second call on."""

    async def __call__(self, path: str, body: bytes) -> Reply | NoReply:
        if self.calls:
            self.calls.append((path, json.loads(body)))
            raise RuntimeError(f"while handling {SECRET}")
        return await super().__call__(path, body)


async def test_a_fault_behind_a_token_that_serves_is_logged_and_paused_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, service = HandClock(), Broken(granted("t1"))
    keeper = a_keeper(service, clock)
    await keeper.get()
    clock.advance(7000)

    assert [await soon_after(keeper), await soon_after(keeper)] == ["t1", "t1"]

    assert service.names == ["get", "refresh"]
    [record] = caplog.records
    assert (record.getMessage(), vars(record)["error"]) == (
        "call of EnOS broke by a fault of flowsched",
        "RuntimeError",
    )
    assert record.exc_info is None


async def test_a_fault_is_no_token_and_shows_no_secret() -> None:
    service = Broken(granted("t1", 0))

    got = await a_keeper(service).get()

    assert got == Answer(outcome=Outcome.NOT_SENT, detail="no token: a fault of flowsched (RuntimeError)")


async def test_closing_ends_a_fetch_under_way() -> None:
    service = TokenService(granted("t1"))
    service.gate.clear()
    keeper = a_keeper(service)
    waiter = asyncio.create_task(keeper.get())
    await settle()
    waiter.cancel()

    await keeper.aclose()

    assert len(asyncio.all_tasks()) <= 2


async def test_no_repr_tells_a_secret() -> None:
    keeper = a_keeper(TokenService(granted("t1-secret-token")))
    await keeper.get()

    shown = repr(keeper) + repr(keeper._held)

    assert not any(secret in shown for secret in (ACCESS, SECRET, "t1-secret-token"))


async def test_the_age_of_the_token_counts_from_the_call_that_granted_it() -> None:
    clock = HandClock()
    service = TokenService(granted("t1"), granted("t2"))
    keeper = a_keeper(service, clock)
    assert keeper.age is None

    await keeper.get()
    clock.advance(120)
    assert keeper.age == timedelta(minutes=2)

    keeper.refuse("t1")
    assert keeper.age is None
    await keeper.get()
    assert keeper.age == timedelta(0)
    clock.advance(7200)
    assert keeper.age is None  # it has expired
