"""The statistics of layers on calibration images, against their definition in NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from depthwise.graph import Graph, capture, interpret
from depthwise.graph.interpret import pad_plane, windows
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.calibration import LEAST, calibrate


def graph_of(*layers: nn.Module, shape=(1, 4, 5, 4)) -> Graph:
    torch.manual_seed(0)
    return capture(nn.Sequential(*layers), shape)


def classifier() -> Graph:
    convolution = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    return graph_of(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def images(count: int, shape=(4, 5, 4)) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Linear(4, 5),
    ],
    ids=["grouped", "depthwise", "linear"],
)
def test_mean_and_covariance_are_those_of_all_patches(layer):
    graph = graph_of(layer)
    x = images(12)
    (known,) = calibrate(Draft(graph), x + 3, likelihood="values").values()
    (node,) = graph
    if isinstance(layer, nn.Linear):
        patches = (x + 3).reshape(1, -1, 4)
    else:
        padded = pad_plane(x + 3, node.op.padding)
        view = windows(padded, layer.kernel_size, node.op.stride, node.op.dilation)
        rows = view.transpose(0, 2, 3, 1, 4, 5)
        pixels = rows.shape[0] * rows.shape[1] * rows.shape[2]
        patches = rows.reshape(pixels, layer.groups, -1).transpose(1, 0, 2)
    assert known.pixels == patches.shape[1] // len(x)
    np.testing.assert_allclose(known.mean, patches.mean(1), rtol=1e-5, atol=1e-5)
    for group, covariance in zip(patches, known.covariance, strict=True):
        expected = np.cov(group.T.astype(np.float64), bias=True)
        np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_the_fisher_information_of_the_scores():
    """By its definition: the mean over all classes, each as often as the scores say."""
    graph = classifier()
    x = np.repeat(images(2), 1500, 0)
    known = calibrate(Draft(graph), x)
    weight = graph.constants["3.weight"].data.astype(np.float64)
    of_scores, of_maps = np.zeros((3, 3)), np.zeros((6, 6))
    for image in x[:1], x[1500:1501]:
        values = interpret(graph, image)
        scores = values["linear"][0].astype(np.float64)
        shares = np.exp(scores) / np.exp(scores).sum()
        opened = (values["conv2d"] > 0).reshape(-1)
        for drawn, share in enumerate(shares):
            slope = np.eye(3)[drawn] - shares
            of_scores += share * np.outer(slope, slope) / 2
            by_pixel = ((slope @ weight) * opened).reshape(6, -1)
            of_maps += share * by_pixel @ by_pixel.T / by_pixel.shape[1] / 2
    scale = np.abs(of_scores).max(), np.abs(of_maps).max()
    np.testing.assert_allclose(known["linear"].gradient, of_scores, atol=0.05 * scale[0])
    np.testing.assert_allclose(known["conv2d"].gradient, of_maps, atol=0.05 * scale[1])


def test_damage_predicts_the_divergence_of_a_small_change():
    graph = graph_of(nn.Linear(6, 4), shape=(1, 6))
    x = images(4000, (6,))
    known = calibrate(Draft(graph), x)["linear"]
    change = 0.02 * np.random.default_rng(2).standard_normal((4, 6))
    weight, bias = (
        graph.constants[name].data.astype(np.float64) for name in ("0.weight", "0.bias")
    )
    before = torch.as_tensor(x @ weight.T + bias).log_softmax(1)
    after = torch.as_tensor(x @ (weight + change).T + bias).log_softmax(1)
    measured = float((before.exp() * (before - after)).sum(1).mean())
    assert known.damage(change) == pytest.approx(measured, rel=0.15)


def test_of_many_pixels_some_are_drawn_and_the_same_each_time():
    graph = graph_of(nn.Conv2d(1, 2, 1), shape=(1, 1, 96, 96))
    x = images(8, (1, 96, 96))
    assert x.size > 2 * LEAST
    first, second = (calibrate(Draft(graph), x, likelihood="values")["conv2d"] for _ in range(2))
    assert np.array_equal(first.covariance, second.covariance)
    assert np.array_equal(first.gradient, second.gradient)
    assert first.covariance[0, 0, 0] != pytest.approx(x.var(), rel=1e-6)
    assert first.covariance[0, 0, 0] == pytest.approx(x.var(), rel=0.05)


def test_values_count_as_a_share_of_their_variance():
    graph = graph_of(nn.Linear(6, 4), shape=(1, 6))
    known = calibrate(Draft(graph), images(64, (6,)), likelihood="values")["linear"]
    scores = interpret_all(graph, images(64, (6,)))
    variances = scores.var(0, ddof=0)
    np.testing.assert_allclose(np.diag(known.gradient), 1 / variances, rtol=1e-4)


def interpret_all(graph: Graph, x: np.ndarray) -> np.ndarray:
    return np.concatenate([interpret(graph, image[None])["linear"] for image in x])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (images(2, (4, 5, 5)), r"have shape \(2, 4, 5, 5\): the network takes \(N, 4, 5, 4\)"),
        (images(2).astype(np.float64), "are torch.float64: float32 is taken"),
        (images(0), "there are no images"),
        (images(2) * np.inf, "infinite numbers"),
    ],
)
def test_images_that_do_not_fit_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        calibrate(Draft(classifier()), given)


def test_what_is_no_vector_of_scores_is_refused_by_name():
    with pytest.raises(ValueError, match=r'returns 1x6x5x4: .*likelihood="values"'):
        calibrate(Draft(graph_of(nn.Conv2d(4, 6, 1))), images(2))
