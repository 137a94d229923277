"""Threads for what blocks: enough of them, and none that keeps the process from its end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from flowsched.daemon.aside import Aside
from tests.fakes import eventually

HANGS_FOR_EVER = """\
import asyncio, threading
from flowsched.daemon.aside import Aside

async def main():
    asyncio.get_running_loop().set_default_executor(Aside(2))
    hanging = asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))
    print(await asyncio.to_thread(lambda: "done beside"))

asyncio.run(main())
"""


async def test_what_is_asked_for_comes_back_and_so_does_what_goes_wrong() -> None:
    loop = asyncio.get_running_loop()
    with Aside(2) as aside:
        assert await loop.run_in_executor(aside, divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(aside, divmod, 7, 0)


async def test_there_are_as_many_threads_as_are_needed_and_no_more() -> None:
    release, inside, loop = threading.Event(), list[str](), asyncio.get_running_loop()

    def work() -> None:
        inside.append(threading.current_thread().name)
        release.wait(20)

    with Aside(3) as aside:
        one_by_one = {await loop.run_in_executor(aside, threading.get_ident) for _ in range(9)}
        works = [loop.run_in_executor(aside, work) for _ in range(5)]
        await eventually(lambda: len(inside) == 3)
        release.set()
        await asyncio.gather(*works)

    assert (len(one_by_one), len(set(inside))) == (1, 3)


async def test_after_the_end_its_threads_end_and_nothing_more_is_taken() -> None:
    aside = Aside(3)
    thread = await asyncio.get_running_loop().run_in_executor(aside, threading.current_thread)
    aside.shutdown()

    with pytest.raises(RuntimeError, match="the process ends"):
        aside.submit(int)
    await eventually(lambda: not thread.is_alive())


async def test_what_was_given_up_before_its_turn_is_not_done() -> None:
    release, done = threading.Event(), list[int]()
    with Aside(1) as aside:
        first, second = aside.submit(release.wait, 20), aside.submit(done.append, 1)
        assert second.cancel()
        release.set()
        await asyncio.wrap_future(first)
        await asyncio.wrap_future(aside.submit(int))

    assert done == []


def test_a_process_ends_though_something_hangs_for_ever() -> None:
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", HANGS_FOR_EVER], capture_output=True, timeout=20, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"done beside\n", b"")
