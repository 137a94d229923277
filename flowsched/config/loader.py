"""Paths in, a catalog out: all files, all problems, or the whole set."""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched import blackouts, cron
from flowsched.config.calendars import parse_calendars
from flowsched.config.check import check
from flowsched.config.files import MOST_BYTES, Trail, content_of, find_files, read_beside
from flowsched.config.findings import Findings, Unusable
from flowsched.config.parser import parse
from flowsched.config.reader import read
from flowsched.config.schema import schedules_schema
from flowsched.errors import ConfigError, Refused, quoted
from flowsched.model import Blackout, Catalog, Source
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flowsched.config.calendars import CalendarEntry
    from flowsched.config.files import Found
    from flowsched.config.findings import KeyPath
    from flowsched.config.parser import Entry, Named, NamedBlackout
    from flowsched.config.reader import Node, Position
    from flowsched.errors import Problem
    from flowsched.model import Calendar, Ical, Schedule, Settings, Then

MOST_BYTES_TOGETHER = 64 * 1024**2
MOST_ICAL_BYTES = 1024**2
"""Of one file in iCalendar format."""
_MOST_NAMES = 20
"""Of calendars, listed where one is not known."""


def load_catalog(
    path: str | Sequence[str], settings: Settings | None, *, base: Path = Path(), trail: Trail | None = None
) -> Catalog:
    """Read files and folders of schedules as one whole.

    A folder stands for all `*.yaml` and `*.yml` below it, hidden ones left out. Without settings, the names
    of targets are not checked, and a schedule that names none has none. Raises ConfigError with every problem
    of every file. The revision depends on the names below `path` and on the contents, not on where they lie,
    and on the data of the time zones and holidays that are used.
    Relative paths begin at `base`, which is never shown. What the load comes past is noted on the `trail`.
    """
    load = _Load(settings, base, trail or Trail())
    load.read_all([path] if isinstance(path, str) else path)
    if load.problems:
        raise ConfigError(load.problems)
    schedules, calendars = dict(sorted(load.schedules.items())), dict(sorted(load.calendars.items()))
    return Catalog(schedules, load.revision(), calendars)


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
    def __init__(self, settings: Settings | None, base: Path, trail: Trail) -> None:
        self.problems: list[Problem] = []
        self.schedules: dict[str, Schedule] = {}
        self.calendars: dict[str, Calendar] = {}
        self._settings = settings
        self._base = base
        self._trail = trail
        self._sources: dict[str, Source] = {}
        self._calendar_sources: dict[str, Source] = {}
        self._with_blackout: list[tuple[Findings, Entry]] = []
        self._blackouts: dict[tuple[tuple[str, ...], Then], Blackout] = {}
        self._renames: list[tuple[Findings, list[_Rename]]] = []  # of each file
        self._digests: list[tuple[str, bytes]] = []
        self._bytes = 0

    def read_all(self, paths: Iterable[str]) -> None:
        found, self.problems = find_files(paths, self._base, trail=self._trail)
        read = []
        for file in found:
            self._trail.begin()
            findings = Findings(str(file.path))
            read.append(findings)
            with suppress(Unusable):
                self._read(file, findings)
            if self._bytes > MOST_BYTES_TOGETHER:
                break
        self._check_renames()
        self._settle_blackouts()
        for findings in read:
            self.problems += findings.problems

    def revision(self) -> str:
        """Return one digest over those of all files, in the order of their names, and over the data used."""
        whole = hashlib.sha256()
        for name, digest in sorted(self._digests):
            whole.update(hashlib.sha256(name.encode(errors="surrogateescape")).digest() + digest)
        for line in self._data():
            whole.update(f"{line}\n".encode())
        return whole.hexdigest()

    def _data(self) -> Iterator[str]:
        """Yield what else decides what fires when: the data of zones and holidays, in words that differ."""
        zones = {(each.timing.timezone, each.timing.rules) for each in self.schedules.values()}
        zones |= {(each.timezone, each.rules) for each in self.calendars.values() if each.timezone}
        yield f"tz {cron.tz_release()}"
        for name, rules in sorted(zones):
            yield f"zone {name} {rules}"
        icals = (ical for each in self.calendars.values() for ical in each.ical)
        for rules in sorted({ical.rules for ical in icals if ical.rules}):
            yield f"zones of a file {rules}"
        if any(each.holidays for each in self.calendars.values()):
            yield f"holidays {blackouts.holidays_version()}"

    def _read(self, file: Found, findings: Findings) -> None:
        content = content_of(file.place, MOST_BYTES, findings, self._trail)
        try:
            self._count(file.name, content)
        except Refused as refused:
            findings.give_up((0, 0), (), refused.message, refused.allowed)
        with _paused_gc():
            node = read(content, findings)
            check(node, schedules_schema(), findings)
        for calendar in parse_calendars(node, partial(self._ical, file), findings):
            self._add_calendar(calendar, findings)
        with _paused_gc():
            entries = parse(node, self._settings, findings)
        for entry in entries:
            self._add(entry, findings)
        self._renames.append((findings, list(_renames(node, entries, findings))))

    def _count(self, name: str, content: bytes) -> None:
        """Take a file into the revision. Raises Refused where all together is too much."""
        self._bytes += len(content)
        if self._bytes > MOST_BYTES_TOGETHER:
            allowed = f"at most {MOST_BYTES_TOGETHER:,} bytes in one load"
            raise Refused("is too much together with the files before it", allowed)
        self._digests.append((name, hashlib.sha256(content).digest()))

    def _ical(self, file: Found, path: str) -> Ical:
        """Return the file in iCalendar format that a schedule file names. Raises Refused."""
        beside = read_beside(file, path, MOST_ICAL_BYTES, self._trail)
        self._count(beside.name, beside.content)
        return blackouts.read_ical(str(beside.path), beside.content)

    def _add_calendar(self, entry: CalendarEntry, findings: Findings) -> None:
        first = self._calendar_sources.setdefault(entry.name, Source(findings.file, entry.at[0]))
        if first.file != findings.file:
            message = f"the name is taken: {first} has it already"
            allowed = "names of calendars that are unique over all files"
            findings.add(entry.at, ("calendars", entry.name), message, allowed)
        elif entry.calendar:
            self.calendars[entry.name] = entry.calendar

    def _settle_blackouts(self) -> None:
        """Put the calendars of all files where schedules name them; note the names that nothing has."""
        for findings, entry in self._with_blackout:
            with suppress(Unusable):
                blackout = entry.blackout and self._blackout(entry.blackout, findings)
                if entry.schedule and blackout:
                    self.schedules[entry.id] = replace(entry.schedule, blackout=blackout)

    def _blackout(self, named: NamedBlackout, findings: Findings) -> Blackout | None:
        """Return a blackout, the same for all schedules that say the same; None where it cannot be."""
        names = tuple(each.calendar for each in named.calendars)
        for each in named.calendars:
            self._check_name(each, findings)
        if named.then is None or not self.calendars.keys() >= set(names):
            return None
        calendars = tuple(self.calendars[name] for name in names)
        return self._blackouts.setdefault((names, named.then), Blackout(calendars, named.then))

    def _check_name(self, named: Named, findings: Findings) -> None:
        if named.calendar not in self._calendar_sources:
            known = sorted(self._calendar_sources)
            message = f"there is no calendar {quoted(named.calendar)}{did_you_mean(named.calendar, known)}"
            allowed = ", ".join(known[:_MOST_NAMES]) or 'a calendar of "calendars", in this file or another'
            findings.add(named.at, named.path, message, allowed)

    def _add(self, entry: Entry, findings: Findings) -> None:
        first = self._sources.setdefault(entry.id, Source(findings.file, entry.at[0]))
        if first.file != findings.file:
            message = f"the id is taken: {first} has it already"
            findings.add(entry.at, ("schedules", entry.id), message, "ids that are unique over all files")
            return
        if entry.schedule:
            self.schedules[entry.id] = entry.schedule
        if entry.blackout:
            self._with_blackout.append((findings, entry))

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
    """Keep the collector away from a parse: it would look through all that was read, again and again.

    Not from what reads the disk: that may hang for days, and the whole process would do without a collector.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
