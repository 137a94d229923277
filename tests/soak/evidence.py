"""All that is there when a soak is over, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowsched.model import Action, Attempt, Pause, Run
    from flowsched.simulator import Call, Instance
    from tests.soak.daemon import Sending
    from tests.soak.history import Version, Walls
    from tests.soak.people import Errand


@dataclass(frozen=True, slots=True)
class Evidence:
    """From the ledger, from the simulator's own books, from the log, and from whoever did it all."""

    runs: Sequence[Run]
    attempts: Mapping[int, Sequence[Attempt]]
    calls: Sequence[Call]
    instances: Sequence[Instance]
    sendings: Sequence[Sending]
    versions: Sequence[Version]
    walls: Walls
    gaps: int
    """As `flowsched audit` has them; so with surplus."""
    surplus: int
    complaints: Sequence[str]
    """What the daemon did or said that it should not."""
    restarts: Sequence[float]
    """In ticks; of every process that may have sent something."""
    pauses: Sequence[Pause] = ()
    actions: Sequence[Action] = ()
    errands: Sequence[Errand] = ()
    stumbles: Sequence[str] = ()
    """What the commands did or said that they should not."""
    sent: int = 0
    """Messages with alerts that the ledger has as sent."""
    heard: Mapping[str, int] = field(default_factory=dict)
    """By the id of a message, how often its receiver took it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a soak."""

    name: str
    figure: str
    wrong: Sequence[str]
    """What is wrong, a line each."""
    counts_as: str = ""
    """`lost` or `double`, where what is wrong is one of these; each line is one."""
