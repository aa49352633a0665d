"""Functions that exporters write out in simpler operators, put together again.

A graph then says what the network is, to whoever counts it, and one kernel computes each. The
value keeps the name of the last operator that it was written in.
"""

from collections.abc import Iterable
from itertools import permutations
from math import inf, pi, sqrt
from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.frontends.onnx.layer_norm import recompose_layer_norm
from depthwise.graph.graph import Graph, Node
from depthwise.graph.rewrite import GraphRewriter

X = "x"  # the one tensor that a function is of

Pattern = Any  # X, a number, or (function, its patterns); several numbers after a clamp are bounds


def _either_way(*factors: Pattern) -> Iterable[Pattern]:
    """Yield the product of three factors, however it is put in pairs."""
    for a, b, c in permutations(factors):
        yield ("multiply", ("multiply", a, b), c)


def _gelu() -> Iterable[Pattern]:
    inside = [("divide", X, sqrt(2)), ("multiply", X, sqrt(0.5))]
    for argument in inside:
        yield from _either_way(X, ("add", ("erf", argument), 1.0), 0.5)


def _gelu_tanh() -> Iterable[Pattern]:
    cubes = [("power", X, 3.0), ("multiply", ("multiply", X, X), X)]
    for cube in cubes:
        inner = ("multiply", ("add", X, ("multiply", cube, 0.044715)), sqrt(2 / pi))
        yield from _either_way(X, ("add", ("tanh", inner), 1.0), 0.5)


def _hard_swish() -> Iterable[Pattern]:
    bent = ("clamp", ("add", X, 3.0), 0.0, 6.0)
    yield ("multiply", X, ("hard_sigmoid", X))
    yield ("divide", ("multiply", X, bent), 6.0)
    yield from _either_way(X, bent, 1 / 6)


PATTERNS: dict[ops.Function, tuple[Pattern, ...]] = {
    "hard_sigmoid": tuple(
        (function, ("clamp", ("add", X, 3.0), 0.0, 6.0), number)
        for function, number in (("divide", 6.0), ("multiply", 1 / 6))
    ),
    "hard_swish": tuple(_hard_swish()),
    "silu": (
        ("multiply", X, ("sigmoid", X)),
        ("multiply", X, ("sigmoid", ("multiply", X, 1.0))),
    ),
    "softplus": (("log", ("add", ("exp", X), 1.0)),),
    "mish": (("multiply", X, ("tanh", ("softplus", X))),),
    "gelu": tuple(_gelu()),
    "gelu_tanh": tuple(_gelu_tanh()),
}

BOUNDS: dict[str, tuple[float, float]] = {
    "relu6": (0.0, 6.0),
    "relu": (0.0, inf),
}  # that a clamp may have been written as


def _all_patterns() -> Iterable[tuple[ops.Function, Pattern]]:
    return ((function, one) for function, each in PATTERNS.items() for one in each)


def recompose(graph: Graph) -> Graph:
    """Return the graph with each function, and each layer norm, as one node."""
    edit = GraphRewriter(graph)
    for node in edit:
        if not isinstance(node.op, ops.Binary | ops.Activation):
            continue
        for function, pattern in _all_patterns():
            bound: dict[str, str] = {}
            if _matches(edit, node.name, pattern, bound) and edit.type(bound[X]) == node.type:
                edit.replace(node, ops.Activation(function), bound[X])
                break
        else:
            recompose_layer_norm(edit, node)
    return edit.result()


def _matches(
    edit: GraphRewriter, value: str, pattern: Pattern, bound: dict[str, str], inside: bool = False
) -> bool:
    """Tell whether a value is computed as a pattern says, by nodes that nothing else reads."""
    if pattern == X:
        return bound.setdefault(X, value) == value
    if isinstance(pattern, float):
        return _is_number(edit, value, pattern)
    node = edit.private(value) if inside else edit.node(value)
    function, *parts = pattern
    if node is None:
        return False
    if isinstance(node.op, ops.Activation):
        argument, *numbers = parts
        same = _is_function(node.op, function, numbers)
        return same and _matches(edit, node.inputs[0], argument, bound, inside=True)
    same = isinstance(node.op, ops.Binary) and node.op.function == function
    return same and _match_operands(edit, node, parts, bound)


def _match_operands(
    edit: GraphRewriter, node: Node, parts: list[Pattern], bound: dict[str, str]
) -> bool:
    """Match the operands of a sum or a product in either order, of others as they stand."""
    free = node.op in (ops.Binary("add"), ops.Binary("multiply"))
    for operands in permutations(node.inputs) if free else [node.inputs]:
        trial = dict(bound)
        pairs = zip(operands, parts, strict=True)
        if all(_matches(edit, one, part, trial, inside=True) for one, part in pairs):
            bound.update(trial)
            return True
    return False


def _is_function(op: ops.Activation, function: str, numbers: list[float]) -> bool:
    """Tell whether an activation is a function with these parameters, however it is called."""
    if function == "clamp" and op.function in BOUNDS:
        return BOUNDS[op.function] == tuple(numbers)
    return op.function == function and op.parameters == tuple(numbers)


def _is_number(edit: GraphRewriter, value: str, number: float) -> bool:
    data = edit.data(value)
    return data is not None and data.size == 1 and bool(np.isclose(data.item(), number, rtol=1e-4))
