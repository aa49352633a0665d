"""Small networks for the tests of quantisation, with BatchNorms that have seen images."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from depthwise.calibration.images import as_tensor
from depthwise.graph import Graph, capture
from depthwise.quantization.correction import nearest
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.ranges import choose_ranges
from depthwise.quantization.running import observe

SHAPE = (1, 3, 12, 12)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        y = self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * nn.functional.hardsigmoid(y)


class Mixed(nn.Module):
    """Every form in integers: residual, gate, table, pools, concatenation, padding, linear."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.gate, self.project = Gate(16), nn.Conv2d(16, 8, 1)
        self.side = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.classifier = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.project(self.gate(self.depthwise(self.expand(x))))
        x = torch.cat([x, self.side(nn.functional.max_pool2d(x, 3, 1, 1))], 1)
        x = nn.functional.avg_pool2d(x, 2)
        return self.classifier(x.mean((2, 3)))


def mixed() -> nn.Module:
    """Return the network, its BatchNorms knowing the images."""
    torch.manual_seed(0)
    net = Mixed()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.momentum = 1.0
        net.train()(torch.from_numpy(images(64)))
    return net.eval()


def images(count: int, seed: int = 0) -> np.ndarray:
    """Return smooth random images."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((count, 3, 4, 4)).astype(np.float32)
    return np.ascontiguousarray(coarse.repeat(3, 2).repeat(3, 3))


def save_photographs(folder: Path, count: int) -> Path:
    """Write such images as PNG files into a new folder; return it."""
    folder.mkdir()
    for number, x in enumerate(images(count)):
        pixels = np.clip(128 + 50 * x, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def encoded(graph: Graph, x: np.ndarray, observer: str = "minmax") -> Encoding:
    """Return a network with its weights rounded to the nearest."""
    prepared = prepare(graph)
    placed = place(prepared)
    seen = observe(placed, as_tensor(prepared, x))
    return nearest(Encoding(prepared, choose_ranges(placed, seen, observer)))


def bias_error(encoding: Encoding) -> float:
    """Return what the scores are off by since the last bias is rounded to integers, at most."""
    *_, last = encoding.placement.layers.values()
    scale = encoding.values[last.inputs[0]].scale * encoding.weights[last.name].scales.max()
    return 0.5 * float(scale)


def quantized(net: nn.Module, shape=SHAPE, x: np.ndarray | None = None) -> Graph:
    """Return the graph of a network in eight bits."""
    graph = capture(net, shape)
    return insert_quantization(encoded(graph, images(32) if x is None else x))
