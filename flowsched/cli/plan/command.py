"""`flowsched plan`: what a pull request changes, before it is merged."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowsched.cli import FINE, FOUND
from flowsched.cli.durations import DURATION
from flowsched.cli.files import default_schedules, find_settings, from_here, limits_of
from flowsched.cli.instants import INSTANT, to_look_ahead_from
from flowsched.cli.plan.sides import UNREAD, Side, former_state, is_folder, later_state, placed, places, read
from flowsched.cli.plan.telling import Telling
from flowsched.clock import SystemClock
from flowsched.durations import allowed_between
from flowsched.errors import ConfigError, Refused, UsageError
from flowsched.model import FIRES_A_DAY
from flowsched.review.changes import changes

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.errors import Problem
    from flowsched.model import Settings
    from flowsched.review.changes import Plan

_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(days=400)


@click.command("plan", epilog="Example: flowsched plan --from main --format markdown")
@click.argument("path", required=False, type=click.Path(), metavar="[PATH]")
@click.option(
    "--from",
    "from_",
    metavar="REV|DIR",
    help="The former state. Default: where HEAD left the main branch.",
)
@click.option("--to", metavar="REV|DIR", help="The later state. Default: the files as they are.")
@click.option("--at", type=INSTANT, metavar="T", help="When it is merged. Default: now.")
@click.option(
    "--horizon", type=DURATION, default="14d", show_default=True, help="How far ahead fires are looked at."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="What to print: docs/plan.md.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 where anything changes.")
@click.option(
    "--from-zoneinfo",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read the time zones of the former state from here.",
)
@click.option(
    "--to-zoneinfo",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read the time zones of the later state from here.",
)
@click.pass_obj
def command(  # noqa: PLR0913 - one parameter an option
    config_option: str | None,
    *,
    path: str | None,
    from_: str | None,
    to: str | None,
    at: datetime | None,
    horizon: timedelta,
    format_: str,
    exit_code: bool,
    from_zoneinfo: Path | None,
    to_zoneinfo: Path | None,
) -> int:
    """Show what a change of the schedules under PATH does: to them, and to what fires.

    PATH is by default the folder that flowsched.yaml names. A state is a commit, read without touching the
    work tree, or a folder, written with a / in it. Both are read with the flowsched.yaml of here. Exits with
    1 where it or one of them cannot be used.
    """
    _check_horizon(horizon)
    moment = _moment(at)
    telling = _telling(config_option, path, (from_, to), moment, horizon, (from_zoneinfo, to_zoneinfo))
    import_module(f"flowsched.cli.plan.{format_}").show(telling)
    if telling.plan is None:
        return FOUND
    return FOUND if exit_code and telling.plan.changes else FINE


def _telling(
    config_option: str | None,
    path: str | None,
    options: tuple[str | None, str | None],
    moment: datetime,
    horizon: timedelta,
    zoneinfo: tuple[Path | None, Path | None],
) -> Telling:
    """Return the plan, or all problems; the pairs are those of `--from` and `--to`."""
    until = moment + horizon
    try:
        settings = find_settings(config_option)
    except ConfigError as error:
        # They decide how both states are read.
        problems = [("settings", problem) for problem in error.problems]
        return Telling(old=UNREAD, new=UNREAD, plan=None, problems=problems, at=moment, until=until)
    # Of no use, and perhaps not there, where both states are folders.
    named = path or ("." if all(map(is_folder, options)) else default_schedules(settings))
    folder = Path(from_here(named))
    former, later = former_state(options[0], folder), later_state(options[1], folder)
    old = read(former, settings, zoneinfo[0], may_lack=True)
    new = read(later, settings, zoneinfo[1], may_lack=False)
    problems = [*_problems(old, "from"), *_problems(new, "to")]
    plan = None if problems else _plan(old, new, moment, horizon, settings)
    return Telling(old=old, new=new, plan=plan, problems=problems, at=moment, until=until)


def _plan(old: Side, new: Side, at: datetime, horizon: timedelta, settings: Settings | None) -> Plan:
    fires_a_day = settings.fires_a_day if settings else FIRES_A_DAY
    try:
        return changes(
            old.catalog,
            new.catalog,
            at=at,
            horizon=horizon,
            limits=limits_of(settings),
            fires_a_day=fires_a_day,
            place=places(new.state),
        )
    except Refused as refused:
        raise UsageError(str(refused)) from None


def _problems(side: Side, name: str) -> list[tuple[str, Problem]]:
    return [(name, placed(problem, side.state)) for problem in side.problems]


def _check_horizon(horizon: timedelta) -> None:
    if not _SHORTEST <= horizon <= _LONGEST:
        raise click.BadParameter(f"allowed: {allowed_between(_SHORTEST, _LONGEST)}", param_hint="--horizon")


def _moment(at: datetime | None) -> datetime:
    """Return when it is merged, in whole seconds."""
    moment = to_look_ahead_from(at, "--at") if at else SystemClock().now()
    return moment.replace(microsecond=0)
