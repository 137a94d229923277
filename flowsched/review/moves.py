"""Which of the fires lost and gained belong together: a fire that has moved."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from flowsched import cron

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import date, datetime

    from flowsched.model import Timing
    from flowsched.review.outgoing import Outgoing, Stretch

    Unit = Callable[[datetime], date]
    """The first local day of the unit of time that an instant belongs to."""


class Move(NamedTuple):
    """A fire that goes out at another time."""

    old: Outgoing
    new: Outgoing


class Difference(NamedTuple):
    """What becomes of the fires of one schedule; each part by time."""

    gained: tuple[Outgoing, ...] = ()
    lost: tuple[Outgoing, ...] = ()
    moved: tuple[Move, ...] = ()


def difference(
    old: Collection[Outgoing], new: Collection[Outgoing], timings: tuple[Timing, Timing], stretch: Stretch
) -> Difference:
    """Say what has become of the old fires: the new ones are the old without lost, with gained and moved.

    A fire has moved where it goes out at another time than before, with the fire time it had. Where the
    timing has changed, also where a day, each on the wall clock of its own zone, loses as many fires as it
    gains: they are paired in order. Else so with the week, from Monday. A day or week that the stretch cuts
    off may differ by one, on the side of the cut, where no whole one is uneven. Where that pairs nothing, so
    with the stretch as a whole. All else is lost, or gained.
    """
    lost, gained = set(old) - set(new), set(new) - set(old)
    new_of = {one.fire_time: one for one in gained}
    moved = _take([(one, new_of[one.fire_time]) for one in lost if one.fire_time in new_of], lost, gained)
    if timings[0] != timings[1]:
        paired = []
        for unit in (_day, _monday):
            pairs = _paired(lost, gained, (unit(timings[0]), unit(timings[1])), stretch)
            paired += _take(pairs, lost, gained)
        if not paired and len(lost) == len(gained):
            paired = _take(list(zip(sorted(lost), sorted(gained), strict=True)), lost, gained)
        moved += paired
    return Difference(tuple(sorted(gained)), tuple(sorted(lost)), tuple(sorted(moved)))


def _take(pairs: list[tuple[Outgoing, Outgoing]], lost: set[Outgoing], gained: set[Outgoing]) -> list[Move]:
    for old, new in pairs:
        lost.remove(old)
        gained.remove(new)
    return [Move(*pair) for pair in pairs]


def _paired(
    lost: set[Outgoing], gained: set[Outgoing], units: tuple[Unit, Unit], stretch: Stretch
) -> list[tuple[Outgoing, Outgoing]]:
    """Return the pairs of what falls into one unit of time, in order."""
    if not lost or not gained:
        return []
    olds, news = _by_unit(lost, units[0]), _by_unit(gained, units[1])
    first, last = ({unit(edge) for unit in units} for edge in (stretch.at, stretch.until))
    whole = (olds.keys() | news.keys()) - first - last
    even = all(len(olds.get(unit, ())) == len(news.get(unit, ())) for unit in whole)
    pairs: list[tuple[Outgoing, Outgoing]] = []
    for unit in olds.keys() & news.keys():
        ours, theirs = olds[unit], news[unit]
        surplus = len(ours) - len(theirs)
        if even and abs(surplus) == 1 and unit in first | last:
            beyond = slice(1, None) if unit in first else slice(None, -1)
            ours, theirs = (ours[beyond], theirs) if surplus > 0 else (ours, theirs[beyond])
        if len(ours) == len(theirs):
            pairs += zip(ours, theirs, strict=True)
    return pairs


def _by_unit(fires: set[Outgoing], unit: Unit) -> dict[date, list[Outgoing]]:
    groups: defaultdict[date, list[Outgoing]] = defaultdict(list)
    for one in sorted(fires):
        groups[unit(one.goes_out)].append(one)
    return dict(groups)


def _day(timing: Timing) -> Unit:
    zone = cron.zone(timing.timezone, timing.rules)
    return lambda instant: instant.astimezone(zone).date()


def _monday(timing: Timing) -> Unit:
    day = _day(timing)

    def monday(instant: datetime) -> date:
        of_fire = day(instant)
        return of_fire - timedelta(days=of_fire.weekday())

    return monday
