"""The peers, each in an environment of its own in a cache folder: made when first asked for, pinned."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Skip

PEERS = Path(__file__).resolve().parent / "peers"
"""Scripts and sources for the peers."""


@functools.cache
def python(*pins: str) -> str:
    """Return the path of an interpreter, this one's version, that has what is pinned (`name==version`)."""
    folder = _folder("python", pins)
    interpreter = folder / "bin" / "python"
    if not (folder / ".made").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], pins)
        _run(
            [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins], pins
        )
        (folder / ".made").touch()
    return str(interpreter)


@functools.cache
def node(*pins: str) -> Path:
    """Return a folder whose `node_modules` has what is pinned (`name@version`)."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Skip("no node and npm here")
    folder = _folder("node", pins)
    if not (folder / ".made").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps({"private": True}))
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        _run(["npm", "install", "--prefix", str(folder), "--save-exact", *quiet, *pins], pins)
        (folder / ".made").touch()
    return folder


@functools.cache
def compiled(source: str) -> Path:
    """Return the path of the program made from a C file among the peers."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Skip("no C compiler here")
    text = PEERS / source
    program = _folder("c", (source, text.read_text())) / text.stem
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        _run([compiler, "-O2", "-o", str(program), str(text)], (source,))
    return program


def _folder(kind: str, pins: tuple[str, ...]) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    made_from = json.dumps([kind, sys.version, *pins])
    return Path(cache) / "flowsched-bench" / f"{kind}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"


def _run(command: list[str], pins: tuple[str, ...]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise Skip(f"{' '.join(pins)} cannot be installed: {told[-1] if told else error}") from None
