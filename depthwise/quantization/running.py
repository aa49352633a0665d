"""Quantised networks on many images: in PyTorch, each value rounded to what uint8 holds of it.

Up to the last digits of float32 this is what `simulate` computes exactly.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.calibration.images import batch_size, returning
from depthwise.calibration.scores import judged_value
from depthwise.calibration.walk import Walk
from depthwise.graph import Graph, Node, ops
from depthwise.graph.exporters.torch import to_module
from depthwise.quantization.insertion import Encoding
from depthwise.quantization.placement import Placement
from depthwise.quantization.ranges import Observation, only_function
from depthwise.quantization.scheme import LEVELS, Affine

AT_ONCE = 32  # images
SAMPLE = 1 << 17  # numbers of each value


def observe(place: Placement, images: Tensor) -> dict[str, Observation]:
    """Return what images show of every value that is quantised.

    Raises ValueError where one is infinite or no number.
    """
    graph, readers = place.graph, place.graph.readers()
    names = [name for name in place.quantized if name not in graph.inputs]
    net = to_module(returning(graph, names)).eval()
    seen = {name: _Seen() for name in place.quantized}
    batch = batch_size(graph)
    each = max(1, SAMPLE * batch // max(len(images), batch))
    with torch.inference_mode():
        for part in images.split(batch):
            values = dict(zip(names, net(part), strict=True))
            values |= dict.fromkeys(graph.inputs.keys() & seen.keys(), part)
            for name, value in values.items():
                seen[name].add(name, value, each)
    return {name: found.observation(only_function(readers[name])) for name, found in seen.items()}


class _Seen:
    """One value, batch by batch."""

    def __init__(self):
        self._parts: list[Tensor] = []
        self._ends: list[tuple[float, float]] = []
        self._channels: list[Tensor] = []

    def add(self, name: str, x: Tensor, count: int) -> None:
        low, high = (float(end) for end in torch.aminmax(x))
        if not np.isfinite(low + high):
            raise ValueError(
                f"the value {name} is infinite or no number for some of the images: look at the "
                "network's weights and at how the images are prepared"
            )
        self._ends.append((low, high))
        flat = x.reshape(-1)
        generator = torch.Generator().manual_seed(len(self._ends))
        self._parts.append(
            flat[torch.randint(len(flat), (min(count, len(flat)),), generator=generator)]
        )
        if x.ndim > 1:
            self._channels.append(x.abs().transpose(0, 1).flatten(1).amax(1))

    def observation(self, function: ops.Activation | None) -> Observation:
        channels = torch.stack(self._channels).amax(0) if self._channels else torch.zeros(0)
        low, high = min(end[0] for end in self._ends), max(end[1] for end in self._ends)
        return Observation(low, high, torch.cat(self._parts).numpy(), channels.numpy(), function)


class RoundedWalk(Walk):
    """A network computed node by node on all images, each value rounded as its encoding says."""

    def __init__(
        self, encoding: Encoding, images: Tensor, wanted: Iterable[str] = (),
        modules: dict[str, nn.Module] | None = None,
    ):  # fmt: skip
        super().__init__(encoding.graph, images, wanted, modules)
        place = encoding.placement
        self.layers = place.layers
        self.values = {
            name: encoding.values[name] for name in place.quantized if name in encoding.values
        }
        self.weights = encoding.weights
        # which layers there are, and where their sums end
        whole = replace(encoding, kept=frozenset()).placement
        narrow = encoding.kept if encoding.kept_in != "float32" else frozenset()
        self._narrow = whole.layers.keys() & narrow
        self._ends = {whole.end(name) for name in self._narrow}
        for name in encoding.graph.inputs:
            self._hold(name)

    def compute(self, node: Node) -> None:
        """Compute a node, and round it where it is held in uint8."""
        if node.name in self.layers:
            known = self.weights[node.name]
            weight, bias = torch.from_numpy(known.real), torch.from_numpy(known.bias).float()
            self.give(node, apply_layer(node, self.live[node.inputs[0]], weight, bias))
        elif node.name in self._narrow:
            weight, *bias = (self.constants[name].numbers for name in node.inputs[1:])
            x, weight = in_bfloat16(self.live[node.inputs[0]]), in_bfloat16(torch.tensor(weight))
            self.give(node, apply_layer(node, x, weight, torch.tensor(bias[0]) if bias else None))
        else:
            super().compute(node)

    def give(self, node: Node, value: Tensor) -> None:
        """Let this be the value of a node, and round it where it is held in uint8."""
        super().give(node, in_bfloat16(value) if node.name in self._ends else value)
        self._hold(node.name)

    def _hold(self, name: str) -> None:
        if name in self.values and name in self.live:
            self.live[name] = rounded(self.live[name], self.values[name])


def rounded(x: Tensor, affine: Affine) -> Tensor:
    """Return numbers as they are after having been held in uint8."""
    whole = (x / affine.scale).round_().add_(affine.zero).clamp_(0, LEVELS)
    return whole.sub_(affine.zero).mul_(affine.scale)


def in_bfloat16(x: Tensor) -> Tensor:
    """Return numbers as bfloat16 holds them, in float32."""
    return x.bfloat16().float()


def apply_layer(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what a convolution or linear layer makes of x with these weights."""
    op = node.op
    with torch.inference_mode():
        if isinstance(op, ops.Linear):
            return F.linear(x, weight, bias)
        assert isinstance(op, ops.Conv2d)
        pad = op.padding
        if pad.symmetric:
            sides = (pad.top, pad.left)
        else:
            x, sides = F.pad(x, (pad.left, pad.right, pad.top, pad.bottom)), (0, 0)
        return F.conv2d(x, weight, bias, op.stride, sides, op.dilation, op.groups)


class Runner:
    """Networks of one graph's nodes on the same images, some at once."""

    def __init__(self, images: Tensor):
        self._images = images
        self._modules: dict[str, nn.Module] = {}

    def __call__(self, encoding: Encoding) -> Tensor:
        """Return what a quantised network is judged by, in double precision."""
        output = judged_value(encoding.graph)
        parts = (
            RoundedWalk(encoding, part, [output], self._modules).take(output).double()
            for part in self._images.split(AT_ONCE)
        )
        return torch.cat(list(parts))

    def original(self, graph: Graph) -> Tensor:
        """Return the same of the network in real numbers."""
        return self(Encoding(graph, kept=frozenset(node.name for node in graph)))
