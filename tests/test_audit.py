"""What an audit finds: nothing in books that are right, and each thing that is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowsched import timeline
from flowsched.audit import Finding, Tally, Verdict, compare, exact
from flowsched.model import Fired, Origin, RunState, Term, Timing
from tests.builders import T0

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOW = T0 + DAY
LATER_MINUTES = 10 * 24 * 60
LATER = T0 + LATER_MINUTES * MINUTE
HOURLY = Timing("0 * * * *", "UTC")


def a_term(schedule_id: str = "nightly", **more: Any) -> Term:
    """In force since T0, and accounted for up to NOW."""
    term = Term(
        schedule_id=schedule_id,
        timing=HOURLY,
        target="default",
        flow=3377,
        task=None,
        from_at=T0,
        cursor_at=NOW,
        until_at=None,
        deferred_until=None,
        blackout="",
    )
    return replace(term, **more)


def a_fired(fire_time: datetime, schedule_id: str = "nightly", **more: Any) -> Fired:
    fired = Fired(
        schedule_id=schedule_id,
        fire_time=fire_time,
        run_id=1,
        origin=Origin.SCHEDULE,
        state=RunState.TRIGGERED,
    )
    return replace(fired, **more)


def at(*hours: float) -> list[Fired]:
    return [a_fired(T0 + hour * HOUR) for hour in hours]


def found(terms: list[Term], fired: list[Fired], **more: Any) -> list[Finding]:
    asked: dict[str, Any] = {"from_": T0, "to": NOW, "now": NOW, "rules_of": lambda _: ""} | more
    return list(compare(terms, sorted(fired, key=place), **asked))


def place(fired: Fired) -> tuple[str, datetime]:
    return fired.schedule_id, fired.fire_time


def differing(terms: list[Term], fired: list[Fired], **more: Any) -> list[tuple[Verdict, float]]:
    """Each gap and surplus, with its hours since T0."""
    return [
        (finding.verdict, (finding.fire_time - T0) / HOUR)
        for finding in found(terms, fired, **more)
        if finding.differs
    ]


def test_each_fire_time_with_its_run_is_aligned_whatever_the_run_came_to() -> None:
    runs = [replace(run, state=state) for run, state in zip(at(*range(1, 9)), RunState, strict=True)]

    findings = found([a_term()], runs, to=T0 + 9 * HOUR)

    assert {finding.verdict for finding in findings} == {Verdict.ALIGNED}
    assert [finding.run for finding in findings] == runs


def test_a_fire_time_without_a_run_is_lost() -> None:
    assert differing([a_term()], at(1, 3), to=T0 + 4 * HOUR) == [(Verdict.LOST, 2)]


def test_a_run_of_no_fire_time_is_a_stray() -> None:
    assert differing([a_term()], at(1, 1.5, 2), to=T0 + 3 * HOUR) == [(Verdict.STRAY, 1.5)]


def test_a_run_of_a_schedule_that_was_never_in_force_is_a_stray() -> None:
    runs = [a_fired(T0 + HOUR, "other")]

    assert differing([a_term(from_at=NOW)], runs) == [(Verdict.STRAY, 1)]


def test_a_second_run_of_a_fire_time_is_a_double_that_names_it() -> None:
    first, second = a_fired(T0 + HOUR, run_id=7), a_fired(T0 + HOUR, run_id=8, origin=Origin.CATCH_UP)

    findings = found([a_term()], [first, second], to=T0 + 2 * HOUR)

    assert [(finding.verdict, finding.run) for finding in findings] == [
        (Verdict.ALIGNED, first),
        (Verdict.DOUBLE, second),
    ]


def test_the_range_begins_with_its_first_instant_and_ends_before_its_last() -> None:
    findings = found([a_term()], at(2, 3), from_=T0 + 2 * HOUR, to=T0 + 4 * HOUR)

    assert [finding.fire_time for finding in findings] == [T0 + 2 * HOUR, T0 + 3 * HOUR]


def test_a_term_owes_nothing_at_its_first_instant_and_a_run_at_its_last() -> None:
    term = a_term(from_at=T0 + 2 * HOUR, until_at=T0 + 4 * HOUR, cursor_at=T0 + 4 * HOUR)

    assert differing([term], at(2, 3)) == [(Verdict.STRAY, 2), (Verdict.LOST, 4)]


def test_what_an_edit_cut_off_is_lost_unless_it_was_recorded() -> None:
    term = a_term(until_at=T0 + 4 * HOUR, cursor_at=T0 + 2 * HOUR)

    assert differing([term], at(1, 2, 3, 4)) == []
    assert differing([term], at(1, 2, 3)) == [(Verdict.LOST, 4)]


def test_what_comes_after_the_cursor_is_due_for_a_minute_and_then_behind() -> None:
    term = a_term(cursor_at=T0 + HOUR)
    due = T0 + 2 * HOUR

    (_, young) = found([term], at(1), now=due + MINUTE)
    (_, old) = found([term], at(1), now=due + MINUTE + timedelta(microseconds=1))
    (_, done) = found([term], at(1, 2), now=due + MINUTE)

    assert [each.verdict for each in (young, old, done)] == [Verdict.DUE_NOW, Verdict.BEHIND, Verdict.ALIGNED]


def test_what_a_blackout_holds_is_deferred_until_a_minute_after_its_end_and_then_behind() -> None:
    end = T0 + 5.5 * HOUR
    term = a_term(timing=Timing("0 2 * * *", "UTC"), cursor_at=T0, deferred_until=end)

    (early,) = found([term], [], now=T0 + 2 * HOUR)
    (late,) = found([term], [], now=end + MINUTE)
    (too_late,) = found([term], [], now=end + MINUTE + timedelta(microseconds=1))

    assert [each.verdict for each in (early, late, too_late)] == [
        Verdict.DEFERRED,
        Verdict.DEFERRED,
        Verdict.BEHIND,
    ]


def test_what_comes_after_the_closed_time_is_not_held() -> None:
    term = a_term(cursor_at=T0 + HOUR, deferred_until=T0 + 3 * HOUR)

    findings = found([term], at(1), now=T0 + 3 * HOUR + MINUTE / 2)

    assert [each.verdict for each in findings] == [Verdict.ALIGNED, Verdict.DEFERRED, Verdict.DUE_NOW]


def test_nothing_is_held_by_a_term_that_ended_nor_up_to_its_cursor() -> None:
    ended = a_term(cursor_at=T0 + HOUR, until_at=T0 + 2 * HOUR, deferred_until=NOW)
    moved = a_term(cursor_at=T0 + 2 * HOUR, deferred_until=NOW)

    assert differing([ended], at(1)) == [(Verdict.LOST, 2)]
    assert differing([moved], at(1), to=T0 + 3 * HOUR) == [(Verdict.LOST, 2)]


def test_what_is_held_counts_as_a_fire_time_and_as_no_gap() -> None:
    tally = Tally()

    for each in found([a_term(cursor_at=T0 + HOUR, deferred_until=NOW)], at(1), to=T0 + 3 * HOUR):
        tally.add(each)

    assert (tally.fire_times, tally.gaps, tally.surplus) == (2, 0, 0)


def test_what_happened_after_the_books_were_read_is_not_judged() -> None:
    later = a_fired(NOW + MINUTE)

    assert found([a_term(timing=Timing("0 0 1 * *", "UTC"))], [later], to=NOW + HOUR) == []


def test_runs_ahead_of_the_clock_are_judged_up_to_the_cursor() -> None:
    term = a_term(cursor_at=T0 + 3 * HOUR)

    assert differing([term], at(1, 2, 2.5, 3.5), now=T0 + HOUR, to=T0 + 9 * HOUR) == [
        (Verdict.STRAY, 2.5),
        (Verdict.LOST, 3),
    ]


def test_a_term_that_ended_on_a_clock_set_back_owes_up_to_its_cursor() -> None:
    ended = a_term(until_at=T0 + HOUR, cursor_at=T0 + 3 * HOUR)
    begun = a_term(from_at=T0 + HOUR, cursor_at=T0 + 4 * HOUR)

    assert differing([ended, begun], at(1, 2, 3, 4), to=T0 + 5 * HOUR) == []


def test_each_term_is_held_to_its_own_timing() -> None:
    first = a_term(until_at=T0 + 2.25 * HOUR, cursor_at=T0 + 2 * HOUR)
    second = a_term(timing=Timing("30 * * * *", "UTC"), from_at=T0 + 2.25 * HOUR)

    assert differing([first, second], at(1, 2, 2.5, 3.5), to=T0 + 4 * HOUR) == []
    assert differing([first, second], at(1, 2, 3, 3.5), to=T0 + 4 * HOUR) == [
        (Verdict.LOST, 2.5),
        (Verdict.STRAY, 3),
    ]


def test_a_renamed_schedule_goes_on_under_its_new_name_where_the_old_one_ended() -> None:
    handed_over = T0 + 2 * HOUR
    terms = [
        a_term("old", until_at=handed_over, cursor_at=handed_over),
        a_term("new", from_at=handed_over),
    ]
    runs = [a_fired(T0 + hour * HOUR, "old" if hour <= 2 else "new") for hour in (1, 2, 3, 4)]

    assert differing(terms, runs, to=T0 + 5 * HOUR) == []


def test_starts_at_and_ends_at_bound_what_is_owed() -> None:
    timing = replace(HOURLY, starts_at=T0 + 2 * HOUR, ends_at=T0 + 4 * HOUR)

    assert differing([a_term(timing=timing)], at(2, 3)) == []


def here(rules: str) -> Any:
    return lambda _: rules


def test_what_other_zone_data_make_of_a_term_stands_apart() -> None:
    term = a_term(timing=replace(HOURLY, rules="old"))

    findings = [
        each for each in found([term], at(1, 1.5), to=T0 + 3 * HOUR, rules_of=here("new")) if each.differs
    ]

    assert [(each.verdict, each.exact) for each in findings] == [
        (Verdict.STRAY, False),
        (Verdict.LOST, False),
    ]


def test_a_second_run_is_a_double_under_any_zone_data() -> None:
    term = a_term(timing=replace(HOURLY, rules="old"))

    _, double = found([term], at(1, 1), to=T0 + 2 * HOUR, rules_of=here("new"))

    assert (double.verdict, double.exact) == (Verdict.DOUBLE, True)


def test_a_stray_outside_the_term_of_other_zone_data_is_judged() -> None:
    begun, ended = T0 + 2 * HOUR, T0 + 3 * HOUR
    term = a_term(timing=replace(HOURLY, rules="old"), from_at=begun, cursor_at=ended, until_at=ended)

    findings = found([term], at(2, 2.5, 3, 3.5), rules_of=here("new"))

    assert [(each.verdict, each.exact) for each in findings] == [
        (Verdict.STRAY, True),
        (Verdict.STRAY, False),
        (Verdict.ALIGNED, False),
        (Verdict.STRAY, True),
    ]


@pytest.mark.parametrize(
    ("recorded", "known", "expected"), [("a", "a", True), ("", "a", True), ("a", "", True), ("a", "b", False)]
)
def test_a_timing_is_exact_unless_its_rules_are_known_to_be_others(
    recorded: str, known: str, *, expected: bool
) -> None:
    assert exact(replace(HOURLY, rules=recorded), here(known)) is expected


@pytest.mark.parametrize("timing", [Timing("0 * * * *", "Mars/Olympus"), Timing("0 * * *", "UTC")])
def test_a_timing_that_cannot_be_read_here_spoils_nothing_else(timing: Timing) -> None:
    unread = a_term("b", timing=timing)

    findings = found(
        [a_term("a"), unread], [a_fired(T0 + HOUR, "a"), a_fired(T0 + HOUR, "b")], to=T0 + 2 * HOUR
    )

    assert [(each.schedule_id, each.verdict, each.exact) for each in findings] == [
        ("a", Verdict.ALIGNED, True),
        ("b", Verdict.STRAY, False),
    ]


def test_the_tally_adds_up() -> None:
    apart = a_term("apart", timing=replace(HOURLY, rules="old"))
    runs = [*at(1, 1, 3.5), a_fired(T0 + HOUR, "apart", state=RunState.MISSED)]
    tally = Tally()

    for each in found([a_term(), apart], runs, to=T0 + 4 * HOUR, rules_of=here("new")):
        tally.add(each)

    assert (tally.schedules, tally.fire_times, tally.gaps, tally.surplus, tally.apart) == (2, 4, 2, 2, 2)
    assert tally.verdicts[Verdict.ALIGNED] == 2
    assert tally.states == {RunState.TRIGGERED: 3, RunState.MISSED: 1}


TIMINGS = st.builds(
    Timing,
    st.sampled_from(["*/7 * * * *", "0 * * * *", "30 2 * * *", "15 */3 * * MON", "0 0 * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    st.none() | st.integers(0, 48).map(lambda hours: T0 + hours * HOUR),
    st.none() | st.integers(24, 72).map(lambda hours: T0 + hours * HOUR),
)
SPANS = st.integers(1, 36 * 60).map(lambda minutes: minutes * MINUTE)


@st.composite
def histories(draw: st.DrawFn) -> list[Term]:
    """The terms of up to three schedules, each schedule's one after the other; the last may be in force."""
    terms = []
    for schedule_id in draw(st.lists(st.sampled_from("abc"), unique=True)):
        begun = T0
        for timing, pause, length in draw(st.lists(st.tuples(TIMINGS, SPANS, SPANS), min_size=1, max_size=3)):
            from_at = begun + pause
            begun = from_at + length
            terms.append(a_term(schedule_id, timing=timing, from_at=from_at, cursor_at=begun, until_at=begun))
        if draw(st.booleans()):
            terms[-1] = replace(terms[-1], cursor_at=LATER, until_at=None)
    return terms


def right(terms: list[Term]) -> list[Fired]:
    """One run for each fire time of each term."""
    return [a_fired(at, term.schedule_id) for term in terms for at in fire_times(term)]


def fire_times(term: Term) -> Iterator[datetime]:
    return takewhile(lambda at: at <= term.cursor_at, timeline.fire_times(term.timing, term.from_at))


def differing_later(terms: list[Term], fired: list[Fired]) -> list[tuple[str, datetime, Verdict]]:
    findings = found(terms, fired, to=LATER + MINUTE, now=LATER)
    return [(each.schedule_id, each.fire_time, each.verdict) for each in findings if each.differs]


@given(histories())
def test_books_that_are_right_have_no_difference(terms: list[Term]) -> None:
    assert differing_later(terms, right(terms)) == []


@given(histories(), st.data())
def test_any_run_taken_away_is_one_gap(terms: list[Term], data: st.DataObject) -> None:
    runs = right(terms)
    assume(runs)
    gone = data.draw(st.sampled_from(runs))

    assert differing_later(terms, [run for run in runs if run is not gone]) == [(*place(gone), Verdict.LOST)]


@given(histories(), st.sampled_from("abcd"), st.integers(0, LATER_MINUTES))
def test_any_run_put_in_is_one_surplus(terms: list[Term], schedule_id: str, minutes: int) -> None:
    runs = right(terms)
    more = a_fired(T0 + minutes * MINUTE, schedule_id)
    verdict = Verdict.DOUBLE if more in runs else Verdict.STRAY

    assert differing_later(terms, [*runs, more]) == [(*place(more), verdict)]


@given(histories(), st.data())
def test_any_run_put_in_twice_is_one_surplus(terms: list[Term], data: st.DataObject) -> None:
    runs = right(terms)
    assume(runs)
    twice = data.draw(st.sampled_from(runs))

    assert differing_later(terms, [*runs, twice]) == [(*place(twice), Verdict.DOUBLE)]
