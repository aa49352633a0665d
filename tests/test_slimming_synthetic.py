"""Images made of the statistics of BatchNorms."""

import numpy as np
import pytest
import torch
from torch import nn

from depthwise.graph import Graph, capture, interpret
from depthwise.slimming.fitting.synthetic import Remembered, synthesise

SHAPE = (1, 3, 8, 8)


def network(normed: bool) -> Graph:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6) if normed else nn.Identity(), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    if normed:
        net[1].momentum = None  # the statistics of one batch
        net.train()(torch.randn(64, *SHAPE[1:]) * torch.tensor([2.0, 1, 0.5])[:, None, None] + 1)
        net.eval()
    return capture(net, SHAPE)


def test_images_have_the_statistics_that_the_network_remembers():
    graph = network(normed=True)
    images = synthesise(graph, 12, seconds=1.0)
    assert images.shape == (12, 3, 8, 8)
    assert images.dtype == np.float32
    read = np.concatenate([interpret(graph, image[None])["conv2d"] for image in images])
    mean, variance = read.mean((0, 2, 3)), read.var((0, 2, 3))
    wanted = graph.constants["1.running_mean"].data, graph.constants["1.running_var"].data
    np.testing.assert_allclose(mean, wanted[0], atol=0.1)
    np.testing.assert_allclose(variance, wanted[1], rtol=0.2)


def test_a_seed_draws_other_images_and_any_time_makes_some():
    graph = network(normed=True)
    first, second = (synthesise(graph, 3, 0, seed) for seed in (0, 1))
    assert first.shape == (3, 3, 8, 8)
    assert np.abs(first - second).max() > 0.1


def test_the_distance_is_in_deviations_and_shares_of_the_variance():
    x = torch.tensor([[1.0], [3.0]])  # mean 2, variance 1
    assert Remembered(torch.tensor([4.0]), torch.tensor([4.0])).distance(x) == pytest.approx(
        (2 - 4) ** 2 / 4 + (1 / 4 - 1) ** 2, rel=1e-4
    )


def test_without_batch_norms_nothing_can_be_made():
    with pytest.raises(ValueError, match=r"has no BatchNorm, .*: give images of its kind"):
        synthesise(network(normed=False), 4, 1)


def test_some_images_are_wanted():
    with pytest.raises(ValueError, match="0 images are wanted"):
        synthesise(network(normed=True), 0, 1)
