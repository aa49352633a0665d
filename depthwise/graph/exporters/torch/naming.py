"""Weights of graphs that came without modules, named as PyTorch's modules name theirs."""

from collections import Counter
from dataclasses import replace

from depthwise.graph.exporters.torch.layers import ROLES
from depthwise.graph.graph import Graph


def name_weights(graph: Graph) -> Graph:
    """Return the graph with weights that one node alone reads named after that node's module.

    So an ONNX file whose exporter named them otherwise is made of layers that can be trained.
    Others keep their names, and so do all where the new ones are taken.
    """
    read = Counter(name for node in graph for name in node.inputs)
    read.update(output.value for output in graph.outputs)
    taken = graph.names()
    renamed: dict[str, str] = {}
    for node in graph:
        roles, path = ROLES.get(type(node.op), {}), node.path or node.name
        wanted = {
            name: f"{path}.{roles[i]}"
            for i, name in enumerate(node.inputs)
            if i in roles and name in graph.constants
        }
        free = all(new == name or new not in taken for name, new in wanted.items())
        if free and all(read[name] == 1 for name in wanted):
            renamed |= wanted
            taken.update(wanted.values())
    nodes = tuple(
        replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for node in graph
    )
    constants = {
        renamed.get(name, name): replace(
            constant, sources=tuple(renamed.get(source, source) for source in constant.sources)
        )
        for name, constant in graph.constants.items()
    }
    return replace(graph, nodes=nodes, constants=constants)
