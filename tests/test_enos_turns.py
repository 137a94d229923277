from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flowsched.enos.turns import Place, Turnstile
from flowsched.model import Limits
from tests.fakes import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable


def a_turnstile(concurrency: int = 1, rate: int | None = None) -> tuple[Turnstile, HandClock]:
    clock = HandClock()
    return Turnstile(Limits(concurrency=concurrency, rate_per_minute=rate), clock), clock


class Visitor:
    """Goes through the turnstile, and stays until told to leave."""

    def __init__(
        self,
        turnstile: Turnstile,
        arrived: Callable[[Visitor], None] = lambda _: None,
        *,
        urgent: bool = True,
    ) -> None:
        self.place: Place | None = None
        self._leave = asyncio.Event()
        self._arrived = arrived
        self._urgent = urgent
        self.task = asyncio.create_task(self._visit(turnstile))

    async def _visit(self, turnstile: Turnstile) -> None:
        async with turnstile.place(urgent=self._urgent) as self.place:
            self._arrived(self)
            await self._leave.wait()

    def is_inside(self) -> bool:
        return self.place is not None

    def send(self) -> None:
        assert self.place is not None
        self.place.sent()

    async def leave(self) -> None:
        self._leave.set()
        await self.task
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def cancel(visitor: Visitor) -> None:
    visitor.task.cancel()
    await asyncio.wait([visitor.task])
    await settle()


async def test_no_more_than_allowed_are_inside_at_once() -> None:
    turnstile, _ = a_turnstile(concurrency=2)
    visitors = [Visitor(turnstile) for _ in range(3)]
    await settle()

    assert [visitor.is_inside() for visitor in visitors] == [True, True, False]
    assert turnstile.waiting == 1

    await visitors[0].leave()
    assert visitors[2].is_inside()
    await visitors[1].leave()
    await visitors[2].leave()


async def test_they_go_in_in_the_order_of_their_coming() -> None:
    turnstile, _ = a_turnstile(concurrency=1)
    order: list[Visitor] = []
    visitors = [Visitor(turnstile, order.append) for _ in range(20)]

    for visitor in visitors:
        await settle()
        await visitor.leave()

    assert order == visitors


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_whoever_is_cancelled_holds_nothing(cancelled: int) -> None:
    turnstile, _ = a_turnstile(concurrency=1, rate=1)
    visitors = [Visitor(turnstile) for _ in range(3)]
    await settle()

    await cancel(visitors.pop(cancelled))

    for visitor in visitors:
        await settle()
        assert visitor.is_inside()
        await visitor.leave()
    assert turnstile.waiting == 0


async def test_the_rate_holds_back_until_a_minute_has_passed() -> None:
    turnstile, clock = a_turnstile(concurrency=9, rate=2)
    visitors = [Visitor(turnstile) for _ in range(4)]
    await settle()
    visitors[0].send()
    clock.advance(10)
    visitors[1].send()
    await settle()

    assert [visitor.is_inside() for visitor in visitors] == [True, True, False, False]

    clock.advance(49)
    await settle()
    assert not visitors[2].is_inside()

    clock.advance(1)
    await settle()
    assert [visitor.is_inside() for visitor in visitors] == [True, True, True, False]
    visitors[2].send()

    clock.advance(10)
    await settle()
    assert visitors[3].is_inside()
    for visitor in visitors:
        await visitor.leave()


async def test_whoever_is_cancelled_while_waiting_for_the_rate_holds_nothing() -> None:
    turnstile, clock = a_turnstile(concurrency=2, rate=2)
    for visitor in [Visitor(turnstile), Visitor(turnstile)]:
        await settle()
        visitor.send()
        await visitor.leave()
    waiting = Visitor(turnstile)
    await settle()
    assert clock.sleeping == [60]

    await cancel(waiting)
    clock.advance(60)
    others = [Visitor(turnstile), Visitor(turnstile)]
    await settle()

    assert [visitor.is_inside() for visitor in others] == [True, True]
    for visitor in others:
        await visitor.leave()


async def test_a_newcomer_does_not_overtake_one_who_waits_for_the_rate() -> None:
    turnstile, clock = a_turnstile(concurrency=9, rate=1)
    first, waiting = Visitor(turnstile), Visitor(turnstile)
    await settle()
    first.send()
    await settle()

    newcomer = Visitor(turnstile)
    clock.advance(60)
    await settle()

    assert [waiting.is_inside(), newcomer.is_inside()] == [True, False]
    for visitor in (first, waiting, newcomer):
        await visitor.leave()


async def test_the_minute_counts_from_the_call_and_not_from_the_turn() -> None:
    turnstile, clock = a_turnstile(concurrency=9, rate=1)
    slow, next_one = Visitor(turnstile), Visitor(turnstile)
    await settle()
    clock.advance(100)
    await settle()
    assert not next_one.is_inside()

    slow.send()
    clock.advance(59)
    await settle()
    assert not next_one.is_inside()

    clock.advance(1)
    await settle()
    assert next_one.is_inside()
    await slow.leave()
    await next_one.leave()


async def test_a_turn_from_which_nothing_was_sent_costs_nothing() -> None:
    turnstile, _ = a_turnstile(concurrency=9, rate=1)
    first, second = Visitor(turnstile), Visitor(turnstile)
    await settle()

    await first.leave()

    assert second.is_inside()
    await second.leave()


async def test_a_second_call_from_one_place_counts_too() -> None:
    turnstile, clock = a_turnstile(concurrency=9, rate=2)
    first, second = Visitor(turnstile), Visitor(turnstile)
    await settle()
    first.send()
    first.send()
    await first.leave()
    await second.leave()

    third = Visitor(turnstile)
    await settle()
    assert not third.is_inside()

    clock.advance(60)
    await settle()
    await third.leave()


async def test_no_minute_sees_more_calls_than_allowed() -> None:
    turnstile, clock = a_turnstile(concurrency=3, rate=5)
    calls: list[float] = []

    async def call(delay: int) -> None:
        async with turnstile.place() as place:
            await clock.sleep(delay)
            place.sent()
            calls.append(clock.monotonic())
            await clock.sleep(delay % 3)

    tasks = [asyncio.create_task(call((7 * i) % 11)) for i in range(40)]
    while not all(task.done() for task in tasks):
        await settle()
        clock.advance(1)

    assert len(calls) == 40
    assert all(late - early >= 60 for early, late in zip(calls, calls[5:], strict=False))


async def test_without_a_rate_nothing_is_kept_of_calls() -> None:
    turnstile, _ = a_turnstile(concurrency=100)

    async with AsyncExitStack() as stack:
        for _ in range(100):
            (await stack.enter_async_context(turnstile.place())).sent()

    assert not turnstile._expiries


async def test_whoever_is_urgent_waits_for_one_at_most_that_is_not() -> None:
    turnstile, _ = a_turnstile(concurrency=1)
    inside = Visitor(turnstile)
    await settle()
    patient = [Visitor(turnstile, urgent=False) for _ in range(5)]
    await settle()
    urgent = [Visitor(turnstile) for _ in range(2)]
    await settle()

    order = [inside, patient[0], *urgent, *patient[1:]]
    for visitor, after in pairwise(order):
        await visitor.leave()
        assert after.is_inside()

    assert turnstile.waiting == 0
    await order[-1].leave()


async def test_one_that_is_not_urgent_and_gives_up_lets_the_next_of_its_kind_stand_in_line() -> None:
    turnstile, _ = a_turnstile(concurrency=1)
    inside = Visitor(turnstile)
    await settle()
    first, second = (Visitor(turnstile, urgent=False) for _ in range(2))
    await settle()

    await cancel(first)
    await inside.leave()

    assert second.is_inside()
    await second.leave()


async def test_it_tells_which_limit_holds_back_those_who_wait() -> None:
    turnstile, clock = a_turnstile(concurrency=2, rate=2)
    visitors = [Visitor(turnstile) for _ in range(2)]
    await settle()
    held_by = [turnstile.held_by]
    for visitor in visitors:
        visitor.send()
    third = Visitor(turnstile)
    await settle()
    held_by.append(turnstile.held_by)
    await visitors[0].leave()
    held_by.append(turnstile.held_by)
    clock.advance(60)
    await settle()

    assert [*held_by, turnstile.held_by] == [None, "2 calls at once", "2 calls a minute", None]
    assert third.place
    assert (third.place.waited, third.place.held_by) == (60, "2 calls a minute")
    assert visitors[1].place
    assert (visitors[1].place.waited, visitors[1].place.held_by) == (0, None)
    await visitors[1].leave()
    await third.leave()


async def test_who_waited_behind_others_waited_for_what_held_them() -> None:
    turnstile, clock = a_turnstile(concurrency=9, rate=2)
    first = [Visitor(turnstile) for _ in range(2)]
    await settle()
    for visitor in first:
        visitor.send()
    behind = [Visitor(turnstile) for _ in range(2)]
    await settle()
    clock.advance(60)
    await settle()

    assert [visitor.place and visitor.place.held_by for visitor in behind] == ["2 calls a minute"] * 2
    for visitor in (*first, *behind):
        await visitor.leave()
