"""Normalisation, reductions and softmax, over any axes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from depthwise.compiler.fused_ops import takes_plane_mean
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, divisible, pixel_strides
from depthwise.compiler.lowering.elementwise import NO_ACTIVATION
from depthwise.compiler.lowering.loops import (
    Loops,
    TooManyAxes,
    loops,
    loops_of,
    merged,
    ordered,
    strides_in_order,
)
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.packing import round_up
from depthwise.compiler.lowering.pool import lower_plane_mean
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph import Node, Shape, ops

# Pixels that local response normalisation squares together: 56x56x64 took 81 us one by one, 44 so.
RESPONSE_PIXELS = 8
REDUCE = ("mean", "sum", "max", "min", "product")  # numbered as in kernels/reduce.h


def reduced(axes: Loops) -> Loops:
    """Return the axes to reduce over, in order; merged only where that makes a longer packed run.

    Apart they keep a long sum in parts, which loses less of its last digits.
    """
    axes = ordered(axes, operand=0)
    return merged(axes) if axes and axes[-1].strides[0] == 1 else axes


@lower.register
def _(op: ops.BatchNorm, node: Node, b: LoweringBuilder) -> None:
    lower_batch_norm(op, NO_ACTIVATION, node, b)


def lower_batch_norm(
    op: ops.BatchNorm, activation: ops.Activation, node: Node, b: LoweringBuilder
) -> None:
    """Append one call: a BatchNorm and the activation after it."""
    weight, bias, mean, variance = (b.constant(name).astype(float) for name in node.inputs[1:])
    scale = weight / np.sqrt(variance + op.eps)
    x = b.read(node.inputs[0])
    scales, shifts = b.weights(scale), b.weights(bias - mean * scale)
    along = tuple(int(axis == 1) for axis in range(len(x.shape)))

    def part(x: TensorView, y: TensorView) -> KernelCall:
        axes = merged(ordered(loops_of(x.shape, x.strides, along, y.strides), operand=2))
        return b.step(
            "f32_batch_norm", **loops(axes, 4, "x", "p", "y"), activation=activation, x=x,
            scale=scales, shift=shifts, y=y,
        )  # fmt: skip

    y = b.write(node)
    b.append(divisible(part, x, y, rows=True))


@lower.register
def _(op: ops.LocalResponseNorm, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    line = round_up(x.shape[1], b.target.lanes) + op.size - 1
    squares = b.temporary((RESPONSE_PIXELS * line,))

    def part(x: TensorView, y: TensorView) -> KernelCall:
        images, channels, rows, width = x.shape
        return b.step(
            "f32_local_response_norm", images=images, rows=rows, width=width, channels=channels,
            size=op.size, strip=RESPONSE_PIXELS, alpha=float(op.alpha), power=float(op.power),
            bias=float(op.bias), **pixel_strides(in_=x, out=y), in_=x, squares=squares, out=y,
        )  # fmt: skip

    b.append(divisible(part, x, y, rows=True))


@lower.register
def _(op: ops.GroupNorm, node: Node, b: LoweringBuilder) -> None:
    x = b.read(node.inputs[0])
    channels, size = x.shape[1], x.shape[1] // op.groups
    weight = b.read(node.inputs[1]) if len(node.inputs) > 1 else b.weights(np.ones(channels))
    bias = b.read(node.inputs[2]) if len(node.inputs) > 2 else b.weights(np.zeros(channels))
    y = b.write(node)
    # the channel axis in two: groups, and the channels of one
    (n, c, *pixels) = zip(x.shape, x.strides, y.strides, strict=True)
    kept = loops_of((n[0], op.groups), (n[1], size * c[1]), (0, size), (n[2], size * c[2]))
    inside = loops_of((size, *(p[0] for p in pixels)), (c[1], *(p[1] for p in pixels)),
                     (1, *(0 for _ in pixels)), (c[2], *(p[2] for p in pixels)))  # fmt: skip
    normalize(b, kept, inside, op.eps, (x, weight, bias, y))


@lower.register
def _(op: ops.LayerNorm, node: Node, b: LoweringBuilder) -> None:
    x = b.read(node.inputs[0])
    split = len(x.shape) - op.axes
    shape, strides = x.shape[split:], x.strides[split:]
    order = sorted(range(op.axes), key=lambda axis: -strides[axis])  # as x lies
    filled = [
        b.constant(name) if name else np.full(shape, number, np.float32)
        for name, number in zip((*node.inputs[1:], None, None), (1.0, 0.0), strict=False)
    ]
    weight, bias = (b.weights(data.transpose(order)) for data in filled)
    along = strides_in_order(shape, order)
    y = b.write(node)
    kept = loops_of(x.shape[:split], x.strides[:split], (0,) * split, y.strides[:split])
    inside = loops_of(shape, strides, along, y.strides[split:])
    normalize(b, kept, inside, op.eps, (x, weight, bias, y))


def normalize(
    b: LoweringBuilder,
    kept: Loops,
    inside: Loops,
    eps: float,
    views: tuple[TensorView, TensorView, TensorView, TensorView],
) -> None:
    """Call f32_normalize: one mean for each place along `kept`, over the elements along `inside`.

    Operands of the axes are x, the parameters and y; `views` are x, weight, bias and y.
    """
    x, weight, bias, y = views
    b.call(
        "f32_normalize", **loops(merged(ordered(kept, operand=0)), 3, "x", "p", "y"),
        **inner_loops(reduced(inside), "x", "p", "y"), eps=eps, activation=NO_ACTIVATION, x=x,
        weight=weight, bias=bias, y=y,
    )  # fmt: skip


def inner_loops(axes: Loops, *operands: str) -> dict[str, tuple[int, ...]]:
    """Return the four sizes "m" of what is reduced, and each operand's strides along it."""
    found = loops(axes, 4, *operands)
    return {"m": found["n"], **{f"{name}_inner": found[f"{name}_stride"] for name in operands}}


@lower.register
def _(op: ops.Reduce, node: Node, b: LoweringBuilder) -> None:
    if takes_plane_mean(node):
        lower_plane_mean(node, b)
        return
    x, y = b.read(node.inputs[0]), b.write(node)
    axes = [axis for axis in range(len(x.shape)) if axis not in op.axes]
    to = [y.strides[axis] for axis in axes] if op.keep else list(y.strides)

    def append(x: TensorView) -> None:
        kept = loops_of(_take(x.shape, axes), _take(x.strides, axes), tuple(to))
        inside = loops_of(_take(x.shape, op.axes), _take(x.strides, op.axes))
        b.call(
            "f32_reduce", function=REDUCE.index(op.function),
            **loops(merged(ordered(kept, operand=0)), 3, "x", "y"),
            **inner_loops(reduced(inside), "x"), x=x, y=y,
        )  # fmt: skip

    try:
        append(x)
    except TooManyAxes:
        append(_gathered(x, [*axes, *op.axes], b))


def _take(values: Shape, axes: list[int] | tuple[int, ...]) -> Shape:
    return tuple(values[axis] for axis in axes)


@lower.register
def _(op: ops.Softmax, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    others = [axis for axis in range(len(x.shape)) if axis != op.axis]

    def append(x: TensorView) -> None:
        kept = loops_of(*(_take(values, others) for values in (x.shape, x.strides, y.strides)))
        b.call(
            "f32_softmax", **loops(merged(ordered(kept, operand=0)), 3, "x", "y"),
            count=x.shape[op.axis], x_step=x.strides[op.axis], y_step=y.strides[op.axis], x=x, y=y,
        )  # fmt: skip

    try:
        append(x)
    except TooManyAxes:
        append(_gathered(x, range(len(x.shape)), b))  # as y lies


def _gathered(x: TensorView, order: Sequence[int], b: LoweringBuilder) -> TensorView:
    """Return a packed copy of a value whose axes lie in `order`, so that neighbours merge."""
    packed = replace(b.temporary(x.shape), strides=strides_in_order(x.shape, order))
    b.copy(x, packed)
    return packed
