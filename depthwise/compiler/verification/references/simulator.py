"""What a library of bfloat16 computes, in NumPy: each sum in the order of the kernel's.

Numbers are kept in float32, rounded where the library rounds them. A product of two bfloat16 is
exact there, so that a sum of products has the kernel's very bits, whether that fuses multiply and
add or not. (Numbers below 2^-126 are an exception: AMX takes them for zeros inside of a sum.)
"""

from collections.abc import Collection

import numpy as np

from depthwise.compiler.fused_ops import Epilogue, Fused, takes_plane_mean
from depthwise.compiler.schedule.aliases import find_aliases
from depthwise.compiler.summation import STEP, joins_taps
from depthwise.compiler.verification.references import Arrays
from depthwise.compiler.verification.references.interpreter import Interpretation
from depthwise.graph import Graph, Node, TensorType, ops
from depthwise.graph.dtypes import BFLOAT16, FLOAT32
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
SMALLEST = np.float32(2.0**-126)  # of the normal numbers


class Simulator:
    """A rewritten graph of bfloat16 as a reference of its own library."""

    title = "the simulator"

    def __init__(self, graph: Graph):
        self._graph, self._aliases = graph, find_aliases(graph)
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
        if node.type.dtype != BFLOAT16.name:
            return compute(node.op, node.type, *inputs)
        return round_to_bfloat16(self._exact(node, inputs))

    def _exact(self, node: Node, inputs: Arrays) -> Array:
        """Return a value in float32, before it is rounded."""
        op = node.op.op if isinstance(node.op, Fused) else node.op
        if isinstance(op, ops.Conv2d | ops.Linear):
            assert isinstance(node.op, Fused)
            x, weight, bias = inputs[:3]
            residual = inputs[3] if node.op.epilogue.add else None
            joined = joins_taps(node, self._graph, self._aliases)
            return _finish(node.op.epilogue, convolve(op, x, weight, bias, joined), residual)
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


def simulate(graph: Graph, *inputs: Array) -> list[Array]:
    """Return what the library of a rewritten graph returns, as `Simulator` has it."""
    return Simulator(graph).start(inputs).outputs()


def round_to_bfloat16(numbers: Array) -> Array:
    """Return the nearest bfloat16, zeros of the same sign for those below the normal ones."""
    rounded = BFLOAT16.round(np.asarray(numbers, np.float32))
    return np.where(np.abs(numbers) < SMALLEST, np.copysign(np.float32(0), numbers), rounded)


def _in_any_order(node: Node, *inputs: Array) -> Array:
    value = compute(node.op, node.type, *inputs)
    return round_to_bfloat16(value) if node.type.dtype == BFLOAT16.name else value


# ------------------------------------------------------------------------------- convolutions


def convolve(
    op: ops.Conv2d | ops.Linear, x: Array, weight: Array, bias: Array, joined: bool
) -> Array:
    """Return sums of products and the bias in float32, in the order of bf16_tile_conv."""
    if isinstance(op, ops.Linear):
        sums = sum_steps(x.reshape(-1, 1, x.shape[-1]), weight.T[None], bias)
        return sums.reshape(*x.shape[:-1], -1)
    seen = windows(pad_plane(x, op.padding), weight.shape[2:], op.stride, op.dilation)
    if op.groups > 1:
        return _depthwise(seen, weight, bias)
    n, channels, height, width, R, S = seen.shape
    pixels = seen.transpose(0, 2, 3, 4, 5, 1).reshape(-1, R * S, channels)
    taps = weight.transpose(2, 3, 1, 0).reshape(R * S, channels, -1)
    if joined:  # the pixels under a row of taps are one
        pixels, taps = pixels.reshape(-1, R, S * channels), taps.reshape(R, S * channels, -1)
    sums = sum_steps(pixels, taps, bias)
    return sums.reshape(n, height, width, -1).transpose(0, 3, 1, 2)


def _depthwise(seen: Array, weight: Array, bias: Array) -> Array:
    """Return the sums of bf16_pair_depthwise: from the bias on, tap by tap."""
    sums = np.empty(seen.shape[:4], np.float32)
    sums[:] = bias.reshape(1, -1, 1, 1)
    for r in range(seen.shape[4]):
        for s in range(seen.shape[5]):
            sums += seen[..., r, s] * weight[:, 0, r, s].reshape(1, -1, 1, 1)
    return sums


def sum_steps(pixels: Array, taps: Array, bias: Array) -> Array:
    """Return (P, K) from pixels (P, T, C) and weights (T, C, K), and a bias (K).

    Even and odd channels of a step are summed up apart, each from zero; the two are added up, and
    that is added to what the steps before have left.
    """
    result = np.empty((len(pixels), taps.shape[2]), np.float32)
    count = max(1, AT_ONCE // taps.shape[2])
    for first in range(0, len(pixels), count):
        some = np.ascontiguousarray(pixels[first : first + count].transpose(1, 2, 0))[..., None]
        acc = result[first : first + count]
        acc[:] = bias
        products = np.empty_like(acc)
        for tap, weights in zip(some, taps, strict=True):
            for step in range(0, len(weights), STEP):
                even, odd = np.zeros_like(acc), np.zeros_like(acc)
                for c in range(step, min(step + STEP, len(weights))):
                    sums = odd if c % 2 else even
                    np.multiply(tap[c], weights[c], out=products)
                    sums += products
                even += odd
                acc += even
    return result


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
