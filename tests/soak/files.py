"""The schedule files of a soak on the disk, in whatever way they come there."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsched.config import load_catalog
from flowsched.errors import ConfigError
from tests.soak.history import Version
from tests.soak.script import Way

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from random import Random

    from flowsched.model import Catalog, Settings
    from tests.soak.clock import Pace

SLOW = 0.3
"""Real seconds between two files that belong together, at most: more than the daemon waits for the next."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What lay there for a moment, on the way to a version."""

    texts: Mapping[str, str]
    written: float
    """In ticks, just before it was there."""


class Files:
    """A link to a folder of files; each edit changes the folder, or leads the link to another."""

    def __init__(self, folder: Path, pace: Pace, chance: Random, slow: float = SLOW) -> None:
        self.versions: list[Version] = []
        """All that was to be in force, and what else the daemon has found on the way."""
        self._link = folder / "schedules"
        self._sets = folder / "sets"
        self._probe = folder / "probe"
        self._pace = pace
        self._chance = chance
        self._slow = slow
        self._texts: dict[str, str] = {}
        self._drafts: list[Draft] = []
        self._swaps = 0

    async def put(self, texts: Mapping[str, str], way: Way, settings: Settings) -> None:
        """Have these files there, and note them as a version; it is in force once somebody has heard so."""
        self._drafts = []
        if way is Way.SWAP or not self._texts:
            self._swap(texts)
        else:
            await self._change(texts, slowly=way is Way.SLOWLY)
        written = self._drafts[-1].written
        self.versions.append(Version(load_catalog(settings.schedules, settings), written))

    def heard(self, revision: str, ticks: float, settings: Settings) -> bool:
        """Note what the daemon has put in force; False: nothing like it was ever there."""
        if revision in (version.catalog.revision for version in self.versions):
            return True
        for draft in self._drafts:
            catalog = self._read(draft, settings)
            if catalog is not None and catalog.revision == revision:
                self.versions.insert(-1, Version(catalog, draft.written, ticks))
                return True
        return False

    def between(self, settings: Settings) -> Iterator[Catalog]:
        """Yield each valid set that lay there for a moment before the latest version."""
        last = self.versions[-1].catalog.revision
        catalogs = (self._read(draft, settings) for draft in self._drafts)
        return (each for each in catalogs if each is not None and each.revision != last)

    def all(self) -> Iterator[Path]:
        """Yield the files that lie there."""
        return (path for path in (self._link.resolve()).rglob("*") if path.is_file())

    def _swap(self, texts: Mapping[str, str]) -> None:
        """Write another folder, and lead the link to it in one step."""
        self._swaps += 1
        new = self._sets / str(self._swaps)
        _write(new, texts)
        link = self._link.with_name("schedules.new")
        link.symlink_to(new.relative_to(self._link.parent))
        self._texts = dict(texts)
        self._note()
        link.rename(self._link)
        if self._swaps > 1:
            shutil.rmtree(self._sets / str(self._swaps - 1))

    async def _change(self, texts: Mapping[str, str], *, slowly: bool) -> None:
        """Change one file after the other; slowly, in no order, and the first of them in two pieces."""
        pieces = [(name, texts.get(name)) for name in sorted({*self._texts, *texts})]
        if slowly:
            self._chance.shuffle(pieces)
            name, text = pieces[0]
            half = (text or "")[: len(text or "") // 2]
            pieces.insert(0, (name, half))
        for number, (name, text) in enumerate(pieces):
            if slowly and number:
                await asyncio.sleep(self._chance.uniform(0.0, self._slow))
            self._place(name, text)

    def _place(self, name: str, text: str | None) -> None:
        self._texts.pop(name, None)
        if text is not None:
            self._texts[name] = text
        self._note()
        path = self._link / name
        if text is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.rename(path)

    def _note(self) -> None:
        self._drafts.append(Draft(dict(self._texts), self._pace.ticks()))

    def _read(self, draft: Draft, settings: Settings) -> Catalog | None:
        shutil.rmtree(self._probe, ignore_errors=True)
        _write(self._probe, draft.texts)
        try:
            return load_catalog(str(self._probe), settings)
        except ConfigError:
            return None


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
