"""A message to a program, on its standard input."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

from flowsched.alerts.tries import Tried

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT = 30.0
"""Real seconds that a program has."""

_PATH = "/usr/local/bin:/usr/bin:/bin"


async def tell(argv: Sequence[str], content: bytes, environ: Mapping[str, str]) -> Tried:
    """Run a program, and give it `content`. It gets PATH and LANG of `environ`, and what it says is lost.

    After TIMEOUT, or when this is cancelled, it is killed with all of its group. Raises nothing.
    """
    env = {"PATH": environ.get("PATH", _PATH), "LANG": environ.get("LANG", "C.UTF-8")}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return Tried(ok=False, detail=f"{argv[0]} cannot be run: {error.strerror}")
    try:
        async with asyncio.timeout(TIMEOUT):
            await process.communicate(content)
    except TimeoutError:
        return Tried(ok=False, detail=f"{argv[0]} did not end within {TIMEOUT:.0f} s")
    finally:
        await _end(process)
    if process.returncode:
        return Tried(ok=False, detail=f"{argv[0]} {_ended(process.returncode)}")
    return Tried(ok=True, detail="exit code 0")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a program that has not ended, with its group: an ended one has no number of its own any more."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _ended(code: int) -> str:
    return f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
