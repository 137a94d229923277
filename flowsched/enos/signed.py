"""Signed calls of the batch service: a token, a signature, the call, and what its reply means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from flowsched.enos.caller import trace_headers
from flowsched.enos.calls import Call, Progress
from flowsched.enos.faults import noted
from flowsched.enos.meaning import TokenRefused
from flowsched.enos.readings import is_unread_refusal
from flowsched.enos.replies import NoReply, presentable
from flowsched.enos.signing import call_signature
from flowsched.enos.stamps import stamps_of
from flowsched.model import Answer, Outcome, Sighting, Unsent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.enos.replies import Reply
    from flowsched.enos.requests import TriggerRequest
    from flowsched.enos.slots import Slot
    from flowsched.enos.tokens import TokenKeeper
    from flowsched.enos.turns import Place
    from flowsched.model import Target

    Send = Callable[[Slot, Call, Progress], Awaitable[Reply | NoReply]]

Found = TypeVar("Found", bound=Answer | Sighting)

_NO_TOKEN_YET = "while waiting for a token"  # noqa: S105 - words


class SignedCalls:
    """Makes the calls of one target, in whatever slot and place they are given."""

    def __init__(
        self,
        target: Target,
        keys: tuple[str, str],
        tokens: TokenKeeper,
        send: Send,
        clock: Clock,
        *,
        exports_spans: bool,
    ) -> None:
        """`keys` are the access key and the secret key; `exports_spans` is as of `Gateway`."""
        self.target = target
        self._access_key, self._secret_key = keys
        self._exports_spans = exports_spans
        self._stamps = stamps_of(self._access_key)
        self._tokens = tokens
        self._send = send
        self._clock = clock
        self._unsent: tuple[float, str] | None = None

    @property
    def unsent(self) -> Unsent | None:
        """How the latest call came to nothing before a byte of it had left; None: it did not."""
        if self._unsent is None:
            return None
        at, why = self._unsent
        return Unsent(timedelta(seconds=self._clock.monotonic() - at), why)

    async def make(
        self,
        slot: Slot,
        place: Place,
        request: TriggerRequest,
        timeout: float,
        meaning_of: Callable[[Reply, str, datetime], Found | TokenRefused],
    ) -> Found | Answer:
        """Make one call and say what came of it, as `meaning_of` reads its reply; an Answer where none came.

        Raises nothing but CancelledError. `timeout` is in real seconds, for everything.
        """
        attempt = _Attempt([self._access_key, self._secret_key], place.leaves)
        found: Found | Answer
        try:
            async with asyncio.timeout(timeout):
                found = await self._with_token(slot, place, request, attempt, meaning_of)
        except TimeoutError:
            found = attempt.without_reply(f"no whole answer within {timeout:g} s, {attempt.progress.stage}")
        except Exception as error:  # noqa: BLE001 - a run must not be lost by a fault of ours
            found = attempt.without_reply(f"{noted(error)}, {attempt.progress.stage}")
        found = _masked(found, attempt.hidden)
        unsent = isinstance(found, Answer) and found.outcome is Outcome.NOT_SENT
        self._unsent = (self._clock.monotonic(), found.detail) if unsent else None
        return found

    async def _with_token(
        self,
        slot: Slot,
        place: Place,
        request: TriggerRequest,
        attempt: _Attempt,
        meaning_of: Callable[[Reply, str, datetime], Found | TokenRefused],
    ) -> Found | Answer:
        """Send; where the token is refused, once more with another: nothing has been passed on then."""
        found = await self._once(slot, place, request, attempt, meaning_of)
        if isinstance(found, TokenRefused):
            attempt.token_was_refused()
            found = await self._once(slot, place, request, attempt, meaning_of)
        return found.answer if isinstance(found, TokenRefused) else found

    async def _once(
        self,
        slot: Slot,
        place: Place,
        request: TriggerRequest,
        attempt: _Attempt,
        meaning_of: Callable[[Reply, str, datetime], Found | TokenRefused],
    ) -> Found | Answer | TokenRefused:
        token = await self._tokens.get()
        if isinstance(token, Answer):
            return attempt.without_token(token)
        place.sent()
        reply = await self._send(slot, self._signed(request, token, attempt), attempt.progress)
        if isinstance(reply, NoReply):
            return attempt.without_reply(reply.detail)
        meaning = meaning_of(reply, self.target.api_version, self._clock.now())
        if isinstance(meaning, TokenRefused) or is_unread_refusal(reply):
            self._tokens.refuse(token)
        return meaning

    def _signed(self, request: TriggerRequest, token: str, attempt: _Attempt) -> Call:
        """Sign any call of the batch service; the signature does not count headers (enos-api section 7.2)."""
        stamp = self._stamps.next(self._clock.now())
        signature = call_signature(token, request.query, request.body, stamp, self._secret_key)
        attempt.hidden += (token, signature)
        headers = {
            "apim-accesstoken": token,
            "apim-signature": signature,
            "apim-timestamp": str(stamp),
            **trace_headers(exported=self._exports_spans),
        }
        return Call(request.method, request.url_target, headers, request.body, request.longest_reply)


@dataclass(slots=True)
class _Attempt:
    """What must be known of an attempt when it ends without an answer of its own."""

    hidden: list[str] = field(repr=False)
    """What must not be seen in anything that is told of it."""
    on_sending: Callable[[], None]
    progress: Progress = field(init=False)
    unsent: Outcome = Outcome.NOT_SENT
    """What it means that nothing of the last sending has left."""

    def __post_init__(self) -> None:
        self.progress = Progress(_NO_TOKEN_YET, self.on_sending)

    def token_was_refused(self) -> None:
        self.progress = Progress(_NO_TOKEN_YET, self.on_sending)
        self.unsent = Outcome.REFUSED_FOR_NOW

    def without_token(self, answer: Answer) -> Answer:
        return replace(answer, outcome=self.unsent) if answer.outcome is Outcome.NOT_SENT else answer

    def without_reply(self, detail: str) -> Answer:
        return Answer(outcome=Outcome.UNKNOWN if self.progress.sent else self.unsent, detail=detail)


def _masked(found: Found, hidden: list[str]) -> Found:
    """Return it with no secret in any text that the server may have chosen."""
    if isinstance(found, Sighting):
        started, ended = (time and presentable(time, hidden) for time in (found.started, found.ended))
        found = replace(found, started=started, ended=ended)
    detail = presentable(found.detail, hidden)
    return found if detail == found.detail else replace(found, detail=detail)
