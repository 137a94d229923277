from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.admission import ON_TIME as ADMITTED_ON_TIME
from flowsched.admission import Due, admit, cut_off, inheritors, overlapping, same_timing
from flowsched.model import CatchUp, FlowState, Origin, Overlap, RunState, Schedule, Term, Timing
from tests.builders import T0, a_run, a_schedule, absent, found, unclear

if TYPE_CHECKING:
    from flowsched.model import Sighting

NOW = T0 + timedelta(days=1)


def ago(*minutes: float, jitter: float = 0) -> list[Due]:
    """Return fire times so many minutes ago, each due `jitter` minutes later."""
    at = [NOW - timedelta(minutes=each) for each in minutes]
    return [Due(each, each + timedelta(minutes=jitter)) for each in at]


def decided(catch_up: CatchUp, due: list[Due], window: float = 60, *, more: bool = False) -> list[str]:
    schedule = a_schedule(catch_up=catch_up, catch_up_window=timedelta(minutes=window))
    return [f"{each.state} {each.origin}" for each in admit(schedule, due, NOW, more=more)]


MISSED, ON_TIME, CAUGHT_UP = "missed schedule", "claimed schedule", "claimed catch_up"


@pytest.mark.parametrize("catch_up", CatchUp)
def test_a_fire_up_to_a_minute_late_is_an_ordinary_one(catch_up: CatchUp) -> None:
    assert decided(catch_up, ago(1, 0)) == [ON_TIME, ON_TIME]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp.NONE, [MISSED, MISSED, MISSED, MISSED]),
        (CatchUp.LATEST, [MISSED, MISSED, MISSED, CAUGHT_UP]),
        (CatchUp.ALL, [MISSED, CAUGHT_UP, CAUGHT_UP, CAUGHT_UP]),
    ],
)
def test_after_downtime_the_policy_decides_inside_the_window(catch_up: CatchUp, expected: list[str]) -> None:
    assert decided(catch_up, ago(60.1, 60, 30, 1.1)) == expected


def test_latest_prefers_a_fire_that_is_due_right_now() -> None:
    assert decided(CatchUp.LATEST, ago(30, 0.5)) == [MISSED, ON_TIME]


def test_a_window_of_zero_catches_nothing_up() -> None:
    assert decided(CatchUp.ALL, ago(2, 0), window=0) == [MISSED, ON_TIME]


@pytest.mark.parametrize(
    ("catch_up", "minutes", "reason"),
    [
        (CatchUp.NONE, 5, "5m late, and catch_up is none"),
        (CatchUp.LATEST, 61.5, "1h1m30s late, outside the catch_up_window of 1h"),
        (CatchUp.ALL, 26 * 60, "1d2h late, outside the catch_up_window of 1h"),
    ],
)
def test_a_missed_fire_says_why(catch_up: CatchUp, minutes: float, reason: str) -> None:
    (decision,) = admit(a_schedule(catch_up=catch_up), ago(minutes), NOW)

    assert decision.reason == reason


def test_a_fire_given_up_for_a_later_one_says_so() -> None:
    first, _ = admit(a_schedule(catch_up=CatchUp.LATEST), ago(5, 2), NOW)

    assert first.reason == "5m late, and catch_up: latest starts a later fire instead"


@pytest.mark.parametrize("catch_up", CatchUp)
def test_late_is_counted_from_when_it_was_due_jitter_included(catch_up: CatchUp) -> None:
    assert decided(catch_up, ago(20, jitter=30)) == [ON_TIME]
    assert decided(catch_up, ago(31, jitter=30)) == [ON_TIME]
    assert decided(CatchUp.ALL, ago(90, jitter=30)) == [CAUGHT_UP]
    assert decided(CatchUp.ALL, ago(90.1, jitter=30)) == [MISSED]
    (decision,) = admit(a_schedule(catch_up=CatchUp.NONE), ago(35, jitter=30), NOW)
    assert decision.reason == "5m late, and catch_up is none"


def test_each_decision_keeps_when_its_fire_is_due() -> None:
    (decision,) = admit(a_schedule(), ago(20, jitter=30), NOW)

    assert decision.due_at - decision.fire_time == timedelta(minutes=30)


def test_where_more_have_come_none_of_these_is_the_latest() -> None:
    assert decided(CatchUp.LATEST, ago(30, 20), more=True) == [MISSED, MISSED]
    assert decided(CatchUp.ALL, ago(30, 20), more=True) == [CAUGHT_UP, CAUGHT_UP]


def blacked_out(*due: Due) -> list[Due]:
    return [each._replace(skip="blackout: freeze") for each in due]


@pytest.mark.parametrize("catch_up", CatchUp)
def test_what_a_blackout_leaves_out_is_skipped_however_late(catch_up: CatchUp) -> None:
    due = blacked_out(*ago(1000 * 24 * 60, 30, 0))

    decisions = admit(a_schedule(catch_up=catch_up), due, NOW)

    assert {(each.state, each.origin, each.reason) for each in decisions} == {
        (RunState.SKIPPED, Origin.SCHEDULE, "blackout: freeze")
    }


def test_latest_is_the_latest_that_no_blackout_leaves_out() -> None:
    older, latest, left_out = ago(30, 20, 10)

    assert decided(CatchUp.LATEST, [older, latest, *blacked_out(left_out)]) == [
        MISSED,
        CAUGHT_UP,
        "skipped schedule",
    ]


def test_what_is_to_be_noted_of_a_fire_goes_with_its_decision() -> None:
    due = [each._replace(note="deferred") for each in ago(90, 30, 0)]

    decisions = admit(a_schedule(catch_up=CatchUp.ALL), due, NOW)

    assert [(each.state, each.note) for each in decisions] == [
        (RunState.MISSED, "deferred"),
        (RunState.CLAIMED, "deferred"),
        (RunState.CLAIMED, "deferred"),
    ]


def test_nothing_due_is_nothing_decided() -> None:
    assert admit(a_schedule(), [], NOW) == []


@given(
    catch_up=st.sampled_from(CatchUp),
    late=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 3_600)), unique_by=lambda pair: pair[0]),
    window=st.integers(0, 10_000),
    more=st.booleans(),
)
def test_what_comes_out_is_what_went_in(
    catch_up: CatchUp,
    late: list[tuple[int, int]],
    window: int,
    more: bool,  # noqa: FBT001 - drawn
) -> None:
    times = sorted((NOW - timedelta(seconds=ago), timedelta(seconds=jitter)) for ago, jitter in late)
    due = [Due(at, at + jitter) for at, jitter in times]
    schedule = a_schedule(catch_up=catch_up, catch_up_window=timedelta(seconds=window))

    decisions = admit(schedule, due, NOW, more=more)

    assert [Due(each.fire_time, each.due_at) for each in decisions] == due
    for each in decisions:
        lateness = NOW - each.due_at
        claimed = each.state is RunState.CLAIMED
        assert claimed or each.state is RunState.MISSED
        assert claimed == (each.reason is None)
        assert claimed or each.origin is Origin.SCHEDULE
        assert (each.origin is Origin.CATCH_UP) == (claimed and lateness > ADMITTED_ON_TIME)
        assert claimed or lateness > ADMITTED_ON_TIME
        assert each.origin is Origin.SCHEDULE or lateness <= schedule.catch_up_window
    caught_up = [each for each in decisions if each.origin is Origin.CATCH_UP]
    if catch_up is CatchUp.NONE:
        assert not caught_up
    if catch_up is CatchUp.LATEST:
        assert caught_up in ([], decisions[-1:])
        assert not (caught_up and more)


@pytest.mark.parametrize(
    ("schedule", "change"),
    [
        (None, "was removed"),
        (a_schedule(enabled=False), "was disabled"),
        (a_schedule(), "got another timing"),
        (
            a_schedule("new", renamed_from="nightly", enabled=False),
            "was renamed to new and was disabled",
        ),
        (a_schedule("new", renamed_from="nightly"), "was renamed to new and got another timing"),
    ],
)
def test_what_an_edit_cut_off_says_so(schedule: Schedule | None, change: str) -> None:
    new = {schedule.id: schedule} if schedule else {}

    assert cut_off("nightly", new) == (
        f"its schedule {change} before this could be fired, and an edit fires nothing that has passed"
    )
    assert cut_off("nightly", new, deferred=True) == (
        f"its schedule {change} while a blackout deferred this, and an edit fires nothing that has passed"
    )


GOING, ENDED, FAILED = found(), found(FlowState.SUCCEEDED, 1), found(FlowState.FAILED, 7)


def judged(overlap: Overlap, fallback: Overlap, *sightings: Sighting) -> tuple[bool, str]:
    """Return whether it is skipped, and which of the previous instances (a, b, ...) are cancelled."""
    run = a_run(overlap=overlap, overlap_fallback=fallback)
    seen = dict(zip("abcd", sightings, strict=False))
    decision = overlapping(run, dict.fromkeys(seen, run.fire_time - timedelta(minutes=1)), seen)
    assert (decision.text is not None) == (decision.skip or any(each == unclear() for each in sightings))
    return decision.skip, "".join(decision.cancel)


@pytest.mark.parametrize("fallback", [Overlap.QUEUE, Overlap.SKIP])
@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.CANCEL_PREVIOUS])
def test_what_has_ended_or_is_not_there_stands_in_no_way(overlap: Overlap, fallback: Overlap) -> None:
    assert judged(overlap, fallback) == (False, "")
    assert judged(overlap, fallback, ENDED, FAILED, absent()) == (False, "")


@pytest.mark.parametrize("fallback", [Overlap.QUEUE, Overlap.SKIP])
def test_what_is_going_is_skipped_for_or_cancelled(fallback: Overlap) -> None:
    assert judged(Overlap.SKIP, fallback, ENDED, GOING) == (True, "")
    assert judged(Overlap.CANCEL_PREVIOUS, fallback, GOING, ENDED, GOING) == (False, "ac")


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.CANCEL_PREVIOUS])
def test_what_is_unclear_is_decided_by_the_fallback(overlap: Overlap) -> None:
    assert judged(overlap, Overlap.QUEUE, unclear(), ENDED) == (False, "")
    assert judged(overlap, Overlap.SKIP, unclear(), ENDED) == (True, "")


def test_what_is_going_decides_before_what_is_unclear() -> None:
    assert judged(Overlap.SKIP, Overlap.QUEUE, unclear(), GOING) == (True, "")
    assert judged(Overlap.CANCEL_PREVIOUS, Overlap.QUEUE, unclear(), GOING) == (False, "b")
    assert judged(Overlap.CANCEL_PREVIOUS, Overlap.SKIP, unclear(), GOING) == (True, "")


@pytest.mark.parametrize("fallback", [Overlap.QUEUE, Overlap.SKIP])
@pytest.mark.parametrize(
    ("overlap", "sighting", "text"),
    [
        (Overlap.CANCEL_PREVIOUS, GOING, "overlap: a later fire's instance b is going"),
        (Overlap.SKIP, GOING, "overlap: the instance is going"),
        (Overlap.CANCEL_PREVIOUS, ENDED, None),
        (Overlap.SKIP, ENDED, None),
    ],
)
def test_the_instance_of_a_later_fire_is_never_cancelled_for_an_earlier_one(
    overlap: Overlap, fallback: Overlap, sighting: Sighting, text: str | None
) -> None:
    run = a_run(overlap=overlap, overlap_fallback=fallback)
    made = {"a": run.fire_time - timedelta(minutes=1), "b": run.fire_time + timedelta(minutes=1)}

    decision = overlapping(run, made, {"a": ENDED, "b": sighting})

    assert (decision.skip, decision.cancel, decision.text) == (text is not None, (), text)


def test_a_run_that_was_overtaken_cancels_nothing_at_all() -> None:
    run = a_run(overlap=Overlap.CANCEL_PREVIOUS)
    made = {"a": run.fire_time - timedelta(minutes=1), "b": run.fire_time + timedelta(minutes=1)}

    decision = overlapping(run, made, {"a": GOING, "b": GOING})

    assert (decision.skip, decision.cancel) == (True, ())


# What goes on after an edit

TIMING = Timing("30 2 * * *", "Europe/Berlin", T0, NOW, "2025b")


def timed(
    id_: str, timing: Timing = TIMING, *, enabled: bool = True, renamed_from: str | None = None
) -> Schedule:
    return replace(a_schedule(id_, enabled=enabled, renamed_from=renamed_from), timing=timing)


def term(id_: str, timing: Timing = TIMING) -> Term:
    return Term(
        schedule_id=id_,
        timing=timing,
        target=None,
        flow=None,
        task=None,
        from_at=T0,
        cursor_at=T0,
        until_at=None,
        deferred_until=None,
        blackout="",
    )


def heirs(terms: list[Term], *schedules: Schedule) -> dict[str, str]:
    found = inheritors(terms, {one.id: one for one in schedules})
    return {id_: one.schedule_id for id_, one in found.items()}


OTHER = replace(TIMING, cron="31 2 * * *")


@pytest.mark.parametrize(
    "other",
    [
        OTHER,
        replace(TIMING, timezone="UTC"),
        replace(TIMING, starts_at=None),
        replace(TIMING, ends_at=T0),
        replace(TIMING, rules="2026a"),
        replace(OTHER, rules=""),
    ],
)
def test_a_timing_is_the_same_as_a_whole_only(other: Timing) -> None:
    assert not same_timing(TIMING, other)
    assert not same_timing(other, TIMING)
    assert heirs([term("a")], timed("a", other), timed("b", other, renamed_from="a")) == {}


def test_rules_that_are_not_known_make_no_other_timing() -> None:
    unknown = replace(TIMING, rules="")

    assert same_timing(TIMING, unknown)
    assert same_timing(unknown, TIMING)


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        ([timed("a")], {"a": "a"}),
        ([timed("b")], {}),
        ([timed("a", enabled=False)], {}),
        ([timed("b", renamed_from="a")], {"b": "a"}),
        ([timed("b", renamed_from="x")], {}),
        ([timed("b", renamed_from="a", enabled=False)], {}),
        ([timed("b", OTHER, renamed_from="a")], {}),
        ([timed("a"), timed("b", renamed_from="a")], {"a": "a"}),
        ([timed("a", enabled=False), timed("b", renamed_from="a")], {}),
        ([timed("a", OTHER), timed("b", renamed_from="a")], {}),
        ([timed("b", renamed_from="a"), timed("c", renamed_from="a")], {"b": "a"}),
        ([timed("b", OTHER, renamed_from="a"), timed("c", renamed_from="a")], {"c": "a"}),
        ([timed("b", renamed_from="a", enabled=False), timed("c", renamed_from="a")], {"c": "a"}),
        ([timed("there", renamed_from="a")], {"there": "there"}),
        ([timed("there", OTHER, renamed_from="a")], {}),
    ],
    ids=[
        "unchanged",
        "removed",
        "disabled",
        "renamed",
        "renamed from nothing",
        "renamed and disabled",
        "renamed and retimed",
        "the old id stays",
        "the old id stays, disabled",
        "the old id stays, retimed",
        "renamed to two",
        "renamed to two, the first retimed",
        "renamed to two, the first disabled",
        "renamed long ago",
        "renamed long ago, and retimed now",
    ],
)
def test_a_schedule_goes_on_in_its_own_term_or_in_that_of_its_former_id(
    schedules: list[Schedule], expected: dict[str, str]
) -> None:
    assert heirs([term("a"), term("there")], *schedules) == expected


IDS = st.sampled_from("abcd")


@given(
    terms=st.dictionaries(IDS, st.sampled_from([TIMING, OTHER])),
    wanted=st.dictionaries(IDS, st.tuples(st.sampled_from([TIMING, OTHER]), st.booleans(), st.none() | IDS)),
)
def test_a_term_goes_on_once_at_most_and_never_under_two_ids(
    terms: dict[str, Timing], wanted: dict[str, tuple[Timing, bool, str | None]]
) -> None:
    schedules = [
        timed(id_, timing, enabled=enabled, renamed_from=former)
        for id_, (timing, enabled, former) in wanted.items()
    ]

    found = heirs([term(id_, timing) for id_, timing in terms.items()], *schedules)

    assert len(set(found.values())) == len(found)
    for id_, former in found.items():
        assert wanted[id_][:2] == (terms[former], True)
        assert former == id_ or former not in wanted
