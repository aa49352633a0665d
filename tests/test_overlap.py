"""How many products meet in an output pixel of a transposed convolution."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from depthwise.analysis.overlap import as_text, interior, overlap_counts, overlap_map


@pytest.mark.parametrize(
    ("kernel", "stride", "counts"),
    [
        (3, 2, (1, 2)), (4, 2, (2, 2)), (5, 2, (2, 3)), (2, 2, (1, 1)), (3, 3, (1, 1, 1)),
        (4, 3, (1, 1, 2)), (6, 3, (2, 2, 2)), (3, 1, (3,)), (1, 2, (0, 1)),
    ],
)  # fmt: skip
def test_overlap_counts(kernel, stride, counts):
    assert overlap_counts(kernel, stride) == counts


@given(st.integers(1, 12), st.integers(1, 6))
def test_overlap_is_even_exactly_when_the_stride_divides_the_kernel(kernel, stride):
    assert (len(set(overlap_counts(kernel, stride))) == 1) == (kernel % stride == 0)


pairs = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(pairs, st.tuples(st.integers(1, 4), st.integers(1, 4)), pairs, pairs)
def test_overlap_map_is_a_transposed_convolution_of_ones(kernel, stride, size, dilation):
    ones, weight = torch.ones(1, 1, *size), torch.ones(1, 1, *kernel)
    expected = F.conv_transpose2d(ones, weight, stride=stride, dilation=dilation)[0, 0]
    np.testing.assert_array_equal(overlap_map(kernel, stride, size, dilation), expected.numpy())


@given(pairs, st.tuples(st.integers(1, 4), st.integers(1, 4)), pairs)
def test_the_interior_is_what_the_map_repeats_away_from_its_border(kernel, stride, dilation):
    ways = [-(-(k - 1) * d // s) * s for k, s, d in zip(kernel, stride, dilation, strict=True)]
    whole = overlap_map(kernel, stride, (32, 32), dilation)
    part = interior(kernel, stride, dilation)
    rows, columns = (slice(w, w + n) for w, n in zip(ways, part.shape, strict=True))
    np.testing.assert_array_equal(whole[rows, columns], part)
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        line = part[: stride[0], : stride[1]].max(1 - axis)
        assert part.shape[axis] == 2 * s
        assert sorted(line) == sorted(np.array(overlap_counts(k, s, d)) * line.max()
                                      // max(overlap_counts(k, s, d)))  # fmt: skip


def test_overlap_map_as_text():
    assert as_text(overlap_map(3, 2, 2)) == "1 1 2 1 1\n1 1 2 1 1\n2 2 4 2 2\n1 1 2 1 1\n1 1 2 1 1"
    assert as_text(np.array([[1, 12]])) == " 1 12"


def test_overlap_map_refuses_nothing():
    with pytest.raises(ValueError, match=r"stride=0: must be at least 1"):
        overlap_map(3, 0, 4)
