"""How many fires a target gets in each minute and hour, and where that is more than it may bear."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from flowsched import cron, timeline
from flowsched.cron.blocks import DAY, ones
from flowsched.review import jitter, outgoing
from flowsched.review.footprints import Footprints, likeness

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping
    from datetime import datetime

    from flowsched.cron import Block
    from flowsched.model import Limits, Schedule
    from flowsched.review.jitter import Going

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Load:
    """The fires of one target over a horizon."""

    target: str | None
    """None: the one target there is where none is named."""
    minutes: Mapping[datetime, int]
    """How many fires are due in each UTC minute, ascending; minutes without any are left out."""

    @property
    def fires(self) -> int:
        """How many there are in all."""
        return sum(self.minutes.values())

    @property
    def hours(self) -> Mapping[datetime, int]:
        """How many fires are due in each UTC hour, ascending; hours without any are left out."""
        hours: Counter[datetime] = Counter()
        for at, count in self.minutes.items():
            hours[at.replace(minute=0)] += count
        return hours

    @property
    def busiest_minute(self) -> tuple[datetime, int] | None:
        """The minute with the most fires, the first of such, and how many; None: there is no fire."""
        return _busiest(self.minutes)

    @property
    def busiest_hour(self) -> tuple[datetime, int] | None:
        """The UTC hour with the most fires, the first of such, and how many; None: there is no fire."""
        return _busiest(self.hours)


@dataclass(frozen=True, slots=True)
class Crowd:
    """The minutes in which a target has more fires than may begin before the next minute."""

    target: str
    rate_per_minute: int
    """The limit that they exceed."""
    minutes: Mapping[datetime, int]
    """How many fires are due in each such UTC minute, ascending; at least one minute."""
    room: Mapping[int, int]
    """Which minutes of the hour could take fires from them, ascending, and how many more each.

    That many fit in that minute of every UTC hour that has a crowded one.
    """

    @property
    def worst(self) -> tuple[datetime, int]:
        """The minute with the most fires, the first of such, and how many."""
        return max(self.minutes.items(), key=lambda item: item[1])


def load(schedules: Iterable[Schedule], *, after: datetime, until: datetime) -> dict[str | None, Load]:
    """Return the load of each target that an enabled schedule names, by target.

    Counted is what is due strictly after `after` and up to `until`, inclusive, both aware: a fire at its due
    time, jitter included; a deferred one at the end of its blackout; a skipped one not at all. Jitter of more
    than a minute costs some microseconds a fire; all else next to nothing.
    """
    tally = Tally(after, until)
    for schedule in [each for each in schedules if each.enabled]:
        tally.add(schedule)
    return tally.loads()


def crowded(loads: Mapping[str | None, Load], limits: Mapping[str, Limits]) -> list[Crowd]:
    """Return a crowd for each target with a minute that has more fires than its rate limit, by target.

    A target whose limits are not known, or that has no `rate_per_minute`, has none: how many calls fit in
    its concurrency depends on how fast it answers, which no file says.
    """
    rates = {target: each.rate_per_minute for target, each in limits.items()}
    crowds = []
    for target in sorted(target for target in loads if target is not None):
        rate, minutes = rates.get(target), loads[target].minutes
        over = {at: count for at, count in minutes.items() if rate is not None and count > rate}
        if rate is not None and over:
            crowds.append(Crowd(target, rate, over, _room(minutes, over, rate)))
    return crowds


class Tally:
    """The fires of many schedules, by target; those that fire alike are worked out once.

    Counted as `load` has it, those with jitter of more than a minute only up to `jittered_until`: each of
    their fires is worked out by itself.
    """

    def __init__(self, after: datetime, until: datetime, jittered_until: datetime | None = None) -> None:
        self._after = after.astimezone(UTC)
        self._until = until.astimezone(UTC)
        self._jittered_until = jittered_until.astimezone(UTC) if jittered_until else self._until
        self._horizon = cron.horizon(after, until)
        self._footprints = Footprints(self._horizon)
        self._known: dict[Hashable, tuple[tuple[Block, ...], frozenset[int]]] = {}
        self._known_jittered: dict[Hashable, list[Going]] = {}
        self._jittered_footprints: dict[timedelta, Footprints] = {}
        self._blocks: defaultdict[str | None, Counter[Block]] = defaultdict(Counter)
        self._others: defaultdict[str | None, Counter[int]] = defaultdict(Counter)

    def add(self, schedule: Schedule) -> None:
        """Count the fires of an enabled schedule."""
        blocks: tuple[Block, ...] = ()
        others: Iterable[int]
        if schedule.jitter > _MINUTE:
            others = self._due_in(schedule, self._jittered(schedule))
        else:
            blocks, others = self._steady(schedule)
        self._blocks[schedule.target].update(blocks)
        self._others[schedule.target].update(others)

    def loads(self) -> dict[str | None, Load]:
        """Return what was counted."""
        return {target: Load(target, self._minutes(target)) for target in self._blocks}

    def is_due(self, schedule: Schedule, minute: datetime) -> bool:
        """Tell whether a fire of an enabled schedule is counted in a UTC minute of the time looked at."""
        if schedule.jitter > _MINUTE:
            begin, end = jitter.number(minute - schedule.jitter), jitter.number(minute + _MINUTE)
            near = jitter.within(self._jittered(schedule), begin, end)
            return self._number(minute) in self._due_in(schedule, near)
        blocks, others = self._steady(schedule)
        number = self._number(minute)
        day, time = divmod(number, DAY)
        return number in others or any(each.days >> day & 1 and each.minutes >> time & 1 for each in blocks)

    def _number(self, due: datetime) -> int:
        return (due - self._horizon.first) // _MINUTE

    def _steady(self, schedule: Schedule) -> tuple[tuple[Block, ...], frozenset[int]]:
        """Return the fires that go out at their fire time, and the minutes in which the others do.

        Jitter of up to a minute moves none into another minute.
        """
        key = likeness(schedule)
        if key not in self._known:
            footprint = self._footprints.of(schedule)
            waiting = outgoing.deferred(schedule, self._after)
            others = [until for _, until in footprint.deferred] + ([waiting.goes_out] if waiting else [])
            within = (self._number(at) for at in others if self._after < at <= self._until)
            self._known[key] = footprint.open, frozenset(within)
        return self._known[key]

    def _jittered(self, schedule: Schedule) -> list[Going]:
        """Return the fires that jitter may bring into the time that is looked at, ascending."""
        key = (likeness(schedule), schedule.jitter)
        if key not in self._known_jittered:
            begin = self._after - schedule.jitter  # what fires then may still be to come
            if schedule.jitter not in self._jittered_footprints:
                # Beyond, what is due in time may still be cut short by the next fire.
                end = self._jittered_until + schedule.jitter
                footprints = Footprints(cron.horizon(begin, end))
                self._jittered_footprints[schedule.jitter] = footprints
            footprints = self._jittered_footprints[schedule.jitter]
            self._known_jittered[key] = jitter.going(schedule, begin, footprints)
        return self._known_jittered[key]

    def _due_in(self, schedule: Schedule, going: list[Going]) -> list[int]:
        """Return the minutes in which those of some fires are due that are counted."""
        first = jitter.number(self._horizon.first)
        after, until = jitter.number(self._after), jitter.number(self._jittered_until)
        due = timeline.due_times(schedule.id, going)
        return [(at - first) // jitter.MINUTE for at in due if after < at <= until]

    def _minutes(self, target: str | None) -> dict[datetime, int]:
        numbers = Counter(self._others[target])
        weighted: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for block, count in self._blocks[target].items():
            weighted[block.days].append((block.minutes, count))
        # What is counted once stands for all the days that have the same of it.
        by_days = {days: summed(each) for days, each in weighted.items()}
        for day in range(self._horizon.days):
            digits = [
                (bits, 1 << digit)
                for days, each in by_days.items()
                if days >> day & 1
                for digit, bits in enumerate(each)
            ]
            for minute, count in counts(summed(digits)):
                numbers[day * DAY + minute] += count
        return {self._horizon.instant(number): count for number, count in sorted(numbers.items())}


def summed(weighted: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each bit that is set in any of some numbers the sum of what these weigh.

    They are added up all bits at once: number n of the list holds the binary digit n of every sum.
    """
    digits: list[int] = []
    for bits, weight in weighted:
        for digit in ones(weight):
            _add(digits, digit, bits)
    return digits


def counts(digits: list[int]) -> Iterator[tuple[int, int]]:
    """Yield each bit of which the sum is not 0, with that sum."""
    anywhere = 0
    for bits in digits:
        anywhere |= bits
    for number in ones(anywhere):
        yield number, sum((bits >> number & 1) << digit for digit, bits in enumerate(digits))


def _add(digits: list[int], digit: int, carry: int) -> None:
    digits += [0] * (digit - len(digits))
    while carry:
        if digit == len(digits):
            digits.append(0)
        digits[digit], carry = digits[digit] ^ carry, digits[digit] & carry
        digit += 1


def _room(minutes: Mapping[datetime, int], over: Iterable[datetime], rate: int) -> dict[int, int]:
    """Return how many more fires fit in each minute of all hours of some instants, where any do."""
    hours = {at.replace(minute=0) for at in over}
    room = {
        minute: rate - max(minutes.get(hour + minute * _MINUTE, 0) for hour in hours) for minute in range(60)
    }
    return {minute: more for minute, more in room.items() if more > 0}


def _busiest(counts: Mapping[datetime, int]) -> tuple[datetime, int] | None:
    # The counts are ascending by time, and max takes the first of equals.
    return max(counts.items(), key=lambda item: item[1], default=None)
