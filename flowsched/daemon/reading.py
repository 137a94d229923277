"""The schedules off the disk, with the commit that they are of."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from flowsched import git
from flowsched.config import load_catalog
from flowsched.errors import GitError
from flowsched.model import SHORT

if TYPE_CHECKING:
    from flowsched.model import Catalog, Commit, Settings

log = logging.getLogger(__name__)

MASS_CHANGE = "mass-change"
"""What the trailer of a commit says that accepts whatever its catalog changes."""


def read_catalog(settings: Settings) -> Catalog:
    """Read the schedules, with the commit that they are of where Git knows it; blocks. Raises ConfigError.

    Git in trouble is a line of the log, and nothing more.
    """
    before = _commit_of(settings.schedules)
    catalog = load_catalog(settings.schedules, settings)
    after = _commit_of(settings.schedules, *sorted(_named_beside(catalog)))
    # Another commit may have been checked out meanwhile: then nobody knows of which the files were.
    if before is None or after is None or before.id != after.id:
        return replace(catalog, commit=None)
    return replace(catalog, commit=replace(after, clean=before.clean and after.clean))


def _named_beside(catalog: Catalog) -> set[str]:
    """Return the files that the schedule files name, which may be hidden ones."""
    blackouts = (each.blackout for each in catalog.schedules.values() if each.blackout)
    return {ical.file for blackout in blackouts for calendar in blackout.calendars for ical in calendar.ical}


def _commit_of(schedules: str, *beside: str) -> Commit | None:
    try:
        return git.commit_of(schedules, *beside)
    except GitError as error:
        log.warning("commit of the schedules is not known", extra={"problem": str(error)})
    except Exception:
        log.critical("commit of the schedules is not known, by a fault of flowsched", exc_info=True)
    return None


def trailer_of(schedules: str, old: Commit | None, new: Commit | None) -> str | None:
    """Return the commits whose trailer accepts whatever they change, as a text; None: there are none.

    Only where the files are those of the commit.
    """
    if new is None or not new.clean:
        return None
    try:
        repository = git.repository_of(schedules)
        if repository and MASS_CHANGE in git.trailers(repository, old.id if old else None, new.id):
            return f"{git.TRAILER}: {MASS_CHANGE} up to commit {new.id[:SHORT]}"
    except GitError as error:
        log.warning("trailers of the commits are not known", extra={"problem": str(error)})
    return None
