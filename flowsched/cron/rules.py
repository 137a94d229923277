"""What a zone's clock is known to do, as a digest: a new release of the zone data may change fire times."""

from __future__ import annotations

import zoneinfo
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched.cron.evaluator import forget_usual_zones, know, zone
from flowsched.errors import CronError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DIGITS = 16
_LONGEST_RELEASE = 100


@cache
def zone_rules(name: str) -> str:
    """Return 16 hex digits of the SHA-256 of a zone's data, as zoneinfo finds it; empty where it finds none.

    It is read once in a process, as the zone itself is: new data counts from the next start. From then on
    `zone(name, rules)` is the zone of these data.
    """
    with suppress(CronError, OSError, ImportError):
        rules = sha256(_data(zone(name).key)).hexdigest()[:_DIGITS]
        know(name, rules)
        return rules
    return ""


@cache
def tz_release() -> str:
    """Return which release of the zone data zoneinfo reads, such as `2026b`; empty where it does not say.

    It is read once in a process, as the zones are.
    """
    for folder in map(Path, zoneinfo.TZPATH):
        release = _release_of(folder)
        if release or (folder / "UTC").is_file():
            return release
    with suppress(ImportError):
        return str(import_module("tzdata").IANA_VERSION)
    return ""


def _release_of(folder: Path) -> str:
    """Return what a folder of zones says of its release: where Debian and others say it, or macOS."""
    for name, mark in (("tzdata.zi", "# version "), ("+VERSION", "")):
        with suppress(OSError, ValueError), (folder / name).open(encoding="ascii") as file:
            first = file.readline(_LONGEST_RELEASE).strip()
            if first.startswith(mark):
                return first.removeprefix(mark)
    return ""


@contextmanager
def zone_data(folder: Path) -> Iterator[None]:
    """Within the block, take the data of time zones from a folder in the layout of `/usr/share/zoneinfo`.

    A zone that is not there is looked for in the package tzdata. What was read in the block stays known by
    its rules. For a short command of one thread: the whole process sees it. Raises UsageError where the
    folder holds no zones.
    """
    if not (folder / "Etc" / "UTC").is_file():
        allowed = "a folder as /usr/share/zoneinfo, or the zoneinfo of an unpacked tzdata"
        raise UsageError(f"{str(folder)!r} holds no time zones; allowed: {allowed}")
    usual = zoneinfo.TZPATH
    try:
        _look_in([str(folder.absolute())])
        yield
    finally:
        _look_in(usual)


def _look_in(folders: Iterable[str]) -> None:
    zoneinfo.reset_tzpath(list(folders))
    zoneinfo.ZoneInfo.clear_cache()
    forget_usual_zones()
    zone_rules.cache_clear()
    tz_release.cache_clear()


def _data(name: str) -> bytes:
    """Return a zone's TZif data: of the first folder that has it, else of the package tzdata (PEP 615)."""
    for folder in zoneinfo.TZPATH:
        path = Path(folder, name)
        if path.is_file():
            return path.read_bytes()
    return files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
