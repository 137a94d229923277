"""Who carries a run: one task at a time, also where a run is claimed again while its old task still ends."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine
    from datetime import datetime
    from typing import Any, TypeAlias

    from flowsched.model import Run

    Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Carriers:
    """The tasks that carry runs, each for one claim of its run; `claimed_at` tells the claims apart."""

    def __init__(self) -> None:
        self._of: defaultdict[int, dict[asyncio.Task[None], datetime]] = defaultdict(dict)

    def __len__(self) -> int:
        """Return how many runs are being carried."""
        return len(self._of)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """All that have not ended."""
        return {task for tasks in self._of.values() for task in tasks}

    def of(self, run_id: int) -> Collection[asyncio.Task[None]]:
        """Return those that carry a run."""
        return self._of.get(run_id, {}).keys()

    def have(self, run: Run) -> bool:
        """Tell whether this very claim of the run is being carried."""
        return run.claimed_at in self._of.get(run.id, {}).values()

    def take(self, run: Run, work: Work, *, unless: Collection[asyncio.Task[None]]) -> None:
        """Have `work` carry a claim of a run, once all that carry an older one have ended.

        Those are cancelled, as nothing is left for them to do, but for those in `unless`.
        """
        before = set(self._of[run.id])
        for task in before.difference(unless):
            task.cancel()
        task = asyncio.create_task(_after(before, work) if before else work())
        self._of[run.id][task] = run.claimed_at
        task.add_done_callback(lambda done: self._drop(run.id, done))

    async def let_go(self, run: Run) -> None:
        """Cancel what carries this claim of the run, if anything does, and wait for its end."""
        found = self._of.get(run.id, {}).items()
        theirs = [task for task, claimed_at in found if claimed_at == run.claimed_at]
        for task in theirs:
            task.cancel()
        await asyncio.gather(*theirs, return_exceptions=True)

    def _drop(self, run_id: int, task: asyncio.Task[None]) -> None:
        del self._of[run_id][task]
        if not self._of[run_id]:
            del self._of[run_id]


async def _after(before: Collection[asyncio.Task[None]], work: Work) -> None:
    # Cancelled itself, it may end before them: whoever comes next waits for all that are there.
    await asyncio.wait(before)
    await work()
