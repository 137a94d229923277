"""What a zone's clock is known to do, as a digest: a new release of the zone data may change fire times."""

from __future__ import annotations

import zoneinfo
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from flowsched.cron.evaluator import zone
from flowsched.errors import CronError

_DIGITS = 16


@cache
def zone_rules(name: str) -> str:
    """Return 16 hex digits of the SHA-256 of a zone's data, as zoneinfo finds it; empty where it finds none.

    It is read once in a process, as the zone itself is: new data counts from the next start.
    """
    with suppress(CronError, OSError, ImportError):
        return sha256(_data(zone(name).key)).hexdigest()[:_DIGITS]
    return ""


def _data(name: str) -> bytes:
    """Return a zone's TZif data: of the first folder that has it, else of the package tzdata (PEP 615)."""
    for folder in zoneinfo.TZPATH:
        path = Path(folder, name)
        if path.is_file():
            return path.read_bytes()
    return files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
