"""Word to the service manager that started this process, by systemd's notify protocol (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.errors import printable, shortened

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

_LONGEST_STATUS = 500
"""Characters of a status; a terminal shows one line of it."""

_PATIENCE = 0.1
"""Seconds for which a service manager that reads nothing may hold up the loop."""


@dataclass(frozen=True, slots=True)
class Systemd:
    """The service manager; silent where there is none, and whatever goes wrong in telling it harms nobody."""

    address: str = ""
    """Path of its socket, or its abstract name after an `@`; empty: there is nobody to tell."""
    watchdog: float | None = None
    """It wants to be fed within so many seconds each time, or restarts the process; None: it does not."""

    def status(self, status: str) -> None:
        """Say in words how it stands, and nothing more."""
        self._tell(f"STATUS={_line(status)}")

    def ready(self, status: str) -> None:
        """Say that all is in place, and how it stands. To be repeated with each new status.

        Also after `reloading`: then it says that the reload is over.
        """
        self._tell("READY=1", f"STATUS={_line(status)}")

    def reloading(self, since: float) -> None:
        """Say that a reload has begun, `since` by the machine's monotonic clock in seconds."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={round(since * 1e6)}")

    def stopping(self, status: str) -> None:
        """Say that the end has begun, and how it stands. To be repeated with each new status."""
        self._tell("STOPPING=1", f"STATUS={_line(status)}")

    def feed(self) -> None:
        """Tell the watchdog that all is well."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        # A manager that speaks another protocol (vsock:) is told nothing.
        if not self.address.startswith(("/", "@")):
            return
        address = self.address.encode(errors="surrogateescape")
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.settimeout(_PATIENCE)
            to.connect(address)
            to.send("\n".join(lines).encode(errors="replace"))


def take_from(environ: MutableMapping[str, str]) -> Systemd:
    """Return the service manager that these variables name, and remove them: they are not for children."""
    address, period, pid = (environ.pop(name, "") for name in _VARIABLES)
    meant = not pid or pid == str(os.getpid())
    microseconds = int(period) if meant and period.isascii() and period.isdigit() else 0
    return Systemd(address, microseconds / 1e6 or None)


def _line(text: str) -> str:
    return shortened(printable(text), _LONGEST_STATUS)
