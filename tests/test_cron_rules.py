"""The digest of a zone's data: what it is taken of, and that it never fails."""

from __future__ import annotations

import os
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from flowsched import cron
from flowsched.errors import CronError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    cron.zone_rules.cache_clear()
    yield
    cron.zone_rules.cache_clear()


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def of_the_package(*name: str) -> bytes:
    return files("tzdata").joinpath("zoneinfo", *name).read_bytes()


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_the_first_folder_that_has_the_zone_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "TZPATH", [str(tmp_path / each) for each in ("gone", "first", "second")])
    put(tmp_path / "second", "Europe/Berlin", b"second")
    put(tmp_path / "second", "Europe/Paris", b"second")
    put(tmp_path / "first", "Europe/Berlin", b"first")

    assert cron.zone_rules("Europe/Berlin") == digest(b"first")
    assert cron.zone_rules("Europe/Paris") == digest(b"second")


def test_where_no_folder_has_the_zone_the_package_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "TZPATH", ())

    assert cron.zone_rules("UTC") == digest(of_the_package("UTC"))
    assert cron.zone_rules("America/Indiana/Knox") == digest(of_the_package("America", "Indiana", "Knox"))


@pytest.mark.parametrize("name", ["Nowhere", "", "../../etc/passwd", "/etc/passwd", "localtime", "Europe"])
def test_what_is_no_zone_has_no_rules(name: str) -> None:
    assert cron.zone_rules(name) == ""


def test_data_that_cannot_be_read_is_no_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A regular file whose first page is mapped for nobody: it opens, even for root, and cannot be read.
    (tmp_path / "UTC").symlink_to("/proc/self/mem")
    monkeypatch.setattr(zoneinfo, "TZPATH", [str(tmp_path)])

    assert cron.zone_rules("UTC") == ""


def test_a_machine_without_any_data_has_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cron.zone("UTC").key == "UTC"
    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    monkeypatch.setitem(sys.modules, "tzdata", None)

    assert cron.zone_rules("UTC") == ""


def test_new_data_counts_from_the_next_start_for_zone_and_rules_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "Europe/Berlin", b"old")
    monkeypatch.setattr(zoneinfo, "TZPATH", [str(tmp_path)])
    zone, rules = cron.zone("Europe/Berlin"), cron.zone_rules("Europe/Berlin")

    put(tmp_path, "Europe/Berlin", b"new")
    zoneinfo.ZoneInfo.clear_cache()

    assert cron.zone_rules("Europe/Berlin") == rules == digest(b"old")
    assert cron.zone("Europe/Berlin") is zone


def test_the_data_is_that_by_which_the_zone_goes(tmp_path: Path) -> None:
    put(tmp_path, "Europe/Berlin", of_the_package("Asia", "Tokyo"))
    script = (
        "from datetime import datetime\n"
        "from flowsched import cron\n"
        "noon = datetime(2026, 1, 1, 12)\n"
        "print(cron.zone_rules('Europe/Berlin'), cron.zone('Europe/Berlin').utcoffset(noon))"
    )

    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONTZPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [digest(of_the_package("Asia", "Tokyo")), "9:00:00"]


def other_data(folder: Path) -> Path:
    """Return zone data in which the clocks of Berlin are those of Tokyo."""
    put(folder, "Etc/UTC", of_the_package("UTC"))
    put(folder, "Europe/Berlin", of_the_package("Asia", "Tokyo"))
    return folder


def test_within_a_block_the_zones_are_those_of_a_folder_and_stay_known_by_their_rules(tmp_path: Path) -> None:
    usual, noon = cron.zone_rules("Europe/Berlin"), datetime(2026, 1, 1, 12, tzinfo=UTC)

    def hour(rules: str = "") -> int:
        return noon.astimezone(cron.zone("Europe/Berlin", rules)).hour

    with cron.zone_data(other_data(tmp_path)):
        other = cron.zone_rules("Europe/Berlin")
        within = hour()

    assert (within, hour(), hour(usual), hour(other), hour("unheard of")) == (21, 13, 13, 21, 13)
    assert other == digest(of_the_package("Asia", "Tokyo"))
    assert cron.zone_rules("Europe/Berlin") == usual


def test_a_fault_within_the_block_puts_the_usual_zones_back(tmp_path: Path) -> None:
    path = zoneinfo.TZPATH

    with pytest.raises(ZeroDivisionError), cron.zone_data(other_data(tmp_path)):
        raise ZeroDivisionError

    assert path == zoneinfo.TZPATH


def test_a_damaged_zone_is_an_error_with_its_name(tmp_path: Path) -> None:
    put(other_data(tmp_path), "Europe/Berlin", b"TZif2 and no more")

    with cron.zone_data(tmp_path), pytest.raises(CronError, match=r"'Europe/Berlin' cannot be read"):
        cron.zone("Europe/Berlin")


@pytest.fixture
def _no_release_remembered() -> Iterator[None]:
    cron.tz_release.cache_clear()
    yield
    cron.tz_release.cache_clear()


@pytest.mark.usefixtures("_no_release_remembered")
@pytest.mark.parametrize(
    ("content", "release"),
    [
        ({"tzdata.zi": b"# version 2026c\n# redo\n"}, "2026c"),
        ({"+VERSION": b"2026a\n"}, "2026a"),
        ({"UTC": b"", "tzdata.zi": b"no version here"}, ""),
        ({"UTC": b"", "tzdata.zi": b"\xff\xfe"}, ""),
        ({"UTC": b""}, ""),
        ({}, import_module("tzdata").IANA_VERSION),
    ],
)
def test_the_release_is_what_the_first_folder_with_zones_says_else_the_package(
    content: dict[str, bytes], release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in content.items():
        put(tmp_path / "zones", name, data)
    monkeypatch.setattr(zoneinfo, "TZPATH", [str(tmp_path / "gone"), str(tmp_path / "zones")])

    assert cron.tz_release() == release


@pytest.mark.usefixtures("_no_release_remembered")
def test_without_any_data_there_is_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    monkeypatch.setitem(sys.modules, "tzdata", None)

    assert cron.tz_release() == ""
