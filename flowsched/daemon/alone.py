"""What a command has to work with where no daemon answers: the ledger as its one daemon, and hands."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from flowsched.daemon.daemon import DRAIN, name_of
from flowsched.daemon.disk import Disk
from flowsched.daemon.gateways import GatewaysOnDemand
from flowsched.daemon.hands import Hands, revision_on_disk
from flowsched.daemon.reading import read_catalog
from flowsched.ledger import Ledger
from flowsched.model import Phase
from flowsched.runner import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from flowsched.clock import Clock
    from flowsched.model import Catalog, Pause, Run, Settings

T = TypeVar("T")


class _NobodyFires:
    """In place of an engine: a pause is what the ledger says, and nothing is claimed meanwhile."""

    pauses: tuple[Pause, ...] = ()

    async def change_pauses(self, write: Callable[[], Awaitable[T]]) -> T:
        """Have `write` change the pauses in the ledger."""
        return await write()


class _Errands(Runner):
    """Carries what is triggered here, and nothing else."""

    async def let_go(self, run: Run) -> None:
        """Do nothing: what somebody settles is not carried here, and its watch is for the next daemon."""


class _Shift:
    """As much of a daemon as hands need."""

    def __init__(self, settings: Settings, runner: Runner, name: str) -> None:
        self.name = name
        self.phase = Phase.RUNNING
        self.runner = runner
        self.engine = _NobodyFires()
        self._settings = settings

    @cached_property
    def catalog(self) -> Catalog:
        """What the files are now; read when it is first asked for, which blocks. Raises ConfigError."""
        return read_catalog(self._settings)


@asynccontextmanager
async def alone(settings: Settings, environ: Mapping[str, str], clock: Clock) -> AsyncIterator[Hands]:
    """Be the one daemon of the ledger for a while, without firing what is due, and without taking up runs.

    The files and the keys are read when what is asked for needs them. At the end attempts under way may end,
    for `DRAIN`; what is not final then is for the next daemon. Raises LedgerError where there is no ledger,
    or one of another version, and LedgerTaken, without waiting, where a daemon or another command keeps it.
    """
    async with AsyncExitStack() as stack:
        # A reader makes no ledger where there is none, and does not bring an older one to our version.
        await stack.enter_async_context(await Ledger.open_to_read(settings.ledger))
        ledger = await stack.enter_async_context(await Ledger.open_as_daemon(settings.ledger))
        gateways = GatewaysOnDemand(settings, environ, clock)
        stack.push_async_callback(gateways.aclose)
        runner = _Errands(ledger, gateways, clock)
        # Another command, or a daemon, may have called the same flows just before.
        await runner.remember_what_was_sent()
        shift = _Shift(settings, runner, name_of(clock.now()))
        hands = Hands(shift, ledger, gateways, clock, revision=partial(revision_on_disk, Disk(), settings))
        try:
            yield hands
        finally:
            await hands.aclose()
            await runner.drain(DRAIN)
