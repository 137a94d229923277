"""The schedules off the disk, as they are at one moment, with the commit that they are of."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched import git
from flowsched.clock import SystemClock
from flowsched.config import Kept, Trail, fingerprint, load_catalog
from flowsched.errors import ConfigError, GitError, Problem, printable
from flowsched.model import SHORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsched.config import Fingerprint, Mark
    from flowsched.model import Catalog, Commit, Settings

log = logging.getLogger(__name__)

MASS_CHANGE = "mass-change"
"""What the trailer of a commit says that accepts whatever its catalog changes."""

SETTLE_AT_MOST = 30.0
"""Real seconds that files which keep changing are read again for."""

LEFT_OVER_AFTER = 600.0
"""Seconds from the making of git's lock until a start takes it at once as left over."""

TICK = 0.02
"""Real seconds between a look at the files and their reading.

Linux dates files by a tick of at most 10 ms. What is written after this pause has another date than what was
seen before it, and so no second writing hides behind the first: the next look shows it.
"""

RACY = timedelta(seconds=2)
"""A file that was written so shortly before it was looked at is read again, though it looks the same later.

Some file systems date by whole seconds, or two (git has the same rule).
"""

SETTLE_PAUSE = 0.1
"""Real seconds before files that have changed are read again."""


_BY_GIT = "is being changed by git, or git was ended while it did so"
AT_REST = "files that stay as they are for a moment"


class Course(Trail):
    """How far a reading is, for whoever waits for it, and whether anybody still does."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()
        """Set when nobody waits for it any more: then it does not go on trying."""

    def rest(self, seconds: float) -> None:
        """Wait so many real seconds, less where it is given up."""
        self.given_up.wait(seconds)
        self.begin()


@dataclass(frozen=True, slots=True)
class Lock:
    """The lock under which git changes the files of their work tree just now, or did when it was ended."""

    path: str
    mark: object
    """By which it is told from another one of the same path."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the files look from outside."""

    print: Fingerprint
    beside: frozenset[str]
    """The files named by others that it is a look at, too."""
    lock: Lock | None = None
    """Git's; None: it has none."""

    def unrest(self, later: Look, left_over: Lock | None = None) -> str | None:
        """Return what shows, by a later look, that somebody is at the files; None: nothing does.

        A lock that is known to be left over shows nothing.
        """
        lock = next((each for each in (self.lock, later.lock) if each not in (None, left_over)), None)
        if lock is not None:
            return f"{_BY_GIT}: {printable(lock.path)} is there"
        path = self.print.change(later.print)
        return None if path is None else f"keeps changing, last {printable(path.removesuffix('@'))}"

    def shows_the_same(self, later: Look) -> bool:
        """Tell whether a later look has nothing that is worth reading."""
        return self.print.has_same_files(later.print)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, complete and as it was at one moment, or why it is of no use."""

    catalog: Catalog | None
    problems: tuple[Problem, ...]
    """Empty where there is a catalog."""
    look: Look | None
    """How the files looked; None where they may be read some time though they look the same then."""
    left_over: Lock | None = None
    """The lock that has kept all from being read, where nobody has touched it, or the files, all the time."""


def read_catalog(settings: Settings) -> Catalog:
    """Read the schedules, with the commit that they are of where Git knows it; blocks. Raises ConfigError.

    Git in trouble is a line of the log, and nothing more.
    """
    catalog, _ = read_first(settings)
    return catalog


def read_first(settings: Settings, kept: Kept | None = None) -> tuple[Catalog, Look | None]:
    """Do so, and return how the files looked as well; None: they may be read otherwise and look the same.

    What was read is `kept` for the readings that follow.

    A lock that git seems to have left over keeps nothing from being read here, unlike later: there is no
    earlier catalog that could stay in force, and a machine that has lost its power shall fire again.
    """
    left_over = _old_lock(settings)
    reading = read_settled(settings, left_over=left_over, kept=kept)
    if reading.left_over is not None:
        left_over = reading.left_over
        reading = read_settled(settings, left_over=left_over, kept=kept)
    if reading.catalog is None:
        raise ConfigError(reading.problems)
    if left_over is not None and os.path.lexists(left_over.path):
        log.warning(
            "schedules are read although git has a lock, which seems to be left over; reloads are refused"
            " until it is removed",
            extra={"lock": printable(left_over.path)},
        )
    return reading.catalog, reading.look


def _old_lock(settings: Settings) -> Lock | None:
    """Return git's lock where it was made so long ago that no git can be at work any more."""
    lock = look_at(settings).lock
    try:
        age = 0.0 if lock is None else SystemClock().now().timestamp() - os.lstat(lock.path).st_mtime
    except OSError:  # it has gone meanwhile, or cannot be looked at
        return None
    return lock if age >= LEFT_OVER_AFTER else None


def look_at(settings: Settings, beside: frozenset[str] = frozenset()) -> Look:
    """Look at the files, without reading them, and at the files that they name; blocks."""
    try:
        signs = git.signs_of(settings.schedules)
    except OSError:
        signs = None
    if signs is None:
        return Look(fingerprint(settings.schedules, beside), beside)
    path = str(signs.lock)
    there = os.path.lexists(path)
    marks = fingerprint(settings.schedules, (*beside, path, *map(str, signs.head)))
    return Look(marks, beside, Lock(path, marks.files.get(path)) if there else None)


def read_settled(
    settings: Settings,
    course: Course | None = None,
    *,
    left_over: Lock | None = None,
    kept: Kept | None = None,
) -> Reading:
    """Read the schedules as they are at one moment; blocks. What is `kept` is not parsed again.

    Nor is it opened, where it looks as it did (device, inode, size and both times) and had not been written
    within RACY before it was read.

    A reading counts only where the files look the same before and after it, and no git is at work in their
    work tree, as its lock shows unless it is `left_over`. Else they are read again, for up to SETTLE_AT_MOST;
    then that is their problem.
    """
    course, kept = course or Course(), kept or Kept()
    clock = SystemClock()
    until = clock.monotonic() + SETTLE_AT_MOST
    beside: frozenset[str] = frozenset()
    begun: Look | None = None
    while True:
        began = clock.now()
        before = look_at(settings, beside)
        begun = begun or before
        course.rest(TICK)
        unstable = before.unrest(before, left_over)  # git's lock alone
        if unstable is None:
            reading = _read(settings, before, course, kept, before.print.older_than(began - RACY))
            beside = frozenset(course.beside)
            unstable = before.unrest(look_at(settings, beside), left_over)
            if unstable is None:
                return reading
        if clock.monotonic() >= until or course.given_up.is_set():
            untouched = begun.unrest(before, begun.lock) is None
            return Reading(None, (_problem(settings, unstable),), before, begun.lock if untouched else None)
        course.rest(SETTLE_PAUSE)


def _problem(settings: Settings, unrest: str) -> Problem:
    return Problem(printable(settings.schedules), 0, 0, "", unrest, AT_REST)


def _read(settings: Settings, look: Look, course: Course, kept: Kept, marks: Mapping[str, Mark]) -> Reading:
    course.beside, course.unread = set(), False
    catalog, problems = None, list[Problem]()
    try:
        catalog = _of_one_commit(settings, course, kept, marks)
    except ConfigError as error:
        problems = error.problems
    return Reading(catalog, tuple(problems), None if course.unread else look)


def _of_one_commit(settings: Settings, course: Course, kept: Kept, marks: Mapping[str, Mark]) -> Catalog:
    before = _commit_of(settings.schedules)
    catalog = load_catalog(settings.schedules, settings, trail=course, kept=kept, marks=marks)
    after = _commit_of(settings.schedules, *sorted(_named_beside(catalog)))
    # Another commit may have been checked out meanwhile: then nobody knows of which the files were.
    if before is None or after is None or before.id != after.id:
        return replace(catalog, commit=None)
    return replace(catalog, commit=replace(after, clean=before.clean and after.clean))


def _named_beside(catalog: Catalog) -> set[str]:
    """Return the files that the schedule files name, which may be hidden ones."""
    blackouts = (each.blackout for each in catalog.schedules.values() if each.blackout)
    return {ical.file for blackout in blackouts for calendar in blackout.calendars for ical in calendar.ical}


def _commit_of(schedules: str, *beside: str) -> Commit | None:
    try:
        return git.commit_of(schedules, *beside)
    except GitError as error:
        log.warning("commit of the schedules is not known", extra={"problem": str(error)})
    except Exception:
        log.critical("commit of the schedules is not known, by a fault of flowsched", exc_info=True)
    return None


def trailer_of(schedules: str, old: Commit | None, new: Commit | None) -> str | None:
    """Return the commits whose trailer accepts whatever they change, as a text; None: there are none.

    Only where the files are those of the commit.
    """
    if new is None or not new.clean:
        return None
    try:
        repository = git.repository_of(schedules)
        if repository and MASS_CHANGE in git.trailers(repository, old.id if old else None, new.id):
            return f"{git.TRAILER}: {MASS_CHANGE} up to commit {new.id[:SHORT]}"
    except GitError as error:
        log.warning("trailers of the commits are not known", extra={"problem": str(error)})
    return None
