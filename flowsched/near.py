"""Near misses: what somebody may have meant."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING

from flowsched.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 100
_MOST = 1_000


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most like this one, if one is like it at all; case does not matter."""
    return _nearest(word[:_LONGEST].lower(), tuple(known)[:_MOST])


@lru_cache(maxsize=1_024)
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    spelling = {each.lower(): each for each in reversed(known)}
    matches = get_close_matches(word, spelling, n=1, cutoff=0.65)
    return spelling[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question to append to a message, or nothing where no known word is like this one."""
    match = nearest(word, known)
    return f"; did you mean {quoted(match)}?" if match else ""
