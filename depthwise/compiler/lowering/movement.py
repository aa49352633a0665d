"""What moves elements: parts, other shapes, padding, resizing; and products of matrices."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, Table, by_rows, pixel_strides
from depthwise.compiler.lowering.loops import (
    COPY_AXES,
    broadcast,
    loops,
    loops_of,
    merged,
    ordered,
    portions,
    run_loops,
)
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.views import TensorView, is_canonical, reshaped
from depthwise.errors import Unsupported
from depthwise.graph import Node, Shape, ops
from depthwise.graph.dtypes import UINT8

ANY_STRIDES = (ops.Reshape, ops.Permute, ops.Slice, ops.Expand, ops.Concat, ops.MatMul, ops.Cast)

MATMUL_AXES = 3  # of f32_matmul's batches
MATMUL_OPERANDS = ("left", "right", "y")


def show_or_copy(node: Node, source: TensorView, b: LoweringBuilder) -> None:
    """Let `node` be a view of `source`, which has its shape, or copy it where that cannot be."""
    if may_lie(node, source, b):
        b.alias(node, source)
    else:
        b.copy(source, b.write(node))


def may_lie(node: Node, source: TensorView, b: LoweringBuilder) -> bool:
    """Tell whether the readers of `node` can take it from `source`.

    Images must lie as images do, without a border and in no other value's buffer, unless they are
    places to sample at. Other values are packed, or read by nothing but what takes any strides.
    """
    if len(source.shape) != 4:
        readers = b.readers(node.name)
        return is_canonical(source) or all(isinstance(r.op, ANY_STRIDES) for r in readers)
    repeated = any(n > 1 and s == 0 for n, s in zip(source.shape, source.strides, strict=True))
    lies = b.is_grid(node.name) or (is_canonical(source) and not repeated)
    return lies and b.is_free(node.name)


# ------------------------------------------------------------------------------- parts of values


@lower.register
def _(op: ops.Concat, node: Node, b: LoweringBuilder) -> None:
    y, start = b.write(node), 0
    for name in node.inputs:
        x = b.read(name)
        part = y.part(op.axis, start, x.shape[op.axis])
        if (x.buffer, x.offset) != (part.buffer, part.offset):  # else it was written in place
            b.copy(x, part)
        start += x.shape[op.axis]


@lower.register
def _(op: ops.Slice, node: Node, b: LoweringBuilder) -> None:
    x, shape = b.read(node.inputs[0]), node.type.shape
    first = x.part(op.axis, op.start, shape[op.axis])
    strides = tuple(s * op.step if i == op.axis else s for i, s in enumerate(x.strides))
    source = replace(first, strides=strides)
    if (
        len(shape) == 4
        and op.axis == 1
        and op.step == 1
        and node.inputs[0] not in b.graph.constants
    ):
        b.alias(node, source)  # compiler/schedule/storage.py counts on it
    else:
        show_or_copy(node, source, b)


@lower.register
def _(op: ops.Gather, node: Node, b: LoweringBuilder) -> None:
    if node.inputs[1] not in b.graph.constants:
        _pick(op, node, b)
        return
    x, places = b.read(node.inputs[0]), _known_places(op, node, b)
    indices = [places if axis == op.axis else np.arange(n) for axis, n in enumerate(x.shape)]

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return gather_step(b, x, y, [i[:n] for i, n in zip(indices, y.shape, strict=True)])

    y = b.write(node)
    b.append(part(x, y), None if op.axis == 2 else by_rows(part, x, y))


def _known_places(op: ops.Gather, node: Node, b: LoweringBuilder) -> np.ndarray:
    """Return places that are constant, from the start. Raises Unsupported for one outside of x."""
    given = b.constant(node.inputs[1]).astype(int)
    size = b.read(node.inputs[0]).shape[op.axis]
    if given.min() < -size or given.max() >= size:
        raise Unsupported(
            f"operator Gather in module {node.path or '(the network itself)'!r} reads places "
            f"{given.min()} to {given.max()} of an axis of {size}: give it some from 0 to "
            f"{size - 1}"
        )
    return given % size


def _pick(op: ops.Gather, node: Node, b: LoweringBuilder) -> None:
    """Append calls of f32_pick, which looks places up while it runs."""
    x, index, y = b.read(node.inputs[0]), b.read(node.inputs[1]), b.write(node)
    slices = (x.part(op.axis, 0, 1), y.part(op.axis, 0, 1))
    for one, made in portions(3, *slices):
        axes = merged(ordered(loops_of(made.shape, one.strides, made.strides), operand=1))
        b.call(
            "f32_pick", **run_loops(axes, "x", "y"), places=y.shape[op.axis],
            size=x.shape[op.axis], x_step=x.strides[op.axis], y_step=y.strides[op.axis],
            index_step=index.strides[0],
            x=replace(x, offset=one.offset), index=index, y=replace(y, offset=made.offset),
        )  # fmt: skip


# -------------------------------------------------------------------------------- other shapes


@lower.register
def _(op: ops.Reshape, node: Node, b: LoweringBuilder) -> None:
    x = b.read(node.inputs[0])
    source = reshaped(x, op.shape)
    if source and may_lie(node, source, b):
        b.alias(node, source)
    else:
        copy_reshaped(x, b.write(node), b)


def copy_reshaped(x: TensorView, y: TensorView, b: LoweringBuilder) -> None:
    """Copy x to y, of as many elements, in row-major order; once packed where no axes fit both."""
    shape = common_axes(x.shape, y.shape)
    source, target = (reshaped(view, shape) if shape else None for view in (x, y))
    if source and target:
        b.copy(source, target)
        return
    packed = b.temporary(x.shape, b.element(x))
    b.copy(x, packed)
    again = reshaped(packed, y.shape)
    assert again is not None
    b.copy(again, y)


def common_axes(a: Shape, b: Shape) -> Shape | None:
    """Return the shape that cuts up the axes of both, (2, 3, 4) for (6, 4) and (2, 12).

    None where an axis of one ends inside of the other's unevenly, or axes get too many.
    """
    ends = sorted({prod(shape[axis:]) for shape in (a, b) for axis in range(len(shape))} | {1})
    if any(large % small for small, large in pairwise(ends)):
        return None
    shape = tuple(large // small for small, large in pairwise(ends))[::-1]
    return shape if len(shape) <= COPY_AXES else None


@lower.register
def _(op: ops.Permute, node: Node, b: LoweringBuilder) -> None:
    x = b.read(node.inputs[0])
    shape, strides = (tuple(values[axis] for axis in op.axes) for values in (x.shape, x.strides))
    show_or_copy(node, replace(x, shape=shape, strides=strides), b)


@lower.register
def _(op: ops.Expand, node: Node, b: LoweringBuilder) -> None:
    x = b.read(node.inputs[0])
    strides = broadcast(x.shape, x.strides, op.shape)
    show_or_copy(node, replace(x, shape=op.shape, strides=strides), b)


# ------------------------------------------------------------------------------ padding, resizing


@lower.register
def _(op: ops.Pad, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    if op.mode == "constant":
        _pad_with_constant(op, x, y, b)
        return
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[op.mode]
    indices = []
    for n, (before, after) in zip(x.shape, op.pads, strict=True):
        kept = np.arange(max(0, -before), n - max(0, -after))
        indices.append(np.pad(kept, (max(0, before), max(0, after)), mode=mode))  # type: ignore[call-overload]
    b.append(gather_step(b, x, y, indices))


def _pad_with_constant(op: ops.Pad, x: TensorView, y: TensorView, b: LoweringBuilder) -> None:
    if any(side > 0 for pad in op.pads for side in pad):
        axes = merged(ordered(loops_of(y.shape, y.strides), operand=0))
        element = b.element(y)
        if element == UINT8:
            b.call("u8_fill_bytes", **run_loops(axes, "y"), value=int(op.value), y=y)
        else:
            b.call(f"{element.short}_fill", **run_loops(axes, "y"), value=float(op.value), y=y)
    for axis, (before, after) in enumerate(op.pads):
        length = x.shape[axis] + min(0, before) + min(0, after)
        x = x.part(axis, max(0, -before), length)
        y = y.part(axis, max(0, before), length)
    b.copy(x, y)


def gather_step(
    b: LoweringBuilder, x: TensorView, y: TensorView, indices: Sequence[np.ndarray]
) -> KernelCall:
    """Return a call of f32_gather: place i along an axis of y is place indices[axis][i] of x."""
    axes = sorted(range(len(y.shape)), key=lambda axis: -y.strides[axis])
    axes = [axis for axis in axes if y.shape[axis] > 1] or axes[:1]
    nest = [(y.shape[a], y.strides[a], indices[a] * x.strides[a]) for a in axes]
    run = 1
    if nest[-1][1] == 1 and np.array_equal(nest[-1][2], np.arange(nest[-1][0])):
        run = nest.pop()[0]
    while len(nest) > 4:  # more than the kernel has: y is packed, two axes are one
        (n, _, outer), (m, stride, inner) = nest[:2]
        nest[:2] = [(n * m, stride, np.add.outer(outer, inner).ravel())]
    nest = [(1, 0, np.zeros(1, int))] * (4 - len(nest)) + nest
    lengths, strides, offsets = zip(*nest, strict=True)
    # axes left out have one element, that need not be x's first
    left_out = (a for a in range(len(y.shape)) if a not in axes)
    first = x.offset + sum(int(indices[a][0]) * x.strides[a] for a in left_out)
    return b.step(
        "f32_gather", n=lengths, count=run, y_stride=strides,
        offsets=tuple(Table(tuple(map(int, offset))) for offset in offsets),
        x=replace(x, offset=first), y=y,
    )  # fmt: skip


@lower.register
def _(op: ops.Resize, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    samples = [
        sample(op, n, size, step)
        for n, size, step in zip(x.shape[2:], op.size, op.step, strict=True)
    ]
    if op.mode != "bilinear":
        whole = [np.arange(n) for n in x.shape[:2]]
        b.append(gather_step(b, x, y, [*whole, *(low for low, _ in samples)]))
        return
    tables = {}
    for axis, (low, _), n, stride in zip(
        ("rows", "columns"), samples, x.shape[2:], (x.row, x.pixel), strict=True
    ):
        for end, index in (("low", low), ("high", np.minimum(low + 1, n - 1))):
            tables[f"{end}_{axis}"] = Table(tuple(int(i) * stride for i in index))
    down, right = (b.weights(part) for _, part in samples)
    images, channels, out_height, out_width = y.shape
    b.call(
        "f32_resize_bilinear", images=images, channels=channels, out_height=out_height,
        out_width=out_width, in_image=x.image, **pixel_strides(out=y), **tables, down=down,
        right=right, in_=x, out=y,
    )  # fmt: skip


def sample(op: ops.Resize, n: int, size: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each of `size` positions along an axis of n, the position below and the rest."""
    i = np.arange(size, dtype=np.float32)
    if op.mode != "bilinear":
        at = i if op.mode == "nearest" else i + np.float32(0.5)
        low = np.floor(at * np.float32(step)).astype(int).clip(0, n - 1)
        return low, np.zeros(size, np.float32)
    at = i * step if op.align_corners else np.maximum((i + 0.5) * step - 0.5, 0)
    low = np.floor(at).astype(int).clip(0, n - 1)
    return low, (at - low).astype(np.float32)


# --------------------------------------------------------------------------- products of matrices


@lower.register
def _(op: ops.MatMul, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    left, right = b.read(node.inputs[0]), packed_rows(b.read(node.inputs[1]), b)
    y = b.write(node)
    product = y if y.strides[-1] == 1 or y.shape[-1] == 1 else b.temporary(y.shape)
    batch = y.shape[:-2]
    first = [
        replace(p, shape=batch, strides=broadcast(p.shape[:-2], p.strides[:-2], batch))
        for p in (left, right, product)
    ]  # of each matrix
    for corners in portions(MATMUL_AXES, *first):
        axes = loops_of(corners[-1].shape, *(corner.strides for corner in corners))
        batches = loops(merged(ordered(axes, operand=2)), MATMUL_AXES, *MATMUL_OPERANDS)
        matrices = {
            name: _matrices(p, corner)
            for name, p, corner in zip(
                MATMUL_OPERANDS, (left, right, product), corners, strict=True
            )
        }
        b.call(
            "f32_matmul", **batches, rows=left.shape[-2], inner=left.shape[-1],
            columns=right.shape[-1], left_row=left.strides[-2],
            left_inner=left.strides[-1], right_inner=right.strides[-2],
            y_row=product.strides[-2], **matrices,
        )  # fmt: skip
    if product is not y:
        b.copy(product, y)


def _matrices(p: TensorView, corner: TensorView) -> TensorView:
    """Return the matrices of an operand whose first elements are in `corner`, each once."""
    batch = (
        size if stride else 1 for size, stride in zip(corner.shape, corner.strides, strict=True)
    )
    shape, strides = (*batch, *p.shape[-2:]), (*corner.strides, *p.strides[-2:])
    return replace(p, offset=corner.offset, shape=shape, strides=strides)


def packed_rows(view: TensorView, b: LoweringBuilder) -> TensorView:
    """Return a view whose last axis is packed: the same, or a copy in scratch memory."""
    if view.strides[-1] == 1 or view.shape[-1] == 1:
        return view
    copy = b.temporary(view.shape)
    b.copy(view, copy)
    return copy
