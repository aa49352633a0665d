"""Factors with nothing between them: as large on both sides, and the outputs as before."""

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.graph import ops
from depthwise.graph.exporters.torch import to_module
from depthwise.slimming.layers.balancing import balance_factors
from depthwise.slimming.moves import MOVES
from depthwise.slimming.slim import slim


def chain(*layers: nn.Module) -> nn.Module:
    """Return layers of which every second one is far larger than the one before."""
    torch.manual_seed(0)
    with torch.no_grad():
        for place, layer in enumerate(layers):
            for weight in layer.parameters():
                weight.normal_().mul_(1e3 if place % 2 else 1e-2)
    return nn.Sequential(*layers).eval()


def uneven(graph) -> float:
    """Return how many times as large one side of a channel is as the other, at most."""
    nodes, worst = {node.name: node for node in graph}, 1.0
    for node in graph:
        first = nodes.get(node.inputs[0])
        if first is None or not isinstance(node.op, type(first.op)) or len(node.inputs) < 2:
            continue
        weight, then = (graph.constants[each.inputs[1]].numbers for each in (first, node))
        for channel, own in enumerate(weight):
            groups = node.op.groups if isinstance(node.op, ops.Conv2d) else 1
            outputs, inputs = len(then) // groups, then.shape[1]
            group = channel // inputs
            read = then[group * outputs : (group + 1) * outputs, channel % inputs]
            ratio = np.linalg.norm(own) / np.linalg.norm(read)
            worst = max(worst, ratio, 1 / ratio)
    return worst


CHAINS = {
    "pair": [nn.Conv2d(3, 8, (3, 1), padding=(1, 0)), nn.Conv2d(8, 16, (1, 3), padding=(0, 1))],
    "depthwise": [
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=8, stride=2), nn.Conv2d(16, 4, 1),
    ],
    "grouped": [nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 12, 3, groups=4)],
    "linear": [nn.Linear(6, 5), nn.Linear(5, 7)],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_both_sides_are_as_large_and_the_outputs_the_same(name):
    net = chain(*CHAINS[name])
    shape = (1, 6) if name == "linear" else (1, 3, 9, 9)
    graph = dw.open(net, shape).graph
    balanced = balance_factors(graph)
    assert uneven(graph) > 1e3
    assert uneven(balanced) == pytest.approx(1, abs=1e-2)
    x = torch.randn(shape)
    torch.testing.assert_close(to_module(balanced).eval()(x), net(x), rtol=1e-4, atol=1e-3)


def test_what_has_something_between_or_two_readers_stays_as_it_is():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = chain(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
            self.left, self.right = chain(nn.ReLU(), nn.Conv2d(4, 4, 1)), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = self.first(x)
            return self.left[1](y) + self.right(y)

    graph = dw.open(Two().eval(), (1, 3, 4, 4)).graph
    balanced = balance_factors(graph)
    for name, known in graph.constants.items():
        np.testing.assert_array_equal(balanced.constants[name].numbers, known.numbers)


def test_a_channel_that_nothing_is_made_of_stays_finite():
    net = chain(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    with torch.no_grad():
        net[0].weight[1] = 0
        net[1].weight[:, 2] = 0
    graph = balance_factors(dw.open(net, (1, 3, 4, 4)).graph)
    assert all(np.isfinite(known.numbers).all() for known in graph.constants.values())


@pytest.mark.parametrize("move", ["spatial_pair", "channel_pair", "low_rank", "separable"])
def test_what_slimming_leaves_can_be_trained_at_one_rate(move):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3 if move != "low_rank" else 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3 if move != "low_rank" else 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    net(torch.randn(64, 3, 10, 10))
    assert move in MOVES
    found = slim(
        net.eval(), (1, 3, 10, 10), "80%", torch.randn(64, 3, 10, 10),
        options=dw.SlimmingOptions(moves=(move,)),
    )  # fmt: skip
    assert found.steps
    assert uneven(found.graph) == pytest.approx(1, abs=1e-2)
