"""Schedules that are read anew: never half of a change, never from a disk that is waited for in vain."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flowsched import git
from flowsched.config import Kept, fingerprint, fingerprints
from flowsched.daemon import read_catalog, reading
from flowsched.daemon.disk import Disk, Unanswered
from flowsched.daemon.reading import Course, look_at, read_first, read_settled
from flowsched.daemon.reloads import MOST_LOGGED, RELOAD_PAUSE
from flowsched.errors import ConfigError, LedgerError
from flowsched.model import ReloadOutcome
from tests.fakes import HandClock, a_moment, eventually, look_ups_that_hang
from tests.reloading import House, Meddled, a_file, a_house, settings_in
from tests.repositories import Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flowsched.model import Settings

APPLIED, UNCHANGED, REFUSED = ReloadOutcome.APPLIED, ReloadOutcome.UNCHANGED, ReloadOutcome.REFUSED


@pytest.fixture
def schedules(tmp_path: Path) -> Path:
    """A folder with two files of one schedule each."""
    folder = tmp_path / "schedules"
    write(folder, a=a_file("a1"), b=a_file("b1"))
    return folder


@pytest.fixture
async def house(tmp_path: Path, schedules: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path) as house:
        yield house


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def put(file: Path, text: str) -> None:
    """Replace a file as editors and deployments do: by renaming another to it."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.rename(file)


def holds(file: Path, text: str) -> bool:
    """Tell whether a text is in a file, which may just be made anew."""
    with suppress(FileNotFoundError):
        return text in file.read_text()
    return False


def lead(link: Path, to: str) -> None:
    """Have a symbolic link lead elsewhere, in one step."""
    beside = link.with_name(f"{link.name}.new")
    beside.symlink_to(to)
    beside.rename(link)


def read_in_the_middle(settings: Settings, act: Callable[[], object], *, at: int = 2) -> set[str]:
    """Return the ids that are read where something happens before the second file."""
    found = read_settled(settings, Meddled(at, act)).catalog
    assert found
    return set(found.schedules)


# What is read is what lay there at one moment.


def test_a_file_that_is_replaced_meanwhile_is_read_again(tmp_path: Path, schedules: Path) -> None:
    def edit() -> None:
        put(schedules / "a.yaml", a_file("a2"))
        put(schedules / "b.yaml", a_file("b2"))

    assert read_in_the_middle(settings_in(tmp_path), edit) == {"a2", "b2"}


def test_a_file_that_is_written_over_in_place_is_read_again(tmp_path: Path, schedules: Path) -> None:
    def edit() -> None:
        write(schedules, a=a_file("a2"), b=a_file("b2"))  # as long as before

    assert read_in_the_middle(settings_in(tmp_path), edit) == {"a2", "b2"}


def test_a_link_that_is_made_to_lead_elsewhere_meanwhile_is_followed_again(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / f"release{number}", a=a_file(f"a{number}"), b=a_file(f"b{number}"))
    current = tmp_path / "current"
    current.symlink_to("release1")

    found = read_in_the_middle(settings_in(tmp_path, "current"), lambda: lead(current, "release2"))

    assert found == {"a2", "b2"}


def test_a_link_above_the_folder_counts_as_well(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"release{number}").mkdir()
        files = {"a": a_file(f"a{number}"), "b": a_file(f"b{number}")}
        write(tmp_path / f"release{number}" / "schedules", **files)
    current = tmp_path / "current"
    current.symlink_to("release1")

    found = read_in_the_middle(settings_in(tmp_path, "current/schedules"), lambda: lead(current, "release2"))

    assert found == {"a2", "b2"}


def test_a_folder_as_kubernetes_mounts_it_is_read_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "schedules"
    folder.mkdir()
    for number in (1, 2):
        write(folder / f"..{number}", a=a_file(f"a{number}"), b=a_file(f"b{number}"))
    (folder / "..data").symlink_to("..1")
    for name in ("a.yaml", "b.yaml"):
        (folder / name).symlink_to(f"..data/{name}")

    found = read_in_the_middle(settings_in(tmp_path), lambda: lead(folder / "..data", "..2"))

    assert found == {"a2", "b2"}


def test_a_link_that_leads_elsewhere_and_back_shows(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / f"release{number}", a=a_file(f"a{number}"), b=a_file(f"b{number}"))
    current = tmp_path / "current"
    current.symlink_to("release1")
    settings = settings_in(tmp_path, "current")
    before = look_at(settings)
    lead(current, "release2")
    lead(current, "release1")

    assert before.unrest(look_at(settings))


def test_a_folder_that_is_replaced_as_a_whole_meanwhile_is_read_again(
    tmp_path: Path, schedules: Path
) -> None:
    write(tmp_path / "next", a=a_file("a2"), b=a_file("b2"))

    def replace() -> None:
        schedules.rename(tmp_path / "old")
        (tmp_path / "next").rename(schedules)

    assert read_in_the_middle(settings_in(tmp_path), replace) == {"a2", "b2"}


def test_a_file_that_comes_meanwhile_is_read(tmp_path: Path, schedules: Path) -> None:
    found = read_in_the_middle(settings_in(tmp_path), lambda: write(schedules, c=a_file("c1")))

    assert found == {"a1", "b1", "c1"}


def test_a_file_that_comes_and_goes_shows(tmp_path: Path, schedules: Path) -> None:
    settings = settings_in(tmp_path)
    before = look_at(settings)
    write(schedules, c=a_file("c1"))
    (schedules / "c.yaml").unlink()

    assert before.unrest(look_at(settings))


def test_a_file_that_is_written_over_and_dated_back_shows(tmp_path: Path, schedules: Path) -> None:
    settings = settings_in(tmp_path)
    before, status = look_at(settings), (schedules / "a.yaml").stat()
    write(schedules, a=a_file("a2"))
    os.utime(schedules / "a.yaml", ns=(status.st_atime_ns, status.st_mtime_ns))

    assert not before.shows_the_same(look_at(settings))


@pytest.mark.parametrize("age", [1, 3])
def test_a_file_that_was_just_written_is_read_again_though_it_looks_the_same(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch, age: int
) -> None:
    settings, kept = settings_in(tmp_path), Kept()
    look = look_at(settings)
    written_at = max((schedules / name).stat().st_ctime_ns for name in ("a.yaml", "b.yaml"))
    # As on a disk that dates by seconds: whatever is written, all looks the same.
    monkeypatch.setattr(reading, "look_at", lambda *_: look)
    monkeypatch.setattr(
        reading, "SystemClock", lambda: HandClock(datetime.fromtimestamp(written_at / 1e9 + age, UTC))
    )
    read_settled(settings, kept=kept)
    write(schedules, a=a_file("a2"))

    found = read_settled(settings, kept=kept).catalog

    assert found
    assert sorted(found.schedules) == [("a2" if age == 1 else "a1"), "b1"]


def test_what_is_written_between_look_and_reading_is_not_taken_for_what_was_seen(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RACY", timedelta(days=-1))
    settings, kept = settings_in(tmp_path), Kept()
    read_settled(settings, kept=kept)

    texts = iter([a_file("a2"), a_file("a3")])
    found = [
        read_settled(settings, Meddled(at, lambda: write(schedules, a=next(texts))), kept=kept).catalog
        for at in (0, 2)
    ]

    assert [each and sorted(each.schedules) for each in found] == [["a2", "b1"], ["a3", "b1"]]


def test_a_half_written_set_is_not_even_refused(tmp_path: Path, schedules: Path) -> None:
    write(schedules, a="schedules: {a1: {cron: ")

    found = read_settled(settings_in(tmp_path), Meddled(1, lambda: write(schedules, a=a_file("a2"))))

    assert found.catalog
    assert sorted(found.catalog.schedules) == ["a2", "b1"]


CALENDARS = (
    "calendars: {works: {ical: [.closed]}}\n"
    "schedules: {c: {cron: '0 1 * * *', timezone: UTC, flow: 1,"
    " blackout: {calendars: [works], then: skip}}}\n"
)


def closed_on(day: str) -> str:
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n"
        f"DTSTART;VALUE=DATE:{day}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )


def test_a_hidden_file_that_another_names_counts_as_well(tmp_path: Path, schedules: Path) -> None:
    write(schedules, c=CALENDARS, d=a_file("d"))
    hidden = schedules / ".closed"
    hidden.write_text(closed_on("20260101"))
    settings = settings_in(tmp_path)
    before = read_settled(settings)
    expected = before.catalog

    readings = iter(range(1, 10))

    def edit_in_the_second() -> None:
        if next(readings) == 2:
            hidden.write_text(closed_on("20260202"))

    found = read_settled(settings, Meddled(4, edit_in_the_second, times=9))

    assert expected
    assert found.catalog
    assert found.catalog.revision != expected.revision
    assert found.catalog.revision == read_catalog(settings).revision
    assert next(readings) == 4
    assert before.look
    assert found.look
    assert not before.look.shows_the_same(found.look)


def test_what_names_a_file_that_is_not_there_sees_it_come(tmp_path: Path, schedules: Path) -> None:
    write(schedules, c=CALENDARS)
    settings = settings_in(tmp_path)
    before = read_settled(settings)
    (schedules / ".closed").write_text(closed_on("20260101"))

    assert before.catalog is None
    assert before.look
    assert not before.look.shows_the_same(look_at(settings, before.look.beside))


def test_a_file_that_does_not_count_is_no_news(tmp_path: Path, schedules: Path) -> None:
    settings = settings_in(tmp_path)
    before = look_at(settings)
    for name in ("notes.txt", ".a.yaml.swp", "a.test.yaml"):
        (schedules / name).write_text("")

    assert before.shows_the_same(look_at(settings))


def test_files_that_never_rest_are_refused_with_what_keeps_changing(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SETTLE_AT_MOST", 0.2)
    number = iter(range(1000))

    found = read_settled(
        settings_in(tmp_path), Meddled(1, lambda: put(schedules / "b.yaml", a_file(f"b{next(number)}")), 1000)
    )

    assert found.catalog is None
    assert [str(each) for each in found.problems] == [
        f"{schedules}: keeps changing, last {schedules}/b.yaml; allowed: {reading.AT_REST}"
    ]


def test_a_load_that_takes_long_is_not_refused_for_that(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SETTLE_AT_MOST", 0.0)

    assert read_settled(settings_in(tmp_path)).catalog


def test_what_is_written_a_tick_apart_has_another_date(tmp_path: Path, schedules: Path) -> None:
    """The fact about Linux that a reading relies on: a second writing does not hide behind the first."""
    settings, course = settings_in(tmp_path), Course()
    for number in range(30):
        write(schedules, a=a_file(f"a{number:02}"))
        course.rest(reading.TICK)
        before = look_at(settings)
        write(schedules, a=a_file(f"b{number:02}"))

        assert before.unrest(look_at(settings))


# Git.


def test_nothing_is_read_while_git_has_its_lock(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SETTLE_AT_MOST", 0.2)
    Work.made(tmp_path).commit()
    lock = tmp_path / ".git" / "index.lock"
    lock.touch()
    refused = read_settled(settings_in(tmp_path))
    threading.Timer(0.1, lock.unlink).start()
    read = read_settled(settings_in(tmp_path))

    assert refused.catalog is None
    assert str(refused.problems[0]).startswith(
        f"{schedules}: is being changed by git, or git was ended while it did so: {lock} is there; allowed: "
    )
    assert refused.look
    assert not refused.look.shows_the_same(look_at(settings_in(tmp_path)))
    assert read.catalog


def test_a_checkout_half_way_is_waited_for(tmp_path: Path, schedules: Path) -> None:
    """Git is stopped in the middle by a filter of its own, which waits until a file is there."""
    work = Work.made(tmp_path)
    (tmp_path / ".git" / "info" / "attributes").write_text("b.yaml filter=slow\n")
    first = work.commit()
    write(schedules, a=a_file("a2"), b=a_file("b2"))
    second = work.commit()
    work.git("checkout", "--quiet", first)
    go_on = tmp_path / "go-on"
    work.git("config", "filter.slow.smudge", f"sh -c 'while [ ! -e {go_on} ]; do sleep 0.01; done; cat'")
    checkout = subprocess.Popen(["git", "checkout", "--quiet", second], cwd=tmp_path)  # noqa: S603, S607
    try:
        while not holds(schedules / "a.yaml", "a2"):
            assert checkout.poll() is None
        timer = threading.Timer(0.3, go_on.touch)
        timer.start()
        found = read_catalog(settings_in(tmp_path))
        timer.join()
    finally:
        go_on.touch()
        assert checkout.wait(20) == 0

    assert sorted(found.schedules) == ["a2", "b2"]


def test_files_of_a_commit_that_is_made_meanwhile_are_read_again_and_known_as_its(
    tmp_path: Path, schedules: Path
) -> None:
    work = Work.made(tmp_path)
    first = work.commit()
    made: list[str] = []

    found = read_settled(settings_in(tmp_path), Meddled(1, lambda: made.append(work.commit()))).catalog

    assert found
    assert found.commit
    assert found.commit.id == made[0] != first


@pytest.mark.parametrize("kind", ["packed", "worktree", "detached", "branch"])
def test_another_commit_is_seen_however_git_keeps_it(tmp_path: Path, kind: str) -> None:
    work = Work.made(tmp_path / "origin")
    work.commit(**{"schedules/a.yaml": a_file("a1")})
    if kind == "packed":
        work.git("pack-refs", "--all")
    elif kind == "worktree":
        work.git("worktree", "add", "--quiet", "-b", "other", str(tmp_path / "tree"))
        work = Work(tmp_path / "tree")
    elif kind == "detached":
        work.git("checkout", "--quiet", "--detach")
    settings = settings_in(tmp_path, f"{work.root.name}/schedules")
    before = look_at(settings)
    work.git("commit", "--quiet", "--allow-empty", "-m", "nothing")

    assert not before.shows_the_same(look_at(settings))


def test_a_broken_repository_has_no_signs(tmp_path: Path, schedules: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")

    assert git.signs_of(schedules) == git.Signs(Path("/nowhere/index.lock"), (Path("/nowhere/HEAD"),))
    assert read_settled(settings_in(tmp_path)).catalog


# What a look shows.


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.yaml").unlink(),
        lambda folder: (folder / "a.yaml").write_text("x"),
        lambda folder: put(folder / "a.yaml", (folder / "a.yaml").read_text()),
        lambda folder: (folder / "a.yaml").rename(folder / "c.yaml"),
        lambda folder: (folder / "deep" / "c.yml").write_text(""),
        lambda folder: (folder / "more").mkdir(),
        lambda folder: (folder / "b.yaml").chmod(0),
        lambda folder: (folder / "nowhere").symlink_to("elsewhere"),
        lambda folder: folder.rename(folder.with_name("away")),
    ],
)
def test_whatever_is_done_to_the_files_shows(schedules: Path, change: Callable[[Path], object]) -> None:
    (schedules / "deep").mkdir()
    before = fingerprint(str(schedules))
    change(schedules)

    assert not before.has_same_files(fingerprint(str(schedules)))


def test_a_look_ends_where_links_lead_in_circles(schedules: Path) -> None:
    (schedules / "round").symlink_to(".")
    (schedules / "itself").symlink_to("itself")
    (schedules / "other.yaml").symlink_to("../schedules/other.yaml")

    marks = fingerprint(str(schedules)).files

    assert marks[f"{schedules}/itself"][0] == "error"
    assert f"{schedules}/round/a.yaml" not in marks


# Disks that do not answer.


class Hang:
    """A reading that does not end until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun = 0

    def __call__(self, *_: Any) -> Any:
        self.begun += 1
        self.released.wait(30)
        return self.begun


async def test_a_reading_that_hangs_is_given_up_and_no_other_is_begun() -> None:
    disk, hang = Disk(answer_within=0.05), Hang()
    with pytest.raises(Unanswered, match=r"cannot be read: no answer within 0.05 s"):
        await disk.ask(hang)
    with pytest.raises(Unanswered, match="an earlier reading still hangs"):
        await disk.ask(hang)
    assert (disk.hangs, hang.begun) == (True, 1)

    hang.released.set()
    await eventually(lambda: not disk.hangs)
    assert await disk.ask(hang) == 2


async def test_a_reading_that_comes_on_is_waited_for() -> None:
    def slowly(course: Course) -> str:
        for _ in range(8):
            course.rest(0.1)
        return "read"

    assert await Disk(answer_within=0.6).ask(slowly) == "read"


async def test_what_goes_wrong_in_the_thread_is_raised_where_it_was_asked_for() -> None:
    def fail(_: Course) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Disk().ask(fail)


async def test_one_thing_is_read_at_a_time() -> None:
    disk, hang = Disk(), Hang()
    first, second = asyncio.create_task(disk.ask(hang)), asyncio.create_task(disk.ask(hang))
    await a_moment()
    begun = hang.begun
    hang.released.set()

    assert begun == 1
    assert (await first, await second) == (1, 2)


def test_a_process_ends_though_its_disk_hangs() -> None:
    script = (
        "import asyncio, threading\n"
        "from flowsched.daemon.disk import Disk, Unanswered\n"
        "async def main():\n"
        "    try:\n"
        "        await Disk(0.05).ask(lambda _: threading.Event().wait())\n"
        "    except Unanswered:\n"
        "        print('given up')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=20, check=False)  # noqa: S603

    assert (done.returncode, done.stdout, done.stderr) == (0, b"given up\n", b"")


async def test_schedules_stay_in_force_and_fire_while_the_disk_hangs(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    hang = Hang()
    house.disk._answer_within = 0.3
    house.read = hang
    refused = await house.reload()
    again = await house.reload()
    assert isinstance(house.clock, HandClock)
    house.clock.advance(60)
    await eventually(lambda: len(house.gateway.requests) == 2)
    hang.released.set()
    await eventually(lambda: not house.disk.hangs)
    house.disk._answer_within = 20
    house.read = read_settled
    at_last = await house.reload()

    assert (refused.outcome, again.outcome, at_last.outcome) == (REFUSED, REFUSED, UNCHANGED)
    assert refused.problems == (f"{house.settings.schedules}: cannot be read: no answer within 0.3 s",)
    assert again.problems == (f"{house.settings.schedules}: cannot be read: an earlier reading still hangs",)
    assert (hang.begun, house.in_force) == (1, ["a1", "b1"])


async def test_a_reload_needs_none_of_the_threads_that_look_ups_may_have(
    house: House, schedules: Path
) -> None:
    async with look_ups_that_hang():
        await house.start()
        write(schedules, a=a_file("a1", "a2"))
        reload = await house.reload()

    assert (reload.outcome, house.in_force) == (ReloadOutcome.APPLIED, ["a1", "a2", "b1"])


async def test_a_folder_that_vanishes_and_comes_back(house: House, tmp_path: Path, schedules: Path) -> None:
    os.rename(schedules, tmp_path / "away")  # noqa: PTH104 - ruff takes no Path here
    gone = await house.reload()
    kept = house.in_force
    os.rename(tmp_path / "away", schedules)  # noqa: PTH104
    back = await house.reload()

    assert (gone.outcome, gone.revision, back.outcome) == (REFUSED, None, UNCHANGED)
    named = f"{schedules}: does not exist; {house.settings.schedules_place} names it"
    assert gone.problems == (named,)
    assert kept == ["a1", "b1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a device that gives nothing but errors")
def test_what_the_disk_does_not_give_may_be_readable_though_it_looks_the_same(
    tmp_path: Path, schedules: Path
) -> None:
    (schedules / "b.yaml").unlink()
    # The memory of this process at address 0: a regular file that fails to be read, with EIO.
    (schedules / "b.yaml").symlink_to(f"/proc/{os.getpid()}/mem")

    found = read_settled(settings_in(tmp_path))

    assert found.catalog is None
    assert "cannot be read: Input/output error" in str(found.problems[0])
    assert found.look is None


def test_a_look_ends_where_a_load_does(schedules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "MOST_ENTRIES", 3)
    write(schedules, **{name: a_file(name) for name in "abcd"})

    found = fingerprint(str(schedules))

    assert found.files.keys() == {str(schedules), str(schedules / "a.yaml"), str(schedules / "b.yaml")}


# Asking.


async def test_of_files_that_stay_the_same_a_reload_takes_what_it_has(
    tmp_path: Path, schedules: Path
) -> None:
    write(schedules, a=a_file("a1"), b=a_file("b1"))
    async with a_house(tmp_path) as house:
        house.read = partial(read_settled, kept=Kept())
        await house.reload()
        write(schedules, a=a_file("a1", cron="*/2 * * * *"))
        await house.reload()
        before = house.daemon.catalog.schedules
        write(schedules, a=a_file("a1", cron="*/3 * * * *"))

        reload = await house.reload()

        assert reload.outcome is ReloadOutcome.APPLIED
        assert house.daemon.catalog.schedules["a1"].timing.cron == "*/3 * * * *"
        assert house.daemon.catalog.schedules["b1"] is before["b1"]


async def test_an_ask_gets_a_reading_that_begins_after_it(house: House, schedules: Path) -> None:
    hold = Hang()

    def read_and_wait(settings: Settings, course: Course) -> Any:
        found = read_settled(settings, course)
        if not hold.released.is_set():
            hold()
        return found

    house.read = read_and_wait
    first = house.reloads.ask("first")
    await eventually(lambda: hold.begun)
    put(schedules / "a.yaml", a_file("a2"))
    second, third = house.reloads.ask("second"), house.reloads.ask("third")
    hold.released.set()

    assert [(each.outcome, each.why) for each in (await first, await second, await third)] == [
        (UNCHANGED, "first"),
        (APPLIED, "second, third"),
        (APPLIED, "second, third"),
    ]
    assert house.in_force == ["a2", "b1"]
    assert house.readings == 2


async def test_who_asks_while_the_ledger_refuses_is_told_at_the_end(
    house: House, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = 2
    apply = house.ledger.standing_terms

    async def refuse(*arguments: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise LedgerError("busy")
        return await apply(*arguments)

    monkeypatch.setattr(house.ledger, "standing_terms", refuse)
    put(schedules / "a.yaml", a_file("a2"))
    first = house.reloads.ask("first")
    assert isinstance(house.clock, HandClock)
    clock = house.clock
    await eventually(lambda: refusals == 1)
    await eventually(lambda: RELOAD_PAUSE in clock.sleeping)
    put(schedules / "b.yaml", a_file("b2"))
    second = house.reloads.ask("second")
    told_early = first.done()
    for _ in range(2):
        await eventually(lambda: RELOAD_PAUSE in clock.sleeping)
        clock.advance(RELOAD_PAUSE)
        await a_moment()

    async with asyncio.timeout(10):
        outcomes = [(await each).outcome for each in (first, second)]
    assert not told_early
    assert outcomes == [APPLIED, UNCHANGED]
    assert house.in_force == ["a2", "b2"]


async def test_who_asks_is_told_when_the_daemon_stops(house: House, tmp_path: Path) -> None:
    hang = Hang()
    house.read = hang
    under_way = house.reloads.ask("SIGHUP")
    await eventually(lambda: hang.begun)
    waiting = house.reloads.ask("by ada")
    async with asyncio.timeout(5):
        await house.stop()
        outcomes = [await under_way, await waiting, await house.reloads.ask("later")]
    hang.released.set()

    assert {each.outcome for each in outcomes} == {REFUSED}
    assert {each.problems for each in outcomes} == {("the daemon is stopping, and reads nothing any more",)}


async def test_a_stop_while_a_catalog_is_being_applied_loses_and_doubles_nothing(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    async with a_house(tmp_path, clock=clock) as house:
        apply, applying = house.ledger.apply, asyncio.Event()

        async def apply_slowly(*arguments: Any) -> Any:
            cursors = await apply(*arguments)
            applying.set()
            await asyncio.sleep(30)
            return cursors

        monkeypatch.setattr(house.ledger, "apply", apply_slowly)
        put(schedules / "a.yaml", a_file("a2"))
        asked = house.reloads.ask("SIGHUP")
        async with asyncio.timeout(10):
            await applying.wait()
            await house.stop()
            assert (await asked).outcome is REFUSED
        clock.advance(60)
    async with a_house(tmp_path, clock=clock) as again:
        await eventually(lambda: len(again.gateway.requests) == 2)
        clock.advance(60)
        await eventually(lambda: len(again.gateway.requests) == 4)
        runs = await again.ledger.runs()

    assert sorted((run.schedule_id, run.fire_time.minute) for run in runs) == [
        ("a2", 1), ("a2", 2), ("b1", 1), ("b1", 2),
    ]  # fmt: skip


async def test_an_acceptance_counts_for_what_is_read_then(tmp_path: Path, schedules: Path) -> None:
    write(schedules, b=a_file(*(f"b{n}" for n in range(12))))
    async with a_house(tmp_path, max_change=25) as house:
        write(schedules, b=a_file("b0"))
        held = await house.reload()
        assert held.revision
        hold = Hang()

        def read_and_wait(settings: Settings, course: Course) -> Any:
            found = read_settled(settings, course)
            hold()
            return found

        house.read = read_and_wait
        under_way = house.reloads.ask("SIGHUP")
        await eventually(lambda: hold.begun)
        await house.ledger.accept(held.revision, house.clock.now(), "ada", None)
        hold.released.set()
        applied = await under_way

    assert (held.outcome, applied.outcome) == (ReloadOutcome.HELD, APPLIED)
    assert held.problems[0].startswith("of 13 enabled schedules 11 removed")


async def test_a_refused_set_lets_go_what_is_held(tmp_path: Path, schedules: Path) -> None:
    write(schedules, b=a_file(*(f"b{n}" for n in range(12))))
    async with a_house(tmp_path, max_change=25) as house:
        write(schedules, b=a_file("b0"))
        await house.reload()
        held = house.daemon.held
        write(schedules, b="nonsense")
        await house.reload()

        assert held
        assert house.daemon.held is None


# The log.


async def test_a_refused_set_is_logged_with_its_first_problems_and_how_many_more(
    house: House, schedules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(schedules, b="schedules:\n" + "".join(f"  bad{n}: {{}}\n" for n in range(50)))

    refused = await house.reload()
    again = await house.reload()

    lines = [vars(each)["problem"] for each in caplog.records if each.msg.startswith("catalog refused")]
    assert len(lines) == 2 * (MOST_LOGGED + 1)  # whoever asks is answered in the log, too
    assert lines[MOST_LOGGED] == (
        f"{len(refused.problems) - MOST_LOGGED} more problems; `flowsched validate` lists them"
    )
    assert refused.problems == again.problems


async def test_a_fault_of_ours_is_an_outcome(house: House, schedules: Path) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("oh")

    house.read = fail
    failed = await house.reload()
    house.read = read_settled

    assert (failed.outcome, failed.problems) == (
        ReloadOutcome.FAILED,
        ("a fault of flowsched: ZeroDivisionError: oh",),
    )
    assert (await house.reload()).outcome is UNCHANGED
    assert [each.outcome for each in house.outcomes] == [APPLIED, ReloadOutcome.FAILED, UNCHANGED]


# A start, before which nothing was in force.


@pytest.fixture
def lock(tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of a git that was ended a moment ago."""
    monkeypatch.setattr(reading, "SETTLE_AT_MOST", 0.3)
    Work.made(tmp_path).commit()
    lock = tmp_path / ".git" / "index.lock"
    lock.touch()
    return lock


def meddle(act: Callable[[], object], *, until: threading.Event) -> threading.Thread:
    """Do something again and again, in a thread of its own."""

    def work() -> None:
        while not until.wait(0.01):
            act()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_start_reads_past_a_lock_that_nobody_touches_and_names_it(
    tmp_path: Path, lock: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog, look = read_first(settings_in(tmp_path))

    assert sorted(catalog.schedules) == ["a1", "b1"]
    assert catalog.commit
    assert look
    assert look.shows_the_same(look_at(settings_in(tmp_path)))
    assert lock.exists()
    (said,) = caplog.records
    assert said.levelno == logging.WARNING
    assert said.message.startswith("schedules are read although git has a lock, which seems to be left over")
    assert vars(said)["lock"] == str(lock)


@pytest.mark.parametrize("which", ["the lock", "a file"])
def test_a_start_reads_nothing_while_git_is_at_work(tmp_path: Path, lock: Path, which: str) -> None:
    touched = lock if which == "the lock" else tmp_path / "schedules" / "a.yaml"
    done = threading.Event()
    busy = meddle(touched.touch, until=done)
    try:
        with pytest.raises(ConfigError, match=f"is being changed by git, .*: {lock} is there"):
            read_catalog(settings_in(tmp_path))
    finally:
        done.set()
        busy.join()


def test_an_old_lock_does_not_hold_up_a_start(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "SETTLE_AT_MOST", 10.0)
    made = lock.stat().st_mtime - reading.LEFT_OVER_AFTER
    os.utime(lock, (made, made))

    began = time.monotonic()
    assert sorted(read_catalog(settings_in(tmp_path)).schedules) == ["a1", "b1"]
    assert time.monotonic() - began < reading.SETTLE_AT_MOST
    assert [vars(each)["lock"] for each in caplog.records] == [str(lock)]


def test_a_lock_is_not_known_by_its_name(tmp_path: Path, lock: Path) -> None:
    """A new git begins its work right after the lock of another was found to be left over."""
    left_over = look_at(settings_in(tmp_path)).lock
    beside = lock.with_name("other")
    beside.touch()
    beside.rename(lock)

    refused = read_settled(settings_in(tmp_path), left_over=left_over)

    assert refused.catalog is None
    assert refused.left_over == look_at(settings_in(tmp_path)).lock != left_over


def test_problems_of_the_files_end_a_start_whether_there_is_a_lock_or_not(
    tmp_path: Path, schedules: Path, lock: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(schedules, a="schedules: {}\nmore: 1\n")

    with pytest.raises(ConfigError, match=r"a\.yaml:2:1: "):
        read_catalog(settings_in(tmp_path))
    assert caplog.records == []


async def test_a_reload_is_refused_while_the_lock_of_the_start_is_there(tmp_path: Path, lock: Path) -> None:
    async with a_house(tmp_path, watch=True) as house:
        await house.passes(20)
        read_by_itself = house.readings
        refused = await house.reload()
        os.remove(lock)  # noqa: PTH107 - a Path would be one that blocks
        again = await house.reload()

        assert read_by_itself == 0
        assert refused.outcome is REFUSED
        assert f"{lock} is there" in refused.problems[0]
        assert (again.outcome, house.in_force) == (UNCHANGED, ["a1", "b1"])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".git", b"gitdir: " + b"\0" * 20),
        (".git", b"\0" * 40),
        (".git/commondir", b"\0" * 5),
        (".git/HEAD", b"\0" * 41),
        (".git/HEAD", b"ref: refs/heads/\0\0"),
        (".git/HEAD", b"ref: \xff\xfe"),
    ],
)
def test_zeros_where_git_keeps_its_words_are_no_reason_to_fail(
    tmp_path: Path, file: str, content: bytes
) -> None:
    """As a loss of power leaves files behind."""
    (tmp_path / "schedules").mkdir()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(content)

    look = reading.look_at(settings_in(tmp_path))

    assert look.lock is None
    assert look.unrest(look) is None


def test_where_git_names_no_path_there_are_no_signs_of_it(tmp_path: Path) -> None:
    (tmp_path / ".git").write_bytes(b"gitdir: " + b"\0" * 20)

    assert git.signs_of(tmp_path) is None


def test_a_path_that_no_file_can_have_is_marked_and_raises_nothing(tmp_path: Path) -> None:
    impossible = f"{tmp_path}/a\0b"

    marks = fingerprint(str(tmp_path), [impossible])

    assert marks.files[impossible][0] == "error"
    assert fingerprint(impossible).files[impossible][0] == "error"


async def test_a_disk_hangs_only_for_what_nobody_waits_for_any_more() -> None:
    disk, hang = Disk(), Hang()
    asking = asyncio.create_task(disk.ask(hang))
    await eventually(lambda: hang.begun)
    while_somebody_waits = disk.hangs
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    afterwards = disk.hangs
    hang.released.set()
    await eventually(lambda: not disk.hangs)

    assert (while_somebody_waits, afterwards) == (False, True)


async def test_a_machine_without_a_thread_to_spare_cannot_read_and_can_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    disk = Disk()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(Unanswered, match="cannot be read: can't start new thread"):
            await disk.ask(lambda _: 1)

    assert await disk.ask(lambda _: 1) == 1
