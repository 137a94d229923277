"""The house stays as drawn: who may import whom, what is pure, what is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flowsched"

ROWS = {
    "model": 1, "errors": 1, "clock": 1, "threads": 1,
    "durations": 2, "near": 2, "hosts": 2, "cron": 2, "events": 2, "causes": 2, "traceparent": 2,
    "blackouts": 3,
    "timeline": 4, "admission": 4, "retry": 4,
    "review": 5, "audit": 5, "config": 5, "enos": 5, "git": 5, "ledger": 5,
    "runner": 6, "engine": 6, "ops": 6,
    "alerts": 7, "control": 7,
    "daemon": 8,
    "cli": 9,
}  # fmt: skip
"""A room imports only from rows above it, and from itself."""

ASIDE = {"simulator": {"clock", "model", "errors"}}
"""The simulator stands beside the house: it must not know the client it is to judge."""

PURE = ["model.py", "errors.py", "events.py", "causes.py", "traceparent.py",
        "durations.py", "near.py", "hosts.py", "timeline.py", "admission.py",
        "retry.py", "audit.py", "cron/blocks.py",
        "cron/evaluator.py", "cron/fields.py", "cron/words.py", "config/parser.py", "ledger/transitions.py",
        "runner/unfinished.py", "config/points.py", "cron/lint.py",
        "config/calendars.py", "config/closed_times.py",
        "enos/signing.py", "enos/requests.py", "enos/replies.py", "enos/readings.py", "enos/meaning.py",
        "enos/sightings.py", "enos/token_meaning.py", "enos/offsets.py", "enos/proxies.py",
        "enos/messages.py",
        "config/templates.py", "config/urls.py", "config/channels.py",
        *(f"alerts/{name}.py" for name in ("deciding", "gathering", "messages", "pinging", "tries")),
        "control/documents.py", "control/fields.py", "control/who.py", "control/words.py",
        "cli/status_words.py",
        "simulator/signature.py", "simulator/instances.py", "simulator/faults.py",
        *(f"{folder}/{path.name}"
          for folder in ("review", "blackouts") for path in sorted((PACKAGE / folder).glob("*.py")))
        ]  # fmt: skip

IMPURE_MODULES = {"asyncio", "http", "importlib", "io", "logging", "os", "pathlib", "random", "secrets",
                  "shutil", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
                  "httpx", "sqlalchemy"}  # fmt: skip

OWNERS = {"httpx": {"enos", "alerts", "control"}, "h11": {"enos", "simulator"},
          "starlette": "control", "uvicorn": "control",
          "prometheus_client": "ops", "opentelemetry": "ops", "watchfiles": "daemon", "smtplib": "alerts",
          "apscheduler": "engine", "sqlalchemy": "ledger", "sqlite3": "ledger",
          "yaml": "config", "jsonschema": "config", "cronsim": "cron", "random": "clock",
          "subprocess": {"git", "alerts"}, "icalendar": "blackouts", "recurring_ical_events": "blackouts",
          "holidays": "blackouts"}  # fmt: skip
"""What only these rooms may import. EnOS is called by h11; of httpx, `enos` takes whom TLS trusts."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every module imported anywhere in the file, also inside functions and for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "flowsched":
                names.update(f"flowsched.{alias.name}" for alias in node.names)
            else:
                names.add(node.module)
    return names


def rooms_imported(path: Path) -> set[str]:
    inside = {name.split(".")[1] for name in imported(path) if name.startswith("flowsched.")}
    return (inside - {"__version__"}) - {room(path)}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rows_above_it(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "__main__"):
        return
    allowed = ASIDE.get(here) or {name for name, row in ROWS.items() if row < ROWS[here]}
    if here == "cli":
        allowed |= {"simulator"}

    assert rooms_imported(path) <= allowed


@pytest.mark.parametrize("name", PURE)
def test_a_pure_room_touches_no_clock_no_io_and_no_log(name: str) -> None:
    path = PACKAGE / name

    assert not {module.split(".")[0] for module in imported(path)} & IMPURE_MODULES
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not called & {"now", "utcnow", "today", "monotonic", "open", "print", "input", "getenv"}


@pytest.mark.parametrize(("library", "owner"), OWNERS.items())
def test_a_library_has_its_owners(library: str, owner: str | set[str]) -> None:
    users = {room(path) for path in modules() if library in {name.split(".")[0] for name in imported(path)}}

    assert users == ({owner} if isinstance(owner, str) else owner)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_clock_reads_the_time(path: Path) -> None:
    readers = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter"}
    calls = [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in readers
    ]
    foreign = [call for call in calls if call.split(".")[0] in ("datetime", "date", "time", "dt")]

    assert room(path) == "clock" or not foreign


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from flowsched.cli import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'sqlalchemy', 'httpx', 'jsonschema', 'yaml', 'apscheduler', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'heavy: {heavy}' if heavy else code)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_class_is_named_for_what_it_is_not(path: Path) -> None:
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]

    assert not [name for name in names if name.endswith(("Manager", "Helper", "Util", "Utils", "Service"))]
