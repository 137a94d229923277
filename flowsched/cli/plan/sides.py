"""The two states of a folder of schedules that a plan compares, wherever they are to be had."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowsched import config, cron, git
from flowsched.config.files import find_files
from flowsched.errors import ConfigError, GitError, UsageError, printable, quoted
from flowsched.model import Catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.errors import Problem
    from flowsched.model import Settings

_SHOWN_OF_COMMIT = 12


@dataclass(frozen=True, slots=True)
class State:
    """One state of the schedules: a folder, or a single file, as it lies somewhere or is in a commit."""

    name: str
    """For people."""
    folder: Path
    """Where it lies; for one of a commit, in the work tree."""
    commit: str | None = None
    """Hex, in full; None: as it lies there."""
    repository: git.Repository | None = None
    """Set where a commit is."""


@dataclass(frozen=True, slots=True)
class Side:
    """A state that was read."""

    state: State
    catalog: Catalog
    problems: tuple[Problem, ...]
    """Why it cannot be used; then the catalog is empty."""


UNREAD = Side(State("not read", Path()), Catalog({}, ""), ())
"""For either state where the settings cannot be used."""


def former_state(option: str | None, path: Path) -> State:
    """Return the state that `--from` names; without it, the commit at which HEAD left the main branch.

    Raises UsageError.
    """
    if option is not None:
        return _named(option, "--from", path)
    repository = git.repository_of(path)
    if repository is None:
        raise UsageError(
            f"{printable(str(path))} is in no Git work tree; name what to compare with: --from DIR"
        )
    base = git.merge_base(repository, os.environ)
    return State(
        f"{base.commit[:_SHOWN_OF_COMMIT]} (where HEAD left {printable(base.branch)})",
        path,
        base.commit,
        repository,
    )


def later_state(option: str | None, path: Path) -> State:
    """Return the state that `--to` names; without it, the files as they lie there. Raises UsageError."""
    return State(printable(str(path)), path) if option is None else _named(option, "--to", path)


def is_folder(value: str | None) -> bool:
    """Tell whether `--from` or `--to` names a folder: one that exists, and is written as a path."""
    if value is None or not (os.sep in value or value in (os.curdir, os.pardir)):
        return False
    return Path(value).exists()


def _named(value: str, option: str, path: Path) -> State:
    """Return the folder where it names one, else the commit; where it could be either, raise UsageError."""
    repository = git.repository_of(path)
    if is_folder(value):
        if repository and _is_revision(repository, value):
            shown = printable(value)
            raise UsageError(
                f"{option} {quoted(value)} is both a folder and a commit; allowed: ./{shown} for the folder,"
                f" refs/heads/{shown} for the branch, refs/remotes/{shown} for the one of a remote"
            )
        return State(printable(value), Path(value))
    if repository is None:
        raise UsageError(
            f"{option} {quoted(value)} is no folder, and {printable(str(path))} is in no Git work tree;"
            " allowed there: the path of a folder, with a / in it"
        )
    try:
        commit = git.resolve(repository, value)
    except GitError as error:
        hint = f"; the folder of that name is ./{printable(value)}" if Path(value).is_dir() else ""
        raise UsageError(f"{option}: {error}{hint}") from None
    return State(f"{commit[:_SHOWN_OF_COMMIT]} ({printable(value)})", path, commit, repository)


def _is_revision(repository: git.Repository, value: str) -> bool:
    try:
        return bool(git.resolve(repository, value))
    except GitError:
        return False


def read(state: State, settings: Settings | None, zoneinfo: Path | None, *, may_lack: bool) -> Side:
    """Read a state, with the data of time zones in a folder where one is named.

    With `may_lack`, a commit without the folder, or any schedule file, is one that has no schedules yet.
    Raises UsageError.
    """
    with cron.zone_data(zoneinfo) if zoneinfo else nullcontext(), _at_hand(state) as (base, name):
        if may_lack and state.commit and _is_empty(base, name):
            return Side(state, Catalog({}, ""), ())
        try:
            return Side(state, config.load_catalog(name, settings, base=base), ())
        except ConfigError as error:
            return Side(state, Catalog({}, ""), tuple(error.problems))


def _is_empty(base: Path, name: str) -> bool:
    """Tell whether there is nothing, or a folder without any schedule file in which nothing else is wrong."""
    if not os.path.lexists(base / name):
        return True
    return find_files([name], base, needed=False) == ([], [])


@contextmanager
def _at_hand(state: State) -> Iterator[tuple[Path, str]]:
    """Have the files of a state in a folder, and say what they are called there."""
    if state.commit is None or state.repository is None:
        yield _split(state.folder)
        return
    inside = state.repository.inside(state.folder)
    with tempfile.TemporaryDirectory(prefix="flowsched-plan-") as folder:
        git.extract(state.repository, state.commit, inside, Path(folder))
        place = Path(folder, inside)
        is_file = state.folder.is_file() if not place.exists() else place.is_file()
        yield (place.parent, place.name) if is_file else (place, os.curdir)


def _split(folder: Path) -> tuple[Path, str]:
    return (folder.parent, folder.name) if folder.is_file() else (folder, os.curdir)


def places(state: State) -> config.Places | None:
    """Return what tells where keys stand; None for a commit, whose files are gone when it was read."""
    return config.Places(_split(state.folder)[0]) if state.commit is None else None


def placed(problem: Problem, state: State) -> Problem:
    """Return a problem of a state's file with the path that leads there from here."""
    return replace(problem, file=shown(problem.file, state))


def shown(file: str, state: State) -> str:
    """Return the path of a file of a state from here."""
    folder = state.folder
    return printable(str(folder.parent / file if folder.name == file else folder / file))
