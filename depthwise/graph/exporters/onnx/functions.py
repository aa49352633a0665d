"""Functions of elements that ONNX has no operator for, written out.

Each in a form that is as exact near zero and for large numbers as the function itself, but for
erfc, whose tail 1 - erf(x) is lost in float32.
"""

from collections.abc import Callable
from math import log, pi

from depthwise.graph.exporters.onnx.writer import NodeWriter


def number(node: NodeWriter, value: float, name: str) -> str:
    """Add a number of the element type of the node's inputs."""
    return node.constant(float(value), name)


def where(node: NodeWriter, condition: str, yes: str, no: str) -> str:
    """Append a choice for each element."""
    return node.add("Where", condition, yes, no)


def log1p(node: NodeWriter, x: str) -> str:
    """log(1 + x), up to |x| = 1/2 as 2 artanh(x / (2 + x))."""
    quotient = node.add("Div", x, node.add("Add", x, number(node, 2, "two")))
    near = node.add("Mul", node.add("Atanh", quotient), number(node, 2, "twice"))
    far = node.add("Log", node.add("Add", x, number(node, 1, "one")))
    small = node.add("Less", node.add("Abs", x), number(node, 0.5, "half"))
    return where(node, small, near, far)


def expm1(node: NodeWriter, x: str) -> str:
    """e^x - 1 = tanh(x / 2) (e^x + 1), which cancels nowhere."""
    power = node.add("Add", node.add("Exp", x), number(node, 1, "one"))
    return node.add("Mul", node.add("Tanh", node.add("Mul", x, number(node, 0.5, "half"))), power)


def logarithm(base: float) -> Callable[[NodeWriter, str], str]:
    """Return how a logarithm is written."""
    return lambda node, x: node.add("Div", node.add("Log", x), number(node, log(base), "base"))


def exp2(node: NodeWriter, x: str) -> str:
    """2^x."""
    return node.add("Pow", number(node, 2, "two"), x)


def sinc(node: NodeWriter, x: str) -> str:
    """sin(pi x) / (pi x), 1 at 0."""
    angle = node.add("Mul", x, number(node, pi, "pi"))
    zero = node.add("Equal", x, number(node, 0, "zero"))
    one = number(node, 1, "one")
    return where(node, zero, one, node.add("Div", node.add("Sin", angle), angle))


def erfc(node: NodeWriter, x: str) -> str:
    """1 - erf(x)."""
    return node.add("Sub", number(node, 1, "one"), node.add("Erf", x))


def threshold(node: NodeWriter, x: str, least: float, value: float) -> str:
    """x above a bound, else a number."""
    below = node.add("LessOrEqual", x, number(node, least, "least"))
    return where(node, below, number(node, value, "value"), x)


def hard_shrink(node: NodeWriter, x: str, most: float) -> str:
    """0 between -most and most, else x."""
    return node.add("Shrink", x, lambd=float(most), bias=0.0)


OF_ONE: dict[str, Callable[..., str]] = {
    "log1p": log1p, "expm1": expm1, "log2": logarithm(2), "log10": logarithm(10), "exp2": exp2,
    "sinc": sinc, "erfc": erfc, "threshold": threshold, "hard_shrink": hard_shrink,
}  # fmt: skip


# ---------------------------------------------------------------------------------- two operands


def remainder(node: NodeWriter, a: str, b: str) -> str:
    """fmod(a, b), and b added where its sign is not that of b."""
    rest = fmod(node, a, b)
    signs = node.add("Mul", node.add("Sign", rest), node.add("Sign", b))
    other = node.add("Less", signs, number(node, 0, "zero"))
    return where(node, other, node.add("Add", rest, b), rest)


def fmod(node: NodeWriter, a: str, b: str) -> str:
    """The remainder with the sign of a."""
    return node.add("Mod", a, b, fmod=1)


def floor_divide(node: NodeWriter, a: str, b: str) -> str:
    """(a - remainder) / b, a whole number but for its rounding; a / b by zero."""
    whole = node.add("Div", node.add("Sub", a, remainder(node, a, b)), b)
    if node.type.element.is_integer:
        return whole
    whole = node.add("Round", whole)
    zero = node.add("Equal", b, number(node, 0, "nothing"))
    return where(node, zero, node.add("Div", a, b), whole)


def arctan2(node: NodeWriter, y: str, x: str) -> str:
    """The arc tangent of y / x, half a turn further where x is negative; 0 / 0 counts as 0."""
    zero = number(node, 0, "zero")
    quotient = node.add("Div", y, x)
    both = node.add("And", node.add("Equal", x, zero), node.add("Equal", y, zero))
    angle = node.add("Atan", where(node, both, zero, quotient))
    half = number(node, pi, "half")
    turn = where(node, negative(node, y), node.add("Neg", half), half)
    return node.add("Add", angle, where(node, negative(node, x), turn, zero))


def negative(node: NodeWriter, x: str) -> str:
    """Whether x has a minus sign: also -0, whose inverse is minus infinity."""
    zero = number(node, 0, "zero")
    inverse = node.add("Less", node.add("Reciprocal", x), zero)
    return node.add("Or", node.add("Less", x, zero), inverse)


def hypot(node: NodeWriter, a: str, b: str) -> str:
    """The larger side times the root of 1 + (smaller / larger)^2, which overflows nowhere."""
    a, b = node.add("Abs", a), node.add("Abs", b)
    large, small = node.add("Max", a, b), node.add("Min", a, b)
    below = node.add("Max", large, number(node, 1e-30, "tiny"))
    ratio = node.add("Div", small, below)
    square = node.add("Add", node.add("Mul", ratio, ratio), number(node, 1, "one"))
    return node.add("Mul", large, node.add("Sqrt", square))


OF_TWO: dict[str, Callable[[NodeWriter, str, str], str]] = {
    "remainder": remainder, "fmod": fmod, "floor_divide": floor_divide, "arctan2": arctan2,
    "hypot": hypot,
}  # fmt: skip
