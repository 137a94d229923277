"""Measure flowsched and its peers: `./run bench [NAME...]`.

Each NAME is a program of `benchmarks/`; without one all are measured, one after the other. What a program
is, and how its rounds are taken, is told in `benchmarks/harness.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine, tables
from benchmarks.harness import ROOT, Goal, Row, Scope, interleave, verdicts

PROGRAMS = (
    "due",
    "due_tls",
    "fires",
    "calls",
    "wakeup",
    "loading",
    "reloading",
    "comparing",
    "starting",
    "idle",
    "big_ledger",
)
"""In the order of the page."""


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line names, print the tables, and keep the figures where `--json` says."""
    options = _parsed(arguments)
    scope = Scope(options.quick, options.size, options.base and options.base.resolve(), options.long_rounds)
    about: dict[str, Any] = {"machine": machine.description(), "versions": machine.versions(), "programs": {}}
    print(tables.heading(about), flush=True)
    repeat = options.repeat or (1 if options.quick else 5)
    for name in options.names or _present():
        about["programs"][name] = program = _measured(name, scope, repeat)
        print(tables.program(program), flush=True)
        if options.json is not None:  # after each: an hour's figures are not lost with the last program
            options.json.write_text(json.dumps(_merged(options.json, about), indent=1) + "\n")
    if any(row["failed"] for program in about["programs"].values() for row in program["rows"]):
        sys.exit(1)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_present()))
    parser.add_argument("--quick", action="store_true", help="once, as small as shows that it works")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds of each contestant (default: 5)")
    parser.add_argument(
        "--long-rounds",
        type=int,
        default=2,
        metavar="N",
        help="rounds of those who wait for whole minutes (2)",
    )
    parser.add_argument("--size", type=int, metavar="N", help="one size in place of a program's own")
    parser.add_argument(
        "--base", type=Path, metavar="FOLDER", help="another checkout, measured beside this one"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the figures; those of other programs in FILE stay"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(_present())
    if unknown:
        parser.error(f"no such program: {', '.join(sorted(unknown))}; there are {', '.join(_present())}")
    return options


def _present() -> list[str]:
    return [name for name in PROGRAMS if (ROOT / "benchmarks" / f"{name}.py").exists()]


def _measured(name: str, scope: Scope, repeat: int) -> dict[str, Any]:
    module = importlib.import_module(f"benchmarks.{name}")
    goals: list[Goal] = getattr(module, "GOALS", [])
    start = time.monotonic()
    rows: list[Row] = interleave(module.contestants(scope), repeat, tell=_tell)
    _tell("")
    return {
        "heading": (module.__doc__ or name).partition("\n")[0],
        "quick": scope.quick,
        "seconds": round(time.monotonic() - start),
        "rows": [asdict(row) for row in rows],
        "goals": [asdict(verdict) for verdict in verdicts(goals, rows)],
    }


def _tell(what: str) -> None:
    """Show what is being measured, where somebody may look."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _merged(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    kept = json.loads(file.read_text())["programs"] if file.exists() else {}
    programs = {**kept, **about["programs"]}
    return {**about, "programs": {name: programs[name] for name in PROGRAMS if name in programs}}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that contestants end with us
    main()
