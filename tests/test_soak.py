"""The soak itself: that a short one passes, that it notices a broken build, and what each check sees."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.config import load_settings
from flowsched.model import Action, ActionKind, Catalog, Origin, Outcome, Pause, RunState, Scope
from flowsched.simulator import Call, Instance, Signature, Status
from tests.builders import a_run, a_schedule
from tests.soak.checks import judged
from tests.soak.clock import START, Pace
from tests.soak.daemon import Sending
from tests.soak.evidence import Evidence
from tests.soak.files import Files
from tests.soak.garden import Edit, edited, planted
from tests.soak.history import Version, Walls
from tests.soak.people import Errand
from tests.soak.receiver import Receiver
from tests.soak.script import Act, Way, script

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Run

ROOT = Path(__file__).parent.parent
MINUTE = timedelta(minutes=1)
SCHEDULE = a_schedule("minutely", "* * * * *", flow=7)
IN_FORCE = Catalog({"minutely": SCHEDULE}, "one")
CLOSED = Catalog({"minutely": replace(SCHEDULE, enabled=False)}, "two")


async def soak(folder: Path, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak", *arguments),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


def kept_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.e2e
@pytest.mark.timeout(240)
async def test_a_short_soak_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    code, text = await soak(tmp_path, "--minutes", "0.2", "--seed", "7")

    assert code == 0, text
    assert kept_in(tmp_path) == []
    assert text.splitlines()[-2:] == [f"{'lost':<38}0", f"{'doubles':<38}0"]


@pytest.mark.e2e
@pytest.mark.timeout(240)
async def test_a_build_that_sends_again_without_a_look_fails(tmp_path: Path) -> None:
    code, text = await soak(tmp_path, "--minutes", "0.2", "--seed", "1", "--broken", "reconcile")

    assert code == 1, text
    assert "of which there is an instance: 62102" in text
    assert "again: ./run soak --minutes 0.2 --seed 1 --broken reconcile" in text


def test_the_script_follows_from_the_seed_and_has_every_act() -> None:
    assert script(5, 12) == script(5, 12)
    assert script(5, 12) != script(6, 12)
    assert {event.act for event in script(5, 12)} == set(Act)
    assert {event.way for event in script(5, 120)} == set(Way)


def test_the_edits_follow_from_the_seed_and_each_changes_the_files() -> None:
    def texts(seed: int) -> list[dict[str, str]]:
        chance = Random(seed)  # noqa: S311 - to be repeated
        garden = planted(chance)
        versions = [garden.texts()]
        for edit in Edit:
            garden = edited(garden, edit, chance)
            versions.append(garden.texts())
        return versions

    assert texts(5) == texts(5)
    assert len({str(version) for version in texts(5)}) == len(Edit) + 1


def a_call(number: int, at: datetime, *, created: bool = True, **more: Any) -> Call:
    fields: dict[str, Any] = {
        "number": number,
        "connection": number,
        "began_at": at,
        "complete_at": at,
        "method": "POST",
        "path": "/",
        "operation": "flows.trigger",
        "flow": 7,
        "task": None,
        "trigger_time": round(at.timestamp() * 1000),
        "signature": Signature.GOOD,
        "outcome": "OK",
        "created": f"7-{at:%Y%m%d%H%M}00" if created else None,
        "status": 200,
        "fault": None,
    }
    return Call(**{**fields, **more})


def a_triggered_run(number: int, at: datetime, **more: Any) -> Run:
    fields = {
        "id": number,
        "schedule_id": "minutely",
        "flow": 7,
        "fire_time": at,
        "state": RunState.TRIGGERED,
        "predicted_instance": f"7-{at:%Y%m%d%H%M}00",
    }
    return a_run(**{**fields, **more})


def an_instance(at: datetime) -> Instance:
    return Instance(
        id=f"7-{at:%Y%m%d%H%M}00",
        flow=7,
        task=None,
        trigger_time=at,
        parameters={},
        ends_as=Status.SUCCESS,
        created=at,
    )


FIRED = [START + number * MINUTE for number in (1, 2, 3)]

CLEAN = Evidence(
    runs=[a_triggered_run(number, at) for number, at in enumerate(FIRED)],
    attempts=defaultdict(lambda: [object()]),  # type: ignore[list-item]
    calls=[a_call(number, at) for number, at in enumerate(FIRED)],
    instances=[an_instance(at) for at in FIRED],
    sendings=[Sending(1, number, 7, 60.0 * number, Outcome.ACCEPTED) for number in (1, 2, 3)],
    versions=[Version(IN_FORCE, 5.0, 6.0), Version(CLOSED, 200.0, 201.0)],
    walls=Walls(),
    gaps=0,
    surplus=0,
    complaints=[],
    restarts=[5.0],
)
LATE = START + 9 * MINUTE


def an_errand(number: int, act: Act, *arguments: str, code: int | None = 0) -> Errand:
    return Errand(number, act, arguments, 60.0, 70.0, code)


def an_action(number: int, kind: ActionKind = ActionKind.PAUSE) -> Action:
    return Action(at=START, by="ada", kind=kind, subject="minutely", reason=f"errand {number}", detail="")


def a_pause(from_: float, **more: Any) -> Pause:
    """One of the first errand; `from_` is in minutes."""
    fields: dict[str, Any] = {
        "id": 1,
        "scope": Scope.SCHEDULE,
        "name": "minutely",
        "reason": "errand 1",
        "by": "ada",
        "from_at": START + from_ * MINUTE,
        "until_at": None,
        "ended_at": None,
        "ended_by": None,
    }
    return Pause(**{**fields, **more})


def a_run_by_hand(number: int, at: datetime, errand: int, **more: Any) -> Run:
    return a_triggered_run(number, at, origin=Origin.MANUAL, note=f"by hand (ada): errand {errand}", **more)


def claimed(run: Run, minutes: float, **more: Any) -> Run:
    return replace(run, claimed_at=START + minutes * MINUTE, **more)


def wrong_in(**more: Any) -> list[str]:
    """The names of the checks that see something wrong where this differs from what is clean."""
    return [check.name for check in judged(replace(CLEAN, **more)) if check.wrong]


PAUSED: dict[str, Any] = {
    "pauses": [a_pause(1.5, ended_at=START + 2.5 * MINUTE)],
    "errands": [an_errand(1, Act.PAUSE, "pause", "minutely")],
    "actions": [an_action(1)],
    "runs": [
        claimed(CLEAN.runs[0], 1.0),
        claimed(CLEAN.runs[1], 2.0, state=RunState.SKIPPED, reason="paused: errand 1 (ada)"),
        claimed(CLEAN.runs[2], 3.0),
    ],
    "calls": [CLEAN.calls[0], CLEAN.calls[2]],
    "instances": [CLEAN.instances[0], CLEAN.instances[2]],
}
ALL_SENT: dict[str, Any] = PAUSED | {"calls": CLEAN.calls, "instances": CLEAN.instances}
BY_HAND: dict[str, Any] = {
    "errands": [an_errand(1, Act.TRIGGER, "trigger", "minutely", "--at", f"{LATE:%Y-%m-%dT%H:%M:%SZ}")],
    "actions": [an_action(1, ActionKind.TRIGGER)],
    "runs": [*CLEAN.runs, a_run_by_hand(9, LATE, 1)],
    "calls": [*CLEAN.calls, a_call(9, LATE)],
    "instances": [*CLEAN.instances, an_instance(LATE)],
}


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert [check.name for check in judged(CLEAN) if check.wrong] == []


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("audit", {"gaps": 1}),
        ("owed by the edits' own record", {"runs": CLEAN.runs[1:]}),
        ("owed by the edits' own record", {"runs": [*CLEAN.runs, a_triggered_run(9, FIRED[0])]}),
        ("edit barrier", {"runs": [*CLEAN.runs, a_triggered_run(9, START)]}),
        ("edit barrier", {"runs": [*CLEAN.runs, a_triggered_run(9, LATE)]}),
        ("edit barrier", {"runs": [*CLEAN.runs, a_triggered_run(9, FIRED[0], schedule_id="other")]}),
        ("triggered runs with their instance", {"instances": CLEAN.instances[1:]}),
        ("instances with their triggered run", {"runs": CLEAN.runs[1:]}),
        ("instances shared by runs", {"runs": [*CLEAN.runs, a_triggered_run(9, FIRED[0])]}),
        ("instances, one a flow and minute", {"calls": [*CLEAN.calls, a_call(9, FIRED[0])]}),
        ("sent once there was an instance", {"calls": [*CLEAN.calls, a_call(9, FIRED[0], created=False)]}),
        ("calls on record", {"calls": [*CLEAN.calls, a_call(9, LATE, created=False)]}),
        ("least distance of two sends", {"sendings": [*CLEAN.sendings, Sending(1, 9, 7, 238.0)]}),
        ("least distance at the gateway", {"calls": [*CLEAN.calls, a_call(9, FIRED[2] + MINUTE / 2)]}),
        ("runs not final", {"runs": [a_triggered_run(1, FIRED[0], state=RunState.IN_DOUBT)]}),
        ("failed runs, by reason", {"runs": [a_triggered_run(1, FIRED[0], state=RunState.FAILED)]}),
        ("daemon: complaints", {"complaints": ["the daemon ended with 1"]}),
        ("people: complaints", {"stumbles": ["`status` exited with 2"]}),
        ("pauses are heeded", PAUSED | {"runs": [claimed(CLEAN.runs[1], 2.0)]}),
        ("pauses are heeded", PAUSED | {"runs": [claimed(CLEAN.runs[1], 2.0, state=RunState.MISSED)]}),
        ("pauses are heeded", PAUSED | {"runs": [claimed(CLEAN.runs[0], 2.0)]}),
        ("pauses are heeded", PAUSED | {"runs": [claimed(CLEAN.runs[1], 4.0)]}),
        ("pauses are heeded", PAUSED | {"pauses": [a_pause(0.5, scope=Scope.ALL, name=None)]}),
        ("skipped by a pause that there was", PAUSED | {"pauses": []}),
        ("skipped by a pause that there was", PAUSED | {"pauses": [a_pause(1.5, name="other")]}),
        (
            "skipped by a pause that there was",
            PAUSED | {"pauses": [a_pause(1.1, ended_at=START + 1.5 * MINUTE)]},
        ),
        ("runs by hand that were asked for", BY_HAND | {"errands": []}),
        ("runs by hand that were asked for", BY_HAND | {"runs": [a_run_by_hand(9, FIRED[0], 1)]}),
        (
            "runs by hand that were asked for",
            BY_HAND | {"runs": [a_run_by_hand(9, LATE, 1, schedule_id="other")]},
        ),
        ("commands carried out once", BY_HAND | {"actions": [an_action(1), an_action(1)]}),
        (
            "commands carried out once",
            BY_HAND | {"runs": [a_run_by_hand(9, LATE, 1), a_run_by_hand(10, LATE + MINUTE, 1)]},
        ),
        ("commands on record", BY_HAND | {"actions": []}),
        ("commands on record", PAUSED | {"pauses": []}),
        ("commands on record", {"errands": [an_errand(1, Act.RESOLVE, "resolve", "0")]}),
        ("alerts", {"sent": 1}),
        ("alerts", {"runs": [a_triggered_run(1, FIRED[0], state=RunState.MISSED)] * 20}),
        ("instances with their triggered run", BY_HAND | {"runs": CLEAN.runs}),
        ("instances shared by runs", BY_HAND | {"runs": [*CLEAN.runs, a_run_by_hand(9, FIRED[0], 1)]}),
    ],
)
def test_each_check_sees_its_fault(name: str, more: dict[str, Any]) -> None:
    assert name in [check.name for check in judged(replace(CLEAN, **more)) if check.wrong]


def test_what_a_pause_covers_is_skipped_and_what_was_claimed_before_goes_on() -> None:
    assert wrong_in(**PAUSED) == []
    assert wrong_in(**ALL_SENT | {"runs": [claimed(run, 0.5) for run in CLEAN.runs]}) == []


def test_a_claim_whose_order_a_step_of_the_clock_hides_is_no_fault() -> None:
    """Claimed at minute 2, before the clock was set back; paused after that, at minute 1.5."""
    claims = {"runs": [claimed(run, number) for number, run in enumerate(CLEAN.runs, 1)]}
    hidden = {"walls": Walls([(0.0, 0.0), (190.0, -120.0)])}

    assert "pauses are heeded" in wrong_in(**ALL_SENT | claims)
    assert "pauses are heeded" not in wrong_in(**ALL_SENT | claims | hidden)


def test_a_pause_goes_on_under_the_new_id() -> None:
    renamed = replace(SCHEDULE, id="renamed", renamed_from="minutely")
    renaming = Version(Catalog({"renamed": renamed}, "new"), 100.0, 101.0)
    versions = {"versions": [CLEAN.versions[0], renaming, CLEAN.versions[1]]}
    moved = {"pauses": [a_pause(1.5, name="renamed", ended_at=START + 2.5 * MINUTE)]}
    run = claimed(CLEAN.runs[1], 2.0, schedule_id="renamed", revision="new")
    skipped = claimed(CLEAN.runs[1], 2.0, state=RunState.SKIPPED, reason="paused: errand 1 (ada)")

    assert "pauses are heeded" in wrong_in(**PAUSED | versions | moved | {"runs": [run]})
    names = wrong_in(**PAUSED | versions | moved | {"runs": [skipped]})
    assert not {"skipped by a pause that there was", "commands on record"} & set(names)


def test_a_run_by_hand_is_no_fault_and_is_owed_nothing() -> None:
    assert wrong_in(**BY_HAND) == []


def test_an_instance_that_a_person_has_denied_too_early_is_no_fault_of_the_daemon() -> None:
    denied = replace(CLEAN.runs[0], state=RunState.FAILED, reason="resolved by hand (ada): errand 1")
    resolved: dict[str, Any] = {
        "errands": [an_errand(1, Act.RESOLVE, "resolve", "0", "--failed")],
        "actions": [an_action(1, ActionKind.RESOLVE)],
        "runs": [denied, *CLEAN.runs[1:]],
    }
    late = [a_call(0, FIRED[0], began_at=START + 2 * MINUTE), *CLEAN.calls[1:]]

    assert wrong_in(**resolved) == []
    assert "instances with their triggered run" in wrong_in(**resolved | {"calls": late})


@pytest.mark.parametrize(
    "reason",
    [
        "cancelled by hand (ada): errand 12",
        "resolved by hand (ada): errand 3",
        "gave up after 1 attempt: HTTP 429",
        "gave up after 6 attempts; EnOS has no instance 7-20251026001100",
        "gave up after 2 attempts, as the next would begin after the deadline: HTTP 429",
        "the deadline passed before it could be sent; it was never sent",
        "the deadline passed, and EnOS has no instance 7-20251026001100: it did not run",
        "never sent: 15m32s late, outside the catch_up_window of 12m",
        "never sent: 5m late, and catch_up is none",
    ],
)
def test_a_run_may_fail_for_want_of_time_or_attempts(reason: str) -> None:
    runs = [a_triggered_run(1, FIRED[0], state=RunState.FAILED, reason=reason)]

    (check,) = (each for each in judged(replace(CLEAN, runs=runs)) if each.name == "failed runs, by reason")

    assert check.wrong == []


def test_a_distance_is_owed_to_a_call_that_may_have_been_processed_only() -> None:
    refused = [
        Sending(1, 1, 7, 0.0, Outcome.REFUSED_FOR_NOW),
        Sending(1, 2, 7, 1.0),
        Sending(2, 2, 7, 2.0),
    ]

    names = [check.name for check in judged(replace(CLEAN, sendings=refused)) if check.wrong]

    assert names == []


def test_a_rename_goes_on_under_the_new_id() -> None:
    renamed = replace(SCHEDULE, id="renamed", renamed_from="minutely")
    versions = [
        CLEAN.versions[0],
        Version(Catalog({"renamed": renamed}, "renamed"), 100.0, 101.0),
        Version(Catalog({"renamed": replace(renamed, enabled=False)}, "two"), 200.0, 201.0),
    ]
    runs = [*CLEAN.runs[:1], *(replace(run, schedule_id="renamed") for run in CLEAN.runs[1:])]

    names = [check.name for check in judged(replace(CLEAN, versions=versions, runs=runs)) if check.wrong]

    assert names == []


def test_an_edit_is_owed_nothing_before_it_and_everything_after() -> None:
    retimed = replace(SCHEDULE, timing=replace(SCHEDULE.timing, cron="*/2 * * * *"))
    versions = [
        CLEAN.versions[0],
        Version(Catalog({"minutely": retimed}, "retimed"), 130.0, 131.0),
        Version(CLOSED, 250.0, 251.0),
    ]
    at_four = a_triggered_run(4, START + 4 * MINUTE)

    def wrong(*runs: Run) -> list[str]:
        found = judged(replace(CLEAN, versions=versions, runs=runs))
        return [check.name for check in found if check.wrong and check.name in ("edit barrier", OWED)]

    assert wrong(*CLEAN.runs[:2], at_four) == []
    assert wrong(*CLEAN.runs[:2]) == [OWED]
    assert wrong(*CLEAN.runs, at_four) == ["edit barrier"]


OWED = "owed by the edits' own record"


def test_the_wall_clock_is_followed_over_its_steps() -> None:
    walls = Walls([(0.0, 0.0), (100.0, 60.0), (200.0, -30.0)])

    assert walls.between(50.0, 150.0) == (START + timedelta(seconds=50), START + timedelta(seconds=210))
    assert walls.between(150.0, 250.0) == (START + timedelta(seconds=170), START + timedelta(seconds=260))
    assert walls.stepped_forward(90.0, 110.0)
    assert not walls.stepped_forward(110.0, 300.0)


def test_what_the_wall_clock_has_shown_twice_is_of_two_instants() -> None:
    walls = Walls([(0.0, 0.0), (100.0, -50.0)])

    assert walls.ticks_of(START + timedelta(seconds=20)) == (20.0, 20.0)
    assert walls.ticks_of(START + timedelta(seconds=80)) == (80.0, 130.0)
    assert walls.ticks_of(START - timedelta(seconds=20)) is None
    assert walls.surely_after(START + timedelta(seconds=160), START + timedelta(seconds=80))
    assert not walls.surely_after(START + timedelta(seconds=80), START + timedelta(seconds=60))


SETTINGS = """\
schedules: schedules
ledger: sqlite:///ledger.db
targets:
  default: {url: "http://127.0.0.1:1", org_id: o, user_id: u, access_key: {env: A}, secret_key: {env: B}}
pings: {url: "http://127.0.0.1:1"}
"""


async def test_the_files_come_to_the_disk_in_each_way_and_what_lay_there_meanwhile_is_known(
    tmp_path: Path,
) -> None:
    chance = Random(3)  # noqa: S311 - to be repeated
    (tmp_path / "flowsched.yaml").write_text(SETTINGS)
    settings = load_settings(tmp_path / "flowsched.yaml")
    files = Files(tmp_path, Pace(0.0, 1.0), chance, slow=0.0)
    garden = planted(chance)
    for way in (Way.SWAP, Way.HUP, Way.SLOWLY, Way.SWAP):
        garden = edited(garden, Edit.ADD, chance)
        await files.put(garden.texts(), way, settings)
        found = {path.relative_to((tmp_path / "schedules").resolve()).as_posix() for path in files.all()}
        assert found == set(garden.texts())
    await files.put(garden.closed().texts(), Way.SLOWLY, settings)

    known = len(files.versions)
    between = [each.revision for each in files.between(settings)]
    assert between
    assert files.heard(between[0], 5.0, settings)
    assert not files.heard("never written", 5.0, settings)
    assert len(files.versions) == known + 1
    assert files.versions[-2].catalog.revision == between[0]
    assert not any(schedule.enabled for schedule in files.versions[-1].catalog.schedules.values())


async def test_the_receiver_takes_some_messages_and_refuses_others() -> None:
    async with Receiver(1, hangs=0.01) as receiver:
        host, _, port = receiver.url.rpartition("/")[2].partition(":")
        body = b'{"id": "one", "alerts": [{"kind": "missed"}]}'
        said = set()
        for _ in range(60):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /alerts HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            said.add((await reader.read()).split(b"\r\n")[0])
            writer.close()

    assert said == {b"HTTP/1.1 200 OK", b"HTTP/1.1 500 Oh", b""}
    assert receiver.messages["one"] == receiver.kinds["missed"] > 0
