"""What is built is what is used."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from flowsched import __version__

ROOT = Path(__file__).parent.parent


def test_the_version_is_said_once_more_and_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["version"] == __version__


@pytest.mark.e2e
def test_the_wheel_carries_the_schemas_the_types_and_the_licence(tmp_path: Path) -> None:
    subprocess.run(  # noqa: S603 - our own build backend
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )

    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "flowsched/py.typed",
        "flowsched/config/schemas/schedules.schema.json",
        "flowsched/config/schemas/settings.schema.json",
        f"flowsched-{__version__}.dist-info/licenses/LICENSE",
    } <= names
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_hashed_and_no_index_is_named(name: str) -> None:
    text = (ROOT / name).read_text()
    pinned = [line for line in text.splitlines() if "==" in line]

    assert pinned
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in text
    assert "--index" not in text
