"""Where the values of a schedule come from: its own keys, the defaults of its file, or neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched.config.files import MOST_BYTES, content_of, real_path
from flowsched.config.findings import Findings, Unusable
from flowsched.config.reader import read
from flowsched.errors import ConfigError
from flowsched.model import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flowsched.config.findings import KeyPath
    from flowsched.config.reader import Node
    from flowsched.model import Schedule, Settings

_DEFAULTS: KeyPath = ("defaults",)


@dataclass(frozen=True, slots=True)
class Written:
    """Where the value of a key is written."""

    source: Source
    shared: bool
    """Whether schedules share it: in the defaults of the file, or in flowsched.yaml."""


def where_written(
    schedule: Schedule, settings: Settings | None, keys: Iterable[KeyPath]
) -> Mapping[KeyPath, Written]:
    """Return where the value of each of these keys of a schedule is written; without those that are built in.

    The file is read again, as it is now. A schedule that names no target has that of the settings. Raises
    ConfigError where the file can no longer be read, or no longer has the schedule.
    """
    file = schedule.source.file
    root = _read(file)
    own: KeyPath = ("schedules", schedule.id)
    if root.get(own) is None:
        findings = Findings(file)
        findings.add((0, 0), own, "is no longer there", "a file that nobody changes meanwhile")
        raise ConfigError(findings.problems)
    found = {}
    for key in keys:
        for holder in (own, _DEFAULTS):
            path = _nearest(root, holder, key)
            if path is not None:
                line, _ = root.position(path)
                found[key] = Written(Source(file, line), holder == _DEFAULTS)
                break
    named = schedule.target
    if ("target",) not in found and settings and named is not None:
        found["target",] = Written(settings.targets[named].source, shared=True)
    return found


def _read(file: str) -> Node:
    findings = Findings(file)
    try:
        return read(content_of(real_path(Path(file)), MOST_BYTES, findings), findings)
    except Unusable:
        raise ConfigError(findings.problems) from None


def _nearest(root: Node, holder: KeyPath, key: KeyPath) -> KeyPath | None:
    """Return the path of a key below its holder; where that is null, of what is null: `watch: null`."""
    for length in range(len(key), 0, -1):
        path = holder + key[:length]
        node = root.get(path)
        if node is not None:
            return path if length == len(key) or node.data is None else None
    return None
