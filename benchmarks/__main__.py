"""Measure flowsched and its peers by the programs named; by all in turn, if none is.

All take about 45 minutes on two cores that have nothing else to do. How rounds
are taken is told in `benchmarks/harness.py`, what the figures say in
`docs/performance.md`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine, tables
from benchmarks.harness import ROOT, Goal, Row, Scope, docstring, interleave, verdicts

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
    print(textwrap.fill(tables.heading(about), tables.WIDTH), flush=True)
    repeat = options.repeat or (1 if options.quick else 5)
    for name in options.names or _present():
        about["programs"][name] = program = _measured(name, scope, repeat)
        print(tables.program(name, program), flush=True)
        if options.json is not None:  # after each: an hour's figures are not lost with the last program
            options.json.write_text(json.dumps(_merged(options.json, about), indent=1) + "\n")
    if any(row["failed"] for program in about["programs"].values() for row in program["rows"]):
        sys.exit(1)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run bench",
        description=__doc__,
        epilog="programs:\n" + "\n".join(map(_in_the_help, _present())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a program of those below")
    parser.add_argument("--quick", action="store_true", help="once, as small as shows that it works")
    parser.add_argument(
        "--repeat", type=_count, metavar="N", help="rounds of each contestant (5, or 1 with --quick)"
    )
    parser.add_argument(
        "--long-rounds",
        type=_count,
        default=2,
        metavar="N",
        help="rounds of those who wait for whole minutes, or are slow to set up (2)",
    )
    parser.add_argument("--size", type=_count, metavar="N", help="one size in place of a program's own")
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


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from 1")
    return int(text)


def _in_the_help(name: str) -> str:
    return textwrap.fill(docstring(name)[0], 78, initial_indent=f"  {name:12}", subsequent_indent=" " * 14)


def _present() -> list[str]:
    return [name for name in PROGRAMS if (ROOT / "benchmarks" / f"{name}.py").exists()]


def _measured(name: str, scope: Scope, repeat: int) -> dict[str, Any]:
    module = importlib.import_module(f"benchmarks.{name}")
    goals: list[Goal] = getattr(module, "GOALS", [])
    start = time.monotonic()
    rows: list[Row] = interleave(module.contestants(scope), repeat, tell=_tell)
    _tell("")
    return {
        "heading": docstring(name)[0],
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
