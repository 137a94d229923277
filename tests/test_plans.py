"""Pairs of folders, one idea each, with the whole plan that they must get beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowsched.cli import main

PLANS = Path(__file__).parent / "data" / "plans"
AT = "2026-03-20T12:07:00Z"
"""Friday noon; clocks go forward in Europe nine days later."""
FORMATS = {"txt": "text", "md": "markdown", "json": "json"}


@pytest.mark.parametrize(
    "expected", sorted(PLANS.glob("*/expected.*")), ids=lambda path: f"{path.parent.name}.{path.suffix[1:]}"
)
def test_a_pair_of_folders_gets_its_plan(
    expected: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(expected.parent)
    monkeypatch.delenv("FLOWSCHED_CONFIG", raising=False)
    format_ = FORMATS[expected.suffix[1:]]

    code = main(["plan", "--from", "./old", "--to", "./new", "--at", AT, "--format", format_])

    told = re.sub(r'("revision": )"[0-9a-f]{64}"', r'\1"..."', capsys.readouterr().out)
    assert told == expected.read_text(encoding="utf-8")
    assert code == ("broken" in expected.parent.name)


def test_there_are_at_least_25_pairs() -> None:
    assert len({path.parent for path in PLANS.glob("*/expected.txt")}) >= 25
