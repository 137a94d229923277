"""A review: collisions, load of a target, plans, whole checks.

All have 5,000 schedules. "collisions" is the finding of fires of one flow in one minute within 400 days,
among schedules whose kind the case names; "load" counts what a target has to take in each minute; "plan"
and "validate" are the whole commands. Nobody else compares the fires of schedules before they come; there
is no peer to measure.
"""

from __future__ import annotations

import random
import resource
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from benchmarks.harness import Contestant, Figures, Goal, Scope, fresh
from benchmarks.starting import command
from flowsched import cron
from flowsched.model import (
    Blackout,
    Calendar,
    Days,
    Schedule,
    Source,
    Then,
    WeeklyWindow,
)
from flowsched.review.collisions import HORIZON, collisions
from flowsched.review.load import load
from flowsched.review.warnings import JITTERED_AHEAD
from tests import builders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FREEZE = Calendar(
    name="freeze",
    description=None,
    timezone=None,
    days=(Days(date(2026, 12, 20), date(2027, 1, 6)),),
    weekly=(WeeklyWindow(5, wall(18), 0, wall(6)),),
    source=Source("a.yaml", 1),
)


def a_schedule(number: int, expression: str, zone: str = "UTC", flow: int = 1, **more: object) -> Schedule:
    return builders.a_schedule(
        f"schedule-{number:05}", expression, zone, flow=flow, source=Source("a.yaml", number), **more
    )


def any_expression(chance: random.Random) -> str:
    """Return an expression of the kinds that people write: daily, weekly, monthly, every so often."""
    minute, hour = chance.randrange(60), chance.randrange(24)
    return chance.choice(
        [
            f"{minute} {hour} * * *",
            f"{minute} {hour} * * 1-5",
            f"{minute} {hour} * * {chance.randrange(7)}",
            f"{minute} {hour} {chance.randint(1, 28)} * *",
            f"{minute} {hour} L * *",
            f"{minute} {hour} * * {chance.randrange(7)}#2",
            f"{minute} */{chance.choice([2, 3, 4, 6, 8])} * * *",
            f"{minute},{(minute + 30) % 60} 6-22 * * *",
        ]
    )


def flows_of_their_own(count: int, chance: random.Random) -> list[Schedule]:
    return [a_schedule(n, any_expression(chance), "Europe/Berlin", flow=n) for n in range(count)]


def pairs_of_tasks(count: int, chance: random.Random) -> list[Schedule]:
    return [a_schedule(n, any_expression(chance), "Europe/Berlin", flow=n // 2) for n in range(count)]


def twenty_flows_all_zones(count: int, chance: random.Random) -> list[Schedule]:
    zones = sorted(available_timezones() - {"localtime", "Factory", "posixrules"})
    return [a_schedule(n, any_expression(chance), chance.choice(zones), flow=n % 20) for n in range(count)]


def twenty_flows_with_a_blackout(count: int, chance: random.Random) -> list[Schedule]:
    zones = ["Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"]
    blackouts = [Blackout((FREEZE,), then) for then in Then]
    return [
        a_schedule(n, any_expression(chance), chance.choice(zones), n % 20, blackout=chance.choice(blackouts))
        for n in range(count)
    ]


def one_flow_each_minute(count: int, _: random.Random) -> list[Schedule]:
    return [a_schedule(n, "* * * * *") for n in range(count)]


def one_flow_all_zones(count: int, chance: random.Random) -> list[Schedule]:
    return [
        a_schedule(each.source.line, each.timing.cron, each.timing.timezone)
        for each in twenty_flows_all_zones(count, chance)
    ]


def jitter_of_ten_minutes(count: int, chance: random.Random) -> list[Schedule]:
    return [a_schedule(n, any_expression(chance), flow=n, jitter=10 * MINUTE) for n in range(count)]


def hourly_with_jitter(count: int, _: random.Random) -> list[Schedule]:
    return [a_schedule(n, f"{n % 60} * * * *", flow=n, jitter=10 * MINUTE) for n in range(count)]


def one_flow_all_different(count: int, _: random.Random) -> list[Schedule]:
    every = [(n % 60, n // 60 % 24, n // 1440) for n in range(count)]
    return [a_schedule(n, f"{m},59 {h},{day} * * *", "Europe/Berlin") for n, (m, h, day) in enumerate(every)]


CATALOGS: list[Callable[[int, random.Random], list[Schedule]]] = [
    flows_of_their_own,
    pairs_of_tasks,
    twenty_flows_all_zones,
    twenty_flows_with_a_blackout,
    one_flow_each_minute,
    one_flow_all_zones,
    one_flow_all_different,
]


LOADS = [jitter_of_ten_minutes, hourly_with_jitter]


def _name(catalog: Callable[..., list[Schedule]]) -> str:
    return catalog.__name__.replace("_", " ")


SIZE = 5_000
GOALS = [
    *(Goal(f"collisions: {_name(each)}", "CPU s", most=5) for each in CATALOGS),
    *(Goal(f"plan: 1 of 5,000 in {files:,} files", "CPU s", most=2) for files in (50, SIZE)),
]


def contestants(scope: Scope) -> Iterator[Contestant]:
    for size in scope.sizes(SIZE, quick=200):
        for case, measure in _cases(size):
            for name, tree in scope.trees:
                yield Contestant(case, name, partial(measure, tree))


def _cases(size: int) -> Iterator[tuple[str, Callable[[Path, Path], Figures]]]:
    for number, each in enumerate(CATALOGS):
        yield f"collisions: {_name(each)}", partial(_fresh, compared, number, size)
    for number, each in enumerate(LOADS):
        yield f"load: {_name(each)}", partial(_fresh, counted, number, size)
    for files in (50, size):
        yield f"plan: 1 of {size:,} in {files:,} files", partial(one_retimed, size, files)
    yield f"plan: all of {size:,} retimed, 14 days", partial(all_retimed, size)
    yield f"validate: {size:,} in 50 files", partial(checked, size)


def _fresh(measure: Callable[..., Figures], number: int, size: int, tree: Path, _: Path) -> Figures:
    return fresh(measure, number, size, tree=tree)


def compared(number: int, count: int) -> Figures:
    """Find what collides among schedules that are new to this process."""
    schedules = CATALOGS[number](count, random.Random(1))
    for schedule in schedules:
        cron.zone(schedule.timing.timezone)  # as whoever read the files has done
    start = time.process_time()
    collisions(schedules, after=NOW, until=NOW + HORIZON)
    return _since(start)


def counted(number: int, count: int) -> Figures:
    """Count what is due in each minute of the time that is looked at where there is jitter."""
    schedules = LOADS[number](count, random.Random(1))
    start = time.process_time()
    load(schedules, after=NOW, until=NOW + JITTERED_AHEAD)
    return _since(start)


def one_retimed(size: int, files: int, tree: Path, folder: Path) -> Figures:
    expressions = _expressions(size)
    written(folder / "before", expressions, files)
    written(folder / "after", ["17 5 * * *", *expressions[1:]], files)
    return command(tree, folder, "plan", "--from", "./before", "--to", "./after")


def all_retimed(size: int, tree: Path, folder: Path) -> Figures:
    for name, hour in (("before", 3), ("after", 4)):
        written(folder / name, [f"{n % 60} {hour} * * *" for n in range(size)], 50)
    return command(tree, folder, "plan", "--from", "./before", "--to", "./after", "--horizon", "14d")


def checked(size: int, tree: Path, folder: Path) -> Figures:
    written(folder / "schedules", _expressions(size), 50)
    return command(tree, folder, "validate", "schedules")


def written(root: Path, expressions: list[str], files: int) -> None:
    """Write one schedule for each expression, evenly into so many files."""
    root.mkdir()
    entries = [
        f'  job-{n:05}:\n    description: Report {n}\n    owner: wind-data\n    cron: "{each}"\n'
        f"    timezone: Europe/Berlin\n    flow: {n + 1}\n"
        for n, each in enumerate(expressions)
    ]
    each = -(-len(entries) // files)
    for number in range(0, len(entries), each):
        text = "schedules:\n" + "".join(entries[number : number + each])
        (root / f"f{number:05}.yaml").write_text(text)


def _expressions(size: int) -> list[str]:
    chance = random.Random(1)
    return [any_expression(chance) for _ in range(size)]


def _since(start: float) -> Figures:
    used = time.process_time() - start
    return {"CPU s": used, "RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
