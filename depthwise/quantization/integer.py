"""From Quantize and Dequantize nodes to what is computed in integers between them.

    Quantize(relu(conv(Dequantize(x), Dequantize(w), Dequantize(b))))  ->  IntegerLayer(x, w, b, m)

What has no integer form stays as it is: it is computed in float32 of what the integers stand for.
So is what would come to numbers that kernels do not hold or round exactly (`bounds`).
"""

from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from depthwise.graph import Graph, Node, TensorType, ops
from depthwise.graph.interpret import evaluate
from depthwise.graph.rewrite import GraphRewriter
from depthwise.quantization.bounds import holds_sums, rounds, rounds_sums
from depthwise.quantization.integer_ops import (
    IntegerAdd,
    IntegerLayer,
    IntegerMean,
    IntegerMultiply,
    Lookup,
    Mean,
    Requantize,
    Rescale,
    has_integer_form,
    multiplier,
)
from depthwise.quantization.linear import recompose_linear
from depthwise.quantization.placement import MOVES, clamp_ends, is_clamp
from depthwise.quantization.scheme import LEVELS, Affine, sums_bias, sums_scale

MEANS = (ops.AvgPool2d, ops.AdaptivePool2d, ops.Reduce)
MOVING = (*MOVES, ops.Pad, ops.Concat)  # they move numbers, and change none


class Held(NamedTuple):
    """A value of uint8, and what its numbers stand for."""

    name: str
    affine: Affine


class Weighted(NamedTuple):
    """The constants that a layer reads: weight, bias, and the scales of its sums."""

    weight: str
    bias: str
    scale: np.ndarray


class Ending(NamedTuple):
    """The Quantize that ends a computation in integers.

    Attributes:
        node: The Quantize.
        affine: How its result is held.
        then: How sums become that, having been cut off by the activations before it.
    """

    node: Node
    affine: Affine
    then: Requantize


def is_quantised(graph: Graph) -> bool:
    """Tell whether values of a network are held in bytes while it runs."""
    return any(isinstance(node.op, ops.Quantize) and graph.activations(node) for node in graph)


def to_integers(graph: Graph) -> Graph:
    """Return a quantised network as what kernels compute: `integer_ops`, on uint8."""
    edit = GraphRewriter(recompose_linear(_fold_quantized(graph)))
    for node in edit:
        if isinstance(node.op, ops.Quantize):
            _requantized(edit, node)
    for node in edit:
        if isinstance(node.op, ops.Conv2d | ops.Linear):
            _layer(edit, node, None)
        elif isinstance(node.op, MEANS):
            _mean(edit, node, None)
    return edit.result()


def _fold_quantized(graph: Graph) -> Graph:
    """Compute the Quantize of constants: some files hold weights in real numbers before it."""
    edit = GraphRewriter(graph)
    for node in edit:
        known = [edit.data(name) for name in node.inputs]
        if isinstance(node.op, ops.Quantize) and all(each is not None for each in known):
            edit.replace_with_constant(node, evaluate(node.op, *known))
    return edit.result()


def _requantized(edit: GraphRewriter, last: Node) -> None:
    """Let a Quantize be the computation in integers that leads to it, where there is one."""
    affine = affine_of(edit, last)
    if affine is None or last.op.dtype != "uint8":  # type: ignore[union-attr]
        return
    node, clamps = edit.private(last.inputs[0]), []
    while node and is_clamp(node):
        clamps.append(node.op)
        node = edit.private(node.inputs[0])
    end = Ending(last, affine, _clamped(affine, clamps))
    if node is None:
        first = edit.node(last.inputs[0])
        if first and isinstance(first.op, ops.Activation):  # a clamp of what is held in uint8
            _lookup(edit, first, end)
        return
    mode = getattr(node.op, "mode", "constant")  # of padding: others repeat pixels
    match node.op:
        case ops.Conv2d() | ops.Linear():
            _layer(edit, node, end)
        case ops.Binary("add"):
            _add(edit, node, end)
        case ops.Binary("multiply"):
            _multiply(edit, node, end)
        case ops.AvgPool2d() | ops.AdaptivePool2d() | ops.Reduce():
            _mean(edit, node, end)
        case ops.Activation() if not clamps:
            _lookup(edit, node, end)
        case _ if isinstance(node.op, MOVING) and mode == "constant":
            _moved(edit, node, end)


def affine_of(edit: GraphRewriter, node: Node) -> Affine | None:
    """Return the scale and zero point of a Quantize or Dequantize.

    None where they are several or computed, or where the zero point is of another type than uint8.
    """
    _, *parameters = node.inputs
    scale = edit.data(parameters[0])
    zero = edit.data(parameters[1]) if len(parameters) > 1 else np.zeros((), np.uint8)
    if scale is None or zero is None or scale.size != 1 or zero.dtype != np.uint8:
        return None
    if node.op.dtype not in ("uint8", "float32"):  # type: ignore[union-attr]
        return None
    return Affine(float(scale.reshape(())), int(zero.reshape(())))


def _held(edit: GraphRewriter, value: str) -> Held | None:
    """Return the uint8 that a value was a moment before."""
    node = edit.node(value)
    if node is None or not isinstance(node.op, ops.Dequantize):
        return None
    if edit.type(node.inputs[0]).dtype != "uint8" or edit.data(node.inputs[0]) is not None:
        return None
    affine = affine_of(edit, node)
    return Held(node.inputs[0], affine) if affine else None


def _clamped(affine: Affine, clamps: list[ops.Activation]) -> Requantize:
    """Return how sums become uint8, having been cut off by activations."""
    low, high = 0, LEVELS
    for clamp in clamps:
        ends = np.rint(np.divide(clamp_ends(clamp), affine.scale)) + affine.zero
        ends = np.clip(ends, 0, LEVELS)
        low, high = max(low, int(ends[0])), min(high, int(ends[1]))
    return Requantize(affine.zero, min(low, high), high)


def _weighted(edit: GraphRewriter, node: Node, source: Affine) -> Weighted | None:
    """Return a layer's weights as int8 and its bias as int32; None where it has others."""
    held = edit.node(node.inputs[1])
    if held is None or not isinstance(held.op, ops.Dequantize):
        return None
    integers, scales, *zero = (edit.data(name) for name in held.inputs)
    if integers is None or scales is None or integers.dtype != np.int8:
        return None
    if held.op.axis not in (None, 0) or any(each is None or each.any() for each in zero):
        return None
    scale = sums_scale(source.scale, np.broadcast_to(scales.reshape(-1), len(integers)))
    bias = _integer_bias(edit, node, scale)
    return Weighted(held.inputs[0], bias, scale) if bias else None


def _integer_bias(edit: GraphRewriter, node: Node, scale: np.ndarray) -> str | None:
    """Return the constant that holds a layer's bias at the scale of its sums, None without one.

    Some files hold it in real numbers, or at another scale: it is rounded to that of the sums.
    """
    given = list(node.inputs[2:])
    real = edit.data(given[0]) if given else np.zeros(len(scale))
    held = edit.node(given[0]) if real is None else None
    if held is not None and isinstance(held.op, ops.Dequantize):
        whole, step = edit.data(held.inputs[0]), edit.data(held.inputs[1])
        if whole is not None and step is not None:
            if whole.dtype == np.int32 and np.array_equal(
                np.broadcast_to(step, scale.shape), scale
            ):
                return held.inputs[0]
            real = whole.astype(np.float64) * step
    if real is None:
        return None
    return edit.add_constant(
        f"{node.name}.bias.integers", sums_bias(real.astype(np.float64), scale)
    )


def _layer(
    edit: GraphRewriter, node: Node, end: Ending | None, residual: Held | None = None
) -> None:
    """Let a layer, or the Quantize that ends it, be computed in integers."""
    source = _held(edit, node.inputs[0])
    known = _weighted(edit, node, source.affine) if source else None
    if source is None or known is None or not isinstance(node.op, ops.Conv2d | ops.Linear):
        return
    sums = (edit.numbers(known.weight), edit.numbers(known.bias), source.affine.zero)
    if not holds_sums(*sums):
        return
    op = IntegerLayer(node.op, source.affine.zero)
    scale = multiplier(known.scale, over=end.affine.scale) if end else known.scale
    added: tuple[str, ...] = ()
    if end and residual:
        ratio = float(multiplier(residual.affine.scale, over=end.affine.scale))
        op, added = replace(op, residual_zero=residual.affine.zero, ratio=ratio), (residual.name,)
    if end and not rounds_sums(*sums, scale, op.ratio):
        return
    factor = edit.add_constant(f"{node.name}.multiplier", scale)
    read = (source.name, known.weight, known.bias, factor, *added)
    if end:
        edit.replace(end.node, replace(op, then=end.then), *read, path=node.path)
    else:
        edit.replace(node, op, *read)


def _add(edit: GraphRewriter, node: Node, end: Ending) -> None:
    """Let a sum be the end of the layer that it adds to, else a sum of two values."""
    a, b = (_held(edit, name) for name in node.inputs)
    if a and b:
        ratios = [float(multiplier(each.affine.scale, over=end.affine.scale)) for each in (a, b)]
        if not rounds(*ratios):
            return
        op = IntegerAdd((a.affine.zero, b.affine.zero), (ratios[0], ratios[1]), end.then)
        edit.replace(end.node, op, a.name, b.name, path=node.path)
        return
    for name, other in zip(node.inputs, (b, a), strict=True):
        layer = edit.private(name)
        fits = layer and isinstance(layer.op, ops.Conv2d | ops.Linear)
        if other and layer and fits and edit.type(other.name).shape == node.type.shape:
            _layer(edit, layer, end, other)
            return


def _multiply(edit: GraphRewriter, node: Node, end: Ending) -> None:
    a, b = (_held(edit, name) for name in node.inputs)
    if a and b:
        ratio = float(multiplier(a.affine.scale, b.affine.scale, over=end.affine.scale))
        if not rounds(LEVELS * ratio):
            return
        op = IntegerMultiply((a.affine.zero, b.affine.zero), ratio, end.then)
        edit.replace(end.node, op, a.name, b.name, path=node.path)


def _mean(edit: GraphRewriter, node: Node, end: Ending | None) -> None:
    source = _held(edit, node.inputs[0])
    if source is None or getattr(node.op, "function", "mean") != "mean":
        return
    assert isinstance(node.op, MEANS)
    if not has_integer_form(node.op, edit.type(source.name).shape):
        return  # kernels have no others: it is computed in float32
    zero, scale = source.affine.zero, source.affine.scale
    if end is None:
        edit.replace(node, IntegerMean(node.op, zero, scale), source.name)
        return
    ratio = scale / end.affine.scale
    if rounds(ratio * _largest_mean(node.op)):
        op = IntegerMean(node.op, zero, ratio, end.then)
        edit.replace(end.node, op, source.name, path=node.path)


def _largest_mean(op: Mean) -> float:
    """Return how many times as large as the largest number of a window its mean may be."""
    divisor = op.divisor if isinstance(op, ops.AvgPool2d) else None
    return prod(op.kernel) / abs(divisor) if divisor else 1.0  # type: ignore[union-attr]


def _lookup(edit: GraphRewriter, node: Node, end: Ending) -> None:
    """Let a function of one number be a table of what it is of each uint8."""
    source = _held(edit, node.inputs[0])
    if source is None:
        return
    x = source.affine.real(np.arange(LEVELS + 1, dtype=np.uint8))
    table = end.affine.quantized(evaluate(node.op, x))
    name = edit.add_constant(f"{node.name}.table", table)
    edit.replace(end.node, Lookup(), source.name, name, path=node.path)


def _moved(edit: GraphRewriter, node: Node, end: Ending) -> None:
    """Let numbers be moved as uint8, having been brought to the scale that they end at."""
    found = [_held(edit, name) for name in node.inputs]
    sources = [each for each in found if each]
    if len(sources) < len(found):
        return
    affine, names = end.affine, []
    ratios = [float(multiplier(held.affine.scale, over=affine.scale)) for held in sources]
    if not all(map(rounds, ratios)):
        return
    for held, ratio in zip(sources, ratios, strict=True):
        if held.affine == affine and end.then == Requantize(affine.zero):
            names.append(held.name)
            continue
        op = Rescale(held.affine.zero, ratio, end.then)
        names.append(edit.insert(end.node, f"{held.name}.rescaled", op, held.name, path=node.path))
    op, type_ = node.op, TensorType(end.node.type.shape, "uint8")
    if isinstance(op, ops.Pad) and op.mode == "constant":
        op = ops.Pad(op.pads, op.mode, float(affine.quantized(np.array(op.value))))
    edit.replace(end.node, op, *names, path=node.path, type=type_)
