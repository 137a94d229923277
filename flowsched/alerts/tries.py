"""What came of one attempt to tell somebody, and what follows from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

ATTEMPTS = 5
PAUSES = (60.0, 240.0, 900.0, 2400.0)
"""Seconds before each further attempt: an hour in all."""

LONGEST_RETRY_AFTER = 3600.0

_WORTH_REPEATING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one attempt. Holds no secret, and nothing of what the other side has answered."""

    ok: bool
    detail: str
    """One line for people."""
    final: bool = False
    """Whether another attempt would come to the same."""
    retry_after: float | None = None
    """Seconds that the other side asked for; None: it did not."""


def answered(status: int, retry_after: str | None = None) -> Tried:
    """Return what an HTTP status says."""
    if 200 <= status < 300:  # noqa: PLR2004 - as HTTP has it
        return Tried(ok=True, detail=f"HTTP {status}")
    if 300 <= status < 400:  # noqa: PLR2004
        return Tried(ok=False, detail=f"HTTP {status}: redirects are not followed", final=True)
    final = 400 <= status < 500 and status not in _WORTH_REPEATING  # noqa: PLR2004
    seconds = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
    return Tried(ok=False, detail=f"HTTP {status}", final=final, retry_after=seconds)


def pause_after(tried: Tried, attempts: int) -> float | None:
    """Return how long to wait after so many attempts in vain, in seconds; None: give up."""
    if tried.final or attempts >= ATTEMPTS:
        return None
    asked = min(tried.retry_after or 0.0, LONGEST_RETRY_AFTER)
    return max(PAUSES[attempts - 1], asked)
