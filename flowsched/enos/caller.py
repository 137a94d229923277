"""For which run the calls of a task are made: their `traceparent` names it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from flowsched.traceparent import traceparent

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flowsched.model import Run


class Caller(NamedTuple):
    """What calls are made for."""

    run: Run
    attempt: int | None
    """Which one, for the trigger; None: for looks and cancellations."""


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def calls_for(run: Run, attempt: int | None = None) -> AbstractContextManager[None]:
    """Have the calls made inside, in this task and those that it starts, name the run, or its attempt."""
    return _CallsFor(Caller(run, attempt))


class _CallsFor:
    def __init__(self, caller: Caller) -> None:
        self._it = caller

    def __enter__(self) -> None:
        self._token = _caller.set(self._it)

    def __exit__(self, *_: object) -> None:
        _caller.reset(self._token)


def caller() -> Caller | None:
    """Return what calls are made for just now; None: nobody has said."""
    return _caller.get()


def trace_headers(*, exported: bool) -> dict[str, str]:
    """Return the headers that name the caller; none where there is none. `exported` as in `traceparent`."""
    found = _caller.get()
    return {} if found is None else {"traceparent": traceparent(*found, exported=exported)}
