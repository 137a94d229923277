from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flowsched.config import Places, load_catalog, where_written
from flowsched.config.files import real_path

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
defaults:
  timezone: UTC
  retry: {deadline: 1h}
schedules:
  nightly:
    cron: "0 2 * * *"
    flow: 3377
    retry:
      max_attempts: 3
"""


@pytest.mark.parametrize(
    ("path", "at"),
    [
        (("cron",), (6, 11)),
        (("retry", "max_attempts"), (9, 21)),
        (("retry", "deadline"), (3, 21)),
        (("owner",), (5, 3)),
        ((), (5, 3)),
    ],
)
def test_a_value_stands_where_it_is_written_last(
    path: tuple[str, ...], at: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(FILE)
    nightly = load_catalog("a.yaml", None, base=tmp_path).schedules["nightly"]

    assert Places(tmp_path)(nightly, path) == ("a.yaml", *at)


@pytest.mark.parametrize("now", [None, "schedules: {other: {}}\n", "[", ""])
def test_where_the_file_has_changed_meanwhile_the_id_must_do(now: str | None, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(FILE)
    nightly = load_catalog(str(file), None).schedules["nightly"]
    file.unlink()
    if now is not None:
        file.write_text(now)

    assert Places()(nightly, ("cron",)) == (str(file), 5, 1)


@pytest.mark.parametrize("name", ["a\nb.yaml", "a\tb.yaml", "a\u00a0b.yaml", "a\u202eb.yaml", "a\udcff.yaml"])
def test_a_file_is_found_by_the_name_under_which_it_is_shown(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "s\x7f"
    folder.mkdir()
    (folder / name).write_text(FILE)
    (folder / r"c\n.txt").write_text("")
    nightly = load_catalog("s\x7f", None).schedules["nightly"]

    assert nightly.source.file.isprintable()
    assert Places()(nightly, ("cron",))[1:] == (6, 11)
    assert where_written(nightly, None, [("cron",)])["cron",].source.line == 6


def test_of_two_files_that_are_shown_alike_neither_is_taken_for_the_other(tmp_path: Path) -> None:
    for name in ("a\n", "a\\n"):
        (tmp_path / name).write_text("")

    assert real_path(tmp_path / r"a\n") == tmp_path / r"a\n"
    assert real_path(tmp_path / r"b\n" / "c") == tmp_path / r"b\n" / "c"
