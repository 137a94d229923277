"""One log event a line, on standard error: text for a person at a terminal, JSON for everything else."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.clock import Clock

_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What logging itself puts on a record; all else was given as `extra` and is a field of the event."""

_COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}

_CHATTY = ("apscheduler", "httpx", "httpcore", "asyncio")
"""Libraries that log each thing they do at INFO (httpx with the whole URL); only their warnings are ours."""


def configure(stream: TextIO, clock: Clock) -> None:
    """Send every event of the process to `stream`, stamped with `clock`."""
    formatter = TextFormatter(clock) if stream.isatty() else JsonFormatter(clock)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "event": ..., field: value, ...}`, without the fields that are None."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as one line of JSON."""
        event = {
            "time": stamp(self._clock.now()),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{name: _plain(value) for name, value in _fields(record)},
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`14:05:00 run triggered  schedule=... fire_time=...`, coloured by level."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as one line (more only where there is a traceback)."""
        event = record.getMessage()
        if colour := _COLOURS.get(record.levelno):
            event = f"\x1b[{colour}m{event}\x1b[0m"
        fields = "".join(f" {name}={_shown(_plain(value))}" for name, value in _fields(record))
        traceback = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{self._clock.now():%H:%M:%S}Z {event} {fields}{traceback}"


def stamp(instant: datetime) -> str:
    """Return a UTC instant as `2026-11-21T02:30:00Z`, with milliseconds where it has any."""
    precision = "milliseconds" if instant.microsecond else "seconds"
    return instant.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    for name, value in vars(record).items():
        if name not in _NOT_FIELDS and value is not None:
            yield name, value


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return stamp(value)
    return value if isinstance(value, bool | int | float) else str(value)


def _shown(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\n\r\t\x1b') else text
