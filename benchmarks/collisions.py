"""How long the comparison of all fires of a year takes: every pair of schedules, and the load of targets.

    .venv/bin/python benchmarks/collisions.py [--schedules 5000] [--seed 1]

Each catalog is new to the process that measures it, so that nothing is remembered from the one before.
"""

# ruff: noqa: D103, INP001, S311, T201 - a script that prints a table; nothing depends on its chances

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from flowsched import cron
from flowsched.model import (
    Blackout,
    Calendar,
    CatchUp,
    Days,
    Overlap,
    RetryPolicy,
    Schedule,
    Source,
    Then,
    Timing,
    WeeklyWindow,
)
from flowsched.review.collisions import HORIZON, collisions
from flowsched.review.load import load

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=32)
MINUTE = timedelta(minutes=1)
RETRY = RetryPolicy(
    max_attempts=5,
    initial_backoff=timedelta(seconds=2),
    multiplier=2,
    max_backoff=timedelta(minutes=5),
    deadline=timedelta(minutes=15),
    attempt_timeout=timedelta(seconds=30),
)
FREEZE = Calendar(
    name="freeze",
    description=None,
    timezone=None,
    days=(Days(date(2026, 12, 20), date(2027, 1, 6)),),
    weekly=(WeeklyWindow(5, wall(18), 0, wall(6)),),
    source=Source("a.yaml", 1),
)


def a_schedule(number: int, expression: str, zone: str = "UTC", flow: int = 1, **more: object) -> Schedule:
    values: dict[str, object] = {"jitter": timedelta(0), "blackout": None, **more}
    return Schedule(
        id=f"schedule-{number:05}",
        timing=Timing(expression, zone),
        flow=flow,
        task=None,
        target="default",
        enabled=True,
        retry=RETRY,
        catch_up=CatchUp.LATEST,
        catch_up_window=timedelta(hours=1),
        overlap=Overlap.QUEUE,
        overlap_fallback=Overlap.QUEUE,
        watch=None,
        renamed_from=None,
        accept=(),
        description=None,
        owner=None,
        source=Source("a.yaml", number),
        **values,  # type: ignore[arg-type]
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


CATALOGS: list[Callable[[int, random.Random], list[Schedule]]] = [
    flows_of_their_own,
    pairs_of_tasks,
    twenty_flows_all_zones,
    twenty_flows_with_a_blackout,
    one_flow_each_minute,
    one_flow_all_zones,
    jitter_of_ten_minutes,
]


def measure(number: int, count: int, seed: int) -> str:
    catalog = CATALOGS[number]
    schedules = catalog(count, random.Random(seed))
    for schedule in schedules:
        cron.zone(schedule.timing.timezone)  # as whoever read the files has done
    start = time.perf_counter()
    found = collisions(schedules, after=NOW, until=NOW + HORIZON)
    compared = time.perf_counter()
    loads = load(schedules, after=NOW, until=NOW + MONTH)
    counted = time.perf_counter()
    pairs = len(found.pairs) + sum(found.unlisted.values())
    fires = sum(each.fires for each in loads.values())
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = catalog.__name__.replace("_", " ")
    return (
        f"{name:30} {compared - start:10.2f} {pairs:12,} {counted - compared:10.2f} {fires:12,}"
        f" {megabytes:6.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.schedules:,} schedules; collisions over {HORIZON.days} days, load over {MONTH.days}")
    print(f"{'':30} {'collisions':>10} {'pairs':>12} {'load':>10} {'fires':>12} {'':>6}")
    print(f"{'':30} {'s':>10} {'':>12} {'s':>10} {'':>12} {'MB':>6}")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for number in range(len(CATALOGS)):
            print(pool.apply(measure, (number, options.schedules, options.seed)), flush=True)


if __name__ == "__main__":
    main()
