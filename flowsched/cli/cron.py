"""`flowsched cron`: explain an expression and show its fire times."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from flowsched import cron
from flowsched.cli.instants import INSTANT, in_utc
from flowsched.cli.output import format_option, iso, local, print_json, print_table
from flowsched.clock import SystemClock
from flowsched.errors import CronError, UsageError
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from datetime import datetime


@click.command(
    "cron",
    epilog="Example: flowsched cron '30 2 * * *' --timezone Europe/Berlin --from 2026-03-28T00:00 --count 3",
)
@click.argument("expression", nargs=-1, required=True, metavar="EXPRESSION")
@click.option("--timezone", default="UTC", show_default=True, help="IANA name of the zone it is read in.")
@click.option(
    "--from",
    "from_",
    type=INSTANT,
    metavar="T",
    help="Fire times strictly after this instant; without an offset on the zone's wall clock. Default: now.",
)
@click.option("--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many.")
@format_option
def command(
    expression: tuple[str, ...], timezone: str, from_: datetime | None, count: int, format_: str
) -> None:
    """Explain EXPRESSION, five crontab fields or @daily and the like, and show its fire times."""
    if len(expression) > 1:
        raise UsageError(
            "the expression is to be one word: put it in quotes, as in flowsched cron '30 2 * * *'"
        )
    try:
        parsed, zone = cron.parse(expression[0]), cron.zone(timezone)
    except CronError as error:
        raise UsageError(str(error)) from None
    after = in_utc(from_, "--from", zone) if from_ else SystemClock().now()
    fires = list(islice(parsed.fires(zone, after), count))
    if format_ == "json":
        print_json(
            {
                "expression": parsed.expression,
                "timezone": timezone,
                "explanation": parsed.explain(),
                "fires": [{"utc": stamp(at), "local": iso(at, zone)} for at in fires],
            }
        )
        return
    click.echo(f"{parsed.explain()} ({timezone})")
    print_table(["fire time (UTC)", "local"], [[at, local(at, timezone)] for at in fires])
