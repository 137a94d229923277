"""When the schedules are read anew, by whom that was asked for, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from flowsched.config import Kept
from flowsched.daemon.disk import Disk, Unanswered
from flowsched.daemon.reading import read_settled, trailer_of
from flowsched.errors import LedgerError, Problem, printable
from flowsched.events import Reloaded, Reloading, nobody
from flowsched.model import Reload, ReloadOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowsched.clock import Clock
    from flowsched.daemon.daemon import Daemon
    from flowsched.daemon.reading import Course, Look, Reading
    from flowsched.events import Tell
    from flowsched.model import Catalog, Commit, Settings

log = logging.getLogger(__name__)

RELOAD_PAUSE = 5.0
"""Seconds until the schedules are read again that a ledger would not take just now."""

ACCEPTANCE_PAUSE = 5.0
"""Seconds between two looks whether somebody has accepted the catalog that is held."""

CHANGED = "the files changed"
"""Why schedules are read anew that nobody asked for."""

MOST_LOGGED = 20
"""Problems of one refused set that the log lists."""

_MOST_REASONS = 4
_REFUSED = "catalog refused; the one before stays in force"


@dataclass(slots=True)
class _Asked:
    """One reading that is wanted; those who ask before it begins share it."""

    whys: dict[str, None] = field(default_factory=dict)
    done: asyncio.Future[Reload] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def why(self) -> str:
        return ", ".join(list(self.whys)[:_MOST_REASONS])


class Reloads:
    """Reads the schedules anew, one reading after the other."""

    def __init__(
        self,
        daemon: Daemon,
        settings: Settings,
        clock: Clock,
        tell: Tell = nobody,
        *,
        disk: Disk | None = None,
        read: Callable[[Settings, Course], Reading] | None = None,
    ) -> None:
        """Read with `read`; by default, what one reading has parsed serves the next one, too."""
        self.latest: Reload | None = None
        """What came of the latest reading; None before the first."""
        self.seen: Look | None = None
        """How the files looked that were read last; None where that is not known, or reading failed."""
        self.disk = disk or Disk()
        self._daemon = daemon
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._read = read or partial(read_settled, kept=Kept())
        self._asked: _Asked | None = None
        self._wanted = asyncio.Event()
        self.under_way = False
        """Whether a reading is wanted, going on, or being applied."""
        self._over = False
        self._logged: tuple[str, ...] = ()
        """The problems of the latest set, where it was refused."""

    def ask(self, why: str) -> asyncio.Future[Reload]:
        """Have the schedules read, in a reading that begins after this call; the future says what came of it.

        Cancelling the future does not stop the reading. Where the daemon stops before, it is refused.
        """
        if self._asked is None:
            self._asked = _Asked()
            self._wanted.set()
            self.under_way = True
        self._asked.whys[why] = None
        asked = self._asked
        if self._over:
            self._end(asked)
        return asyncio.shield(asked.done)

    def started(self, catalog: Catalog, seen: Look | None = None) -> None:
        """Note that the daemon has started with a catalog, and how its files looked where that is known."""
        self.seen = seen
        self._note(self._reload(ReloadOutcome.APPLIED, "start", catalog))

    async def keep(self) -> None:
        """Carry out what is asked for; never ends."""
        asked = None
        self._over = False
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                asked, self._asked = self._asked, None
                if asked is not None:
                    self._tell(Reloading(asked.why))
                    reload = await self._carried_out(asked.why)
                    self._note(reload)
                    if not asked.done.done():
                        asked.done.set_result(reload)
                    self.under_way = self._asked is not None
        except asyncio.CancelledError:
            self._over = True
            raise
        finally:
            self.under_way = False
            for each in (asked, self._asked):
                if each is not None:
                    self._end(each)
            self._asked = None

    async def keep_asking_when_accepted(self) -> None:
        """Have the schedules read anew once what is held is accepted; they may be others by then."""
        while True:
            await self._clock.sleep(ACCEPTANCE_PAUSE)
            with suppress(LedgerError):  # whoever writes next tells of it
                if await self._daemon.is_accepted():
                    await self.ask("accepted")

    def _end(self, asked: _Asked) -> None:
        if not asked.done.done():
            outcome, why_not = ReloadOutcome.FAILED, "a fault of flowsched; its log says more"
            if self._over:
                outcome = ReloadOutcome.REFUSED
                why_not = "the daemon is stopping, and reads nothing any more"
            asked.done.set_result(self._reload(outcome, asked.why, None, (why_not,)))

    def _note(self, reload: Reload) -> None:
        self.latest = reload
        if reload.outcome is not ReloadOutcome.REFUSED:
            self._logged = ()
        self._tell(Reloaded(reload))

    async def _carried_out(self, why: str) -> Reload:
        while True:
            try:
                return await self._tried(why)
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

    async def _tried(self, why: str) -> Reload:
        old = self._daemon.commit
        self.seen = None
        try:
            reading, trailer = await self.disk.ask(lambda course: self._read_and_look(course, old))
        except Unanswered as error:
            problem = Problem(printable(self._settings.schedules), 0, 0, "", str(error))
            return self._refused(why, (str(problem),))
        self.seen = reading.look
        if reading.catalog is None:
            return self._refused(why, tuple(map(str, reading.problems)))
        outcome = await self._daemon.reload(reading.catalog, trailer)
        held = self._daemon.held
        problems = (str(held.change),) if outcome is ReloadOutcome.HELD and held else ()
        return self._reload(outcome, why, reading.catalog, problems)

    def _read_and_look(self, course: Course, old: Commit | None) -> tuple[Reading, str | None]:
        """Read, and look for the trailer of a commit, which is on the same disk."""
        reading = self._read(self._settings, course)
        commit = reading.catalog.commit if reading.catalog else None
        return reading, trailer_of(self._settings.schedules, old, commit)

    def _refused(self, why: str, problems: tuple[str, ...]) -> Reload:
        self._daemon.let_go()
        # Files that cannot be read are tried again and again; nobody wants the same lines each time.
        if why != CHANGED or problems != self._logged:
            for problem in problems[:MOST_LOGGED]:
                log.error(_REFUSED, extra={"problem": problem})
            if (more := len(problems) - MOST_LOGGED) > 0:
                log.error(
                    _REFUSED, extra={"problem": f"{more} more problems; `flowsched validate` lists them"}
                )
        self._logged = problems
        return self._reload(ReloadOutcome.REFUSED, why, None, problems)

    def _reload(
        self, outcome: ReloadOutcome, why: str, catalog: Catalog | None, problems: tuple[str, ...] = ()
    ) -> Reload:
        return Reload(
            outcome=outcome,
            at=self._clock.now(),
            why=why,
            revision=catalog.revision if catalog else None,
            commit=catalog.commit if catalog else None,
            problems=problems,
        )
