"""Channels that go: which ones, at what damage, and how what is left makes up for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from slimming_cases import chain, concat, grouped, padded, randomized, residual, shuffled
from torch import nn

import depthwise as dw
from depthwise.graph import Graph, capture, interpret, ops
from depthwise.slimming.channels.cut import cut
from depthwise.slimming.channels.elimination import Correlated, eliminate
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.channels.pools import find_pools
from depthwise.slimming.channels.widths import narrow
from depthwise.slimming.draft import Draft
from depthwise.slimming.moves.channels import changes
from depthwise.slimming.statistics import LayerStatistics, Statistics

SHAPE = (1, 3, 8, 8)
IMAGES = 24


def graph_of(net: nn.Module, shape=SHAPE) -> Graph:
    return capture(randomized(net), shape)


def images(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    (type_,) = graph.inputs.values()
    return [rng.standard_normal(type_.shape).astype(np.float32) for _ in range(IMAGES)]


def measured(graph: Graph) -> Statistics:
    """Return the statistics of all layers of 1 x 1 and of linear ones, gradients by chance."""
    rng, samples = np.random.default_rng(1), {}
    layers = [node for node in graph if isinstance(node.op, ops.Conv2d | ops.Linear)]
    for x in images(graph):
        values = interpret(graph, x)
        for node in layers:
            read = values[node.inputs[0]].astype(np.float64)
            kernel = graph.type(node.inputs[1]).shape[2:]
            if kernel:
                sides = [(0, 0), (0, 0), *((k // 2, k // 2) for k in kernel)]
                view = np.lib.stride_tricks.sliding_window_view(np.pad(read, sides), kernel, (2, 3))
                read = view.transpose(0, 2, 3, 1, 4, 5)
            samples.setdefault(node.name, []).append(read.reshape(-1, np.prod(read.shape[-3:]))
                                                     if kernel else read)  # fmt: skip
    known = {}
    for node in layers:
        read, groups = np.concatenate(samples[node.name]), getattr(node.op, "groups", 1)
        outs = graph.type(node.inputs[1]).shape[0]
        by_group = read.reshape(len(read), groups, -1).transpose(1, 0, 2)
        mean = by_group.mean(1)
        centred = by_group - mean[:, None]
        half = rng.standard_normal((outs, 2 * outs))
        known[node.name] = LayerStatistics(
            mean, centred.transpose(0, 2, 1) @ centred / len(read), half @ half.T / outs,
            len(read) // IMAGES,
        )  # fmt: skip
    return known


def test_damage_is_that_of_the_best_weights_that_are_left():
    """By the definition: least squares under the gradient's moments, solved by NumPy."""
    rng = np.random.default_rng(0)
    weight, mixing = rng.standard_normal((5, 12)), rng.standard_normal((12, 40))
    covariance = mixing @ mixing.T / 40
    half = rng.standard_normal((5, 9))
    statistics = LayerStatistics(np.zeros((1, 12)), covariance[None], half @ half.T, 7)
    layer = Correlated(weight, covariance, statistics.gradient * 3.5, np.repeat(range(4), 3), 4)
    alone, gone = layer.damages(), 0.0
    for units in ([2], [0, 3]):
        gone += layer.remove(np.array(units))
    left = np.arange(3, 6)
    best = weight @ covariance[:, left] @ np.linalg.inv(covariance[np.ix_(left, left)])
    np.testing.assert_allclose(layer.weight(), best, rtol=1e-3, atol=1e-4)
    full = np.zeros_like(weight)
    full[:, left] = best
    assert gone == pytest.approx(statistics.damage(full - weight), rel=1e-3)
    for unit in range(4):
        rest = np.setdiff1d(np.arange(12), np.arange(3 * unit, 3 * unit + 3))
        best = weight @ covariance[:, rest] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
        full = np.zeros_like(weight)
        full[:, rest] = best
        assert alone[unit] == pytest.approx(statistics.damage(full - weight), rel=1e-3)


@pytest.mark.parametrize("make", [chain, residual, concat, grouped])
def test_weights_that_are_left_make_up_for_what_goes(make):
    """The outputs on the images of the statistics are nearer than those after the cut alone."""
    graph = graph_of(make())
    draft, known = Draft(graph), measured(graph)
    offered = list(changes(draft, known))
    assert {change.move for change in offered} == {"channels"}
    nearer = 0
    for change in offered:
        after = change.apply(draft)
        plain = _without_refit(change, draft)
        nearer += error(graph, after.graph) <= error(graph, plain.graph) + 1e-9
    assert nearer >= 0.9 * len(offered)


def _without_refit(change, draft):
    return replace(change, apply=lambda d: _cut_alone(change, d)).apply(draft)


def _cut_alone(change, draft):
    given = change.apply.keywords
    return cut(draft, find_groups(draft.graph).groups[given["group"].root], given["keep"])


def error(before: Graph, after: Graph) -> float:
    total = 0.0
    for x in images(before):
        a, b = (interpret(graph, x)[graph.outputs[0].value] for graph in (before, after))
        total += float(((a - b) ** 2).sum())
    return total


def test_channels_that_repeat_another_are_nothing_lost():
    """Of 24 channels 8 are copies of others, twice as large: they go first, at no damage."""
    net = randomized(nn.Sequential(nn.Conv2d(3, 24, 1), nn.Tanh(), nn.Conv2d(24, 6, 3, padding=1)))
    with torch.no_grad():
        for tensor in net[0].parameters():
            tensor[16:] = tensor[:8]
    graph = capture(net, SHAPE)
    draft = Draft(graph)
    offered = {change.words: change for change in changes(draft, measured(graph))}
    change = offered["24 to 16 channels"]
    assert change.damage < 1e-3 * offered["24 to 8 channels"].damage
    after = change.apply(draft)
    np.testing.assert_allclose(error(graph, after.graph), 0, atol=1e-4)


def test_means_go_to_biases_and_batchnorms():
    """A channel that is always 2 is made up for by a bias, another layer's by its BatchNorm."""
    for norm in (nn.Identity(), nn.BatchNorm2d(6)):
        net = randomized(nn.Sequential(nn.Conv2d(3, 9, 1), nn.Conv2d(9, 6, 1, bias=False), norm))
        with torch.no_grad():
            net[0].weight[4] = 0
            net[0].bias[4] = 2
        graph = capture(net, SHAPE)
        draft = Draft(graph)
        change = next(c for c in changes(draft, measured(graph)) if c.words == "9 to 8 channels")
        assert change.damage < 1e-4
        assert error(graph, change.apply(draft).graph) < 1e-6


def test_without_statistics_small_batchnorms_go_first():
    net = randomized(nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), nn.ReLU(),
                                   nn.Conv2d(16, 5, 1)))  # fmt: skip
    with torch.no_grad():
        net[1].weight[:] = 1
        net[1].weight[[1, 3, 5, 7, 9, 11, 13, 15]] = 1e-3
    draft = Draft(capture(net, SHAPE))
    change = next(c for c in changes(draft, {}) if c.words == "16 to 8 channels")
    assert change.damage < 1e-5
    after = change.apply(draft)
    assert after.kept["conv2d"].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_changes_of_one_group_can_follow_each_other():
    """Units of one pool stay what they are when others went first."""
    graph = graph_of(padded())
    draft = Draft(graph)
    pools = find_pools(next(iter(find_groups(graph).groups.values())))
    assert sorted(len(pool[0]) for pool in pools) == [8, 8]
    first, second = (
        next(c for c in changes(draft, {}) if c.words == words)
        for words in ("8 to 4 channels", "16 to 12 channels")
    )
    both = second.apply(first.apply(draft))
    assert [both.graph.type(name).shape[1] for name in ("conv2d", "conv2d_1")] == [4, 8]
    with pytest.raises(ValueError, match="by now"):
        first.apply(replace(both, graph=graph_of(residual())))


def test_units_of_equal_parts_are_one_pool():
    graph = graph_of(grouped())
    (pool,) = find_pools(next(iter(find_groups(graph).groups.values())))
    assert [cell.tolist() for cell in pool] == [[*range(8)], [*range(8, 16)]]
    group = next(iter(find_groups(graph).groups.values()))
    (left,) = eliminate(group, pool, [], [3])
    assert len(left.units) == 6


def test_shuffled_halves_can_be_narrowed():
    graph = graph_of(shuffled())
    after = narrow(Draft(graph), 0.5).graph
    assert interpret(after, images(graph)[0])[after.outputs[0].value].shape == (1, 5, 8, 8)


def test_widths_are_multiples_of_4_or_8():
    net = randomized(nn.Sequential(nn.Conv2d(3, 72, 1), nn.Conv2d(72, 20, 1), nn.Conv2d(20, 5, 1)))
    after = narrow(Draft(capture(net, SHAPE)), 0.5).graph
    assert [after.type(name).shape[1] for name in ("conv2d", "conv2d_1")] == [40, 12]


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_narrowing_gives_the_shapes_that_the_family_has(width):
    """MobileNetV1's own width multipliers (arXiv:1704.04861)."""
    shape = (1, 3, 32, 32)
    wide = dw.open(dw.create_model("mobilenet_v1"), shape).graph
    narrower = dw.open(dw.create_model("mobilenet_v1", width=width), shape).graph
    after = narrow(Draft(wide), width).graph
    for name, known in narrower.constants.items():
        assert after.constants[name].type == known.type, name


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1.5, float("nan")])
def test_a_width_is_a_share(alpha):
    with pytest.raises(ValueError, match="alpha="):
        narrow(Draft(graph_of(residual())), alpha)
