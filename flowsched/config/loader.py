"""Paths in, a catalog out: all files, all problems, or the whole set."""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.config.check import check
from flowsched.config.files import content_of, find_files
from flowsched.config.findings import Findings, Unusable
from flowsched.config.parser import parse
from flowsched.config.reader import read
from flowsched.config.schema import schedules_schema
from flowsched.errors import ConfigError, quoted
from flowsched.model import Catalog, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flowsched.config.files import Found
    from flowsched.config.findings import KeyPath
    from flowsched.config.parser import Entry
    from flowsched.config.reader import Node, Position
    from flowsched.errors import Problem
    from flowsched.model import Schedule, Settings

MOST_BYTES = 5 * 1024**2
"""Of one file."""
MOST_BYTES_TOGETHER = 64 * 1024**2


def load_catalog(path: str | Sequence[str], settings: Settings | None) -> Catalog:
    """Read files and folders of schedules as one whole.

    A folder stands for all `*.yaml` and `*.yml` below it, hidden ones left out. Without settings, the names
    of targets are not checked, and a schedule that names none has none. Raises ConfigError with every problem
    of every file. The revision depends on the names below `path` and on the contents, not on where they lie.
    """
    with _paused_gc():
        load = _Load(settings)
        load.read_all([path] if isinstance(path, str) else path)
    if load.problems:
        raise ConfigError(load.problems)
    return Catalog(dict(sorted(load.schedules.items())), load.revision())


@dataclass(frozen=True, slots=True)
class _Rename:
    """Where a schedule says which id it had before."""

    path: KeyPath
    at: Position
    old: str

    @property
    def new(self) -> str:
        """The id that the schedule has now."""
        return self.path[1]


class _Load:
    def __init__(self, settings: Settings | None) -> None:
        self.problems: list[Problem] = []
        self.schedules: dict[str, Schedule] = {}
        self._settings = settings
        self._sources: dict[str, Source] = {}
        self._renames: list[tuple[Findings, list[_Rename]]] = []  # of each file
        self._digests: list[tuple[str, bytes]] = []
        self._bytes = 0

    def read_all(self, paths: Iterable[str]) -> None:
        found, self.problems = find_files(paths)
        read = []
        for file in found:
            findings = Findings(str(file.path))
            read.append(findings)
            with suppress(Unusable):
                self._read(file, findings)
            if self._bytes > MOST_BYTES_TOGETHER:
                break
        self._check_renames()
        for findings in read:
            self.problems += findings.problems

    def revision(self) -> str:
        """Return one digest over the digests of all files, in the order of their names."""
        whole = hashlib.sha256()
        for name, digest in sorted(self._digests):
            whole.update(hashlib.sha256(name.encode(errors="surrogateescape")).digest() + digest)
        return whole.hexdigest()

    def _read(self, file: Found, findings: Findings) -> None:
        content = content_of(file.path, MOST_BYTES, findings)
        self._bytes += len(content)
        if self._bytes > MOST_BYTES_TOGETHER:
            allowed = f"at most {MOST_BYTES_TOGETHER:,} bytes in one load"
            findings.give_up((0, 0), (), "is too much together with the files before it", allowed)
        self._digests.append((file.name, hashlib.sha256(content).digest()))
        node = read(content, findings)
        check(node, schedules_schema(), findings)
        entries = parse(node, self._settings, findings)
        for entry in entries:
            self._add(entry, findings)
        self._renames.append((findings, list(_renames(node, entries, findings))))

    def _add(self, entry: Entry, findings: Findings) -> None:
        first = self._sources.setdefault(entry.id, Source(findings.file, entry.at[0]))
        if first.file != findings.file:
            message = f"the id is taken: {first} has it already"
            findings.add(entry.at, ("schedules", entry.id), message, "ids that are unique over all files")
        elif entry.schedule:
            self.schedules[entry.id] = entry.schedule

    def _check_renames(self) -> None:
        """Note an old id that is still in use, or that two schedules had."""
        takers: dict[str, Source] = {}
        for findings, renames in self._renames:
            with suppress(Unusable):
                for rename in renames:
                    here = Source(findings.file, rename.at[0])
                    first = takers.setdefault(rename.old, here)
                    self._check_rename(rename, None if first is here else first, findings)

    def _check_rename(self, rename: _Rename, taker: Source | None, findings: Findings) -> None:
        """Note what is wrong with one rename; `taker` is where another says the same, before it."""
        if rename.old == rename.new:
            message, allowed = "is the id that the schedule has now", "the id that it had before"
        elif rename.old in self._sources:
            message = f"{quoted(rename.old)} is still a schedule: {self._sources[rename.old]} has the id"
            allowed = "an id that no schedule has any more"
        elif taker:
            message = f"{quoted(rename.old)} is taken: {taker} is renamed from it already"
            allowed = "each old id once over all files"
        else:
            return
        findings.add(rename.at, rename.path, message, allowed)


def _renames(node: Node, entries: Iterable[Entry], findings: Findings) -> Iterator[_Rename]:
    """Yield what the schedules of a file say about their old ids, those with other faults included."""
    for entry in entries:
        path = ("schedules", entry.id, "renamed_from")
        old = node.get(path)
        if old and not findings.is_faulty(path):
            yield _Rename(path, old.at, old.data)


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Keep the collector away from a load: it would look through all that was read, again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
