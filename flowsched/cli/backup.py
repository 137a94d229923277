"""`flowsched backup`: a safe copy of the ledger."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowsched.cli.files import need_settings
from flowsched.cli.output import format_option, print_json
from flowsched.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LARGE = 10_000
"""Pages from which on it takes long enough for a bar."""


@click.command("backup", epilog="Example: flowsched backup /var/backups/flowsched/ledger.db --force")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--force", is_flag=True, help="Replace FILE where it exists, once the new copy is whole.")
@format_option
@click.pass_obj
def command(config: str | None, file: Path, *, force: bool, format_: str) -> None:
    """Copy the ledger to FILE, safely, also while the daemon runs.

    The copy is one state of the ledger, with all that was acknowledged before. It is checked, and FILE, which
    only its owner can read, is there whole or not at all. The daemon fires on meanwhile. To restore: stop the
    daemon, move the ledger away with all files whose names begin with its name, and copy FILE to its place.
    """
    from flowsched.ledger.backup import back_up  # noqa: PLC0415 - it imports SQLAlchemy

    settings = need_settings(config)
    _require_usable(file, force=force)
    with _telling() as tell:
        copied = back_up(settings.ledger, file, tell)
    if format_ == "json":
        print_json({"file": str(file.resolve()), "runs": copied.runs, "bytes": copied.bytes})
    else:
        click.echo(f"{file}: {copied.runs:,} runs, {copied.bytes / 2**20:,.1f} MiB")


def _require_usable(file: Path, *, force: bool) -> None:
    if file.is_dir() or not file.name:
        raise UsageError(f"{file} is a folder; allowed: the path of a file")
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}; allowed: a file in a folder that exists")
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise UsageError(f"{file} is a link or a device; allowed: a file, or the path of a new one")
    if file.exists() and not force:
        raise UsageError(f"{file} exists; --force replaces it")


@contextmanager
def _telling() -> Iterator[Callable[[int, int], None]]:
    """Return what is told how many pages of how many are copied: a bar, where somebody can see it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 - rich is for terminals only
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("copying the ledger", visible=False)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=total >= _LARGE)

        yield tell
