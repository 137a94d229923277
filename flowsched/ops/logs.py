"""One log event a line, on standard error: text to a terminal and to systemd's journal, JSON elsewhere."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import deque
from datetime import datetime
from enum import StrEnum
from threading import Condition, Event, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple, TextIO

from flowsched.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowsched.clock import Clock

_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What logging itself puts on a record; all else was given as `extra` and is a field of the event."""

_COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
"""Those of syslog(3), as sd-daemon(3) has them; what is below is 7, debug."""


BACKLOG = 10_000
"""Lines that may wait for a reader who does not read; what comes beyond is counted, and the count is told."""

AT_ONCE = 200
"""Lines that are written in one go at most: as long as a reader takes to read them, they count as waiting."""

GATHERED = 0.02
"""Real seconds in which the lines that follow one gather, to be written in one go: each write by the thread
takes the interpreter away from the loop, which in a burst has the calls of a thousand fires to make."""

FAREWELL = 2.0
"""Real seconds for the last lines to be read in, when the process ends."""

_NUMBERS = (bool, int, float)

_AS_THEY_ARE = frozenset({str, *_NUMBERS})

_TO_SECONDS, _TO_MILLISECONDS = len("2026-11-21T02:30:00"), len("2026-11-21T02:30:00.000")
"""Of what `datetime.isoformat` returns."""

_AMBIGUOUS = re.compile('[ "=]')

_encoded = json.JSONEncoder(ensure_ascii=False).encode


class Form(StrEnum):
    """How an event is written."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """The least that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(
    stream: TextIO,
    clock: Clock,
    *,
    level: Level = Level.INFO,
    form: Form | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send every event of the process to `stream`, stamped with `clock`.

    `form` None: text where the stream is a terminal or systemd's journal, else JSON. For the journal, which
    `environ` tells of, each line begins with its priority. Of the libraries below, of which some log whole
    URLs, only warnings are ours, whatever the level.

    A thread writes: a terminal that is halted, or a pipe that nobody reads, must not halt the daemon.
    """
    journal, terminal = _is_journal(stream, environ), stream.isatty()
    formatter: logging.Formatter
    if (form or (Form.TEXT if journal or terminal else Form.JSON)) is Form.JSON:
        formatter = JsonFormatter(clock)
    else:
        formatter = TextFormatter(None if journal else clock, coloured=terminal)
    handler = _Outbox(stream)
    handler.setFormatter(JournalFormatter(formatter) if journal else formatter)
    least = logging.getLevelNamesMapping()[level.upper()]
    # What nobody is shown need not be found out for each event.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(least, logging.WARNING))
    logging.getLogger("flowsched").setLevel(least)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether the stream is the one that systemd has connected to the journal (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def flush() -> None:
    """Wait until all that was logged is written, for FAREWELL seconds at most."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class _Line(NamedTuple):
    """One that waits to be written."""

    text: str
    stands_for: int = 1
    """Lines that are lost where this one is: it may tell of others."""


class _Outbox(logging.Handler):
    """Formats at once, and has a thread of its own write the lines, many in one go."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[_Line] = deque()
        """What is not written yet, with what is being written."""
        self._there_are_some = Event()
        self._hurry = Event()
        self._all_written = Condition()
        self._lost = 0
        self._counting = Lock()
        Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Leave the line to the thread; count it where too many wait. Raises nothing, whatever was logged."""
        if len(self._lines) >= BACKLOG:
            self._lose(1)
            return
        if self._lost:
            self._tell_of_the_lost(record)
        self._lines.append(_Line(self._written(record)))
        if not self._there_are_some.is_set():
            self._there_are_some.set()

    def flush(self) -> None:
        """Wait as the module's `flush` says; logging itself does so when the process ends."""
        self._hurry.set()
        with self._all_written:
            self._all_written.wait_for(lambda: not self._lines, FAREWELL)

    def _lose(self, lines: int) -> None:
        with self._counting:
            self._lost += lines

    def _tell_of_the_lost(self, record: logging.LogRecord) -> None:
        with self._counting:
            lost, self._lost = self._lost, 0
        text = f"log lines lost, as nobody read them: {lost}"
        self._lines.append(_Line(self.format(_instead_of(record, text)), lost))

    def _written(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as fault:  # noqa: BLE001 - whoever logs has other things to do than to mind this
            where = f"{record.name}, {record.filename} line {record.lineno}"
            text = f"log line lost, as it cannot be written ({type(fault).__name__}): {where}"
            return self.format(_instead_of(record, text))

    def _write_all(self) -> None:
        while True:
            self._there_are_some.wait()
            self._there_are_some.clear()  # before they are taken: what comes later sets it again
            waiting = len(self._lines)
            for begin in range(0, waiting, AT_ONCE):
                self._write_first(min(AT_ONCE, waiting - begin))
            with self._all_written:
                self._all_written.notify_all()
            self._hurry.wait(GATHERED)
            self._hurry.clear()

    def _write_first(self, count: int) -> None:
        """Write so many of the lines that wait; until they are written, they stay there, and count."""
        self._write([self._lines[place] for place in range(count)])
        for _ in range(count):
            self._lines.popleft()

    def _write(self, lines: Sequence[_Line]) -> None:
        try:
            self._stream.write("".join(f"{line.text}\n" for line in lines))
            self._stream.flush()
        except UnicodeError:  # in one of them; none is written
            if len(lines) > 1:
                for line in lines:
                    self._write([line])
        except (OSError, ValueError):
            # Whoever closed the other end has no use for the lines; the daemon goes on without a reader. One
            # that is there, and whose pipe is full or disk without room, is told of them when it takes lines
            # again: of all, though some may have come through.
            self._lose(sum(line.stands_for for line in lines))


def _instead_of(record: logging.LogRecord, text: str) -> logging.LogRecord:
    return logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, text, (), None)


class JsonFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "event": ..., field: value, ...}`, without the fields that are None."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as one line of JSON."""
        head = {
            "time": stamp(self._clock.now()),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        event = {**head, **_fields(record), **head}
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return _encoded(event)


class TextFormatter(logging.Formatter):
    """`14:05:00Z run triggered  schedule=... fire_time=...`, perhaps coloured by level."""

    def __init__(self, clock: Clock | None, *, coloured: bool) -> None:
        """Begin with the time of `clock`; None: with none."""
        super().__init__()
        self._clock = clock
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as one line (more only where there is a traceback)."""
        event = printable(record.getMessage())
        if self._coloured and (colour := _COLOURS.get(record.levelno)):
            event = f"\x1b[{colour}m{event}\x1b[0m"
        time = f"{self._clock.now():%H:%M:%S}Z " if self._clock else ""
        fields = " ".join([f"{name}={_shown(value)}" for name, value in _fields(record).items()])
        traceback = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{time}{event}{fields and '  '}{fields}{traceback}"


class JournalFormatter(logging.Formatter):
    """What another makes of an event, each line after `<N>`, which the journal takes as its priority."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of the event."""
        priority = _PRIORITIES.get(record.levelno, 7)
        return "\n".join(f"<{priority}>{line}" for line in self._formatter.format(record).split("\n"))


def stamp(instant: datetime) -> str:
    """Return a UTC instant as `2026-11-21T02:30:00Z`, with milliseconds where it has any."""
    return f"{instant.isoformat()[: _TO_MILLISECONDS if instant.microsecond else _TO_SECONDS]}Z"


def _fields(record: logging.LogRecord) -> dict[str, str | float]:
    return {
        name: value if type(value) in _AS_THEY_ARE else _plain(value)
        for name, value in vars(record).items()
        if value is not None and name not in _NOT_FIELDS
    }


def _plain(value: object) -> str | float:
    if isinstance(value, datetime):
        return stamp(value)
    return value if isinstance(value, _NUMBERS) else str(value)


def _shown(value: str | float) -> str:
    text = printable(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or _AMBIGUOUS.search(text) else text
