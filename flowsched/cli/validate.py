"""`flowsched validate`: the check of a pull request, by the code that will run it."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowsched import config, git
from flowsched.cli import FINE, FOUND
from flowsched.cli.files import default_schedules, find_settings, limits_of, paths_argument
from flowsched.cli.instants import INSTANT, to_look_ahead_from
from flowsched.cli.reports import Check, Report, counted, format_option, print_report, tally
from flowsched.clock import SystemClock
from flowsched.errors import ConfigError, FlowschedError, printable
from flowsched.model import FIRES_A_DAY
from flowsched.review.collisions import HORIZON, collisions
from flowsched.review.collisions import problems as of_collisions
from flowsched.review.warnings import warnings

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.errors import Problem
    from flowsched.model import Catalog, Settings

_SHOWN_OF_REVISION = 12


@click.command("validate", epilog="Example: flowsched validate schedules/ --strict")
@paths_argument
@click.option("--strict", is_flag=True, help="Let warnings fail the check, as errors do.")
@click.option("--at", type=INSTANT, metavar="T", help="Check as if it were this instant. Default: now.")
@format_option
@click.pass_obj
def command(
    config_option: str | None, *, paths: tuple[str, ...], strict: bool, at: datetime | None, format_: str
) -> int:
    """Check the schedule files under each PATH, by default those that flowsched.yaml names.

    Prints every problem of every file, and where there is none every warning and collision. Exits with 1
    where anything fails. Works without a flowsched.yaml; target names are then not checked. Reads only
    files, and with --format github what Git says has changed.
    """
    now = to_look_ahead_from(at, "--at") if at else SystemClock().now()
    settings, catalog, problems = _load(config_option, paths)
    if catalog:
        problems = _review(catalog, settings, now)
    report = _report(catalog, problems, strict=strict)
    print_report(report, format_, touched=_touched(report) if format_ == "github" else ())
    if catalog and settings is None and format_ == "text":
        _say_what_was_not_checked(catalog)
    return FINE if report.ok else FOUND


def _load(
    option: str | None, paths: tuple[str, ...]
) -> tuple[Settings | None, Catalog | None, list[Problem]]:
    """Return the catalog or the problems; a flowsched.yaml in error does not hide those of the schedules."""
    settings: Settings | None = None
    problems: list[Problem] = []
    try:
        settings = find_settings(option)
    except ConfigError as error:
        problems += error.problems
        if not paths:
            return None, None, problems
    try:
        catalog = config.load_catalog(list(paths) or default_schedules(settings), settings)
    except ConfigError as error:
        return settings, None, problems + error.problems
    return settings, None if problems else catalog, problems


def _review(catalog: Catalog, settings: Settings | None, now: datetime) -> list[Problem]:
    """Return what is wrong with a catalog that can be used, by the place in the files."""
    place = config.Places()
    limits = limits_of(settings)
    fires_a_day = settings.fires_a_day if settings else FIRES_A_DAY
    found = collisions(catalog.schedules.values(), after=now, until=now + HORIZON)
    told = warnings(catalog, now=now, limits=limits, fires_a_day=fires_a_day, place=place, collisions=found)
    return sorted(told + of_collisions(found, place))


def _say_what_was_not_checked(catalog: Catalog) -> None:
    named = sum(each.target is not None for each in catalog.schedules.values())
    if named:
        whose = f"the target names of {counted(named, 'schedule')}"
        click.echo(f"flowsched: {whose} were not checked: there is no flowsched.yaml", err=True)


def _report(catalog: Catalog | None, problems: list[Problem], *, strict: bool) -> Report:
    by_file: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_file[problem.file].append(problem)
    read = {each.source.file for each in catalog.schedules.values()} if catalog else set()
    read |= {each.source.file for each in catalog.calendars.values()} if catalog else set()
    files = sorted(read | by_file.keys())
    checks = tuple(Check(file, file, tuple(by_file[file])) for file in files)
    facts: dict[str, object] = {
        "schedules": len(catalog.schedules) if catalog else None,
        "revision": catalog.revision if catalog else None,
    }
    report = Report("validate", checks, "", facts, strict=strict)
    return replace(report, summary=_summary(report, catalog))


def _summary(report: Report, catalog: Catalog | None) -> str:
    told = tally(report.problems)
    if catalog is None or not report.ok:
        return f"{told} in {counted(sum(bool(check.problems) for check in report.checks), 'file')}"
    schedules = counted(len(catalog.schedules), "schedule")
    warned = f", {told}" if report.problems else ""
    return f"ok: {schedules}{warned}, revision {catalog.revision[:_SHOWN_OF_REVISION]}"


def _touched(report: Report) -> set[str]:
    """Return the files of a report that the change touches, as far as Git can tell."""
    try:
        repository = git.repository_of(Path.cwd())
        if repository is None:
            return set()
        changed = git.changed_files(repository, git.merge_base(repository, os.environ).commit)
    except FlowschedError as error:
        click.echo(f"flowsched: the files of the change do not come first: {printable(str(error))}", err=True)
        return set()
    return {check.file for check in report.checks if _below(repository, check.file) in changed}


def _below(repository: git.Repository, file: str) -> str:
    try:
        return str(repository.inside(file))
    except FlowschedError:
        return ""
