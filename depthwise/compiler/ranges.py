"""What float16 cannot hold: layers of numbers too large or too small, which stay in float32."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from depthwise.compiler.fused_ops import convolution
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.passes.narrow import compute_in
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.summation import JOINED, step_channels
from depthwise.compiler.verification.references import Arrays
from depthwise.compiler.verification.references.interpreter import Interpretation
from depthwise.compiler.verification.verify import random_inputs
from depthwise.errors import CannotRun
from depthwise.escaping import in_line
from depthwise.graph import Graph, Node, ops
from depthwise.graph.dtypes import FLOAT16
from depthwise.graph.interpret import compute
from depthwise.runtime.manifest import LayerRange

LARGEST = 65504.0  # number of float16
LEAST = 2.0**-14  # of its numbers with all of their digits: those below lie evenly
ROOM = 4  # times as large as on the inputs that were tried may numbers be on others, or as small


def find_kept(
    graph: Graph, options: CompileOptions, samples: Sequence[Arrays] = (),
    preparation: Preparation | None = None,
) -> tuple[LayerRange, ...]:  # fmt: skip
    """Return the nodes of a graph in float32 that are to stay so, in its order.

    Of float16 these are where a number that the node takes or gives reaches a quarter of the
    largest on random inputs or a sample, where all numbers of what it takes or gives stay below
    four times the least that has all its digits, where a weight is beyond the largest or all of
    them are below the least, and, on a target that sums up in halves, where a sum could be beyond
    if all its products had one sign. What has no kernel in float16 is left out.
    """
    if options.precision != FLOAT16.name:
        return ()
    types = list(graph.inputs.values())
    largest = largest_values(graph, chain(random_inputs(types, preparation), samples))
    narrow = {node.name for node in compute_in(graph, FLOAT16) if node.type.element == FLOAT16}
    kept = (
        (node, _unheld(node, graph, largest, options.chosen.halves))
        for node in graph
        if node.name in narrow
    )
    return tuple(
        LayerRange(path=in_line(node.path), value=node.name, largest=size)
        for node, size in kept
        if size is not None
    )


def largest_values(graph: Graph, inputs: Iterable[Arrays]) -> dict[str, float]:
    """Return the largest size of each input and value, constants aside; infinite where it is."""
    largest: dict[str, float] = {}

    def note(name: str, value: np.ndarray) -> None:
        if value.size and value.dtype.kind == "f":
            size = float(np.abs(value).max())
            largest[name] = max(largest.get(name, 0.0), np.inf if np.isnan(size) else size)

    def compute_node(node: Node, *given: np.ndarray) -> np.ndarray:
        value = compute(node.op, node.type, *given)
        note(node.name, value)
        return value

    for arrays in inputs:
        for name, value in zip(graph.inputs, arrays, strict=True):
            note(name, value)
        try:
            Interpretation(graph, arrays, (), compute_node).outputs()
        except CannotRun:
            continue
    return largest


def _unheld(node: Node, graph: Graph, largest: dict[str, float], halves: bool) -> float | None:
    """Return the size of numbers of a node that float16 would not hold, None where it holds all.

    The largest that is too large, else the largest of those that are all too small.
    """
    values = [largest.get(name, 0.0) for name in (*node.inputs, node.name)]
    found = [size for size in values if size >= LARGEST / ROOM]
    small = [size for size in values if 0 < size < ROOM * LEAST]
    op = convolution(node.op)
    if op is not None and node.inputs[1] in graph.constants:
        weight = graph.numbers(node.inputs[1])
        sizes = [float(np.abs(weight).max(initial=0.0))]
        small += [size for size in sizes if 0 < size < LEAST]
        if halves:
            sizes.append(largest.get(node.inputs[0], 0.0) * _largest_sum(op, np.abs(weight)))
        found += [size for size in sizes if not size <= LARGEST]
    return max(found or small, default=None)


def _largest_sum(op: ops.Op, weight: np.ndarray) -> float:
    """Return the largest sum of weights, given as sizes, whose products are added up in halves."""
    if isinstance(op, ops.ConvTranspose2d):
        return 0.0  # which is computed in float32
    outs, channels, rows, columns = (*weight.shape, 1, 1)[:4]
    weight = weight.reshape(outs, channels, rows, columns)
    if channels == 1:
        sums = weight.sum((1, 2, 3))
    elif channels * columns <= JOINED:
        sums = weight.sum((1, 3))
    else:
        sums = np.add.reduceat(weight, range(0, channels, step_channels(channels, FLOAT16)), 1)
    return float(sums.max(initial=0.0))
