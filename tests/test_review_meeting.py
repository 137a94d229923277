"""Which sets of fire times meet, held against a judge that compares each with each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowsched.cron import Block
from flowsched.review import meeting
from flowsched.review.footprints import shared
from flowsched.review.meeting import Meeting, picker

blocks = st.builds(Block, st.integers(1, 2**6 - 1), st.integers(1, 2**4 - 1))
sets = st.lists(st.lists(blocks, max_size=4).map(tuple), max_size=12)


def bits(met: list[bool]) -> int:
    return sum(1 << number for number, each in enumerate(met) if each)


@given(sets, st.lists(blocks, max_size=4).map(tuple), st.sampled_from([0, 100]))
def test_sets_meet_that_share_a_minute_of_a_day(
    known: list[tuple[Block, ...]], asked: tuple[Block, ...], few: int
) -> None:
    known.sort(key=len, reverse=True)
    usual, meeting.FEW = meeting.FEW, few  # both ways to look, whatever the number of sets
    try:
        found = Meeting(known).of(asked)
    finally:
        meeting.FEW = usual

    assert found == bits([any(shared(each, asked)) for each in known])


@given(st.integers(0, 2**12 - 1), st.lists(st.integers(-1, 14), min_size=1, max_size=20))
def test_bits_are_picked_by_their_positions(number: int, positions: list[int]) -> None:
    assert picker(positions)(number) == bits([at >= 0 and bool(number >> at & 1) for at in positions])
