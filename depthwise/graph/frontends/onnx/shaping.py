"""Other shapes for the same elements: their axes split, joined, ordered and repeated."""

from math import prod

import numpy as np

from depthwise.graph import ops
from depthwise.graph.frontends.onnx.known import Known
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import refuse, rule


@rule("Shape")
def _(n: Operands, *, start=0, end=None):
    return Known(np.array(n[0].shape[start:end], np.int64))


@rule("Size")
def _(n: Operands):
    return Known(np.array(n[0].type.size, np.int64))


@rule("EyeLike")
def _(n: Operands, *, k=0, dtype=1):
    refuse(dtype != 1, "it makes a matrix of another type than float32")
    return Known(np.eye(*n[0].shape, k=k, dtype=np.float32))


@rule("Transpose")
def _(n: Operands, *, perm=None):
    x = n[0]
    return n.permute(x, *(n.axis(x, axis) for axis in perm or reversed(range(x.rank))))


@rule("Reshape")
def _(n: Operands, *, allowzero=0):
    x, shape = n[0], n.ints(1)
    if not allowzero:
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    refuse(0 in shape, "its result has no elements")
    rest = x.type.size // abs(prod(shape))
    return n.reshape(x, *(rest if size == -1 else size for size in shape))


@rule("Flatten")
def _(n: Operands, *, axis=1):
    x = n[0]
    split = axis if axis == x.rank else n.axis(x, axis)
    return n.reshape(x, prod(x.shape[:split]), prod(x.shape[split:]))


@rule("Squeeze")
def _(n: Operands, *, axes=None):
    """The axes are an attribute before opset 13, an operand since; all of one element if none."""
    x = n[0]
    axes = n.ints(1) if n.has(1) else axes
    gone = (
        {n.axis(x, a) for a in axes} if axes else {a for a, size in enumerate(x.shape) if size == 1}
    )
    return n.reshape(x, *(size for axis, size in enumerate(x.shape) if axis not in gone))


@rule("Unsqueeze")
def _(n: Operands, *, axes=None):
    x = n[0]
    axes = n.ints(1) if axes is None else axes
    rank = x.rank + len(axes)
    new, sizes = {axis % rank for axis in axes}, iter(x.shape)
    return n.reshape(x, *(1 if axis in new else next(sizes) for axis in range(rank)))


@rule("Expand")
def _(n: Operands):
    shape = np.broadcast_shapes(n[0].shape, tuple(n.ints(1)))
    return n[0] if shape == n[0].shape else n.emit(ops.Expand(shape), n[0])


@rule("Tile")
def _(n: Operands):
    """An axis before each, repeated, then joined with it."""
    x, repeats = n[0], n.ints(1)
    refuse(0 in repeats, "its result has no elements")
    apart = n.reshape(x, *(part for size in x.shape for part in (1, size)))
    wide = tuple(part for pair in zip(repeats, x.shape, strict=True) for part in pair)
    repeated = apart if wide == apart.shape else n.emit(ops.Expand(wide), apart)
    return n.reshape(repeated, *(r * size for r, size in zip(repeats, x.shape, strict=True)))


@rule("DepthToSpace")
def _(n: Operands, *, blocksize, mode="DCR"):
    x, (images, channels, height, width) = n[0], n[0].shape
    k = channels // blocksize**2
    first = mode == "DCR"  # the block is the slower part of the channels
    parts = (blocksize, blocksize, k) if first else (k, blocksize, blocksize)
    order = (0, 3, 4, 1, 5, 2) if first else (0, 1, 4, 2, 5, 3)
    moved = n.permute(n.reshape(x, images, *parts, height, width), *order)
    return n.reshape(moved, images, k, height * blocksize, width * blocksize)


@rule("SpaceToDepth")
def _(n: Operands, *, blocksize, mode="DCR"):
    x, (images, channels, height, width) = n[0], n[0].shape
    rows, columns = height // blocksize, width // blocksize
    split = n.reshape(x, images, channels, rows, blocksize, columns, blocksize)
    moved = n.permute(split, *((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)))
    return n.reshape(moved, images, channels * blocksize**2, rows, columns)
