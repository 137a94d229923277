"""Schedule files loaded and checked cold, beside YAML readers.

"The parts" is what would have to be done by whoever glued libraries together: each file composed by PyYAML
on libyaml, which keeps positions, checked by jsonschema, and each expression parsed. The other readers only
read: no positions but ruamel.yaml's, no schema, no cron. "Collector off" is without Python's garbage
collector, which looks again and again at all that has been read. `load` is the time by the wall clock.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import environments
from benchmarks.harness import Contestant, Figures, Goal, Scope, fresh, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS = "the parts, collector off"
SCRIPT = Path(__file__).parent / "peers" / "read_yaml.py"
GOALS = [
    Goal("10,000 files", "CPU s", most=1.2, against=(PARTS,)),
    Goal("one file of 10,000", "CPU s", most=3.5 / 1.8, against=("PyYAML, collector off",)),
]


def contestants(scope: Scope) -> Iterator[Contestant]:
    for size in scope.sizes(1_000, 10_000, quick=200):
        for case, files in ((f"{size:,} files", size), (f"one file of {size:,}", 1)):
            for name, tree in scope.trees:
                yield Contestant(case, name, partial(_fresh, ours, size, files, tree=tree))
            yield Contestant(case, PARTS, partial(_fresh, parts, size, files), reference=True)
            yield Contestant(case, "PyYAML, collector off", partial(_fresh, plain, size, files, False))
            yield Contestant(case, "PyYAML", partial(_fresh, plain, size, files, True))
            if not scope.quick:
                for library, pin in (("ryaml", "ryaml==0.5.1"), ("ruamel.yaml", "ruamel.yaml==0.19.1")):
                    yield Contestant(case, library, partial(_other, library, pin, size, files), rounds=2)


def written(size: int, files: int, folder: Path) -> Path:
    """Write `size` schedules into so many files; return their folder."""
    root, chance = folder / "schedules", random.Random(1)
    root.mkdir()
    entries = [_entry(number, chance) for number in range(size)]
    each = size // files
    for number in range(files):
        text = "schedules:\n" + "".join(entries[number * each : (number + 1) * each])
        (root / f"f{number:05}.yaml").write_text(text)
    return root


def _entry(number: int, chance: random.Random) -> str:
    day = chance.choice(["*", "*", "*", "MON-FRI", "1", "*/2"])
    return (
        f"  job-{number:05}:\n"
        f"    description: Nightly report of plant {number}\n"
        "    owner: wind-data\n"
        f'    cron: "{chance.randrange(60)} {chance.randrange(24)} * * {day}"\n'
        "    timezone: Europe/Berlin\n"
        f"    flow: {number + 1}\n"
        "    catch_up: latest\n"
        "    retry: {max_attempts: 6, deadline: 30m}\n"
    )


def _fresh(
    function: Callable[..., Figures], size: int, files: int, *more: Any, tree: Path | None = None
) -> Figures:
    *arguments, folder = more
    root = written(size, files, folder)
    return fresh(function, size, str(root), *arguments, **({"tree": tree} if tree else {}))


def _other(library: str, pin: str, size: int, files: int, folder: Path) -> Figures:
    root = written(size, files, folder)
    return told([str(environments.python(pin)), str(SCRIPT), library, str(root)])


def _measured(work: Callable[[], object]) -> Figures:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "CPU s": time.process_time() - cpu,
        "load s": time.perf_counter() - wall,
        "RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def ours(size: int, root: str) -> Figures:
    from flowsched import config  # noqa: PLC0415 - of the tree that is measured

    loaded: list[Any] = []
    load = config.load_catalog
    figures = _measured(lambda: loaded.append(load(root, None)))
    assert len(loaded[0].schedules) == size
    return figures


def parts(size: int, root: str) -> Figures:
    import yaml  # noqa: PLC0415
    from jsonschema import Draft7Validator  # noqa: PLC0415

    from flowsched import cron  # noqa: PLC0415
    from flowsched.config.schema import schema_document, written_out  # noqa: PLC0415

    document = schema_document("schedules")
    validator: Any = Draft7Validator(
        written_out(document, document["definitions"])
    )  # without look-ups: faster
    paths, found = sorted(Path(root).iterdir()), list[object]()
    gc.disable()

    def compose() -> None:
        for path in paths:
            yaml.compose(path.read_bytes(), Loader=yaml.CSafeLoader)

    def check() -> None:
        for each in data:
            assert not list(validator.iter_errors(each))
            found.extend(cron.parse(entry["cron"]) for entry in each["schedules"].values())

    composed = _measured(compose)
    data = [yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader) for path in paths]  # at no charge
    checked = _measured(check)
    assert len(found) == size
    return {name: composed[name] + checked[name] for name in ("CPU s", "load s")} | {
        "RSS MiB": checked["RSS MiB"]
    }


def plain(size: int, root: str, collector: bool) -> Figures:  # noqa: FBT001
    import yaml  # noqa: PLC0415

    found: list[Any] = []

    def work() -> None:
        if not collector:
            gc.disable()
        found.extend(
            yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader) for path in sorted(Path(root).iterdir())
        )

    figures = _measured(work)
    assert sum(len(each["schedules"]) for each in found) == size
    return figures
