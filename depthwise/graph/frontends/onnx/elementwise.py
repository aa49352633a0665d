"""Functions of each element, arithmetic of two, and what passes its input on as it is."""

from functools import reduce

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.dtypes import DTYPES
from depthwise.graph.frontends.onnx.known import Known
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import EVALUATE, refuse, rule

FUNCTIONS = {
    "Relu": "relu", "HardSwish": "hard_swish", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Softplus": "softplus", "Mish": "mish", "Abs": "abs", "Exp": "exp", "Log": "log",
    "Sqrt": "sqrt", "Neg": "negative", "Erf": "erf", "Sin": "sin", "Cos": "cos", "Tan": "tan",
    "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh",
    "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Floor": "floor", "Ceil": "ceil",
    "Round": "round", "Sign": "sign",
}  # fmt: skip


@rule(*FUNCTIONS)
def _(n: Operands):
    return n.unary(FUNCTIONS[n.node.op_type], n[0])


@rule("LeakyRelu")
def _(n: Operands, *, alpha=0.01):
    return n.unary("leaky_relu", n[0], alpha)


@rule("Elu")
def _(n: Operands, *, alpha=1.0):
    return n.unary("elu", n[0], alpha)


@rule("Celu")
def _(n: Operands, *, alpha=1.0):
    """x above 0, alpha · (e^(x / alpha) - 1) below. arXiv:1704.07483, equation 2."""
    below = n.unary("expm1", n.binary("divide", n.unary("clamp", n[0], -np.inf, 0), alpha))
    return n.binary("add", n.unary("relu", n[0]), n.binary("multiply", below, alpha))


@rule("Selu")
def _(n: Operands, *, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
    return n.binary("multiply", n.unary("elu", n[0], alpha), gamma)


@rule("Gelu")
def _(n: Operands, *, approximate="none"):
    return n.unary("gelu" if approximate == "none" else "gelu_tanh", n[0])


@rule("Swish")
def _(n: Operands, *, alpha=1.0):
    if alpha == 1:
        return n.unary("silu", n[0])
    return n.binary("multiply", n[0], n.unary("sigmoid", n.binary("multiply", n[0], alpha)))


@rule("Softsign")
def _(n: Operands):
    return n.binary("divide", n[0], n.binary("add", n.unary("abs", n[0]), 1))


@rule("Reciprocal")
def _(n: Operands):
    return n.unary("power", n[0], -1)


@rule("Shrink")
def _(n: Operands, *, bias=0.0, lambd=0.5):
    """x moved towards 0 by the bias, and 0 between -lambd and lambd."""
    if bias == lambd:
        return n.binary("subtract", n[0], n.unary("clamp", n[0], -lambd, lambd))
    shrunk = n.unary("hard_shrink", n[0], lambd)
    return n.binary("subtract", shrunk, n.binary("multiply", n.unary("sign", shrunk), bias))


@rule("ThresholdedRelu")
def _(n: Operands, *, alpha=1.0):
    return n.unary("threshold", n[0], alpha, 0)


@rule("HardSigmoid")
def _(n: Operands, *, alpha=0.2, beta=0.5):
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return n.unary("hard_sigmoid", n[0])
    line = n.binary("add", n.binary("multiply", n[0], alpha), beta)
    return n.unary("clamp", line, 0, 1)


@rule("Clip")
def _(n: Operands, **attributes):
    """Between bounds that are attributes before opset 11, operands since."""
    if n.opset < 11:
        return n.unary("clamp", n[0], attributes.get("min", -np.inf), attributes.get("max", np.inf))
    if any(n.has(i) and n.number(i) is None for i in (1, 2)):
        x = n.binary("maximum", n[0], n[1]) if n.has(1) else n[0]
        return n.binary("minimum", x, n[2]) if n.has(2) else x
    low, high = n.number(1), n.number(2)
    return n.unary("clamp", n[0], -np.inf if low is None else low, np.inf if high is None else high)


@rule("PRelu")
def _(n: Operands):
    """One slope for each channel or for all is our PRelu; others are written out."""
    x, shape = n[0], n.shape(1)
    channels = (1,) * (len(shape) < x.rank) + shape if len(shape) < x.rank else shape[1:]
    flat = int(np.prod(shape))
    alone = channels[:1] == (flat,) and x.rank - len(shape) <= 1
    if n.is_known(1) and x.rank > 1 and (flat == 1 or (alone and flat == x.shape[1])):
        return n.emit(ops.PRelu(), x, n.derived(1, np.ravel))
    below = n.binary("multiply", n.unary("clamp", x, -np.inf, 0), n[1])
    return n.binary("add", n.unary("relu", x), below)


# ------------------------------------------------------------------------------------- arithmetic

BINARY = {
    "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum",
    "Min": "minimum", "Sum": "add",
}  # fmt: skip


@rule(*BINARY)
def _(n: Operands):
    return reduce(lambda x, y: n.binary(BINARY[n.node.op_type], x, y), n.all())


@rule("Mean")
def _(n: Operands):
    total = reduce(lambda x, y: n.binary("add", x, y), n.all())
    return n.binary("divide", total, float(len(n)))


@rule("Pow")
def _(n: Operands):
    exponent, base = n.number(1), n.number(0)
    if exponent is not None:
        y = n.unary("sqrt", n[0]) if exponent == 0.5 else n.unary("power", n[0], exponent)
        return n.reshape(y, *np.broadcast_shapes(y.shape, n.shape(1)))
    if base == 2:
        y = n.unary("exp2", n[1])
        return n.reshape(y, *np.broadcast_shapes(y.shape, n.shape(0)))
    other = n.dtype(1) != n.dtype(0)
    return n.binary("power", n[0], n.emit(ops.Cast(n.dtype(0)), n[1]) if other else n[1])


@rule("Mod")
def _(n: Operands, *, fmod=0):
    return n.binary("fmod" if fmod else "remainder", n[0], n[1])


# ----------------------------------------------------------------------------- nothing is changed


@rule("Identity")
def _(n: Operands):
    return n[0]


@rule("Dropout")
def _(n: Operands, *, ratio=0.5, seed=0, is_test=1):
    del ratio, seed, is_test
    training = n.array(2) if n.has(2) else None
    refuse(training is not None and training.any(), "it is in training mode", EVALUATE)
    refuse(n.wants(1), "its mask is read")
    return n[0]


@rule("Cast")
def _(n: Operands, *, to, saturate=1, round_mode="up"):
    del saturate, round_mode
    return _converted(n, str(tensor_dtype_to_np_dtype(to)))


@rule("CastLike")
def _(n: Operands, *, saturate=1, round_mode="up"):
    del saturate, round_mode
    return _converted(n, n[1].type.dtype)


def _converted(n: Operands, dtype: str) -> Value | Known:
    """Return the first operand in another type."""
    if n.is_known(0):
        return Known(n.array(0).astype(dtype))
    if n[0].type.dtype == dtype:
        return n[0]
    refuse(dtype not in DTYPES, f"it makes {dtype}, a type that the graph does not have")
    return n.emit(ops.Cast(dtype), n[0])
