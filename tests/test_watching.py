"""Files that are watched: read when they have changed and come to rest, and not without a reason."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.clock import SystemClock
from flowsched.config import fingerprint
from flowsched.daemon import reading, watching
from flowsched.daemon.reading import SETTLE_AT_MOST, Course, Reading, read_settled
from flowsched.daemon.watching import (
    LOOK_EVERY,
    QUIET,
    READ_AGAIN,
    Hurry,
    Watching,
    is_told_of,
    leads_out,
    lies_on_local,
    pause_after,
)
from flowsched.model import ReloadOutcome
from tests.fakes import HandClock, a_moment, eventually
from tests.reloading import House, a_file, a_house
from tests.repositories import Work
from tests.test_daemon import Plant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowsched.model import Settings

APPLIED, UNCHANGED, REFUSED = ReloadOutcome.APPLIED, ReloadOutcome.UNCHANGED, ReloadOutcome.REFUSED

NOTICED = LOOK_EVERY + QUIET
"""Seconds in which a change that is over at once is in force."""


@pytest.fixture
def schedules(tmp_path: Path) -> Path:
    folder = tmp_path / "schedules"
    folder.mkdir()
    (folder / "a.yaml").write_text(a_file("a1"))
    return folder


@pytest.fixture
async def house(tmp_path: Path, schedules: Path) -> AsyncIterator[House]:
    """Watched only by looking, as on a network disk."""
    async with a_house(tmp_path, watch=True) as house:
        yield house


def outcomes(house: House) -> list[ReloadOutcome]:
    """What came of each reading after the start."""
    return [each.outcome for each in house.outcomes[1:]]


def refusals(caplog: pytest.LogCaptureFixture) -> int:
    """How many lines of the log tell of a set that was refused."""
    return sum(each.msg.startswith("catalog refused") for each in caplog.records)


async def test_nothing_is_read_where_nothing_changes(house: House) -> None:
    await house.passes(60)

    assert house.readings == 0


async def test_a_change_is_in_force_in_a_few_seconds(house: House, schedules: Path) -> None:
    await house.passes(3)
    (schedules / "a.yaml").write_text(a_file("a2"))
    await house.passes(NOTICED)

    assert house.in_force == ["a2"]
    assert [each.why for each in house.outcomes] == ["start", "the files changed"]


async def test_files_that_still_change_are_not_read_until_they_rest(house: House, schedules: Path) -> None:
    for number in range(10):
        (schedules / f"f{number}.yaml").write_text(a_file(f"f{number}"))
        await house.passes(1)
    meanwhile = house.readings
    await house.passes(2 * QUIET)

    assert meanwhile == 0
    assert (house.readings, len(house.in_force)) == (1, 11)


async def test_files_that_never_rest_are_read_all_the_same(house: House, schedules: Path) -> None:
    for number in range(round(LOOK_EVERY + SETTLE_AT_MOST + QUIET)):
        (schedules / "a.yaml").write_text(a_file("a1") + f"# {number}\n")
        await house.passes(1)

    assert house.readings == 1


async def test_a_refused_set_is_read_and_logged_once_until_it_changes(
    house: House, schedules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (schedules / "a.yaml").write_text("schedules: {a1: {}}")
    await house.passes(120)
    assert (outcomes(house), refusals(caplog)) == ([REFUSED], len(house.outcomes[1].problems))

    (schedules / "a.yaml").write_text(a_file("a1"))
    await house.passes(NOTICED)

    assert outcomes(house) == [REFUSED, UNCHANGED]


async def test_what_is_held_is_let_go_when_the_files_are_put_right(tmp_path: Path, schedules: Path) -> None:
    async with a_house(tmp_path, watch=True, max_change=0) as house:
        (schedules / "a.yaml").write_text(a_file("a1").replace("flow:", "enabled: false, flow:"))
        await house.passes(NOTICED)
        held = house.daemon.held
        (schedules / "a.yaml").write_text(a_file("a1"))
        await house.passes(NOTICED)

        assert held
        assert house.daemon.held is None
        assert outcomes(house) == [ReloadOutcome.HELD, UNCHANGED]


async def test_what_somebody_had_read_is_not_read_again(house: House, schedules: Path) -> None:
    (schedules / "a.yaml").write_text(a_file("a2"))
    await house.reload()
    await house.passes(30)

    assert house.readings == 1


async def test_sighup_reads_also_what_has_not_changed(house: House) -> None:
    assert (await house.reload()).outcome is UNCHANGED


async def test_a_file_that_does_not_count_is_not_read_for(house: House, schedules: Path) -> None:
    (schedules / "README.md").write_text("x")
    (schedules / ".a.yaml.swp").write_text("x")
    await house.passes(30)

    assert house.readings == 0


async def test_a_link_that_leads_elsewhere_is_seen(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"r{number}").mkdir()
        (tmp_path / f"r{number}" / "a.yaml").write_text(a_file(f"a{number}"))
    current = tmp_path / "current"
    current.symlink_to("r1")
    async with a_house(tmp_path, watch=True, schedules="current") as house:
        (tmp_path / "next").symlink_to("r2")
        os.replace(tmp_path / "next", current)  # noqa: PTH105 - ruff takes no Path here
        await house.passes(NOTICED)

        assert house.in_force == ["a2"]


async def test_a_folder_that_vanishes_is_refused_once_and_taken_when_it_is_back(
    house: House, tmp_path: Path, schedules: Path
) -> None:
    os.rename(schedules, tmp_path / "away")  # noqa: PTH104
    await house.passes(120)
    kept, gone = house.in_force, outcomes(house)
    (tmp_path / "away" / "a.yaml").write_text(a_file("a2"))
    os.rename(tmp_path / "away", schedules)  # noqa: PTH104
    await house.passes(NOTICED)

    assert (kept, gone) == (["a1"], [REFUSED])
    assert (house.in_force, outcomes(house)) == (["a2"], [REFUSED, APPLIED])


async def test_what_cannot_be_read_is_tried_again_though_it_looks_the_same_and_logged_once(
    house: House, schedules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def read_in_vain(settings: Settings, course: Course) -> Reading:
        found = read_settled(settings, course)
        return Reading(None, found.problems, None)

    house.read = read_in_vain
    (schedules / "a.yaml").write_text("schedules: {a1: {}}")
    await house.passes(NOTICED)
    before = refusals(caplog)
    await house.passes(READ_AGAIN + NOTICED)
    again, lines = outcomes(house), refusals(caplog)
    house.read = read_settled
    (schedules / "a.yaml").write_text(a_file("a1"))
    await house.passes(READ_AGAIN + NOTICED)

    assert before == len(house.outcomes[1].problems)
    assert (again, lines) == ([REFUSED, REFUSED], before)
    assert outcomes(house) == [REFUSED, REFUSED, UNCHANGED]


async def test_a_look_that_hangs_is_told_once_and_over_when_the_disk_is_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    begun = []

    def hang(*arguments: Any) -> Any:
        begun.append(threading.current_thread())
        released.wait(30)
        return reading.look_at(*arguments)

    monkeypatch.setattr(watching, "look_at", hang)
    house.disk._answer_within = 0.3
    assert isinstance(house.clock, HandClock)
    for _ in range(30):
        house.clock.advance(LOOK_EVERY)
        await asyncio.sleep(0.02)
    await eventually(lambda: outcomes(house))
    hanging = len(begun)
    released.set()
    await eventually(lambda: not house.disk.hangs)
    house.disk._answer_within = 20
    await house.passes(READ_AGAIN + NOTICED)

    assert hanging == 1
    assert outcomes(house) == [REFUSED, UNCHANGED]
    assert house.outcomes[1].problems == (
        f"{house.settings.schedules}: cannot be read: an earlier reading still hangs",
    )


async def test_files_that_are_committed_once_they_are_in_force_are_read_for_their_commit(
    tmp_path: Path, schedules: Path
) -> None:
    work = Work.made(tmp_path)
    work.commit()
    (schedules / "a.yaml").write_text(a_file("a2"))
    async with a_house(tmp_path, watch=True) as house:
        head = work.commit()
        await house.passes(NOTICED)

        assert outcomes(house) == [UNCHANGED]
        assert house.daemon.commit
        assert (house.daemon.commit.id, house.daemon.commit.clean) == (head, True)


async def test_a_pull_half_way_is_not_in_force(tmp_path: Path, schedules: Path) -> None:
    Work.made(tmp_path).commit()
    lock = tmp_path / ".git" / "index.lock"
    async with a_house(tmp_path, watch=True) as house:
        lock.touch()
        (schedules / "b.yaml").write_text(a_file("b1"))
        await house.passes(20)
        meanwhile = house.readings
        (schedules / "c.yaml").write_text(a_file("c1"))
        lock.unlink()
        await house.passes(NOTICED)

        assert meanwhile == 0
        assert (house.readings, house.in_force) == (1, ["a1", "b1", "c1"])


# Hurried by the system.


def refuse(*_: Any) -> Any:
    raise OSError("OS file watch limit reached")


@pytest.mark.parametrize(("took", "seconds"), [(0.004, 5.0), (0.015, 15.0), (4.0, 20.0)])
def test_long_looks_come_less_often_where_the_system_tells_of_changes(took: float, seconds: float) -> None:
    assert pause_after(took) == pytest.approx(seconds)


def kinds_here() -> frozenset[str]:
    """The file systems of this machine."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return frozenset(line.partition(" - ")[2].split()[0] for line in lines)


MOUNTS = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:40 / /net rw,relatime shared:7 master:2 - nfs4 server:/net rw
31 27 0:41 / /srv/a rw - overlay overlay rw
32 27 0:42 / /srv/two\040words rw - xfs /dev/vdb rw
33 27 0:42 / /srv/two\040words/below rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("folder", "mount", "local"),
    [
        ("/etc/flowsched", b"27", True),
        ("/srv/two words/below", b"33", True),
        ("/srv/two words", b"32", False),  # something is mounted below
        ("/srv/ab", b"27", True),
        ("/srv", b"27", False),
        ("/", b"27", False),
        ("/net/schedules", b"30", False),
        ("/srv/a/schedules", b"31", False),
        ("/etc/flowsched", b"2", False),
        ("/etc/flowsched", b"", False),
    ],
)
def test_a_disk_of_this_machine_is_known(folder: str, mount: bytes, local: bool) -> None:  # noqa: FBT001
    assert lies_on_local(folder, mount, MOUNTS) is local


@pytest.mark.parametrize(
    ("link", "leads", "out"),
    [
        ("b.yaml", "a.yaml", False),
        ("sub/b.yaml", "../a.yaml", False),
        ("b.yaml", "nowhere/b.yaml", False),
        ("b.yaml", "{folder}/a.yaml", False),
        ("b.yaml", "../other/b.yaml", True),
        ("sub/b.yaml", "../../other/b.yaml", True),
        ("b.yaml", "{folder}/../other/b.yaml", True),
        ("b.yaml", "/dev/null", True),
        ("b.yaml", "sub/deep/.up/../../other/b.yaml", True),  # .up leads to sub
        ("more", "../other", True),
        ("more", "sub", False),
    ],
)
def test_a_link_that_leads_out_of_the_folder_is_known(
    tmp_path: Path,
    schedules: Path,
    link: str,
    leads: str,
    out: bool,  # noqa: FBT001
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.yaml").touch()
    (schedules / "sub" / "deep").mkdir(parents=True)
    (schedules / "sub" / "deep" / ".up").symlink_to("../../sub")
    (schedules / link).symlink_to(leads.format(folder=schedules))
    (tmp_path / "current").symlink_to("schedules")

    assert leads_out(fingerprint(str(tmp_path / "current")), str(schedules)) is out


def test_it_is_found_out_whether_the_system_can_tell(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(path: str) -> bool:
        return is_told_of(fingerprint(path), path)

    nothing_local = (told("/proc/self/task"), told(str(schedules / "a.yaml")), told(str(tmp_path / "none")))
    monkeypatch.setattr(watching, "_LOCAL", kinds_here())
    before = told(str(schedules))
    (schedules / "b.yaml").symlink_to("../b.yaml")

    assert nothing_local == (False, False, False)
    assert (before, told(str(schedules))) == (True, False)


def slow_looks(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each look take 30 ms, on the clock."""

    def look_slowly(*arguments: Any) -> Any:
        assert isinstance(house.clock, HandClock)
        house.clock._monotonic += 0.015
        return reading.look_at(*arguments)

    monkeypatch.setattr(watching, "look_at", look_slowly)


@pytest.mark.parametrize(("kinds", "pause"), [(kinds_here(), 15.0), (frozenset[str](), LOOK_EVERY)])
async def test_the_pause_is_longer_only_on_a_disk_of_this_machine(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch, kinds: frozenset[str], pause: float
) -> None:
    monkeypatch.setattr(watching, "_LOCAL", kinds)
    async with a_house(tmp_path) as house:
        slow_looks(house, monkeypatch)
        watch = Watching(house.settings, house.reloads, house.clock)
        await watch._look()

    assert watch._pause == pytest.approx(pause)


async def test_the_wait_for_another_reading_is_no_part_of_a_look(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOCAL", kinds_here())
    async with a_house(tmp_path) as house:
        assert isinstance(house.clock, HandClock)
        slow_looks(house, monkeypatch)
        watch = Watching(house.settings, house.reloads, house.clock)
        async with house.disk._turn:
            looking = asyncio.create_task(watch._look())
            await a_moment()
            house.clock.advance(10)
        await looking

    assert watch._pause == pytest.approx(15.0)


@pytest.fixture
def _long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are short, and take their time all the same where the system tells of changes."""
    monkeypatch.setattr(watching, "_LOCAL", kinds_here())
    monkeypatch.setattr(watching, "_HURRY_LOOK", 50)
    monkeypatch.setattr(watching, "LOOK_SHARE", 1e-9)
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(watching, "LOOK_APART", 0.05)
    monkeypatch.setattr(watching, "LOOK_AT_LAST", 3600.0)
    monkeypatch.setattr(watching, "QUIET", 0.1)


@pytest.mark.e2e
@pytest.mark.usefixtures("_long_pauses")
async def test_looks_rest_where_the_system_tells_and_changes_are_still_noticed(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []

    def look(*arguments: Any) -> Any:
        looks.append(arguments)
        return reading.look_at(*arguments)

    monkeypatch.setattr(watching, "look_at", look)
    async with a_house(tmp_path, watch=True, hurry=True, clock=SystemClock()) as house:
        async with asyncio.timeout(20):
            before = -1
            while before != len(looks):
                before = len(looks)
                await asyncio.sleep(1)
        (schedules / "a.yaml").write_text(a_file("a2"))
        await eventually(lambda: house.in_force == ["a2"])


@pytest.mark.e2e
@pytest.mark.usefixtures("_long_pauses")
async def test_a_file_to_which_a_link_leads_out_of_the_folder_is_looked_at_all_the_time(
    tmp_path: Path, schedules: Path
) -> None:
    (tmp_path / "b.yaml").write_text(a_file("b1"))
    (schedules / "b.yaml").symlink_to("../b.yaml")
    async with a_house(tmp_path, watch=True, hurry=True, clock=SystemClock()) as house:
        await asyncio.sleep(1)  # until the system has been asked
        (tmp_path / "b.yaml").write_text(a_file("b2"))
        await eventually(lambda: house.in_force == ["a1", "b2"])


@pytest.mark.e2e
@pytest.mark.usefixtures("_long_pauses")
async def test_files_are_looked_at_all_the_time_while_the_system_tells_nothing(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_changes", refuse)
    async with a_house(tmp_path, watch=True, hurry=True, clock=SystemClock()) as house:
        await asyncio.sleep(1)  # until it has been looked at
        (schedules / "a.yaml").write_text(a_file("a2"))
        await eventually(lambda: house.in_force == ["a2"])


@pytest.mark.e2e
async def test_the_system_is_asked_again_when_the_watching_is_begun_again(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(watching, "QUIET", 0.1)
    async with a_house(tmp_path, clock=SystemClock()) as house:
        watch = Watching(house.settings, house.reloads, house.clock)
        with monkeypatch.context() as patch:
            patch.setattr(watching, "look_at", fail)
            patch.setattr(watching, "LOOK_EVERY", 0.1)
            patch.setattr(watching, "LOOK_APART", 0.1)
            with pytest.raises(RuntimeError):
                await watch.keep()
        monkeypatch.setattr(watching, "LOOK_EVERY", 3600.0)
        again = asyncio.create_task(watch.keep())
        await asyncio.sleep(0.5)  # until the system has been asked
        (schedules / "a.yaml").write_text(a_file("a2"))
        await eventually(lambda: house.in_force == ["a2"])
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


@pytest.mark.e2e
async def test_it_is_known_whether_the_system_tells_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_HURRY_LOOK", 50)
    monkeypatch.setattr(watching, "_HURRY_AGAIN", 0.01)
    current = tmp_path / "current"
    current.symlink_to(".")
    hurry = Hurry(str(current), lambda: None)
    before = hurry.tells
    async with hurry:
        await eventually(lambda: hurry.tells)
        monkeypatch.setattr(watching, "_changes", refuse)
        current.unlink()
        current.symlink_to("..")
        await eventually(lambda: not hurry.tells)

    assert not before


@pytest.mark.e2e
async def test_nothing_is_told_any_more_when_the_thread_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_HURRY_LOOK", 50)
    hurry = Hurry(str(tmp_path), lambda: None)
    async with hurry:
        await eventually(lambda: hurry.tells)

    assert not hurry.tells


@pytest.mark.e2e
async def test_when_the_system_tells_no_more_the_files_are_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_later(real: str, stop: threading.Event) -> Any:
        yield False
        stop.wait(0.1)
        refuse()

    told: list[None] = []
    monkeypatch.setattr(watching, "_changes", fail_later)
    hurry = Hurry(str(tmp_path), lambda: told.append(None))
    async with hurry:
        await eventually(lambda: told)
        assert not hurry.tells


@pytest.mark.e2e
async def test_a_change_is_read_sooner_where_the_system_tells_of_it(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOK_EVERY", 3600.0)
    monkeypatch.setattr(watching, "QUIET", 0.1)
    async with a_house(tmp_path, watch=True, hurry=True, clock=SystemClock()) as house:
        await asyncio.sleep(0.5)  # until the system has been asked
        (schedules / "a.yaml").write_text(a_file("a2"))
        await eventually(lambda: house.in_force == ["a2"])


@pytest.mark.e2e
async def test_while_nothing_changes_the_thread_that_is_told_of_it_seldom_wakes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_HURRY_LOOK", 800)
    woke = 0

    class Stop(threading.Event):
        def is_set(self) -> bool:
            nonlocal woke
            woke += 1
            return super().is_set()

    assert next(watching._changes(str(tmp_path), Stop())) is False
    assert 1 <= woke <= 6


@pytest.mark.e2e
async def test_the_system_is_asked_anew_when_the_path_leads_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_HURRY_LOOK", 50)
    for number in (1, 2):
        (tmp_path / f"r{number}").mkdir()
    current = tmp_path / "current"
    current.symlink_to("r1")
    told: list[None] = []

    def write(folder: str) -> bool:
        (tmp_path / folder / "a.yaml").write_text("")
        return bool(told)

    async with Hurry(str(current), lambda: told.append(None)):
        await eventually(lambda: write("r1"))
        await asyncio.sleep(0.5)
        told.clear()
        (tmp_path / "next").symlink_to("r2")
        os.replace(tmp_path / "next", current)  # noqa: PTH105
        await eventually(lambda: told)
        await asyncio.sleep(0.2)
        told.clear()
        await asyncio.sleep(0.3)
        assert told == []
        await eventually(lambda: write("r2"))


@pytest.mark.e2e
async def test_a_change_is_told_of_whatever_the_folders_above_are_called(tmp_path: Path) -> None:
    folder = tmp_path / ".venv" / "schedules"
    folder.mkdir(parents=True)
    told: list[None] = []

    def write() -> bool:
        (folder / "a.yaml").write_text("")
        return bool(told)

    async with Hurry(str(folder), lambda: told.append(None)):
        await eventually(write)


@pytest.mark.e2e
async def test_the_system_is_asked_anew_when_another_folder_gets_the_name(
    tmp_path: Path, schedules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_HURRY_LOOK", 50)
    told: list[None] = []

    def write() -> bool:
        (schedules / "a.yaml").write_text("")
        return bool(told)

    async with Hurry(str(schedules), lambda: told.append(None)):
        await eventually(write)
        os.rename(schedules, tmp_path / "away")  # noqa: PTH104
        await asyncio.sleep(0.7)  # so that it is seen that there is none
        os.mkdir(schedules)  # noqa: PTH102
        await asyncio.sleep(1)
        told.clear()
        await eventually(write)


async def test_where_the_system_does_not_tell_one_line_says_so_and_looks_go_on(
    tmp_path: Path, schedules: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_changes", refuse)
    monkeypatch.setattr(watching, "_HURRY_AGAIN", 0.01)
    caplog.set_level("INFO", "flowsched")
    async with a_house(tmp_path, watch=True, hurry=True) as house:
        await a_moment()
        (schedules / "a.yaml").write_text(a_file("a2"))
        await house.passes(NOTICED)

        lines = [each for each in caplog.records if each.msg.startswith("changes of the files are noticed")]
        assert [vars(each)["reason"] for each in lines] == ["OS file watch limit reached"]
        assert house.in_force == ["a2"]


async def test_the_thread_that_is_told_of_changes_has_ended_when_the_watching_has(
    tmp_path: Path, schedules: Path
) -> None:
    async with a_house(tmp_path, watch=True, hurry=True):
        await eventually(_hurrying)
    assert not _hurrying()


def _hurrying() -> bool:
    return any(each.name == "flowsched-hurry" for each in threading.enumerate())


@pytest.mark.e2e
async def test_the_daemon_takes_changed_files_by_itself_and_ends_well(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    await plant.build()
    try:
        config = tmp_path / "flowsched.yaml"
        config.write_text(config.read_text().replace("reload: {watch: false}\n", ""))
        daemon = await plant.start()
        await daemon.says("daemon ready")
        plant.schedules(3)
        await daemon.says("catalog applied")
        (tmp_path / "schedules" / "many.yaml").write_text("schedules: {bad: {}}\n")
        await daemon.says("catalog refused; the one before stays in force")
        daemon.tell(signal.SIGTERM)

        assert await daemon.ends() == 0
        assert daemon.told("catalog applied")[0]["schedules"] == 4
        assert daemon.told("catalog unchanged") == []
        assert "watchfiles" not in daemon.text
        assert daemon.told("changes of the files are noticed only by looking at them") == []
    finally:
        await plant.leave()


async def test_a_machine_without_a_thread_to_spare_looks_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    caplog.set_level("INFO")
    monkeypatch.setattr(threading.Thread, "start", none_left)
    async with Hurry(str(tmp_path), lambda: None):
        pass

    (record,) = caplog.records
    assert record.getMessage() == "changes of the files are noticed only by looking at them"
    assert vars(record)["reason"] == "can't start new thread"
