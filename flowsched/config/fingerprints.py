"""What a folder of schedules looks like from outside: enough to tell that it has changed, without reading."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from flowsched.config.files import DEEPEST_FOLDER, MOST_ENTRIES, SUFFIXES, TEST_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

Mark = tuple[object, ...]
"""What changes when a file, a folder or a link does."""

_MARK_OF_STATUS = 6
"""So many parts has a mark that is taken of a status; the last one is when that was changed last."""

_COUNTING = (*SUFFIXES, ".ics")
_UNSEEN = (OSError, ValueError)
"""What looking at a path raises; the second where no file can have it, as one with a zero byte in it."""

_NAME = attrgetter("name")
_mark = attrgetter("st_mode", "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
"""Returns the mark of a status."""

_LINKS_DEEP = 40
"""Symbolic links that one path may lead through: as many as Linux follows."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The marks of all that a load reads, and of what leads to it, by path."""

    files: Mapping[str, Mark]
    """Of files that count, of links, and of what cannot be looked at."""
    folders: Mapping[str, Mark]
    """Of folders; they change also by a file that does not count."""

    def change(self, other: Fingerprint) -> str | None:
        """Return a path at which another differs, folders included; None: there is none."""
        return _difference(self.files, other.files) or _difference(self.folders, other.folders)

    def has_same_files(self, other: Fingerprint) -> bool:
        """Tell whether all that counts is as in another, whatever else came and went in the folders."""
        return self.files == other.files

    def older_than(self, instant: datetime) -> dict[str, Mark]:
        """Return the marks of files that were changed last before an instant."""
        before = int(instant.timestamp() * 1e9)
        return {
            path: mark
            for path, mark in self.files.items()
            if len(mark) == _MARK_OF_STATUS and mark[-1] < before  # type: ignore[operator]
        }


def _difference(some: Mapping[str, Mark], others: Mapping[str, Mark]) -> str | None:
    if some == others:
        return None
    return min(path for path in some.keys() | others.keys() if some.get(path) != others.get(path))


def fingerprint(path: str, beside: Iterable[str] = ()) -> Fingerprint:
    """Take the marks of what `load_catalog` reads of an absolute path, and of the files `beside`; blocks.

    Files are not opened. A mark holds device, inode, size and both times in nanoseconds; of a link, also
    where it leads. What cannot be looked at has its error as a mark, so this raises nothing.
    """
    walk = _Walk()
    walk.enter(path, "/", path, ())
    for each in beside:
        walk.look_at(each, "/", each)
    return Fingerprint(walk.files, walk.folders)


@dataclass(slots=True)
class _Walk:
    """Looks at what `files.find_files` looks at, within the same bounds."""

    files: dict[str, Mark] = field(default_factory=dict)
    folders: dict[str, Mark] = field(default_factory=dict)
    _looked_at: int = 0

    def enter(self, path: str, above: str, name: str, inside: tuple[tuple[int, int], ...]) -> None:
        """Look at a path, and at what is below it.

        From `above`, a folder whose own path has no link in it, `name` leads to the same.
        """
        self._looked_at += 1
        if self._looked_at > MOST_ENTRIES:
            return
        seen = self.look_at(path, above, name)
        if seen is None or not stat.S_ISDIR(seen[0].st_mode):
            return
        status, real = seen
        identity = (status.st_dev, status.st_ino)
        if identity in inside or len(inside) >= DEEPEST_FOLDER:
            return
        try:
            with os.scandir(real or "/") as entries:
                below = sorted(filter(_counts, entries), key=_NAME)
        except _UNSEEN as error:
            self.files[path] = _error_of(error)
            return
        inside = (*inside, identity)
        for each in below:
            self._enter_below(f"{path}/{each.name}", real, each, inside)

    def _enter_below(
        self, path: str, above: str, entry: os.DirEntry[str], inside: tuple[tuple[int, int], ...]
    ) -> None:
        """Look at what a folder holds: mostly files, to which nothing else leads."""
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            self.enter(path, above, entry.name, inside)
            return
        self._looked_at += 1
        if self._looked_at <= MOST_ENTRIES:
            self.files[path] = _mark(status)

    def look_at(self, path: str, above: str, name: str) -> tuple[os.stat_result, str] | None:
        """Note a file or folder, and the links that lead to it; return its path without any.

        None where it cannot be looked at.
        """
        try:
            status, real = self._follow(above.rstrip("/"), name.split("/")[::-1])
        except _UNSEEN as error:
            self.files[path] = _error_of(error)
            return None
        if stat.S_ISDIR(status.st_mode):
            # Not its times: they change by files that do not count, too.
            self.files[path] = (status.st_dev, status.st_ino)
            self.folders[path] = _mark(status)
        else:
            self.files[path] = _mark(status)
        return status, real

    def _follow(self, at: str, left: list[str]) -> tuple[os.stat_result, str]:
        """Go the parts that are left, the next one last, and note the links. Raises OSError."""
        status, links = os.lstat(at or "/"), 0
        while left:
            part = left.pop()
            if part == "..":
                at = at.rpartition("/")[0]
            elif part not in ("", "."):
                at = f"{at}/{part}"
            status = os.lstat(at or "/")
            if not stat.S_ISLNK(status.st_mode):
                continue
            links += 1
            if links > _LINKS_DEEP:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), at)
            leads = os.readlink(at)  # noqa: PTH115 - a Path for each of 10,000 takes as long as the look
            self.files[f"{at}@"] = (*_mark(status), leads)
            left += leads.split("/")[::-1]
            at = "" if leads.startswith("/") else at.rpartition("/")[0]
        return status, at


def _counts(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    if name.startswith("."):
        return False
    if name.endswith(_COUNTING):
        return not name.endswith(TEST_SUFFIXES)
    try:
        # A link that leads nowhere counts: what it leads to may come to be there.
        return entry.is_dir() or (entry.is_symlink() and not os.path.exists(entry.path))  # noqa: PTH110
    except OSError:
        return True


def _error_of(error: Exception) -> Mark:
    return "error", error.errno if isinstance(error, OSError) else str(error)
