"""The part of a network that a change touches, as a network of its own, to be planned alone."""

from collections.abc import Collection
from dataclasses import dataclass

from depthwise.graph import Graph, Output, ops
from depthwise.graph.supported import COMPUTED

FUSED = (ops.BatchNorm, ops.Activation, ops.Binary, ops.PRelu)  # into what computes their input


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Some nodes of a graph; what they read of others are its inputs.

    Attributes:
        graph: These nodes alone.
        key: A text that is the same for windows of the same operators and shapes.
    """

    graph: Graph
    key: str


def changed_windows(before: Graph, after: Graph) -> tuple[Surroundings, Surroundings]:
    """Return what a change touches, before it and after it, with what is fused into that."""
    old, new = _described(before), _described(after)
    changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    changed |= _followers(before, changed) | _followers(after, changed)
    return window(before, changed), window(after, changed)


def window(graph: Graph, names: Collection[str]) -> Surroundings:
    """Return the nodes of these names, as far as there are any, as a network of their own."""
    nodes = tuple(node for node in graph if node.name in names)
    made = {node.name for node in nodes}
    read = list(dict.fromkeys(name for node in nodes for name in node.inputs))
    constants = {name: graph.constants[name] for name in read if name in graph.constants}
    inputs = {n: graph.type(n) for n in read if n not in made and n not in constants}
    outside = {name for node in graph if node.name not in made for name in node.inputs}
    outside |= {output.value for output in graph.outputs}
    left = [node.name for node in nodes if node.name in outside]
    outputs = tuple(Output(str(place), name) for place, name in enumerate(left))
    part = Graph(inputs, constants, nodes, outputs)
    return Surroundings(part, _key(part))


def known_part(graph: Graph) -> Graph:
    """Return a network without what no library computes: what that gives, it takes.

    Operators that are not known, that is, and numbers of types of their own, as complex ones.
    """
    known = [
        node.name for node in graph
        if not isinstance(node.op, ops.Opaque) and node.type.dtype in COMPUTED
    ]  # fmt: skip
    return graph if len(known) == len(graph.nodes) else window(graph, known).graph


def _described(graph: Graph) -> dict[str, tuple[object, ...]]:
    """Return what tells each node from another of its name: its operator and what it reads."""
    return {
        node.name: (node.op, node.inputs, node.type, tuple(map(graph.type, node.inputs)))
        for node in graph
    }


def _followers(graph: Graph, changed: Collection[str]) -> set[str]:
    """Return what may be fused into a node that changes: it alone reads that, or such a node."""
    found, readers = set(changed), graph.readers()
    for node in graph:
        if isinstance(node.op, FUSED):
            private = {name for name in node.inputs if len(readers[name]) == 1}
            found |= {node.name} if private & found else set()
    return found


def _key(graph: Graph) -> str:
    """Return the operators and shapes of a graph, its values called by their places."""
    places = {name: f"i{place}" for place, name in enumerate(graph.inputs)}
    lines = [str(type_) for type_ in graph.inputs.values()]
    for place, node in enumerate(graph.nodes):
        read = [places.get(name) or str(graph.type(name)) for name in node.inputs]
        lines.append(f"{node.op} {' '.join(read)}")
        places[node.name] = f"n{place}"
    return "\n".join([*lines, *(places[output.value] for output in graph.outputs)])
