"""What can be asked of a daemon; `daemon.Hands` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from flowsched.control.history import RunsFound, RunsWanted
    from flowsched.model import (
        Action,
        AppliedCatalog,
        Health,
        Origin,
        Pause,
        Reload,
        Run,
        RunState,
        Scope,
        Status,
    )


class Wheel(Protocol):
    """All that a person can see and do. `by` is who does it, `reason` one line of theirs.

    Raises `errors.ControlRefusal`, which says why and what is allowed, where what is asked cannot be done as
    things stand, and LedgerError where the ledger would not take it just now.
    """

    def status(self) -> Status:
        """Return how the daemon stands."""

    def health(self) -> Health:
        """Return whether it is alive; costs next to nothing."""

    async def reload(self, by: str, *, wait: bool = True) -> Reload | None:
        """Have the schedules read anew, and return what came of it when it is over; None: not waited for."""

    async def accept(self, digest: str, by: str, reason: str | None) -> Reload | None:
        """Accept what the schedule files are now, if its revision begins with `digest`.

        Have it put in force, and return what came of it; None: there is no daemon, and the next one that
        starts does so. Files that cannot be used are refused, with their problems.
        """

    async def trigger(
        self, schedule_id: str, at: datetime | None, origin: Origin, by: str, reason: str | None
    ) -> Run:
        """Claim a run by hand, of origin manual or backfill, and have it carried; return it as claimed.

        `at` is its fire time, a whole minute that is not in the future; None: the minute that has begun.
        """

    async def fires(
        self, schedule_id: str, from_: datetime, to: datetime, every: int
    ) -> Sequence[tuple[datetime, Run | None]]:
        """Return each `every`th fire time with `from_` <= fire time < `to`, with the run that it has.

        That is the one that has made its instance or may do so, or else the newest; None: there is none.
        Fire times that a blackout leaves out are not among them.
        """

    async def pause(
        self, scope: Scope, name: str | None, until: datetime | None, by: str, reason: str
    ) -> tuple[Pause, Sequence[Run]]:
        """Pause, and return the pause with the runs that go on, as they were claimed before it."""

    async def resume(self, scope: Scope, name: str | None, by: str, reason: str | None) -> Sequence[Pause]:
        """End the pauses of this scope and name, and return them; there is at least one."""

    async def cancel(self, run_id: int, by: str, reason: str) -> tuple[Run, str]:
        """End a run that is not sent yet, or ask EnOS to cancel its instance; say what came of it."""

    async def resolve(self, run_id: int, state: RunState, by: str, reason: str) -> Run:
        """Settle a run in doubt as triggered or failed, and return it."""

    async def runs(self, wanted: RunsWanted) -> RunsFound:
        """Return runs of the ledger; raises `history.NotFoundError` as `history.look_up` does."""

    async def actions(self, limit: int) -> Sequence[Action]:
        """Return at most so many things that people have done, newest first."""

    async def catalogs(self, limit: int) -> Sequence[AppliedCatalog]:
        """Return at most so many catalogs that were put in force, newest first."""

    async def alert_test(self, channel: str | None, by: str) -> Sequence[Mapping[str, object]]:
        """Send a test over an alert channel, None: over each; return what came of it, as plain JSON.

        Raises UsageError for a channel that there is not.
        """
