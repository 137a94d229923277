"""Arbitrary bytes as files, held against the commands that read them, guided by coverage.

Not a part of the test suite, and atheris none of its dependencies; CONTRIBUTING.md has the command. What is
between NULs are, in order: a schedule file, a test file, another state of the schedule file, flowsched.yaml.
"""

from __future__ import annotations

import contextlib
import io
import os
import pkgutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

ROOMS = ("blackouts", "config", "review", "cli.plan", "cli.reports")
with atheris.instrument_imports(include=["flowsched", "yaml", "cronsim", "icalendar"]):
    from flowsched.cli import UNEXPECTED, main

    # Most are imported on use, which is too late to be watched.
    for room in ROOMS:
        package = import_module(f"flowsched.{room}")
        for each in pkgutil.iter_modules(package.__path__):
            import_module(f"flowsched.{room}.{each.name}")
    for name in ("test", "validate"):
        import_module(f"flowsched.cli.{name}")

FILES = ("new/schedules/a.yaml", "new/schedules/a.test.yaml", "old/schedules/a.yaml", "new/flowsched.yaml")
SAID = io.StringIO()
"""One for all runs: click remembers each stream that it has written to."""
NOW = "2026-11-22T00:00Z"
LINES = [
    ["validate", "new/schedules", "--at", NOW],
    ["test", "--schedules", "new/schedules"],
    ["plan", "--from", "./old/schedules", "--to", "./new/schedules", "--at", NOW],
]


def one_input(data: bytes) -> None:
    """Write the files and run the commands; whatever is no clean end of one is a finding."""
    given = dict(zip(FILES, data.split(b"\0"), strict=False))
    for name in FILES:
        path = Path(name)
        path.unlink(missing_ok=True)
        if name in given:
            path.write_bytes(given[name])
    config = ["--config", FILES[3]] if given.get(FILES[3]) else []
    for line in LINES:
        _run([*config, *line])


def _run(line: list[str]) -> None:
    SAID.seek(0)
    SAID.truncate()
    with contextlib.redirect_stdout(SAID), contextlib.redirect_stderr(SAID):
        code = main(line)
    if code == UNEXPECTED:
        raise AssertionError(f"{line} ended with {code}: {SAID.getvalue()}")


if __name__ == "__main__":
    # libFuzzer's own arguments name folders; they are meant from where it was started.
    arguments = [str(Path(each).resolve()) if Path(each).exists() else each for each in sys.argv]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in FILES:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()
