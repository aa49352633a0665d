"""Random legal graphs: every operator but Opaque, on odd shapes, with branches that meet again.

`RULES` holds one function for each way to continue a graph. It takes the sketch and a value of it
and returns a new value; it raises Unfit where that value does not suit.
"""

from collections.abc import Callable
from math import prod
from typing import get_args

import numpy as np
from random_sequences import grid_sample, recurrent, resample
from sketch import FLAT, Drawn, Sketch, Unfit

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.ops import Padding


def images(x: Value) -> tuple[int, int, int, int]:
    """Return (N, C, H, W) of a value that is images."""
    if x.rank != 4:
        raise Unfit
    n, c, h, w = x.shape
    return n, c, h, w


# ------------------------------------------------------------------------ convolution and linear


def conv(d: Sketch, x: Value) -> Value:
    _, c, _, _ = images(x)
    groups = d.pick(g for g in (1, 1, 1, 1, 2, 3, 4, 5) if c % g == 0)
    outs = groups * d.whole(1, 9) if groups > 1 else d.channels()
    op = ops.Conv2d(d.pair(1, 3), d.padding(3), d.pair(1, 2), groups)
    return d.emit(op, x, d.filters(outs, c // groups, *d.pair(1, 4)), *d.bias(outs))


def padded_conv(d: Sketch, x: Value) -> Value:
    _, c, _, _ = images(x)
    outs = d.pick((c, d.channels()))
    op = ops.Conv2d((1, 1), Padding(1, 1, 1, 1), (1, 1), 1)
    return d.emit(op, x, d.filters(outs, c, 3, 3), *d.bias(outs))


def pointwise(d: Sketch, x: Value) -> Value:
    _, c, _, _ = images(x)
    outs = d.pick((c, d.channels()))
    op = ops.Conv2d(d.pick(((1, 1), (1, 1), (2, 1))), FLAT, (1, 1), 1)
    return d.emit(op, x, d.filters(outs, c, 1, 1), *d.bias(outs))


def depthwise(d: Sketch, x: Value) -> Value:
    _, c, _, _ = images(x)
    outs = c * d.pick((1, 1, 1, 2))
    op = ops.Conv2d(d.pair(1, 2), d.padding(2), d.pair(1, 2), c)
    return d.emit(op, x, d.filters(outs, 1, *d.pair(1, 5)), *d.bias(outs))


def transposed(d: Sketch, x: Value) -> Value:
    _, c, _, _ = images(x)
    groups = d.pick(g for g in (1, 1, 2, 3) if c % g == 0)
    outs = d.whole(1, 9)
    padding = d.padding(2)
    if d.chance(0.3):  # as output_padding makes it
        padding = padding._replace(bottom=padding.bottom - 1, right=padding.right - d.whole(0, 1))
    op = ops.ConvTranspose2d(d.pair(1, 3), padding, d.pair(1, 2), groups)
    weight = d.constant(d.normal(c, outs, *d.pair(1, 4)) / np.sqrt(c))
    return d.emit(op, x, weight, *d.bias(outs * groups))


def deformable(d: Sketch, x: Value) -> Value:
    _, c, _, _ = images(x)
    groups = d.pick(g for g in (1, 1, 2) if c % g == 0)
    parts = d.pick(g for g in (1, 1, 2) if c % g == 0)
    outs, kernel = groups * d.whole(1, 9), d.pair(1, 3)
    stride, padding, dilation = d.pair(1, 2), d.padding(1), d.pair(1, 2)

    def around(channels: int) -> Value:
        of_all = ops.Conv2d(stride, padding, dilation, 1)
        return d.tame(d.emit(of_all, x, d.filters(channels, c, *kernel), *d.bias(channels)))

    offsets = around(2 * parts * prod(kernel))
    mask = (d.emit(ops.Activation("sigmoid"), around(parts * prod(kernel))),)
    op = ops.DeformConv2d(stride, padding, dilation, groups, parts)
    weight, bias = d.filters(outs, c // groups, *kernel), d.constant(d.normal(outs))
    return d.emit(op, x, weight, bias, offsets, *(mask if d.chance(0.5) else ()))


def region_pool(d: Sketch, x: Value) -> Value:
    n, _, h, w = images(x)
    count, size = d.whole(1, 3), d.whole(1, 3)
    corners = np.sort(d.random.uniform(0, 2 * min(h, w), (count, 2, 2)), 1)
    image = d.random.integers(0, n, (count, 1))
    boxes = d.input(np.concatenate([image, corners.reshape(count, 4)], 1))
    offsets = d.input(d.normal(count, 2, size, size))
    return d.emit(ops.DeformRoIPool(size, 0.5, d.whole(1, 3), 0.1), x, boxes, offsets)


def linear(d: Sketch, x: Value) -> Value:
    if x.rank < 2:
        raise Unfit
    outs = d.channels()
    return d.emit(ops.Linear(), x, d.filters(outs, x.shape[-1]), *d.bias(outs))


def head(d: Sketch, x: Value) -> Value:
    n, c, h, w = images(x)
    flat = d.emit(ops.Reshape((n, c * h * w)), x)
    return linear(d, flat)


def matrices(d: Sketch, x: Value) -> Value:
    if x.rank < 2:
        raise Unfit
    width = x.shape[-1]
    if d.chance(0.5):
        axes = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
        return d.emit(ops.MatMul(), x, d.emit(ops.Permute(axes), x))
    batch = x.shape[:-2] if d.chance(0.3) else ()
    right = d.constant(d.normal(*batch, width, d.whole(1, 9)) / np.sqrt(width))
    return d.emit(ops.MatMul(), x, right)


# ------------------------------------------------------------------------- normalisation, pooling


def batch_norm(d: Sketch, x: Value) -> Value:
    if x.rank < 2:
        raise Unfit
    c = x.shape[1]
    variance = d.constant(d.random.uniform(0.5, 1.5, c))
    rest = (d.constant(d.normal(c)) for _ in range(3))
    return d.emit(ops.BatchNorm(1e-3), x, *rest, variance)


def group_norm(d: Sketch, x: Value) -> Value:
    if x.rank < 3:
        raise Unfit
    c = x.shape[1]
    op = ops.GroupNorm(d.pick(g for g in (1, 2, 3, c) if c % g == 0), 1e-2)
    return d.emit(op, x, *(d.constant(d.normal(c)) for _ in range(d.pick((0, 2)))))


def layer_norm(d: Sketch, x: Value) -> Value:
    if x.rank < 2:
        raise Unfit
    axes = d.whole(1, x.rank - 1)
    rest = (d.constant(d.normal(*x.shape[-axes:])) for _ in range(d.whole(0, 2)))
    return d.emit(ops.LayerNorm(axes, 1e-2), x, *rest)


def response_norm(d: Sketch, x: Value) -> Value:
    n, c, h, w = images(x)
    size = d.pick((1, 3, 4, 5))
    square = d.emit(ops.Reshape((n, 1, c, h * w)), d.binary("multiply", x, x))
    pads = ((0, 0), (0, 0), (size // 2, (size - 1) // 2), (0, 0))
    around = d.emit(ops.Pad(pads, "constant"), square)
    mean = d.emit(ops.AvgPool2d((size, 1), (1, 1), FLAT, False, True, None), around)
    mean = d.emit(ops.Reshape((n, c, h, w)), mean)
    below = d.binary("add", d.binary("multiply", mean, 0.5), 1.0)
    return d.binary("divide", x, d.emit(ops.Activation("power", (0.75,)), below))


def pool_padding(d: Sketch, kernel: tuple[int, int]) -> Padding:
    top, left = (d.whole(0, k // 2) for k in kernel)
    return Padding(top, top, left, left)


def max_pool(d: Sketch, x: Value) -> Value:
    images(x)
    kernel = d.pair(1, 4)
    padding = pool_padding(d, kernel)
    return d.emit(ops.MaxPool2d(kernel, d.pair(1, 3), padding, d.pair(1, 2), d.chance(0.5)), x)


def avg_pool(d: Sketch, x: Value) -> Value:
    images(x)
    kernel = d.pair(1, 4)
    count, divisor = d.chance(0.5), d.pick((None, None, 3))
    padding, ceil = pool_padding(d, kernel), d.chance(0.5)
    return d.emit(ops.AvgPool2d(kernel, d.pair(1, 3), padding, ceil, count, divisor), x)


def adaptive_pool(d: Sketch, x: Value) -> Value:
    images(x)
    return d.emit(ops.AdaptivePool2d(d.pick(("mean", "max")), d.pair(1, 5)), x)


def reduce(d: Sketch, x: Value) -> Value:
    if not x.rank:
        raise Unfit
    axes = [axis for axis in range(x.rank) if d.chance(0.4)] or [x.rank - 1]
    axes = (2, 3) if x.rank == 4 and d.chance(0.5) else tuple(axes)
    function = d.pick(("mean", "sum", "max", "min", "product"))
    if function == "product":
        x = d.clamp(x, 0.7, 1.3)
    return d.emit(ops.Reduce(function, axes, d.chance(0.6)), x)


def order(d: Sketch, x: Value) -> Value:
    """Sort, or run totals, along an axis."""
    if not x.rank:
        raise Unfit
    axis = d.whole(0, x.rank - 1)
    if d.chance(0.5):
        return d.emit(ops.Cumulate(d.pick(("sum", "max", "min")), axis), x)
    count = d.pick((1, x.shape[axis], d.whole(1, x.shape[axis])))
    return d.emit(ops.TopK(axis, count, d.chance(0.5), "values"), x)


def picked(d: Sketch, x: Value) -> Value:
    """Take elements by places found in an input, which no rounding turns."""
    if not x.rank:
        raise Unfit
    axis, found = d.whole(0, x.rank - 1), d.input(d.normal(*x.shape))
    op = d.pick((
        ops.ArgReduce(d.pick(("max", "min")), axis, True),
        ops.TopK(axis, d.whole(1, x.shape[axis]), d.chance(0.5), "indices"),
    ))  # fmt: skip
    return d.emit(ops.TakeAlong(axis), x, d.emit(op, found))


def unpool(d: Sketch, x: Value) -> Value:
    """Pool, and put the maxima where those of an input lie."""
    _, _, h, w = images(x)
    kernel = d.pair(1, 3)
    window = (kernel, d.pick((kernel, d.pair(1, 3))), pool_padding(d, kernel), (1, 1), False)
    places = d.emit(ops.MaxPoolIndices(*window), d.input(d.normal(*x.shape)))
    return d.emit(ops.MaxUnpool2d((h, w)), d.emit(ops.MaxPool2d(*window), x), places)


def softmax(d: Sketch, x: Value) -> Value:
    if not x.rank:
        raise Unfit
    return d.emit(ops.Softmax(d.whole(0, x.rank - 1)), x)


# ------------------------------------------------------------------------------- element by element


WITHIN = {  # where functions have numbers, and no slope by which rounding grows
    **dict.fromkeys(("sqrt", "log", "log2", "log10", "log1p", "reciprocal_sqrt"), (0.3, 4.0)),
    "power": (0.3, 4.0),
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh"), (-3.0, 3.0)),
    **dict.fromkeys(("asin", "acos", "atanh"), (-0.9, 0.9)), "acosh": (1.1, 4), "tan": (-1.4, 1.4),
}  # fmt: skip
JUMPING = ("floor", "ceil", "round", "trunc", "wrap", "sign", "threshold", "hard_shrink")


def activation(d: Sketch, x: Value) -> Value:
    function = d.pick(name for name in get_args(ops.Function) if name not in JUMPING)
    if function in WITHIN:
        x = d.clamp(x, *WITHIN[function])
    low = float(d.random.uniform(-1, 0.1))
    parameters = {"leaky_relu": (0.2,), "elu": (0.7,), "clamp": (low, 0.8), "power": (1.7,)}
    return d.emit(ops.Activation(function, parameters.get(function, ())), x)


def jump(d: Sketch, x: Value) -> Value:
    """Meet a function with jumps of an input, which is no other number by rounding."""
    function = d.pick(JUMPING)
    of = {"threshold": (0.3, -0.4), "hard_shrink": (0.6,), "wrap": (-1.0, 2.0)}
    parameters = of.get(function, ())
    y = d.emit(ops.Activation(function, parameters), d.input(2 * d.normal(*x.shape)))
    return d.binary(d.pick(("add", "multiply", "subtract")), x, y)


def remainder(d: Sketch, x: Value) -> Value:
    """Meet a remainder of an input, by a number or a smaller input, or a quotient."""
    function = d.pick(("remainder", "fmod", "floor_divide"))
    shape = tuple(n if d.chance(0.5) else 1 for n in x.shape)
    y = d.input(d.random.uniform(0.5, 2, shape) * d.pick((-1, 1)))
    return d.binary("add", x, d.binary(function, d.input(3 * d.normal(*x.shape)), y))


def compared(d: Sketch, x: Value) -> Value:
    """Compare with a number in the widest gap between the value's own: rounding decides nothing."""
    numbers = np.unique(d.numbers[x.name])
    gaps = np.diff(numbers)
    if not gaps.size or gaps.max() < 0.01 * np.abs(numbers).max():
        raise Unfit
    at = int(gaps.argmax())
    function = d.pick(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
    return d.emit(ops.Compare(function), x, d.constant(numbers[at] + gaps[at] / 2))


def condition(d: Sketch, x: Value) -> Value:
    """Join one comparison or two, and show what that gives as booleans or counted."""
    y = compared(d, x)
    if d.chance(0.4):
        y = d.emit(ops.Binary(d.pick(("minimum", "maximum"))), y, compared(d, x))
    if d.chance(0.3):
        d.returned.append(y)
    elif d.chance(0.3) and x.rank:
        whole = d.emit(ops.Cast("int64"), y)
        d.returned.append(d.emit(ops.Reduce("sum", (x.rank - 1,), d.chance(0.5)), whole))
    return y


def chosen(d: Sketch, x: Value) -> Value:
    """One of two values, or numbers, where a condition holds."""
    others = [v for v in d.values if v.shape == x.shape]
    pair = [x, d.pick((*others, d.constant(d.whole(-2, 2))))]
    a, b = pair if d.chance(0.5) else pair[::-1]
    return d.emit(ops.Where(), condition(d, x), a, b)


def masked(d: Sketch, x: Value) -> Value:
    """A value times a mask of zeros and ones."""
    return d.binary("multiply", x, d.emit(ops.Cast("float32"), condition(d, x)))


def chain(d: Sketch, x: Value) -> Value:
    for _ in range(d.whole(2, 4)):
        x = d.pick((activation, arithmetic, batch_norm, prelu))(d, x)
    return x


def prelu(d: Sketch, x: Value) -> Value:
    if x.rank < 2:
        raise Unfit
    return d.emit(ops.PRelu(), x, d.constant(d.normal(d.pick((1, x.shape[1])))))


SMOOTH = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "power",
    "arctan2",
    "hypot",
)


def arithmetic(d: Sketch, x: Value) -> Value:
    """Meet a number, one number a channel, or an array that is broadcast along some axes."""
    function = d.pick(SMOOTH)
    x = d.clamp(x, 0.3, 4.0) if function in ("power", "arctan2") else x
    shape = tuple(n if d.chance(0.5) else 1 for n in x.shape)
    shape = d.pick(((), (1,), shape, shape[1:], (1, *x.shape[1:2], *(1,) * (x.rank - 2))))
    data = d.random.uniform(0.5, 1.5, shape) * (1 if function == "power" else d.pick((-1, 1)))
    if d.chance(0.3) and function != "divide":
        return d.binary(function, d.constant(data), x)
    return d.binary(function, x, data)


def meet(d: Sketch, x: Value) -> Value:
    """Meet another value of the graph, of the same shape or one that is broadcast."""
    function = d.pick(("add", "add", *SMOOTH))
    fitting = [
        v for v in d.values
        if v.rank <= x.rank and all(a in (1, b) for a, b in zip(v.shape[::-1], x.shape[::-1],
                                                                strict=False))
    ]  # fmt: skip
    y = d.pick(fitting)
    x = d.clamp(x, 0.5, 3.0) if function in ("power", "arctan2") else x
    y = d.clamp(y, 0.5, 4.0) if function in ("divide", "power") else y
    return (
        d.binary(function, y, x)
        if d.chance(0.4) and function not in ("divide", "power", "arctan2")
        else d.binary(function, x, y)
    )


def residual(d: Sketch, x: Value) -> Value:
    """x + f(x), with activations wherever."""
    _, c, _, _ = images(x)
    op = ops.Conv2d((1, 1), Padding(1, 1, 1, 1), (1, 1), d.pick((1, c)))
    y = d.emit(op, x, d.filters(c, c // op.groups, 3, 3), *d.bias(c))
    y = activation(d, y) if d.chance(0.4) else y
    y = d.binary("add", x, y) if d.chance(0.5) else d.binary("add", y, x)
    return activation(d, y) if d.chance(0.5) else y


def gate(d: Sketch, x: Value) -> Value:
    """Squeeze and excite."""
    _, c, _, _ = images(x)
    y = d.emit(ops.Reduce("mean", (2, 3), True), x)
    y = d.emit(ops.Conv2d((1, 1), FLAT, (1, 1), 1), y, d.filters(c, c, 1, 1), *d.bias(c))
    return d.binary("multiply", x, d.emit(ops.Activation("sigmoid"), y))


# ------------------------------------------------------------------------------------- moving about


def concat(d: Sketch, x: Value) -> Value:
    if not x.rank:
        raise Unfit
    axis = 1 if x.rank == 4 and d.chance(0.8) else d.whole(0, x.rank - 1)

    def beside(v: Value) -> tuple[int, ...]:
        return (*v.shape[:axis], -1, *v.shape[axis + 1 :])

    fitting = [v for v in d.values if v.rank == x.rank and beside(v) == beside(x)]
    parts = [x, *(d.pick(fitting) for _ in range(d.whole(1, 2)))]
    if len({p.name for p in parts}) == 1 and x.rank == 4:
        parts[1] = pointwise(d, x)
    if d.chance(0.1):
        parts.append(d.constant(d.normal(*x.shape)))
    order = d.random.permutation(len(parts))
    return d.emit(ops.Concat(axis), *(parts[i] for i in order))


def slice_(d: Sketch, x: Value) -> Value:
    if not x.rank:
        raise Unfit
    axis = 1 if x.rank == 4 and d.chance(0.7) else d.whole(0, x.rank - 1)
    start = d.whole(0, x.shape[axis] - 1)
    stop = d.whole(start + 1, x.shape[axis])
    return d.emit(ops.Slice(axis, start, stop, d.pick((1, 1, 1, 2, 3))), x)


def gather(d: Sketch, x: Value) -> Value:
    """Take places along an axis: turned round, in any order, or some of them several times."""
    if not x.rank:
        raise Unfit
    axis = d.pick((1, 2, 2, 3, 3)) if x.rank == 4 and d.chance(0.8) else d.whole(0, x.rank - 1)
    size = x.shape[axis]
    places = d.pick((
        np.arange(size)[::-1], d.random.permutation(size), -1 - d.random.permutation(size),
        d.random.integers(-size, size, d.whole(1, 12)),
    ))  # fmt: skip
    return d.emit(ops.Gather(axis), x, d.places(places))


def halves(d: Sketch, x: Value) -> Value:
    """Split the channels; work on one part, or on both, and put them together again."""
    _, c, _, _ = images(x)
    if c < 2:
        raise Unfit
    cut = d.whole(1, c - 1)
    parts = [d.emit(ops.Slice(1, 0, cut, 1), x), d.emit(ops.Slice(1, cut, c, 1), x)]
    i = d.whole(0, 1)
    parts[i] = d.pick((residual, activation, prelu, chain))(d, parts[i])
    d.values.append(parts[1 - i])
    return d.emit(ops.Concat(1), *parts)


def dense(d: Sketch, x: Value) -> Value:
    """Let each layer read all before it, as in a DenseNet."""
    images(x)
    parts = [x]
    for _ in range(d.whole(2, 3)):
        joined = d.emit(ops.Concat(1), *parts) if len(parts) > 1 else x
        parts.append(d.pick((activation, pointwise, batch_norm))(d, joined))
    return d.emit(ops.Concat(1), *parts)


def pad(d: Sketch, x: Value) -> Value:
    _, _, h, w = images(x)
    mode = d.pick(get_args(ops.PadMode))
    most = min(h, w, 4) - 1 if mode in ("reflect", "circular") else 3
    pads = [(0, 0), (0, 0), *((d.whole(0, most), d.whole(0, most)) for _ in range(2))]
    if mode == "constant" and d.chance(0.3):
        pads = [(d.whole(-1, 1), d.whole(0, 2)) for _ in range(4)]
        if any(n + min(0, a) + min(0, b) < 1 for n, (a, b) in zip(x.shape, pads, strict=True)):
            raise Unfit
    value = d.pick((0.0, 0.0, 0.5)) if mode == "constant" else 0.0
    return d.emit(ops.Pad(tuple(pads), mode, value), x)


def resize(d: Sketch, x: Value) -> Value:
    _, _, h, w = images(x)
    size = d.pick(((2 * h, 2 * w), (d.whole(1, 12), d.whole(1, 12))))
    mode, corners = d.pick((("nearest", False), ("nearest_exact", False), ("bilinear", False),
                            ("bilinear", True)))  # fmt: skip
    steps = [
        (n - 1) / (m - 1) if corners and m > 1 else 0.0 if corners else n / m
        for n, m in zip((h, w), size, strict=True)
    ]
    return d.emit(ops.Resize(mode, size, (steps[0], steps[1]), corners), x)


def reshape(d: Sketch, x: Value) -> Value:
    factors: list[int] = [f for n in x.shape for f in prime_factors(n)]
    if d.chance(0.5):
        d.random.shuffle(factors)
    shape = [1] * d.whole(1, 5)
    at = np.sort(d.random.integers(0, len(shape), len(factors)))
    for factor, axis in zip(factors, at, strict=True):
        shape[axis] *= factor
    return d.emit(ops.Reshape(tuple(shape)), x)


def prime_factors(n: int) -> list[int]:
    least = next((f for f in range(2, n + 1) if n % f == 0), None)
    return [least, *prime_factors(n // least)] if least else []


def to_images(d: Sketch, x: Value) -> Value:
    if x.rank == 4:
        raise Unfit
    shape = (*x.shape, 1, 1, 1)[:4] if x.rank < 4 else (prod(x.shape[:2]), *x.shape[2:])
    return d.emit(ops.Reshape(shape), x)


def permute(d: Sketch, x: Value) -> Value:
    return d.emit(ops.Permute(tuple(map(int, d.random.permutation(x.rank)))), x)


def there_and_back(d: Sketch, x: Value) -> Value:
    """Permute, do something that keeps the shape, permute back."""
    axes = tuple(map(int, d.random.permutation(x.rank)))
    y = d.emit(ops.Permute(axes), x)
    y = d.pick((activation, softmax, layer_norm, arithmetic))(d, y)
    if y.rank != x.rank:
        raise Unfit
    return d.emit(ops.Permute(tuple(map(int, np.argsort(axes)))), y)


def shuffle(d: Sketch, x: Value) -> Value:
    n, c, h, w = images(x)
    groups = d.pick(g for g in (2, 3, 4, 5) if c % g == 0)
    y = d.emit(ops.Reshape((n, groups, c // groups, h, w)), x)
    return d.emit(ops.Reshape(x.shape), d.emit(ops.Permute((0, 2, 1, 3, 4)), y))


def expand(d: Sketch, x: Value) -> Value:
    front = (d.whole(1, 3),) if x.rank < 4 and d.chance(0.3) else ()
    shape = (*front, *(d.whole(1, 6) if n == 1 else n for n in x.shape))
    return d.emit(ops.Expand(shape), x)


# ------------------------------------------------------------------------------- views of planes


def strided(d: Sketch, x: Value) -> Value:
    """Take every second or third row, column or channel, from anywhere on."""
    images(x)
    for axis in {d.pick((2, 2, 2, 3, 3, 1)), d.pick((2, 3))}:
        start = d.whole(0, min(2, x.shape[axis] - 1))
        stop = x.shape[axis] - d.whole(0, min(2, x.shape[axis] - 1 - start))
        x = d.emit(ops.Slice(axis, start, stop, d.pick((1, 2, 2, 3))), x)
    return x


def cropped(d: Sketch, x: Value) -> Value:
    """Join two parts of a plane that lie apart."""
    _, _, h, w = images(x)
    rows, columns = d.whole(1, h), d.whole(1, w)

    def part() -> Value:
        top, left = d.whole(0, h - rows), d.whole(0, w - columns)
        y = d.emit(ops.Slice(2, top, top + rows, 1), x)
        return d.emit(ops.Slice(3, left, left + columns, 1), y)

    a, b = part(), part()
    return d.emit(ops.Concat(1), a, b) if d.chance(0.6) else d.binary("add", a, b)


def focus(d: Sketch, x: Value) -> Value:
    """Gather pixels 2 x 2 into channels."""
    _, _, h, w = images(x)
    if h < 2 or w < 2:
        raise Unfit
    corners = []
    for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)):
        rows = d.emit(ops.Slice(2, i, h - h % 2, 2), x)
        corners.append(d.emit(ops.Slice(3, j, w - w % 2, 2), rows))
    return d.emit(ops.Concat(1), *corners)


def subsampled(d: Sketch, x: Value) -> Value:
    """Add every second pixel to a convolution of stride 2."""
    _, c, h, w = images(x)
    op = ops.Conv2d((2, 2), Padding(1, 1, 1, 1), (1, 1), d.pick((1, c)))
    y = d.emit(op, x, d.filters(c, c // op.groups, 3, 3), *d.bias(c))
    shortcut = d.emit(ops.Slice(3, 0, w, 2), d.emit(ops.Slice(2, 0, h, 2), x))
    return d.binary("add", y, shortcut)


def turned(d: Sketch, x: Value) -> Value:
    """Turn planes, or turn channels and rows; work there or not."""
    images(x)
    axes = d.pick(((0, 1, 3, 2), (0, 1, 3, 2), (0, 2, 1, 3), (0, 3, 2, 1)))
    y = d.emit(ops.Permute(axes), x)
    y = d.pick((activation, pointwise, arithmetic))(d, y) if d.chance(0.6) else y
    return d.emit(ops.Permute(axes), y) if d.chance(0.5) else y


def channels_last(d: Sketch, x: Value) -> Value:
    """ConvOperands on the channels as the last axis, as ConvNeXt does."""
    images(x)
    y = d.emit(ops.Permute((0, 2, 3, 1)), x)
    for _ in range(d.whole(1, 3)):
        y = d.pick((activation, linear, layer_norm, arithmetic))(d, y)
    y = d.emit(ops.Permute((0, 3, 1, 2)), y)
    return d.binary("add", x, y) if y.shape == x.shape and d.chance(0.6) else y


def one_row(d: Sketch, x: Value) -> Value:
    """Meet one row, column or pixel of the same value."""
    images(x)
    y = x
    for axis in d.pick(((2,), (2,), (3,), (2, 3))):
        at = d.whole(0, x.shape[axis] - 1)
        y = d.emit(ops.Slice(axis, at, at + 1, 1), y)
    return d.binary(d.pick(("add", "multiply", "maximum")), x, y)


def folded(d: Sketch, x: Value) -> Value:
    """Lay rows beside each other, or break them."""
    n, c, h, w = images(x)
    factor = d.pick(f for f in (2, 3) if h % f == 0 or w % f == 0)
    shapes = []
    if h % factor == 0:
        shapes += [(n, c, h // factor, w * factor), (n, c * factor, h // factor, w)]
    if w % factor == 0:
        shapes += [(n, c, h * factor, w // factor)]
    return d.emit(ops.Reshape(d.pick(shapes)), x)


Rule = Callable[[Sketch, Value], Value]

RULES: dict[Rule, int] = {  # how often each is drawn
    conv: 4, padded_conv: 4, pointwise: 3, depthwise: 4, transposed: 4, deformable: 2,
    region_pool: 1, linear: 2, head: 1, matrices: 1, batch_norm: 2, group_norm: 1, layer_norm: 1,
    response_norm: 1, max_pool: 2, avg_pool: 2, adaptive_pool: 1, reduce: 2, order: 2, picked: 2,
    unpool: 1, softmax: 1, activation: 4, jump: 1, remainder: 1, chain: 3, prelu: 1, arithmetic: 3,
    meet: 4, residual: 4, gate: 1, concat: 7, slice_: 6, gather: 2, halves: 2, pad: 2, resize: 2,
    reshape: 2, to_images: 2, permute: 2, there_and_back: 1, shuffle: 2, expand: 1, chosen: 2,
    masked: 2, resample: 2, grid_sample: 2, recurrent: 2,
}  # fmt: skip


# These keep the planes' size, so that values meet often: concatenations within concatenations,
# their slices read by convolutions with a border, sums of what lies in one buffer.
MEETING: dict[Rule, int] = {
    padded_conv: 3, pointwise: 2, residual: 3, activation: 2, chain: 2, meet: 4, gate: 1,
    concat: 8, slice_: 5, halves: 4, dense: 2, shuffle: 1, transposed: 1, max_pool: 1,
}  # fmt: skip


# Views of planes, between layers that can be streamed.
VIEWS: dict[Rule, int] = {
    padded_conv: 4, pointwise: 4, conv: 2, depthwise: 3, transposed: 2, activation: 3, chain: 2,
    batch_norm: 1, residual: 2, gate: 1, meet: 3, concat: 4, max_pool: 1, strided: 6, cropped: 2,
    focus: 2, subsampled: 2, turned: 3, channels_last: 3, one_row: 3, folded: 3, halves: 1,
    slice_: 2, gather: 2, there_and_back: 1, dense: 1, pad: 1, resize: 1, chosen: 1, masked: 1,
}  # fmt: skip


def rectified(d: Sketch, x: Value) -> Value:
    """Convolve, and go on as networks of reduced precision do; around it or not."""
    y = d.pick((padded_conv, pointwise, depthwise))(d, x)
    y = d.emit(ops.Activation(d.pick(("relu", "relu6", "hard_swish"))), y)
    return d.binary("add", x, y) if y.shape == x.shape and d.chance(0.5) else y


# What has kernels of 16 bits and of bytes, and sums in an order that is defined.
LAYERS: dict[Rule, int] = {
    rectified: 10, conv: 3, pointwise: 2, depthwise: 2, head: 1, max_pool: 2, meet: 2, concat: 3,
    slice_: 3, pad: 1, one_row: 2, strided: 1,
}  # fmt: skip


def draw_layers(seed: int) -> Drawn:
    """Return a graph of a seed of layers on images, as reduced precisions have them."""
    d = Sketch(seed)
    shape = (d.whole(1, 2), d.pick((2, 3, 4, 6, 8, 16)), d.whole(3, 14), d.whole(3, 14))
    d.values.append(d.input(d.normal(*shape)))
    return draw(d, LAYERS, d.whole(3, 12))


def draw_views(seed: int) -> Drawn:
    """Return a deep graph of a seed that shows parts of one image again and again."""
    d = Sketch(seed)
    d.values.append(d.input(d.normal(1, d.whole(1, 9), d.whole(6, 26), d.whole(4, 18))))
    return draw(d, VIEWS, d.whole(4, 22))


def draw_graph(seed: int) -> Drawn:
    """Return the graph of a seed and its inputs; the same in every run."""
    d = Sketch(seed)
    for _ in range(d.whole(1, 2)):
        shape = (d.whole(1, 3), d.channels(), d.whole(1, 11), d.whole(1, 11))
        d.values.append(d.input(d.normal(*shape)))
    return draw(d, d.pick((RULES, RULES, MEETING)), d.whole(3, 14))


def draw(d: Sketch, frequent: dict[Rule, int], count: int) -> Drawn:
    """Return what comes of so many rules, each drawn as often as it is frequent."""
    rules = [rule for rule, times in frequent.items() for _ in range(times)]
    for _ in range(count):
        x = d.values[-1] if d.chance(0.6) else d.pick(d.values)
        try:
            d.values.append(d.tame(d.pick(rules)(d, x)))
        except Unfit:
            continue
    read = {name for node in d.builder.nodes for name in node.inputs}
    shown = [v for v in d.values if v.name not in read or d.chance(0.15)]
    shown += [v for v in shown if d.chance(0.03)]  # returned twice
    return d.finish(*shown, *d.returned)
