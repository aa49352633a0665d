"""What a library of 16-bit types computes, in NumPy: each sum in the order of the kernel's.

Numbers are kept in float32, rounded where the library rounds them. A product of two of them is
exact there, so that a sum of products has the kernel's very bits, whether that fuses multiply and
add or not. (Numbers below 2^-126 are an exception: AMX takes them for zeros inside of a sum.)

Where the CPU sums up in halves, a product and what it is added to are rounded once. A double holds
both without rounding, or one so far below the other that it decides nothing.
"""

from collections.abc import Collection
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from depthwise.compiler.fused_ops import Epilogue, Fused, takes_plane_mean
from depthwise.compiler.schedule.aliases import find_aliases
from depthwise.compiler.summation import joins_taps, step_channels
from depthwise.compiler.verification.references import Arrays
from depthwise.compiler.verification.references.halves import depthwise_in_halves, sum_in_halves
from depthwise.compiler.verification.references.interpreter import Interpretation
from depthwise.graph import Graph, Node, TensorType, ops
from depthwise.graph.dtypes import BFLOAT16, FLOAT16, FLOAT32, NARROW, DType
from depthwise.graph.interpret import (
    Array,
    compute,
    evaluate,
    pad_plane,
    pixels_counted,
    pool_windows,
    windows,
)

AT_ONCE = 1 << 16  # sums that are computed together: they stay in the second cache
ROWS = 64  # pixels of one product of matrices: all are of one size, whose order of sums is known
SMALLEST = np.float32(2.0**-126)  # of the normal numbers
# The bits of a float32: its sign, those that bfloat16 has, the smallest normal number, infinity.
SIGN, UPPER, NORMAL, INFINITE = map(np.uint32, (1 << 31, 0xFFFF0000, 0x00800000, 0x7F800000))


class Simulator:
    """A rewritten graph of a 16-bit type as a reference of its own library.

    `halves` says that float16 is summed up in halves, as on a CPU that computes in them.
    """

    title = "the simulator"

    def __init__(self, graph: Graph, halves: bool = False):
        self._graph, self._aliases, self._halves = graph, find_aliases(graph), halves
        self.types: list[TensorType] = list(graph.inputs.values())
        self.paths = {node.name: node.path for node in graph}

    def start(
        self, inputs: Arrays, wanted: Collection[str] = (), double: bool = False, shaken: int = 0
    ) -> Interpretation:
        """Begin a run; `double` and `shaken` ask for sums in another order, which round otherwise.

        See `Reference.start`.
        """
        found = self._compute if not double and not shaken else _in_any_order
        return Interpretation(self._graph, inputs, wanted, found)

    def check_repeats(self) -> None:
        """Return: a graph has no state."""

    def _compute(self, node: Node, *inputs: Array) -> Array:
        if node.type.element not in NARROW:
            return compute(node.op, node.type, *inputs)
        known = [x.astype(np.float32, copy=False) for x in inputs]
        return round_to(node.type.element, self._exact(node, known))

    def _exact(self, node: Node, inputs: Arrays) -> Array:
        """Return a value in float32, before it is rounded."""
        op = node.op.op if isinstance(node.op, Fused) else node.op
        if isinstance(op, ops.Conv2d | ops.Linear):
            assert isinstance(node.op, Fused)
            x, weight, bias = inputs[:3]
            residual = inputs[3] if node.op.epilogue.add else None
            joined = joins_taps(node, self._graph, self._aliases)
            summed = Summed(node.type.element, self._halves and node.type.element == FLOAT16)
            sums = convolve(op, x, weight, bias, joined, summed)
            return _finish(node.op.epilogue, sums, residual)
        if isinstance(node.op, Fused):
            *operands, residual = inputs if node.op.epilogue.add else (*inputs, None)
            return _finish(node.op.epilogue, evaluate(op, *operands), residual)
        if isinstance(op, ops.Activation):
            return activate(op, inputs[0])
        if takes_plane_mean(node):
            return average(inputs[0][:, :, None, None]) / np.float32(inputs[0][0, 0].size)
        if isinstance(op, ops.AvgPool2d):
            counted = pixels_counted(op, inputs[0].shape[2:]).astype(np.float32)
            return average(pool_windows(inputs[0], op, 0.0)) / counted
        return evaluate(op, *inputs)


def simulate(graph: Graph, *inputs: Array, halves: bool = False) -> list[Array]:
    """Return what the library of a rewritten graph returns, as `Simulator` has it."""
    return Simulator(graph, halves).start(inputs).outputs()


def round_to_bfloat16(numbers: Array) -> Array:
    """Return the nearest bfloat16, zeros of the same sign for those below the normal ones."""
    found = np.array(numbers, np.float32)
    bits = found.view(np.uint32)
    size = bits & ~SIGN
    if (size > INFINITE).any():  # a carry would turn a NaN into an infinity, or into zero
        found = BFLOAT16.round(found)
        return np.where(np.abs(numbers) < SMALLEST, np.copysign(np.float32(0), numbers), found)
    kept = np.where(size < NORMAL, SIGN, UPPER)
    np.right_shift(bits, 16, out=size)
    size &= np.uint32(1)
    size += np.uint32(0x7FFF)  # to the nearest, ties to the even one
    bits += size
    bits &= kept
    return found


def round_to(element: DType, numbers: Array) -> Array:
    """Return the nearest numbers of a type of 16 bits."""
    if element == BFLOAT16:
        return round_to_bfloat16(numbers)
    return element.round(np.asarray(numbers, np.float32))


def _in_any_order(node: Node, *inputs: Array) -> Array:
    element = node.type.element
    if element not in NARROW:
        return compute(node.op, node.type, *inputs)
    known = [x.astype(np.float32, copy=False) for x in inputs]
    return round_to(element, evaluate(node.op, *known))


# ------------------------------------------------------------------------------- convolutions


class Summed(NamedTuple):
    """What is summed up: numbers of a type, in halves or in floats."""

    element: DType
    halves: bool = False


def convolve(
    op: ops.Conv2d | ops.Linear, x: Array, weight: Array, bias: Array, joined: bool, summed: Summed
) -> Array:
    """Return sums of products and the bias in float32, in the order of tile_conv."""
    if isinstance(op, ops.Linear):
        sums = sum_steps(x.reshape(-1, 1, x.shape[-1]), weight.T[None], bias, summed)
        return sums.reshape(*x.shape[:-1], -1)
    seen = windows(pad_plane(x, op.padding), weight.shape[2:], op.stride, op.dilation)
    if op.groups > 1:
        return _depthwise(seen, weight, bias, summed)
    n, channels, height, width, R, S = seen.shape
    pixels = seen.transpose(0, 2, 3, 4, 5, 1).reshape(-1, R * S, channels)
    taps = weight.transpose(2, 3, 1, 0).reshape(R * S, channels, -1)
    if joined:  # the pixels under a row of taps are one
        pixels, taps = pixels.reshape(-1, R, S * channels), taps.reshape(R, S * channels, -1)
    sums = sum_steps(pixels, taps, bias, summed)
    return sums.reshape(n, height, width, -1).transpose(0, 3, 1, 2)


def _depthwise(seen: Array, weight: Array, bias: Array, summed: Summed) -> Array:
    """Return the sums of pair_depthwise: from the bias on, tap by tap."""
    if summed.halves:
        return depthwise_in_halves(seen, weight, bias)
    sums = np.empty(seen.shape[:4], np.float32)
    sums[:] = bias.reshape(1, -1, 1, 1)
    n, channels, height, width, R, S = seen.shape
    step = max(1, AT_ONCE // (n * height * width))
    for first in range(0, channels, step):
        some, acc = seen[:, first : first + step], sums[:, first : first + step]
        taps = weight[first : first + step, 0, :, :, None, None]
        products = np.empty_like(acc)
        for r, s in product(range(R), range(S)):
            np.multiply(some[..., r, s], taps[:, r, s], out=products)
            acc += products
    return sums


def sum_steps(pixels: Array, taps: Array, bias: Array, summed: Summed) -> Array:
    """Return (P, K) from pixels (P, T, C) and weights (T, C, K), and a bias (K).

    Even and odd channels of a step are summed up apart, each from zero; the two are added up, and
    that is added to what the steps before have left, in float32.
    """
    depth = step_channels(pixels.shape[2], summed.element)
    if summed.halves:
        return sum_in_halves(pixels, taps, bias, depth)
    count, width, outs = len(pixels), taps.shape[0] * taps.shape[1], taps.shape[2]
    order, chains = _chains(len(taps), taps.shape[1], depth)
    given = np.zeros((-(-count // ROWS) * ROWS, width), np.float32)
    given[:count] = pixels.reshape(count, width)[:, order]
    given = given.reshape(-1, ROWS, width)
    weights = np.ascontiguousarray(taps.reshape(width, outs)[order])
    result = np.empty((len(given), ROWS, outs), np.float32)
    result[:] = bias + np.float32(0)  # where it is -0 any sum makes it 0
    blocks = max(1, AT_ONCE // (ROWS * outs))
    even, odd = (np.empty((blocks, ROWS, outs), np.float32) for _ in range(2))
    for first in range(0, len(given), blocks):
        some, acc = given[first : first + blocks], result[first : first + blocks]
        sums, others = even[: len(some)], odd[: len(some)]
        for start, middle, end in chains:
            _add_in_order(some[..., start:middle], weights[start:middle], sums)
            if end > middle:
                _add_in_order(some[..., middle:end], weights[middle:end], others)
                sums += others
            acc += sums
    return result.reshape(-1, outs)[:count]


def _chains(taps: int, channels: int, depth: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Return an order of channels in which those that are summed up together lie side by side.

    With it, for each step: where its even channels begin, where its odd ones do, and where these
    end.
    """
    order: list[int] = []
    chains = []
    for start in (t * channels + step for t in range(taps) for step in range(0, channels, depth)):
        end = min(start + depth, (start // channels + 1) * channels)
        chains.append((start, start + -(-(end - start) // 2), end))
        order += [*range(start, end, 2), *range(start + 1, end, 2)]
    return np.array(order), chains


def _add_in_order(x: Array, weights: Array, out: Array) -> None:
    """Write sums of products (..., ROWS, K) of x (..., ROWS, C) and weights (C, K), C in order."""
    if _is_in_order(*weights.shape):
        np.matmul(x, weights, out=out)
    else:
        _add_one_by_one(x, weights, out)


def _add_one_by_one(x: Array, weights: Array, out: Array) -> None:
    out[:] = 0
    for c in range(len(weights)):
        out += x[..., c, None] * weights[c]


@cache
def _is_in_order(channels: int, outs: int) -> bool:
    """Tell whether this machine's products of matrices of just this size add up in order.

    Libraries of linear algebra do so as long as they keep one sum for each element, which all are
    free not to: how a sum of numbers of unlike size is rounded tells the order. Products with a
    vector keep several, in an order that depends on where rows lie.
    """
    if outs == 1:
        return False
    draw = np.random.default_rng(channels)
    wide, weights = (
        BFLOAT16.round(draw.standard_normal(shape).astype(np.float32))
        for shape in ((1, ROWS, 2 * channels + 1), (channels, outs))
    )
    found, expected = (np.empty((1, ROWS, outs), np.float32) for _ in range(2))
    rows = wide[..., 1 : channels + 1]
    _add_one_by_one(rows, weights, expected)
    for x in (rows, np.ascontiguousarray(rows)):
        np.matmul(x, weights, out=found)
        if not np.array_equal(found, expected):
            return False
    return True


# ------------------------------------------------------------------------- what else is rounded


def _finish(epilogue: Epilogue, sums: Array, residual: Array | None) -> Array:
    y = activate(epilogue.before, sums) if epilogue.before else sums
    y = y + residual if residual is not None else y
    return activate(epilogue.after, y) if epilogue.after else y


def activate(op: ops.Activation, x: Array) -> Array:
    """Return an activation as kernels/activation.h has it, to the bit for those without exp."""
    sixth = np.float32(1 / 6.0)
    match op.function:
        case "hard_swish":
            return x * np.clip(x + np.float32(3), 0, 6) * sixth
        case "hard_sigmoid":
            return np.clip(x + np.float32(3), 0, 6) * sixth
    return evaluate(op, x).astype(FLOAT32.numpy, copy=False)


def average(seen: Array) -> Array:
    """Return (N, C, H', W') from windows (..., R, S): their rows' sums, from the top to the end."""
    total = np.zeros(seen.shape[:-2], np.float32)
    for r in range(seen.shape[-2]):
        line = np.zeros_like(total)
        for s in range(seen.shape[-1]):
            line += seen[..., r, s]
        total += line
    return total
