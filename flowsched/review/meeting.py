"""Which of many sets of fire times have one in common: all at once, as bits of whole numbers."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING

from flowsched.cron.blocks import ones, union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from flowsched.cron import Block

    Blocks = tuple[Block, ...]

FEW = 100
"""Different minutes, or days, of which each is looked at, rather than looked up by its bits."""


class Meeting:
    """Tells of many sets of fire times which of them share one with some others.

    Two blocks share a fire time where they share a minute of the day, and a day. So each block of each set
    has a bit, and it is kept of each minute and of each day which blocks have it.
    """

    def __init__(self, sets: Sequence[Blocks]) -> None:
        """Take the sets, those with the most blocks first."""
        most = max(map(len, sets), default=0)
        self._layers = [sum(depth < len(blocks) for blocks in sets) for depth in range(most)]
        minutes: defaultdict[int, int] = defaultdict(int)
        days: defaultdict[int, int] = defaultdict(int)
        for bit, block in _laid_out(sets, self._layers):
            minutes[block.minutes] |= bit
            days[block.days] |= bit
        self._with_minutes = _with_any(minutes)
        self._with_days = _with_any(days)

    def of(self, blocks: Blocks) -> int:
        """Return which sets share a fire time with these blocks: bit n is that of the set n."""
        met = 0
        for minutes, days in blocks:
            met |= self._with_minutes(minutes) & self._with_days(days)
        sets = 0
        for size in self._layers:
            sets |= met & ((1 << size) - 1)
            met >>= size
        return sets


def picker(positions: Sequence[int]) -> Callable[[int], int]:
    """Return what makes of bits others: bit n of the result is the bit at `positions[n]`, 0 where that is -1.

    There is at least one position.
    """
    width = max(positions) + 1
    pick = itemgetter(*reversed(positions))

    def picked(bits: int) -> int:
        if not bits:
            return 0
        # As text, since Python has no quicker way to take so many bits one by one.
        lowest_first = f"{bits:0{width}b}"[: -width - 1 : -1]
        return int("".join(pick(lowest_first + "0")), 2)

    return picked


def _laid_out(sets: Sequence[Blocks], layers: Sequence[int]) -> Iterator[tuple[int, Block]]:
    """Yield each block with its bit, in layers: the first of each set, the second of those that have one, ...

    What is found of the blocks can so be laid over one another, and is then of the sets.
    """
    first = 0
    for depth, size in enumerate(layers):
        for number in range(size):
            yield 1 << (first + number), sets[number][depth]
        first += size


def _with_any(holders: Mapping[int, int]) -> Callable[[int], int]:
    """Return what tells which blocks have any of some minutes, or days; `holders` has those with the same."""
    # To look at the few there are takes less time than to look each minute up.
    return cache(_looked_through(holders) if len(holders) <= FEW else _looked_up(holders))


def _looked_through(holders: Mapping[int, int]) -> Callable[[int], int]:
    return lambda wanted: union(blocks for bits, blocks in holders.items() if bits & wanted)


def _looked_up(holders: Mapping[int, int]) -> Callable[[int], int]:
    having: defaultdict[int, int] = defaultdict(int)
    for bits, blocks in holders.items():
        for each in ones(bits):
            having[each] |= blocks
    return lambda wanted: union(having[each] for each in ones(wanted))
