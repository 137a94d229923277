"""Files as they really are on a disk: huge, vanished, in a loop, or no files at all."""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched.config.findings import Findings
from flowsched.errors import Refused, printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flowsched.errors import Problem

SUFFIXES = (".yaml", ".yml")
TEST_SUFFIXES = (".test.yaml", ".test.yml")
"""Of files that say what schedules must do; they hold none."""
MOST_ENTRIES = 20_000
"""Files and folders that one load looks at."""
DEEPEST_FOLDER = 40
MOST_BYTES = 5 * 1024**2
"""Of one file of schedules."""

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors that last until something is changed."""

_BESIDE = "the path of a file below the folder of schedules, from the folder of this file"
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

    path: str
    """What the user gave, joined with what was found below it: for people."""
    place: str
    """Where it is: the same, below the folder that stands in for the current one."""
    name: str
    """The path below what the user gave: the same wherever the folder is mounted."""
    identity: tuple[int, int]
    """Device and inode: the same for the same real file, whatever its path."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A file that a schedule file names, and what it holds."""

    path: Path
    """For people, as `Found` has it."""
    name: str
    """As `Found` has it."""
    content: bytes


@dataclass(slots=True)
class Trail:
    """What a load comes past, for whoever looks on from another thread, or wants to know it again."""

    files: int = 0
    """Begun so far."""
    beside: set[str] = field(default_factory=set)
    """The paths of files that schedule files name, whether they are there or not."""
    unread: bool = False
    """Whether something could not be read that is there, and may be readable later, unchanged."""

    def begin(self) -> None:
        """Note that the next file is begun."""
        self.files += 1


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
        content = _read(descriptor, status.st_size, most_bytes)
    finally:
        os.close(descriptor)
    _refuse_large(len(content), most_bytes)
    return content


def _read(descriptor: int, size: int, most_bytes: int) -> bytes:
    """Return what is left of a file that had this size a moment ago, or more than `most_bytes` of it."""
    content = os.read(descriptor, size + 1)
    while len(content) <= most_bytes and (more := os.read(descriptor, most_bytes + 1)):
        content += more
    return content


def content_of(path: str | Path, most_bytes: int, findings: Findings, trail: Trail | None = None) -> bytes:
    """Return what `read_bounded` does; what it raises is noted, and Unusable raised."""
    try:
        return read_bounded(path, most_bytes)
    except FileNotFoundError:
        findings.give_up((0, 0), (), "does not exist, or no longer does", "a file that is there")
    except OSError as error:
        if trail:
            trail.unread = True
        findings.give_up((0, 0), (), f"cannot be read: {error.strerror}", "a readable file")
    except Refused as refused:
        findings.give_up((0, 0), (), refused.message, refused.allowed)


def real_path(path: Path) -> Path:
    """Return the path of a file that is called so where it is shown: what does not show is escaped there.

    The path itself where it exists, or where no other, or more than one, would be shown so.
    """
    real = Path(path.anchor)
    for part in path.parts[len(real.parts) :]:
        if "\\" not in part or os.path.lexists(real / part):
            real /= part
            continue
        shown_so = [name for name in _names(real) if printable(name) == part]
        real /= shown_so[0] if len(shown_so) == 1 else part
    return real


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


def read_beside(file: Found, path: str, most_bytes: int, trail: Trail) -> Beside:
    """Return a file by its path from the folder of another, which named it.

    It must lie, also by its symbolic links, in the folder that the user gave. Raises Refused.
    """
    above = file.name.count("/")
    name = posixpath.normpath(posixpath.join(posixpath.dirname(file.name), path))
    root = Path(file.place).parents[above]
    if not _is_inside(root, name):
        raise Refused(f"{quoted(path)} leads out of the folder of schedules", _BESIDE)
    trail.beside.add(str(root / name))
    try:
        content = read_bounded(root / name, most_bytes)
    except Refused as refused:
        raise Refused(f"{quoted(path)} {refused.message}", refused.allowed) from None
    except FileNotFoundError:
        raise Refused(f"{quoted(path)} does not exist", _BESIDE) from None
    except OSError as error:
        trail.unread = True
        raise Refused(f"{quoted(path)} cannot be read: {error.strerror}", _BESIDE) from None
    return Beside(Path(file.path).parents[above] / name, name, content)


def _is_inside(root: Path, name: str) -> bool:
    """Tell whether a path leads to something below a folder, also by the links that it follows."""
    if posixpath.isabs(name) or name.split("/", 1)[0] == "..":
        return False
    return Path(os.path.realpath(root / name)).is_relative_to(os.path.realpath(root))


def find_files(
    paths: Iterable[str],
    base: Path = Path(),
    *,
    tests: bool = False,
    needed: bool = True,
    trail: Trail | None = None,
    known: Mapping[str, Found] | None = None,
) -> tuple[list[Found], list[Problem]]:
    """Return the files that the paths stand for, in order, each real file once; and what is wrong there.

    Relative paths begin at `base`. A path that is a file stands for itself, whatever its name. A folder
    stands for the `*.yaml` and `*.yml` in it and in the folders below it, hidden ones left out and symbolic
    links followed: those with schedules, or with `tests` the others, `*.test.yaml` and `*.test.yml`. One that
    has none is a problem where they are `needed`. What is `known`, by path, was found in a search like this
    one, and is still the same file: it is not looked at again.
    """
    search = _Search(base, trail or Trail(), tests=tests, needed=needed, known=known)
    parts = [search.below(str(Path(path))) for path in paths]
    # Below one path, they are found in order.
    found = parts[0] if len(parts) == 1 else sorted(itertools.chain(*parts), key=_parts_of)
    once: dict[tuple[int, int], Found] = {}
    for each in found:
        once.setdefault(each.identity, each)
    return list(once.values()), search.problems


class _Search:
    """A walk that notes what it cannot follow and goes on."""

    def __init__(
        self, base: Path, trail: Trail, *, tests: bool, needed: bool, known: Mapping[str, Found] | None
    ) -> None:
        self.problems: list[Problem] = []
        self._known = known or {}
        self._trail = trail
        self._base = base
        self._place_of_base = str(base)
        self._tests = tests
        self._needed = needed
        self._looked_at = 0

    def below(self, path: str) -> list[Found]:
        """Return the files that one path of the user's stands for."""
        problems_before = len(self.problems)
        found = list(self._enter(path, "", ()))
        if not found and self._needed and len(self.problems) == problems_before:
            kind, suffixes = ("test", TEST_SUFFIXES) if self._tests else ("schedule", SUFFIXES)
            allowed = f"at least one file named {' or '.join(f'*{suffix}' for suffix in suffixes)}"
            self._note(path, f"holds no {kind} file", allowed)
        return found

    def _enter(self, path: str, name: str, inside: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        """Yield what one path holds; `inside` identifies the folders that lead to it, outermost first."""
        self._looked_at += 1
        if self._looked_at == MOST_ENTRIES + 1:
            self._note(path, "is one entry too many", f"{MOST_ENTRIES:,} files and folders in one load")
        if self._looked_at > MOST_ENTRIES:
            return
        try:
            yield from self._follow(path, name, inside)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                self._trail.unread = True
            self._note(path, _why_not_there(self._base / path, error))
        except Refused as refused:
            self._note(path, refused.message, refused.allowed)

    def _follow(self, path: str, name: str, inside: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        place = _joined(self._place_of_base, path)
        status = os.stat(place)  # noqa: PTH116 - a Path for each of 10,000 takes longer than the look
        identity = (status.st_dev, status.st_ino)
        asked_for_by_name = not inside
        if stat.S_ISDIR(status.st_mode):
            if not asked_for_by_name:
                _refuse_odd_folder(path, identity, inside)
            for entry in sorted(os.listdir(place)):  # noqa: PTH208 - as above
                if not entry.startswith("."):
                    at, below = _joined(path, entry), f"{name}/{entry}" if name else entry
                    known = self._known.get(at)
                    if known is None or self._looked_at >= MOST_ENTRIES:
                        yield from self._enter(at, below, (*inside, identity))
                    else:
                        self._looked_at += 1
                        yield known
        elif asked_for_by_name or self._is_wanted(path):
            _refuse_irregular(status)  # before it is opened: to open a device may already do something
            yield Found(path, place, name or path.rpartition("/")[2], identity)

    def _is_wanted(self, name: str) -> bool:
        return name.endswith(SUFFIXES) and name.endswith(TEST_SUFFIXES) is self._tests

    def _note(self, path: str, message: str, allowed: str | None = None) -> None:
        findings = Findings(path)
        findings.add((0, 0), (), message, allowed)
        self.problems += findings.problems


def _parts_of(found: Found) -> list[str]:
    return found.path.split("/")


def _joined(folder: str, path: str) -> str:
    """Return what a Path of the two would be called."""
    if folder == "." or path.startswith("/"):
        return path
    return folder + path if folder.endswith("/") else f"{folder}/{path}"


def _refuse_odd_folder(path: str, identity: tuple[int, int], inside: tuple[tuple[int, int], ...]) -> None:
    if identity in inside:
        raise Refused("is a symbolic link to a folder that holds it: a loop", "links that do not lead back")
    if Path(path).suffix in SUFFIXES:
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
