"""Which files a command works on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowsched import config
from flowsched.errors import ConfigError, Problem, UsageError, quoted
from flowsched.near import did_you_mean

if TYPE_CHECKING:
    from flowsched.model import Catalog, Limits, Schedule, Settings

SCHEDULES = Path("schedules")
"""The folder that is read where no `flowsched.yaml` names another."""


class _Path(click.Path):
    """A path that is not empty: an empty one, as an unset variable leaves it, would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty; allowed: the path of a folder or file", param, ctx)
        return super().convert(value, param, ctx)


paths_argument = click.argument("paths", nargs=-1, type=_Path(), metavar="[PATH]...")
schedules_option = click.option(
    "--schedules",
    type=_Path(),
    metavar="PATH",
    help="A folder or file of schedules. Default: what flowsched.yaml names, else ./schedules.",
)


def find_settings(option: str | None) -> Settings | None:
    """Return the settings in force here; None where there is no `flowsched.yaml`."""
    path = config.find_settings(option, os.environ, Path.cwd())
    return config.load_settings(Path(from_here(str(path)))) if path else None


def need_settings(option: str | None) -> Settings:
    """Return the settings in force here, or raise ConfigError saying where they were looked for."""
    settings = find_settings(option)
    if settings is None:
        places = "--config, $FLOWSCHED_CONFIG, ./flowsched.yaml, /etc/flowsched/flowsched.yaml"
        message = f"there is none; looked at {places}"
        raise ConfigError([Problem("flowsched.yaml", 0, 0, "", message, "as flowsched.example.yaml shows")])
    return settings


def limits_of(settings: Settings | None) -> dict[str, Limits]:
    """Return the limits of each target that the settings name."""
    return {name: target.limits for name, target in settings.targets.items()} if settings else {}


def load_catalog(option: str | None, schedules: str | None) -> Catalog:
    """Return the catalog of `schedules`, else of the settings, else of `./schedules`."""
    settings = find_settings(option)
    return config.load_catalog(schedules or default_schedules(settings), settings)


def known(catalog: Catalog, schedule_id: str) -> Schedule:
    """Return the schedule with an id, or raise UsageError with the id that may have been meant."""
    if schedule_id not in catalog.schedules:
        hint = did_you_mean(schedule_id, catalog.schedules)
        raise UsageError(f"there is no schedule {quoted(schedule_id)}{hint}")
    return catalog.schedules[schedule_id]


def from_here(path: str) -> str:
    """Return a path as somebody in the current folder would write it; as it is where it is not below it.

    In the root, where services run, nobody writes it otherwise than from the root.
    """
    here, folder = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100 - resolve() would follow links
    if folder == Path(folder.anchor) or not here.is_relative_to(folder):
        return path
    return str(here.relative_to(folder))


def default_schedules(settings: Settings | None) -> str:
    """Return the folder of schedules that the settings name, else `./schedules`, or raise UsageError."""
    if settings is not None:
        return from_here(settings.schedules)
    if SCHEDULES.is_dir():
        return str(SCHEDULES)
    raise UsageError("no schedules: there is neither a flowsched.yaml nor a folder ./schedules; name a PATH")
