"""From a random graph that fails to a small one that does."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from sketch import Drawn, without_dead_code

from depthwise.graph import Node, Output, TensorType
from depthwise.graph.interpret import evaluate, interpret

ROUNDING = 1e-5  # float32 against float64: a graph beyond it says nothing of the compiler
LEAST = 1e-3  # smaller outputs are measured as if this were their largest
TRIALS = 60


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest element; infinity for NaN."""
    difference = np.abs(found.astype(np.float64) - expected).max()
    relative = float(difference / max(np.abs(expected).max(), LEAST))
    return relative if np.isfinite(relative) else float("inf")


def outputs(drawn: Drawn) -> list[np.ndarray]:
    """Return what the graph means."""
    values = interpret(drawn.graph, *drawn.inputs)
    return [values[o.value] for o in drawn.graph.outputs]


def is_sound(drawn: Drawn) -> bool:
    """Tell whether float32 and float64 give the same."""
    values = {name: np.asarray(c.data, float) for name, c in drawn.graph.constants.items()}
    values |= {n: x.astype(float) for n, x in zip(drawn.graph.inputs, drawn.inputs, strict=True)}
    for node in drawn.graph:
        values[node.name] = evaluate(node.op, *(values[name] for name in node.inputs))
    exact = (values[o.value] for o in drawn.graph.outputs)
    return all(error(y, e) <= ROUNDING for y, e in zip(outputs(drawn), exact, strict=True))


def smaller(drawn: Drawn) -> Iterator[Drawn]:
    """Return graphs with less in them: one output, an earlier output, an input for a value."""
    graph = drawn.graph
    values = interpret(graph, *drawn.inputs)
    if len(graph.outputs) > 1:
        for o in graph.outputs:
            yield replace(drawn, graph=replace(graph, outputs=(o,)))
        for o in graph.outputs:
            others = tuple(other for other in graph.outputs if other is not o)
            yield replace(drawn, graph=replace(graph, outputs=others))
    for node in graph.nodes:
        yield replace(drawn, graph=replace(graph, outputs=(Output("", node.name),)))
    for node in reversed(graph.nodes):
        yield cut(drawn, node, values[node.name])
    for node in reversed(graph.nodes):
        for name in graph.activations(node):
            if graph.type(name) == node.type:
                yield bypass(drawn, node, name)


def cut(drawn: Drawn, node: Node, value: np.ndarray) -> Drawn:
    """Return the graph with an input in place of a node."""
    graph = drawn.graph
    inputs = {**graph.inputs, node.name: TensorType(value.shape)}
    nodes = tuple(n for n in graph if n is not node)
    return Drawn(replace(graph, inputs=inputs, nodes=nodes), (*drawn.inputs, value))


def bypass(drawn: Drawn, node: Node, name: str) -> Drawn:
    """Return the graph whose readers of a node read another value."""

    def instead(other: str) -> str:
        return name if other == node.name else other

    graph = drawn.graph
    nodes = tuple(replace(n, inputs=tuple(map(instead, n.inputs))) for n in graph if n is not node)
    shown = tuple(replace(o, value=instead(o.value)) for o in graph.outputs)
    return replace(drawn, graph=replace(graph, nodes=nodes, outputs=shown))


def shrink(drawn: Drawn, fails: Callable[[Drawn], object]) -> Drawn:
    """Return a graph that still fails, with less in it for as long as TRIALS last."""
    trials = 0
    again = True
    while again:
        again = False
        for one in map(without_dead_code, smaller(drawn)):
            if len(one.graph.nodes) >= len(drawn.graph.nodes) and (
                len(one.graph.outputs) >= len(drawn.graph.outputs)
            ):
                continue
            trials += 1
            if trials > TRIALS:
                return drawn
            if is_sound(one) and fails(one):
                drawn, again = one, True
                break
    return drawn
