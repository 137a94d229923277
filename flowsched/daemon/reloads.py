"""When the schedules are read anew, by whom that was asked for, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowsched.daemon.reading import read_catalog, trailer_of
from flowsched.errors import ConfigError, LedgerError
from flowsched.events import Reloaded, nobody
from flowsched.model import Reload, ReloadOutcome

if TYPE_CHECKING:
    from flowsched.clock import Clock
    from flowsched.daemon.daemon import Daemon
    from flowsched.events import Tell
    from flowsched.model import Catalog, Settings

log = logging.getLogger(__name__)

RELOAD_PAUSE = 5.0
"""Seconds until the schedules are read again that a ledger would not take just now."""

ACCEPTANCE_PAUSE = 5.0
"""Seconds between two looks whether somebody has accepted the catalog that is held."""


@dataclass(slots=True)
class _Asked:
    """One reading that somebody wants; those who ask before it begins share it."""

    why: str
    done: asyncio.Future[Reload] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Reloads:
    """Reads the schedules anew, one reading after the other."""

    def __init__(self, daemon: Daemon, settings: Settings, clock: Clock, tell: Tell = nobody) -> None:
        self.latest: Reload | None = None
        """What came of the latest reading; None before the first."""
        self._daemon = daemon
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._asked: _Asked | None = None
        self._wanted = asyncio.Event()

    def ask(self, why: str) -> asyncio.Future[Reload]:
        """Have the schedules read, in a reading that begins after this call; the future says what came of it.

        Cancelling the future does not stop the reading.
        """
        if self._asked is None:
            self._asked = _Asked(why)
            self._wanted.set()
        return asyncio.shield(self._asked.done)

    def started(self, catalog: Catalog) -> None:
        """Note that the daemon has started with a catalog."""
        self._note(
            Reload(
                outcome=ReloadOutcome.APPLIED,
                at=self._clock.now(),
                why="start",
                revision=catalog.revision,
                commit=catalog.commit,
                problems=(),
            )
        )

    async def keep(self) -> None:
        """Carry out what is asked for; never ends."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            asked, self._asked = self._asked, None
            if asked is not None:
                reload = await self._carried_out(asked.why)
                self._note(reload)
                if not asked.done.done():
                    asked.done.set_result(reload)

    async def keep_asking_when_accepted(self) -> None:
        """Have the schedules read anew once what is held is accepted; they may be others by then."""
        while True:
            await self._clock.sleep(ACCEPTANCE_PAUSE)
            with suppress(LedgerError):  # whoever writes next tells of it
                if await self._daemon.is_accepted():
                    self.ask("accepted")

    def _note(self, reload: Reload) -> None:
        self.latest = reload
        self._tell(Reloaded(reload))

    async def _carried_out(self, why: str) -> Reload:
        while True:
            try:
                catalog = await asyncio.to_thread(read_catalog, self._settings)
                old = self._daemon.commit
                trailer = await asyncio.to_thread(trailer_of, self._settings.schedules, old, catalog.commit)
                outcome = await self._daemon.reload(catalog, trailer)
            except ConfigError as error:
                self._daemon.let_go()
                problems = tuple(map(str, error.problems))
                for problem in problems:
                    log.error("catalog refused; the one before stays in force", extra={"problem": problem})  # noqa: TRY400
                return self._reload(ReloadOutcome.REFUSED, why, None, problems)
            except LedgerError as error:
                log.error(  # noqa: TRY400 - the text says it all
                    "ledger would not take the catalog; trying again", extra={"error": str(error)}
                )
                await self._clock.sleep(RELOAD_PAUSE)
            except Exception as error:
                self._daemon.let_go()
                log.critical("reload stopped by a fault of flowsched", exc_info=True)
                fault = f"a fault of flowsched: {type(error).__name__}: {error}"
                return self._reload(ReloadOutcome.FAILED, why, None, (fault,))
            else:
                held = self._daemon.held
                problems = (str(held.change),) if outcome is ReloadOutcome.HELD and held else ()
                return self._reload(outcome, why, catalog, problems)

    def _reload(
        self, outcome: ReloadOutcome, why: str, catalog: Catalog | None, problems: tuple[str, ...]
    ) -> Reload:
        return Reload(
            outcome=outcome,
            at=self._clock.now(),
            why=why,
            revision=catalog.revision if catalog else None,
            commit=catalog.commit if catalog else None,
            problems=problems,
        )
