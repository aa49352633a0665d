"""Layers with weights as PyTorch's own modules, at the modules' own paths.

A node is made a module where what it reads is named as in the state dict of one: of a module `p`,
p.weight and p.bias. Nodes that read the same weights are one module, called several times.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import Tensor, nn

from depthwise.graph import ops
from depthwise.graph.exporters.torch.numbers import LITERAL
from depthwise.graph.exporters.torch.weighted import pad_plane, usual_extra
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
class TorchLayer:
    """A node as a module.

    Attributes:
        path: Where the module is.
        make: Makes it, on the meta device: its tensors are the graph's.
        reads: What it is called with.
        without: Constants that it does not need.
    """

    path: str
    make: Callable[[], nn.Module]
    reads: tuple[str, ...]
    without: tuple[str, ...] = ()


def find_layers(graph: Graph) -> dict[str, TorchLayer]:
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


def layer_of(graph: Graph, node: Node) -> TorchLayer | None:
    """Return a node as a module; None where PyTorch has none for it, or its weights' names."""
    roles = ROLES.get(type(node.op), {})
    without = plain_affine(graph, node)
    own = {name: role for i, name in enumerate(node.inputs) if (role := roles.get(i))}
    own = {name: role for name, role in own.items() if name not in without}
    if not own or any(name not in graph.constants for name in own):
        return None
    path = next(iter(own)).rpartition(".")[0]
    if not path or any(f"{path}.{role}" != name for name, role in own.items()):
        return None
    make = module_of(node.op, [graph.type(name).shape for name in node.inputs])
    if make is None:
        return None
    reads = tuple(name for i, name in enumerate(node.inputs) if i not in roles)
    if without:
        return TorchLayer(path, lambda: without_affine(make()), reads, without)
    return TorchLayer(path, make, reads)


def plain_affine(graph: Graph, node: Node) -> tuple[str, ...]:
    """Return the weight and bias of a BatchNorm that has none: ones and zeros of the graph's."""
    if not isinstance(node.op, ops.BatchNorm):
        return ()
    for name, number in zip(node.inputs[1:3], (1, 0), strict=True):
        constant = graph.constants.get(name)
        numbers = constant.numbers if constant and name.startswith(LITERAL) else None
        if numbers is None or (numbers != number).any():
            return ()
    return node.inputs[1:3]


def without_affine(norm: nn.Module) -> nn.Module:
    """Take weight and bias from a BatchNorm."""
    norm.affine = False  # type: ignore[assignment]
    norm.register_parameter("weight", None)
    norm.register_parameter("bias", None)
    return norm


Maker = Callable[[], nn.Module] | None
META: dict[str, Any] = {"device": "meta"}


@singledispatch
def module_of(op: Op, shapes: list[Shape]) -> Maker:  # noqa: ARG001
    """Return what makes the module of a layer that reads values of these shapes, None for none."""
    return None


class PaddedConv2d(nn.Conv2d):
    """A convolution whose padding differs from side to side; `sides` are in pixels."""

    def __init__(self, sides: Padding, *channels: Any, **how: Any):
        super().__init__(*channels, **how)
        self.sides = sides

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, K, H', W') of (N, C, H, W)."""
        return super().forward(pad_plane(input, self.sides))

    def extra_repr(self) -> str:
        """Return what it is made with, and the pixels on each side."""
        return f"{super().extra_repr()}, sides={tuple(self.sides)}"


@module_of.register
def _(op: ops.Conv2d, shapes):
    weight = shapes[1]

    how: Any = (op.dilation, op.groups, len(shapes) > 2)
    channels, sides = (weight[1] * op.groups, weight[0]), (op.padding.top, op.padding.left)
    if op.padding.symmetric:
        return lambda: nn.Conv2d(*channels, weight[2:], op.stride, sides, *how, **META)
    return lambda: PaddedConv2d(op.padding, *channels, weight[2:], op.stride, 0, *how, **META)


@module_of.register
def _(op: ops.ConvTranspose2d, shapes):
    weight, pad, extra = shapes[1], op.padding, usual_extra(op)
    if extra is None:
        return None
    how: Any = (op.stride, (pad.top, pad.left), extra, op.groups, len(shapes) > 2, op.dilation)
    return lambda: nn.ConvTranspose2d(weight[0], weight[1] * op.groups, weight[2:], *how, **META)


@module_of.register
def _(op: ops.DeformConv2d, shapes):
    if not op.padding.symmetric:
        return None
    from torchvision.ops import DeformConv2d  # noqa: PLC0415  (not all need torchvision)

    weight, sides = shapes[1], (op.padding.top, op.padding.left)
    how: Any = (weight[2:], op.stride, sides, op.dilation, op.groups)
    return lambda: DeformConv2d(weight[1] * op.groups, weight[0], *how).to("meta")


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
