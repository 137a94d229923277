"""The name of a run among traces: W3C trace context, made of what the run is.

Nothing of it is stored. The ids are the same after a restart, and for every daemon.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.model import Run

_TRACE_DIGITS = 32
_SPAN_DIGITS = 16


def trace_id(run: Run) -> str:
    """Return the trace of a run, by schedule id, fire time and origin: 32 hex digits, not all 0."""
    return _trace(run.schedule_id, run.fire_time, run.origin)[1]


def span_id(run: Run, attempt: int | None = None) -> str:
    """Return the span of an attempt, numbered from 1; None: that of the run. 16 hex digits, not all 0."""
    identity, _ = _trace(run.schedule_id, run.fire_time, run.origin)
    part = "run" if attempt is None else f"attempt {attempt}"
    return _digits(f"{identity}\n{part}", _SPAN_DIGITS)


def traceparent(run: Run, attempt: int | None = None, *, exported: bool) -> str:
    """Return the header of a call that is made for a run: by an attempt, or (None) for the run as such.

    As of W3C Trace Context, level 1, version 00. `exported` sets the flag "sampled": the span that is
    named is sent to a collector.
    """
    return f"00-{trace_id(run)}-{span_id(run, attempt)}-{'01' if exported else '00'}"


@lru_cache(maxsize=256)
def _trace(schedule_id: str, fire_time: datetime, origin: str) -> tuple[str, str]:
    """Return what a run, whose fire time is in UTC, is in one text, and its trace; an attempt asks thrice."""
    identity = f"flowsched\n{schedule_id}\n{fire_time.isoformat()}\n{origin}"
    return identity, _digits(identity, _TRACE_DIGITS)


def _digits(text: str, count: int) -> str:
    # All 0 is no id; a digest that begins so is not to be met, and must not be sent all the same.
    return sha256(text.encode()).hexdigest()[:count].replace("0" * count, "1" * count)
