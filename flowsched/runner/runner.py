"""Carries each run from its claim to a final state, or as far as it can be known."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flowsched import retry
from flowsched.enos import calls_for, milliseconds, trigger_request
from flowsched.errors import LedgerError, LedgerRefusal, LedgerUnusable
from flowsched.events import FirstByte, nobody
from flowsched.model import AFTER_THE_OTHERS, NextStep, Outcome, RunState
from flowsched.runner.carriers import Carriers
from flowsched.runner.lanes import Lanes
from flowsched.runner.overlap import cleared
from flowsched.runner.reconcile import Reconciliation
from flowsched.runner.recorder import Recorder, fields
from flowsched.runner.unfinished import taken_up
from flowsched.runner.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.enos import TriggerRequest
    from flowsched.events import Tell
    from flowsched.ledger import Ledger
    from flowsched.model import Answer, Run, Schedule
    from flowsched.runner.lanes import Lane
    from flowsched.runner.ports import Gateway, Turn

log = logging.getLogger(__name__)

LOOK_AGAIN = 15.0
"""A run that waits for its time looks at the wall clock after so many seconds at the latest."""

LONGEST_ATTEMPT = timedelta(minutes=10)
"""What a schedule may allow for an attempt at most; it is `config.parser` that sets this bound."""

FAULT_PAUSES = tuple(60.0 * 2**number for number in range(8))
"""Seconds after which a run is gone on with that a fault of ours has stopped, each time that one does; after
the last, in all more than four hours, it is left to the next start."""


_WAITING = (RunState.CLAIMED, RunState.WAITING)


@dataclass(frozen=True, slots=True)
class _Way:
    """What one run is carried with."""

    gateway: Gateway
    lane: Lane
    request: TriggerRequest


class Runner:
    """Carries each run it is given in a task of its own; the ledger is written before each step."""

    def __init__(
        self, ledger: Ledger, gateways: Mapping[str, Gateway], clock: Clock, tell: Tell = nobody
    ) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._clock = clock
        self._recorder = Recorder(ledger, clock, tell)
        self._watcher = Watcher(self._recorder, gateways, clock)
        self._lanes = Lanes(clock)
        self._carriers = Carriers()
        self._sending: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def under_way(self) -> int:
        """How many runs are being carried."""
        return len(self._carriers)

    def waits_for(self, run: Run) -> str | None:
        """Say what a run that is due waits for, in words that stand after `waits for`; None: not known.

        That is the limit of its target, also where that holds back another run of its flow that goes before
        it; else that other run, or the distance to the last call.
        """
        if run.state not in _WAITING or (run.retry_at or run.due_at) > self._clock.now():
            return None
        lane = self._lanes.of(run.target, run.flow)
        first = lane.inside
        if first is None:
            return "a minute to pass since the last call of its flow" if lane.rests else None
        limit = None
        if self._sending.isdisjoint(self._carriers.of(first)):
            limit = self._gateways[run.target].held_by
        if limit is not None:
            return _limited(run, limit)
        return f"run {first} of its flow" if first != run.id else None

    async def take_up(self, runs: Iterable[Run], schedules: Mapping[str, Schedule]) -> None:
        """Go on with the runs, and the watches, that a former process left unfinished.

        `runs` come with the oldest fire time first; `schedules`, by id, are those about to be put in force.
        A run that was left in the middle of an attempt is in doubt from then on. One that was claimed, not
        sent, and is past its deadline is caught up, or fails, as its schedule has it now.
        """
        await self.remember_what_was_sent()
        self._watcher.take_up(await self._ledger.watches())
        taken = taken_up(runs, schedules, self._clock.now())
        for run in await asyncio.gather(*(self._moved(run, step) for run, step in taken)):
            if not run.state.final:
                self._carry_on(run)

    async def _moved(self, run: Run, step: NextStep | None) -> Run:
        return run if step is None else await self._recorder.settle(run, step)

    def start(self, run: Run) -> None:
        """Announce a run that was just written, and carry it if there is anything to send.

        A claim that is being carried already is left to it: it may have been found done. One that was claimed
        again is carried once all that carried it before has ended.
        """
        if self._carriers.have(run):
            return
        self._recorder.announce(run)
        if not run.state.final:
            self._carry_on(run)

    async def let_go(self, run: Run) -> None:
        """Carry a run no more that somebody has settled in the ledger, and announce it as it is now.

        Harmless for one that is not carried, or was claimed again since. Not for a run that is sending: its
        attempt would be cut off.
        """
        # Before anything is waited for: it may be claimed again meanwhile, which is announced after this.
        self._recorder.announce(run)
        await self._carriers.let_go(run)
        if run.state is RunState.TRIGGERED:
            await self._watcher.triggered(run)

    def _carry_on(self, run: Run) -> None:
        self._carriers.take(run, lambda: self._carry(run), unless=self._sending)

    async def drain(self, timeout: float, halt: asyncio.Event | None = None) -> int:
        """Stop: let the attempts under way end, for `timeout` real seconds or until `halt`; leave the rest.

        What is left stands in the ledger as claimed, waiting, in doubt, or (cut off) sending, and is taken up
        at the next start. Returns how many attempts were cut off.
        """
        self._draining = True
        await self._watcher.stop()
        for task in self._carriers.tasks - self._sending:
            task.cancel()
        halted = asyncio.create_task((halt or asyncio.Event()).wait())
        ends: set[asyncio.Future[Any]] = {halted, asyncio.gather(*self._sending, return_exceptions=True)}
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        cut_off = len(self._sending)
        halted.cancel()
        left = self._carriers.tasks
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._watcher.stop()
        return cut_off

    async def remember_what_was_sent(self) -> None:
        """Have what others have sent just before keep its distance; part of `take_up`."""
        now = self._clock.now()
        for sent in await self._ledger.sent_since(now - LONGEST_ATTEMPT - retry.APART):
            if sent.outcome not in retry.SURELY_NOT_PROCESSED:
                # One that was cut off may have gone on until just now.
                ago = now - (sent.ended_at or now)
                self._lanes.of(sent.target, sent.flow).sent(max(ago, timedelta(0)).total_seconds())

    async def _carry(self, run: Run) -> None:
        # Where the ledger is unusable the daemon ends, and says why; the next one finds the run as it stands.
        with suppress(LedgerError), calls_for(run):
            left = await self._carry_as_far_as_it_goes(run)
            for pause in FAULT_PAUSES:
                if left is None:
                    return
                await self._clock.sleep(pause)
                left = await self._carry_as_far_as_it_goes(left)
            if left is not None:
                log.critical("run is left as it is until the next start", extra=fields(run))

    async def _carry_as_far_as_it_goes(self, run: Run) -> Run | None:
        """Return the run where it is to be gone on with, though not at once; None: there is no more to do."""
        try:
            await self._carry_to_an_end(run)
        except LedgerUnusable:
            raise
        except LedgerRefusal as refusal:
            return await self._let_go(run, refusal)
        except Exception as error:
            log.critical("run stopped by a fault of flowsched", exc_info=True, extra=fields(run))
            return await self._record_fault(run, error)
        return None

    async def _carry_to_an_end(self, run: Run) -> None:
        gateway = self._gateways.get(run.target)
        if gateway is None:
            await self._settle_unsendable(run, f"target {run.target} is not configured")
            return
        try:
            request = trigger_request(gateway.target, run.flow, run.task, milliseconds(run.fire_time))
        except ValueError as error:
            await self._settle_unsendable(run, str(error))
            return
        way = _Way(gateway, self._lanes.of(run.target, run.flow), request)
        while not run.state.final and not self._draining:
            async with way.lane.order(run):
                run = await self._carry_to_its_deadline(self._in_its_turn(run), way)
            if run.state is RunState.IN_DOUBT and not self._draining:
                step = await self._known_by(run.deadline + retry.LOOKED_FOR, run, way)
                if step is None:
                    log.error("run is looked at no more", extra={**fields(run), "reason": run.reason})
                    return
                run = await self._follow(run, step, way)
        if run.state is RunState.TRIGGERED:
            await self._watcher.triggered(run)

    def _in_its_turn(self, run: Run) -> Run:
        """Return the run with its whole time before it, if it was behind others of its flow until now."""
        if run.origin not in AFTER_THE_OTHERS or not retry.is_unsent(run):
            return run
        return replace(run, deadline=max(run.deadline, self._clock.now() + run.retry.deadline))

    async def _carry_to_its_deadline(self, run: Run, way: _Way) -> Run:
        """Return the run when it is final, or still in doubt at its deadline, or left by a drain."""
        while not run.state.final and not self._draining:
            if run.state is RunState.IN_DOUBT:
                step = await self._known_by(run.deadline, run, way)
                if step is None:
                    return await self._tell_of_its_deadline(run)
                run = await self._follow(run, step, way)
            else:
                await self._wait_for_its_time(run)
                run = await self._attempt(run, way)
        return run

    async def _settle_unsendable(self, run: Run, why: str) -> None:
        """End a run that cannot be sent; one in doubt cannot be looked up either, and stays."""
        if run.state is RunState.IN_DOUBT:
            log.error("run stays in doubt: %s", why, extra=fields(run))
        else:
            await self._recorder.settle(run, NextStep(RunState.FAILED, why))

    async def _known_by(self, until: datetime, run: Run, way: _Way) -> NextStep | None:
        return await Reconciliation(run, self._recorder, way.gateway, self._clock).known_by(until)

    async def _tell_of_its_deadline(self, run: Run) -> Run:
        """Record, once, that a run is still in doubt at its deadline."""
        step = retry.still_in_doubt(run, self._clock.now())
        return run if step is None else await self._recorder.settle(run, step)

    async def _follow(self, run: Run, step: NextStep, way: _Way) -> Run:
        """Do what the looks at a run in doubt have shown."""
        if step.state is RunState.SENDING:
            log.warning("run is sent again", extra={**fields(run), "reason": step.reason})
            return await self._attempt(run, way)
        return await self._recorder.settle(run, step)

    async def _wait_for_its_time(self, run: Run) -> None:
        if run.retry_at is None:
            at, meant = run.due_at, run.due_at - run.fire_time
        else:
            at, meant = run.retry_at, run.retry_at - run.updated_at
        if at <= self._clock.now():
            return
        # No longer than was meant, should the clock step back meanwhile; sooner, should it step forward.
        latest = self._clock.monotonic() + meant.total_seconds()
        while True:
            by_the_wall = (at - self._clock.now()).total_seconds()
            left = min(by_the_wall, latest - self._clock.monotonic())
            if left <= 0:
                return
            await self._clock.sleep(min(left, LOOK_AGAIN))

    async def _attempt(self, run: Run, way: _Way) -> Run:
        """Make one attempt when it is the run's turn in its lane and at its gateway."""
        async with way.lane.place(run) as admitted:
            if not admitted:
                return await self._recorder.settle(run, retry.expired(run, self.waits_for(run)))
            if self._clock.now() > run.deadline:
                return await self._recorder.settle(run, retry.expired(run))
            note = None
            if retry.is_unsent(run):
                overlap = await cleared(run, self._recorder, way.gateway, self._clock)
                if overlap.skip:
                    # One that is claimed again by hand was not skipped the first time: that stays true.
                    state = RunState.SKIPPED if run.state is RunState.CLAIMED else RunState.FAILED
                    return await self._recorder.settle(run, NextStep(state, overlap.text))
                note = overlap.text
                if overlap.cancel:
                    # What it has cancelled it is to replace, however long that took.
                    latest = self._clock.now() + retry.APART
                    run = replace(run, deadline=max(run.deadline, latest))
            return await self._send(run, way, note)

    async def _send(self, run: Run, way: _Way, note: str | None) -> Run:
        """Send, in a turn of its own, and record what came of it after the turn is left."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in one
        try:
            async with way.gateway.turn() as turn:
                self._sending.add(task)
                run = await self._begin(run, note, turn.held_by)
                if run.state is not RunState.SENDING:
                    return run
                withheld = retry.withheld(run, now=self._clock.now(), draining=self._draining)
                answer, step = withheld or (await self._trigger(run, way, turn), None)
            return await self._conclude(run, answer, step)
        finally:
            self._sending.discard(task)

    async def _trigger(self, run: Run, way: _Way, turn: Turn) -> Answer:
        """Make the call; the next of the lane keeps its distance, unless this is surely not processed."""
        began = self._clock.monotonic()
        try:
            with calls_for(run, run.attempts):
                answer = await turn.trigger(way.request, run.retry.attempt_timeout.total_seconds())
        except BaseException:
            way.lane.sent()
            raise
        self._tell_of_first_byte(run, turn)
        if answer.outcome not in retry.SURELY_NOT_PROCESSED:
            # Where no answer of its own came, it may have come to be processed only at its end.
            own = answer.instance is not None or answer.outcome is Outcome.NOT_CREATED
            way.lane.sent(self._clock.monotonic() - (turn.left_at or began) if own else 0.0)
        return answer

    def _tell_of_first_byte(self, run: Run, turn: Turn) -> None:
        if turn.left_at is not None:
            ago = timedelta(seconds=self._clock.monotonic() - turn.left_at)
            self._recorder.tell(FirstByte(run, self._clock.now() - ago))

    async def _begin(self, run: Run, note: str | None, limit: str | None) -> Run:
        """Record the start of the next attempt; or the run's end, where its deadline passes before that.

        `limit` is what its turn has waited for.
        """
        number, now = run.attempts + 1, self._clock.now()
        at = now
        while now <= run.deadline:
            if self._draining:
                return run
            try:
                begun = await self._ledger.begin_attempt(
                    run.id, number, at, note, run.deadline, claimed_at=run.claimed_at
                )
            except (LedgerRefusal, LedgerUnusable):
                raise
            except LedgerError as error:
                await self._recorder.pause(f"record the start of attempt {number}", error)
                now = self._clock.now()
            else:
                self._recorder.announce(begun)
                return begun
        waited_for = _limited(run, limit) if limit is not None and at > run.deadline else None
        return await self._recorder.settle(run, retry.expired(run, waited_for))

    async def _conclude(self, run: Run, answer: Answer, known: NextStep | None) -> Run:
        """Record what came of an attempt, and the step that follows: `known`, or what the answer means."""
        now = self._clock.now()
        step = known or retry.next_step(answer, run, now=now, draw=self._clock.draw())
        run = await self._recorder.insist(
            f"record the outcome of attempt {run.attempts}: {answer.outcome}",
            lambda: self._ledger.end_attempt(run.id, run.attempts, now, answer, step),
        )
        self._recorder.announce(run, answer)
        return run

    async def _let_go(self, run: Run, refusal: LedgerRefusal) -> Run | None:
        """Leave a run that is not where it was left: settled or claimed again by hand, or by some fault.

        Returns it where it can be gone on with: nobody is known to be in the middle of an attempt.
        """
        found = await self._standing(run)
        if found is not None and found.claimed_at != run.claimed_at:
            self._leave_to_its_new_claim(found)
            return None
        if found is None or not found.state.final:
            log.critical("run is not where it was left", extra={**fields(run), "reason": str(refusal)})
            return None if found is None or found.state is RunState.SENDING else found
        self._recorder.announce(found)
        if found.state is RunState.TRIGGERED:
            await self._watcher.triggered(found)
        return None

    async def _record_fault(self, run: Run, error: Exception) -> Run | None:
        """Have the ledger say how a run stands that a fault has stopped; return it where it is in doubt."""
        found = await self._standing(run)
        if found is not None and found.claimed_at != run.claimed_at:
            self._leave_to_its_new_claim(found)
            return None
        if found is None or found.state.final:
            return None
        if found.state is RunState.IN_DOUBT:
            return found
        sent = found.state is RunState.SENDING
        state = RunState.IN_DOUBT if sent else RunState.FAILED
        what = "what EnOS made of it is unknown" if sent else "it is not sent"
        reason = f"a fault of flowsched ({type(error).__name__}: {error}); {what}"
        settled = await self._recorder.settle(found, NextStep(state, reason))
        return settled if sent else None

    def _leave_to_its_new_claim(self, run: Run) -> None:
        # Whoever has claimed it again hands it over, but may not have come to that.
        if not run.state.final:
            self.start(run)

    async def _standing(self, run: Run) -> Run | None:
        return await self._recorder.insist("read how a run stands", lambda: self._ledger.run(run.id))


def _limited(run: Run, limit: str) -> str:
    return f"target {run.target}, {limit}"
