"""The moves of runs as records, so that those which come at once can be written together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING

from flowsched.ledger.transitions import ARROWS
from flowsched.model import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from flowsched.ledger.books import Books
    from flowsched.model import Answer, NextStep, Run

_LARGEST = 2**63 - 1
"""What a column of integers takes; a gateway may answer any number."""


@dataclass(frozen=True, slots=True)
class Begin:
    """`Ledger.begin_attempt`."""

    run_id: int
    number: int
    at: datetime
    note: str | None
    deadline: datetime | None
    claimed_at: datetime | None

    def __call__(self, books: Books) -> Run:
        """Carry it out by itself: it finds out what it meets, and says why it is refused."""
        return books.runs.begin_attempt(
            self.run_id, self.number, self.at, self.note, self.deadline, self.claimed_at
        )

    def after(self, before: Run) -> Run | None:
        """Return what the run becomes; None where it has to be carried out by itself."""
        if (
            not _in_utc(self.at, self.deadline)
            or before.claimed_at != (self.claimed_at or before.claimed_at)
            or RunState.SENDING not in ARROWS[before.state]
            or before.attempts != self.number - 1
        ):
            return None
        return replace(
            before,
            state=RunState.SENDING,
            reason=None,
            retry_at=None,
            attempts=self.number,
            note=before.note if self.note is None else self.note,
            deadline=before.deadline if self.deadline is None else self.deadline,
            updated_at=self.at,
        )


@dataclass(frozen=True, slots=True)
class End:
    """`Ledger.end_attempt`."""

    run_id: int
    number: int
    at: datetime
    answer: Answer
    step: NextStep

    def __call__(self, books: Books) -> Run:
        """Carry it out by itself: it finds out what it meets, and says why it is refused."""
        return books.runs.end_attempt(self.run_id, self.number, self.at, self.answer, self.step)

    def after(self, before: Run) -> Run | None:
        """Return what the run becomes; None where it has to be carried out by itself."""
        if (
            not _in_utc(self.at, self.step.retry_at)
            or before.state is not RunState.SENDING
            or self.step.state not in ARROWS[RunState.SENDING]
            or before.attempts != self.number
            or abs(self.answer.code or 0) > _LARGEST
        ):
            return None
        return _entered(before, self.at, self.step, self.answer.instance)


@dataclass(frozen=True, slots=True)
class Settle:
    """`Ledger.settle`."""

    run_id: int
    at: datetime
    step: NextStep
    claimed_at: datetime | None

    def __call__(self, books: Books) -> Run:
        """Carry it out by itself: it finds out what it meets, and says why it is refused."""
        return books.runs.settle(self.run_id, self.at, self.step, self.claimed_at)

    def after(self, before: Run) -> Run | None:
        """Return what the run becomes; None where it has to be carried out by itself."""
        if (
            not _in_utc(self.at, self.step.retry_at)
            or before.claimed_at != (self.claimed_at or before.claimed_at)
            or self.step.state not in ARROWS[before.state] - {RunState.SENDING}
        ):
            return None
        found = self.step.state is RunState.TRIGGERED
        return _entered(before, self.at, self.step, before.predicted_instance if found else before.instance)


Move = Begin | End | Settle
"""What moves one run and touches no other: moves of different runs may be carried out in any order."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move makes of a run that stands as it did last."""

    move: Move
    before: Run
    after: Run


class Known:
    """Open runs as they were written last, so that they need not be read before they move.

    They may be out of date. That does no harm, as they are written anew only where the ledger has the same.
    Of what was undone nothing may stay: the number of such a run may be given again.
    """

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self._lately: set[int] = set()

    def keep(self, run: Run) -> None:
        """Take note of how a run was written just now."""
        self._lately.add(run.id)
        if run.state.final:
            self._runs.pop(run.id, None)
        else:
            self._runs[run.id] = run

    def mark(self) -> None:
        """Begin what `undo` takes back."""
        self._lately.clear()

    def undo(self) -> None:
        """Know nothing any more of the runs that were kept since the mark."""
        self.forget(self._lately)

    def forget(self, runs: Iterable[int]) -> None:
        """Know nothing any more of the runs of these ids."""
        for run_id in runs:
            self._runs.pop(run_id, None)

    def forget_all(self) -> None:
        """Know nothing any more."""
        self._runs.clear()

    def moved(self, move: Move) -> Moved | None:
        """Return what a move makes of its run; None where it has to be carried out by itself."""
        before = self._runs.get(move.run_id)
        after = None if before is None else move.after(before)
        return None if before is None or after is None else Moved(move, before, after)


def stretches(operations: Iterable[Callable[[Books], object]]) -> Iterator[list[Callable[[Books], object]]]:
    """Cut operations into neighbours of which none can tell in which order they are carried out.

    Those are moves of different runs; any other operation is alone.
    """
    stretch: list[Callable[[Books], object]] = []
    runs: set[int] = set()
    for operation in operations:
        if not isinstance(operation, Move) or not runs or operation.run_id in runs:
            if stretch:
                yield stretch
            stretch, runs = [], set()
        stretch.append(operation)
        if isinstance(operation, Move):
            runs.add(operation.run_id)
    if stretch:
        yield stretch


def _entered(before: Run, at: datetime, step: NextStep, instance: str | None) -> Run:
    return replace(
        before,
        state=step.state,
        reason=step.reason,
        retry_at=step.retry_at,
        instance=instance,
        updated_at=at,
    )


def _in_utc(*instants: datetime | None) -> bool:
    """Whether they are as they would be read back; a naive one is to be refused."""
    return all(instant is None or instant.tzinfo is UTC for instant in instants)
