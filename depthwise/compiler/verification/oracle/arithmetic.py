"""Functions of elements, as kernels/activation.h and others define them, and kernels of them."""

import math

import numpy as np

from depthwise.compiler.fused_ops import FUNCTIONS_OF_TWO, Epilogue
from depthwise.compiler.verification.oracle import pytorch
from depthwise.compiler.verification.oracle.meanings import CallArguments, means
from depthwise.compiler.verification.oracle.memory import Array
from depthwise.graph.interpret_functions import FUNCTIONS as MORE
from depthwise.graph.ops import Activation


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def clamp(x: Array, low: float, high: float) -> Array:
    """Return x held between two numbers; NaN stays."""
    return np.where(x < low, np.float32(low), np.where(x > high, np.float32(high), x))


def erf(x: Array) -> Array:
    """Return the error function, which NumPy does not have."""
    found = pytorch.erf(x)
    return np.vectorize(math.erf, otypes=[x.dtype])(x) if found is None else found


def mish(x: Array) -> Array:
    """Return x tanh(log(1 + e^x))."""
    e = np.exp(clamp(x, -np.inf, 20))
    n = e * (e + 2)
    return x * (n / (n + 2))


def wrap(x: Array, lowest: float, count: float) -> Array:
    """Return x without its fraction, less the multiple of `count` that brings it into range."""
    first, many = np.float32(lowest), np.float32(count)
    whole = np.trunc(x)
    within = whole - many * np.floor(whole / many)
    return np.where(within < first + many, within, within - many)


FUNCTIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.where(x < 0, np.float32(0), x),
    "relu6": lambda x: clamp(x, 0, 6),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, x * np.float32(slope)),
    "hard_swish": lambda x: x * clamp(x + 3, 0, 6) / 6,
    "hard_sigmoid": lambda x: clamp(x + 3, 0, 6) / 6,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x * np.float32(0.5**0.5))),
    "gelu_tanh": lambda x: x * sigmoid(x * (1.59576912 + 0.07135482 * x * x)),
    "tanh": np.tanh,
    "elu": lambda x, alpha: np.where(x > 0, x, np.float32(alpha) * np.expm1(x)),
    "clamp": clamp,
    "softplus": lambda x: np.where(x < 0, np.float32(0), x) + np.log1p(np.exp(-np.abs(x))),
    "mish": mish,
    "power": lambda x, exponent: x ** np.float32(exponent),
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "abs": np.abs,
    "negative": np.negative,
    "reciprocal_sqrt": lambda x: 1 / np.sqrt(x),
    "erf": erf,
    "trunc": np.trunc,
    "wrap": wrap,
    **MORE,
}


def act(activation: Activation | None, x: Array) -> Array:
    """Return a function of each element."""
    if activation is None:
        return x
    return FUNCTIONS[activation.function](x, *activation.parameters)


def finish(epilogue: Epilogue, x: Array, residual: Array | None) -> Array:
    """Return after(before(x) + residual)."""
    y = act(epilogue.before, x)
    return act(epilogue.after, y if residual is None else y + residual)


def prelu(x: Array, slope: Array) -> Array:
    """Return x where it is positive, else x times a slope."""
    return np.where(x > 0, x, x * slope)


BINARY = (
    np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, prelu, np.equal,
    np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
)  # fmt: skip


@means("f32_unary")
@means("f32_function")
def unary(a: CallArguments) -> None:
    """Write y = f(x)."""
    shape = (*a.n, a.count)
    x = a.x.read(shape, (*a.x_stride, 1), in_place=True)
    a.y.write(shape, (*a.y_stride, 1))[...] = act(a.activation, x)


@means("f32_binary")
def binary(a: CallArguments) -> None:
    """Write y = epilogue(function(left, right), sum), over six axes."""
    shape = a.n
    left, right = (
        p.read(shape, strides, in_place=True)
        for p, strides in ((a.left, a.left_stride), (a.right, a.right_stride))
    )
    residual = a.sum.read(shape, a.sum_stride, in_place=True) if a.epilogue.add else None
    result = BINARY[a.function](left, right).astype(np.float32, copy=False)
    result = finish(a.epilogue, result, residual)
    a.y.write(shape, a.y_stride)[...] = result


@means("f32_binary_function")
def binary_function(a: CallArguments) -> None:
    """Write y = function(left, right), over six axes."""
    left, right = (
        p.read(a.n, strides, in_place=True)
        for p, strides in ((a.left, a.left_stride), (a.right, a.right_stride))
    )
    function = getattr(np, FUNCTIONS_OF_TWO[a.function])
    a.y.write(a.n, a.y_stride)[...] = function(left, right)


@means("f32_select")
def select(a: CallArguments) -> None:
    """Write y = yes where the condition is not 0, else no, over six axes."""
    condition, yes, no = (
        p.read(a.n, strides, in_place=True)
        for p, strides in (
            (a.condition, a.condition_stride), (a.yes, a.yes_stride), (a.no, a.no_stride)
        )
    )  # fmt: skip
    a.y.write(a.n, a.y_stride)[...] = np.where(condition != 0, yes, no)


@means("f32_batch_norm")
def batch_norm(a: CallArguments) -> None:
    """Write y = f(x * scale + shift)."""
    shape, along = a.n, a.p_stride
    x = a.x.read(shape, a.x_stride, in_place=True)
    result = act(a.activation, x * a.scale.read(shape, along) + a.shift.read(shape, along))
    a.y.write(shape, a.y_stride)[...] = result


@means("f32_normalize")
def normalize(a: CallArguments) -> None:
    """Zero mean and unit variance over the axes m, for each place along n."""
    shape = (*a.n, *a.m)
    inside = (3, 4, 5, 6)
    along = (*a.p_stride, *a.p_inner)
    x = a.x.read(shape, (*a.x_stride, *a.x_inner))
    moved = x - x.mean(inside, keepdims=True)
    variance = np.square(moved).mean(inside, keepdims=True)
    scaled = moved / np.sqrt(variance + np.float32(a.eps))
    result = scaled * a.weight.read(shape, along) + a.bias.read(shape, along)
    a.y.write(shape, (*a.y_stride, *a.y_inner))[...] = act(a.activation, result)


REDUCE = (np.mean, np.sum, np.max, np.min, np.prod)


@means("f32_reduce")
def reduce(a: CallArguments) -> None:
    """A function of all elements along the axes m."""
    kept, inside = a.n, a.m
    x = a.x.read((*kept, *inside), (*a.x_stride, *a.x_inner))
    a.y.write(kept, a.y_stride)[...] = REDUCE[a.function](x, axis=(3, 4, 5, 6))


@means("f32_softmax")
def softmax(a: CallArguments) -> None:
    """E to the x over the sum of all e^x along an axis."""
    shape = (*a.n, a.count)
    x = a.x.read(shape, (*a.x_stride, a.x_step), in_place=True)
    powers = np.exp(x - x.max(-1, keepdims=True))
    result = powers / powers.sum(-1, keepdims=True)
    a.y.write(shape, (*a.y_stride, a.y_step))[...] = result


@means("f32_matmul")
def matmul(a: CallArguments) -> None:
    """Products of matrices."""
    batch = a.n
    left = a.left.read((*batch, a.rows, a.inner), (*a.left_stride, a.left_row, a.left_inner))
    right = a.right.read((*batch, a.inner, a.columns), (*a.right_stride, a.right_inner, 1))
    a.y.write((*batch, a.rows, a.columns), (*a.y_stride, a.y_row, 1))[...] = left @ right
