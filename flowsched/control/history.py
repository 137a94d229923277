"""The runs that a ledger holds, with what became of them: for a command, and for whoever asks a daemon."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowsched.control.documents import attempt_document, commit_document, run_document, watch_document
from flowsched.control.words import no_run
from flowsched.errors import ControlRefusal, quoted
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowsched.control.documents import Document
    from flowsched.ledger import LedgerReader
    from flowsched.model import AppliedCatalog, Attempt, Run, RunState, Watch


class NotFoundError(ControlRefusal):
    """What is named is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsWanted:
    """Which runs are to be looked up."""

    run_id: int | None = None
    """None: by the fields that follow; a number: this one, and those are not looked at."""
    schedule_id: str | None = None
    """None: of any schedule."""
    state: RunState | None = None
    """None: in any state."""
    limit: int = 50
    attempts: bool = False
    """Whether their attempts are wanted, too."""


@dataclass(frozen=True, slots=True)
class RunsFound:
    """What was found."""

    runs: Sequence[Run]
    """Newest fire time first."""
    watches: Mapping[int, Watch]
    attempts: Mapping[int, Sequence[Attempt]] | None
    """None: not asked for."""
    catalogs: Sequence[AppliedCatalog]
    """Every catalog on record, oldest first."""
    waits_for: Mapping[int, str] = field(default_factory=dict)
    """By number, what those that are due wait for, as far as whoever carries them has told."""


async def look_up(
    ledger: LedgerReader, wanted: RunsWanted, in_files: Callable[[], Iterable[str] | None]
) -> RunsFound:
    """Return the runs that are wanted.

    `in_files` gives the ids of the schedules that the files have, None: they cannot be used; it is asked only
    where a schedule has no runs. Raises NotFoundError where the ledger has no run of that number, or where a
    schedule is named that neither the ledger nor the files know.
    """
    runs = await _runs(ledger, wanted)
    if not runs and wanted.run_id is not None:
        raise NotFoundError(no_run(wanted.run_id))
    if not runs and wanted.schedule_id is not None:
        await _require_known(ledger, wanted.schedule_id, in_files)
    watched = [run.id for run in runs if run.watch is not None]
    watches = await ledger.watches_of(watched) if watched else {}
    attempts = await ledger.attempts([run.id for run in runs]) if wanted.attempts else None
    return RunsFound(runs, watches, attempts, await ledger.catalogs())


def found_documents(found: RunsFound) -> list[Document]:
    """Return each run with what became of its flow, its commit, and its attempts where they were wanted.

    The keys beside those of `run_document` are `flow_state`, null where the flow is not watched; `commit`,
    null where it is not known; `attempts`, which is there only where they were wanted; and `waits_for`, only
    where it is known.
    """
    under: defaultdict[str, list[AppliedCatalog]] = defaultdict(list)
    for catalog in reversed(found.catalogs):
        under[catalog.revision].append(catalog)
    return [_document(run, found, under[run.revision]) for run in found.runs]


def _document(run: Run, found: RunsFound, under: Iterable[AppliedCatalog]) -> Document:
    watch = found.watches.get(run.id)
    commit = next((one.commit for one in under if one.at <= run.claimed_at), None)
    document: dict[str, Any] = run_document(run)
    document["flow_state"] = None if watch is None else watch_document(watch)
    document["commit"] = None if commit is None else commit_document(commit)
    if found.attempts is not None:
        document["attempts"] = [attempt_document(each) for each in found.attempts[run.id]]
    if run.id in found.waits_for:
        document["waits_for"] = found.waits_for[run.id]
    return document


async def _runs(ledger: LedgerReader, wanted: RunsWanted) -> Sequence[Run]:
    if wanted.run_id is None:
        return await ledger.runs(schedule_id=wanted.schedule_id, state=wanted.state, limit=wanted.limit)
    run = await ledger.run(wanted.run_id)
    return [] if run is None else [run]


async def _require_known(
    ledger: LedgerReader, id_: str, in_files: Callable[[], Iterable[str] | None]
) -> None:
    """Raise NotFoundError for a schedule that nobody knows."""
    if await ledger.runs(schedule_id=id_, limit=1):
        return
    filed, recorded = in_files(), {term.schedule_id for term in await ledger.terms()}
    known = {*(filed or ()), *recorded}
    if id_ not in known:
        files = "the files cannot be used" if filed is None else "none in the files"
        hint = did_you_mean(id_, sorted(known))
        raise NotFoundError(f"there is no schedule {quoted(id_)} in the ledger, and {files}{hint}")
