"""Small networks, quantised on random images."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

import depthwise as dw
from depthwise.graph import Graph
from depthwise.graph.interpret import interpret
from depthwise.quantization.correction import nearest
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.scheme import Affine


class EveryKernel(nn.Module):
    """A residual block with a gate, a concatenation, pooling and a head: all there is for bytes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.expand = nn.Conv2d(12, 40, 1)
        self.depthwise = nn.Conv2d(40, 40, 5, 1, 2, groups=40)
        self.squeeze, self.excite = nn.Conv2d(40, 9, 1), nn.Conv2d(9, 40, 1)
        self.project = nn.Conv2d(40, 12, 1, bias=False)
        self.left = nn.Conv2d(12, 70, 3, 1, (2, 0), dilation=(2, 1))
        self.right = nn.Conv2d(12, 6, 3, 2, 1, groups=3)
        self.strided = nn.Conv2d(12, 12, 3, 2, 1, groups=12)
        self.head = nn.Linear(18, 7)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = nn.functional.hardswish(self.expand(x))
        y = nn.functional.relu6(self.depthwise(y))
        gate = torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))
        y = y * nn.functional.hardsigmoid(self.excite(gate))
        x = x + self.project(y)
        z = self.left(x)
        x = torch.cat([self.strided(x), self.right(x)], 1)
        x = nn.functional.max_pool2d(x, 3, 1, 1)
        x = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return self.head(x.mean((2, 3))), z


def quantised(graph: Graph, inputs: Sequence[np.ndarray] | None = None) -> Graph:
    """Return a graph with Quantize and Dequantize nodes.

    Its ranges are those of these inputs, else of a random image.
    """
    graph = prepare(graph)
    draw = np.random.default_rng(0)
    drawn = inputs or [draw.standard_normal(t.shape, np.float32) for t in graph.inputs.values()]
    images = dict(zip(graph.inputs, drawn, strict=True))
    values = {**interpret(graph, *images.values()), **images}
    held = {n: Affine.of_range(values[n].min(), values[n].max()) for n in place(graph).quantized}
    return insert_quantization(nearest(Encoding(graph, held)))


def small_network(side: int = 21, images: int = 1) -> Graph:
    """Return every kind of layer that is computed in bytes, quantised."""
    torch.manual_seed(0)
    return quantised(dw.open(EveryKernel().eval(), (images, 3, side, side)).graph)
