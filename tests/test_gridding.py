"""Which positions a stack of dilated convolutions reads, alone and along the paths of a graph."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from depthwise.analysis.gridding import coverage
from depthwise.analysis.lint import lint
from depthwise.layers import SqueezeExcite, conv2d, pointwise_conv2d


def found(net, *shapes):
    """Return the findings of the rule `gridding`."""
    return [f for f in lint(net, *shapes) if f.rule == "gridding"]


@pytest.mark.parametrize(
    ("dilations", "covered", "total"),
    [((1, 2, 4), 15, 15), ((1, 2, 5), 17, 17), ((2, 2, 2), 7, 13), ((1, 2, 9), 21, 25),
     ((2, 4, 8), 15, 29), ((), 1, 1)],
)  # fmt: skip
def test_coverage(dilations, covered, total):
    assert coverage([3] * len(dilations), dilations) == (covered, total)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), max_size=4))
def test_coverage_is_where_a_chain_of_ones_is_not_zero(layers):
    line = np.ones(1)
    for kernel, dilation in layers:
        taps = np.zeros((kernel - 1) * dilation + 1)
        taps[::dilation] = 1
        line = np.convolve(line, taps)
    kernels, dilations = [k for k, _ in layers], [d for _, d in layers]
    assert coverage(kernels, dilations) == (np.count_nonzero(line), len(line))


def test_coverage_refuses_lists_that_do_not_fit():
    with pytest.raises(ValueError, match="2 kernels and 1 dilations"):
        coverage([3, 3], [1])
    with pytest.raises(ValueError, match="must be at least 1"):
        coverage([3], [0])


def dilated(*rates, kernel=3):
    return nn.Sequential(*(conv2d(8, 8, kernel, dilation=rate) for rate in rates))


PLANE = (1, 8, 40, 40)


@pytest.mark.parametrize(
    ("rates", "says"),
    [((2, 2, 2), "7 of 13 positions along each axis, 29 %"), ((1, 2, 9), "21 of 25"),
     ((2, 4, 8), "15 of 29")],
)  # fmt: skip
def test_gridding(rates, says):
    (finding,) = found(dilated(*rates), PLANE)
    assert finding.layer == "2"
    assert finding.severity == "warning"
    assert f"dilations {', '.join(map(str, rates))} of 3x3" in finding.what
    assert says in finding.what


@pytest.mark.parametrize("rates", [(1, 2, 4), (1, 2, 5), (5, 2, 1), (1, 1, 1), (1, 2, 2, 2)])
def test_no_gridding(rates):
    assert not found(dilated(*rates), PLANE)


class Residual(nn.Module):
    """x + conv(relu(norm(x)))."""

    def __init__(self, conv):
        super().__init__()
        self.branch = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), conv)

    def forward(self, x):
        return x + self.branch(x)


class Parallel(nn.Module):
    """Branches side by side, joined by a concatenation."""

    def __init__(self, *rates):
        super().__init__()
        self.branches = nn.ModuleList(conv2d(8, 8, dilation=rate) for rate in rates)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def test_gridding_is_followed_along_the_paths_of_the_graph():
    # norm, activation, shortcut and gate change nothing
    blocks = nn.Sequential(*(Residual(conv2d(8, 8, dilation=2)) for _ in range(3)))
    (finding,) = found(nn.Sequential(blocks, SqueezeExcite(8, 8)), PLANE)
    assert finding.layer == "0.2.branch.2"
    assert "7 of 13" in finding.what
    # a stride begins a new grid; a strided convolution fills holes of the old one, a pooling not
    around = nn.Sequential(conv2d(8, 8, 3), conv2d(8, 8, 3, stride=2), dilated(2, 2, 2))
    for end in (nn.MaxPool2d(2), nn.AvgPool2d(3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()):
        (finding,) = found(nn.Sequential(around, end), PLANE)
        assert "7 of 13" in finding.what
    strided = nn.Sequential(dilated(2, 2, 2), conv2d(8, 8, 3, stride=2))
    assert not found(strided, PLANE)
    # dense layers beside the dilated ones fill the holes, and are the remedy after them
    assert found(Parallel(2, 4), PLANE)
    assert not found(Parallel(1, 2, 3), PLANE)
    assert not found(nn.Sequential(dilated(2, 2, 2, 1)), PLANE)
    assert not found(nn.Sequential(dilated(1, 1, 1, 1), Parallel(1, 6, 8)), PLANE)


def test_gridding_of_two_stacks_and_of_one_layer():
    net = nn.Sequential(dilated(2, 2), nn.Upsample(scale_factor=2), dilated(3, 3, 3))
    first, second = sorted(found(net, PLANE), key=lambda f: f.layer)
    assert (first.layer, second.layer) == ("0.1", "2.2")
    (single,) = found(dilated(2), PLANE)
    assert single.severity == "note"
    (factorised,) = found(nn.Sequential(dilated(2, kernel=(3, 1)), dilated(2, kernel=(1, 3))),
                          PLANE)  # fmt: skip
    assert "3 of 5 positions" in factorised.what


def test_gridding_of_a_line_of_samples():
    def line(*rates):
        return nn.Sequential(*(nn.Conv1d(8, 8, 3, dilation=rate) for rate in rates))

    (finding,) = found(line(2, 2, 2), (1, 8, 50))
    assert "1 of 1 rows and 7 of 13 columns" in finding.what
    assert not found(line(1, 2, 4), (1, 8, 50))


class Branches(nn.Module):
    """Several readers of one value, each with a result of its own."""

    def __init__(self, trunk, *readers):
        super().__init__()
        self.trunk, self.readers = trunk, nn.ModuleList(readers)

    def forward(self, x):
        y = self.trunk(x)
        return tuple(reader(y) for reader in self.readers)


def test_gridding_counts_at_every_end_and_a_layer_once():
    dense = conv2d(8, 8)
    resized = Branches(dilated(2, 2, 2), dense, nn.Upsample(scale_factor=2))
    assert len(found(resized, PLANE)) == 1
    assert not found(Branches(dilated(2, 2, 2), dense), PLANE)
    twice = Branches(dilated(2, 2), pointwise_conv2d(8, 8), dilated(2), nn.MaxPool2d(2))
    (finding,) = found(twice, PLANE)
    assert "dilations 2, 2, 2 " in finding.what


class Causal(nn.Module):
    """A residual block that pads mostly on the left, as a temporal network does."""

    def __init__(self, rate, ahead=0):
        super().__init__()
        self.pad, self.conv = (2 * rate - ahead, ahead), nn.Conv1d(8, 8, 3, dilation=rate)

    def forward(self, x):
        return x + self.conv(F.pad(x, self.pad))


def test_gridding_keeps_count_of_where_padding_moves_the_taps():
    def reads(*blocks):
        (finding,) = found(nn.Sequential(*blocks), (1, 8, 50))
        return finding.what

    # -4, -2, 0 joined with 0, and -3, -1, 1 joined with 0
    assert "3 of 5 columns" in reads(Causal(2))
    assert "4 of 5 columns" in reads(Causal(2, ahead=1))
    assert "7 of 13 columns" in reads(Causal(2), Causal(2), Causal(2))
