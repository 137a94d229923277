"""The ids of the schedules in a folder, for completion: quick, and whatever else is wrong there."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from flowsched.config.files import MOST_BYTES, content_of, find_files
from flowsched.config.findings import Findings, Unusable
from flowsched.config.reader import read

if TYPE_CHECKING:
    from collections.abc import Iterable

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""As the schema has it."""


def schedule_ids(paths: Iterable[str]) -> list[str]:
    """Return the ids in all files that can be read as YAML, ascending; of the rest nothing is checked.

    A file that is too large is left out. So is what no id may look like: it is about to stand on somebody's
    command line.
    """
    ids: set[str] = set()
    found, _ = find_files(paths)
    for file in found:
        findings = Findings(str(file.path))
        with suppress(Unusable):
            holder = read(content_of(file.place, MOST_BYTES, findings), findings).get(("schedules",))
            ids.update(filter(_ID.fullmatch, holder.keys if holder else ()))
    return sorted(ids)
