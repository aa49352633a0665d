"""Layers of bytes, and what lies between them: calls of the kernels of quantised networks.

quantization/integer_ops.py says what each operator computes; kernels/bytes.h how sums become bytes.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import prod

import numpy as np

from depthwise.compiler.byte_epilogue import ByteEpilogue
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, divisible, pixel_strides
from depthwise.compiler.lowering.loops import COPY_AXES, copy_loops, portions
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.pool import sizes, window
from depthwise.compiler.lowering.views import TensorView, is_canonical, reshaped
from depthwise.compiler.passes.broadcast import is_of_planes
from depthwise.errors import Unsupported
from depthwise.graph import Node, ops
from depthwise.graph.dtypes import UINT8
from depthwise.quantization.integer_ops import (
    IntegerAdd,
    IntegerMean,
    IntegerMultiply,
    Lookup,
    Requantize,
    Rescale,
)

ByteOperand = tuple[TensorView, int, float]  # with its zero point and its ratio


def epilogue_of(then: Requantize | None, zero: int = 0, ratio: float = 0.0) -> ByteEpilogue:
    """Return how sums become bytes, with what is added; None becomes floats, which need nothing."""
    if then is None:
        return ByteEpilogue()
    return ByteEpilogue(then.zero, then.low, then.high, zero, ratio)


def images_of(view: TensorView, b: LoweringBuilder) -> TensorView:
    """Return a value as images (N, C, H, W): vectors are pixels of one row."""
    if len(view.shape) == 4:
        return view
    rows = reshaped(view, (prod(view.shape[:-1]), *view.shape[-1:])) if view.shape else None
    if rows is None or (rows.shape[-1] > 1 and rows.strides[-1] != 1):
        where = f" in module {b.node.path!r}" if b.node else ""
        raise Unsupported(
            f"a value of shape {view.shape}{where} is quantised and does not lie side by side: "
            "keep that layer in float32"
        )
    count, channels = rows.shape
    return replace(rows, shape=(1, channels, 1, count), strides=(0, 1, 0, rows.strides[0]))


def image_sizes(view: TensorView) -> dict[str, int]:
    """Return images, channels, rows and width, as the kernels take them."""
    return dict(zip(("images", "channels", "rows", "width"), view.shape, strict=True))


# ---------------------------------------------------------------------------- floats and bytes


@lower.register
def _(op: ops.Quantize, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    scale, zero = _affine(node, b)
    x = b.read(node.inputs[0])
    y = b.write(node)
    if len(x.shape) != 4:
        x, y = images_of(x, b), images_of(y, b)

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "u8_quantize", **image_sizes(y), in_channel=x.strides[1],
            **pixel_strides(in_=x, out=y), zero=zero, scale=scale, in_=x, out=y,
        )  # fmt: skip

    b.append(divisible(part, x, y, rows=True))


@lower.register
def _(op: ops.Dequantize, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    scale, zero = _affine(node, b)

    def part(x: TensorView, y: TensorView) -> KernelCall:
        numbers = copy_loops(x.shape, x.strides, y.strides)
        return b.step("u8_dequantize", **numbers, zero=zero, scale=scale, x=x, y=y)

    for views in portions(COPY_AXES, b.read(node.inputs[0]), b.write(node)):
        b.append(divisible(part, *views, rows=True))


def _affine(node: Node, b: LoweringBuilder) -> tuple[float, int]:
    """Return the scale and the zero point. Raises Unsupported for a scale that is none."""
    known = [b.constant(name) for name in node.inputs[1:]]
    assert all(each.size == 1 for each in known), f"{node} is supported"
    scale, zero = float(known[0].reshape(())), int(known[1].reshape(())) if len(known) > 1 else 0
    if not (np.isfinite(scale) and scale > 0):
        raise Unsupported(f"{node.inputs[1]} is {scale}: a scale is a finite number above 0")
    return scale, zero


# ------------------------------------------------------------------------- element by element


@lower.register
def _(op: IntegerAdd, node: Node, b: LoweringBuilder) -> None:
    operands = zip(map(b.read, node.inputs), op.zeros, op.ratios, strict=True)
    (left, left_zero, left_ratio), (right, right_zero, right_ratio) = _whole_first(operands, node)
    y = b.write(node)
    planes = right.shape != y.shape
    left, right, y = images_of(left, b), _beside(right, y, b), images_of(y, b)
    then = epilogue_of(op.then, right_zero, right_ratio)

    def part(left: TensorView, right: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "u8_rescale", **image_sizes(y), **pixel_strides(in_=left, sum=right, out=y),
            in_zero=left_zero, scale=left_ratio, requantize=then, in_=left, sum=right, out=y,
        )  # fmt: skip

    b.append(divisible(part, left, right, y, rows=not planes))


def _whole_first(operands: Iterable[ByteOperand], node: Node) -> list[ByteOperand]:
    """Return two operands, first the one that has the shape of the result."""
    return sorted(operands, key=lambda operand: operand[0].shape != node.type.shape)


def _beside(view: TensorView, y: TensorView, b: LoweringBuilder) -> TensorView:
    """Return an operand as images of the result's shape: it may have a number for each plane."""
    if view.shape == y.shape:
        return images_of(view, b)
    assert is_of_planes(view.shape, y.shape), "operands are repeated by a pass"
    return replace(view, shape=y.shape, strides=(view.image, 1, 0, 0))


@lower.register
def _(op: Rescale, node: Node, b: LoweringBuilder) -> None:
    x, y = images_of(b.read(node.inputs[0]), b), images_of(b.write(node), b)

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "u8_rescale", **image_sizes(y), **pixel_strides(in_=x, sum=None, out=y),
            in_zero=op.zero, scale=op.ratio, requantize=epilogue_of(op.then), in_=x, sum=None,
            out=y,
        )  # fmt: skip

    b.append(divisible(part, x, y, rows=True))


@lower.register
def _(op: Lookup, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    table = b.weights(b.constant(node.inputs[1]), UINT8)
    x, y = images_of(b.read(node.inputs[0]), b), images_of(b.write(node), b)

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "u8_lookup", **image_sizes(y), **pixel_strides(in_=x, out=y), in_=x, table=table, out=y
        )

    b.append(divisible(part, x, y, rows=True))


@lower.register
def _(op: IntegerMultiply, node: Node, b: LoweringBuilder) -> None:
    operands = zip(map(b.read, node.inputs), op.zeros, (op.ratio, op.ratio), strict=True)
    (x, in_zero, _), (factor, factor_zero, _) = _whole_first(operands, node)
    y = b.write(node)
    x, factor, y = images_of(x, b), _beside(factor, y, b), images_of(y, b)

    def part(x: TensorView, factor: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "u8_quantized_multiply", **image_sizes(y),
            **pixel_strides(in_=x, factor=factor, out=y), in_zero=in_zero, factor_zero=factor_zero,
            scale=op.ratio, requantize=epilogue_of(op.then), in_=x, factor=factor, out=y,
        )  # fmt: skip

    b.append(divisible(part, x, factor, y))


@lower.register
def _(op: IntegerMean, node: Node, b: LoweringBuilder) -> None:
    x = b.read(node.inputs[0])
    if not is_canonical(x):
        raise Unsupported(
            f"a quantised mean of {x.shape} in module {node.path!r}, whose values do not lie side "
            "by side: keep that module in float32"
        )
    pool = op.op
    if isinstance(pool, ops.AvgPool2d) and (
        pool.kernel != x.shape[2:] or pool.padding != ops.NO_PADDING or pool.divisor is not None
    ):
        _mean_of_windows(op, pool, node, b)
    else:
        _mean_of_planes(op, node, b)


def _mean_of_planes(op: IntegerMean, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    y = replace(y, shape=(*x.shape[:2], 1, 1), strides=(y.strides[0], 1, 0, 0))
    pixels = x.shape[2] * x.shape[3]
    scale = float(np.float32(np.float64(op.ratio) / pixels))
    real = op.then is None

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "u8_quantized_mean", **image_sizes(x), **pixel_strides(in_=x), out_image=y.image,
            in_zero=op.zero, scale=scale, requantize=epilogue_of(op.then), in_=x,
            out=None if real else y, real=y if real else None,
        )  # fmt: skip

    b.append(divisible(part, x, y, grain=64))


def _mean_of_windows(op: IntegerMean, pool: ops.AvgPool2d, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    counts = np.arange(prod(pool.kernel) + 1, dtype=np.float64)
    counts[1:] = pool.divisor or counts[1:]
    counts[0] = 1  # a sum of nothing
    scale = b.weights((np.float64(op.ratio) / counts).astype(np.float32))
    real = op.then is None

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "u8_quantized_avg_pool", **sizes(x, y), **window(pool.kernel, pool.stride),
            **pool.padding._asdict(), count_padding=int(pool.count_padding), in_zero=op.zero,
            requantize=epilogue_of(op.then), in_=x, scale=scale,
            out=None if real else y, real=y if real else None,
        )  # fmt: skip

    b.append(divisible(part, x, y, grain=64))
