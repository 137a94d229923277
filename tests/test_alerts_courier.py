"""Messages on their way: gathered, kept in the ledger, sent, tried again, and never in the way of a fire."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowsched.alerts import courier as courier_room
from flowsched.alerts.courier import Courier
from flowsched.alerts.lines import Line, lines_of
from flowsched.alerts.posting import Post
from flowsched.alerts.tries import PAUSES, Tried
from flowsched.errors import LedgerError
from flowsched.events import AlertDone, Reloaded, RunMoved
from flowsched.ledger import Ledger
from flowsched.model import AlertKind, Message, MessageState, Outcome, Reload, ReloadOutcome, RunState
from flowsched.runner import Runner
from tests.builders import a_run, an_answer
from tests.desk import FIRE, Desk, a_desk
from tests.fakes import eventually
from tests.receivers import ENVIRON, HOOK, Mailbox, a_channel, a_webhook, an_email, bodies, the_alerts
from tests.wire import Wire, after, falls_silent, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowsched.clock import Clock
    from flowsched.events import Event, Tell
    from flowsched.model import Alerts, Channel

SENT = Tried(ok=True, detail="HTTP 200")
BUSY = Tried(ok=False, detail="HTTP 500")
REFUSED = Tried(ok=False, detail="HTTP 404", final=True)


class ScriptedLine(Line):
    """A channel that answers as it was told to, the last answer for ever; with a `hold` it hangs."""

    def __init__(self, channel: Channel, *answers: Tried) -> None:
        super().__init__(channel, Post(None, environment_proxy=False), None, {}, "plant-7")
        self.answers = list(answers) or [SENT]
        self.told: list[Message] = []
        self.hold: asyncio.Event | None = None

    async def tell(self, message: Message, clock: Clock) -> Tried:
        self.told.append(message)
        if self.hold:
            await self.hold.wait()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def unreadable(self) -> list[str]:
        return []


class Office:
    """A courier at a desk, whose time passes as it is told to."""

    def __init__(self, desk: Desk, alerts: Alerts, *lines: Line) -> None:
        self.desk = desk
        self.alerts = alerts
        self.lines = {line.channel.name: line for line in lines}
        self.done: list[AlertDone] = []
        self.hire()

    def hire(self) -> None:
        """Begin as a new process does."""
        self.courier = Courier(
            self.alerts, self.lines, self.desk.ledger, self.desk.clock, lambda _: None, self._note
        )
        self.courier.start()

    def _note(self, event: Event) -> None:
        assert isinstance(event, AlertDone)
        self.done.append(event)

    def fails(self, *ids: str) -> None:
        for id_ in ids:
            self.courier.hear(RunMoved(a_run(schedule_id=id_, state=RunState.FAILED, reason="because")))

    def reloads(self, outcome: ReloadOutcome) -> None:
        at = self.desk.clock.now()
        reload = Reload(outcome=outcome, at=at, why="SIGHUP", revision="r2", commit=None, problems=())
        self.courier.hear(Reloaded(reload))

    async def passes(self, seconds: float) -> None:
        await self.desk.passes(seconds)

    async def records(self) -> list[tuple[MessageState, int, int, str | None]]:
        """Return what the ledger holds, oldest first: state, alerts, attempts, error."""
        found = reversed(await self.desk.ledger.messages())
        return [(each.state, each.count, each.attempts, each.error) for each in found]


@asynccontextmanager
async def an_office(folder: Path, *lines: Line, **more: Any) -> AsyncIterator[Office]:
    async with a_desk(folder) as desk:
        office = Office(desk, the_alerts(*(line.channel for line in lines), **more), *lines)
        await desk.quiet()
        yield office
        await office.courier.aclose()


def a_line(*answers: Tried, name: str = "team", on: tuple[AlertKind, ...] = tuple(AlertKind)) -> ScriptedLine:
    return ScriptedLine(a_channel(a_webhook("http://127.0.0.1:1"), name, on), *answers)


def subjects(message: Message) -> list[str]:
    return [alert.subject for alert in message.alerts]


async def test_what_comes_together_is_told_together_and_recorded(tmp_path: Path) -> None:
    line = a_line()
    async with an_office(tmp_path, line) as office:
        office.fails("a", "b")
        await office.passes(20)
        office.fails("c", "a")
        await office.passes(9)
        before = list(line.told)
        await office.passes(1)

        assert (before, [subjects(each) for each in line.told]) == ([], [["a", "b", "c"]])
        assert await office.records() == [(MessageState.SENT, 3, 1, None)]
        assert office.done == [AlertDone("team", MessageState.SENT)]


async def test_a_message_is_in_the_ledger_before_it_is_sent(tmp_path: Path) -> None:
    line = a_line()
    line.hold = asyncio.Event()
    async with an_office(tmp_path, line) as office:
        office.fails("a")
        await office.passes(2)
        gathered = await office.records()
        await office.passes(30)

        assert gathered == [(MessageState.GATHERING, 1, 0, None)]
        assert len(line.told) == 1
        assert await office.records() == [(MessageState.PENDING, 1, 0, None)]
        line.hold.set()


async def test_each_channel_is_told_what_it_asks_for(tmp_path: Path) -> None:
    one, other = a_line(name="one"), a_line(name="other", on=(AlertKind.MISSED,))
    async with an_office(tmp_path, one, other) as office:
        office.fails("a")
        office.courier.hear(RunMoved(a_run(schedule_id="b", state=RunState.MISSED)))
        await office.passes(30)

        assert [subjects(each) for each in one.told] == [["a", "b"]]
        assert [subjects(each) for each in other.told] == [["b"]]
        assert len(await office.records()) == 2


async def test_a_message_in_vain_is_tried_again_for_an_hour_and_then_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = a_line(BUSY)
    async with an_office(tmp_path, line) as office:
        office.fails("a")
        await office.passes(30)
        tries = [len(line.told)]
        for pause in PAUSES:
            await office.passes(pause - 1)
            tries.append(len(line.told))
            await office.passes(1)
        await office.passes(24 * 3600)

        assert (tries, len(line.told)) == ([1, 1, 2, 3, 4], 5)
        assert await office.records() == [(MessageState.FAILED, 1, 5, "HTTP 500")]
        vain = [AlertDone("team", MessageState.PENDING)] * 4
        assert office.done == [*vain, AlertDone("team", MessageState.FAILED)]
        (given_up,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert given_up.getMessage() == "alerts given up"


async def test_a_refusal_for_good_is_not_tried_again(tmp_path: Path) -> None:
    line = a_line(REFUSED)
    async with an_office(tmp_path, line) as office:
        office.fails("a")
        await office.passes(2 * 3600)

        assert len(line.told) == 1
        assert await office.records() == [(MessageState.FAILED, 1, 1, "HTTP 404")]


async def test_messages_go_on_while_an_earlier_one_waits_for_its_next_attempt(tmp_path: Path) -> None:
    line = a_line(BUSY, SENT)
    async with an_office(tmp_path, line) as office:
        office.fails("a")
        await office.passes(30)
        office.fails("b")
        await office.passes(31)
        meanwhile = len(line.told)
        await office.passes(60)

        assert meanwhile == 2
        assert [subjects(each) for each in line.told] == [["a"], ["b"], ["a"]]


@pytest.mark.parametrize("after_seconds", [5, 40])
async def test_what_was_not_sent_is_sent_by_the_next_process(tmp_path: Path, after_seconds: float) -> None:
    """Killed while it gathers, and while it waits for the next attempt."""
    line = a_line(BUSY, SENT)
    async with an_office(tmp_path, line) as office:
        office.fails("a", "b")
        await office.passes(after_seconds)
        killed, told = office.courier, len(line.told)
        for task in (killed._gatherer, *killed._senders.values()):
            assert task is not None
            task.cancel()
        line.answers = [SENT]

        office.hire()
        await office.passes(120)

        assert [subjects(each) for each in line.told[told:]] == [["a", "b"]]
        assert [state for state, *_ in await office.records()] == [MessageState.SENT]


async def test_what_is_gathered_at_a_stop_is_kept_for_the_next_start(tmp_path: Path) -> None:
    line = a_line()
    async with an_office(tmp_path, line) as office:
        office.fails("a")
        await office.courier.aclose()
        kept = await office.records()
        office.hire()
        await office.passes(1)

        assert kept == [(MessageState.PENDING, 1, 0, None)]
        assert [subjects(each) for each in line.told] == [["a"]]


async def test_what_is_older_than_a_day_or_has_no_channel_any_more_is_dropped_and_recorded(
    tmp_path: Path,
) -> None:
    old, gone = a_line(), a_line(name="gone")
    async with an_office(tmp_path, old, gone) as office:
        office.fails("a")
        await office.courier.aclose()
        office.desk.clock.step(office.desk.clock.now() + timedelta(days=1, seconds=1))
        del office.lines["gone"]
        office.hire()
        await office.passes(10)

        assert (old.told, gone.told) == ([], [])
        assert sorted(await office.records(), key=str) == [
            (MessageState.DROPPED, 1, 0, "it is older than a day"),
            (MessageState.DROPPED, 1, 0, "there is no such channel any more"),
        ]
        assert {each.channel for each in office.done} == {"team", "gone"}


async def test_a_process_that_starts_again_and_again_keeps_to_the_rate(tmp_path: Path) -> None:
    line = a_line()
    async with an_office(tmp_path, line, rate_per_hour=3) as office:
        for number in range(6):
            office.fails(f"s{number}")
            await office.passes(40)
            await office.courier.aclose()
            office.hire()
        await office.passes(60)
        by_then = len(line.told)
        await office.passes(3600)

        # What a stop finds gathered is kept as a message of its own: no alert is lost by that.
        assert by_then <= 6
        assert sorted(each for message in line.told for each in subjects(message)) == [
            f"s{number}" for number in range(6)
        ]


async def test_ten_thousand_failures_at_once_are_a_row_a_channel(tmp_path: Path) -> None:
    lines = [a_line(name=name) for name in ("one", "two", "three")]
    async with an_office(tmp_path, *lines) as office:
        began = time.perf_counter()
        office.fails(*(f"s{number}" for number in range(10_000)))
        took = time.perf_counter() - began
        await office.passes(31)

        assert [line.told[0].count for line in lines] == [10_000] * 3
        assert await office.records() == [(MessageState.SENT, 10_000, 1, None)] * 3
        assert took < 5, "measured: 0.3 s"


async def test_a_ledger_in_trouble_does_not_keep_an_alert_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = a_line()
    async with an_office(tmp_path, line) as office:

        async def refuses(*_: object) -> list[int]:
            raise LedgerError("the disk is full")

        monkeypatch.setattr(Ledger, "keep_messages", refuses)
        office.fails("a")
        await office.passes(35)

        assert [subjects(each) for each in line.told] == [["a"]]


async def test_a_ledger_that_does_not_answer_is_not_asked_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, asked = a_line(), 0
    monkeypatch.setattr(courier_room, "LEDGER_PATIENCE", 0.01)
    async with an_office(tmp_path, line, group_wait=timedelta(seconds=1), rate_per_hour=1000) as office:

        async def hangs(*_: object) -> list[int]:
            nonlocal asked
            asked += 1
            await asyncio.Event().wait()
            return []

        monkeypatch.setattr(Ledger, "keep_messages", hangs)
        office.fails(*(f"s{number}" for number in range(100)))
        for _ in range(200):
            office.fails("again")
            office.desk.clock.advance(1)
            await asyncio.sleep(0.015)
            office.courier._judge._told.clear()
        await eventually(lambda: sum(each.count for each in line.told) > 200)

        assert asked == courier_room.MOST_UNANSWERED
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_a_stop_waits_two_seconds_for_what_is_under_way_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_room, "LAST_SECONDS", 0.1)
    hanging, idle = a_line(name="hanging"), a_line(name="idle")
    hanging.hold = asyncio.Event()
    async with an_office(tmp_path, hanging, idle) as office:
        office.fails("a")
        await office.passes(31)
        began = time.perf_counter()
        await office.courier.aclose()

        assert time.perf_counter() - began < 1
        assert {state for state, *_ in await office.records()} == {MessageState.SENT, MessageState.PENDING}


async def test_a_fault_of_ours_stops_alerts_for_a_minute_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line = a_line()
    async with an_office(tmp_path, line) as office:
        with monkeypatch.context() as patch:
            patch.setattr(Courier, "_attempt", None)
            office.fails("a")
            await office.passes(31)
        office.fails("b")
        await office.passes(91)

        assert [subjects(each) for each in line.told] == [["b"]]
        assert "alerts stopped for a minute by a fault of flowsched" in caplog.text


async def test_the_end_of_what_a_former_process_has_told_is_told_by_the_next(tmp_path: Path) -> None:
    line = a_line()
    async with an_office(tmp_path, line) as office:
        office.reloads(ReloadOutcome.HELD)
        office.fails("a")
        await office.passes(31)
        await office.courier.aclose()
        office.hire()
        office.reloads(ReloadOutcome.APPLIED)
        office.fails("a")
        await office.passes(31)

        assert [[(each.kind, each.over) for each in message.alerts] for message in line.told] == [
            [(AlertKind.HELD, False), (AlertKind.FAILED, False)],
            [(AlertKind.HELD, True)],
        ]


async def test_what_waits_is_taken_up_once_the_ledger_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = a_line()
    async with an_office(tmp_path, line) as office:
        office.fails("a")
        await office.courier.aclose()

        async def refuses(*_: object) -> list[Message]:
            raise LedgerError("it is locked")

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "open_messages", refuses)
            office.hire()
            await office.passes(3)
            office.fails("b")
            await office.passes(60)
            meanwhile = [subjects(each) for each in line.told]
        await office.passes(courier_room.TAKE_UP_PAUSE)

        assert meanwhile == [["b"]], "those of now do not wait"
        assert [subjects(each) for each in line.told] == [["b"], ["a"]]
        assert [state for state, *_ in await office.records()] == [MessageState.SENT] * 2


async def test_an_end_is_not_told_before_the_beginning_that_is_tried_again(tmp_path: Path) -> None:
    way = a_webhook("http://127.0.0.1:1", template='["$key"]')
    line = ScriptedLine(a_channel(way), BUSY, SENT)
    async with an_office(tmp_path, line) as office:
        office.reloads(ReloadOutcome.HELD)
        await office.passes(31)
        office.reloads(ReloadOutcome.APPLIED)
        office.fails("a")
        await office.passes(120)

        assert [(each.alerts[0].kind, each.alerts[0].over) for each in line.told] == [
            (AlertKind.HELD, False),
            (AlertKind.FAILED, False),
            (AlertKind.HELD, False),
            (AlertKind.HELD, True),
        ]


@pytest.mark.parametrize("is_killed", [False, True])
async def test_what_is_told_apart_is_told_on_by_the_next_process_within_the_rate(
    tmp_path: Path, *, is_killed: bool
) -> None:
    line = ScriptedLine(a_channel(a_webhook("http://127.0.0.1:1", template='["$key"]')))
    async with an_office(tmp_path, line, rate_per_hour=2) as office:
        office.fails("a", "b", "c", "d")
        await office.passes(40)
        if is_killed:
            killed = office.courier
            for task in (killed._gatherer, *killed._senders.values()):
                assert task is not None
                task.cancel()
        else:
            await office.courier.aclose()
        office.hire()
        await office.passes(60)
        meanwhile = [subjects(each) for each in line.told]
        await office.passes(3600)

        assert meanwhile == [["a"], ["b"]]
        assert sorted(subjects(each) for each in line.told) == [["a"], ["b"], ["c"], ["d"]]
        assert [state for state, *_ in await office.records()] == [MessageState.SENT] * 4


async def test_a_message_has_one_identity_though_the_ledger_would_not_take_it_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = a_line(BUSY, SENT)
    async with an_office(tmp_path, line) as office:

        async def refuses(*_: object) -> list[int]:
            raise LedgerError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "keep_messages", refuses)
            office.fails("a")
            await office.passes(35)
        await office.passes(60)
        (kept,) = await office.desk.ledger.messages()

        assert {each.identity for each in line.told} == {kept.identity}


async def lateness(desk: Desk, alerts: Alerts | None, lines: dict[str, Line]) -> list[float]:
    """Have 60 runs sent, one a second, all in vain; return how late each was, on the desk's clock."""
    hears: list[Tell] = []
    if alerts is not None:
        courier = Courier(alerts, lines, desk.ledger, desk.clock, lambda _: None)
        courier.start()
        hears.append(courier.hear)

    def tell(event: Event) -> None:
        for hear in hears:
            hear(event)

    desk.runner = Runner(desk.ledger, desk.gateways, desk.clock, tell)
    desk.answers(an_answer(Outcome.REFUSED_FOR_GOOD, "no such flow"))
    for number in range(60):
        fire_time, due_at = FIRE + timedelta(minutes=number), desk.clock.now()
        await desk.start(fire_time, schedule_id=f"s{number}", flow=5000 + number, due_at=due_at)
        await desk.passes(1)
    if alerts is not None:
        await courier.aclose()
    due = (FIRE + timedelta(seconds=number) for number in range(60))
    return [(at - when).total_seconds() for at, when in zip(desk.gateway.asked_at, due, strict=True)]


async def test_channels_that_hang_make_no_fire_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_room, "LAST_SECONDS", 0.1)
    (tmp_path / "quiet").mkdir()
    (tmp_path / "hanging").mkdir()
    async with a_desk(tmp_path / "quiet") as desk:
        alone = await lateness(desk, None, {})
    async with Wire(falls_silent) as wire, Mailbox(silent=True) as box, a_desk(tmp_path / "hanging") as desk:
        alerts = the_alerts(
            a_channel(a_webhook(wire.url), "hook"),
            a_channel(an_email(box.port), "mail"),
            group_wait=timedelta(seconds=1),
        )
        hanging = await lateness(desk, alerts, dict(lines_of(alerts, ENVIRON, "plant-7")))
        await eventually(lambda: wire.heard)

    assert hanging == alone == [0.0] * 60


async def test_a_webhook_and_a_mail_server_get_what_they_should_though_slow_and_failing(
    tmp_path: Path,
) -> None:
    """Over real sockets: one answers 500 and then slowly, the other refuses at first."""
    acts = (says(500, {}), after(0.2, says(200, {})))
    async with Wire(*acts) as wire, Mailbox(says="451 later") as box, a_desk(tmp_path) as desk:
        alerts = the_alerts(a_channel(a_webhook(HOOK), "hook"), a_channel(an_email(box.port), "mail"))
        lines = dict(lines_of(alerts, ENVIRON | {"HOOK": wire.url}, "plant-7"))
        office = Office(desk, alerts, *lines.values())
        office.fails("a")
        await office.passes(30)
        await eventually(lambda: (len(wire.heard), box.refused) == (1, 1))
        await eventually(lambda: len(desk.clock.sleeping) >= 2)
        box.says = "250 OK"
        async with asyncio.timeout(30):
            while [each.outcome for each in office.done].count(MessageState.SENT) < 2:
                await office.passes(1)
                await asyncio.sleep(0.005)
        await office.courier.aclose()

        first, second = bodies(wire.heard)
        assert first == second
        assert [alert["subject"] for alert in first["alerts"]] == ["a"]
        assert len(box.mails) == 1
        assert await office.records() == [(MessageState.SENT, 1, 2, None)] * 2
