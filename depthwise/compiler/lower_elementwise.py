"""Activations and arithmetic of two tensors, element by element."""

from typing import cast

from depthwise.compiler.axes import (
    axes_of,
    broadcast,
    merged,
    numbers,
    ordered,
    run_numbers,
    strides_in_order,
)
from depthwise.compiler.lower import lower
from depthwise.compiler.places import Place
from depthwise.compiler.plan import PlanBuilder
from depthwise.graph import Node, Shape, ops

# numbered as in kernels/elementwise.h, where prelu is one more
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
PRELU = len(BINARY)

NO_ACTIVATION = ops.Activation(cast(ops.Function, "none"))  # ACT_NONE of kernels/activation.h

CHANNELS_LAST = (0, 2, 3, 1)


@lower.register
def _(op: ops.Activation, node: Node, b: PlanBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    axes = merged(ordered(axes_of(x.shape, x.strides, y.strides), operand=1))
    b.call("f32_unary", *run_numbers(axes, 2), op, x, y)


@lower.register
def _(op: ops.Binary, node: Node, b: PlanBuilder) -> None:
    shape = node.type.shape
    (left, left_strides), (right, right_strides) = (
        place_operand(name, shape, b) for name in node.inputs
    )
    y = b.write(node)
    axes = merged(ordered(axes_of(shape, left_strides, right_strides, y.strides), operand=2))
    function = BINARY.index(op.function)
    b.call("f32_binary", function, *numbers(axes, 6, 3), NO_ACTIVATION, left, right, y)


@lower.register
def _(op: ops.PRelu, node: Node, b: PlanBuilder) -> None:  # noqa: ARG001
    x, slope, y = b.read(node.inputs[0]), b.read(node.inputs[1]), b.write(node)
    along = tuple(int(axis == 1 and slope.shape[0] > 1) for axis in range(len(x.shape)))
    axes = merged(ordered(axes_of(x.shape, x.strides, along, y.strides), operand=2))
    b.call("f32_binary", PRELU, *numbers(axes, 6, 3), NO_ACTIVATION, x, slope, y)


def place_operand(name: str, shape: Shape, b: PlanBuilder) -> tuple[Place, Shape]:
    """Return where an operand lies and its strides along `shape`, to which it is broadcast.

    A constant of rank below 4 that meets images is laid channels last, as they are.
    """
    if name in b.graph.constants and 1 < len(b.graph.type(name).shape) < len(shape) == 4:
        data = b.constant(name)
        full = data.reshape((1,) * (4 - data.ndim) + data.shape)
        place = b.weights(full.transpose(CHANNELS_LAST))
        return place, broadcast(full.shape, strides_in_order(full.shape, CHANNELS_LAST), shape)
    place = b.read(name)
    return place, broadcast(place.shape, place.strides, shape)
