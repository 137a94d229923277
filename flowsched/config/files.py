"""Files as they really are on a disk: huge, vanished, in a loop, or no files at all."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched.config.findings import Findings
from flowsched.errors import Refused, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowsched.errors import Problem

SUFFIXES = (".yaml", ".yml")
MOST_ENTRIES = 20_000
"""Files and folders that one load looks at."""
DEEPEST_FOLDER = 40

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A file to be read."""

    path: Path
    """What the user gave, joined with what was found below it."""
    name: str
    """The path below what the user gave: the same wherever the folder is mounted."""
    identity: tuple[int, int]
    """Device and inode: the same for the same real file, whatever its path."""


def read_bounded(path: str | Path, most_bytes: int) -> bytes:
    """Return what a regular file holds, without ever waiting for a pipe or reading without end.

    Raises Refused for what is no regular file or holds more than `most_bytes`, and OSError.
    """
    # Without O_NONBLOCK, opening a named pipe waits until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _refuse_irregular(status)
        _refuse_large(status.st_size, most_bytes)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    _refuse_large(len(content), most_bytes)
    return content


def content_of(path: Path, most_bytes: int, findings: Findings) -> bytes:
    """Return what `read_bounded` does; what it raises is noted, and Unusable raised."""
    try:
        return read_bounded(path, most_bytes)
    except FileNotFoundError:
        findings.give_up((0, 0), (), "does not exist, or no longer does", "a file that is there")
    except OSError as error:
        findings.give_up((0, 0), (), f"cannot be read: {error.strerror}", "a readable file")
    except Refused as refused:
        findings.give_up((0, 0), (), refused.message, refused.allowed)


def find_files(paths: Iterable[str]) -> tuple[list[Found], list[Problem]]:
    """Return the files that the paths stand for, in order, each real file once; and what is wrong there.

    A path that is a file stands for itself, whatever its name. A folder stands for the `*.yaml` and `*.yml`
    in it and in the folders below it, hidden ones left out and symbolic links followed.
    """
    search = _Search()
    found = [each for path in paths for each in search.below(Path(path))]
    once: dict[tuple[int, int], Found] = {}
    for each in sorted(found, key=lambda each: each.path):
        once.setdefault(each.identity, each)
    return list(once.values()), search.problems


class _Search:
    """A walk that notes what it cannot follow and goes on."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._looked_at = 0

    def below(self, path: Path) -> list[Found]:
        """Return the files that one path of the user's stands for."""
        problems_before = len(self.problems)
        found = list(self._enter(path, "", ()))
        if not found and len(self.problems) == problems_before:
            self._note(path, "holds no schedule file", "at least one file named *.yaml or *.yml")
        return found

    def _enter(self, path: Path, name: str, inside: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        """Yield what one path holds; `inside` identifies the folders that lead to it, outermost first."""
        self._looked_at += 1
        if self._looked_at == MOST_ENTRIES + 1:
            self._note(path, "is one entry too many", f"{MOST_ENTRIES:,} files and folders in one load")
        if self._looked_at > MOST_ENTRIES:
            return
        try:
            yield from self._follow(path, name, inside)
        except OSError as error:
            self._note(path, _why_not_there(path, error))
        except Refused as refused:
            self._note(path, refused.message, refused.allowed)

    def _follow(self, path: Path, name: str, inside: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        status = path.stat()
        identity = (status.st_dev, status.st_ino)
        asked_for_by_name = not inside
        if stat.S_ISDIR(status.st_mode):
            if not asked_for_by_name:
                _refuse_odd_folder(path, identity, inside)
            for entry in sorted(path.iterdir()):
                if not entry.name.startswith("."):
                    below = f"{name}/{entry.name}" if name else entry.name
                    yield from self._enter(entry, below, (*inside, identity))
        elif asked_for_by_name or path.suffix in SUFFIXES:
            _refuse_irregular(status)  # before it is opened: to open a device may already do something
            yield Found(path, name or path.name, identity)

    def _note(self, path: Path, message: str, allowed: str | None = None) -> None:
        findings = Findings(str(path))
        findings.add((0, 0), (), message, allowed)
        self.problems += findings.problems


def _refuse_odd_folder(path: Path, identity: tuple[int, int], inside: tuple[tuple[int, int], ...]) -> None:
    if identity in inside:
        raise Refused("is a symbolic link to a folder that holds it: a loop", "links that do not lead back")
    if path.suffix in SUFFIXES:
        raise Refused("is a folder, though named like a file", "folders named without .yaml or .yml")
    if len(inside) >= DEEPEST_FOLDER:
        raise Refused("is nested too deep", f"folders at most {DEEPEST_FOLDER} deep")


def _refuse_irregular(status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise Refused(f"is {_KINDS.get(kind, 'something else')}", "a regular file")


def _refuse_large(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise Refused("is too large", f"at most {most_bytes:,} bytes")


def _why_not_there(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself"
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"is a symbolic link to nothing: {_destination(path)} does not exist"
    if error.errno == errno.ENOENT:
        return "does not exist"
    return f"cannot be read: {error.strerror}"


def _destination(link: Path) -> str:
    try:
        return quoted(str(link.readlink()))
    except OSError:
        return "what it names"
