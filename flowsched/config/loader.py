"""Paths in, a catalog out: all files, all problems, or the whole set."""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flowsched.config.check import check
from flowsched.config.files import content_of, find_files
from flowsched.config.findings import Findings, Unusable
from flowsched.config.parser import parse
from flowsched.config.reader import read
from flowsched.config.schema import schedules_schema
from flowsched.errors import ConfigError
from flowsched.model import Catalog, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flowsched.config.files import Found
    from flowsched.config.parser import Entry
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


class _Load:
    def __init__(self, settings: Settings | None) -> None:
        self.problems: list[Problem] = []
        self.schedules: dict[str, Schedule] = {}
        self._settings = settings
        self._sources: dict[str, Source] = {}
        self._digests: list[tuple[str, bytes]] = []
        self._bytes = 0

    def read_all(self, paths: Iterable[str]) -> None:
        found, self.problems = find_files(paths)
        for file in found:
            findings = Findings(str(file.path))
            with suppress(Unusable):
                self._read(file, findings)
            self.problems += findings.problems
            if self._bytes > MOST_BYTES_TOGETHER:
                break

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
        for entry in parse(node, self._settings, findings):
            self._add(entry, findings)

    def _add(self, entry: Entry, findings: Findings) -> None:
        first = self._sources.setdefault(entry.id, Source(findings.file, entry.at[0]))
        if first.file != findings.file:
            message = f"the id is taken: {first} has it already"
            findings.add(entry.at, ("schedules", entry.id), message, "ids that are unique over all files")
        elif entry.schedule:
            self.schedules[entry.id] = entry.schedule


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
