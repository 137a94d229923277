from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.durations import format_duration, parse_duration
from flowsched.errors import FlowschedError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("30s", 30),
        ("15m", 900),
        ("2h", 7_200),
        ("1h30m", 5_400),
        ("400d", 34_560_000),
        ("1d2h3m4s", 93_784),
        ("90m", 5_400),
        ("007s", 7),
    ],
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "30", "-5s", "1.5h", "5S", "5 m", " 5m", "5m\n", "30m1h", "1h1h", "P1D", "٣s", "9999999s"],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(FlowschedError, match='such as "30s", "15m" or "1h30m"'):
        parse_duration(text)


def test_a_bare_number_is_told_its_unit() -> None:
    with pytest.raises(FlowschedError, match="'30' has no unit; write \"30s\" for seconds"):
        parse_duration("30")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (3_600, "1h"), (5_400, "1h30m"), (86_461, "1d1m1s")]
)
def test_a_duration_is_written_as_people_write_it(seconds: int, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.integers(min_value=0, max_value=86_400 * 999_999))
def test_what_is_written_is_read_back(seconds: int) -> None:
    span = timedelta(seconds=seconds)

    assert parse_duration(format_duration(span)) == span
