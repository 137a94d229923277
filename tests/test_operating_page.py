"""docs/operating.md shows commands that there are, and outputs that they give."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flowsched.cli import group
from flowsched.cli.asking import sentence
from flowsched.cli.backfill_plan import planned, summary
from flowsched.daemon.by_hand import why_not_again
from flowsched.model import RunState
from tests.builders import a_run

PAGE = (Path(__file__).parent.parent / "docs" / "operating.md").read_text(encoding="utf-8")
FENCES = re.findall(r"```(sh|text)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for kind, block in FENCES if kind == "sh" for line in block.splitlines()]
SAID = [line for kind, block in FENCES if kind == "text" for line in block.splitlines()]
FIRE = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_page_can_be_typed(line: str) -> None:
    program, name, *arguments = shlex.split(line)
    with group.make_context("flowsched", [name]) as ctx:
        command = group.get_command(ctx, name)
        assert command
        command.make_context(name, arguments, parent=ctx)

    assert program == "flowsched"


def test_what_is_refused_is_said_as_on_the_page() -> None:
    run = a_run(
        id=16,
        schedule_id="nightly-wind-report",
        fire_time=FIRE,
        state=RunState.TRIGGERED,
        instance="3377-20261121023000",
    )

    assert f"flowsched: {why_not_again(run)}" in SAID


def test_a_run_is_followed_as_on_the_page() -> None:
    run = {"id": 17, "schedule_id": "nightly-wind-report", "fire_time": "2026-11-21T02:30:00Z"}
    empty = {"instance": None, "retry_at": None, "reason": None, "note": None}
    triggered = {"state": "triggered", "instance": "3377-20261121023000"}

    assert sentence(run | empty | {"state": "claimed", "note": "by hand (ada): input has come"}) in SAID
    assert sentence(run | empty | {"state": "sending"}) in SAID
    assert sentence(run | empty | triggered) in SAID


def test_a_backfill_is_planned_as_on_the_page() -> None:
    runs = [(9, "missed"), (11, "failed"), None, (17, "triggered")]
    fills = planned(
        [
            {
                "fire_time": f"2026-11-{day}T02:30:00Z",
                "run": run
                and {
                    "id": run[0],
                    "state": run[1],
                    "schedule_id": "nightly-wind-report",
                    "origin": "schedule",
                },
            }
            for day, run in zip(range(18, 22), runs, strict=True)
        ],
        alone=False,
    )

    assert {f"{fill.fire_time}  {fill.words}" for fill in fills} <= set(SAID)
    assert summary(fills) in SAID
