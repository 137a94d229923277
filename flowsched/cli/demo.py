"""`flowsched demo`: the main job, watched, against a simulated EnOS on a clock that runs fast."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import click

from flowsched import config, timeline
from flowsched.cli.durations import DURATION
from flowsched.cli.files import SCHEDULES
from flowsched.cli.run import watch_signals
from flowsched.cli.view import print_summary, view
from flowsched.clock import FastClock, SystemClock
from flowsched.daemon import serve
from flowsched.errors import UsageError
from flowsched.ledger import Ledger
from flowsched.model import Limits, RunState, SecretSource, Settings, Source, Target
from flowsched.simulator import Fault, Order, Simulator

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Catalog, Run

SPEED = 60.0
"""Seconds of the demo's clock in a real one: it shows a minute a second."""

LEAD = timedelta(seconds=90)
"""How long before the first fire the demo's clock starts: a second and a half of real time."""

REFUSAL = Order(fault=Fault.STATUS, status=429, retry_after=90, on="trigger")
"""What befalls one call, so that a retry is seen."""

_REFRESH = 0.25
_UPCOMING = 8
_SHOWN = 200
_ALL = 100_000


@click.command("demo", epilog="Example: flowsched demo --for 20s")
@click.option(
    "--for", "for_", type=DURATION, metavar="DURATION", help="End by itself, as 20s. Default: at Ctrl-C."
)
@click.option(
    "--schedules", metavar="PATH", default=str(SCHEDULES), show_default=True, help="The files to show."
)
def command(for_: timedelta | None, schedules: str) -> None:
    """Fire the schedules under PATH against a simulated EnOS, at a minute a second, and show it live.

    Nothing leaves this machine and nothing is kept: simulator and ledger are gone when it ends. One
    call is refused with HTTP 429 on purpose, so that a retry is seen.
    """
    logging.getLogger().addHandler(logging.NullHandler())
    print_summary(asyncio.run(_simulated(schedules, for_)))


async def _simulated(schedules: str, for_: timedelta | None) -> list[Run]:
    drawn_up = config.load_catalog(schedules, None)
    clock = FastClock(_start(drawn_up), SPEED)
    simulator = Simulator(clock)
    url = await simulator.start()
    try:
        with tempfile.TemporaryDirectory(prefix="flowsched-demo-") as folder:
            names = {schedule.target or "default" for schedule in drawn_up.schedules.values()}
            settings = Settings(
                file="the demo",
                schedules=schedules,
                ledger=f"sqlite:///{folder}/ledger.db",
                keep=timedelta(days=400),
                clock_tolerance=timedelta(minutes=5),
                targets={name: _target(name, url, simulator) for name in sorted(names)},
            )
            return await _kept(settings, simulator, clock, for_)
    finally:
        await simulator.stop()


async def _kept(
    settings: Settings, simulator: Simulator, clock: FastClock, for_: timedelta | None
) -> list[Run]:
    catalog = config.load_catalog(settings.schedules, settings)
    stop, halt, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
    watch_signals(stop, halt)
    if for_ is not None:
        asyncio.get_running_loop().call_later(for_.total_seconds(), stop.set)
    environ = {
        "DEMO_ACCESS_KEY": simulator.application.access_key,
        "DEMO_SECRET_KEY": simulator.application.secret_key,
    }
    serving = asyncio.create_task(
        serve(settings, catalog, clock=clock, environ=environ, stop=stop, halt=halt, ready=ready)
    )
    serving.add_done_callback(lambda _: ready.set())
    await ready.wait()
    if not serving.done():
        await _watch(settings.ledger, catalog, simulator, clock, stop)
    await serving
    async with await Ledger.open_to_read(settings.ledger) as ledger:
        return await ledger.runs(limit=_ALL)


async def _watch(
    url: str, catalog: Catalog, simulator: Simulator, clock: FastClock, stop: asyncio.Event
) -> None:
    title = f"flowsched demo: {len(catalog.schedules)} schedules, a minute a second; Ctrl-C ends it"
    refused = False
    async with await Ledger.open_to_read(url) as ledger:
        with view(title) as picture:
            while not stop.is_set():
                runs = await ledger.runs(limit=_SHOWN)
                if not refused and any(run.state is RunState.TRIGGERED for run in runs):
                    simulator.faults.add(REFUSAL)
                    refused = True
                now = clock.now()
                fires = timeline.fires(catalog.schedules.values(), after=now)
                picture.show(now, list(islice(fires, _UPCOMING)), runs)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _REFRESH)


def _start(catalog: Catalog) -> datetime:
    first = next(timeline.fires(catalog.schedules.values(), after=SystemClock().now()), None)
    if first is None:
        raise UsageError("none of these schedules ever fires")
    return first.fire_time - LEAD


def _target(name: str, url: str, simulator: Simulator) -> Target:
    return Target(
        name=name,
        url=url,
        api_version="v2.1",
        org_id=simulator.user.org,
        user_id=simulator.user.id,
        access_key=SecretSource("env", "DEMO_ACCESS_KEY"),
        secret_key=SecretSource("env", "DEMO_SECRET_KEY"),
        limits=Limits(concurrency=20, rate_per_minute=None),
        ca_file=None,
        environment_proxy=False,
        source=Source("the demo", 1),
    )
