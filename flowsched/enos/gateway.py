"""One target over HTTP: waits its turn, gets a token, signs, sends, and says what came of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from flowsched.enos.clients import client_builder
from flowsched.enos.faults import noted
from flowsched.enos.meaning import TokenRefused, meaning_of
from flowsched.enos.replies import NoReply, presentable
from flowsched.enos.signing import call_signature
from flowsched.enos.slots import Call, Progress, Slot
from flowsched.enos.stamps import stamps_of
from flowsched.enos.tokens import TokenKeeper
from flowsched.enos.turns import Place, Turnstile
from flowsched.model import Answer, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from flowsched.clock import Clock
    from flowsched.enos.replies import Reply
    from flowsched.enos.requests import TriggerRequest
    from flowsched.model import Target

_NO_TOKEN_YET = "while waiting for a token"  # noqa: S105 - words


class Gateway:
    """One target. Keep it as long as the target's settings last; it holds the token and the limits.

    Connections are kept only within a burst: as long as others wait for their turn, the next one uses the
    connection that the last one leaves; when nobody waits, all idle ones are closed. So nothing lies
    around half-closed for hours, and a call hardly ever meets a connection that the server has given up.
    """

    def __init__(self, target: Target, access_key: str, secret_key: str, clock: Clock) -> None:
        """Make no connection yet. Raises ConfigError where the target can never be called (`clients`)."""
        self.target = target
        self._access_key = access_key
        self._secret_key = secret_key
        self._clock = clock
        self._stamps = stamps_of(access_key)
        self._turnstile = Turnstile(target.limits, clock)
        self._build = client_builder(target)
        self._idle: list[Slot] = []
        self._tokens = TokenKeeper(access_key, secret_key, self._post, clock)

    def __repr__(self) -> str:
        return f"<Gateway {self.target.name}>"

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait, in order of arrival, until the limits of the target allow another call; hold the turn.

        The rate counts calls that begin in any 60 seconds of the clock's monotonic time. A call that is
        sent again at once with a new token is counted too, and does not wait. Leaving without having called
        costs nothing. Cancelled at any point, nothing is held any longer.
        """
        try:
            async with self._turnstile.place() as place:
                slot = self._idle.pop() if self._idle else Slot(self._build)
                try:
                    yield Turn(partial(self._trigger, slot, place))
                finally:
                    self._idle.append(slot)
        finally:  # for those as well who leave without a turn: they may have been the last to wait
            await self._close_idle_unless_wanted()

    async def aclose(self) -> None:
        """Close all connections. No turn may be under way, or be asked for any more."""
        await self._tokens.aclose()
        await self._close_idle_unless_wanted()

    async def _close_idle_unless_wanted(self) -> None:
        while self._idle and not self._turnstile.waiting:
            await self._idle.pop().aclose()

    async def _trigger(self, slot: Slot, place: Place, request: TriggerRequest, timeout: float) -> Answer:
        attempt = _Attempt(hidden=[self._access_key, self._secret_key])
        try:
            async with asyncio.timeout(timeout):
                answer = await self._trigger_with_token(slot, place, request, attempt)
        except TimeoutError:
            answer = attempt.without_reply(f"no whole answer within {timeout:g} s, {attempt.progress.stage}")
        except Exception as error:  # noqa: BLE001 - a run must not be lost by a fault of ours
            answer = attempt.without_reply(f"{noted(error)}, {attempt.progress.stage}")
        return replace(answer, detail=presentable(answer.detail, attempt.hidden))

    async def _trigger_with_token(
        self, slot: Slot, place: Place, request: TriggerRequest, attempt: _Attempt
    ) -> Answer:
        """Send; where the token is refused, once more with another: nothing has been passed on then."""
        meaning = await self._trigger_once(slot, place, request, attempt)
        if isinstance(meaning, TokenRefused):
            attempt.token_was_refused()
            meaning = await self._trigger_once(slot, place, request, attempt)
        return meaning.answer if isinstance(meaning, TokenRefused) else meaning

    async def _trigger_once(
        self, slot: Slot, place: Place, request: TriggerRequest, attempt: _Attempt
    ) -> Answer | TokenRefused:
        token = await self._tokens.get()
        if isinstance(token, Answer):
            return attempt.without_token(token)
        place.sent()
        reply = await self._call(slot, request, token, attempt)
        if isinstance(reply, NoReply):
            return attempt.without_reply(reply.detail)
        meaning = meaning_of(reply, self.target.api_version, self._clock.now())
        if isinstance(meaning, TokenRefused):
            self._tokens.refuse(token)
        return meaning

    async def _call(
        self, slot: Slot, request: TriggerRequest, token: str, attempt: _Attempt
    ) -> Reply | NoReply:
        """Sign and send any call of the batch service (enos-api section 7.2)."""
        stamp = self._stamps.next(self._clock.now())
        signature = call_signature(token, request.query, request.body, stamp, self._secret_key)
        attempt.hidden += (token, signature)
        headers = {"apim-accesstoken": token, "apim-signature": signature, "apim-timestamp": str(stamp)}
        call = Call(request.method, self.target.url + request.url_target, headers, request.body)
        return await slot.send(call, attempt.progress)

    async def _post(self, path: str, body: bytes) -> Reply | NoReply:
        """Call the token service, on a connection of its own: it is seldom, and serves many turns."""
        slot = Slot(self._build)
        try:
            return await slot.send(Call("POST", self.target.url + path, {}, body), Progress())
        finally:
            await slot.aclose()


class Turn:
    """Leave for one attempt; ends with the `async with` that it came from."""

    def __init__(self, trigger: Callable[[TriggerRequest, float], Awaitable[Answer]]) -> None:
        self._trigger = trigger

    async def trigger(self, request: TriggerRequest, timeout: float) -> Answer:
        """Make one attempt and say what came of it; raises nothing but CancelledError.

        `timeout` is in real seconds and spans everything: token, connection, sending, and the whole reply.
        It is no caller's `asyncio.timeout`, for what its end means depends on how far the call had got.
        A fault of flowsched itself is an answer too, and is logged.
        """
        return await self._trigger(request, timeout)


@dataclass(slots=True)
class _Attempt:
    """What must be known of an attempt when it ends without an answer of its own."""

    hidden: list[str] = field(repr=False)
    """What must not be seen in a detail."""
    progress: Progress = field(default_factory=partial(Progress, _NO_TOKEN_YET))
    unsent: Outcome = Outcome.NOT_SENT
    """What it means that nothing of the last sending has left."""

    def token_was_refused(self) -> None:
        self.progress = Progress(_NO_TOKEN_YET)
        self.unsent = Outcome.REFUSED_FOR_NOW

    def without_token(self, answer: Answer) -> Answer:
        return replace(answer, outcome=self.unsent) if answer.outcome is Outcome.NOT_SENT else answer

    def without_reply(self, detail: str) -> Answer:
        return Answer(outcome=Outcome.UNKNOWN if self.progress.sent else self.unsent, detail=detail)
