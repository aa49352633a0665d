"""Layers with weights as PyTorch's own modules, at the modules' own paths.

A node is made a module where what it reads is named as in the state dict of one: of a module `p`,
p.weight and p.bias. Nodes that read the same weights are one module, called several times.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import nn

from depthwise.graph import ops
from depthwise.graph.exporters.torch.weighted import pad_plane
from depthwise.graph.graph import Graph, Node, Shape
from depthwise.graph.ops import Op, Padding

AFFINE = {1: "weight", 2: "bias"}  # of each input that is a weight what a module calls it
STATISTICS = {3: "running_mean", 4: "running_var"}
ROLES: dict[type, dict[int, str]] = {
    ops.Conv2d: AFFINE, ops.ConvTranspose2d: AFFINE, ops.DeformConv2d: AFFINE, ops.Linear: AFFINE,
    ops.GroupNorm: AFFINE, ops.LayerNorm: AFFINE, ops.PRelu: AFFINE,
    ops.BatchNorm: {**AFFINE, **STATISTICS},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Layer:
    """A node as a module.

    Attributes:
        path: Where the module is.
        make: Makes it, on the meta device: its tensors are the graph's.
        tensors: The name in the module of each constant.
        reads: What it is called with.
    """

    path: str
    make: Callable[[], nn.Module]
    tensors: Mapping[str, str]
    reads: tuple[str, ...]


def find_layers(graph: Graph) -> dict[str, Layer]:
    """Return the nodes that modules of PyTorch's compute, by name."""
    readers: dict[str, set[tuple[Op, tuple[str, ...]]]] = defaultdict(set)
    for node in graph:
        weights = graph.weights(node)
        for name in weights:
            readers[name].add((node.op, weights))
    return {
        node.name: layer
        for node in graph
        if all(len(readers[name]) == 1 for name in graph.weights(node))
        and (layer := layer_of(graph, node)) is not None
    }


def layer_of(graph: Graph, node: Node) -> Layer | None:
    """Return a node as a module; None where PyTorch has none for it, or its weights' names."""
    roles = ROLES.get(type(node.op), {})
    own = {name: role for i, name in enumerate(node.inputs) if (role := roles.get(i))}
    if not own or any(name not in graph.constants for name in own):
        return None
    paths = {name.rpartition(".")[0] for name in own}
    path = paths.pop()
    if paths or not path or any(f"{path}.{role}" != name for name, role in own.items()):
        return None
    shapes = [graph.type(name).shape for name in node.inputs]
    make = module_of(node.op, shapes)
    if make is None:
        return None
    reads = tuple(name for i, name in enumerate(node.inputs) if i not in roles)
    if isinstance(node.op, ops.DeformConv2d) is False and len(reads) != 1:
        return None
    return Layer(path, make, own, reads)


Maker = Callable[[], nn.Module] | None
META: dict[str, Any] = {"device": "meta"}


@singledispatch
def module_of(op: Op, shapes: list[Shape]) -> Maker:  # noqa: ARG001
    """Return what makes the module of a layer that reads values of these shapes, None for none."""
    return None


class PaddedConv2d(nn.Conv2d):
    """A convolution whose padding differs from side to side; `sides` are in pixels."""

    sides: Padding

    def forward(self, x):
        """Return (N, K, H', W') of (N, C, H, W)."""
        return super().forward(pad_plane(x, self.sides))

    def extra_repr(self) -> str:
        """Return what it is made with, and the pixels on each side."""
        return f"{super().extra_repr()}, sides={tuple(self.sides)}"


@module_of.register
def _(op: ops.Conv2d, shapes):
    weight = shapes[1]

    def make() -> nn.Module:
        module = nn.Conv2d if op.padding.symmetric else PaddedConv2d
        sides = (op.padding.top, op.padding.left) if op.padding.symmetric else 0
        conv = module(
            weight[1] * op.groups, weight[0], weight[2:], op.stride, sides, op.dilation, op.groups,
            len(shapes) > 2, **META,
        )  # fmt: skip
        if isinstance(conv, PaddedConv2d):
            conv.sides = op.padding
        return conv

    return make


@module_of.register
def _(op: ops.ConvTranspose2d, shapes):
    """Take what PyTorch has: more is cut at the top and left, by less than a stride."""
    weight, pad = shapes[1], op.padding
    extra = (pad.top - pad.bottom, pad.left - pad.right)
    fits = all(
        0 <= more < max(s, d) for more, s, d in zip(extra, op.stride, op.dilation, strict=True)
    )
    if not fits:
        return None
    return lambda: nn.ConvTranspose2d(
        weight[0], weight[1] * op.groups, weight[2:], op.stride, (pad.top, pad.left), extra,
        op.groups, len(shapes) > 2, op.dilation, **META,
    )  # fmt: skip


@module_of.register
def _(op: ops.DeformConv2d, shapes):
    if not op.padding.symmetric:
        return None
    from torchvision.ops import DeformConv2d  # noqa: PLC0415  (not all need torchvision)

    weight, sides = shapes[1], (op.padding.top, op.padding.left)
    channels = weight[1] * op.groups
    return lambda: DeformConv2d(
        channels, weight[0], weight[2:], op.stride, sides, op.dilation, op.groups
    ).to("meta")


@module_of.register
def _(op: ops.Linear, shapes):  # noqa: ARG001
    rows, columns = shapes[1]
    return lambda: nn.Linear(columns, rows, len(shapes) > 2, **META)


@module_of.register
def _(op: ops.BatchNorm, shapes):
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    module = kind.get(len(shapes[0]))
    return module and (lambda: module(shapes[0][1], op.eps, **META))


@module_of.register
def _(op: ops.GroupNorm, shapes):
    return (
        (lambda: nn.GroupNorm(op.groups, shapes[0][1], op.eps, **META)) if len(shapes) > 2 else None
    )


@module_of.register
def _(op: ops.LayerNorm, shapes):
    shape = shapes[0][-op.axes :]
    return lambda: nn.LayerNorm(shape, op.eps, bias=len(shapes) > 2, **META)


@module_of.register
def _(op: ops.PRelu, shapes):  # noqa: ARG001
    return lambda: nn.PReLU(shapes[1][0], **META)
