"""The arena: live buffers never share bytes, and little is wasted."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthwise.compiler.schedule.arena import (
    ALIGNMENT,
    Arena,
    Live,
    align,
    plan_arena,
    verify_arena,
)

lives = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 12), st.integers(0, 6)), max_size=25
).map(lambda rows: {i: Live(b, first, first + more) for i, (b, first, more) in enumerate(rows)})


def least(buffers: dict[int, Live]) -> int:
    """Return the most bytes alive at one step: no arena can be smaller."""
    steps = {live.first for live in buffers.values()}
    return max(
        (sum(align(x.bytes) for x in buffers.values() if x.first <= s <= x.last) for s in steps),
        default=0,
    )


@given(lives)
def test_no_two_live_buffers_overlap(buffers):
    arena = plan_arena(buffers)
    for a, live in buffers.items():
        assert arena.offsets[a] % ALIGNMENT == 0
        assert arena.offsets[a] + live.bytes <= arena.bytes
        for b, other in buffers.items():
            if a < b and live.overlaps(other):
                first, second = sorted((a, b), key=arena.offsets.__getitem__)
                assert arena.offsets[first] + buffers[first].bytes <= arena.offsets[second]


@given(lives)
def test_the_arena_is_no_larger_than_all_buffers_and_no_smaller_than_it_must(buffers):
    total = sum(align(live.bytes) for live in buffers.values())
    assert least(buffers) <= plan_arena(buffers).bytes <= total


def test_a_chain_needs_two_buffers():
    chain = {i: Live(1000, i, i + 1) for i in range(10)}
    assert plan_arena(chain).bytes == 2 * align(1000)


def test_the_verifier_sees_what_overlaps():
    buffers = {0: Live(100, 0, 2), 1: Live(100, 2, 3)}
    with pytest.raises(AssertionError, match="buffers 0 and 1 are alive at once and share bytes"):
        verify_arena(Arena({0: 0, 1: 64}, 256), buffers)
    with pytest.raises(AssertionError, match="buffer 1 starts at byte 100"):
        verify_arena(Arena({0: 0, 1: 100}, 256), buffers)
    with pytest.raises(AssertionError, match="buffer 1 ends at 228 of 200"):
        verify_arena(Arena({0: 0, 1: 128}, 200), buffers)


@given(lives)
def test_the_verifier_agrees_with_a_plain_check(buffers):
    """Shift one buffer onto another: the verifier objects exactly when both are alive."""
    arena = plan_arena(buffers)
    for a, b in pairwise(buffers):
        moved = {**arena.offsets, b: arena.offsets[a]}
        bytes_ = max(moved[k] + buffers[k].bytes for k in buffers)
        clash = any(
            moved[k] < moved[b] + buffers[b].bytes and moved[b] < moved[k] + buffers[k].bytes
            and buffers[k].overlaps(buffers[b]) for k in buffers if k != b
        )  # fmt: skip
        if clash:
            with pytest.raises(AssertionError):
                verify_arena(Arena(moved, bytes_), buffers)
        else:
            verify_arena(Arena(moved, bytes_), buffers)
