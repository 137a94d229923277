"""The sockets that a daemon listens on: made safely, and removed."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched.errors import ConfigError, FlowschedError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.model import Settings

_LONGEST_PATH = 107
"""Bytes of an address in AF_UNIX, without the zero at its end (unix(7))."""

_PATIENCE = 2.0
"""Real seconds that whoever may listen on a socket gets to take a connection."""

BACKLOG = 128
"""Connections that may wait to be taken."""

_OWN, _SHARED = 0o600, 0o660


@dataclass(frozen=True, slots=True)
class ControlSocket:
    """A socket in the file system that listens."""

    socket: socket.socket
    path: str
    inode: tuple[int, int]

    def remove(self) -> None:
        """Remove it from the file system, unless another has taken its place; an error changes nothing."""
        with suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self.inode:
                Path(self.path).unlink()


@contextmanager
def address_of(path: str) -> Iterator[str]:
    """Give an address of the socket at `path` that AF_UNIX takes, also for a path that is too long for it.

    Raises OSError where the folder cannot be opened, or where the name alone is too long.
    """
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        address = f"/proc/self/fd/{folder}/{Path(path).name}"
        if len(os.fsencode(address)) > _LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        yield address
    finally:
        os.close(folder)


def control_socket(settings: Settings) -> ControlSocket:
    """Make the control socket of the settings, and listen on it.

    It is never open to more than it is to be: to its user alone, or to the group of the settings beside. One
    that nobody listens on any more is replaced. Raises ConfigError where it cannot be made as the settings
    want it, and FlowschedError where another process listens on it.
    """
    path = settings.control_socket
    group = _group(settings)
    _require_free(settings, path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # What is made by `bind` has the mode of the socket itself, less the umask (Linux).
        os.fchmod(listener.fileno(), _OWN)
        with address_of(path) as address:
            listener.bind(address)
        found = os.lstat(path)
        made = ControlSocket(listener, path, (found.st_dev, found.st_ino))
    except OSError as error:
        listener.close()
        raise _refused(settings, "socket", f"{path} cannot be made: {_why(error)}", _FOLDER) from None
    try:
        if group is not None:
            _share(settings, path, group)
        listener.setblocking(False)
        listener.listen(BACKLOG)
    except BaseException:
        made.remove()
        listener.close()
        raise
    return made


def tcp_socket(address: str, port: int) -> socket.socket:
    """Listen on a TCP port of an IP address of this machine; raises FlowschedError where that cannot be."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.setblocking(False)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        shown = f"[{address}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"
        raise FlowschedError(f"cannot listen on {shown} (listen): {_why(error)}") from None
    return listener


_FOLDER = "a path in a folder that exists and may be written to, such as the RuntimeDirectory of the unit"


def _group(settings: Settings) -> int | None:
    if settings.control_group is None:
        return None
    try:
        return grp.getgrnam(settings.control_group).gr_gid
    except KeyError:
        raise _refused(
            settings, "group", f"there is no group {settings.control_group}", "a group of this machine"
        ) from None


def _share(settings: Settings, path: str, group: int) -> None:
    """Open the socket to a group; it must have the group before it gets the mode."""
    try:
        if os.lstat(path).st_gid != group:  # a sandbox may forbid to change it, also to what it is
            os.chown(path, -1, group, follow_symlinks=False)
        os.chmod(path, _SHARED)  # noqa: PTH101 - beside its chown
    except PermissionError:
        allowed = "the group that the daemon runs as (Group= of the unit)"
        message = f"the daemon's user may not give the socket to the group {settings.control_group}"
        raise _refused(settings, "group", message, allowed) from None
    except OSError as error:
        raise _refused(settings, "group", f"{path}: {_why(error)}", "a group of this machine") from None


def _require_free(settings: Settings, path: str) -> None:
    """Remove a socket that nobody listens on; raise where anything else is in the way."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(settings, "socket", f"{path} cannot be made: {_why(error)}", _FOLDER) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise _refused(
            settings, "socket", f"{path} is there and is no socket; it is left alone", "another path"
        )
    if _somebody_listens(path):
        raise FlowschedError(f"another process listens on {path} (control.socket); it has to end first")
    try:
        Path(path).unlink()
    except OSError as error:
        message = f"{path} is left over and cannot be removed: {_why(error)}"
        raise _refused(settings, "socket", message, _FOLDER) from None


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(_PATIENCE)
        try:
            with address_of(path) as address:
                probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # also where it may not be asked, or its backlog is full: somebody's it is
            return True
    return True


def _refused(settings: Settings, key: str, message: str, allowed: str) -> ConfigError:
    return ConfigError([Problem(settings.file, 0, 0, f"control.{key}", message, allowed)])


def _why(error: OSError) -> str:
    return error.strerror or str(error)
