"""The output type of each operator, from its attributes and the types it reads."""

from collections.abc import Sequence
from functools import singledispatch
from math import ceil, prod

import numpy as np

from depthwise.graph import ops
from depthwise.graph.dtypes import find_dtype
from depthwise.graph.graph import Shape, TensorType
from depthwise.graph.ops import Op, Padding, Pair


def infer(op: Op, *inputs: TensorType) -> TensorType:
    """Return the type of op(inputs). Raises ValueError where the inputs do not fit op."""
    shape = infer_shape(op, *(type.shape for type in inputs))
    return TensorType(shape, infer_dtype(op, *(type.dtype for type in inputs)))


def _expect(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)


# --------------------------------------------------------------------------------------- shapes


@singledispatch
def infer_shape(op: Op, *inputs: Shape) -> Shape:
    """Return the shape of op(inputs). Raises ValueError where the inputs do not fit op."""
    raise NotImplementedError(type(op))


def pooled(size: Pair, kernel: Pair, stride: Pair, padding: Padding, ceil_mode: bool) -> Pair:
    """Return the output size of a pooling (H, W), by PyTorch's rules.

    With `ceil_mode` a last window may hang over the end, but must start inside the input or its
    left padding.
    """
    result = []
    sides = ((padding.top, padding.bottom), (padding.left, padding.right))
    for length, k, s, (before, after) in zip(size, kernel, stride, sides, strict=True):
        span = length + before + after - k
        count = (ceil(span / s) if ceil_mode else span // s) + 1
        if ceil_mode and (count - 1) * s >= length + before:
            count -= 1
        result.append(count)
    return result[0], result[1]


def convolved(size: Pair, weight: Shape, op: ops.Conv2d | ops.DeformConv2d) -> Pair:
    """Return the output size (H, W) of a convolution whose weight ends in (R, S)."""
    reach = tuple(d * (k - 1) + 1 for d, k in zip(op.dilation, weight[2:], strict=True))
    return pooled(size, (reach[0], reach[1]), op.stride, op.padding, ceil_mode=False)


@infer_shape.register
def _(op: ops.Conv2d, x, weight, bias=None):
    _expect(
        len(x) == 4 and len(weight) == 4 and x[1] == weight[1] * op.groups,
        f"convolution with groups={op.groups}: input {x} does not fit weight {weight}",
    )
    _expect(weight[0] % op.groups == 0, f"groups={op.groups} does not divide {weight[0]} outputs")
    _expect(bias in (None, (weight[0],)), f"bias {bias} does not fit weight {weight}")
    return (x[0], weight[0], *convolved(x[2:], weight, op))


@infer_shape.register
def _(op: ops.ConvTranspose2d, x, weight, bias=None):
    _expect(
        len(x) == 4 and x[1] == weight[0] and x[1] % op.groups == 0,
        f"transposed convolution with groups={op.groups}: input {x} does not fit weight {weight}",
    )
    channels = weight[1] * op.groups
    _expect(bias in (None, (channels,)), f"bias {bias} does not fit weight {weight}")
    pad = op.padding
    sizes = (
        (length - 1) * s + d * (k - 1) + 1 - cut
        for length, s, d, k, cut in zip(
            x[2:], op.stride, op.dilation, weight[2:],
            (pad.top + pad.bottom, pad.left + pad.right), strict=True,
        )
    )  # fmt: skip
    return (x[0], channels, *sizes)


@infer_shape.register
def _(op: ops.DeformConv2d, x, weight, bias, offsets, mask=None):
    _expect(bias == (weight[0],), f"bias {bias} does not fit weight {weight}")
    _expect(x[1] == weight[1] * op.groups, f"input {x} does not fit weight {weight}")
    size = convolved(x[2:], weight, op)
    taps = op.offset_groups * weight[2] * weight[3]
    _expect(offsets == (x[0], 2 * taps, *size), f"offsets {offsets}: need {2 * taps} channels")
    _expect(mask in (None, (x[0], taps, *size)), f"mask {mask}: need {taps} channels")
    return (x[0], weight[0], *size)


@infer_shape.register
def _(op: ops.DeformRoIPool, x, boxes, offsets):
    bins = (op.output_size, op.output_size)
    _expect(len(boxes) == 2 and boxes[1] == 5, f"boxes {boxes}: need (R, 5)")
    _expect(offsets == (boxes[0], 2, *bins), f"offsets {offsets}: need (R, 2, P, P)")
    return (boxes[0], x[1], *bins)


@infer_shape.register
def _(op: ops.Linear, x, weight, bias=None):
    _expect(x[-1] == weight[1], f"input {x} does not fit weight {weight}")
    _expect(bias in (None, (weight[0],)), f"bias {bias} does not fit weight {weight}")
    return (*x[:-1], weight[0])


@infer_shape.register
def _(op: ops.MatMul, a, b):
    _expect(len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], f"{a} does not multiply {b}")
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


@infer_shape.register
def _(op: ops.BatchNorm, x, *statistics):
    _expect(
        len(statistics) == 4, f"{len(statistics)} statistics: need weight, bias, mean, variance"
    )
    _expect(all(s == (x[1],) for s in statistics), f"input {x} does not fit {statistics}")
    return x


@infer_shape.register
def _(op: ops.GroupNorm, x, weight=None, bias=None):
    _expect(x[1] % op.groups == 0, f"groups={op.groups} does not divide {x[1]} channels")
    _expect({weight, bias} <= {None, (x[1],)}, f"input {x} does not fit weight {weight}")
    return x


@infer_shape.register
def _(op: ops.LayerNorm, x, weight=None, bias=None):
    _expect({weight, bias} <= {None, x[-op.axes :]}, f"input {x} does not fit weight {weight}")
    return x


@infer_shape.register
def _(op: ops.MaxPool2d | ops.MaxPoolIndices, x):
    reach = tuple(d * (k - 1) + 1 for d, k in zip(op.dilation, op.kernel, strict=True))
    return (*x[:-2], *pooled(x[-2:], (reach[0], reach[1]), op.stride, op.padding, op.ceil))


@infer_shape.register
def _(op: ops.AvgPool2d, x):
    return (*x[:-2], *pooled(x[-2:], op.kernel, op.stride, op.padding, op.ceil))


@infer_shape.register
def _(op: ops.AdaptivePool2d | ops.Resize, x):
    return (*x[:-2], *op.size)


@infer_shape.register
def _(op: ops.Reduce, x):
    return tuple(
        1 if axis in op.axes else size
        for axis, size in enumerate(x)
        if op.keep or axis not in op.axes
    )


@infer_shape.register
def _(op: ops.Activation | ops.Softmax | ops.Cast | ops.Cumulate, x):
    return x


@infer_shape.register
def _(op: ops.PRelu, x, slope):
    _expect(slope in ((1,), (x[1],)), f"slope {slope} does not fit input {x}")
    return x


@infer_shape.register
def _(op: ops.Binary | ops.Compare, a, b):
    return np.broadcast_shapes(a, b)


@infer_shape.register
def _(op: ops.Where, condition, a, b):
    return np.broadcast_shapes(condition, a, b)


@infer_shape.register
def _(op: ops.Concat, *inputs):
    others = {(*x[: op.axis], *x[op.axis + 1 :]) for x in inputs}
    _expect(len(others) == 1, f"inputs {inputs} differ beside axis {op.axis}")
    first = inputs[0]
    total = sum(x[op.axis] for x in inputs)
    return (*first[: op.axis], total, *first[op.axis + 1 :])


@infer_shape.register
def _(op: ops.Slice, x):
    length = len(range(op.start, op.stop, op.step))
    _expect(op.start >= 0 and op.stop <= x[op.axis], f"{op} is outside of {x}")
    return (*x[: op.axis], length, *x[op.axis + 1 :])


@infer_shape.register
def _(op: ops.Gather, x, indices):
    _expect(len(indices) == 1, f"indices {indices}: need (K)")
    return (*x[: op.axis], *indices, *x[op.axis + 1 :])


@infer_shape.register
def _(op: ops.Pad, x):
    _expect(len(op.pads) == len(x), f"{len(op.pads)} pads for {len(x)} axes")
    return tuple(size + before + after for size, (before, after) in zip(x, op.pads, strict=True))


@infer_shape.register
def _(op: ops.Reshape, x):
    _expect(prod(op.shape) == prod(x), f"{x} has other elements than {op.shape}")
    return op.shape


@infer_shape.register
def _(op: ops.Permute, x):
    _expect(sorted(op.axes) == list(range(len(x))), f"axes {op.axes} do not permute {x}")
    return tuple(x[axis] for axis in op.axes)


@infer_shape.register
def _(op: ops.Expand, x):
    _expect(np.broadcast_shapes(x, op.shape) == op.shape, f"{x} does not expand to {op.shape}")
    return op.shape


@infer_shape.register
def _(op: ops.LocalResponseNorm, x):
    _expect(len(x) == 4, f"input {x}: need (N, C, H, W)")
    return x


@infer_shape.register
def _(op: ops.Quantize | ops.Dequantize, x, scale, zero_point=None):
    allowed = ((), (1,)) if op.axis is None else ((x[op.axis],),)
    _expect(scale in allowed, f"scale {scale} does not fit input {x} with axis={op.axis}")
    fits = zero_point in (None, *allowed)
    _expect(fits, f"zero point {zero_point} does not fit input {x} with axis={op.axis}")
    return x


# --------------------------------------------------------------------------------- element types

# what an operator accepts, as NumPy's kinds: b(ool), i and u (integers), f(loating), c(omplex)
ANY, NUMBERS, REAL, FLOATING, BOOL = "biufc", "iufc", "iuf", "f", "b"
KINDS = {"b": "bool", "i": "integers", "u": "integers", "f": "floating", "c": "complex"}
FUNCTIONS_OF_TWO = {
    "power": FLOATING, "arctan2": FLOATING, "hypot": FLOATING, "remainder": REAL, "fmod": REAL,
    "floor_divide": REAL,
}  # fmt: skip
ON_INTEGERS = ("relu", "relu6", "clamp", "abs", "negative", "power", "sign")


@singledispatch
def infer_dtype(op: Op, *inputs: str) -> str:
    """Return the element type of op(inputs): by default that of all inputs.

    Raises ValueError for types that have no meaning there.
    """
    return _common(op, inputs)


def _common(op: Op, inputs: Sequence[str]) -> str:
    """Return the one type that all inputs have."""
    first = _accept(op, inputs[0], accepted_kinds(op))
    other = next((dtype for dtype in inputs if dtype != first), first)
    _expect(other == first, f"{_name(op)} of {first} and {other}: convert one to the other's type")
    return first


def accepted_kinds(op: Op) -> str:
    """Return the kinds of elements that an operator has a meaning for, as NumPy's letters."""
    match op:
        case (
            ops.Concat() | ops.Slice() | ops.Pad() | ops.Reshape() | ops.Permute() | ops.Expand()
            | ops.Resize("nearest" | "nearest_exact") | ops.MaxPool2d() | ops.AdaptivePool2d("max")
            | ops.Reduce("max" | "min") | ops.Binary("maximum" | "minimum")
            | ops.Compare("equal" | "not_equal") | ops.Where() | ops.ArgReduce() | ops.TopK()
            | ops.Cumulate("max" | "min") | ops.MaxPoolIndices() | ops.MaxUnpool2d()
            | ops.TakeAlong()
        ):  # fmt: skip
            return ANY
        case ops.Binary(function) if function in FUNCTIONS_OF_TWO:
            return FUNCTIONS_OF_TWO[function]
        case (
            ops.Conv2d() | ops.ConvTranspose2d() | ops.Linear() | ops.MatMul() | ops.Binary()
            | ops.Reduce("sum" | "product") | ops.Cumulate("sum" | "product")
        ):  # fmt: skip
            return NUMBERS
        case ops.Compare():
            return BOOL + REAL
        case ops.Activation(function, parameters) if function in ON_INTEGERS:
            whole = all(number.is_integer() or np.isinf(number) for number in parameters)
            inverse = function == "power" and parameters[0] < 0
            return REAL if whole and not inverse else FLOATING
    return FLOATING


def _accept(op: Op, dtype: str, kinds: str, what: str = "") -> str:
    known = find_dtype(dtype)
    takes = " or ".join(dict.fromkeys(KINDS[kind] for kind in kinds))
    _expect(
        known.numpy.kind in kinds,
        f"{_name(op)} of {what}{dtype}: it takes {takes}, convert it",
    )
    return dtype


def _name(op: Op) -> str:
    function = getattr(op, "function", None)
    return type(op).__name__ + (f" ({function})" if function else "")


@infer_dtype.register
def _(op: ops.BatchNorm | ops.GroupNorm | ops.LayerNorm, x, *parameters):
    """Give x's type: statistics and parameters are often kept in a wider one."""
    for dtype in (x, *parameters):
        _accept(op, dtype, FLOATING)
    return x


@infer_dtype.register
def _(op: ops.Gather, x, indices):
    _accept(op, indices, REAL, "indices of ")
    return _accept(op, x, ANY)


@infer_dtype.register
def _(op: ops.Compare, a, b):
    _common(op, (a, b))
    return "bool"


@infer_dtype.register
def _(op: ops.Where, condition, a, b):
    _accept(op, condition, BOOL, "a condition of ")
    return _common(op, (a, b))


@infer_dtype.register
def _(op: ops.Cast, x):
    return find_dtype(op.dtype).name


@infer_dtype.register
def _(op: ops.Quantize, x, scale, zero_point=None):
    _accept(op, x, FLOATING)
    _expect(scale == x, f"Quantize of {x} by a scale of {scale}: convert one to the other's type")
    known = find_dtype(op.dtype)
    _expect(
        known.is_integer and known.bits <= 16,
        f"Quantize to {op.dtype}: it gives integers of 8 or 16 bits",
    )
    _expect(
        zero_point in (None, op.dtype), f"Quantize to {op.dtype} with a zero point of {zero_point}"
    )
    return op.dtype


@infer_dtype.register
def _(op: ops.Dequantize, x, scale, zero_point=None):
    _accept(op, x, "iu")
    _accept(op, op.dtype, FLOATING, "a scale of ")
    _expect(scale == op.dtype, f"Dequantize to {op.dtype} with a scale of {scale}")
    _expect(zero_point in (None, x), f"Dequantize of {x} with a zero point of {zero_point}")
    return op.dtype
