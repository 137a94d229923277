"""A soak: many schedules, a daemon that is killed, stopped, edited and misled, and the proof at the end."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import click

from tests.soak.checks import judged
from tests.soak.conductor import Conductor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.evidence import Check

SHOWN = 20
"""Lines of what is wrong, of each check."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--minutes", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Minutes of trouble."
)
@click.option("--seed", type=click.IntRange(0), help="What happens, and when. Default: a new one, printed.")
@click.option(
    "--broken",
    type=click.Choice(["nothing", "reconcile", "pauses"]),
    default="nothing",
    help="Break flowsched on purpose, to see the soak fail: runs in doubt are sent again without a look, or"
    " nothing heeds a pause.",
)
def main(minutes: float, seed: int | None, broken: str) -> None:
    """Soak a real daemon against a simulated EnOS, on a clock that runs 40 times as fast.

    What is done to it follows from the seed: SIGKILL, SIGTERM, edits and broken files, steps of its clock,
    outages of the gateway and of the ledger, lost replies; people who pause, resume, trigger, backfill,
    cancel and resolve, with a daemon and without; a receiver of alerts that hangs. How the processes
    interleave does not follow from it. Then all is mended, the daemon comes to rest, and the books are
    compared: nothing lost, nothing twice. Exits with 1, and keeps the folder, where anything is wrong.
    """
    seed = SystemRandom().randrange(10**6) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="flowsched-soak-"))
    click.echo(f"soak: seed {seed}, {minutes:g} minutes and what it takes to come to rest")
    sys.stdout.flush()
    conductor = Conductor(folder, seed, minutes * 60, broken)
    evidence = asyncio.run(conductor.play())
    checks = judged(evidence)
    _print_table(conductor.figures(evidence))
    _print_table([(check.name, f"{'WRONG' if check.wrong else 'ok   '}  {check.figure}") for check in checks])
    lost, doubles = (_counted(checks, kind) for kind in ("lost", "double"))
    _print_table([("lost", str(lost)), ("doubles", str(doubles))])
    if not any(check.wrong for check in checks):
        shutil.rmtree(folder)
        return
    for check in checks:
        _print_wrong(check)
    again = f"./run soak --minutes {minutes:g} --seed {seed}" + (
        "" if broken == "nothing" else f" --broken {broken}"
    )
    click.echo(f"\nfailed; the folder is kept: {folder}; again: {again}")
    sys.exit(1)


def _counted(checks: Sequence[Check], kind: str) -> int:
    return sum(len(check.wrong) for check in checks if check.counts_as == kind)


def _print_table(rows: Sequence[tuple[str, str]]) -> None:
    click.echo()
    for name, figure in rows:
        click.echo(f"{name:<38}{figure}")


def _print_wrong(check: Check) -> None:
    for line in check.wrong[:SHOWN]:
        click.echo(f"  {check.name}: {line}")
    if len(check.wrong) > SHOWN:
        click.echo(f"  {check.name}: and {len(check.wrong) - SHOWN} more")


if __name__ == "__main__":
    main(prog_name="./run soak")
