from __future__ import annotations

import io
import json
import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from flowsched.ledger import Ledger
from flowsched.model import Outcome, RunState
from flowsched.ops import logs
from flowsched.runner.recorder import Recorder
from tests.builders import a_run, an_answer
from tests.fakes import HandClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def said(stream: io.StringIO) -> str:
    """What has been written once all is written."""
    logs.flush()
    return stream.getvalue()


CLOCK = HandClock(datetime(2026, 3, 29, 1, 0, 0, 250_000, tzinfo=UTC))
log = logging.getLogger("flowsched.test")


def test_a_pipe_gets_one_json_object_an_event() -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)

    log.warning("run %s", "waiting", extra={"schedule": "nightly", "attempt": 2, "reason": None})

    assert json.loads(said(stream)) == {
        "time": "2026-03-29T01:00:00.250Z",
        "level": "warning",
        "event": "run waiting",
        "schedule": "nightly",
        "attempt": 2,
    }


def test_a_terminal_gets_a_line_of_text() -> None:
    stream = Terminal()
    logs.configure(stream, CLOCK)

    log.info("run triggered", extra={"schedule": "nightly", "reason": "two words"})

    assert said(stream) == '01:00:00Z run triggered  schedule=nightly reason="two words"\n'


def test_a_value_cannot_forge_a_line_or_paint_the_terminal() -> None:
    stream = Terminal()
    logs.configure(stream, CLOCK)

    log.info("run failed", extra={"reason": "a\nb\x1b[31m"})

    assert said(stream) == "01:00:00Z run failed  reason=a\\nb\\x1b[31m\n"


def test_an_error_stands_out_on_a_terminal_only() -> None:
    shown = []
    for stream in (Terminal(), io.StringIO()):
        logs.configure(stream, CLOCK)
        log.error("run failed")
        shown.append(said(stream))

    terminal, pipe = shown
    assert "\x1b[31m" in terminal
    assert "\x1b" not in pipe


class Halted(io.StringIO):
    """A stream whose reader takes nothing until told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = threading.Event()

    def write(self, text: str) -> int:
        self.reads.wait(10)
        return super().write(text)


def test_a_reader_that_halts_halts_nobody_and_learns_what_it_missed() -> None:
    stream = Halted()
    logs.configure(stream, CLOCK)
    for number in range(logs.BACKLOG + 50):
        log.info("event", extra={"number": number})
    stream.reads.set()
    said(stream)

    log.info("event", extra={"number": "last"})

    lines = [json.loads(line) for line in said(stream).splitlines()]
    lost = logs.BACKLOG + 50 - (len(lines) - 2)
    assert [line["event"] for line in lines[-2:]] == [
        f"log lines lost, as nobody read them: {lost}",
        "event",
    ]
    assert 40 <= lost <= 50


def test_a_reader_that_went_away_ends_nobody() -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)
    stream.close()

    before = [thread for thread in threading.enumerate() if thread.name == "log"]
    log.info("event")
    logs.flush()

    assert [thread for thread in threading.enumerate() if thread.name == "log"] == before


def test_a_field_cannot_take_the_place_of_what_every_event_has() -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)

    log.info("event", extra={"time": "never", "level": "none"})

    event = json.loads(said(stream))
    assert (event["time"], event["level"]) == ("2026-03-29T01:00:00.250Z", "info")


def test_the_libraries_below_do_not_chat() -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)

    logging.getLogger("httpx").info("HTTP Request: POST https://gateway/flows?userId=u1")
    logging.getLogger("apscheduler.scheduler").info("Added job")

    assert said(stream) == ""


async def test_each_change_of_state_is_one_event(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)

    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        run = a_run(state=RunState.TRIGGERED, instance="3377-20260101000000")
        Recorder(ledger, CLOCK).announce(run, an_answer(Outcome.ACCEPTED))

    event = json.loads(said(stream))
    assert event["event"] == "run triggered"
    assert event["fire_time"] == "2026-01-01T00:00:00Z"
    assert (event["run"], event["schedule"], event["attempt"]) == (1, "nightly", 1)
    assert event["instance"] == "3377-20260101000000"
    assert "reason" not in event
