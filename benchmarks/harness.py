"""What a program of the bench is, and how its rounds are taken.

A program is a module `benchmarks/NAME.py`, measured by `./run bench NAME`. The first line of its docstring
is the heading of its tables, the rest is what the page says under it: what the contestants and the columns
are. It has one function, and may have a list of goals:

    def contestants(scope: Scope) -> Iterator[Contestant]: ...
    GOALS = [Goal(...)]

`contestants` yields who is measured, grouped by `case` (a size, a kind of input), in the order of the table.
A contestant carries the function that measures one round: it is given an empty folder of its own and returns
figures by name, with the unit as the last word of the name ("last s", "CPU us a fire", "RSS MiB"). The first
figure is the one that ratios are made of. Lower is better. `Contestant.reference` marks the peer that a
case's ratios refer to.

What cannot be measured here (a peer does not install, there is no gcc) raises `Skip("why")` in
`contestants`' function of one round or in `environments`; the table then says so in one line, and the others
go on. Whom a case leaves out on purpose is told in the same way, by `left_out(case, name, "why")`.

The harness takes the rounds: one of each contestant in turn, then again (interleaved, so that whatever slows
the machine slows all of them), and reports median, smallest and largest. A round in a process of its own, so
that no cache and no heap is left from the one before, is `fresh(function, ...)`: a function of a module,
arguments and result that JSON can carry, run under this Python with the flowsched of `tree`. `told(command)`
is the same for any program that prints its figures as JSON.

A smallest program:

    def contestants(scope):
        for size in scope.sizes(1_000, 10_000, quick=200):
            case = f"{size:,} files"
            for name, tree in scope.trees:  # this flowsched, and with --base another checkout of it
                yield Contestant(case, name, partial(fresh, ours, size, tree=tree))
            yield Contestant(case, "PyYAML", partial(fresh, theirs, size), reference=True)

    def ours(size, folder): ...; return {"load s": seconds, "RSS MiB": megabytes}

    GOALS = [Goal("10,000 files", "load s", most=3.5)]

Peers are installed by `benchmarks.environments`: `python("yacron==0.19")` is the path of an interpreter that
has it, `node("croner@11.0.1")` a folder whose `node_modules` has it. Scripts for them live in
`benchmarks/peers/`.
"""

from __future__ import annotations

import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent

Figures = dict[str, float]
"""What one round has shown, by name; the unit is the name's last word."""


class Skip(Exception):  # noqa: N818 - no error: the contestant is left out, and the table says so
    """This contestant cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Scope:
    """How much is to be measured."""

    quick: bool = False
    """As small as shows that it works: for CI."""
    size: int | None = None
    """The one size to measure, in place of a program's own."""
    base: Path | None = None
    """Another checkout of flowsched, to be measured beside this one."""
    long_rounds: int = 2
    """Rounds of those who need whole minutes for each."""

    def sizes(self, *full: int, quick: int) -> tuple[int, ...]:
        """Return the sizes to measure: what was asked for, else `quick` or `full`."""
        if self.size is not None:
            return (self.size,)
        return (quick,) if self.quick else full

    @property
    def trees(self) -> list[tuple[str, Path]]:
        """The flowscheds to measure, by the name of the contestant."""
        ours = [("flowsched", ROOT)]
        return ours if self.base is None else [*ours, ("flowsched, base", self.base)]


@dataclass(frozen=True)
class Contestant:
    """One line of a table."""

    case: str
    """The line is compared with the others of its case."""
    name: str
    measure: Callable[[Path], Figures]
    """Measure one round in an empty folder, which is removed afterwards."""
    reference: bool = False
    """The case's ratios are to this one."""
    rounds: int | None = None
    """No more rounds than these, where each takes long; None: as many as asked for."""


def left_out(case: str, name: str, why: str) -> Contestant:
    """Return a contestant who is not measured, so that the table says why."""

    def skip(_: Path) -> Figures:
        raise Skip(why)

    return Contestant(case, name, skip)


@dataclass(frozen=True)
class Goal:
    """What flowsched wants: the median of a figure not above `most`, or `most` times that of `against`."""

    case: str
    figure: str
    most: float
    against: tuple[str, ...] = ()
    """Contestants of the case, of whom the best counts; none: `most` is in the figure's own unit."""
    of: str = "flowsched"
    against_case: str | None = None
    """Where `against` is another case than `case`."""


@dataclass(frozen=True)
class Verdict:
    """What has come of a goal."""

    goal: Goal
    ours: float | None
    """The figure's median; None: it was not measured."""
    rival: str | None
    """Who of `against` was best."""
    theirs: float | None
    reached: float | None
    """To be compared with `goal.most`, in its terms."""


@dataclass
class Row:
    """A contestant with what its rounds have shown."""

    case: str
    name: str
    reference: bool = False
    figures: dict[str, list[float]] = field(default_factory=dict)
    """For each figure that of every round, in the order of the rounds."""
    skipped: str | None = None
    """Why there are none."""
    failed: str | None = None
    """What went wrong in one of its rounds, after which it has got no more."""
    took: list[float] = field(default_factory=list)
    """Seconds that each round has taken, with all that is prepared for it and waited for."""

    def median(self, figure: str) -> float | None:
        """Return the figure's median; None: it was not measured."""
        found = self.figures.get(figure)
        return statistics.median(found) if found else None

    @property
    def first(self) -> str | None:
        """The figure that ratios are made of."""
        return next(iter(self.figures), None)


def interleave(
    contestants: Iterable[Contestant], repeat: int, tell: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Take `repeat` rounds of each, one of each in turn; whoever is skipped once is not asked again."""
    measured = [(each, Row(each.case, each.name, each.reference)) for each in contestants]
    for number in range(repeat):
        for each, row in measured:
            if row.skipped or row.failed or number >= (repeat if each.rounds is None else each.rounds):
                continue
            tell(f"{each.case}: {each.name}, round {number + 1}")
            start = time.monotonic()
            try:
                with tempfile.TemporaryDirectory(
                    prefix="flowsched-bench-", ignore_cleanup_errors=True
                ) as folder:
                    figures = each.measure(Path(folder))
            except Skip as why:
                row.skipped = str(why)
                continue
            except Exception as error:  # noqa: BLE001 - the rounds of the others are not lost with it
                row.failed = f"{type(error).__name__}: {error}"
                continue
            for name, value in figures.items():
                row.figures.setdefault(name, []).append(value)
            row.took.append(round(time.monotonic() - start, 1))
    return [row for _, row in measured]


def docstring(name: str) -> tuple[str, str]:
    """Return a program's heading, and what is to be said under it."""
    text = ast.get_docstring(ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text())) or name
    heading, _, rest = text.partition("\n")
    return heading, rest.strip()


def fresh(function: Callable[..., Figures], *arguments: Any, tree: Path = ROOT) -> Figures:
    """Return what `function` does, run in a process of its own with the flowsched of `tree`."""
    call = {
        "module": function.__module__,
        "name": function.__qualname__,
        "arguments": arguments,
        "tree": str(tree),
    }
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from benchmarks.harness import _called; _called()"
    )
    return told([sys.executable, "-c", program], json.dumps(call, default=str))


def told(command: list[str], given: str = "") -> Figures:
    """Return the figures that a program prints as JSON in its last line; `given` is its standard input."""
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True)
    result: Figures = json.loads(done.stdout.splitlines()[-1])
    return result


def _called() -> None:
    call = json.load(sys.stdin)
    sys.path.insert(0, call["tree"])
    os.environ["PYTHONPATH"] = call["tree"]
    module = __import__(call["module"], fromlist=[call["name"]])
    print(json.dumps(getattr(module, call["name"])(*call["arguments"])))


def verdicts(goals: Iterable[Goal], rows: Iterable[Row]) -> Iterator[Verdict]:
    """Yield what has come of each goal."""
    known = {(row.case, row.name): row for row in rows}

    def median(case: str, name: str, figure: str) -> float | None:
        row = known.get((case, name))
        return None if row is None else row.median(figure)

    for goal in goals:
        ours = median(goal.case, goal.of, goal.figure)
        case = goal.against_case or goal.case
        rivals = {name: found for name in goal.against if (found := median(case, name, goal.figure))}
        best = min(rivals, key=rivals.__getitem__, default=None)
        theirs = None if best is None else rivals[best]
        reached = ours if not goal.against or ours is None else theirs and ours / theirs
        yield Verdict(goal, ours, best, theirs, reached)
