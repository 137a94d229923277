"""One bad file for each mistake, with the whole report that it must get beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from flowsched.config import load_catalog, load_settings, reader
from flowsched.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

BAD = Path(__file__).parent / "data" / "bad"
SETTINGS = load_settings(BAD / "flowsched.yaml")
LOADERS = [yaml.CSafeLoader, yaml.SafeLoader]


def report_on_schedules(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_catalog(name, SETTINGS)
    return f"{caught.value}\n"


def report_on_settings(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(Path(name))
    return f"{caught.value}\n"


def cases(kind: str) -> list[str]:
    return sorted(path.name for path in (BAD / kind).iterdir() if path.suffix != ".expected")


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("kind", "report", "name"),
    [
        *(("schedules", report_on_schedules, name) for name in cases("schedules")),
        *(("settings", report_on_settings, name) for name in cases("settings")),
    ],
)
def test_a_bad_file_gets_its_whole_report(
    kind: str, report: Callable[[str], str], name: str, loader: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BAD / kind)
    monkeypatch.setattr(reader, "_Loader", loader)

    reported = report(name)

    assert reported == Path(name).with_suffix(".expected").read_text(encoding="utf-8")
