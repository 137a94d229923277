"""Hears what happens, and has it told over each channel: in the ledger first, as far as that will take it.

Nothing here is waited for by those who fire. What is told may be told twice, after a crash or where the
ledger is in trouble, so that it is told at all.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from flowsched.alerts.deciding import Judge
from flowsched.alerts.gathering import HOUR, Gathering
from flowsched.alerts.queue import DueQueue, first_of
from flowsched.alerts.tries import pause_after
from flowsched.errors import LedgerError
from flowsched.events import AlertDone, nobody
from flowsched.model import MessageState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from flowsched.alerts.lines import Line
    from flowsched.clock import Clock
    from flowsched.events import Event, Tell
    from flowsched.ledger import Ledger
    from flowsched.model import Alerts, Message, Schedule

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
            name: Gathering(line.channel, wait, alerts.rate_per_hour) for name, line in lines.items()
        }
        self._queues: dict[str, DueQueue[Message]] = {name: DueQueue(clock) for name in lines}
        self._heard = asyncio.Event()
        self._unanswered = 0
        self._gatherer: asyncio.Task[None] | None = None
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._under_way: set[str] = set()
        self._taken_up = False
        self._stopping = False

    def hear(self, event: Event) -> None:
        """Take an event; returns at once."""
        now = self._clock.monotonic()
        for alert in self._judge.judged(event, self._clock.now(), now):
            takers = [each.add(alert, now) for each in self._gatherings.values()]
            if any(takers):
                self._heard.set()

    def start(self) -> None:
        """Begin to gather and to send, and take up what a former process left."""
        self._gatherer = self._task(self._gather, "gathering")
        self._senders = {
            name: self._task(partial(self._send, line), name) for name, line in self.lines.items()
        }

    async def aclose(self) -> None:
        """Stop, within about LAST_SECONDS; what is not told by then is kept for the next start."""
        self._stopping = True
        await _cancelled(task for task in (self._gatherer,) if task is not None)
        busy = [task for name, task in self._senders.items() if name in self._under_way]
        if busy:
            await asyncio.wait(busy, timeout=LAST_SECONDS)
        await _cancelled(self._senders.values())
        left = [each.close(self._clock.monotonic()) for each in self._gatherings.values()]
        await self._kept([self._pending(message) for message in left if message is not None], LAST_SECONDS)

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

    async def _gather(self) -> None:
        if not self._taken_up:
            await self._take_up()
            self._taken_up = True
        while True:
            await self._something_to_do()
            now = self._clock.monotonic()
            closed = [
                message
                for each in self._gatherings.values()
                if _is_due(each, now) and (message := each.close(now)) is not None
            ]
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
        fresh = [each for each in self._gatherings.values() if not each.is_written]
        messages = [message for each in fresh if (message := each.message()) is not None]
        for each in fresh:
            each.is_written = True
        for message in await self._kept(messages):
            if message.id is not None:
                self._gatherings[message.channel].has_id(message.id)

    async def _take_up(self) -> None:
        now = self._clock.now()
        try:
            begun = await self._ledger.messages_begun_since(now - timedelta(seconds=HOUR))
            left = await self._ledger.open_messages()
        except LedgerError as error:
            log.error("alerts of before are not known", extra={"error": str(error)})  # noqa: TRY400 - it says it
            return
        for name, each in self._gatherings.items():
            ago = [(now - at).total_seconds() for channel, at in begun if channel == name]
            each.remember(self._clock.monotonic() - max(seconds, 0.0) for seconds in ago)
        for message in left:
            await self._take_up_one(message)

    async def _take_up_one(self, message: Message) -> None:
        queue = self._queues.get(message.channel)
        if queue is None:
            await self._finish(message, MessageState.DROPPED, "there is no such channel any more")
            return
        pending = replace(message, state=MessageState.PENDING)
        wait = ((message.next_at or message.at) - self._clock.now()).total_seconds()
        queue.put(pending, self._clock.monotonic() + min(max(wait, 0.0), HOUR))

    def _pending(self, message: Message) -> Message:
        return replace(message, state=MessageState.PENDING, next_at=self._clock.now())

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
        (message,) = await self._kept([message])
        self._queues[message.channel].put(message, self._clock.monotonic() + pause)

    async def _finish(self, message: Message, state: MessageState, error: str | None) -> None:
        """Note that a message is done with, in the log, to whoever listens, and in the ledger."""
        done = replace(message, state=state, next_at=None, done_at=self._clock.now(), error=error)
        level = logging.INFO if state is MessageState.SENT else logging.ERROR
        log.log(level, "alerts %s", _SAID[state], extra=_fields(done))
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


def _is_due(gathering: Gathering, now: float) -> bool:
    closes_at = gathering.closes_at()
    return closes_at is not None and closes_at <= now


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
