"""`flowsched validate`: the check of a pull request, by the code that will run it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from flowsched import config
from flowsched.cli import FINE, FOUND
from flowsched.cli.files import default_schedules, find_settings
from flowsched.cli.output import format_option, print_json
from flowsched.errors import ConfigError

if TYPE_CHECKING:
    from flowsched.errors import Problem
    from flowsched.model import Catalog, Settings


@click.command("validate", epilog="Example: flowsched validate schedules/ --format json")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@format_option
@click.pass_obj
def command(config_option: str | None, paths: tuple[str, ...], format_: str) -> int:
    """Check the schedule files under each PATH, by default those that flowsched.yaml names.

    Prints every problem of every file and exits with 1 where there is any. Works without a
    flowsched.yaml; target names are then not checked.
    """
    catalog, problems = _check(config_option, paths)
    if format_ == "json":
        print_json(_report(catalog, problems))
    else:
        _print_text(catalog, problems)
    return FOUND if problems else FINE


def _check(option: str | None, paths: tuple[str, ...]) -> tuple[Catalog | None, list[Problem]]:
    """Return the catalog and the problems; a flowsched.yaml in error does not hide those of the schedules."""
    settings: Settings | None = None
    problems: list[Problem] = []
    try:
        settings = find_settings(option)
    except ConfigError as error:
        problems += error.problems
        if not paths:
            return None, problems
    try:
        catalog = config.load_catalog(list(paths) or default_schedules(settings), settings)
    except ConfigError as error:
        return None, problems + error.problems
    return catalog, problems


def _report(catalog: Catalog | None, problems: list[Problem]) -> dict[str, object]:
    return {
        "ok": not problems,
        "schedules": len(catalog.schedules) if catalog else None,
        "revision": catalog.revision if catalog else None,
        "problems": [dataclasses.asdict(problem) for problem in problems],
    }


def _print_text(catalog: Catalog | None, problems: list[Problem]) -> None:
    for problem in problems:
        click.echo(str(problem))
    if problems:
        files = len({problem.file for problem in problems})
        click.echo(f"{_count(len(problems), 'problem')} in {_count(files, 'file')}", err=True)
    elif catalog:
        click.echo(f"ok: {_count(len(catalog.schedules), 'schedule')}, revision {catalog.revision[:12]}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
