"""Random edits by their differences, beside an engine that looks at everything anew each time."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from flowsched.ledger import Ledger
from flowsched.model import Action, ActionKind, CatchUp, Scope, Then, Timing
from tests.builders import a_schedule, closed
from tests.fakes import HandClock
from tests.test_engine import START, Desk
from tests.test_engine_blackouts import DAY, MINUTE, audited

if TYPE_CHECKING:
    from pathlib import Path

    from flowsched.admission import Difference
    from flowsched.model import Schedule

CRONS = ("*/7 * * * *", "*/10 * * * *", "3,4,5,40 * * * *", "0 */2 * * *")
IDS = tuple("abcdefgh")
ACTS = 30


class Forgetful(Ledger):
    """A ledger that never knows which catalog is in force: so all is looked at anew."""

    async def stands(self, since: Difference) -> bool:
        return False


class Noting(Ledger):
    """A ledger that notes how often it was told what is another."""

    differences = 0

    async def stands(self, since: Difference) -> bool:
        stands = await super().stands(since)
        self.differences += stands
        return stands


class Twins:
    """Two engines, each with a ledger of its own, to whom the same happens."""

    def __init__(self, desks: list[Desk], seed: int) -> None:
        self.desks = desks
        self.chance = Random(seed)  # noqa: S311 - to be the same each time
        self.made = 0
        self.schedules = {id_: self._schedule(id_) for id_ in IDS[:5]}

    async def act(self) -> str:
        acts = [self.pass_by, self.pass_by, self.sleep, self.edit, self.edit, self.edit, self.die, self.pause]
        act = self.chance.choice(acts)
        await act()
        for desk in self.desks:
            await desk.settled()
        return act.__name__

    async def pass_by(self) -> None:
        minutes = self.chance.randint(1, 15)
        for desk in self.desks:
            await desk.minutes(minutes)

    async def sleep(self) -> None:
        minutes = self.chance.randint(1, 200)
        for desk in self.desks:
            desk.clock.step(desk.clock.now() + minutes * MINUTE)
            await desk.minutes(1)

    async def edit(self) -> None:
        self.made += 1
        minutes = self.chance.choice([0, 0, 7, 130])
        for _ in range(self.chance.randint(1, 3)):
            self._edit()
        for desk in self.desks:
            desk.clock.step(desk.clock.now() + minutes * MINUTE)  # the alarms are yet to ring
            await desk.apply(*self.in_order, revision=f"r{self.made}")

    async def die(self) -> None:
        for desk in self.desks:
            await desk.restart(*self.in_order)

    async def pause(self) -> None:
        id_, minutes = self.chance.choice(IDS), self.chance.randint(1, 90)
        for desk in self.desks:
            now = desk.clock.now()
            action = Action(at=now, by="ops", kind=ActionKind.PAUSE, subject=id_, reason="works", detail="")
            set_pause = desk.ledger.pause(Scope.SCHEDULE, id_, now + minutes * MINUTE, action)
            await desk.engine.change_pauses(lambda it=set_pause: it)  # type: ignore[misc]

    @property
    def in_order(self) -> list[Schedule]:
        return [self.schedules[id_] for id_ in sorted(self.schedules)]

    def _edit(self) -> None:
        id_ = self.chance.choice(IDS)
        old = self.schedules.get(id_)
        if old is None:
            self.schedules[id_] = self._schedule(id_)
            return
        match self.chance.randrange(9):
            case 0:
                del self.schedules[id_]
            case 1:
                self.schedules[id_] = replace(old, enabled=not old.enabled)
            case 2:
                self.schedules[id_] = replace(old, timing=self._timing())
            case 3:
                self.schedules[id_] = replace(old, flow=old.flow + 100)
            case 4 | 5:
                new = self.chance.choice(IDS)
                if new not in self.schedules:
                    del self.schedules[id_]
                    self.schedules[new] = replace(old, id=new, renamed_from=id_)
            case 6:
                self.schedules[id_] = replace(old, renamed_from=self.chance.choice(IDS))
            case 7:
                self.schedules[id_] = replace(old)  # equal, and another record
            case _:
                self._close(id_)

    def _close(self, id_: str) -> None:
        """Have a schedule, and all that share its calendar, closed at other times."""
        now, name = self.desks[0].clock.now(), self.chance.choice(["works", "feast"])
        start = now + self.chance.randint(-60, 100) * MINUTE
        span, then = (start, start + self.chance.randint(1, 90) * MINUTE), self.chance.choice([*Then])
        for each in self.schedules.values():
            if each.id == id_ or (each.blackout and each.blackout.calendars[0].name == name):
                self.schedules[each.id] = replace(each, blackout=closed(span, then=then, name=name))

    def _schedule(self, id_: str) -> Schedule:
        schedule = a_schedule(
            id_, flow=IDS.index(id_), catch_up=CatchUp.ALL, catch_up_window=1000 * DAY, jitter=0 * DAY
        )
        return replace(schedule, timing=self._timing())

    def _timing(self) -> Timing:
        return Timing(self.chance.choice(CRONS), "UTC", rules=self.chance.choice(["", "x"]))


async def stands(desk: Desk) -> dict[str, object]:
    """Return all that can be known of an engine and its ledger."""
    engine = desk.engine
    runs = await desk.ledger.runs(limit=1_000_000)
    return {
        "terms": sorted(repr(each) for each in await desk.ledger.terms()),
        "pauses": await desk.ledger.pauses(),
        "known pauses": engine.pauses,
        "runs": sorted(
            (each.schedule_id, each.fire_time, each.flow, each.state, each.reason or "", each.revision)
            for each in runs
        ),
        "handed out": sorted((each.schedule_id, each.fire_time) for each in desk.runs),
        "cursors": engine._cursors,
        "alarms": {
            timing: ([each.id for each in alarm.schedules], alarm.deferring)
            for timing, alarm in engine._alarms.items()
        },
        "rings": {job.trigger.alarm.timing: job.next_run_time for job in engine._scheduler.get_jobs()},
        "next": engine.upcoming(20),
        "first": engine.upcoming(1),
        "overdue": engine.overdue(MINUTE),
    }


@pytest.mark.parametrize("seed", range(8))
async def test_an_edit_by_its_difference_is_as_one_that_looks_at_all(tmp_path: Path, seed: int) -> None:
    async with AsyncExitStack() as stack:
        noting = await stack.enter_async_context(await Noting.open(f"sqlite:///{tmp_path}/noting.db"))
        other = await stack.enter_async_context(await Forgetful.open(f"sqlite:///{tmp_path}/other.db"))
        twins = Twins([Desk(each, HandClock(START)) for each in (noting, other)], seed)
        await twins.edit()
        for number in range(ACTS):
            act = await twins.act()
            one, two = [await stands(desk) for desk in twins.desks]
            for what, found in one.items():
                assert found == two[what], (number, act, what)
            assert one["overdue"] == {}
        assert set(await audited(twins.desks[0])) <= {"aligned", "deferred"}
        assert noting.differences > 3
        for desk in twins.desks:
            await desk.engine.stop()


async def test_alarms_of_which_nothing_is_another_are_left_as_they_are(tmp_path: Path) -> None:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk = Desk(ledger, HandClock(START))
        early, late, new = (a_schedule(id_, f"{n} 3 * * *") for n, id_ in enumerate("abc"))
        await desk.apply(early, late)
        before = dict(desk.engine._alarms)

        await desk.apply(early, replace(late, flow=5), new, revision="r2")

        after = desk.engine._alarms
        assert after[early.timing] is before[early.timing]
        assert after[late.timing] is not before[late.timing]
        assert set(after) == {early.timing, late.timing, new.timing}
        await desk.engine.stop()


async def test_what_somebody_else_has_put_in_force_meanwhile_is_looked_at_anew(tmp_path: Path) -> None:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        desk, other = (Desk(ledger, HandClock(START)) for _ in range(2))
        one, two = (a_schedule(id_, "*/10 * * * *") for id_ in "ab")
        await desk.apply(one, two)
        await other.apply(one, revision="r2")

        desk.clock.step(START + 60 * MINUTE)
        await desk.apply(replace(one, flow=7), two, revision="r3")

        terms = await ledger.terms_in_force()
        assert terms["b"].from_at == START + 60 * MINUTE
        assert desk.engine._cursors["b"].at == START + 60 * MINUTE
        for each in (desk, other):
            await each.engine.stop()
