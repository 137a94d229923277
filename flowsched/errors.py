"""The exception tree, and the problem that a file can have.

    FlowschedError          whatever a user can do something about; never a traceback
      ConfigError           files that cannot be used; carries every problem found
      UsageError            a command asked for something that makes no sense
        GitError            ... of Git, which cannot tell; says what to do
      Refused               a value that its place cannot take; says what is allowed
        CronError           ... where a timing belongs
      LedgerError           the durable record cannot be used just now
        LedgerTaken         ... as another process is its one daemon, until that ends
        LedgerUnusable      ... and will not get better by waiting: newer, foreign, corrupt
        LedgerRefusal       it is well, and its rules forbid what was asked
      SecretError           secrets that cannot be read; carries the fault of each
      ControlRefusal        what a person asked for cannot be done as things stand
      NoDaemon              there is none that could be asked
      NoAnswer              one was asked, and nobody knows what came of it

HTTP failures are not exceptions here: they are values (`model.Answer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(StrEnum):
    """Whether a problem keeps the files from being used."""

    ERROR = "error"
    WARNING = "warning"
    """They can be used; somebody should know all the same."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault in a file, with what is allowed there."""

    file: str
    line: int
    """Counted from 1; 0 where the fault is the file as a whole."""
    column: int
    """Counted from 1, in characters; 0 where the fault is the file as a whole."""
    path: str
    """Dotted, as `schedules.nightly.cron`; empty where the fault is the file as a whole."""
    message: str
    allowed: str | None = None
    rule: str = ""
    """The stable name of the rule that it breaks; empty where there is none, as for what no file may hold."""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        warning = "warning: " if self.severity is Severity.WARNING else ""
        path = f"{self.path}: " if self.path else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        rule = f" [{self.rule}]" if self.rule else ""
        return f"{where}: {warning}{path}{self.message}{allowed}{rule}"


class FlowschedError(Exception):
    """Something that a user can do something about; its text is shown as it is."""


class ConfigError(FlowschedError):
    """Files that cannot be used. `problems` holds every fault found, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


class UsageError(FlowschedError):
    """A command was asked for something that makes no sense."""


class GitError(UsageError):
    """What Git was asked for cannot be had; the text says why, and what to do."""


class Refused(FlowschedError):  # noqa: N818 - what happened to the value
    """A value that its place cannot take: what is wrong with it, and what is allowed there."""

    def __init__(self, message: str, allowed: str) -> None:
        self.message = message
        self.allowed = allowed
        super().__init__(f"{message}; allowed: {allowed}")


class CronError(Refused):
    """A text that is not a timing; the message names the field, the value and what is wrong."""


class LedgerError(FlowschedError):
    """The ledger could not do what it was asked; nothing of it was done, or it will be found done."""


class LedgerTaken(LedgerError):  # noqa: N818 - it is a state of the ledger, and reads as one
    """Another process keeps the ledger as its one daemon; it is free when that process ends."""


class LedgerUnusable(LedgerError):  # noqa: N818 - it is a state of the ledger, and reads as one
    """The ledger cannot be used at all: made by a newer flowsched, corrupt, or not a ledger."""


class LedgerRefusal(LedgerError):  # noqa: N818 - what the ledger answers
    """The ledger's rules forbid what was asked, such as to leave a final state; asking again is no use."""


class SecretError(FlowschedError):
    """Secrets that cannot be read. `faults` has what is wrong with each: its source, never its value."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


def printable(text: str) -> str:
    """Return the text with everything escaped that could garble a terminal, a log or a review."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def quoted(text: str) -> str:
    """Return a text as it is shown in a message: in quotes, on one line, and not too long."""
    return repr(shortened(text, 60))


def shortened(text: str, longest: int) -> str:
    """Return a text, or its beginning where it is too long."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


class ControlRefusal(FlowschedError):  # noqa: N818 - it says what it is
    """What a person asked for cannot be done as things stand; the text says why, and what can be."""


class NoDaemon(FlowschedError):  # noqa: N818 - so does this
    """Nobody took a connection on the control socket, and so nothing was asked; the text says why."""


class NoAnswer(FlowschedError):  # noqa: N818 - and this
    """A daemon was asked, and its answer did not come: what was asked for may be done, or may yet be."""
