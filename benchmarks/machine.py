"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.harness import ROOT


def description() -> str:
    """Return the processor, how many of its cores there are for us, and the kernel."""
    model = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
            break
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} {'core' if cores == 1 else 'cores'}, Linux {platform.release().partition('-')[0]}"
    )


def versions() -> dict[str, str]:
    """Return what runs here: flowsched, Python, SQLite, node, and what flowsched is built upon."""
    found = {
        "flowsched": _checkout(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }
    node = shutil.which("node")
    if node is not None:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        found["node"] = told.stdout.strip().removeprefix("v")
    for name in ("apscheduler", "h11", "sqlalchemy", "pyyaml", "jsonschema"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _checkout() -> str:
    version = metadata.version("flowsched")
    told = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{version} ({told.stdout.strip()})" if told.returncode == 0 else version
