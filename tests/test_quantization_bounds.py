"""Scales of which kernels cannot round to steps: computed all the same, to the simulator's bits."""

import numpy as np
import pytest
import torch
from quantised_networks import quantised
from torch import nn

import depthwise as dw
from depthwise.graph import ops
from depthwise.quantization.correction import nearest
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.scheme import Affine
from depthwise.quantization.simulation import simulate

SIDE = 21


def image() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((1, 3, SIDE, SIDE), np.float32) * 2


class ThreeLayers(nn.Module):
    """Layers whose values `forward` brings together in other ways."""

    def __init__(self, features: int):
        super().__init__()
        self.first, self.layer = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(features, 5)


class Dead(ThreeLayers):
    """A layer, a sum and a product that were never anything but zero, and ways past them."""

    def __init__(self):
        super().__init__(48)
        nn.init.constant_(self.layer.bias, -90.0)

    def forward(self, x):
        x = torch.relu(self.first(x))
        y = torch.relu(self.layer(x))
        pooled = nn.functional.max_pool2d(x, 3, 1, 1)
        total = torch.relu(pooled + nn.functional.hardtanh(x, -90.0, -80.0))
        product = pooled * nn.functional.hardsigmoid(y - 90)
        return self.head(torch.cat([x + y, total, product], 1).mean((2, 3)))


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "portable"])
def test_what_was_zero_while_it_was_quantised_is_computed(target):
    torch.manual_seed(0)
    graph = quantised(dw.open(Dead().eval(), (1, 3, SIDE, SIDE)).graph)
    library = dw.compile(graph, target=target)
    for size in (1, 300):  # of numbers that it was not calibrated on as well
        x = np.float32(size) * image()
        assert np.array_equal(library(x), simulate(graph, x))


class Steep(ThreeLayers):
    """Operators whose result may be held in steps as small as one likes."""

    def __init__(self):
        super().__init__(96)

    def forward(self, x):
        x = torch.relu(self.first(x))
        one, other = x[:, :, :-1], x[:, :, 1:]
        steep = [self.layer(one), one + self.layer(other), one + other, one * other]
        steep.append(nn.functional.avg_pool2d(one, 3, 1, 1))
        return self.head(torch.cat([*steep, one], 1).mean((2, 3)))


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "portable"])
def test_steps_too_small_for_kernels_to_round_to_are_taken_in_float32(target):
    torch.manual_seed(0)
    graph = prepare(dw.open(Steep().eval(), (1, 3, SIDE, SIDE)).graph)
    placed = place(graph)
    moved = {name: placed.moved_from(name) for name in placed.quantized}
    made = {node.name: node.op for node in graph}
    wide = [
        n for n in moved if n in graph.inputs or moved[n] or isinstance(made[n], ops.Activation)
    ]
    ends = {name: 9.0 if name in wide else 1e-13 for name in moved}
    held = {name: Affine.of_range(-end, end) for name, end in ends.items()}
    steep = insert_quantization(nearest(Encoding(graph, held)))
    library = dw.compile(steep, target=target)
    assert np.array_equal(library(image()), simulate(steep, image()))
