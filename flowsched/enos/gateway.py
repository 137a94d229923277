"""One target over HTTP: waits its turn, then makes the calls of the turn."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from flowsched.enos.calls import Call, Progress
from flowsched.enos.clocks import ClockComparison
from flowsched.enos.meaning import meaning_of, meaning_of_cancel
from flowsched.enos.replies import NoReply
from flowsched.enos.requests import cancel_request, look_up_request
from flowsched.enos.sightings import sighting_of, unclear
from flowsched.enos.signed import SignedCalls
from flowsched.enos.slots import Slot
from flowsched.enos.tokens import TokenKeeper
from flowsched.enos.turns import WINDOW, Turnstile
from flowsched.enos.ways import way_to
from flowsched.model import Outcome, Sighting

if TYPE_CHECKING:
    from typing import Self

    from flowsched.clock import Clock
    from flowsched.enos.replies import Reply
    from flowsched.enos.requests import TriggerRequest
    from flowsched.enos.turns import Place
    from flowsched.model import Answer, Target, Unsent

log = logging.getLogger(__name__)

LONG = 30.0
"""Seconds of wait for the limits beyond which a turn, once it is over, is logged; once a minute at most."""


class Gateway:
    """One target. Keep it as long as the target's settings last; it holds the token and the limits.

    Connections are kept only within a burst: as long as others wait for their turn, the next one uses the
    connection that the last one leaves; when nobody waits, all idle ones are closed. So nothing lies
    around half-closed for hours, and a call hardly ever meets a connection that the server has given up.
    """

    def __init__(
        self,
        target: Target,
        access_key: str,
        secret_key: str,
        clock: Clock,
        *,
        clock_tolerance: timedelta = timedelta(seconds=30),
        exports_spans: bool = False,
    ) -> None:
        """Make no connection yet. Raises ConfigError where the target can never be called (`ways`).

        `clock_tolerance` is how far this machine's clock and the gateway's may differ before that is logged
        as an error. `exports_spans` is what `traceparent` tells of the span that it names.
        """
        self.target = target
        self._clock = clock
        self._turnstile = Turnstile(target.limits, clock)
        self._way = way_to(target)
        self._idle: list[Slot] = []
        self._comparison = ClockComparison(target.name, clock_tolerance, clock)
        self._tokens = TokenKeeper(access_key, secret_key, self._post, clock)
        keys = access_key, secret_key
        self._calls = SignedCalls(target, keys, self._tokens, self._send, clock, exports_spans=exports_spans)
        self._long_wait_told_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Gateway {self.target.name}>"

    @property
    def clock_offset(self) -> timedelta | None:
        """How far the gateway's clock is ahead of ours, by its latest reply that told; None: none has yet.

        Zero where the reply may have been dated at any instant of the call, give or take the second that a
        `Date` counts in; else its distance from the middle of the call.
        """
        return self._comparison.offset

    @property
    def token_age(self) -> timedelta | None:
        """How long ago the access token was granted that calls are signed with; None: there is none."""
        return self._tokens.age

    @property
    def held_by(self) -> str | None:
        """The limit that calls wait for just now, such as `20 calls at once`; None: none waits."""
        return self._turnstile.held_by

    @property
    def unsent(self) -> Unsent | None:
        """How the latest call came to nothing before a byte of it had left; None: it did not."""
        return self._calls.unsent

    @property
    def clock_is_off(self) -> bool:
        """Whether the two clocks were last surely seen to differ by more than the tolerance."""
        return self._comparison.apart

    def turn(self, *, urgent: bool = True) -> Turn:
        """Wait, in order of arrival, until the limits of the target allow another call; hold the turn.

        Those that are not urgent stand in one line behind each other, of which only the first stands in the
        line of the urgent.

        The rate counts calls that begin in any 60 seconds of the clock's monotonic time. A call that is
        sent again at once with a new token is counted too, and does not wait; nor does a second call within
        a turn. Leaving without having called costs nothing. Cancelled at any point, nothing is held any
        longer.
        """
        return Turn(self, self._calls, self._turnstile.place(urgent=urgent))

    def take_slot(self) -> Slot:
        """Return room for the calls of a turn, on a connection that is kept if there is one."""
        return self._idle.pop() if self._idle else Slot(self._way)

    def put_back(self, slot: Slot) -> None:
        """Take back what `take_slot` has returned."""
        self._idle.append(slot)

    def close_idle_unless_wanted(self) -> None:
        """Close the connections that are kept, where nobody waits for a turn."""
        while self._idle and not self._turnstile.waiting:
            self._idle.pop().close()

    async def aclose(self) -> None:
        """Close all connections. No turn may be under way, or be asked for any more."""
        await self._tokens.aclose()
        self.close_idle_unless_wanted()

    def note_a_wait(self, place: Place) -> None:
        """Log how long a place was waited for, if that is long."""
        now = self._clock.monotonic()
        if place.waited <= LONG or not place.urgent or now - self._long_wait_told_at < WINDOW:
            return
        self._long_wait_told_at = now
        log.warning(
            "calls wait long for the limits of their target",
            extra={
                "target": self.target.name,
                "limit": place.held_by,
                "waited": round(place.waited, 3),
                "waiting": self._turnstile.waiting,
            },
        )

    async def _post(self, path: str, body: bytes) -> Reply | NoReply:
        """Call the token service, on a connection of its own: it is seldom, and serves many turns."""
        slot = Slot(self._way)
        try:
            return await self._send(slot, Call("POST", path, {}, body), Progress())
        finally:
            slot.close()

    async def _send(self, slot: Slot, call: Call, progress: Progress) -> Reply | NoReply:
        """Send, and compare the clocks by the reply, whatever else it says."""
        began = self._clock.now()
        reply = await slot.send(call, progress)
        if not isinstance(reply, NoReply):
            self._comparison.note(reply, began)
        return reply


class Turn:
    """Leave for one attempt, of whatever call; ends with the `async with` that it came from.

    Every call raises nothing but CancelledError: a fault of flowsched itself is told like any other, and
    logged. `timeout` is in real seconds and spans everything: token, connection, sending, and the whole
    reply. It is no caller's `asyncio.timeout`, for what its end means depends on how far the call had got.
    """

    def __init__(self, gateway: Gateway, calls: SignedCalls, place: Place) -> None:
        self._gateway = gateway
        self._calls = calls
        self._place = place
        self._slot: Slot

    async def __aenter__(self) -> Self:
        try:
            await self._place.__aenter__()
        except BaseException:  # it may have been the last to wait
            self._gateway.close_idle_unless_wanted()
            raise
        self._slot = self._gateway.take_slot()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gateway.put_back(self._slot)
        await self._place.__aexit__()
        self._gateway.close_idle_unless_wanted()
        self._gateway.note_a_wait(self._place)

    @property
    def held_by(self) -> str | None:
        """The limit that it waited for, such as `1 call a minute`; None: it came at once."""
        return self._place.held_by

    @property
    def left_at(self) -> float | None:
        """When a byte of the latest call may have left, by the clock's monotonic time; None: none has."""
        return self._place.left_at

    async def trigger(self, request: TriggerRequest, timeout: float) -> Answer:
        """Make one attempt to trigger, and say what came of it."""
        meaning = partial(meaning_of, flow=request.flow)
        answer = await self._calls.make(self._slot, self._place, request, timeout, meaning)
        if answer.outcome is Outcome.ACCEPTED and answer.instance is None:
            # It may have been the answer to another call, and so would be the next one on this connection.
            self._slot.close()
        return answer

    async def look_up(self, instance: str, timeout: float) -> Sighting:
        """Look once whether EnOS has the instance of that id, and how it stands. Changes nothing.

        Unclear is every look that had no answer, whatever the reason.
        """
        request = look_up_request(self._calls.target, instance)
        meaning = partial(sighting_of, instance)
        found = await self._calls.make(self._slot, self._place, request, timeout, meaning)
        return found if isinstance(found, Sighting) else unclear(found)

    async def cancel(self, instance: str, timeout: float) -> Answer:
        """Ask EnOS once to cancel the instance of that id: best effort, and no promise that it stops.

        ACCEPTED means that EnOS took the request; the other outcomes are those of a trigger, of which the
        last ones may well be found to have cancelled it.
        """
        request = cancel_request(self._calls.target, instance)
        return await self._calls.make(self._slot, self._place, request, timeout, meaning_of_cancel)
