"""Small networks to be slimmed, and the statistics of their layers by plain NumPy."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import nn

from depthwise.graph import Graph, Node, capture, interpret, ops
from depthwise.graph.interpret import pad_plane, windows
from depthwise.graph.passes.padding import fold_padding
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.fitting.neighbour_sums import NeighbourSums
from depthwise.slimming.layers.neighbours import GHOST_KERNEL, find_tail
from depthwise.slimming.statistics import LayerStatistics, Statistics

IMAGES = 12


def images(graph: Graph) -> Iterator[list[np.ndarray]]:
    """Yield the inputs that the statistics are of: the same ones each time."""
    rng = np.random.default_rng(0)
    for _ in range(IMAGES):
        yield [rng.standard_normal(t.shape).astype(t.dtype) for t in graph.inputs.values()]


def patches(graph: Graph, node: Node, values: dict[str, np.ndarray]) -> np.ndarray:
    """Return what each output pixel reads, (groups, pixels, D)."""
    x, op = values[node.inputs[0]], node.op
    if isinstance(op, ops.Linear):
        return x.reshape(1, -1, x.shape[-1])
    assert isinstance(op, ops.Conv2d)
    kernel = graph.type(node.inputs[1]).shape[2:]
    view = windows(pad_plane(x, op.padding), kernel, op.stride, op.dilation)
    n, c, height, width = view.shape[:4]
    parts = view.reshape(n, op.groups, c // op.groups, height, width, *kernel)
    return parts.transpose(1, 0, 3, 4, 2, 5, 6).reshape(op.groups, n * height * width, -1)


def measure(graph: Graph) -> Statistics:
    """Return the statistics of every layer on `images`, the gradients drawn at random."""
    rng = np.random.default_rng(1)
    layers = [node for node in graph if isinstance(node.op, ops.Conv2d | ops.Linear)]
    samples: dict[str, list[np.ndarray]] = {node.name: [] for node in layers}
    for inputs in images(graph):
        values = interpret(graph, *inputs)
        for node in layers:
            samples[node.name].append(patches(graph, node, values).astype(np.float64))
    known = {}
    for node in layers:
        read = np.concatenate(samples[node.name], 1)
        mean = read.mean(1)
        centred = read - mean[:, None]
        covariance = centred.transpose(0, 2, 1) @ centred / read.shape[1]
        outputs = graph.type(node.inputs[1]).shape[0]
        half = rng.standard_normal((outputs, outputs)) * rng.uniform(0.1, 1, (outputs, 1))
        pixels = read.shape[1] // IMAGES
        known[node.name] = LayerStatistics(mean, covariance, half @ half.T / outputs, pixels)
    return known


def block(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a convolution, its BatchNorm and a ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def classifier() -> nn.Module:
    """Return a network for images of 12 x 12 pixels, whose BatchNorms have seen some."""
    torch.manual_seed(0)
    made = nn.Sequential(
        *block(3, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 32), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    made.train()
    with torch.no_grad():
        for _ in range(30):
            made(torch.randn(32, 3, 12, 12))
    return made.eval()


def mixed() -> Graph:
    """Return a network with what a convolution can have: stride, dilation, groups, odd padding."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ZeroPad2d((1, 3, 2, 1)),
        nn.Conv2d(16, 32, 5, stride=2, groups=2),
        nn.ReLU(),
        nn.Conv2d(32, 48, (3, 5), stride=(1, 2), padding=(2, 1), dilation=(2, 1), bias=False),
        nn.ReLU(),
        nn.Conv2d(48, 48, 5, padding=2, groups=48, bias=False),
        nn.BatchNorm2d(48),
        nn.Conv2d(48, 64, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 40),
        nn.ReLU(),
        nn.Linear(40, 10),
    )
    return fold_padding(capture(randomized(net), (1, 3, 14, 12)))


def twins() -> Graph:
    """Return a network in which half of the maps are multiples of others, in no order."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        nn.Linear(16 * 6 * 5, 10),
    )
    randomized(net)
    with torch.no_grad():
        for conv in (net[0], net[2]):
            order = torch.randperm(16)
            conv.weight[order[:8]] = (
                conv.weight[order[8:]] * torch.linspace(-2, 2, 8)[:, None, None, None]
            )
    return capture(net, (1, 3, 6, 5))


def hidden_groups(count: int) -> Graph:
    """Return a network whose second and third convolutions have groups, in no order."""
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 32, 1),
        nn.Sigmoid(),
    )
    randomized(net)
    with torch.no_grad():
        for conv in (net[2], net[5]):
            rows, columns = (torch.randperm(n) % count for n in conv.weight.shape[:2])
            conv.weight *= (rows[:, None] == columns)[:, :, None, None]
    return capture(net, (1, 3, 6, 5))


def randomized(net: nn.Module) -> nn.Module:
    """Give each parameter and statistic other numbers, always the same ones."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return net.eval()


def white(graph: Graph) -> Statistics:
    """Return statistics of layers that read and matter equally everywhere."""
    known = {}
    for node in graph:
        if isinstance(node.op, ops.Conv2d | ops.Linear):
            outputs, *patch = graph.type(node.inputs[1]).shape
            groups, size = getattr(node.op, "groups", 1), prod(patch)
            unit = np.broadcast_to(np.eye(size), (groups, size, size))
            known[node.name] = LayerStatistics(np.zeros((groups, size)), unit, np.eye(outputs), 1)
    return known


def with_neighbours(graph: Graph, known: Statistics) -> Statistics:
    """Return the statistics with those of the outputs' neighbours."""
    edit = GraphRewriter(graph)
    found = dict(known)
    for node in graph:
        if isinstance(node.op, ops.Conv2d):
            sums = NeighbourSums(node, GHOST_KERNEL)
            made = find_tail(edit, node).last(node).name
            everywhere = torch.arange(prod(node.type.shape[2:]))[None]
            for inputs in images(graph):
                values = interpret(graph, *inputs)
                maps = (torch.from_numpy(values[name]).double() for name in (node.name, made))
                sums.add(*maps, everywhere)
            found[node.name] = replace(known[node.name], neighbours=sums.result())
    return found
