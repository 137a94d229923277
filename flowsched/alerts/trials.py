"""A test over each channel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.alerts.lines import kind_of
from flowsched.alerts.messages import identity
from flowsched.errors import UsageError, quoted
from flowsched.model import Alert, AlertKind, Message, MessageState
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.alerts.lines import Line
    from flowsched.clock import Clock


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a test over one channel."""

    channel: str
    kind: str
    ok: bool
    detail: str
    """One line for people."""
    seconds: float

    def document(self) -> dict[str, object]:
        """Return it as plain JSON."""
        return {
            "channel": self.channel,
            "kind": self.kind,
            "ok": self.ok,
            "detail": self.detail,
            "seconds": round(self.seconds, 3),
        }


async def tried(lines: Mapping[str, Line], name: str | None, clock: Clock, by: str) -> list[Trial]:
    """Send a test over the channel with this name, None: over each, at once; return what came of it.

    It is not repeated, and not recorded. Raises UsageError for a channel that there is not.
    """
    if name is not None and name not in lines:
        allowed = ", ".join(lines) or "none, as flowsched.yaml has no alerts"
        raise UsageError(f"there is no channel {quoted(name)}{did_you_mean(name, lines)}; allowed: {allowed}")
    chosen = [line for each, line in lines.items() if name in (None, each)]
    return list(await asyncio.gather(*(_tried(line, clock, by) for line in chosen)))


async def _tried(line: Line, clock: Clock, by: str) -> Trial:
    began, now = clock.monotonic(), clock.now()
    summary = f"this is a test, sent by {by}: alerts arrive here"
    alert = Alert(kind=AlertKind.TEST, subject="test", summary=summary, at=now)
    message = Message(
        id=None,
        identity=identity(alert, line.channel.name, clock.draw()),
        channel=line.channel.name,
        at=now,
        state=MessageState.PENDING,
        alerts=(alert,),
        more={},
        attempts=0,
        next_at=now,
        done_at=None,
        error=None,
    )
    came = await line.tell(message, clock)
    return Trial(line.channel.name, kind_of(line.channel), came.ok, came.detail, clock.monotonic() - began)
