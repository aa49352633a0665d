"""What the graph means, in NumPy: slow, plain, and the judge of everything faster."""

from dataclasses import replace
from functools import singledispatch
from math import ceil, erf, floor, prod, sqrt

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from depthwise.errors import Unsupported
from depthwise.graph import ops
from depthwise.graph.graph import Graph, TensorType
from depthwise.graph.infer import pooled
from depthwise.graph.interpret_functions import FUNCTIONS as MORE
from depthwise.graph.ops import Op, Padding, Pair

Array = np.ndarray


def interpret(graph: Graph, *inputs: Array) -> dict[str, Array]:
    """Return every value of the graph by name, for inputs in the order of graph.inputs.

    Each is in its own type, as `DType.numpy` says: bfloat16 numbers come in float32.
    Raises ValueError for inputs that do not fit, Unsupported where constants have no data.
    """
    values: dict[str, Array] = {}
    for (name, type_), x in zip(graph.inputs.items(), inputs, strict=True):
        values[name] = _given(name, type_, x)
    for name, constant in graph.constants.items():
        if constant.numbers is None:
            raise Unsupported(f"{name} has no data: the network was captured on the meta device")
        values[name] = constant.numbers
    for node in graph:
        values[node.name] = compute(node.op, node.type, *(values[name] for name in node.inputs))
    return values


def _given(name: str, type_: TensorType, x: Array) -> Array:
    """Return an input in the graph's type. Raises ValueError for one of another shape or type."""
    if x.shape != type_.shape:
        raise ValueError(f"input {name} has shape {x.shape}: the graph takes {type_.shape}")
    if x.dtype != type_.element.numpy:
        taken = type_.dtype + (
            "" if type_.dtype == str(type_.element.numpy) else f", held in {type_.element.numpy}"
        )
        raise ValueError(f"input {name} is {x.dtype}: the graph takes {taken}, convert it")
    return type_.element.round(x)


def compute(op: Op, type_: TensorType, *inputs: Array) -> Array:
    """Return op(inputs) in the type that it has.

    Of floating numbers everything inside an operator is in float32 or wider, as PyTorch's and ONNX
    Runtime's kernels do it, and the result is rounded once.
    """
    half = np.dtype(np.float16)
    y = evaluate(op, *(x.astype(np.float32) if x.dtype == half else x for x in inputs))
    found, wanted = y.dtype, type_.element.numpy
    assert found.kind == wanted.kind, f"{op} gives {found}, its type is {type_}"
    return type_.element.round(y)


@singledispatch
def evaluate(op: Op, *inputs: Array) -> Array:
    """Return op(inputs), computed in the inputs' own type or a wider one."""
    raise NotImplementedError(type(op))


@evaluate.register
def _(op: ops.Opaque, *inputs):
    raise Unsupported(f"operator {op.operator} has no meaning here")


# ----------------------------------------------------------------------- convolution and linear


def pad_plane(x: Array, padding: Padding, value: float = 0.0) -> Array:
    """Return (N, C, H, W) with pixels of `value` around each plane."""
    sides = ((0, 0), (0, 0), padding[:2], padding[2:])
    return np.pad(x, sides, constant_values=value)


def windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Array:
    """Return (N, C, H', W', R, S): the pixels under the kernel at each position; a view."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = sliding_window_view(x, reach, (2, 3))  # type: ignore[call-overload]
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def convolve_columns(columns: Array, weight: Array, groups: int) -> Array:
    """Return (N, K, H', W') from columns (N, C, H', W', R, S), group by group."""
    n, c, height, width = columns.shape[:4]
    taps = c // groups * weight.shape[2] * weight.shape[3]
    by_pixel = columns.reshape(n, groups, c // groups, height, width, *weight.shape[2:])
    by_pixel = by_pixel.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, n * height * width, taps)
    kernels = weight.reshape(groups, weight.shape[0] // groups, taps)
    y = by_pixel @ kernels.transpose(0, 2, 1)  # groups, pixels, K / groups
    y = y.reshape(groups, n, height, width, -1).transpose(1, 0, 4, 2, 3)
    return np.ascontiguousarray(y.reshape(n, -1, height, width))


def add_bias(y: Array, bias: Array | None) -> Array:
    """Return y with one number added to each channel."""
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


@evaluate.register
def _(op: ops.Conv2d, x, weight, bias=None):
    columns = windows(pad_plane(x, op.padding), weight.shape[2:], op.stride, op.dilation)
    return add_bias(convolve_columns(columns, weight, op.groups), bias)


@evaluate.register
def _(op: ops.ConvTranspose2d, x, weight, bias=None):
    """Put each input pixel's stamp where the convolution would have read it from."""
    n, c, height, width = x.shape
    (stride_y, stride_x), (dil_y, dil_x) = op.stride, op.dilation
    groups, (_, per_group, R, S) = op.groups, weight.shape
    pixels = x.reshape(n, groups, c // groups, height, width)
    kernels = weight.reshape(groups, c // groups, per_group, R, S)
    pad = op.padding
    full_h = (height - 1) * stride_y + dil_y * (R - 1) + 1 + max(0, -pad.bottom)
    full_w = (width - 1) * stride_x + dil_x * (S - 1) + 1 + max(0, -pad.right)
    y = np.zeros((n, groups, per_group, full_h, full_w), x.dtype)
    for r in range(R):
        for s in range(S):
            stamp = np.einsum("ngcyx,gck->ngkyx", pixels, kernels[..., r, s], optimize=True)
            rows = slice(r * dil_y, r * dil_y + (height - 1) * stride_y + 1, stride_y)
            columns = slice(s * dil_x, s * dil_x + (width - 1) * stride_x + 1, stride_x)
            y[..., rows, columns] += stamp
    y = y.reshape(n, -1, full_h, full_w)
    y = y[:, :, pad.top : full_h - max(0, pad.bottom), pad.left : full_w - max(0, pad.right)]
    return add_bias(y, bias)


@evaluate.register
def _(op: ops.Linear, x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


@evaluate.register
def _(op: ops.MatMul, a, b):
    return a @ b


# -------------------------------------------------------------------------------- normalisation


def by_channel(parameter: Array, rank: int) -> Array:
    """Return (C) so that it broadcasts over (N, C, ...)."""
    return parameter.reshape(1, -1, *(1,) * (rank - 2))


def standardize(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """Return x with zero mean and unit variance over the axes."""
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)


@evaluate.register
def _(op: ops.BatchNorm, x, weight, bias, mean, variance):
    scale = weight / np.sqrt(variance + op.eps)
    return (x - by_channel(mean, x.ndim)) * by_channel(scale, x.ndim) + by_channel(bias, x.ndim)


@evaluate.register
def _(op: ops.GroupNorm, x, weight=None, bias=None):
    grouped = x.reshape(x.shape[0], op.groups, -1)
    y = standardize(grouped, (2,), op.eps).reshape(x.shape)
    if weight is not None:
        y = y * by_channel(weight, x.ndim)
    return y if bias is None else y + by_channel(bias, x.ndim)


@evaluate.register
def _(op: ops.LayerNorm, x, weight=None, bias=None):
    y = standardize(x, tuple(range(x.ndim - op.axes, x.ndim)), op.eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@evaluate.register
def _(op: ops.LocalResponseNorm, x):
    below, above = op.size // 2, (op.size - 1) // 2
    squares = np.pad(x**2, ((0, 0), (below, above), (0, 0), (0, 0)))
    total = sum(squares[:, i : i + x.shape[1]] for i in range(op.size))
    return x / (op.bias + op.alpha / op.size * total) ** op.power


# -------------------------------------------------------------------------------------- pooling


def pool_windows(
    x: Array, op: ops.MaxPool2d | ops.MaxPoolIndices | ops.AvgPool2d, outside: float
) -> Array:
    """Return (N, C, H', W', R, S) with pixels of value `outside` wherever a window hangs over."""
    dilation = (1, 1) if isinstance(op, ops.AvgPool2d) else op.dilation
    reach = tuple(d * (k - 1) + 1 for k, d in zip(op.kernel, dilation, strict=True))
    size = pooled(x.shape[2:], (reach[0], reach[1]), op.stride, op.padding, op.ceil)
    needed = [(n - 1) * s + k for n, s, k in zip(size, op.stride, reach, strict=True)]
    pad = op.padding
    bottom = max(pad.bottom, needed[0] - x.shape[2] - pad.top)
    right = max(pad.right, needed[1] - x.shape[3] - pad.left)
    padded = pad_plane(x, Padding(pad.top, bottom, pad.left, right), outside)
    view = windows(padded, op.kernel, op.stride, dilation)
    return view[:, :, : size[0], : size[1]]


@evaluate.register
def _(op: ops.MaxPool2d, x):
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    return pool_windows(x, op, lowest).max((4, 5))


@evaluate.register
def _(op: ops.AvgPool2d, x):
    total = pool_windows(x, op, 0.0).sum((4, 5))
    return total / pixels_counted(op, x.shape[2:]).astype(x.dtype)


def pixels_counted(op: ops.AvgPool2d, planes: Pair) -> Array:
    """Return by how many each total is divided: a number, or (1, 1, H', W') for (H, W)."""
    if op.divisor is not None:
        return np.array(op.divisor)
    counted = np.ones((1, 1, *planes), np.float32)
    windows_of = op
    if op.count_padding:  # the given padding counts, what ceil mode adds after it does not
        counted = pad_plane(counted, op.padding, 1.0)
        windows_of = replace(op, padding=ops.NO_PADDING, count_padding=False)
    # without its padding the last window may start where the padded plane has one more
    height, width = pooled(planes, op.kernel, op.stride, op.padding, op.ceil)
    return pool_windows(counted, windows_of, 0.0)[:, :, :height, :width].sum((4, 5))


def adaptive_bins(length: int, count: int) -> list[slice]:
    """Return what each of `count` bins covers of an axis."""
    return [slice(floor(i * length / count), ceil((i + 1) * length / count)) for i in range(count)]


@evaluate.register
def _(op: ops.AdaptivePool2d, x):
    reduce = np.mean if op.function == "mean" else np.max
    bins = [adaptive_bins(n, m) for n, m in zip(x.shape[-2:], op.size, strict=True)]
    rows = [[reduce(x[..., y, z], axis=(-2, -1)) for z in bins[1]] for y in bins[0]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


# --------------------------------------------------------------- reduction, element by element

REDUCE = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min, "product": np.prod}


@evaluate.register
def _(op: ops.Reduce, x):
    return REDUCE[op.function](x, axis=op.axes, keepdims=op.keep)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) without overflow, to the last digits where it is near zero."""
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def wrap(x: Array, lowest: float, count: float) -> Array:
    """Return x without its fraction, as one of `count` whole numbers from `lowest` on."""
    whole = np.trunc(x)
    above = whole - count * np.floor(whole / count)  # 0 to count - 1, exact where count is 2^n
    return np.where(above >= lowest + count, above - count, above)


FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, x * slope),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(erf)(x / sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "tanh": np.tanh,
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "clamp": np.clip,
    "softplus": lambda x: np.logaddexp(x, 0),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "power": np.power,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "abs": np.abs,
    "negative": np.negative,
    "reciprocal_sqrt": lambda x: 1 / np.sqrt(x),
    "erf": np.vectorize(erf, otypes=[float]),
    "trunc": np.trunc,
    "wrap": wrap,
    **MORE,
}


@evaluate.register
def _(op: ops.Activation, x):
    if x.dtype.kind not in "iu":
        return FUNCTIONS[op.function](x, *op.parameters)
    limits = np.iinfo(x.dtype)
    whole = (int(np.clip(number, limits.min, limits.max)) for number in op.parameters)
    return FUNCTIONS[op.function](x, *whole)


@evaluate.register
def _(op: ops.PRelu, x, slope):
    return np.where(x > 0, x, x * by_channel(slope, x.ndim))


@evaluate.register
def _(op: ops.Binary, a, b):
    if op.function == "divide" and a.dtype.kind in "iu":
        return divide_integers(a, b)
    return getattr(np, op.function)(a, b)


def divide_integers(a: Array, b: Array) -> Array:
    """Return quotients cut off towards zero, as C and ONNX have it."""
    down = a // b
    return down + ((down < 0) & (down * b != a)).astype(down.dtype)


@evaluate.register
def _(op: ops.Softmax, x):
    powers = np.exp(x - x.max(op.axis, keepdims=True))
    return powers / powers.sum(op.axis, keepdims=True)


# -------------------------------------------------------------------------------- moving about


@evaluate.register
def _(op: ops.Concat, *inputs):
    return np.concatenate(inputs, op.axis)


@evaluate.register
def _(op: ops.Slice, x):
    return x[(slice(None),) * op.axis + (slice(op.start, op.stop, op.step),)]


@evaluate.register
def _(op: ops.Gather, x, indices):
    size = x.shape[op.axis]
    there = (indices > -1 - size) & (indices < size)
    y = np.take(x, np.where(there, indices, 0).astype(np.int64), op.axis)
    if y.dtype.kind == "f":
        y[(slice(None),) * op.axis + (~there,)] = np.nan
    return y


@evaluate.register
def _(op: ops.Pad, x):
    cuts = tuple(
        slice(max(0, -before), n - max(0, -after))
        for n, (before, after) in zip(x.shape, op.pads, strict=True)
    )
    grown = [(max(0, before), max(0, after)) for before, after in op.pads]
    if op.mode == "constant":
        return np.pad(x[cuts], grown, constant_values=op.value)
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[op.mode]
    return np.pad(x[cuts], grown, mode=mode)  # type: ignore[call-overload]


@evaluate.register
def _(op: ops.Reshape, x):
    assert prod(op.shape) == x.size
    return x.reshape(op.shape)


@evaluate.register
def _(op: ops.Permute, x):
    return x.transpose(op.axes)


@evaluate.register
def _(op: ops.Expand, x):
    return np.broadcast_to(x, op.shape)
