"""What one catalog changes about another: kinds, fires gained, lost and moved, and what the edit drops."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched import timeline
from flowsched.errors import Refused
from flowsched.model import (
    Acceptance,
    Blackout,
    Calendar,
    Catalog,
    Days,
    RetryPolicy,
    Schedule,
    Source,
    Then,
    Timing,
    WeeklyWindow,
)
from flowsched.review import edits, keys
from flowsched.review.changes import changes as plan
from flowsched.review.collisions import HORIZON, MOST_LISTED, collisions
from flowsched.review.edits import Kind, schedule_changes
from tests.builders import a_schedule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowsched.review.changes import Plan
    from flowsched.review.edits import Change

AT = datetime(2026, 3, 20, 12, 7, tzinfo=UTC)
UNTIL = AT + timedelta(days=14)
"""The clocks of Berlin go forward within it, those of New York before it."""


def catalog(*schedules: Schedule) -> dict[str, Schedule]:
    return {each.id: each for each in sorted(schedules, key=lambda each: each.id)}


def changes(
    old: Iterable[Schedule], new: Iterable[Schedule], at: datetime = AT, until: datetime = UNTIL
) -> list[Change]:
    return schedule_changes(catalog(*old), catalog(*new), at=at, until=until)


def only(old: Iterable[Schedule], new: Iterable[Schedule], **more: Any) -> Change:
    (change,) = changes(old, new, **more)
    return change


# --- the property -----------------------------------------------------------------------------------------

Going = tuple[str, datetime, datetime]
"""Id, when it goes out, fire time."""

days = st.dates(date(2026, 3, 17), date(2026, 3, 24)) | st.dates(date(2026, 3, 25), date(2026, 4, 4))
calendars = st.builds(
    lambda name, first, length, weekly, zone: Calendar(
        name=name,
        description=None,
        timezone=zone,
        days=(Days(first, first + timedelta(days=length)),),
        weekly=weekly,
        source=Source("schedules/a.yaml", 1),
    ),
    st.sampled_from(["closed", "fair"]),
    days,
    st.integers(0, 4),
    st.sampled_from([(), (WeeklyWindow(5, datetime.min.time(), 0, datetime.min.time()),)]),
    st.sampled_from([None, "UTC", "Australia/Lord_Howe"]),
)
blackouts = st.none() | st.builds(
    Blackout, st.lists(calendars, min_size=1, max_size=2).map(tuple), st.sampled_from(Then)
)
instants = st.integers(-3 * 24 * 4, 17 * 24 * 4).map(lambda quarters: AT + quarters * timedelta(minutes=15))
schedules = st.builds(
    a_schedule,
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["30 2 * * *", "0 0 * * MON", "5 * * * *", "10 * * * *", "0 */5 * * *", "0 12 1 4 *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    enabled=st.sampled_from([True, True, True, False]),
    starts_at=st.none() | instants,
    ends_at=st.none() | instants,
    flow=st.integers(1, 2),
    renamed_from=st.sampled_from([None, None, "a", "b", "z"]),
    blackout=blackouts,
    owner=st.sampled_from([None, "somebody"]),
)
catalogs = st.lists(schedules, max_size=4).map(lambda drawn: catalog(*drawn))


@st.composite
def edited(
    draw: st.DrawFn, catalogs: st.SearchStrategy[dict[str, Schedule]] = catalogs
) -> tuple[dict[str, Schedule], dict[str, Schedule]]:
    """Two catalogs, the second in part as the first, with other blackouts, owners, ids or switches."""
    old, new = draw(catalogs), dict(draw(catalogs))
    for id_, schedule in old.items():
        edit = draw(st.sampled_from(["none", "blackout", "owner and blackout", "rename", "switch", "other"]))
        if edit == "none":
            new[id_] = schedule
        elif edit == "blackout":
            new[id_] = replace(schedule, blackout=draw(blackouts))
        elif edit == "owner and blackout":
            new[id_] = replace(schedule, blackout=draw(blackouts), owner="me")
        elif edit == "rename":
            new.pop(id_, None)
            new[f"{id_}2"] = replace(schedule, id=f"{id_}2", renamed_from=draw(st.sampled_from([None, id_])))
        elif edit == "switch":
            new[id_] = replace(schedule, enabled=not schedule.enabled)
    return old, catalog(*new.values())


def timeline_of(all_: dict[str, Schedule], after: datetime, until: datetime) -> set[Going]:
    """What goes out within some time, by the plainest reckoning: every fire time, and what becomes of it."""
    found = set()
    for fire in timeline.fires(all_.values(), after=after - timedelta(days=30), until=until):
        hold = timeline.stay(fire.schedule, fire.fire_time)
        goes_out = fire.fire_time if hold is None else hold.until
        if goes_out and after < goes_out <= until:
            found.add((fire.schedule.id, goes_out, fire.fire_time))
    return found


def goes_on(new: Schedule, old: dict[str, Schedule], all_new: dict[str, Schedule]) -> Schedule | None:
    """The old schedule whose held fire the new one takes over: as the engine decides it."""
    before = old.get(new.id)
    if before is None and new.renamed_from in old and new.renamed_from not in all_new:
        takers = [
            each.id
            for each in all_new.values()
            if each.renamed_from == new.renamed_from and each.id not in old
        ]
        before = old[new.renamed_from] if min(takers) == new.id else None
    same = before is not None and before.enabled and new.enabled and before.timing == new.timing
    return before if same else None


@settings(max_examples=200)
@given(edited())
def test_the_old_timeline_with_the_plan_applied_is_the_new_one(
    catalogs: tuple[dict[str, Schedule], dict[str, Schedule]],
) -> None:
    old, new = catalogs
    found = schedule_changes(old, new, at=AT, until=UNTIL)

    now = {each.old.id: each.id for each in found if each.old}
    line = {(now.get(id_, id_), *going) for id_, *going in timeline_of(old, AT, UNTIL)}
    for change in found:
        lost = {(change.id, *one) for one in change.fires.lost} | {
            (change.id, *one.old) for one in change.fires.moved
        }
        gained = {(change.id, *one) for one in change.fires.gained} | {
            (change.id, *one.new) for one in change.fires.moved
        }
        assert lost <= line
        assert not gained & (line - lost)
        line = (line - lost) | gained
        going = sorted((goes_out, fire_time) for id_, goes_out, fire_time in line if id_ == change.id)
        assert change.next == (going[0] if going else None)

    expected = {each for each in timeline_of(new, AT, UNTIL) if each[2] > AT}
    for schedule in new.values():
        before = goes_on(schedule, old, new)
        if before:
            held = {
                each[2]
                for each in timeline_of({before.id: before}, AT, AT + timedelta(days=60))
                if each[2] <= AT
            }
            expected |= {each for each in timeline_of({schedule.id: schedule}, AT, UNTIL) if each[2] in held}
    assert line == expected


@settings(max_examples=50)
@given(catalogs)
def test_a_catalog_changes_nothing_about_itself(drawn: dict[str, Schedule]) -> None:
    elsewhere = {id_: replace(each, source=replace(each.source, line=99)) for id_, each in drawn.items()}

    assert schedule_changes(drawn, elsewhere, at=AT, until=UNTIL) == []


# --- what becomes of a schedule ---------------------------------------------------------------------------

HOURLY = a_schedule("hourly", "5 * * * *")
DAILY = a_schedule("daily", "30 2 * * *", "Europe/Berlin")


TUESDAY, WEDNESDAY = date(2026, 3, 24), date(2026, 3, 25)


def closed(first: date, last: date, then: Then = Then.DEFER) -> Blackout:
    calendar = Calendar(
        name="works", description=None, timezone=None, days=(Days(first, last),), source=Source("a.yaml", 9)
    )
    return Blackout((calendar,), then)


def retimed(schedule: Schedule, cron: str, **more: Any) -> Schedule:
    return replace(schedule, timing=replace(schedule.timing, cron=cron, **more))


def test_what_is_written_on_another_line_has_not_changed() -> None:
    held = replace(DAILY, blackout=closed(date(2026, 3, 22), date(2026, 3, 22)))
    calendar = replace(held.blackout.calendars[0], source=Source("b.yaml", 1), description="Works")  # type: ignore[union-attr]
    moved = replace(held, blackout=Blackout((calendar,), Then.DEFER), source=replace(held.source, line=99))

    assert changes([held], [moved]) == []


def test_a_schedule_is_renamed_where_it_says_so_or_alone_does_the_same_work() -> None:
    other = replace(DAILY, id="other", renamed_from="daily")
    silent = replace(other, renamed_from=None)

    declared, detected = only([DAILY], [other]), only([DAILY], [silent])

    assert (declared.kind, declared.detected, declared.starts_anew) == (Kind.RENAMED, False, False)
    assert (detected.kind, detected.detected, detected.starts_anew) == (Kind.RENAMED, True, True)
    assert not any((*declared.fires, *detected.fires, declared.keys, detected.keys))


def test_two_that_could_be_the_renamed_one_are_removed_and_added() -> None:
    twins = [replace(DAILY, id="one"), replace(DAILY, id="two")]

    found = changes([DAILY], twins)

    assert [each.kind for each in found] == [Kind.REMOVED, Kind.ADDED, Kind.ADDED]


def test_a_rename_from_an_id_that_is_still_there_or_never_was_is_none() -> None:
    new = a_schedule("new", "0 5 * * *", renamed_from="daily")
    stray = a_schedule("stray", "0 6 * * *", renamed_from="never-was")

    assert [each.kind for each in changes([DAILY], [DAILY, new, stray])] == [Kind.ADDED, Kind.ADDED]


def test_of_two_that_name_one_former_id_the_first_has_it() -> None:
    twins = [
        replace(DAILY, id=id_, renamed_from="daily", flow=flow) for id_, flow in (("one", 1), ("two", 2))
    ]

    found = changes([DAILY], twins)

    assert [(each.id, each.kind) for each in found] == [("one", Kind.RENAMED), ("two", Kind.ADDED)]


def test_what_stays_as_it_is_is_not_expanded() -> None:
    unreadable = a_schedule("unreadable", "no cron at all")

    assert changes([unreadable], [unreadable]) == []


def test_more_fires_than_can_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "MOST_FIRES", 335)

    with pytest.raises(Refused, match="more than 335 fires would change; allowed: a shorter horizon"):
        changes([HOURLY], [])


def test_a_rename_to_an_id_that_was_there_before_is_none() -> None:
    other = a_schedule("other", "0 5 * * *")

    found = changes([DAILY, other], [replace(other, renamed_from="daily")])

    assert [(each.id, each.kind) for each in found] == [("daily", Kind.REMOVED), ("other", Kind.CHANGED)]


def test_zone_data_that_are_not_known_on_one_side_raise_no_barrier() -> None:
    known = retimed(DAILY, "30 2 * * *", rules="0123456789abcdef")

    assert not only([DAILY], [replace(known, flow=1)]).starts_anew
    assert only([known], [retimed(known, "30 2 * * *", rules="fedcba9876543210")]).starts_anew


def test_each_key_that_differs_is_told() -> None:
    new = replace(
        DAILY,
        flow=1,
        task=2,
        owner="me",
        jitter=timedelta(minutes=5),
        retry=replace(DAILY.retry, deadline=timedelta(minutes=30)),
        blackout=closed(date(2026, 3, 22), date(2026, 3, 23)),
    )

    told = {key.key: (key.old, key.new) for key in only([DAILY], [new]).keys}

    assert told == {
        "flow": ("3377", "1"),
        "task": (None, "2"),
        "blackout.calendars": (None, "works"),
        "blackout.then": (None, "defer"),
        "jitter": ("0s", "5m"),
        "retry.deadline": ("15m", "30m"),
        "owner": (None, "me"),
    }


_TOLD_AS = {
    "watch": ["watch.timeout"],
    "source": ["file"],
    "timing.rules": ["timezone data"],
    "blackout": ["blackout.calendars", "blackout.then"],
}


def test_no_field_of_a_schedule_is_forgotten_among_its_keys() -> None:
    kept = {field.name for field in fields(Schedule)} - {"id", "timing", "retry"}
    written = {
        *kept,
        *(f"timing.{field.name}" for field in fields(Timing)),
        *(f"retry.{field.name}" for field in fields(RetryPolicy)),
    }

    expected = {key for name in written for key in _TOLD_AS.get(name, [name.removeprefix("timing.")])}

    assert set(keys.values_of(DAILY)) == expected


def test_no_part_of_a_calendar_is_forgotten_among_its_entries() -> None:
    by_the_side = {"name", "description", "timezone", "rules", "source"}

    assert {*keys.PARTS} == {field.name for field in fields(Calendar)} - by_the_side


def test_of_a_calendar_is_told_what_is_gone_and_what_has_come() -> None:
    old = replace(DAILY, blackout=closed(date(2026, 4, 4), date(2026, 4, 4)))
    new = replace(DAILY, blackout=closed(date(2026, 4, 4), date(2026, 4, 6)))

    (key,) = only([old], [new]).keys

    assert (key.key, key.old, key.new) == ("calendar works", "2026-04-04", "2026-04-04..2026-04-06")


# --- what has moved ---------------------------------------------------------------------------------------


def counts(change: Change) -> tuple[int, int, int]:
    return len(change.fires.gained), len(change.fires.lost), len(change.fires.moved)


def test_each_day_pairs_what_it_loses_with_what_it_gains_in_order() -> None:
    change = only([DAILY], [retimed(DAILY, "45 2 * * *")])

    first = change.fires.moved[0]
    assert counts(change) == (0, 0, 13)  # on the night of the clock change both fire at 03:00
    assert (first.old.goes_out, first.new.goes_out) == (
        datetime(2026, 3, 21, 1, 30, tzinfo=UTC),
        datetime(2026, 3, 21, 1, 45, tzinfo=UTC),
    )


def test_a_day_that_the_horizon_cuts_off_pairs_from_its_uncut_side() -> None:
    change = only([HOURLY], [retimed(HOURLY, "35 * * * *")])

    assert counts(change) == (1, 1, 335)
    assert {move.new.goes_out - move.old.goes_out for move in change.fires.moved} == {timedelta(minutes=30)}
    assert change.fires.gained[0].goes_out == AT.replace(minute=35)


def test_a_local_day_is_that_of_each_zone() -> None:
    early = a_schedule("early", "30 0 * * *", "Europe/Berlin")

    change = only([early], [replace(early, timing=replace(early.timing, timezone="UTC"))])

    assert counts(change) == (0, 0, 14)
    assert {move.new.goes_out - move.old.goes_out for move in change.fires.moved} <= {
        timedelta(hours=1),
        timedelta(hours=2),
    }


def test_a_week_pairs_where_its_days_cannot_and_the_whole_where_no_week_can() -> None:
    weekly = a_schedule("weekly", "0 7 * * MON")
    monthly = a_schedule("monthly", "0 7 22 * *")

    assert counts(only([weekly], [retimed(weekly, "0 7 * * TUE")])) == (0, 0, 2)
    assert counts(only([monthly], [retimed(monthly, "0 7 1 * *")])) == (0, 0, 1)


def test_what_fires_more_or_less_often_has_not_moved() -> None:
    even = a_schedule("even", "0 */2 * * *")

    assert counts(only([even], [retimed(even, "0 */3 * * *")])) == (56, 112, 0)


def test_an_uneven_change_moves_nothing_at_its_edges_either() -> None:
    six = a_schedule("six", "0 */6 * * *")

    change = only([six], [retimed(six, "0 */4 * * *")])  # of the first day it loses one, and gains two

    assert counts(change) == (56, 28, 0)


def test_weeks_pair_where_the_horizon_as_a_whole_is_uneven() -> None:
    weekly = a_schedule("weekly", "0 7 * * MON")

    change = only([weekly], [retimed(weekly, "0 7 * * TUE")], until=AT + timedelta(days=17))

    assert counts(change) == (0, 1, 2)


def test_a_blackout_on_another_day_moves_nothing() -> None:
    before, after = (replace(DAILY, blackout=closed(day, day, Then.SKIP)) for day in (TUESDAY, WEDNESDAY))

    assert counts(only([before], [after])) == (1, 1, 0)


def test_a_blackout_moves_only_what_it_defers() -> None:
    old = replace(DAILY, blackout=closed(date(2026, 3, 24), date(2026, 3, 24)))
    longer = replace(DAILY, blackout=closed(date(2026, 3, 23), date(2026, 3, 25)))
    elsewhere = replace(DAILY, blackout=closed(date(2026, 3, 25), date(2026, 3, 25), Then.SKIP))

    assert counts(only([old], [longer])) == (0, 2, 1)  # the fire of the 25th waits for its end
    assert counts(only([old], [elsewhere])) == (0, 1, 1)  # that of the 24th no longer waits


# --- what the edit drops ----------------------------------------------------------------------------------

HELD = replace(DAILY, blackout=closed(date(2026, 3, 20), date(2026, 3, 20)))
"""At AT it holds the fire of the night until midnight."""


def test_a_fire_that_is_held_at_the_edit_goes_out_where_it_still_is() -> None:
    longer = replace(DAILY, blackout=closed(date(2026, 3, 20), date(2026, 3, 21)))

    change = only([HELD], [replace(HELD, flow=1)])
    skipped = only([HELD], [longer])

    assert change.dropped is None
    assert change.next is not None
    assert change.next.fire_time == datetime(2026, 3, 20, 1, 30, tzinfo=UTC)
    assert skipped.dropped is not None
    assert skipped.dropped.why == "its blackout skips it now"


def test_a_fire_before_the_closed_time_is_not_held() -> None:
    weekly = a_schedule("weekly", "0 7 * * MON", blackout=closed(date(2026, 3, 19), date(2026, 3, 20)))

    change = only([weekly], [])

    assert change.dropped is None
    assert counts(change) == (0, 2, 0)


def test_a_held_fire_is_dropped_with_the_reason() -> None:
    cases = {
        "its blackout is lifted": [replace(HELD, blackout=None)],
        "its schedule is removed": [],
        "its schedule is disabled": [replace(HELD, enabled=False)],
        "its schedule gets another timing": [retimed(HELD, "40 2 * * *")],
        "its schedule is renamed without renamed_from": [replace(HELD, id="other")],
    }

    told = {why: only([HELD], new).dropped for why, new in cases.items()}

    assert {why for why, dropped in told.items() if dropped and dropped.why == why} == set(cases)


def test_a_held_fire_goes_over_to_the_new_id_that_names_the_old_one() -> None:
    change = only([HELD], [replace(HELD, id="other", renamed_from="daily")])

    assert change.dropped is None
    assert not any(change.fires)


def test_what_has_passed_today_is_told_of_what_is_new_or_retimed() -> None:
    added = only([], [DAILY])
    retimed_ = only([DAILY], [retimed(DAILY, "30 2,3 * * *")])
    changed = only([DAILY], [replace(DAILY, flow=1)])

    assert added.passed == (datetime(2026, 3, 20, 1, 30, tzinfo=UTC),)
    assert retimed_.passed == (datetime(2026, 3, 20, 2, 30, tzinfo=UTC),)
    assert changed.passed == ()


# --- what collides ----------------------------------------------------------------------------------------


def plan_of(old: Iterable[Schedule], new: Iterable[Schedule]) -> Plan:
    return plan(
        Catalog(catalog(*old), ""),
        Catalog(catalog(*new), ""),
        at=AT,
        horizon=timedelta(days=1),
        limits={},
        fires_a_day=9,
    )


def crowd(count: int, cron: str = "0 3 * * *") -> list[Schedule]:
    return [a_schedule(f"s{number:03}", cron) for number in range(count)]


def colliding(found: Plan) -> tuple[int, int, int]:
    return len(found.collisions), found.collisions_unlisted, found.collisions_resolved


def test_old_collisions_are_not_new_however_many_there_are() -> None:
    old = crowd(150)

    owner = plan_of(old, [replace(old[0], owner="me"), *old[1:]])
    owners = plan_of(old, [replace(each, owner="me") for each in old])
    renamed = plan_of(old, [replace(each, id=f"{each.id}-b", renamed_from=each.id) for each in old])

    assert [colliding(each) for each in (owner, owners, renamed)] == [(0, 0, 0)] * 3


def test_new_and_resolved_collisions_are_counted_exactly_however_many_there_are() -> None:
    old = crowd(150)
    away = retimed(old[-1], "7 4 * * *")
    added = a_schedule("added", "0 3 * * *")

    left, came, both = plan_of(old, [*old[:-1], away]), plan_of(old, [*old, added]), plan_of(old, [added])
    back = plan_of([*old[:-1], away], old)

    assert colliding(left) == (0, 0, 149)
    assert colliding(came) == (MOST_LISTED, 50, 0)
    assert {each.sent.id for each in came.collisions} == {"added"}
    assert colliding(back) == (MOST_LISTED, 49, 0)
    assert colliding(both) == (0, 0, 150 * 149 // 2)


def test_what_is_accepted_is_neither_new_nor_resolved_and_told_once() -> None:
    one, other = crowd(2)
    agreed = replace(one, accept=(Acceptance("collision", "agreed", other.id),))
    away = retimed(other, "7 4 * * *")

    now, again = plan_of([one, other], [agreed, other]), plan_of([agreed, other], [one, other])
    gone = plan_of([agreed, other], [agreed, away])

    came = plan_of([agreed], [agreed, other])

    assert [each.accepted is not None for each in now.collisions] == [True]
    assert [each.accepted is not None for each in came.collisions] == [True]
    assert came.collisions_unlisted == 0
    assert [each.accepted for each in again.collisions] == [None]
    assert [colliding(each) for each in (now, again, gone)] == [(1, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert plan_of([agreed, other], [replace(agreed, owner="me"), other]).collisions == ()


def states_of(all_: dict[str, Schedule], names: dict[str, str]) -> dict[frozenset[str], bool]:
    """Each pair that collides, by the new ids, and whether it is accepted: as all of them are listed."""
    pairs = collisions(all_.values(), after=AT, until=AT + HORIZON).pairs
    return {
        frozenset(names.get(one.id, one.id) for one in (each.sent, each.skipped)): each.accepted is not None
        for each in pairs
    }


accepting = st.builds(
    lambda schedule, others: replace(
        schedule, accept=tuple(Acceptance("collision", "agreed", other) for other in others)
    ),
    schedules,
    st.lists(st.sampled_from(["a", "b", "c", "d", "a2"]), max_size=2, unique=True),
)


@settings(max_examples=150)
@given(edited(st.lists(accepting, max_size=4).map(lambda drawn: catalog(*drawn))))
def test_the_collisions_that_change_are_those_of_one_state_only(
    catalogs: tuple[dict[str, Schedule], dict[str, Schedule]],
) -> None:
    old, new = catalogs
    found = plan_of(old.values(), new.values())

    before = states_of(old, {each.old.id: each.new.id for each in found.changes if each.old and each.new})
    after = states_of(new, {})
    listed = {
        frozenset({each.sent.id, each.skipped.id}): each.accepted is not None for each in found.collisions
    }
    assert listed == {pair: told for pair, told in after.items() if before.get(pair) is not told}
    assert found.collisions_unlisted == 0
    assert found.collisions_resolved == sum(not told and pair not in after for pair, told in before.items())
