"""What is kept of a load makes the next one quick, and nothing else: it is as if all were read anew."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.config import Kept, Trail, fingerprint, load_catalog, loader
from flowsched.config.files import content_of
from flowsched.errors import ConfigError
from tests.test_config_loader import one, settings_with

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowsched.config import Mark
    from flowsched.model import Catalog, Settings

EDITS = 150
STEMS = "012345"
IDS = tuple(f"{letter}{stem}" for stem in STEMS for letter in "ab")
CALENDARS = ("weekends", "outage", "holidays")
EVENT = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART:{day}T000000Z
DTEND:{day}T120000Z
END:VEVENT
END:VCALENDAR
"""
BROKEN = (
    "schedules: {a: {cron: ",
    "schedules: {a: {cron: '61 * * * *', timezone: UTC, flow: 1}}\n",
    "schedules: {a: {cron: '@daily', timezone: UTC, flow: 1, jitter: 3}}\n",
    "schedules: {a: {cron: '@daily', flow: 1}}\n",
    "",
    "\x00",
)


class Folder:
    """Files that are edited at random, good and bad."""

    def __init__(self, root: Path, chance: Random) -> None:
        self.root = root
        self._chance = chance
        root.mkdir()
        for _ in range(4):
            self.add()

    def edit(self) -> str:
        usual, odd = (self.add, self.remove, self.event), (self.rename, self.spoil, self.link)
        act = self._chance.choice((*usual, *usual, *odd, self.mend, self.mend))
        act()
        return act.__name__

    def add(self) -> None:
        """Write a file anew, or another one."""
        path = self._some_path()
        path.write_text(self._text(path.stem))

    def mend(self) -> None:
        """Have all files good ones."""
        for stem in STEMS:
            path = self.root / f"{stem}.yaml"
            path.unlink(missing_ok=True)
            path.write_text(one(f"a{stem}"))

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self._some_path().unlink()

    def rename(self) -> None:
        with suppress(FileNotFoundError):
            self._some_path().rename(self._some_path())

    def spoil(self) -> None:
        self._some_path().write_text(self._chance.choice(BROKEN))

    def link(self) -> None:
        link = self._some_path()
        link.unlink(missing_ok=True)
        link.symlink_to(self._chance.choice(["0.yaml", "1.yaml", "nowhere.yaml"]))

    def event(self) -> None:
        """Change a file that schedule files name."""
        (self.root / "closed.ics").write_text(EVENT.format(day=f"202612{self._chance.randrange(10, 30)}"))

    def _some_path(self) -> Path:
        path = self.root / f"{self._chance.choice(STEMS)}.yaml"
        if path.is_symlink():
            path.unlink()
        return path

    def _text(self, stem: str) -> str:
        chance, lines = self._chance, list[str]()
        if chance.random() < 0.4:
            lines.append(f"defaults: {{overlap: {chance.choice(['skip', 'queue'])}}}")
        if chance.random() < 0.4:
            what = chance.choice(["weekly: [SUN]", "dates: [2026-12-24]", "ical: [closed.ics]"])
            lines.append(f"calendars: {{{chance.choice(CALENDARS)}: {{{what}}}}}")
        ids = {f"a{stem}" if chance.random() < 0.9 else chance.choice(IDS) for _ in range(2)}
        schedules = ", ".join(f"{id_}: {{{self._schedule()}}}" for id_ in sorted(ids))
        return "\n".join([*lines, f"schedules: {{{schedules}}}", ""])

    def _schedule(self) -> str:
        chance = self._chance
        said = f"cron: '{chance.randrange(60)} 2 * * *', timezone: UTC, flow: {chance.randrange(1, 9)}"
        if chance.random() < 0.2:
            said += f", blackout: {{calendars: [{chance.choice(CALENDARS)}], then: skip}}"
        if chance.random() < 0.1:
            said += f", renamed_from: {chance.choice(IDS)}"
        if chance.random() < 0.1:
            said += f", target: {chance.choice(['north', 'south'])}"
        return said


Outcome = tuple[object, ...]


def outcome(
    root: Path, settings: Settings | None, kept: Kept | None = None, marks: Mapping[str, Mark] | None = None
) -> Outcome:
    """Return all that a load shows."""
    trail = Trail()
    catalog, problems = None, None
    try:
        catalog = load_catalog(str(root), settings, trail=trail, kept=kept, marks=marks)
    except ConfigError as error:
        problems = error.problems
    order = catalog and (list(catalog.schedules), list(catalog.calendars))
    return catalog, order, problems, trail.files, trail.beside, trail.unread


@pytest.mark.parametrize("seed", range(6))
def test_a_load_on_what_is_kept_is_as_one_that_reads_all(tmp_path: Path, seed: int) -> None:
    folder = Folder(tmp_path / "schedules", Random(seed))  # noqa: S311 - to be repeated
    settings = [None, settings_with(tmp_path, "default", "north", "south"), settings_with(tmp_path, "north")]
    kept, by_looks, kinds = Kept(), Kept(), Counter[str]()
    dated: dict[Path, bytes] = {}
    for number in range(EDITS):
        edit = folder.edit()
        date_what_is_new(folder.root, dated, number)
        marks = marks_of(folder.root)
        against = settings[number // 20 % len(settings)]

        anew, on_kept = outcome(folder.root, against), outcome(folder.root, against, kept)

        assert on_kept == anew, (number, edit)
        assert outcome(folder.root, against, by_looks, marks) == anew, (number, edit)
        kinds["problems" if anew[0] is None else "catalog"] += 1
        kinds["kept"] += len(kept.files)

    assert min(kinds.values()) > 10, kinds


def date_what_is_new(root: Path, dated: dict[Path, bytes], number: int) -> None:
    """Have whatever was written look otherwise than before, however quickly one writing follows another."""
    for path in root.iterdir():
        if path.is_file() and dated.get(path) != path.read_bytes():
            os.utime(path, ns=(number, number))
            dated[path] = path.read_bytes()


def test_a_file_that_looks_as_it_did_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def opening(path: str, *arguments: Any) -> bytes:
        opened.append(Path(path).name)
        return content_of(path, *arguments)

    monkeypatch.setattr(loader, "content_of", opening)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(one(name))
    kept = Kept()

    for _ in range(2):
        load_catalog(str(tmp_path), None, kept=kept, marks=marks_of(tmp_path))
        os.utime(tmp_path / "b.yaml", ns=(1, 1))
        (tmp_path / "c.yaml").rename(tmp_path / "d.yaml")
        opened.append("then")
        (tmp_path / "d.yaml").rename(tmp_path / "c.yaml")
    again = load_catalog(str(tmp_path), None, kept=kept, marks={})

    assert opened == [
        *("a.yaml", "b.yaml", "c.yaml", "then"),
        *("b.yaml", "c.yaml", "then"),
        *("a.yaml", "b.yaml", "c.yaml"),
    ]
    assert again == load_catalog(str(tmp_path), None)


def test_a_look_at_one_folder_says_nothing_about_another_of_the_same_name(tmp_path: Path) -> None:
    for folder, flow in ("here", 1), ("there", 2):
        (tmp_path / folder / "s").mkdir(parents=True)
        (tmp_path / folder / "s" / "a.yaml").write_text(one("a").replace("flow: 1", f"flow: {flow}"))
    kept, marks = Kept(), {"s/a.yaml": (0,)}
    load_catalog("s", None, base=tmp_path / "here", kept=kept, marks=marks)

    there = load_catalog("s", None, base=tmp_path / "there", kept=kept, marks=marks)

    assert there.schedules["a"].flow == 2


def test_schedules_with_a_blackout_stay_the_very_records_as_long_as_all_of_it_is_the_same(
    tmp_path: Path,
) -> None:
    closed = f"calendars: {{works: {{dates: [2026-12-24]}}}}\n{one('c')[1:-2]}\n"
    (tmp_path / "a.yaml").write_text(closed)
    said = ", blackout: {calendars: [works], then: skip}}"
    (tmp_path / "b.yaml").write_text(one("b").replace("}", said, 1))
    kept = Kept()
    before = loaded(tmp_path, kept)
    (tmp_path / "z.yaml").write_text(one("z"))
    same = loaded(tmp_path, kept)
    (tmp_path / "a.yaml").write_text(closed.replace("24", "25"))
    other = loaded(tmp_path, kept)

    assert before.schedules["b"].blackout is not None
    assert same.schedules["b"] is before.schedules["b"]
    assert other == load_catalog(str(tmp_path), None)
    assert other.schedules["b"] != before.schedules["b"]


def marks_of(root: Path) -> Mapping[str, Mark]:
    return fingerprint(str(root)).older_than(datetime.max.replace(tzinfo=UTC))


def loaded(root: Path, kept: Kept, settings: Settings | None = None) -> Catalog:
    return load_catalog(str(root), settings, kept=kept)


def test_of_what_has_not_changed_the_very_records_stay(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(one(name))
    kept = Kept()
    before = loaded(tmp_path, kept)
    (tmp_path / "a.yaml").write_text(one("a").replace("flow: 1", "flow: 2"))

    after = loaded(tmp_path, kept)

    assert after.schedules["a"].flow == 2
    assert after.schedules["b"] is before.schedules["b"]


def spoil(path: Path) -> None:
    path.write_text("schedules: []")


@pytest.mark.parametrize("go", [lambda path: path.unlink(), spoil], ids=["removed", "broken"])
def test_nothing_is_kept_of_a_file_that_is_gone_or_broken(
    tmp_path: Path, go: Callable[[Path], object]
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(one(name))
    kept = Kept()
    loaded(tmp_path, kept)
    go(tmp_path / "a.yaml")

    with suppress(ConfigError):
        loaded(tmp_path, kept)

    assert list(kept.files) == [str(tmp_path / "b.yaml")]


def test_what_was_checked_against_other_settings_is_checked_again(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.yaml").write_text(one("a").replace("flow: 1", "flow: 1, target: south"))
    both, north = settings_with(tmp_path, "north", "south"), settings_with(tmp_path, "north")
    kept = Kept()
    loaded(tmp_path / "s", kept, both)

    with pytest.raises(ConfigError, match="there is no target 'south'"):
        loaded(tmp_path / "s", kept, north)
