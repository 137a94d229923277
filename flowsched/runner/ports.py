"""What carrying a run needs of a target; `enos.Gateway` is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from flowsched.enos import TriggerRequest
    from flowsched.model import Answer, Sighting, Target


class Turn(Protocol):
    """The right to make one call now. Timeouts are in real seconds; what happens comes back as a value."""

    @property
    def held_by(self) -> str | None:
        """The limit that it waited for, in words; None: it came at once."""

    @property
    def left_at(self) -> float | None:
        """When a byte of the latest call may have left, by the clock's monotonic time; None: none has."""

    async def trigger(self, request: TriggerRequest, timeout: float) -> Answer:
        """Trigger a flow, or a task of it."""

    async def look_up(self, instance: str, timeout: float) -> Sighting:
        """Ask whether there is such an instance, and how it stands."""

    async def cancel(self, instance: str, timeout: float) -> Answer:
        """Ask for an instance to be cancelled, as far as that is possible."""


class Gateway(Protocol):
    """One target: hands out turns inside its limits."""

    @property
    def target(self) -> Target:
        """The target this gateway speaks to."""

    @property
    def held_by(self) -> str | None:
        """The limit that turns are waited for just now, in words; None: none is."""

    def turn(self, *, urgent: bool = True) -> AbstractAsyncContextManager[Turn]:
        """Wait for a free place and for the rate; what is not urgent waits for what is."""
