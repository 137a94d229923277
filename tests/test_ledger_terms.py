"""The terms of the timings: what an edit ends, what goes on, and under which id."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flowsched import blackouts
from flowsched.ledger import Ledger
from flowsched.model import Cursor, Schedule, Term, Timing
from tests.builders import closed
from tests.test_ledger import HOURLY, LATER, MINUTE, NIGHT, NIGHTLY, catalog, schedule, trace, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MOVED = NIGHT + MINUTE


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(url_of(tmp_path)) as opened:
        yield opened


def timed(id_: str = "a", timing: Timing = NIGHTLY, **changes: Any) -> Schedule:
    """Return a schedule with the whole of this timing."""
    return replace(schedule(id_), timing=timing, **changes)


def term(id_: str = "a", timing: Timing = NIGHTLY, **changes: Any) -> Term:
    usual: dict[str, Any] = {
        "schedule_id": id_,
        "timing": timing,
        "target": "default",
        "flow": 3377,
        "task": None,
        "from_at": NIGHT,
        "cursor_at": NIGHT,
        "until_at": None,
        "deferred_until": None,
        "blackout": "",
    }
    return Term(**(usual | changes))


async def in_force_and_moved(ledger: Ledger, *schedules: Schedule) -> None:
    """Put schedules in force at NIGHT, with cursors that were then moved to MOVED."""
    await ledger.apply(catalog("r1", *schedules), NIGHT)
    await ledger.claim([], [Cursor(one.id, one.timing, MOVED) for one in schedules])


async def test_a_term_is_read_back_as_it_was_put_in_force(ledger: Ledger) -> None:
    timing = Timing("5 * * * *", "Asia/Tokyo", NIGHT - MINUTE, NIGHT + MINUTE, "2025b")

    await ledger.apply(catalog("r1", timed(timing=timing, task=7), schedule("off", enabled=False)), NIGHT)

    assert await ledger.terms() == [term(timing=timing, task=7)]
    assert await ledger.terms_in_force() == {"a": term(timing=timing, task=7)}


FULL = Timing("30 2 * * *", "Europe/Berlin", NIGHT, LATER, "2025a")


@pytest.mark.parametrize(
    "changes",
    [
        {"cron": "31 2 * * *"},
        {"timezone": "UTC"},
        {"starts_at": NIGHT + MINUTE},
        {"starts_at": None},
        {"ends_at": LATER + MINUTE},
        {"ends_at": None},
        {"rules": "2025b"},
    ],
    ids=str,
)
async def test_whatever_of_its_timing_changes_a_schedule_starts_anew(
    ledger: Ledger, changes: dict[str, Any]
) -> None:
    other = replace(FULL, **changes)
    await in_force_and_moved(ledger, timed(timing=FULL))

    found = await ledger.apply(catalog("r2", timed(timing=other)), LATER)
    back = await ledger.apply(catalog("r1", timed(timing=FULL)), LATER + MINUTE)

    assert found == {"a": Cursor("a", other, LATER)}
    assert back == {"a": Cursor("a", FULL, LATER + MINUTE)}


@pytest.mark.parametrize(
    ("recorded", "wanted", "known"),
    [("", "2025b", "2025b"), ("2025b", "", "2025b"), ("", "", ""), ("2025b", "2025b", "2025b")],
)
async def test_rules_that_are_not_known_are_no_change(
    ledger: Ledger, recorded: str, wanted: str, known: str
) -> None:
    await in_force_and_moved(ledger, timed(timing=replace(FULL, rules=recorded)))
    timing = replace(FULL, rules=wanted)

    found = await ledger.apply(catalog("r2", timed(timing=timing)), LATER)
    await ledger.claim([], [replace(found["a"], at=LATER)])

    assert found == {"a": Cursor("a", timing, MOVED)}
    assert await ledger.terms() == [term(timing=replace(FULL, rules=known), cursor_at=LATER)]


@pytest.mark.parametrize(
    "changes",
    [{"cron": "31 2 * * *"}, {"timezone": "UTC"}, {"starts_at": None}, {"ends_at": None}, {"rules": "2024a"}],
    ids=str,
)
async def test_a_cursor_moves_under_its_whole_timing_only(ledger: Ledger, changes: dict[str, Any]) -> None:
    await ledger.apply(catalog("r1", timed(timing=FULL)), NIGHT)

    await ledger.claim([], [Cursor("a", replace(FULL, **changes), LATER)])
    unmoved = await ledger.terms_in_force()
    await ledger.claim([], [Cursor("a", FULL, LATER)])

    assert unmoved["a"].cursor_at == NIGHT
    assert (await ledger.terms_in_force())["a"].cursor_at == LATER


async def test_a_term_says_what_its_schedule_triggers_now(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed())

    await ledger.apply(catalog("r2", timed(target="other", flow=1, task=2)), LATER)

    assert await ledger.terms() == [term(target="other", flow=1, task=2, cursor_at=MOVED)]


async def test_a_catalog_that_is_applied_again_writes_nothing(ledger: Ledger) -> None:
    same = catalog("r1", timed("a", FULL), timed("b"))
    await ledger.apply(same, NIGHT)
    await ledger.claim([], [Cursor("a", FULL, MOVED)])
    seen = await trace(ledger)

    await ledger.apply(same, LATER)

    assert [statement for statement in seen if statement.startswith(("INSERT", "UPDATE"))] == []


async def test_an_edit_ends_a_term_where_it_is_made(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("a"), timed("b"), timed("c"))

    await ledger.apply(catalog("r2", timed("a", HOURLY), timed("b", enabled=False)), LATER)

    assert await ledger.terms() == [
        term("a", cursor_at=MOVED, until_at=LATER),
        term("b", cursor_at=MOVED, until_at=LATER),
        term("c", cursor_at=MOVED, until_at=LATER),
        term("a", HOURLY, from_at=LATER, cursor_at=LATER),
    ]


async def test_what_is_accounted_for_stays_in_its_term_when_the_clock_was_set_back(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed())

    await ledger.apply(catalog("r2"), NIGHT)

    assert await ledger.terms() == [term(cursor_at=MOVED, until_at=MOVED)]


async def test_a_renamed_schedule_goes_on_at_its_cursor(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("old"))

    found = await ledger.apply(catalog("r2", timed("new", renamed_from="old", flow=1)), LATER)

    assert found == {"new": Cursor("new", NIGHTLY, MOVED)}
    assert await ledger.terms() == [
        term("old", cursor_at=MOVED, until_at=MOVED),
        term("new", from_at=MOVED, cursor_at=MOVED, flow=1),
    ]


async def test_a_rename_that_is_applied_again_changes_nothing(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("old"))
    renamed = catalog("r2", timed("new", renamed_from="old"))

    first = await ledger.apply(renamed, LATER)
    terms = await ledger.terms()
    again = [await ledger.apply(renamed, at) for at in (LATER, LATER + MINUTE)]

    assert again == [first, first]
    assert await ledger.terms() == terms


async def test_a_schedule_may_be_renamed_twice(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("a"))

    await ledger.apply(catalog("r2", timed("b", renamed_from="a")), LATER)
    await ledger.claim([], [Cursor("b", NIGHTLY, LATER)])
    found = await ledger.apply(catalog("r3", timed("c", renamed_from="b")), LATER + MINUTE)

    assert found == {"c": Cursor("c", NIGHTLY, LATER)}
    spans = [(one.schedule_id, one.from_at, one.until_at) for one in await ledger.terms()]
    assert spans == [("a", NIGHT, MOVED), ("b", MOVED, LATER), ("c", LATER, None)]


async def test_rules_that_became_known_are_carried_over_by_a_rename(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("old", FULL))

    await ledger.apply(catalog("r2", timed("new", replace(FULL, rules=""), renamed_from="old")), LATER)

    assert (await ledger.terms_in_force())["new"].timing == FULL


async def test_an_id_that_comes_back_after_its_rename_starts_anew(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("old"))
    renamed = timed("new", renamed_from="old")
    await ledger.apply(catalog("r2", renamed), LATER)

    found = await ledger.apply(catalog("r3", renamed, timed("old")), LATER + MINUTE)

    assert {id_: cursor.at for id_, cursor in found.items()} == {"new": MOVED, "old": LATER + MINUTE}


async def test_a_cursor_of_the_former_id_moves_nothing(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("old"))
    await ledger.apply(catalog("r2", timed("new", renamed_from="old")), LATER)

    await ledger.claim([], [Cursor("old", NIGHTLY, LATER)])

    assert [one.cursor_at for one in await ledger.terms()] == [MOVED, MOVED]


async def holding(ledger: Ledger, *schedules: Schedule) -> None:
    """Put schedules in force, each with a fire that is held until LATER."""
    await ledger.apply(catalog("r1", *schedules), NIGHT)
    await ledger.claim([], [Cursor(one.id, one.timing, NIGHT, LATER) for one in schedules])


async def test_what_a_cursor_holds_is_written_where_it_stands_still(ledger: Ledger) -> None:
    await holding(ledger, timed())

    found = await ledger.apply(catalog("r1", timed()), LATER)

    assert await ledger.terms() == [term(deferred_until=LATER)]
    assert found == {"a": Cursor("a", NIGHTLY, NIGHT, LATER)}


async def test_a_cursor_that_moves_on_holds_nothing_any_more(ledger: Ledger) -> None:
    await holding(ledger, timed())

    await ledger.claim([], [Cursor("a", NIGHTLY, MOVED)])

    assert await ledger.terms() == [term(cursor_at=MOVED)]


async def test_a_cursor_that_would_move_back_holds_nothing(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed())

    await ledger.claim([], [Cursor("a", NIGHTLY, NIGHT, LATER)])

    assert await ledger.terms() == [term(cursor_at=MOVED)]


async def test_a_renamed_schedule_goes_on_with_what_is_held(ledger: Ledger) -> None:
    await holding(ledger, timed("old"))

    found = await ledger.apply(catalog("r2", timed("new", renamed_from="old")), MOVED)

    assert found == {"new": Cursor("new", NIGHTLY, NIGHT, LATER)}
    assert (await ledger.terms_in_force())["new"].deferred_until == LATER


async def test_a_term_knows_its_blackout_as_of_the_latest_catalog(ledger: Ledger) -> None:
    blackout = closed((NIGHT, LATER))
    await ledger.apply(catalog("r1", timed("plain"), timed("changed")), NIGHT)

    await ledger.apply(catalog("r2", timed("plain"), timed("changed", blackout=blackout)), LATER)
    changed = {id_: one.blackout for id_, one in (await ledger.terms_in_force()).items()}
    await ledger.apply(catalog("r3", timed("plain"), timed("changed")), LATER)

    assert changed == {"plain": "", "changed": blackouts.digest(blackout)}
    assert (await ledger.terms_in_force())["changed"].blackout == ""


async def test_another_timing_begins_without_anything_held(ledger: Ledger) -> None:
    await holding(ledger, timed())

    found = await ledger.apply(catalog("r2", timed(timing=HOURLY)), MOVED)

    assert found == {"a": Cursor("a", HOURLY, MOVED)}
    assert (await ledger.terms_in_force())["a"].deferred_until is None


async def test_terms_are_listed_oldest_first(ledger: Ledger) -> None:
    await ledger.apply(catalog("r1", timed("b")), LATER)
    await ledger.apply(catalog("r2", timed("b"), timed("a")), NIGHT)

    assert [one.schedule_id for one in await ledger.terms()] == ["a", "b"]


async def test_terms_can_be_read_beside_a_daemon(tmp_path: Path, ledger: Ledger) -> None:
    await ledger.apply(catalog("r1", timed()), NIGHT)

    async with await Ledger.open_to_read(url_of(tmp_path)) as reader:
        assert await reader.terms() == [term()]


async def test_however_many_edits_there_were_few_terms_say_where_a_schedule_goes_on(ledger: Ledger) -> None:
    await in_force_and_moved(ledger, timed("a"), timed("b"))
    for edit in range(1, 21):
        timing = HOURLY if edit % 2 else NIGHTLY
        await ledger.apply(catalog(f"r{edit + 1}", timed("a", timing), timed("b")), LATER + edit * MINUTE)

    assert len(await ledger.terms()) == 22
    assert await ledger.standing_terms() == [
        term("b", cursor_at=MOVED),
        term(
            "a",
            HOURLY,
            from_at=LATER + 19 * MINUTE,
            cursor_at=LATER + 19 * MINUTE,
            until_at=LATER + 20 * MINUTE,
        ),
        term("a", from_at=LATER + 20 * MINUTE, cursor_at=LATER + 20 * MINUTE),
    ]
