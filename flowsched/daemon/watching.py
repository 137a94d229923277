"""The files of the schedules, watched: whether they look otherwise than when they were read."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import watchfiles

from flowsched.daemon.disk import Unanswered
from flowsched.daemon.reading import SETTLE_AT_MOST, look_at
from flowsched.daemon.reloads import CHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowsched.clock import Clock
    from flowsched.config import Fingerprint
    from flowsched.daemon.reading import Look
    from flowsched.daemon.reloads import Reloads
    from flowsched.model import Settings

log = logging.getLogger(__name__)
# Its own lines about each change are not for our log.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

LOOK_EVERY = 5.0
"""Seconds between two looks at the files."""

LOOK_SHARE = 1 / 1_000
"""Of the time, that looks may take at files of which the system tells when they change: then those come less
often than every LOOK_EVERY where they are long, as they are at thousands of files."""

LOOK_AT_LAST = 20.0
"""Seconds between two looks at most, however long they take: the system may miss a change."""

LOOK_APART = 1.0
"""Seconds between two looks at least, however often the system says that something has changed."""

QUIET = 2.0
"""Seconds for which files that have changed must stay as they are before they are read."""

READ_AGAIN = 60.0
"""Seconds until files are read again that could not be read, whether they look the same or not."""

_HURRY_AGAIN = 60.0
_HURRY_LOOK = 5_000
_HURRY_STEP = 200
_HURRY_DEBOUNCE = 400
"""Real seconds until the system is asked again to tell of changes; the others in milliseconds."""

_HURRY_END = 1.0
"""Real seconds that the thread which is told of changes gets to end in."""

_LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs", "zfs"})
"""File systems that only this machine changes, so that it knows of every change. Not overlayfs: a change to a
folder below the overlay shows in it untold."""


class Watching:
    """Looks at the files again and again, and has them read when they have changed and come to rest.

    By itself it sees every change, on any disk. Where the system tells of changes, it looks sooner.
    """

    def __init__(self, settings: Settings, reloads: Reloads, clock: Clock, *, hurry: bool = True) -> None:
        """Watch the files of the settings; without `hurry`, only by looking at them."""
        self._settings = settings
        self._reloads = reloads
        self._clock = clock
        self._hurried = asyncio.Event()
        self._wants_hurry = hurry
        self._hurry: Hurry | None = None
        self._looked_at = clock.monotonic()
        self._pause = LOOK_EVERY
        """Seconds from the latest look to the next one while the system tells of changes."""
        self._read_at: float | None = None

    async def keep(self) -> None:
        """Watch; never ends. May be called again where a fault has ended it."""
        self._hurry = Hurry(self._settings.schedules, self._hurried.set) if self._wants_hurry else None
        async with self._hurry or nullcontext():
            while True:
                await self._until_the_next_look()
                if await self._is_to_be_read():
                    await self._reloads.ask(CHANGED)
                    self._read_at = self._clock.monotonic()

    async def _until_the_next_look(self) -> None:
        since = self._clock.monotonic() - self._looked_at
        await self._clock.sleep(LOOK_APART - since)
        every = self._pause if self._hurry is not None and self._hurry.tells else LOOK_EVERY
        waits = {
            asyncio.ensure_future(self._clock.sleep(every - max(since, LOOK_APART))),
            asyncio.ensure_future(self._hurried.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        self._hurried.clear()

    async def _is_to_be_read(self) -> bool:
        if self._reloads.disk.hangs:
            return self._reloads.seen is not None  # once, so that it is told
        try:
            return await self._has_changed()
        except Unanswered:
            return True

    async def _has_changed(self) -> bool:
        """Tell whether there is something new to read; wait for it to come to rest, but not for long."""
        look, until = await self._look(), self._clock.monotonic() + SETTLE_AT_MOST
        at_rest = False
        while self._is_new(look) and not at_rest and self._clock.monotonic() < until:
            await self._clock.sleep(QUIET)
            later = await self._look()
            at_rest = look.unrest(later) is None
            look = later
        return self._is_new(look)

    def _is_new(self, look: Look) -> bool:
        seen = self._reloads.seen
        if seen is None:
            return self._read_at is None or self._clock.monotonic() - self._read_at >= READ_AGAIN
        return not seen.shows_the_same(look)

    async def _look(self) -> Look:
        self._looked_at = self._clock.monotonic()
        seen = self._reloads.seen
        beside = seen.beside if seen else frozenset[str]()
        self._pause = LOOK_EVERY
        look, self._pause = await self._reloads.disk.ask(lambda _: self._look_and_time(beside))
        return look

    def _look_and_time(self, beside: frozenset[str]) -> tuple[Look, float]:
        """Look, and return also the pause that the look allows; blocks."""
        begun = self._clock.monotonic()  # not when it was asked for: another reading may have had its turn
        look = look_at(self._settings, beside)
        pause = pause_after(self._clock.monotonic() - begun)
        stretched = pause > LOOK_EVERY and is_told_of(look.print, self._settings.schedules)
        return look, pause if stretched else LOOK_EVERY


def pause_after(took: float) -> float:
    """Return the seconds from the beginning of a look that took so long to that of the next one.

    Where the system tells of each change, so that the looks are only there for what it misses.
    """
    return min(max(LOOK_EVERY, took / LOOK_SHARE), LOOK_AT_LAST)


def is_told_of(files: Fingerprint, path: str) -> bool:
    """Tell whether the system can tell of each change of the files that were found at a path; blocks.

    It does where the path leads to a folder on a disk of this machine, with no other disk below it, and no
    link leads out of the folder.
    """
    try:
        real = os.path.realpath(path)
        local = lies_on_local(real, _mount_of(real), Path("/proc/self/mountinfo").read_bytes())
    except (OSError, ValueError):  # no folder, or no Linux as proc(5) has it
        return False
    return local and not leads_out(files, real)


def _mount_of(folder: str) -> bytes:
    """Return the number of what is mounted where a folder lies. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes()
    finally:
        os.close(descriptor)
    found = re.search(rb"^mnt_id:\s*(\d+)$", told, re.MULTILINE)
    return found[1] if found else b""


def lies_on_local(folder: str, mount: bytes, mounts: bytes) -> bool:
    """Tell whether a folder, with all below it, lies on one file system that only this machine changes.

    By what proc(5) says of `/proc/self/mountinfo`; `mount` is the number of the one that it lies on.
    """
    below = os.fsencode(folder).rstrip(b"/") + b"/"
    kind = b""
    for line in mounts.splitlines():
        head, _, tail = line.partition(b" - ")
        number, _, _, _, point, *_ = head.split(b" ")
        if _unescaped(point).startswith(below):
            return False
        if number == mount:
            kind = tail.partition(b" ")[0]
    return os.fsdecode(kind) in _LOCAL


def _unescaped(point: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), point)


def leads_out(files: Fingerprint, folder: str) -> bool:
    """Tell whether a link below a folder, whose own path has none, may lead to something outside of it."""
    below = folder.rstrip("/") + "/"
    for path, mark in files.files.items():
        # The path of a link has none itself, and `@` after it; its mark has last where it leads.
        if path.endswith("@") and path.startswith(below) and isinstance(leads := mark[-1], str):
            to = os.path.normpath(os.path.join(os.path.dirname(path), leads))  # noqa: PTH118, PTH120
            if os.path.normpath(leads) != leads or not to.startswith(below):
                return True  # `..` after another link than this one may lead anywhere
    return False


class Hurry:
    """Tells that something has changed below a path, as soon as the system does, and where it does.

    It may miss changes: on a network disk, and where a link on the way to the path is made to lead elsewhere.
    In a thread of its own, for to begin to watch a folder means to walk through it.
    """

    def __init__(self, path: str, tell: Callable[[], object]) -> None:
        self.tells = False
        """Whether the system tells of changes just now."""
        self._path = path
        self._tell = tell
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._said: str | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name="flowsched-hurry", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the machine has no thread for it
            self._ended.set()
            self._say(str(error))

    async def __aexit__(self, *_: object) -> None:
        # A thread that is inside the library when the interpreter ends would take the process down.
        self._stop.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _HURRY_END)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._stop.is_set():
                self._watch_once(loop)
        finally:
            _tell(loop, self._ended.set)

    def _watch_once(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch what the path leads to now, until it leads elsewhere."""
        try:
            end = _end_of(self._path)
            for changes in _changes(end[0], self._stop):
                moved = _end_of(self._path) != end
                self.tells = not moved
                if changes or moved:
                    _tell(loop, self._tell)
                if moved:
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is: the looks go on
            told, self.tells = self.tells, False
            if told:
                _tell(loop, self._tell)  # the next look may be far away
            self._say(str(error))
            self._stop.wait(_HURRY_AGAIN)
        finally:
            self.tells = False

    def _say(self, reason: str) -> None:
        """Say once why changes are seen only by looking."""
        if reason != self._said:
            log.info(
                "changes of the files are noticed only by looking at them",
                extra={"reason": reason, "every": LOOK_EVERY},
            )
            self._said = reason


def _end_of(path: str) -> tuple[str, int, int]:
    """Return where a path leads to, and what is there: another folder may have got the name of one."""
    real = os.path.realpath(path)
    try:
        status = os.stat(real)  # noqa: PTH116 - it is a text that the library takes
    except OSError:
        return real, 0, 0
    return real, status.st_dev, status.st_ino


def _changes(real: str, stop: threading.Event) -> Iterator[bool]:
    """Yield each time that the system tells of a change, True, or has told of none for a while, False."""
    is_folder = os.path.isdir(real)  # noqa: PTH112 - it is a text that the library takes
    for changes in watchfiles.watch(
        real if is_folder else os.path.dirname(real),  # noqa: PTH120
        watch_filter=None,  # which files count is for the look to say
        stop_event=stop,
        step=_HURRY_STEP,  # the library wakes up each time, also where nothing has changed
        debounce=_HURRY_DEBOUNCE,
        rust_timeout=_HURRY_LOOK,
        yield_on_timeout=True,
        raise_interrupt=False,
        recursive=is_folder,
        ignore_permission_denied=True,
    ):
        yield bool(changes)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # it has ended meanwhile
        loop.call_soon_threadsafe(callback)
