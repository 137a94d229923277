"""Keeps the access token of one application: one at a time, fetched once for all who wait."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched.enos.faults import noted
from flowsched.enos.replies import presentable
from flowsched.enos.signing import token_encryption
from flowsched.enos.stamps import stamps_of
from flowsched.enos.token_meaning import NO_REFRESH, REPLAYED, Denial, Grant, meaning_of_token
from flowsched.model import Answer, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flowsched.clock import Clock
    from flowsched.enos.replies import NoReply, Reply

    Post = Callable[[str, bytes], Awaitable[Reply | NoReply]]

_PATH = "/apim-token-service/v2.0/token/"

FRESH = 600.0
"""Seconds of life below which a token is refreshed: the policy of the official client (section 7.1).

A token that was granted for less than twice as long is refreshed when half of its life is over.
"""
PAUSE = 30.0
"""Seconds after a failed refresh before the next, while the old token still serves."""
BOUND = 10.0
"""Real seconds for all calls that getting one token takes. It is shared, so no attempt's own bound fits."""
_REPLAYS = 5
_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class Token:
    """An access token as EnOS granted it."""

    value: str = field(repr=False)
    life: int
    """Seconds that it was granted for."""
    expires: float
    """By the monotonic clock; counted from before the call, so never too late."""


class TokenKeeper:
    """Hands out the token of one application.

    EnOS gives the same token to all who ask with one key, perhaps close to its end, and whether a refresh
    ends the old one at once is not documented (enos-api section 7.1). So a token can be refused at any
    time; its user then calls `refuse` and asks again.
    """

    def __init__(self, access_key: str, secret_key: str, post: Post, clock: Clock) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._post = post
        self._clock = clock
        self._stamps = stamps_of(access_key)
        self._held: Token | None = None
        self._refused: deque[str] = deque(maxlen=_REMEMBERED)
        self._not_before = 0.0
        self._flight: asyncio.Task[Token | Answer] | None = None

    @property
    def age(self) -> timedelta | None:
        """How long ago the token was granted that is handed out; None where none serves just now."""
        held = self._held
        if held is None or not self._serves(held):
            return None
        return timedelta(seconds=self._clock.monotonic() - (held.expires - held.life))

    async def get(self) -> str | Answer:
        """Return a token that was not refused, or what its lack means for the call that needs it.

        A token that serves is handed out at once; where it is due for a refresh, that goes on behind it.
        Only without one is there a wait. All who wait share one fetch, which goes on for the others when
        one of them is cancelled.
        """
        held = self._held
        if held is None or not self._serves(held):
            fetched = await asyncio.shield(self._fetch_under_way())
            return fetched.value if isinstance(fetched, Token) else fetched
        if self._refresh_is_due(held):
            self._fetch_under_way()
        return held.value

    def refuse(self, token: str) -> None:
        """Never hand out this token again. Of no effect on a newer one that has replaced it."""
        self._refused.append(token)
        if self._held is not None and self._held.value == token:
            self._held = None

    async def aclose(self) -> None:
        """End a fetch under way. Nobody may be waiting for it."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    def _serves(self, token: Token) -> bool:
        return token.value not in self._refused and token.expires > self._clock.monotonic()

    def _refresh_is_due(self, token: Token) -> bool:
        now = self._clock.monotonic()
        return token.expires - now < min(FRESH, token.life / 2) and now >= self._not_before

    def _fetch_under_way(self) -> asyncio.Task[Token | Answer]:
        """Return the one fetch that there is; begin it where there is none."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._bounded_fetch())
        return self._flight

    async def _bounded_fetch(self) -> Token | Answer:
        """Raise nothing but CancelledError: there may be nobody who waits and would hear of it."""
        try:
            async with asyncio.timeout(BOUND):
                fetched = await self._fetch()
        except TimeoutError:
            detail = f"no token: the token service gave no answer within {BOUND:g} s"
            fetched = self._or_held(Answer(outcome=Outcome.NOT_SENT, detail=detail))
        except Exception as error:  # noqa: BLE001 - the pause holds for a fault of ours as well
            fetched = self._or_held(Answer(outcome=Outcome.NOT_SENT, detail=f"no token: {noted(error)}"))
        if isinstance(fetched, Token):
            self._held = fetched
        return fetched

    async def _fetch(self) -> Token | Answer:
        if self._held is not None and self._serves(self._held):
            return await self._refresh(self._held)
        got = await self._ask("get")
        if isinstance(got, Denial):
            return got.answer
        return got if self._serves(got) else await self._refresh(got)

    async def _refresh(self, token: Token) -> Token | Answer:
        granted = await self._ask("refresh", accessToken=token.value)
        if isinstance(granted, Denial) and granted.status in NO_REFRESH:
            granted = await self._ask("get")
        if isinstance(granted, Denial):
            return self._or_held(granted.answer)
        if self._serves(granted):
            return granted
        detail = "no token: the token service grants only a token that is expired or was refused"
        return self._or_held(Answer(outcome=Outcome.NOT_SENT, detail=detail))

    def _or_held(self, answer: Answer) -> Token | Answer:
        """Go on with the old token while it lives, and leave the service alone for a while."""
        if self._held is None or not self._serves(self._held):
            return answer
        self._not_before = self._clock.monotonic() + PAUSE
        return self._held

    async def _ask(self, call: str, **more: str) -> Token | Denial:
        for _ in range(_REPLAYS):
            granted = await self._ask_once(call, more)
            if isinstance(granted, Token) or granted.status != REPLAYED:
                break
        return granted

    async def _ask_once(self, call: str, more: dict[str, str]) -> Token | Denial:
        asked_at = self._clock.monotonic()
        now = self._clock.now()
        stamp = self._stamps.next(now)
        encryption = token_encryption(self._access_key, stamp, self._secret_key)
        body = {"appKey": self._access_key, "encryption": encryption, "timestamp": stamp, **more}
        reply = await self._post(_PATH + call, json.dumps(body, separators=(",", ":")).encode())
        granted = meaning_of_token(reply, now)
        if isinstance(granted, Grant):
            return Token(granted.token, granted.life, asked_at + granted.life)
        secrets = (self._access_key, self._secret_key, encryption, *more.values())
        return replace(
            granted, answer=replace(granted.answer, detail=presentable(granted.answer.detail, secrets))
        )
