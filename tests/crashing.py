"""The life of one daemon in a process of its own: on an accelerated clock, and with a death in store.

What the process runs is `flowsched run`, but for the clock, and for the one operation that kills it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from flowsched import cron
from flowsched.cli import run
from flowsched.clock import FastClock
from flowsched.daemon import daemon
from flowsched.enos.slots import Call, Progress, Slot
from flowsched.ledger import Ledger, door
from flowsched.ledger.moves import Begin, End, Move, Settle
from flowsched.ledger.thread import LedgerThread, Result
from flowsched.ops import logs
from tests.crash_points import AT_A_STEP, CANCEL, LOOK, TOKEN, TRIGGER, Moment, Point

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from datetime import datetime
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from flowsched.enos.replies import NoReply, Reply
    from flowsched.ledger.books import Books
    from flowsched.ledger.thread import Session

    Send = Callable[[Slot, Call, Progress], Coroutine[Any, Any, Reply | NoReply]]

SPEED = 400.0
"""Times as fast as real time: a minute, which two sends to a flow keep apart, takes 0.15 s."""

FORGET_EVERY = 400.0
"""Seconds of that time between two rounds of forgetting: an hour would be 9 s of ours, in each life."""

PRELOADED = [
    "tests.crashing",
    "flowsched.config.loader",
    "flowsched.config.settings",
    "flowsched.ledger.session",
    "flowsched.enos.gateway",
]
cron.zone("UTC")  # which lists all zones, once in a process: here, before it is forked

CALLS = {
    "/token/get": TOKEN,
    "/flows?action=trigger": TRIGGER,
    "/flowInstances?action=get": LOOK,
    "/flowInstances?action=cancel": CANCEL,
}

MOVES: dict[type[Move], str] = {Begin: "begin_attempt", End: "end_attempt", Settle: "settle"}
"""The methods of `Ledger` that ask for them."""


@dataclass(frozen=True, slots=True)
class Life:
    """All that a process is to know."""

    folder: Path
    """With `flowsched.yaml` in it; its log goes there too."""
    environ: Mapping[str, str]
    start: datetime
    began: float
    """What its clock shows when the machine's monotonic clock stands where."""
    death: Point | None = None

    @property
    def log(self) -> Path:
        """Where it writes its log."""
        return self.folder / "log"

    @property
    def marker(self) -> Path:
        """The file that tells that it died where it was to."""
        return self.folder / "died"


def start(life: Life) -> BaseProcess:
    """Start a daemon; SIGTERM drains it, and it then ends with 0.

    It is forked from a process that has all modules loaded and does nothing else: hundreds are started.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=live, args=(life,))
    process.start()
    return process


def live(life: Life) -> None:
    """Be the daemon."""
    # No authority is needed, and to load those of the machine takes a quarter of a short life.
    os.environ.update(life.environ, SSL_CERT_DIR=str(life.folder))
    if life.death is not None:
        _lie_in_wait(Ambush(life.death, life.marker), life.death)
    daemon.FORGET_EVERY = FORGET_EVERY
    clock = FastClock(life.start, SPEED, life.began)
    with life.log.open("a", encoding="utf-8") as log:
        sys.stdout = sys.stderr = log
        logs.configure(log, clock)
        try:
            run._run(str(life.folder / "flowsched.yaml"), clock)
        finally:
            logs.flush()


class Ambush:
    """Waits for one operation, and kills the process there."""

    def __init__(self, point: Point, marker: Path) -> None:
        self._step, self._moment = point.step, point.moment
        self._marker = marker
        self._count = 0

    def met(self, operation: str, *, here: bool = True) -> bool:
        """Count an operation of this name, and tell whether it is the one."""
        if operation != self._step.does or not here:
            return False
        self._count += 1
        return self._count == self._step.nth

    def wrote(self, method: str, value: object) -> bool:
        """Tell whether the value that this method of the ledger has is that of the step."""
        states = [getattr(each, "state", None) for each in (value if isinstance(value, list) else [value])]
        into = self._step.arrow[1]
        told = bool(value) is not (method == "claim")
        return self.met(method, here=into in states if into else told)

    def strike(self, moment: Moment) -> None:
        """Die, if this is the moment."""
        if moment is self._moment:
            die(self._marker)


def die(marker: Path) -> NoReturn:
    """End the process on the spot, as a power cut would."""
    marker.write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("outlived SIGKILL")


def _lie_in_wait(ambush: Ambush, point: Point) -> None:
    """Put the ambush around whatever the point is in. SENT is for the other side of the wire to strike at."""
    if point.moment is Moment.KNOWN:
        setattr(Ledger, point.step.does, _knowing(getattr(Ledger, point.step.does), ambush))
    elif point.moment in AT_A_STEP:

        def thread(name: str, session: Session) -> LedgerThread:
            return LedgerThread(name, _Session(session, ambush) if name == "ledger-writer" else session)

        door.LedgerThread = thread  # type: ignore[assignment, attr-defined]
    else:
        Slot.send = _sending(Slot.send, ambush)  # type: ignore[assignment, method-assign]


def _knowing(method: Callable[..., Awaitable[Any]], ambush: Ambush) -> Callable[..., Awaitable[Any]]:
    async def known(*arguments: Any, **more: Any) -> Any:
        value = await method(*arguments, **more)
        if ambush.wrote(method.__name__, value):
            ambush.strike(Moment.KNOWN)
        return value

    return known


def _sending(send: Send, ambush: Ambush) -> Send:
    async def sent(slot: Slot, call: Call, progress: Progress) -> Reply | NoReply:
        met = ambush.met(next((name for part, name in CALLS.items() if part in call.url), call.url))
        if met:
            ambush.strike(Moment.UNSENT)
        reply = await send(slot, call, progress)
        if met:
            ambush.strike(Moment.ANSWERED)
        return reply

    return sent


class _Session:
    """The ledger's writing session, with an ambush on both sides of its COMMIT."""

    def __init__(self, session: Session, ambush: Ambush) -> None:
        self._session = session
        self._ambush = ambush
        self._met = False
        self._moves: list[Move] = []

    def run(self, operations: Sequence[Callable[[Books], object]]) -> list[Result]:
        self._moves = [operation for operation in operations if isinstance(operation, Move)]
        results = self._session.run([*map(self._watched, operations), self._last])
        if self._met:
            self._ambush.strike(Moment.COMMITTED)
        return results[:-1]

    def close(self) -> None:
        self._session.close()

    def _watched(self, operation: Callable[[Books], object]) -> Callable[[Books], object]:
        if isinstance(operation, Move):
            return operation  # as it is, so that those which come at once are carried out together
        # Each other one is a function inside of the method of `Ledger` that asks for it.
        method = operation.__qualname__.split(".")[1]

        def run(books: Books) -> object:
            value = operation(books)
            self._met = self._ambush.wrote(method, value) or self._met
            return value

        return run

    def _last(self, books: Books) -> None:
        """Be the last thing of the transaction before its COMMIT."""
        for move in self._moves:
            run = books.history.run(move.run_id)
            if run is not None and run.updated_at == move.at:
                self._met = self._ambush.wrote(MOVES[type(move)], run) or self._met
        if self._met:
            self._ambush.strike(Moment.BEFORE_COMMIT)
