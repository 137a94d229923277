"""What is drawn on a terminal, seen on one: a pseudo-terminal of the size that a test gives."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from flowsched.cli.output import short
from flowsched.cli.terminal import widths_within
from tests.test_cli import Shell, installed, recorded, shell

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["installed", "recorded", "shell"]

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parent.parent


ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def seen(arguments: list[str], columns: int, lines: int) -> str:
    """Everything that a command writes to a terminal of this size, without colours and movements."""
    code, text = written(arguments, columns=columns, lines=lines)
    assert code == 0, text
    return ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def written(
    arguments: list[str],
    environ: Mapping[str, str] = MappingProxyType({}),
    *,
    columns: int = 80,
    lines: int = 24,
) -> tuple[int, str]:
    """The exit code of a command, and everything that it writes to a terminal of this size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "flowsched", *arguments],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # Where these are set, they count for more than the terminal's own size.
        env={
            **os.environ,
            "TERM": "xterm-256color",
            "COLUMNS": str(columns),
            "LINES": str(lines),
            **environ,
        },
    )
    os.close(theirs)
    text = b""
    # Reading fails once the last writer has gone.
    try:
        while chunk := os.read(ours, 65_536):
            text += chunk
    except OSError:
        pass
    os.close(ours)
    return process.wait(), text.decode()


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize(
    "arguments",
    [["validate", "tests/data/bad"], ["show", "nightly-wind-report", "--schedules", "schedules"]],
)
def test_who_wants_no_colours_gets_none(arguments: list[str], environ: dict[str, str]) -> None:
    _, coloured = written(arguments)
    _, plain = written(arguments, environ)

    assert ESCAPE.search(coloured)
    assert "\x1b[2m\x1b[0m" not in coloured
    assert "\x1b[3" not in plain
    assert plain.count("\n") > 3


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50)])
def test_the_live_view_fits_its_terminal(columns: int, lines: int) -> None:
    text = seen(["demo", "--for", "8s"], columns, lines)

    assert max(map(len, text.splitlines())) <= columns
    first_picture = text.split("flowsched demo:")[1]
    assert len(first_picture.splitlines()) <= lines
    for part in ("Due next", "Under way", "Done", "instance, or why"):
        assert part in first_picture
    assert re.search(r"\d+ runs: .*triggered", text.splitlines()[-1])


def test_a_table_on_a_terminal_leaves_out_columns_without_a_word() -> None:
    text = seen(["next", "turbine-alarms", "--schedules", "schedules", "--count", "2"], 80, 24)

    assert "turbine-alarms" in text
    assert "task" not in text


def test_a_log_on_a_terminal_is_text() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.run(
        [sys.executable, "-m", "flowsched", "--config", "/nowhere.yaml", "run"], stderr=theirs, check=False
    )
    os.close(theirs)
    text = os.read(ours, 65_536).decode()
    os.close(ours)

    assert process.returncode == 78
    assert "flowsched cannot run" in text
    assert not text.startswith("{")


@pytest.mark.parametrize("columns", [80, 100])
def test_a_narrow_terminal_folds_no_time_and_says_what_it_leaves_out(columns: int) -> None:
    arguments = ["next", "--schedules", "schedules", "--count", "40", "--from", "2026-06-01T00:00Z"]

    lines = seen(arguments, columns, 24).splitlines()

    assert max(map(len, lines)) <= columns
    rows = [line for line in lines if re.match(r" 2026-\d\d-\d\dT\d\d:\d\d:00Z ", line)]
    assert len(rows) == 40
    assert lines[-1].startswith("not shown for want of room: zone, ")
    left_out = lines[-1].partition(": ")[2].split(", ")
    assert not [header for header in left_out if f" {header} " in lines[1]]


def test_a_note_is_folded_and_the_times_beside_it_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "calendars: {closed-for-the-holidays-of-the-whole-company: {dates: [2026-06-01..2026-06-03]}}\n"
        "schedules: {x: {cron: '@daily', timezone: UTC, flow: 1, blackout: "
        "{calendars: [closed-for-the-holidays-of-the-whole-company], then: defer}}}\n"
    )
    arguments = ["next", "--schedules", str(tmp_path), "--count", "5", "--from", "2026-05-31T12:00Z"]

    text = seen(arguments, 80, 24)

    assert len(re.findall(r"^ 2026-06-0\dT00:00:00Z ", text, re.MULTILINE)) == 5
    assert "note" in text.splitlines()[1]


def test_a_time_is_not_broken_and_folded_last_of_all() -> None:
    id_, stamp = "nightly-report-of-every-turbine", "2026-11-22T12:35:00Z"
    columns = [["fire time", stamp], ["schedule", id_], ["why", "gave up after 1 attempt: HTTP 403"]]

    assert widths_within(70, columns) == [20, 31, 19]
    assert widths_within(50, columns) == [20, 16, 14]
    assert widths_within(24, columns)[0] == 20
    assert widths_within(24, [["fire time", stamp[:16].replace("T", " ")], *columns[1:]])[0] == 10


def test_runs_on_a_narrow_terminal_have_short_times(recorded: Shell) -> None:
    arguments = ["--config", str(recorded.folder / "flowsched.yaml"), "runs"]

    assert " 2025-12-31T23:00:00Z " in seen(arguments, 120, 24)
    narrow = seen(arguments, 60, 24)
    assert re.findall(r"20\S*", narrow) == ["2026-01-01", "2025-12-31", "2025-12-31"]
    assert " 2025-12-31 23:00 " in narrow


def test_a_time_in_short_is_without_what_goes_without_saying() -> None:
    noon = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    assert short(noon, noon) == "12:00"
    assert short(noon - timedelta(seconds=1), noon) == "11:59:59"
    assert short(noon - timedelta(days=1), noon) == "2026-11-21 12:00"


def test_a_table_breaks_a_word_only_where_not_all_words_fit() -> None:
    id_, digest = "sync-of-all-turbines", "61d56f0a9b1c"
    columns = [["schedule", id_], ["catalog", digest], ["why", "the plant is closed until it is inspected"]]

    assert widths_within(99, columns) == [20, 12, 41]
    assert widths_within(60, columns) == [20, 12, 28]
    assert widths_within(45, columns) == [20, 12, 13]
    assert sum(widths_within(36, columns)) == 36
    assert min(widths_within(36, columns)) >= len("inspected")
