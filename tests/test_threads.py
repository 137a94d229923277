"""Threads for what blocks: enough of them, and none that keeps the process from its end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from flowsched.threads import AllHang, Aside, Threads, in_a_thread
from tests.fakes import eventually

HANGS_FOR_EVER = """\
import asyncio, threading
from flowsched.threads import Aside

async def main():
    asyncio.get_running_loop().set_default_executor(Aside(2))
    hanging = asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))
    print(await asyncio.to_thread(lambda: "done beside"))

asyncio.run(main())
"""

COMES_BACK_TOO_LATE = """\
import asyncio, threading
from flowsched.threads import begun

release, answers = threading.Event(), []

def hang():
    release.wait(20)
    answers.append(threading.current_thread())

async def main():
    answers.append(begun("late", hang))

asyncio.run(main())
release.set()
while len(answers) < 2:
    pass
answers[1].join(20)
print("over")
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


def test_what_comes_back_after_the_loop_has_ended_concerns_nobody() -> None:
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", COMES_BACK_TOO_LATE], capture_output=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"over\n", b"")


async def test_a_thread_of_its_own_brings_back_what_comes_of_it() -> None:
    assert await in_a_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_a_thread(divmod, 7, 0)
    with pytest.raises(SystemExit):
        await in_a_thread(sys.exit, 1)


async def test_whoever_is_cancelled_waits_for_no_thread_and_hears_no_more_of_it() -> None:
    release, inside, faults = threading.Event(), list[threading.Thread](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    def hang() -> None:
        inside.append(threading.current_thread())
        release.wait(20)

    waiting = asyncio.create_task(in_a_thread(hang))
    await eventually(lambda: inside)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await eventually(lambda: not inside[0].is_alive())
    await asyncio.sleep(0)

    assert faults == []


async def test_a_place_is_taken_until_its_work_comes_back_whoever_waits() -> None:
    release, threads = threading.Event(), Threads("few", 2)
    with pytest.raises(TimeoutError):
        await threads.do(lambda: release.wait(20), 0.01)
    assert await threads.do(lambda: threading.current_thread().name, 20) == "few"
    with pytest.raises(TimeoutError):
        await threads.do(lambda: release.wait(20), 0.01)
    with pytest.raises(AllHang):
        await threads.do(int, 20)

    release.set()

    async def is_free() -> bool:
        try:
            return await threads.do(bool, 20) is False
        except AllHang:
            return False

    async with asyncio.timeout(20):
        while not await is_free():
            await asyncio.sleep(0.01)


async def test_where_the_machine_has_no_thread_no_place_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = Threads("one", 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(AllHang):
            await threads.do(int, 20)

    assert await threads.do(int, 20) == 0


async def test_work_that_takes_long_is_done_by_the_loop_where_no_thread_is_to_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)

    assert await in_a_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_a_thread(divmod, 7, 0)
