"""Functions of one element, as kernels/activation.h defines them, and kernels made of them."""

import math

import numpy as np

from depthwise.compiler.fused_ops import Epilogue
from depthwise.compiler.verification.oracle import pytorch
from depthwise.compiler.verification.oracle.memory import Arguments, Array
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


BINARY = (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)


def unary(a: Arguments) -> None:
    """f32_unary: y = f(x)."""
    shape = (*a.numbers("n", 3), a.count)
    x = a.x.read(shape, (*a.numbers("x", 3), 1), in_place=True)
    a.y.write(shape, (*a.numbers("y", 3), 1))[...] = act(a.f, x)


def binary(a: Arguments) -> None:
    """f32_binary: y = epilogue(function(a, b), sum), over six axes."""
    shape = a.numbers("n", 6)
    left, right = (a.pointer(p).read(shape, a.numbers(p, 6), in_place=True) for p in "ab")
    residual = a.sum.read(shape, a.numbers("sum", 6), in_place=True) if a.e.add else None
    known = a.function < len(BINARY)
    result = BINARY[a.function](left, right) if known else np.where(left > 0, left, left * right)
    result = finish(a.e, result, residual)
    a.y.write(shape, a.numbers("y", 6))[...] = result


def batch_norm(a: Arguments) -> None:
    """f32_batch_norm: y = f(x * scale + shift)."""
    shape, along = a.numbers("n", 4), a.numbers("p", 4)
    x = a.x.read(shape, a.numbers("x", 4), in_place=True)
    result = act(a.f, x * a.scale.read(shape, along) + a.shift.read(shape, along))
    a.y.write(shape, a.numbers("y", 4))[...] = result


def normalize(a: Arguments) -> None:
    """f32_normalize: zero mean and unit variance over the axes m, for each place along n."""
    shape = (*a.numbers("n", 3), *a.numbers("m", 4))
    inside = (3, 4, 5, 6)
    along = (*a.numbers("p", 3), *a.numbers("q", 4))
    x = a.x.read(shape, (*a.numbers("x", 3), *a.numbers("r", 4)))
    moved = x - x.mean(inside, keepdims=True)
    variance = np.square(moved).mean(inside, keepdims=True)
    scaled = moved / np.sqrt(variance + np.float32(a.eps))
    result = scaled * a.weight.read(shape, along) + a.bias.read(shape, along)
    a.y.write(shape, (*a.numbers("y", 3), *a.numbers("s", 4)))[...] = act(a.f, result)


REDUCE = (np.mean, np.sum, np.max, np.min)


def reduce(a: Arguments) -> None:
    """f32_reduce: a function of all elements along the axes m."""
    kept, inside = a.numbers("n", 3), a.numbers("m", 4)
    x = a.x.read((*kept, *inside), (*a.numbers("x", 3), *a.numbers("r", 4)))
    a.y.write(kept, a.numbers("y", 3))[...] = REDUCE[a.function](x, axis=(3, 4, 5, 6))


def softmax(a: Arguments) -> None:
    """f32_softmax: e^x over the sum of all e^x along an axis."""
    shape = (*a.numbers("n", 3), a.count)
    x = a.x.read(shape, (*a.numbers("x", 3), a.x_step), in_place=True)
    powers = np.exp(x - x.max(-1, keepdims=True))
    result = powers / powers.sum(-1, keepdims=True)
    a.y.write(shape, (*a.numbers("y", 3), a.y_step))[...] = result


def matmul(a: Arguments) -> None:
    """f32_matmul: products of matrices."""
    batch = a.numbers("n", 3)
    left = a.a.read((*batch, a.rows, a.inner), (*a.numbers("a", 3), a.a_row, a.a_inner))
    right = a.b.read((*batch, a.inner, a.columns), (*a.numbers("b", 3), a.b_inner, 1))
    a.y.write((*batch, a.rows, a.columns), (*a.numbers("y", 3), a.y_row, 1))[...] = left @ right
