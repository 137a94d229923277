"""Random lives of an engine under blackouts, against an oracle that counts minutes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from flowsched import timeline
from flowsched.ledger import Ledger
from flowsched.model import CatchUp, RunState, Then
from tests.builders import a_schedule, closed
from tests.fakes import HandClock
from tests.test_engine import Desk
from tests.test_engine_blackouts import DAY, MINUTE, START, audited

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from flowsched.model import Blackout, Schedule

CRONS = ("*/7 * * * *", "*/10 * * * *", "3,4,5,40 * * * *", "0 */2 * * *", "* * * * *")
LIVES = 40
"""Acts in a life."""


@dataclass
class Oracle:
    """What must become of the fires of one schedule, found minute by minute."""

    schedule: Schedule
    cursor: datetime
    held: tuple[datetime, datetime] | None = None
    """The fire time that is held, and until when."""
    rows: dict[tuple[str, datetime], RunState] = field(default_factory=dict)

    def live(self, now: datetime) -> None:
        """Account for all that came by `now`, under the schedule as it is."""
        self.held = None
        for fire_time in self._came(now):
            out_at = self._out_at(fire_time)
            if out_at is not None and out_at > now:
                self.held = fire_time, out_at
                return
            self._end(fire_time, RunState.SKIPPED if out_at is None else RunState.CLAIMED)

    def edit(self, to: Schedule, now: datetime) -> None:
        """Put another version in force; what came before `now` is accounted for unless nobody was there."""
        if to.timing != self.schedule.timing or not to.enabled:
            for fire_time in self._came(now):
                self._end(fire_time, RunState.MISSED)
        elif _said(to.blackout) != _said(self.schedule.blackout):
            self._go_by_another(replace(self, schedule=to), now)
        if to.timing != self.schedule.timing or not self.schedule.enabled:
            self.cursor = now
        self.schedule = to

    def next(self, now: datetime) -> list[tuple[datetime, str, datetime]]:
        """Return when the next five fires go out, and which they are."""
        found = [(self.held[1], self.schedule.id, self.held[0])] if self.held else []
        times = timeline.fire_times(self.schedule.timing, max(now, self.cursor))
        while self.schedule.enabled and len(found) < 6:
            fire_time = next(times)
            out_at = self._out_at(fire_time)
            if out_at is not None:
                found.append((out_at, self.schedule.id, fire_time))
        return found

    def _go_by_another(self, to: Oracle, now: datetime) -> None:
        """Account for what has come as another blackout has it, firing nothing that has passed."""
        for fire_time in self._came(now):
            out_at = to._out_at(fire_time)
            if out_at is None:
                self._end(fire_time, RunState.SKIPPED)
            elif out_at > now:
                return
            else:
                just_now = now - out_at <= MINUTE
                self._end(fire_time, RunState.CLAIMED if just_now else RunState.MISSED)

    def _came(self, now: datetime) -> list[datetime]:
        if not self.schedule.enabled:
            return []
        times = timeline.fire_times(self.schedule.timing, self.cursor)
        return list(iter(lambda: min(next(times), now + MINUTE), now + MINUTE))

    def _end(self, fire_time: datetime, state: RunState) -> None:
        assert (self.schedule.id, fire_time) not in self.rows
        self.rows[self.schedule.id, fire_time] = state
        self.cursor = fire_time

    def _out_at(self, fire_time: datetime) -> datetime | None:
        """Return when a fire goes out; None: it is skipped."""
        blackout = self.schedule.blackout
        if not _is_closed(blackout, fire_time):
            return fire_time
        assert blackout is not None
        open_at = fire_time
        while _is_closed(blackout, open_at):
            open_at += MINUTE
        last = next(timeline.fire_times(self.schedule.timing, fire_time)) >= open_at
        return open_at if last and blackout.then is Then.DEFER else None


def _said(blackout: Blackout | None) -> object:
    """Return what two blackouts that do the same have in common."""
    return blackout and (blackout.then, {span for each in blackout.calendars for span in each.spans})


def _is_closed(blackout: Blackout | None, at: datetime) -> bool:
    spans = [span for calendar in (blackout.calendars if blackout else ()) for span in calendar.spans]
    return any(span.start <= at < span.end for span in spans)


class Life:
    """An engine and its oracles, to whom chance does the same things."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.chance = Random(seed)  # noqa: S311 - to be the same each time
        self.made = 0
        cron = self.chance.choice(CRONS)
        self.oracles = [Oracle(self._schedule(f"s{n}", cron, flow=n), START) for n in range(3)]

    @property
    def schedules(self) -> list[Schedule]:
        return [oracle.schedule for oracle in self.oracles]

    async def act(self) -> None:
        acts = [self.pass_by, self.pass_by, self.sleep, self.edit, self.edit, self.die, self.die_and_edit]
        await self.chance.choice(acts)()
        await self.desk.settled()
        for oracle in self.oracles:
            oracle.live(self.desk.clock.now())

    async def pass_by(self) -> None:
        for _ in range(self.chance.randint(1, 25)):
            await self.desk.minutes(1)
            for oracle in self.oracles:
                oracle.live(self.desk.clock.now())

    async def sleep(self) -> None:
        """As a machine that is suspended."""
        self.desk.clock.step(self.desk.clock.now() + self.chance.randint(1, 400) * MINUTE)
        await self.desk.minutes(1)

    async def edit(self) -> None:
        self._edit()
        await self.desk.apply(*self.schedules, revision=f"r{self.made}")

    async def die(self) -> None:
        self.desk.clock.step(self.desk.clock.now() + self.chance.randint(0, 200) * MINUTE)
        await self.desk.restart(*self.schedules)

    async def die_and_edit(self) -> None:
        self.desk.clock.step(self.desk.clock.now() + self.chance.randint(0, 200) * MINUTE)
        self._edit()
        await self.desk.restart(*self.schedules)

    def _edit(self) -> None:
        self.made += 1
        for oracle in self.chance.sample(self.oracles, 2):
            oracle.edit(self._another(oracle.schedule), self.desk.clock.now())

    def _another(self, schedule: Schedule) -> Schedule:
        match self.chance.randrange(9):
            case 0:
                timing = replace(schedule.timing, cron=self.chance.choice(CRONS))
                return replace(schedule, timing=timing)
            case 1:
                return replace(schedule, enabled=not schedule.enabled)
            case 2:
                return replace(schedule, blackout=None)
            case 3:
                blackout = self.chance.choice([schedule.blackout, None])
                id_ = f"{schedule.id.partition('.')[0]}.{self.made}"
                return replace(schedule, id=id_, renamed_from=schedule.id, blackout=blackout)
            case _:
                return replace(schedule, blackout=self._blackout())

    def _schedule(self, id_: str, cron: str, flow: int) -> Schedule:
        return a_schedule(
            id_,
            cron,
            flow=flow,
            catch_up=CatchUp.ALL,
            catch_up_window=1000 * DAY,
            blackout=self._blackout(),
        )

    def _blackout(self) -> Blackout:
        now = self.desk.clock.now()
        starts = [now + self.chance.randint(-60, 300) * MINUTE for _ in range(self.chance.randint(1, 4))]
        spans = [(start, start + self.chance.randint(1, 90) * MINUTE) for start in starts]
        self.made += 1
        return closed(*spans, then=self.chance.choice([*Then, Then.DEFER]), name=f"c{self.made}")


@pytest.mark.parametrize("seed", range(6))
async def test_every_fire_time_ends_in_one_row_or_is_held_whatever_happens(tmp_path: Path, seed: int) -> None:
    async with await Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        life = Life(Desk(ledger, HandClock(START)), seed)
        await life.desk.apply(*life.schedules)
        for _ in range(LIVES):
            await life.act()
            await _check(life)
        await life.desk.engine.stop()


async def _check(life: Life) -> None:
    runs = await life.desk.ledger.runs(limit=1_000_000)
    found = {(run.schedule_id, run.fire_time): run.state for run in runs}
    assert len(found) == len(runs)
    assert found == {key: state for oracle in life.oracles for key, state in oracle.rows.items()}
    terms = await life.desk.ledger.terms_in_force()
    for oracle in life.oracles:
        if oracle.schedule.enabled:
            assert terms[oracle.schedule.id].deferred_until == (oracle.held and oracle.held[1])
    assert set(await audited(life.desk)) <= {"aligned", "deferred"}
    assert life.desk.engine.overdue(MINUTE) == {}
    _check_what_is_next(life)


def _check_what_is_next(life: Life) -> None:
    """Hold the next fires against those that the oracles count out."""
    now = life.desk.clock.now()
    found = [(one.out_at, one.schedule_id, one.fire_time) for one in life.desk.engine.upcoming(5)]
    expected = (min(oracle.next(now)) for oracle in life.oracles if oracle.schedule.enabled)
    assert found == sorted(expected)[:5]
