"""Functions of elements, reductions and the moving of elements in ONNX."""

from collections.abc import Callable
from math import isinf
from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.exporters.onnx.functions import OF_ONE, OF_TWO
from depthwise.graph.exporters.onnx.rules import write
from depthwise.graph.exporters.onnx.writer import NodeWriter
from depthwise.graph.graph import Shape
from depthwise.graph.interpret_sampling import resize_axis

# ------------------------------------------------------------------ functions of each element

ALIKE: dict[str, tuple[str, dict[str, Any]]] = {
    "hard_swish": ("HardSwish", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", {}),
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "mish": ("Mish", {}),
    "sqrt": ("Sqrt", {}),
    "exp": ("Exp", {}),
    "erf": ("Erf", {}),
    "log": ("Log", {}),
    "abs": ("Abs", {}),
    "negative": ("Neg", {}),
    **{name: (name.capitalize(), {}) for name in (
        "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
        "floor", "ceil", "round", "sign",
    )},
}  # fmt: skip


@write.register
def _(op: ops.Activation, node, x):
    if op.function in ALIKE:
        operator, attributes = ALIKE[op.function]
        return node.add(operator, x, **attributes)
    if op.function in COMPOSED:
        return COMPOSED[op.function](node, x, *op.parameters)
    match op.function, op.parameters:
        case "relu", ():
            return relu(node, x)
        case (("leaky_relu" | "elu"), (alpha,)):
            operator = {"leaky_relu": "LeakyRelu", "elu": "Elu"}[op.function]
            return node.add(operator, x, alpha=alpha)
        case (("relu6" | "clamp"), bounds):
            return clip(node, x, *(bounds or (0.0, 6.0)))
        case "power", (exponent,):
            return node.add("Pow", x, node.constant(float(exponent), "exponent"))
    raise AssertionError(op)


def relu(node: NodeWriter, x: str) -> str:
    """Append Relu, of integers as a maximum: ONNX Runtime has it for int32 alone."""
    if node.type.element.is_integer:
        return node.add("Max", x, node.constant(0, "zero", node.type.dtype))
    return node.add("Relu", x)


def truncate(node: NodeWriter, x: str) -> str:
    """Append what cuts the fraction off, towards zero."""
    return node.add("Mul", node.add("Sign", x), node.add("Floor", node.add("Abs", x)))


def wrap(node: NodeWriter, x: str, lowest: float, count: float) -> str:
    """Append what brings whole parts into a range by multiples of its length."""
    whole = truncate(node, x)
    length, end = node.constant(count, "count"), node.constant(lowest + count, "end")
    multiple = node.add("Mul", node.add("Floor", node.add("Div", whole, length)), length)
    above = node.add("Sub", whole, multiple)
    beyond = node.add("GreaterOrEqual", above, end)
    return node.add("Where", beyond, node.add("Sub", above, length), above)


COMPOSED: dict[str, Callable[..., str]] = {
    "silu": lambda node, x: node.add("Mul", x, node.add("Sigmoid", x)),
    "reciprocal_sqrt": lambda node, x: node.add("Reciprocal", node.add("Sqrt", x)),
    "trunc": truncate,
    "wrap": wrap,
    **OF_ONE,
}


def clip(node: NodeWriter, x: str, low: float, high: float) -> str:
    """Append a Clip; an infinite bound is left out."""
    bounds = {"min": float(low), "max": float(high)}
    given = (None if isinf(b) else node.constant(b, name) for name, b in bounds.items())
    return node.add("Clip", x, *given)


@write.register
def _(op: ops.PRelu, node, x, slope):
    """Write PRelu; a slope for each channel gets the axes that follow the channels."""
    channels, rank = node.shape(slope)[0], len(node.shape(x))
    if channels > 1 and rank > 2:
        slope = node.reshape(slope, channels, *(1,) * (rank - 2))
    return node.add("PRelu", x, slope)


BINARY = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "maximum": "Max",
    "minimum": "Min", "power": "Pow",
}  # fmt: skip


@write.register
def _(op: ops.Binary, node, a, b):
    if op.function in OF_TWO:
        return OF_TWO[op.function](node, a, b)
    logical = {"maximum": "Or", "minimum": "And"} if node.type.dtype == "bool" else {}
    return node.add(logical.get(op.function) or BINARY[op.function], a, b)


# ---------------------------------------------------------------------------------- reductions

REDUCE = {
    "mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin",
    "product": "ReduceProd",
}  # fmt: skip


@write.register
def _(op: ops.Reduce, node, x):
    if not op.axes:  # in ONNX no axes are all
        return x
    axes = node.constant(op.axes, "axes")
    return node.add(REDUCE[op.function], x, axes, keepdims=int(op.keep))


@write.register
def _(op: ops.Softmax, node, x):
    return node.add("Softmax", x, axis=op.axis)


# -------------------------------------------------------------------------------- moving about


@write.register
def _(op: ops.Concat, node, *inputs):
    return node.add("Concat", *inputs, axis=op.axis)


@write.register
def _(op: ops.Slice, node, x):
    return node.slice(x, op.axis, op.start, op.stop, op.step)


@write.register
def _(op: ops.Gather, node, x, indices):
    return node.add("Gather", x, indices, axis=op.axis)


PAD_MODE = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@write.register
def _(op: ops.Pad, node, x):
    """Cut first, where pads are negative, then pad."""
    for axis, (size, (before, after)) in enumerate(zip(node.shape(x), op.pads, strict=True)):
        if before < 0 or after < 0:
            x = node.slice(x, axis, max(0, -before), size - max(0, -after))
    grown = [max(0, before) for before, _ in op.pads] + [max(0, after) for _, after in op.pads]
    if not any(grown):
        return x
    pads = node.constant(grown, "pads")
    value = node.constant(float(op.value), "value") if op.mode == "constant" else None
    return node.add("Pad", x, pads, value, mode=PAD_MODE[op.mode])


@write.register
def _(op: ops.Reshape, node, x):
    return node.reshape(x, *op.shape)


@write.register
def _(op: ops.Permute, node, x):
    return node.add("Transpose", x, perm=op.axes)


@write.register
def _(op: ops.Expand, node, x):
    return node.add("Expand", x, node.constant(np.array(op.shape, np.int64), "shape"))


# -------------------------------------------------------------------------------------- resize


@write.register
def _(op: ops.Resize, node, x):
    """Write Resize where it takes the same pixels, else say which pixels, with which weights."""
    planes = node.shape(x)[2:]
    by_size = follows_from_sizes(op, planes)
    if not (by_size or follows_from_scales(op, planes)) or not takes_same_pixels(op, planes):
        return resampled(op, node, x)
    sizes = scales = None
    if by_size:
        sizes = node.constant([*node.shape(x)[:2], *op.size], "sizes")
    else:
        scales = node.constant([1.0, 1.0, *(1 / step for step in op.step)], "scales", "float32")
    if op.mode != "bilinear":  # floor((i + 0.5) · step) is i's own place, halves rounded up
        exact = op.mode == "nearest_exact"
        return node.add(
            "Resize", x, None, scales, sizes, mode="nearest",
            nearest_mode="round_prefer_ceil" if exact else "floor",
            coordinate_transformation_mode="half_pixel" if exact else "asymmetric",
        )  # fmt: skip
    positions = "align_corners" if op.align_corners else "half_pixel"
    return node.add(
        "Resize", x, None, scales, sizes, mode="linear", coordinate_transformation_mode=positions
    )


def follows_from_sizes(op: ops.Resize, planes: Shape) -> bool:
    """Tell whether the steps are those that ONNX finds from the sizes of input and output."""
    if op.align_corners:
        steps = [(n - 1) / (m - 1) if m > 1 else 0.0 for n, m in zip(planes, op.size, strict=True)]
    else:
        steps = [n / m for n, m in zip(planes, op.size, strict=True)]
    return tuple(steps) == op.step


def follows_from_scales(op: ops.Resize, planes: Shape) -> bool:
    """Tell whether a scale, the inverse of the step, gives the output's size in ONNX, too."""
    if op.align_corners or not all(op.step):
        return False
    scaled = [int(n * np.float32(1 / step)) for n, step in zip(planes, op.step, strict=True)]
    return tuple(scaled) == op.size


def takes_same_pixels(op: ops.Resize, planes: Shape) -> bool:
    """Tell whether ONNX's nearest pixels, which lie at i / scale, are those of `op`.

    In whatever precision a runtime divides: where the quotient is close to a whole number, it
    decides which pixel is taken.
    """
    if op.mode == "bilinear":
        return True
    shift = 0.5 if op.mode == "nearest_exact" else 0.0
    for length, size, step in zip(planes, op.size, op.step, strict=True):
        ours = resize_axis(np.arange(length), 0, size, step, op)
        scale = np.float32(1 / step)
        for precision in (np.float32, np.float64):
            at = (np.arange(size, dtype=precision) + precision(shift)) / precision(scale)
            at = np.floor(at - precision(shift) + precision(shift)).astype(int)
            if not np.array_equal(at.clip(0, length - 1), ours):
                return False
    return True


def resampled(op: ops.Resize, node: NodeWriter, x: str) -> str:
    """Append a Gather of pixels for each axis, or a product with the weights of the pixels."""
    planes = node.shape(x)[2:]
    for axis, (length, size, step) in enumerate(zip(planes, op.size, op.step, strict=True), 2):
        if op.mode != "bilinear":
            pixels = node.constant(resize_axis(np.arange(length), 0, size, step, op), "pixels")
            x = node.add("Gather", x, pixels, axis=axis)
            continue
        weights = resize_axis(np.eye(length), 0, size, step, op)  # a row an output pixel
        if axis == 2:
            x = node.add("MatMul", node.constant(weights, "rows"), x)
        else:
            x = node.add("MatMul", x, node.constant(weights.T, "columns"))
    return x
