"""How much a catalog may change of the one before without anybody being asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flowsched.model import Blackout, Calendar, Source, Span, Then, Timing
from flowsched.review.guard import MassChange, enabled_timings, mass_change
from tests.builders import T0, a_schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowsched.model import Schedule

Schedules = dict[str, "Schedule"]
LATER = Timing("31 2 * * *", "UTC")


def schedules(count: int) -> Schedules:
    return {f"s{n:03}": a_schedule(f"s{n:03}", "30 2 * * *") for n in range(count)}


def removed(all_: Schedules, count: int) -> Schedules:
    return dict(list(all_.items())[count:])


def disabled(all_: Schedules, count: int) -> Schedules:
    return all_ | {id_: replace(all_[id_], enabled=False) for id_ in list(all_)[:count]}


def retimed(all_: Schedules, count: int) -> Schedules:
    return all_ | {id_: replace(all_[id_], timing=LATER) for id_ in list(all_)[:count]}


def change(old: Schedules, new: Schedules, max_change: int = 25) -> MassChange | None:
    return mass_change(enabled_timings(old), new, max_change)


@pytest.mark.parametrize("edit", [removed, disabled, retimed])
@pytest.mark.parametrize(
    ("before", "edited", "max_change", "held"),
    [
        (100, 25, 25, False),
        (100, 26, 25, True),
        (100, 6, 5, True),
        (100, 5, 0, False),
        (100, 6, 0, True),
        (10, 5, 25, False),
        (10, 6, 25, True),
        (6, 5, 25, False),
        (100, 99, 100, False),
        (24, 6, 25, False),
        (23, 6, 25, True),
    ],
)
def test_it_is_too_much_beyond_the_share_and_beyond_a_few(
    edit: Callable[[Schedules, int], Schedules], before: int, edited: int, max_change: int, *, held: bool
) -> None:
    old = schedules(before)

    found = change(old, edit(old, edited), max_change)

    assert (found is not None) is held
    if found:
        assert getattr(found, edit.__name__) == edited
        assert (found.before, found.removed + found.disabled + found.retimed) == (before, edited)


def test_all_three_count_together() -> None:
    old = schedules(20)
    new = (
        removed(old, 2) | retimed(dict(list(old.items())[2:4]), 2) | disabled(dict(list(old.items())[4:6]), 2)
    )

    found = change(old, new)

    assert found == MassChange(before=20, after=16, removed=2, disabled=2, retimed=2)
    assert str(found) == "of 20 enabled schedules 2 removed, 2 disabled, 2 retimed"


@pytest.mark.parametrize("edit", [removed, disabled])
@pytest.mark.parametrize("count", [1, 3, 10])
def test_to_leave_none_enabled_is_always_too_much(
    edit: Callable[[Schedules, int], Schedules], count: int
) -> None:
    old = schedules(count)

    found = change(old, edit(old, count), 100)

    assert found
    assert str(found).endswith("; none is left enabled")


def test_all_may_be_replaced_by_others_only_when_asked() -> None:
    old = schedules(10)
    new = {f"new-{id_}": replace(one, id=f"new-{id_}") for id_, one in old.items()}

    assert change(old, new) == MassChange(before=10, after=10, removed=10, disabled=0, retimed=0)


def test_a_rename_that_says_so_is_no_change_but_what_it_changes_is() -> None:
    old = schedules(10)
    new = {f"new-{id_}": replace(one, id=f"new-{id_}", renamed_from=id_) for id_, one in old.items()}

    assert change(old, new, 0) is None
    assert change(old, retimed(new, 7)) == MassChange(before=10, after=10, removed=0, disabled=0, retimed=7)
    assert change(old, disabled(new, 7)) == MassChange(before=10, after=3, removed=0, disabled=7, retimed=0)


def test_a_schedule_that_stays_is_nobodys_heir() -> None:
    old = schedules(12)
    stay = list(old.items())[6:]
    new = {id_: replace(one, renamed_from=f"s{n:03}") for n, (id_, one) in enumerate(stay)}

    assert change(old, new) == MassChange(before=12, after=6, removed=6, disabled=0, retimed=0)


def test_what_was_disabled_before_does_not_count() -> None:
    old = disabled(schedules(20), 15)

    assert change(old, removed(old, 15)) is None
    assert change(old, removed(old, 20)) == MassChange(before=5, after=0, removed=5, disabled=0, retimed=0)
    assert change(disabled(schedules(5), 5), {}) is None
    assert change(disabled(schedules(5), 5), schedules(5)) is None


def test_what_is_added_and_all_that_is_no_timing_does_not_count() -> None:
    old = schedules(20)
    calendar = Calendar(
        name="c", description=None, timezone=None, spans=(Span(T0, T0),), source=Source("a", 1)
    )
    blackout = Blackout((calendar,), Then.SKIP)
    new = {id_: replace(one, flow=1, target="other", blackout=blackout) for id_, one in old.items()}

    assert change(old, new | {"new": a_schedule("new", "* * * * *")}, 0) is None


def test_zone_rules_that_are_not_known_are_no_change_and_others_are() -> None:
    old = schedules(10)
    known = {id_: replace(one, timing=replace(one.timing, rules="a")) for id_, one in old.items()}
    other = {id_: replace(one, timing=replace(one.timing, rules="b")) for id_, one in old.items()}

    assert change(old, known) is None
    assert change(known, other) == MassChange(before=10, after=10, removed=0, disabled=0, retimed=10)
