"""Activations and arithmetic of two tensors, element by element."""

from dataclasses import replace
from typing import cast

from depthwise.compiler.fused_ops import FUNCTIONS_OF_TWO, Epilogue, Holds, Select, is_function
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, divisible
from depthwise.compiler.lowering.loops import (
    broadcast,
    loops,
    loops_of,
    merged,
    ordered,
    portions,
    run_loops,
    strides_in_order,
)
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph import Node, Shape, ops

# numbered as in kernels/elementwise.h
BINARY = (
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "prelu", "equal", "not_equal",
    "less", "less_equal", "greater", "greater_equal",
)  # fmt: skip
BINARY_AXES = 6  # of f32_binary, f32_binary_function and f32_select
BINARY_OPERANDS = ("left", "right", "sum", "y")
SELECT_OPERANDS = ("condition", "yes", "no", "y")

NO_ACTIVATION = ops.Activation(cast(ops.Function, "none"))  # ACT_NONE of kernels/activation.h

CHANNELS_LAST = (0, 2, 3, 1)


@lower.register
def _(op: ops.Activation, node: Node, b: LoweringBuilder) -> None:
    typed = "unary" if not is_function(op) else "function"
    kernel = f"{node.type.element.short}_{typed}"

    def part(x: TensorView, y: TensorView) -> KernelCall:
        axes = merged(ordered(loops_of(x.shape, x.strides, y.strides), operand=1))
        return b.step(kernel, **run_loops(axes, "x", "y"), activation=op, x=x, y=y)

    x, y = b.read(node.inputs[0]), b.write(node)
    b.append(divisible(part, x, y, rows=True, grain=b.target.lanes))


@lower.register
def _(op: ops.Binary | Holds, node: Node, b: LoweringBuilder) -> None:
    if isinstance(op, ops.Binary) and is_function(op):
        lower_function_of_two(op, node, b)
    else:
        lower_binary(op, Epilogue(), node, b)


def lower_function_of_two(op: ops.Binary, node: Node, b: LoweringBuilder) -> None:
    """Append one call, without an epilogue."""
    shape, function = node.type.shape, FUNCTIONS_OF_TWO.index(op.function)

    def part(left: TensorView, right: TensorView, y: TensorView) -> KernelCall:
        axes = loops_of(y.shape, left.strides, right.strides, y.strides)
        axes = merged(ordered(axes, operand=2))
        return b.step(
            "f32_binary_function", function=function,
            **loops(axes, BINARY_AXES, "left", "right", "y"), left=left, right=right, y=y,
        )  # fmt: skip

    left, right = (view_operand(name, shape, b) for name in node.inputs)
    views = left, right, b.write(node)
    for some in portions(BINARY_AXES, *views):
        b.append(divisible(part, *some, rows=True, grain=b.target.lanes))


@lower.register
def _(op: Select, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    def part(*views: TensorView) -> KernelCall:
        strides = [view.strides for view in views]
        axes = merged(ordered(loops_of(views[-1].shape, *strides), operand=3))
        named = dict(zip(SELECT_OPERANDS, views, strict=True))
        return b.step("f32_select", **loops(axes, BINARY_AXES, *SELECT_OPERANDS), **named)

    read = [view_operand(name, node.type.shape, b) for name in node.inputs]
    for some in portions(BINARY_AXES, *read, b.write(node)):
        b.append(divisible(part, *some, rows=True, grain=b.target.lanes))


def lower_binary(
    op: ops.Binary | Holds, epilogue: Epilogue, node: Node, b: LoweringBuilder
) -> None:
    """Append one call; a residual, if the epilogue adds, is read last."""
    shape = node.type.shape
    function = BINARY.index(op.function)
    nowhere, kernel = (0,) * len(shape), f"{node.type.element.short}_binary"

    def part(*views: TensorView) -> KernelCall:
        *read, y = views
        strides = [p.strides for p in read] + [nowhere] * (3 - len(read))
        axes = merged(ordered(loops_of(y.shape, *strides, y.strides), operand=3))
        return b.step(
            kernel, function=function, **loops(axes, BINARY_AXES, *BINARY_OPERANDS),
            epilogue=epilogue, left=read[0], right=read[1],
            sum=read[2] if epilogue.add else None, y=y,
        )  # fmt: skip

    read = [view_operand(name, shape, b) for name in node.inputs]
    y = b.write(node)
    views = (*read, y)
    for some in portions(BINARY_AXES, *views):
        b.append(divisible(part, *some, rows=True, grain=b.target.lanes))


@lower.register
def _(op: ops.PRelu, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    x, slope, y = b.read(node.inputs[0]), b.read(node.inputs[1]), b.write(node)
    along = tuple(int(axis == 1 and slope.shape[0] > 1) for axis in range(len(x.shape)))
    nowhere = (0,) * len(x.shape)
    axes = merged(ordered(loops_of(x.shape, x.strides, along, nowhere, y.strides), operand=3))
    b.call(
        "f32_binary", function=BINARY.index("prelu"), **loops(axes, BINARY_AXES, *BINARY_OPERANDS),
        epilogue=Epilogue(), left=x, right=slope, sum=None, y=y,
    )  # fmt: skip


def view_operand(name: str, shape: Shape, b: LoweringBuilder) -> TensorView:
    """Return where an operand lies, seen as `shape`, to which it is broadcast.

    A constant of rank below 4 that meets images is laid channels last, as they are.
    """
    if name in b.graph.constants and 1 < len(b.graph.type(name).shape) < len(shape) == 4:
        data = b.constant(name)
        full = data.reshape((1,) * (4 - data.ndim) + data.shape)
        view = b.weights(full.transpose(CHANNELS_LAST))
        own, strides = full.shape, strides_in_order(full.shape, CHANNELS_LAST)
    else:
        view = b.read(name)
        own, strides = view.shape, view.strides
    return replace(view, shape=shape, strides=broadcast(own, strides, shape))
