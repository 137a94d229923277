"""The orders that stand, and which call the next of them befalls."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowsched.simulator.orders import Order


@dataclass(slots=True)
class _Standing:
    order: Order
    matched: int = 0
    struck: int = 0

    @property
    def used_up(self) -> bool:
        return self.order.times is not None and self.struck >= self.order.times

    def strikes(self) -> bool:
        self.matched += 1
        hit = _chance(self.order.seed, self.matched) < self.order.probability
        self.struck += hit
        return hit


@dataclass(slots=True)
class Faults:
    """The orders that stand, oldest first; a call is befallen by the first that concerns and strikes it."""

    _standing: list[_Standing] = field(default_factory=list)

    @property
    def standing(self) -> Sequence[Order]:
        """The orders not used up."""
        return [standing.order for standing in self._standing]

    def add(self, order: Order) -> None:
        """Let an order stand behind the others."""
        self._standing.append(_Standing(order))

    def clear(self) -> None:
        """Drop every order."""
        self._standing.clear()

    def take(self, operation: str, flow: int | None, *, at_head: bool = False) -> Order | None:
        """Return the order that befalls this call, counted as used; None: it is spared.

        Asked twice for each call: at its head, for the orders that strike there, then for the others.
        """
        for standing in self._standing:
            order = standing.order
            if order.at_head == at_head and order.concerns(operation, flow) and standing.strikes():
                if standing.used_up:
                    self._standing.remove(standing)
                return order
        return None


def _chance(seed: int, number: int) -> float:
    """Return a number from 0 to below 1 that looks drawn, and is the same each time."""
    digest = sha256(f"{seed} {number}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
