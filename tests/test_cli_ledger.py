"""The commands that look into a ledger, or settle a run in it, on a real file."""

from __future__ import annotations

import asyncio
import getpass
import os
from dataclasses import replace
from datetime import timedelta
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.audit import compare
from flowsched.ledger import Ledger
from flowsched.model import (
    Catalog,
    Cursor,
    FlowState,
    NextStep,
    Outcome,
    Run,
    RunState,
    Schedule,
    Seen,
    Sighting,
)
from tests.builders import T0, a_new_run, a_schedule, an_answer
from tests.test_cli import SETTINGS, Done, Shell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
HOURLY = a_schedule("hourly", "0 * * * *")


class Installation(Shell):
    """A folder with a flowsched.yaml and a ledger."""

    def change(self, work: Callable[[Ledger], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with await Ledger.open(f"sqlite:///{self.folder}/ledger.db") as ledger:
                return await work(ledger)

        return asyncio.run(run())


@pytest.fixture
def bare(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWSCHED_CONFIG", raising=False)
    shell = Installation(tmp_path, capsys)
    shell.write("flowsched.yaml", SETTINGS)
    return shell


def catalog(*schedules: Schedule) -> Catalog:
    return Catalog({each.id: each for each in schedules}, f"r{len(schedules)}")


async def fire(ledger: Ledger, *hours: float, **more: Any) -> list[Run]:
    """Claim the hourly schedule's runs of so many hours after T0, and move its cursor to the last."""
    times = [T0 + hour * HOUR for hour in hours]
    rows = [a_new_run(**{"schedule_id": "hourly", "fire_time": at, "due_at": at} | more) for at in times]
    return await ledger.claim(rows, [Cursor("hourly", HOURLY.timing, rows[-1].fire_time)])


async def put_in_doubt(ledger: Ledger, run: Run) -> None:
    await ledger.begin_attempt(run.id, 1, run.fire_time)
    answer = an_answer(Outcome.UNKNOWN, "reply lost")
    await ledger.end_attempt(
        run.id, 1, run.fire_time + SECOND, answer, NextStep(RunState.IN_DOUBT, "reply lost")
    )


def in_force(installation: Installation, *hours: float, until: float = 3.5) -> None:
    """An hourly schedule in force from T0 until so many hours later, and its runs at these hours."""

    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        await fire(ledger, *hours, state=RunState.MISSED, reason="because")
        await ledger.apply(catalog(), T0 + until * HOUR)

    installation.change(work)


def test_audit_proves_books_that_are_right(bare: Installation) -> None:
    in_force(bare, 1, 2, 3)

    done = bare("audit")

    assert (done.code, done.err) == (0, "")
    first, *rest = done.out.splitlines()
    assert first.startswith("from 2026-01-01T00:00:00Z up to ")
    assert rest == [
        "3 fire times of 1 schedule: 3 with a run",
        "3 runs: 3 missed",
        (
            "nothing missing, nothing twice: 3 fire times, each with one run;"
            " of these, 3 started no flow, for the reasons recorded"
        ),
    ]


def test_audit_shows_each_gap_and_surplus_and_exits_with_1(bare: Installation) -> None:
    in_force(bare, 1, 2.5, 3)

    done = bare("audit", "--to", "2026-01-01T09:00Z")

    assert done.code == 1
    assert done.out.splitlines()[:3] == [
        "from 2026-01-01T00:00:00Z up to 2026-01-01T09:00:00Z",
        "3 fire times of 1 schedule: 2 with a run, 1 without",
        "3 runs: 3 missed",
    ]
    lost, stray = [line.split() for line in done.out.splitlines() if line.startswith("hourly ")]
    assert lost[1:6] == ["2026-01-01T02:00:00Z", "it", "has", "no", "run"]
    assert stray[1:5] == ["2026-01-01T02:30:00Z", "2", "no", "schedule"]
    assert done.out.splitlines()[-1] == "1 gap, 1 surplus"


def test_audit_in_json_has_all_that_the_text_has(bare: Installation) -> None:
    in_force(bare, 1, 2.5, 3)

    done = bare("audit", "--to", "2026-01-01T09:00Z", "--format", "json")

    report = done.json
    assert (done.code, report["ok"], report["unsteady"]) == (1, False, False)
    assert (report["from"], report["to"]) == ("2026-01-01T00:00:00Z", "2026-01-01T09:00:00Z")
    assert (report["fire_times"], report["aligned"], report["gaps"], report["surplus"]) == (3, 2, 1, 1)
    assert report["states"] == {"missed": 3}
    assert [(each["verdict"], each["run"], each["state"]) for each in report["findings"]] == [
        ("lost", None, None),
        ("stray", 2, "missed"),
    ]


def test_audit_of_a_part_looks_at_that_part_only(bare: Installation) -> None:
    in_force(bare, 1, 2.5, 3)

    done = bare("audit", "--from", "2026-01-01T03:00Z", "--to", "2026-01-01T03:01Z")

    assert (done.code, done.out.splitlines()[1]) == (0, "1 fire time of 1 schedule: 1 with a run")


def test_audit_of_a_schedule_in_force_without_a_daemon_says_how_far_behind_it_is(bare: Installation) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        await fire(ledger, 1)

    bare.change(work)

    done = bare("audit", "--to", "2026-01-10T00:00Z")

    lines = done.out.splitlines()
    assert done.code == 1
    assert sum("not accounted for yet" in line for line in lines) == 100
    assert "... and 114 more; --format json has them all" in lines
    assert lines[-1] == "214 gaps, 0 surplus"


def test_audit_counts_what_a_blackout_holds_as_no_gap(bare: Installation) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        (run,) = await fire(ledger, 1, state=RunState.MISSED, reason="because")
        await ledger.claim([], [Cursor("hourly", HOURLY.timing, run.fire_time, T0 + 20_000 * HOUR)])

    bare.change(work)

    done = bare("audit", "--to", "2026-01-01T02:30Z")
    report = bare("audit", "--to", "2026-01-01T02:30Z", "--format", "json").json

    assert done.code == 0
    assert "2 fire times of 1 schedule: 1 with a run, 1 deferred by a blackout" in done.out
    assert done.out.splitlines()[-1].startswith(
        "nothing missing, nothing twice: 1 fire time, each with one run"
    )
    assert (report["ok"], report["deferred"], report["fire_times"]) == (True, 1, 2)


def test_audit_counts_runs_in_doubt_and_says_where_to_look(bare: Installation) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        (run,) = await fire(ledger, 1)
        await put_in_doubt(ledger, run)
        await ledger.apply(catalog(), T0 + 1.5 * HOUR)

    bare.change(work)

    done = bare("audit")

    assert done.code == 0
    assert "1 run: 1 in doubt" in done.out
    assert "flowsched runs --state in_doubt" in done.out


def test_audit_begins_where_the_ledger_has_kept_its_runs(bare: Installation) -> None:
    in_force(bare, 1, 2, 3)
    bare.change(lambda ledger: ledger.forget(T0 + 2.5 * HOUR, 100))

    done = bare("audit", "--from", "2025-01-01T00:00Z")
    report = bare("audit", "--format", "json").json

    assert done.code == 0
    assert done.out.startswith("from 2026-01-01T02:30:00Z up to ")
    assert "older runs were removed, as `keep` in flowsched.yaml has it" in done.out
    assert (report["kept_from"], report["fire_times"]) == ("2026-01-01T02:30:00Z", 1)


def test_audit_of_a_time_whose_runs_were_removed_is_wrong_usage(bare: Installation) -> None:
    in_force(bare, 1, 2, 3)
    bare.change(lambda ledger: ledger.forget(T0 + 2.5 * HOUR, 100))

    done = bare("audit", "--to", "2026-01-01T01:00Z")

    assert (done.code, done.out) == (2, "")
    assert "nothing to audit before 2026-01-01T01:00:00Z" in done.err
    assert "as older runs were removed" in done.err


def test_audit_tells_terms_of_other_zone_data_apart(bare: Installation) -> None:
    other = replace(HOURLY, timing=replace(HOURLY.timing, rules="0123456789abcdef"))

    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(other), T0)
        rows = [a_new_run(schedule_id="hourly", fire_time=T0 + HOUR, state=RunState.MISSED)]
        await ledger.claim(rows, [Cursor("hourly", other.timing, T0 + 2 * HOUR)])
        await ledger.apply(catalog(), T0 + 2.5 * HOUR)

    bare.change(work)

    done = bare("audit")
    report = bare("audit", "--format", "json").json

    assert done.code == 0
    assert "1 term of other time zone data than this machine has: 1 difference" in done.out
    assert done.out.splitlines()[-1].startswith("nothing missing, nothing twice: 1 fire time,")
    assert (report["findings"], report["other_rules"]["terms"]) == ([], 1)
    (lost,) = report["other_rules"]["findings"]
    assert (lost["verdict"], lost["fire_time"]) == ("lost", "2026-01-01T02:00:00Z")


def test_audit_goes_over_more_runs_than_fit_a_page(
    bare: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowsched.cli.audit._PAGE", 2)
    in_force(bare, *range(1, 8), until=7.5)

    assert bare("audit", "--format", "json").json["aligned"] == 7


def while_it_compares(
    monkeypatch: pytest.MonkeyPatch, installation: Installation, works: Iterator[Callable[[Ledger], Any]]
) -> None:
    """Have a daemon's doings fall between the reading of the terms and that of the runs."""

    def compare_later(*arguments: Any, **more: Any) -> Any:
        for work in islice(works, 1):
            installation.change(work)
        return compare(*arguments, **more)

    monkeypatch.setattr("flowsched.audit.compare", compare_later)


RENAMED = replace(HOURLY, id="hourly-ingest", renamed_from="hourly")


def test_a_rename_while_it_audits_is_no_finding(bare: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def before(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        await fire(ledger, 1)

    async def meanwhile(ledger: Ledger) -> None:
        await ledger.apply(catalog(RENAMED), T0 + 3 * HOUR)
        rows = [a_new_run(schedule_id=RENAMED.id, fire_time=T0 + hour * HOUR) for hour in (2, 3)]
        await ledger.claim(rows, [Cursor(RENAMED.id, RENAMED.timing, T0 + 3 * HOUR)])

    bare.change(before)
    while_it_compares(monkeypatch, bare, iter([meanwhile]))

    report = bare("audit", "--to", "2026-01-01T03:30Z", "--format", "json").json

    assert (report["ok"], report["aligned"], report["unsteady"]) == (True, 3, False)


def test_a_ledger_that_changes_all_the_time_is_said_to_do_so(
    bare: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(number: int) -> Callable[[Ledger], Any]:
        schedule = a_schedule(f"other-{number}", "0 0 1 1 *")
        return lambda ledger: ledger.apply(catalog(schedule), T0 + (4 + number) * HOUR)

    in_force(bare, 1, 2)
    while_it_compares(monkeypatch, bare, map(edit, count()))

    done = bare("audit", "--to", "2026-01-01T03:30Z")

    assert done.code == 1
    assert "changed by an edit or a removal of old runs meanwhile: ask again" in done.out


def test_audit_of_an_empty_ledger_finds_nothing(bare: Installation) -> None:
    async def nothing(_: Ledger) -> None:
        pass

    bare.change(nothing)

    done = bare("audit")

    assert done.code == 0
    assert done.out.splitlines()[1:] == [
        "0 fire times of 0 schedules: 0 with a run",
        "0 runs",
        "nothing missing, nothing twice: 0 fire times, each with one run",
    ]


@pytest.mark.parametrize("command", [["audit"], ["resolve", "1", "--failed", "--reason", "because"]])
def test_a_ledger_that_is_not_there_is_not_made(bare: Installation, command: list[str]) -> None:
    done = bare(*command)

    assert done.code == 3
    assert "ledger.db does not exist" in done.err
    assert not (bare.folder / "ledger.db").exists()


@pytest.fixture
def doubtful(bare: Installation) -> Installation:
    """Run 1 is in doubt and watched; 2 is sending; 3 claimed; 4 missed."""

    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)
        first, second = await fire(ledger, 1, 2, watch=6 * HOUR)
        await put_in_doubt(ledger, first)
        await ledger.begin_attempt(second.id, 1, second.fire_time)
        await fire(ledger, 3)
        await fire(ledger, 4, state=RunState.MISSED, reason="too late")

    bare.change(work)
    return bare


def run_of(installation: Installation, number: int) -> Any:
    (run,) = installation("runs", "--run", str(number), "--format", "json").json["runs"]
    return run


def test_a_run_in_doubt_is_resolved_as_triggered(doubtful: Installation) -> None:
    done = doubtful("resolve", "1", "--triggered", "--reason", "seen in the console")

    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "run 1 (hourly, fire time 2026-01-01T01:00:00Z) was in doubt and is now triggered,"
        " instance 3377-20260101000000\n"
    )
    run = run_of(doubtful, 1)
    assert run["state"] == "triggered"
    assert run["reason"] == f"resolved by hand ({getpass.getuser()}): seen in the console"
    assert run["flow_state"]["state"] == "going"


def test_a_run_in_doubt_is_resolved_as_failed(doubtful: Installation) -> None:
    done = doubtful("resolve", "1", "--failed", "--reason", "  it is not there  ", "--format", "json")

    assert done.code == 0
    assert (done.json["id"], done.json["state"], done.json["flow_state"]) == (1, "failed", None)
    assert done.json["reason"].endswith("): it is not there")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            2,
            "run 2 is sending, not in doubt: a daemon has it under way, or will find it in doubt at its next",
        ),
        (3, "run 3 is claimed, not in doubt: a daemon carries it on by itself"),
        (4, "run 4 is missed, not in doubt: that is final"),
        (5, "there is no run 5 in the ledger; `flowsched runs` shows their numbers"),
    ],
)
def test_only_a_run_in_doubt_can_be_resolved(doubtful: Installation, number: int, said: str) -> None:
    done = doubtful("resolve", str(number), "--failed", "--reason", "because")

    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_a_run_is_resolved_once(doubtful: Installation) -> None:
    doubtful("resolve", "1", "--failed", "--reason", "because")

    done = doubtful("resolve", "1", "--triggered", "--reason", "no, it was there")

    assert (done.code, run_of(doubtful, 1)["state"]) == (1, "failed")
    assert "run 1 is failed, not in doubt" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["1", "--reason", "x"], "exactly one of --triggered and --failed"),
        (["1", "--triggered", "--failed", "--reason", "x"], "exactly one of --triggered and --failed"),
        (["1", "--failed"], "Missing option '--reason'"),
        (["1", "--failed", "--reason", "  "], "one line of 1 to 500 printable characters"),
        (["1", "--failed", "--reason", "a\nb"], "one line of 1 to 500 printable characters"),
        (["1", "--failed", "--reason", "x" * 501], "one line of 1 to 500 printable characters"),
        (
            ["nightly", "--failed", "--reason", "x"],
            "'nightly' is no run; allowed: a number that `flowsched runs` shows",
        ),
        (["0", "--failed", "--reason", "x"], "'0' is no run"),
        ([str(2**63), "--failed", "--reason", "x"], "is no run"),
    ],
)
def test_resolve_says_how_it_is_used(doubtful: Installation, arguments: list[str], said: str) -> None:
    done = doubtful("resolve", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert run_of(doubtful, 1)["state"] == "in_doubt"


def test_a_reason_may_be_as_long_as_a_paragraph(doubtful: Installation) -> None:
    assert doubtful("resolve", "1", "--failed", "--reason", "x" * 500).code == 0


def test_a_user_without_a_name_is_written_down_by_number(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("no such user")

    monkeypatch.setattr("getpass.getuser", nameless)

    doubtful("resolve", "1", "--failed", "--reason", "because")

    assert run_of(doubtful, 1)["reason"] == f"resolved by hand ({os.getuid()}): because"


def test_runs_show_one_run_by_its_number(doubtful: Installation) -> None:
    assert run_of(doubtful, 3)["state"] == "claimed"

    for arguments in (["runs", "--run", "9"], ["runs", "--run", "9", "--format", "json"]):
        done = doubtful(*arguments)
        assert (done.code, done.out) == (1, "")
        assert "flowsched: there is no run 9 in the ledger; `flowsched runs` shows their numbers" in done.err


@pytest.mark.parametrize(
    ("id_", "files", "code", "says"),
    [
        ("hourly", "hourly", 0, "no such runs\n"),
        ("hourly", "other", 0, "no such runs\n"),
        ("new-one", "new-one", 0, "no such runs\n"),
        ("hourli", "other", 1, "in the ledger, and none in the files; did you mean 'hourly'?"),
        ("othr", "other", 1, "did you mean 'other'?"),
        ("hourli", "other: 5", 1, "in the ledger, and the files cannot be used; did you mean 'hourly'?"),
    ],
)
def test_a_misspelt_schedule_is_said_to_be_none(
    bare: Installation, id_: str, files: str, code: int, says: str
) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.apply(catalog(HOURLY), T0)

    bare.change(work)
    bare.write("schedules/a.yaml", f"schedules: {{{files}: {{cron: '0 * * * *', timezone: UTC, flow: 1}}}}\n")

    done = bare("runs", "--schedule", id_)

    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_one_run_is_shown_whatever_its_state(doubtful: Installation) -> None:
    done = doubtful("runs", "--run", "1", "--state", "failed")

    assert (done.code, done.out) == (2, "")
    assert "leave out --schedule and --state" in done.err


def header(done: Done) -> list[str]:
    return [name for name in done.out.splitlines()[0].split("  ") if name]


def test_runs_show_when_they_are_due_and_their_flow_only_where_there_is_something_to_show(
    bare: Installation,
) -> None:
    in_force(bare, 1)
    plain = [name.strip() for name in header(bare("runs"))]

    async def work(ledger: Ledger) -> None:
        (run,) = await fire(ledger, 5, due_at=T0 + 5 * HOUR + 90 * SECOND, watch=6 * HOUR)
        await ledger.begin_attempt(run.id, 1, run.due_at, "cancelled 3377-20260101040000")
        answer = an_answer(Outcome.ACCEPTED, instance="3377-20260101050000")
        await ledger.end_attempt(run.id, 1, run.due_at, answer, NextStep(RunState.TRIGGERED, "at last"))
        sighting = Sighting(
            seen=Seen.FOUND, detail="", flow=FlowState.FAILED, status=7, started="a", ended="b"
        )
        await ledger.record_watch(run.id, run.due_at + HOUR, FlowState.FAILED, sighting)

    bare.change(work)
    done = bare("runs", "--limit", "1")

    assert not {"due (UTC)", "flow"} & set(plain)
    assert {"due (UTC)", "flow"} <= {name.strip() for name in header(done)}
    assert "2026-01-01T05:01:30Z" in done.out
    assert "failed (status 7)" in done.out
    assert done.out.rstrip().endswith("at last; cancelled 3377-20260101040000")


def test_a_run_in_json_has_all_that_was_decided_about_it(doubtful: Installation) -> None:
    doubtful("resolve", "1", "--triggered", "--reason", "because")

    watched, unwatched = run_of(doubtful, 1), run_of(doubtful, 3)

    assert (watched["watch"], unwatched["watch"]) == (21_600.0, None)
    assert watched["flow_state"].keys() == {"state", "status", "started", "ended", "until"}
    assert unwatched["flow_state"] is None
    assert {"due_at", "overlap", "overlap_fallback", "note"} <= unwatched.keys()
    assert unwatched["overlap"] == "queue"
