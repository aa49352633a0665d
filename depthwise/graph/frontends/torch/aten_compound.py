"""The rules of PyTorch's operators that are several of ours: variances, norms, gated and repeated.

Each is written out as its definition says.
"""

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import RULES, Ints, binary, reduce, rule
from depthwise.graph.frontends.torch.aten_shape import cut

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # arXiv:1706.02515, equation 14


@rule("aten.addcmul")
def _(b: Builder, x, y, z, value=1):
    product = binary(b, "multiply", y, z)
    return binary(b, "add", x, product if value == 1 else binary(b, "multiply", product, value))


@rule("aten.addcdiv")
def _(b: Builder, x, y, z, value=1):
    quotient = binary(b, "divide", y, z)
    return binary(b, "add", x, quotient if value == 1 else binary(b, "multiply", quotient, value))


@rule("aten.reciprocal")
def _(b: Builder, x):
    return binary(b, "divide", 1.0, x)


def moments(
    b: Builder, x: Value, dim: Ints | bool | None, correction: float, keepdim: bool
) -> tuple[Value, Value]:
    """Return variance and mean; the sum of squares is divided by the count less `correction`."""
    axes = None if dim is None else dim
    mean = reduce(b, "mean", x, axes, True)
    apart = binary(b, "subtract", x, mean)
    total = reduce(b, "sum", binary(b, "multiply", apart, apart), axes, keepdim)
    count = x.type.size // mean.type.size
    spread = binary(b, "divide", total, float(max(0, count - correction)))
    return spread, mean if keepdim else reduce(b, "mean", x, axes, False)


def variance(b: Builder, x, dim=None, unbiased=True, keepdim=False, correction=None) -> Value:
    """Return the variance however the overload spells it: var(x, unbiased) has no axes."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    correction = float(unbiased) if correction is None else correction
    return moments(b, x, dim, correction, keepdim)[0]


RULES["aten.var"] = variance


@rule("aten.std")
def _(b: Builder, x, *arguments, **named):
    return b.emit(ops.Activation("sqrt"), variance(b, x, *arguments, **named))


@rule("aten.var_mean")
def _(b: Builder, x, dim=None, unbiased=True, keepdim=False, correction=None):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return [*moments(b, x, dim, float(unbiased) if correction is None else correction, keepdim)]


@rule("aten.std_mean")
def _(b: Builder, *arguments, **named):
    spread, mean = RULES["aten.var_mean"](b, *arguments, **named)
    return [b.emit(ops.Activation("sqrt"), spread), mean]


@rule("aten.log_softmax", "aten._log_softmax")
def _(b: Builder, x, dim, *_unused):
    below = binary(b, "subtract", x, reduce(b, "max", x, dim, True))  # else exp may overflow
    total = reduce(b, "sum", b.emit(ops.Activation("exp"), below), dim, True)
    return binary(b, "subtract", below, b.emit(ops.Activation("log"), total))


@rule("aten.glu")
def _(b: Builder, x, dim=-1):
    axis = x.axis(dim)
    half = x.shape[axis] // 2
    gate = b.emit(ops.Activation("sigmoid"), cut(b, x, axis, half, 2 * half))
    return binary(b, "multiply", cut(b, x, axis, 0, half), gate)


@rule("aten.selu")
def _(b: Builder, x):
    return binary(b, "multiply", b.emit(ops.Activation("elu", (SELU_ALPHA,)), x), SELU_SCALE)


@rule("aten.roll")
def _(b: Builder, x, shifts, dims=()):
    if len(shifts) != len(dims):
        flat = b.emit(ops.Reshape((x.type.size,)), x)  # rolled as if it lay in a row
        return b.emit(ops.Reshape(x.shape), RULES["aten.roll"](b, flat, shifts, [0]))
    for shift, dim in zip(shifts, dims, strict=True):
        axis = x.axis(dim)
        size = x.shape[axis]
        at = -shift % size
        if at:
            parts = cut(b, x, axis, at, size), cut(b, x, axis, 0, at)
            x = b.emit(ops.Concat(axis), *parts)
    return x


@rule("aten.repeat")
def _(b: Builder, x, repeats):
    if 0 in repeats:
        return None  # nothing remains
    if len(repeats) > x.rank:
        x = b.emit(ops.Reshape((1,) * (len(repeats) - x.rank) + x.shape), x)
    for axis, count in enumerate(repeats):
        if count > 1:
            x = b.emit(ops.Concat(axis), *[x] * count)
    return x


RULES["aten.swapaxes"] = RULES["aten.swapdims"] = RULES["aten.transpose"]
