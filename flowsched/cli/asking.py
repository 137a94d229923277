"""Whom the commands ask that do something by hand: the daemon, or where there is none, this process."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flowsched.cli.people import person, user
from flowsched.clock import SystemClock
from flowsched.control.client import Client
from flowsched.control.documents import run_document
from flowsched.control.routes import answer, unpacked
from flowsched.control.who import who
from flowsched.control.words import state_in_words
from flowsched.errors import FlowschedError, LedgerError, NoAnswer, NoDaemon
from flowsched.ledger import Ledger
from flowsched.model import RunState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from flowsched.clock import Clock
    from flowsched.control.documents import Document
    from flowsched.control.ports import Wheel
    from flowsched.model import Settings

LOOK_AGAIN = 0.5
"""Seconds between two looks at a run that is followed."""

_LOOK = "`flowsched log` shows what people have done"

PATIENCE = 60.0
"""Seconds for which a daemon may be away while one of its runs is followed: it may be restarted."""


class Asking:
    """Asks whoever is there; who that is shows with the first question, and stays."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, clock: Clock) -> None:
        self.wheel: Wheel | None = None
        """What answers in this process; None: a daemon does, or nobody was asked yet."""
        self.clock = clock
        self._settings = settings
        self._stack = stack
        self._by = who(user(), person())
        self._client = Client(settings.control_socket, person())
        self._daemon_answers = False

    @property
    def alone(self) -> bool:
        """Whether this process does what is asked for, as no daemon answers."""
        return self.wheel is not None

    async def __call__(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Document:
        """Ask, and return the document of the answer.

        Raises what `routes.unpacked` does, and NoDaemon and NoAnswer as `Client.ask` does.

        This process does it itself only where nobody took the question: else it could be done twice.
        """
        try:
            return await self._answered(method, path, body)
        except NoAnswer as lost:
            raise lost if method == "GET" else NoAnswer(f"{lost}: {_LOOK}") from None
        except asyncio.CancelledError:
            if method != "GET":
                click.echo(f"flowsched: interrupted; what was asked for may be done: {_LOOK}", err=True)
            raise

    async def _answered(self, method: str, path: str, body: Mapping[str, object] | None) -> Document:
        if self.wheel is None:
            try:
                document = await self._client.ask(method, path, body)
            except NoDaemon as nobody:
                if self._daemon_answers:
                    raise
                self.wheel = await self._alone(nobody)
            else:
                self._daemon_answers = True
                return document
        return unpacked(*await answer(self.wheel, method, path, body or {}, self._by))

    async def _alone(self, nobody: NoDaemon) -> Wheel:
        from flowsched.daemon.alone import alone  # noqa: PLC0415 - heavy, and only needed without a daemon

        # What a runner logs is for the log of a daemon; here it is shown how the run stands.
        silence, log = logging.NullHandler(), logging.getLogger("flowsched")
        log.addHandler(silence)
        self._stack.callback(log.removeHandler, silence)
        try:
            return await self._stack.enter_async_context(alone(self._settings, os.environ, self.clock))
        except LedgerError as error:
            raise NoDaemon(f"{nobody}; and without a daemon: {error}") from error


@asynccontextmanager
async def asking(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Asking]:
    """Ask inside of the block; at its end, what this process has under way may end."""
    async with AsyncExitStack() as stack:
        yield Asking(settings, stack, clock or SystemClock())


async def asked(settings: Settings, path: str, fields: Mapping[str, object]) -> Document:
    """Have one thing done, and return what came of it; raises what `Asking` does."""
    async with asking(settings) as ask:
        return await ask("POST", path, fields)


@dataclass(frozen=True, slots=True)
class Followed:
    """A run as it was last seen, and why it is not followed any more."""

    run: dict[str, Any]
    lost: str | None = None
    """Why nothing more is known; None: it has come to an end, or is left in doubt."""

    @property
    def triggered(self) -> bool:
        """Whether EnOS has made its instance."""
        return self.lost is None and self.run["state"] == RunState.TRIGGERED


async def followed(
    ask: Asking, run: Mapping[str, Any], show: Callable[[Mapping[str, Any]], None]
) -> Followed:
    """Follow a run until it is final, or in doubt after its deadline.

    Show it whenever it has moved, or waits for something that it has not waited for before.
    """
    seen, silent_since = dict(run), None
    told = {None, seen.get("waits_for")}
    show(seen)
    while not is_settled(seen, ask.clock.now()):
        await ask.clock.sleep(LOOK_AGAIN)
        try:
            found = await ask("GET", f"/v1/runs/{run['id']}")
        except (NoDaemon, NoAnswer, LedgerError) as error:
            silent_since = silent_since or ask.clock.monotonic()
            if ask.clock.monotonic() - silent_since > PATIENCE:
                return Followed(seen, str(error))
            continue
        silent_since = None
        waits_anew = found.get("waits_for") not in told
        told.add(found.get("waits_for"))
        if waits_anew or (found["state"], found["updated_at"]) != (seen["state"], seen["updated_at"]):
            seen = found
            show(seen)
    return Followed(seen)


def is_settled(run: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether nothing more is to be expected of a run soon."""
    state = RunState(run["state"])
    late = now > datetime.fromisoformat(run["deadline"])
    return state.final or (state is RunState.IN_DOUBT and late)


def sentence(run: Mapping[str, Any]) -> str:
    """Say how a run stands."""
    which = f"run {run['id']} ({run['schedule_id']}, fire time {run['fire_time']})"
    more = (
        f"instance {run['instance']}" if run["instance"] else None,
        f"again at {run['retry_at']}" if run["retry_at"] else None,
        run["reason"],
        run["note"] if run["state"] == RunState.CLAIMED else None,
        f"waits for {run['waits_for']}" if run.get("waits_for") else None,
    )
    return f"{which}: {', '.join(filter(None, (state_in_words(run['state']), *more)))}"


async def what_then(settings: Settings, run: Mapping[str, Any]) -> str:
    """Say how a run stands that is followed no more, and who goes on with it."""
    commands = f"`flowsched runs --run {run['id']}` shows it"
    found: Mapping[str, Any]
    try:
        found = await Client(settings.control_socket).ask("GET", f"/v1/runs/{run['id']}", within=PATIENCE)
        goes_on = "the daemon goes on with it"
    except FlowschedError:
        found = await _on_record(settings, run)
        goes_on = "a daemon takes it up when it starts"
    which = f"run {run['id']} is {state_in_words(found['state'])}"
    return which if RunState(found["state"]).final else f"{which}; {goes_on}: {commands}"


async def _on_record(settings: Settings, run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a run as the ledger has it, or as it was last seen where that cannot be read."""
    try:
        async with await Ledger.open_to_read(settings.ledger) as ledger:
            found = await ledger.run(run["id"])
    except LedgerError:
        return run
    return run if found is None else run_document(found)
