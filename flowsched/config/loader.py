"""Paths in, a catalog out: all files, all problems, or the whole set."""

from __future__ import annotations

import gc
import hashlib
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
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
from flowsched.errors import ConfigError, Refused, printable, quoted
from flowsched.model import Blackout, Catalog, Source
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flowsched.config.calendars import CalendarEntry
    from flowsched.config.files import Found
    from flowsched.config.findings import KeyPath
    from flowsched.config.fingerprints import Mark
    from flowsched.config.parser import Entry, Named, NamedBlackout
    from flowsched.config.reader import Node, Position
    from flowsched.errors import Problem
    from flowsched.model import Calendar, Ical, Schedule, Settings, Then

MOST_BYTES_TOGETHER = 64 * 1024**2
MOST_ICAL_BYTES = 1024**2
"""Of one file in iCalendar format."""
_SLICE = 500
_SLICE_BYTES = 1024**2
"""Of files that are read and then parsed together: as many as one look of the collector is worth."""
_MOST_NAMES = 20
"""Of calendars, listed where one is not known."""


def load_catalog(
    path: str | Sequence[str],
    settings: Settings | None,
    *,
    base: Path = Path(),
    trail: Trail | None = None,
    kept: Kept | None = None,
    marks: Mapping[str, Mark] | None = None,
) -> Catalog:
    """Read files and folders of schedules as one whole.

    A folder stands for all `*.yaml` and `*.yml` below it, hidden ones left out. Without settings, the names
    of targets are not checked, and a schedule that names none has none. Raises ConfigError with every problem
    of every file. The revision depends on the names below `path` and on the contents, not on where they lie,
    and on the data of the time zones and holidays that are used.
    Relative paths begin at `base`, which is never shown. What the load comes past is noted on the `trail`.
    What is `kept` of an earlier load is not parsed again, and what can be kept of this one is there
    afterwards; all else is as if nothing had been kept. `marks` has, by path, how files look that would look
    otherwise if they were written from now on: what looks as it did when it was kept is not even opened.
    """
    load = _Load(settings, base, trail or Trail(), Kept() if kept is None else kept, marks or {})
    load.read_all((path,) if isinstance(path, str) else tuple(path))
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


@dataclass(slots=True)
class _Portion:
    """What one file adds to a catalog; what could not be used of it is not there."""

    calendars: Sequence[CalendarEntry] = ()
    entries: Sequence[Entry] = ()
    renames: Sequence[_Rename] = ()

    @property
    def stands_alone(self) -> bool:
        """Whether it names no file in iCalendar format; it may where a calendar is at fault."""
        return not any(each.calendar is None or each.calendar.ical for each in self.calendars)

    @property
    def names_others(self) -> bool:
        """Whether it names calendars, or old ids: whether these are right, only all files together show."""
        return bool(self.renames) or any(each.blackout for each in self.entries)


@dataclass(frozen=True, slots=True)
class _Known:
    """A file in which nothing was wrong."""

    file: Found
    mark: Mark | None
    """How it looked; None where it may have been written later and look the same."""
    size: int
    line: bytes
    """What it adds to the revision: digests of its name and of what it holds."""
    portion: _Portion
    names_others: bool


@dataclass(slots=True)
class Kept:
    """What a load leaves for the next one, by the path and the content of each file.

    Only of files in which nothing was wrong by themselves, and which name no file in iCalendar format; and
    only for the settings that they were checked against. The records are those of the catalog itself.
    """

    settings: Settings | None = None
    place: tuple[tuple[str, ...], Path] | None = None
    """The paths that were read, and where they begin; how a file looks says nothing about another place."""
    files: dict[str, _Known] = field(default_factory=dict)
    blackouts: dict[tuple[tuple[str, ...], Then], Blackout] = field(default_factory=dict)
    settled: dict[str, tuple[Schedule, Schedule]] = field(default_factory=dict)
    """By id, each schedule with a blackout as it was before that was put there, and after."""

    def take(self, other: Kept) -> None:
        """Keep what another one keeps, and nothing else."""
        for each in fields(other):
            setattr(self, each.name, getattr(other, each.name))


@dataclass(slots=True)
class _Reading:
    """A file on its way."""

    file: Found
    content: bytes = b""
    line: bytes = b""
    """As `_Known` has it; empty before it is read."""
    known: _Known | None = None
    """What is kept of it, where it is still the same."""
    node: Node | None = None
    """None before it is read, and where nothing more is to be read of it."""
    portion: _Portion | None = None
    _findings: Findings | None = None

    @property
    def findings(self) -> Findings:
        """What is wrong with it; made for those that are asked for it, which most are not."""
        if self._findings is None:
            self._findings = Findings(self.file.path)
        return self._findings

    @property
    def is_faulty(self) -> bool:
        """Whether something is."""
        return self._findings is not None and bool(self._findings.problems)


class _Load:
    def __init__(
        self, settings: Settings | None, base: Path, trail: Trail, kept: Kept, marks: Mapping[str, Mark]
    ) -> None:
        self.problems: list[Problem] = []
        self.schedules: dict[str, Schedule] = {}
        self.calendars: dict[str, Calendar] = {}
        self._settings = settings
        self._base = base
        self._trail = trail
        self._known = kept.files if kept.settings == settings else {}
        self._unopened: dict[str, Found] = {}  # of what is known, what looks the same
        self._kept = kept
        self._marks = marks
        self._findings: list[Findings] = []  # of each file that has a problem, or may yet have one
        self._sources: dict[str, Source] = {}
        self._calendar_sources: dict[str, Source] = {}
        self._with_blackout: list[tuple[Findings, Entry]] = []
        self._blackouts: dict[tuple[tuple[str, ...], Then], Blackout] = {}
        self._renames: list[tuple[Findings, Sequence[_Rename]]] = []  # of each file
        self._lines: list[tuple[str, bytes]] = []
        self._bytes = 0

    def read_all(self, paths: tuple[str, ...]) -> None:
        place = paths, self._base
        if self._kept.place == place:
            self._unopened = {
                path: known.file
                for path, known in self._known.items()
                if known.mark is not None and known.mark == self._marks.get(path)
            }
        found, problems = find_files(paths, self._base, trail=self._trail, known=self._unopened)
        self.problems = [self._with_who_names_it(each, paths) for each in problems]
        keep = Kept(self._settings, place)
        for slice_ in self._slices(found):
            self._read(slice_)
            with _paused_gc():
                for each in slice_:
                    self._add_portion(each, keep)
        self._check_renames()
        self._settle_blackouts(keep)
        self._kept.take(keep)
        for findings in self._findings:
            self.problems += findings.problems

    def _with_who_names_it(self, problem: Problem, paths: tuple[str, ...]) -> Problem:
        """Have what is wrong with the path that the settings name say where they name it."""
        place = self._settings.schedules_place if self._settings else None
        named = {printable(path) for path in paths if self._is_in_settings(path)} if place else ()
        if problem.file not in named:
            return problem
        return replace(problem, message=f"{problem.message}; {place} names it")

    def _is_in_settings(self, path: str) -> bool:
        whole = os.path.abspath(self._base / path)  # noqa: PTH100 - resolve() would follow links
        return self._settings is not None and whole == os.path.abspath(self._settings.schedules)  # noqa: PTH100

    def revision(self) -> str:
        """Return one digest over those of all files, in the order of their names, and over the data used."""
        whole = hashlib.sha256()
        whole.update(b"".join(line for _, line in sorted(self._lines)))
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

    def _slices(self, found: Iterable[Found]) -> Iterator[list[_Reading]]:
        """Yield the files with what they hold, some at a time."""
        slice_: list[_Reading] = []
        begun = self._bytes
        for file in found:
            self._trail.begin()
            reading = _Reading(file)
            slice_.append(reading)
            with suppress(Unusable):
                self._take(reading)
            if self._bytes > MOST_BYTES_TOGETHER:
                break
            if len(slice_) >= _SLICE or self._bytes - begun >= _SLICE_BYTES:
                yield slice_
                slice_, begun = [], self._bytes
                if self._bytes > MOST_BYTES_TOGETHER:
                    break
        yield slice_

    def _take(self, reading: _Reading) -> None:
        """Take in what a file holds."""
        known = self._known.get(reading.file.path)
        try:
            if known is not None and known.file is reading.file:
                self._count(known.file.name, known.size, known.line)
                reading.known, reading.portion = known, known.portion
                return
            content = content_of(reading.file.place, MOST_BYTES, reading.findings, self._trail)
            line = _line(reading.file.name, content)
            self._count(reading.file.name, len(content), line)
        except Refused as refused:
            reading.findings.give_up((0, 0), (), refused.message, refused.allowed)
        reading.content, reading.line = content, line
        if known is not None and known.line == line:
            reading.portion = known.portion

    def _read(self, slice_: list[_Reading]) -> None:
        """Read a slice, step by step.

        The collector pauses but where files in iCalendar format are read: it would look through all that was
        parsed, again and again; but a disk may hang for days, and the whole process would do without it.
        """
        wanted = [each for each in slice_ if each.line and each.portion is None]
        with _paused_gc():
            for each in wanted:
                with suppress(Unusable):
                    node = read(each.content, each.findings)
                    check(node, schedules_schema(), each.findings)
                    each.node = node
        for each in wanted:
            with suppress(Unusable):
                self._read_calendars(each)
        with _paused_gc():
            for each in wanted:
                with suppress(Unusable):
                    self._read_schedules(each)

    def _read_calendars(self, reading: _Reading) -> None:
        node, reading.node = reading.node, None
        if node is not None:
            calendars: list[CalendarEntry] = []
            reading.portion = _Portion(calendars)
            for calendar in parse_calendars(node, partial(self._ical, reading.file), reading.findings):
                calendars.append(calendar)  # noqa: PERF402 - those before a fault count
            reading.node = node

    def _read_schedules(self, reading: _Reading) -> None:
        node, portion = reading.node, reading.portion
        if node is not None and portion is not None:
            portion.entries = tuple(parse(node, self._settings, reading.findings))
            portion.renames = tuple(_renames(node, portion.entries, reading.findings))

    def _add_portion(self, reading: _Reading, keep: Kept) -> None:
        """Put what a file adds to what the others do; note what only their being together shows."""
        portion, names_others = reading.portion, False
        if portion is not None:
            known = reading.known or self._newly_known(reading, portion)
            names_others = known.names_others
            if reading.known or (portion.stands_alone and not reading.is_faulty):
                keep.files[reading.file.path] = known
            with suppress(Unusable):
                for calendar in portion.calendars:
                    self._add_calendar(calendar, reading.findings)
                for entry in portion.entries:
                    self._add(entry, reading)
                renames = [each for each in portion.renames if not reading.findings.is_faulty(each.path)]
                if renames:
                    self._renames.append((reading.findings, renames))
        if names_others or reading.is_faulty:
            self._findings.append(reading.findings)

    def _newly_known(self, reading: _Reading, portion: _Portion) -> _Known:
        return _Known(
            file=reading.file,
            mark=self._marks.get(reading.file.path),
            size=len(reading.content),
            line=reading.line,
            portion=portion,
            names_others=portion.names_others,
        )

    def _count(self, name: str, size: int, line: bytes) -> None:
        """Take a file into the revision. Raises Refused where all together is too much."""
        self._bytes += size
        if self._bytes > MOST_BYTES_TOGETHER:
            allowed = f"at most {MOST_BYTES_TOGETHER:,} bytes in one load"
            raise Refused("is too much together with the files before it", allowed)
        self._lines.append((name, line))

    def _ical(self, file: Found, path: str) -> Ical:
        """Return the file in iCalendar format that a schedule file names. Raises Refused."""
        beside = read_beside(file, path, MOST_ICAL_BYTES, self._trail)
        self._count(beside.name, len(beside.content), _line(beside.name, beside.content))
        return blackouts.read_ical(str(beside.path), beside.content)

    def _add_calendar(self, entry: CalendarEntry, findings: Findings) -> None:
        first = self._calendar_sources.setdefault(entry.name, Source(findings.file, entry.at[0]))
        if first.file != findings.file:
            message = f"the name is taken: {first} has it already"
            allowed = "names of calendars that are unique over all files"
            findings.add(entry.at, ("calendars", entry.name), message, allowed)
        elif entry.calendar:
            self.calendars[entry.name] = entry.calendar

    def _settle_blackouts(self, keep: Kept) -> None:
        """Put the calendars of all files where schedules name them; note the names that nothing has.

        A schedule of which nothing is new stays the record that it was.
        """
        for findings, entry in self._with_blackout:
            with suppress(Unusable):
                blackout = entry.blackout and self._blackout(entry.blackout, findings)
                if entry.schedule and blackout:
                    without, settled = self._kept.settled.get(entry.id, (None, None))
                    if without is not entry.schedule or settled is None or settled.blackout is not blackout:
                        settled = replace(entry.schedule, blackout=blackout)
                    self.schedules[entry.id] = settled
                    keep.settled[entry.id] = entry.schedule, settled
        keep.blackouts = self._blackouts

    def _blackout(self, named: NamedBlackout, findings: Findings) -> Blackout | None:
        """Return a blackout, the same for all schedules that say the same; None where it cannot be."""
        names = tuple(each.calendar for each in named.calendars)
        for each in named.calendars:
            self._check_name(each, findings)
        if named.then is None or not self.calendars.keys() >= set(names):
            return None
        key = names, named.then
        if key not in self._blackouts:
            made = Blackout(tuple(self.calendars[name] for name in names), named.then)
            known = self._kept.blackouts.get(key)
            self._blackouts[key] = made if known is None or known != made else known
        return self._blackouts[key]

    def _check_name(self, named: Named, findings: Findings) -> None:
        if named.calendar not in self._calendar_sources:
            known = sorted(self._calendar_sources)
            message = f"there is no calendar {quoted(named.calendar)}{did_you_mean(named.calendar, known)}"
            allowed = ", ".join(known[:_MOST_NAMES]) or 'a calendar of "calendars", in this file or another'
            findings.add(named.at, named.path, message, allowed)

    def _add(self, entry: Entry, reading: _Reading) -> None:
        here = entry.schedule.source if entry.schedule else Source(reading.findings.file, entry.at[0])
        first = self._sources.setdefault(entry.id, here)
        if first is not here and first.file != here.file:
            message = f"the id is taken: {first} has it already"
            allowed = "ids that are unique over all files"
            reading.findings.add(entry.at, ("schedules", entry.id), message, allowed)
            return
        if entry.schedule:
            self.schedules[entry.id] = entry.schedule
        if entry.blackout:
            self._with_blackout.append((reading.findings, entry))

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


def _line(name: str, content: bytes) -> bytes:
    """Return what a file adds to the revision."""
    of_name = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return of_name + hashlib.sha256(content).digest()


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Keep the collector away from a parse. Not for what reads the disk."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
