"""What an operator's attributes may be, whoever wrote them: code is made of them without asking.

`infer` finds the shapes of sound operators; here is refused what has a shape and makes no sense,
such as a stride of -1 or a window beside the image.
"""

from functools import singledispatch
from math import isfinite

from depthwise.graph import ops
from depthwise.graph.graph import Shape
from depthwise.graph.ops import Op

PARAMETERS = {  # of Activation; others have none
    "leaky_relu": 1, "elu": 1, "clamp": 2, "power": 1, "wrap": 2, "threshold": 2, "hard_shrink": 1,
}  # fmt: skip

# attributes that count or divide something, in whatever operator they are
POSITIVE = (
    "stride", "dilation", "groups", "offset_groups", "kernel", "size", "divisor", "output_size",
    "samples",
)  # fmt: skip


def check_attributes(op: Op, *inputs: Shape) -> None:
    """Raise ValueError for attributes with which op(inputs) cannot be computed."""
    for name in POSITIVE:
        value = getattr(op, name, None)
        numbers = value if isinstance(value, tuple) else (value,)
        _expect(all(n is None or n >= 1 for n in numbers), name, value, "1 or more")
    _check(op, *inputs)


@singledispatch
def _check(op: Op, *inputs: Shape) -> None:
    """Check what is this operator's own."""


def _expect(fits: bool, name: str, value: object, accepted: str) -> None:
    if not fits:
        raise ValueError(f"{name}={value}: {accepted}")


def _expect_rank(x: Shape, rank: int) -> None:
    _expect(len(x) == rank, "the input's shape", x, f"{rank} axes")


def _expect_planes(x: Shape) -> None:
    _expect(len(x) >= 2, "the input's shape", x, "(..., H, W)")


@_check.register
def _(op: ops.Conv2d, x, *_):
    _expect_rank(x, 4)
    _expect(min(op.padding) >= 0, "padding", op.padding, "0 or more pixels")


@_check.register
def _(op: ops.DeformConv2d, x, weight, *_):
    _expect_rank(x, 4)
    _expect(min(op.padding) >= 0, "padding", op.padding, "0 or more pixels")
    _expect(weight[0] % op.groups == 0, "groups", op.groups, f"a divisor of {weight[0]} outputs")
    fits = x[1] % op.offset_groups == 0
    _expect(fits, "offset_groups", op.offset_groups, f"a divisor of {x[1]} channels")


@_check.register
def _(op: ops.DeformRoIPool, x, *_):
    _expect_rank(x, 4)


@_check.register
def _(op: ops.ConvTranspose2d, x, *_):
    _expect_rank(x, 4)
    before = op.padding.top, op.padding.left
    _expect(min(before) >= 0, "padding", op.padding, "0 or more pixels at the top and left")


@_check.register
def _(op: ops.MaxPool2d | ops.MaxPoolIndices | ops.AvgPool2d, x):
    """Refuse windows that lie in the padding alone."""
    _expect_planes(x)
    dilation = (1, 1) if isinstance(op, ops.AvgPool2d) else op.dilation
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, op.kernel, strict=True)]
    top, bottom, left, right = op.padding
    fits = min(op.padding) >= 0 and max(top, bottom) < reach[0] and max(left, right) < reach[1]
    _expect(fits, "padding", op.padding, "0 or more pixels on a side, and fewer than the window")


@_check.register
def _(op: ops.AdaptivePool2d | ops.MaxUnpool2d, x, *_):
    _expect_planes(x)


@_check.register
def _(op: ops.LocalResponseNorm, x):
    _expect_rank(x, 4)


@_check.register
def _(op: ops.Resize, x):
    _expect_rank(x, 4)
    fits = all(isfinite(step) and step >= 0 for step in op.step)
    _expect(fits, "step", op.step, "finite, and 0 or more")


@_check.register
def _(op: ops.Resample, x, *_):
    _expect(0 <= op.axis < len(x), "axis", op.axis, f"an axis of {x}")
    fits = len(op.counts) == len(op.first) > 0 and min(op.counts) >= 1
    _expect(fits, "counts", op.counts, f"1 or more, for each of {len(op.first)} places")


@_check.register
def _(op: ops.Recurrent, x, *_):
    _expect_rank(x, 3)


@_check.register
def _(op: ops.BatchNorm | ops.GroupNorm | ops.PRelu, x, *_):
    _expect(len(x) >= 2, "the input's shape", x, "(N, C, ...)")


@_check.register
def _(op: ops.LayerNorm, x, *_):
    _expect(1 <= op.axes <= len(x), "axes", op.axes, f"1 to {len(x)}")


@_check.register
def _(op: ops.Linear, x, *_):
    _expect(len(x) >= 1, "the input's shape", x, "(..., C)")


@_check.register
def _(op: ops.Reduce, x):
    fits = all(0 <= axis < len(x) for axis in op.axes) and len(set(op.axes)) == len(op.axes)
    _expect(fits, "axes", op.axes, f"axes of {x}, each once")


@_check.register
def _(
    op: ops.Softmax | ops.Concat | ops.Gather | ops.ArgReduce | ops.Cumulate | ops.TakeAlong, x, *_
):
    _expect(0 <= op.axis < len(x), "axis", op.axis, f"an axis of {x}")


@_check.register
def _(op: ops.TopK, x):
    _expect(0 <= op.axis < len(x), "axis", op.axis, f"an axis of {x}")
    _expect(1 <= op.count <= x[op.axis], "count", op.count, f"1 to {x[op.axis]}")


@_check.register
def _(op: ops.Quantize | ops.Dequantize, x, *_):
    fits = op.axis is None or 0 <= op.axis < len(x)
    _expect(fits, "axis", op.axis, f"None or an axis of {x}")


@_check.register
def _(op: ops.Slice, x):
    _expect(0 <= op.axis < len(x), "axis", op.axis, f"an axis of {x}")
    _expect(op.step >= 1, "step", op.step, "1 or more")


@_check.register
def _(op: ops.Pad, x):
    _expect(len(op.pads) == len(x), "pads", op.pads, f"a pair for each axis of {x}")
    for size, pair in zip(x, op.pads, strict=True):
        left = size + sum(min(0, pad) for pad in pair)  # after what is cut
        most = {"reflect": left - 1, "circular": left}.get(op.mode, max(*pair, 0))
        least = 0 if op.mode == "constant" else 1  # all of it may be cut, and constants be left
        fits = left >= least and max(pair) <= most
        _expect(fits, "pads", op.pads, f"{op.mode} pads that fit {x}")


@_check.register
def _(op: ops.Activation, x):
    count = PARAMETERS.get(op.function, 0)
    fits = len(op.parameters) == count
    _expect(fits, "parameters", op.parameters, f"{count} for {op.function}")


@_check.register
def _(op: ops.Reshape | ops.Expand, x):
    _expect(min(op.shape, default=1) >= 1, "shape", op.shape, "1 or more elements on each axis")


@_check.register
def _(op: ops.Quantize | ops.Dequantize, x, *_):
    _expect(op.axis is None or 0 <= op.axis < len(x), "axis", op.axis, f"None or an axis of {x}")
