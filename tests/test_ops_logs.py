from __future__ import annotations

import ast
import errno
import io
import json
import logging
import os
import threading
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pytest

import flowsched
from flowsched.cli import run
from flowsched.ledger import Ledger
from flowsched.model import Outcome, RunState
from flowsched.ops import logs
from flowsched.runner.recorder import Recorder, fields
from tests.builders import a_run, an_answer
from tests.fakes import HandClock

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


class Reluctant(io.StringIO):
    """A stream whose reader takes as much as it is told to, one write after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.takes = threading.Semaphore(0), threading.Semaphore(0)

    def write(self, text: str) -> int:
        self.begun.release()
        self.takes.acquire(timeout=10)
        return super().write(text)


def test_what_a_slow_reader_has_read_makes_room_for_more() -> None:
    stream = Reluctant()
    logs.configure(stream, CLOCK)
    for number in range(logs.BACKLOG):
        log.info("event", extra={"number": number})
    for _ in range(6):
        stream.begun.acquire(timeout=10)
        stream.takes.release()
    stream.begun.acquire(timeout=10)  # now all that it took before is gone
    for number in range(logs.BACKLOG, logs.BACKLOG + 4 * logs.AT_ONCE):
        log.info("event", extra={"number": number})
    stream.takes.release(logs.BACKLOG)

    lines = [json.loads(line) for line in said(stream).splitlines()]

    assert [line.get("number") for line in lines] == list(range(logs.BACKLOG + 4 * logs.AT_ONCE))


class Full(io.StringIO):
    """A stream to a disk without room, as long as it is."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_what_could_not_be_written_is_told_when_lines_are_taken_again() -> None:
    stream = Full()
    logs.configure(stream, CLOCK)
    for burst in (3, 1):  # the second has the line that tells of the first
        for _ in range(burst):
            log.info("event")
        logs.flush()
    stream.full = False
    log.info("event")

    lines = [json.loads(line)["event"] for line in said(stream).splitlines()]

    assert lines == ["log lines lost, as nobody read them: 4", "event"]


def test_a_reader_that_went_away_ends_nobody() -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)
    stream.close()

    before = [thread for thread in threading.enumerate() if thread.name == "log"]
    log.info("event")
    logs.flush()

    assert [thread for thread in threading.enumerate() if thread.name == "log"] == before


class Slow(io.StringIO):
    """A stream that counts what is written to it at once, and takes nothing until told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = threading.Event()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.reads.wait(10)
        text.encode()
        self.writes.append(text)
        return super().write(text)


def test_what_has_gathered_is_written_at_once_and_in_order() -> None:
    stream = Slow()
    logs.configure(stream, CLOCK)
    for number in range(500):
        log.info("event", extra={"number": number})
    stream.reads.set()

    lines = said(stream).splitlines()

    assert [json.loads(line)["number"] for line in lines] == list(range(500))
    # The first line may have gone before the others were there.
    assert len(stream.writes) <= 1 + -(-500 // logs.AT_ONCE)


def test_a_line_that_the_stream_cannot_take_costs_no_other() -> None:
    stream = Slow()
    logs.configure(stream, CLOCK)
    for name in ("before", "no \udcff text", "after"):
        log.info("event", extra={"file": name})
    stream.reads.set()

    lines = said(stream).splitlines()

    assert [json.loads(line)["file"] for line in lines] == ["before", "after"]


def test_all_threads_lines_are_written_once() -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)

    def talk(who: int) -> None:
        for number in range(300):
            log.info("event", extra={"who": who, "number": number})
            if not number % 50:
                logs.flush()

    threads = [threading.Thread(target=talk, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    events = [json.loads(line) for line in said(stream).splitlines()]
    for who in range(4):
        assert [event["number"] for event in events if event["who"] == who] == list(range(300))


@pytest.mark.parametrize("form", list(logs.Form))
def test_values_are_written_as_they_are(form: logs.Form) -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK, form=form)

    extra = {"state": RunState.FAILED, "ok": True, "level_": Kind.TWO, "seconds": 0.5, "names": ["a", "b"]}
    log.info("event", extra=extra | {"at": datetime(2026, 1, 2, 3, 4, 5, 999, tzinfo=UTC), "none": None})

    assert (
        said(stream)
        == {
            logs.Form.JSON: '{"time": "2026-03-29T01:00:00.250Z", "level": "info", "event": "event", '
            '"state": "failed", "ok": true, "level_": 2, "seconds": 0.5, "names": "[\'a\', \'b\']", '
            '"at": "2026-01-02T03:04:05.000Z"}\n',
            logs.Form.TEXT: "01:00:00Z event  state=failed ok=True level_=2 seconds=0.5 "
            "names=\"['a', 'b']\" at=2026-01-02T03:04:05.000Z\n",
        }[form]
    )


class Kind(IntEnum):
    TWO = 2


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


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[TextIO, dict[str, str]]]:
    """A stream that systemd has connected to its journal, as the environment says; it is a file here."""
    with (tmp_path / "journal").open("w+", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        yield stream, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def kept(stream: TextIO) -> list[str]:
    logs.flush()
    stream.seek(0)
    return stream.read().splitlines()


def test_the_journal_gets_text_with_priorities_and_no_time(journal: tuple[TextIO, dict[str, str]]) -> None:
    stream, environ = journal
    logs.configure(stream, CLOCK, environ=environ, level=logs.Level.DEBUG)

    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        log.log(level, "run failed", extra={"schedule": "nightly"})

    assert kept(stream) == [f"<{number}>run failed  schedule=nightly" for number in (7, 6, 4, 3, 2)]


def test_each_line_of_a_traceback_has_its_priority(journal: tuple[TextIO, dict[str, str]]) -> None:
    stream, environ = journal
    logs.configure(stream, CLOCK, environ=environ)

    log.critical("a fault", exc_info=RuntimeError("one line\n<0>another"))

    lines = kept(stream)
    assert lines == ["<2>a fault", "<2>RuntimeError: one line", "<2><0>another"]


def test_the_journal_gets_json_where_that_is_wanted(journal: tuple[TextIO, dict[str, str]]) -> None:
    stream, environ = journal
    logs.configure(stream, CLOCK, environ=environ, form=logs.Form.JSON)

    log.error("run failed")

    (line,) = kept(stream)
    assert line.startswith("<3>{")
    assert json.loads(line[3:])["event"] == "run failed"


def test_a_stream_that_somebody_has_put_in_place_of_the_journal_is_none(
    journal: tuple[TextIO, dict[str, str]],
) -> None:
    stream, environ = journal
    logs.configure(stream, CLOCK, environ={"JOURNAL_STREAM": environ["JOURNAL_STREAM"] + "0"})

    log.error("run failed")

    (line,) = kept(stream)
    assert json.loads(line)["level"] == "error"


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (logs.Level.DEBUG, ["debug", "info", "warning", "error"]),
        (logs.Level.INFO, ["info", "warning", "error"]),
        (logs.Level.WARNING, ["warning", "error"]),
        (logs.Level.ERROR, ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_written(level: logs.Level, written: list[str]) -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK, level=level)

    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(number, "event")

    assert [json.loads(line)["level"] for line in said(stream).splitlines()] == written


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_the_daemon_is_told_in_small_letters_what_to_log(level: str, form: str) -> None:
    context = run.command.make_context("run", ["--log-level", level, "--log-format", form])

    assert context.params == {"log_level": level, "log_format": form}
    assert run.command.make_context("run", []).params == {"log_level": "info", "log_format": None}


def test_text_is_not_coloured_where_it_is_not_a_terminal() -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK, form=logs.Form.TEXT)

    log.error("run failed")

    assert said(stream) == "01:00:00Z run failed\n"


@pytest.mark.parametrize(
    "name", ["httpx", "httpcore.http11", "uvicorn.access", "apscheduler.scheduler", "any"]
)
def test_no_library_says_more_at_debug(name: str) -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK, level=logs.Level.DEBUG)

    logging.getLogger(name).debug("POST https://gateway/flows?token=secret")
    logging.getLogger(name).info("POST https://gateway/flows?token=secret")

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


@pytest.mark.parametrize(
    ("state", "reason", "level"),
    [
        (RunState.SKIPPED, "paused: the plant is closed (ada)", "info"),
        (RunState.SKIPPED, "blackout: holidays", "info"),
        (RunState.SKIPPED, "overlap: 3377-20260101000000 is still going", "warning"),
        (RunState.MISSED, "2h late, and catch_up is none", "warning"),
        (RunState.FAILED, "blackout: so EnOS said", "error"),
    ],
)
async def test_what_somebody_wanted_skipped_is_no_warning(
    tmp_path: Path, state: RunState, reason: str, level: str
) -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK)

    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        Recorder(ledger, CLOCK).announce(a_run(state=state, reason=reason))

    assert json.loads(said(stream))["level"] == level


RUN_FIELDS = {"run", "schedule", "fire_time", "attempt", "instance", "catalog"}


def test_every_event_about_a_run_says_which_one_in_full() -> None:
    """The calls that name a run or an instance by themselves are those that `recorder.fields` is for."""
    by_hand = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sorted((Path(flowsched.__file__).parent / "runner").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
        for extra in [word.value for word in node.keywords if word.arg == "extra"]
        if isinstance(extra, ast.Dict) and any(_is(key, "run") for key in extra.keys)
    ]

    assert by_hand == []
    assert set(fields(a_run())) == RUN_FIELDS


def _is(key: ast.expr | None, name: str) -> bool:
    return isinstance(key, ast.Constant) and key.value == name


class Unspeakable:
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("form", list(logs.Form))
def test_what_cannot_be_written_raises_nothing_and_is_told_of(form: logs.Form) -> None:
    stream = io.StringIO()
    logs.configure(stream, CLOCK, form=form)
    log.warning("%d things", "some")
    log.error("event", extra={"field": Unspeakable()})
    log.error("next")

    first, second, third = said(stream).splitlines()
    assert "log line lost, as it cannot be written (TypeError)" in first
    assert "log line lost, as it cannot be written (RuntimeError)" in second
    assert "test_ops_logs" in second
    assert "next" in third
