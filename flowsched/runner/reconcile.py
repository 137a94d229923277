"""Finds out what came of an attempt whose outcome nobody knows: by looking for the predicted instance."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flowsched import retry
from flowsched.errors import LedgerRefusal
from flowsched.model import Outcome, RunState
from flowsched.runner.looks import look
from flowsched.runner.recorder import fields

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.clock import Clock
    from flowsched.model import NextStep, Run, Sighting
    from flowsched.runner.ports import Gateway
    from flowsched.runner.recorder import Recorder

log = logging.getLogger(__name__)


class Reconciliation:
    """The looks at the instance of one run in doubt."""

    def __init__(self, run: Run, recorder: Recorder, gateway: Gateway, clock: Clock) -> None:
        self._run = run
        self._recorder = recorder
        self._gateway = gateway
        self._clock = clock
        # What the wall clock says of an earlier attempt is worth nothing where it was set meanwhile.
        self._began = clock.monotonic()

    async def known_by(self, until: datetime) -> NextStep | None:
        """Look until something is known, and return what follows from it; None: nothing is known at `until`.

        A step to `sending` says that the same call may be sent again. At least so many looks are made that
        an absence may count, also where `until` is over. Raises LedgerRefusal where the run is not in doubt
        any more, as when it was settled by hand.
        """
        doubt = await self._doubt()
        while self._clock.now() <= until or retry.wants_looks(doubt, self._age):
            pause = retry.look_after(
                self._run, doubt, age=self._age, now=self._clock.now(), draw=self._clock.draw()
            )
            await self._clock.sleep(pause.total_seconds())
            await self._require_doubt()
            sighting = await look(self._gateway, self._run.predicted_instance)
            self._tell(sighting)
            doubt = doubt.after(sighting)
            step = retry.judged(self._run, doubt, sighting, age=self._age, now=self._clock.now())
            if step is not None:
                return step
        return None

    @property
    def _age(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - self._began)

    async def _doubt(self) -> retry.Doubt:
        ledger = self._recorder.ledger
        found = await self._recorder.insist("read its attempts", lambda: ledger.attempts([self._run.id]))
        attempts = found[self._run.id]
        doubt = retry.Doubt(tuple(attempt.outcome for attempt in attempts))
        if Outcome.NOT_CREATED not in doubt.outcomes or doubt.may_have_made_it:
            return doubt
        return replace(doubt, crowded=await self._is_crowded(attempts[-1].started_at))

    async def _is_crowded(self, began: datetime) -> bool:
        """Tell whether the flow was called so shortly before that EnOS may have found it one call too many.

        Whether its "repeatedly in 1 minute" goes by the trigger time or by the wall clock is not documented
        (enos-api section 5).
        """
        ledger = self._recorder.ledger
        calls = await self._recorder.insist(
            "read what was sent before", lambda: ledger.sent_since(began - 2 * retry.APART)
        )
        return any(
            (call.target, call.flow) == (self._run.target, self._run.flow)
            and call.started_at < began
            and call.outcome not in retry.SURELY_NOT_PROCESSED
            for call in calls
        )

    async def _require_doubt(self) -> None:
        ledger = self._recorder.ledger
        found = await self._recorder.insist("read how it stands", lambda: ledger.run(self._run.id))
        if found is None or found.state is not RunState.IN_DOUBT:
            standing = "gone" if found is None else found.state
            raise LedgerRefusal(
                f"run {self._run.id} is {standing}, and was in doubt: it is looked for no more"
            )

    def _tell(self, sighting: Sighting) -> None:
        log.info(
            "instance %s",
            sighting.seen,
            extra={
                **fields(self._run),
                "instance": self._run.predicted_instance,
                "detail": sighting.detail,
            },
        )
