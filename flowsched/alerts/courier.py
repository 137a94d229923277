"""Hears what happens, and has it told over each channel: in the ledger first, as far as that will take it.

Nothing here is waited for by those who fire. What is told may be told twice, after a crash or where the
ledger is in trouble, so that it is told at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from flowsched.alerts.deciding import Judge, has_done_well, last_told
from flowsched.alerts.gathering import HOUR, Gathering
from flowsched.alerts.messages import identity, is_told_apart
from flowsched.alerts.queue import DueQueue, first_of
from flowsched.alerts.tries import pause_after
from flowsched.errors import LedgerError
from flowsched.events import AlertDone, nobody
from flowsched.model import AlertKind, MessageState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Any
    from uuid import UUID

    from flowsched.alerts.lines import Line
    from flowsched.clock import Clock
    from flowsched.events import Event, Tell
    from flowsched.ledger import Ledger
    from flowsched.model import Alert, Alerts, Message, Run, Schedule

log = logging.getLogger(__name__)

WRITE_PAUSE = 1.0
"""Seconds between two writes of what is gathered, however much comes meanwhile."""

LEDGER_PATIENCE = 5.0
"""Real seconds that a message waits for the ledger, before it goes out unrecorded."""

MOST_UNANSWERED = 20
"""Writes that the ledger has not answered in that time; then it is asked no more until it answers."""

LAST_SECONDS = 2.0
"""Real seconds that what is under way gets to end in, when the daemon stops; the rest is told by the next."""

FAULT_PAUSE = 60.0
"""Seconds until what a fault of ours has stopped is gone on with."""

OLDEST = timedelta(days=1)
"""What is older is not told any more."""

TAKE_UP_PAUSE = 10.0
"""Seconds until the ledger is asked again what a former process left."""

MOST_RECALLED = 1_000
"""Messages of former processes, the newest, that are looked at for what was told and is not over."""

_AT_ONCE = 200
"""Schedules whose last success is asked for at once."""


@dataclass(frozen=True, slots=True)
class _Former:
    """What former processes left."""

    begun: list[tuple[str, datetime]]
    left: list[Message]
    told: list[Alert]
    runs: dict[int, Run]


class Courier:
    """The messages of one daemon: gathered, kept, sent, tried again."""

    def __init__(
        self,
        alerts: Alerts,
        lines: Mapping[str, Line],
        ledger: Ledger,
        clock: Clock,
        schedule: Callable[[str], Schedule | None],
        tell: Tell = nobody,
    ) -> None:
        """`schedule` gives a schedule of the catalog in force by its id; `tell` is told of what is done."""
        self.lines = lines
        self._ledger = ledger
        self._clock = clock
        self._tell = tell
        self._judge = Judge(alerts.repeat.total_seconds(), schedule)
        wait = alerts.group_wait.total_seconds()
        self._gatherings = {
            name: Gathering(line.channel, wait, alerts.rate_per_hour, partial(self._identity, name))
            for name, line in lines.items()
        }
        self._queues: dict[str, DueQueue[Message]] = {name: DueQueue(clock) for name in lines}
        self._heard = asyncio.Event()
        self._unanswered = 0
        self._began = clock.now()
        self._own: set[UUID] = set()
        """The messages that were begun here, until what former processes left is known."""
        self._unjudged: deque[tuple[Event, datetime, float]] | None = deque()
        """What waits to be judged until it is known what was told before; None: nothing does."""
        self._tried_again: dict[tuple[str, AlertKind, str], tuple[UUID, float]] = {}
        """By channel, kind and subject, the message that waits for its next attempt, where order matters."""
        self._taker: asyncio.Task[None] | None = None
        self._gatherer: asyncio.Task[None] | None = None
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._under_way: set[str] = set()
        self._stopping = False

    def hear(self, event: Event) -> None:
        """Take an event; returns at once."""
        at, now = self._clock.now(), self._clock.monotonic()
        if self._unjudged is not None:
            self._unjudged.append((event, at, now))
        else:
            self._gather_all(self._judge.judged(event, at, now), now)

    def start(self) -> None:
        """Begin to gather and to send, and take up what a former process left."""
        self._taker = self._task(self._take_up, "taking up")
        self._gatherer = self._task(self._gather, "gathering")
        self._senders = {
            name: self._task(partial(self._send, line), name) for name, line in self.lines.items()
        }

    async def aclose(self) -> None:
        """Stop, within about LAST_SECONDS; what is not told by then is kept for the next start."""
        self._stopping = True
        await _cancelled(task for task in (self._taker, self._gatherer) if task is not None)
        self._judge_what_waits()
        busy = [task for name, task in self._senders.items() if name in self._under_way]
        if busy:
            await asyncio.wait(busy, timeout=LAST_SECONDS)
        await _cancelled(self._senders.values())
        now = self._clock.monotonic()
        left = [message for each in self._gatherings.values() for message in each.left(now)]
        await self._kept([self._pending_unless_apart(message) for message in left], LAST_SECONDS)

    def _task(self, work: Callable[[], Coroutine[Any, Any, None]], what: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._repeated(work, what))

    async def _repeated(self, work: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
        while not self._stopping:
            try:
                await work()
            except Exception:
                log.critical(
                    "alerts stopped for a minute by a fault of flowsched", exc_info=True, extra={"part": what}
                )
                await self._clock.sleep(FAULT_PAUSE)
            else:
                return

    def _gather_all(self, alerts: Sequence[Alert], now: float) -> None:
        for alert in alerts:
            takers = [each.add(alert, now) for each in self._gatherings.values()]
            if any(takers):
                self._heard.set()

    def _judge_what_waits(self) -> None:
        unjudged, self._unjudged = self._unjudged, None
        for event, at, now in unjudged or ():
            self._gather_all(self._judge.judged(event, at, now), now)

    def _identity(self, channel: str, alert: Alert) -> UUID:
        drawn = identity(alert, channel, self._clock.draw())
        if self._taker is None or not self._taker.done():
            self._own.add(drawn)
        return drawn

    async def _gather(self) -> None:
        while True:
            await self._something_to_do()
            now = self._clock.monotonic()
            closed = [message for each in self._gatherings.values() for message in _due(each, now)]
            for message in await self._kept([self._pending(message) for message in closed]):
                self._queues[message.channel].put(message, now)
            await self._keep_what_is_gathered()
            await self._clock.sleep(WRITE_PAUSE)

    async def _something_to_do(self) -> None:
        closing = [at for each in self._gatherings.values() if (at := each.closes_at()) is not None]
        if closing:
            left = min(closing) - self._clock.monotonic()
            await first_of(self._heard.wait(), self._clock.sleep(left))
        else:
            await self._heard.wait()
        self._heard.clear()

    async def _keep_what_is_gathered(self) -> None:
        await self._kept([message for each in self._gatherings.values() for message in each.unwritten()])

    async def _take_up(self) -> None:
        """Take up what former processes left, as soon as the ledger tells; meanwhile go on without."""
        while True:
            reading = asyncio.ensure_future(self._former())
            try:
                await asyncio.wait({reading}, timeout=LEDGER_PATIENCE)
                if not reading.done():
                    self._judge_what_waits()
                former = await reading
            except LedgerError as error:
                log.warning("alerts of before are not known yet", extra={"error": str(error)})
                self._judge_what_waits()
                await self._clock.sleep(TAKE_UP_PAUSE)
            else:
                await self._take_up_all(former)
                return
            finally:
                reading.cancel()

    async def _former(self) -> _Former:
        now = self._clock.now()
        begun = await self._ledger.messages_begun_since(now - timedelta(seconds=HOUR))
        left = await self._ledger.open_messages()
        newest = await self._ledger.messages(MOST_RECALLED)
        told = last_told(each for each in newest if each.identity not in self._own)
        subjects = sorted({alert.subject for alert in told if alert.kind is not AlertKind.IN_DOUBT})
        successes: dict[str, datetime] = {}
        for first in range(0, len(subjects), _AT_ONCE):
            successes |= await self._ledger.last_successes(subjects[first : first + _AT_ONCE])
        ids = {int(alert.details.get("run", 0)) for alert in told if alert.kind is AlertKind.IN_DOUBT}
        runs = [await self._ledger.run(id_) for id_ in sorted(ids)]
        return _Former(
            begun=[(channel, at) for channel, at in begun if at < self._began],
            left=[each for each in left if each.identity not in self._own],
            told=[alert for alert in told if not has_done_well(alert, successes)],
            runs={run.id: run for run in runs if run is not None},
        )

    async def _take_up_all(self, former: _Former) -> None:
        at, now = self._clock.now(), self._clock.monotonic()
        for name, each in self._gatherings.items():
            ago = [(at - begun).total_seconds() for channel, begun in former.begun if channel == name]
            each.remember(now - max(seconds, 0.0) for seconds in ago)
        gone = [message for message in former.left if message.channel not in self.lines]
        for message in former.left:
            if message.channel in self.lines:
                self._take_up_one(message, now)
        self._gather_all(self._judge.recall(former.told, former.runs, at, now), now)
        self._judge_what_waits()
        self._own.clear()
        self._heard.set()
        for message in gone:
            await self._finish(message, MessageState.DROPPED, "there is no such channel any more")

    def _take_up_one(self, message: Message, now: float) -> None:
        if self._gatherings[message.channel].resume(message, now):
            return
        wait = ((message.next_at or message.at) - self._clock.now()).total_seconds()
        due = now + min(max(wait, 0.0), HOUR)
        if message.attempts:
            self._note_next_attempt(message, due)
        self._queues[message.channel].put(replace(message, state=MessageState.PENDING), due)

    def _pending(self, message: Message) -> Message:
        return replace(message, state=MessageState.PENDING, next_at=self._clock.now())

    def _pending_unless_apart(self, message: Message) -> Message:
        apart = is_told_apart(self.lines[message.channel].channel)
        return message if apart else self._pending(message)

    async def _send(self, line: Line) -> None:
        name = line.channel.name
        for problem in await line.unreadable():
            log.error("alert channel cannot be used", extra={"channel": name, "problem": problem})
        while not self._stopping:
            message = await self._queues[name].take()
            self._under_way.add(name)
            try:
                await self._attempt(line, message)
            finally:
                self._under_way.discard(name)

    async def _attempt(self, line: Line, message: Message) -> None:
        if self._clock.now() - message.at > OLDEST:
            await self._finish(message, MessageState.DROPPED, "it is older than a day")
            return
        before = self._tried_again.get(_about(message))
        if before is not None and before[0] != message.identity:
            # What has begun must not be told after its end.
            self._queues[message.channel].put(message, before[1])
            return
        tried = await line.tell(message, self._clock)
        message = replace(message, attempts=message.attempts + 1)
        if tried.ok:
            await self._finish(message, MessageState.SENT, None)
            return
        pause = pause_after(tried, message.attempts)
        if pause is None:
            await self._finish(message, MessageState.FAILED, tried.detail)
            return
        next_at = self._clock.now() + timedelta(seconds=pause)
        message = replace(message, next_at=next_at, error=tried.detail)
        log.warning("alerts not sent; trying again", extra=_fields(message) | {"retry_at": next_at})
        self._tell(AlertDone(message.channel, MessageState.PENDING))
        due = self._clock.monotonic() + pause
        self._note_next_attempt(message, due)
        (message,) = await self._kept([message])
        self._queues[message.channel].put(message, due)

    def _note_next_attempt(self, message: Message, due: float) -> None:
        if is_told_apart(self.lines[message.channel].channel):
            self._tried_again[_about(message)] = (message.identity, due)

    async def _finish(self, message: Message, state: MessageState, error: str | None) -> None:
        """Note that a message is done with, in the log, to whoever listens, and in the ledger."""
        done = replace(message, state=state, next_at=None, done_at=self._clock.now(), error=error)
        level = logging.INFO if state is MessageState.SENT else logging.ERROR
        log.log(level, "alerts %s", _SAID[state], extra=_fields(done))
        waited = self._tried_again.get(_about(message))
        if waited is not None and waited[0] == message.identity:
            del self._tried_again[_about(message)]
        self._tell(AlertDone(message.channel, state))
        await self._kept([done])

    async def _kept(self, messages: Sequence[Message], patience: float | None = None) -> list[Message]:
        """Write messages; return them with their ids, or as they are where the ledger would not in time.

        `patience` is in real seconds; None: LEDGER_PATIENCE.
        """
        if not messages or self._unanswered >= MOST_UNANSWERED:
            return list(messages)
        writing = asyncio.ensure_future(self._ledger.keep_messages(messages))
        self._unanswered += 1
        writing.add_done_callback(self._answered)
        try:
            ids = await asyncio.wait_for(asyncio.shield(writing), patience or LEDGER_PATIENCE)
        except (LedgerError, TimeoutError) as error:
            why = str(error) or "it does not answer"
            log.warning("ledger would not take alerts; they go out all the same", extra={"error": why})
            return list(messages)
        return [replace(message, id=id_) for message, id_ in zip(messages, ids, strict=True)]

    def _answered(self, writing: asyncio.Future[list[int]]) -> None:
        self._unanswered -= 1
        if not writing.cancelled():
            writing.exception()  # whoever waited has told of it


_SAID = {
    MessageState.SENT: "sent",
    MessageState.FAILED: "given up",
    MessageState.DROPPED: "dropped",
}


def _due(gathering: Gathering, now: float) -> Iterator[Message]:
    """Close what is due."""
    while (closes_at := gathering.closes_at()) is not None and closes_at <= now:
        message = gathering.close(now)
        if message is not None:
            yield message


def _about(message: Message) -> tuple[str, AlertKind, str]:
    return message.channel, message.alerts[0].kind, message.alerts[0].subject


def _fields(message: Message) -> dict[str, object]:
    return {
        "channel": message.channel,
        "number": message.id,
        "alerts": message.count,
        "attempt": message.attempts,
        "error": message.error,
    }


async def _cancelled(tasks: Any) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
