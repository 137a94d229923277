"""What is done to the daemon and when, as a function of a seed. How the processes interleave is not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from flowsched.simulator import Fault, Order
from tests.soak.garden import Edit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


class Act(StrEnum):
    """One kind of trouble."""

    KILL = "kill"
    TERM = "term"
    EDIT = "edit"
    BAD_EDIT = "bad_edit"
    STEP = "step"
    GATEWAY = "gateway"
    LEDGER = "ledger"
    REVOKE = "revoke"
    PAUSE = "pause"
    RESUME = "resume"
    TRIGGER = "trigger"
    BACKFILL = "backfill"
    CANCEL = "cancel"
    RESOLVE = "resolve"
    ASK = "ask"


ERRANDS = frozenset({Act.PAUSE, Act.RESUME, Act.TRIGGER, Act.BACKFILL, Act.CANCEL, Act.RESOLVE, Act.ASK})
"""What people do with the commands of flowsched, while everything else goes on."""


class Way(StrEnum):
    """How an edit comes to the disk, and who says so."""

    HUP = "SIGHUP"
    COMMAND = "flowsched reload"
    UNSAID = "nobody says so"
    SLOWLY = "a file at a time"
    SWAP = "a link is swapped"


OFTEN = {
    Act.KILL: 7,
    Act.TERM: 4,
    Act.EDIT: 14,
    Act.BAD_EDIT: 2,
    Act.STEP: 5,
    Act.GATEWAY: 5,
    Act.LEDGER: 3,
    Act.REVOKE: 3,
    Act.PAUSE: 8,
    Act.RESUME: 6,
    Act.TRIGGER: 14,
    Act.BACKFILL: 3,
    Act.CANCEL: 7,
    Act.RESOLVE: 4,
    Act.ASK: 5,
}
"""How often in two minutes; in any soak at least once."""

HOW: dict[Act, Sequence[str]] = {
    Act.KILL: ("", "trigger", "", "pause"),
    Act.EDIT: list(Edit),
    Act.LEDGER: ("locked", "locked_long", "moved"),
    Act.GATEWAY: ("closed", "closed", "reset", "reset_processed", "503", "silence", "silence_processed"),
    Act.PAUSE: (
        "schedule",
        "schedule",
        "schedule for a while",
        "target for a while",
        "all for a while",
        "all",
    ),
    Act.TRIGGER: ("now", "past", "failed", "failed", "missed"),
    Act.CANCEL: ("waiting", "waiting", "triggered"),
}
"""How each may be done; of a kill, what somebody has just begun to do. What is triggered by hand is this
minute, one of the past, or a fire that failed, or that was missed."""

LASTS = {Act.GATEWAY: (0.5, 4.0), Act.BACKFILL: (3.0, 25.0)}
REACH = 480.0
"""Seconds by which the daemon's clock is wrong at most."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is done once."""

    at: float
    """Real seconds after the beginning."""
    act: Act
    how: str = ""
    lasts: float = 0.0
    """Real seconds; of a backfill, until who has begun it loses patience. Of a step, the seconds of the soak
    that the clock is then ahead in all."""
    twice: bool = False
    """Of a kill: again while it starts. Of SIGTERM: a second one. Of an edit or a step: with a kill. Of a
    trigger: it is waited for."""
    way: Way = Way.HUP
    """Of an edit."""


def script(seed: int, seconds: float) -> list[Event]:
    """Return what happens in so many real seconds, in order."""
    chance = Random(f"script {seed}")  # noqa: S311 - to be repeated
    decks = {act: _dealt(options, chance) for act, options in HOW.items()}
    ways = _dealt(list(Way), chance)
    acts = [act for act, often in OFTEN.items() for _ in range(max(1, round(often * seconds / 120)))]
    events = [
        _event(act, chance.uniform(0.08, 0.95) * seconds, next(decks[act]) if act in decks else "", chance)
        for act in acts
    ]
    return sorted((_on_its_way(event, ways) for event in events), key=lambda event: event.at)


def _dealt(options: Sequence[T], chance: Random) -> Iterator[T]:
    """Yield options without end, none twice before all have come."""
    while True:
        yield from chance.sample(options, len(options))


def _on_its_way(event: Event, ways: Iterator[Way]) -> Event:
    if event.act is not Act.EDIT:
        return event
    way = next(ways)
    return replace(event, way=way, twice=event.twice and way is Way.HUP)


def _event(act: Act, at: float, how: str, chance: Random) -> Event:
    twice = chance.random() < 0.3
    match act:
        case Act.KILL | Act.TERM:
            return Event(at, act, how, _pause(chance), twice)
        case Act.STEP:
            return Event(at, act, lasts=chance.uniform(-REACH, REACH), twice=twice)
        case Act.LEDGER:
            lasts = chance.uniform(5.5, 8.0) if how == "locked_long" else chance.uniform(0.5, 3.0)
            return Event(at, act, how, lasts)
    return Event(at, act, how, chance.uniform(*LASTS.get(act, (0.0, 0.0))), twice)


def _pause(chance: Random) -> float:
    """Return how long the daemon is down: mostly short, sometimes long enough for misses."""
    return chance.choice((0.0, 0.2, 0.2, 1.0, 2.5, 6.0))


def standing_faults(seed: int) -> Iterator[Order]:
    """Yield what befalls some calls all the time: about every fifth trigger, and some looks."""
    kinds: tuple[tuple[float, dict[str, Any]], ...] = (
        (0.030, {"fault": Fault.REPLY_LOST, "processed": True}),
        (0.020, {"fault": Fault.REPLY_LOST, "processed": False}),
        (0.020, {"fault": Fault.RESET, "processed": True}),
        (0.015, {"fault": Fault.RESET, "processed": False}),
        (0.020, {"fault": Fault.CODE, "code": 62109, "processed": True}),
        (0.015, {"fault": Fault.CODE, "code": 62109, "processed": False}),
        (0.030, {"fault": Fault.STATUS, "status": 429, "retry_after": 20}),
        (0.010, {"fault": Fault.STATUS, "status": 504, "processed": True}),
        (0.010, {"fault": Fault.STATUS, "status": 502, "processed": False}),
        (0.010, {"fault": Fault.SILENCE, "processed": True}),
        (0.010, {"fault": Fault.SILENCE, "processed": False}),
        (0.020, {"fault": Fault.SLOW, "delay": 12.0}),
        (0.005, {"fault": Fault.HTML, "processed": True}),
        (0.005, {"fault": Fault.TRUNCATED_JSON}),
        (0.005, {"fault": Fault.TRUNCATED_REPLY}),
        (0.005, {"fault": Fault.GARBAGE, "processed": True}),
    )
    for number, (probability, kind) in enumerate(kinds):
        yield _order("trigger", probability, seed + number, kind)
    looks: tuple[tuple[float, dict[str, Any]], ...] = (
        (0.03, {"fault": Fault.STATUS, "status": 503}),
        (0.02, {"fault": Fault.RESET, "processed": False}),
        (0.02, {"fault": Fault.CODE, "code": 62109}),
        (0.02, {"fault": Fault.HTML}),
        (0.02, {"fault": Fault.SLOW, "delay": 10.0}),
    )
    for number, (probability, kind) in enumerate(looks, start=len(kinds)):
        yield _order("flowInstances", probability, seed + number, kind)


def outage(how: str) -> Order:
    """Return the order that befalls every call for a while."""
    match how:
        case "503":
            return Order(fault=Fault.STATUS, status=503, times=None)
        case "silence" | "silence_processed":
            return Order(fault=Fault.SILENCE, processed=how == "silence_processed", times=None)
        case _:
            return Order(fault=Fault.RESET, processed=how == "reset_processed", times=None)


def _order(on: str, probability: float, seed: int, kind: dict[str, Any]) -> Order:
    return Order(on=on, probability=probability, seed=seed, times=None, **kind)
