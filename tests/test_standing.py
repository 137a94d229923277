"""The board: how the daemon stands, from what is told and from what the ledger held before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flowsched.daemon.daemon import Held
from flowsched.daemon.standing import Board
from flowsched.errors import LedgerError, LedgerUnusable
from flowsched.events import AlertDone, OverdueSeen, Reloaded, RunMoved
from flowsched.ledger import LEDGER_PAUSE
from flowsched.model import (
    MOST_SHOWN,
    Catalog,
    Commit,
    Late,
    MessageState,
    Origin,
    Pause,
    Phase,
    Reload,
    RunState,
    Unsent,
    Upcoming,
)
from flowsched.review.guard import MassChange
from tests.builders import a_run, a_schedule
from tests.fakes import HandClock, all_have_run, eventually
from tests.wheel import HEALTH, NOW, PAUSE, RELOAD, an_upcoming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from flowsched.model import Run


@dataclass
class Engine:
    pauses: tuple[Pause, ...] = ()
    next: tuple[Upcoming, ...] = (an_upcoming(),)

    def upcoming(self, count: int) -> list[Upcoming]:
        return list(self.next[:count])


@dataclass
class Runner:
    waiting: dict[int, str] = field(default_factory=dict)

    def waits_for(self, run: Run) -> str | None:
        return self.waiting.get(run.id)


@dataclass
class Daemon:
    name: str = "host:1:start"
    started_at: datetime = NOW
    phase: Phase = Phase.RUNNING
    catalog: Catalog = field(
        default_factory=lambda: Catalog({"a": a_schedule("a"), "b": a_schedule("b")}, "r1")
    )
    applied_at: datetime | None = NOW
    commit: Commit | None = None
    held: Held | None = None
    engine: Engine = field(default_factory=Engine)
    runner: Runner = field(default_factory=Runner)


@dataclass
class Readings:
    latest: Reload | None = RELOAD


@dataclass
class Target:
    token_age: timedelta | None = timedelta(minutes=1)
    clock_offset: timedelta | None = None
    clock_is_off: bool = False
    held_by: str | None = None
    unsent: Unsent | None = None


class Books:
    """Answers when it is let, and raises what it is told to first."""

    def __init__(self) -> None:
        self.open: list[Run] = []
        self.successes: dict[str, datetime] = {}
        self.asked: list[list[str]] = []
        self.errors: list[LedgerError] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def open_runs(self) -> list[Run]:
        found = list(self.open)
        await self._answer()
        return found

    async def last_successes(self, schedule_ids: Sequence[str]) -> Mapping[str, datetime]:
        self.asked.append(list(schedule_ids))
        await self._answer()
        return {id_: at for id_, at in self.successes.items() if id_ in schedule_ids}

    async def _answer(self) -> None:
        await self.answering.wait()
        if self.errors:
            raise self.errors.pop(0)


class Bench:
    """A board with all that it hears and reads of."""

    def __init__(self) -> None:
        self.daemon, self.books, self.clock = Daemon(), Books(), HandClock(NOW)
        self.target = Target()
        self.board = Board(
            self.daemon, Readings(), lambda: HEALTH, {"eu": self.target}, self.books, self.clock
        )
        self._keeping: asyncio.Task[None] | None = None

    def keep(self) -> asyncio.Task[None]:
        self._keeping = asyncio.create_task(self.board.keep())
        return self._keeping

    async def leave(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    def moved(self, *runs: Run) -> None:
        for run in runs:
            self.board.hear(RunMoved(run))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.leave()


def a_run_of(id_: int, state: RunState, schedule_id: str = "a", minutes: int = 0) -> Run:
    fire_time = NOW - timedelta(minutes=minutes)
    return a_run(id=id_, state=state, schedule_id=schedule_id, fire_time=fire_time)


async def test_a_run_is_under_way_until_it_is_final_and_then_a_recent_one(bench: Bench) -> None:
    bench.moved(a_run_of(1, RunState.CLAIMED), a_run_of(2, RunState.IN_DOUBT, minutes=5))
    before = bench.board.status()
    bench.moved(a_run_of(1, RunState.SENDING), a_run_of(1, RunState.TRIGGERED), a_run_of(3, RunState.MISSED))
    after = bench.board.status()

    assert [run.id for run in before.under_way] == [2, 1]
    assert before.counts == {
        RunState.CLAIMED: 1, RunState.SENDING: 0, RunState.WAITING: 0, RunState.IN_DOUBT: 1
    }  # fmt: skip
    assert [run.id for run in after.under_way] == [2]
    assert [(run.id, run.state) for run in after.recent] == [(3, RunState.MISSED), (1, RunState.TRIGGERED)]
    assert after.last_success == {"a": NOW}


async def test_a_doubt_is_as_old_as_its_beginning_whatever_else_is_said_of_it(bench: Bench) -> None:
    doubted = a_run_of(2, RunState.IN_DOUBT)
    since = doubted.updated_at
    bench.moved(doubted, replace(a_run_of(3, RunState.IN_DOUBT), updated_at=since + timedelta(minutes=1)))
    bench.moved(replace(doubted, reason="its deadline has passed", updated_at=since + timedelta(minutes=9)))
    assert bench.board.status().in_doubt_since == since

    bench.moved(replace(doubted, state=RunState.TRIGGERED))
    assert bench.board.status().in_doubt_since == since + timedelta(minutes=1)
    bench.moved(a_run_of(3, RunState.FAILED))
    assert bench.board.status().in_doubt_since is None


async def test_a_doubt_of_before_the_start_is_as_old_as_the_ledger_says(bench: Bench) -> None:
    held = a_run_of(1, RunState.IN_DOUBT)
    bench.books.open = [held]

    bench.keep()

    await eventually(lambda: bench.board.status().in_doubt_since == held.updated_at)


async def test_very_many_runs_are_counted_and_only_the_first_shown(bench: Bench) -> None:
    bench.moved(*(a_run_of(number, RunState.WAITING, minutes=number) for number in range(1, 201)))
    bench.moved(*(a_run_of(number, RunState.MISSED) for number in range(1000, 1200)))

    status = bench.board.status()

    assert status.counts[RunState.WAITING] == 200
    assert [run.id for run in status.under_way] == list(range(200, 200 - MOST_SHOWN, -1))
    assert [run.id for run in status.recent] == list(range(1199, 1199 - MOST_SHOWN, -1))


async def test_what_the_ledger_held_before_is_there_after_the_start(bench: Bench) -> None:
    bench.books.open = [a_run_of(1, RunState.IN_DOUBT)]
    bench.books.successes = {"a": NOW - timedelta(days=1), "gone": NOW}
    bench.keep()

    await eventually(lambda: bench.board.status().last_success)

    status = bench.board.status()
    assert [run.id for run in status.under_way] == [1]
    assert status.last_success == {"a": NOW - timedelta(days=1)}


async def test_what_was_heard_while_the_ledger_was_read_counts_more_than_what_it_said(bench: Bench) -> None:
    bench.books.open = [a_run_of(1, RunState.SENDING), a_run_of(2, RunState.WAITING)]
    bench.books.successes = {"a": NOW - timedelta(days=1)}
    bench.books.answering.clear()
    bench.keep()
    await all_have_run()
    bench.moved(a_run_of(1, RunState.TRIGGERED))
    bench.books.answering.set()

    await eventually(lambda: bench.books.asked)
    await all_have_run()

    status = bench.board.status()
    assert [run.id for run in status.under_way] == [2]
    assert status.last_success == {"a": NOW}


async def test_a_status_is_there_while_the_ledger_gives_no_answer(bench: Bench) -> None:
    bench.books.answering.clear()
    bench.keep()
    await all_have_run()
    bench.moved(a_run_of(1, RunState.SENDING))

    assert bench.board.status().counts[RunState.SENDING] == 1


async def test_a_ledger_in_trouble_is_asked_again_and_an_unusable_one_is_not(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.books.errors = [LedgerError("locked")]
    bench.books.open = [a_run_of(1, RunState.WAITING)]
    bench.keep()
    await eventually(lambda: bench.clock.sleeping)
    assert bench.clock.sleeping == [LEDGER_PAUSE]
    bench.clock.advance(LEDGER_PAUSE)
    await eventually(lambda: bench.board.status().under_way)

    bench.books.errors = [LedgerUnusable("corrupt")]
    await bench.leave()
    with pytest.raises(LedgerUnusable):
        await bench.keep()
    assert "ledger would not tell how things stand" in caplog.text


async def test_after_a_reload_only_new_schedules_are_looked_up_and_gone_ones_forgotten(bench: Bench) -> None:
    bench.books.successes = {"a": NOW, "c": NOW - timedelta(days=2)}
    bench.keep()
    await eventually(lambda: bench.board.status().last_success)
    bench.daemon.catalog = Catalog({"b": a_schedule("b"), "c": a_schedule("c", enabled=False)}, "r2")
    bench.board.hear(Reloaded(RELOAD))
    await eventually(lambda: bench.board.status().last_success.keys() == {"c"})

    assert bench.books.asked == [["a", "b"], ["c"]]
    status = bench.board.status()
    assert (status.revision, status.schedules, status.enabled) == ("r2", 2, 1)


async def test_a_schedule_that_comes_back_is_looked_up_again(bench: Bench) -> None:
    both, one = bench.daemon.catalog, Catalog({"b": a_schedule("b")}, "r2")
    bench.books.successes = {"a": NOW}
    bench.keep()
    await eventually(lambda: bench.board.status().last_success)
    for catalog in (one, both):
        bench.daemon.catalog = catalog
        bench.board.hear(Reloaded(RELOAD))
        await all_have_run()

    await eventually(lambda: bench.board.status().last_success == {"a": NOW})


async def test_last_successes_are_looked_up_a_few_at_a_time(bench: Bench) -> None:
    ids = [f"s{number:04}" for number in range(450)]
    bench.daemon.catalog = Catalog({id_: a_schedule(id_) for id_ in ids}, "r1")
    bench.keep()

    await eventually(lambda: len(bench.books.asked) == 3)

    assert [len(some) for some in bench.books.asked] == [200, 200, 50]
    assert [id_ for some in bench.books.asked for id_ in some] == ids


async def test_a_pause_that_is_over_is_not_shown_and_one_to_come_is(bench: Bench) -> None:
    to_come = replace(PAUSE, id=2, from_at=NOW + timedelta(days=1), until_at=None)
    bench.daemon.engine.pauses = (PAUSE, to_come)
    assert bench.board.status().pauses == (PAUSE, to_come)

    bench.clock.advance(timedelta(hours=2))
    assert bench.board.status().pauses == (to_come,)


async def test_runs_that_failed_by_themselves_are_counted(bench: Bench) -> None:
    failed = a_run_of(1, RunState.FAILED)

    bench.moved(
        replace(failed, reason="HTTP 400"),
        replace(failed, id=2, reason="cancelled by hand (ada): why"),
        a_run_of(3, RunState.TRIGGERED),
    )

    assert bench.board.status().failed == 1


async def test_a_channel_is_broken_from_an_attempt_in_vain_to_a_message_that_was_sent(bench: Bench) -> None:
    def tell(channel: str, outcome: MessageState) -> dict[str, datetime]:
        bench.board.hear(AlertDone(channel, outcome))
        return dict(bench.board.status().broken_channels)

    assert tell("mail", MessageState.SENT) == {}
    first = bench.clock.now()
    assert tell("chat", MessageState.PENDING) == {"chat": first}
    bench.clock.advance(60)
    assert tell("chat", MessageState.FAILED) == {"chat": first}
    assert tell("mail", MessageState.SENT) == {"chat": first}
    assert tell("chat", MessageState.DROPPED) == {"chat": first}
    assert tell("chat", MessageState.SENT) == {}


async def test_all_else_is_as_its_owners_say(bench: Bench) -> None:
    change = MassChange(before=2, after=1, removed=1, disabled=0, retimed=0)
    bench.daemon.held = Held("r2", change)
    bench.target.clock_is_off = True
    bench.board.hear(OverdueSeen(NOW, {"a": NOW}))

    status = bench.board.status()

    assert (status.held, status.overdue, status.health) == ("r2", {"a": NOW}, HEALTH)
    assert (status.targets[0].name, status.targets[0].clock_is_off) == ("eu", True)
    assert status.upcoming == (an_upcoming(),)
    bench.board.hear(OverdueSeen(NOW, {}))
    assert bench.board.status().overdue == {}


async def test_a_status_stays_as_it_was_whatever_succeeds_later(bench: Bench) -> None:
    bench.moved(a_run_of(1, RunState.TRIGGERED, "a", minutes=9))
    first = bench.board.status()
    bench.moved(a_run_of(2, RunState.TRIGGERED, "a"), a_run_of(3, RunState.TRIGGERED, "gone"))
    second = bench.board.status()

    assert first.last_success == {"a": NOW - timedelta(minutes=9)}
    assert second.last_success == {"a": NOW}


async def test_a_schedule_that_was_gone_when_its_run_ended_is_looked_up_when_it_is_back(bench: Bench) -> None:
    both, one = bench.daemon.catalog, Catalog({"b": a_schedule("b")}, "r2")
    bench.keep()
    await eventually(lambda: bench.books.asked == [["a", "b"]])
    bench.daemon.catalog = one
    bench.moved(a_run_of(1, RunState.TRIGGERED, "a"))
    bench.books.successes = {"a": NOW}
    bench.daemon.catalog = both
    bench.board.hear(Reloaded(RELOAD))

    await eventually(lambda: bench.board.status().last_success == {"a": NOW})


async def test_runs_that_wait_say_for_what_and_those_that_are_late_are_counted(bench: Bench) -> None:
    bench.daemon.runner.waiting = {1: "target eu, 1 call a minute", 2: "run 1 of its flow"}
    bench.moved(
        a_run(id=1, state=RunState.CLAIMED, due_at=NOW - timedelta(seconds=61)),
        a_run(id=2, state=RunState.CLAIMED, due_at=NOW - timedelta(seconds=60)),
        a_run(id=3, state=RunState.CLAIMED, due_at=NOW - timedelta(hours=1), origin=Origin.CATCH_UP),
        a_run(id=4, state=RunState.WAITING, due_at=NOW - timedelta(hours=1)),
    )
    before = bench.board.status()
    bench.clock.advance(1)
    after = bench.board.status()

    assert before.waits_for == bench.daemon.runner.waiting
    assert before.late == Late(1, NOW - timedelta(seconds=61), "target eu, 1 call a minute")
    assert after.late == replace(before.late, count=2)
    assert after.overdue == {}


async def test_a_target_says_which_limit_holds_and_why_it_was_not_reached(bench: Bench) -> None:
    bench.target.held_by = "20 calls at once"
    bench.target.unsent = Unsent(timedelta(seconds=3), "Connection refused")

    (target,) = bench.board.status().targets

    assert (target.held_by, target.unsent) == ("20 calls at once", bench.target.unsent)
