"""What the axes of each operator's result consist of: a rule an operator."""

from functools import singledispatch

from depthwise.graph import ops
from depthwise.graph.exporters.torch.axes import (
    Axes,
    Axis,
    TracedNode,
    captured,
    fixed,
    is_batch,
    is_open,
)
from depthwise.graph.exporters.torch.regroup import regroup
from depthwise.graph.exporters.torch.unknown import takes_images_alone
from depthwise.graph.ops import Op


def axes_of(place: TracedNode, read: tuple[Axes, ...]) -> Axes:
    """Return the axes of a node's result. Raises MixedImages where it looks at several images."""
    axes = find_axes(place.node.op, place, *read)
    if sum(map(is_batch, axes)) > 1:
        raise place.mixed("compares the images of a batch with each other")
    return axes


@singledispatch
def find_axes(op: Op, place: TracedNode, *read: Axes) -> Axes:
    """Return the axes of op(values whose axes are `read`)."""
    raise NotImplementedError(type(op))


@find_axes.register
def _(op: ops.Opaque, place, *read):
    batched = tuple(bool(axes) and is_batch(axes[0]) for axes in read)
    for axes in read:
        place.batch_within(axes, (0,), "is not known, and reads the images of the batch")
    own = fixed(place.shape)
    if not any(batched):
        return own
    images = next(axes[0] for axes, found in zip(read, batched, strict=True) if found)
    whole = own and captured(images) == place.shape[0]
    if not whole or not takes_images_alone(op, place.types, batched):
        raise place.mixed("is not known, and does not compute each image of a batch by itself")
    return (images, *own[1:])


# -------------------------------------------------------------------------- windows over planes


@find_axes.register
def _(op: ops.Conv2d | ops.ConvTranspose2d | ops.DeformConv2d, place, x, weight, *rest):  # noqa: ARG001
    place.batch_within(x, (0,), "convolves over images of the batch")
    place.batch_within(weight, (), "makes its weights of the images")
    return (x[0], (place.shape[1],), *planes(place, x))


def planes(place: TracedNode, x: Axes) -> Axes:
    """Return the last two axes: those of x where they keep their sizes at any size."""
    return tuple(
        place.made(len(place.shape) + i, x[i]) if not keeps(place, i) else x[i] for i in (-2, -1)
    )


def keeps(place: TracedNode, side: int) -> bool:
    """Tell whether windows move in steps of 1, and padding makes up for what they reach beyond."""
    stride = place.node.op.stride[side]  # type: ignore[union-attr]
    return stride == 1 and place.shape[side] == place.shapes[0][side]


@find_axes.register
def _(op: ops.MaxPool2d | ops.AvgPool2d | ops.MaxPoolIndices, place, x):  # noqa: ARG001
    place.batch_within(x, range(len(x) - 2), "pools over images of the batch")
    return (*x[:-2], *planes(place, x))


@find_axes.register
def _(op: ops.AdaptivePool2d, place, x):
    place.batch_within(x, range(len(x) - 2), "pools over images of the batch")
    return (*x[:-2], *fixed(op.size))


@find_axes.register
def _(op: ops.Resize | ops.MaxUnpool2d, place, x, *indices):  # noqa: ARG001
    place.batch_within(x, range(len(x) - 2), "resizes images of the batch")
    rank = len(x)
    return (*x[:-2], place.made(rank - 2, x[-2]), place.made(rank - 1, x[-1]))


@find_axes.register
def _(op: ops.Resample, place, x, weights):  # noqa: ARG001
    place.batch_within(x, others(x, op.axis), "resizes along the images of the batch")
    return (*x[: op.axis], (place.shape[op.axis],), *x[op.axis + 1 :])


@find_axes.register
def _(op: ops.GridSample, place, x, grid):  # noqa: ARG001
    place.batch_within(x, (0,), "samples over images of the batch")
    place.batch_within(grid, (0,), "samples over images of the batch")
    return (one_of(place, 0, x[0], grid[0]), x[1], grid[1], grid[2])


@find_axes.register
def _(op: ops.DeformRoIPool, place, x, boxes, offsets):  # noqa: ARG001
    if any(map(is_batch, (*x, *boxes, *offsets))):
        raise place.mixed("pools regions of all images of the batch")
    return fixed(place.shape)


# ------------------------------------------------------------------------------------- products


@find_axes.register
def _(op: ops.Linear, place, x, weight, *bias):  # noqa: ARG001
    place.batch_within(x, range(len(x) - 1), "multiplies the images of the batch together")
    place.batch_within(weight, (), "makes its weights of the images")
    return (*x[:-1], (place.shape[-1],))


@find_axes.register
def _(op: ops.MatMul, place, a, b):  # noqa: ARG001
    place.batch_within(a, others(a, len(a) - 1), "multiplies the images of the batch together")
    place.batch_within(b, others(b, len(b) - 2), "multiplies the images of the batch together")
    return (*broadcast(place, a[:-2], b[:-2], before=2), a[-2], b[-1])


@find_axes.register
def _(op: ops.Recurrent, place, x, weight_ih, weight_hh, bias_ih, bias_hh, *states):  # noqa: ARG001
    place.batch_within(x, (1,), "goes through the images of the batch as a sequence")
    return (x[0], x[1], (place.shape[2],))


# ------------------------------------------------------------------- normalisation, one by one


def others(x: Axes, axis: int) -> list[int]:
    """Return all axes but one."""
    return [i for i in range(len(x)) if i != axis]


@find_axes.register
def _(op: ops.BatchNorm | ops.PRelu, place, x, *parameters):  # noqa: ARG001
    place.batch_within(x, others(x, 1), "has weights of its own for each image of the batch")
    return x


@find_axes.register
def _(op: ops.GroupNorm, place, x, *parameters):  # noqa: ARG001
    place.batch_within(x, (0,), "normalises over the images of the batch")
    return x


@find_axes.register
def _(op: ops.LayerNorm, place, x, *parameters):  # noqa: ARG001
    allowed = range(len(x) - op.axes)
    place.batch_within(x, allowed, "normalises over the images of the batch")
    return x


@find_axes.register
def _(op: ops.LocalResponseNorm, place, x):  # noqa: ARG001
    place.batch_within(x, others(x, 1), "normalises over the images of the batch")
    return x


@find_axes.register
def _(op: ops.Softmax | ops.Cumulate, place, x):
    place.batch_within(x, others(x, op.axis), "goes along the images of the batch")
    return x


@find_axes.register
def _(op: ops.Activation | ops.Cast, place, x):  # noqa: ARG001
    return x


@find_axes.register
def _(op: ops.Quantize | ops.Dequantize, place, x, *parameters):  # noqa: ARG001
    if op.axis is not None:
        place.batch_within(x, others(x, op.axis), "has a scale for each image of the batch")
    return x


@find_axes.register
def _(op: ops.Binary | ops.Compare | ops.Where, place, *read):  # noqa: ARG001
    return broadcast(place, *read)


def broadcast(place: TracedNode, *operands: Axes, before: int = 0) -> Axes:
    """Return the axes of operands that are broadcast, `before` which so many axes come."""
    rank = max(map(len, operands))
    aligned = [[axes[i] for axes in operands if len(axes) >= -i] for i in range(-rank, 0)]
    return tuple(one_of(place, i - before, *axes) for i, axes in enumerate(aligned, -rank))


def one_of(place: TracedNode, axis: int, *operands: Axis) -> Axis:
    """Return which of the axes that are broadcast to one is the result's."""
    size = place.shape[axis]
    several = [each for each in operands if each != (1,)]
    images = [each for each in several if is_batch(each)]
    if images and any(is_batch(each) != is_batch(several[0]) for each in several[1:]):
        raise place.mixed(f"has {size} values along the images of the batch that are fixed")
    if images and captured(images[0]) != size:
        raise place.mixed("repeats the images of the batch")
    found = next((each for each in (*images, *filter(is_open, several), *several)), (1,))
    return found if captured(found) == size else next(e for e in several if captured(e) == size)


# -------------------------------------------------------------------------------- moving about


@find_axes.register
def _(op: ops.Reduce, place, x):
    allowed = [i for i in range(len(x)) if i not in op.axes]
    place.batch_within(x, allowed, "takes images of the batch together")
    kept = [(1,) if i in op.axes else axis for i, axis in enumerate(x)]
    return tuple(axis for i, axis in enumerate(kept) if op.keep or i not in op.axes)


@find_axes.register
def _(op: ops.ArgReduce, place, x):
    place.batch_within(x, others(x, op.axis), "compares the images of the batch with each other")
    return (*x[: op.axis], *(((1,),) if op.keep else ()), *x[op.axis + 1 :])


@find_axes.register
def _(op: ops.TopK, place, x):
    place.batch_within(x, others(x, op.axis), "compares the images of the batch with each other")
    return (*x[: op.axis], place.made(op.axis, x[op.axis]), *x[op.axis + 1 :])


@find_axes.register
def _(op: ops.TakeAlong, place, x, indices):
    place.batch_within(x, others(x, op.axis), "chooses among the images of the batch")
    place.batch_within(indices, others(x, op.axis), "chooses among the images of the batch")
    return tuple(
        axis if i == op.axis or not is_batch(x[i]) else x[i] for i, axis in enumerate(indices)
    )


@find_axes.register
def _(op: ops.Gather, place, x, indices):
    place.batch_within(x, others(x, op.axis), "chooses among the images of the batch")
    place.batch_within(indices, (), "chooses by the images of the batch")
    return (*x[: op.axis], indices[0], *x[op.axis + 1 :])


@find_axes.register
def _(op: ops.Concat, place, *read):
    for axes in read:
        place.batch_within(axes, others(axes, op.axis), "puts more beside the images of the batch")
    return tuple(
        place.made(i, *axes) if i == op.axis else one_size(place, *axes)
        for i, axes in enumerate(zip(*read, strict=True))
    )


def one_size(place: TracedNode, *operands: Axis) -> Axis:  # noqa: ARG001
    """Return which of the axes of one size is the result's."""
    return next(
        (each for each in (*filter(is_batch, operands), *filter(is_open, operands))), operands[0]
    )


@find_axes.register
def _(op: ops.Slice, place, x):
    size = place.shapes[0][op.axis]
    if (op.start, op.stop, op.step) == (0, size, 1):
        return x
    place.batch_within(x, others(x, op.axis), "takes some of the images of the batch")
    return (*x[: op.axis], place.made(op.axis, x[op.axis]), *x[op.axis + 1 :])


@find_axes.register
def _(op: ops.Pad, place, x):
    still = [i for i, pair in enumerate(op.pads) if pair == (0, 0)]
    place.batch_within(x, still, "adds to the images of the batch")
    return tuple(axis if i in still else place.made(i, axis) for i, axis in enumerate(x))


@find_axes.register
def _(op: ops.Permute, place, x):  # noqa: ARG001
    return tuple(x[axis] for axis in op.axes)


@find_axes.register
def _(op: ops.Expand, place, x):
    return broadcast(place, x, fixed(op.shape)) if not any(map(is_batch, x)) else expanded(place, x)


def expanded(place: TracedNode, x: Axes) -> Axes:
    """Return the axes of an Expand of images, whose number stays."""
    new = len(place.shape) - len(x)
    kept = [
        axis if captured(axis) == n else (n,) for axis, n in zip(x, place.shape[new:], strict=True)
    ]
    if any(is_batch(axis) and not is_batch(own) for axis, own in zip(x, kept, strict=True)):
        raise place.mixed("repeats the images of the batch")
    return (*fixed(place.shape[:new]), *kept)


@find_axes.register
def _(op: ops.Reshape, place, x):
    return regroup(place, x, op.shape)
