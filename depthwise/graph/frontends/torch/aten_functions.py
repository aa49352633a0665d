"""The rules of further functions of each element, and of two.

What is not one of ours is written out, in a form that is right for large and small numbers, too.
"""

from math import log, pi

import torch

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import RULES, Rule, binary, plain, rule
from depthwise.graph.frontends.torch.aten_types import compare
from depthwise.graph.functions import BinaryFunction

INFINITY = float("inf")

PLAIN: dict[str, ops.Function] = {
    "log2": "log2", "log10": "log10", "log1p": "log1p", "expm1": "expm1", "special_expm1": "expm1",
    "exp2": "exp2", "special_exp2": "exp2", "sin": "sin", "cos": "cos", "tan": "tan",
    "asin": "asin", "arcsin": "asin", "acos": "acos", "arccos": "acos", "atan": "atan",
    "arctan": "atan", "sinh": "sinh", "cosh": "cosh", "asinh": "asinh", "arcsinh": "asinh",
    "acosh": "acosh", "arccosh": "acosh", "atanh": "atanh", "arctanh": "atanh", "sinc": "sinc",
    "special_sinc": "sinc", "erfc": "erfc", "special_erfc": "erfc", "special_erf": "erf",
    "floor": "floor", "ceil": "ceil", "trunc": "trunc", "fix": "trunc", "sign": "sign",
    "sgn": "sign", "special_expit": "sigmoid", "absolute": "abs", "negative": "negative",
}  # fmt: skip

PAIRED: dict[str, BinaryFunction] = {
    "atan2": "arctan2", "arctan2": "arctan2", "hypot": "hypot", "remainder": "remainder",
    "fmod": "fmod", "floor_divide": "floor_divide",
}  # fmt: skip

RULES |= {f"aten.{name}": plain(function) for name, function in PLAIN.items()}


def unary(b: Builder, function: ops.Function, x: Value, *parameters: float) -> Value:
    """Apply one of our functions."""
    return b.emit(ops.Activation(function, tuple(map(float, parameters))), x)


def scaled(b: Builder, x: Value, factor: float) -> Value:
    """Return x times a number, x itself for 1."""
    return x if factor == 1 else binary(b, "multiply", x, factor)


def choose(b: Builder, condition: Value, yes: Value | float, no: Value | float) -> Value:
    """Return one of two, tensors or numbers, for each element."""
    values = (v if isinstance(v, Value) else b.literal(float(v), b.dtype) for v in (yes, no))
    return b.emit(ops.Where(), condition, *values)


# ---------------------------------------------------------------------------------- one operand


@rule("aten.round")
def _(b: Builder, x, decimals=0):
    if decimals == 0:
        return unary(b, "round", x)
    power = float(10 ** abs(decimals))
    there, back = ("multiply", "divide") if decimals > 0 else ("divide", "multiply")
    return binary(b, back, unary(b, "round", binary(b, there, x, power)), power)


@rule("aten.frac")
def _(b: Builder, x):
    return binary(b, "subtract", x, unary(b, "trunc", x))


@rule("aten.deg2rad")
def _(b: Builder, x):
    return binary(b, "multiply", x, pi / 180)


@rule("aten.rad2deg")
def _(b: Builder, x):
    return binary(b, "multiply", x, 180 / pi)


@rule("aten.softsign")
def _(b: Builder, x):
    return binary(b, "divide", x, binary(b, "add", unary(b, "abs", x), 1.0))


@rule("aten.hardshrink")
def _(b: Builder, x, lambd=0.5):
    return unary(b, "hard_shrink", x, lambd)


@rule("aten.softshrink")
def _(b: Builder, x, lambd=0.5):
    """Take from x what of it lies between -lambd and lambd."""
    return binary(b, "subtract", x, unary(b, "clamp", x, -lambd, lambd))


@rule("aten.threshold")
def _(b: Builder, x, threshold, value):
    return unary(b, "threshold", x, threshold, value)


@rule("aten.elu")
def _(b: Builder, x, alpha=1.0, scale=1, input_scale=1):
    """scale · (x above 0, alpha · (e^(input_scale · x) - 1) below); CELU is one of these."""
    if input_scale == 1:
        return scaled(b, unary(b, "elu", x, alpha), scale)
    below = unary(b, "expm1", scaled(b, unary(b, "clamp", x, -INFINITY, 0), input_scale))
    above = scaled(b, unary(b, "relu", x), scale)
    return binary(b, "add", above, binary(b, "multiply", below, alpha * scale))


@rule("aten.celu")
def _(b: Builder, x, alpha=1.0):
    return RULES["aten.elu"](b, x, alpha, 1, 1 / alpha)


@rule("aten.rrelu", "aten.rrelu_with_noise")
def _(b: Builder, x, *arguments, **named):
    """In evaluation the slope is the mean of its bounds. arXiv:1505.00853, section 3.4."""
    noise = isinstance(arguments[0], Value) if arguments else False
    lower, upper = (*arguments[noise:], 1 / 8, 1 / 3)[:2]
    lower, upper = named.get("lower", lower), named.get("upper", upper)
    return unary(b, "leaky_relu", x, (lower + upper) / 2)


@rule("aten.log_sigmoid", "aten.logsigmoid")
def _(b: Builder, x):
    return unary(b, "negative", unary(b, "softplus", unary(b, "negative", x)))


@rule("aten.log_sigmoid_forward")
def _(b: Builder, x):
    return [RULES["aten.log_sigmoid"](b, x), None]


@rule("aten.softplus")
def _(b: Builder, x, beta=1, threshold=20):
    """log(1 + e^(beta · x)) / beta; x above a threshold, as it is rounded from 17 on."""
    product = scaled(b, x, beta)
    y = unary(b, "softplus", product)
    y = y if beta == 1 else binary(b, "divide", y, float(beta))
    return y if threshold >= 17 else choose(b, compare(b, "greater", product, threshold), x, y)


@rule("aten.logit", "aten.special_logit")
def _(b: Builder, x, eps=None):
    x = x if eps is None else unary(b, "clamp", x, eps, 1 - eps)
    return unary(b, "log", binary(b, "divide", x, binary(b, "subtract", 1.0, x)))


@rule("aten.softmin")
def _(b: Builder, x, dim, *_unused):
    return b.emit(ops.Softmax(x.axis(dim)), unary(b, "negative", x))


@rule("aten.nan_to_num")
def _(b: Builder, x, nan=None, posinf=None, neginf=None):
    """Without bounds of one's own, infinities become the largest numbers of the type."""
    largest = torch.finfo(getattr(torch, x.type.dtype)).max
    x = choose(b, compare(b, "not_equal", x, x), nan or 0.0, x)
    if posinf is None and neginf is None:
        return unary(b, "clamp", x, -largest, largest)
    high, low = (compare(b, "equal", x, bound) for bound in (INFINITY, -INFINITY))
    x = choose(b, high, largest if posinf is None else posinf, x)
    return choose(b, low, -largest if neginf is None else neginf, x)


# ---------------------------------------------------------------------------------- two operands


ROOTS: dict[float, ops.Function] = {0.5: "sqrt", -0.5: "reciprocal_sqrt"}


@rule("aten.pow")
def _(b: Builder, x, exponent):
    """A power by a number is one function, exactly as x · x, say; others have two operands.

    PyTorch takes roots for halves, which differ from powers at -inf and -0.
    """
    if isinstance(x, Value) and not isinstance(exponent, Value):
        if exponent in ROOTS:
            return unary(b, ROOTS[exponent], x)
        return unary(b, "power", x, exponent)
    if not isinstance(x, Value) and x == 2:
        return unary(b, "exp2", exponent)
    return binary(b, "power", x, exponent)


def paired(function: BinaryFunction) -> Rule:
    """Return the rule of an operator that is one of our functions of two operands."""
    return lambda b, x, y: binary(b, function, x, y)


RULES |= {f"aten.{name}": paired(function) for name, function in PAIRED.items()}


@rule("aten.div", "aten.divide", "aten.true_divide")
def _(b: Builder, x, y, rounding_mode=None):
    if rounding_mode == "floor":
        return binary(b, "floor_divide", x, y)
    quotient = binary(b, "divide", x, y)
    return quotient if rounding_mode is None else unary(b, "trunc", quotient)


@rule("aten.lerp")
def _(b: Builder, x, y, weight):
    """x + weight · (y - x), from the nearer end, as PyTorch does it: exact at 0 and 1."""
    apart = binary(b, "subtract", y, x)

    def from_x() -> Value:
        return binary(b, "add", x, binary(b, "multiply", apart, weight))

    def from_y() -> Value:
        rest = binary(b, "multiply", apart, binary(b, "subtract", 1.0, weight))
        return binary(b, "subtract", y, rest)

    if isinstance(weight, Value):
        near = compare(b, "less", unary(b, "abs", weight), 0.5)
        return choose(b, near, from_x(), from_y())
    if abs(weight) < 0.5:
        return from_x()
    return binary(b, "subtract", y, binary(b, "multiply", apart, 1 - weight))


@rule("aten.logaddexp")
def _(b: Builder, x, y):
    """The larger, and log(1 + e^-|x - y|); of equal ones, infinite too, log(2) more."""
    apart = unary(b, "abs", binary(b, "subtract", x, y))
    more = unary(b, "softplus", unary(b, "negative", apart))
    total = binary(b, "add", binary(b, "maximum", x, y), more)
    return choose(b, compare(b, "equal", x, y), binary(b, "add", x, log(2)), total)


@rule("aten.xlogy", "aten.special_xlogy")
def _(b: Builder, x, y):
    """x · log(y), 0 where x is 0, unless y is NaN."""
    x, y = (v if isinstance(v, Value) else b.literal(float(v), b.dtype) for v in (x, y))
    product = binary(b, "multiply", x, unary(b, "log", y))
    product = choose(b, compare(b, "equal", x, 0.0), 0.0, product)
    return choose(b, compare(b, "not_equal", y, y), y, product)


@rule("aten.heaviside")
def _(b: Builder, x, values):
    step = b.cast(compare(b, "greater", x, 0.0), b.dtype)
    return choose(b, compare(b, "equal", x, 0.0), values, step)
