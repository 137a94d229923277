"""What can be asked of a daemon, path by path; how it is said; who it was."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowsched.control.documents import run_document, status_document
from flowsched.control.history import RunsFound, RunsWanted, found_documents
from flowsched.control.routes import answer, unpacked
from flowsched.control.who import header_of, is_unknown, name_in, who
from flowsched.control.words import ailments, needs, sentence, unready
from flowsched.errors import (
    ConfigError,
    ControlRefusal,
    FlowschedError,
    LedgerError,
    LedgerRefusal,
    LedgerUnusable,
    NoDaemon,
    Problem,
    UsageError,
)
from flowsched.model import (
    MOST_SHOWN,
    AppliedCatalog,
    Commit,
    Late,
    Origin,
    Phase,
    ReloadOutcome,
    RunState,
    Scope,
    TargetStatus,
)
from tests.builders import a_run
from tests.fakes import look_ups_that_hang
from tests.wheel import HEALTH, NOW, PAUSE, RELOAD, REVISION, RemarkingWheel, a_status, an_upcoming

HALF_TWO = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)


async def ask(
    method: str, path: str, body: dict[str, object] | None = None, wheel: RemarkingWheel | None = None
) -> tuple[int, Any]:
    return await answer(wheel or RemarkingWheel(), method, path, body or {}, "bob")


@pytest.mark.parametrize(
    ("method", "path", "body", "asked"),
    [
        ("POST", "/v1/reload", {}, ("reload", "bob", True)),
        ("POST", "/v1/reload", {"wait": False}, ("reload", "bob", False)),
        ("POST", "/v1/accept", {"digest": "3f2a"}, ("accept", "3f2a", "bob", None)),
        (
            "POST",
            "/v1/trigger",
            {
                "schedule": "nightly",
                "at": "2026-11-21T03:30:00+01:00",
                "origin": "backfill",
                "reason": " why ",
            },
            ("trigger", "nightly", HALF_TWO, Origin.BACKFILL, "bob", "why"),
        ),
        (
            "POST",
            "/v1/trigger",
            {"schedule": "nightly", "at": None},
            ("trigger", "nightly", None, Origin.MANUAL, "bob", None),
        ),
        (
            "GET",
            "/v1/fires",
            {"schedule": "a", "from": "2026-11-21T02:30Z", "to": "2026-11-21T02:30:00Z", "every": "3"},
            ("fires", "a", HALF_TWO, HALF_TWO, 3),
        ),
        (
            "POST",
            "/v1/pause",
            {"scope": "target", "name": "eu", "until": "2026-11-21T02:30Z", "reason": "why"},
            ("pause", Scope.TARGET, "eu", HALF_TWO, "bob", "why"),
        ),
        ("POST", "/v1/resume", {"scope": "all"}, ("resume", Scope.ALL, None, "bob", None)),
        ("POST", "/v1/cancel", {"run": 17, "reason": "why"}, ("cancel", 17, "bob", "why")),
        (
            "POST",
            "/v1/resolve",
            {"run": 17, "state": "failed", "reason": "why"},
            ("resolve", 17, RunState.FAILED, "bob", "why"),
        ),
        ("GET", "/v1/runs/17", {}, ("runs", RunsWanted(run_id=17))),
        ("GET", "/v1/runs/17", {"attempts": "true"}, ("runs", RunsWanted(run_id=17, attempts=True))),
        ("GET", "/v1/runs", {}, ("runs", RunsWanted())),
        (
            "GET",
            "/v1/runs",
            {"schedule": "a", "state": "failed", "limit": "3", "attempts": "true"},
            ("runs", RunsWanted(schedule_id="a", state=RunState.FAILED, limit=3, attempts=True)),
        ),
        ("GET", "/v1/actions", {"limit": "5"}, ("actions", 5)),
        ("GET", "/v1/catalogs", {}, ("catalogs", 50)),
        ("POST", "/v1/alert-test", {}, ("alert_test", None, "bob")),
    ],
)
async def test_each_path_asks_the_wheel_for_one_thing(
    method: str, path: str, body: dict[str, object], asked: tuple[object, ...]
) -> None:
    wheel = RemarkingWheel()

    status, document = await ask(method, path, body, wheel)

    assert (status, wheel.asked) == (200, [asked])
    assert json.loads(json.dumps(document)) == document  # plain JSON, to the last value


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "/v1/pause", {"scope": "schedule", "name": "a"}, "reason is missing"),
        ("POST", "/v1/pause", {"scope": "schedule", "reason": "why"}, "name is missing"),
        ("POST", "/v1/pause", {"scope": "all", "name": "a", "reason": "why"}, "the scope is all"),
        ("POST", "/v1/pause", {"scope": "some", "reason": "why"}, "allowed: all, target, schedule"),
        ("POST", "/v1/pause", {"scope": ["all"], "reason": "why"}, "scope is of the type list"),
        ("POST", "/v1/pause", {"scope": "all", "reason": "two\nlines"}, "one line of 1 to 500 printable"),
        ("POST", "/v1/pause", {"scope": "all", "reason": "x" * 501}, "one line of 1 to 500 printable"),
        ("POST", "/v1/pause", {"scope": "all", "reason": "why", "untill": "x"}, "did you mean"),
        ("POST", "/v1/trigger", {"schedule": "a", "at": "2026-11-21T02:30"}, "ISO 8601 with an offset"),
        ("POST", "/v1/trigger", {"schedule": "a", "at": "0001-01-01T00:00+01:00"}, "ISO 8601"),
        ("POST", "/v1/trigger", {"schedule": "a", "at": 5}, "at is of the type int"),
        ("POST", "/v1/trigger", {"schedule": "a", "origin": "schedule"}, "allowed: backfill, manual"),
        ("POST", "/v1/cancel", {"run": True, "reason": "why"}, "a whole number from 1"),
        ("POST", "/v1/cancel", {"run": "-1", "reason": "why"}, "a whole number from 1"),
        ("POST", "/v1/cancel", {"run": 10**18, "reason": "why"}, "a whole number from 1"),
        ("POST", "/v1/resolve", {"run": 1, "state": "missed", "reason": "why"}, "allowed: triggered, failed"),
        ("GET", "/v1/actions", {"limit": "0"}, "from 1 to 10000"),
        ("GET", "/v1/runs", {"limit": "10001"}, "from 1 to 10000"),
        ("GET", "/v1/runs", {"state": "gone"}, "allowed: claimed, sending"),
        ("GET", "/v1/status", {"last_success": "perhaps"}, "allowed: true, false"),
    ],
)
async def test_a_wrong_field_is_refused_with_what_is_allowed(
    method: str, path: str, body: dict[str, object], says: str
) -> None:
    wheel = RemarkingWheel()

    status, document = await ask(method, path, body, wheel)

    assert (status, wheel.asked) == (400, [])
    assert says in document["error"]


async def test_a_path_that_is_not_there_and_a_wrong_method_say_so() -> None:
    assert (await ask("GET", "/v1/nothing"))[0] == 404
    assert (await ask("GET", "/v1/runs/017"))[0] == 404
    status, document = await ask("GET", "/v1/pause")
    assert (status, document["error"]) == (405, "/v1/pause is not to be asked with 'GET'; allowed: POST")


async def test_a_run_that_the_ledger_does_not_have_is_not_found() -> None:
    wheel = RemarkingWheel()
    wheel.found = None

    status, document = await ask("GET", "/v1/runs/17", wheel=wheel)

    assert (status, document["error"].split(";")[0]) == (404, "there is no run 17 in the ledger")


@pytest.mark.parametrize(
    ("error", "status", "raised"),
    [
        (ControlRefusal("not now"), 409, ControlRefusal),
        (LedgerRefusal("not so"), 409, ControlRefusal),
        (ConfigError([Problem("a.yaml", 1, 1, "", "bad")]), 409, ControlRefusal),
        (LedgerError("locked"), 503, LedgerError),
        (LedgerUnusable("corrupt"), 503, LedgerError),
        (UsageError("makes no sense"), 400, UsageError),
    ],
)
async def test_what_stands_in_the_way_goes_over_the_wire_and_back(
    error: FlowschedError, status: int, raised: type[FlowschedError]
) -> None:
    wheel = RemarkingWheel()
    wheel.fails = error

    answered = await ask("POST", "/v1/reload", wheel=wheel)

    assert answered == (status, {"error": str(error)})
    with pytest.raises(raised) as again:
        unpacked(*answered)
    assert (type(again.value), str(again.value)) == (raised, str(error))


async def test_a_fault_of_ours_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    wheel = RemarkingWheel()
    wheel.fails = ZeroDivisionError("with something private in it")

    status, document = await ask("POST", "/v1/reload", wheel=wheel)

    assert (status, document) == (500, {"error": "a fault of flowsched; its log says more"})
    assert "something private" in caplog.text


async def test_that_there_is_no_daemon_is_no_answer() -> None:
    wheel = RemarkingWheel()
    wheel.fails = NoDaemon("there is none")

    with pytest.raises(NoDaemon, match="there is none"):
        await ask("GET", "/v1/status", wheel=wheel)


async def test_what_is_shown_waits_for_no_look_up_of_a_name() -> None:
    async with look_ups_that_hang():
        assert (await ask("GET", "/v1/status", {"last_success": "true"}))[0] == 200
        assert (await ask("GET", "/v1/runs"))[0] == 200


def test_a_run_is_plain_with_its_spans_in_seconds() -> None:
    run = a_run(watch=timedelta(hours=1), retry_at=NOW)

    document = run_document(run)

    assert (document["fire_time"], document["watch"]) == ("2026-01-01T00:00:00Z", 3600.0)
    assert (document["attempts_begun"], document["state"]) == (run.attempts, run.state.value)
    assert document["retry"]["deadline"] == run.retry.deadline.total_seconds()
    assert document["source"] == str(run.source)
    assert "attempts" not in document


def test_a_run_that_is_looked_up_has_the_commit_that_was_in_force_when_it_was_claimed() -> None:
    run = a_run(revision="r1", claimed_at=NOW)
    early, later = (
        AppliedCatalog(
            revision="r1",
            at=NOW + timedelta(hours=hours),
            schedules=1,
            enabled=1,
            commit=Commit(id=name, author="Bob", at=NOW, clean=True),
            tz_release=None,
        )
        for hours, name in ((-1, "a" * 40), (1, "b" * 40))
    )

    (known,) = found_documents(RunsFound([run], {}, {run.id: []}, [early, later]))
    (unknown,) = found_documents(RunsFound([run], {}, None, [later]))

    assert (known["commit"]["id"], known["flow_state"], known["attempts"]) == ("a" * 40, None, [])
    assert unknown["commit"] is None
    assert "attempts" not in unknown


def test_a_status_is_plain_and_holds_the_last_successes_only_where_they_are_wanted() -> None:
    commit = Commit(id="c" * 40, author="Bob <b@c.d>", at=NOW, clean=True)
    status = a_status(commit=commit, under_way=(a_run(),), recent=(a_run(),), pauses=(PAUSE,))

    short, long = status_document(status), status_document(status, last_success=True)

    assert json.loads(json.dumps(long)) == long
    assert "last_success" not in short
    assert long["last_success"] == {"nightly": "2026-11-21T05:00:00Z"}
    assert long["targets"][0]["token_age"] == 120.0
    assert long["pauses"][0]["over_at"] == "2026-11-21T16:00:00Z"
    assert long["counts"] == {"sending": 3}
    assert long["phase"] == "running"


def test_a_status_with_very_much_overdue_stays_short() -> None:
    overdue = {f"s{number:03}": NOW - timedelta(minutes=number) for number in range(200)}

    document = status_document(a_status(overdue=overdue))

    assert (len(document["overdue"]), document["overdue_count"]) == (MOST_SHOWN, 200)
    assert next(iter(document["overdue"])) == "s199"


def test_the_sentence_is_that_of_the_issue() -> None:
    assert sentence(a_status()) == (
        "128 schedules, 3 running, next 14:05 nightly-wind-report, catalog 3f2a1c77b0de ok"
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"phase": Phase.STARTING}, "starting"),
        ({"phase": Phase.STOPPING}, "stopping: 3 runs under way"),
        ({"phase": Phase.STOPPING, "counts": {RunState.SENDING: 1}}, "stopping: 1 run under way"),
        ({"enabled": 3}, "3 of 128 schedules enabled, "),
        ({"counts": {RunState.IN_DOUBT: 2, RunState.WAITING: 1}}, " 1 running, 2 in doubt, "),
        ({"overdue": {"a": NOW}}, " 1 overdue, "),
        ({"late": Late(2, NOW, None)}, " 2 late, "),
        ({"pauses": (PAUSE,)}, " 1 pause, "),
        ({"upcoming": ()}, " nothing next, "),
        ({"upcoming": (an_upcoming(paused=True),)}, " next fires paused, "),
        ({"upcoming": (an_upcoming("a", paused=True), an_upcoming("b"))}, " next 14:05 b, "),
        ({"upcoming": (an_upcoming(out_at=NOW + timedelta(days=1)),)}, " next 2026-11-22 14:00 nightly, "),
        ({"held": "f" * 64}, "catalog 3f2a1c77b0de, another held"),
    ],
)
def test_the_sentence_says_what_is_not_as_ever(more: dict[str, Any], says: str) -> None:
    assert says in sentence(a_status(**more))


REFUSED = replace(RELOAD, outcome=ReloadOutcome.REFUSED, revision=None, problems=("a.yaml:1:1: bad",))
STUCK = replace(HEALTH, ledger_latency=None, woke_ago=99.0, alive=False)
ASTRAY = TargetStatus(name="eu", token_age=None, clock_offset=timedelta(9), clock_is_off=True)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"counts": {RunState.IN_DOUBT: 1}}, "1 run in doubt"),
        ({"overdue": {"a": NOW - timedelta(hours=1)}}, "1 schedule overdue, since 13:00"),
        ({"late": Late(1, NOW, None)}, "1 run late, the first since 14:00"),
        (
            {"late": Late(2, NOW, "target a, 1 call a minute")},
            "14:00, which waits for target a, 1 ",
        ),
        ({"held": REVISION}, "flowsched apply --accept 3f2a1c77b0de"),
        ({"reload": REFUSED}, "schedule files refused; the catalog before them stays in force"),
        ({"health": STUCK}, "ledger does not answer, alarms last looked at 99 s ago"),
        ({"health": replace(HEALTH, ledger_error="locked")}, "ledger in trouble: locked"),
        ({"targets": (ASTRAY,)}, "clock of target eu"),
        ({"broken_channels": {"mail": NOW}}, "alert channel mail: nothing gets through since 14:00"),
    ],
)
def test_what_needs_a_person_is_said(more: dict[str, Any], says: str) -> None:
    (need,) = needs(a_status(**more))

    assert says in need


def test_a_daemon_that_is_well_needs_nobody_also_while_something_is_paused() -> None:
    assert needs(a_status(pauses=(PAUSE,), failed=3)) == ()
    assert unready(a_status(pauses=(PAUSE,), late=Late(1, NOW, None))) == ()
    assert ailments(HEALTH) == ()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"phase": Phase.STARTING}, "the daemon is starting"),
        ({"phase": Phase.STOPPING}, "the daemon is stopping"),
        ({"revision": ""}, "no catalog is in force"),
        ({"health": STUCK}, "not alive"),
        ({"overdue": {"a": NOW}}, "1 schedule overdue"),
    ],
)
def test_a_daemon_is_ready_only_where_it_fires_all_that_it_should(more: dict[str, Any], why: str) -> None:
    (reason,) = unready(a_status(**more))

    assert reason.startswith(why)


@pytest.mark.parametrize(
    ("peer", "claimed", "by"),
    [
        ("bob", "bob", "bob"),
        ("bob", None, "bob"),
        ("root", "bob", "root (for bob)"),
        (None, "bob", "bob"),
        (None, None, "unknown"),
    ],
)
def test_who_it_was_is_whom_the_kernel_names_and_whom_the_client_says(
    peer: str | None, claimed: str | None, by: str
) -> None:
    assert who(peer, claimed) == by


NOT_ALL = "         0     100000      65536\n"
ALL = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("uid", "uid_map", "unknown"),
    [(65_534, NOT_ALL, True), (1000, NOT_ALL, False), (65_534, ALL, False), (65_534, "", True)],
)
def test_nobody_is_a_user_like_any_other_where_all_users_are_known(
    uid: int, uid_map: str, *, unknown: bool
) -> None:
    assert is_unknown(uid, 65_534, uid_map) is unknown


@pytest.mark.parametrize("name", ["bob", "Jörg Müller", "bob@EXAMPLE.ORG", "a (b)", "50%"])
def test_a_name_goes_through_a_header_unchanged(name: str) -> None:
    assert header_of(name).isascii()
    assert name_in(header_of(name)) == name


def test_a_name_in_a_header_cannot_garble_a_terminal_nor_be_endless() -> None:
    assert name_in("bob%0A%1b[31m") == "bob\\n\\x1b[31m"
    assert len(name_in("x" * 1000) or "") == 64
    assert name_in(None) is None
    assert name_in("%20") is None
