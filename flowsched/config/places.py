"""Where in the files the keys of schedules stand: read again, for what a review has to say about them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched.config.files import MOST_BYTES, content_of, real_path
from flowsched.config.findings import Findings, Unusable
from flowsched.config.reader import read

if TYPE_CHECKING:
    from flowsched.config.findings import KeyPath
    from flowsched.config.reader import Node
    from flowsched.model import Schedule


class Places:
    """Answers where a key of a schedule stands; each file is read once, when it is first asked about."""

    def __init__(self, base: Path = Path()) -> None:
        """Take the folder at which the paths of the schedules' files begin, as `load_catalog` does."""
        self._base = base
        self._root = cache(self._read)

    def __call__(self, schedule: Schedule, path: KeyPath) -> tuple[str, int, int]:
        """Return file, line and column of a value, as `("retry", "deadline")`; of the id for `()`.

        It is the schedule's own, else that of the file's defaults. Where neither has the key, or the file
        has changed meanwhile, it is the id.
        """
        source = schedule.source
        root = self._root(source.file)
        own = ("schedules", schedule.id)
        if root is None or root.get(own) is None:
            return source.file, source.line, 1
        node = (root.get(own + path) or root.get(("defaults", *path))) if path else None
        line, column = node.at if node else root.position(own)
        return source.file, line, column

    def _read(self, file: str) -> Node | None:
        findings = Findings(file)
        try:
            return read(content_of(real_path(self._base / file), MOST_BYTES, findings), findings)
        except Unusable:
            return None
