"""Two clocks compared by a date in whole seconds, written at an unknown instant of a call."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.enos.clocks import ClockComparison
from flowsched.enos.offsets import AGAIN, Word, offset_by, word_due
from flowsched.enos.replies import Reply
from tests.fakes import HandClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOLERANCE = timedelta(seconds=30)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("date", "call", "about", "beyond"),
    [
        (0, 0, 0, False),
        (1, 0, 0, False),
        (-1, 0, 0, False),
        (2, 0, 2, False),
        (-2, 0, -2, False),
        (30, 0, 30, False),
        (31, 0, 31, None),
        (32, 0, 32, True),
        (-30, 0, -30, False),
        (-31, 0, -31, None),
        (-32, 0, -32, True),
        (0, 20, 0, False),
        (10, 20, 0, False),
        (20, 20, 0, False),
        (21, 20, 0, False),
        (30, 20, 20, False),
        (40, 20, 30, None),
        (-11, 20, -21, None),
        (60, 20, 50, True),
        (-40, 20, -50, True),
        (0, 60, 0, None),
        (60, 60, 0, None),
        (92, 60, 62, True),
        (86400, 0, 86400, True),
    ],
)
def test_what_a_date_tells(date: float, call: float, about: float, *, beyond: bool | None) -> None:
    offset = offset_by(NOON + seconds(date), NOON, NOON + seconds(call))

    assert offset.about == seconds(about)
    assert offset.beyond(TOLERANCE) is beyond


def test_a_clock_set_back_during_the_call_makes_the_span_wider() -> None:
    there, back = offset_by(NOON, NOON, NOON + seconds(90)), offset_by(NOON, NOON + seconds(90), NOON)

    assert there == back
    assert (back.about, back.beyond(TOLERANCE)) == (seconds(0), None)


SPANS = st.tuples(
    st.floats(0, 1),
    st.floats(0, 40),
    st.floats(0, 1),
)


@given(st.floats(-100, 100), st.floats(1, 60), st.lists(SPANS, min_size=2, max_size=6))
def test_a_steady_offset_is_judged_the_same_way_by_every_call(
    ahead: float, tolerance: float, calls: list[tuple[float, float, float]]
) -> None:
    verdicts = set()
    for fraction, length, written in calls:
        began = NOON + seconds(fraction)
        exact = began + seconds(length * written + ahead)
        offset = offset_by(exact.replace(microsecond=0), began, began + seconds(length))
        verdicts.add(offset.beyond(seconds(tolerance)))
        assert offset.beyond(seconds(tolerance)) is not True or abs(ahead) > tolerance - 0.001

    assert not {True, False} <= verdicts


@pytest.mark.parametrize(
    ("beyond", "said_at", "now", "word"),
    [
        (True, None, 5.0, Word.APART),
        (True, 5.0, 5.0, None),
        (True, 5.0, 4 + AGAIN, None),
        (True, 5.0, 5 + AGAIN, Word.APART),
        (None, None, 5.0, None),
        (None, 5.0, 6 + AGAIN, None),
        (False, None, 5.0, None),
        (False, 5.0, 5.0, Word.TOGETHER),
    ],
)
def test_it_is_said_once_and_again_after_an_hour(
    beyond: bool | None,  # noqa: FBT001 - a row of a table
    said_at: float | None,
    now: float,
    word: Word | None,
) -> None:
    assert word_due(beyond=beyond, said_at=said_at, now=now) is word


class Comparing:
    """A comparison, and the gateway whose replies it is shown."""

    def __init__(self) -> None:
        self.clock = HandClock(NOON)
        self.comparison = ClockComparison("wind", TOLERANCE, self.clock)

    def reply(self, ahead: float, call: float = 0.0) -> None:
        began = self.clock.now()
        self.clock.advance(call)
        date = format_datetime(self.clock.now() + seconds(ahead), usegmt=True)
        self.comparison.note(Reply(200, b"", date=date), began)


def test_before_any_reply_nothing_is_known() -> None:
    comparing = Comparing()

    comparing.comparison.note(Reply(200, b""), NOON)
    comparing.comparison.note(Reply(200, b"", date="nonsense"), NOON)

    assert (comparing.comparison.offset, comparing.comparison.apart) == (None, False)


def test_the_latest_reply_with_a_date_counts() -> None:
    comparing = Comparing()

    comparing.reply(-20)
    comparing.comparison.note(Reply(200, b""), comparing.clock.now())

    assert (comparing.comparison.offset, comparing.comparison.apart) == (seconds(-20), False)


def test_what_is_logged_while_the_clocks_are_apart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    comparing = Comparing()

    for ahead in (0, 45, 45, 45):
        comparing.reply(ahead)
    comparing.clock.step(NOON - timedelta(days=1))
    comparing.reply(45)
    assert len(caplog.records) == 1

    comparing.clock.advance(AGAIN)
    comparing.reply(50)
    assert comparing.comparison.apart
    assert len(caplog.records) == 2

    comparing.reply(0, call=60)
    assert comparing.comparison.apart

    comparing.reply(0)
    comparing.reply(0)
    comparing.reply(-45)

    said = [(record.levelname, record.message, vars(record)["seconds"]) for record in caplog.records]
    apart = "clock of this machine and the gateway's differ by more than allowed"
    assert said == [
        ("ERROR", apart, 45.0),
        ("ERROR", apart, 50.0),
        ("WARNING", "clock of this machine and the gateway's agree again", 0.0),
        ("ERROR", apart, -45.0),
    ]
    assert {(vars(record)["target"], vars(record)["tolerance"]) for record in caplog.records} == {
        ("wind", 30.0)
    }


def test_a_slow_reply_is_no_offset(caplog: pytest.LogCaptureFixture) -> None:
    comparing = Comparing()

    comparing.reply(-100, call=100)
    comparing.reply(0, call=100)

    assert comparing.comparison.offset == seconds(0)
    assert caplog.records == []
