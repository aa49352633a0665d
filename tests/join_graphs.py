"""Several graphs as one, so that one library computes them all."""

from collections.abc import Mapping
from dataclasses import replace

from depthwise.graph import Graph, Node, Output


def join(graphs: Mapping[str, Graph]) -> Graph:
    """Return one graph that computes all; each one's names begin with its own name."""
    inputs, constants = {}, {}
    nodes: list[Node] = []
    outputs: list[Output] = []
    for key, graph in graphs.items():
        inputs |= {f"{key}/{name}": type for name, type in graph.inputs.items()}
        constants |= {f"{key}/{name}": constant for name, constant in graph.constants.items()}
        for node in graph:
            read = tuple(f"{key}/{name}" for name in node.inputs)
            nodes.append(replace(node, name=f"{key}/{node.name}", inputs=read, path=key))
        outputs += [Output(f"{key}/{o.name}", f"{key}/{o.value}") for o in graph.outputs]
    return Graph(inputs, constants, tuple(nodes), tuple(outputs))
