"""How far results are apart: of classes, and of networks that have none."""

import pytest
import torch

from depthwise.calibration.divergence import divergence


def test_of_classes_it_is_that_of_their_probabilities():
    original = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    found = torch.tensor([[0.0, 1.0]])
    ours = torch.softmax(found[0], 0)
    expected = (0.5 * (0.5 / ours).log()).sum()
    assert divergence(found, original, scores=True) == pytest.approx(float(expected), rel=1e-5)
    assert divergence(original[:1], original, scores=True) == 0


def test_of_others_it_is_a_share_of_what_each_value_varies():
    original = torch.tensor([[0.0, 0.0], [2.0, 20.0]])  # variances 1 and 100
    found = original + torch.tensor([1.0, 1.0])
    small = 0.01 * (1 + 100) / 2
    assert small < 1
    expected = 0.5 * (1 / 1 + 1 / 100)
    assert divergence(found, original, scores=False) == pytest.approx(expected)


def test_values_that_hardly_vary_do_not_outweigh_all_others():
    draw = torch.Generator().manual_seed(0)
    original = torch.randn(64, 1, 8, 8, generator=draw)
    original[:, :, 0] = 0.25  # a border that sees zeros
    found = original + 0.01 * torch.randn(64, 1, 8, 8, generator=draw)
    assert divergence(found, original, scores=False) < 0.5 * 64 * 0.01**2 / 0.01 * 1.5


def test_results_that_are_all_alike_have_a_distance():
    original = torch.ones(4, 3)
    assert divergence(original, original, scores=False) == 0
    assert 0 < divergence(original + 1e-6, original, scores=False) < float("inf")
    assert divergence(original * float("nan"), original, scores=False) == float("inf")
