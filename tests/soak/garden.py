"""The schedules of a soak, and the edits that are made to them. Pure: all chance comes from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    Entry = Mapping[str, Any]

DEFAULTS = {
    "timezone": "UTC",
    "catch_up_window": "12m",
    "retry": {
        "max_attempts": 6,
        "initial_backoff": "5s",
        "max_backoff": "1m",
        "deadline": "15m",
        # In real seconds, as all that waits for a socket.
        "attempt_timeout": "2s",
    },
}

CRONS = (
    "* * * * *",
    "*/2 * * * *",
    "1-59/2 * * * *",
    "*/3 * * * *",
    "1-59/3 * * * *",
    "*/4 * * * *",
    "*/5 * * * *",
    "2-59/5 * * * *",
    "7,8,9,37,38,39 * * * *",
    "*/10 1-3 * * *",
)
"""The first fires each minute and is drawn seldom."""

WEIGHTS = (1, 4, 3, 4, 4, 4, 4, 4, 2, 3)
ZONES = ("UTC", "UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe")
FILES = ("north.yaml", "south.yaml", "west/coast.yaml", "west/inland.yaml")
SCHEDULES = 80
FLOWS = range(1001, 1061)
"""Fewer than schedules, so that some share a flow, and collide."""


CALENDARS = {
    "quarters": {
        "timezone": "UTC",
        "dates": [
            f"2025-10-26T{hour:02}:{begin}..2025-10-26T{hour:02}:{end}"
            for hour in range(24)
            for begin, end in (("06", "17"), ("34", "46"))
        ],
    },
    "nights": {"timezone": "Europe/Berlin", "weekly": ["SUN 02:40..SUN 02:55"]},
}
"""In force all the time."""

BLACKOUTS = (
    {"calendars": ["quarters"], "then": "defer"},
    {"calendars": ["quarters", "nights"], "then": "defer"},
    {"calendars": ["quarters"], "then": "skip"},
    {"calendars": ["nights"], "then": "defer"},
)


class Edit(StrEnum):
    """What somebody does to the files."""

    DESCRIBE = "describe"
    RETIME = "retime"
    REZONE = "rezone"
    TOGGLE = "toggle"
    CLOSE = "close"
    ADD = "add"
    REMOVE = "remove"
    RENAME = "rename"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Garden:
    """What stands in the files."""

    entries: Mapping[str, Entry]
    """By id."""
    files: Mapping[str, str]
    """The file of each id."""
    made: int
    """How many entries and edits there were, so that no two versions are the same."""

    def texts(self) -> dict[str, str]:
        """Return the text of each file that there is to be."""
        of_file: dict[str, dict[str, Any]] = {}
        for id_, entry in self.entries.items():
            of_file.setdefault(self.files[id_], {})[id_] = dict(entry)
        calendars = {"calendars.yaml": yaml.safe_dump({"calendars": CALENDARS})}
        return calendars | {
            name: f"# version {self.made}\n"
            + yaml.safe_dump({"defaults": DEFAULTS, "schedules": schedules}, sort_keys=False)
            for name, schedules in of_file.items()
        }

    def closed(self) -> Garden:
        """Return a garden where nothing fires."""
        entries = {id_: {**entry, "enabled": False} for id_, entry in self.entries.items()}
        return replace(self, entries=entries, made=self.made + 1)


def planted(chance: Random) -> Garden:
    garden = Garden({}, {}, 0)
    for _ in range(SCHEDULES):
        garden = _with_another(garden, chance)
    return garden


def edited(garden: Garden, edit: Edit, chance: Random) -> Garden:
    """Return the garden after an edit of one or a few schedules."""
    garden = replace(garden, made=garden.made + 1)
    if edit is Edit.ADD:
        return _with_another(garden, chance)
    for id_ in chance.sample(sorted(garden.entries), 3):
        garden = _edited_at(garden, id_, edit, chance)
    return garden


def _edited_at(garden: Garden, id_: str, edit: Edit, chance: Random) -> Garden:
    match edit:
        case Edit.RENAME:
            return _renamed(garden, id_)
        case Edit.MOVE:
            return replace(garden, files={**garden.files, id_: chance.choice(FILES)})
        case Edit.REMOVE:
            return _without(garden, id_)
    return _with(garden, id_, {**garden.entries[id_], **_change(garden, id_, edit, chance)})


def _change(garden: Garden, id_: str, edit: Edit, chance: Random) -> Entry:
    match edit:
        case Edit.RETIME:
            return {"cron": _cron(chance)}
        case Edit.REZONE:
            return {"timezone": chance.choice(ZONES)}
        case Edit.CLOSE:
            return {"blackout": chance.choice(BLACKOUTS)}
        case Edit.TOGGLE:
            return {"enabled": not garden.entries[id_].get("enabled", True)}
        case _:
            return {"description": f"version {garden.made}"}


def _with(garden: Garden, id_: str, entry: Entry) -> Garden:
    return replace(garden, entries={**garden.entries, id_: entry})


def _without(garden: Garden, id_: str) -> Garden:
    entries = {name: entry for name, entry in garden.entries.items() if name != id_}
    return replace(garden, entries=entries)


def _renamed(garden: Garden, id_: str) -> Garden:
    new = f"{id_.partition('.')[0]}.{garden.made}"
    entry = {**garden.entries[id_], "renamed_from": id_}
    garden = replace(_without(garden, id_), files={**garden.files, new: garden.files[id_]})
    return _with(garden, new, entry)


def _with_another(garden: Garden, chance: Random) -> Garden:
    made = garden.made + 1
    id_ = f"s{made:04d}"
    files = {**garden.files, id_: chance.choice(FILES)}
    return Garden({**garden.entries, id_: _entry(chance)}, files, made)


def _entry(chance: Random) -> Entry:
    entry: dict[str, Any] = {
        "cron": _cron(chance),
        "flow": chance.choice(FLOWS),
        "timezone": chance.choice(ZONES),
        "catch_up": chance.choice(("none", "latest", "all")),
        "overlap": chance.choice(("queue", "queue", "queue", "queue", "queue", "skip", "cancel_previous")),
        "overlap_fallback": chance.choice(("queue", "skip")),
    }
    if chance.random() < 0.25:
        entry["jitter"] = chance.choice(("10s", "45s", "3m"))
    if chance.random() < 0.25:
        entry["watch"] = {"timeout": chance.choice(("3m", "20m"))}
    if chance.random() < 0.25:
        entry["blackout"] = chance.choice(BLACKOUTS)
    if chance.random() < 0.2:
        entry["ping"] = f"check-{chance.randint(1, 99)}"
    if chance.random() < 0.2:
        entry["task"] = chance.randint(1, 9)
    return entry


def _cron(chance: Random) -> str:
    (cron,) = chance.choices(CRONS, WEIGHTS)
    return cron
